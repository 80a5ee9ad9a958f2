"""Measure what the threshold of onsets costs: false onsets in noise alone, against arrivals of gunfire picked.

    python -m bench.onsets

prints a table, a row for each threshold. Noise is made here; the quiet parts and the arrivals are those of the
Pittsburgh release, where it is at hand: all that comes more than 0.1 s before a recording's first arrival, and what the
vendor stamped as arrivals. The threshold of `agls.config.OnsetDetection` was chosen by this table.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agls.config import OnsetDetection
from agls.messages import Block
from agls.sensor.listen import onsets_of
from agls.sensor.onset import OnsetDetector
from bench.pittsburgh import find_release

THRESHOLDS_DB = (12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0)
NOISE_S, RATES_HZ = 60, (12_000, 48_000)
# Noise by how its amplitude falls with frequency: white not at all, pink by 3 dB an octave, a street's by 6.
SLOPES = {"white": 0.0, "pink": 0.5, "street": 1.0}
MATCH_S, BEFORE_S = 0.015, 0.1


def noise(slope: float, rate_hz: int) -> NDArray[np.float32]:
    """Make a minute of noise.

    Parameters
    ----------
    slope : float
        Its amplitude is frequency to minus this power, above 50 Hz.
    rate_hz : int
        Sampling rate.

    Returns
    -------
    numpy.ndarray, shape (frames,), float32
        Of root mean square 0.01.
    """
    frames = NOISE_S * rate_hz
    spectrum = np.fft.rfft(np.random.default_rng(1).normal(size=frames))
    spectrum *= np.maximum(np.fft.rfftfreq(frames, 1 / rate_hz), 50.0) ** -slope
    wave = np.fft.irfft(spectrum, frames)
    return np.asarray(0.01 * wave / wave.std(), np.float32)


def false_per_s(wave: NDArray[np.float32], rate_hz: int, threshold_db: float) -> float:
    """Count the onsets in what holds none.

    Parameters
    ----------
    wave : numpy.ndarray, shape (frames,), float32
        The sound.
    rate_hz : int
        Sampling rate.
    threshold_db : float
        Smallest peak over noise that counts.

    Returns
    -------
    float
        Onsets a second.
    """
    detector = OnsetDetector(OnsetDetection(min_snr_db=threshold_db), 120.0)
    found = detector.feed(Block(wave, 0, float(rate_hz))) + detector.finish()
    return len(found) / (wave.size / rate_hz)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One arrival of gunfire as the vendor stamped it.

    Attributes
    ----------
    position, test : str
        Where the shooter stood, and the recording.
    shot : int
        Which of its shots.
    sensor : str
        Who heard it.
    time_s : float
        Since the first sample of the recording [s].
    """

    position: str
    test: str
    shot: int
    sensor: str
    time_s: float


def arrivals(release: Path) -> dict[Path, tuple[Arrival, ...]]:
    """List what the vendor stamped as arrivals of gunfire in recordings.

    Parameters
    ----------
    release : pathlib.Path
        The Pittsburgh release.

    Returns
    -------
    dict of pathlib.Path to tuple of Arrival
        For each audio file with an arrival.
    """
    found: dict[Path, tuple[Arrival, ...]] = {}
    for tuples in sorted(release.rglob("*.nlos-tuples.json")):
        test, position = tuples.name.split(".")[0], tuples.parent.parent.name
        pulses = {one["pulse_uuid"]: one for one in _read(tuples.with_name(f"{test}.allpulses.json"))}
        heard = {one["serial_number"]: (path, one["timestamp"]) for path, one in _audio(tuples.parent, test)}
        for shot in _read(tuples):
            for pulse in (pulses[name] for name in shot["pulse_uuids"] if name in pulses):
                if (sensor := pulse["serial_number"]) in heard:
                    path, begun = heard[sensor]
                    since_s = _moment_s(pulse["arrival_time_utc"]) - _moment_s(begun)
                    found[path] = (*found.get(path, ()), Arrival(position, test, shot["shot_index"], sensor, since_s))
    return found


def _audio(folder: Path, test: str) -> Iterator[tuple[Path, dict[str, str]]]:
    for about in sorted(folder.glob(f"{test}.audio.*.json")):
        yield about.with_suffix(".wav"), _read(about)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _moment_s(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def on_recordings(stamped: dict[Path, tuple[Arrival, ...]], threshold_db: float) -> tuple[float, float]:
    """Compare what is picked with the vendor's arrivals.

    Parameters
    ----------
    stamped : dict of pathlib.Path to tuple of Arrival
        See `arrivals`.
    threshold_db : float
        Smallest peak over noise that counts.

    Returns
    -------
    picked_share : float
        Share of the arrivals with an onset within 15 ms.
    false_per_s : float
        Onsets a second in the quiet parts, some of which are true impulses of the street.
    """
    picked: list[bool] = []
    quiet_s, false_count = 0.0, 0
    for path, wanted in stamped.items():
        wanted_s = [one.time_s for one in wanted]
        found_s = np.array(
            [one.index / one.sample_rate_hz for one in onsets_of(path, OnsetDetection(min_snr_db=threshold_db))]
        )
        picked += [bool(np.any(np.abs(found_s - time_s) <= MATCH_S)) for time_s in wanted_s]
        until_s = max(0.0, min(wanted_s) - BEFORE_S)
        quiet_s += until_s
        false_count += int(np.sum(found_s < until_s))
    return float(np.mean(picked)), false_count / quiet_s


def main() -> None:
    """Print the table."""
    release = find_release()
    stamped = arrivals(release) if release else {}
    waves = {
        f"{name} {rate_hz // 1000} kHz": (noise(slope, rate_hz), rate_hz)
        for name, slope in SLOPES.items()
        for rate_hz in RATES_HZ
    }
    print(
        "min_snr_db  "
        + "  ".join(f"{name:>13}" for name in waves)
        + ("    quiet parts  arrivals picked" if stamped else "")
    )
    for threshold_db in THRESHOLDS_DB:
        row = "  ".join(f"{false_per_s(*wave, threshold_db):11.3f}/s" for wave in waves.values())
        picked = ""
        if stamped:
            share, quiet_per_s = on_recordings(stamped, threshold_db)
            picked = f"  {quiet_per_s:11.3f}/s  {100 * share:13.1f} %"
        print(f"{threshold_db:10.0f}  {row}{picked}", flush=True)


if __name__ == "__main__":
    main()
