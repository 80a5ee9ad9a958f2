import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.bridge.subscriptions import MOST_COUNT, SOME_COUNT, Subscriptions
from bench.schemas import conveyance_validator


def desk(*active: str) -> Subscriptions:
    names = (f"name-{number}" for number in itertools.count())
    known = {name: {"incident": name} for name in active}
    return Subscriptions(lambda: next(names), lambda: known, lambda name: {name: known[name]} if name in known else {})


def asked(at: Subscriptions, now_s: float = 0.0, **what: Any) -> dict[str, Any]:
    said = {"requestId": "1", "requestType": "EIDO", "requestSubType": "new"} | what
    [answer] = at.hear({"subscribe": {key: value for key, value in said.items() if value is not None}}, now_s)
    told: dict[str, Any] = answer["subscribeResponse"]
    return told


def told(at: Subscriptions, now_s: float) -> list[list[str]]:
    return [[one["incident"] for one in message["event"]["notification"]] for message in at.due(now_s)]


def test_who_subscribes_is_told_at_once_of_all_that_is_active_then_of_each_revision() -> None:
    one = desk("a", "b")
    assert asked(one)["statusCode"] == 200
    assert told(one, 0.0) == [["a", "b"]]
    assert told(one, 0.1) == []
    one.tell("c", {"incident": "c"})
    assert told(one, 0.2) == [["c"]]


def test_where_nothing_is_active_the_first_event_is_empty() -> None:
    one = desk()
    asked(one)
    assert told(one, 0.0) == [[]]


def test_one_incident_alone_is_told_to_who_asked_for_it_alone() -> None:
    one = desk("a", "b")
    asked(one, requestSubType="single", incidentId="a")
    assert told(one, 0.0) == [["a"]]
    one.tell("b", {"incident": "b"})
    assert told(one, 1.0) == []


def test_what_is_told_too_soon_waits_and_is_the_latest_then() -> None:
    one = desk()
    asked(one, maxRate=10)
    assert told(one, 0.0) == [[]]
    for revision in range(500):
        one.tell("a", {"incident": f"a{revision}"})
    assert told(one, 9.9) == []
    assert told(one, 10.0) == [["a499"]]


def test_an_empty_event_says_that_it_is_still_there() -> None:
    one = desk()
    asked(one, minRate=30)
    assert (told(one, 0.0), told(one, 29.0), told(one, 30.0)) == ([[]], [], [[]])


def test_many_incidents_come_in_several_events() -> None:
    one = desk(*(f"i{number}" for number in range(2 * SOME_COUNT + 1)))
    asked(one)
    assert [len(event) for _ in range(4) for event in told(one, 0.0)] == [SOME_COUNT, SOME_COUNT, 1]


def test_a_subscription_ends_when_it_expires_or_is_renewed() -> None:
    one = desk()
    name = asked(one, expires=10)["subscriptionId"]
    assert asked(one, 9.0, subscriptionId=name, expires=10)["statusCode"] == 200
    assert told(one, 18.0) == [[]]
    assert told(one, 19.0) == []
    assert asked(one, 20.0, subscriptionId=name)["statusCode"] == 481


@pytest.mark.parametrize(
    ("what", "code"),
    [({"requestSubType": "resource"}, 406), ({"requestType": "CAP"}, 406), ({"qualFilter": "x"}, 406),
     ({"requestSubType": "single"}, 400), ({"requestSubType": "single", "incidentId": "nobody"}, 404),
     ({"subscriptionId": "nobody"}, 481), ({"expires": -1}, 400), ({"minRate": "soon"}, 400),
     ({"requestId": None}, 400),
     ({"incidentId": "a"}, 400), ({"maxRate": True}, 400)],
)  # fmt: skip
def test_what_is_not_served_has_its_status(what: dict[str, Any], code: int) -> None:
    assert asked(desk("a"), **what)["statusCode"] == code


def test_subscriptions_of_one_connection_are_bounded() -> None:
    one = desk()
    codes = [asked(one)["statusCode"] for _ in range(MOST_COUNT + 1)]
    assert codes == [200] * MOST_COUNT + [503]


def test_who_unsubscribes_is_told_no_more() -> None:
    one = desk("a")
    name = asked(one)["subscriptionId"]
    [answer] = one.hear({"unsubscribe": {"requestId": "2", "subscriptionId": name}}, 0.0)
    assert answer["unsubscribeResponse"]["statusCode"] == 200
    [again] = one.hear({"unsubscribe": {"requestId": "3", "subscriptionId": name}}, 0.0)
    assert again["unsubscribeResponse"]["statusCode"] == 481
    assert told(one, 100.0) == []


def test_our_messages_keep_to_the_schema(shared: Path) -> None:
    one = desk("a")
    said = list(one.hear({"subscribe": {"requestId": "1", "requestType": "EIDO", "requestSubType": "new"}}, 0.0))
    name = said[0]["subscribeResponse"]["subscriptionId"]
    said += [*one.due(0.0), *one.hear({"unsubscribe": {"requestId": "2", "subscriptionId": name}}, 0.0)]
    said += one.hear({"subscribe": {"requestId": "1", "subscriptionId": "x"}}, 0.0)
    said += one.hear({"resourceDiscovery": {"requestId": "3"}}, 0.0)
    for message in said:
        [branch] = message
        assert list(conveyance_validator(shared / "schemas", branch).iter_errors(message)) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
WORDS = st.sampled_from(["subscribe", "unsubscribe", "eventResponse", "terminateResponse", "event", "x"])
FIELDS = st.sampled_from(
    ["requestId", "requestType", "requestSubType", "incidentId", "expires", "minRate", "maxRate", "subscriptionId"]
)


@given(st.lists(JSON | st.dictionaries(WORDS, JSON | st.dictionaries(FIELDS, JSON), max_size=2), max_size=5))
def test_whatever_a_cad_says_is_answered_or_counted(messages: list[Any]) -> None:
    one = desk("a")
    for now_s, message in enumerate(messages):
        json.dumps([*one.hear(message, now_s), *one.due(now_s)])
