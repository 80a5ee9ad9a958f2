"""Compare the simulated city with the recorded one: ``python -m bench.likeness --out DIR`` writes a page of plots.

Sensors and firing positions are those of the Pittsburgh live fire, read when this runs; the buildings around them are a
stand-in drawn by lot, on flat land. Shots are rendered by the simulator and picked as the vendor's sensors seem to:
from 60 dB on, 2 dB over the noise before, and later only what stands out of a mask that falls from the last pulse by
43 dB a second (below it the release holds no pulse). Levels end at 93 dB.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from agls.config import Origin
from bench.heard import (
    LEAST_DB,
    LEAST_SNR_DB,
    NEW_S,
    Heard,
    Pulse,
    echoes_per_arrival,
    figures,
    path_late_s,
    recorded,
    sorted_out,
)
from bench.likeness_page import Compared, page
from bench.pittsburgh import ABSENT, find_release, read_cases
from bench.rows import ANY, REPORTED_SEED, Ask, Plan, Row, bootstrap, share_row, spread
from bench.street_noise import FULL_DB, Noise, recorded_noise, simulated_noise
from firmware_sim import scene as scenes
from firmware_sim.acoustics import REFERENCE_PA, Air, sampled, sound_speed_m_s
from firmware_sim.city import Building, within
from firmware_sim.propagation import pulses
from firmware_sim.sources import Shooter

Floats = NDArray[np.float64]

RATE_HZ = 12_000
ROUNDS_COUNT, CADENCE_S = 12, 5.0  # the last echo of a shot comes before the next is fired
MASK_DB_S = 43.0
ENDS_DB, ENDS_SIGMA_DB = 93.5, 0.5  # where peaks end
LOT_M, STREET_M = (62.0, 40.0), 14.0  # blocks of the stand-in, and the streets between them
NEAR_GUN_M, LOTS_COUNT = 70.0, 3  # lots that are built upon: near the gun, and so many nearest each sensor
ROOF_M, FACADE_LOSS_DB = (4.0, 8.0), 8.0
DEVICE = scenes.Device(sample_rate_hz=RATE_HZ, noise_db=56.5, noise_sigma_db=6.0, full_scale_db_spl=FULL_DB)
PEAKS_DB, PEAKS_SIGMA_DB = 8.0, 3.0  # by which noise as the vendor tells it is above its root mean square
STEP, ECHO_DB = 0.6, 4.0  # of a fit: how far parameters are moved at once
FIT_SEEDS = tuple(range(1, 7))
SPEED_SIGMA_C = 1.0  # how far the nearest weather station may be off


@dataclass(frozen=True)
class Setting:
    """What the stand-in is like, beside where sensors and shooters stand.

    Attributes
    ----------
    ways : Ways
        What stands for the parts of the city that are not drawn.
    level_db : float
        Peak level of the weapon at 1 m.
    """

    ways: scenes.Ways
    level_db: float


def _fitted(km: float, sigma: float, late_s: float, gust_s: float, echo: float, gun: float, fade: float) -> Setting:
    """Write down what a fit found; what it did not move was chosen by eye, on all three positions."""
    ways = scenes.Ways(
        loss_db=0.0, loss_db_km=km, loss_sigma_db=sigma, late_s=late_s, gust_s=gust_s, fade_db=fade,
        dull_above_hz=1_500.0, echoes_count=5, echo_loss_db=echo, echo_sigma_db=5.0,
    )  # fmt: skip
    return Setting(ways, gun)


# Found by `python -m bench.likeness --fit`, to the other two positions; levels and echoes are of different fits.
FITTED_WITHOUT: dict[str, Setting] = {
    "FP1": _fitted(31.9, 10.8, 0.0085, 0.00120, 20.3, 158.3, 3.4),
    "FP6": _fitted(36.9, 16.7, 0.0081, 0.00112, 21.7, 166.8, 4.6),
    "FP8": _fitted(27.1, 14.9, 0.0079, 0.00092, 22.5, 165.3, 4.2),
}


def stand_in(layout: Heard, setting: Setting, seed: int) -> scenes.Scene:
    """Draw a city round recorded places of sensors.

    Parameters
    ----------
    layout : Heard
        Where sensors stood, seen from the shooter.
    setting : Setting
        What the city is like.
    seed : int
        Of all that is drawn.

    Returns
    -------
    Scene
        With one shooter in its middle.
    """
    rng = np.random.default_rng([seed, 51])
    houses = _houses(layout, rng)
    ears = []
    for number, (x, y) in enumerate(layout.sensors_m[:, :2].tolist()):
        roof_m = max([house.height_m for house in houses if within(house.outline_m, x, y)], default=0.0)
        height_m = roof_m + 2.0 if roof_m else float(rng.uniform(8.0, 13.0))
        ears.append(scenes.Ear(sensor_id=f"s{number:02d}", x_m=x, y_m=y, z_m=height_m))
    return scenes.Scene(
        name="likeness", seed=seed, duration_s=ROUNDS_COUNT * CADENCE_S + 10.0,
        origin=Origin(latitude_deg=40.44, longitude_deg=-80.0),
        sensor=tuple(ears), building=houses, air=scenes.Air(temperature_c=-2.0, humidity_percent=70.0),
        shooter=(_gun(setting),),
        ways=setting.ways, device=DEVICE,
    )  # fmt: skip


def _gun(setting: Setting) -> Shooter:
    return Shooter(
        shooter_id="gun",
        x_m=0.0,
        y_m=0.0,
        start_s=1.0,
        rounds_count=ROUNDS_COUNT,
        cadence_s=CADENCE_S,
        weapon="40sw",
        level_db=setting.level_db,
    )


def _houses(layout: Heard, rng: np.random.Generator) -> tuple[Building, ...]:
    """Build on a turned grid of lots near the gun and near each sensor."""
    turn, shift = float(rng.uniform(0, math.pi / 2)), rng.uniform(0, 1, 2)
    pitch = np.array(LOT_M) + STREET_M
    axes = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    reach = np.arange(-20, 21)
    lots = np.stack(np.meshgrid(reach, reach), axis=-1).reshape(-1, 2)
    middles = ((lots + shift) * pitch) @ axes
    chosen = set(np.flatnonzero(np.hypot(*middles.T) < NEAR_GUN_M).tolist())
    for place in layout.sensors_m[:, :2]:
        chosen |= set(np.argsort(np.hypot(*(middles - place).T))[:LOTS_COUNT].tolist())
    found = []
    for number in sorted(chosen):
        size = np.array(LOT_M) * [float(rng.uniform(0.6, 1.0)), float(rng.uniform(0.3, 0.8))]
        corners = (np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size / 2) @ axes + middles[number]
        outline = tuple((float(x), float(y)) for x, y in corners)
        if not within(outline, 0.0, 0.0):
            height_m = float(rng.uniform(*ROOF_M))
            facade = {"height_m": height_m, "loss_db": FACADE_LOSS_DB}
            found.append(Building(building_id=f"house-{number}", outline_m=outline, **facade))
    return tuple(found)


def simulated(layout: Heard, setting: Setting, seed: int) -> Heard:
    """Let a simulated city's sensors hear shots, as the vendor's sensors report.

    Parameters
    ----------
    layout : Heard
        Where sensors stood.
    setting : Setting
        What the city is like.
    seed : int
        Of all that is drawn.

    Returns
    -------
    Heard
        In the form of what was recorded.
    """
    made = stand_in(layout, setting, seed)
    rng = np.random.default_rng([seed, 52])
    fired_s = [shot.time_s for shot in scenes.shots(made)]
    found: list[Pulse] = []
    for sensor, ear in enumerate(made.sensor):
        full_db, usual_db = float(rng.normal(ENDS_DB, ENDS_SIGMA_DB)), scenes.street_noise_db(made, ear) + PEAKS_DB
        for pulse in pulses(made, ear):
            shot = int(np.searchsorted(fired_s, pulse.time_s) - 1)
            first, pressure = sampled(pulse, pulse.time_s * RATE_HZ)
            floor_db = float(rng.normal(usual_db, PEAKS_SIGMA_DB))
            after_s = first / RATE_HZ - fired_s[shot]
            for at_s, level_db in picked(pressure, floor_db):
                found.append(Pulse(shot, sensor, after_s + at_s, min(level_db, full_db), floor_db, True))
    stand_m = np.array([(ear.x_m, ear.y_m, ear.z_m) for ear in made.sensor]) - [0.0, 0.0, 1.5]
    told_c = made.air.temperature_c + float(rng.normal(0, SPEED_SIGMA_C))
    speed = sound_speed_m_s(Air(told_c, made.air.humidity_percent, (0.0, 0.0, 0.0)))
    return sorted_out(layout.name, layout.sensors, stand_m, found, ROUNDS_COUNT, speed)


def picked(pressure_pa: NDArray[np.float32], floor_db: float) -> list[tuple[float, float]]:
    """Pick pulses in what reaches a microphone.

    Parameters
    ----------
    pressure_pa : numpy.ndarray, shape (n,), float32
        Sound pressure without noise, at 12 kHz [Pa].
    floor_db : float
        The noise.

    Returns
    -------
    list of tuple of float
        Of each pulse: beginning since the first sample [s], and peak level [dB].
    """
    level_db = 20 * np.log10(np.maximum(np.abs(pressure_pa), 1e-9) / REFERENCE_PA)
    need_db = max(LEAST_DB, floor_db + LEAST_SNR_DB)
    new = round(NEW_S * RATE_HZ)
    seconds = np.arange(len(level_db)) / RATE_HZ
    found: list[tuple[float, float]] = []
    mask_db, at = np.full(len(level_db), need_db), 0
    while (over := np.flatnonzero(level_db[at:] >= mask_db[at:])).size:
        begins = at + int(over[0])
        peak_db = float(level_db[begins : begins + new].max())
        before = max(0, begins - new)
        found.append((_edge(level_db[before : begins + new], peak_db) + float(seconds[before]), peak_db))
        mask_db = np.maximum(need_db, peak_db - MASK_DB_S * (seconds - seconds[begins]))
        at = begins + new
    return found


def _edge(level_db: Floats, peak_db: float) -> float:
    """Find where a pulse begins: where it first comes within 12 dB of its peak [s]."""
    return float(np.argmax(level_db >= peak_db - 12.0)) / RATE_HZ


# -------------------------------------------------------------------------------------------------- fit and compare


def fit(training: Sequence[Heard], setting: Setting, seeds: Sequence[int], rounds: int = 4) -> Setting:
    """Move a setting until what it simulates is as loud, as late and as often heard as what was recorded.

    Each parameter has one figure that it governs; the figures of levels are the censored likelihood's, of recorded and
    simulated alike.

    Parameters
    ----------
    training : sequence of Heard
        What was recorded.
    setting : Setting
        Where to begin.
    seeds : sequence of int
        Of the cities that are simulated.
    rounds : int, optional
        How often it is moved.

    Returns
    -------
    Setting
        The last.
    """
    want = figures(training)
    for _ in range(rounds):
        found = [figures([simulated(layout, setting, seed) for layout in training]) for seed in seeds]
        got = {name: float(np.mean([one[name] for one in found])) for name in want}
        setting = _moved(setting, want, got)
        print(setting, flush=True)
    return setting


def _moved(setting: Setting, want: dict[str, float], got: dict[str, float]) -> Setting:
    ways = setting.ways
    steeper = STEP * (want["decline [dB a decade]"] - got["decline [dB a decade]"])
    more_db_km = float(np.clip(ways.loss_db_km + steeper, 0, 100)) - ways.loss_db_km
    wider = want["level, sensor to sensor, sd [dB]"] / got["level, sensor to sensor, sd [dB]"]
    later = want["lateness, sensor to sensor, rms [ms]"] / got["lateness, sensor to sensor, rms [ms]"]
    gustier = want["lateness, shot to shot, 1.48 MAD [ms]"] / got["lateness, shot to shot, 1.48 MAD [ms]"]
    fewer = math.log(got["echoes per arrival"] / want["echoes per arrival"])
    shot = "level, shot to shot, sd [dB]"
    moved = msgspec.structs.replace(
        ways, loss_db_km=ways.loss_db_km + more_db_km, loss_sigma_db=float(np.clip(ways.loss_sigma_db * wider, 0, 20)),
        late_s=ways.late_s * later, gust_s=ways.gust_s * gustier,
        fade_db=math.sqrt(max(ways.fade_db**2 + want[shot] ** 2 - got[shot] ** 2, 0.0)),
        echo_loss_db=max(0.0, ways.echo_loss_db + ECHO_DB * fewer),
    )  # fmt: skip
    louder_db = want["level at 300 m [dB]"] - got["level at 300 m [dB]"] + 0.3 * more_db_km
    return Setting(moved, setting.level_db + louder_db)


def recordings(release: Path) -> list[Heard]:
    """Read what was recorded at each firing position.

    Parameters
    ----------
    release : pathlib.Path
        The release.

    Returns
    -------
    list of Heard
        In order of name.
    """
    cases = read_cases(release)
    return [
        recorded([one for one in cases if one.position == name]) for name in sorted({one.position for one in cases})
    ]


def _city(item: tuple[tuple[Heard, ...], int]) -> list[Heard]:
    """Simulate all positions once, each as fitted to the others."""
    layouts, seed = item
    return [simulated(layout, FITTED_WITHOUT[layout.name], seed) for layout in layouts]


def compare(layouts: Sequence[Heard], plan: Plan) -> tuple[list[list[Heard]], list[Compared]]:
    """Simulate cities beside what was recorded, and put figures side by side.

    Parameters
    ----------
    layouts : sequence of Heard
        What was recorded.
    plan : Plan
        How many cities.

    Returns
    -------
    list of list of Heard
        Of each city, of each position.
    list of Compared
        The figures.
    """
    cities = spread(_city, [(tuple(layouts), seed) for seed in plan.seeds(24, 6)], plan)
    own = figures(layouts)
    by_city = [figures(city) for city in cities]
    return cities, [Compared(name, value, np.array([one[name] for one in by_city])) for name, value in own.items()]


def noises(layouts: Sequence[Heard], release: Path, seeds: Sequence[int]) -> tuple[list[Noise], list[Noise]]:
    """Record noise in simulated cities at those sensors whose audio the release has, beside the release's.

    Parameters
    ----------
    layouts : sequence of Heard
        What was recorded.
    release : pathlib.Path
        The release.
    seeds : sequence of int
        Of the cities.

    Returns
    -------
    tuple of list of Noise
        Recorded and simulated.
    """
    own = recorded_noise(release)
    found = []
    for layout in layouts:
        names = sorted({one.sensor for one in own if one.position == layout.name} & set(layout.sensors))
        for seed in seeds:
            made = stand_in(layout, FITTED_WITHOUT[layout.name], seed)
            (gun,) = made.shooter
            three = msgspec.structs.replace(gun, rounds_count=3, start_s=3.0)
            made = msgspec.structs.replace(made, shooter=(three,), duration_s=3 * CADENCE_S + 10.0)
            found += simulated_noise(made, layout.name, [layout.sensors.index(name) for name in names])
    return own, found


def measure(plan: Plan) -> list[Row]:
    """Tell how far the recorded figures are from what simulated cities show.

    Parameters
    ----------
    plan : Plan
        How many cities.

    Returns
    -------
    list of Row
        Ranks of recorded figures among simulated cities, distances between distributions, and what clips.
    """
    release = find_release()
    if release is None:
        return [Row("likeness: figures within what 95 % of simulated cities show", math.nan, note=ABSENT)]
    layouts = recordings(release)
    cities, table = compare(layouts, plan)
    rows = [_rank_row(one) for one in table]
    rows += [_distance_row(name, values, layouts, cities) for name, values in _DISTRIBUTIONS]
    rows += _audio_rows(*noises(layouts, release, plan.seeds(8, 3)))
    inside = sum(0.025 <= one.rank <= 0.975 for one in table)
    return [*rows, share_row("likeness: figures within what 95 % of simulated cities show", inside, len(table))]


def _rank_row(one: Compared) -> Row:
    low, high = np.nanquantile(one.simulated, [0.025, 0.975])
    detail = {"recorded": one.recorded, "simulated_mean": float(np.nanmean(one.simulated))}
    detail |= {"simulated_low": float(low), "simulated_high": float(high)}
    figure = f"likeness: {one.name}: share of simulated cities below the recorded"
    return Row(figure, one.rank, Ask(0.025, 0.975), len(one.simulated), detail=detail)


def _distance_row(
    name: str, values: Callable[[Heard], list[Floats]], layouts: Sequence[Heard], cities: Sequence[Sequence[Heard]]
) -> Row:
    """Tell how far two distributions are apart at most (Kolmogorov and Smirnov), sensors drawn again and again."""
    own = [part for layout in layouts for part in values(layout)]
    pool = np.sort(np.concatenate([part for city in cities for one in city for part in values(one)]))

    def _apart(chosen: NDArray[np.float64]) -> float:
        parts = np.sort(np.concatenate([own[int(k)] for k in chosen]))
        return float(ks_2samp(parts, pool).statistic) if parts.size else math.nan

    drawn = [np.concatenate([part for one in city for part in values(one)]) for city in cities]
    by_city = [float(ks_2samp(one, pool).statistic) for one in drawn]
    detail = {"cities_median": float(np.median(by_city)), "cities_95": float(np.quantile(by_city, 0.95))}
    everyone = np.arange(len(own), dtype=np.float64)
    within = bootstrap(everyone, _apart, 200)
    return Row(f"likeness: distance of distributions, {name}", _apart(everyone), ANY, len(own), within, detail)


def _by_sensor(column: int) -> Callable[[Heard], list[Floats]]:
    return lambda heard: [
        heard.echoes[heard.echoes[:, 0] == sensor, column] for sensor in range(len(heard.sensors))
        if (heard.echoes[:, 0] == sensor).any()
    ]  # fmt: skip


_DISTRIBUTIONS: tuple[tuple[str, Callable[[Heard], list[Floats]]], ...] = (
    ("lateness from sensor to sensor", lambda heard: list(path_late_s(heard)[:, None])),
    ("echoes per arrival", lambda heard: list(echoes_per_arrival(heard)[:, None])),
    ("echoes' lags", _by_sensor(1)),
    ("echoes' levels", _by_sensor(2)),
)


def _audio_rows(own: Sequence[Noise], made: Sequence[Noise]) -> list[Row]:
    clipped = [np.array([one for noise in found for one in noise.clipped]) for found in (own, made)]
    floors = [[one.level_db for one in found if np.isfinite(one.level_db)] for found in (own, made)]
    detail = {"recorded_db": float(np.median(floors[0])), "simulated_db": float(np.median(floors[1]))}
    detail |= {"recorded_sd_db": float(np.std(floors[0])), "simulated_sd_db": float(np.std(floors[1]))}
    shares = {"recorded": float(clipped[0].mean()), "simulated": float(clipped[1].mean())}
    return [
        Row("likeness: noise floor, simulated less recorded [dB]", detail["simulated_db"] - detail["recorded_db"],
            count=len(floors[1]), detail=detail),
        Row("likeness: direct arrivals clipped in audio, simulated less recorded",
            shares["simulated"] - shares["recorded"], count=len(clipped[1]), detail=shares),
    ]  # fmt: skip


ABOUT = """
Sensors and firing positions are those of the release; buildings are drawn by lot and the land is flat. Each position is
simulated with parameters fitted to the other two. The rank tells which share of simulated cities lies below the
recorded figure: below 0.025 or above 0.975 is bold and differs.

Direct arrivals are the first pulses within 45 ms of what the best-fitting place predicts. Levels are fitted with what
is saturated and what is missed in the likelihood.
"""


def main() -> None:
    """Write the page, or fit anew."""
    parser = argparse.ArgumentParser(prog="bench.likeness", description="Show the simulated city beside the recorded.")
    parser.add_argument("--out", type=Path, help="folder for likeness.html")
    parser.add_argument("--quick", action="store_true", help="fewer cities")
    parser.add_argument("--first-seed", type=int, default=REPORTED_SEED, help="seeds count from here")
    parser.add_argument("--processes", type=int, default=1, help="processes that may work at once (default: 1)")
    parser.add_argument("--fit", action="store_true", help="fit to each two positions instead, and print that")
    arguments = parser.parse_args()
    release = find_release()
    if release is None:
        parser.error(ABSENT)
    layouts = recordings(release)
    if arguments.fit:
        for layout in layouts:
            others = [one for one in layouts if one is not layout]
            print(layout.name, fit(others, FITTED_WITHOUT[layout.name], FIT_SEEDS))
        return
    if arguments.out is None:
        parser.error("--out is needed: the folder to write likeness.html to")
    plan = Plan(arguments.quick, arguments.first_seed, arguments.processes)
    cities, table = compare(layouts, plan)
    told = page(layouts, cities, noises(layouts, release, plan.seeds(8, 3)), table, ABOUT.split("\n\n"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    partial = arguments.out / "likeness.html.part"
    partial.write_text(told, "utf-8")
    partial.replace(arguments.out / "likeness.html")
    print(arguments.out / "likeness.html")


if __name__ == "__main__":
    main()
