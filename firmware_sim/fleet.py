"""A fleet of nodes at the level of detections, through a real broker, for load tests.

    python -m firmware_sim.fleet FLEET.toml --broker mqtt://127.0.0.1:1883

Each node is a connection of its own and publishes what the file says: detections at a rate (doors, tools, birds),
heartbeats, and shots that every node within earshot reports. One more connection listens, and a ledger holds each
message against what was published: arrived once, twice, late or never. With ``hub = true`` nodes also keep each
detection until the hub's own `Ack`, and send what it misses again.

The broker must be allowed as many files (``ulimit -n``), and must not shed what it holds for a busy listener:
``max_queued_messages 0`` with a ``max_queued_bytes``, and ``max_inflight_messages 0``, in mosquitto's configuration.
"""

import argparse
import asyncio
import heapq
import json
import math
import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta

from agls.config import Mqtt, Origin, Sensor, SiteConfig, Table
from agls.errors import InputError, MessageError
from agls.messages import NS_PER_S, Ack, ClockState, Detection, Heartbeat, Identifier, UtcNs, decode, encode
from agls.tables import load_table
from firmware_sim.crowd import Crowd
from firmware_sim.ledger import Account, Key, Ledger, least_rate_per_s, quantiles

EXAMPLE_FLEET = Path(__file__).with_name("fleet.toml")
ROOT = "agls/v1"
TOPICS = (f"{ROOT}/detection/+", f"{ROOT}/heartbeat/+")
NODE_DELAY_S = 0.15  # from an onset to its detection
SOUND_M_S = 340.0
TOA_SIGMA_S = 1e-3
EARLY_S = 5e-3  # what is due within that time is said at once: waking for each message costs more than the message
MODEL = "fleet"

Rate = Annotated[float, Meta(ge=0, le=60_000)]


class Group(Table, frozen=True, kw_only=True):
    """Nodes that are alike."""

    name: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,49}(?!\n)$",
            title="a name of at most 50 letters, digits, dots, dashes and underscores",
            description="sensors are called NAME-00000, NAME-00001 ...",
        ),
    ]
    count: Annotated[int, Meta(ge=1, le=60_000, description="how many nodes")]
    detections_per_min: Annotated[Rate, Meta(description="detections of each node, at random times")] = 6.0
    heartbeat_s: Annotated[
        float, Meta(ge=0, le=86_400, description="from one heartbeat of a node to the next; 0 for none")
    ] = 30.0


class Shots(Table, frozen=True, kw_only=True):
    """Shots that several nodes report."""

    per_min: Annotated[Rate, Meta(description="shots in the whole city")] = 0.0
    audible_m: Annotated[float, Meta(gt=0, le=20_000, description="as far as they are heard")] = 800.0


class Fleet(Table, frozen=True, kw_only=True):
    """How many nodes say how much."""

    name: Annotated[Identifier, Meta(description="name of the fleet")]
    seed: Annotated[int, Meta(ge=0, le=2**32, description="the same seed gives the same messages")] = 1
    duration_s: Annotated[float, Meta(gt=0, le=1e6, description="how long they talk, once all are connected")]
    connect_per_s: Annotated[float, Meta(ge=1, le=10_000, description="how many connect in a second")] = 500.0
    spacing_m: Annotated[float, Meta(ge=10, le=10_000, description="from one node to the next, in a grid")] = 400.0
    late_s: Annotated[float, Meta(gt=0, le=3_600, description="a message that took longer is counted as late")] = 1.0
    drain_s: Annotated[float, Meta(ge=0, le=3_600, description="longest wait for the last messages")] = 20.0
    hub: Annotated[bool, Meta(description="whether a hub listens and acknowledges")] = False
    origin: Origin = Origin(latitude_deg=0.0, longitude_deg=0.0)
    group: Annotated[tuple[Group, ...], Meta(min_length=1, max_length=100)]
    shots: Shots = Shots()


@dataclass(frozen=True, slots=True)
class Utterance:
    """What one node has to say at a moment.

    Attributes
    ----------
    at_s : float
        When it is published, since the fleet began to talk [s].
    node : int
        Which node, counted over all groups.
    heartbeat : bool
        A heartbeat; else a detection.
    toa_s : float
        When the sound arrived, likewise [s].
    level_db : float
        How loud it was.
    """

    at_s: float
    node: int
    heartbeat: bool = False
    toa_s: float = 0.0
    level_db: float = 70.0


def load_fleet(path: Path) -> Fleet:
    """Read and check a fleet file.

    Parameters
    ----------
    path : pathlib.Path
        TOML file.

    Returns
    -------
    Fleet
        The fleet.

    Raises
    ------
    InputError
        If the file cannot be read, or holds anything that a fleet does not accept.
    """
    fleet = load_table(path, Fleet)
    names = [group.name for group in fleet.group]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise InputError(f'{path}: group[{number}].name is "{name}", which another group has; names must differ')
    return fleet


def sensor_ids(fleet: Fleet) -> list[str]:
    """Name the nodes of a fleet.

    Parameters
    ----------
    fleet : Fleet
        The fleet.

    Returns
    -------
    list of str
        In the order of the groups.
    """
    return [f"{group.name}-{number:05d}" for group in fleet.group for number in range(group.count)]


def places_m(fleet: Fleet) -> np.ndarray:
    """Place the nodes of a fleet in a grid, each a little beside it, groups mixed.

    Parameters
    ----------
    fleet : Fleet
        The fleet.

    Returns
    -------
    numpy.ndarray, shape (nodes, 2), float64
        East and north of the origin, which is in their middle [m].
    """
    count = len(sensor_ids(fleet))
    side = math.ceil(math.sqrt(count))
    random = np.random.default_rng([fleet.seed, 1])
    cells = random.permutation(count)
    grid = np.stack([cells % side, cells // side], axis=1) - (side - 1) / 2
    return np.asarray((grid + random.uniform(-0.3, 0.3, (count, 2))) * fleet.spacing_m)


def site_of(fleet: Fleet, mqtt: Mqtt) -> SiteConfig:
    """Make the configuration of the hub that this fleet reports to.

    Parameters
    ----------
    fleet : Fleet
        The fleet.
    mqtt : Mqtt
        How to reach the broker.

    Returns
    -------
    SiteConfig
        With every node where it stands.
    """
    at = zip(sensor_ids(fleet), places_m(fleet).round(3).tolist(), strict=True)
    sensors = tuple(Sensor(sensor_id=name, x_m=x_m, y_m=y_m, z_m=6.0) for name, (x_m, y_m) in at)
    return SiteConfig(name=fleet.name, origin=fleet.origin, sensor=sensors, mqtt=mqtt)


# ------------------------------------------------------------------------------------------------ what is to be said


def utterances(fleet: Fleet) -> Iterator[Utterance]:
    """Say who says what when, without a clock.

    Parameters
    ----------
    fleet : Fleet
        The fleet.

    Yields
    ------
    Utterance
        In order of time; the same for the same fleet.
    """
    streams, first = [], 0
    for number, group in enumerate(fleet.group):
        streams += [_clutter(fleet, number, first), _heartbeats(fleet, number, first)]
        first += group.count
    yield from heapq.merge(*streams, _reports(fleet), key=lambda said: said.at_s)


def _times_s(random: np.random.Generator, per_s: float, until_s: float) -> Iterator[float]:
    at_s = float(random.exponential(1 / per_s)) if per_s else math.inf
    while at_s < until_s:
        yield at_s
        at_s += float(random.exponential(1 / per_s))


def _clutter(fleet: Fleet, number: int, first: int) -> Iterator[Utterance]:
    group, random = fleet.group[number], np.random.default_rng([fleet.seed, 2, number])
    for at_s in _times_s(random, group.count * group.detections_per_min / 60, fleet.duration_s):
        node = first + int(random.integers(group.count))
        yield Utterance(at_s, node, toa_s=at_s - NODE_DELAY_S, level_db=float(random.normal(70, 8)))


def _heartbeats(fleet: Fleet, number: int, first: int) -> Iterator[Utterance]:
    """Spread the nodes' heartbeats evenly: they were not switched on in the same instant."""
    group, turn = fleet.group[number], 0
    while group.heartbeat_s and (at_s := turn * group.heartbeat_s / group.count) < fleet.duration_s:
        yield Utterance(at_s, first + turn % group.count, heartbeat=True)
        turn += 1


def _reports(fleet: Fleet) -> Iterator[Utterance]:
    """Let all in earshot report each shot, in order of time: what sounds later may be reported earlier."""
    random, at_m = np.random.default_rng([fleet.seed, 3]), places_m(fleet)
    held: list[tuple[float, int, Utterance]] = []
    for fired_s in _times_s(random, fleet.shots.per_min / 60, fleet.duration_s):
        while held and held[0][0] <= fired_s:
            yield heapq.heappop(held)[2]
        away_m = np.hypot(*(at_m - random.uniform(at_m.min(axis=0), at_m.max(axis=0))).T)
        for node in np.flatnonzero(away_m < fleet.shots.audible_m).tolist():
            toa_s = fired_s + float(away_m[node]) / SOUND_M_S + float(random.normal(0, TOA_SIGMA_S))
            level_db = 150 - 20 * math.log10(max(float(away_m[node]), 1.0))
            said = Utterance(toa_s + NODE_DELAY_S, node, toa_s=toa_s, level_db=level_db)
            heapq.heappush(held, (said.at_s, node, said))
    yield from (heapq.heappop(held)[2] for _ in range(len(held)))


# ------------------------------------------------------------------------------------------------------------- live


@dataclass(slots=True)
class _Node:
    """What a node of the fleet remembers."""

    sensor_id: str
    seq: int = 0
    kept: dict[int, bytes] = field(default_factory=dict)
    hub_acknowledged: int = 0


class _Run:
    """A fleet that talks."""

    def __init__(self, fleet: Fleet, mqtt: Mqtt, stop: threading.Event) -> None:
        self._fleet, self._stop = fleet, stop
        self._names = sensor_ids(fleet)
        self._nodes = {name: _Node(name) for name in self._names}
        self._boot_id = f"fleet-{time.time_ns()}"
        self._ledger = Ledger(fleet.late_s)
        self._under_way: dict[bytes, Key] = {}
        self._crowd = Crowd(mqtt, self._hear, lambda _name, _mid, after_s: self._ledger.acknowledge(after_s))
        self._clock = ClockState(mode="simulated", sigma_s=1e-4)
        self._behind_s = 0.0
        self._started_s = time.monotonic()

    async def run(self) -> Account:
        """Connect, talk, wait for the last word, and account for it."""
        showing = asyncio.create_task(self._show()) if sys.stderr.isatty() else None
        acks = self._fleet.hub
        try:
            await self._crowd.join([f"{self._boot_id}-listener"], lambda _: TOPICS)
            await self._crowd.join(
                self._names, lambda name: (f"{ROOT}/ack/{name}",) if acks else (), self._fleet.connect_per_s
            )
            connected, used_s, begun_s = self._crowd.connected_count - 1, time.process_time(), time.monotonic()
            await self._talk(begun_s)
            ended_s = time.monotonic()
            used_s = time.process_time() - used_s
            await self._drain()
        finally:
            if showing:
                showing.cancel()
            await self._crowd.leave()
        return self._account(connected, begun_s, ended_s, used_s)

    async def _show(self) -> None:
        """Say on a terminal how it goes."""
        while True:
            ledger, up = self._ledger, self._crowd.connected_count
            line = f"{up:,} connected, {ledger.published:,} published, {len(ledger.pending):,} under way"
            print(f"\r{line:<70}", end="", file=sys.stderr, flush=True)
            await asyncio.sleep(0.5)

    async def _talk(self, begun_s: float) -> None:
        begun_ns = time.time_ns()
        for number, said in enumerate(utterances(self._fleet)):
            wait_s = begun_s + said.at_s - time.monotonic()
            if wait_s > EARLY_S or number % 20 == 0:
                await asyncio.sleep(max(wait_s, 0.0))
            if self._stop.is_set():
                return
            self._behind_s = max(self._behind_s, -wait_s)
            self._say(said, begun_ns)

    def _say(self, said: Utterance, begun_ns: int) -> None:
        node = self._nodes[self._names[said.node]]
        if said.heartbeat:
            sent_ns = time.time_ns()
            self._send(node, "heartbeat", sent_ns, encode(self._heartbeat(node, sent_ns)))
            return
        payload = encode(self._detection(node, begun_ns + round(said.toa_s * NS_PER_S), said.level_db))
        if self._fleet.hub:
            node.kept[node.seq] = payload
        self._send(node, "detection", node.seq, payload)
        node.seq += 1

    def _send(self, node: _Node, kind: str, number: int, payload: bytes) -> None:
        key = (node.sensor_id, kind, number)
        self._under_way[payload] = key
        self._ledger.publish(key, time.monotonic())
        self._crowd.publish(node.sensor_id, f"{ROOT}/{kind}/{node.sensor_id}", payload)

    def _detection(self, node: _Node, toa_ns: int, level_db: float) -> Detection:
        return Detection(
            sensor_id=node.sensor_id, boot_id=self._boot_id, seq=node.seq, toa_ns=UtcNs(toa_ns),
            toa_sigma_s=TOA_SIGMA_S, wave="muzzle", level_db=round(level_db, 2), snr_db=round(level_db - 45, 2),
            llr={"gunshot": 0.5, "firework": -0.5, "backfire": 0.0, "tool": 0.2, "pop": 0.0, "other": 0.3},
            model=MODEL, clock=self._clock,
        )  # fmt: skip

    def _heartbeat(self, node: _Node, sent_ns: int) -> Heartbeat:
        return Heartbeat(
            sensor_id=node.sensor_id, boot_id=self._boot_id, sent_ns=UtcNs(sent_ns),
            uptime_s=time.monotonic() - self._started_s, clock=self._clock, level_db=55.0, noise_floor_db=45.0,
            next_seq=node.seq, oldest_seq=min(node.kept, default=node.seq), queue_count=len(node.kept),
        )  # fmt: skip

    def _hear(self, topic: str, payload: bytes) -> None:
        """Take what any connection received: the listener everything, the nodes the hub's word."""
        key = self._under_way.pop(payload, None)
        if key is not None and topic == f"{ROOT}/{key[1]}/{key[0]}":  # byte for byte what was said: no need to read it
            self._ledger.receive(key, time.monotonic())
            return
        try:
            record = decode(payload, Detection | Heartbeat | Ack)  # type: ignore[arg-type]
        except MessageError:
            self._ledger.strange += 1
            return
        if isinstance(record, Ack):
            self._settle(record)
        elif record.boot_id != self._boot_id or topic.rpartition("/")[2] != record.sensor_id:
            self._ledger.strange += 1
        elif isinstance(record, Detection):
            self._ledger.receive((record.sensor_id, "detection", record.seq), time.monotonic())
        else:
            self._ledger.receive((record.sensor_id, "heartbeat", record.sent_ns), time.monotonic())

    def _settle(self, ack: Ack) -> None:
        node = self._nodes.get(ack.sensor_id)
        if node is None or ack.boot_id != self._boot_id:
            return
        missing = set(ack.missing)
        for seq in [seq for seq in node.kept if seq < ack.next_seq and seq not in missing]:
            del node.kept[seq]
            node.hub_acknowledged += 1
        for seq in missing & node.kept.keys():
            self._ledger.resent += 1
            self._crowd.publish(node.sensor_id, f"{ROOT}/detection/{node.sensor_id}", node.kept[seq])

    async def _drain(self) -> None:
        """Wait for what is under way."""
        until_s = time.monotonic() + self._fleet.drain_s
        while time.monotonic() < until_s and not self._stop.is_set():
            kept = self._fleet.hub and any(node.kept for node in self._nodes.values())
            if not (self._ledger.pending or self._crowd.unacknowledged_count or kept):
                return
            await asyncio.sleep(0.05)

    def _account(self, connected: int, begun_s: float, ended_s: float, used_s: float) -> Account:
        ledger, talked_s = self._ledger, ended_s - begun_s
        return Account(
            nodes=connected, published=ledger.published, acknowledged=ledger.acknowledged, received=ledger.received,
            lost=len(ledger.pending), duplicates=ledger.duplicates, strange=ledger.strange, late=ledger.late,
            resent=ledger.resent,
            hub_acknowledged=sum(node.hub_acknowledged for node in self._nodes.values()),
            disconnects=self._crowd.counts["disconnected"], talked_s=round(talked_s, 3),
            rate_per_s=round(ledger.received / talked_s, 1),
            least_per_s=round(least_rate_per_s(np.array(ledger.received_at_s), begun_s, ended_s), 1),
            behind_s=round(self._behind_s, 4), puback_s=quantiles(ledger.puback_s),
            delivery_s=quantiles(ledger.delivery_s), processor_share=round(used_s / talked_s, 3),
            memory_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        )  # fmt: skip


def run_fleet(fleet: Fleet, mqtt: Mqtt, stop: threading.Event | None = None) -> Account:
    """Let a fleet talk through a broker, and account for every message.

    Parameters
    ----------
    fleet : Fleet
        Who says how much.
    mqtt : Mqtt
        How to reach the broker.
    stop : threading.Event, optional
        Set to end it early; the account is of what was published until then.

    Returns
    -------
    Account
        What became of it.

    Raises
    ------
    InputError
        If the broker refuses the fleet or cannot be reached, or the system allows too few open files.
    """

    async def _talk() -> Account:
        return await _Run(fleet, mqtt, stop or threading.Event()).run()

    return asyncio.run(_talk())


def told(account: Account) -> str:
    """Write an account for a person.

    Parameters
    ----------
    account : Account
        The account.

    Returns
    -------
    str
        A line for each figure.
    """
    rows = {name: " ".join(f"{k} {v:g}" for k, v in value.items()) if isinstance(value, dict) else f"{value:,}"
            for name, value in asdict(account).items()}  # fmt: skip
    lines = [f"{name:<18}{value}" for name, value in rows.items()]
    return "\n".join([*lines, "every message accounted for" if account.complete else "NOT every message arrived once"])


def main(words: list[str] | None = None) -> int:
    """Run a fleet from the command line.

    Parameters
    ----------
    words : list of str, optional
        Arguments; those of the process if not given.

    Returns
    -------
    int
        0 if every message arrived exactly once, 1 if not, 2 for bad input.
    """
    parser = argparse.ArgumentParser(prog="python -m firmware_sim.fleet", description="Load a broker with many nodes.")
    parser.add_argument("fleet", type=Path, metavar="FLEET.toml", help="how many nodes say how much")
    parser.add_argument("--broker", metavar="URL", default="mqtt://127.0.0.1:1883", help="mqtt://HOST:PORT")
    parser.add_argument("--username", default="", help="name at the broker")
    parser.add_argument("--password-file", default="", help="file (mode 0600) with the password")
    parser.add_argument("--ca-file", default="", help="certificate authority for mqtts://")
    parser.add_argument("--json", action="store_true", help="print the account as JSON")
    asked = parser.parse_args(words)
    url = asked.broker if "://" in asked.broker else f"mqtt://{asked.broker}"
    mqtt = Mqtt(url=url, username=asked.username, password_file=asked.password_file, ca_file=asked.ca_file)
    try:
        account = run_fleet(load_fleet(asked.fleet), mqtt)
    except InputError as error:
        print(f"agls: {error}", file=sys.stderr)
        return 2
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(json.dumps(asdict(account)) if asked.json else told(account))
    return 0 if account.complete else 1


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(1)
