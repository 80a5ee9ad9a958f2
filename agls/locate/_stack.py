"""Finding where a burst comes from by stacking the delays between all pairs of sensors. Compiled.

Each shot of one place puts the same delay between two sensors. So the histogram of all delays between the picks of two
sensors has a peak at that delay, as high as shots were fired, whatever else is heard. Peaks of one place go together:
the delay from a first sensor to a third is that to a second and on from there. Stacked over all pairs,

    stack(delays) = sum over pairs of (count near their delay - chance) / (1 + chance)

they stand out long before any single shot does, and in any air.
"""

import numpy as np

from agls.locate._kernels import Floats
from agls.locate._search import Bools, Ints
from agls.locate.jit import kernel

ALIGN_SWEEPS = 4  # after which hardly a delay moves


@kernel
def delay_histograms(
    start: Ints, t: Floats, used: Bools, longest: Floats, bin_s: float, bins: int, counts: Floats, chance: Floats
) -> int:
    """Count the delays between the picks of every two sensors, summed up from the left.

    Parameters
    ----------
    start : numpy.ndarray, shape (m + 1,)
        Where each sensor's picks begin.
    t : numpy.ndarray, shape (n,)
        Times, ascending within each sensor [s].
    used : numpy.ndarray, shape (n,)
        Picks to leave out.
    longest : numpy.ndarray, shape (m, m)
        The longest delay there can be between two sensors [s].
    bin_s : float
        Width of a bin [s].
    bins : int
        How many bins, the middle one at delay 0.
    counts : numpy.ndarray, shape (pairs, bins + 1)
        Receives the cumulative counts of each pair.
    chance : numpy.ndarray, shape (pairs,)
        Receives the mean count of a bin.

    Returns
    -------
    int
        The number of pairs.
    """
    pair = 0
    middle = bins // 2
    for i in range(start.size - 1):
        for j in range(i + 1, start.size - 1):
            row = counts[pair]
            row[:] = 0.0
            first = start[j]
            total = 0.0
            for p in range(start[i], start[i + 1]):
                if used[p]:
                    continue
                while first < start[j + 1] and t[first] < t[p] - longest[i, j]:
                    first += 1
                for q in range(first, start[j + 1]):
                    if t[q] > t[p] + longest[i, j]:
                        break
                    if used[q]:
                        continue
                    place = int(np.floor((t[q] - t[p]) / bin_s + 0.5)) + middle
                    if 0 <= place < bins:
                        row[place + 1] += 1.0
                        total += 1.0
            chance[pair] = total * bin_s / (2.0 * longest[i, j])
            for b in range(bins):
                row[b + 1] += row[b]
            pair += 1
    return pair


@kernel
def align(first: int, second: int, lag: int, near: Floats, longest: Ints, lags: Ints, heights: Floats) -> None:
    """Find the delays of all sensors that go best with one delay between two of them, whatever place or air makes them.

    Sensors are added one by one, each at the delay that stacks up most with those before it; then each is looked at
    again beside all others, until none moves.

    Parameters
    ----------
    first, second : int
        Two sensors.
    lag : int
        Delay of the second after the first [bins].
    near : numpy.ndarray, shape (pairs, bins)
        What each pair adds to a stack at each delay, the middle bin at delay 0.
    longest : numpy.ndarray, shape (m, m)
        The longest delay there can be between two sensors [bins].
    lags : numpy.ndarray, shape (m,)
        Receives the delays after the first sensor [bins].
    heights : numpy.ndarray, shape (m,)
        Receives what the pairs of each sensor add to the stack.
    """
    m = lags.size
    known = np.zeros(m, dtype=np.bool_)
    sums = np.empty(near.shape[1])
    lags[first], lags[second] = 0, lag
    known[first] = known[second] = True
    for sweep in range(ALIGN_SWEEPS):
        moved = sweep == 0
        for k in range(m):
            if sweep == 0 and known[k]:
                continue
            known[k] = False
            at, heights[k] = _best_lag(k, lags, known, near, longest, sums)
            moved = moved or at != lags[k]
            lags[k] = at
            known[k] = True
        if not moved:
            return


@kernel
def _best_lag(k: int, lags: Ints, known: Bools, near: Floats, longest: Ints, sums: Floats) -> tuple[int, float]:
    """Find the delay at which a sensor's picks stack up most with those of others at theirs."""
    m = lags.size
    middle = near.shape[1] // 2
    low, high = -near.shape[1], near.shape[1]
    for j in range(m):
        if known[j]:
            low, high = max(low, lags[j] - longest[j, k]), min(high, lags[j] + longest[j, k])
    if high < low:
        return lags[k], 0.0  # some of the others contradict each other: nothing is possible beside all of them
    span = high - low + 1
    sums[:span] = 0.0
    for j in range(m):
        if not known[j]:
            continue
        i, o = min(j, k), max(j, k)
        row = near[i * (2 * m - i - 1) // 2 + o - i - 1]
        at = middle + (low - lags[j] if k == o else lags[j] - low)
        side = 1 if k == o else -1
        for n in range(span):
            sums[n] += row[at + side * n]
    best = int(np.argmax(sums[:span]))
    return low + best, sums[best]
