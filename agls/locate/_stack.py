"""Finding where a burst comes from by stacking the delays between all pairs of sensors. Compiled.

Each shot of one place puts the same delay between two sensors. So the histogram of all delays between the picks of two
sensors has a peak at that delay, as high as shots were fired, whatever else is heard. Stacked over all pairs at the
delays that a place would cause, the place stands out, long before any single shot does:

    stack(place) = sum over pairs of (count near the place's delay - chance) / (1 + chance)
"""

import numpy as np

from agls.locate._kernels import Floats
from agls.locate._search import Bools, Ints, flight_s
from agls.locate.jit import kernel

ALIGN_SWEEPS = 6  # after which hardly a delay moves


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
def stack(
    x: float, y: float, z: float, c: float, u: float, v: float, px: Floats, py: Floats, pz: Floats, counts: Floats,
    chance: Floats, bin_s: float, half_bins: Floats, delay: Floats,
) -> float:  # fmt: skip
    """Stack the delays that one place would cause.

    Parameters
    ----------
    x, y, z : float
        The place [m].
    c, u, v : float
        Sound speed and velocity of the air [m/s].
    px, py, pz : numpy.ndarray, shape (m,)
        Sensors [m].
    counts, chance, bin_s
        As in `delay_histograms`.
    half_bins : numpy.ndarray, shape (pairs,)
        How many bins to either side count as near.
    delay : numpy.ndarray, shape (m,)
        Scratch.

    Returns
    -------
    float
        The stack.
    """
    bins = counts.shape[1] - 1
    middle = bins // 2
    for k in range(px.size):
        delay[k] = flight_s(px[k] - x, py[k] - y, pz[k] - z, c, u, v)
    pair = 0
    total = 0.0
    for i in range(px.size):
        for j in range(i + 1, px.size):
            at = int(np.floor((delay[j] - delay[i]) / bin_s + 0.5)) + middle
            half = int(half_bins[pair])
            low, high = max(at - half, 0), min(at + half + 1, bins)
            if high > low:
                expected = chance[pair] * (2 * half + 1)
                total += (counts[pair, high] - counts[pair, low] - expected) / (1.0 + expected)
            pair += 1
    return total


@kernel
def coarse_map(
    xs: Floats, ys: Floats, zs: Floats, c: float, u: float, v: float, px: Floats, py: Floats, pz: Floats,
    counts: Floats, chance: Floats, bin_s: float, half_bins: Floats, out: Floats,
) -> None:  # fmt: skip
    """Stack at many places.

    Parameters
    ----------
    xs, ys, zs : numpy.ndarray, shape (k,)
        The places [m].
    c, u, v, px, py, pz, counts, chance, bin_s, half_bins
        As in `stack`.
    out : numpy.ndarray, shape (k,)
        Receives the stacks.
    """
    delay = np.empty(px.size)
    for k in range(xs.size):
        out[k] = stack(xs[k], ys[k], zs[k], c, u, v, px, py, pz, counts, chance, bin_s, half_bins, delay)


@kernel
def climb(
    theta: Floats, step_m: float, step_m_s: float, px: Floats, py: Floats, pz: Floats, counts: Floats, chance: Floats,
    bin_s: float, half_bins: Floats, mean: Floats, precision: Floats,
) -> float:  # fmt: skip
    """Climb to the highest stack near a place, moving the air along within what is known of it.

    Parameters
    ----------
    theta : numpy.ndarray, shape (7,)
        Start, as in `agls.locate._kernels`; becomes the top.
    step_m, step_m_s : float
        First steps in place [m] and in the air [m/s]; halved until small.
    px, py, pz, counts, chance, bin_s, half_bins
        As in `stack`.
    mean, precision : numpy.ndarray, shape (7,)
        Prior means and inverse variances.

    Returns
    -------
    float
        The stack at the top, less what the air costs.
    """
    delay = np.empty(px.size)
    best = -np.inf
    order = np.array([0, 1, 4, 5, 6])
    trial = theta.copy()
    size, wind = step_m, step_m_s
    for _ in range(6):
        moved = True
        rounds = 0
        while moved and rounds < 12:
            moved = False
            rounds += 1
            for a in range(-1, order.size):
                for b in range(a, order.size):
                    for sign in range(4):
                        trial[:] = theta
                        for number, p in ((0, a), (1, b)):
                            if p >= 0 and (number == 0 or a != b):
                                side = 1.0 if (sign >> number) & 1 else -1.0
                                trial[order[p]] += side * (size if order[p] < 2 else wind)
                        value = stack(
                            trial[0], trial[1], trial[3], trial[4], trial[5], trial[6], px, py, pz, counts, chance,
                            bin_s, half_bins, delay,
                        )  # fmt: skip
                        for p in range(4, 7):
                            off = trial[p] - mean[p]
                            value -= 0.5 * precision[p] * off * off
                        if value > best + 1e-9:
                            best = value
                            theta[:] = trial
                            moved = True
        size *= 0.5
        wind *= 0.5
    return best


@kernel
def align(
    first: int, second: int, lag: int, counts: Floats, chance: Floats, longest: Ints, half: int, lags: Ints,
) -> float:  # fmt: skip
    """Find the delays of all sensors that go best with one delay between two of them, whatever place or air makes them.

    Sensors are added one by one, each at the delay that stacks up most with those before it; then each is looked at
    again beside all others, until none moves.

    Parameters
    ----------
    first, second : int
        Two sensors.
    lag : int
        Delay of the second after the first [bins].
    counts, chance
        As in `delay_histograms`.
    longest : numpy.ndarray, shape (m, m)
        The longest delay there can be between two sensors [bins].
    half : int
        How many bins to either side count as near.
    lags : numpy.ndarray, shape (m,)
        Receives the delays after the first sensor [bins].

    Returns
    -------
    float
        The stack.
    """
    m = lags.size
    known = np.zeros(m, dtype=np.bool_)
    heights = np.empty(counts.shape[1])
    lags[first], lags[second] = 0, lag
    known[first] = known[second] = True
    total = 0.0
    for sweep in range(ALIGN_SWEEPS):
        moved = False
        total = 0.0
        for k in range(m):
            if sweep == 0 and known[k]:
                continue
            known[k] = False
            at, height = _best_lag(k, lags, known, counts, chance, longest, half, heights)
            moved = moved or sweep == 0 or at != lags[k]
            lags[k] = at
            known[k] = True
            total += height
        if not moved:
            break
    return 0.5 * total


@kernel
def _best_lag(
    k: int, lags: Ints, known: Bools, counts: Floats, chance: Floats, longest: Ints, half: int, heights: Floats
) -> tuple[int, float]:
    """Find the delay at which a sensor's picks stack up most with those of others at theirs."""
    m = lags.size
    bins = counts.shape[1] - 1
    middle = bins // 2
    low, high = -(2**30), 2**30
    for j in range(m):
        if known[j]:
            low, high = max(low, lags[j] - longest[j, k]), min(high, lags[j] + longest[j, k])
    # Where some of the others contradict each other, nothing is possible beside all of them.
    if high < low:
        return lags[k], 0.0
    span = high - low + 1
    heights[:span] = 0.0
    for j in range(m):
        if not known[j]:
            continue
        i, o = min(j, k), max(j, k)
        row = i * (2 * m - i - 1) // 2 + o - i - 1
        expected = chance[row] * (2 * half + 1)
        for n in range(span):
            apart = low + n - lags[j]
            at = (apart if k == o else -apart) + middle
            a, b = max(at - half, 0), min(at + half + 1, bins)
            if b > a:
                heights[n] += (counts[row, b] - counts[row, a] - expected) / (1.0 + expected)
    best = int(np.argmax(heights[:span]))
    return low + best, heights[best]
