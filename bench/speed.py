"""How fast, beside peers in the same run: one robust solution against scipy's, a stream of picks against PyOcto's.

Both sides take turns on the same cases, in one thread; a ratio is the median over turns.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agls.config import Locating
from agls.locate.associate import Associator
from agls.locate.frame import Frame
from agls.locate.solve import Air, Height, solve, solve_batch
from agls.messages import NS_PER_S, Shot
from bench.association import batch_groups
from bench.oracle import flight_s
from bench.peers.environment import PeerAbsentError, ask
from bench.rows import ANY, Ask, Plan, Row, bootstrap
from bench.scenes import SPEED_M_S, Scene, Trouble, f1, render, sensors
from bench.solver import SIGMA_S, layout
from bench.stream import detections, site_of

SENSORS = 8
AIR = Air(340.0, 0.0, 0.0, 5.0, 3.0)
# Tolerance [s], least node [km], match tolerance [s], picks needed, time slice [s], least time between shots [s]: those
# that did best for PyOcto on scenes of other seeds.
PYOCTO = np.array([(0.05, 0.05, 0.02, 18, 60, 0.05), (0.05, 0.1, 0.02, 18, 20, 0.05), (0.02, 0.02, 0.01, 18, 60, 0.05)])
PYOCTO_DENSE = np.array(
    [(0.01, 0.05, 0.01, 24, 20, 0.02), (0.003, 0.01, 0.01, 24, 20, 0.02), (0.05, 0.05, 0.01, 24, 20, 0.02),
     (0.005, 0.02, 0.01, 22, 20, 0.02), (0.02, 0.02, 0.01, 20, 5, 0.02), (0.01, 0.01, 0.01, 20, 5, 0.02)]
)  # fmt: skip
PEER_WAIT_S = 1800.0

Floats = NDArray[np.float64]


# ------------------------------------------------------------------------------------------------------- one solution


def least_squares_plain(positions_m: Floats, toa_s: Floats) -> Floats:
    """Locate in the plane as most programs do: scipy's Levenberg-Marquardt from the middle of the sensors.

    Parameters
    ----------
    positions_m : numpy.ndarray, shape (n, 3)
        Sensors [m].
    toa_s : numpy.ndarray, shape (n,)
        Arrivals [s].

    Returns
    -------
    numpy.ndarray, shape (3,)
        East, north [m] and origin time times 340 [m].
    """
    return _from_the_middle(positions_m, toa_s, method="lm")


def least_squares_robust(positions_m: Floats, toa_s: Floats) -> Floats:
    """Locate in the plane with scipy's Cauchy loss, the nearest it has to a robust solution.

    Parameters
    ----------
    positions_m : numpy.ndarray, shape (n, 3)
        Sensors [m].
    toa_s : numpy.ndarray, shape (n,)
        Arrivals [s].

    Returns
    -------
    numpy.ndarray, shape (3,)
        East, north [m] and origin time times 340 [m].
    """
    return _from_the_middle(positions_m, toa_s, loss="cauchy", f_scale=340.0 * SIGMA_S)


def _from_the_middle(positions_m: Floats, toa_s: Floats, **how: Any) -> Floats:
    from scipy.optimize import least_squares

    flat, ranges = positions_m[:, :2], 340.0 * toa_s

    def _left(theta: Floats) -> Floats:
        away = flat - theta[:2]
        return np.asarray(np.sqrt(away[:, 0] ** 2 + away[:, 1] ** 2) + theta[2] - ranges)

    start = np.array([*flat.mean(axis=0), ranges.min()])
    return np.asarray(least_squares(_left, start, **how).x)


def _cases(count: int, seed: int) -> tuple[list[Floats], list[Floats], Floats]:
    rng = np.random.default_rng([seed, 12])
    places, heard, sources = [], [], []
    for _ in range(count):
        at = layout(SENSORS, rng)
        source = np.array([*rng.uniform(200, 800, 2), 1.5])
        places.append(at)
        sources.append(source[:2])
        heard.append(flight_s(at, source, 340.0, (0.0, 0.0)) + SIGMA_S * rng.normal(size=SENSORS))
    return places, heard, np.array(sources)


def _places(found: object) -> Floats:
    """Take east and north out of what any of them hands back."""
    if isinstance(found, tuple):  # of a batch
        return np.asarray(found[0], dtype=np.float64)[:, :2]
    one_by_one: list[Any] = found  # type: ignore[assignment]
    return np.array([(one.x_m, one.y_m) if hasattr(one, "x_m") else one[:2] for one in one_by_one])


def _taken_s(work: Callable[[], object]) -> float:
    gc.collect()
    gc.disable()
    started = time.perf_counter()
    work()
    taken = time.perf_counter() - started
    gc.enable()
    return taken


def measure_solve(plan: Plan) -> list[Row]:
    """Time robust solutions from eight arrivals beside scipy's plain ones.

    Parameters
    ----------
    plan : Plan
        How many turns.

    Returns
    -------
    list of Row
        Medians and ratios.
    """
    turns, per_turn = plan.draws(60, 15), 40
    places, heard, sources = _cases(per_turn, plan.first_seed)
    sigma, height = np.full(SENSORS, SIGMA_S), Height(1.5)
    stacked = np.array(places), np.array(heard), np.tile(sigma, (per_turn, 1))
    works: dict[str, Callable[[], object]] = {
        "solve": lambda: [solve(at, toa, sigma, AIR, height) for at, toa in zip(places, heard, strict=True)],
        "scipy LM": lambda: [least_squares_plain(at, toa) for at, toa in zip(places, heard, strict=True)],
        "scipy Cauchy": lambda: [least_squares_robust(at, toa) for at, toa in zip(places[:4], heard[:4], strict=True)],
        "solve_batch": lambda: solve_batch(*stacked, AIR, height),
    }
    # Compiled by this; and speed is worth nothing where the places are wrong.
    found = {name: _places(work()) for name, work in works.items()}
    errors = {name: np.hypot(*(at - sources[: len(at)]).T) for name, at in found.items()}
    wrong = {f"{name}_error_median_m": float(np.median(own)) for name, own in errors.items()}
    counts = dict.fromkeys(works, per_turn) | {"scipy Cauchy": 4}
    taken = np.array([[1e6 * _taken_s(work) / counts[name] for name, work in works.items()] for _ in range(turns)])
    return _solve_rows(list(works), taken, wrong)


def _solve_rows(names: list[str], taken: Floats, wrong: dict[str, float]) -> list[Row]:
    median = dict(zip(names, np.median(taken, axis=0).tolist(), strict=True))
    ratio = {name: taken[:, names.index("scipy LM")] / taken[:, k] for k, name in enumerate(names)}
    detail = {f"{name}_us": value for name, value in median.items()} | wrong
    rows = [Row(f"{name}: median [us]", value, ANY, len(taken)) for name, value in median.items()]
    rows.append(_ratio_row("robust solve, public function: times faster than scipy LM", ratio["solve"], 10.0, detail))
    figure = "robust solve, in a batch: times faster than scipy LM"
    rows.append(_ratio_row(figure, ratio["solve_batch"], 25.0, detail))
    return rows


def _ratio_row(figure: str, ratios: Floats, low: float, detail: dict[str, Any]) -> Row:
    def middle(some: Floats) -> float:
        return float(np.median(some))

    return Row(figure, middle(ratios), Ask(low=low), len(ratios), bootstrap(ratios, middle), detail)


# --------------------------------------------------------------------------------------------------------- throughput


def stations(rate_per_s: float, picks: int, seed: int) -> Scene:
    """Fire single shots anywhere among thirty stations in 3 km by 3 km.

    Parameters
    ----------
    rate_per_s : float
        Shots a second.
    picks : int
        About how many picks.
    seed : int
        Seed.

    Returns
    -------
    Scene
        Nineteen of twenty stations hear each shot.
    """
    rng = np.random.default_rng([seed, 13])
    places = sensors(30, 3000.0, rng)
    count = max(round(picks / 28.5), 4)
    origin = np.sort(rng.uniform(10, 10 + count / rate_per_s, count))
    return render(places, origin, rng.uniform(0, 3000, (count, 2)), Trouble(p_detect=0.95), rng)


def _streamed_s(scene: Scene) -> float:
    """Time an associator that is fed one detection after the other."""
    site = site_of(scene.positions_m, locating=_LOCATING)
    heard = detections(scene.sensor.tolist(), scene.toa_s.tolist(), 0.0015)
    associator = Associator(site, Frame.of_site(site))
    told: list[Shot] = []
    started = time.perf_counter()
    for one in heard:
        now_ns = one.toa_ns + NS_PER_S // 10
        told += [item for _, item in associator.advance(now_ns) if isinstance(item, Shot)]
        associator.feed(one, now_ns)
    associator.advance(heard[-1].toa_ns + 60 * NS_PER_S)
    return time.perf_counter() - started


_LOCATING = Locating(path_sigma_s=0.0, max_range_m=5000.0)


def measure_throughput(plan: Plan) -> list[Row]:
    """Associate 12,000 picks of thirty stations, at two rates, beside PyOcto.

    Parameters
    ----------
    plan : Plan
        How many picks.

    Returns
    -------
    list of Row
        Picks a second, F1 and ratio, at each rate.
    """
    rows = []
    for rate, least, full_peer, settings in ((0.2, 1e5, 12_000, PYOCTO), (4.0, 5e3, 1_000, PYOCTO_DENSE)):
        scene = stations(rate, plan.draws(12_000, 2_000), plan.first_seed)
        site = site_of(scene.positions_m, locating=_LOCATING)
        batch_groups(stations(rate, 200, 0), site_of(stations(rate, 200, 0).positions_m, locating=_LOCATING), 0.0015)
        taken, scores = [], []
        for _ in range(plan.draws(5, 1)):
            started = time.perf_counter()
            groups = batch_groups(scene, site, 0.0015)
            taken.append(time.perf_counter() - started)
            scores.append(f1(scene, groups)[2])
        per_s = len(scene.toa_s) / float(np.median(taken))
        streamed = stations(rate, plan.draws(12_000, 500), plan.first_seed)
        detail: dict[str, Any] = {"taken_s": taken, "picks": len(scene.toa_s)}
        detail["streamed_picks_per_s"] = len(streamed.toa_s) / _streamed_s(streamed)
        name = f"30 stations, {rate:g} shots/s"
        rows.append(Row(f"{name}: picks a second, all at once", per_s, Ask(low=least), len(scene.toa_s), detail=detail))
        rows.append(Row(f"{name}: picks a second, streamed", detail["streamed_picks_per_s"], ANY, len(streamed.toa_s)))
        rows.append(Row(f"{name}: F1", scores[-1], Ask(low=0.998), len(scene.origin_s)))
        peer_scene = stations(rate, plan.draws(full_peer, 300), plan.first_seed)
        rows.append(_peer_row(name, per_s, peer_scene, settings))
    return rows


def _peer_row(name: str, per_s: float, scene: Scene, settings: Floats) -> Row:
    """Let PyOcto associate the same kind of scene, and compare with its best setting."""
    figure = f"{name}: times faster than PyOcto"
    try:
        found = ask(
            "run_pyocto.py", PEER_WAIT_S, positions_m=scene.positions_m, sensor=scene.sensor, toa_s=scene.toa_s,
            speed_m_s=np.array(SPEED_M_S), settings=settings,
        )  # fmt: skip
    except PeerAbsentError as error:
        return Row(figure, math.nan, Ask(low=15.0), note=f"peer not run: {error}")
    scores = [f1(scene, _groups(row))[2] for row in found["group"]]
    peers = [len(scene.toa_s) / float(taken) for taken in found["taken_s"]]
    # The fastest of those that are about as right as its most right one.
    fair = max(peer for peer, score in zip(peers, scores, strict=True) if score >= max(scores) - 0.02)
    detail = {
        "pyocto_picks_per_s": peers,
        "pyocto_f1": scores,
        "picks": len(scene.toa_s),
        "settings": settings.tolist(),
    }
    note = (
        f"PyOcto 0.1.12, best of {len(settings)} settings, {len(scene.toa_s)} picks: {fair:.0f}/s, F1 {max(scores):.3f}"
    )
    return Row(figure, per_s / fair, Ask(low=15.0), len(scene.toa_s), detail=detail, note=note)


def _groups(group: NDArray[np.generic]) -> list[tuple[int, ...]]:
    labels = np.asarray(group, dtype=np.int64)
    return [tuple(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels[labels >= 0])]
