"""A running node: what it weighs, how soon it hears, what quiet costs, a week of it, and how soon deafness is noticed.

Memory, start and quiet are those of a process of its own that runs a node as ``agls sensor run`` does: outbox on disk,
a real broker, PortAudio loaded. Its card hands over quiet seconds of the simulated city, rendered beforehand, so that
what is measured is the node and not the simulator. Processor time is all that the process used, over the time that
passed.

A week is sampled: the first minute of each of its 168 hours goes through the whole node, with a shot in it; between
them the card is gone, and is opened again. Memory is compared after each day. (A week of the clock alone, without a
break, is in the group ``timing``.)

Deafness is measured with a card that is pulled out and put back at chance moments, in virtual time, from the moment it
is pulled to the moment the node says so, and from the moment it is back to the first sample heard; and, where
PulseAudio is installed, through real PortAudio and a null sink that is taken away.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from agls.config import Microphone, Mqtt, NodeConfig
from agls.messages import NS_PER_S, Block
from agls.sensor.card import BLOCK_FRAMES, CardSource, Delivered
from agls.sensor.portaudio import CallbackQueue
from bench.rows import PROJECT, Ask, Plan, Row

RATE_HZ = 48_000
QUIET_S, LOOP_S = 60, 10  # as rendered, and as played again and again where memory counts
HOURS_COUNT, MINUTE_S = 168, 60.0
GONE_S, TURN_S = 1.0, 0.25  # as PortAudio takes to believe that a card is gone
READY_S = 30.0
Sound = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Handed:
    """What a callback hands over."""

    frames: Sound
    monotonic_ns: int
    wall_ns: int
    adc_s: float
    overflow: bool = False


@dataclass(frozen=True, slots=True)
class Followed:
    """What a computer says of its clock that follows a pulse."""

    source: str = "pps"
    sigma_s: float = 1e-6
    pulse_age_s: float = 0.5
    against_ntp_s: float = 0.001


class QuietStream:
    """A card that plays the same sound again and again, as fast as it lasts.

    Parameters
    ----------
    sound : numpy.ndarray, shape (frames,), float32
        The sound.
    paced : bool, optional
        Whether callbacks come when they are due, in a thread of their own as PortAudio's do; else only what they are
        told is as if they had.
    """

    def __init__(self, sound: Sound, paced: bool = True) -> None:
        self._sound, self._paced = sound, paced

    def __iter__(self) -> Iterator[Delivered]:
        """Hand over callbacks."""
        if not self._paced:
            yield from self._at_once()
            return
        waiting = CallbackQueue(float(RATE_HZ), BLOCK_FRAMES, 1)
        threading.Thread(target=self._call, args=(waiting,), daemon=True).start()
        yield from waiting

    def _call(self, waiting: CallbackQueue) -> None:
        """Do what PortAudio's thread does."""
        begun_s = time.monotonic()
        for number in itertools.count():
            due_s = begun_s + (number + 1) * BLOCK_FRAMES / RATE_HZ
            time.sleep(max(0.0, due_s - time.monotonic()))
            waiting.put(self._frames(number), due_s, overflow=False)

    def _at_once(self) -> Iterator[Handed]:
        begun_s = time.monotonic()
        ahead_ns = time.time_ns() - time.monotonic_ns()
        for number in itertools.count():
            due_s = begun_s + (number + 1) * BLOCK_FRAMES / RATE_HZ
            now_ns = round(due_s * NS_PER_S)
            yield Handed(self._frames(number).copy(), now_ns, now_ns + ahead_ns, due_s)

    def _frames(self, number: int) -> Sound:
        first = number % (self._sound.size // BLOCK_FRAMES) * BLOCK_FRAMES
        return self._sound[first : first + BLOCK_FRAMES, None]

    def sync(self) -> Any:
        """Ask the computer about its clock.

        Returns
        -------
        Followed
            That it follows a pulse.
        """
        return Followed()


# ------------------------------------------------------------------------------------------ a node in its own process


def child(node: Path, sound: Path) -> None:
    """Run a node until it is told to stop: what the measured process does.

    Parameters
    ----------
    node : pathlib.Path
        Its file.
    sound : pathlib.Path
        What its card plays, as numpy wrote it.
    """
    from agls.commands import stop_on_signal
    from agls.config import load_node
    from agls.errors import InputError
    from agls.sensor.portaudio import load
    from agls.sensor.shell import run_node

    try:
        load()
    except InputError:
        print("without PortAudio", file=sys.stderr)
    played = np.load(sound, mmap_mode="r")
    source = CardSource(lambda: QuietStream(played), float(RATE_HZ))
    with stop_on_signal() as stop:
        run_node(load_node(node), source, stop)


def work_share(sound: Path, seconds: float, folder: Path) -> float:
    """Hear quiet as fast as it goes: what a node's work alone takes of the time that the sound lasts.

    Parameters
    ----------
    sound : pathlib.Path
        What its card plays.
    seconds : float
        How much of it.
    folder : pathlib.Path
        For the outbox.

    Returns
    -------
    float
        Share of one core.
    """
    from agls.sensor.shell import node_shell

    played = np.load(sound)
    source = CardSource(lambda: QuietStream(played, paced=False), float(RATE_HZ))
    config = NodeConfig(sensor_id="bench", mqtt=Mqtt(url="mqtt://127.0.0.1:1"), outbox_file=str(folder / "o.sqlite"))
    with node_shell(config, source) as shell:
        for block in source.blocks():
            if block.first_index == 0:
                begun_s = time.thread_time()
            shell.hear(block)
            if block.first_index > seconds * RATE_HZ:
                break
        return (time.thread_time() - begun_s) / seconds


class Running:
    """A node in a process of its own, and what it tells who started it.

    Parameters
    ----------
    folder : pathlib.Path
        For its file, outbox and socket.
    mqtt : Mqtt
        The broker.
    sound : pathlib.Path
        What its card plays.
    """

    def __init__(self, folder: Path, mqtt: Mqtt, sound: Path) -> None:
        from agls.example import example

        config = NodeConfig(
            sensor_id="bench", microphone=Microphone(device="quiet"), mqtt=mqtt, outbox_file=str(folder / "o.sqlite")
        )
        (folder / "node.toml").write_text(example(NodeConfig, config), "utf-8")
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._line.bind(str(folder / "notify"))
        self._line.settimeout(READY_S)
        environment = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify"), "OPENBLAS_NUM_THREADS": "1"}
        words = [sys.executable, "-m", "bench.node", str(folder / "node.toml"), str(sound)]
        self.started_s = time.monotonic()
        self._process = subprocess.Popen(words, cwd=PROJECT, env=environment)

    def until(self, begin: str) -> float:
        """Wait until the node says something.

        Parameters
        ----------
        begin : str
            How what it says begins.

        Returns
        -------
        float
            How long since the start [s].
        """
        while not self._line.recv(4096).decode().startswith(begin):
            pass
        return time.monotonic() - self.started_s

    def memory_mib(self, kind: str = "VmRSS") -> float:
        """Say what the process weighs.

        Parameters
        ----------
        kind : str, optional
            ``VmRSS`` for now, ``VmHWM`` for the most ever.

        Returns
        -------
        float
            MiB.
        """
        return _memory_mib(self._process.pid, kind)

    def used_s(self) -> float:
        """Say what processor time it used.

        Returns
        -------
        float
            Of all its threads [s].
        """
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(READY_S)
        self._line.close()


def _memory_mib(process: int | str, kind: str = "VmRSS") -> float:
    text = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(kind)) / 1024


def quiet_sound() -> Sound:
    """Render what a sensor of the simulated city hears while nothing bangs.

    Returns
    -------
    numpy.ndarray, shape (frames,), float32
        A minute.
    """
    from firmware_sim.device import HALF_RANGE, Recorder
    from firmware_sim.scene import DEMO_SCENE, load_scene

    scene = msgspec.structs.replace(load_scene(DEMO_SCENE), shooter=(), bang=())
    heard = Recorder(scene, scene.sensor[0], repeats=True).samples(0, QUIET_S * RATE_HZ)
    return heard.astype(np.float32) / np.float32(HALF_RANGE)


def _measure_process(plan: Plan) -> list[Row]:
    from agls.broker import EmbeddedBroker

    listened_s, starts = plan.draws(120, 20), []
    with tempfile.TemporaryDirectory() as name, EmbeddedBroker(Path(name)) as broker:
        sound = Path(name) / "quiet.npy"
        np.save(sound, quiet_sound()[: LOOP_S * RATE_HZ])
        for number in range(plan.draws(10, 3)):
            folder = Path(name) / str(number)
            folder.mkdir()
            node = Running(folder, broker.mqtt, sound)
            starts.append(node.until("STATUS=hears"))
            if number == 0:
                known_s = node.until("STATUS=hears; times by")
                before_s, begun_s = node.used_s(), time.monotonic()
                time.sleep(listened_s)
                share = (node.used_s() - before_s) / (time.monotonic() - begun_s)
                memory_mib, most_mib = node.memory_mib(), node.memory_mib("VmHWM")
            node.stop()
        words = [sys.executable, "-m", "bench.node", "--work", str(sound), str(plan.draws(600, 100)), name]
        work = float(subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout)
    busy = f"others kept {os.getloadavg()[0]:.0f} processes waiting for {os.cpu_count()} cores meanwhile"
    seconds = f"over {listened_s} s of a quiet street at 48 kHz, with a heartbeat each 15 s"
    return [
        Row("memory of a running node [MiB]", memory_mib, Ask(high=80), 1, detail={"most": most_mib}, note=seconds),
        Row("start to capturing, worst [s]", max(starts), Ask(high=2), len(starts), detail={"all": sorted(starts)}),
        Row("quiet, share of one core [%]", 100 * share, Ask(high=1), 1, note=f"{seconds}; {busy}"),
        Row(
            "quiet, the work alone, as fast as it goes [% of one core]",
            100 * work,
            Ask(high=1),
            1,
            note="without waking up, which costs as much as the work where caches are others' by then",
        ),
        Row("start to times, in the real time of this machine [s]", known_s, Ask(high=12), 1),
    ]


# ------------------------------------------------------------------------------------------------ trustworthy times


def _measure_convergence(plan: Plan) -> list[Row]:
    """Start devices and wait for the first time, in simulated time."""
    from bench.timing import hear, scene_of

    rows = []
    for way, most_s in (("PPS in audio", 8.0), ("I2S", 8.0), ("USB", 12.0)):
        known_s = [hear(scene_of(way, seed), 100.0, 20.0).known_s for seed in plan.seeds(40, 6)]
        rows.append(Row(f"{way}: start to trustworthy times, worst [s]", max(known_s), Ask(high=most_s), len(known_s)))
    return rows


# ------------------------------------------------------------------------------------------------------ virtual time


class Pole:
    """A whole node in virtual time, its card simulated: waiting takes none.

    Parameters
    ----------
    scene : firmware_sim.scene.Scene
        The device and what goes wrong.
    sound : numpy.ndarray, shape (frames,), float32
        What the card plays.
    plugged : callable
        Whether the card is there at a time [s], and until when.
    folder : pathlib.Path
        For the outbox.
    """

    def __init__(self, scene: Any, sound: Sound, plugged: Callable[[float], tuple[bool, float]], folder: Path) -> None:
        from agls.classify.model import load_model
        from agls.pipeline import Node
        from agls.sensor.outbox import Outbox
        from agls.sensor.shell import Around, NodeShell
        from agls.sensor.store import Store

        self.now_s, self._at, self._scene, self._sound, self._plugged = 0.0, 0, scene, sound, plugged
        self.stamps_s: list[tuple[float, float]] = []
        config = NodeConfig(sensor_id="pole", outbox_file=str(folder / "outbox.sqlite"), heartbeat_s=15.0)
        self.source = CardSource(self._open, float(RATE_HZ), BLOCK_FRAMES, pause=self._wait)
        self.store = Store(config.outbox_file)
        outbox = Outbox(self.store, config.outbox_limit_count)
        self.node = Node(config, self.source.clock, load_model(), outbox.boot_id)
        self.told: list[tuple[float, str]] = []
        around = Around(
            trouble=lambda: self.source.trouble,
            supervisor=self,  # type: ignore[arg-type]
            clock_ns=lambda: round(self.now_s * NS_PER_S),
        )
        self.shell = NodeShell(config, self.node, outbox, self.store, around=around)

    def tell(self, *lines: str) -> None:
        """Note what the node says of itself.

        Parameters
        ----------
        *lines : str
            As to systemd.
        """
        self.told += [(self.now_s, line.partition("STATUS=")[2]) for line in lines]

    def alive(self, now_ns: int) -> None:
        """Hear that samples advance.

        Parameters
        ----------
        now_ns : int
            When.
        """

    def _wait(self, pause_s: float) -> None:
        self.now_s += pause_s

    def _open(self) -> Pole:
        is_there, self._until_s = self._plugged(self.now_s)
        if not is_there:
            raise OSError("there is no card")
        from bench.timing import EAR, START_NS
        from firmware_sim.delivery import open_stream

        self.stream = open_stream(self._scene, EAR, START_NS, self.now_s, audio=False)
        self.opened_index = self._next_index
        return self

    _next_index = opened_index = 0

    def __iter__(self) -> Iterator[Handed]:
        """Hand over callbacks while the card is there, and nothing for a while when it is gone."""
        for callback in self.stream:
            if self.stream.now_s >= self._until_s:
                break
            self.now_s = self.stream.now_s
            self._at = (self._at + BLOCK_FRAMES) % (self._sound.size - BLOCK_FRAMES)
            frames = self._sound[self._at : self._at + BLOCK_FRAMES, None]
            yield Handed(frames, callback.monotonic_ns, callback.wall_ns, callback.adc_s)
        self.now_s = max(self.now_s, self._until_s)
        for _ in range(round(GONE_S / TURN_S)):
            self.now_s += TURN_S
            yield Handed(self._sound[:0, None], round(self.now_s * NS_PER_S), 0, 0.0)

    def sync(self) -> Any:
        """Ask the computer about its clock.

        Returns
        -------
        firmware_sim.clock.Sync
            What it states.
        """
        return self.stream.sync()

    def blocks(self, until_s: float) -> Iterator[Block]:
        """Let the node hear until a time.

        Parameters
        ----------
        until_s : float
            Virtual time [s].

        Yields
        ------
        Block
            What it heard.
        """
        for block in self.source.blocks():
            if block.samples.size:
                self._next_index = block.first_index + block.samples.size
            self.shell.hear(block)
            yield block
            if self.now_s >= until_s:
                return

    def error_s(self) -> float:
        """Say how far off the time of a sample is that was heard just now.

        Returns
        -------
        float
            Its time less the truth [s]; not a number while no time is told.
        """
        index = self._next_index - RATE_HZ // 2
        if index < self.opened_index or self.source.clock.known(index) != "yes":
            return math.nan
        return (self.source.clock.utc_ns(index) - self.stream.true_ns(index - self.opened_index)) / NS_PER_S


def week_child(seed: int, hours_count: int, folder: Path) -> dict[str, Any]:
    """Hear the first minute of each hour of a week, and look at memory and times at the end of each.

    Parameters
    ----------
    seed : int
        Which device.
    hours_count : int
        How many hours.
    folder : pathlib.Path
        For the outbox.

    Returns
    -------
    dict
        Memory after each hour [MiB], error at its end [s], and what was counted.
    """
    from bench.timing import scene_of

    sound = quiet_sound()
    shot = round(RATE_HZ * 30.5)
    sound[shot : shot + 200] += 0.5 * np.exp(-np.arange(200) / 40, dtype=np.float32)

    def _plugged(now_s: float) -> tuple[bool, float]:
        begin_s = 3_600.0 * math.floor(now_s / 3_600.0)
        return now_s < begin_s + MINUTE_S, begin_s + MINUTE_S

    pole = Pole(scene_of("I2S", seed), sound, _plugged, folder)
    memory_mib, error_s = [], []
    for hour in range(hours_count):
        pole.now_s = 3_600.0 * hour
        for _ in pole.blocks(3_600.0 * hour + MINUTE_S - 0.1):
            pass
        error_s.append(pole.error_s())
        memory_mib.append(_memory_mib("self"))
        for _ in pole.blocks(3_600.0 * hour + MINUTE_S + 3.0):  # it is noticed that the card is gone
            pass
    pole.store.close()
    return {"memory_mib": memory_mib, "error_s": error_s, "counts": dict(pole.shell.counts)}


def _measure_week(plan: Plan) -> list[Row]:
    hours_count = plan.draws(HOURS_COUNT, 24)
    with tempfile.TemporaryDirectory() as name:
        words = [sys.executable, "-m", "bench.node", "--week", str(plan.first_seed), str(hours_count), name]
        ended = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True)
    found = json.loads(ended.stdout)
    memory_mib, error_s = np.array(found["memory_mib"]), np.array(found["error_s"])
    day = max(1, hours_count // 7)
    sampled = f"sampled: the first minute of each of {hours_count} hours, the card opened anew for each"
    drift_us = 1e6 * abs(float(np.median(error_s[-day:]) - np.median(error_s[:day])))
    return [
        Row(
            "7 days: memory after the last day over that after the first [MiB]",
            float(memory_mib[-day:].max() - memory_mib[:day].max()),
            Ask(high=2),
            hours_count,
            detail={"first_mib": float(memory_mib[0]), "last_mib": float(memory_mib[-1]), "counts": found["counts"]},
            note=sampled,
        ),
        Row("7 days: times of the last day against the first [us]", drift_us, Ask(high=50), hours_count, note=sampled),
    ]


def _measure_deaf(plan: Plan) -> list[Row]:
    from bench.timing import scene_of

    noticed_s, recovered_s = [], []
    sound = quiet_sound()[: 10 * RATE_HZ]
    for seed in plan.seeds(100, 10):
        chance = np.random.default_rng([seed, 11])
        out_s = float(chance.uniform(3, 8))
        back_s = out_s + float(chance.uniform(3, 60))

        def _plugged(now_s: float, out_s: float = out_s, back_s: float = back_s) -> tuple[bool, float]:
            return not out_s <= now_s < back_s, out_s if now_s < out_s else math.inf

        with tempfile.TemporaryDirectory() as name:
            pole = Pole(scene_of("USB", seed), sound, _plugged, Path(name))
            with closing(pole.store):
                heard_s = [pole.now_s for block in pole.blocks(back_s + 15) if block.samples.size]
        noticed_s.append(next((at_s for at_s, said in pole.told if said.startswith("deaf")), math.inf) - out_s)
        recovered_s.append(min((at_s for at_s in heard_s if at_s >= back_s), default=math.inf) - back_s)
    return [
        Row("deaf: noticed, simulated card, worst [s]", max(noticed_s), Ask(high=2), len(noticed_s)),
        Row(
            "deaf: heard again after replug, simulated card, worst [s]", max(recovered_s), Ask(high=10), len(noticed_s)
        ),
    ]


def _note(lines: Iterable[str], told: queue.SimpleQueue[tuple[float, str]]) -> None:
    for line in lines:
        told.put((time.monotonic(), line))


def _measure_sink(plan: Plan) -> list[Row]:
    """Take a null sink away from under real PortAudio, and give it back."""
    figures = ("deaf: noticed, PulseAudio null sink, worst [s]", "deaf: heard again, PulseAudio null sink, worst [s]")
    asks = (Ask(high=2), Ask(high=10))
    if not all(shutil.which(name) for name in ("pulseaudio", "pactl", "pacat")):
        note = "PulseAudio is not installed"
        return [Row(figure, math.nan, ask, note=note) for figure, ask in zip(figures, asks, strict=True)]
    from tests.sensor.test_portaudio import LISTENER, Server

    noticed_s, recovered_s, counts = [], [], Counter[str]()
    for _ in range(plan.draws(5, 1)):
        with tempfile.TemporaryDirectory() as name:
            server = Server(Path(name))
            try:
                server.plug()
                listener = server.start(sys.executable, "-c", LISTENER)
                told: queue.SimpleQueue[tuple[float, str]] = queue.SimpleQueue()
                reader = threading.Thread(target=_note, args=(listener.stdout or (), told))
                reader.start()
                while not told.get(timeout=READY_S)[1].startswith("hears"):
                    pass
                time.sleep(1.0)
                begun_s = time.monotonic()
                server.unplug()
                at_s, said = told.get(timeout=READY_S)
                noticed_s.append(at_s - begun_s)
                counts[said.split()[0]] += 1
                time.sleep(3.0)
                begun_s = time.monotonic()
                server.plug()
                at_s, said = told.get(timeout=READY_S)
                recovered_s.append(at_s - begun_s)
                counts[said.split()[0]] += 1
            finally:
                server.stop()
            reader.join(READY_S)
    note = "from the command that takes the sink away, and from the one that brings it back"
    return [
        Row(figure, max(some), ask, len(some), detail=dict(counts), note=note)
        for figure, some, ask in zip(figures, (noticed_s, recovered_s), asks, strict=True)
    ]


def measure(plan: Plan) -> list[Row]:
    """Measure a running node.

    Parameters
    ----------
    plan : Plan
        How much.

    Returns
    -------
    list of Row
        Memory, start, quiet, convergence, a week, deafness.
    """
    logging.getLogger("agls").setLevel(logging.ERROR)  # that they are deaf is what is measured
    return [
        *_measure_process(plan),
        *_measure_convergence(plan),
        *_measure_week(plan),
        *_measure_deaf(plan),
        *_measure_sink(plan),
    ]


if __name__ == "__main__":
    if sys.argv[1] == "--work":
        print(work_share(Path(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])))
    elif sys.argv[1] == "--week":
        print(json.dumps(week_child(int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))))
    else:
        child(Path(sys.argv[1]), Path(sys.argv[2]))
