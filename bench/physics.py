"""Locate shots that the simulated city let sensors hear: errors and ellipses where physics is not the solver's own.

Twelve sensors at random in a square of 1 km, shots inside their hull. Sound goes through moist air with wind that is
weaker near the ground and a temperature that changes with height, off the ground, and, where a row says so, late by the
path term and round buildings. Each sensor picks the first way that stands out of its noise; each pick is blurred by
0.5 ms, by the moving air's 1 ms and by the clock. The solver is told the survey, with its error, and a weather report
wrong by 1 C and 1 m/s on each axis.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agls.config import OnsetDetection, Origin, Weather
from agls.locate.solve import Air, NoSolution, Solution, solve
from agls.locate.uncertainty import ellipse95, within95
from agls.physics import sound_speed_m_s
from bench.oracle import inside_hull
from bench.rows import ANY, Ask, Plan, Row, bootstrap, share_row, spread
from bench.scenes import sensors
from firmware_sim import scene as scenes
from firmware_sim.city import Building, within
from firmware_sim.device import clock_error_s
from firmware_sim.propagation import ways
from firmware_sim.sources import Emission, Shooter

SIDE_M = 1000.0
SENSORS_COUNT = 12
PICK_S = 0.0005
PATH_S = 0.008
TEMPERATURE_SIGMA_C, WIND_SIGMA_M_S = 1.0, 1.0
ROUGHNESS_M = 0.5
NOISE_DB = 55.0
MIN_SNR_DB = OnsetDetection().min_snr_db
SHOTS_A_SCENE = 5
MOST_BUILDINGS = 60

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """What the simulated city is like.

    Attributes
    ----------
    late_s : float
        Scatter of the path term [s].
    roughness_m : float
        Of the city, which slows the wind near the ground; 0 for a wind that is the same at every height.
    buildings : bool
        Whether buildings stand in it.
    """

    late_s: float = 0.0
    roughness_m: float = 0.0
    buildings: bool = False


WORLDS: tuple[tuple[str, World, float], ...] = (
    ("without the path term", World(), 1.5),
    ("with the path term", World(PATH_S), 5.0),
)
MORE_WORLDS: tuple[tuple[str, World], ...] = (
    ("no path term, wind told for 10 m and slower at the ground", World(roughness_m=ROUGHNESS_M)),
    ("path term, wind told for 10 m and slower at the ground", World(PATH_S, ROUGHNESS_M)),
    ("path term and buildings", World(PATH_S, buildings=True)),
)


@dataclass(frozen=True)
class Located:
    """How a shot was located.

    Attributes
    ----------
    error_m : float
        Horizontal distance to the truth; infinite where there is no place.
    held : bool
        Whether the 95 % ellipse holds the truth.
    major_m : float
        The ellipse's major semi-axis.
    heard_count : int
        How many sensors heard it.
    reason : str
        Why there is no place; empty where there is one.
    """

    error_m: float
    held: bool
    major_m: float
    heard_count: int
    reason: str = ""


def city(world: World, seed: int) -> scenes.Scene:
    """Draw a city with shots in it.

    Parameters
    ----------
    world : World
        What it is like.
    seed : int
        Of all that is drawn.

    Returns
    -------
    Scene
        With a shooter for each shot; what is told differs from what is true as weather reports do.
    """
    rng = np.random.default_rng([seed, 41])
    stand = sensors(SENSORS_COUNT, SIDE_M, rng)
    stand[:, 2] = rng.uniform(5, 12, len(stand))
    air = _air(world, rng)
    houses = _houses(stand, rng) if world.buildings else ()
    drawn = scenes.Ways(late_s=world.late_s, loss_db=3.0, echoes_count=0)
    return scenes.Scene(
        name="physics", seed=seed, duration_s=3_600.0, origin=Origin(latitude_deg=40.44, longitude_deg=-80.0),
        sensor=_ears(stand),
        shooter=tuple(_shooters(stand, houses, rng)), building=houses, air=air, told_weather=_told(air, rng),
        ways=drawn, device=scenes.Device(noise_db=NOISE_DB, sample_rate_hz=12_000),
    )  # fmt: skip


def _ears(stand: Floats) -> tuple[scenes.Ear, ...]:
    return tuple(scenes.Ear(sensor_id=f"s{k:02d}", x_m=x, y_m=y, z_m=z) for k, (x, y, z) in enumerate(stand.tolist()))


def _air(world: World, rng: np.random.Generator) -> scenes.Air:
    return scenes.Air(
        temperature_c=float(rng.uniform(-5, 30)),
        humidity_percent=float(rng.uniform(30, 95)),
        wind_speed_m_s=float(min(rng.rayleigh(2.5), 8.0)),
        wind_from_deg=float(rng.uniform(0, 360)),
        roughness_m=world.roughness_m,
        temperature_gradient_c_m=float(rng.uniform(-0.01, 0.02)),
    )


def _told(air: scenes.Air, rng: np.random.Generator) -> Weather:
    """Report the weather, wrong by what the report says of itself."""
    azimuth = math.radians(air.wind_from_deg)
    wind = air.wind_speed_m_s * np.array([math.sin(azimuth), math.cos(azimuth)]) + rng.normal(0, WIND_SIGMA_M_S, 2)
    return Weather(
        temperature_c=air.temperature_c + float(rng.normal(0, TEMPERATURE_SIGMA_C)),
        humidity_percent=air.humidity_percent,
        wind_speed_m_s=float(np.hypot(*wind)),
        wind_from_deg=math.degrees(math.atan2(wind[0], wind[1])) % 360,
        temperature_sigma_c=TEMPERATURE_SIGMA_C,
        wind_sigma_m_s=WIND_SIGMA_M_S,
    )


def _houses(stand: Floats, rng: np.random.Generator) -> tuple[Building, ...]:
    """Put houses on a grid of lots, none where a sensor stands."""
    found = []
    for number, lot in enumerate(rng.permutation(100)[:MOST_BUILDINGS]):
        west, south = (lot % 10) * 100 + 15, (lot // 10) * 100 + 15
        east, north = west + float(rng.uniform(30, 70)), south + float(rng.uniform(15, 70))
        outline = ((west, south), (east, south), (east, north), (west, north))
        if not any(within(outline, x, y) for x, y in stand[:, :2].tolist()):
            height_m = float(rng.uniform(6, 14))
            found.append(Building(building_id=f"house-{number}", outline_m=outline, height_m=height_m))
    return tuple(found)


def _shooters(stand: Floats, houses: Sequence[Building], rng: np.random.Generator) -> list[Shooter]:
    found: list[Shooter] = []
    while len(found) < SHOTS_A_SCENE:
        place = rng.uniform(0, SIDE_M, 2)
        x_m, y_m = place.tolist()
        if inside_hull(stand, place[None])[0] and not any(within(house.outline_m, x_m, y_m) for house in houses):
            number = len(found)
            found.append(Shooter(shooter_id=f"shooter-{number}", x_m=x_m, y_m=y_m, start_s=10.0 + 15 * number))
    return found


def picks(made: scenes.Scene, shot: Emission) -> tuple[NDArray[np.int64], Floats]:
    """Let sensors pick a shot: each the first way that stands out of its noise.

    Parameters
    ----------
    made : Scene
        The city.
    shot : Emission
        The shot.

    Returns
    -------
    numpy.ndarray, shape (n,), int64
        Which sensors heard it.
    numpy.ndarray, shape (n,)
        When, by their clocks [s].
    """
    who, when = [], []
    for number, ear in enumerate(made.sensor):
        clear = [way.toa_s for way in ways(made, ear, shot) if way.level_db >= made.device.noise_db + MIN_SNR_DB]
        if clear:
            blur_s = float(scenes.generator(made, "pick", ear.sensor_id, round(1e3 * shot.time_s)).normal(0, PICK_S))
            who.append(number)
            when.append(clear[0] + blur_s + clock_error_s(made, ear))
    return np.array(who, dtype=np.int64), np.array(when)


def locate(item: tuple[World, int]) -> list[Located]:
    """Locate all shots of a city by the solver alone.

    Parameters
    ----------
    item : tuple of World and int
        What the city is like, and its seed.

    Returns
    -------
    list of Located
        One for each shot.
    """
    world, seed = item
    made = city(world, seed)
    told = scenes.surveyed(made)
    stand = np.array([(one.x_m, one.y_m, one.z_m) for one in told])
    weather = scenes.told_weather(made)
    survey_s = made.device.survey_sigma_m / sound_speed_m_s(weather.temperature_c, weather.humidity_percent)
    sigma_s = math.hypot(PICK_S, made.ways.gust_s, made.device.clock_sigma_s, survey_s, world.late_s)
    found = []
    for shot in scenes.shots(made):
        who, when_s = picks(made, shot)
        solution: Solution | NoSolution = NoSolution("too_few_heard")
        if len(who) >= 4:
            solution = solve(stand[who], when_s, np.full(len(who), sigma_s), Air.of_weather(weather))
        found.append(_scored(solution, shot, len(who)))
    return found


def _scored(solution: Solution | NoSolution, shot: Emission, heard_count: int) -> Located:
    if isinstance(solution, NoSolution):
        return Located(math.inf, False, math.inf, heard_count, solution.reason)
    off = np.array([solution.x_m - shot.position_m[0], solution.y_m - shot.position_m[1]])
    major_m = ellipse95(solution.covariance).major_m
    return Located(float(np.hypot(*off)), within95(off, solution.covariance), major_m, heard_count)


# -------------------------------------------------------------------------------------------------------------- rows


def measure(plan: Plan) -> list[Row]:
    """Measure errors and ellipses with the simulator's physics.

    Parameters
    ----------
    plan : Plan
        How many shots: 2,000 of each city in full, 200 when quick.

    Returns
    -------
    list of Row
        Without and with the path term; and where more is not as the solver has it.
    """
    rows = []
    for name, world, most_m in WORLDS:
        located = _located(world, plan, 400, 40)
        rows += [_error_row(name, located, Ask(high=most_m)), _held_row(name, located, Ask(0.92, 0.98))]
    for name, world in MORE_WORLDS:
        located = _located(world, plan, 80, 8)
        rows += [_error_row(name, located), _held_row(name, located)]
    return rows


def _located(world: World, plan: Plan, full: int, quick: int) -> list[Located]:
    return [one for found in spread(locate, [(world, seed) for seed in plan.seeds(full, quick)], plan) for one in found]


def _error_row(name: str, located: Sequence[Located], ask: Ask = ANY) -> Row:
    error_m = np.array([one.error_m for one in located])
    there = error_m[np.isfinite(error_m)]
    detail = {
        "error_p95_m": float(np.quantile(there, 0.95)),
        "major_median_m": float(np.median([one.major_m for one in located if not one.reason])),
        "heard_mean": float(np.mean([one.heard_count for one in located])),
        "not_located": dict(Counter(one.reason for one in located if one.reason)),
    }
    within = bootstrap(error_m, lambda values: float(np.median(values)))
    figure = f"simulated physics, inside the hull, {name}: median error [m]"
    return Row(figure, float(np.median(error_m)), ask, len(located), within, detail)


def _held_row(name: str, located: Sequence[Located], ask: Ask = ANY) -> Row:
    found = [one for one in located if not one.reason]
    figure = f"simulated physics, inside the hull, {name}: ellipse holds the truth"
    note = "shots of one city share its air and survey: the interval takes them as independent" if ask != ANY else ""
    return share_row(figure, sum(one.held for one in found), len(found), ask, note=note)
