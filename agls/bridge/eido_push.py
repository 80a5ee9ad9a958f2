"""Ask a CAD for service with an EIDO: the ``requestForService`` of NENA-STA-024 over a WebSocket, with mutual TLS.

What is taken back is a ``cancelRequest`` under the same request. The CAD answers with a response code:

    sent          180 ringing, 182 queued, 200
    refused       302 (an agency's incidents go where its settings say, nowhere else), 4xx but 408, 501, 505, 513, 6xx
    troubled      408, other 5xx, or an answer that is none
    away          no connection, or no answer in time
"""

import contextlib
import json
import socket
import ssl
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from agls.bridge.sender import Answer, Outcome
from agls.bridge.tls import client_context
from agls.config import Subscriber
from agls.errors import InputError

SLOW_S = 5.0
MAX_ANSWER_BYTES = 65_536
_TAKEN = (180, 182, 200)
_LATER = (408, 500, 502, 503, 504)


class EidoPush:
    """Push EIDOs to one CAD, each over a connection of its own.

    Parameters
    ----------
    subscriber : Subscriber
        Its `url` is ``wss://HOST/PATH``, or ``ws://`` for tests; its format is ``eido``.
    content_type : str, optional
        Of the documents; the protocol has none.
    slow_s : float, optional
        Limit for connecting, and again for request and answer together [s].

    Raises
    ------
    InputError
        If the address is not such a URL, or a certificate cannot be used.
    """

    def __init__(self, subscriber: Subscriber, content_type: str = "", *, slow_s: float = SLOW_S) -> None:
        del content_type
        self._url, self._slow_s = _target(subscriber), slow_s
        self._context = client_context(subscriber) if self._url.startswith("wss:") else None

    def send(self, document: bytes, key: str) -> Answer:
        """Ask once for service, or for none any more.

        Parameters
        ----------
        document : bytes
            An EIDO.
        key : str
            The same whenever the same is said.

        Returns
        -------
        Answer
            What became of it.
        """
        request = key.rpartition(".")[0]
        try:
            return self._ask(request_for(json.loads(document), request), request)
        except InvalidStatus as error:
            status = error.response.status_code
            return Answer("refused" if 300 <= status < 500 else "troubled", f"HTTP {status}")
        except (OSError, TimeoutError) as error:
            return Answer("away", type(error).__name__)
        except (WebSocketException, ValueError, RecursionError) as error:
            return Answer("troubled", type(error).__name__)

    def close(self) -> None:
        """Do nothing: no connection outlives a document."""

    def _ask(self, message: bytes, request: str) -> Answer:
        way = connect(
            self._url,
            ssl=self._context,
            open_timeout=self._slow_s,
            close_timeout=0.2,
            max_size=MAX_ANSWER_BYTES,
            compression=None,
            ping_interval=None,
            proxy=None,
        )
        with way as line:
            # One that takes nothing in would hold us in `send` for ever.
            watch = threading.Timer(self._slow_s, _cut, (line,))
            watch.daemon = True
            watch.start()
            try:
                return self._answer(line, message, request)
            finally:
                watch.cancel()

    def _answer(self, line: Connection, message: bytes, request: str) -> Answer:
        end_s = time.monotonic() + self._slow_s
        line.send(message.decode())
        sent_ns = time.time_ns()
        while (left_s := end_s - time.monotonic()) > 0:
            said = json.loads(line.recv(left_s))
            answer = said.get("response") if isinstance(said, dict) else None
            if isinstance(answer, dict) and answer.get("requestId") == request:
                code = answer.get("responseCode", answer.get("statusCode"))
                return Answer(_judge(code), f"response {code!r}"[:100], sent_ns=sent_ns)
        raise TimeoutError


def request_for(eido: dict[str, Any], request: str) -> bytes:
    """Write the message that asks for service, or for none any more.

    Parameters
    ----------
    eido : dict of str to Any
        The incident.
    request : str
        Name of the request: the same for all revisions of one incident.

    Returns
    -------
    bytes
        JSON.
    """
    if eido["incidentComponent"]["incidentStatusCommonRegistryText"] == ["Cancelled"]:
        return json.dumps({"cancelRequest": {"requestId": request}}).encode()
    return json.dumps({"requestForService": {"requestId": request, "eido": eido}}, ensure_ascii=False).encode()


def _judge(code: Any) -> Outcome:
    if code in _TAKEN:
        return "sent"
    return "troubled" if not isinstance(code, int) or code in _LATER else "refused"


def _target(subscriber: Subscriber) -> str:
    complaint = (
        f'subscriber "{subscriber.subscriber_id}": url = {subscriber.url!r} is no WebSocket; '
        "give wss://HOST/PATH, without user name and password"
    )
    try:
        parts = urlsplit(subscriber.url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InputError(complaint) from None
    if parts.scheme not in ("ws", "wss") or not host or parts.username is not None or not subscriber.url.isascii():
        raise InputError(complaint)
    return subscriber.url


def _cut(line: Connection) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        line.socket.shutdown(socket.SHUT_RDWR)
