"""Which detections are the same shot: F1 on scenes that nobody has tuned on, streamed through the whole hub.

The scenes have white timing errors, straight rays and independent echoes (`bench.scenes`), and the site says so
(no path term). A site has a weather report as a city has one: off by about 1 C, and by 1 m/s in each direction of the
wind, drawn anew for each scene, and the site knows that it may be so wrong. Rows that say "unreported" or "unknown
wind" have none: the air is known to the default 10 C and 3 m/s alone. Everything else is at its default. F1 is
PyOcto's: a group is a shot's where their overlap is at least 0.6 of the larger; shots heard by fewer than four sensors
cannot be asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from agls.config import Locating, SiteConfig, Weather
from agls.locate.search import Array, Picks, find_shots
from agls.locate.solve import Air
from bench.oracle import bound_m2
from bench.rows import ANY, Ask, Plan, Row, bootstrap, spread
from bench.scenes import SPEED_M_S, Scene, Trouble, burst, f1, render, sensors, without_unasked
from bench.stream import Said, detections, run, site_of

SIDE_M = 1000.0
ROUNDS = 30
STREET = Trouble(p_detect=0.9, echo=0.3, clutter_per_s=0.2)
WINDS_M_S = (0.0, 2.0, 4.0, 6.0)
WHITE = Locating(path_sigma_s=0.0)
CALM_C, HUMIDITY_PERCENT = 18.43, 60.0  # at which sound is as fast as in the scenes
UNREPORTED = "weather unreported"
SHOT_M, HEIGHT_SIGMA_M = 1.5, 10.0  # how high scenes fire, and how well a hub knows that
KNOWN_M_S = 1e-3  # how well the air is known, where it is
REPORT_C, REPORT_M_S = 1.0, 1.0  # how far a report is off, one sigma

Floats = NDArray[np.float64]
Maker = Callable[[np.random.Generator], Scene]


@dataclass(frozen=True)
class Result:
    """What became of one scene.

    Attributes
    ----------
    precision, recall, f1 : float
        Of the shots that stand in the end.
    f1_lenient : float
        The same where true shots that fewer than four sensors heard count neither for nor against.
    withdrawn : int
        Shots told and taken back.
    incident_error_m : float
        How far the place of the largest incident is from the nearest true place [m].
    shot_errors_m : list of float
        Distance of each shot that stands to the nearest true place [m].
    """

    precision: float
    recall: float
    f1: float
    f1_lenient: float
    withdrawn: int
    incident_error_m: float
    shot_errors_m: list[float]


def groups_of(said: Said) -> list[tuple[int, ...]]:
    """Take the picks that each standing shot uses.

    Parameters
    ----------
    said : Said
        What the hub said of `detections`.

    Returns
    -------
    list of tuple of int
        Indices of picks.
    """
    return [tuple(arrival.seq for arrival in shot.arrivals if arrival.used) for shot in said.final]


def batch_groups(scene: Scene, site: SiteConfig, sigma_s: float) -> list[tuple[int, ...]]:
    """Associate all picks of a scene at once.

    Parameters
    ----------
    scene : Scene
        The scene.
    site : SiteConfig
        Its site.
    sigma_s : float
        Standard deviation of the picks [s].

    Returns
    -------
    list of tuple of int
        Indices of picks.
    """
    array = Array(tuple(one.sensor_id for one in site.sensor), scene.positions_m)
    picks = Picks(scene.sensor, scene.toa_s, np.full(len(scene.toa_s), sigma_s))
    return [shot.members for shot in find_shots(picks, array, Air.of_weather(site.weather), site.locating)]


# ---------------------------------------------------------------------------------------------------------- scenes


def apart(count: int, apart_m: float, rng: np.random.Generator) -> Floats:
    """Place shooters in the middle of the square, each so far from the one before.

    Parameters
    ----------
    count : int
        How many.
    apart_m : float
        How far [m].
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    numpy.ndarray, shape (count, 2)
        Places [m], none nearer to another than that.
    """
    while True:
        places = [rng.uniform(0.15 * SIDE_M, 0.85 * SIDE_M, 2)]
        for _ in range(count - 1):
            angle = rng.uniform(0, 2 * np.pi)
            places.append(places[-1] + apart_m * np.array([np.cos(angle), np.sin(angle)]))
        chosen = np.array(places)
        gaps = np.hypot(*(chosen[:, None] - chosen[None]).transpose(2, 0, 1)) + np.eye(count) * 1e9
        if chosen.min() > 0.1 * SIDE_M and chosen.max() < 0.9 * SIDE_M and gaps.min() > apart_m - 1e-6:
            return chosen


def automatic(
    trouble: Trouble, shooters: int, count: int, rates: tuple[float, float], rng: np.random.Generator
) -> Scene:
    """Let shooters 300 m apart fire bursts at once.

    Parameters
    ----------
    trouble : Trouble
        What stands between.
    shooters, count : int
        How many shooters and sensors.
    rates : tuple of float
        Least and largest cadence [1/s].
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    Scene
        The scene.
    """
    shots = [
        burst(place, rng.uniform(*rates), ROUNDS, 10.0 + rng.uniform(0, 0.5), rng)
        for place in apart(shooters, 300.0, rng)
    ]
    return _render(sensors(count, SIDE_M, rng), shots, trouble, rng)


def anywhere(trouble: Trouble, rate_per_s: float, rng: np.random.Generator) -> Scene:
    """Fire single shots anywhere for thirty seconds.

    Parameters
    ----------
    trouble : Trouble
        What stands between.
    rate_per_s : float
        How many [1/s].
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    Scene
        The scene.
    """
    count = round(30 * rate_per_s)
    shots = (np.sort(rng.uniform(10, 40, count)), rng.uniform(0, SIDE_M, (count, 2)))
    return _render(sensors(8, SIDE_M, rng), [shots], trouble, rng)


def moving(trouble: Trouble, speeds_m_s: tuple[float, float], rng: np.random.Generator) -> Scene:
    """Let one shooter move and fire twice a second.

    Parameters
    ----------
    trouble : Trouble
        What stands between.
    speeds_m_s : tuple of float
        Least and largest speed [m/s].
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    Scene
        The scene.
    """
    speed, angle = rng.uniform(*speeds_m_s), rng.uniform(0, 2 * np.pi)
    velocity = np.array([speed * np.cos(angle), speed * np.sin(angle)])
    start = rng.uniform(0.3 * SIDE_M, 0.7 * SIDE_M, 2) - 7.5 * velocity
    shots = burst(start, 2.0, ROUNDS, 10.0, rng, (float(velocity[0]), float(velocity[1])))
    return _render(sensors(8, SIDE_M, rng), [shots], trouble, rng)


def windy(speed_m_s: float, rng: np.random.Generator) -> Scene:
    """Fire a burst of ten rounds a second in wind that nobody reported.

    Parameters
    ----------
    speed_m_s : float
        How strong it is [m/s].
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    Scene
        The scene.
    """
    angle = rng.uniform(0, 2 * np.pi)
    wind = (float(speed_m_s * np.cos(angle)), float(speed_m_s * np.sin(angle)))
    return automatic(replace(STREET, wind_m_s=wind), 1, 8, (10.0, 10.0), rng)


def _render(places_m: Floats, shots: list[tuple[Floats, Floats]], trouble: Trouble, rng: np.random.Generator) -> Scene:
    origin = np.concatenate([times for times, _ in shots])
    place = np.concatenate([where for _, where in shots])
    order = np.argsort(origin, kind="stable")
    return render(places_m, origin[order], place[order], trouble, rng)


def report(rng: np.random.Generator) -> Weather:
    """Report the weather of a scene without wind, about as well as a city's stations do.

    Parameters
    ----------
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    Weather
        The report, off by what it says it may be off.
    """
    east, north = rng.normal(0.0, REPORT_M_S, 2)
    return Weather(
        temperature_c=CALM_C + rng.normal(0.0, REPORT_C), humidity_percent=HUMIDITY_PERCENT,
        wind_speed_m_s=math.hypot(east, north), wind_from_deg=math.degrees(math.atan2(-east, -north)) % 360.0,
        temperature_sigma_c=REPORT_C, wind_sigma_m_s=REPORT_M_S,
    )  # fmt: skip


def _site(scene: Scene, seed: int, reported: bool) -> SiteConfig:
    """Make a scene's site; chance of its own, so that a scene is the same with a report and without."""
    weather = report(np.random.default_rng([seed, 33])) if reported else None
    return site_of(scene.positions_m, locating=WHITE, weather=weather)


# -------------------------------------------------------------------------------------------------------- measuring


def measure_scene(item: tuple[Maker, int, bool]) -> Result:
    """Make one scene, stream it through a hub and score it.

    Parameters
    ----------
    item : tuple of callable, int and bool
        What makes the scene, the seed, and whether its weather is reported.

    Returns
    -------
    Result
        What became of it.
    """
    make, seed, reported = item
    rng = np.random.default_rng([seed, 3])
    scene = make(rng)
    site = _site(scene, seed, reported)
    delay_s = np.minimum(0.15 + rng.exponential(0.05, len(scene.toa_s)), 0.8)
    said = run(site, detections(scene.sensor, scene.toa_s, 0.0015), delay_s)
    groups = groups_of(said)
    precision, recall, both = f1(scene, groups)
    lenient = f1(scene, without_unasked(scene, groups))[2]
    errors = [float(np.hypot(*(scene.place_m - [shot.x_m, shot.y_m]).T).min()) for shot in said.final]
    largest = max(said.incidents.values(), key=lambda one: one.round_count, default=None)
    far = math.inf if largest is None else float(np.hypot(*(scene.place_m - [largest.x_m, largest.y_m]).T).min())
    withdrawn = sum(revisions[-1].shot.state == "withdrawn" for revisions in said.shots.values())
    return Result(precision, recall, both, lenient, withdrawn, far, errors)


def search_scene(item: tuple[Maker, int, bool]) -> tuple[float, float, float]:
    """Make one scene and associate all its picks at once, as the stream does in the end.

    Parameters
    ----------
    item : tuple of callable, int and bool
        What makes the scene, the seed, and whether its weather is reported.

    Returns
    -------
    tuple of float
        Precision, recall and F1.
    """
    make, seed, reported = item
    scene = make(np.random.default_rng([seed, 3]))
    return f1(scene, batch_groups(scene, _site(scene, seed, reported), 0.0015))


def _rows(figure: str, make: Maker, full: int, quick: int, mean: Ask, low: Ask, plan: Plan) -> list[Row]:
    seeds = plan.seeds(full, quick)
    found = spread(measure_scene, [(make, seed, _reported(figure)) for seed in seeds], plan)
    scores = np.array([one.f1 for one in found])
    errors = np.array([error for one in found for error in one.shot_errors_m])
    worst = int(scores.argmin())
    detail = {
        "precision": float(np.mean([one.precision for one in found])),
        "recall": float(np.mean([one.recall for one in found])),
        "f1_if_shots_heard_by_three_count_neither": float(np.mean([one.f1_lenient for one in found])),
        "least_f1": float(scores[worst]), "least_f1_seed": seeds[worst],
        "withdrawn_shots": sum(one.withdrawn for one in found),
        "shot_error_median_m": float(np.median(errors)) if len(errors) else math.nan,
        "incident_error_rms_m": _rms([one.incident_error_m for one in found]),
        "incident_error_median_m": float(np.median([one.incident_error_m for one in found])),
    }  # fmt: skip
    rows = [Row(f"{figure}: F1", float(scores.mean()), mean, len(seeds), bootstrap(scores, np.mean), detail)]
    if low != ANY:
        fifth = partial(np.quantile, q=0.05)
        rows.append(
            Row(f"{figure}: F1, 5th percentile", float(fifth(scores)), low, len(seeds), bootstrap(scores, fifth))
        )
    return rows


def _reported(figure: str) -> bool:
    return "unknown wind" not in figure and UNREPORTED not in figure


def _rms(values: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def kinds() -> list[tuple[str, Maker, int, int, Ask, Ask]]:
    """List the kinds of scenes.

    Returns
    -------
    list of tuple
        Name, what makes one, how many in full and when quick, what their mean and their 5th percentile must be.
    """
    cadence = (10.0, 10.0)
    echoes = replace(STREET, echo=0.9)
    good, better = Ask(low=0.97), Ask(low=0.99)
    two = partial(automatic, STREET, 2, 8, cadence)
    three = partial(automatic, Trouble(p_detect=0.85), 3, 15, (9.0, 13.0))
    return [
        ("two shooters, 10/s each, 300 m apart", two, 100, 4, better, good),
        ("three shooters, 9-13/s", three, 50, 2, better, ANY),
        ("10 random shots/s", partial(anywhere, Trouble(), 10.0), 20, 2, good, ANY),
        ("on foot (1-4 m/s), 2/s", partial(moving, STREET, (1.0, 4.0)), 50, 4, good, ANY),
        ("in a car (8-20 m/s), 2/s", partial(moving, STREET, (8.0, 20.0)), 50, 4, good, ANY),
        ("echo 90 %, one shooter, 10/s", partial(automatic, echoes, 1, 8, cadence), 50, 4, good, ANY),
        ("echo 90 %, two shooters, 10/s", partial(automatic, echoes, 2, 8, cadence), 50, 4, good, ANY),
        ("echo 90 %, the same with every shot, two shooters",
         partial(automatic, replace(echoes, echo_repeats=True), 2, 8, cadence), 50, 4, ANY, ANY),
        (f"two shooters, 10/s each, 300 m apart, {UNREPORTED}", two, 50, 4, ANY, ANY),
        (f"three shooters, 9-13/s, {UNREPORTED}", three, 20, 2, ANY, ANY),
        (f"10 random shots/s, {UNREPORTED}", partial(anywhere, Trouble(), 10.0), 10, 1, ANY, ANY),
        *((f"burst, unknown wind {speed:g} m/s", partial(windy, speed), 25, 3, good, ANY) for speed in WINDS_M_S),
    ]  # fmt: skip


def measure(plan: Plan) -> list[Row]:
    """Measure F1 where shots interleave, streamed through the whole hub.

    Parameters
    ----------
    plan : Plan
        How many seeds.

    Returns
    -------
    list of Row
        One or two for each kind of scene.
    """
    return [row for kind in kinds() if "wind" not in kind[0] for row in _rows(*kind, plan)]


def measure_search(plan: Plan) -> list[Row]:
    """Measure F1 of the search alone, all picks of a scene at once: quick, for development.

    Parameters
    ----------
    plan : Plan
        How many seeds.

    Returns
    -------
    list of Row
        One for each kind of scene.
    """
    rows = []
    for figure, make, full, quick, mean, _ in kinds():
        seeds = plan.seeds(full, 2 * quick)
        found = np.array(spread(search_scene, [(make, seed, _reported(figure)) for seed in seeds], plan))
        detail = {"precision": found[:, 0].mean(), "recall": found[:, 1].mean(), "by_seed": found[:, 2].tolist()}
        interval = bootstrap(found[:, 2], np.mean)
        rows.append(Row(f"search alone: {figure}: F1", float(found[:, 2].mean()), mean, len(seeds), interval, detail))
    return rows


def measure_wind(plan: Plan) -> list[Row]:
    """Measure bursts in wind that nobody reported, and what not knowing that it is calm costs.

    Parameters
    ----------
    plan : Plan
        How many seeds.

    Returns
    -------
    list of Row
        F1 by wind speed, and the place error when calm.
    """
    rows = [row for kind in kinds() if "wind" in kind[0] for row in _rows(*kind, plan)]
    calm, seeds = rows[0].detail, plan.seeds(25, 3)
    air = Air.of_weather(Weather())
    unknown = _rms([calm_bound_m(seed, air.sound_speed_sigma_m_s, air.wind_sigma_m_s) for seed in seeds])
    known = _rms([calm_bound_m(seed, KNOWN_M_S, KNOWN_M_S) for seed in seeds])
    rows.append(
        Row("burst, unknown wind, calm: rms error of place [m]", calm["incident_error_rms_m"], Ask(high=0.15),
            rows[0].count,
            detail={name: calm[name] for name in ("incident_error_median_m", "shot_error_median_m")}
            | {"bound_rms_m": unknown, "bound_air_known_rms_m": known},
            note="place of the incident; air unknown by 6 m/s in sound speed and 3 m/s in wind. Over such airs nothing "
                 f"does better than {unknown:.2g} m (Cramer-Rao), and in a known air than {known:.2g} m"),
    )  # fmt: skip
    return rows


def calm_bound_m(seed: int, speed_m_s: float, wind_m_s: float) -> float:
    """Bound the place error of a calm burst: all its rounds averaged, each sensor by those that it heard.

    Parameters
    ----------
    seed : int
        Of the scene.
    speed_m_s, wind_m_s : float
        Standard deviations of sound speed and of each component of the wind, as known beforehand [m/s].

    Returns
    -------
    float
        The least rms error of a horizontal place [m]; a little less than can be had, as if origin times were common.
    """
    scene = windy(0.0, np.random.default_rng([seed, 3]))
    heard = np.bincount(scene.sensor[scene.shot >= 0], minlength=len(scene.positions_m))
    place, sigma_s = np.array([*scene.place_m[0], SHOT_M]), STREET.sigma_s / np.sqrt(np.maximum(heard, 1e-9))
    known = (HEIGHT_SIGMA_M, speed_m_s, wind_m_s)
    return float(np.sqrt(np.trace(bound_m2(scene.positions_m, place, sigma_s, SPEED_M_S, (0.0, 0.0), known))))


# --------------------------------------------------------------------------------------------------------- clutter


def clutter(item: tuple[int, float]) -> tuple[int, int, int]:
    """Let twelve sensors report an impulse a second each that nobody fired.

    Parameters
    ----------
    item : tuple of int and float
        Seed, and for how long [s].

    Returns
    -------
    tuple of int
        Shots that stand, shots told and withdrawn, detections.
    """
    seed, span_s = item
    rng = np.random.default_rng([seed, 4])
    places = sensors(12, SIDE_M, rng)
    alone = Trouble(p_detect=0.0, clutter_per_s=1.0)
    nobody = render(places, np.array([1.0, span_s - 4.0]), np.full((2, 2), 1e6), alone, rng)
    said = run(site_of(places), detections(nobody.sensor, nobody.toa_s, 0.0015), 0.15)
    return len(said.final), len(said.shots) - len(said.final), len(nobody.toa_s)


def measure_clutter(plan: Plan) -> list[Row]:
    """Count shots where none were fired.

    Parameters
    ----------
    plan : Plan
        How long.

    Returns
    -------
    list of Row
        False shots in all.
    """
    span_s = plan.draws(600, 40)
    seeds = plan.seeds(12, 4)
    found = np.array(spread(clutter, [(seed, float(span_s)) for seed in seeds], plan))
    stand, withdrawn, heard = (int(column) for column in found.sum(axis=0))
    hours = span_s * len(seeds) / 3600
    figure = "clutter, 1/s at each of 12 sensors: false shots"
    detail = {"told_and_withdrawn": withdrawn, "detections": heard, "hours": hours, "by_seed": found[:, 0].tolist()}
    bound = 3.0 / hours
    note = f"{hours:.2g} h at the default settings; none seen would mean at most {bound:.2g}/h (95 %)"
    return [Row(figure, stand, Ask(high=0), len(seeds), detail=detail, note=note)]
