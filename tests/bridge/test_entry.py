"""What dispatch and reviewers say over HTTP: taken, or refused in a sentence."""

import asyncio
import json
import math

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from agls.bridge.entry import WORDS, routes
from agls.config import Subscriber

NOON_NS = 1_545_220_800_000_000_000
CAD = Subscriber(subscriber_id="cad", url="http://127.0.0.1:9/")
ONE = "/api/incidents/i20181219-1"
CALL = {"number": "26-1", "received": "2018-12-19T12:01:00Z", "latitude_deg": 40.4407, "longitude_deg": -79.996,
        "kind": "SHOTS"}  # fmt: skip


class Client:
    """Speak to an application without a socket."""

    def __init__(self, app, book) -> None:
        self.app, self.book = app, book

    def post(self, path, **what) -> httpx.Response:
        return asyncio.run(self._say("POST", path, what))

    def get(self, path) -> httpx.Response:
        return asyncio.run(self._say("GET", path, {}))

    async def _say(self, method, path, what) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://here") as one:
            return await one.request(method, path, **what)


@pytest.fixture
def client(open_book, said, incident):
    """Speak to a book that holds one incident."""
    book = open_book(subscriber=(CAD,))
    book.enter([said(incident(), 1.0)], NOON_NS)
    return Client(Starlette(routes=routes(book)), book)


@pytest.mark.parametrize(
    ("word", "content", "after"),
    [
        ("review", {"author": "R", "reason": "rifle", "judgement": "gunfire"}, ("reviewed", "review")),
        ("review", {"author": "R", "reason": "a car", "judgement": "not_gunfire"}, ("withdrawn", "dismiss")),
        ("correct", {"author": "R", "reason": "clip", "round_count": 4}, ("published", "correct")),
        ("acknowledge", {"author": "D4", "call_number": "26-7"}, ("acknowledged", "acknowledge")),
        (
            "disposition",
            {"author": "U7", "reason": "casings", "outcome": "confirmed"},
            ("dispositioned", "disposition"),
        ),
        ("duplicate", {"author": "D4", "call_number": "26-7"}, ("published", "duplicate")),
        ("split", {"author": "R", "reason": "two", "shot_ids": ["s1"]}, ("published", "split")),
    ],
)
def test_a_word_becomes_a_move(client, word, content, after):
    answer = client.post(f"{ONE}/{word}", json=content)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["state"], answer.json()["move"]) == after


def test_a_place_is_corrected_as_people_know_it(client):
    answer = client.post(
        f"{ONE}/correct", json={"author": "R", "reason": "x", "latitude_deg": 40.4415, "longitude_deg": -79.99589}
    )
    place = answer.json()["corrections"][0]["place"]
    assert math.isclose(place["y_m"], -45.0 + 97.8, abs_tol=1.0)
    assert math.isclose(place["x_m"], 120.0, abs_tol=0.1)


def test_calls_missed_shots_and_holds_have_their_ways_in(client):
    assert client.post("/api/calls", json=CALL).json() == {"linked": ["i20181219-1"]}
    missed = {
        "heard": "2018-12-19T12:00:00Z",
        "latitude_deg": 40.44,
        "longitude_deg": -79.996,
        "author": "U",
        "reason": "x",
    }
    assert client.post("/api/missed", json=missed).json() == {"found": "told", "subject": "i20181219-1"}
    assert client.post(f"{ONE}/hold", json={"author": "D", "case_number": "26-9"}).json()["hold"] == "26-9"


def test_who_was_told_what_can_be_read(client):
    assert client.get(ONE).json()["incident"] == "i20181219-1"
    assert client.get(f"{ONE}/letters").json() == [
        {"subscriber": "cad", "revision": 0, "telling": "open", "state": "waiting", "tries": 0, "answer": ""}
    ]


@pytest.mark.parametrize(
    ("path", "content", "status", "complaint"),
    [
        ("/api/incidents/I404/disposition", {"author": "U", "reason": "", "outcome": "confirmed"}, 404, "I404"),
        (f"{ONE}/disposition", {"author": "U", "reason": "", "outcome": "maybe"}, 400, "Invalid enum value 'maybe'"),
        (f"{ONE}/disposition", {"author": "", "reason": "", "outcome": "confirmed"}, 400, "length >= 1"),
        (f"{ONE}/acknowledge", {"author": "a\nb"}, 400, "matching regex"),
        (f"{ONE}/merge", {"author": "R", "reason": "", "into": "i20181219-1"}, 409, "into itself"),
        (f"{ONE}/split", {"author": "R", "reason": "", "shot_ids": ["x"]}, 409, "cannot be split"),
        ("/api/calls", CALL | {"caller": "Jane Doe"}, 400, "unknown field"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence_and_changes_nothing(client, path, content, status, complaint):
    before = client.get(ONE).json()
    answer = client.post(path, json=content)
    assert (answer.status_code, complaint in answer.json()["error"]) == (status, True), answer.text
    assert client.get(ONE).json() == before
    assert "\n" not in answer.json()["error"]


def test_a_closed_incident_is_not_reviewed_as_if_it_were_open(client):
    client.post(f"{ONE}/review", json={"author": "R", "reason": "a car", "judgement": "not_gunfire"})
    answer = client.post(f"{ONE}/merge", json={"author": "R", "reason": "x", "into": "I2"})
    assert answer.status_code == 409
    assert "is withdrawn: merge is not possible; possible are" in answer.json()["error"]


def test_a_form_of_another_page_is_not_taken(client):
    assert (
        client.post(
            f"{ONE}/acknowledge", content=b'{"author": "x"}', headers={"Content-Type": "text/plain"}
        ).status_code
        == 415
    )
    assert (
        client.post(
            f"{ONE}/acknowledge", content=b" " * 70_000, headers={"Content-Type": "application/json"}
        ).status_code
        == 400
    )


def test_while_the_store_is_away_it_is_said_so(client, monkeypatch):
    def away(*_):
        raise sa.exc.OperationalError("select", {}, Exception("gone"))

    monkeypatch.setattr(client.book, "writing", away)
    assert client.post(f"{ONE}/acknowledge", json={"author": "D"}).status_code == 503


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["author", "reason", "into"]), inner),
    max_leaves=6,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@given(
    path=st.sampled_from(sorted(WORDS)),
    content=st.binary(max_size=200) | JSON.map(lambda one: json.dumps(one).encode()),
)
def test_any_bytes_are_a_word_or_a_refusal(client, path, content):
    answer = client.post(
        path.format(incident="i20181219-1"), content=content, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (200, 400, 404, 409)
