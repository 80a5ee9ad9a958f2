"""How much of what a microphone hears is the mains: tones of 50 or 60 Hz and their multiples, from a bad cable."""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MAINS_HZ = (50.0, 60.0)
TONES_COUNT = 8
NEAR_HZ, AROUND_HZ = 0.6, 6.0  # a tone's width in a spectrum of some seconds, and where its neighbours are
SILENCE = 1e-20


def hum(samples: NDArray[np.float32], rate_hz: float) -> tuple[float, float]:
    """Measure how loud the mains are beside everything else.

    Parameters
    ----------
    samples : numpy.ndarray, shape (frames,), float32
        Some seconds of sound, at least two.
    rate_hz : float
        Sampling rate.

    Returns
    -------
    mains_hz : float
        50 or 60, whichever is louder.
    hum_db : float
        Power of its tones over the power of all else [dB].
    """
    window = np.hanning(samples.size)
    power = np.abs(np.fft.rfft((samples - samples.mean()).astype(np.float64) * window)) ** 2
    frequency_hz = np.fft.rfftfreq(samples.size, 1 / rate_hz).astype(np.float64)
    tones = {mains_hz: _tones(power, frequency_hz, mains_hz) for mains_hz in MAINS_HZ}
    mains_hz = max(tones, key=lambda one: tones[one])
    rest = max(float(power.sum()) - tones[mains_hz], SILENCE)
    return mains_hz, round(10 * math.log10(max(tones[mains_hz], SILENCE) / rest), 1)


def _tones(power: Floats, frequency_hz: Floats, mains_hz: float) -> float:
    """Add up by how much the tones stand above what is around them."""
    found = 0.0
    for tone_hz in mains_hz * np.arange(1, TONES_COUNT + 1):
        away_hz = np.abs(frequency_hz - tone_hz)
        near, around = away_hz <= NEAR_HZ, (away_hz > NEAR_HZ) & (away_hz <= AROUND_HZ)
        if near.any() and around.any():
            found += max(0.0, float(power[near].sum() - near.sum() * np.median(power[around]) / math.log(2)))
    return found
