"""Give a hub what sensors heard, in virtual time, and keep what it said, when, and what that cost."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agls.config import Locating, Sensor, SiteConfig, Weather
from agls.messages import NS_PER_S, ClockState, Detection, Incident, Shot, UtcNs
from agls.pipeline import Hub

START_NS = 1_800_000_000 * NS_PER_S
TICK_S = 0.05  # how often a hub's shell lets time pass
CLOCK = ClockState(mode="simulated", sigma_s=1e-5)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Told:
    """One revision of a shot.

    Attributes
    ----------
    shot : Shot
        What was said.
    due_s : float
        When it could first be said: the moment of the call it came from, on the scale of the arrivals [s].
    ready_s : float
        When the computing was done, with what it had to wait for [s].
    """

    shot: Shot
    due_s: float
    ready_s: float


@dataclass
class Said:
    """Keep all that a hub said.

    Attributes
    ----------
    shots : dict of str to list of Told
        Revisions of each shot, in order.
    incidents : dict of str to Incident
        The last revision of each.
    counts : dict of str to int
        Rejections by name.
    calls_s : list of float
        What each call with a detection cost [s].
    """

    shots: dict[str, list[Told]] = field(default_factory=dict)
    incidents: dict[str, Incident] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    calls_s: list[float] = field(default_factory=list)

    @property
    def final(self) -> list[Shot]:
        """Take the shots that stand in the end.

        Returns
        -------
        list of Shot
            In order of their origin times.
        """
        last = [revisions[-1].shot for revisions in self.shots.values()]
        return sorted((shot for shot in last if shot.state == "located"), key=lambda shot: shot.origin_ns)


def site_of(
    positions_m: Floats, *, locating: Locating | None = None, weather: Weather | None = None, survey_m: float = 0.001
) -> SiteConfig:
    """Make the site of some sensors.

    Parameters
    ----------
    positions_m : numpy.ndarray, shape (m, 3)
        Where the survey says they stand [m].
    locating : Locating, optional
        Settings; the defaults if not given.
    weather : Weather, optional
        What is told of the air; the defaults if not given.
    survey_m : float, optional
        How sure the survey is [m].

    Returns
    -------
    SiteConfig
        Sensors are named after their index.
    """
    sensors = tuple(
        Sensor(sensor_id=sensor_name(k), x_m=float(x), y_m=float(y), z_m=float(z), position_sigma_m=survey_m)
        for k, (x, y, z) in enumerate(positions_m)
    )
    return SiteConfig(name="bench", sensor=sensors, locating=locating or Locating(), weather=weather or Weather())


def sensor_name(index: int) -> str:
    """Name a sensor.

    Parameters
    ----------
    index : int
        Its index.

    Returns
    -------
    str
        Its name; names sort as indices do.
    """
    return f"s{index:03d}"


def moment_ns(moment_s: float) -> int:
    """Turn a time of a scene into UTC.

    Parameters
    ----------
    moment_s : float
        On the scale of the scene [s].

    Returns
    -------
    int
        UTC [ns].
    """
    return START_NS + round(moment_s * NS_PER_S)


def seconds(moment_ns_: int) -> float:
    """Turn UTC into a time of a scene.

    Parameters
    ----------
    moment_ns_ : int
        UTC [ns].

    Returns
    -------
    float
        On the scale of the scene [s].
    """
    return (moment_ns_ - START_NS) / NS_PER_S


def detections(
    sensor: Sequence[int], toa_s: Sequence[float], sigma_s: float, waves: Sequence[str] | None = None
) -> list[Detection]:
    """Turn picks into detections; the sequence number of each is its index among the picks.

    Parameters
    ----------
    sensor : sequence of int
        Sensor of each pick.
    toa_s : sequence of float
        Time of each pick [s].
    sigma_s : float
        What the node says of its error [s].
    waves : sequence of str, optional
        What the node takes each for; unknown if not given.

    Returns
    -------
    list of Detection
        In the order of the picks, without level or judgement.
    """
    return [
        Detection(
            sensor_id=sensor_name(int(who)), boot_id="bench", seq=k, toa_ns=UtcNs(moment_ns(float(toa))),
            toa_sigma_s=sigma_s, wave="unknown" if waves is None else waves[k], clock=CLOCK,  # type: ignore[arg-type]
        )
        for k, (who, toa) in enumerate(zip(sensor, toa_s, strict=True))
    ]  # fmt: skip


def run(site: SiteConfig, heard: Sequence[Detection], delay_s: float | Floats = 0.1, tick_s: float = TICK_S) -> Said:
    """Run a hub over detections, as its shell would.

    Parameters
    ----------
    site : SiteConfig
        The site.
    heard : sequence of Detection
        In any order.
    delay_s : float or numpy.ndarray, shape (n,), optional
        From the sound at the microphone to the detection at the hub [s].
    tick_s : float, optional
        How often time is let pass between detections [s].

    Returns
    -------
    Said
        What the hub said until everything was decided.
    """
    return watch(Hub(site), site, heard, delay_s, tick_s)


def watch(hub: Hub, site: SiteConfig, heard: Sequence[Detection], delay_s: float | Floats, tick_s: float) -> Said:
    """Run a given hub over detections; one server, so that work done waits behind work to do.

    Parameters
    ----------
    hub : Hub
        The hub.
    site : SiteConfig
        Its site.
    heard : sequence of Detection
        In any order.
    delay_s : float or numpy.ndarray, shape (n,)
        From the sound at the microphone to the detection at the hub [s].
    tick_s : float
        How often time is let pass between detections [s].

    Returns
    -------
    Said
        What the hub said until everything was decided.
    """
    said = Said()
    received = np.array([one.toa_ns for one in heard], dtype=np.int64) + np.rint(
        np.broadcast_to(np.asarray(delay_s, dtype=np.float64), len(heard)) * NS_PER_S
    ).astype(np.int64)
    free_s = -np.inf
    end_ns = int(received.max(initial=START_NS)) + _wait_ns(site)
    for now_ns, index in _moments(received, end_ns, round(tick_s * NS_PER_S)):
        started = time.perf_counter()
        out = hub.advance(now_ns) if index is None else hub.feed(heard[index], now_ns)
        cost_s = time.perf_counter() - started
        due_s = seconds(now_ns)
        free_s = max(free_s, due_s) + cost_s
        if index is not None:
            said.calls_s.append(cost_s)
        for item in out:
            if isinstance(item, Shot):
                said.shots.setdefault(item.shot_id, []).append(Told(item, due_s, free_s))
            elif isinstance(item, Incident):
                said.incidents[item.incident] = item
    said.counts = dict(hub.counts)
    return said


def _wait_ns(site: SiteConfig) -> int:
    return round((2 * site.locating.max_range_m / 250.0 + site.locating.settle_s + 5.0) * NS_PER_S)


def _moments(received: NDArray[np.int64], end_ns: int, tick_ns: int) -> Iterator[tuple[int, int | None]]:
    """Merge detections and ticks."""
    arrivals: Iterable[tuple[int, int]] = ((int(received[k]), int(k)) for k in np.argsort(received, kind="stable"))
    first_ns = int(received.min(initial=end_ns))
    ticks = ((moment, -1) for moment in range(first_ns, end_ns, tick_ns))
    for now_ns, index in heapq.merge(arrivals, ticks):
        yield now_ns, None if index < 0 else index
    yield end_ns, None
