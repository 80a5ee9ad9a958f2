"""What a node loses when the network is gone for a day and the node is killed again and again; and how soon it speaks.

The outage: a real node shell in a process of its own with its outbox on disk, a real mosquitto, a real hub intake. The
node is killed (SIGKILL) fifty times at random: while all is well, while the broker is gone, while the backlog drains.
The node's clock runs faster in the outage, so that it lasts a day; its wall clock is set back an hour meanwhile. What
the node wrote to disk it notes in another file, after the fact: that is what must be at the hub, each once.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from agls.config import Mqtt, NodeConfig, Sensor, SiteConfig
from agls.intake import Intake
from agls.messages import NS_PER_S, Block, ClockState, Detection, Heartbeat, Label, Rejection, Status, UtcNs
from agls.sensor.card import BLOCK_FRAMES
from agls.sensor.clock import SteadyClock
from agls.sensor.portaudio import CallbackQueue
from agls.transport import HUB_SUBSCRIPTIONS, Connection
from bench.fleet import SEARCH, SETTINGS
from bench.rows import ANY, Ask, Plan, Row, share_row

SENSOR = "pole-1"
DAY_S = 86_400.0
SPEED = 1_000.0  # how much faster the node's clock runs in the outage
HOUR_NS = 3600 * NS_PER_S
BEFORE_SHARE, OUTAGE_SHARE = (
    0.03,
    0.9,
)  # of the detections: made before the outage ends its first part, and when it ends
DRAIN_S = 180.0
RATE_HZ = 48_000
CLOCK = ClockState(mode="simulated", sigma_s=1e-4)
SILENCE, IMPULSE = (Block(np.full(n, 0.1, np.float32), 0, RATE_HZ) for n in (0, 8))
FIELDS = 4  # of a line of the node's notes: name, number, time of arrival, microseconds to disk


def measure(plan: Plan) -> list[Row]:
    """Let a node live through an outage, and another one speak.

    Parameters
    ----------
    plan : Plan
        In full 20,000 detections and 50 kills, and 600 impulses live; quick a tenth of it.

    Returns
    -------
    list of Row
        What was lost and doubled, how soon a detection is on disk and on MQTT.
    """
    program = shutil.which("mosquitto", path=SEARCH)
    if program is None:
        note = "needs the program mosquitto (Debian package mosquitto) in PATH or /usr/sbin"
        return [Row("detections lost", math.nan, Ask(0, 0), note=note)]
    with tempfile.TemporaryDirectory() as folder:
        outage = Outage(Path(folder), program, plan.draws(20_000, 2_000), plan.draws(50, 10), plan.first_seed)
        rows = outage.run()
    with tempfile.TemporaryDirectory() as folder:
        return rows + latency_rows(Path(folder), program, plan.draws(150, 20), plan.first_seed)


class Broker:
    """A mosquitto that comes back where it was.

    Parameters
    ----------
    folder : pathlib.Path
        For its settings.
    program : str
        Its path.
    """

    def __init__(self, folder: Path, program: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._program, self._settings = program, folder / "mosquitto.conf"
        self._settings.write_text(SETTINGS.format(port=self.port), "utf-8")
        self.mqtt = Mqtt(url=f"mqtt://127.0.0.1:{self.port}", queue_limit_count=100_000)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        words = [self._program, "-c", str(self._settings)]
        self._process = subprocess.Popen(words, stderr=subprocess.DEVNULL, start_new_session=True)
        until_s = time.monotonic() + 10.0
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
            except OSError:
                if time.monotonic() > until_s:
                    raise
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process:
            self._process.kill()
            self._process.wait()


class HubEar(threading.Thread):
    """A hub's intake and its acknowledgements, and what came in.

    Parameters
    ----------
    mqtt : Mqtt
        How to reach the broker.
    """

    def __init__(self, mqtt: Mqtt) -> None:
        super().__init__(daemon=True)
        self.connection = Connection(mqtt, "hub", HUB_SUBSCRIPTIONS, reconnect_s=0.2)
        self.intake = Intake(SiteConfig(name="bench", sensor=(Sensor(sensor_id=SENSOR, x_m=0.0, y_m=0.0, z_m=0.0),)))
        self.accepted: list[Detection] = []
        self.early: list[Detection] = []
        self.refused: Counter[str] = Counter()
        self.beat: Heartbeat | None = None
        self.halt = threading.Event()

    def run(self) -> None:
        """Take in and acknowledge until told to stop."""
        with self.connection:
            while not self.halt.is_set():
                for one in self.connection.take(0.02):
                    if isinstance(one.record, Detection | Heartbeat | Status):
                        self._hear(one.record, one.received_ns)
                for ack in self.intake.acks(time.time_ns()):
                    self.connection.publish(ack)

    def _hear(self, record: Detection | Heartbeat | Status, received_ns: int) -> None:
        found = self.intake.feed(record, received_ns)
        if isinstance(found, Rejection):
            self.refused[found.reason] += 1
        elif isinstance(found, Detection):
            (self.accepted if found.stage == "final" else self.early).append(found)
        elif isinstance(found, Heartbeat):
            self.beat = found


class Outage:
    """One node's bad day.

    Parameters
    ----------
    folder : pathlib.Path
        For everything it leaves.
    program : str
        Path of mosquitto.
    count, kills : int
        Detections it makes, and how often it is killed.
    seed : int
        When it is killed.
    """

    def __init__(self, folder: Path, program: str, count: int, kills: int, seed: int) -> None:
        self.folder, self.count, self.kills = folder, count, kills
        self.chance = np.random.default_rng(seed)
        self.broker = Broker(folder, program)
        self.notes = folder / "notes"
        self.notes.touch()
        self.child: subprocess.Popen[bytes] | None = None
        self.killed = 0

    def run(self) -> list[Row]:
        """Go through it.

        Returns
        -------
        list of Row
            What came of it.
        """
        self.broker.start()
        ear = HubEar(self.broker.mqtt)
        ear.start()
        try:
            self._live_until(BEFORE_SHARE, round(0.1 * self.kills))
            self.broker.kill()
            began_ns = time.monotonic_ns()
            (self.folder / "outage").write_text(f"{began_ns}")
            self._live_until(OUTAGE_SHARE, round(0.7 * self.kills))
            time.sleep(max(0.0, DAY_S / SPEED - (time.monotonic_ns() - began_ns) / NS_PER_S))
            ended_ns = time.monotonic_ns()
            (self.folder / "outage").write_text(f"{began_ns} {ended_ns}")
            self.broker.start()
            drained_s = self._drain(ear)
        finally:
            self._kill()
            ear.halt.set()
            ear.join()
            self.broker.kill()
        return self._rows(ear, SPEED * (ended_ns - began_ns) / NS_PER_S / 3600, drained_s)

    def _live_until(self, share: float, kills: int) -> None:
        """Let it make detections, killed at random in between."""
        made, goal = self._made(), round(share * self.count)
        for stop in [*sorted(self.chance.integers(made, goal, kills)), goal]:
            self._revive()
            while self._made() < stop:
                time.sleep(0.002)
            if stop != goal:
                time.sleep(self.chance.uniform(0, 0.02))
                self._kill()

    def _drain(self, ear: HubEar) -> float:
        """Let it send what it holds, killed at random meanwhile; say how long that took [s]."""
        began_s = time.monotonic()
        while self.killed < self.kills:
            self._revive()
            time.sleep(1.0 + self.chance.uniform(0, 1.0))
            self._kill()
        self._revive()
        while time.monotonic() - began_s < DRAIN_S + self.kills:
            beat = ear.beat
            if self._made() >= self.count and beat and beat.queue_count == 0 and beat.next_seq == beat.oldest_seq:
                break
            time.sleep(0.1)
        return time.monotonic() - began_s

    def _revive(self) -> None:
        if self.child is None:
            words = [sys.executable, "-m", "bench.outbox", str(self.folder), self.broker.mqtt.url, str(self.count)]
            self.child = subprocess.Popen(words)

    def _kill(self) -> None:
        if self.child:
            self.child.send_signal(signal.SIGKILL)
            self.child.wait()
            self.child = None
            self.killed += 1

    def _made(self) -> int:
        return self.notes.stat().st_size // LINE_BYTES

    def _rows(self, ear: HubEar, hours: float, drained_s: float) -> list[Row]:
        lines = [line.split() for line in self.notes.read_text().splitlines() if len(line) == LINE_BYTES - 1]
        written = {(line[0], int(line[1])): int(line[2]) for line in lines if len(line) == FIELDS}
        times_ms = sorted(int(line[3]) / 1000 for line in lines)
        came = Counter((one.boot_id, one.seq) for one in ear.accepted)
        sounds = Counter(one.toa_ns for one in ear.accepted)
        strange = sum(written.get((one.boot_id, one.seq), one.toa_ns) != one.toa_ns for one in ear.accepted)
        lost = len(written.keys() - came.keys())
        doubled = sum(n - 1 for n in came.values()) + sum(n - 1 for n in sounds.values())
        detail = {
            "refused at the hub": dict(ear.refused),
            "names": len({boot for boot, _ in came}),
            "late": sum(one.late for one in ear.accepted),
            "unwitnessed": len(came.keys() - written.keys()),
            "lost by the hub's count": ear.intake.lost,
            "told early": len(ear.early),
            "told early and then not judged": ear.intake.unjudged,
        }
        return [
            Row("detections lost", lost, Ask(0, 0), len(written), detail=detail),
            Row("detections doubled", doubled, Ask(0, 0), len(ear.accepted)),
            Row("detections that came as another", strange + len(lines) - len(written), Ask(0, 0), len(lines)),
            Row("hours without a broker, on the node's clock", hours, Ask(low=24.0)),
            Row("kills", self.killed - 1, Ask(low=self.kills)),
            Row("until all were at the hub [s]", drained_s, ANY),
            Row("decided to on disk: median [ms]", quantile(times_ms, 0.5), ANY, len(times_ms)),
            Row("decided to on disk: p99 [ms]", quantile(times_ms, 0.99), Ask(high=50.0), len(times_ms)),
            Row("decided to on disk: longest [ms]", times_ms[-1], ANY, len(times_ms)),
        ]


def quantile(ordered: list[float], share: float) -> float:
    """Give a quantile of ordered figures.

    Parameters
    ----------
    ordered : list of float
        Rising.
    share : float
        Which.

    Returns
    -------
    float
        The figure that so many are at most; not a number of none.
    """
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


# --------------------------------------------------------------------------------------------- the node's process

LINE_BYTES = 80


class _SpokenNode:
    """A pipeline that decides one impulse with every block that is not empty."""

    sensor_id, boot_id = SENSOR, "unused"
    model = type("Model", (), {"name": "none"})
    clock = SteadyClock(start_ns=0, sample_rate_hz=RATE_HZ, state=CLOCK)

    def __init__(self, wall_ns: int) -> None:
        self.counts: Counter[str] = Counter()
        self._wall_ns = wall_ns  # added to the wall clock
        self.seq = 0
        self.toa_ns = 0

    def feed(self, _block: Block) -> list[Detection]:
        """Decide one."""
        self.toa_ns = max(self.toa_ns + 1, time.time_ns() + self._wall_ns)
        self.seq += 1
        llr: dict[Label, float] = {"gunshot": 2.345678901, "firework": -1.234567, "tool": -3.21, "unknown": -0.5}
        return [
            Detection(
                sensor_id=SENSOR,
                boot_id="unused",
                seq=self.seq - 1,
                toa_ns=UtcNs(self.toa_ns),
                toa_sigma_s=1e-4,
                level_db=101.25,
                snr_db=34.5,
                llr=llr,
                model="bench-model-1",
                clock=CLOCK,
            )
        ]

    def finish(self) -> list[Detection]:
        """Decide nothing."""
        return []


def live(folder: Path, url: str, count: int) -> None:
    """Be the node until killed: make detections until there are enough, and send them.

    Parameters
    ----------
    folder : pathlib.Path
        Where outbox and notes are.
    url : str
        The broker.
    count : int
        How many detections there are to be, over all lives.
    """
    from agls.sensor.outbox import Outbox
    from agls.sensor.shell import Around, NodeShell
    from agls.sensor.store import Store

    outage, notes = folder / "outage", folder / "notes"
    # The wall clock goes back an hour when the outage begins.
    node = _SpokenNode(-HOUR_NS if outage.exists() else 0)
    config = NodeConfig(
        sensor_id=SENSOR, mqtt=Mqtt(url=url), heartbeat_s=1.0, outbox_file=str(folder / "outbox.sqlite")
    )
    store = Store(config.outbox_file)
    outbox = Outbox(store, 2 * count)
    shell = NodeShell(config, node, outbox, store, around=Around(clock_ns=lambda: _hurried_ns(outage)))  # type: ignore[arg-type]
    with shell.connection, notes.open("ab", buffering=0) as file:
        # A line that was being written when the node was killed is none.
        file.truncate(notes.stat().st_size // LINE_BYTES * LINE_BYTES)
        while True:
            if notes.stat().st_size >= count * LINE_BYTES:
                shell.hear(SILENCE)
                time.sleep(0.005)
                continue
            seq = outbox.next_seq
            heard = node.feed(IMPULSE)[0]
            early = outbox.number(msgspec.structs.replace(heard, stage="preliminary"))
            if shell.connection.connected:
                shell.connection.publish(early)
            began_ns = time.perf_counter_ns()
            outbox.put(heard, _hurried_ns(outage))
            taken_us = (time.perf_counter_ns() - began_ns) // 1000
            line = f"{outbox.boot_id} {seq} {node.toa_ns} {taken_us}".ljust(LINE_BYTES - 1) + "\n"
            os.write(file.fileno(), line.encode())
            shell.hear(SILENCE)


def _hurried_ns(outage: Path) -> int:
    """Read a clock that only goes forward, and faster while the broker is away."""
    now_ns = time.monotonic_ns()
    try:
        began_ns, *ended_ns = map(int, outage.read_text().split())
    except (OSError, ValueError):
        return now_ns
    return now_ns + round((SPEED - 1) * (min([now_ns, *ended_ns]) - began_ns))


# ---------------------------------------------------------------------------------------------- how soon it speaks


class Street:
    """Bangs over noise, each block handed out when it would have been heard.

    Parameters
    ----------
    duration_s : float
        How long.
    seed : int
        When the bangs are.
    """

    def __init__(self, duration_s: float, seed: int) -> None:
        chance = np.random.default_rng(seed)
        self.samples = 1e-3 * chance.standard_normal(round(duration_s * RATE_HZ)).astype(np.float32)
        length = round(0.004 * RATE_HZ)
        shape = np.exp(-np.arange(length) / (0.001 * RATE_HZ))
        moments_s = np.arange(1.0, duration_s - 1.0, 0.25) + chance.uniform(
            0, 0.15, len(np.arange(1.0, duration_s - 1.0, 0.25))
        )
        for moment_s in moments_s:
            first = round(moment_s * RATE_HZ)
            self.samples[first : first + length] += (0.5 * chance.standard_normal(length) * shape).astype(np.float32)
        self.count = len(moments_s)
        self.clock = SteadyClock(time.time_ns() + NS_PER_S, RATE_HZ, CLOCK)

    def blocks(self) -> Iterator[Block]:
        """Hand over what is heard, in time, as a card does: its callbacks wait to be heard a few at a time.

        Yields
        ------
        Block
            What one callback was given.
        """
        waiting = CallbackQueue(float(RATE_HZ), BLOCK_FRAMES, 1)
        threading.Thread(target=self._call, args=(waiting,), daemon=True).start()
        first = 0
        for callback in waiting:
            if callback.frames.size:
                yield Block(callback.frames[:, 0], first_index=first, sample_rate_hz=RATE_HZ)
            first += callback.frames.size
            if first >= self.samples.size:
                return

    def _call(self, waiting: CallbackQueue) -> None:
        """Do what PortAudio's thread does."""
        for first in range(0, self.samples.size, BLOCK_FRAMES):
            samples = self.samples[first : first + BLOCK_FRAMES]
            time.sleep(max(0.0, (self.clock.utc_ns(first + samples.size) - time.time_ns()) / NS_PER_S))
            waiting.put(samples[:, None], time.monotonic(), overflow=False)

    def close(self) -> None:
        """Do nothing."""


def latency_rows(folder: Path, program: str, duration_s: float, seed: int) -> list[Row]:
    """Measure from the sound at the microphone to the listener at the broker.

    Parameters
    ----------
    folder : pathlib.Path
        For outbox and broker.
    program : str
        Path of mosquitto.
    duration_s : float
        How long to listen; four impulses a second.
    seed : int
        When they sound.

    Returns
    -------
    list of Row
        Quantiles of preliminary and final detections.
    """
    from agls.sensor.shell import run_node

    broker = Broker(folder, program)
    broker.start()
    config = NodeConfig(sensor_id=SENSOR, mqtt=broker.mqtt, outbox_file=str(folder / "outbox.sqlite"))
    taken_s: dict[str, dict[int, float]] = {"preliminary": {}, "final": {}}
    try:
        with Connection(broker.mqtt, "listener", HUB_SUBSCRIPTIONS) as listener:
            listener.wait_connected(10.0)
            street, stop = Street(duration_s, seed), threading.Event()
            node = threading.Thread(target=run_node, args=(config, street, stop))
            node.start()
            until_s = time.monotonic() + duration_s + 3.0
            while time.monotonic() < until_s:
                for one in listener.take(0.05):
                    if isinstance(one.record, Detection):
                        # Nobody acknowledges here, so the oldest come again.
                        after_s = (one.received_ns - one.record.toa_ns) / NS_PER_S
                        taken_s[one.record.stage].setdefault(one.record.seq, after_s)
            stop.set()
            node.join()
    finally:
        broker.kill()
    rows = []
    for stage, limit_ms in (("preliminary", 150.0), ("final", 700.0)):
        ordered = sorted(1e3 * one for one in taken_s[stage].values())
        note = "" if ordered else "the pipeline tells no preliminary detections"
        rows.append(Row(f"onset to MQTT, {stage}: median [ms]", quantile(ordered, 0.5), ANY, len(ordered)))
        rows.append(
            Row(
                f"onset to MQTT, {stage}: p99 [ms]",
                quantile(ordered, 0.99),
                Ask(high=limit_ms),
                len(ordered),
                note=note,
            )
        )
    return [share_row("impulses told", min(len(taken_s["final"]), street.count), street.count), *rows]


if __name__ == "__main__":
    live(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
