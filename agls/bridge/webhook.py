"""POST a document to an address, once: what can go wrong is bounded and has a name.

    sent          the peer answered 2xx
    refused       it answered 3xx, for a redirect could send an agency's incidents anywhere; or another 4xx, for the
                  same document would be refused again
    troubled      5xx, 408, 429 or garbage: it is there, but not this time
    away          no connection, or too slow

A document may arrive twice (an answer can be lost on its way back): `Idempotency-Key` tells the peer so. Where there is
a secret, the headers of Standard Webhooks sign the document, so that the peer knows who sent it, and when.
"""

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from agls.bridge.sender import Answer, Outcome
from agls.bridge.tls import client_context
from agls.config import Subscriber
from agls.errors import InputError
from agls.messages import NS_PER_S
from agls.mqtt_settings import password

SLOW_S = 5.0  # for each step: connect, send, every piece of the answer
DEADLINE_STEPS = 2  # for all steps together: a peer that drips a byte now and then is a slow one, too
MAX_ANSWER_BYTES = 65_536


class Webhook:
    """Send documents to one URL, each over a connection of its own.

    Parameters
    ----------
    subscriber : Subscriber
        Its `url` is ``http://`` or ``https://``, without user name or password; `secret_file` signs.
    content_type : str, optional
        Of the documents.
    slow_s : float, optional
        Limit for one step, and half the limit for all of them [s].

    Raises
    ------
    InputError
        If the address is not such a URL, or the secret cannot be read.
    """

    def __init__(
        self, subscriber: Subscriber, content_type: str = "application/json", *, slow_s: float = SLOW_S
    ) -> None:
        secured = subscriber.url.startswith("https:")
        self._connect, self._path = _target(subscriber.url, slow_s, client_context(subscriber) if secured else None)
        self._secret = password(subscriber.secret_file).encode() if subscriber.secret_file else b""
        self._content_type = content_type
        self._deadline_s = slow_s * DEADLINE_STEPS

    def send(self, document: bytes, key: str) -> Answer:
        """POST a document.

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
            status, answer, sent_ns = self._post(document, key)
        except http.client.HTTPException as error:
            return Answer("troubled", type(error).__name__)
        except (OSError, ValueError) as error:
            return Answer("away", type(error).__name__)
        outcome = _judge(status)
        call_number = _call_number(answer) if outcome == "sent" else ""
        return Answer(outcome, f"HTTP {status}", call_number=call_number, sent_ns=sent_ns)

    def close(self) -> None:
        """Do nothing: no connection outlives a document."""

    def _post(self, document: bytes, key: str) -> tuple[int, bytes, int]:
        """POST once; give the status, the beginning of the answer, and when the bytes had left."""
        headers = {
            "Content-Type": self._content_type,
            "Idempotency-Key": key,
            "User-Agent": "agls",
            "Connection": "close",
            **self._signature(document, key),
        }
        connection = self._connect()
        cut_off = threading.Event()
        watch = threading.Timer(self._deadline_s, _cut, (connection, cut_off))
        watch.daemon = True
        watch.start()
        try:
            connection.request("POST", self._path, document, headers)
            sent_ns = time.time_ns()
            answered = connection.getresponse()
            answer = b"" if cut_off.is_set() else answered.read(MAX_ANSWER_BYTES)
            if cut_off.is_set():  # http.client takes headers that end early for whole ones
                raise TimeoutError
            return answered.status, answer, sent_ns
        finally:
            watch.cancel()
            connection.close()

    def _signature(self, document: bytes, key: str) -> dict[str, str]:
        if not self._secret:
            return {}
        moment = str(time.time_ns() // NS_PER_S)
        signed = hmac.digest(self._secret, f"{key}.{moment}.".encode() + document, hashlib.sha256)
        signature = f"v1,{base64.b64encode(signed).decode()}"
        return {"webhook-id": key, "webhook-timestamp": moment, "webhook-signature": signature}


def _call_number(answer: bytes) -> str:
    """Read the number that dispatch gave the call, where its answer tells one."""
    try:
        said = json.loads(answer)
        number = said.get("call_number", "") if isinstance(said, dict) else ""
    except (ValueError, RecursionError):
        return ""
    return number if isinstance(number, str) and number.isprintable() and len(number) <= 64 else ""


def _judge(status: int) -> Outcome:
    if 200 <= status < 300:
        return "sent"
    if 300 <= status < 500 and status not in (408, 429):
        return "refused"
    return "troubled"


def _target(
    url: str, slow_s: float, context: ssl.SSLContext | None
) -> tuple[Callable[[], http.client.HTTPConnection], str]:
    """Split a URL into a way to connect and a path."""
    complaint = f"webhook_url {_without_secrets(url)!r} is not usable: give http://HOST/PATH or https://HOST/PATH"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InputError(complaint) from None
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or not url.isprintable() or " " in url:
        raise InputError(complaint)
    if parts.username is not None or parts.password is not None:
        raise InputError(f"{complaint}, without user name and password")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if context is None:
        return lambda: http.client.HTTPConnection(host, port, timeout=slow_s), path
    return lambda: http.client.HTTPSConnection(host, port, timeout=slow_s, context=context), path


def _without_secrets(url: str) -> str:
    """Keep of a URL what may be shown: paths and queries of webhooks often hold a token."""
    scheme, found, rest = url.partition("://")
    return f"{scheme}{found}{rest.partition('/')[0].rpartition('@')[2]}/..."


def _cut(connection: http.client.HTTPConnection, cut_off: threading.Event) -> None:
    """End a try that has used up its time, from another thread."""
    cut_off.set()
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
