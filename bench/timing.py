"""The sample clock: how far a node's times are off by its own doing, whether its sigma is true, and how soon it knows.

Callbacks are simulated (`firmware_sim.delivery`) as a card and a busy computer give them, and heard through the node's
own code (`agls.sensor.card`). The device's constant is removed as ``agls calibrate clock`` removes it: three starts
with a pulse each second, of whose latency the mean is taken off; the starts that are scored are others. Moments are
scored a second apart, half a second after they were heard, as detections are stamped. Draws of one start are alike, so
intervals are drawn over starts.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from agls.config import Origin
from agls.messages import NS_PER_S
from agls.sensor.card import BLOCK_FRAMES, CardSource
from bench.rows import ANY, Ask, Plan, Row, bootstrap, spread
from calibration.clock import Run, find_latency
from firmware_sim.card import Card
from firmware_sim.delivery import Stream, open_stream
from firmware_sim.faults import AnyFault, GpsLoss, Heat
from firmware_sim.scene import Device, Ear, Scene

Floats = NDArray[np.float64]

RATE_HZ = 48_000
START_NS = 1_800_000_000_250_000_000
EAR = Ear(sensor_id="pole", x_m=0.0, y_m=0.0)
CALIBRATED_S, STARTS_S, SCORED_FROM_S = 60.0, (100.0, 400.0, 700.0), 1_000.0
STAMPED_AFTER_S = 0.45  # a detection is stamped when so much has been heard after its onset
CONVERGED_S = 30.0
HOLD_PPM = 0.1  # one sigma: by how much a clock that ran by pulses is off when they are gone
HONEST = Ask(0.90, 0.97)
WAYS: dict[str, dict[str, Any]] = {
    "PPS in audio": {"delivery": "usb", "sync": "pps_audio"},
    "I2S": {"delivery": "i2s", "sync": "pps_chrony"},
    "USB": {"delivery": "usb", "sync": "pps_chrony"},
    "NTP": {"delivery": "usb", "sync": "ntp"},
    "free": {"delivery": "usb", "sync": "free"},
}


@dataclass(frozen=True)
class Task:
    """One start of one device.

    Attributes
    ----------
    way : str
        One of `WAYS`.
    seed : int
        Which device.
    kind : str
        What goes wrong: ``plain``, ``heat``, ``loss``.
    duration_s : float
        How long it is heard [s].
    """

    way: str
    seed: int
    kind: str = "plain"
    duration_s: float = 240.0


@dataclass
class Heard:
    """What a start came to.

    Attributes
    ----------
    at_s, error_s, sigma_s : list of float
        When since the start, how far off, and what was said of that [s].
    modes : list of str
        How the node knew the time.
    known_s : float
        When the first time was told, since the start [s].
    """

    at_s: list[float] = field(default_factory=list)
    error_s: list[float] = field(default_factory=list)
    sigma_s: list[float] = field(default_factory=list)
    modes: list[str] = field(default_factory=list)
    known_s: float = math.inf


def scene_of(way: str, seed: int, faults: Sequence[AnyFault] = (), block_frames: int = BLOCK_FRAMES) -> Scene:
    """Make the scene of one device.

    Parameters
    ----------
    way : str
        One of `WAYS`.
    seed : int
        Which device.
    faults : sequence of AnyFault, optional
        What goes wrong.
    block_frames : int, optional
        Samples of a callback.

    Returns
    -------
    Scene
        Of a month.
    """
    return Scene(
        name="timing",
        seed=seed,
        duration_s=30 * 86_400.0,
        origin=Origin(latitude_deg=0.0, longitude_deg=0.0),
        sensor=(EAR,),
        device=Device(sample_rate_hz=RATE_HZ),
        card=msgspec.convert({**WAYS[way], "block_frames": block_frames}, Card),
        fault=tuple(faults),
    )


def hear(scene: Scene, opened_s: float, duration_s: float) -> Heard:
    """Hear one start of a device as a node does, and compare each second with the truth.

    Parameters
    ----------
    scene : Scene
        The device.
    opened_s : float
        When it is started, since the scene began [s].
    duration_s : float
        How long it is heard [s].

    Returns
    -------
    Heard
        Errors include the device's constant.
    """
    streams: list[Stream] = []

    def _open() -> Stream:
        streams.append(open_stream(scene, EAR, START_NS, opened_s, audio=False))
        return streams[-1]

    pulse_channel = 2 if scene.card.sync == "pps_audio" else 0
    source = CardSource(_open, RATE_HZ, scene.card.block_frames, pulse_channel, watch_still=False)
    heard, next_s = Heard(), 1.0
    for block in source.blocks():
        since_s = streams[0].now_s - opened_s
        if since_s > duration_s:
            source.close()
        if since_s < next_s:
            continue
        next_s += 1.0
        index = block.first_index + block.samples.size - STAMPED_AFTER_S * RATE_HZ
        if index < 0 or source.clock.known(index) != "yes":
            continue
        heard.known_s = min(heard.known_s, since_s)
        state = source.clock.state_at(index)
        heard.at_s.append(since_s)
        heard.error_s.append((source.clock.utc_ns(index) - streams[0].true_ns(index)) / NS_PER_S)
        heard.sigma_s.append(state.sigma_s)
        heard.modes.append(state.mode)
    return heard


def constant(task: Task) -> float:
    """Find a device's constant as ``agls calibrate clock`` does.

    Parameters
    ----------
    task : Task
        The device; one with network time alone is calibrated where there are pulses.

    Returns
    -------
    float
        Latency [s]. How much starts differ is left out of what is scored: the clock's own sigma must hold it.
    """
    way = task.way if task.way in ("PPS in audio", "I2S") else "USB"
    runs = []
    for opened_s in STARTS_S:
        heard = hear(scene_of(way, task.seed), opened_s, CALIBRATED_S)
        runs.append(Run("start", np.array(heard.at_s), np.array(heard.error_s), CALIBRATED_S / 2))
    return find_latency(runs).latency_s


def measured(task: Task) -> Heard:
    """Hear one start with the constant removed.

    Parameters
    ----------
    task : Task
        Which.

    Returns
    -------
    Heard
        With the sigma that the clock tells.
    """
    random = np.random.default_rng([task.seed, 7])
    faults: list[AnyFault] = []
    begin_s = SCORED_FROM_S + random.uniform(0, 3_000)
    if task.kind in ("heat", "loss"):
        rate_ppm, lag_s = float(random.choice([-6.0, 6.0])), float(random.uniform(60, 180))
        faults.append(Heat(start_s=begin_s + 60, end_s=begin_s + 200, rate_ppm=rate_ppm, lag_s=lag_s))
    if task.kind == "loss":
        drift_ppm = float(random.normal(0, HOLD_PPM))
        faults.append(GpsLoss(start_s=begin_s + 90, end_s=begin_s + 210, drift_ppm=drift_ppm))
    latency_s = constant(task)
    heard = hear(scene_of(task.way, task.seed, faults), begin_s, task.duration_s)
    heard.error_s = [error_s - latency_s for error_s in heard.error_s]
    return heard


def _converged(one: Heard) -> Floats:
    """Take errors and sigmas of a start once it is converged, shape (n, 2)."""
    chosen = [
        (error_s, sigma_s)
        for at_s, error_s, sigma_s in zip(one.at_s, one.error_s, one.sigma_s, strict=True)
        if at_s >= CONVERGED_S
    ]
    return np.array(chosen)


def _within(starts: Sequence[Floats]) -> list[float]:
    """Say of each start what share of errors is within 2 sigma."""
    return [float(np.mean(np.abs(one[:, 0]) <= 2 * one[:, 1])) for one in starts if len(one)]


def _free(heard: Sequence[Heard]) -> list[bool]:
    """Say of each moment without a source whether its error is within 2 sigma."""
    told = itertools.chain.from_iterable(zip(one.modes, one.error_s, one.sigma_s, strict=True) for one in heard)
    return [abs(error_s) <= 2 * sigma_s for mode, error_s, sigma_s in told if mode == "free"]


def _rows_of(way: str, heard: dict[str, list[Heard]]) -> list[Row]:
    """Say how far off times were, how honest sigma was, and how soon the first was told."""
    starts = {kind: [_converged(one) for one in some] for kind, some in heard.items()}
    off_us = {kind: 1e6 * np.abs(np.concatenate(some)[:, 0]) for kind, some in starts.items()}
    figures = {
        kind: [round(float(np.quantile(some, p)), 3) for p in (0.5, 0.99, 0.999)] for kind, some in off_us.items()
    }
    asked = way in ("PPS in audio", "I2S", "USB")
    every = list(itertools.chain.from_iterable(starts.values()))
    within = _within(every)
    honest: dict[str, Any] = {kind: float(np.mean(_within(some))) for kind, some in starts.items()}
    if alone := _free(heard.get("loss", [])):
        honest["no pulse"] = float(np.mean(alone))
    honest["sigma_us"] = {kind: 1e6 * float(np.median(np.concatenate(some)[:, 1])) for kind, some in starts.items()}
    latest_s = max(one.known_s for one in heard["plain"])
    return [
        Row(
            f"{way}: time of arrival, node's share, p99.9 [us]",
            figures["plain"][2],
            Ask(high=50) if asked else ANY,
            len(off_us["plain"]),
            detail={"p50, p99 and p99.9, us": figures},
        ),
        Row(
            f"{way}: errors within 2 sigma, in all weathers",
            float(np.mean(within)),
            HONEST if way != "free" else ANY,
            len(within),
            bootstrap(within, lambda draws: float(np.mean(draws))),
            detail=honest,
            note="a clock that nobody ever set says 1 s, as the computer does" if way == "free" else "",
        ),
        Row(
            f"{way}: start to trustworthy times, worst [s]",
            latest_s,
            {"PPS in audio": Ask(high=8), "I2S": Ask(high=8), "USB": Ask(high=12)}.get(way, ANY),
            len(heard["plain"]),
        ),
    ]


def week(seed: int) -> tuple[float, float]:
    """Hear seven days without a break, a callback each sixth of a second, and compare the last hour with the first.

    Parameters
    ----------
    seed : int
        Which device.

    Returns
    -------
    float
        By how much the mean error of the last hour differs from that of the first [s].
    float
        The largest error from the median [s].
    """
    heard = hear(scene_of("I2S", seed, block_frames=8_001), 0.0, 7 * 86_400.0)
    error_s = np.array(heard.error_s[60:])
    return float(error_s[-3600:].mean() - error_s[:3600].mean()), float(np.abs(error_s - np.median(error_s)).max())


def measure(plan: Plan) -> list[Row]:
    """Measure the sample clock.

    Parameters
    ----------
    plan : Plan
        How much.

    Returns
    -------
    list of Row
        Lateness, honesty and convergence, by way and by what goes wrong; and a week.
    """
    seeds = plan.seeds(24, 6)
    rows: list[Row] = []
    for way in WAYS:
        if way in ("NTP", "free"):  # one start errs by one amount, so many are needed, and none for long
            tasks = {"plain": [Task(way, seed, duration_s=70.0) for seed in plan.seeds(500, 12)]}
        else:
            tasks = {kind: [Task(way, seed, kind) for seed in seeds] for kind in ("plain", "heat", "loss")}
        heard = {kind: spread(measured, some, plan) for kind, some in tasks.items()}
        rows += _rows_of(way, heard)
    if not plan.quick:
        moved = spread(week, plan.seeds(1, 1), plan)
        rows.append(
            Row(
                "7 days, I2S: the last hour against the first [us]",
                1e6 * max(abs(drift_s) for drift_s, _ in moved),
                Ask(high=5),
                len(moved),
                detail={"worst_us": 1e6 * max(most_s for _, most_s in moved)},
                note="simulated without a break, with a callback each sixth of a second to be done in time",
            )
        )
    return rows
