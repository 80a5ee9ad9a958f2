"""Picks: how far off an onset is, whether its sigma is true, which rounds are hidden, how it is taken, what it costs.

Simulated pulses are blasts of `firmware_sim` at 80 to 500 m, dulled by its air, with the bounce off the ground 0.15 to
3 ms later, three to eleven echoes, and noise shaped like a street's. Their strength is told as the picker tells it: the
band-passed peak of the first 5 ms over the noise's root mean square. A pick that is more than 0.5 ms from the median of
all is gross, and left out of the standard deviation; nothing is left out of whether sigma is true.

Live fire is the Pittsburgh release, whose tuples are read here to score, and by nothing else. Shooters stand still
within a test, so what differs from shot to shot is the pick, gusts and the shooter's hand: for each pair of sensors,
1.4826 times the median absolute deviation of what the difference of arrival times changes by between one shot and the
next, over the root of two. The vendor's stamps are whole milliseconds; the same is computed of them.
"""

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from agls.config import OnsetDetection
from agls.messages import Block, Onset
from agls.sensor.listen import onsets_of
from agls.sensor.onset import OnsetDetector
from bench.onsets import MATCH_S, Arrival, arrivals
from bench.pittsburgh import ABSENT, find_release
from bench.rows import Ask, Plan, Row, bootstrap, share_detail, share_row, spread
from firmware_sim.acoustics import Air, Complex, Spectrum, absorption_db_m
from firmware_sim.sounds import friedlander, n_wave

Floats = NDArray[np.float64]

RATES_HZ = (48_000, 12_000)
BLOCK_FRAMES = 1_001
AIR = Air(temperature_c=12.0, humidity_percent=60.0, wind_m_s=(0.0, 0.0, 0.0))
BAND_HZ = (300.0, 5_000.0)
GROSS_S = 5e-4
CONFIDENT_S = 1e-4  # a time with a smaller sigma is taken at its word: 3.4 cm
PULSE_S, AT_S = 0.9, 0.35
PEAK_S = 5e-3
ROUND_S = 5e-3
LOWEST_DB, HIGHEST_DB = 6.0, 40.0
HONEST = Ask(0.90, 0.97)


@dataclass(frozen=True)
class Told:
    """One simulated pulse as it was picked.

    Attributes
    ----------
    snr_db : float
        How strong it was made.
    error_s : float
        How late it was picked; not a number where it was not reported.
    sigma_s : float
        What was said of that.
    wave : str
        What it was taken for.
    """

    snr_db: float
    error_s: float = math.nan
    sigma_s: float = math.nan
    wave: str = ""

    @property
    def heard(self) -> bool:
        """Whether it was reported.

        Returns
        -------
        bool
            Whether it was.
        """
        return not math.isnan(self.error_s)


# ----------------------------------------------------------------------------------------------------- simulated sound


def blast(random: np.random.Generator) -> tuple[Spectrum, float]:
    """Draw a muzzle blast and how far it came.

    Parameters
    ----------
    random : numpy.random.Generator
        Lot.

    Returns
    -------
    Spectrum
        As it left.
    float
        Its way [m].
    """
    return friedlander(1.0, random.uniform(3e-4, 1e-3)), random.uniform(80, 500)


def crack(random: np.random.Generator) -> tuple[Spectrum, float]:
    """Draw an N-wave of a rifle's bullet and how far it came from its flight.

    Parameters
    ----------
    random : numpy.random.Generator
        Lot.

    Returns
    -------
    Spectrum
        As it left.
    float
        Its way [m].
    """
    return n_wave(1.0, random.uniform(1.8e-4, 4.5e-4)), random.uniform(5, 150)


def sounding(
    drawn: tuple[Spectrum, float], arrivals_s: Iterable[tuple[float, float]], seconds: float, rate_hz: int
) -> Floats:
    """Lay a sound out in time as it arrives over several paths.

    Parameters
    ----------
    drawn : tuple
        Its spectrum and the way it came [m].
    arrivals_s : iterable of tuple of float
        When it arrives [s], and how strong.
    seconds : float
        How long to listen [s].
    rate_hz : int
        Sampling rate.

    Returns
    -------
    numpy.ndarray, shape (frames,), float64
        Sound pressure, of any scale.
    """
    frames = round(seconds * rate_hz)
    frequency_hz: Floats = np.fft.rfftfreq(frames, 1 / rate_hz).astype(np.float64)
    source, way_m = drawn
    heard: Complex = source(frequency_hz) * 10 ** (-absorption_db_m(frequency_hz, AIR) * way_m / 20)
    heard = heard / (1 + (frequency_hz / (0.46 * rate_hz)) ** 16)  # the converter's own limit
    paths = sum(strength * np.exp(-2j * np.pi * frequency_hz * late_s) for late_s, strength in arrivals_s)
    return np.fft.irfft(heard * paths, frames) * rate_hz


def street(frames: int, rate_hz: int, random: np.random.Generator) -> Floats:
    """Make noise that falls 6 dB an octave from 125 Hz on, as that of the release does.

    Parameters
    ----------
    frames : int
        How many.
    rate_hz : int
        Sampling rate.
    random : numpy.random.Generator
        Lot.

    Returns
    -------
    numpy.ndarray, shape (frames,), float64
        Of root mean square 1 in the band.
    """
    shape = 1 / np.clip(np.fft.rfftfreq(frames, 1 / rate_hz), 125.0, 10_000.0)
    noise = np.fft.irfft(np.fft.rfft(random.normal(size=frames)) * shape, frames)
    return np.asarray(noise / banded(noise, rate_hz)[rate_hz // 20 :].std())


def banded(wave: Floats, rate_hz: int) -> Floats:
    """Pass the band in which a strength is told.

    Parameters
    ----------
    wave : numpy.ndarray, shape (frames,)
        The sound.
    rate_hz : int
        Sampling rate.

    Returns
    -------
    numpy.ndarray, shape (frames,), float64
        What is left.
    """
    shape: Any = {"btype": "high"}
    corners: Any = BAND_HZ[0]
    if BAND_HZ[1] < 0.4 * rate_hz:
        shape, corners = {"btype": "band"}, BAND_HZ
    return np.asarray(sosfilt(butter(2, corners, fs=rate_hz, output="sos", **shape), wave))


def one_pulse(
    draw: Callable[[np.random.Generator], tuple[Spectrum, float]],
    snr_db: float,
    rate_hz: int,
    random: np.random.Generator,
) -> tuple[NDArray[np.float32], float]:
    """Make one pulse in a street.

    Parameters
    ----------
    draw : callable
        `blast` or `crack`.
    snr_db : float
        Band-passed peak over noise [dB].
    rate_hz : int
        Sampling rate.
    random : numpy.random.Generator
        Lot.

    Returns
    -------
    wave : numpy.ndarray, shape (frames,), float32
        Full scale is 1.0; the noise is -60 dB.
    arrival_s : float
        When it arrives [s].
    """
    at_s = AT_S + random.uniform(0, 1e-3)
    paths = [(at_s, 1.0), (at_s + random.uniform(0.15e-3, 3e-3), random.uniform(0.3, 0.9))]
    paths += [
        (at_s + random.uniform(6e-3, 0.3), random.choice([-1, 1]) * random.uniform(0.05, 0.6))
        for _ in range(random.integers(3, 12))
    ]
    wave = sounding(draw(random), paths, PULSE_S, rate_hz)
    begin = int(at_s * rate_hz)
    peak = np.abs(banded(wave, rate_hz)[begin : begin + round(PEAK_S * rate_hz)]).max()
    noise = street(wave.size, rate_hz, random)
    mixed = wave * (random.choice([-1, 1]) * 10 ** (snr_db / 20) / peak) + noise
    return np.asarray(1e-3 * mixed, np.float32), at_s


def heard(wave: NDArray[np.float32], rate_hz: int, **options: float) -> list[Onset]:
    """Listen to a sound as a node does.

    Parameters
    ----------
    wave : numpy.ndarray, shape (frames,), float32
        The sound.
    rate_hz : int
        Sampling rate.
    **options : float
        Of `OnsetDetection`.

    Returns
    -------
    list of Onset
        Its onsets.
    """
    detector = OnsetDetector(OnsetDetection(**options), 120.0)
    return detector.feed(Block(wave, 0, float(rate_hz))) + detector.finish()


@dataclass(frozen=True)
class Task:
    """What to simulate.

    Attributes
    ----------
    kind : str
        ``blast`` or ``crack``.
    rate_hz : int
        Sampling rate.
    low_db, high_db : float
        Between which its strength is drawn.
    options : tuple of tuple
        Of `OnsetDetection`.
    clip_db : float
        How far above full scale it is recorded; 0 for not at all.
    """

    kind: str
    rate_hz: int
    low_db: float
    high_db: float
    options: tuple[tuple[str, float], ...] = ()
    clip_db: float = 0.0


def told(task: Task, seed: int) -> Told:
    """Simulate one pulse and pick it.

    Parameters
    ----------
    task : Task
        What.
    seed : int
        Lot.

    Returns
    -------
    Told
        The onset nearest to the true one, if there is one within 15 ms.
    """
    random = np.random.default_rng([seed, task.rate_hz])
    snr_db = random.uniform(task.low_db, task.high_db)
    wave, at_s = one_pulse(blast if task.kind == "blast" else crack, snr_db, task.rate_hz, random)
    if task.clip_db:
        wave = np.clip(wave / np.abs(wave).max() * np.float32(10 ** (task.clip_db / 20)), -1, 1)
    found = heard(wave, task.rate_hz, **dict(task.options))
    found = [one for one in found if abs(one.index / task.rate_hz - at_s) <= MATCH_S]
    if not found:
        return Told(snr_db)
    onset = min(found, key=lambda one: abs(one.index / task.rate_hz - at_s))
    return Told(snr_db, onset.index / task.rate_hz - at_s, onset.sigma_s, onset.wave)


def scatter(some: list[Told]) -> tuple[float, float, float]:
    """Say how picks lie about the truth.

    Parameters
    ----------
    some : list of Told
        Those reported are counted.

    Returns
    -------
    std_s, gross_share, late_s : float
        Standard deviation of those not gross, share of gross ones, and median lateness.
    """
    error_s = np.array([one.error_s for one in some if one.heard])
    late_s = float(np.median(error_s))
    fine = np.abs(error_s - late_s) <= GROSS_S
    return float(error_s[fine].std()), float(1 - fine.mean()), late_s


def measure_simulated(plan: Plan) -> list[Row]:
    """Measure picks of simulated pulses.

    Parameters
    ----------
    plan : Plan
        How many.

    Returns
    -------
    list of Row
        Scatter at 20 dB; whether sigma is true; what is confidently wrong; clipped pulses.
    """
    seeds = plan.seeds(1_000, 200)
    rows: list[Row] = []
    for rate_hz in RATES_HZ:
        name = f"{rate_hz // 1000} kHz"
        rows += _rows_at_20_db(name, spread(partial(told, Task("blast", rate_hz, 20.0, 20.0)), seeds, plan))
        for threshold_db in (OnsetDetection().min_snr_db, LOWEST_DB):
            task = Task("blast", rate_hz, LOWEST_DB, HIGHEST_DB, (("min_snr_db", threshold_db),))
            rows += _honest_rows(f"{name}, threshold {threshold_db:g} dB", spread(partial(told, task), seeds, plan))
        for clip_db in (6.0, 12.0):
            task = Task("blast", rate_hz, 25.0, 45.0, (), clip_db)
            rows.append(
                _clipped_row(f"{name}, clipped by {clip_db:g} dB", spread(partial(told, task), seeds[::4], plan))
            )
    return rows


def _rows_at_20_db(name: str, some: list[Told]) -> list[Row]:
    error_s = np.array([one.error_s for one in some if one.heard])
    std_s, gross, late_s = scatter(some)

    def _std_us(draws: Floats) -> float:
        return 1e6 * float(draws[np.abs(draws - late_s) <= GROSS_S].std())

    detail = {"late_us": 1e6 * late_s, "reported": len(error_s) / len(some)}
    told_us = Row(f"{name}, 20 dB: pick, standard deviation [us]", 1e6 * std_s, Ask(high=15), len(error_s))
    return [
        replace(told_us, interval=bootstrap(error_s, _std_us), detail=detail),
        share_row(f"{name}, 20 dB: gross picks, > 0.5 ms", round(gross * len(error_s)), len(error_s), Ask(high=0.01)),
    ]


def _clipped_row(name: str, some: list[Told]) -> Row:
    """Tell of clipped pulses; how deep they are cut is not known to the picker, so sigma is wide for the least."""
    reported = [one for one in some if one.heard]
    std_s, gross, late_s = scatter(some)
    detail = {"std_us": 1e6 * std_s, "late_us": 1e6 * late_s, "gross": gross, "reported": len(reported) / len(some)}
    return share_row(f"{name}: errors within 2 sigma", sum(map(_true, reported)), len(reported), detail=detail)


def _true(one: Told) -> bool:
    return abs(one.error_s) <= 2 * one.sigma_s


def _honest_rows(name: str, some: list[Told]) -> list[Row]:
    reported = [one for one in some if one.heard]
    by_snr = {}
    for low_db in np.arange(LOWEST_DB, HIGHEST_DB, 2.0):
        own = [one for one in some if low_db <= one.snr_db < low_db + 2]
        by_snr[f"{low_db:g} dB"] = _at_snr(own) | {"reported": sum(one.heard for one in own) / max(len(own), 1)}
    sure = [one for one in reported if one.sigma_s < CONFIDENT_S]
    wrong = [one for one in sure if abs(one.error_s) > GROSS_S]
    return [
        share_row(
            f"{name}: errors within 2 sigma, {LOWEST_DB:g} to {HIGHEST_DB:g} dB",
            sum(map(_true, reported)),
            len(reported),
            HONEST,
            detail=by_snr,
        ),
        share_row(
            f"{name}: said to be within {1e6 * CONFIDENT_S:g} us, and off by > 0.5 ms",
            len(wrong),
            len(sure),
            Ask(high=0.01),
        ),
    ]


def _at_snr(some: list[Told]) -> dict[str, Any]:
    spoken = [one for one in some if one.heard]
    if not spoken:
        return {}
    std_s, gross, _ = scatter(spoken)
    sigma_us = 1e6 * float(np.median([one.sigma_s for one in spoken]))
    detail: dict[str, Any] = share_detail(sum(map(_true, spoken)), len(spoken))
    return detail | {"sigma_us": sigma_us, "std_us": 1e6 * std_s, "gross": gross}


# ---------------------------------------------------------------------------------------------------------- N-waves


def measure_waves(plan: Plan) -> list[Row]:
    """Measure how N-waves are told from blasts.

    Parameters
    ----------
    plan : Plan
        How many.

    Returns
    -------
    list of Row
        Each as it was taken; at 12 kHz nothing is told.
    """
    seeds = plan.seeds(500, 100)
    rows = []
    for kind, right, wrong in (("crack", "shock", "muzzle"), ("blast", "muzzle", "shock")):
        some = spread(partial(told, Task(kind, RATES_HZ[0], 16.0, HIGHEST_DB)), seeds, plan)
        waves = [one.wave for one in some if one.heard]
        name = {"crack": "N-waves", "blast": "blasts"}[kind]
        detail = {"taken for what they are": share_detail(waves.count(right), len(waves))}
        rows.append(
            share_row(
                f"48 kHz: {name} taken for the other", waves.count(wrong), len(waves), Ask(high=0.01), detail=detail
            )
        )
    return rows


# ---------------------------------------------------------------------------------------------------- automatic fire


def burst(rate_hz: int, seed: int) -> tuple[NDArray[np.float32], list[float]]:
    """Fire thirty rounds at 1,200 a minute, heard with echoes of a street; each by lot 1 dB louder or 0.5 ms later.

    Parameters
    ----------
    rate_hz : int
        Sampling rate.
    seed : int
        Lot.

    Returns
    -------
    wave : numpy.ndarray, shape (frames,), float32
        Full scale is 1.0.
    arrivals_s : list of float
        When rounds arrive [s].
    """
    random = np.random.default_rng([seed, 20, rate_hz])
    begin_s = 0.3 + random.uniform(0, 1e-3)
    times_s = [begin_s + 0.05 * number + random.normal(0, 5e-4) for number in range(30)]
    late_s = np.concatenate(([random.uniform(0.15e-3, 3e-3)], random.uniform(5e-3, 0.3, random.integers(3, 12))))
    echoes = np.concatenate(([random.uniform(0.3, 0.9)], random.uniform(0.05, 0.5, late_s.size - 1)))
    paths = []
    for time_s in times_s:
        loud = 10 ** (random.normal(0, 1) / 20)
        paths += [(time_s, loud)] + [
            (time_s + one_s, loud * strength) for one_s, strength in zip(late_s, echoes, strict=True)
        ]
    wave = sounding(blast(random), paths, times_s[-1] + 0.9, rate_hz)
    peak = np.abs(banded(wave, rate_hz)).max()
    noise = street(wave.size, rate_hz, random)
    return np.asarray(1e-3 * (wave * 10 ** (35 / 20) / peak + noise), np.float32), times_s


def rounds(rate_hz: int, seed: int) -> tuple[int, int, int]:
    """Count the rounds of a burst that are reported, all onsets, and rounds.

    An echo of an earlier round that comes less than 5 ms before a round is picked in its place; the round is counted.

    Parameters
    ----------
    rate_hz : int
        Sampling rate.
    seed : int
        Lot.

    Returns
    -------
    tuple of int
        The three counts.
    """
    wave, times_s = burst(rate_hz, seed)
    found_s = np.array([one.index / rate_hz for one in heard(wave, rate_hz)])
    near = [bool(np.any(np.abs(found_s - time_s) <= ROUND_S)) for time_s in times_s]
    return sum(near), len(found_s), len(times_s)


def measure_rounds(plan: Plan) -> list[Row]:
    """Measure how many rounds of automatic fire are reported.

    Parameters
    ----------
    plan : Plan
        How many bursts.

    Returns
    -------
    list of Row
        Share of rounds, at each rate.
    """
    rows = []
    for rate_hz in RATES_HZ:
        found = np.array(spread(partial(rounds, rate_hz), plan.seeds(60, 12), plan))
        whole = found.sum(axis=0)
        rows.append(
            share_row(
                f"{rate_hz // 1000} kHz: rounds of 1,200 a minute reported, among echoes",
                int(whole[0]),
                int(whole[2]),
                detail={"onsets_per_round": float(whole[1] / whole[2]), "worst_burst": int(found[:, 0].min())},
            )
        )
    return rows


# ------------------------------------------------------------------------------------------------------------- cost


def measure_cost(plan: Plan) -> list[Row]:
    """Measure what listening costs when a street is quiet, in blocks as a card hands them over.

    Parameters
    ----------
    plan : Plan
        How long.

    Returns
    -------
    list of Row
        Share of a core and multiples of real time, at 48 kHz.
    """
    rate_hz, seconds = RATES_HZ[0], plan.draws(60, 20)
    wave = np.asarray(1e-3 * street(seconds * rate_hz, rate_hz, np.random.default_rng(plan.first_seed)), np.float32)
    taken_s = []
    for _ in range(5):
        detector = OnsetDetector(OnsetDetection(), 120.0)
        began_s = time.process_time()
        for start in range(0, wave.size, BLOCK_FRAMES):
            detector.feed(Block(wave[start : start + BLOCK_FRAMES], start, float(rate_hz)))
        taken_s.append(time.process_time() - began_s)
    best_s = min(taken_s)
    detail = {"every_run_s": taken_s}
    note = f"processor time of the best of five runs; blocks of {BLOCK_FRAMES} frames"
    return [
        Row("quiet street at 48 kHz: times real time", seconds / best_s, Ask(low=500), seconds, None, detail, note),
        Row("quiet street at 48 kHz: share of a core", best_s / seconds, Ask(high=0.01), seconds),
    ]


# -------------------------------------------------------------------------------------------------------- live fire

Key = tuple[str, str, int, str]  # position, test, shot, sensor


def picked(item: tuple[OnsetDetection, Path, tuple[Arrival, ...]]) -> list[tuple[Key, float]]:
    """Pick the arrivals in one recording.

    Parameters
    ----------
    item : tuple
        Settings, recording, and what the vendor stamped in it.

    Returns
    -------
    list of tuple
        Name and time of each arrival with an onset within 15 ms, the nearest to the vendor's stamp.
    """
    settings, path, wanted = item
    found_s = np.array([one.index / one.sample_rate_hz for one in onsets_of(path, settings)])
    rows = []
    for one in wanted:
        near_s = found_s[np.abs(found_s - one.time_s) <= MATCH_S]
        if near_s.size:
            rows.append((key_of(one), float(near_s[np.argmin(np.abs(near_s - one.time_s))])))
    return rows


def key_of(arrival: Arrival) -> Key:
    """Name an arrival.

    Parameters
    ----------
    arrival : Arrival
        The arrival.

    Returns
    -------
    tuple
        Position, test, shot and sensor.
    """
    return arrival.position, arrival.test, arrival.shot, arrival.sensor


def changes_s(times_s: dict[Key, float]) -> dict[tuple[str, str, str], list[float]]:
    """Say by how much differences of arrival times change between a shot and the next.

    Parameters
    ----------
    times_s : dict
        Time of each arrival [s].

    Returns
    -------
    dict
        By position and pair of sensors [s].
    """
    heard_by: defaultdict[tuple[str, str, int], set[str]] = defaultdict(set)
    for position, test, shot, sensor in times_s:
        heard_by[position, test, shot].add(sensor)
    found: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    for (position, test, shot), sensors in heard_by.items():
        both = sensors & heard_by.get((position, test, shot + 1), set())
        for one, other in itertools.combinations(sorted(both), 2):
            now, later = (
                times_s[position, test, number, one] - times_s[position, test, number, other]
                for number in (shot, shot + 1)
            )
            found[position, one, other].append(later - now)
    return dict(found)


def shot_to_shot(times_s: dict[Key, float]) -> tuple[float, float, int, int]:
    """Measure the scatter of a pair's differences from shot to shot.

    Parameters
    ----------
    times_s : dict
        Time of each arrival [s].

    Returns
    -------
    median_s : float
        Median over pairs that have three changes or more.
    over_2_ms : float
        Share of all changes that are more than 2 ms.
    pairs_count, changes_count : int
        On what they rest.
    """
    changes = changes_s(times_s)
    pairs = [np.array(own) for own in changes.values() if len(own) >= 3]
    if not pairs:
        return math.nan, math.nan, 0, 0
    scatters = [1.4826 * np.median(np.abs(own - np.median(own))) / math.sqrt(2) for own in pairs]
    every = np.concatenate([np.array(own) for own in changes.values()])
    return float(np.median(scatters)), float(np.mean(np.abs(every) > 2e-3)), len(pairs), len(every)


def measure_recorded(plan: Plan) -> list[Row]:
    """Measure picks of live fire beside the vendor's stamps.

    Parameters
    ----------
    plan : Plan
        How many processes.

    Returns
    -------
    list of Row
        Share of arrivals picked and scatter from shot to shot, over the tests of three shots; by position in detail.
    """
    release = find_release()
    if release is None:
        return [Row("Pittsburgh: shot to shot [us]", math.nan, note=ABSENT)]
    by_path = arrivals(release)
    items = [(OnsetDetection(), path, wanted) for path, wanted in by_path.items()]
    shots: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    vendor: dict[Key, float] = {}
    for one in itertools.chain.from_iterable(by_path.values()):
        shots[one.position, one.test].add(one.shot)
        vendor[key_of(one)] = one.time_s
    ours = dict(itertools.chain.from_iterable(spread(picked, items, plan)))
    three = {name for name, own in shots.items() if len(own) == 3}
    wanted = {key: time_s for key, time_s in vendor.items() if key[:2] in three}
    found = {key: time_s for key, time_s in ours.items() if key[:2] in three}
    median_s, over, pairs, count = shot_to_shot(found)
    theirs = shot_to_shot(wanted)
    detail = {name: _position(name, found, wanted) for name in sorted({key[0] for key in wanted})}
    return [
        share_row(
            "Pittsburgh, 3-shot tests: arrivals picked",
            len(found),
            len(wanted),
            Ask(low=0.9),
            detail={"all tests": share_detail(len(ours), len(vendor))},
        ),
        Row(
            "Pittsburgh: shot to shot, median over pairs [us]",
            1e6 * median_s,
            Ask(high=130),
            pairs,
            detail=detail | {"all tests": _position("", ours, vendor)},
        ),
        Row("Pittsburgh: shot to shot, share over 2 ms", over, Ask(high=0.08), count),
        Row("Pittsburgh, the vendor's stamps: shot to shot, median [us]", 1e6 * theirs[0], count=theirs[2]),
        Row("Pittsburgh, the vendor's stamps: share over 2 ms", theirs[1], count=theirs[3]),
    ]


def _position(name: str, found: dict[Key, float], wanted: dict[Key, float]) -> dict[str, float]:
    own, all_of_it = (
        {key: time_s for key, time_s in some.items() if key[0].startswith(name)} for some in (found, wanted)
    )
    median_s, over, _, count = shot_to_shot(own)
    figures = {"median_us": 1e6 * median_s, "over_2_ms": over, "changes": count, "picked": len(own) / len(all_of_it)}
    theirs = shot_to_shot(all_of_it)
    return figures | {"vendor_median_us": 1e6 * theirs[0], "vendor_over_2_ms": theirs[1]}


def measure(plan: Plan) -> list[Row]:
    """Measure all of this.

    Parameters
    ----------
    plan : Plan
        How much.

    Returns
    -------
    list of Row
        Simulated pulses, N-waves, automatic fire, cost, live fire.
    """
    parts = (measure_simulated, measure_waves, measure_rounds, measure_cost, measure_recorded)
    return [row for part in parts for row in part(plan)]
