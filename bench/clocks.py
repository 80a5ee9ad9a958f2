"""Clocks that lie: a node a little off must be named, and only that node; one far off must not make or move a shot.

Sensors at random in a square of 1 km, each place with a path term of its own of 8 ms at each sensor, as in
`bench.coverage`. The wind is 3 m/s from anywhere. It is reported with an error of the sigma that is told, or not at all
(the site's defaults: none, good to 3 m/s on each axis).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agls.config import Locating, Weather
from agls.locate.solve import Air
from agls.messages import NS_PER_S, Detection, Rejection, Shot
from agls.pipeline import Hub
from bench.coverage import match
from bench.oracle import flight_s, jacobian
from bench.rows import ANY, Ask, Plan, Row, share_row, spread
from bench.scenes import sensors
from bench.stream import detections, moment_ns, run, sensor_name, site_of

SIDE_M = 1000.0
PATH_S, PICK_S, SURVEY_M = 0.008, 0.0015, 0.5
OFF_S = 0.015
WIND_M_S = 3.0
REPORTED_SIGMA_M_S, REPORTED_SIGMA_C = 1.0, 2.0
PLACES, EVERY_S = 50, 30.0
LAST = 15  # places, by when nearly all suspects have been named
SENSORS = 12
P_DETECT = 0.9
SURE_SIGMAS = 5.0
MOVED_M = 25.0
CLOCK_SUSPECT = "clock_suspect"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ground:
    """Sensors, the true air, and what is told of it.

    Attributes
    ----------
    at_m : numpy.ndarray, shape (m, 3)
        Sensors as surveyed [m].
    stand_m : numpy.ndarray, shape (m, 3)
        Sensors as they stand [m].
    speed_m_s : float
        True sound speed [m/s].
    wind_m_s : numpy.ndarray, shape (2,)
        True velocity of the air [m/s].
    weather : Weather
        What is told.
    """

    at_m: Floats
    stand_m: Floats
    speed_m_s: float
    wind_m_s: Floats
    weather: Weather


def ground(count: int, reported: bool, rng: np.random.Generator) -> Ground:
    """Place sensors, and let a wind of 3 m/s blow.

    Parameters
    ----------
    count : int
        How many sensors.
    reported : bool
        Whether wind and temperature are told, with errors of the sigmas told.
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    Ground
        Where things stand.
    """
    at = sensors(count, SIDE_M, rng)
    at[:, 2] = rng.uniform(4, 12, count)
    angle = rng.uniform(0, 2 * np.pi)
    wind = WIND_M_S * np.array([np.cos(angle), np.sin(angle)])
    weather = Weather()
    if reported:
        east, north = wind + REPORTED_SIGMA_M_S * rng.normal(size=2)
        weather = Weather(
            wind_speed_m_s=math.hypot(east, north), wind_from_deg=math.degrees(math.atan2(-east, -north)) % 360.0,
            wind_sigma_m_s=REPORTED_SIGMA_M_S, temperature_sigma_c=REPORTED_SIGMA_C,
        )  # fmt: skip
    known = Air.of_weather(weather)
    speed = known.sound_speed_m_s + known.sound_speed_sigma_m_s * rng.normal()
    return Ground(at, at + SURVEY_M * rng.normal(size=at.shape), speed, wind, weather)


# ------------------------------------------------------------------------------------------- a node 15 ms off


@dataclass(frozen=True)
class Named:
    """Whom a hub named over one stream.

    Attributes
    ----------
    after : int
        How many places had fired when the node that is off was named; 0: never.
    blamed : tuple of int
        Others that were named.
    offset_s : float
        What was said of its offset when it was named [s].
    errors_m : tuple of float
        How far shots from the last places are off [m].
    bound : int
        From how many places the Fisher information could say it by five sigmas; 0: not from all of them.
    """

    after: int
    blamed: tuple[int, ...]
    offset_s: float
    errors_m: tuple[float, ...]
    bound: int


def name_suspects(item: tuple[str, bool, int]) -> Named:
    """Fire from many places, with one clock 15 ms off, and note whom the hub names.

    Parameters
    ----------
    item : tuple of str, bool and int
        ``inner``, ``edge`` or ``none``: whose clock is off; whether the weather is reported; seed.

    Returns
    -------
    Named
        Whom it named.
    """
    which, reported, seed = item
    rng = np.random.default_rng([seed, 31])
    here = ground(SENSORS, reported, rng)
    node = choose_node(here.at_m, which, rng)
    places = np.column_stack([rng.uniform(0, SIDE_M, (PLACES, 2)), np.full(PLACES, 1.5)])
    origins = 10.0 + EVERY_S * np.arange(PLACES)
    offset = np.zeros(SENSORS)
    if node >= 0:
        offset[node] = OFF_S * rng.choice([-1.0, 1.0])
    toa = np.array([t0 + arrivals(here, place, rng) for t0, place in zip(origins, places, strict=True)]) + offset
    heard = rng.random(toa.shape) < P_DETECT
    shot, sensor = np.nonzero(heard)
    order = np.argsort(toa[shot, sensor], kind="stable")
    shot, sensor = shot[order], sensor[order]
    site = site_of(here.at_m, locating=Locating(path_sigma_s=PATH_S), weather=here.weather, survey_m=SURVEY_M)
    said, located = suspects(Hub(site), detections(sensor, toa[shot, sensor], PICK_S))
    own = [(at_s, offset_s) for at_s, who, offset_s in said if who == node]
    after = int(np.searchsorted(origins, own[0][0])) if own else 0
    blamed = tuple(sorted({who for _, who, _ in said} - {node}))
    bound = needed(here, places, heard, node) if node >= 0 else 0
    pairs, _ = match(located, origins[-LAST:], places[-LAST:])
    errors = tuple(_off_m(np.array([one.x_m, one.y_m]), places[PLACES - LAST + k, :2]) for k, one in pairs)
    return Named(after, blamed, own[0][1] if own else math.nan, errors, bound)


def arrivals(here: Ground, place_m: Floats, rng: np.random.Generator, rounds: int = 1) -> Floats:
    """Let sensors hear rounds fired from one place.

    Parameters
    ----------
    here : Ground
        Sensors and air.
    place_m : numpy.ndarray, shape (3,)
        Where [m].
    rng : numpy.random.Generator
        Chance.
    rounds : int, optional
        How many; their paths are the same, their picks are not.

    Returns
    -------
    numpy.ndarray, shape (m,) or (rounds, m)
        Times after each round [s].
    """
    path = flight_s(here.stand_m, place_m, here.speed_m_s, here.wind_m_s) + PATH_S * rng.normal(size=len(here.at_m))
    return path + PICK_S * rng.normal(size=len(path) if rounds == 1 else (rounds, len(path)))


def choose_node(at_m: Floats, which: str, rng: np.random.Generator) -> int:
    """Choose a sensor among others, or at the edge of all.

    Parameters
    ----------
    at_m : numpy.ndarray, shape (m, 3)
        Sensors [m].
    which : str
        ``inner``, ``edge`` or ``none``.
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    int
        Its index, -1 for none.
    """
    from scipy.spatial import ConvexHull

    edge = ConvexHull(at_m[:, :2]).vertices
    inner = np.setdiff1d(np.arange(len(at_m)), edge)
    return -1 if which == "none" else int(rng.choice(edge if which == "edge" else inner))


def suspects(hub: Hub, heard: Sequence[Detection]) -> tuple[list[tuple[float, int, float]], list[Shot]]:
    """Let a hub hear detections, and note whose clocks it suspects, and the shots.

    Parameters
    ----------
    hub : Hub
        The hub.
    heard : sequence of Detection
        In order of time.

    Returns
    -------
    list of tuple of float, int and float
        When [s], which sensor, how far off [s].
    list of Shot
        The last revision of each.
    """
    index = {sensor_name(k): k for k in range(len(hub.associator.index))}
    out, last = [], {}
    for one in [*heard, None]:
        now_ns = heard[-1].toa_ns + 60 * NS_PER_S if one is None else one.toa_ns + NS_PER_S // 10
        said = hub.advance(now_ns) if one is None else hub.feed(one, now_ns)
        for item in said:
            if isinstance(item, Rejection) and item.reason == CLOCK_SUSPECT:
                off_ms = float(item.detail.split()[1])
                out.append(((now_ns - moment_ns(0.0)) / NS_PER_S, index[item.subject], off_ms / 1e3))
            elif isinstance(item, Shot):
                last[item.shot_id] = item
    return out, [shot for shot in last.values() if shot.state == "located"]


def needed(here: Ground, places_m: Floats, heard: NDArray[np.bool_], node: int) -> int:
    """Count the places from which an offset of 15 ms could be told by five sigmas: its Cramer-Rao bound.

    Places and origin times are free, heights known to 10 m, the air is one for all and as well known beforehand as is
    told, and every other clock is right.

    Parameters
    ----------
    here : Ground
        Sensors and air.
    places_m : numpy.ndarray, shape (k, 3)
        Where shots were fired, in order [m].
    heard : numpy.ndarray, shape (k, m)
        Who heard them.
    node : int
        Whose clock is off.

    Returns
    -------
    int
        How many; 0 if all of them are too few.
    """
    known = Air.of_weather(here.weather)
    common = np.diag([0.0, known.sound_speed_sigma_m_s**-2, known.wind_sigma_m_s**-2, known.wind_sigma_m_s**-2])
    sigma = math.hypot(PATH_S, PICK_S, SURVEY_M / known.sound_speed_m_s)
    for k, place in enumerate(places_m):
        rows = jacobian(here.stand_m[heard[k]], place, here.speed_m_s, here.wind_m_s) / sigma
        late = (np.flatnonzero(heard[k]) == node) / sigma
        free, shared = rows[:, :4], np.column_stack([late, rows[:, 4:]])
        inner = free.T @ free + np.diag([0.0, 0.0, 10.0**-2, 0.0])
        common += shared.T @ shared - shared.T @ free @ np.linalg.solve(inner, free.T @ shared)
        if common[0, 0] > 0 and SURE_SIGMAS * math.sqrt(np.linalg.inv(common)[0, 0]) < OFF_S:
            return k + 1
    return 0


def measure_suspects(plan: Plan) -> list[Row]:
    """Measure whether a node 15 ms off is named, after how many places, and who is blamed without being off.

    Parameters
    ----------
    plan : Plan
        How many seeds.

    Returns
    -------
    list of Row
        Named and blamed, for a node among the others and at the edge, with the weather reported and not.
    """
    rows = []
    seeds = plan.seeds(40, 8)
    for reported in (True, False):
        told = "reported" if reported else "not reported"
        for which in ("inner", "edge", "none"):
            found = spread(name_suspects, [(which, reported, seed) for seed in seeds], plan)
            blamed = sum(bool(one.blamed) for one in found)
            if which != "none":
                rows.append(_named_row(f"{which} node 15 ms off, wind 3 m/s {told}: named", found))
            rows.append(
                Row(f"{which} node off, wind 3 m/s {told}: streams in which another is blamed", blamed, Ask(high=0),
                    len(found), detail={"seeds": [s for s, one in zip(seeds, found, strict=True) if one.blamed],
                    "error_of_last_places_rms_m": _rms([error for one in found for error in one.errors_m])})
            )  # fmt: skip
    return rows


def _named_row(figure: str, found: Sequence[Named]) -> Row:
    after = [one.after for one in found if one.after]
    bounds = [one.bound or PLACES + 1 for one in found]
    detail: dict[str, Any] = {
        "places_median": float(np.median(after)) if after else math.nan,
        "places_most": max(after, default=0),
        "bound_places_median": float(np.median(bounds)),
        "could_be_named": sum(one.bound > 0 for one in found),
        "named_after": [one.after for one in found],
        "bound": [one.bound for one in found],
        "offset_rms_error_s": _rms([abs(one.offset_s) - OFF_S for one in found if one.after]),
    }
    note = f"{PLACES} places, one shot each, {EVERY_S:g} s apart, P(detect) {P_DETECT:g}; bound: five sigmas expected"
    return share_row(figure, len(after), len(found), Ask(low=0.95), detail=detail, note=note)


def _rms(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values else math.nan


# ---------------------------------------------------------------------------------------------- a node that lies

Lie = tuple[Floats, Floats]


def constant(toa_s: Floats, rng: np.random.Generator) -> Lie:
    """Be off by the same 0.05 to 2 s, either way.

    Parameters
    ----------
    toa_s : numpy.ndarray, shape (k,)
        When the node heard what [s].
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    tuple of numpy.ndarray
        Times it says it heard something, and when it says each of these [s].
    """
    off = rng.choice([-1.0, 1.0]) * rng.uniform(0.05, 2.0)
    return toa_s + off, toa_s


def little(toa_s: Floats, rng: np.random.Generator) -> Lie:
    """Be off by the same 20 to 60 ms, either way: where an association gate ends, and a path may still be so bent.

    Parameters
    ----------
    toa_s : numpy.ndarray, shape (k,)
        When the node heard what [s].
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    tuple of numpy.ndarray
        As `constant`.
    """
    return toa_s + rng.choice([-1.0, 1.0]) * rng.uniform(0.02, 0.06), toa_s


def scattered(toa_s: Floats, rng: np.random.Generator) -> Lie:
    """Say any time within 2 s of the right one.

    Parameters
    ----------
    toa_s : numpy.ndarray, shape (k,)
        When the node heard what [s].
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    tuple of numpy.ndarray
        As `constant`.
    """
    return toa_s + rng.uniform(-2.0, 2.0, len(toa_s)), toa_s


def replayed(toa_s: Floats, rng: np.random.Generator) -> Lie:
    """Say all it heard again and again, as if new: ten times, at any time within 3 s, and once when it was.

    Parameters
    ----------
    toa_s : numpy.ndarray, shape (k,)
        When the node heard what [s].
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    tuple of numpy.ndarray
        As `constant`.
    """
    again = np.repeat(toa_s, 10)
    return np.concatenate([toa_s, again + rng.uniform(0.0, 3.0, len(again))]), np.concatenate([toa_s, again + 0.1])


def drifting(toa_s: Floats, rng: np.random.Generator) -> Lie:
    """Run away by up to a thousandth, either way: 50 ms from one shot to the next.

    Parameters
    ----------
    toa_s : numpy.ndarray, shape (k,)
        When the node heard what [s].
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    tuple of numpy.ndarray
        As `constant`.
    """
    rate = rng.choice([-1.0, 1.0]) * rng.uniform(1e-4, 1e-3)
    return toa_s + rate * (toa_s - 10.0), toa_s


NEAR_PATHS = "20-60 ms off"
LIES = {
    "0.05-2 s off": constant,
    NEAR_PATHS: little,
    "any time within 2 s": scattered,
    "replays": replayed,
    "drift": drifting,
}


@dataclass(frozen=True)
class Harm:
    """What one lying node did in one stream.

    Attributes
    ----------
    shots : int
        Shots fired.
    created : int
        Shots that stand and were not fired; and would not stand had the node been silent.
    told : int
        Shots told and withdrawn beyond those withdrawn with the node silent.
    lost : int
        Shots found without the node, and not with its lies.
    moved_m : tuple of float
        How far each shot is from where it is without the node [m]; 0 where that is nearer to the truth.
    """

    shots: int
    created: int
    told: int
    lost: int
    moved_m: tuple[float, ...]


def lie(item: tuple[str, int, int, int]) -> Harm:
    """Fire from some places while one node lies, and see what that changes.

    Parameters
    ----------
    item : tuple of str, int, int and int
        Kind of lie, how many sensors, rounds from each place, seed.

    Returns
    -------
    Harm
        What changed against the same with the node silent.
    """
    kind, count, rounds, seed = item
    rng = np.random.default_rng([seed, count, rounds, 32])
    here = ground(count, True, rng)
    node = int(rng.integers(count))
    places = np.column_stack([rng.uniform(0, SIDE_M, (10, 2)), np.full(10, 1.5)])
    cadence = rng.uniform(0.1, 0.5)
    origins = (10.0 + 50.0 * np.arange(10))[:, None] + cadence * np.arange(rounds)
    toa = np.concatenate(
        [origins[k][:, None] + arrivals(here, place, rng, rounds).reshape(rounds, -1) for k, place in enumerate(places)]
    )
    who = np.broadcast_to(np.arange(count), toa.shape)
    honest = who.ravel() != node
    said_s, when_s = LIES[kind](toa[:, node], rng)
    site = site_of(here.at_m, locating=Locating(path_sigma_s=PATH_S), weather=here.weather, survey_m=SURVEY_M)
    sensor = np.concatenate([who.ravel()[honest], np.full(len(said_s), node)])
    times = np.concatenate([toa.ravel()[honest], said_s])
    late = np.concatenate([np.full(int(honest.sum()), 0.1), np.maximum(when_s - said_s, 0.0) + 0.1])
    with_lies = run(site, detections(sensor, times, PICK_S), late, tick_s=0.5)
    alone = honest.sum()
    without = run(site, detections(sensor[:alone], times[:alone], PICK_S), 0.1, tick_s=0.5)
    fired_m, fired_s = np.repeat(places[:, :2], rounds, axis=0), origins.ravel()
    told = sum(sign * (len(said.shots) - len(said.final)) for sign, said in ((1, with_lies), (-1, without)))
    return _harm(with_lies.final, without.final, fired_s, fired_m, max(told, 0))


def _harm(lied: Sequence[Shot], silent: Sequence[Shot], fired_s: Floats, fired_m: Floats, told: int) -> Harm:
    (pairs, extra), (before, extra_before) = match(lied, fired_s, fired_m), match(silent, fired_s, fired_m)
    now, then = ({k: np.array([shot.x_m, shot.y_m]) for k, shot in each} for each in (pairs, before))
    moved = tuple(
        float(np.hypot(*(now[k] - then[k]))) if _off_m(now[k], fired_m[k]) > _off_m(then[k], fired_m[k]) else 0.0
        for k in sorted(now.keys() & then.keys())
    )
    lost = len(then.keys() - now.keys())
    return Harm(len(fired_s), max(extra - extra_before, 0), told, lost, moved)


def _off_m(place_m: Floats, true_m: Floats) -> float:
    return float(np.hypot(*(place_m - true_m)))


def measure_lies(plan: Plan) -> list[Row]:
    """Measure what one node that lies about time does to shots that six and more sensors heard.

    Parameters
    ----------
    plan : Plan
        How many seeds.

    Returns
    -------
    list of Row
        Shots created, and shots moved by more than 25 m, by kind of lie.
    """
    seeds = plan.seeds(20, 3)
    worlds = [(6, 1), (8, 1), (12, 1), (6, 5), (12, 5)]
    rows = []
    for kind in LIES:
        items = [(kind, *world, seed) for world in worlds for seed in seeds]
        found = spread(lie, items, plan)
        tallies: dict[str, Counter[str]] = {}
        for (_, count, rounds, _), one in zip(items, found, strict=True):
            own = tallies.setdefault(f"{count} sensors, {rounds} round{'s' * (rounds > 1)}", Counter())
            own.update(_tally(one))
        total = sum(tallies.values(), Counter())
        detail: dict[str, Any] = {name: dict(own) for name, own in tallies.items()}
        seeds_hit = [(*item[1:], one.created) for item, one in zip(items, found, strict=True) if one.created]
        ask = ANY if kind == NEAR_PATHS else Ask(high=0)
        rows.append(Row(f"one node lies, {kind}: shots created", total["created"], ask, total["shots"],
                        detail=detail | {"where": seeds_hit}, note=_NOTES.get(kind, _AGAINST)))  # fmt: skip
        far = [(*item[1:], round(max(one.moved_m, default=0.0), 1)) for item, one in zip(items, found, strict=True)
               if max(one.moved_m, default=0.0) > MOVED_M]  # fmt: skip
        rows.append(Row(f"one node lies, {kind}: shots moved > 25 m", total["moved"], ask, total["shots"],
                        detail={"where": far, "lost": total["lost"]}))  # fmt: skip
    return rows


_AGAINST = "against the same with the node silent, where farther from the truth; all others hear every shot"
_NOTES = {
    NEAR_PATHS: "within what a path may be bent: one shot cannot tell; 50 ms at one of six sensors, believed, is more"
    " than 25 m at one place in five",
    "drift": _AGAINST + "; the first shots are off by as little as 5-50 ms, where the row of 20-60 ms holds",
}


def _tally(one: Harm) -> Counter[str]:
    moved = sum(far > MOVED_M for far in one.moved_m)
    return Counter(shots=one.shots, created=one.created, told=one.told, lost=one.lost, moved=moved)


def measure(plan: Plan) -> list[Row]:
    """Measure clocks that are off and nodes that lie.

    Parameters
    ----------
    plan : Plan
        How many seeds.

    Returns
    -------
    list of Row
        All of it.
    """
    return measure_suspects(plan) + measure_lies(plan)
