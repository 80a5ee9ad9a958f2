"""Which detections are the same shot? The friendly side of `agls.locate._search`.

`find_shots` is a pure function of the picks it is given, so that the order in which they came cannot matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from agls.config import Locating
from agls.locate import _search
from agls.locate._kernels import REFERENCE_SPEED_M_S, Floats
from agls.locate._search import NEIGHBOURS, Ints
from agls.locate.solve import Air, Height, prior

DENSITY_WINDOW_S = 4.0
DENSITY_FLOOR_COUNT = 0.3  # a sensor that reported nothing else may still report something
THRESHOLD_NATS = 15.0
HEIGHT_SIGMA_M = 20.0
DETECT_BEST = 0.95
HALF_RANGE_SHARE = 0.45  # of the maximum range: where half of the sensors still hear
ECHO_RATE = 1.7  # echoes per direct arrival in a city (63 % of the Pittsburgh pulses are not direct)
ECHO_TAIL_S = 0.3
SAME_PLACE_M = 40.0
FASTEST_S = 0.042  # no weapon cycles faster than this: a second shot from one place so soon is an echo near the muzzle


@dataclass(frozen=True)
class Array:
    """The sensors of a site as arrays, and what follows from where they stand.

    Attributes
    ----------
    sensor_ids : tuple of str
        Their names.
    positions_m : numpy.ndarray, shape (m, 3)
        Their places in the site's frame [m].
    middle_m : numpy.ndarray, shape (3,)
        Their mean place [m]; the kernels work relative to it.
    near : numpy.ndarray, shape (m, NEIGHBOURS)
        Each sensor's nearest others, -1 where there are none.
    near_height_m : numpy.ndarray, shape (m,)
        Mean height around each sensor, relative to the middle [m].
    """

    sensor_ids: tuple[str, ...]
    positions_m: Floats
    middle_m: Floats = field(init=False)
    near: Ints = field(init=False)
    near_height_m: Floats = field(init=False)

    def __post_init__(self) -> None:
        """Work out what follows from the places."""
        middle = self.positions_m.mean(axis=0) if len(self.positions_m) else np.zeros(3)
        apart = np.hypot(*(self.positions_m[:, None, :2] - self.positions_m[None, :, :2]).transpose(2, 0, 1))
        np.fill_diagonal(apart, np.inf)
        order = np.argsort(apart, axis=1, kind="stable")[:, : min(NEIGHBOURS, max(len(apart) - 1, 0))]
        near = np.full((len(apart), NEIGHBOURS), -1, dtype=np.int64)
        near[:, : order.shape[1]] = order
        heights = self.positions_m[:, 2] - middle[2]
        around = [np.append(heights[row[row >= 0][:3]], heights[k]).mean() for k, row in enumerate(near)]
        for name, value in (
            ("middle_m", middle),
            ("near", near),
            ("near_height_m", np.array(around, dtype=np.float64)),
        ):
            object.__setattr__(self, name, value)

    def longest_delay_s(self, slowest_m_s: float, max_range_m: float) -> float:
        """Say how far apart the arrivals of one shot can be.

        Parameters
        ----------
        slowest_m_s : float
            Least speed of sound with the wind against it [m/s].
        max_range_m : float
            How far a shot is heard [m].

        Returns
        -------
        float
            Time from first to last arrival [s].
        """
        flat = self.positions_m
        widest = max((float(np.linalg.norm(flat - place, axis=1).max()) for place in flat), default=0.0)
        return min(widest, max_range_m) / slowest_m_s


@dataclass(frozen=True)
class Picks:
    """Detections as arrays, in any order.

    Attributes
    ----------
    sensor : numpy.ndarray, shape (n,), int64
        Index of the sensor.
    toa_s : numpy.ndarray, shape (n,)
        Times of arrival relative to any moment near them [s].
    sigma_s : numpy.ndarray, shape (n,)
        Standard deviations of the picks, without the path's [s].
    """

    sensor: Ints
    toa_s: Floats
    sigma_s: Floats


@dataclass(frozen=True)
class Found:
    """A shot found among picks.

    Attributes
    ----------
    origin_s : float
        Rough origin time, on the scale of the picks [s].
    place_m : tuple of float
        Rough place in the site's frame [m].
    members : tuple of int
        Indices of its picks, one per sensor, ordered by time.
    score : float
        Log-likelihood ratio against clutter.
    """

    origin_s: float
    place_m: tuple[float, float, float]
    members: tuple[int, ...]
    score: float


def find_shots(
    picks: Picks,
    array: Array,
    air: Air,
    settings: Locating,
    horizon_s: float = math.inf,
    heard: Picks | None = None,
    threshold: float = THRESHOLD_NATS,
) -> list[Found]:
    """Find the shots that explain picks, each pick in at most one.

    Parameters
    ----------
    picks : Picks
        What was heard.
    array : Array
        The sensors.
    air : Air
        What is known of the air.
    settings : Locating
        The site's settings.
    horizon_s : float, optional
        Until when all that was heard is among `picks` [s]: a sensor's silence after that says nothing.
    heard : Picks, optional
        Direct arrivals of shots decided before; their echoes may be among `picks`.
    threshold : float, optional
        Least log-likelihood ratio of a shot.

    Returns
    -------
    list of Found
        Shots in order of their origin time.
    """
    count = len(picks.toa_s)
    if count < settings.min_sensors_count or len(array.sensor_ids) < settings.min_sensors_count:
        return []
    order = np.lexsort((picks.toa_s, picks.sensor))
    reference_s = float(picks.toa_s.min())
    t = np.ascontiguousarray(picks.toa_s[order] - reference_s)
    owner = picks.sensor[order].astype(np.int64)
    start = np.searchsorted(owner, np.arange(len(array.sensor_ids) + 1)).astype(np.int64)
    sigma = np.hypot(picks.sigma_s[order], settings.path_sigma_s)
    density = _density(t, start)
    if heard is not None:
        _add_echoes(density, t, start, heard.sensor, heard.toa_s - reference_s)
    px, py, pz = np.ascontiguousarray((array.positions_m - array.middle_m).T)
    mean, precision = prior(air, Height(0.0, HEIGHT_SIGMA_M))
    anchors = np.argsort(t, kind="stable").astype(np.int64)
    used = np.zeros(count, dtype=np.bool_)
    thetas, scores = np.empty((count, len(mean))), np.empty(count)
    members = np.full((count, len(px)), -1, dtype=np.int64)
    hearing = (DETECT_BEST, HALF_RANGE_SHARE * settings.max_range_m, horizon_s - reference_s)
    _search.propose_all(
        anchors, px, py, pz, start, owner, array.near, array.near_height_m, t, sigma, density, used, *hearing,
        mean, precision, settings.max_range_m, thetas, members, scores,
    )  # fmt: skip
    chosen, worth = np.empty(count, dtype=np.int64), np.empty(count)
    number = _search.choose(
        px, py, pz, start, owner, t, sigma, density, used, *hearing, mean, precision, threshold,
        settings.min_sensors_count, ECHO_RATE, ECHO_TAIL_S, thetas, members, scores, chosen, worth,
    )  # fmt: skip
    found = [
        _found(thetas[i], members[i], order, t, float(score), array, reference_s)
        for i, score in zip(chosen[:number], worth, strict=False)
    ]
    return _without_muzzle_echoes(sorted(found, key=lambda shot: shot.origin_s))


def _density(t: Floats, start: Ints) -> Floats:
    """Count the other picks around each pick at its own sensor, per second."""
    density = np.empty(len(t))
    for first, past in zip(start[:-1], start[1:], strict=True):
        own = t[first:past]
        around = np.searchsorted(own, own + DENSITY_WINDOW_S / 2) - np.searchsorted(own, own - DENSITY_WINDOW_S / 2)
        density[first:past] = (around - 1 + DENSITY_FLOOR_COUNT) / DENSITY_WINDOW_S
    return density


def _add_echoes(density: Floats, t: Floats, start: Ints, sensor: Ints, direct_s: Floats) -> None:
    """Raise the density of picks that may be echoes of what was decided before."""
    for k, arrived in zip(sensor, direct_s, strict=True):
        lag = t[start[k] : start[k + 1]] - arrived
        density[start[k] : start[k + 1]] += np.where(
            lag > 0, ECHO_RATE / ECHO_TAIL_S * np.exp(-lag.clip(0) / ECHO_TAIL_S), 0
        )


def _found(
    theta: Floats, members: Ints, order: Ints, t: Floats, score: float, array: Array, reference_s: float
) -> Found:
    own = members[members >= 0]
    own = own[np.argsort(t[own], kind="stable")]
    x, y, z = (float(theta[k] + array.middle_m[axis]) for axis, k in enumerate((0, 1, 3)))
    return Found(
        float(theta[2]) / REFERENCE_SPEED_M_S + reference_s, (x, y, z), tuple(int(order[k]) for k in own), score
    )


def _without_muzzle_echoes(found: list[Found]) -> list[Found]:
    """Leave out shots that follow another from the same place faster than any weapon fires."""
    kept: list[Found] = []
    for shot in found:
        echo = any(
            shot.origin_s - other.origin_s < FASTEST_S and math.dist(shot.place_m[:2], other.place_m[:2]) < SAME_PLACE_M
            for other in kept
        )
        if not echo:
            kept.append(shot)
    return kept
