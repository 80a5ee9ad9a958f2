import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from agls.bridge import webhook as module
from agls.bridge.cad.event import CadDesk
from agls.bridge.webhook import Webhook, idempotency_key
from agls.config import SiteConfig
from agls.errors import InputError
from agls.messages import encode

Answer = Callable[[BaseHTTPRequestHandler, int], None]


class Peer:
    """A real HTTP server that answers as told and remembers what it was sent."""

    def __init__(self, answer: Answer) -> None:
        self.heard: list[tuple[str, dict[str, str], bytes]] = []
        self.released = threading.Event()
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                peer.heard.append((self.path, dict(self.headers), body))
                answer(self, len(peer.heard))

            def do_GET(self) -> None:
                peer.heard.append((self.path, {}, b""))
                status(200)(self, 0)

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?agency=7"


@contextmanager
def peer_that(answer: Answer) -> Iterator[Peer]:
    peer = Peer(answer)
    thread = threading.Thread(target=peer.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield peer
    finally:
        peer.released.set()
        peer.server.shutdown()
        peer.server.server_close()
        thread.join()


def status(code: int, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def deliver(url: str, *documents: bytes, slow_s: float = 2.0) -> dict[str, int]:
    hook = Webhook(url, pause_s=0.01, slow_s=slow_s)
    for document in documents:
        hook.send(document)
    hook.close(drain_s=20.0)
    assert not hook._thread.is_alive()
    return {name: number for name, number in hook.counts.items() if number}


def test_a_cad_event_arrives_as_json_with_its_key(incident) -> None:
    [cad_event] = CadDesk(SiteConfig(name="Test")).feed(incident(revision=5), 0)
    with peer_that(status(204)) as peer:
        assert deliver(peer.url, encode(cad_event)) == {"sent": 1}
    [(path, headers, body)] = peer.heard
    assert path == "/hook?agency=7"
    assert body == encode(cad_event)
    assert headers["Content-Type"] == "application/json"
    assert headers["Idempotency-Key"] == "cad.i20181219-1.5"


def test_what_is_no_cad_event_still_has_a_key_of_its_own() -> None:
    assert idempotency_key(b"{}") == idempotency_key(b"{}") != idempotency_key(b"[]")


def test_documents_arrive_in_order() -> None:
    documents = [b"%d" % number for number in range(20)]
    with peer_that(status(200)) as peer:
        assert deliver(peer.url, *documents) == {"sent": 20}
    assert [body for _, _, body in peer.heard] == documents


@pytest.mark.parametrize("code", [500, 503, 429, 408])
def test_a_peer_in_trouble_is_asked_again_with_the_same_key(code: int) -> None:
    def answer(handler: BaseHTTPRequestHandler, times: int) -> None:
        status(code if times < 3 else 200)(handler, times)

    with peer_that(answer) as peer:
        assert deliver(peer.url, b"{}") == {"sent": 1, "retried": 2}
    assert len({headers["Idempotency-Key"] for _, headers, _ in peer.heard}) == 1


def test_a_peer_that_stays_in_trouble_is_given_up_and_the_next_document_still_tried() -> None:
    with peer_that(status(500)) as peer:
        assert deliver(peer.url, b"1", b"2") == {"failed": 2, "retried": 6}
    assert [body for _, _, body in peer.heard] == [b"1"] * 4 + [b"2"] * 4


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_never_followed(code: int) -> None:
    with peer_that(status(200)) as elsewhere, peer_that(status(code, Location=elsewhere.url)) as peer:
        assert deliver(peer.url, b"{}") == {"redirected": 1}
    assert (len(peer.heard), len(elsewhere.heard)) == (1, 0)


def test_a_refusal_is_not_asked_again() -> None:
    with peer_that(status(422)) as peer:
        assert deliver(peer.url, b"{}") == {"refused": 1}
    assert len(peer.heard) == 1


@pytest.mark.parametrize(
    "bytes_back",
    [b"", b"\x00\xff" * 500, b"HTTP/1.1 abc\r\n\r\n", b"HTTP/9.9 200 OK\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
     b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"SSH-2.0-OpenSSH\r\n"],
)  # fmt: skip
def test_garbage_is_tried_again_then_given_up(bytes_back: bytes) -> None:
    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.wfile.write(bytes_back)
        handler.close_connection = True

    with peer_that(answer) as peer:
        assert deliver(peer.url, b"{}") == {"failed": 1, "retried": 3}


def test_a_peer_that_never_answers_holds_neither_sender_nor_thread_for_ever() -> None:
    with peer_that(lambda *_: peer.released.wait(30)) as peer:
        assert deliver(peer.url, b"{}", slow_s=0.05) == {"failed": 1, "retried": 3}


def test_a_peer_that_drips_its_answer_is_cut_off() -> None:
    def drip(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not peer.released.wait(0.02):
            handler.wfile.write(b"y")

    with peer_that(drip) as peer:
        assert deliver(peer.url, b"{}", slow_s=0.1) == {"failed": 1, "retried": 3}


def test_no_peer_at_all_is_counted_as_failed() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        assert deliver(url, b"{}") == {"failed": 1, "retried": 3}


def test_a_full_queue_drops_the_oldest_and_sending_never_waits(monkeypatch) -> None:
    monkeypatch.setattr(module, "QUEUE_LIMIT_COUNT", 3)
    began = threading.Event()

    def hold(handler: BaseHTTPRequestHandler, times: int) -> None:
        began.set()
        peer.released.wait(30)
        status(200)(handler, times)

    with peer_that(hold) as peer:
        hook = Webhook(peer.url, pause_s=0.01, slow_s=30.0)
        hook.send(b"first")
        assert began.wait(10)
        for number in range(5):
            hook.send(b"%d" % number)
        peer.released.set()
        hook.close(drain_s=20.0)
    assert [body for _, _, body in peer.heard] == [b"first", b"2", b"3", b"4"]
    assert (hook.counts["dropped"], hook.counts["sent"]) == (2, 4)


def test_closing_counts_what_could_not_leave() -> None:
    with peer_that(lambda *_: peer.released.wait(30)) as peer:
        hook = Webhook(peer.url, pause_s=0.01, slow_s=0.2)
        for _ in range(3):
            hook.send(b"{}")
        hook.close(drain_s=0.0)
        hook.send(b"{}")
    assert hook.counts["abandoned"] + hook.counts["failed"] == 4
    assert not hook._thread.is_alive()


@pytest.mark.parametrize(
    "url",
    ["", "ftp://cad.example/x", "https://", "http://host:port/", "http://host:99999/", "http://a b/", "http://me:secret@host/x",
     "http://host/\r\nX: y", "http://höst/"],
)  # fmt: skip
def test_an_address_that_cannot_be_posted_to_is_refused_in_one_sentence(url: str) -> None:
    with pytest.raises(InputError, match="webhook_url") as refusal:
        Webhook(url)
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)
