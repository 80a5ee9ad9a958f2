"""What microphones record beside pulses, at the live fire and in the simulated city: noise, and what clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import welch

from agls.physics import sound_speed_m_s
from agls.replay import read_dataset
from agls.replay.dataset import Recording, Track
from agls.replay.truth import TrueShot, read_truth
from firmware_sim.device import Recorder
from firmware_sim.propagation import arrival_s
from firmware_sim.scene import Scene, shots

Floats = NDArray[np.float64]

FULL_DB = 94.8  # the vendor's peak level of full scale, where its pulses end
CLIPPED = 0.97  # of full scale
FRAMES = 1024
BEFORE_S = 0.1  # noise is what comes that much before the first shot
LEAST_S = 0.5
AROUND_S = (-0.045, 0.060)  # a shot's arrival is in there


@dataclass(frozen=True)
class Noise:
    """What was recorded at one microphone.

    Attributes
    ----------
    position : str
        Firing position.
    sensor : str
        Which microphone.
    level_db : float
        Root mean square before the shots; nan where the stretch is too short.
    spectrum_db : numpy.ndarray, shape (bins,)
        Its power spectral density [dB re 20 uPa, 1 Hz]; empty where the stretch is too short.
    clipped : tuple of bool
        Of each shot: whether its arrival reached full scale.
    """

    position: str
    sensor: str
    level_db: float
    spectrum_db: Floats
    clipped: tuple[bool, ...]


def recorded_noise(release: Path) -> list[Noise]:
    """Measure the recordings of the live fire.

    Parameters
    ----------
    release : pathlib.Path
        The release.

    Returns
    -------
    list of Noise
        One for each recording.
    """
    truth: dict[str, list[TrueShot]] = {}
    for shot in read_truth(release, "pittsburgh")[0]:
        truth.setdefault(shot.recording, []).append(shot)
    recordings = read_dataset(release, "audio").recordings
    return [_measured(one, track, truth[one.name]) for one in recordings for track in one.tracks]


def _measured(recording: Recording, track: Track, fired: Sequence[TrueShot]) -> Noise:
    sound, rate_hz = soundfile.read(track.path)
    site = recording.site
    (stand,) = (one for one in site.sensor if one.sensor_id == track.sensor_id)
    speed = sound_speed_m_s(site.weather.temperature_c, 60.0)
    due_s = []
    for shot in fired:
        away_m = math.dist((stand.x_m or 0, stand.y_m or 0, stand.z_m or 0), (shot.x_m, shot.y_m, shot.z_m))
        due_s.append(((shot.earliest_ns or 0) + (shot.latest_ns or 0)) / 2e9 - track.start_ns / 1e9 + away_m / speed)
    return _noise(recording.name.partition("/")[0], track.sensor_id, sound, rate_hz, due_s)


def _noise(position: str, sensor: str, sound: Floats, rate_hz: int, due_s: Sequence[float]) -> Noise:
    """Measure one recording; the vendor's begin and end with zeros."""
    there = np.flatnonzero(sound)
    first = int(there[0]) if there.size else 0
    quiet = sound[first : max(first, round((min(due_s) - BEFORE_S) * rate_hz))]
    clipped = [_reaches(sound, rate_hz, due) for due in due_s]
    if quiet.size < LEAST_S * rate_hz:
        return Noise(position, sensor, np.nan, np.zeros(0), tuple(clipped))
    quiet = quiet - quiet.mean()
    _, density = welch(quiet, rate_hz, nperseg=FRAMES)
    level_db = FULL_DB + 10 * np.log10(np.mean(quiet**2))
    return Noise(position, sensor, float(level_db), FULL_DB + 10 * np.log10(density + 1e-20), tuple(clipped))


def _reaches(sound: Floats, rate_hz: int, due_s: float) -> bool:
    start, end = (max(0, round((due_s + around) * rate_hz)) for around in AROUND_S)
    return bool(sound[start:end].size and np.abs(sound[start:end]).max() >= CLIPPED)


def simulated_noise(scene: Scene, position: str, sensors: Sequence[int]) -> list[Noise]:
    """Record in a simulated city, and measure alike.

    Parameters
    ----------
    scene : Scene
        The city.
    position : str
        What to call it.
    sensors : sequence of int
        Indices of the sensors that record.

    Returns
    -------
    list of Noise
        One for each.
    """
    rate_hz, found = scene.device.sample_rate_hz, []
    fired = shots(scene)
    for number in sensors:
        ear = scene.sensor[number]
        due_s = [arrival_s(scene, ear, shot) for shot in fired]
        samples = Recorder(scene, ear).samples(0, round((max(due_s) + 1.0) * rate_hz))
        found.append(_noise(position, ear.sensor_id, samples / 32_768, rate_hz, due_s))
    return found
