"""The sounds of the simulated city at 1 m: blasts, N-waves, things struck, things that tear, burn and roll."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from firmware_sim.acoustics import LEAD_IN_SAMPLES, Complex, Floats, Spectrum, even_frames, peak_pa
from firmware_sim.sources import WEAPONS, Emission, Shooter, level_db

LEVEL_SCATTER_DB = 1.0  # from round to round
BURST_DECAYS = 6  # after so many time constants a burst is over
BAND_EDGE_SHARE = (0.40, 0.48)  # of the sampling rate: where the converter's anti-alias filter falls from 1 to 0


def friedlander(peak: float, tau_s: float) -> Spectrum:
    """Describe a blast: ``peak (1 - t/tau) exp(-t/tau)``.

    Parameters
    ----------
    peak : float
        Peak overpressure at 1 m [Pa].
    tau_s : float
        Duration of the positive phase [s].

    Returns
    -------
    Spectrum
        Its Fourier transform in closed form, so that its edge is not aliased.
    """
    rate = 1 / tau_s

    def _spectrum(frequency_hz: Floats) -> Complex:
        angular = 2j * np.pi * frequency_hz
        blast: Complex = peak * angular / (rate + angular) ** 2
        return blast

    return _spectrum


def n_wave(peak: float, duration_s: float) -> Spectrum:
    """Describe the shock of a bullet that is faster than sound: up at once, evenly down, up at once.

    Parameters
    ----------
    peak : float
        Peak overpressure [Pa].
    duration_s : float
        From the first to the last shock [s].

    Returns
    -------
    Spectrum
        Its Fourier transform in closed form.
    """

    def _spectrum(frequency_hz: Floats) -> Complex:
        angular = 2j * np.pi * np.maximum(np.asarray(frequency_hz, float), 1.0)
        fallen = np.exp(-angular * duration_s)
        wave: Complex = peak * ((1 + fallen) / angular - 2 * (1 - fallen) / (duration_s * angular**2))
        return wave

    return _spectrum


def modes(peak: float, frequencies_hz: Floats, weights: Floats, attack_s: float, decay_s: float) -> Spectrum:
    """Describe something struck: tones that begin together and die away, such as a door or a metal sheet.

    Parameters
    ----------
    peak : float
        Sum of the tones' amplitudes at 1 m [Pa].
    frequencies_hz, weights : numpy.ndarray, shape (tones,)
        Each tone and its share; the shares are scaled to sum to one.
    attack_s, decay_s : float
        Time constants of beginning and dying away [s]; the attack is the shorter.

    Returns
    -------
    Spectrum
        The Fourier transform of ``sum w sin(2 pi f t) (exp(-t/decay) - exp(-t/attack))``.
    """
    amplitudes = peak * weights / weights.sum()
    turns = 2 * np.pi * frequencies_hz

    def _spectrum(frequency_hz: Floats) -> Complex:
        angular = 2j * np.pi * np.asarray(frequency_hz)[:, None]
        ring = [turns / ((1 / time_s + angular) ** 2 + turns**2) for time_s in (decay_s, attack_s)]
        struck: Complex = ((ring[0] - ring[1]) * amplitudes).sum(axis=1)
        return struck

    return _spectrum


def _band_limit(share: Floats) -> Floats:
    low, high = BAND_EDGE_SHARE
    fall = np.clip((share - low) / (high - low), 0, 1)
    kept: Floats = 0.5 * (1 + np.cos(np.pi * fall))
    return kept


@dataclass(frozen=True, slots=True)
class Sound:
    """One impulse at 1 m.

    Attributes
    ----------
    spectrum : Spectrum
        The Fourier transform of its shape.
    length_s : float
        When it has died away [s].
    level_db : float
        Its peak level, whatever the scale of its shape [dB].
    """

    spectrum: Spectrum
    length_s: float
    level_db: float


def noise_burst(
    peak: float, random: np.random.Generator, strokes_s: Floats, decay_s: float, band_hz: tuple[float, float]
) -> Spectrum:
    """Describe what tears, shatters or rolls: noise that sets in with each stroke and dies away.

    Parameters
    ----------
    peak : float
        Its greatest pressure at 1 m [Pa].
    random : numpy.random.Generator
        Of the impulse.
    strokes_s : numpy.ndarray, shape (strokes,)
        When it sets in [s].
    decay_s : float
        In which it falls to 1/e [s].
    band_hz : tuple of float
        Lowest and highest frequency.

    Returns
    -------
    Spectrum
        For frequencies evenly spaced from 0 to half a sampling rate.
    """
    seed, weights = int(random.integers(2**32)), random.uniform(0.2, 1.0, strokes_s.size)

    def _spectrum(frequency_hz: Floats) -> Complex:
        rate_hz, frames = 2 * frequency_hz[-1], 2 * (frequency_hz.size - 1)
        last_s = float(strokes_s.max()) + BURST_DECAYS * decay_s
        since_s = np.arange(min(frames, round(last_s * rate_hz)))[:, None] / rate_hz - strokes_s
        fade = (weights * np.where(since_s >= 0, np.exp(-np.clip(since_s, 0, None) / decay_s), 0.0)).sum(axis=1)
        white = np.fft.rfft(np.random.default_rng(seed).standard_normal(fade.size) * fade, frames)
        slow, fast = (1j * frequency_hz / edge_hz for edge_hz in band_hz)
        inside = (slow / (1 + slow)) ** 2 / (1 + fast) ** 2
        burst = np.fft.irfft(white * inside, frames)
        return np.asarray(white * inside * (peak / np.abs(burst).max() / rate_hz), complex)

    return _spectrum


def sound_of(emission: Emission, random: np.random.Generator) -> Sound:
    """Make the sound of one impulse.

    Parameters
    ----------
    emission : Emission
        The impulse.
    random : numpy.random.Generator
        Its own.

    Returns
    -------
    Sound
        A little louder or quieter than its maker is on average.
    """
    loud_db = level_db(emission.maker) + float(random.normal(0, LEVEL_SCATTER_DB))
    if isinstance(emission.maker, Shooter):
        tau_s = emission.maker.tau_s or WEAPONS[emission.maker.weapon].tau_s
        return Sound(friedlander(1.0, tau_s), 20 * tau_s, loud_db)
    parts, length_s = _BANGS[emission.maker.kind](1.0, random)
    return Sound(lambda frequency_hz: _sum(parts, frequency_hz), length_s, loud_db)


def _sum(parts: Sequence[Spectrum], frequency_hz: Floats) -> Complex:
    return np.asarray(np.sum([part(frequency_hz) for part in parts], axis=0), complex)


def _later(sound: Spectrum, delay_s: float) -> Spectrum:
    return lambda frequency_hz: sound(frequency_hz) * np.exp(-2j * np.pi * frequency_hz * delay_s)


def _struck(
    peak: float, random: np.random.Generator, tones: int, band_hz: tuple[float, float], attack_s: float, decay_s: float
) -> Spectrum:
    return modes(peak, np.sort(random.uniform(*band_hz, tones)), random.uniform(0.3, 1, tones), attack_s, decay_s)


Parts: TypeAlias = tuple[list[Spectrum], float]
"""The sounds that an impulse is made of, and when they have died away [s]."""


def _firework(peak: float, random: np.random.Generator) -> Parts:
    # An aerial shell: black powder burns longer than a cartridge, paper tears over milliseconds, stars crackle.
    tearing = modes(peak, random.uniform(200, 6_000, 60), random.uniform(0.2, 1, 60), 2e-3, 0.03)
    crackles_s = np.sort(random.uniform(0.04, 0.8, 45))
    stars = noise_burst(0.3 * peak, random, crackles_s, 4e-3, (900.0, 9_000.0))
    return [friedlander(0.6 * peak, 5e-3), tearing, stars], 0.9


def _salute(peak: float, random: np.random.Generator) -> Parts:
    # Flash powder in cardboard on the ground: a blast as clean as a gun's, and some five times as long.
    scraps = noise_burst(0.08 * peak, random, np.array([0.004]), 0.03, (500.0, 9_000.0))
    return [friedlander(peak, 2.2e-3), scraps], 0.25


def _backfire(peak: float, random: np.random.Generator) -> Parts:
    pipe = _struck(0.8 * peak, random, 8, (70, 450), 3e-3, 0.025)
    return [friedlander(0.6 * peak, float(random.uniform(2e-3, 5e-3))), pipe], 0.2


def _nailgun(peak: float, random: np.random.Generator) -> Parts:
    wood = _struck(0.9 * peak, random, 10, (300, 4_000), 2e-4, 6e-3)
    air = noise_burst(0.15 * peak, random, np.array([0.01]), 0.03, (1_000.0, 12_000.0))
    return [friedlander(0.7 * peak, 3e-4), _later(wood, float(random.uniform(2e-3, 5e-3))), air], 0.25


def _hammer(peak: float, random: np.random.Generator) -> Parts:
    return [_struck(peak, random, 14, (350, 5_000), 2e-4, 0.018)], 0.15


def _door(peak: float, random: np.random.Generator) -> Parts:
    return [_struck(peak, random, 12, (70, 900), 4e-3, 0.05)], 0.4


def _crash(peak: float, random: np.random.Generator) -> Parts:
    strokes = np.sort(np.concatenate([[0.0], random.uniform(0.03, 0.5, 5)]))
    metal = [_later(_struck(0.5 * peak, random, 25, (60, 3_000), 1e-3, 0.07), float(at)) for at in strokes]
    return [*metal, noise_burst(0.4 * peak, random, strokes[2:], 0.12, (1_500.0, 11_000.0))], 1.2


def _thunder(peak: float, random: np.random.Generator) -> Parts:
    claps = np.sort(np.concatenate([[0.0], random.exponential(0.8, 9)]).clip(0, 3.5))
    return [
        noise_burst(peak, random, claps, 0.25, (15.0, 160.0)),
        noise_burst(0.3 * peak, random, claps, 0.06, (60.0, 900.0)),
    ], 6.5


def _pop(peak: float, random: np.random.Generator) -> Parts:
    return [n_wave(peak, float(random.uniform(8e-4, 1.8e-3)))], 0.02


def _jackhammer(peak: float, random: np.random.Generator) -> Parts:
    # The same steel and road each time: the tones' shares differ a little from blow to blow, their pitch does not.
    tones_hz = np.array([310.0, 540, 870, 1_240, 1_760, 2_350, 3_100, 4_050])
    steel = modes(0.9 * peak, tones_hz, random.uniform(0.6, 1, tones_hz.size), 2e-4, 7e-3)
    return [steel, friedlander(0.4 * peak, 2e-3)], 0.07


_BANGS: dict[str, Callable[[float, np.random.Generator], Parts]] = {
    "firework": _firework, "salute": _salute, "backfire": _backfire, "nailgun": _nailgun, "hammer": _hammer,
    "door": _door, "crash": _crash, "thunder": _thunder, "pop": _pop, "jackhammer": _jackhammer,
}  # fmt: skip


def sounded(sound: Sound, rate_hz: float, delay_s: float = 0.0) -> Floats:
    """Sample an impulse at 1 m, as loud as it is said to be however its parts add up.

    Parameters
    ----------
    sound : Sound
        The impulse.
    rate_hz : float
        Sampling rate.
    delay_s : float
        By how much it begins later [s].

    Returns
    -------
    numpy.ndarray, shape (frames,), float64
        Sound pressure [Pa]; see `on_grid`.
    """
    shape = on_grid(sound.spectrum, sound.length_s, rate_hz, delay_s)
    return np.asarray(shape * (peak_pa(sound.level_db) / np.abs(shape).max()))


def on_grid(sound: Spectrum, length_s: float, rate_hz: float, delay_s: float = 0.0) -> Floats:
    """Sample a sound at 1 m, within the converter's band.

    Parameters
    ----------
    sound : Spectrum
        The sound.
    length_s : float
        When it has died away [s].
    rate_hz : float
        Sampling rate.
    delay_s : float
        By how much it begins later [s].

    Returns
    -------
    numpy.ndarray, shape (frames,), float64
        Sound pressure [Pa]; its beginning is sample `LEAD_IN_SAMPLES` and what `delay_s` adds.
    """
    frames = even_frames(math.ceil((length_s + delay_s) * rate_hz) + 2 * LEAD_IN_SAMPLES)
    frequency_hz: Floats = np.arange(frames // 2 + 1, dtype=np.float64) * (rate_hz / frames)
    spectrum = sound(frequency_hz) * _band_limit(frequency_hz / rate_hz) * rate_hz
    spectrum = spectrum * np.exp(-2j * np.pi * frequency_hz * (LEAD_IN_SAMPLES / rate_hz + delay_s))
    return np.fft.irfft(spectrum, frames)
