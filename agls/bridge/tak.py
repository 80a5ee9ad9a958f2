"""Send Cursor on Target to a TAK server over TCP or TLS, and make sure that it was read.

Nothing in the protocol acknowledges a message. A ping after it does: a server answers what it has read, in order, so
its pong says that the message before was read too. One that never answers pings is taken for away, and what is said
again merely replaces itself: the `uid` is the same.

    sent          a pong followed
    troubled      it closed the connection, or said something else without end
    away          no connection, or no pong in time
"""

import re
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from agls.bridge.sender import Answer
from agls.bridge.tls import client_context
from agls.config import Subscriber
from agls.errors import InputError

SLOW_S = 5.0
MAX_ANSWER_BYTES = 4_000_000  # a server also relays what others say
_PONG = re.compile(rb"""type=["']t-x-c-t-r["']""")
_OVERLAP = 32


class TakServer:
    """Send documents to one TAK server, each over a connection of its own.

    Parameters
    ----------
    subscriber : Subscriber
        Its `url` is ``tcp://HOST:PORT`` or ``tls://HOST:PORT``; TLS shows our certificate where there is one.
    content_type : str, optional
        Of the documents; a TAK server is not told.
    slow_s : float, optional
        Limit for connecting, and again for the message and its pong together [s].

    Raises
    ------
    InputError
        If the address is not such a URL, or a certificate cannot be used.
    """

    def __init__(self, subscriber: Subscriber, content_type: str = "", *, slow_s: float = SLOW_S) -> None:
        del content_type
        self._host, self._port, secure = _target(subscriber)
        self._context = client_context(subscriber) if secure else None
        self._slow_s = slow_s

    def send(self, document: bytes, key: str) -> Answer:
        """Send a document, and wait for the server to have read it.

        Parameters
        ----------
        document : bytes
            What to say.
        key : str
            The same whenever the same is said.

        Returns
        -------
        Answer
            What became of it.
        """
        try:
            with (
                socket.create_connection((self._host, self._port), self._slow_s) as plain,
                self._secured(plain) as line,
            ):
                return self._say(line, document + _ping(key))
        except OSError as error:
            return Answer("away", type(error).__name__)

    def close(self) -> None:
        """Do nothing: no connection outlives a document."""

    def _secured(self, plain: socket.socket) -> socket.socket | ssl.SSLSocket:
        return plain if self._context is None else self._context.wrap_socket(plain, server_hostname=self._host)

    def _say(self, line: socket.socket, message: bytes) -> Answer:
        end_s = time.monotonic() + self._slow_s
        line.settimeout(self._slow_s)
        line.sendall(message)
        sent_ns = time.time_ns()
        heard_count, tail = 0, b""
        while heard_count < MAX_ANSWER_BYTES:
            line.settimeout(max(end_s - time.monotonic(), 0.001))
            piece = line.recv(65_536)
            if not piece:
                return Answer("troubled", "it closed the connection")
            heard_count += len(piece)
            if _PONG.search(tail + piece):
                return Answer("sent", "pong", sent_ns=sent_ns)
            tail = (tail + piece)[-_OVERLAP:]
            if time.monotonic() > end_s:
                raise TimeoutError
        return Answer("troubled", f"no pong within {MAX_ANSWER_BYTES} bytes")


def _ping(key: str) -> bytes:
    now = datetime.now(UTC)
    begin, end = (f"{moment:%Y-%m-%dT%H:%M:%S}.000Z" for moment in (now, now + timedelta(seconds=60)))
    return (
        f'<event version="2.0" uid="agls-ping-{key}" type="t-x-c-t" how="m-g" time="{begin}" start="{begin}"'
        f' stale="{end}"><point lat="0" lon="0" hae="0" ce="9999999" le="9999999"/><detail/></event>\n'
    ).encode()


def _target(subscriber: Subscriber) -> tuple[str, int, bool]:
    complaint = (
        f'subscriber "{subscriber.subscriber_id}": url = {subscriber.url!r} is no TAK server; '
        "give tcp://HOST:PORT or tls://HOST:PORT"
    )
    try:
        parts = urlsplit(subscriber.url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InputError(complaint) from None
    if parts.scheme not in ("tcp", "tls") or not host or port is None or parts.path.strip("/") or parts.username:
        raise InputError(complaint)
    return host, port, parts.scheme == "tls"
