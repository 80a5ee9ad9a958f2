"""The pulse per second on a second audio channel: at which sample each rises, to a fraction.

No kernel, bus or scheduler lies in its way, so it is the best clock there is: what hears the pulse hears the shot. A
sound card's input lets only the edge through, which is all that is needed: the sample at
which it crosses half its height.
"""

import math

import numpy as np
from numpy.typing import NDArray

ABOVE_NOISE = 8.0  # an edge stands so many times above the noise before it
LEAST = 0.02  # and above this share of full scale
RISE_S = 1e-4  # within which it has risen
APART_S = 0.5  # between edges
EDGE_SIGMA = 0.012  # of a crossing interpolated between two samples, in samples, without noise
INTERPOLATED = math.sqrt(2 / 3)  # of the noise of two samples is left between them, on average


class PulseFinder:
    """Find the rising edges of pulses in a stream.

    Parameters
    ----------
    rate_hz : float
        Sampling rate.
    """

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._rise = max(2, math.ceil(RISE_S * rate_hz))
        self._tail = np.zeros(0, np.float32)
        self._tail_index = 0
        self._last = -math.inf

    def restart(self) -> None:
        """Forget what came before: samples are missing."""
        self._tail = np.zeros(0, np.float32)
        self._last = -math.inf

    def feed(self, samples: NDArray[np.float32], first_index: int) -> list[tuple[float, float]]:
        """Hear the samples that follow.

        Parameters
        ----------
        samples : numpy.ndarray, shape (frames,), float32
            Of the channel with the pulse.
        first_index : int
            Index of the first.

        Returns
        -------
        list of tuple of float
            Where each edge crosses half its height [samples], and one standard deviation of that [samples].
        """
        if not self._tail.size:
            self._tail_index = first_index
        heard = np.concatenate([self._tail, samples])
        begin, self._tail = self._tail_index, heard[-3 * self._rise :]
        self._tail_index = begin + heard.size - self._tail.size
        if heard.size <= 3 * self._rise:
            return []
        # A block without a step is told by its range alone, which is quick.
        if float(heard.max()) - float(heard[0]) < LEAST:
            return []
        return self._edges(heard, begin)

    def _edges(self, heard: NDArray[np.float32], begin: int) -> list[tuple[float, float]]:
        steps = heard[self._rise :] - heard[: -self._rise]
        noise = 1.4826 * float(np.median(np.abs(steps))) / math.sqrt(2)
        found = []
        high = steps > max(ABOVE_NOISE * noise, LEAST)
        for where in np.flatnonzero(high[1:] & ~high[:-1]).tolist():
            if where + 3 * self._rise >= heard.size or begin + where - self._last < APART_S * self._rate_hz:
                continue
            at, sigma = _crossing(heard[where : where + 3 * self._rise], noise)
            self._last = begin + where
            found.append((begin + where + at, sigma))
        return found


def _crossing(edge: NDArray[np.float32], noise: float) -> tuple[float, float]:
    """Find where an edge crosses half its height, and how sure that is, in samples."""
    half = float(edge[: edge.size // 4].mean() + edge[-edge.size // 3 :].mean()) / 2
    k = max(1, int(np.argmax(edge >= half)))
    slope = float(edge[k] - edge[k - 1])
    if slope <= 0:
        return float(k), 0.5
    return k - 1 + (half - float(edge[k - 1])) / slope, math.hypot(INTERPOLATED * noise / slope, EDGE_SIGMA)
