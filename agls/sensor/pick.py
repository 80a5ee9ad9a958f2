"""Pick: when a sound arrived, given that one did, to a fraction of a sample, and how sure that is.

1. *Coarse.* The sample where the energy ratio times the amplitude is largest (the modified energy ratio): robust, but
   only to about a millisecond.
2. *First.* From there back over all that is loud without a pause, to where the sound first left the noise.
3. *Fine.* From there up to the first peak, whatever the bounce off the ground adds a millisecond later, and half way
   down its front again, between samples. Half of its front: air dulls a front evenly on both sides of where it would
   stand, so that is what distance leaves in its place; and a clipped peak has its front all the same.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ENERGY_S = 0.002
QUIET_S = 0.0007
THRESHOLD_SIGMAS = 4.5
THRESHOLD_PEAK_SHARE = (0.2, 0.8)
# A front is looked at on a grid at least so fine: between samples 83 us apart a straight line is wrong by a fifth.
FINE_HZ = 48_000
FRONT_BEFORE_S, FRONT_AFTER_S = 4e-4, 8e-4
# Behind the first peak the sound has fallen to this share of it.
FALLEN_SHARE = 0.7
# A blast falls as soon as it has risen, the more so without its low tones: half of its front is 0.7 of its first peak.
HALF_SHARE, LOW_SHARE = 0.7, 0.35
SILENCE = 1e-12
# Half a step of 24 bits: what a silent file is taken to hold.
QUIETEST = 6e-8

# What noise does to a pick is its share of the front's slope, less as far as it is slow and lifts foot and peak alike.
SLOW_NOISE = 0.6
# Nobody knows how the air shaped a front: half of it is where it would stand within this share of the rise seen, and
# what a microphone's own upper limit delays (14 us at 16 kHz) is half known.
SHAPE_SHARE, DEVICE_S = 0.12, 4e-6
# A front that is not clear of the noise may be a swell of it, anywhere in the 8 ms searched: that is so often true
# below this ratio, and ten times less for each decibel above (bench/picks.py).
LOST_S, CLEAR_DB, DECADE_DB = 2.3e-3, 14.0, 1.0


@dataclass(frozen=True, slots=True)
class Pick:
    """Where a sound left the noise, before it is known whether it counts.

    Attributes
    ----------
    index : float
        Sample index of the first arrival.
    sigma_s : float
        One standard deviation of that [s].
    peak : float
        Largest band-passed amplitude within 5 ms, full scale 1.
    noise : float
        Root mean square of the band-passed signal in the 30 ms before.
    """

    index: float
    sigma_s: float
    peak: float
    noise: float

    @property
    def snr_db(self) -> float:
        """Compare the peak with the noise.

        Returns
        -------
        float
            Peak over noise [dB].
        """
        return 20 * float(np.log10(max(self.peak, SILENCE) / max(self.noise, SILENCE)))


def pick(near: Floats, before: Floats, rate_hz: float) -> Pick:
    """Find the first arrival in a stretch that holds one.

    Parameters
    ----------
    near : numpy.ndarray, shape (frames,), float64
        The band-passed signal around a rise of energy.
    before : numpy.ndarray, shape (earlier,), float64
        What came before that.
    rate_hz : float
        Sampling rate.

    Returns
    -------
    Pick
        The arrival, counted from the first sample of `near`, the peak it leads to and the noise it leaves.
    """
    noise = max(float(np.sqrt(np.mean(before**2))) if before.size else 0.0, QUIETEST)
    size = np.abs(near)
    peak = float(size.max())
    low, high = THRESHOLD_PEAK_SHARE
    threshold = float(np.clip(THRESHOLD_SIGMAS * noise, low * peak, high * peak))
    first = _first(size, threshold, _coarse(size, round(ENERGY_S * rate_hz), noise), round(QUIET_S * rate_hz))
    index, rise_s, front = _half_way(near, first, rate_hz)
    return Pick(index, _sigma_s(rise_s, front / noise), peak, noise)


def _sigma_s(rise_s: float, clear: float) -> float:
    """Say how far off a front may be that takes so long from a third to two thirds, so many times above the noise."""
    slope_s = rise_s / (HALF_SHARE - LOW_SHARE)
    lost_s = LOST_S * min(1.0, 10 ** ((CLEAR_DB - 20 * np.log10(max(clear, SILENCE))) / DECADE_DB))
    parts_s = (SLOW_NOISE * slope_s / clear, SHAPE_SHARE * rise_s, DEVICE_S, lost_s)
    return min(float(np.linalg.norm(parts_s)), LOST_S)


def _coarse(size: Floats, span: int, noise: float) -> int:
    """Find the sample where energy ratio times amplitude is largest (modified energy ratio)."""
    total = np.concatenate(([0.0], np.cumsum(size**2)))
    here = np.arange(size.size)
    after = total[np.minimum(here + span, size.size)] - total[here]
    lead = total[here] - total[np.maximum(here - span, 0)] + np.maximum(span - here, 0) * noise**2
    return int(np.argmax(after / (lead + span * 1e-3 * noise**2) * size))


def _first(size: Floats, threshold: float, near: int, quiet: int) -> int:
    """Go back from a sample over all that is loud without a pause; on, where nothing was loud yet."""
    loud = np.flatnonzero(size >= threshold)
    reached = loud[: max(1, int(np.searchsorted(loud, near, side="right")))]
    pauses = np.flatnonzero(np.diff(reached) > quiet)
    return int(reached[pauses[-1] + 1] if pauses.size else reached[0])


def _half_way(near: Floats, first: int, rate_hz: float) -> tuple[float, float, float]:
    """Find where the front that begins at a sample is half way up, how long it rises there [s], and its first peak."""
    start = max(0, first - round(FRONT_BEFORE_S * rate_hz))
    finer = max(1, int(np.ceil(FINE_HZ / rate_hz)))
    front = _refined(near[start : first + round(FRONT_AFTER_S * rate_hz) + 2], finer)
    above = (first - start) * finer
    front = front if front[above] >= 0 else -front
    highest = np.maximum.accumulate(front[above:])
    fallen = np.flatnonzero(front[above:] < FALLEN_SHARE * highest)
    top = above + int(np.argmax(front[above : above + int(fallen[0])] if fallen.size else front[above:]))
    low, half = (_crossing(front[: top + 1], share * front[top]) for share in (LOW_SHARE, HALF_SHARE))
    return start + half / finer, (half - low) / finer / rate_hz, max(float(front[top]), SILENCE)


def _refined(samples: Floats, finer: int) -> Floats:
    """Put samples on a grid that is finer by a whole factor, band-limited, mirrored at the ends."""
    if finer == 1:
        return samples
    mirrored = np.concatenate((samples, samples[-2:0:-1]))
    return np.fft.irfft(np.fft.rfft(mirrored), mirrored.size * finer)[: (samples.size - 1) * finer + 1] * finer


def _crossing(rising: Floats, level: float) -> float:
    """Find where a front that ends above a level was last below it, between samples; 0 if nowhere."""
    below = np.flatnonzero(rising < level)
    if not below.size:
        return 0.0
    last = int(below[-1])
    return last + float((level - rising[last]) / max(rising[last + 1] - rising[last], SILENCE))
