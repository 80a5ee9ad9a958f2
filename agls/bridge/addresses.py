"""Where something listens: an address of this machine alone, or any with TLS."""

import socket
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

from agls.bridge.tls import server_context
from agls.config import Subscriber
from agls.errors import InputError

SEND_BUFFER_BYTES = 262_144  # what one that does not read may hold in the kernel
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Listening:
    """A socket that listens where a subscriber's `url` says.

    Parameters
    ----------
    subscriber : Subscriber
        Its `url` is ``SCHEME://HOST:PORT/PATH``.
    schemes : sequence of str
        Without TLS, and with it.

    Raises
    ------
    InputError
        If it is no such address, is open to others without TLS, or cannot be had.
    """

    def __init__(self, subscriber: Subscriber, schemes: Sequence[str]) -> None:
        where = f'subscriber "{subscriber.subscriber_id}": url = {subscriber.url!r}'
        plain, secure = schemes
        try:
            parts = urlsplit(subscriber.url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if host is None or port is None or parts.scheme not in schemes:
            raise InputError(f"{where} is nowhere to listen; give {secure}://HOST:PORT, or {plain}://127.0.0.1:PORT")
        if parts.scheme == plain and host not in LOOPBACK:
            raise InputError(f"{where} is open to other machines without TLS; give {secure}://, or the host 127.0.0.1")
        self.path = parts.path or "/"
        self.context: ssl.SSLContext | None = None if parts.scheme == plain else server_context(subscriber)
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        try:
            self.socket.bind((host, port))
            self.socket.listen()
        except (OSError, OverflowError) as error:
            self.socket.close()
            raise InputError(f"{where} cannot be listened at ({error}); give a free address of this machine") from None
        self.port: int = self.socket.getsockname()[1]
