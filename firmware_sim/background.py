"""What a microphone hears beside impulses: noise of the street, rain, wind at the microphone; sirens, rotors, music.

Diffuse noises are one Gaussian noise whose spectrum changes from stretch to stretch; what comes from one place is
computed for the time at which it was sounded, so that what moves changes its pitch.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from firmware_sim.acoustics import Floats, peak_pa, sound_speed_m_s
from firmware_sim.city import distance_m
from firmware_sim.scene import Ear, Scene, generator, street_noise_db
from firmware_sim.sources import Noise
from firmware_sim.ways import air_of

STRETCH_FRAMES = 32_768  # one stretch of noise; neighbours overlap by half
INAUDIBLE_DB = -25.0  # against the street's noise
TRAFFIC_AT_M = 10.0  # from a street its traffic's level is given


class _Shape(NamedTuple):
    """A noise's amplitude: even to `low_hz`, falling by `power` to `high_hz`, none below `from_hz`; and its gusts."""

    from_hz: float
    low_hz: float
    high_hz: float
    power: float
    gusts_db: float


# The quietest stretches of 98 recordings in a city fall 6-7 dB an octave from 125 Hz on; electronics add an even floor.
_SHAPES = {
    "street": _Shape(15.0, 125.0, 10_000.0, 1.0, 0.0),
    "traffic": _Shape(25.0, 80.0, 3_000.0, 0.8, 2.5),
    "wind": _Shape(3.0, 25.0, 1_000.0, 2.0, 4.0),
    "rain": _Shape(700.0, 700.0, 24_000.0, 0.2, 0.8),
}


class Background:
    """What a microphone hears beside impulses, as pressure, for any stretch of samples asked for in order.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.
    """

    def __init__(self, scene: Scene, ear: Ear) -> None:
        self._scene = scene
        self._ear = ear
        self._diffuse = [_Diffuse(scene, kind, level, span) for kind, level, span in _diffuse(scene, ear)]
        self._placed = [noise for noise in scene.noise if noise.kind in _TONES]
        self._window = np.sin(np.pi * (np.arange(STRETCH_FRAMES) + 0.5) / STRETCH_FRAMES).astype(np.float32)
        self._stretches: dict[int, NDArray[np.float32]] = {}

    def pressure_pa(self, first_index: int, frames: int) -> NDArray[np.float32]:
        """Lay out noise that does not depend on how it is cut: seeded stretches, each fading into the next.

        Parameters
        ----------
        first_index : int
            Index of the first sample since the scene began, at the scene's rate.
        frames : int
            How many.

        Returns
        -------
        numpy.ndarray, shape (frames,), float32
            Sound pressure [Pa].
        """
        hop = STRETCH_FRAMES // 2
        first, last = first_index // hop, (first_index + frames - 1) // hop
        # Sample n lies in stretches n // hop and n // hop - 1; squared windows of the two add up to one.
        laid = [self._stretch(number)[:hop] + self._stretch(number - 1)[hop:] for number in range(first, last + 1)]
        start = first_index - first * hop
        heard = np.array((laid[0] if len(laid) == 1 else np.concatenate(laid))[start : start + frames])
        for noise in self._placed:
            heard += self._from_a_place(noise, first_index, frames)
        return heard

    def _stretch(self, number: int) -> NDArray[np.float32]:
        if number not in self._stretches:
            random = generator(self._scene, "noise", self._ear.sensor_id, number + 1)
            parts = random.standard_normal((2, STRETCH_FRAMES // 2 + 1), dtype=np.float32)
            spectrum = (parts[0] + 1j * parts[1]) * self._amplitude(number, random)
            self._stretches = {old: kept for old, kept in self._stretches.items() if old >= number - 1}
            self._stretches[number] = self._window * np.fft.irfft(spectrum, STRETCH_FRAMES).astype(np.float32)
        return self._stretches[number]

    def _amplitude(self, number: int, random: np.random.Generator) -> NDArray[np.float32]:
        if len(self._diffuse) == 1:
            return self._diffuse[0].amplitude
        middle_s = number * STRETCH_FRAMES / 2 / self._scene.device.sample_rate_hz % self._scene.duration_s
        gains = [part.gain(middle_s, random) for part in self._diffuse]
        power = np.zeros_like(self._diffuse[0].amplitude)
        for gain, part in zip(gains, self._diffuse, strict=True):
            power += np.float32(gain**2) * part.amplitude**2
        shaped: NDArray[np.float32] = np.sqrt(power)
        return shaped

    def _from_a_place(self, noise: Noise, first_index: int, frames: int) -> NDArray[np.float32]:
        """Sound what has a place, as it was sounded when it left there."""
        seconds = (first_index + np.arange(frames)) / self._scene.device.sample_rate_hz % self._scene.duration_s
        speed_m_s, sounded_s = sound_speed_m_s(air_of(self._scene)), seconds
        for _ in range(2):
            east = noise.x_m + noise.east_m_s * sounded_s - self._ear.x_m
            north = noise.y_m + noise.north_m_s * sounded_s - self._ear.y_m
            away_m = np.sqrt(east**2 + north**2 + (noise.z_m - self._ear.z_m) ** 2)
            sounded_s = seconds - away_m / speed_m_s
        away_m = np.maximum(away_m, 1.0)
        level_db = noise.level_db - 20 * math.log10(float(away_m.min()))
        if level_db < street_noise_db(self._scene, self._ear) + INAUDIBLE_DB:
            return np.zeros(frames, np.float32)
        on = (sounded_s >= noise.start_s) & (sounded_s < noise.end_s)
        random = generator(self._scene, "tone", noise.noise_id)
        tone = _TONES[noise.kind](sounded_s, random) * on * (peak_pa(noise.level_db) / away_m)
        return np.asarray(tone, np.float32)


class _Diffuse:
    """A noise that is everywhere about a microphone: its spectrum [Pa], its gusts, and when it is."""

    def __init__(self, scene: Scene, kind: str, level_db: float, span_s: tuple[float, float]) -> None:
        shape = _SHAPES[kind]
        frequency_hz = np.fft.rfftfreq(STRETCH_FRAMES, 1 / scene.device.sample_rate_hz)
        amplitude = np.clip(frequency_hz, shape.low_hz, shape.high_hz) ** -shape.power
        amplitude[frequency_hz < shape.from_hz] = 0
        rms = np.sqrt(2 * np.sum(2 * amplitude**2)) / STRETCH_FRAMES
        self.amplitude: NDArray[np.float32] = (amplitude * (peak_pa(level_db) / rms)).astype(np.float32)
        self._gusts_db, self._span_s = shape.gusts_db, span_s

    def gain(self, time_s: float, random: np.random.Generator) -> float:
        """Draw how strong it is in a stretch."""
        gust_db = float(random.normal(0, 1)) * self._gusts_db
        return 10 ** (gust_db / 20) if self._span_s[0] <= time_s < self._span_s[1] else 0.0


def _diffuse(scene: Scene, ear: Ear) -> Iterator[tuple[str, float, tuple[float, float]]]:
    """List the noises that are everywhere about a microphone: kind, level and when."""
    always = (0.0, math.inf)
    yield "street", street_noise_db(scene, ear), always
    for noise in scene.noise:
        if noise.kind in _SHAPES:
            yield noise.kind, noise.level_db, (noise.start_s, noise.end_s)
    for street in scene.street:
        if street.traffic_db > 0:
            away_m = max(distance_m(street.outline_m, ear.x_m, ear.y_m), TRAFFIC_AT_M)
            yield "traffic", street.traffic_db - 10 * math.log10(away_m / TRAFFIC_AT_M), always


# --------------------------------------------------------------------------------------- tones, of root mean square 1


def _siren(seconds: Floats, random: np.random.Generator) -> Floats:
    """Wail: up from 650 to 1,500 Hz and down again."""
    low_hz, swing_hz, period_s = 650.0, 850.0, float(random.uniform(3.5, 5.0))
    turn = 2 * np.pi * seconds / period_s
    phase = 2 * np.pi * (low_hz + swing_hz / 2) * seconds - swing_hz * period_s / 2 * np.sin(turn)
    return np.asarray(1.25 * (np.sin(phase) + 0.45 * np.sin(2 * phase) + 0.2 * np.sin(3 * phase)))


def _helicopter(seconds: Floats, random: np.random.Generator) -> Floats:
    """Slap the air with each blade."""
    slaps_hz = float(random.uniform(11.0, 19.0))
    phases = random.uniform(0, 0.6, 14)
    share = 0.85 ** np.arange(14)
    turns = 2 * np.pi * slaps_hz * seconds
    slap = sum(share[k] * np.sin((k + 1) * turns + phases[k]) for k in range(14))
    return np.asarray(slap / np.sqrt((share**2).sum() / 2))


def _music(seconds: Floats, random: np.random.Generator) -> Floats:
    """Play four notes and a drum to each beat."""
    beat_s, notes = float(random.uniform(0.4, 0.6)), 110 * 2 ** (random.integers(0, 25, (64, 4)) / 12)
    beats = np.floor(seconds / beat_s)
    since_s = seconds - beats * beat_s
    chosen = notes[beats.astype(int) % 64]
    tune = np.sin(2 * np.pi * chosen * since_s[:, None]).sum(axis=1) * np.exp(-since_s / 0.3)
    drum = 4 * np.sin(2 * np.pi * 60 * since_s * (1 + np.exp(-since_s / 0.03))) * np.exp(-since_s / 0.08)
    return np.asarray(0.9 * (1 - np.exp(-since_s / 2e-3)) * (tune + drum))


_TONES: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "siren": _siren,
    "helicopter": _helicopter,
    "music": _music,
}
