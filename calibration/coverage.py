"""Say where planned sensors will hear and locate shots, where the next one helps most, and which ones matter most.

    agls calibrate coverage --site SITE.toml --out DIR [--candidates candidates.csv] [--noise-db 57]

For each cell of a map, a shot there is heard by each sensor with the probability of `calibration.hearing`; for many
draws of who heard it, its place has the covariance that path, pick, survey, clocks, height and air leave. The figure of
merit is the chance that a shot is heard by enough sensors *and* located within 25 m. DIR gets `coverage.svg` (look at
it first), `coverage.geojson`, and as tables `ranges.csv`, `sensors.csv` (what the loss of each costs) and
`candidates.csv` (what a node there gains).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agls.config import SiteConfig, load_site
from agls.errors import InputError
from agls.locate.frame import Frame
from agls.locate.solve import Air
from agls.replay.csv_rows import Row, read_rows
from calibration.hearing import LEVEL_DB, NOISE_DB, Hearing

PICK_SIGMA_S = 0.0015
WITHIN_M = 25.0
MARGIN_M = 200.0
CELLS = 1_200
DRAWS, DRAWS_OF_MAP = 32, 96  # to compare plans, and to draw one
SEED = 20_261_120  # the map is the same every time
ADDED = 3
CANDIDATES = 120
HEIGHT_SIGMA_M = 10.0  # where the ground is nobody says: a shot's height is free by this much
WIDE_M = 20_000.0  # how far a shot may be before anything is heard
SAME_SPOT_M = 5.0  # a node so near another one adds nothing that a plan could rest on
ANGLES = 16
TINY = 1e-12
CHI2_95_2D = 5.991464547107979

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """Sensors as they stand or are planned, and what is assumed of them.

    Attributes
    ----------
    names : tuple of str
        Of the sensors.
    places_m : numpy.ndarray, shape (m, 3)
        East, north, up [m].
    sigma_s : numpy.ndarray, shape (m,)
        Standard deviation of an arrival there: path, pick, survey and clock [s].
    air : Air
        What is known of the air.
    hearing : Hearing
        Who hears what.
    fewest : int
        Sensors that must hear a shot.
    """

    names: tuple[str, ...]
    places_m: Floats
    sigma_s: Floats
    air: Air
    hearing: Hearing
    fewest: int


@dataclass(frozen=True)
class Grid:
    """Cells of a map.

    Attributes
    ----------
    east_m, north_m : numpy.ndarray, shape (columns,) and (rows,)
        Middles of the cells [m].
    side_m : float
        Of a cell [m].
    up_m : float
        Height of shots [m].
    """

    east_m: Floats
    north_m: Floats
    side_m: float
    up_m: float

    @property
    def places_m(self) -> Floats:
        """List the middles of all cells, row by row from the south.

        Returns
        -------
        numpy.ndarray, shape (cells, 3)
            East, north, up [m].
        """
        east, north = np.meshgrid(self.east_m, self.north_m)
        return np.column_stack([east.ravel(), north.ravel(), np.full(east.size, self.up_m)])


@dataclass(frozen=True)
class Coverage:
    """What is to be expected in each cell.

    Attributes
    ----------
    plan : Plan
        The sensors.
    grid : Grid
        The cells.
    heard : numpy.ndarray, shape (cells,)
        Expected number of sensors that hear a shot.
    located : numpy.ndarray, shape (cells,)
        Chance that enough hear it.
    within : numpy.ndarray, shape (cells,)
        Chance that enough hear it and it is located within `WITHIN_M`.
    major_m : numpy.ndarray, shape (cells,)
        Median major semi-axis of the 95 % ellipse where it is located; infinite where it never is [m].
    """

    plan: Plan
    grid: Grid
    heard: Floats
    located: Floats
    within: Floats
    major_m: Floats

    @property
    def score(self) -> float:
        """Chance, over the whole map, that a shot is located within `WITHIN_M`.

        Returns
        -------
        float
            Mean over the cells.
        """
        return float(self.within.mean())


@dataclass(frozen=True)
class Gain:
    """What a node more, or one less, does to the map.

    Attributes
    ----------
    name : str
        Which.
    place_m : tuple of float
        East, north, up [m].
    gain : float
        Change of the map's score.
    score : float
        The score afterwards.
    """

    name: str
    place_m: tuple[float, float, float]
    gain: float
    score: float


def plan_of(site: SiteConfig, hearing: Hearing, pick_sigma_s: float = PICK_SIGMA_S) -> Plan:
    """Take a plan from a site.

    Parameters
    ----------
    site : SiteConfig
        With its sensors.
    hearing : Hearing
        Who hears what.
    pick_sigma_s : float, optional
        Standard deviation of picking an arrival [s].

    Returns
    -------
    Plan
        The plan.
    """
    air, places = Air.of_weather(site.weather), Frame.of_site(site).sensor_positions_m
    survey_s = np.array([one.position_sigma_m for one in site.sensor]) / air.sound_speed_m_s
    clock_s = np.array([one.clock_offset_sigma_s for one in site.sensor])
    return Plan(
        names=tuple(one.sensor_id for one in site.sensor),
        places_m=np.array([places[one.sensor_id] for one in site.sensor], np.float64),
        sigma_s=np.sqrt(site.locating.path_sigma_s**2 + pick_sigma_s**2 + survey_s**2 + clock_s**2),
        air=air,
        hearing=hearing,
        fewest=site.locating.min_sensors_count,
    )


def grid_of(places_m: Floats, margin_m: float = MARGIN_M, cells: float = CELLS) -> Grid:
    """Lay cells over an area.

    Parameters
    ----------
    places_m : numpy.ndarray, shape (n, 3)
        What it holds [m].
    margin_m : float, optional
        How far beyond the outermost of these [m].
    cells : float, optional
        About how many.

    Returns
    -------
    Grid
        Square cells; shots are as high as the lowest of the places.
    """
    low, high = places_m[:, :2].min(axis=0) - margin_m, places_m[:, :2].max(axis=0) + margin_m
    side_m = float(np.sqrt(np.prod(high - low) / cells))
    counts = np.maximum(np.ceil((high - low) / side_m), 1).astype(int)
    start = (low + high) / 2 - side_m * (counts - 1) / 2
    east_m, north_m = (start[axis] + side_m * np.arange(counts[axis]) for axis in (0, 1))
    return Grid(east_m, north_m, side_m, float(places_m[:, 2].min()))


# ------------------------------------------------------------------------------------------------------- accuracy


class _Draws:
    """For each cell, many draws of who heard a shot there, and the covariance of its place each time.

    Unknowns: east, north [m], origin time times sound speed [m], height [m], sound speed and wind [m/s].
    """

    def __init__(self, plan: Plan, grid: Grid, draws: int = DRAWS) -> None:
        self.plan, self.grid = plan, grid
        air = plan.air
        sigmas = (WIDE_M, WIDE_M, WIDE_M, HEIGHT_SIGMA_M, air.sound_speed_sigma_m_s, *(air.wind_sigma_m_s,) * 2)
        self.prior = np.diag([sigma**-2.0 for sigma in sigmas])
        chance = np.random.default_rng(SEED)
        # One draw for each sensor and time, the same in all cells: the map is smooth, and plans compare fairly.
        even = (np.arange(draws) + 0.5) / draws
        self.luck = np.column_stack([chance.permuted(even) for _ in (*plan.names, "one more")])
        self.rows = self.sights(plan.places_m, plan.sigma_s)
        self.p = plan.hearing.probability(plan.places_m[None] - grid.places_m[:, None])
        self.hears = self.luck[None, :, :-1] < self.p[:, None]
        self.count = self.hears.sum(axis=2)
        self.covariance: Floats = self._covariance(self.hears)

    def sights(self, places_m: Floats, sigma_s: Floats) -> Floats:
        """Compute by how much each arrival changes with the unknowns, in its standard deviations."""
        offset = self.grid.places_m[:, None] - places_m[None]
        away_m = np.maximum(np.linalg.norm(offset, axis=2), 1.0)
        speed = self.plan.air.sound_speed_m_s
        columns = [
            offset[..., 0] / away_m, offset[..., 1] / away_m, np.ones_like(away_m), offset[..., 2] / away_m,
            -away_m / speed, offset[..., 0] / speed, offset[..., 1] / speed,
        ]  # fmt: skip
        return np.stack(columns, axis=-1) / (speed * sigma_s)[:, None]

    def _covariance(self, hears: NDArray[np.bool_]) -> Floats:
        """Invert what the sensors that heard it say together, some cells at a time: a big city has many sensors."""
        found = np.empty((*hears.shape[:2], 7, 7))
        for cell in range(len(hears)):
            rows = self.rows[cell]
            products = (rows[:, :, None] * rows[:, None, :]).reshape(-1, 49)
            told = (hears[cell].astype(np.float64) @ products).reshape(-1, 7, 7)
            found[cell] = np.linalg.inv(self.prior + told)
        return found

    def without(self, number: int) -> Floats:
        """Compute the chance to locate within reach where one sensor is down, by cell."""
        return self._changed(self.rows[:, number], self.hears[:, :, number], -1)

    def with_one(self, place_m: Floats, sigma_s: float) -> Floats:
        """Compute the chance to locate within reach where a node is added, by cell."""
        p = self.plan.hearing.probability(place_m[None] - self.grid.places_m)
        row = self.sights(place_m[None], np.array([sigma_s]))[:, 0]
        return self._changed(row, self.luck[None, :, -1] < p[:, None], 1)

    def _changed(self, row: Floats, hears: NDArray[np.bool_], more: int) -> Floats:
        """Put one row more into each covariance where it is heard, or take one out (Sherman and Morrison)."""
        leaned = (self.covariance @ row[:, None, :, None])[..., 0]
        left = np.maximum(1.0 + more * (leaned * row[:, None]).sum(axis=2), TINY)
        top = leaned[..., :2]
        change = top[..., :, None] * top[..., None, :] * (more * hears / left)[..., None, None]
        enough = self.count + more * hears >= self.plan.fewest
        return np.asarray(_within(self.covariance[..., :2, :2] - change, enough).mean(axis=1))


def _within(covariance: Floats, enough: NDArray[np.bool_]) -> Floats:
    """Compute the chance that a place so unsure is within reach; none where too few heard."""
    small, large = _axes(covariance)
    chance = np.zeros_like(small)
    # Of a round normal distribution stretched into this one: in each direction, how much of it is still within reach.
    for turn in np.pi / 2 * (np.arange(ANGLES) + 0.5) / ANGLES:
        chance -= np.expm1(-0.5 * WITHIN_M**2 / (small * np.cos(turn) ** 2 + large * np.sin(turn) ** 2))
    return np.asarray(np.where(enough, chance / ANGLES, 0.0))


def _axes(covariance: Floats) -> tuple[Floats, Floats]:
    """Compute the variances along the minor and major axis."""
    middle = (covariance[..., 0, 0] + covariance[..., 1, 1]) / 2
    apart = np.hypot((covariance[..., 0, 0] - covariance[..., 1, 1]) / 2, covariance[..., 0, 1])
    return np.maximum(middle - apart, 1e-6), np.maximum(middle + apart, 1e-6)


def cover(plan: Plan, grid: Grid) -> Coverage:
    """Say what is to be expected of a plan.

    Parameters
    ----------
    plan : Plan
        The sensors.
    grid : Grid
        The cells.

    Returns
    -------
    Coverage
        By cell.
    """
    return _told(_Draws(plan, grid, DRAWS_OF_MAP))


def _told(draws: _Draws) -> Coverage:
    enough = draws.count >= draws.plan.fewest
    covariance = draws.covariance[..., :2, :2]
    major_m = np.sqrt(CHI2_95_2D * _axes(covariance)[1])
    middle = np.nanmedian(np.where(enough.any(axis=1)[:, None], np.where(enough, major_m, np.nan), np.inf), axis=1)
    return Coverage(
        plan=draws.plan,
        grid=draws.grid,
        heard=draws.p.sum(axis=1),
        located=enough.mean(axis=1),
        within=_within(covariance, enough).mean(axis=1),
        major_m=middle,
    )


def losses(plan: Plan, grid: Grid) -> list[Gain]:
    """Say what the loss of each sensor costs.

    Parameters
    ----------
    plan : Plan
        The sensors.
    grid : Grid
        The cells.

    Returns
    -------
    list of Gain
        The one that matters most first; gains are negative.
    """
    draws = _Draws(plan, grid)
    score = _told(draws).score
    found = []
    for number, name in enumerate(plan.names):
        left = float(draws.without(number).mean())
        found.append(Gain(name, _place(plan.places_m[number]), left - score, left))
    return sorted(found, key=lambda one: (one.gain, one.name))


def next_places(
    plan: Plan, grid: Grid, candidates: Sequence[tuple[str, Floats]], count: int = ADDED
) -> list[list[Gain]]:
    """Say where the next nodes help most, one after the other.

    Parameters
    ----------
    plan : Plan
        The sensors there are.
    grid : Grid
        The cells.
    candidates : sequence of tuple of str and numpy.ndarray
        Names and places [m] to choose from.
    count : int, optional
        How many to choose.

    Returns
    -------
    list of list of Gain
        For each choice all candidates left, the best first; the next choice takes that one as standing.
    """
    sigma_s, found = float(np.median(plan.sigma_s)), []
    left = [(name, place) for name, place in candidates if _clear(place, plan.places_m)]
    for _ in range(min(count, len(left))):
        draws = _Draws(plan, grid)
        score = _told(draws).score
        gains = []
        for name, place in left:
            after = float(draws.with_one(place, sigma_s).mean())
            gains.append(Gain(name, _place(place), after - score, after))
        gains.sort(key=lambda one: (-one.gain, one.name))
        found.append(gains)
        best = np.array(gains[0].place_m)
        plan = added(plan, gains[0].name, best)
        left = [(name, place) for name, place in left if _clear(place, best[None])]
        if not left:
            break
    return found


def added(plan: Plan, name: str, place_m: Floats) -> Plan:
    """Add a node to a plan.

    Parameters
    ----------
    plan : Plan
        The sensors there are.
    name : str
        Of the new one.
    place_m : numpy.ndarray, shape (3,)
        Where it stands [m].

    Returns
    -------
    Plan
        With the node, as sure as the others are.
    """
    return replace(
        plan,
        names=(*plan.names, name),
        places_m=np.vstack([plan.places_m, place_m]),
        sigma_s=np.append(plan.sigma_s, np.median(plan.sigma_s)),
    )


def _clear(place_m: Floats, others_m: Floats) -> bool:
    return bool(np.linalg.norm(others_m[:, :2] - place_m[:2], axis=1).min() > SAME_SPOT_M)


def _place(place_m: Floats) -> tuple[float, float, float]:
    east, north, up = (round(value, 2) for value in place_m.tolist())
    return east, north, up


def evenly(plan: Plan, grid: Grid, count: int = CANDIDATES) -> list[tuple[str, Floats]]:
    """Lay candidates evenly over a map.

    Parameters
    ----------
    plan : Plan
        Whose median height they have.
    grid : Grid
        The map.
    count : int, optional
        About how many.

    Returns
    -------
    list of tuple of str and numpy.ndarray
        Names and places [m].
    """
    coarse = grid_of(grid.places_m, margin_m=0.0, cells=count)
    up_m = float(np.median(plan.places_m[:, 2]))
    return [(f"grid-{k + 1}", np.array([*place[:2], up_m])) for k, place in enumerate(coarse.places_m)]


def read_candidates(path: Path, site: SiteConfig) -> list[tuple[str, Floats]]:
    """Read places where a node could be put.

    Parameters
    ----------
    path : pathlib.Path
        CSV with ``candidate`` and ``x_m,y_m,z_m`` or ``latitude_deg,longitude_deg,height_m``.
    site : SiteConfig
        Whose frame they are in.

    Returns
    -------
    list of tuple of str and numpy.ndarray
        Names and places [m].

    Raises
    ------
    InputError
        If the file cannot be read, holds none, or names one twice.
    """
    frame, found = Frame.of_site(site), dict[str, Floats]()
    for row in read_rows(path, ("candidate",)):
        name = row.name("candidate")
        if name in found:
            raise InputError(f"{row.where('candidate')}: {name!r} is there already; every one needs its own name")
        found[name] = _row_place(row, frame)
    if not found:
        raise InputError(f"{path}: holds no candidate; at least one row is needed, or leave --candidates out")
    return list(found.items())


def _row_place(row: Row, frame: Frame) -> Floats:
    if row.has("latitude_deg"):
        place = frame.to_local(
            row.number("latitude_deg", -90, 90, "degrees"),
            row.number("longitude_deg", -180, 180, "degrees"),
            row.number("height_m", -500, 9_000, "m"),
        )
        if place is None:
            raise InputError(f"{row.where('latitude_deg')}: the site has no place on Earth; x_m, y_m, z_m are accepted")
        return np.array(place)
    return np.array([row.number(column, -1e6, 1e6, "m") for column in ("x_m", "y_m", "z_m")])


# ---------------------------------------------------------------------------------------------------- the command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of the command.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where to.
    """
    parser.add_argument("--site", type=Path, metavar="SITE.toml", required=True, help="sensors as planned, and weather")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder for map and tables")
    parser.add_argument("--candidates", type=Path, metavar="CSV", help="where a node could go (default: a grid)")
    for name, default, unit, told in _NUMBERS:
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=float,
            metavar=unit,
            default=default,
            help=f"{told} (default: {default:g})",
        )
    parser.add_argument(
        "--add", type=int, metavar="N", default=ADDED, help=f"nodes to choose places for (default: {ADDED})"
    )


_NUMBERS = (
    ("noise_db", NOISE_DB, "DB", "noise at the sensors: 45 a suburb's night, 57 a quiet city, 65 a street by day"),
    ("level_db", LEVEL_DB, "DB", "peak of a shot at 1 m, as the model counts it"),
    ("up_share", 0.98, "SHARE", "share of the time that a node is up"),
    ("pick_sigma_s", PICK_SIGMA_S, "S", "scatter of picking an arrival"),
    ("margin_m", MARGIN_M, "M", "how far the map goes beyond the sensors"),
    ("cells", CELLS, "N", "cells of the map, about"),
)
_RANGES = {"noise_db": (20, 120), "level_db": (100, 200), "up_share": (0.01, 1), "pick_sigma_s": (1e-6, 0.1),
           "margin_m": (0, 5_000), "cells": (50, 20_000)}  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Map the coverage of planned sensors.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` defines them.

    Returns
    -------
    int
        0.

    Raises
    ------
    InputError
        If a file or argument is wrong.
    """
    from calibration.coverage_map import Report, summary, write

    for name, (low, high) in _RANGES.items():
        if not low <= (value := getattr(arguments, name)) <= high:
            raise InputError(f"--{name.replace('_', '-')} {value:g}: a number from {low:g} to {high:g} is accepted")
    if not 0 <= arguments.add <= 20:
        raise InputError(f"--add {arguments.add}: a whole number from 0 to 20 is accepted")
    site = load_site(arguments.site)
    hearing = Hearing(
        site.weather, arguments.noise_db, arguments.level_db, up_share=arguments.up_share,
        max_range_m=site.locating.max_range_m,
    )  # fmt: skip
    plan = plan_of(site, hearing, arguments.pick_sigma_s)
    chosen = read_candidates(arguments.candidates, site) if arguments.candidates else None
    around = np.vstack([plan.places_m, *(place for _, place in chosen or ())])
    grid = grid_of(around, arguments.margin_m, arguments.cells)
    coarse = grid_of(around, arguments.margin_m, arguments.cells / 2)
    _working("the map")
    covered = cover(plan, grid)
    _working("what the loss of each sensor costs")
    costs = losses(plan, coarse)
    _working("where the next nodes go")
    choices = next_places(plan, coarse, chosen or evenly(plan, coarse), arguments.add)
    _working("")
    report = Report(site, covered, costs, choices)
    write(report, arguments.out)
    print("\n".join([*summary(report), f"{arguments.out}: coverage.svg, coverage.geojson and tables written"]))
    return 0


def _working(what: str) -> None:
    """Show on a terminal what is being worked out; nothing in a pipe."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what and f'working out {what} ...'}", end="", file=sys.stderr, flush=True)
