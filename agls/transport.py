"""Speak MQTT: the one place that knows topics, sessions and the client library.

A `Connection` sends records and hands out records. Everything uses MQTT 3.1.1, QoS 1 and a persistent session, so the
broker keeps what comes while one side is away; but a preliminary detection, of no use a second later, is sent once
(QoS 0) and kept nowhere. What bytes from the network may do is settled here: they become a
record, or they are counted under a name and dropped (`decode_message`).

    topic                              record        published by
    agls/v1/detection/<sensor_id>      Detection     node
    agls/v1/heartbeat/<sensor_id>      Heartbeat     node
    agls/v1/status/<sensor_id>         Status        node; retained, and its last will
    agls/v1/ack/<sensor_id>            Ack           hub
    agls/v1/shot/<incident>            Shot          hub
    agls/v1/incident/<incident>        Incident      hub
    agls/v1/slew/<camera_id>           SlewRequest   hub
    agls/v1/document/<incident>        none          bridge; what a subscriber by MQTT reads, such as a CloudEvent

An exercise has the same topics under `agls-exercise/v1`. A `Connection` is of one realm (`Mqtt.realm`): it names topics
as above to those who use it, and neither speaks nor hears under the root of the other.

Limits of brokers shape what is done here. A broker may lose what it acknowledged (killed between PUBACK and
disk), therefore a node forgets a detection on the hub's `Ack` alone. A client that does not acknowledge gets a message
again only after it has connected anew, therefore a `Connection` that had to refuse messages connects anew once it has
room. amqtt gives up a message after five seconds without acknowledgement, and mosquitto drops what exceeds its
``max_queued_messages`` (1000 unless set; set it to 0): those the hub asks for again by `seq`.
"""

import logging
import queue
import socket
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from agls.config import Mqtt, Realm
from agls.errors import InputError, MessageError
from agls.messages import (
    MAX_MESSAGE_BYTES,
    Ack,
    Detection,
    Heartbeat,
    Incident,
    Shot,
    SlewRequest,
    Status,
    decode,
    encode,
)
from agls.mqtt_settings import address, password, tls_context, why_ended, why_refused, why_unreachable

log = logging.getLogger(__name__)

Message: TypeAlias = Detection | Heartbeat | Status | Ack | Shot | Incident | SlewRequest
Kind: TypeAlias = Literal["detection", "heartbeat", "status", "ack", "shot", "incident", "slew"]

ROOT = "agls/v1"
ROOTS: dict[Realm, str] = {"live": ROOT, "exercise": "agls-exercise/v1"}
NO_INCIDENT = "none"  # the topic of a shot that belongs to no incident yet

KEEPALIVE_S = 20
RECONNECT_MAX_S = 30
REPEAT_S = 60.0  # before the same trouble is told again
TAKE_LIMIT_COUNT = 1_000
CONFIRMED = -1

# Kind of topic: the record it carries, and the field that must equal the topic's last level.
_KINDS: dict[str, tuple[type[Any], str]] = {
    "detection": (Detection, "sensor_id"),
    "heartbeat": (Heartbeat, "sensor_id"),
    "status": (Status, "sensor_id"),
    "ack": (Ack, "sensor_id"),
    "shot": (Shot, "incident"),
    "incident": (Incident, "incident"),
    "slew": (SlewRequest, "camera_id"),
}
_KIND_OF = {record: (kind, field) for kind, (record, field) in _KINDS.items()}


# -------------------------------------------------------------------------------------------------------- topics


def topic(kind: Kind, name: str) -> str:
    """Name the topic of one sensor, incident or camera; with the name ``+``, of all of them.

    Parameters
    ----------
    kind : Kind
        Such as ``"detection"``.
    name : str
        Sensor, incident or camera; or ``+`` in a subscription.

    Returns
    -------
    str
        Such as ``agls/v1/detection/pole-7``.
    """
    return f"{ROOT}/{kind}/{name}"


def topic_of(record: Message) -> str:
    """Name the topic that a record is published on.

    Parameters
    ----------
    record : Message
        Any record that travels over MQTT.

    Returns
    -------
    str
        Such as ``agls/v1/slew/camera-2``.
    """
    kind, field = _KIND_OF[type(record)]
    return f"{ROOT}/{kind}/{getattr(record, field) or NO_INCIDENT}"


HUB_SUBSCRIPTIONS = (topic("detection", "+"), topic("heartbeat", "+"), topic("status", "+"))


def decode_message(topic_name: str, payload: bytes) -> Message:
    """Read what arrived on a topic, strictly.

    Parameters
    ----------
    topic_name : str
        The topic it arrived on.
    payload : bytes
        What arrived.

    Returns
    -------
    Message
        The record, whose identity is that of the topic.

    Raises
    ------
    MessageError
        By name: ``unknown_topic``, ``too_long``, ``not_json``, ``not_valid``, ``wrong_identity``.
    """
    levels = topic_name.split("/")
    if len(levels) != 4 or "/".join(levels[:2]) != ROOT or levels[2] not in _KINDS:
        raise MessageError("unknown_topic", repr(topic_name[:100]))
    kind, field = _KINDS[levels[2]]
    record: Message = decode(payload, kind)
    said = getattr(record, field) or NO_INCIDENT
    if said != levels[3]:
        raise MessageError("wrong_identity", f"{field} {said!r} on the topic of {levels[3][:100]!r}")
    return record


@dataclass(frozen=True, slots=True)
class Received:
    """A record that arrived.

    Attributes
    ----------
    record : Message
        The record.
    topic : str
        The topic it arrived on.
    received_ns : int
        When it arrived, UTC; never less than that of the one before.
    """

    record: Message
    topic: str
    received_ns: int


@dataclass(frozen=True, slots=True)
class _Receipt:
    """What must be known to acknowledge a message: packet identifiers mean nothing on a later connection."""

    mid: int
    qos: int
    connection: int


# ---------------------------------------------------------------------------------------------------- connection


class Connection:
    """One client at the broker: publishes records, and hands out those that arrive.

    Nothing here blocks a caller on the network. It connects in the background and again whenever the connection
    breaks, subscribes where the broker does not remember it, and says ``online`` each time. Why the broker cannot be
    reached is counted and logged as a warning: each trouble once, again after `REPEAT_S`, and when it has passed.

    Parameters
    ----------
    mqtt : Mqtt
        How to reach the broker; `queue_limit_count` bounds both directions.
    client_id : str
        Name of the persistent session at the broker; no two clients may share it.
    subscriptions : sequence of str, optional
        Topics or patterns (`topic`, `HUB_SUBSCRIPTIONS`).
    status : Status, optional
        Published, retained, at each connection; the same with state ``offline`` is the last will and the farewell.
    on_refused : callable, optional
        Called with topic, payload and receive time [ns] of what `decode_message` refused, for a journal that keeps
        everything; by the network thread, so it must not block. Bytes of the topic that are no text come escaped.
    reconnect_s : float, optional
        Seconds before the first attempt to reconnect; doubled up to `RECONNECT_MAX_S`.

    Raises
    ------
    InputError
        If the settings name a host, file or port that cannot be used.
    """

    def __init__(
        self,
        mqtt: Mqtt,
        client_id: str,
        subscriptions: Sequence[str] = (),
        status: Status | None = None,
        on_refused: Callable[[str, bytes, int], None] | None = None,
        reconnect_s: float | None = None,
    ) -> None:
        self._host, self._port, secure = address(mqtt.url)
        self._limit_count = mqtt.queue_limit_count
        self._subscriptions = tuple(subscriptions)
        self._root = ROOTS[mqtt.realm]
        self._status = status
        self._on_refused = on_refused
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        # What is on its way, by the client's number: its quality of service. A negative one was confirmed before
        # `publish` had returned its number.
        self._outgoing: dict[int, int] = {}
        self._connection = 0
        self._new_sessions_count = 0
        self._connected = threading.Event()
        self._inbox: queue.Queue[tuple[Received, _Receipt]] = queue.Queue(self._limit_count)
        self._handed_out: list[_Receipt] = []
        self._refused_on = -1  # the connection on which there was last no room
        self._last_received_ns = 0
        self._username = mqtt.username
        self._trouble = ""  # why the broker cannot be reached, as last told
        self._told_s = 0.0
        self._answered = False  # to the connection at hand: accepted or refused
        self._started = False
        self._client = self._make_client(mqtt, client_id, secure, reconnect_s)

    def _make_client(self, mqtt: Mqtt, client_id: str, secure: bool, reconnect_s: float | None) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            # A simulated node of an exercise must not take the place of the real one at the broker.
            client_id=client_id if mqtt.realm == "live" else f"{mqtt.realm}-{client_id}",
            clean_session=False,
            protocol=paho.MQTTv311,
            manual_ack=True,
        )
        if mqtt.password_file and not mqtt.username:
            raise InputError(f"mqtt.password_file is {mqtt.password_file}, but mqtt.username is empty; give both.")
        if mqtt.username:
            client.username_pw_set(mqtt.username, password(mqtt.password_file) if mqtt.password_file else None)
        if secure:
            client.tls_set_context(tls_context(mqtt))
        if self._status is not None:
            will = msgspec.structs.replace(self._status, state="offline")
            client.will_set(self._outer(topic_of(will)), encode(will), qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.max_queued_messages_set(0)  # counted in `publish`, so that a status always fits
        # A thousand nodes must not come back in the same instant: each waits a little longer than the next.
        first_s = 1.0 + zlib.crc32(client_id.encode()) / 2**32 if reconnect_s is None else reconnect_s
        client.reconnect_delay_set(first_s, RECONNECT_MAX_S)  # type: ignore[arg-type]  # only added and compared
        return client

    def start(self) -> None:
        """Begin to connect, in the background; said again, it changes nothing."""
        if self._started:
            return
        self._started = True
        self._client.connect_async(self._host, self._port, keepalive=KEEPALIVE_S)
        self._client.loop_start()

    def close(self, flush_s: float = 2.0) -> None:
        """Say farewell and disconnect; the session stays at the broker.

        Parameters
        ----------
        flush_s : float, optional
            Longest wait for what was published to reach the broker [s].
        """
        deadline_s = time.monotonic() + flush_s
        if self._status is not None and self._connected.is_set():
            self._send(msgspec.structs.replace(self._status, state="offline"), retain=True)
        while self._connected.is_set() and self.outgoing_count and time.monotonic() < deadline_s:
            time.sleep(0.01)
        if self.outgoing_count:
            self._count("unsent", self.outgoing_count)
        self._client.disconnect()
        self._client.loop_stop()
        # The library leaves the two ends by which it wakes its thread to the garbage collector.
        self._client._reset_sockets(sockpair_only=True)  # noqa: SLF001
        self._connected.clear()
        self._started = False

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    # ------------------------------------------------------------------------------------------------- speaking

    def publish(self, record: Message, retain: bool = False) -> bool:
        """Send a record, now or when the broker is there again.

        Parameters
        ----------
        record : Message
            What to say; it says by itself on which topic.
        retain : bool, optional
            Whether the broker keeps it for those who subscribe later.

        Returns
        -------
        bool
            False where it was refused and counted: ``outgoing_full``, ``too_long``, or ``not_connected`` where it would
            be of no use later.
        """
        if self.outgoing_count >= self._limit_count:
            self._count("outgoing_full")
            return False
        return self._send(record, retain)

    def publish_document(self, incident: str, document: bytes) -> bool:
        """Send a document of the bridge's, which is no record of ours, on ``agls/v1/document/<incident>``.

        Parameters
        ----------
        incident : str
            What it is of.
        document : bytes
            What to say.

        Returns
        -------
        bool
            False where there is no room for it, or it is too long.
        """
        return self.outgoing_count < self._limit_count and self._put(f"{ROOT}/document/{incident}", document, 1, False)

    def _send(self, record: Message, retain: bool) -> bool:
        qos = 0 if isinstance(record, Detection) and record.stage == "preliminary" else 1
        return self._put(topic_of(record), encode(record), qos, retain)

    def _put(self, name: str, payload: bytes, qos: int, retain: bool) -> bool:
        if len(payload) > MAX_MESSAGE_BYTES:
            self._count("too_long")
            return False
        # Not under the lock: the client calls `_on_publish` while it holds a lock that `publish` needs.
        answer = self._client.publish(self._outer(name), payload, qos=qos, retain=retain)
        if answer.rc == paho.MQTT_ERR_SUCCESS or (qos and answer.rc == paho.MQTT_ERR_NO_CONN):
            self._settle(answer.mid, qos)
            return True
        self._count("outgoing_full" if qos else "not_connected")  # every packet identifier is in use
        return False

    def _settle(self, mid: int, qos: int) -> None:
        """Note that something is on its way, or was confirmed; whichever of the two comes second forgets it."""
        with self._lock:
            if self._outgoing.pop(mid, None) is None:
                self._outgoing[mid] = qos

    @property
    def outgoing_count(self) -> int:
        """Count what was published and not yet acknowledged by the broker.

        Returns
        -------
        int
            Number of messages.
        """
        with self._lock:
            return len(self._outgoing)

    # ------------------------------------------------------------------------------------------------ listening

    def take(self, timeout_s: float) -> list[Received]:
        """Take what has arrived, in order, waiting for the first.

        What a call hands out is acknowledged to the broker by the next call: by then it must be safe (written to the
        journal). A caller that dies in between gets it again. One thread takes.

        Parameters
        ----------
        timeout_s : float
            Longest wait [s]; 0 for none.

        Returns
        -------
        list of Received
            At most `TAKE_LIMIT_COUNT`; empty when nothing came.
        """
        for receipt in self._handed_out:
            self._acknowledge(receipt)
        self._handed_out.clear()
        found: list[Received] = []
        try:
            self._hand_out(found, self._inbox.get(block=timeout_s > 0, timeout=timeout_s or None))
            while len(found) < TAKE_LIMIT_COUNT:
                self._hand_out(found, self._inbox.get_nowait())
        except queue.Empty:
            pass
        if self._refused_on == self._connection and not found:
            self._connect_anew()
        return found

    def _hand_out(self, found: list[Received], item: tuple[Received, _Receipt]) -> None:
        found.append(item[0])
        self._handed_out.append(item[1])

    def _acknowledge(self, receipt: _Receipt) -> None:
        if receipt.qos and receipt.connection == self._connection:
            self._client.ack(receipt.mid, receipt.qos)

    def _connect_anew(self) -> None:
        """Break the connection, so that the broker sends again what was refused for want of room.

        Only one that stands: to break the next while it is being made, because of what the last one had no room for,
        would double the wait before each attempt, and a broker slow to answer would never be reached again.
        """
        line = self._client.socket()
        if isinstance(line, socket.socket) and self._connected.is_set():
            try:
                # Not `line.shutdown`: on a TLS socket that also forgets the cipher, under the network thread's feet.
                socket.socket.shutdown(line, socket.SHUT_RDWR)
            except OSError:
                log.debug("the connection was already gone")

    # ------------------------------------------------------------------------------------------- state and counts

    @property
    def connected(self) -> bool:
        """Tell whether the broker is there, and our subscriptions with it.

        Returns
        -------
        bool
            True between its acceptance and the loss of the connection.
        """
        return self._connected.is_set()

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until the broker is there, and our subscriptions with it.

        Parameters
        ----------
        timeout_s : float
            Longest wait [s].

        Returns
        -------
        bool
            Whether it came to that.
        """
        return self._connected.wait(timeout_s)

    @property
    def new_sessions_count(self) -> int:
        """Count the connections at which the broker did not remember this client.

        Returns
        -------
        int
            Whenever this grows, what the broker held for or from this client may be lost.
        """
        return self._new_sessions_count

    @property
    def counts(self) -> Counter[str]:
        """Count what was refused and what befell the connection, by name.

        Returns
        -------
        collections.Counter
            Name to number: the reasons of `decode_message`, ``not_subscribed``, ``inbox_full``, ``outgoing_full``,
            ``not_connected``, ``unsent``, ``connected``, ``unreachable``, ``tls_refused``, ``connect_refused`` (such as
            a wrong password), ``connect_unanswered``, ``connect_ended`` (instead of an answer), ``connection_lost``,
            ``subscription_refused``.
        """
        with self._lock:
            return Counter(self._counts)

    def _count(self, name: str, number: int = 1) -> None:
        with self._lock:
            self._counts[name] += number

    # ------------------------------------------------------------- called by the client library's network thread

    def _on_connect(self, client: paho.Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:  # noqa: ARG002
        self._answered = True
        if reason.is_failure:
            self._tell_trouble("connect_refused", why_refused(str(reason), self._username))
            return
        if self._trouble:
            self._trouble = ""
            log.warning("the broker %s:%d is there now", self._host, self._port)
        with self._lock:  # nobody will confirm what is sent but once
            self._outgoing = {mid: qos for mid, qos in self._outgoing.items() if qos > 0}
        first = self._connection == 0
        self._connection += 1
        self._count("connected")
        if not flags.session_present:
            self._new_sessions_count += 1
        if self._subscriptions and (first or not flags.session_present):
            client.subscribe([(self._outer(pattern), 1) for pattern in self._subscriptions])
        if flags.session_present or not self._subscriptions:
            # amqtt answers a subscription only after we took what it held for us: do not wait for that.
            self._connected.set()
        if self._status is not None:
            self._send(self._status, retain=True)

    def _on_connect_fail(self, client: paho.Client, userdata: Any) -> None:  # noqa: ARG002
        # The library calls this where it handles the error, and does not hand it over.
        self._tell_trouble(*why_unreachable(sys.exception()))

    def _tell_trouble(self, name: str, sentence: str) -> None:
        """Count why the broker cannot be reached, and tell it, but not at every attempt."""
        self._count(name)
        if sentence != self._trouble or time.monotonic() - self._told_s >= REPEAT_S:
            self._trouble, self._told_s = sentence, time.monotonic()
            log.warning("cannot reach the broker %s:%d: %s; trying on", self._host, self._port, sentence)

    def _on_disconnect(self, client: paho.Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:  # noqa: ARG002
        if self._connected.is_set() and reason.is_failure:
            self._count("connection_lost")
            log.warning("the connection to the broker %s:%d broke: %s", self._host, self._port, reason)
        elif reason.is_failure and not self._answered:
            self._tell_trouble(*why_ended(str(reason)))
        self._answered = False
        self._connected.clear()

    def _on_subscribe(self, client: paho.Client, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:  # noqa: ARG002
        for reason in reasons:
            if reason.is_failure:
                self._count("subscription_refused")
                log.warning("the broker refused a subscription: %s", reason)
        self._connected.set()

    def _on_publish(self, client: paho.Client, userdata: Any, mid: int, reason: Any, properties: Any) -> None:  # noqa: ARG002
        self._settle(mid, CONFIRMED)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:  # noqa: ARG002
        # The machine's clock may be set back; what the hub is told must not be.
        self._last_received_ns = max(self._last_received_ns, time.time_ns())
        receipt = _Receipt(message.mid, message.qos, self._connection)
        name, payload = self._inner(_topic_name(message)), bytes(message.payload)
        try:
            record = decode_message(name, payload)
            if not any(paho.topic_matches_sub(pattern, name) for pattern in self._subscriptions):
                raise MessageError("not_subscribed", name)  # amqtt sends retained messages to all
        except MessageError as refusal:
            self._refuse(refusal.reason, name, payload)
            self._acknowledge(receipt)
            return
        try:
            self._inbox.put_nowait((Received(record, name, self._last_received_ns), receipt))
        except queue.Full:
            self._count("inbox_full")
            if receipt.qos:  # else it would not come again
                self._refused_on = receipt.connection

    def _outer(self, name: str) -> str:
        """Name a topic as the broker knows it: under the root of this connection's realm."""
        return self._root + name.removeprefix(ROOT)

    def _inner(self, name: str) -> str:
        """Name a topic as in this module; what only looks like one, under the other root, becomes one that none is."""
        if name.startswith(f"{self._root}/"):
            return ROOT + name.removeprefix(self._root)
        return f"not {self._root}: {name}" if name.startswith(f"{ROOT}/") else name

    def _refuse(self, reason: str, name: str, payload: bytes) -> None:
        self._count(reason)
        if self._on_refused is not None and reason != "not_subscribed":
            self._on_refused(name, payload, self._last_received_ns)


def _topic_name(message: paho.MQTTMessage) -> str:
    """Name the topic of a message; where its bytes are no text, a name that no topic has."""
    try:
        return message.topic
    except UnicodeDecodeError as error:
        return bytes(error.object).decode(errors="backslashreplace")
