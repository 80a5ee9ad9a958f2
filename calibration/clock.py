"""Find how late a device stamps what it hears: from a pulse per second on an audio channel, or from known pulses.

    agls calibrate clock --node NODE.toml --pps recording.wav=2026-11-20T16:00:00Z --out NEW.toml
    agls calibrate clock --node NODE.toml --detections detections.csv --reference bench-01 --out NEW.toml
    agls calibrate clock --node NODE.toml --detections detections.csv --times pulses.csv --out NEW.toml

`--pps` takes a recording with the pulse on one channel and when the device says its first sample was taken; give
several, each of another start, for the latency of many devices changes from start to start. `--detections` takes a CSV
with ``sensor_id,toa_utc``, in which the node heard the same pulses as a reference beside it, or pulses whose times
(``time_utc``) are known, such as a loop-back's. The new node file has the latency and how sure it is.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from agls.config import NodeConfig, load_node
from agls.errors import InputError
from agls.messages import NS_PER_S
from agls.replay.csv_rows import moment_ns, read_rows
from calibration.arrivals import LATEST_NS
from calibration.fixes import correlation_time_s
from calibration.tables import ALL, write_table

Floats = NDArray[np.float64]

FEWEST = 10  # pulses of a run
MOST_S = 900.0  # so much of a recording is read
ABOVE_NOISE = 8.0  # a pulse stands so many times above the noise
IRREGULAR_S = 5e-4  # pulses differ no more from one second: no crystal is off by 500 ppm
AROUND = 8  # samples on each side of an edge that its moment is interpolated from
FINER = 64
MATCH_S = 0.25  # stamps of one pulse differ by no more
OUTLIER = 5.0  # robust standard deviations
LEAST_SIGMA_S = 1e-6
SPEED_M_S = 340.0


@dataclass(frozen=True)
class Run:
    """Pulses of one start of a device.

    Attributes
    ----------
    name : str
        What it is.
    stamped_s, late_s : numpy.ndarray, shape (n,)
        When the device says each pulse came, rising, and how much later that is than it truly came [s].
    at_s : float
        The moment at which the latency is wanted, on the scale of `stamped_s` [s].
    """

    name: str
    stamped_s: Floats
    late_s: Floats
    at_s: float


@dataclass(frozen=True)
class Lateness:
    """How late a run is.

    Attributes
    ----------
    name : str
        What was measured.
    latency_s, sigma_s : float
        How late stamps are, and one standard deviation of that [s].
    drift_ppm, drift_sigma_ppm : float
        How fast that grows [parts in a million].
    residuals_s : numpy.ndarray, shape (n,)
        What is left of each pulse used [s].
    refused_count : int
        Pulses refused as far off.
    """

    name: str
    latency_s: float
    sigma_s: float
    drift_ppm: float
    drift_sigma_ppm: float
    residuals_s: Floats
    refused_count: int

    def __str__(self) -> str:
        """Tell it in a line."""
        rms_us = 1e6 * float(np.sqrt(np.mean(self.residuals_s**2)))
        return (
            f"{self.name}: late by {1e3 * self.latency_s:.4f} +-{1e3 * self.sigma_s:.4f} ms, growing by"
            f" {self.drift_ppm:+.3f} +-{self.drift_sigma_ppm:.3f} ppm; {len(self.residuals_s)} pulses,"
            f" residuals {rms_us:.2f} us rms, {self.refused_count} refused"
        )


@dataclass(frozen=True)
class Latency:
    """The latency of a device over its runs.

    Attributes
    ----------
    latency_s : float
        The mean [s].
    sigma_s : float
        How far the latency of the next start may be from it, one standard deviation [s].
    runs : tuple of Lateness
        What each start said.
    """

    latency_s: float
    sigma_s: float
    runs: tuple[Lateness, ...]

    def lines(self) -> list[str]:
        """Tell it, for a person.

        Returns
        -------
        list of str
            A line for each run, then what follows.
        """
        told = f"latency {1e3 * self.latency_s:.4f} ms, the next start's within {1e3 * self.sigma_s:.4f} ms (one sigma)"
        if len(self.runs) == 1:
            told += "; one start does not tell how much starts differ, so give several"
        return [*map(str, self.runs), told]


def find_latency(runs: Sequence[Run]) -> Latency:
    """Find the latency of a device.

    Parameters
    ----------
    runs : sequence of Run
        Pulses of one or more starts.

    Returns
    -------
    Latency
        How late it stamps, and how sure that is for the next start.

    Raises
    ------
    InputError
        If a run has too few pulses.
    """
    found = tuple(lateness(run) for run in runs)
    values = np.array([one.latency_s for one in found])
    within_s = float(np.sqrt(np.mean([one.sigma_s**2 for one in found])))
    count = len(found)
    between_s = float(values.std(ddof=1)) * math.sqrt(1 + 1 / count) if count > 1 else 0.0
    return Latency(float(values.mean()), max(math.hypot(within_s, between_s), LEAST_SIGMA_S), found)


def lateness(run: Run) -> Lateness:
    """Fit a line through how late the pulses of a run are stamped.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    Lateness
        Latency and drift; sigmas allow for errors that wander.

    Raises
    ------
    InputError
        If it has too few pulses.
    """
    if len(run.stamped_s) < FEWEST:
        raise InputError(f"{run.name}: {len(run.stamped_s)} pulses; at least {FEWEST} are needed")
    since = run.stamped_s - run.at_s
    good = np.ones(len(since), dtype=bool)
    for _ in range(10):
        slope, level = np.polyfit(since[good], run.late_s[good], 1)
        left = run.late_s - level - slope * since
        middle = np.median(left[good])
        scatter = max(1.4826 * float(np.median(np.abs(left[good] - middle))), 1e-8)
        again = np.abs(left - middle) <= OUTLIER * scatter
        if (again == good).all() or again.sum() < FEWEST:
            break
        good = again
    inputs = np.column_stack([np.ones(int(good.sum())), since[good]])
    spread = np.linalg.inv(inputs.T @ inputs) * float((left[good] ** 2).sum() / (good.sum() - 2))
    # Neighbours that err alike say less: one of them for each time in which the error is forgotten.
    alike = max(1.0, 2 * correlation_time_s(left[good], since[good]) / float(np.median(np.diff(since[good]))))
    sigma_s, drift_sigma = np.sqrt(np.diag(spread) * alike).tolist()
    return Lateness(
        run.name, float(level), sigma_s, 1e6 * float(slope), 1e6 * drift_sigma, left[good], int((~good).sum())
    )


# ------------------------------------------------------------------------------------------------ a pulse per second


def pps_run(samples: Floats, rate_hz: float, start_ns: int, name: str) -> Run:
    """Measure a recorded pulse per second, whose leading edge rises on each whole second of UTC.

    Parameters
    ----------
    samples : numpy.ndarray, shape (n,)
        The channel with the pulse.
    rate_hz : float
        Nominal sampling rate.
    start_ns : int
        When the device says the first sample was taken, UTC [ns].
    name : str
        What it is, for a sentence.

    Returns
    -------
    Run
        Its pulses; the latency is wanted where the device stamped, at the first sample.

    Raises
    ------
    InputError
        If there are no pulses, or they are missing or irregular.
    """
    seconds = edges(samples, rate_hz, name) / rate_hz
    gaps = np.diff(seconds)
    wrong = np.flatnonzero(np.abs(gaps - 1.0) > IRREGULAR_S)
    if wrong.size:
        here, gap = seconds[wrong[0]], gaps[wrong[0]]
        kind = "a pulse is missing" if abs(gap - round(gap)) < IRREGULAR_S * round(gap) else "pulses are irregular"
        raise InputError(
            f"{name}: {kind}: after the one at {here:.4f} s the next comes {gap:.4f} s later; one each second is"
            " needed, so look at the cable and the receiver's fix"
        )
    part_s = (start_ns % NS_PER_S) / NS_PER_S
    stamped = part_s + seconds
    return Run(name, stamped, stamped - np.round(stamped), part_s)


def edges(samples: Floats, rate_hz: float, name: str = "the recording") -> Floats:
    """Find the rising edges of pulses.

    Parameters
    ----------
    samples : numpy.ndarray, shape (n,)
        The channel.
    rate_hz : float
        Sampling rate.
    name : str, optional
        What it is, for a sentence.

    Returns
    -------
    numpy.ndarray, shape (m,)
        Where each crosses half the height, in samples with their fraction.

    Raises
    ------
    InputError
        If nothing stands out of the noise.
    """
    level = samples - (np.median(samples) if samples.size else 0.0)
    second = round(rate_hz)
    whole = level[: len(level) // second * second].reshape(-1, second)
    height = float(np.median(whole.max(axis=1))) if len(whole) else 0.0
    noise = 1.4826 * float(np.median(np.abs(level))) if level.size else 0.0
    if height <= max(ABOVE_NOISE * noise, 1e-4):
        raise InputError(
            f"{name}: no pulses: each second's highest sample is {height:.2g} over a noise of {noise:.2g}; pulses"
            f" {ABOVE_NOISE:g} times the noise are needed, so look at the channel and its gain"
        )
    above = level >= height / 2
    rising = np.flatnonzero(above[1:] & ~above[:-1]) + 1
    rising = rising[(rising >= AROUND) & (rising < len(level) - AROUND)]
    firsts: list[int] = []
    for where in rising.tolist():
        if not firsts or where - firsts[-1] > 0.2 * rate_hz:
            firsts.append(where)
    return np.array([_crossing(level, where, height / 2) for where in firsts])


def _crossing(level: Floats, where: int, half: float) -> float:
    """Interpolate the moment at which an edge crosses half the height, between the sample before and this."""
    own = np.arange(where - AROUND, where + AROUND)
    fine = np.linspace(where - 1, where, FINER + 1)
    values = CubicSpline(own, level[own])(fine)
    k = int(np.argmax(values >= half))
    if k == 0:
        return float(fine[0])
    return float(fine[k - 1] + (half - values[k - 1]) / (values[k] - values[k - 1]) / FINER)


def read_channel(path: Path, channel: int) -> tuple[Floats, float]:
    """Read one channel of a recording, its first quarter of an hour at most.

    Parameters
    ----------
    path : pathlib.Path
        WAV, FLAC or OGG.
    channel : int
        Which, from 1.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Samples; full scale is 1.
    float
        Sampling rate [Hz].

    Raises
    ------
    InputError
        If it cannot be read or has no such channel.
    """
    if not path.is_file():
        raise InputError(f"{path}: is not there; a WAV, FLAC or OGG file is needed")
    try:
        with soundfile.SoundFile(path) as file:
            if not 1 <= channel <= file.channels:
                raise InputError(f"{path}: --channel is {channel}; the file has channels 1 to {file.channels}")
            rate_hz = float(file.samplerate)
            frames = file.read(round(MOST_S * rate_hz), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise InputError(f"{path}: is not a readable WAV, FLAC or OGG file ({error})") from None
    samples = frames[:, channel - 1].astype(np.float64)
    if not np.isfinite(samples).all():
        raise InputError(f"{path}: holds a sample that is not a finite number; samples from -1 to 1 are accepted")
    return samples, rate_hz


# ------------------------------------------------------------------------------------------------------ known pulses


def paired_run(stamps_ns: Sequence[int], true_ns: Sequence[int], name: str, delay_s: float = 0.0) -> Run:
    """Pair what a node stamped with when the pulses truly were.

    Parameters
    ----------
    stamps_ns : sequence of int
        The node's stamps, UTC [ns].
    true_ns : sequence of int
        True times, or a reference's stamps, UTC [ns].
    name : str
        What it is, for a sentence.
    delay_s : float, optional
        How much later the sound reaches the node [s].

    Returns
    -------
    Run
        Pulses that have exactly one partner; the latency is wanted in the middle of them.

    Raises
    ------
    InputError
        If too few pair up.
    """
    late = []
    for stamp in sorted(stamps_ns):
        partners = [moment for moment in true_ns if abs(stamp - moment) < MATCH_S * NS_PER_S]
        if len(partners) == 1 and sum(abs(other - partners[0]) < MATCH_S * NS_PER_S for other in stamps_ns) == 1:
            late.append((stamp, (stamp - partners[0]) / NS_PER_S - delay_s))
    if len(late) < FEWEST:
        raise InputError(
            f"{name}: {len(late)} pulses pair up of {len(stamps_ns)} stamped and {len(true_ns)} known; at least"
            f" {FEWEST}, with nothing else within {MATCH_S} s of them, are needed"
        )
    stamped = np.array([(stamp - late[0][0]) / NS_PER_S for stamp, _ in late])
    return Run(name, stamped, np.array([own for _, own in late]), float(stamped.mean()))


# ------------------------------------------------------------------------------------------------------- the command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``agls calibrate clock``.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where they go.
    """
    parser.add_argument("--node", type=Path, metavar="NODE.toml", required=True, help="the node's file as it is")
    parser.add_argument("--out", type=Path, metavar="NEW.toml", required=True, help="the node file to write")
    parser.add_argument(
        "--pps",
        action="append",
        default=[],
        metavar="WAV=UTC",
        help="a recording with a pulse per second, and when the device says it began; once for each start",
    )
    parser.add_argument("--channel", type=int, default=2, help="the channel with the pulse, from 1 (default: 2)")
    parser.add_argument(
        "--detections", type=Path, metavar="CSV", help="sensor_id,toa_utc of the node (and a reference)"
    )
    parser.add_argument("--reference", metavar="SENSOR", help="the sensor beside it whose stamps are right")
    parser.add_argument("--times", type=Path, metavar="CSV", help="time_utc of each pulse, instead of a reference")
    parser.add_argument(
        "--farther", type=float, default=0.0, metavar="M", help="by how much the node is farther from the pulses [m]"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run ``agls calibrate clock``.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` defines them.

    Returns
    -------
    int
        Exit code 0.

    Raises
    ------
    InputError
        If anything given cannot be used.
    """
    node = load_node(arguments.node)
    if bool(arguments.pps) == bool(arguments.detections):
        raise InputError("either --pps or --detections is needed, and not both")
    if arguments.pps:
        found, before_s = find_latency([_pps(text, arguments.channel) for text in arguments.pps]), 0.0
    else:
        # What a node sends has its stated latency taken off already.
        found, before_s = find_latency([_paired(node, arguments)]), node.microphone.latency_s
    new = _calibrated(node, found, before_s)
    lines = found.lines()
    remarks = {ALL: ["Made by `agls calibrate clock`."], ("microphone",): lines}
    write_table(arguments.out, new, remarks, source=arguments.node)
    print("\n".join(lines))
    return 0


def _calibrated(node: NodeConfig, found: Latency, before_s: float) -> NodeConfig:
    latency_s = before_s + found.latency_s
    if abs(latency_s) > 1:
        raise InputError(f"the latency comes to {latency_s:.3f} s; at most 1 s is accepted, so set the clock first")
    microphone = msgspec.structs.replace(
        node.microphone, latency_s=round(latency_s, 7), latency_sigma_s=round(min(found.sigma_s, 1.0), 7)
    )
    return msgspec.structs.replace(node, microphone=microphone)


def _pps(text: str, channel: int) -> Run:
    file, _, start = text.rpartition("=")
    if not file:
        raise InputError(f"--pps {text!r}: a recording and its start are accepted, as in a.wav=2026-11-20T16:00:00Z")
    samples, rate_hz = read_channel(Path(file), channel)
    return pps_run(samples, rate_hz, moment_ns(start, f"--pps {file}", LATEST_NS), file)


def _paired(node: NodeConfig, arguments: argparse.Namespace) -> Run:
    if bool(arguments.reference) == bool(arguments.times):
        raise InputError("--detections needs either --reference or --times, and not both")
    heard: dict[str, list[int]] = {}
    for row in read_rows(arguments.detections, ("sensor_id", "toa_utc")):
        heard.setdefault(row.identifier("sensor_id"), []).append(row.moment("toa_utc", LATEST_NS))
    for sensor_id in filter(None, (node.sensor_id, arguments.reference)):
        if sensor_id not in heard:
            told = ", ".join(sorted(heard)) or "nobody"
            raise InputError(f"{arguments.detections}: {sensor_id} heard nothing there; it tells of {told}")
    true_ns = heard.get(arguments.reference, [])
    if arguments.times:
        true_ns = [row.moment("time_utc", LATEST_NS) for row in read_rows(arguments.times, ("time_utc",))]
    if not -1_000 <= arguments.farther <= 1_000:
        raise InputError(f"--farther is {arguments.farther}; -1000 to 1000 m is accepted")
    return paired_run(heard[node.sensor_id], true_ns, str(arguments.detections), arguments.farther / SPEED_M_S)
