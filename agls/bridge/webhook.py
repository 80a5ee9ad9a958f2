"""POST each CAD event to the agency's webhook, without ever making the hub wait.

One thread takes documents from a bounded queue and sends them in order. What can go wrong is bounded and counted:

    sent          the peer answered 2xx
    redirected    it answered 3xx: refused, for a redirect could send an agency's incidents anywhere; not tried again
    refused       it answered another 4xx: the same document would be refused again
    retried       5xx, 408, 429, garbage, no connection, too slow: one more try, after a growing pause with jitter
    failed        it went on like that until the tries were used up
    dropped       the queue was full: the oldest document made room, for the newest state is what dispatch needs
    abandoned     still waiting when the hub stopped

A document may arrive twice (an answer can be lost on its way back): `Idempotency-Key` tells the peer so.
This is the thin first form; the transactional outbox takes its place later.
"""

import contextlib
import hashlib
import http.client
import logging
import random
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from agls.errors import InputError, MessageError
from agls.messages import CadEvent, decode

QUEUE_LIMIT_COUNT = 1_000
TRIES_COUNT = 4
PAUSE_S = 0.5  # before the second try; doubles
SLOW_S = 5.0  # for each step: connect, send, every piece of the answer
DEADLINE_STEPS = 2  # for all steps together: a peer that drips a byte now and then is a slow one, too
DRAIN_S = 5.0

Outcome: TypeAlias = Literal["sent", "redirected", "refused", "failed"]

_log = logging.getLogger(__name__)
_chance = random.SystemRandom()


class Webhook:
    """Send documents to one URL in the background, in order.

    Parameters
    ----------
    url : str
        ``http://`` or ``https://``, without user name or password.
    pause_s : float, optional
        Pause before the second try; each later one is twice as long [s].
    slow_s : float, optional
        Limit for one step of a try, and half the limit for a whole one [s].

    Raises
    ------
    InputError
        If the address is not such a URL.
    """

    def __init__(self, url: str, *, pause_s: float = PAUSE_S, slow_s: float = SLOW_S) -> None:
        self._connect, self._path = _target(url, slow_s)
        self._pause_s = pause_s
        self._deadline_s = slow_s * DEADLINE_STEPS
        self._waiting: deque[bytes] = deque()
        self._counts: Counter[str] = Counter()
        self._changed = threading.Condition()  # guards all that follows and the two above
        self._busy = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> Counter[str]:
        """What became of the documents so far.

        Returns
        -------
        collections.Counter
            Name, as in this module's docstring, to number.
        """
        with self._changed:
            return Counter(self._counts)

    def send(self, document: bytes) -> None:
        """Queue a document; returns at once, whatever the peer does.

        Parameters
        ----------
        document : bytes
            JSON.
        """
        with self._changed:
            if self._stopping.is_set():
                self._counts["abandoned"] += 1
                return
            if len(self._waiting) >= QUEUE_LIMIT_COUNT:
                self._waiting.popleft()
                self._counts["dropped"] += 1
            self._waiting.append(document)
            self._changed.notify_all()

    def close(self, drain_s: float = DRAIN_S) -> None:
        """Stop, after giving waiting documents a while to leave.

        Parameters
        ----------
        drain_s : float, optional
            How long to wait for them [s]; what is left then is counted as abandoned.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._busy, drain_s)
            self._stopping.set()
            self._counts["abandoned"] += len(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(self._deadline_s + 1.0)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping.is_set())
                if not self._waiting:
                    return
                document = self._waiting.popleft()
                self._busy = True
            outcome = self._deliver(document)
            with self._changed:
                self._counts[outcome] += 1
                self._busy = False
                self._changed.notify_all()

    def _deliver(self, document: bytes) -> Outcome:
        """Try until the peer has answered for good or the tries are used up."""
        key = idempotency_key(document)
        for tried in range(TRIES_COUNT):
            if tried:
                with self._changed:
                    self._counts["retried"] += 1
                if self._stopping.wait(self._pause_s * 2 ** (tried - 1) * _chance.uniform(0.5, 1.5)):
                    break
            try:
                status = self._post(document, key)
            except (OSError, ValueError, http.client.HTTPException) as error:
                why = type(error).__name__
                continue
            outcome = _judge(status)
            if outcome == "sent":
                return outcome
            why = f"HTTP {status}"
            if outcome != "failed":
                _log.warning("webhook: %s not delivered, the peer answered %s (%s)", key, why, outcome)
                return outcome
        _log.warning("webhook: %s not delivered, last answer: %s", key, why)
        return "failed"

    def _post(self, document: bytes, key: str) -> int:
        """POST once and return the status; the rest of the answer is not read."""
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            "User-Agent": "agls",
            "Connection": "close",
        }
        connection = self._connect()
        cut_off = threading.Event()
        watch = threading.Timer(self._deadline_s, _cut, (connection, cut_off))
        watch.daemon = True
        watch.start()
        try:
            connection.request("POST", self._path, document, headers)
            status = connection.getresponse().status
            if cut_off.is_set():  # http.client takes headers that end early for whole ones
                raise TimeoutError
            return status
        finally:
            watch.cancel()
            connection.close()


def idempotency_key(document: bytes) -> str:
    """Name a document such that the same one, sent again, has the same name.

    Parameters
    ----------
    document : bytes
        A CAD event as JSON, or any other bytes.

    Returns
    -------
    str
        ``<cad_event_id>.<revision>``, or a digest of what is not a CAD event.
    """
    try:
        cad_event = decode(document, CadEvent)
    except MessageError:
        return hashlib.sha256(document).hexdigest()
    return f"{cad_event.cad_event_id}.{cad_event.revision}"


def _judge(status: int) -> Outcome:
    if 200 <= status < 300:
        return "sent"
    if 300 <= status < 400:
        return "redirected"
    if 400 <= status < 500 and status not in (408, 429):
        return "refused"
    return "failed"


def _target(url: str, slow_s: float) -> tuple[Callable[[], http.client.HTTPConnection], str]:
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
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return lambda: kind(host, port, timeout=slow_s), path


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
