import http
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from agls.bridge import formats
from agls.bridge.eido_push import EidoPush, request_for
from agls.bridge.exercise import EXAMPLE_NS, EXAMPLE_SITE, made_up
from agls.bridge.sender import Answer
from agls.config import Subscriber
from agls.errors import InputError
from bench.schemas import conveyance_validator
from tests.bridge.certificates import authority

EIDO = formats.load("eido")[0](made_up(EXAMPLE_SITE, EXAMPLE_NS))


@contextmanager
def cad_that(answer: Callable[[ServerConnection, Any], None], **otherwise: Any) -> Iterator[tuple[int, list[Any]]]:
    """A real WebSocket server that answers requests as told, and what it heard."""
    heard: list[Any] = []

    def handle(line: ServerConnection) -> None:
        for text in line:
            heard.append(json.loads(text))
            answer(line, heard[-1])

    with serve(handle, "127.0.0.1", 0, **otherwise) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1], heard
        finally:
            server.shutdown()
            thread.join()


def says(code: Any) -> Callable[[ServerConnection, Any], None]:
    def answer(line: ServerConnection, message: Any) -> None:
        request = next(iter(message.values()))["requestId"]
        line.send(json.dumps({"notification": 1}))
        line.send(json.dumps({"response": {"requestId": request, "responseCode": code, "responseText": "x"}}))

    return answer


def push(port: int, document: bytes = EIDO, *, slow_s: float = 2.0, **otherwise: Any) -> Answer:
    settings = {"url": f"ws://127.0.0.1:{port}/cad", "format": "eido"} | otherwise
    return EidoPush(Subscriber(subscriber_id="cad", kind="eido", **settings), slow_s=slow_s).send(document, "I1.0")


def test_a_cad_is_asked_for_service_with_an_eido(shared: Path) -> None:
    with cad_that(says(200)) as (port, heard):
        answer = push(port)
    assert (answer.outcome, answer.said) == ("sent", "response 200")
    assert heard == [{"requestForService": {"requestId": "I1", "eido": json.loads(EIDO)}}]
    assert list(conveyance_validator(shared / "schemas", "requestForService").iter_errors(heard[0])) == []


def test_what_is_taken_back_cancels_its_request() -> None:
    record = made_up(EXAMPLE_SITE, EXAMPLE_NS)
    eido = json.loads(EIDO)
    eido["incidentComponent"]["incidentStatusCommonRegistryText"] = ["Cancelled"]
    assert json.loads(request_for(eido, record.incident)) == {"cancelRequest": {"requestId": record.incident}}


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(180, "sent"), (182, "sent"), (302, "refused"), (400, "refused"), (408, "troubled"), (500, "troubled"),
     (503, "troubled"), (603, "refused"), (None, "troubled"), ("200", "troubled")],
)  # fmt: skip
def test_each_answer_has_its_outcome(code: Any, outcome: str) -> None:
    with cad_that(says(code)) as (port, _):
        assert push(port).outcome == outcome


@pytest.mark.parametrize("garbage", ["no JSON", "[]", "[" * 50_000, "9" * 100_000])
def test_garbage_is_no_answer(garbage: str) -> None:
    with cad_that(lambda line, _: line.send(garbage)) as (port, _):
        assert push(port, slow_s=0.3).outcome in ("troubled", "away")


def test_a_cad_that_never_answers_is_away() -> None:
    with cad_that(lambda *_: None) as (port, _):
        assert push(port, slow_s=0.2).outcome == "away"


@pytest.mark.parametrize(("status", "outcome"), [(302, "refused"), (404, "refused"), (503, "troubled")])
def test_a_cad_elsewhere_is_never_followed(status: int, outcome: str) -> None:
    def send_elsewhere(line: ServerConnection, _: Request) -> Response:
        return Response(status, http.HTTPStatus(status).phrase, Headers(Location="ws://127.0.0.1:1/"), b"")

    with cad_that(says(200), process_request=send_elsewhere) as (port, heard):
        assert (push(port).outcome, heard) == (outcome, [])


@pytest.mark.parametrize("url", ["", "https://cad.example/", "wss://", "wss://me:secret@cad.example/", "ws://h:x/"])
def test_an_address_that_is_no_websocket_is_refused_in_one_sentence(url: str) -> None:
    with pytest.raises(InputError, match="is no WebSocket"):
        EidoPush(Subscriber(subscriber_id="cad", url=url))


def test_mutual_tls_lets_in_whom_the_authority_knows_and_nobody_else(tmp_path: Path) -> None:
    ours, strange = authority(tmp_path, "ours"), authority(tmp_path, "strange")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ours.ca_file)
    context.load_cert_chain(ours.issue("cad"))
    context.verify_mode = ssl.CERT_REQUIRED
    with cad_that(says(200), ssl=context) as (port, heard):
        known = {"url": f"wss://127.0.0.1:{port}/", "ca_file": ours.ca_file, "certificate_file": ours.issue("bridge")}
        assert push(port, **known).outcome == "sent"
        for wrong in (
            {"certificate_file": strange.issue("bridge")},
            {"ca_file": strange.ca_file},
            {"certificate_file": ""},
        ):
            assert push(port, **(known | wrong)).outcome in ("troubled", "away")
    assert len(heard) == 1
