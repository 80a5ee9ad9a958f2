"""Line up a sound between recorders by phase correlation in a band.

A bird's call has no onset worth picking, but the same call reaches every recorder, and the phases in its band tell
how much later. The cross-spectrum of two recorders is whitened inside the band, so that a loud tone counts no more than
a faint one, and turned back into a correlation over the delay; its peak is the delay.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

BAND_HZ = (5_000.0, 9_000.0)

Samples: TypeAlias = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Delay:
    """How much later a sound reached one recorder than another.

    Attributes
    ----------
    delay_s : float
        Positive where it came later [s].
    strength : float
        Height of the correlation's peak over its root mean square within the delays allowed.
    """

    delay_s: float
    strength: float


def correlate(
    reference: Samples,
    other: Samples,
    sample_rate_hz: float,
    max_delay_s: float,
    band_hz: tuple[float, float] = BAND_HZ,
) -> Delay:
    """Find the delay between two recordings of one sound.

    Parameters
    ----------
    reference, other : numpy.ndarray, shape (frames,)
        What two recorders heard over the same window of time.
    sample_rate_hz : float
        Of both [Hz].
    max_delay_s : float
        Greatest delay to consider, either way [s].
    band_hz : tuple of float
        Lower and upper edge of the band [Hz].

    Returns
    -------
    Delay
        Of `other` against `reference`, to a fraction of a sample.

    Raises
    ------
    ValueError
        If the windows differ in length or the band is above half the sampling rate.

    References
    ----------
    Knapp and Carter, "The generalized correlation method for estimation of time delay", IEEE Transactions on
    Acoustics, Speech, and Signal Processing 24(4), 1976 (the phase transform).
    """
    if reference.shape != other.shape or reference.ndim != 1:
        raise ValueError(f"windows must be of one length, not {reference.shape} and {other.shape}")
    if not 0 <= band_hz[0] < band_hz[1] <= sample_rate_hz / 2:
        raise ValueError(f"band {band_hz} Hz must rise and end at or below {sample_rate_hz / 2} Hz")
    # Twice the length keeps the ends of the windows from meeting; four times as fine resolves the peak.
    size = 2 * len(reference)
    cross = np.fft.rfft(other, size) * np.conj(np.fft.rfft(reference, size))
    frequency_hz = np.fft.rfftfreq(size, 1 / sample_rate_hz)
    inside = (frequency_hz >= band_hz[0]) & (frequency_hz <= band_hz[1])
    white = np.where(inside, cross / np.maximum(np.abs(cross), np.finfo(float).tiny), 0)
    fine = 4
    correlation = np.roll(np.fft.irfft(white, fine * size), fine * size // 2)
    delay_s = (np.arange(fine * size) - fine * size // 2) / (fine * sample_rate_hz)
    allowed = np.abs(delay_s) <= max_delay_s
    return _peak(correlation[allowed], delay_s[allowed])


def _peak(correlation: NDArray[np.float64], delay_s: NDArray[np.float64]) -> Delay:
    """Find the highest point, refined by the parabola through it and its neighbours."""
    top = int(np.argmax(correlation))
    rms = float(np.sqrt(np.mean(correlation**2)))
    strength = float(correlation[top]) / rms if rms > 0 else 0.0
    if not 0 < top < len(correlation) - 1:
        return Delay(float(delay_s[top]), strength)
    before, here, after = correlation[top - 1 : top + 2]
    bend = before - 2 * here + after
    shift = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return Delay(float(delay_s[top] + shift * (delay_s[1] - delay_s[0])), strength)


def loudest_s(samples: Samples, sample_rate_hz: float, band_hz: tuple[float, float] = BAND_HZ) -> float:
    """Find the middle of a call's loudest part.

    Parameters
    ----------
    samples : numpy.ndarray, shape (frames,)
        What a recorder heard.
    sample_rate_hz : float
        Its sampling rate [Hz].
    band_hz : tuple of float
        Lower and upper edge of the band [Hz].

    Returns
    -------
    float
        Since the first sample [s].
    """
    spectrum = np.fft.fft(samples)
    frequency_hz = np.fft.fftfreq(len(samples), 1 / sample_rate_hz)
    # Positive frequencies alone give the analytic signal, whose magnitude is the envelope.
    inside = (frequency_hz >= band_hz[0]) & (frequency_hz <= band_hz[1])
    power = np.abs(np.fft.ifft(np.where(inside, spectrum, 0))) ** 2
    width = max(1, round(0.01 * sample_rate_hz))
    smooth = np.convolve(power, np.ones(width) / width, mode="same")
    return float(np.argmax(smooth)) / sample_rate_hz
