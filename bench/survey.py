"""Survey from test shots: how near the tool comes to sensors' places and clocks, and whether its sigma is true.

Twelve sensors and twelve shots of exactly known place in a square of 1 km, in the plane. Places are surveyed to 2 m,
clocks are off by 5 ms, the air blows at 3 m/s and nobody knows where to, picks scatter by 0.2 ms. Flight times are
`bench.oracle`'s, exact for moving air. The tool is told what a site file would say: a survey of 2 m, clocks of 5 ms,
wind of 3 m/s on each axis, and the default scatter of paths (5.5 ms), which it must find out to be another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agls.config import Locating
from agls.locate.solve import Air
from bench.oracle import flight_s
from bench.rows import ANY, Ask, Plan, Row, bootstrap, share_row, spread
from calibration.bundle import Network, Picks, Shots, adjust
from calibration.ties import off_plane, ties

COUNT = 12
SIDE_M = 1000.0
SURVEY_M, CLOCK_S, PICK_S, WIND_M_S = 2.0, 0.005, 2e-4, 3.0
PATH_S = 0.008
KNOWN = Air(340.0, 0.0, 0.0, 3.0, 3.0)
WITHIN = 1.959963984540054

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Site:
    """A site as the tool sees it, and what is true.

    Attributes
    ----------
    network : Network
        What is known beforehand.
    shots : Shots
        Where shots were fired.
    picks : Picks
        When they were heard.
    positions_m : numpy.ndarray, shape (n, 3)
        Where the sensors are.
    offsets_s : numpy.ndarray, shape (n,)
        How late their clocks are.
    wind_m_s : numpy.ndarray, shape (2,)
        Where the air goes.
    """

    network: Network
    shots: Shots
    picks: Picks
    positions_m: Floats
    offsets_s: Floats
    wind_m_s: Floats


def draw(seed: int, path_s: float, echoes: int = 0) -> Site:
    """Fire test shots at a site.

    Parameters
    ----------
    seed : int
        Seed of chance.
    path_s : float
        Scatter of the paths [s].
    echoes : int, optional
        How many picks are of an echo, 10 to 100 ms late.

    Returns
    -------
    Site
        The site.
    """
    rng = np.random.default_rng([seed, round(path_s * 1e6), echoes])
    flat = np.zeros((COUNT, 1))
    positions, places = (np.hstack([rng.uniform(0, SIDE_M, (COUNT, 2)), flat]) for _ in range(2))
    towards, speed = rng.uniform(0, 2 * np.pi), float(rng.normal(KNOWN.sound_speed_m_s, KNOWN.sound_speed_sigma_m_s))
    wind = WIND_M_S * np.array([np.cos(towards), np.sin(towards)])
    offsets = rng.normal(0, CLOCK_S, COUNT)
    flights = np.array([flight_s(positions, place, speed, wind) for place in places])
    toa = 10.0 * np.arange(COUNT)[:, None] + flights + offsets + path_s * rng.normal(size=flights.shape)
    toa += rng.normal(0, PICK_S, toa.shape)
    toa.flat[rng.choice(toa.size, echoes, replace=False)] += rng.uniform(0.01, 0.1, echoes)
    shot, sensor = np.divmod(np.arange(COUNT**2), COUNT)
    network = Network(
        sensor_ids=tuple(f"s{number}" for number in range(COUNT)),
        positions_m=positions + np.hstack([rng.normal(0, SURVEY_M, (COUNT, 2)), flat]),
        position_sigma_m=np.hstack([np.full((COUNT, 2), SURVEY_M), flat]),
        offsets_s=np.zeros(COUNT),
        offset_sigma_s=np.full(COUNT, CLOCK_S),
        air=KNOWN,
        path_sigma_s=Locating().path_sigma_s,
    )
    shots = Shots(
        names=tuple(map(str, range(COUNT))),
        places_m=places,
        place_sigma_m=np.zeros((COUNT, 3)),
        place=np.arange(COUNT),
        origin_s=np.zeros(COUNT),
        origin_sigma_s=np.full(COUNT, math.inf),
    )
    return Site(network, shots, Picks(shot, sensor, toa.ravel(), np.full(toa.size, PICK_S)), positions, offsets, wind)


@dataclass(frozen=True)
class Outcome:
    """How far off a survey was: places [m] with their covered share, offsets [s] raw and without their plane."""

    place_m2: Floats
    offset_s2: Floats
    plain_s2: Floats
    covered: NDArray[np.bool_]
    plane_named: bool
    path_s: float
    refused: int


def _outcome(item: tuple[int, float, int]) -> Outcome:
    site = draw(*item)
    found = adjust(site.network, site.shots, site.picks)
    away = (found.positions_m - site.positions_m)[:, :2]
    late = found.offsets_s - site.offsets_s
    plane = np.column_stack([np.ones(COUNT), site.positions_m[:, :2]])
    plain = late - plane @ np.linalg.lstsq(plane, late)[0]
    ratios = np.concatenate([(away / found.position_sigma_m[:, :2]).ravel(), late / found.offset_sigma_s])
    ratios = np.append(ratios, plain / off_plane(site.positions_m, found)[1])
    named = {"wind_east", "wind_north"} <= {tie.name for tie in ties(site.network, found)}
    return Outcome(
        (away**2).sum(axis=1), late**2, plain**2, np.abs(ratios) <= WITHIN, named, found.path_sigma_s,
        int((~found.used).sum()),
    )  # fmt: skip


def _rms(samples: Floats) -> float:
    return float(np.sqrt(samples.mean()))


def _rms_row(figure: str, squares: list[Floats], ask: Ask, scale: float, **more: object) -> Row:
    means = np.array([one.mean() for one in squares]) * scale**2
    return Row(figure, _rms(means), ask, len(means), bootstrap(means, _rms), detail=dict(more))


def measure(plan: Plan) -> list[Row]:
    """Measure surveys from known shots.

    Parameters
    ----------
    plan : Plan
        How much to measure.

    Returns
    -------
    list of Row
        The figures.
    """
    rows = []
    for name, path_s, echoes, asked in (
        ("no path term", 0.0, 0, True),
        ("path term 8 ms", PATH_S, 0, False),
        ("path term 8 ms, 8 of 144 picks are echoes", PATH_S, 8, False),
    ):
        # Twenty surveys are asked for; the share that sigma covers needs more of them to say anything.
        some = spread(_outcome, [(seed, path_s, echoes) for seed in plan.seeds(20, 5)], plan)
        more = [(seed, path_s, echoes) for seed in plan.seeds(200, 10)][len(some) :]
        every = [*some, *spread(_outcome, more, plan)]
        path_ms = 1e3 * float(np.median([one.path_s for one in some]))
        refused = float(np.mean([one.refused for one in some]))
        rows += [
            _rms_row(f"survey, {name}: places, RMS [m]", [one.place_m2 for one in some],
                     Ask(high=0.3) if asked else ANY, 1.0, path_found_ms=path_ms, refused_a_survey=refused),
            _rms_row(f"survey, {name}: clock offsets without the plane, RMS [ms]", [one.plain_s2 for one in some],
                     Ask(high=0.5) if asked else ANY, 1e3),
            _rms_row(f"survey, {name}: clock offsets with it, RMS [ms]", [one.offset_s2 for one in some], ANY, 1e3),
            share_row(f"survey, {name}: plane of the wind named", sum(one.plane_named for one in some), len(some),
                      Ask(low=1.0)),
            share_row(f"survey, {name}: truth within 1.96 sigma", sum(int(one.covered.sum()) for one in every),
                      sum(one.covered.size for one in every), Ask(0.9, 0.98)),
        ]  # fmt: skip
    return rows
