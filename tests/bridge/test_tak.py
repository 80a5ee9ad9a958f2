import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from agls.bridge import formats
from agls.bridge.exercise import EXAMPLE_SITE, made_up
from agls.bridge.sender import Answer
from agls.bridge.tak import TakServer
from agls.config import Subscriber
from agls.errors import InputError
from bench.formats import taky
from bench.peers.environment import PeerAbsentError

PONG = b'<event version="2.0" uid="takPong" type="t-x-c-t-r" how="h-g-i-g-o"/>'


@contextmanager
def server_that(serve: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """A real TCP server that does as told with each connection."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            with line:
                serve(line, over)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def say(port: int, document: bytes = b"<event/>", *, slow_s: float = 2.0) -> Answer:
    sender = TakServer(Subscriber(subscriber_id="tak", url=f"tcp://127.0.0.1:{port}"), slow_s=slow_s)
    return sender.send(document, "I1.0")


def test_what_a_pong_follows_was_read() -> None:
    heard = []

    def serve(line: socket.socket, _: threading.Event) -> None:
        heard.append(line.recv(65_536))
        line.sendall(b"<event>what others say</event>" + PONG[:30])
        time.sleep(0.02)
        line.sendall(PONG[30:])

    with server_that(serve) as port:
        answer = say(port, b'<event uid="x"/>')
    assert (answer.outcome, answer.said) == ("sent", "pong")
    assert heard[0].startswith(b'<event uid="x"/>')
    assert b'type="t-x-c-t"' in heard[0]


def silent(line: socket.socket, over: threading.Event) -> None:
    line.recv(65_536)
    over.wait(10)


def closing(line: socket.socket, _: threading.Event) -> None:
    line.recv(65_536)


def dripping(line: socket.socket, over: threading.Event) -> None:
    while not over.wait(0.01):
        try:
            line.sendall(b"y")
        except OSError:
            return


def talking(line: socket.socket, over: threading.Event) -> None:
    try:
        while not over.is_set():
            line.sendall(b"<event/>" * 8_000)
    except OSError:
        return


@pytest.mark.parametrize(
    ("serve", "outcomes"),
    [(silent, {"away"}), (closing, {"troubled"}), (dripping, {"away"}), (talking, {"troubled", "away"})],
)
def test_a_server_without_a_pong_is_named_in_bounded_time(
    serve: Callable[[socket.socket, threading.Event], None], outcomes: set[str]
) -> None:
    with server_that(serve) as port:
        assert say(port, slow_s=0.2).outcome in outcomes


def test_a_server_that_reads_nothing_does_not_hold_the_sender() -> None:
    def deaf(line: socket.socket, over: threading.Event) -> None:
        over.wait(10)

    with server_that(deaf) as port:
        assert say(port, b" " * 30_000_000, slow_s=0.2).outcome == "away"


def test_no_server_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert say(port).outcome == "away"


@pytest.mark.parametrize(
    "url", ["", "http://tak.example/", "tcp://tak.example", "tls://me@tak.example:8089", "tcp://h:99999"]
)
def test_an_address_that_is_no_tak_server_is_refused_in_one_sentence(url: str) -> None:
    with pytest.raises(InputError, match="is no TAK server; give tcp://HOST:PORT"):
        TakServer(Subscriber(subscriber_id="tak", url=url))


def test_a_tak_server_relays_our_message_to_another_phone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    try:
        server = taky(tmp_path, port)
    except PeerAbsentError as absent:
        pytest.skip(f"needs taky in .venv-peers-formats, which could not be made: {absent}")
    try:
        phone = _connected(port)
        document = formats.load("cot")[0](made_up(EXAMPLE_SITE, time.time_ns()))
        answer = say(port, document, slow_s=10.0)
        assert (answer.outcome, answer.said) == ("sent", "pong")
        phone.settimeout(10.0)
        relayed = b""
        while b"</event>" not in relayed:
            relayed += phone.recv(65_536)
        phone.close()
    finally:
        server.terminate()
        server.wait(10)
    for words in (
        b'type="b-d-a"',
        b'how="m-s"',
        b'lat="40.44062',
        b"<_agls ",
        b"not by itself grounds to stop a person",
    ):
        assert words in relayed


def _connected(port: int) -> socket.socket:
    """Connect once the server is there, and say who we are."""
    end_s = time.monotonic() + 20
    while True:
        try:
            phone = socket.create_connection(("127.0.0.1", port), 5)
            break
        except OSError:
            assert time.monotonic() < end_s, "taky never listened"
            time.sleep(0.1)
    name = made_up(EXAMPLE_SITE, time.time_ns())
    who = msgspec.structs.replace(name, incident="PHONE")
    phone.sendall(formats.load("cot")[0](who).replace(b'type="b-d-a"', b'type="a-f-G-U-C"'))
    time.sleep(0.5)
    return phone
