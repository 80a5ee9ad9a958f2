"""A subscriber's letters as server-sent messages, from any cursor on: for the RTCC core and whoever replays.

    GET <path>    Last-Event-ID: or ?after= the last number read (0 for everything kept; none for what comes from now)

Each message has the letter's number as `id`, ``incident`` as `event`, and the document as `data`. Where the
subscriber has a `secret_file`, ``Authorization: Bearer`` must hold what is in it. Bounded by name:

    refused             no such path, no or another token, or no number as cursor
    refused_full        more than `MOST_COUNT` listen
    stopped_reading     it took nothing in for `SLOW_S`: it is told no more
"""

import asyncio
import hmac
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sa
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from agls.bridge import formats, shelf
from agls.bridge.addresses import Listening
from agls.config import Subscriber
from agls.mqtt_settings import password

SLOW_S = 5.0
TURN_S = 0.1
STILL_HERE_S = 15.0
MOST_COUNT = 50
_MOST_DIGITS = 18

_log = logging.getLogger(__name__)


class Stream:
    """Serve one subscriber's letters.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The store.
    subscriber : Subscriber
        Whose letters, in which format, and where to listen.
    slow_s : float, optional
        How long a listener may take nothing in [s].

    Raises
    ------
    InputError
        If it cannot listen there, or the secret cannot be read.
    """

    def __init__(self, engine: sa.Engine, subscriber: Subscriber, *, slow_s: float = SLOW_S) -> None:
        self.counts: Counter[str] = Counter()
        self._engine, self._name, self._slow_s = engine, subscriber.subscriber_id, slow_s
        self._listening = Listening(subscriber, ("http", "https"))
        self._secret = password(subscriber.secret_file).encode() if subscriber.secret_file else b""
        self._document, _ = formats.load(subscriber.format, subscriber.dialect)
        self._stop = asyncio.Event()
        self._listeners_count = 0

    @property
    def port(self) -> int:
        """Say where it listens.

        Returns
        -------
        int
            The port.
        """
        return self._listening.port

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop.

        Parameters
        ----------
        stop : asyncio.Event
            Ends it.
        """
        self._stop = stop
        settings = uvicorn.Config(
            self._answer, log_config=None, lifespan="off", access_log=False, server_header=False, timeout_keep_alive=5,
            interface="asgi3", proxy_headers=False, timeout_graceful_shutdown=1, h11_max_incomplete_event_size=16_384,
        )  # fmt: skip
        server = _Server(settings)
        if self._listening.context is not None:
            settings.load()
            settings.ssl = self._listening.context
        serving = asyncio.create_task(server.serve(sockets=[self._listening.socket]))
        await asyncio.wait({serving, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        status, cursor = self._judge(request)
        if status != 200:
            self._count("refused_full" if status == 503 else "refused", f"{status}")
            await PlainTextResponse(f"{status}\n", status)(scope, receive, send)
            return
        self._listeners_count += 1
        gone = asyncio.create_task(_gone(receive))
        try:
            await self._tell(send, cursor, gone)
        except TimeoutError:
            self._count("stopped_reading", str(scope.get("client")))
        finally:
            gone.cancel()
            self._listeners_count -= 1

    def _judge(self, request: Request) -> tuple[int, int | None]:
        """Judge a request: a status, and from which number on it is told."""
        if request.url.path != self._listening.path:
            return 404, None
        if request.method != "GET":
            return 405, None
        token = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
        if self._secret and not hmac.compare_digest(token, self._secret):
            return 401, None
        if self._listeners_count >= MOST_COUNT:
            return 503, None
        after = request.headers.get("last-event-id") or request.query_params.get("after", "")
        if not after:
            return 200, None
        return (200, int(after)) if after.isascii() and after.isdigit() and len(after) <= _MOST_DIGITS else (400, None)

    async def _tell(self, send: Send, cursor: int | None, gone: asyncio.Task[None]) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._say(send, b": here\n\n")
        number, silent_s = cursor, 0.0
        while not self._stop.is_set() and not gone.done():
            try:
                if number is None:
                    number = await asyncio.to_thread(shelf.last_number, self._engine, self._name)
                items = await asyncio.to_thread(shelf.after, self._engine, self._name, number)
            except sa.exc.DBAPIError as error:
                self._count("store_away", type(error.orig).__name__)
                items = []
            for item in items:
                await self._say(send, self._message(item))
                number, silent_s = item.number, 0.0
            silent_s += TURN_S
            if silent_s > STILL_HERE_S:
                await self._say(send, b": still here\n\n")
                silent_s = 0.0
            if len(items) < shelf.MOST_COUNT:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), TURN_S)
        await self._say(send, b"", is_last=True)

    async def _say(self, send: Send, body: bytes, *, is_last: bool = False) -> None:
        await asyncio.wait_for(
            send({"type": "http.response.body", "body": body, "more_body": not is_last}), self._slow_s
        )

    def _message(self, item: shelf.Item) -> bytes:
        lines = b"".join(b"data: " + line + b"\n" for line in self._document(item.record).splitlines())
        return b"id: %d\nevent: incident\n%s\n" % (item.number, lines)

    def _count(self, name: str, why: str) -> None:
        if not self.counts[name]:
            _log.warning("%s: %s (%s)", self._name, name, why)
        self.counts[name] += 1


class _Server(uvicorn.Server):
    """One that leaves signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing."""
        yield


async def _gone(receive: Receive) -> None:
    """Wait for a listener to leave."""
    while (await receive())["type"] != "http.disconnect":
        pass
