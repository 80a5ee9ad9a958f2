"""Wave: whether a front is a bullet's N-wave or a muzzle blast, told by the first two thirds of a millisecond.

An N-wave goes up at once, evenly down through zero in a fifth to half a millisecond, and up at once again; a blast goes
up once, and falls. Both are drawn as they would come through the picker's own band, dulled more or less by the air, and
with the bounce off the ground when it may come; the one that leaves less of what was heard unexplained is meant, if it
leaves two fifths of what the other does, and little. Else they are not told apart, nor at rates at which an N is four
samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from agls.messages import Wave

Floats = NDArray[np.float64]

LEAST_RATE_HZ = 24_000.0
BEFORE_S, AFTER_S = 1e-4, 6.5e-4
BLASTS_S = (2e-4, 3e-4, 4.5e-4, 7e-4, 1.2e-3)  # positive phase
SHOCKS_S = (1.5e-4, 2e-4, 2.5e-4, 3.2e-4, 4e-4, 5e-4)  # from shock to shock
DULLED_S = (0.0, 3e-5, 7e-5)
BOUNCES_S = (1.5e-4, 2.5e-4, 3.5e-4, 4.5e-4, 5.5e-4)
SHIFTS = (-0.7, 0.0, 0.7)
FINER, LENGTH_S = 8, 0.04
MOST_LEFT, LEFT_SHARE = 0.15, 0.4


@dataclass(frozen=True, slots=True, eq=False)
class Fronts:
    """What fronts look like at a rate, through a band; empty at rates at which they look alike.

    Attributes
    ----------
    blasts, shocks : numpy.ndarray, shape (waves, frames, 2)
        Orthonormal pairs that span a front and its bounce.
    """

    blasts: Floats
    shocks: Floats


def judge_wave(heard: Floats, fronts: Fronts) -> Wave:
    """Tell an N-wave from a blast.

    Parameters
    ----------
    heard : numpy.ndarray, shape (frames,), float64
        The band-passed signal from `BEFORE_S` before the arrival on.
    fronts : Fronts
        What it may look like.

    Returns
    -------
    Wave
        ``shock``, ``muzzle`` or ``unknown``.
    """
    if heard.size != fronts.blasts.shape[1] or not heard.any():
        return "unknown"
    blast, shock = (_unexplained(heard, some) for some in (fronts.blasts, fronts.shocks))
    if min(blast, shock) > MOST_LEFT or LEFT_SHARE * max(blast, shock) < min(blast, shock):
        return "unknown"
    return "shock" if shock < blast else "muzzle"


def _unexplained(heard: Floats, drawn: Floats) -> float:
    """Say what share of the energy the best of the waves leaves."""
    explained = (np.einsum("f,wfk->wk", heard, drawn) ** 2).sum(axis=1).max()
    return max(0.0, 1.0 - float(explained / (heard @ heard)))


@lru_cache(maxsize=4)
def draw_fronts(rate_hz: float, taps: bytes) -> Fronts:
    """Draw blasts and N-waves as they come through a band, each with a bounce off the ground.

    Parameters
    ----------
    rate_hz : float
        Sampling rate.
    taps : bytes
        The band filter's impulse response, as bytes of float64.

    Returns
    -------
    Fronts
        Of `BEFORE_S` and `AFTER_S`.
    """
    if rate_hz < LEAST_RATE_HZ:
        return Fronts(np.zeros((0, 0, 2)), np.zeros((0, 0, 2)))
    time_s = np.arange(round(LENGTH_S * rate_hz) * FINER) / (rate_hz * FINER)
    through = np.fft.rfft(np.frombuffer(taps), time_s.size // FINER)
    blasts = [(1 - time_s / tau_s) * np.exp(-time_s / tau_s) for tau_s in BLASTS_S]
    shocks = [np.where(time_s < length_s, 1 - 2 * time_s / length_s, 0.0) for length_s in SHOCKS_S]
    return Fronts(*(np.linalg.qr(np.stack(list(_pairs(some, through, rate_hz)))).Q for some in (blasts, shocks)))


def _pairs(waves: list[Floats], through: NDArray[np.complex128], rate_hz: float) -> Iterator[Floats]:
    """Dull and shift each wave, and hand it over beside its bounce."""
    hertz = np.arange(through.size) * (rate_hz / (2 * (through.size - 1)))
    later_s = np.array([0.0, *BOUNCES_S])[:, None]
    for wave, dulled_s, shift in product(waves, DULLED_S, SHIFTS):
        spectrum = np.fft.rfft(wave)[: through.size] * through * np.exp(-((2 * np.pi * hertz * dulled_s) ** 2) / 2)
        turned = spectrum * np.exp(-2j * np.pi * hertz * (BEFORE_S + shift / rate_hz + later_s))
        direct, *bounces = np.fft.irfft(turned)[:, : round((BEFORE_S + AFTER_S) * rate_hz)]
        yield from (np.stack([direct, bounce], axis=1) for bounce in bounces)
