"""Real sockets: CADs that subscribe, listeners that replay, and those who misbehave."""

import json
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from agls.bridge import eido_server, stream
from agls.bridge.serving import Serving
from agls.bridge.store.book import Batch, Book
from agls.bridge.store.opening import open_store
from agls.config import SiteConfig, Subscriber
from agls.errors import InputError
from agls.messages import Incident
from tests.bridge.certificates import authority

CADS = Subscriber(subscriber_id="cads", kind="eido_server", format="eido", url="ws://127.0.0.1:0/", told="every")
RTCC = Subscriber(
    subscriber_id="rtcc", kind="stream", format="agls_incident", url="http://127.0.0.1:0/incidents", told="every"
)
SUBSCRIBE = {"requestId": "1", "requestType": "EIDO", "requestSubType": "new"}


class Town:
    """A store into which a test enters what a hub would say."""

    def __init__(self, folder: Path, *subscribers: Subscriber) -> None:
        self.site = SiteConfig(name="Town", subscriber=subscribers)
        self.folder = folder
        self.book = Book(open_store(self.site.store, folder, "live"), self.site)

    @contextmanager
    def serving(self) -> Iterator[Serving]:
        with Serving(self.site, self.folder) as serving:
            yield serving


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Callable[..., Town]]:
    made: list[Town] = []

    def build(*subscribers: Subscriber) -> Town:
        made.append(Town(tmp_path, *subscribers))
        return made[-1]

    yield build
    for one in made:
        one.book.engine.dispose()


@pytest.fixture
def tell(incident: Callable[..., Incident], said: Callable[..., Batch]) -> Callable[..., None]:
    """Enter a revision of each of some incidents."""

    def enter(town: Town, *names: str, revision: int = 0, **otherwise: Any) -> None:
        told = [incident(incident=name, revision=revision, shot_ids=(f"{name}-s",), **otherwise) for name in names]
        town.book.enter([said(one, 3.0 + revision) for one in told], time.time_ns())

    return enter


def cad(serving: Serving, **what: Any) -> ClientConnection:
    line = connect(f"ws://127.0.0.1:{serving.ports['cads']}/", proxy=None)
    line.send(json.dumps({"subscribe": SUBSCRIBE | what}))
    assert json.loads(line.recv(5))["subscribeResponse"]["statusCode"] == 200
    return line


def notified(line: ClientConnection) -> list[str]:
    event = json.loads(line.recv(5))["event"]
    line.send(json.dumps({"eventResponse": {"transactionId": event["transactionId"], "statusCode": 200, "statusText": "OK"}}))  # fmt: skip  # noqa: E501
    return [eido["incidentComponent"]["internalIncidentId"] for eido in event["notification"]]


def wait_for(holds: Callable[[], object], limit_s: float = 10.0) -> None:
    end_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end_s, "it never came about"
        time.sleep(0.02)


def test_a_cad_that_subscribes_has_what_is_active_and_then_each_revision(town, tell) -> None:
    here = town(CADS)
    tell(here, "i1")
    with here.serving() as serving, cad(serving) as line:
        assert notified(line) == ["i1"]
        tell(here, "i2")
        assert notified(line) == ["i2"]
        with cad(serving) as later:
            assert sorted(notified(later)) == ["i1", "i2"]
    assert serving.counts["cads.acknowledged"] >= 2


def test_a_cad_may_ask_for_one_incident_by_name_or_urn(town, tell) -> None:
    here = town(CADS)
    tell(here, "i1")
    tell(here, "i2")
    with here.serving() as serving:
        for name in ("i2", "urn:emergency:uid:incidentid:i2:localhost"):
            with cad(serving, requestSubType="single", incidentId=name) as line:
                assert notified(line) == ["i2"]


def test_a_cad_that_stops_reading_is_cut_off_and_nobody_else_waits(town, tell, monkeypatch) -> None:
    monkeypatch.setattr(eido_server.EidoServer.__init__, "__kwdefaults__", {"slow_s": 0.3})
    here = town(CADS)
    tell(here, *(f"i{number}" for number in range(60)))
    with here.serving() as serving, cad(serving) as good, socket.socket() as stuck:
        active = {name for _ in range(3) for name in notified(good)}
        assert len(active) == 60
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", serving.ports["cads"]))
        key = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        stuck.sendall(f"GET / HTTP/1.1\r\nHost: x\r\n{key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        stuck.recv(65_536)
        text = json.dumps({"subscribe": SUBSCRIBE}).encode()
        stuck.sendall((bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text) * 8)  # masked with nothing
        for number in range(3):
            tell(here, f"j{number}")
            assert notified(good) == [f"j{number}"]
        wait_for(lambda: serving.counts["cads.stopped_reading"] == 1)
        tell(here, "k")
        assert notified(good) == ["k"]


@pytest.mark.parametrize("garbage", ["no JSON", "[" * 100_000, "x" * 300_000])
def test_a_cad_that_talks_garbage_is_closed_and_named(town, tell, garbage: str) -> None:
    here = town(CADS)
    with here.serving() as serving:
        with cad(serving) as line, pytest.raises(ConnectionClosed):
            line.send(garbage)
            while True:
                line.recv(5)
        wait_for(lambda: serving.counts["cads.garbage"])
        with cad(serving) as another:
            assert notified(another) == []


def test_only_whom_the_authority_knows_may_subscribe(town, tell, tmp_path) -> None:
    ours, strange = authority(tmp_path, "ours"), authority(tmp_path, "strange")
    files = {"ca_file": ours.ca_file, "certificate_file": ours.issue("bridge")}
    here = town(Subscriber(subscriber_id="cads", kind="eido_server", format="eido", url="wss://127.0.0.1:0/", **files))
    with here.serving() as serving:
        for issuer, is_known in ((ours, True), (strange, False)):
            context = ssl.create_default_context(cafile=ours.ca_file)
            context.load_cert_chain(issuer.issue("cad"))
            try:
                with connect(f"wss://127.0.0.1:{serving.ports['cads']}/", ssl=context, proxy=None) as line:
                    line.send(json.dumps({"subscribe": SUBSCRIBE}))
                    assert json.loads(line.recv(5))["subscribeResponse"]["statusCode"] == 200
                assert is_known
            except (OSError, WebSocketException):
                assert not is_known


# ------------------------------------------------------------------------------------------------ the stream


def listen(serving: Serving, after: str = "", **headers: str) -> Any:
    address = f"http://127.0.0.1:{serving.ports['rtcc']}/incidents{after}"
    return urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=5)


def messages(answer: Any, count: int) -> list[tuple[int, dict[str, Any]]]:
    found, number = [], 0
    while len(found) < count:
        line = answer.readline().decode()
        if line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("data: "):
            found.append((number, json.loads(line[6:])))
    return found


def test_the_stream_replays_from_any_cursor_and_goes_on(town, tell) -> None:
    here = town(RTCC)
    for revision in range(4):
        tell(here, "i1", revision=revision, round_count=revision + 1)
    with here.serving() as serving:
        with listen(serving, "?after=0") as answer:
            found = messages(answer, 4)
            tell(here, "i2")
            [(last, another)] = messages(answer, 1)
        assert [one["data"]["properties"]["round_count"] for _, one in found] == [1, 2, 3, 4]
        assert another["subject"] == "i2"
        cursor = found[1][0]
        with listen(serving, **{"Last-Event-ID": str(cursor)}) as answer:
            assert [number for number, _ in messages(answer, 3)] == [found[2][0], found[3][0], last]


def test_without_a_cursor_the_stream_tells_what_comes_from_now(town, tell) -> None:
    here = town(RTCC)
    tell(here, "i1")
    with here.serving() as serving, listen(serving) as answer:
        time.sleep(0.3)
        tell(here, "i2")
        [(_, said)] = messages(answer, 1)
    assert said["subject"] == "i2"


def test_a_stream_with_a_secret_is_for_who_knows_it(town, tell, tmp_path) -> None:
    (tmp_path / "token").write_text("between us\n")
    (tmp_path / "token").chmod(0o600)
    here = town(Subscriber(subscriber_id="rtcc", kind="stream", format="agls_incident", url=RTCC.url, secret_file=str(tmp_path / "token")))  # fmt: skip  # noqa: E501
    with here.serving() as serving:
        for headers in ({}, {"Authorization": "Bearer nothing"}):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                listen(serving, **headers)
        with listen(serving, Authorization="Bearer between us") as answer:
            assert answer.status == 200


def test_a_stream_over_tls_is_for_whom_the_authority_knows(town, tell, tmp_path) -> None:
    ours = authority(tmp_path, "ours")
    files = {"ca_file": ours.ca_file, "certificate_file": ours.issue("bridge")}
    here = town(Subscriber(subscriber_id="rtcc", kind="stream", format="radio", url="https://127.0.0.1:0/x", **files))
    with here.serving() as serving:
        context = ssl.create_default_context(cafile=ours.ca_file)
        with pytest.raises((OSError, urllib.error.URLError)):
            urllib.request.urlopen(f"https://127.0.0.1:{serving.ports['rtcc']}/x", timeout=5, context=context)
        context.load_cert_chain(ours.issue("rtcc"))
        with urllib.request.urlopen(
            f"https://127.0.0.1:{serving.ports['rtcc']}/x", timeout=5, context=context
        ) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("after", ["?after=x", "?after=-1", "?after=" + "9" * 30, "/elsewhere"])
def test_what_the_stream_cannot_give_is_refused(town, tell, after: str) -> None:
    here = town(RTCC)
    with here.serving() as serving:
        with pytest.raises(urllib.error.HTTPError, match=r"40[04]"):
            listen(serving, after)
        assert serving.counts["rtcc.refused"] == 1


def test_a_listener_that_stops_reading_is_told_no_more_and_nobody_else_waits(town, tell, monkeypatch) -> None:
    monkeypatch.setattr(stream.Stream.__init__, "__kwdefaults__", {"slow_s": 0.5})
    here = town(RTCC)
    tell(here, *(f"i{number}" for number in range(300)))
    with here.serving() as serving, socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", serving.ports["rtcc"]))
        stuck.sendall(b"GET /incidents?after=0 HTTP/1.1\r\nHost: x\r\n\r\n")
        with listen(serving, "?after=0") as answer:
            assert len(messages(answer, 300)) == 300
            wait_for(lambda: serving.counts["rtcc.stopped_reading"] == 1)
            tell(here, "later")
            assert messages(answer, 1)[0][1]["subject"] == "later"


# ------------------------------------------------------------------------------------------------ where it listens


@pytest.mark.parametrize(
    ("url", "complaint"),
    [("http://0.0.0.0:0/x", "open to other machines without TLS"), ("ftp://127.0.0.1:0/", "is nowhere to listen"),
     ("http://127.0.0.1/", "is nowhere to listen"), ("https://127.0.0.1:0/", "needs ca_file")],
)  # fmt: skip
def test_an_address_where_nothing_may_listen_is_refused_in_one_sentence(tmp_path, url: str, complaint: str) -> None:
    site = SiteConfig(name="Town", subscriber=(Subscriber(subscriber_id="rtcc", kind="stream", url=url),))
    with pytest.raises(InputError, match=complaint):
        Serving(site, tmp_path)


def test_a_site_with_nobody_to_serve_says_so(tmp_path) -> None:
    with pytest.raises(InputError, match="no subscriber of the realm live to serve"):
        Serving(SiteConfig(name="Town"), tmp_path)
