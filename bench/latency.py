"""From the muzzle to the published shot in a simulated city of 1 km, in virtual time with real computing.

Sixteen sensors; a node tells of an onset after 0.08 s and judges it after 0.5 s (measured: `bench/outbox.py`); the
network takes 30 ms and a random while, now and then a second or more. The hub is one server: what it computes delays
what comes behind. Figures are per fired shot; one that is never published counts as infinitely late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from agls.messages import Shot
from bench.coverage import match
from bench.oracle import flight_s
from bench.rows import ANY, Ask, Plan, Row, bootstrap, share_row, spread
from bench.scenes import sensors
from bench.stream import Said, Told, detections, run, site_of

SIDE_M = 1000.0
SENSORS = 16
EARLY_S, JUDGED_S, NETWORK_S, NETWORK_MEAN_S = 0.08, 0.5, 0.03, 0.06
SLOW_SHARE, SLOW_MEAN_S = 0.01, 1.0
P_DETECT, ECHO, CLUTTER_PER_S = 0.9, 0.3, 0.05
PATH_S, PICK_S = 0.008, 0.0015
CLOSE_M = 25.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Times:
    """When shots of one stream were published.

    Attributes
    ----------
    latency_s : list of float
        From the muzzle to the first revision, for each fired shot [s].
    fourth_s : list of float
        From the muzzle to the fourth arrival's sound at its sensor: what no system can beat [s].
    lag_s : list of float
        For each published shot, by how much computing and waiting delayed its first revision [s].
    calls_s : list of float
        What each call with a detection cost [s].
    moved_m : list of float
        From the first place to the last, for each shot that stands [m].
    told, withdrawn : int
        Shots published, and taken back.
    """

    latency_s: list[float]
    fourth_s: list[float]
    lag_s: list[float]
    calls_s: list[float]
    moved_m: list[float]
    told: int
    withdrawn: int


def delays_s(count: int, node_s: float, rng: np.random.Generator) -> Floats:
    """Draw how long detections take to the hub.

    Parameters
    ----------
    count : int
        How many.
    node_s : float
        How long they take in the node [s].
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    numpy.ndarray, shape (count,)
        Times [s].
    """
    slow = (rng.random(count) < SLOW_SHARE) * rng.exponential(SLOW_MEAN_S, count)
    return np.asarray(node_s + NETWORK_S + rng.exponential(NETWORK_MEAN_S, count) + slow)


def city(item: tuple[int, int]) -> Times:
    """Fire singles and bursts over one city, and watch its hub.

    Parameters
    ----------
    item : tuple of int
        Seed and number of incidents, half of them single shots, half bursts of 2 to 10 rounds.

    Returns
    -------
    Times
        When what was published.
    """
    seed, incidents = item
    rng = np.random.default_rng([seed, 11])
    places = sensors(SENSORS, SIDE_M, rng)
    rows: list[tuple[float, int]] = []
    origin, where, fourth = [], [], []
    start = 5.0
    for _ in range(incidents):
        place = np.array([*rng.uniform(0, SIDE_M, 2), 1.5])
        path = flight_s(places, place, 340.7, (0.0, 0.0)) + PATH_S * rng.normal(size=SENSORS)
        rounds = 1 if rng.random() < 0.5 else int(rng.integers(2, 11))
        for t0 in start + np.arange(rounds) * rng.uniform(0.12, 0.6):
            heard = np.flatnonzero(rng.random(SENSORS) < P_DETECT)
            toa = t0 + path + PICK_S * rng.normal(size=SENSORS)
            echoed = np.flatnonzero(rng.random(SENSORS) < ECHO)
            rows += [(float(toa[i]), int(i)) for i in heard]
            rows += [(float(toa[i] + rng.uniform(0.02, 0.5)), int(i)) for i in echoed]
            origin.append(float(t0))
            where.append(place)
            fourth.append(float(np.sort(toa[heard])[3] - t0) if len(heard) > 3 else math.inf)
        start += 8.0 + rng.exponential(4.0)
    for i in range(SENSORS):
        rows += [(float(moment), i) for moment in rng.uniform(0, start, rng.poisson(CLUTTER_PER_S * start))]
    rows.sort()
    heard_all = detections([i for _, i in rows], [toa for toa, _ in rows], PICK_S)
    early = [msgspec.structs.replace(one, stage="preliminary") for one in heard_all]
    taken_s = np.concatenate([delays_s(len(rows), JUDGED_S, rng), delays_s(len(rows), EARLY_S, rng)])
    said = run(site_of(places), heard_all + early, taken_s)
    return _times(said, np.array(origin), np.array(where), fourth)


def _times(said: Said, origin_s: Floats, place_m: Floats, fourth_s: list[float]) -> Times:
    last = {name: told[-1].shot for name, told in said.shots.items()}
    stands = [shot for shot in last.values() if shot.state == "located"]
    by_shot = {k: said.shots[shot.shot_id] for k, shot in match(stands, origin_s, place_m)[0]}
    first: list[Told | None] = [by_shot[k][0] if k in by_shot else None for k in range(len(origin_s))]
    return Times(
        [math.inf if one is None else one.ready_s - t0 for one, t0 in zip(first, origin_s.tolist(), strict=True)],
        fourth_s,
        [one.ready_s - one.due_s for one in first if one is not None],
        said.calls_s,
        [_apart_m(told[0].shot, told[-1].shot) for told in said.shots.values() if told[-1].shot.state == "located"],
        len(said.shots),
        len(said.shots) - len(stands),
    )


def _apart_m(one: Shot, other: Shot) -> float:
    return math.hypot(one.x_m - other.x_m, one.y_m - other.y_m)


def measure(plan: Plan) -> list[Row]:
    """Measure latency, what it is made of, and how good the first word was.

    Parameters
    ----------
    plan : Plan
        How many incidents.

    Returns
    -------
    list of Row
        Per shot, in seconds, metres and shares.
    """
    # In one process: two at a time would slow each other, and computing is part of the figure.
    alone = Plan(plan.quick, plan.first_seed, 1)
    run(
        site_of(np.array([[0.0, 0, 0], [9.0, 0, 0], [0, 9.0, 0], [9, 9.0, 0]])),
        detections([0, 1, 2, 3], [1.0] * 4, 1e-3),
    )
    city((0, 2))  # compiled by now
    found = spread(city, [(seed, 20) for seed in plan.seeds(25, 2)], alone)
    latency = np.array([one for times in found for one in times.latency_s])
    lag = np.array([one for times in found for one in times.lag_s])
    calls = np.array([one for times in found for one in times.calls_s])
    moved = np.array([one for times in found for one in times.moved_m])
    fourth = np.array([one for times in found for one in times.fourth_s])
    told, withdrawn = sum(times.told for times in found), sum(times.withdrawn for times in found)
    never = int(np.isinf(latency).sum())
    rows = [
        _quantile_row("muzzle to published shot: p50 [s]", latency, 0.5, Ask(high=3.5)),
        _quantile_row("muzzle to published shot: p95 [s]", latency, 0.95, Ask(high=6.0)),
        _quantile_row("of which computing and waiting for it: p99 [ms]", 1e3 * lag, 0.99, Ask(high=100.0)),
        _quantile_row("one call with a detection: p99 [ms]", 1e3 * calls, 0.99, ANY),
        _quantile_row("muzzle to the fourth sensor's ear: p50 [s]", fourth, 0.5, ANY),
    ]
    return [
        *rows,
        share_row("first place within 25 m of the last", int((moved <= CLOSE_M).sum()), len(moved), Ask(low=0.95)),
        share_row("published shots withdrawn", withdrawn, told, Ask(high=0.01)),
        share_row("fired shots never published", never, len(latency)),
    ]


def _quantile_row(figure: str, values: Floats, q: float, ask: Ask) -> Row:
    def statistic(some: Floats) -> float:
        return float(np.quantile(some, q, method="higher"))

    interval = bootstrap(values, statistic, 200)
    return Row(figure, statistic(values), ask, len(values), interval, {"largest": float(values.max())})
