"""What the bridge loses when hub, broker, store or dispatch are killed again and again; how much it can take.

The kills: a real hub shell (journal, desk, bridge, store, couriers) in a process of its own, a real mosquitto, a CAD
peer that writes down what it takes before it answers, and SQLite or a real PostgreSQL. One of them is killed (SIGKILL)
at a random moment, comes back, and the next one is killed. Four poles speak all the while, and send again what nobody
has acknowledged. What locates is left out, so that a thousand kills fit into an hour: four detections of one number are
one shot, two shots one incident. Everything after that is as it runs.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from agls.bridge.cad import pace
from agls.bridge.cad.event import CadDesk
from agls.bridge.store import tables
from agls.bridge.store.book import Book
from agls.bridge.store.opening import open_store
from agls.config import Camera, Gathering, Mqtt, Origin, Sensor, SiteConfig, Store, Subscriber
from agls.intake import Intake
from agls.locate.frame import Frame
from agls.messages import (
    NS_PER_S,
    Ack,
    Arrival,
    CadEvent,
    ClockState,
    Detection,
    Ellipse,
    Heartbeat,
    Inbound,
    Incident,
    Outbound,
    Rejection,
    Shot,
    SlewRequest,
    UtcNs,
)
from agls.transport import Connection, topic
from bench.fleet import SEARCH
from bench.outbox import Broker
from bench.postgres import Cluster, programs
from bench.rows import ANY, Ask, Plan, Row

POLES = tuple(f"pole-{number}" for number in range(4))
ORIGIN = Origin(latitude_deg=40.44, longitude_deg=-79.99, height_m=200.0)
CLOCK = ClockState(mode="simulated", sigma_s=1e-4)
ELLIPSE = Ellipse(major_m=8.0, minor_m=5.0, azimuth_deg=30.0)
CLUTTER = "clutter"  # what named its model so makes no shot
SETTLED_S = 1.0  # instead of ten, so that the last word of each incident comes within the run
PARTS = ("hub", "broker", "peer", "store")
END_S = 90.0
AGAIN_S = 1.0  # before poles send again what nobody has acknowledged


def site(mqtt: Mqtt, **otherwise: Any) -> SiteConfig:
    """Describe a square of four poles.

    Parameters
    ----------
    mqtt : Mqtt
        The broker.
    **otherwise : Any
        Other tables.

    Returns
    -------
    SiteConfig
        The site.
    """
    sensors = tuple(
        Sensor(sensor_id=name, x_m=300.0 * (number % 2), y_m=300.0 * (number // 2), z_m=6.0)
        for number, name in enumerate(POLES)
    )
    return SiteConfig(name="bench", origin=ORIGIN, sensor=sensors, mqtt=mqtt, **otherwise)


# ---------------------------------------------------------------------------------------- a hub that need not locate


class Counting:
    """Stages that take four detections of one number for a shot, and two shots for an incident.

    Parameters
    ----------
    place : SiteConfig
        The site.
    """

    def __init__(self, place: SiteConfig) -> None:
        self.frame = Frame.of_site(place)
        self.intake = Intake(place)
        self.cad = CadDesk(place)
        self._heard: dict[int, dict[str, Detection]] = defaultdict(dict)
        self._shots: dict[int, dict[int, Shot]] = defaultdict(dict)
        self._revisions: Counter[int] = Counter()

    def feed(self, message: Inbound, received_ns: int) -> list[Outbound]:
        """Take in what a pole said.

        Parameters
        ----------
        message : Inbound
            Detections count.
        received_ns : int
            UTC.

        Returns
        -------
        list of Outbound
            What follows.
        """
        out: list[Outbound] = [*self.cad.advance(received_ns)]
        taken = self.intake.feed(message, received_ns)
        if isinstance(taken, Rejection):
            return [*out, taken]
        if not isinstance(taken, Detection) or taken.model == CLUTTER:
            return out
        heard = self._heard[taken.seq]
        heard[taken.sensor_id] = taken
        return out + self._shot(taken.seq, heard, received_ns) if len(heard) == len(POLES) else out

    def advance(self, now_ns: int) -> list[Outbound]:
        """Let time pass.

        Parameters
        ----------
        now_ns : int
            UTC.

        Returns
        -------
        list of Outbound
            What dispatch is due to be told.
        """
        return [*self.cad.advance(now_ns)]

    def acks(self, now_ns: int) -> list[Ack]:
        """Say what came.

        Parameters
        ----------
        now_ns : int
            UTC.

        Returns
        -------
        list of Ack
            As the intake says.
        """
        return self.intake.acks(now_ns)

    def _shot(self, seq: int, heard: dict[str, Detection], now_ns: int) -> list[Outbound]:
        del self._heard[seq]
        number, first = seq // 2, min(heard.values(), key=lambda one: one.toa_ns)
        self._revisions[number] += 1
        names = {"incident": f"I{number:06d}", "revision": self._revisions[number] - 1}
        where = {"x_m": 150.0, "y_m": 150.0, "z_m": 1.5, "latitude_deg": 40.4413, "longitude_deg": -79.9882}
        found = {"ellipse": ELLIPSE, "p_gunshot": 0.97, "sensor_count": len(POLES)}
        arrivals = tuple(
            Arrival(sensor_id=one.sensor_id, boot_id=one.boot_id, seq=seq, toa_ns=one.toa_ns, residual_s=0.0, used=True)
            for one in heard.values()
        )
        shot = Shot(
            shot_id=f"S{seq:06d}", origin_ns=first.toa_ns, origin_sigma_s=1e-3, arrivals=arrivals, **names, **where,
            **found,
        )  # fmt: skip
        shots = self._shots[number]
        shots[seq] = shot
        moments_ns = [one.origin_ns for one in shots.values()]
        incident = Incident(
            state="probable", first_shot_ns=min(moments_ns), last_shot_ns=max(moments_ns), round_count=len(shots),
            shot_ids=tuple(one.shot_id for _, one in sorted(shots.items())), **names, **where, **found,
        )  # fmt: skip
        if len(shots) == 2:
            del self._shots[number]
        return [shot, incident, *self.cad.feed(incident, now_ns)]


def run_hub_alone(settings: Path, out: Path) -> None:
    """Run the hub's shell with stages that count, until killed: a process of its own.

    Parameters
    ----------
    settings : pathlib.Path
        The site as JSON.
    out : pathlib.Path
        Its folder.
    """
    import agls.hub

    pace.SETTLED_NS = round(SETTLED_S * NS_PER_S)
    agls.hub.Hub = Counting  # type: ignore[misc,assignment]
    agls.hub.rehearse = lambda _: None
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    place = msgspec.json.decode(settings.read_bytes(), type=SiteConfig)
    print(agls.hub.run_hub(place, out, stop, resume=True))


def run_peer_alone(notes: Path, port: int) -> None:
    """Be dispatch: write down what is new, then answer; until killed. A process of its own.

    Parameters
    ----------
    notes : pathlib.Path
        A line of JSON for each document taken, in order.
    port : int
        Where to listen.
    """
    known = {json.loads(line)["key"] for line in notes.read_text("utf-8").splitlines()} if notes.exists() else set()
    lock = threading.Lock()

    class _Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = self.headers["Idempotency-Key"]
            with lock:
                if key not in known:
                    known.add(key)
                    names = ("incident", "revision", "status", "round_count")
                    line = {"key": key} | {name: document[name] for name in names}
                    with notes.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class _Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True

    _Server(("127.0.0.1", port), _Handler).serve_forever(poll_interval=0.05)


# ------------------------------------------------------------------------------------------------------ the poles


class Poles(threading.Thread):
    """Four poles that say the same number together, and say again what nobody has acknowledged.

    Parameters
    ----------
    mqtt : Mqtt
        The broker.
    """

    def __init__(self, mqtt: Mqtt) -> None:
        super().__init__(daemon=True)
        self.connection = Connection(mqtt, "bench-poles", [topic("ack", name) for name in POLES], reconnect_s=0.1)
        self.kept: dict[tuple[str, int], tuple[Detection, float]] = {}
        self.next_seq = 0
        self.halt = threading.Event()
        self._lock = threading.Lock()

    def say(self) -> None:
        """Hear a sound at every pole."""
        toa_ns = UtcNs(time.time_ns())
        with self._lock:
            seq, self.next_seq = self.next_seq, self.next_seq + 1
            for name in POLES:
                heard = Detection(sensor_id=name, boot_id="b1", seq=seq, toa_ns=toa_ns, toa_sigma_s=1e-3, clock=CLOCK)
                self.kept[name, seq] = (heard, time.monotonic())
                self.connection.publish(heard)

    def run(self) -> None:
        """Listen to acknowledgements and send again, until told to stop."""
        beat_s = 0.0
        with self.connection:
            while not self.halt.is_set():
                for item in self.connection.take(0.05):
                    if isinstance(item.record, Ack):
                        self._forget(item.record)
                if self.connection.connected and time.monotonic() - beat_s > AGAIN_S:
                    beat_s = time.monotonic()
                    self._send_again(beat_s)

    def _forget(self, ack: Ack) -> None:
        with self._lock:
            missing = set(ack.missing)
            for key in [key for key in self.kept if key[0] == ack.sensor_id]:
                if key[1] < ack.next_seq and key[1] not in missing:
                    del self.kept[key]

    def _send_again(self, now_s: float) -> None:
        with self._lock:
            for key, (heard, sent_s) in self.kept.items():
                if now_s - sent_s >= AGAIN_S and self.connection.outgoing_count < 100:
                    self.kept[key] = (heard, now_s)
                    self.connection.publish(heard)
            for name in POLES:
                self.connection.publish(self._beat(name))

    def _beat(self, name: str) -> Heartbeat:
        oldest = min((seq for pole, seq in self.kept if pole == name), default=self.next_seq)
        return Heartbeat(
            sensor_id=name, boot_id="b1", sent_ns=UtcNs(time.time_ns()), uptime_s=1.0, clock=CLOCK, level_db=50.0,
            noise_floor_db=40.0, next_seq=self.next_seq, oldest_seq=oldest, queue_count=len(self.kept),
        )  # fmt: skip


# ------------------------------------------------------------------------------------------------------ the kills


@dataclass(frozen=True)
class Toll:
    """What many kills cost.

    Attributes
    ----------
    kills : collections.Counter
        Part to how often it was killed.
    incidents_count : int
        How many there were.
    lost : list of str
        Incidents that the store, or dispatch, does not have whole.
    doubled : list of str
        Documents or calls that dispatch has twice.
    out_of_order : list of str
        Incidents whose revisions came in another order.
    """

    kills: Counter[str]
    incidents_count: int
    lost: list[str]
    doubled: list[str]
    out_of_order: list[str]


class Town:
    """Hub, broker, peer and store, each of which can be killed and comes back.

    Parameters
    ----------
    folder : pathlib.Path
        For all their files.
    program : str
        Of mosquitto.
    where : pathlib.Path or None
        Of PostgreSQL; None for SQLite, which dies with the hub.
    """

    def __init__(self, folder: Path, program: str, where: Path | None) -> None:
        self.folder = folder
        self.notes = folder / "peer.jsonl"
        self.broker = Broker(folder, program)
        self.cluster = Cluster(where) if where else None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._peer_port = int(probe.getsockname()[1])
        if self.cluster:
            self.cluster.start()
        self.site = self._site()
        (folder / "site.json").write_bytes(msgspec.json.encode(self.site))
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def _site(self) -> SiteConfig:
        cad = Subscriber(
            subscriber_id="cad", url=f"http://127.0.0.1:{self._peer_port}/", max_delay_s=86_400.0, retry_first_s=0.05,
            retry_last_s=0.5,
        )  # fmt: skip
        mqtt = msgspec.structs.replace(self.broker.mqtt, queue_limit_count=10_000)
        store = Store(url=self.cluster.url("agls")) if self.cluster else Store()
        return site(mqtt, subscriber=(cad,), store=store, gathering=Gathering(gap_s=5.0, late_s=3600.0))

    def start(self) -> None:
        """Start everything that is not running."""
        self.broker.start()
        for part in ("peer", "hub"):
            self.spawn(part)

    def kill(self, part: str) -> None:
        """Kill one part, and let it come back at once.

        Parameters
        ----------
        part : str
            One of `PARTS`; the store of SQLite is the hub's own process.
        """
        if part == "broker":
            self.broker.kill()
            self.broker.start()
        elif part == "store" and self.cluster:
            self.cluster.kill()
            self.cluster.start()
        else:
            part = "peer" if part == "peer" else "hub"
            self._running[part].kill()
            self._running[part].wait()
            self.spawn(part)

    def close(self) -> None:
        """End everything."""
        for process in self._running.values():
            process.kill()
            process.wait()
        self.broker.kill()
        if self.cluster:
            self.cluster.close()

    def stop(self, part: str) -> None:
        """End a part in order.

        Parameters
        ----------
        part : str
            ``hub`` or ``peer``.
        """
        self._running[part].terminate()
        self._running[part].wait()

    def spawn(self, part: str) -> None:
        """Start a part that is not running.

        Parameters
        ----------
        part : str
            ``hub`` or ``peer``.
        """
        words = {
            "peer": ["peer", str(self.notes), str(self._peer_port)],
            "hub": ["hub", str(self.folder / "site.json"), str(self.folder / "out")],
        }[part]
        with (self.folder / f"{part}.log").open("ab") as log:
            command = [sys.executable, "-m", "bench.bridge", *words]
            self._running[part] = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
            )

    def told(self) -> list[dict[str, Any]]:
        """Read what dispatch has taken, in order.

        Returns
        -------
        list of dict
            Key, incident, revision, status and rounds of each document.
        """
        if not self.notes.exists():
            return []
        lines = self.notes.read_text("utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


def kill_again_and_again(
    folder: Path, program: str, kills_count: int, seed: int, where: Path | None = None, pause_s: float = 1.0
) -> Toll:
    """Kill parts of a town at random moments while poles speak; then wait until all is told, and count.

    Parameters
    ----------
    folder : pathlib.Path
        For all files.
    program : str
        Of mosquitto.
    kills_count : int
        How often.
    seed : int
        Of what is killed when.
    where : pathlib.Path, optional
        PostgreSQL's programs; without them the store is SQLite.
    pause_s : float, optional
        Longest pause between two kills [s].

    Returns
    -------
    Toll
        What it cost.
    """
    chance, kills = random.Random(seed), Counter[str]()  # noqa: S311
    town = Town(folder, program, where)
    try:
        town.start()
        poles = Poles(town.broker.mqtt)
        poles.start()
        for _ in range(kills_count):
            for _ in range(2):
                poles.say()
                time.sleep(chance.uniform(0, pause_s / 2))
            part = chance.choice(PARTS)
            town.kill(part)
            kills["hub" if part == "store" and not where else part] += 1
        if poles.next_seq % 2:
            poles.say()
        count = poles.next_seq // 2
        _wait(lambda: not poles.kept and _whole(town.told()) >= count)
        poles.halt.set()
        poles.join()
        return _toll(town, kills, count)
    finally:
        town.close()


def _wait(done: Callable[[], bool]) -> None:
    until_s = time.monotonic() + END_S
    while not done() and time.monotonic() < until_s:
        time.sleep(0.2)
    time.sleep(SETTLED_S + 0.5)  # what comes twice may still come


def _whole(told: list[dict[str, Any]]) -> int:
    return len({one["incident"] for one in told if one["round_count"] == 2})


def _toll(town: Town, kills: Counter[str], count: int) -> Toll:
    told = town.told()
    names = [f"I{number:06d}" for number in range(count)]
    by_incident: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in told:
        by_incident[one["incident"]].append(one)
    lost = [name for name in names if not by_incident[name] or by_incident[name][-1]["round_count"] != 2]
    engine = open_store(town.site.store, town.folder / "out", "live")
    book = Book(engine, town.site)
    with engine.connect() as db:
        kept = {row.incident: row.state for row in db.execute(tables.incident.select())}
    lost += [f"{name} (store)" for name in names if name not in kept or book.record(name).latest.round_count != 2]
    engine.dispose()
    keys = Counter(one["key"] for one in told)
    doubled = [key for key, number in keys.items() if number > 1]
    doubled += [
        name for name in names if sum(one["status"] == "open" for one in by_incident[name]) != 1 and by_incident[name]
    ]
    order = [name for name in names if sorted(by_incident[name], key=_revision) != by_incident[name]]
    return Toll(kills, count, lost, doubled, order)


def _revision(one: dict[str, Any]) -> int:
    return int(one["revision"])


# ------------------------------------------------------------------------------------------------------ the rows


def measure(plan: Plan) -> list[Row]:
    """Kill, flood, wait and count.

    Parameters
    ----------
    plan : Plan
        In full a thousand kills and a burst of 100,000; quick a fiftieth and a tenth of it.

    Returns
    -------
    list of Row
        What was lost, doubled or disordered, and how fast.
    """
    program = shutil.which("mosquitto", path=SEARCH)
    if program is None:
        note = "needs the program mosquitto (Debian package mosquitto) in PATH or /usr/sbin"
        return [Row("incidents lost over kills", math.nan, Ask(0, 0), note=note)]
    rows = sixty_rows() + hour_rows(plan) + day_rows(plan) + outage_rows(plan)
    with tempfile.TemporaryDirectory() as folder:
        rows += share_rows(Path(folder), program, plan)
    with tempfile.TemporaryDirectory() as folder:
        rows += burst_rows(Path(folder), program, plan)
    for name, where in (("SQLite", None), ("PostgreSQL", programs())):
        if name == "PostgreSQL" and where is None:
            rows.append(Row("incidents lost over kills, PostgreSQL", math.nan, Ask(0, 0), note="needs PostgreSQL"))
            continue
        with tempfile.TemporaryDirectory() as folder:
            toll = kill_again_and_again(Path(folder), program, plan.draws(500, 10), plan.first_seed, where)
        told = {"kills": dict(toll.kills), "lost": toll.lost[:20], "doubled": toll.doubled[:20]}
        count = toll.kills.total()
        rows += [
            Row(f"incidents lost over kills, {name}", len(toll.lost), Ask(0, 0), count, detail=told),
            Row(f"documents or calls twice at dispatch over kills, {name}", len(toll.doubled), Ask(0, 0), count),
            Row(f"incidents told in another order over kills, {name}", len(toll.out_of_order), Ask(0, 0), count),
        ]
    return rows


def burst_rows(folder: Path, program: str, plan: Plan) -> list[Row]:
    """Queue a burst at the broker while the hub is away, and let the hub drain it.

    Parameters
    ----------
    folder : pathlib.Path
        For all files.
    program : str
        Of mosquitto.
    plan : Plan
        How much.

    Returns
    -------
    list of Row
        How many were lost, and how many a second were taken in.
    """
    count = plan.draws(100_000, 10_000) // len(POLES)
    town = Town(folder, program, None)
    try:
        town.start()
        poles = Poles(msgspec.structs.replace(town.broker.mqtt, queue_limit_count=1_000_000))
        with poles.connection:
            _settle_in(town, poles)
            _flood(poles, 1, count)
            town.spawn("hub")
            began_s, done_s, done = math.nan, math.nan, Counter[str]()
            until_s = time.monotonic() + 600
            while time.monotonic() < until_s and min((done[name] for name in POLES), default=0) < count:
                for item in poles.connection.take(0.1):
                    if isinstance(item.record, Ack) and not item.record.missing:
                        began_s = time.monotonic() if math.isnan(began_s) and item.record.next_seq > 1 else began_s
                        done[item.record.sensor_id] = max(done[item.record.sensor_id], item.record.next_seq)
                        done_s = time.monotonic()
        lost = sum(count - done[name] for name in POLES)
        rate = len(POLES) * count / max(done_s - began_s, 1e-3)
    finally:
        town.close()
    note = "one process: MQTT, journal, dedupe, acknowledgement, store open; locating left out"
    return [
        Row("queued detections lost in a burst", lost, Ask(0, 0), len(POLES) * count),
        Row("detections taken in a second, queued burst", rate, Ask(low=5_000), len(POLES) * count, note=note),
    ]


def _settle_in(town: Town, poles: Poles) -> None:
    """Let the hub subscribe and hear one detection of each pole, so that it is known; then stop it."""
    poles.connection.wait_connected(30.0)
    for name in POLES:
        poles.connection.publish(_clutter(name, 0))
    heard: set[str] = set()
    until_s = time.monotonic() + 60
    while len(heard) < len(POLES) and time.monotonic() < until_s:
        for item in poles.connection.take(0.2):
            heard |= {item.record.sensor_id} if isinstance(item.record, Ack) else set()
        for name in set(POLES) - heard:
            poles.connection.publish(_clutter(name, 0))
    town.stop("hub")


def _flood(poles: Poles, first: int, past: int) -> None:
    for seq in range(first, past):
        for name in POLES:
            poles.connection.publish(_clutter(name, seq))
        while poles.connection.outgoing_count > 5_000:
            time.sleep(0.01)
    while poles.connection.outgoing_count:
        time.sleep(0.05)


def _clutter(name: str, seq: int) -> Detection:
    return Detection(
        sensor_id=name, boot_id="b1", seq=seq, toa_ns=UtcNs(time.time_ns()), toa_sigma_s=1e-3, model=CLUTTER,
        llr={"gunshot": -3.0, "firework": -1.0}, level_db=71.5, snr_db=22.5, clock=CLOCK,
    )  # fmt: skip


def share_rows(folder: Path, program: str, plan: Plan) -> list[Row]:
    """Measure the bridge's share: from a shot located to dispatch having the bytes.

    Parameters
    ----------
    folder : pathlib.Path
        For all files.
    program : str
        Of mosquitto.
    plan : Plan
        How much.

    Returns
    -------
    list of Row
        Median and p99.
    """
    count = plan.draws(400, 40)
    town = Town(folder, program, None)
    try:
        town.start()
        poles = Poles(town.broker.mqtt)
        poles.start()
        poles.connection.wait_connected(30.0)
        for _ in range(2 * count):
            poles.say()
            time.sleep(0.05)
        _wait(lambda: len({one["incident"] for one in town.told()}) >= count)
        poles.halt.set()
        poles.join()
        engine = open_store(town.site.store, folder / "out", "live")
        times: dict[str, dict[str, int]] = defaultdict(dict)
        with engine.connect() as db:
            for row in db.execute(tables.stage.select()):
                times[row.incident][row.stage] = row.at_ns
        engine.dispose()
    finally:
        town.close()
    # The first ones meet a hub that is starting.
    taken_ms = sorted(
        (one["sent"] - one["located"]) / 1e6 for name, one in times.items() if "sent" in one and name > "I000003"
    )
    return [
        Row("located to bytes at dispatch: median [ms]", taken_ms[len(taken_ms) // 2], ANY, len(taken_ms)),
        Row(
            "located to bytes at dispatch: p99 [ms]",
            taken_ms[int(0.99 * len(taken_ms))],
            Ask(high=250.0),
            len(taken_ms),
        ),
    ]


def sixty_rows() -> list[Row]:
    """Fire sixty rounds in ten seconds at a real hub, and count what dispatch is told.

    Returns
    -------
    list of Row
        Messages, and whether the last one says what is so.
    """
    from agls.pipeline import Hub

    place = _nine_sensors()
    hub, out = Hub(place), []
    start_ns = 1_800_000_000 * NS_PER_S
    heard = sorted(
        (
            one
            for number in range(60)
            for one in _bang(place, number, start_ns + number * NS_PER_S // 6, (260.0, 310.0))
        ),
        key=lambda one: one.toa_ns,
    )
    now_ns = start_ns
    for one in heard:
        while now_ns + 50_000_000 < one.toa_ns + 150_000_000:
            now_ns += 50_000_000
            out += hub.advance(now_ns)
        out += hub.feed(one, max(now_ns, one.toa_ns + 150_000_000))
    out += hub.advance(now_ns + 300 * NS_PER_S)
    told = [item for item in out if isinstance(item, CadEvent)]
    incidents = {item.incident: item for item in out if isinstance(item, Incident) and item.state != "withdrawn"}
    last = {item.incident: item for item in told}
    equal = all(last[name].round_count == item.round_count for name, item in incidents.items())
    most = max(Counter(item.incident for item in told).values())
    detail = {"rounds located": max(item.round_count for item in incidents.values()), "incidents": len(incidents)}
    return [
        Row("messages to dispatch about 60 rounds in 10 s", most, Ask(high=4), 60, detail=detail),
        Row("the last message says the last state", float(equal), Ask(1, 1), 60),
    ]


def _nine_sensors() -> SiteConfig:
    sensors = tuple(
        Sensor(sensor_id=f"s{number}", x_m=250.0 * (number % 3), y_m=250.0 * (number // 3), z_m=6.0)
        for number in range(9)
    )
    camera = Camera(camera_id="cam", latitude_deg=40.4405, longitude_deg=-79.9905, height_m=215.0)
    return SiteConfig(name="nine", origin=ORIGIN, sensor=sensors, camera=(camera,))


def _bang(place: SiteConfig, seq: int, fired_ns: int, where_m: tuple[float, float]) -> list[Detection]:
    chance = random.Random(seq)  # noqa: S311
    heard = []
    for sensor in place.sensor:
        far_m = math.dist((*where_m, 1.5), (sensor.x_m or 0.0, sensor.y_m or 0.0, sensor.z_m or 0.0))
        toa_ns = UtcNs(fired_ns + round((far_m / 340.3 + chance.gauss(0, 0.001)) * NS_PER_S))
        heard.append(
            Detection(
                sensor_id=sensor.sensor_id,
                boot_id="b1",
                seq=seq,
                toa_ns=toa_ns,
                toa_sigma_s=1e-3,
                llr={"gunshot": 6.0},
                clock=CLOCK,
            )
        )
    return heard


def outage_rows(plan: Plan) -> list[Row]:
    """Let a real hub take in what poles held back for a day.

    Parameters
    ----------
    plan : Plan
        How much.

    Returns
    -------
    list of Row
        Calls opened, cameras asked, and the share of shots kept as late.
    """
    from agls.pipeline import Hub

    place = _nine_sensors()
    shots_count = plan.draws(20_000, 2_000) // len(place.sensor)
    start_ns = 1_800_000_000 * NS_PER_S
    hub, now_ns, out = Hub(place), start_ns + 86_400 * NS_PER_S, []
    for number in range(shots_count):
        fired_ns = start_ns + number * (80_000 * NS_PER_S // shots_count)
        for one in _bang(place, number, fired_ns, (100.0 + number % 300, 200.0)):
            now_ns += 100_000
            out += hub.feed(msgspec.structs.replace(one, late=True), now_ns)
    out += hub.advance(now_ns + 60 * NS_PER_S)
    late = {item.shot_id for item in out if isinstance(item, Shot) and item.late and item.state == "located"}
    count = shots_count * len(place.sensor)
    return [
        Row("calls opened by a day's old detections", _number(out, CadEvent), Ask(0, 0), count),
        Row("cameras asked by a day's old detections", _number(out, SlewRequest), Ask(0, 0), count),
        Row("shots of them located, kept as late", len(late), ANY, shots_count),
    ]


def _number(out: list[Outbound], kind: type) -> int:
    return sum(isinstance(item, kind) for item in out)


class _VirtualPeer:
    """A receiver in virtual time."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer
        self.keys: list[str] = []

    def send(self, _document: bytes, key: str) -> Any:
        """Take a document, or not."""
        answer = self.answer()
        if answer.outcome == "sent":
            self.keys.append(key)
        return answer

    def close(self) -> None:
        """Do nothing."""


def _said(number: int, at_ns: int, state: str = "probable") -> Any:
    """Say an incident as a hub does at a moment."""
    from agls.bridge.cad.event import cad_event
    from agls.bridge.store.book import Batch

    names = {"incident": f"I{number:06d}", "revision": 0, "x_m": 1.0, "y_m": 2.0, "z_m": 0.0}
    found = {"ellipse": ELLIPSE, "p_gunshot": 0.97, "sensor_count": 4}
    fired_ns = UtcNs(at_ns - NS_PER_S)
    shot = Shot(shot_id=f"S{number:06d}", origin_ns=fired_ns, origin_sigma_s=1e-3, **names, **found)
    incident = Incident(
        state=state, first_shot_ns=fired_ns, last_shot_ns=fired_ns, round_count=1, shot_ids=(shot.shot_id,), **names,
        **found,
    )  # fmt: skip
    return Batch((shot, incident, cad_event(incident, "open", at_ns, "WEAPON")), at_ns, at_ns, {})


def hour_rows(plan: Plan) -> list[Row]:
    """Have 500 incidents in an hour, and a dispatcher who takes twelve seconds for each.

    Parameters
    ----------
    plan : Plan
        Seed.

    Returns
    -------
    list of Row
        How many were lost, and how often possible gunfire was told while probable gunfire waited.
    """
    from agls.bridge import formats
    from agls.bridge.outbox import Courier
    from agls.bridge.sender import Answer

    chance, start_ns = random.Random(plan.first_seed), 1_800_000_000 * NS_PER_S  # noqa: S311
    cad = Subscriber(subscriber_id="cad", url="http://127.0.0.1:9/", max_delay_s=36_000.0)
    with tempfile.TemporaryDirectory() as folder:
        book = Book(open_store(Store(), Path(folder), "live"), site(Mqtt(), subscriber=(cad,)))
        peer = _VirtualPeer(lambda: Answer("sent", "HTTP 200"))
        courier = Courier(book, cad, peer, formats.load("cad")[0])
        is_probable: dict[str, bool] = {}
        behind, done_ns, now_ns = 0, start_ns, start_ns
        for number in range(501):
            now_ns = start_ns + number * 3600 * NS_PER_S // 500
            while done_ns < now_ns or (number == 500 and len(peer.keys) < 500 and done_ns < now_ns + 10**13):
                waiting = [name for name, probable in is_probable.items() if probable and f"{name}.0" not in peer.keys]
                before = len(peer.keys)
                courier.turn(max(now_ns, done_ns))
                behind += any(not is_probable[key[:-2]] for key in peer.keys[before:]) and bool(waiting)
                done_ns += 12 * NS_PER_S
            if number < 500:
                probable = chance.random() < 0.5
                is_probable[f"I{number:06d}"] = probable
                book.enter([_said(number, now_ns, "probable" if probable else "possible")], now_ns)
        book.engine.dispose()
    return [
        Row("of 500 incidents in an hour lost", 500 - len(set(peer.keys)), Ask(0, 0), 500),
        Row("possible gunfire told while probable waited", behind, Ask(0, 0), 500),
    ]


def day_rows(plan: Plan) -> list[Row]:
    """Let dispatch be dead for a day, and come back.

    Parameters
    ----------
    plan : Plan
        How many incidents meanwhile.

    Returns
    -------
    list of Row
        What was not told though it was worth it, out of order, or late for another receiver.
    """
    from agls.bridge import formats
    from agls.bridge.outbox import Courier
    from agls.bridge.sender import Answer
    from agls.bridge.store import queue

    count, hour_ns, start_ns = plan.draws(1_000, 100), 3600 * NS_PER_S, 1_800_000_000 * NS_PER_S
    cad = Subscriber(subscriber_id="cad", url="http://127.0.0.1:9/", max_delay_s=4 * 3600.0)
    rtcc = Subscriber(subscriber_id="rtcc", url="http://127.0.0.1:9/", told="every")
    up_ns, now_ns, waited = start_ns + 24 * hour_ns, start_ns, 0
    with tempfile.TemporaryDirectory() as folder:
        book = Book(open_store(Store(), Path(folder), "live"), site(Mqtt(), subscriber=(cad, rtcc)))
        dead = _VirtualPeer(lambda: Answer("away", "refused") if now_ns < up_ns else Answer("sent", "HTTP 200"))
        well = _VirtualPeer(lambda: Answer("sent", "HTTP 200"))
        document = formats.load("cad")[0]
        couriers = Courier(book, cad, dead, document), Courier(book, rtcc, well, document)
        again_ns = 0
        for number in range(count):
            now_ns = start_ns + number * 24 * hour_ns // count
            book.enter([_said(number, now_ns)], now_ns)
            again_ns = couriers[0].turn(now_ns) if again_ns <= now_ns else again_ns
            couriers[1].turn(now_ns)
            waited += len(well.keys) != number + 1
        now_ns = up_ns
        while again_ns := couriers[0].turn(now_ns):
            now_ns = max(now_ns + 1, again_ns)
        with book.engine.connect() as db:
            letters = queue.letters_of(db, subscriber="cad")
        book.engine.dispose()
    worth = [one.key for one in letters if one.until_ns >= up_ns]
    named = sum(one.state == "dead" and one.answer == "too_late" for one in letters if one.until_ns < up_ns)
    return [
        Row("worth telling after a dead day and not told in order", float(dead.keys != worth), Ask(0, 0), len(worth)),
        Row("too late after a dead day, not dead by name", len(letters) - len(worth) - named, Ask(0, 0), count),
        Row("times that another receiver waited for the dead one", waited, Ask(0, 0), count),
    ]


if __name__ == "__main__":
    if sys.argv[1] == "hub":
        run_hub_alone(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        run_peer_alone(Path(sys.argv[2]), int(sys.argv[3]))
