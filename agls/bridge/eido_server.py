"""The WebSocket server of NENA-STA-024: CADs connect, subscribe, and are told of incidents as EIDOs.

Mutual TLS, or an address of this machine alone. What a connection may do to us is bounded and has a name:

    refused_full        more than `MOST_CONNECTIONS_COUNT`
    garbage             what it said is not JSON, or too long: it is closed
    stopped_reading     it took nothing in for `SLOW_S`: it is cut off, the others are not touched
    store_away          the store cannot be read: nothing is told meanwhile, nothing is lost
    gone                it left; its subscriptions are forgotten with it
"""

import asyncio
import json
import logging
import time
import uuid
from collections import Counter
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from agls.bridge import formats, shelf
from agls.bridge.addresses import Listening
from agls.bridge.formats.eido import incident_urn
from agls.bridge.subscriptions import Message, Subscriptions
from agls.config import Subscriber
from agls.messages import NS_PER_S

SLOW_S = 5.0
TURN_S = 0.1  # between two looks into the store
LOOK_S = 60.0  # between two looks at what is over
KEEP_S = 1.0  # between two looks at whom to tell that we are still there
TOO_BIG = 1009
CLOSED_NS = 300 * NS_PER_S  # so long after its end an incident may still be asked for
MOST_CONNECTIONS_COUNT = 50
MAX_MESSAGE_BYTES = 262_144  # the standard asks for 65,536 at least
WRITE_BYTES = 65_536

_log = logging.getLogger(__name__)


class EidoServer:
    """Serve one subscriber's letters to CADs.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The store.
    subscriber : Subscriber
        Whose letters, in which format, and where to listen.
    issuer : str
        Domain name of this bridge.
    slow_s : float, optional
        How long a connection may take nothing in [s].

    Raises
    ------
    InputError
        If it cannot listen there.
    """

    def __init__(self, engine: sa.Engine, subscriber: Subscriber, issuer: str, *, slow_s: float = SLOW_S) -> None:
        self.counts: Counter[str] = Counter()
        self._engine, self._name, self._slow_s = engine, subscriber.subscriber_id, slow_s
        self._listening = Listening(subscriber, ("ws", "wss"))
        self._document, _ = formats.load(subscriber.format, subscriber.dialect)
        self._prefix, self._suffix = incident_urn("|", issuer).split("|")
        self._lines: dict[ServerConnection, tuple[Subscriptions, asyncio.Event]] = {}
        self._active: dict[str, Message] = {}

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
        # Before anybody may ask; what is queued in between is told twice.
        cursor = shelf.last_number(self._engine, self._name)
        self._active, looked_s = self._read_active(), time.monotonic()
        async with serve(
            self._serve,
            sock=self._listening.socket,
            ssl=self._listening.context,
            max_size=MAX_MESSAGE_BYTES,
            write_limit=WRITE_BYTES,
            compression=None,
            open_timeout=self._slow_s,
            close_timeout=1.0,
            server_header=None,
        ):
            while not stop.is_set():
                try:
                    if time.monotonic() - looked_s > LOOK_S:
                        self._active = await asyncio.to_thread(self._read_active)
                        looked_s = time.monotonic()
                    cursor = await self._read_on(cursor)
                except sa.exc.DBAPIError as error:  # what cannot be read now is read the next time
                    self._count("store_away", type(error.orig).__name__)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), TURN_S)

    def _read_active(self) -> dict[str, Message]:
        return {item.record.incident: self._eido(item) for item in shelf.active(self._engine, self._name)}

    async def _read_on(self, cursor: int) -> int:
        """Hand on what was queued since."""
        items = await asyncio.to_thread(shelf.after, self._engine, self._name, cursor)
        for item in items:
            incident, eido = item.record.incident, self._eido(item)
            self._active.pop(incident, None)
            if item.record.telling != "cancel" and item.record.state not in shelf.OVER:
                self._active[incident] = eido
            for subscriptions, news in self._lines.values():
                subscriptions.tell(incident, eido)
                news.set()
        return items[-1].number if items else cursor

    async def _serve(self, line: ServerConnection) -> None:
        if len(self._lines) >= MOST_CONNECTIONS_COUNT:
            self._count("refused_full", "")
            await line.close(1013, "too many connections")
            return
        subscriptions = Subscriptions(lambda: str(uuid.uuid4()), lambda: self._active, self._latest)
        news = asyncio.Event()
        self._lines[line] = subscriptions, news
        teller = asyncio.create_task(self._tell(line, subscriptions, news))
        try:
            await self._hear(line, subscriptions, news)
        finally:
            teller.cancel()
            del self._lines[line]
            self.counts += subscriptions.counts

    async def _hear(self, line: ServerConnection, subscriptions: Subscriptions, news: asyncio.Event) -> None:
        try:
            async for text in line:
                for answer in subscriptions.hear(_json(text), time.monotonic()):
                    await self._say(line, answer)
                news.set()
        except ValueError:
            self._count("garbage", "not JSON")
            await line.close(1007, "not JSON")
        except ConnectionClosed as closed:
            self._count("garbage" if closed.sent and closed.sent.code == TOO_BIG else "gone", str(closed))
        else:
            self.counts["gone"] += 1

    async def _tell(self, line: ServerConnection, subscriptions: Subscriptions, news: asyncio.Event) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), KEEP_S)
            news.clear()
            while messages := list(subscriptions.due(time.monotonic())):
                for message in messages:
                    await self._say(line, message)

    async def _say(self, line: ServerConnection, message: Message) -> None:
        try:
            await asyncio.wait_for(line.send(json.dumps(message, ensure_ascii=False)), self._slow_s)
        except TimeoutError:
            if not line.transport.is_closing():
                self._count("stopped_reading", str(line.remote_address))
                line.transport.abort()
        except ConnectionClosed:
            pass  # whoever hears the line notices, too

    def _latest(self, wanted: str) -> dict[str, Message]:
        incident = wanted.removeprefix(self._prefix).removesuffix(self._suffix)
        if incident in self._active:
            return {incident: self._active[incident]}
        item = shelf.latest(self._engine, self._name, incident, time.time_ns() - CLOSED_NS)
        return {} if item is None else {incident: self._eido(item)}

    def _eido(self, item: shelf.Item) -> Message:
        said: Message = json.loads(self._document(item.record))
        return said

    def _count(self, name: str, why: str) -> None:
        if not self.counts[name]:
            _log.warning("%s: %s (%s)", self._name, name, why)
        self.counts[name] += 1


def _json(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("too deep") from None
