"""What sensors hear of shots from one place, recorded or simulated: one form for both, to measure both alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, minimize
from scipy.special import logsumexp
from scipy.stats import norm

from agls.physics import sound_speed_m_s
from bench.pittsburgh import Case

Floats = NDArray[np.float64]

SATURATED_DB = 92.9  # the vendor's peaks end at 93-95 dB
LEAST_DB, LEAST_SNR_DB = 60.0, 2.0  # what the vendor's sensors report
NEAR_S = 0.045  # an arrival farther than that from where it should be is an echo or something else
ECHOES_UNTIL_S = 0.35  # shots follow each other after 0.38 s and more
NEW_S = 0.008  # pulses nearer to each other than that are one, told twice
RANGES_M = (0.0, 200.0, 400.0, 600.0, 800.0, 1000.0)
FIT_SCALE_S = 0.005
NODES_COUNT = 401
LATEST_S = 5.0
AT_M = 300.0
FEWEST = 4  # arrivals, for a sensor's own lateness to be told


@dataclass(frozen=True)
class Heard:
    """What was heard of shots from one place.

    Attributes
    ----------
    name : str
        Of the place.
    sensors : tuple of str
        Who listened.
    sensors_m : numpy.ndarray, shape (m, 3)
        Where sensors stand, seen from the shooter [m].
    late_s : numpy.ndarray, shape (k, m)
        Of each shot at each sensor: direct arrival less what still air and the fitted place predict; nan where missed.
    level_db, floor_db : numpy.ndarray, shape (k, m)
        Its peak, and the noise before it; nan where missed.
    echoes : numpy.ndarray, shape (n, 3)
        Of each later pulse within 0.35 s: sensor, time after the direct arrival [s], level against it [dB].
    threshold_db : numpy.ndarray, shape (m,)
        Peak that each sensor needs.
    """

    name: str
    sensors: tuple[str, ...]
    sensors_m: Floats
    late_s: Floats
    level_db: Floats
    floor_db: Floats
    echoes: Floats
    threshold_db: Floats

    @property
    def range_m(self) -> Floats:
        """Measure how far each sensor is.

        Returns
        -------
        numpy.ndarray, shape (m,)
            Horizontal distances [m].
        """
        return np.asarray(np.hypot(self.sensors_m[:, 0], self.sensors_m[:, 1]))

    @property
    def found(self) -> NDArray[np.bool_]:
        """Say which direct arrivals were detected.

        Returns
        -------
        numpy.ndarray of bool, shape (k, m)
            By shot and sensor.
        """
        return np.isfinite(self.level_db)


# -------------------------------------------------------------------------------------------------------- recorded


@dataclass(frozen=True)
class Pulse:
    """One pulse that a sensor reported.

    Attributes
    ----------
    shot, sensor : int
        Which shot it follows, and who reported it.
    after_s : float
        When, after the shot was fired [s].
    level_db, floor_db : float
        Its peak, and the noise before it.
    chosen : bool
        Whether it may be used to find the place.
    """

    shot: int
    sensor: int
    after_s: float
    level_db: float
    floor_db: float
    chosen: bool


def recorded(cases: Sequence[Case]) -> Heard:
    """Gather what the sensors of the live fire heard of one firing position.

    Parameters
    ----------
    cases : sequence of Case
        Its tests.

    Returns
    -------
    Heard
        Of all its shots.
    """
    gun = np.array([cases[0].truth[0].x_m, cases[0].truth[0].y_m, cases[0].truth[0].z_m])
    sites = [case.recording.site for case in cases]
    stand = {one.sensor_id: np.array([one.x_m, one.y_m, one.z_m]) - gun for site in sites for one in site.sensor}
    names = sorted(stand)
    speed = float(np.median([sound_speed_m_s(site.weather.temperature_c, 60.0) for site in sites]))
    pulses, shots = _pulses(cases, names)
    places_m = np.array([stand[name] for name in names])
    return sorted_out(cases[0].position, names, places_m, pulses, shots, speed)


def _pulses(cases: Sequence[Case], names: Sequence[str]) -> tuple[list[Pulse], int]:
    """List each pulse with every shot that it may belong to, in seconds after the shot; once, though told twice."""
    found, shots = [], 0
    for case in cases:
        for true, heard_by in zip(case.truth, case.heard_by, strict=True):
            fired_ns = ((true.earliest_ns or 0) + (true.latest_ns or 0)) / 2
            last: dict[str, float] = defaultdict(lambda: -np.inf)
            for one in sorted(case.recording.detections, key=lambda one: one.toa_ns):
                after_s = (one.toa_ns - fired_ns) / 1e9
                if after_s - last[one.sensor_id] < NEW_S or not 0.0 < after_s < LATEST_S:
                    continue
                last[one.sensor_id] = after_s
                level, snr = one.level_db or 0.0, one.snr_db or 0.0
                sensor = names.index(one.sensor_id)
                found.append(Pulse(shots, sensor, after_s, level, level - snr, one.sensor_id in heard_by))
            shots += 1
    return found, shots


def sorted_out(
    name: str, sensors: Sequence[str], sensors_m: Floats, pulses: Sequence[Pulse], shots_count: int, speed_m_s: float
) -> Heard:
    """Tell direct arrivals and their echoes.

    Direct is what comes first near the time that still air and the place predict which fits best: the survey of a
    firing position is off by 2-6 m.

    Parameters
    ----------
    name : str
        Of the place.
    sensors : sequence of str
        Who listened.
    sensors_m : numpy.ndarray, shape (m, 3)
        Where they stand, seen from where the shooter is said to be [m].
    pulses : sequence of Pulse
        What they reported.
    shots_count : int
        How many shots there were.
    speed_m_s : float
        Of sound, as far as is known.

    Returns
    -------
    Heard
        What was heard.
    """
    by_pair: defaultdict[tuple[int, int], list[Pulse]] = defaultdict(list)
    for one in pulses:
        by_pair[one.shot, one.sensor].append(one)
    shape = (shots_count, len(sensors_m))
    away_s = np.linalg.norm(sensors_m, axis=1) / speed_m_s
    chosen = _direct(by_pair, np.broadcast_to(away_s, shape), only_chosen=True)
    place, origins_s = fitted(sensors_m, _table(chosen, shape, "after_s") - away_s, speed_m_s)
    due_s = origins_s[:, None] + np.linalg.norm(sensors_m - [*place, 0.0], axis=1) / speed_m_s
    direct = _direct(by_pair, due_s, only_chosen=False)
    floor_db = _table(direct, shape, "floor_db")
    quiet_db = middles(floor_db)
    quiet_db = np.where(np.isfinite(quiet_db), quiet_db, np.nanmedian(quiet_db))
    return Heard(
        name=name,
        sensors=tuple(sensors),
        sensors_m=sensors_m,
        late_s=_table(direct, shape, "after_s") - due_s,
        level_db=_table(direct, shape, "level_db"),
        floor_db=floor_db,
        echoes=_echoes(by_pair, direct),
        threshold_db=np.maximum(LEAST_DB, quiet_db + LEAST_SNR_DB),
    )


def _direct(
    by_pair: dict[tuple[int, int], list[Pulse]], due_s: Floats, only_chosen: bool
) -> dict[tuple[int, int], Pulse]:
    """Take what comes first near its time."""
    found = {}
    for pair, own in by_pair.items():
        near = [one for one in own if abs(one.after_s - due_s[pair]) < NEAR_S and (one.chosen or not only_chosen)]
        if near:
            found[pair] = min(near, key=lambda one: one.after_s)
    return found


def _table(direct: dict[tuple[int, int], Pulse], shape: tuple[int, int], name: str) -> Floats:
    table = np.full(shape, np.nan)
    for pair, one in direct.items():
        table[pair] = getattr(one, name)
    return table


def _echoes(by_pair: dict[tuple[int, int], list[Pulse]], direct: dict[tuple[int, int], Pulse]) -> Floats:
    found = []
    for pair, first in direct.items():
        lags = [(one.after_s - first.after_s, one.level_db - first.level_db) for one in by_pair[pair]]
        found += [(float(pair[1]), lag_s, louder) for lag_s, louder in lags if NEW_S < lag_s < ECHOES_UNTIL_S]
    return np.array(found).reshape(-1, 3)


def middles(values: Floats) -> Floats:
    """Take the median of each column.

    Parameters
    ----------
    values : numpy.ndarray, shape (rows, columns)
        With gaps that are not numbers.

    Returns
    -------
    numpy.ndarray, shape (columns,)
        Medians of what there is; nan where there is nothing.
    """
    ordered, count = np.sort(values, axis=0), np.isfinite(values).sum(axis=0)
    columns = np.arange(values.shape[1])
    low, high = ordered[np.maximum(count - 1, 0) // 2, columns], ordered[count // 2, columns]
    return np.where(count > 0, (low + high) / 2, np.nan)


def fitted(sensors_m: Floats, late_s: Floats, speed_m_s: float) -> tuple[Floats, Floats]:
    """Fit one place and the origin time of each shot to the times at which they were heard.

    Parameters
    ----------
    sensors_m : numpy.ndarray, shape (m, 3)
        Sensors, seen from where the shooter is said to be [m].
    late_s : numpy.ndarray, shape (k, m)
        Arrivals less what still air predicts from there; nan where there is none [s].
    speed_m_s : float
        Of sound.

    Returns
    -------
    numpy.ndarray, shape (2,)
        Where the shooter rather is [m].
    numpy.ndarray, shape (k,)
        By how much each shot was later than said [s].
    """
    shot, sensor = np.nonzero(np.isfinite(late_s))
    said_s = late_s[shot, sensor] + np.linalg.norm(sensors_m, axis=1)[sensor] / speed_m_s

    def _left(theta: Floats) -> Floats:
        away_m = np.linalg.norm(sensors_m[sensor] - [*theta[:2], 0.0], axis=1)
        return np.asarray((said_s - theta[2:][shot] / 1e3 - away_m / speed_m_s) * 1e3)

    start = np.concatenate([np.zeros(2), 1e3 * np.nan_to_num(middles(late_s.T))])
    best = least_squares(_left, start, loss="soft_l1", f_scale=1e3 * FIT_SCALE_S).x
    return best[:2], best[2:] / 1e3


# ---------------------------------------------------------------------------------------------------------- levels


@dataclass(frozen=True)
class Levels:
    """How loud shots arrive.

    Attributes
    ----------
    at_300_db : float
        Mean peak level at 300 m.
    decade_db : float
        By how much it is less for each tenfold distance.
    path_db : float
        Scatter from sensor to sensor at one distance, one sigma.
    shot_db : float
        Scatter from shot to shot at one sensor, one sigma.
    """

    at_300_db: float
    decade_db: float
    path_db: float
    shot_db: float


def fit_levels(all_heard: Sequence[Heard]) -> Levels:
    """Fit levels by a likelihood that minds what is saturated and what is missed.

    A shot's level at a sensor is a line over the logarithm of distance, plus what the path takes (one draw for each
    place and sensor, integrated over), plus what scatters from shot to shot. A peak is known between the threshold
    and 93 dB; else it is known to be above or below.

    Parameters
    ----------
    all_heard : sequence of Heard
        From one place or more.

    Returns
    -------
    Levels
        Most likely ones.
    """
    known = [_known(heard, k) for heard in all_heard for k in range(len(heard.range_m))]
    decades, mean_db, squares, count, above, below, threshold_db = (
        np.array(x)[:, None] for x in zip(*known, strict=True)
    )
    # Shots of one sensor pin its own level to a tenth of a decibel: the steps must be as fine as that.
    nodes = np.linspace(-4.0, 4.0, NODES_COUNT)
    log_weights = norm.logpdf(nodes) + np.log(nodes[1] - nodes[0])

    def _misfit(theta: Floats) -> float:
        at_300, decade, path, shot = theta[0], theta[1], np.exp(theta[2]), np.exp(theta[3])
        middle = at_300 - decade * decades + path * nodes
        likely = log_weights - count * np.log(shot) - 0.5 * (count * (mean_db - middle) ** 2 + squares) / shot**2
        likely += above * norm.logsf((SATURATED_DB - middle) / shot)
        likely += below * norm.logcdf((threshold_db - middle) / shot)
        return -float(logsumexp(likely, axis=1).sum())

    start = np.array([82.0, 28.0, np.log(9.0), np.log(3.0)])
    best = minimize(_misfit, start, method="Nelder-Mead", options={"maxiter": 1000, "xatol": 1e-3, "fatol": 1e-3}).x
    return Levels(float(best[0]), float(best[1]), float(np.exp(best[2])), float(np.exp(best[3])))


def _known(heard: Heard, sensor: int) -> tuple[float, ...]:
    """Sum up what is known of the levels at one sensor."""
    level, threshold = heard.level_db[:, sensor], float(heard.threshold_db[sensor])
    there = level[np.isfinite(level)]
    between = np.maximum(there[there < SATURATED_DB], threshold)
    mean = float(between.mean()) if len(between) else 0.0
    squares = float(((between - mean) ** 2).sum())
    above, below = int((there >= SATURATED_DB).sum()), len(level) - len(there)
    return float(np.log10(heard.range_m[sensor] / AT_M)), mean, squares, len(between), above, below, threshold


# --------------------------------------------------------------------------------------------------------- figures


def path_late_s(heard: Heard) -> Floats:
    """Take the lateness that all shots of the place have in common at each sensor that heard enough of them.

    Parameters
    ----------
    heard : Heard
        What was heard.

    Returns
    -------
    numpy.ndarray, shape (sensors,)
        Medians over shots, about their own median [s].
    """
    often = heard.found.sum(axis=0) >= FEWEST
    middle = middles(heard.late_s[:, often])
    return np.asarray(middle - np.median(middle))


def shot_late_s(heard: Heard) -> Floats:
    """Take what each shot differs by from that.

    Parameters
    ----------
    heard : Heard
        What was heard.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Of all arrivals at those sensors [s].
    """
    often = heard.found.sum(axis=0) >= FEWEST
    apart = heard.late_s[:, often] - middles(heard.late_s[:, often])
    return np.asarray(apart[np.isfinite(apart)])


def echoes_per_arrival(heard: Heard) -> Floats:
    """Count the echoes that each sensor reported, for each direct arrival.

    Parameters
    ----------
    heard : Heard
        What was heard.

    Returns
    -------
    numpy.ndarray, shape (sensors,)
        Of the sensors that heard enough shots.
    """
    arrivals = heard.found.sum(axis=0)
    counts = np.bincount(heard.echoes[:, 0].astype(int), minlength=len(arrivals))
    return np.asarray(counts[arrivals >= FEWEST] / arrivals[arrivals >= FEWEST])


def by_range(all_heard: Sequence[Heard], saturated: bool = False) -> Floats:
    """Tell the share of shots that sensors reported, or the share of these that were saturated, by distance.

    Parameters
    ----------
    all_heard : sequence of Heard
        From one place or more.
    saturated : bool, optional
        Which of the two.

    Returns
    -------
    numpy.ndarray, shape (len(RANGES_M) - 1,)
        Shares; nan where there is nothing to take one of.
    """
    shares = []
    for low, high in pairwise(RANGES_M):
        levels = [one.level_db[:, (one.range_m >= low) & (one.range_m < high)].ravel() for one in all_heard]
        level_db = np.concatenate(levels)
        there = level_db[np.isfinite(level_db)]
        one = (there >= SATURATED_DB).mean() if saturated and len(there) else len(there) / max(len(level_db), 1)
        shares.append(float(one) if len(level_db) else np.nan)
    return np.array(shares)


def figures(all_heard: Sequence[Heard]) -> dict[str, float]:
    """Sum up what was heard in figures.

    Parameters
    ----------
    all_heard : sequence of Heard
        From one place or more.

    Returns
    -------
    dict of str to float
        By name, with units.
    """
    levels = fit_levels(all_heard)
    late_ms = [1e3 * path_late_s(one) for one in all_heard]
    echoes = np.concatenate([one.echoes for one in all_heard])
    arrivals = sum(int(one.found.sum()) for one in all_heard)
    found = {"level at 300 m [dB]": levels.at_300_db, "decline [dB a decade]": levels.decade_db}
    found |= {"level, sensor to sensor, sd [dB]": levels.path_db, "level, shot to shot, sd [dB]": levels.shot_db}
    for (low, high), share in zip(pairwise(RANGES_M), by_range(all_heard), strict=True):
        found[f"detected at {low:g}-{high:g} m [share]"] = float(share)
    saturated = sum(int((one.level_db >= SATURATED_DB).sum()) for one in all_heard)
    found["saturated of the detected [share]"] = saturated / max(arrivals, 1)
    found["lateness, sensor to sensor, rms [ms]"] = float(np.sqrt(np.mean([np.mean(one**2) for one in late_ms])))
    shot_ms = 1e3 * np.concatenate([shot_late_s(one) for one in all_heard])
    found["lateness, shot to shot, 1.48 MAD [ms]"] = 1.4826 * float(np.median(np.abs(shot_ms)))
    found["echoes per arrival"] = len(echoes) / max(arrivals, 1)
    if len(echoes):
        found["echo's lag, median [ms]"] = 1e3 * float(np.median(echoes[:, 1]))
        found["echo's level against the arrival, median [dB]"] = float(np.median(echoes[:, 2]))
        found["echo's level against the arrival, 95 % [dB]"] = float(np.quantile(echoes[:, 2], 0.95))
    return found
