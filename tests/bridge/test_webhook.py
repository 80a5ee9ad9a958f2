import base64
import hashlib
import hmac
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from agls.bridge.sender import Answer
from agls.bridge.webhook import Webhook
from agls.config import Subscriber
from agls.errors import InputError

Reply = Callable[[BaseHTTPRequestHandler, int], None]


class Peer:
    """A real HTTP server that answers as told and remembers what it was sent."""

    def __init__(self, answer: Reply) -> None:
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
def peer_that(answer: Reply) -> Iterator[Peer]:
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


def status(code: int, content: bytes = b"", **headers: str) -> Reply:
    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def to(url: str, **otherwise: str) -> Subscriber:
    return Subscriber(subscriber_id="cad", url=url, **otherwise)


def post(url: str, document: bytes = b"{}", *, slow_s: float = 2.0) -> Answer:
    return Webhook(to(url), slow_s=slow_s).send(document, "I1.5")


def test_a_document_arrives_as_it_is_with_its_key() -> None:
    with peer_that(status(204)) as peer:
        answer = post(peer.url, b'{"x": 1}')
    assert (answer.outcome, answer.said) == ("sent", "HTTP 204")
    assert answer.sent_ns > 0
    [(path, headers, body)] = peer.heard
    assert (path, body) == ("/hook?agency=7", b'{"x": 1}')
    assert headers["Content-Type"] == "application/json"
    assert headers["Idempotency-Key"] == "I1.5"


def test_a_document_is_signed_where_there_is_a_secret(tmp_path) -> None:
    (tmp_path / "secret").write_text("between us\n")
    (tmp_path / "secret").chmod(0o600)
    with peer_that(status(200)) as peer:
        Webhook(to(peer.url, secret_file=str(tmp_path / "secret"))).send(b"{}", "I1.5")
    [(_, headers, body)] = peer.heard
    signed = f"I1.5.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(b"between us", signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"


@pytest.mark.parametrize(
    ("content", "number"),
    [
        (b'{"call_number": "26-0017"}', "26-0017"),
        (b'{"call_number": 17}', ""),
        (b'{"call_number": "a\\nb"}', ""),
        (b"[1]", ""),
        (b"thanks", ""),
        (b"[" * 60_000, ""),
        (b'{"call_number": "' + b"9" * 65 + b'"}', ""),
    ],
)
def test_the_number_that_dispatch_gives_the_call_is_read_from_its_answer(content: bytes, number: str) -> None:
    with peer_that(status(200, content)) as peer:
        assert post(peer.url).call_number == number


@pytest.mark.parametrize("code", [500, 503, 429, 408])
def test_a_peer_in_trouble_is_told_from_one_that_refuses(code: int) -> None:
    with peer_that(status(code)) as peer:
        answer = post(peer.url)
    assert (answer.outcome, answer.said) == ("troubled", f"HTTP {code}")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_never_followed(code: int) -> None:
    with peer_that(status(200)) as elsewhere, peer_that(status(code, Location=elsewhere.url)) as peer:
        assert post(peer.url).outcome == "refused"
    assert (len(peer.heard), len(elsewhere.heard)) == (1, 0)


def test_a_refusal_is_one() -> None:
    with peer_that(status(422)) as peer:
        assert post(peer.url).outcome == "refused"


@pytest.mark.parametrize(
    "bytes_back",
    [b"", b"\x00\xff" * 500, b"HTTP/1.1 abc\r\n\r\n", b"HTTP/9.9 200 OK\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
     b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"SSH-2.0-OpenSSH\r\n"],
)  # fmt: skip
def test_garbage_is_neither_an_answer_nor_a_refusal(bytes_back: bytes) -> None:
    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.wfile.write(bytes_back)
        handler.close_connection = True

    with peer_that(answer) as peer:
        assert post(peer.url).outcome in ("troubled", "away")


def test_a_peer_that_never_answers_does_not_hold_the_sender_for_ever() -> None:
    with peer_that(lambda *_: peer.released.wait(30)) as peer:
        assert post(peer.url, slow_s=0.05).outcome == "away"


def test_a_peer_that_drips_its_answer_is_cut_off() -> None:
    def drip(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not peer.released.wait(0.02):
            handler.wfile.write(b"y")

    with peer_that(drip) as peer:
        assert post(peer.url, slow_s=0.1).outcome in ("troubled", "away")


def test_no_peer_at_all_is_away() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert post(f"http://127.0.0.1:{unused.getsockname()[1]}/").outcome == "away"


@pytest.mark.parametrize(
    "url",
    ["", "ftp://cad.example/x", "https://", "http://host:port/", "http://host:99999/", "http://a b/", "http://me:secret@host/x",
     "http://host/\r\nX: y", "http://höst/"],
)  # fmt: skip
def test_an_address_that_cannot_be_posted_to_is_refused_in_one_sentence(url: str) -> None:
    with pytest.raises(InputError, match="webhook_url") as refusal:
        Webhook(to(url))
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)
