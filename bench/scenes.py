"""Detection-level scenes with known truth, for association figures: many shots, few sensors, and what goes wrong.

White timing errors, straight rays, independent echoes: these scenes test association under load. What the air and a
city do to arrivals is `firmware_sim`'s, and Pittsburgh's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPEED_M_S = 343.0


@dataclass(frozen=True)
class Scene:
    """Picks with the shot each belongs to (-1: none).

    Attributes
    ----------
    positions_m : numpy.ndarray, shape (m, 3)
        Sensors [m].
    sensor : numpy.ndarray, shape (n,)
        Each pick's sensor.
    toa_s : numpy.ndarray, shape (n,)
        Each pick's time [s], ascending.
    shot : numpy.ndarray, shape (n,)
        Each pick's shot, -1 for echoes and clutter.
    origin_s, place_m : numpy.ndarray, shape (k,) and (k, 2)
        The true shots.
    """

    positions_m: NDArray[np.float64]
    sensor: NDArray[np.int64]
    toa_s: NDArray[np.float64]
    shot: NDArray[np.int64]
    origin_s: NDArray[np.float64]
    place_m: NDArray[np.float64]


@dataclass(frozen=True)
class Trouble:
    """What stands between shots and picks.

    Attributes
    ----------
    sigma_s : float
        White timing error [s].
    p_detect : float
        Probability that a sensor reports a shot.
    echo : float
        Probability that an arrival is followed by an echo.
    clutter_per_s : float
        Impulses per second at each sensor that nobody fired.
    dead_time_s : float
        A sensor reports nothing this long after a pick [s].
    wind_m_s : tuple of float
        Velocity of the air [m/s].
    path_sigma_s : float
        Delay common to all shots from one place at one sensor [s].
    echo_repeats : bool
        Whether a place's echoes come again with every shot: the same sensors, the same lags.
    """

    sigma_s: float = 0.0015
    p_detect: float = 1.0
    echo: float = 0.0
    clutter_per_s: float = 0.0
    dead_time_s: float = 0.015
    wind_m_s: tuple[float, float] = (0.0, 0.0)
    path_sigma_s: float = 0.0
    echo_repeats: bool = False


def sensors(count: int, side_m: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Place sensors at random, none nearer to another than a third of the mean spacing.

    Parameters
    ----------
    count : int
        How many.
    side_m : float
        Side of the square [m].
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    numpy.ndarray, shape (count, 3)
        East, north, up [m].
    """
    apart = side_m / count**0.5 / 3
    chosen: list[NDArray[np.float64]] = []
    while len(chosen) < count:
        place = rng.uniform(0, side_m, 2)
        if all(np.hypot(*(place - other)) > apart for other in chosen):
            chosen.append(place)
    return np.column_stack([np.array(chosen), np.full(count, 8.0)])


def burst(
    place_m: NDArray[np.float64], rate_per_s: float, rounds: int, start_s: float, rng: np.random.Generator,
    velocity_m_s: tuple[float, float] = (0.0, 0.0),
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Fire a burst with 2 % jitter of the cadence.

    Parameters
    ----------
    place_m : numpy.ndarray, shape (2,)
        Where it begins [m].
    rate_per_s : float
        Cadence [1/s].
    rounds : int
        How many.
    start_s : float
        When it begins [s].
    rng : numpy.random.Generator
        Chance.
    velocity_m_s : tuple of float, optional
        How the shooter moves [m/s].

    Returns
    -------
    tuple of numpy.ndarray, shape (rounds,) and (rounds, 2)
        Origin times [s] and places [m].
    """
    times = start_s + (np.arange(rounds) + rng.normal(0, 0.02, rounds)) / rate_per_s
    return times, place_m + (times - start_s)[:, None] * np.array(velocity_m_s)


def render(
    positions_m: NDArray[np.float64], origin_s: NDArray[np.float64], place_m: NDArray[np.float64], trouble: Trouble,
    rng: np.random.Generator,
) -> Scene:  # fmt: skip
    """Let sensors hear shots.

    Parameters
    ----------
    positions_m : numpy.ndarray, shape (m, 3)
        Sensors [m].
    origin_s, place_m : numpy.ndarray, shape (k,) and (k, 2)
        Shots.
    trouble : Trouble
        What stands between.
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    Scene
        Picks and truth.
    """
    rows: list[tuple[float, int, int]] = []
    places, which = np.unique(np.round(place_m), axis=0, return_inverse=True)
    shape = (len(places), len(positions_m))
    path_s = rng.normal(0, 1, shape) * trouble.path_sigma_s
    again = (rng.random(shape) < trouble.echo, rng.uniform(0.02, 0.5, shape)) if trouble.echo_repeats else None
    for k, (t0, place) in enumerate(zip(origin_s, place_m, strict=True)):
        own = int(which.ravel()[k])
        blur = path_s[own] + rng.normal(0, trouble.sigma_s, len(positions_m))
        for i, direct in enumerate(t0 + _flight_s(positions_m, place, trouble) + blur):
            if rng.random() < trouble.p_detect:
                rows.append((direct, i, k))
            if again is None and rng.random() < trouble.echo:
                rows.append((direct + rng.uniform(0.02, 0.5), i, -1))
            elif again is not None and again[0][own, i]:
                rows.append((direct + again[1][own, i] + rng.normal(0, trouble.sigma_s), i, -1))
    span = (float(origin_s.min()) - 1.0, float(origin_s.max()) + 4.0)
    for i in range(len(positions_m)):
        often = rng.poisson(trouble.clutter_per_s * (span[1] - span[0]))
        rows += [(float(moment), i, -1) for moment in rng.uniform(*span, often)]
    toa, sensor, shot = (np.array(column) for column in zip(*_report(rows, trouble), strict=True))
    return Scene(positions_m, sensor.astype(np.int64), toa, shot.astype(np.int64), origin_s, place_m)


def _flight_s(positions_m: NDArray[np.float64], place: NDArray[np.float64], trouble: Trouble) -> NDArray[np.float64]:
    wind = np.array(trouble.wind_m_s)
    away = positions_m[:, :2] - place
    along = away @ wind
    square = SPEED_M_S**2 - wind @ wind
    return np.asarray((np.sqrt(along**2 + square * ((away**2).sum(1) + 6.5**2)) - along) / square)


def _report(rows: list[tuple[float, int, int]], trouble: Trouble) -> list[tuple[float, int, int]]:
    """Leave out what comes while a sensor is still busy with what came before."""
    last: dict[int, float] = {}
    kept = []
    for row in sorted(rows):
        if row[0] - last.get(row[1], -np.inf) >= trouble.dead_time_s:
            last[row[1]] = row[0]
            kept.append(row)
    return kept


def without_unasked(
    scene: Scene, groups: list[tuple[int, ...]], fewest: int = 4, share: float = 0.6
) -> list[tuple[int, ...]]:
    """Leave out groups that are true shots, but heard by too few sensors to be asked for.

    Parameters
    ----------
    scene : Scene
        The truth.
    groups : list of tuple of int
        Picks that were called one shot.
    fewest, share : int and float, optional
        As in ``f1``.

    Returns
    -------
    list of tuple of int
        The others.
    """
    heard = np.bincount(scene.shot[scene.shot >= 0], minlength=len(scene.origin_s))

    def _unasked(group: tuple[int, ...]) -> bool:
        labels, counts = np.unique(scene.shot[list(group)], return_counts=True)
        most = int(counts.argmax())
        return labels[most] >= 0 and heard[labels[most]] < fewest and counts[most] >= share * len(group)

    return [group for group in groups if not _unasked(group)]


def f1(scene: Scene, groups: list[tuple[int, ...]], fewest: int = 4, share: float = 0.6) -> tuple[float, float, float]:
    """Score groups of picks against the true shots, as PyOcto's benchmark does.

    Parameters
    ----------
    scene : Scene
        The truth.
    groups : list of tuple of int
        Picks that were called one shot.
    fewest : int, optional
        Shots heard by fewer sensors than this cannot be asked for.
    share : float, optional
        A group is a shot's where their overlap is at least this share of the larger.

    Returns
    -------
    tuple of float
        Precision, recall and F1.
    """
    truth = {k: {int(i) for i in np.flatnonzero(scene.shot == k)} for k in range(len(scene.origin_s))}
    truth = {k: own for k, own in truth.items() if len(own) >= fewest}
    hit: set[int] = set()
    good = 0
    for group in groups:
        labels, counts = np.unique(scene.shot[list(group)], return_counts=True)
        for label, overlap in zip(labels.tolist(), counts.tolist(), strict=True):
            if label in truth and label not in hit and overlap >= share * max(len(truth[label]), len(group)):
                hit.add(label)
                good += 1
                break
    precision = good / len(groups) if groups else 1.0
    recall = len(hit) / len(truth) if truth else 1.0
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0
