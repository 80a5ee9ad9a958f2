"""Places of rifle shots where the bullet's N-wave is heard before the blast, and some nodes do not know it for one.

Fourteen sensors at random in a square of 1 km; the bullet passes near enough that at least 40 % of them hear its
N-wave. Of all sensors 40 % report an N-wave as *unknown*, and half of these miss the blast; the other N-waves are
labelled. One shot every 15 s in one air. N-wave and blast come from different directions: each has a path of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agls.config import Locating
from agls.locate.solve import Air
from bench.coverage import APART_S, SIDE_M, WEATHER, Score, World, add, score
from bench.oracle import flight_s
from bench.rows import ANY, Ask, Plan, Row, share_row, spread
from bench.scenes import sensors
from bench.stream import Said, detections, run, site_of

Floats = NDArray[np.float64]

UNKNOWN_SHARE = 0.4  # of the sensors, that report an N-wave and do not know it for one


@dataclass(frozen=True)
class Bullets:
    """What is fired, and what the site is told of the paths.

    Attributes
    ----------
    speed_m_s : tuple of float
        Least and greatest speed at the muzzle [m/s].
    decay_m : tuple of float
        Least and greatest way over which the speed falls to 1/e [m].
    path_told : bool
        Whether the site is told how paths scatter; otherwise it has its default.
    """

    speed_m_s: tuple[float, float] = (900.0, 900.0)
    decay_m: tuple[float, float] = (800.0, 800.0)
    path_told: bool = True


@dataclass(frozen=True)
class Heard:
    """What the sensors of one site heard of some shots, and the truth.

    Attributes
    ----------
    told_m : numpy.ndarray, shape (m, 3)
        Where the survey says the sensors stand [m].
    toa_s : numpy.ndarray, shape (n,)
        Times of the picks [s], ascending.
    sensor, shot : numpy.ndarray, shape (n,)
        Their sensors and shots.
    wave : tuple of str
        What the nodes take them for.
    shock : numpy.ndarray, shape (n,)
        Whether they are N-waves.
    origin_s, place_m : numpy.ndarray, shape (k,) and (k, 3)
        The shots.
    """

    told_m: Floats
    toa_s: Floats
    sensor: NDArray[np.int64]
    shot: NDArray[np.int64]
    wave: tuple[str, ...]
    shock: NDArray[np.bool_]
    origin_s: Floats
    place_m: Floats


def shock_lead(
    positions_m: Floats, place_m: Floats, azimuth: float, reach_m: float, speed_m_s: float,
    muzzle_m_s: float = 900.0, decay_m: float = 800.0,
) -> Floats:  # fmt: skip
    """Compute when a bullet's N-wave reaches sensors, seen from the blast's firing.

    Parameters
    ----------
    positions_m : numpy.ndarray, shape (n, 3)
        Sensors [m].
    place_m : numpy.ndarray, shape (3,)
        The muzzle [m].
    azimuth : float
        Where the bullet goes [rad, counter-clockwise from east].
    reach_m : float
        Where something stops it [m].
    speed_m_s : float
        Sound speed [m/s].
    muzzle_m_s, decay_m : float
        The bullet's speed at the muzzle [m/s], and the way over which it falls to 1/e [m].

    Returns
    -------
    numpy.ndarray, shape (n,)
        Time from the firing to the N-wave [s]; not a number where none comes.
    """
    way = np.linspace(0, reach_m, 2000)
    fly_s = decay_m / muzzle_m_s * np.expm1(way / decay_m)
    along = np.array([math.cos(azimuth), math.sin(azimuth), 0.0])
    points = place_m + way[:, None] * along
    arrive = fly_s + np.linalg.norm(positions_m[:, None] - points[None], axis=2) / speed_m_s
    first = arrive.argmin(axis=1)
    inner = (first > 0) & (first < len(way) - 1)
    return np.where(inner, arrive.min(axis=1), np.nan)


def fire(bullets: Bullets, seed: int, shots: int) -> Heard:
    """Fire a rifle from many places over one site.

    Parameters
    ----------
    bullets : Bullets
        What is fired.
    seed : int
        Chance.
    shots : int
        How many.

    Returns
    -------
    Heard
        Picks and truth.
    """
    rng = np.random.default_rng([seed, 9])
    world = World(sensors_count=14)
    told = sensors(world.sensors_count, SIDE_M, rng)
    stand = told + world.survey_m * rng.normal(size=told.shape)
    known = Air.of_weather(WEATHER)
    speed = known.sound_speed_m_s + known.sound_speed_sigma_m_s * rng.normal()
    wind = known.wind_sigma_m_s * rng.normal(size=2)
    rows: list[tuple[float, int, int, str, bool]] = []
    where = []
    origin = 10.0 + APART_S * np.arange(shots)
    for k, t0 in enumerate(origin.tolist()):
        place, shock = _aim(stand, speed, bullets, rng)
        blast = flight_s(stand, place, speed, wind)
        # The wind carries both nearly alike.
        crack = shock + blast - flight_s(stand, place, speed, (0.0, 0.0))
        unknown, missed = _labels(shock, rng)
        off = rng.normal(size=(2, len(stand))) * world.path_s + rng.normal(size=(2, len(stand))) * world.pick_s
        for i in range(len(stand)):
            if np.isfinite(crack[i]):
                rows.append((t0 + crack[i] + off[0, i], i, k, "unknown" if i in unknown else "shock", True))
            if i not in missed and rng.random() < world.p_detect:
                rows.append((t0 + blast[i] + off[1, i], i, k, "muzzle" if rng.random() < 0.5 else "unknown", False))
        where.append(place)
    toa, sensor, shot, waves, is_shock = zip(*sorted(rows), strict=True)
    return Heard(
        told, np.array(toa), np.array(sensor), np.array(shot), waves, np.array(is_shock), origin, np.array(where)
    )


def _aim(stand: Floats, speed_m_s: float, bullets: Bullets, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Choose place, direction and reach so that at least 40 % of the sensors hear the N-wave."""
    while True:
        place = np.array([*rng.uniform(0, SIDE_M, 2), 1.5])
        azimuth, reach_m = rng.uniform(0, 2 * np.pi), rng.uniform(200, 800)
        muzzle_m_s, decay_m = rng.uniform(*bullets.speed_m_s), rng.uniform(*bullets.decay_m)
        shock = shock_lead(stand, place, azimuth, reach_m, speed_m_s, muzzle_m_s, decay_m)
        if np.isfinite(shock).sum() >= UNKNOWN_SHARE * len(stand):
            return place, shock


def _labels(shock: Floats, rng: np.random.Generator) -> tuple[set[int], set[int]]:
    """Draw the sensors that take the N-wave for they know not what, and half of these, which miss the blast."""
    reached = np.flatnonzero(np.isfinite(shock))
    unknown = rng.choice(reached, min(len(reached), round(UNKNOWN_SHARE * len(shock))), replace=False)
    return {int(i) for i in unknown}, {int(i) for i in unknown[: len(unknown) // 2]}


def locate(heard: Heard, bullets: Bullets) -> Said:
    """Give a hub what was heard.

    Parameters
    ----------
    heard : Heard
        Picks.
    bullets : Bullets
        Says what the site is told.

    Returns
    -------
    Said
        What it said.
    """
    world = World()
    locating = Locating(path_sigma_s=world.path_s) if bullets.path_told else None
    site = site_of(heard.told_m, locating=locating, survey_m=world.survey_m)
    return run(site, detections(heard.sensor.tolist(), heard.toa_s.tolist(), world.pick_s, heard.wave), 0.1, tick_s=0.5)


def rifle(item: tuple[Bullets, int, int]) -> Score:
    """Fire a rifle from many places, and locate it.

    Parameters
    ----------
    item : tuple of Bullets, int and int
        What is fired, seed and number of shots.

    Returns
    -------
    Score
        How it was located.
    """
    bullets, seed, shots = item
    heard = fire(bullets, seed, shots)
    return score(locate(heard, bullets), heard.origin_s, heard.place_m)


# -------------------------------------------------------------------------------------------------------------- rows

NOTE = "of those not found within 15 m, some are not found at all"
KINDS: tuple[tuple[str, Bullets, bool, str], ...] = (
    ("rifle", Bullets(), True, f"14 sensors, 900 m/s at the muzzle, path 8 ms as told; {NOTE}"),
    (
        "rifle, any bullet",
        Bullets(speed_m_s=(650.0, 1000.0), decay_m=(500.0, 1500.0), path_told=False),
        False,
        f"650 to 1000 m/s at the muzzle, and the site says paths scatter by 5.5 ms where 8 ms is true; {NOTE}",
    ),
)


def measure(plan: Plan) -> list[Row]:
    """Measure places and coverage where a bullet's N-wave is heard before the blast.

    Parameters
    ----------
    plan : Plan
        How many shots.

    Returns
    -------
    list of Row
        Share within 15 m, coverage, and shots that were none.
    """
    rows = []
    for name, bullets, asked, note in KINDS:
        scores = spread(rifle, [(bullets, seed, 25) for seed in plan.seeds(40, 4)], plan)
        near, fired = sum(one.near for one in scores), sum(one.fired for one in scores)
        held, found = sum(one.held for one in scores), sum(one.found for one in scores)
        extra = sum(one.extra for one in scores)
        within, cover = (Ask(low=0.95), Ask(0.90, 0.98)) if asked else (ANY, ANY)
        rows += [
            share_row(f"{name}: <= 15 m, of all fired", near, fired, within, detail=add(scores), note=note),
            share_row(f"{name}: ellipse holds truth, of those found", held, found, cover),
            Row(f"{name}: further shots told, per 100 fired", 100 * extra / max(fired, 1), ANY, fired),
        ]
    return rows
