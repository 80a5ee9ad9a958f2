"""What lies between a sound and its recording, drawn at random: air, walls, noise, microphone, limits, compression.

A model must not learn any one of them. Every draw stands for another street or room and another recorder; the ranges
cover what is usual from a phone to a measuring microphone, and nothing is fitted to any recording.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Chance = np.random.Generator

CODEC_FRAME = 1_024
SHADOWED_SHARE = 0.3
RATES_HZ = (12_000.0, 16_000.0, 22_050.0, 22_050.0, 24_000.0)


@dataclass(frozen=True, slots=True)
class Bed:
    """Noise that lasts, to be heard behind other sounds.

    Attributes
    ----------
    wave : numpy.ndarray, shape (frames,), float64
        Some seconds.
    rate_hz : float
        Its sampling rate.
    """

    wave: Floats
    rate_hz: float


def _between(rng: Chance, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def through_air(wave: Floats, rate_hz: float, rng: Chance, far: float, wet_db: float = 0.0) -> Floats:
    """Let a sound travel: air and obstacles swallow the high, the ground and walls return it, all around reverberates.

    Parameters
    ----------
    wave : numpy.ndarray, shape (frames,)
        The sound.
    rate_hz : float
        Sampling rate.
    rng : numpy.random.Generator
        Chance.
    far : float
        How much air there usually is, 1 for a shot's.
    wet_db : float
        By how much echoes and reverberation are louder than usual, below 0 where the recorder is near.

    Returns
    -------
    numpy.ndarray, shape (frames,), float64
        As it arrives; the first arrival is not delayed.
    """
    frames = wave.size
    loss_db = min(rng.exponential(1.5 * far), 12.0) * (rng.random() < 0.75)
    f = np.fft.rfftfreq(2 * frames, 1 / rate_hz)
    heard = 10 ** (-loss_db * np.minimum((f / 1000) ** 1.5, 20.0) / 20) * response(rng, rate_hz, frames, wet_db)
    return np.fft.irfft(np.fft.rfft(wave, 2 * frames) * heard, 2 * frames)[:frames]


def response(rng: Chance, rate_hz: float, frames: int, wet_db: float = 0.0) -> NDArray[np.complex128]:
    """Draw a place: the ground's bounce, single echoes and a dense tail that dies sooner at high frequencies.

    Parameters
    ----------
    rng : numpy.random.Generator
        Chance.
    rate_hz : float
        Sampling rate.
    frames : int
        How long.
    wet_db : float
        By how much all but the first arrival and the ground's is louder than usual.

    Returns
    -------
    numpy.ndarray, shape (frames + 1,), complex128
        Transfer function, for signals padded to twice the length.
    """
    t = np.arange(frames) / rate_hz
    impulse = np.zeros(frames)
    impulse[0] = 1.0
    wet = 10 ** (wet_db / 20)
    spread_s = _between(rng, 3e-3, 0.25)
    if rng.random() < SHADOWED_SHARE and wet_db == 0.0:
        # Behind a corner: what comes first is bent round it, weaker and duller than what walls return later.
        edge = np.exp(-t[:64] * 2 * np.pi * _between(rng, 400, 3_000))
        impulse[:64] = edge / edge.sum() * rng.uniform(0.2, 0.9)
        wet = rng.uniform(1.0, 3.0)
    for delay_s in rng.exponential(spread_s, int(rng.integers(0, 14))):
        at = int(delay_s * rate_hz)
        if 0 < at < frames - 3:
            # A wall returns less of the high: smear over some samples.
            strength = wet * rng.normal(0, 0.35) * 10 ** (-rng.exponential(4.0) / 20)
            impulse[at : at + 3] += strength * np.array([0.5, 0.35, 0.15])
    if rng.random() < 0.7:
        impulse[min(frames - 1, max(1, round(_between(rng, 1.5e-4, 8e-3) * rate_hz)))] += rng.uniform(-0.3, 0.95)
    if rng.random() < 0.85:
        decay_s = _between(rng, 0.02, 0.9) / 6.9
        level = wet * 10 ** (rng.uniform(-32, 4) / 20) / np.sqrt(decay_s * rate_hz)
        build_s = _between(rng, 1e-3, 0.04)
        tail = rng.standard_normal(frames) * np.exp(-t / decay_s) * (1 - np.exp(-t / build_s))
        # The high part dies first: mix with a smoothed copy as time goes by.
        dull = np.convolve(tail, np.full(5, 0.2), "same")
        share = np.clip(t / (decay_s * rng.uniform(2, 12)), 0, 1)
        impulse += level * ((1 - share) * tail + share * dull * 1.5)
    return np.fft.rfft(impulse, 2 * frames)


def recorded(wave: Floats, rate_hz: float, rng: Chance, beds: Sequence[Bed], quiet_db: tuple[float, float]) -> Floats:
    """Record a sound: noise behind it, a microphone's colour, limits, perhaps a lossy file.

    Parameters
    ----------
    wave : numpy.ndarray, shape (frames,)
        As it arrives, peak near 1.
    rate_hz : float
        Sampling rate.
    rng : numpy.random.Generator
        Chance.
    beds : sequence of Bed
        Real noise to choose from; may be empty.
    quiet_db : tuple of float
        By how much the noise lies below the sound's peak, least and most.

    Returns
    -------
    numpy.ndarray, shape (frames,), float64
        Within full scale.
    """
    wave = wave / max(float(np.abs(wave).max()), 1e-9)
    wave = wave + 10 ** (-rng.uniform(*quiet_db) / 20) * background(wave.size, rate_hz, rng, beds)
    wave = coloured(wave, rate_hz, rng)
    wave = limited(wave / max(float(np.abs(wave).max()), 1e-9), rate_hz, rng)
    if rng.random() < 0.35:
        wave = compressed(wave, rate_hz, rng)
    peak = max(float(np.abs(wave).max()), 1e-9)
    return np.clip(wave * (1.0 if rng.random() < 0.5 or peak > 1 else _between(rng, 0.05, 1.0) / peak), -1, 1)


def background(frames: int, rate_hz: float, rng: Chance, beds: Sequence[Bed]) -> Floats:
    """Draw noise of mean power one: a real bed as a fast or slow tape would play it, or noise of any colour.

    Parameters
    ----------
    frames : int
        How long.
    rate_hz : float
        Sampling rate.
    rng : numpy.random.Generator
        Chance.
    beds : sequence of Bed
        Real noise; may be empty.

    Returns
    -------
    numpy.ndarray, shape (frames,), float64
        The noise.
    """
    if beds and rng.random() < 0.5:
        bed = beds[int(rng.integers(len(beds)))]
        step = bed.rate_hz / rate_hz * rng.uniform(0.7, 1.4)
        needed = min(bed.wave.size, int(frames * step) + 2)
        start = int(rng.integers(0, bed.wave.size - needed + 1))
        at = np.arange(frames) * ((needed - 1) / frames)
        noise = np.interp(at, np.arange(needed), bed.wave[start : start + needed])
    else:
        f = np.fft.rfftfreq(frames, 1 / rate_hz)
        shape = np.maximum(f, 30.0) ** (-rng.uniform(0, 1.6))
        noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(frames)) * shape, frames)
    return np.asarray((noise - noise.mean()) / max(float(noise.std()), 1e-9))


def coloured(wave: Floats, rate_hz: float, rng: Chance) -> Floats:
    """Pass a sound through a microphone: a low cut, a high cut, a tilt and some bumps.

    Parameters
    ----------
    wave : numpy.ndarray, shape (frames,)
        The sound.
    rate_hz : float
        Sampling rate.
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    numpy.ndarray, shape (frames,), float64
        As recorded.
    """
    f = np.fft.rfftfreq(wave.size, 1 / rate_hz)
    low = 1j * f / _between(rng, 15, 350)
    high = 1j * f / _between(rng, 2_800, 16_000)
    octaves = np.log2(np.maximum(f, 30.0) / 1000)
    gain_db = rng.normal(0, 1.5) * octaves
    for _ in range(int(rng.integers(0, 4))):
        gain_db = gain_db + rng.normal(0, 5) * np.exp(
            -(((octaves - rng.uniform(-3.5, 2.5)) / rng.uniform(0.2, 1)) ** 2)
        )
    passed = (low / (1 + low)) ** int(rng.integers(1, 3)) / (1 + np.sqrt(2) * high + high**2) * 10 ** (gain_db / 20)
    return np.fft.irfft(np.fft.rfft(wave) * passed, wave.size)


def limited(wave: Floats, rate_hz: float, rng: Chance) -> Floats:
    """Drive a recorder into its limits: not at all, hard, soft, or with a gain that ducks and recovers.

    Parameters
    ----------
    wave : numpy.ndarray, shape (frames,)
        With a peak of 1.
    rate_hz : float
        Sampling rate.
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    numpy.ndarray, shape (frames,), float64
        As recorded.
    """
    how = rng.random()
    if how < 0.4:
        return wave
    drive = 10 ** (min(rng.exponential(9.0), 36.0) / 20)
    if how < 0.65:
        out = np.clip(wave * drive, -1, 1)
    elif how < 0.8:
        out = np.tanh(wave * drive)
    else:
        release_s = _between(rng, 0.02, 0.6)
        # The running greatest level that has since died away, in steps of a millisecond.
        span = max(1, int(rate_hz / 1000))
        count = -(-wave.size // span)
        level = np.abs(np.pad(wave * drive, (0, count * span - wave.size))).reshape(count, span).max(axis=1)
        ages = np.arange(count) * 1e-3 / release_s
        held = np.exp(np.maximum.accumulate(np.log(level + 1e-9) + ages) - ages)
        gain = 1 / np.maximum(1.0, np.repeat(held, span)[: wave.size]) ** rng.uniform(0.6, 1.0)
        out = np.clip(wave * drive * gain, -1, 1)
    if rng.random() < 0.4:  # what is cut flat sags, and swings back when it is over
        f = np.fft.rfftfreq(out.size, 1 / rate_hz)
        low = 1j * f / _between(rng, 5, 60)
        out = np.fft.irfft(np.fft.rfft(out) * (low / (1 + low)) ** 2, out.size)
    return np.asarray(out)


def compressed(wave: Floats, rate_hz: float, rng: Chance) -> Floats:
    """Keep a sound as a lossy file does: noise in every band, nothing where little is heard, no highest octave.

    Parameters
    ----------
    wave : numpy.ndarray, shape (frames,)
        The sound.
    rate_hz : float
        Sampling rate.
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    numpy.ndarray, shape (frames,), float64
        The file's.
    """
    size, hop = CODEC_FRAME, CODEC_FRAME // 2
    count = -(-wave.size // hop) + 1
    padded = np.pad(wave, (hop, count * hop - wave.size))
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size)
    spectra = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * window, axis=1)
    bands = np.abs(spectra[:, :-1]).reshape(len(spectra), -1, 16)
    loud = np.sqrt((bands**2).mean(axis=2))
    kept = loud > loud.max(axis=1, keepdims=True) * 10 ** (-rng.uniform(30, 60) / 20)
    loss = np.repeat(loud * 10 ** (-rng.uniform(8, 25) / 20) * kept, 16, axis=1)
    turn = rng.standard_normal((2, *loss.shape))
    spectra[:, :-1] = spectra[:, :-1] * np.repeat(kept, 16, axis=1) + loss * (turn[0] + 1j * turn[1]) * 0.7
    spectra[:, int(_between(rng, 4_000, 16_000) / rate_hz * size) :] = 0
    frames = np.fft.irfft(spectra, size, axis=1) * window
    out = np.zeros((len(frames) + 1) * hop)
    out[: len(frames) * hop] += frames[:, :hop].ravel()
    out[hop:] += frames[:, hop:].ravel()
    return out[hop : hop + wave.size]
