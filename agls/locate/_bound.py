"""What a shot could score at most, read from tables: hardly one triple in fifty is worth a vote. Compiled.

For each sensor and each short bin of time two things are noted: the most that a pick near such a due time can bring
(its weight less its distance), and how likely picks near it make the sensor deaf. Both are bounds from above, so what
they leave out, the vote of `agls.locate._search.match` would have left out too.
"""

import math

import numpy as np
from numpy.typing import NDArray

from agls.locate._kernels import Floats
from agls.locate.jit import kernel

Floats32 = NDArray[np.float32]
Bytes = NDArray[np.uint8]

CELLS = 1_000_000  # larger tables would cost more than they save, as so long a window holds few triples
WIDENING = 1.5  # from one level, whose table serves all widths up to its own, to the next
BINS = 2.0  # a bin is a level's standard deviation over so many
DEAFNESS = 16  # steps of how likely a sensor is deaf
LOG_ROOT_2PI = 0.9189385332046727
MARGIN = 1e-4  # far above rounding, far below anything that could matter


@kernel
def lay_out(t: Floats, sensors: int, least_s: float, most_s: float, gate: float, dead_s: float) -> Floats:
    """Lay tables out, from the narrowest level to the widest.

    Parameters
    ----------
    t : numpy.ndarray, shape (n,)
        Times of the picks [s].
    sensors : int
        How many sensors there are.
    least_s, most_s : float
        Least and largest standard deviation of an arrival that is asked for [s].
    gate : float
        A pick farther than so many of them from its due time is another sound's.
    dead_s : float
        A sensor is deaf so long after a pick [s].

    Returns
    -------
    numpy.ndarray, shape (levels + 1, 4)
        Of each level: the widest arrival it serves [s], when its first bin begins and how wide each is [s], and the
        number of bins before it; in the last row that of all. Only that row where the tables would be too large.
    """
    count = int(math.log(max(most_s / least_s, 1.0)) / math.log(WIDENING)) + 1
    out = np.zeros((count + 1, 4))
    first, last = t.min(), t.max()
    for level in range(count):
        wide_s = least_s * WIDENING ** (level + 1)
        bin_s = wide_s / BINS
        before = max(gate * wide_s, dead_s) + bin_s
        out[level, 0], out[level, 1], out[level, 2] = wide_s, first - before, bin_s
        out[level + 1, 3] = out[level, 3] + math.ceil((last - first + 2.0 * before) / bin_s)
    return out if out[count, 3] * sensors <= CELLS else np.zeros((1, 4))


@kernel
def fill(
    start: NDArray[np.int64], t: Floats, weight: Floats, used: NDArray[np.bool_], levels: Floats, gate: float,
    dead_s: float, best: Floats32, deaf: Bytes,
) -> None:  # fmt: skip
    """Note what each sensor could bring at each bin of time.

    Parameters
    ----------
    start, t, weight, used
        As in `agls.locate._search.match`.
    levels, gate, dead_s
        As in `lay_out`.
    best : numpy.ndarray, shape (m, bins)
        Receives the most that a free pick brings there, less what its width and being heard bring [nats].
    deaf : numpy.ndarray, shape (m, bins)
        Receives how likely the sensor is deaf there, in steps, rounded up.
    """
    best[:] = np.float32(-1e30)
    deaf[:] = np.uint8(0)
    for level in range(len(levels) - 1):
        wide_s, began, bin_s, offset = levels[level, 0], levels[level, 1], levels[level, 2], int(levels[level, 3])
        reach = gate * wide_s
        for k in range(start.size - 1):
            for q in range(start[k], start[k + 1]):
                first, last = int((t[q] - reach - began) / bin_s), int((t[q] + max(reach, dead_s) - began) / bin_s)
                for b in range(first, last + 1):
                    # By how much the pick comes after a sound due in the bin: least and most.
                    low, high = t[q] - (began + (b + 1) * bin_s), t[q] - (began + b * bin_s)
                    if not used[q]:
                        off = max(low, -high, 0.0) / wide_s
                        best[k, offset + b] = max(best[k, offset + b], np.float32(weight[q] - 0.5 * off * off))
                    likely = 0.5 * math.erfc(low / (math.sqrt(2.0) * wide_s)) if low > 0.0 else 1.0
                    step = 0 if high < -dead_s - MARGIN * bin_s else math.ceil(likely * DEAFNESS)
                    deaf[k, offset + b] = max(deaf[k, offset + b], np.uint8(step))


@kernel
def silences(log_miss: Floats, out: Floats) -> None:
    """Compute the most that hearing nothing can count, by distance and by how likely the sensor is deaf.

    Parameters
    ----------
    log_miss : numpy.ndarray, shape (rows,)
        Log-probabilities to miss a shot, by distance.
    out : numpy.ndarray, shape (rows, DEAFNESS + 1)
        Receives log-probabilities.
    """
    for row in range(log_miss.size):
        out[row, 0] = log_miss[row]
        for step in range(1, DEAFNESS + 1):
            masked = step / DEAFNESS
            out[row, step] = math.log(masked + (1.0 - masked) * math.exp(log_miss[row]))


@kernel
def at_most(
    theta: Floats, t0: float, least_s: float, most_s: float, px: Floats, py: Floats, pz: Floats, log_hit: Floats,
    silent: Floats, step_m: float, horizon: float, levels: Floats, best: Floats32, deaf: Bytes, due: Floats,
    away: Floats,
) -> float:  # fmt: skip
    """Bound the score of a shot from above.

    Parameters
    ----------
    theta : numpy.ndarray, shape (7,)
        Its place and the air, as in `agls.locate._kernels`.
    t0 : float
        Its origin time [s].
    least_s, most_s : float
        Least and largest standard deviation of an arrival [s].
    px, py, pz, log_hit, step_m, horizon
        As in `agls.locate._search.pattern` and `agls.locate._search.match`.
    silent : numpy.ndarray, shape (rows, DEAFNESS + 1)
        As made by `silences`.
    levels, best, deaf
        As in `lay_out` and `fill`.
    due, away : numpy.ndarray, shape (m,)
        Scratch.

    Returns
    -------
    float
        A bound [nats]; infinite where there is no table so wide.
    """
    level = 0
    while level < len(levels) - 1 and levels[level, 0] < most_s:
        level += 1
    if level == len(levels) - 1:
        return np.inf
    began, bin_s, offset = levels[level, 1], levels[level, 2], int(levels[level, 3])
    x, y, z, c, u, v = theta[0], theta[1], theta[3], theta[4], theta[5], theta[6]
    square = c * c - u * u - v * v
    for k in range(px.size):
        dx, dy, dz = px[k] - x, py[k] - y, pz[k] - z
        along, far = dx * u + dy * v, dx * dx + dy * dy + dz * dz
        due[k] = t0 + (math.sqrt(along * along + square * far) - along) / square
        away[k] = math.sqrt(far) / step_m
    narrow_nats = -LOG_ROOT_2PI - math.log(least_s)
    bins, per_s = levels[level + 1, 3] - offset, 1.0 / bin_s
    total = MARGIN
    for k in range(px.size):
        row = min(int(away[k]), log_hit.size - 1)
        place = (due[k] - began) * per_s
        value = silent[row, 0]
        if 0.0 <= place < bins:
            b = offset + int(place)
            value = max(silent[row, deaf[k, b]], log_hit[row] + narrow_nats + best[k, b])
        total += max(value, 0.0) if due[k] > horizon - MARGIN * bin_s else value
    return total
