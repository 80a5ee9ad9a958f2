"""How near the solver comes to what the arrivals allow, how many wrong ones it survives, and whether the frame matters.

Layouts are drawn at random in a square of 1 km, 100 draws in each; noise is white and 1 ms. "In the hull" is inside the
sensors' convex hull, "out of the hull" 0.8 to 1.5 km from the middle. Height, sound speed and wind are drawn from the
priors that the solver is told. The bound is `bench.oracle`'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agls.locate.solve import Air, Height, NoSolution, Solution, solve
from bench.oracle import bound_m2, chan_ho, flight_s, inside_hull
from bench.rows import ANY, Ask, Plan, Row, bootstrap, share_detail, share_row, spread
from bench.scenes import sensors

SIDE_M = 1000.0
SIGMA_S = 0.001
PER_LAYOUT = 100
SPEED_M_S = 340.0
KNOWN = Air(SPEED_M_S, 0.0, 0.0, 0.01, 0.01)
REPORTED = Air(SPEED_M_S, 0.0, 0.0, 0.6, 0.5)  # a thermometer and a vane at hand
UNKNOWN = Air(SPEED_M_S, 0.0, 0.0, 5.0, 3.0)
AIRS = {"air known": KNOWN, "air reported": REPORTED, "air unknown": UNKNOWN}
FLAT = Height(1.5, 0.01)
ROUGH = Height(1.5, 5.0)
GATE, EARLY_NATS = 4.0, 4.0  # what wrong arrivals cost the solver
FAR = 10.0  # errors beyond so many bounds are gross

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """One shot as sensors heard it, and what is true.

    Attributes
    ----------
    positions_m : numpy.ndarray, shape (n, 3)
        Sensors [m].
    toa_s : numpy.ndarray, shape (n,)
        Times of arrival [s].
    source_m : numpy.ndarray, shape (3,)
        Where it was fired, at time zero [m].
    air : Air
        The true air.
    """

    positions_m: Floats
    toa_s: Floats
    source_m: Floats
    air: Air


def draw(positions_m: Floats, inside: bool, air: Air, height: Height, rng: np.random.Generator) -> Draw:
    """Fire one shot.

    Parameters
    ----------
    positions_m : numpy.ndarray, shape (n, 3)
        Sensors [m].
    inside : bool
        Whether in the hull or far out of it.
    air : Air
        What is known of the air, from which the true air is drawn.
    height : Height
        What is known of the height, from which the true one is drawn.
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    Draw
        The shot.
    """
    place = _place(positions_m, inside, rng)
    source = np.array([*place, rng.normal(height.mean_m, height.sigma_m)])
    speed = rng.normal(air.sound_speed_m_s, air.sound_speed_sigma_m_s)
    wind = rng.normal((air.east_m_s, air.north_m_s), air.wind_sigma_m_s)
    toa = flight_s(positions_m, source, speed, wind) + rng.normal(0, SIGMA_S, len(positions_m))
    return Draw(positions_m, toa, source, Air(float(speed), float(wind[0]), float(wind[1])))


def _place(positions_m: Floats, inside: bool, rng: np.random.Generator) -> Floats:
    while True:
        if inside:
            place = rng.uniform(0, SIDE_M, 2)
        else:
            angle, away = rng.uniform(0, 2 * np.pi), math.sqrt(rng.uniform(800.0**2, 1500.0**2))
            place = SIDE_M / 2 + away * np.array([np.cos(angle), np.sin(angle)])
        if inside_hull(positions_m, place[None])[0] == inside:
            return np.asarray(place)


def layout(count: int, rng: np.random.Generator) -> Floats:
    """Place sensors at random, at 4 to 12 m.

    Parameters
    ----------
    count : int
        How many.
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    numpy.ndarray, shape (count, 3)
        Places [m].
    """
    places = sensors(count, SIDE_M, rng)
    places[:, 2] = rng.uniform(4, 12, count)
    return places


def bound_rms_m(one: Draw, known: Air, height: Height) -> float:
    """Compute the least root mean square error of a draw.

    Parameters
    ----------
    one : Draw
        The draw.
    known : Air
        What is known of the air.
    height : Height
        What is known of the height.

    Returns
    -------
    float
        Both axes together [m].
    """
    sigmas = (height.sigma_m, known.sound_speed_sigma_m_s, known.wind_sigma_m_s)
    sigma_s = np.full(len(one.toa_s), SIGMA_S)
    wind = (one.air.east_m_s, one.air.north_m_s)
    found = bound_m2(one.positions_m, one.source_m, sigma_s, one.air.sound_speed_m_s, wind, sigmas)
    return float(np.sqrt(np.trace(found)))


def posterior(
    one: Draw, known: Air, height: Height, start: Floats, own: NDArray[np.bool_] | None = None
) -> tuple[Floats, float]:
    """Find the most likely place by scipy from a given start: begun at the truth, what no honest solver need beat.

    Parameters
    ----------
    one : Draw
        The draw.
    known : Air
        What is known of the air.
    height : Height
        What is known of the height.
    start : numpy.ndarray, shape (7,)
        East, north, origin time [m], height [m], sound speed, east and north wind [m/s].
    own : numpy.ndarray, shape (n,), bool, optional
        Arrivals to fit; all if not given.

    Returns
    -------
    numpy.ndarray, shape (2,)
        East and north [m].
    float
        Misfit of all arrivals there, none late counting for more than four standard deviations, none early for more
        than the four nats further by which the solver holds early ones to be rarer, and of the priors.
    """
    from scipy.optimize import least_squares

    mean = np.array([height.mean_m, known.sound_speed_m_s, known.east_m_s, known.north_m_s])
    wind = known.wind_sigma_m_s
    sigma = np.array([height.sigma_m, known.sound_speed_sigma_m_s, wind, wind])
    chosen = np.ones(len(one.toa_s), dtype=np.bool_) if own is None else own

    def _left(theta: Floats) -> Floats:
        z, speed, east, north = mean + sigma * theta[3:]
        flight = flight_s(one.positions_m, np.array([theta[0], theta[1], z]), speed, (east, north))
        return np.asarray((one.toa_s - theta[2] / SPEED_M_S - flight) / SIGMA_S)

    scaled = np.concatenate([start[:3], (start[3:] - mean) / sigma])
    fit = least_squares(
        lambda theta: np.concatenate([_left(theta) * chosen, theta[3:]]), scaled, method="lm", xtol=1e-12, ftol=1e-12
    )
    left = _left(fit.x)
    most = np.where(left > 0, GATE**2, GATE**2 + 2 * EARLY_NATS)
    return fit.x[:2], float(np.minimum(left**2, most).sum() + (fit.x[3:] ** 2).sum()) / 2


def truth_of(one: Draw) -> Floats:
    """Write what is true as a start for `posterior`.

    Parameters
    ----------
    one : Draw
        The draw.

    Returns
    -------
    numpy.ndarray, shape (7,)
        In the order of `posterior`.
    """
    x, y, z = one.source_m
    return np.array([x, y, 0.0, z, one.air.sound_speed_m_s, one.air.east_m_s, one.air.north_m_s])


# ------------------------------------------------------------------------------------------------- against the bound


def _efficiency(item: tuple[int, int, bool, str, int]) -> list[tuple[float, float, float, float]]:
    """Locate draws of one layout; hand back errors of this solver, the reference and Chan-Ho, and the bound [m]."""
    seed, count, inside, name, references = item
    rng = np.random.default_rng([seed, count, inside, list(AIRS).index(name)])
    known, height = AIRS[name], FLAT if name == "air known" else ROUGH
    places = layout(count, rng)
    rows = []
    for k in range(PER_LAYOUT):
        one = draw(places, inside, known, height, rng)
        found = solve(places, one.toa_s, np.full(count, SIGMA_S), known, height)
        mine = math.inf if isinstance(found, NoSolution) else _apart(np.array([found.x_m, found.y_m]), one)
        best = _apart(posterior(one, known, height, truth_of(one))[0], one) if k < references else math.nan
        closed = _apart(chan_ho(places, one.toa_s, SPEED_M_S), one) if name == "air known" else math.nan
        rows.append((mine, best, closed, bound_rms_m(one, known, height)))
    return rows


def _apart(place: Floats, one: Draw) -> float:
    return float(np.hypot(*(place - one.source_m[:2])))


def _ratio(pairs: Floats) -> float:
    """Divide the root mean square of the errors by that of the bounds."""
    return float(np.sqrt((pairs[:, 0] ** 2).mean() / (pairs[:, 1] ** 2).mean()))


def _efficiency_rows(plan: Plan) -> list[Row]:
    layouts = plan.draws(200, 10)
    references = plan.draws(10, 5)
    rows = []
    for inside, high in ((True, 1.02), (False, 1.05)):
        for name in AIRS:
            worst, detail = -math.inf, {}
            for count in (6, 8, 12):
                items = [(plan.first_seed + k, count, inside, name, references) for k in range(layouts)]
                found = np.array([row for own in spread(_efficiency, items, plan) for row in own])
                detail[f"{count} sensors"] = _compared(found)
                if detail[f"{count} sensors"]["ratio"] > worst:
                    worst, interval = detail[f"{count} sensors"]["ratio"], _interval(found)
            where = "in the hull" if inside else "out of the hull"
            rows.append(
                Row(f"RMSE / Cramer-Rao, {where}, {name}", worst, Ask(high=high), layouts * PER_LAYOUT, interval,
                    detail, "the worst of 6, 8 and 12 sensors" if inside and name == "air known" else "")
            )  # fmt: skip
    return rows


def _interval(found: Floats) -> tuple[float, float]:
    """Resample whole layouts: draws of one share its geometry."""
    by_layout = found[:, [0, 3]].reshape(-1, PER_LAYOUT, 2)
    return bootstrap(by_layout, lambda some: _ratio(some.reshape(-1, 2)), 500)


def _compared(found: Floats) -> dict[str, Any]:
    asked = found[~np.isnan(found[:, 1])]
    told = {
        "ratio": _ratio(found[:, [0, 3]]),
        "bound_rms_m": float(np.sqrt((found[:, 3] ** 2).mean())),
        "share_beyond_10_bounds": float((found[:, 0] > FAR * found[:, 3]).mean()),
        "ratio_normalised_by_draw": float(np.sqrt(np.mean((found[:, 0] / found[:, 3]) ** 2))),
        "same_draws": {
            "draws": len(asked), "ratio": _ratio(asked[:, [0, 3]]), "scipy_from_truth": _ratio(asked[:, [1, 3]])
        },
    }  # fmt: skip
    if not np.isnan(found[0, 2]):
        told["chan_ho"] = _ratio(found[:, [2, 3]])
    return told


# --------------------------------------------------------------------------------------------------------- breakdown


def _echoed(item: tuple[int, int, int, str]) -> tuple[int, int, int]:
    """Delay some arrivals of each draw of one layout; count who survives, and whom even the best fit would mislead."""
    seed, count, echoes, name = item
    rng = np.random.default_rng([seed, count, echoes, 5])
    known, height = AIRS[name], FLAT if name == "air known" else ROUGH
    places = layout(count, rng)
    survived = misled = unsolved = 0
    for _ in range(PER_LAYOUT):
        one = draw(places, True, known, height, rng)
        wrong = rng.choice(count, echoes, replace=False)
        one.toa_s[wrong] += rng.uniform(0.02, 0.5, echoes)
        right = np.setdiff1d(np.arange(count), wrong)
        clean = Draw(places[right], one.toa_s[right], one.source_m, one.air)
        found = solve(places, one.toa_s, np.full(count, SIGMA_S), known, height)
        if isinstance(found, NoSolution):
            unsolved += 1
        elif _apart(np.array([found.x_m, found.y_m]), one) <= FAR * bound_rms_m(clean, known, height):
            survived += 1
        else:
            misled += _fits_better(one, known, height, found, np.isin(np.arange(count), right))
    return survived, misled, unsolved


def _fits_better(one: Draw, known: Air, height: Height, found: Solution, right: NDArray[np.bool_]) -> bool:
    """Tell whether a wrong place explains all arrivals at least as well as the best place near the truth does."""
    air = found.air
    start = [found.x_m, found.y_m, found.origin_s * SPEED_M_S, found.z_m]
    here = np.array([*start, air.sound_speed_m_s, air.east_m_s, air.north_m_s])
    wrong = posterior(one, known, height, here, found.weights >= 0.5)[1]
    return wrong <= posterior(one, known, height, truth_of(one), right)[1]


def _breakdown_rows(plan: Plan) -> list[Row]:
    rows: list[Row] = []
    for count, echoes, low in ((8, 3, 0.999), (12, 6, 0.995), (8, 4, None), (12, 7, None)):
        for name in AIRS:
            layouts = plan.draws(200, 10)
            items = [(plan.first_seed + k, count, echoes, name) for k in range(layouts)]
            survived, misled, unsolved = (int(column) for column in np.sum(spread(_echoed, items, plan), axis=0))
            of = layouts * PER_LAYOUT
            detail: dict[str, Any] = {"misled_though_best_fit": misled, "unsolved": unsolved}
            detail["of_those_not_misled"] = share_detail(survived, of - misled)
            note = "within ten times the bound without echoes, in the hull" if not rows else ""
            ask = ANY if low is None or name == "air unknown" else Ask(low=low)
            figure = f"survives {echoes} late echoes of {count}, {name}"
            rows.append(share_row(figure, survived, of, ask, detail=detail, note=note))
    return rows


# ------------------------------------------------------------------------------------------------------------- frame


def _shifted(seed: int) -> tuple[float, float]:
    """Locate the same arrivals in a frame moved by 12 km; hand back how far place [m] and origin time [s] differ."""
    rng = np.random.default_rng([seed, 6])
    places = layout(8, rng)
    angle, bearing = rng.uniform(0, 2 * np.pi, 2)
    wind = 15.0 * np.array([np.cos(angle), np.sin(angle)])
    air = Air(SPEED_M_S, float(wind[0]), float(wind[1]), 2.0, 2.0)
    one = draw(places, True, air, ROUGH, rng)
    shift = np.array([12_000 * np.cos(bearing), 12_000 * np.sin(bearing), 0.0])
    here, there = (solve(at, one.toa_s, np.full(8, SIGMA_S), air, ROUGH) for at in (places, places + shift))
    if isinstance(here, NoSolution) or isinstance(there, NoSolution):
        return math.inf, math.inf
    moved = math.hypot(there.x_m - shift[0] - here.x_m, there.y_m - shift[1] - here.y_m)
    return moved, abs(there.origin_s - here.origin_s)


def _frame_rows(plan: Plan) -> list[Row]:
    seeds = plan.seeds(1000, 200)
    found = np.array(spread(_shifted, seeds, plan))
    return [
        Row("frame moved 12 km, wind 15 m/s: place moves [mm]", 1e3 * found[:, 0].max(), Ask(high=1.0), len(seeds)),
        Row("frame moved 12 km, wind 15 m/s: origin moves [us]", 1e6 * found[:, 1].max(), Ask(high=1.0), len(seeds)),
    ]  # fmt: skip


def measure(plan: Plan) -> list[Row]:
    """Measure the solver through its public function.

    Parameters
    ----------
    plan : Plan
        How many draws.

    Returns
    -------
    list of Row
        Against the bound, and in a moved frame.
    """
    return [*_frame_rows(plan), *_efficiency_rows(plan)]


def measure_echoes(plan: Plan) -> list[Row]:
    """Count the draws that survive late echoes.

    Parameters
    ----------
    plan : Plan
        How many draws.

    Returns
    -------
    list of Row
        By numbers of sensors and echoes, and by what is known of the air.
    """
    return _breakdown_rows(plan)
