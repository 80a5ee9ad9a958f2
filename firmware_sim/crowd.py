"""Thousands of MQTT clients in one process: paho clients on one event loop, without a thread for any of them.

A thread for each of ten thousand clients is more than a machine bears; paho hands its sockets to an event loop just as
well, at 6 KiB and some tens of microseconds a message. Only connecting, which paho does by waiting, happens in a few
threads.
"""

import asyncio
import random
import resource
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from agls.config import Mqtt
from agls.errors import InputError
from agls.mqtt_settings import address, password, tls_context, why_refused, why_unreachable

KEEPALIVE_S = 60
TEND_S = 5.0  # how often each client looks after its keepalive
CONNECT_THREADS = 8
AGAIN_S, AGAIN_MAX_S = 1.0, 30.0
SPARE_FILES = 64
READ_PACKETS = 200  # of one client in one turn of the loop

OnMessage = Callable[[str, bytes], None]
OnAcknowledged = Callable[[str, int, float], None]


class Crowd:
    """Many clients of one broker, each with its own connection.

    Used by one event loop, and made inside it.

    Parameters
    ----------
    mqtt : Mqtt
        How to reach the broker; all give the same name and password.
    on_message : callable
        Called with topic and payload of what any client receives.
    on_acknowledged : callable
        Called with client, message identifier (of `publish`) and time [s] since it was published, at the broker's
        PUBACK.
    seed : int, optional
        Of the waits before connecting again.

    Raises
    ------
    InputError
        If the settings name a host, file or port that cannot be used.
    """

    def __init__(self, mqtt: Mqtt, on_message: OnMessage, on_acknowledged: OnAcknowledged, seed: int = 1) -> None:
        self._mqtt = mqtt
        self._host, self._port, secure = address(mqtt.url)
        self._tls: ssl.SSLContext | None = tls_context(mqtt) if secure else None
        self._password = password(mqtt.password_file) if mqtt.password_file else None
        self._on_message, self._on_acknowledged = on_message, on_acknowledged
        self._chance = random.Random(seed)  # noqa: S311 - not for secrets
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._pool = ThreadPoolExecutor(CONNECT_THREADS, thread_name_prefix="connect")
        self._members: dict[str, paho.Client] = {}
        self._subscriptions: dict[str, tuple[str, ...]] = {}
        self._waiting: dict[str, dict[int, float]] = {}
        self._up: set[str] = set()
        self._changed = asyncio.Event()
        self._refusal = ""
        self._leaving = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._packets_count = 0
        self._writing: list[tuple[paho.Client, Any]] = []
        self._watched: set[Any] = set()
        self.counts: Counter[str] = Counter()

    @property
    def connected_count(self) -> int:
        """Count the clients that are connected.

        Returns
        -------
        int
            How many.
        """
        return len(self._up)

    @property
    def unacknowledged_count(self) -> int:
        """Count what was published and not yet acknowledged by the broker.

        Returns
        -------
        int
            Number of messages.
        """
        return sum(map(len, self._waiting.values()))

    async def join(
        self, names: Iterable[str], subscriptions: Callable[[str], tuple[str, ...]], per_s: float = 500.0
    ) -> None:
        """Connect clients, at a rate, and wait until all of them are connected and subscribed.

        Parameters
        ----------
        names : iterable of str
            Their identifiers at the broker.
        subscriptions : callable
            Gives the topics that a client of that name listens to.
        per_s : float, optional
            How many a second.

        Raises
        ------
        InputError
            If the broker refuses them or cannot be reached, or the system allows fewer open files.
        """
        wanted = list(names)
        allow_files(len(self._members) + len(wanted))
        if not self._members:
            self._spawn(self._tend())
        begun_s = time.monotonic()
        for number, name in enumerate(wanted):
            self._subscriptions[name] = subscriptions(name)
            self._waiting[name] = {}
            self._members[name] = self._client(name)
            self._spawn(self._connect(name))
            if number % 10 == 9:
                await asyncio.sleep(max(0.0, begun_s + number / per_s - time.monotonic()))
            self._raise_refusal()
        while len(self._up) < len(self._members):
            self._changed.clear()
            await self._changed.wait()
            self._raise_refusal()

    def publish(self, name: str, topic: str, payload: bytes) -> int:
        """Publish with QoS 1, now or when the client is connected again.

        Parameters
        ----------
        name : str
            The client.
        topic : str
            The topic.
        payload : bytes
            The message.

        Returns
        -------
        int
            Identifier, unique among what this client has under way.
        """
        mid = self._members[name].publish(topic, payload, qos=1).mid
        self._waiting[name][mid] = time.monotonic()
        return mid

    async def leave(self) -> None:
        """Disconnect all."""
        self._leaving = True
        for client in self._members.values():
            client.disconnect()
        for _ in range(100):  # what a client says last leaves with the loop's next turns
            if not self._up:
                break
            await asyncio.sleep(0.02)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown()

    # ------------------------------------------------------------------------------------------- life of a client

    def _client(self, name: str) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=name, userdata=name, protocol=paho.MQTTv311, clean_session=True
        )
        if self._mqtt.username:
            client.username_pw_set(self._mqtt.username, self._password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.max_inflight_messages_set(0)
        client.on_socket_open = self._on_open
        client.on_socket_close = self._on_close
        client.on_socket_register_write = self._on_want_write
        client.on_socket_unregister_write = self._on_wrote
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_puback
        client.on_message = self._on_arrival
        return client

    async def _connect(self, name: str) -> None:
        """Connect until it has worked; a broker that never was there ends it all."""
        wait_s = AGAIN_S
        while not self._leaving:
            try:
                await self._loop.run_in_executor(
                    self._pool, self._members[name].connect, self._host, self._port, KEEPALIVE_S
                )
                return
            except (OSError, ValueError) as error:
                self.counts["unreachable"] += 1
                if not self.counts["connected"]:
                    self._refuse(why_unreachable(error)[1])
                    return
            # Not all of a city in one instant.
            await asyncio.sleep(wait_s * self._chance.uniform(0.5, 1.5))
            wait_s = min(2 * wait_s, AGAIN_MAX_S)

    async def _tend(self) -> None:
        """Let each client look after its keepalive, a few at a time."""
        while True:
            begun_s = time.monotonic()
            for number, client in enumerate(list(self._members.values())):
                client.loop_misc()
                if number % 50 == 49:
                    await asyncio.sleep(TEND_S * 50 / len(self._members))
            await asyncio.sleep(max(0.1, begun_s + TEND_S - time.monotonic()))

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refuse(self, why: str) -> None:
        self._refusal = self._refusal or why
        self._changed.set()

    def _raise_refusal(self) -> None:
        if self._refusal:
            raise InputError(f"{self._mqtt.url}: {self._refusal}; a broker that accepts these clients is needed")

    # -------------------------------------------------------------------------------------------- called by paho

    def _soon(self, work: Callable[[], None]) -> None:
        """Do something on the loop; paho connects in another thread."""
        if threading.get_ident() == self._thread:
            work()
        else:
            self._loop.call_soon_threadsafe(work)

    def _on_open(self, client: paho.Client, name: str, sock: Any) -> None:
        # One packet a turn would let a client that receives much fall behind thousands that receive little; and what
        # TLS has decrypted already wakes no loop.
        packets_count = READ_PACKETS if self._subscriptions[name] or self._tls else 1

        def listen() -> None:
            if sock.fileno() >= 0:
                self._loop.add_reader(sock, self._read, client, packets_count)

        self._soon(listen)

    def _read(self, client: paho.Client, packets_count: int) -> None:
        for _ in range(packets_count):
            before = self._packets_count
            client.loop_read()
            if self._packets_count == before:
                return

    def _on_close(self, _client: paho.Client, _name: str, sock: Any) -> None:
        # At once, for the socket is closed next, and its number given to another.
        self._loop.remove_reader(sock)
        self._unwatch(sock)

    def _on_want_write(self, client: paho.Client, _name: str, sock: Any) -> None:
        self._soon(lambda: self._write_soon(client, sock))

    def _write_soon(self, client: paho.Client, sock: Any) -> None:
        """Write in the loop's next turn: to ask the system first, each time, would cost more than the writing."""
        if not self._writing:
            self._loop.call_soon(self._write)
        self._writing.append((client, sock))

    def _write(self) -> None:
        writing, self._writing = self._writing, []
        for client, sock in writing:
            client.loop_write()
            if client.want_write() and sock.fileno() >= 0:
                self._watched.add(sock)
                self._loop.add_writer(sock, client.loop_write)

    def _on_wrote(self, _client: paho.Client, _name: str, sock: Any) -> None:
        if sock in self._watched:
            self._soon(lambda: self._unwatch(sock))

    def _unwatch(self, sock: Any) -> None:
        if sock in self._watched:
            self._watched.discard(sock)
            self._loop.remove_writer(sock)

    def _on_connect(self, client: paho.Client, name: str, _flags: Any, reason: Any, _properties: Any) -> None:
        self._packets_count += 1
        if reason.is_failure:
            self.counts["refused"] += 1
            self._refuse(why_refused(str(reason), self._mqtt.username))
            return
        self.counts["connected"] += 1
        if wanted := self._subscriptions[name]:
            client.subscribe([(topic, 1) for topic in wanted])
        else:
            self._arrived(name)

    def _on_subscribe(self, _client: paho.Client, name: str, _mid: int, reasons: Any, _properties: Any) -> None:
        self._packets_count += 1
        if any(reason.is_failure for reason in reasons):
            self._refuse("it refuses a subscription")
            return
        self._arrived(name)

    def _arrived(self, name: str) -> None:
        self._up.add(name)
        self._changed.set()

    def _on_disconnect(self, _client: paho.Client, name: str, _flags: Any, _reason: Any, _properties: Any) -> None:
        self._up.discard(name)
        if not self._leaving and not self._refusal:
            self.counts["disconnected"] += 1
            self._spawn(self._connect(name))

    def _on_puback(self, _client: paho.Client, name: str, mid: int, _reason: Any, _properties: Any) -> None:
        self._packets_count += 1
        sent_s = self._waiting[name].pop(mid, None)
        if sent_s is not None:
            self._on_acknowledged(name, mid, time.monotonic() - sent_s)

    def _on_arrival(self, _client: paho.Client, _name: str, message: paho.MQTTMessage) -> None:
        self._packets_count += 1
        self._on_message(message.topic, bytes(message.payload))


def allow_files(connections_count: int) -> None:
    """See to it that the system allows so many connections.

    Parameters
    ----------
    connections_count : int
        How many.

    Raises
    ------
    InputError
        If it does not, even when asked.
    """
    needed = connections_count + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise InputError(
                f"{connections_count} connections need {needed} open files, but the system allows {hard}; raise it"
                f" (ulimit -n {needed}) or ask for fewer"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
