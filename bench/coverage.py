"""How often the 95 % ellipse holds the truth, when the world is as told, and when it is not.

Twelve sensors at random in a square of 1 km, shots in it and up to 100 m outside. Each place has its own path term at
each sensor, common to all shots fired there; each pick its own; the survey is off by its sigma. What the hub is told
and what is true differ only where a row says so. One stream is one site in one air, with shots 15 s apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agls.config import Locating, Weather
from agls.locate.solve import Air, NoSolution, solve
from agls.locate.uncertainty import within95
from agls.messages import Ellipse, Shot
from agls.replay.score import ellipse_distance
from bench.oracle import flight_s
from bench.rows import Ask, Plan, Row, share_detail, share_row, spread
from bench.scenes import sensors
from bench.stream import Said, detections, run, seconds, site_of

SIDE_M = 1000.0
BEYOND_M = 100.0
APART_S = 15.0
SAME_S = 0.3
CADENCE_S = 0.15
JITTER = 0.02  # of the cadence, as in `bench.scenes.burst`: no weapon is a clock
LIMIT_M = 15.0

WEATHER = Weather()
REPORTED = Weather(temperature_sigma_c=1.0, wind_sigma_m_s=1.0)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """What is true, and what is told where that differs.

    Attributes
    ----------
    path_s, pick_s, survey_m : float
        Standard deviations told [s, s, m].
    noise : float
        How many times larger path, pick and survey errors really are.
    air : float
        How many times farther the air really is from what is told than the site says it may be.
    rounds : int
        Shots from each place.
    sensors_count : int
        How many sensors.
    p_detect : float
        Probability that a sensor reports a shot.
    weather : Weather
        What is told of the air, and how sure that is; the truth is drawn from it.
    """

    path_s: float = 0.008
    pick_s: float = 0.0015
    survey_m: float = 0.5
    noise: float = 1.0
    air: float = 1.0
    rounds: int = 1
    sensors_count: int = 12
    p_detect: float = 0.9
    weather: Weather = WEATHER


@dataclass(frozen=True)
class Fired:
    """Shots of one stream, and what was heard of them.

    Attributes
    ----------
    told_m : numpy.ndarray, shape (m, 3)
        Where the survey says the sensors stand [m].
    place_m : numpy.ndarray, shape (k, 3)
        Where shots were fired [m].
    origin_s : numpy.ndarray, shape (k,)
        When [s].
    sensor, shot : numpy.ndarray, shape (n,)
        Of each pick.
    toa_s : numpy.ndarray, shape (n,)
        Of each pick [s].
    """

    told_m: Floats
    place_m: Floats
    origin_s: Floats
    sensor: NDArray[np.int64]
    shot: NDArray[np.int64]
    toa_s: Floats


@dataclass(frozen=True)
class Score:
    """How a stream was located.

    Attributes
    ----------
    fired, found, held : int
        Shots fired; of these located; of these with the truth in their ellipse.
    near : int
        Shots within 15 m.
    bursts, burst_held : int
        Places with an incident, and those whose incident's ellipse holds the truth.
    extra : int
        Located shots that are none of those fired.
    major_m : tuple of float
        Major semi-axes [m].
    """

    fired: int
    found: int
    held: int
    near: int
    bursts: int
    burst_held: int
    extra: int
    major_m: tuple[float, ...]


def fire(world: World, places: int, rng: np.random.Generator) -> Fired:
    """Fire from some places, one after the other, in one air.

    Parameters
    ----------
    world : World
        What is true.
    places : int
        From how many places.
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    Fired
        Shots and picks; sensors near each other hear alike only in what they share.
    """
    told = sensors(world.sensors_count, SIDE_M, rng)
    told[:, 2] = rng.uniform(4, 12, len(told))
    stand = told + world.noise * world.survey_m * rng.normal(size=told.shape)
    known = Air.of_weather(world.weather)
    speed = known.sound_speed_m_s + world.air * known.sound_speed_sigma_m_s * rng.normal()
    wind = world.air * known.wind_sigma_m_s * rng.normal(size=2)
    rows, where, when = [], [], []
    for k in range(places):
        place = np.array([*rng.uniform(-BEYOND_M, SIDE_M + BEYOND_M, 2), 1.5])
        path = flight_s(stand, place, speed, wind) + world.noise * world.path_s * rng.normal(size=len(stand))
        for n in range(world.rounds):
            uneven = JITTER * rng.normal() if world.rounds > 1 else 0.0
            origin = 10.0 + k * (APART_S + CADENCE_S * world.rounds) + (n + uneven) * CADENCE_S
            toa = origin + path + world.noise * world.pick_s * rng.normal(size=len(stand))
            heard = np.flatnonzero(rng.random(len(stand)) < world.p_detect)
            rows += [(float(toa[i]), int(i), len(when)) for i in heard]
            where.append(place)
            when.append(origin)
    toa_s, sensor, shot = (np.array(column) for column in zip(*sorted(rows), strict=True))
    return Fired(told, np.array(where), np.array(when), sensor.astype(np.int64), shot.astype(np.int64), toa_s)


def match(shots: Sequence[Shot], origin_s: Floats, place_m: Floats) -> tuple[list[tuple[int, Shot]], int]:
    """Pair located shots with those fired: near in time, nearest in place first, each once.

    Parameters
    ----------
    shots : sequence of Shot
        As located.
    origin_s : numpy.ndarray, shape (k,)
        When shots were fired [s].
    place_m : numpy.ndarray, shape (k, 2 or 3)
        Where [m].

    Returns
    -------
    list of tuple of int and Shot
        Pairs.
    int
        Located shots left over.
    """
    options = []
    for j, shot in enumerate(shots):
        gaps = np.abs(origin_s - seconds(shot.origin_ns))
        for k in np.flatnonzero(gaps < SAME_S):
            away = math.hypot(shot.x_m - place_m[k, 0], shot.y_m - place_m[k, 1])
            # Rounds of one place differ in time alone: a second weighs as the way of sound in it.
            options.append((away + 340.0 * float(gaps[k]), int(k), j))
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for _, k, j in sorted(options):
        if k not in pairs and j not in taken:
            pairs[k] = j
            taken.add(j)
    return [(k, shots[j]) for k, j in sorted(pairs.items())], len(shots) - len(taken)


def holds(ellipse: Ellipse, x_m: float, y_m: float, place_m: Floats) -> bool:
    """Tell whether an ellipse round a place holds another.

    Parameters
    ----------
    ellipse : Ellipse
        As published.
    x_m, y_m : float
        Its middle [m].
    place_m : numpy.ndarray, shape (2,) or (3,)
        The other place [m].

    Returns
    -------
    bool
        Whether it does.
    """
    return ellipse_distance(ellipse, float(place_m[0]) - x_m, float(place_m[1]) - y_m) <= 1.0


def score(said: Said, origin_s: Floats, place_m: Floats) -> Score:
    """Score what a hub said of shots fired.

    Parameters
    ----------
    said : Said
        What it said.
    origin_s : numpy.ndarray, shape (k,)
        When shots were fired [s].
    place_m : numpy.ndarray, shape (k, 2 or 3)
        Where [m].

    Returns
    -------
    Score
        Counts.
    """
    pairs, extra = match(said.final, origin_s, place_m)
    held = [holds(shot.ellipse, shot.x_m, shot.y_m, place_m[k]) for k, shot in pairs]
    near = sum(math.hypot(shot.x_m - place_m[k, 0], shot.y_m - place_m[k, 1]) <= LIMIT_M for k, shot in pairs)
    bursts = _bursts(said, {shot.shot_id: tuple(place_m[k, :2].tolist()) for k, shot in pairs})
    major = tuple(shot.ellipse.major_m for _, shot in pairs)
    return Score(len(origin_s), len(pairs), sum(held), near, len(bursts), sum(bursts), extra, major)


def _bursts(said: Said, home: dict[str, tuple[float, float]]) -> list[bool]:
    """Say for each place whether the incident with most of its shots holds it: a burst has one path error."""
    best: dict[tuple[float, float], tuple[int, bool]] = {}
    for one in said.incidents.values():
        places = [home[name] for name in one.shot_ids if name in home]
        for place in set(places) if one.state != "withdrawn" else ():
            held = holds(one.ellipse, one.x_m, one.y_m, np.array(place))
            best[place] = max(best.get(place, (0, False)), (places.count(place), held))
    return [held for _, held in best.values()]


def stream(item: tuple[World, int, int]) -> Score:
    """Fire from many places over one site, and locate it all.

    Parameters
    ----------
    item : tuple of World, int and int
        The world, seed and number of places.

    Returns
    -------
    Score
        How it was located.
    """
    world, seed, places = item
    fired = fire(world, places, np.random.default_rng([seed, 7]))
    site = site_of(fired.told_m, locating=Locating(path_sigma_s=world.path_s), weather=world.weather,
                   survey_m=world.survey_m)  # fmt: skip
    said = run(site, detections(fired.sensor, fired.toa_s, world.pick_s), 0.1, tick_s=0.5)
    return score(said, fired.origin_s, fired.place_m)


def alone(item: tuple[World, int, int]) -> tuple[int, int]:
    """Locate each shot by the solver alone, each in an air of its own.

    Parameters
    ----------
    item : tuple of World, int and int
        The world, seed and number of shots.

    Returns
    -------
    tuple of int
        Shots located, and those whose covariance allows the truth.
    """
    world, seed, shots = item
    rng = np.random.default_rng([seed, 8])
    air = Air.of_weather(world.weather)
    sigma = math.hypot(world.path_s, world.pick_s, world.survey_m / air.sound_speed_m_s)
    found = held = 0
    for _ in range(shots):
        fired = fire(world, 1, rng)
        at = fired.told_m[fired.sensor]
        solution = solve(at, fired.toa_s, np.full(len(at), sigma), air)
        if isinstance(solution, NoSolution):
            continue
        found += 1
        off = fired.place_m[0, :2] - [solution.x_m, solution.y_m]
        held += within95(off, solution.covariance)
    return found, held


# -------------------------------------------------------------------------------------------------------------- rows


def add(scores: Sequence[Score]) -> dict[str, Any]:
    """Sum up scores for a row's detail.

    Parameters
    ----------
    scores : sequence of Score
        One for each stream.

    Returns
    -------
    dict
        Counts, and the median of the major semi-axes.
    """
    total = {name: sum(getattr(one, name) for one in scores) for name in ("fired", "found", "near", "extra")}
    major = [axis for one in scores for axis in one.major_m]
    return total | {"major_median_m": float(np.median(major)) if major else math.nan}


WORLDS: tuple[tuple[str, World, Ask], ...] = (
    ("matched", World(), Ask(0.94, 0.96)),
    ("air prior 3x too tight", World(air=3.0), Ask(0.90, 0.98)),
    ("noise twice the declared", World(noise=2.0), Ask(0.90, 0.98)),
)


def measure(plan: Plan) -> list[Row]:
    """Measure coverage over single shots, in streams and by the solver alone.

    Parameters
    ----------
    plan : Plan
        How many shots.

    Returns
    -------
    list of Row
        Matched and mismatched.
    """
    rows = []
    for name, world, ask in WORLDS:
        items = [(world, seed, 100) for seed in plan.seeds(100, 4)]
        scores = spread(stream, items, plan)
        held, found = sum(one.held for one in scores), sum(one.found for one in scores)
        # Shots of one stream share air and survey: the interval that treats them as independent is too narrow.
        shares = [one.held / max(one.found, 1) for one in scores]
        detail = add(scores) | {"sd_between_streams": float(np.std(shares)), "least_stream": min(shares)}
        rows.append(share_row(f"ellipse holds truth, streams of 100 shots: {name}", held, found, ask, detail=detail))
    for name, world, ask in WORLDS:
        found, held = np.sum(spread(alone, [(world, s, 100) for s in plan.seeds(100, 10)], plan), axis=0)
        rows.append(share_row(f"ellipse holds truth, solver alone: {name}", int(held), int(found), ask))
    return rows


def measure_sizes(plan: Plan) -> list[Row]:
    """Measure coverage of the solver alone with few and with many sensors.

    Parameters
    ----------
    plan : Plan
        How many shots.

    Returns
    -------
    list of Row
        By number of sensors; every sensor hears.
    """
    rows = []
    for count in (4, 5, 6, 8, 20):
        world = World(sensors_count=count, p_detect=1.0)
        found, held = np.sum(spread(alone, [(world, s, 100) for s in plan.seeds(20, 5)], plan), axis=0)
        ask = Ask(0.90, 0.98)
        rows.append(share_row(f"ellipse holds truth, {count} sensors, solver alone", int(held), int(found), ask))
    return rows


def measure_bursts(plan: Plan) -> list[Row]:
    """Measure coverage of bursts, whose path error is one and does not average out.

    The weather is reported as well as a station near by does, to 1 C and 1 m/s on each axis, and the truth is drawn
    from that; second, nothing is reported, and the air is good to the site's defaults (10 C, 3 m/s). Cadence is
    150 ms with 2 % jitter.

    Parameters
    ----------
    plan : Plan
        How many bursts.

    Returns
    -------
    list of Row
        By rounds: of incidents, and of single shots.
    """
    rows = []
    for weather, told in ((REPORTED, "weather told to 1 C and 1 m/s"), (WEATHER, "weather not told")):
        for rounds, full, quick in ((1, 40, 4), (3, 40, 4), (30, 40, 3)):
            world = replace(World(), rounds=rounds, weather=weather)
            scores = spread(stream, [(world, seed, 10) for seed in plan.seeds(full, quick)], plan)
            rows += _burst_rows(f"path 8 ms, bursts of {rounds}, {told}", scores)
    return rows


def _burst_rows(figure: str, scores: Sequence[Score]) -> list[Row]:
    held, of = sum(one.burst_held for one in scores), sum(one.bursts for one in scores)
    shots_held, shots = sum(one.held for one in scores), sum(one.found for one in scores)
    ask = Ask(0.90, 0.98)
    detail = add(scores) | {"by_shot": share_detail(shots_held, shots)}
    note = "shots of one burst share their path error: no interval"
    return [
        share_row(f"{figure}: incident's ellipse holds truth", held, of, ask, detail=detail),
        Row(f"{figure}: shots' ellipses hold truth", shots_held / max(shots, 1), ask, shots, note=note),
    ]
