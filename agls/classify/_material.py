"""What made sounds are made of: noise, blasts, tones, strokes, and their places in time."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Chance = np.random.Generator


def between(rng: Chance, low: float, high: float) -> float:
    """Draw evenly on a scale of ratios."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def gain(rng: Chance, low_db: float, high_db: float) -> float:
    return float(10 ** (rng.uniform(low_db, high_db) / 20))


def noise(rng: Chance, t: Floats, low_hz: float, high_hz: float, tilt_db: float = 0.0) -> Floats:
    """Make noise of mean power one between two frequencies, falling or rising by so much an octave."""
    spectrum = np.fft.rfft(rng.standard_normal(t.size))
    f = np.fft.rfftfreq(t.size, t[1] - t[0])
    shape = 1 / (1 + (f / high_hz) ** 4) * f**2 / (f**2 + low_hz**2)
    if tilt_db:
        shape *= np.maximum(f, 20.0) ** (tilt_db / 6.02)
    wave = np.fft.irfft(spectrum * shape, t.size)
    return np.asarray(wave / (wave.std() + 1e-12))


def friedlander(t: Floats, tau_s: float) -> Floats:
    since = np.maximum(t, 0.0) / tau_s
    return np.asarray(np.where(t >= 0, (1 - since) * np.exp(-since), 0.0))


def fade(t: Floats, attack_s: float, decay_s: float) -> Floats:
    since = np.maximum(t, 0.0)
    return np.asarray(np.where(t >= 0, (1 - np.exp(-since / attack_s)) * np.exp(-since / decay_s), 0.0))


def tones(rng: Chance, t: Floats, frequencies_hz: Floats, decays_s: Floats, weights: Floats) -> Floats:
    phases = rng.uniform(0, 2 * np.pi, frequencies_hz.size)
    out = np.zeros(t.size)
    for f, decay_s, weight, phase in zip(frequencies_hz, decays_s, weights, phases, strict=True):
        out += weight * np.sin(2 * np.pi * f * t + phase) * np.exp(-np.maximum(t, 0) / decay_s)
    return out * (t >= 0)


def struck(rng: Chance, t: Floats, low_hz: float, high_hz: float, decay_s: float, *, contact: float = 0.3) -> Floats:
    """Strike something: tones that die away, the high ones sooner, and the noise of the contact."""
    count = int(rng.integers(3, 16))
    frequencies_hz = np.sort(np.exp(rng.uniform(np.log(low_hz), np.log(high_hz), count)))
    decays_s = decay_s * rng.uniform(0.4, 1.6, count) * (frequencies_hz[0] / frequencies_hz) ** rng.uniform(0, 0.8)
    ring = tones(rng, t, frequencies_hz, decays_s, rng.uniform(0.2, 1, count))
    touch = noise(rng, t, low_hz, 2 * high_hz) * fade(t, 1e-4, between(rng, 5e-4, 6e-3))
    return np.asarray(
        (ring / (np.abs(ring).max() + 1e-9) + contact * touch) * (1 - np.exp(-t / between(rng, 1e-4, 2e-3)))
    )


def placed(t: Floats, sounds: list[tuple[float, Floats]]) -> Floats:
    """Put sounds one after another on one time axis."""
    out = np.zeros(t.size)
    for at_s, wave in sounds:
        start = round(at_s / (t[1] - t[0]))
        if 0 <= start < t.size:
            fits = wave[: t.size - start]
            out[start : start + fits.size] += fits
    return out


def cut(t: Floats, length_s: float) -> Floats:
    return t[: max(32, round(length_s / (t[1] - t[0])))]


def pulses(rng: Chance, t: Floats, at_s: Floats, tau_s: float, spread: float) -> Floats:
    """Put short blasts at moments, each with its own strength and duration."""
    out = np.zeros(t.size)
    for at in at_s[at_s < t[-1]]:
        own_s = tau_s * between(rng, 1 / spread, spread)
        start = int(at / (t[1] - t[0]))
        piece = t[start : start + int(12 * own_s / (t[1] - t[0])) + 8] - at
        out[start : start + piece.size] += between(rng, 0.15, 1.0) * friedlander(piece, own_s)
    return out
