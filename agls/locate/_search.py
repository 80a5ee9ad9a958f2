"""Finding shots among many picks: proposals from near sensors, on which all sensors vote. Compiled.

Picks are arrays sorted by sensor, then by time; sensor k's are ``start[k]`` to ``start[k + 1]``. A place is known by
its *pattern*: the delay of each sensor after the origin time, and the standard deviation of that delay. A shot of that
place at t0 scores, summed over the sensors, a log-likelihood ratio against clutter:

    ln(P_detect N(t - t0 - delay) / density)   where a pick is near the predicted time,
    ln(1 - P_detect)                           where none is, though its sound has passed.

So agreement counts for less where sensors report much, and silence counts against.
"""

import math

import numpy as np
from numpy.typing import NDArray

from agls.locate import _bound
from agls.locate._kernels import PARAMETERS, REFERENCE_SPEED_M_S, Floats, refine, triple_roots
from agls.locate.jit import kernel

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

GATE = 4.0  # a pick farther than so many standard deviations from its due time is another sound's
TABLE = 256  # rows of the tables of hearing by distance: finer than hearing is known
NO_SCORE = -1e30  # below every score, and finite, so that it compares
DEAD_S = 0.02  # a sensor is deaf so long after a pick: onsets are not reported closer together
NATS_PER_SENSOR = (
    6.0  # what one sensor adds to a score at most: near ln(1 pick / (s * 4 s)), for a pick of milliseconds
)
ROUNDS = 4  # a shot and its picks have nearly always found each other after two
VOTES_KEPT = 3  # proposals of one anchor that are worth refining
NEAR_M = 10.0  # proposals nearer than this refine to the same place
# A shot is clear where so many sensors heard it, and so large a share of those that should have,
CLEAR_COUNT, CLEAR_SHARE = 6, 0.75
# and where no more than this share of its picks has a neighbour within so many standard deviations.
CROWD_SHARE, CROWD_SIGMAS = 0.3, 10.0
LOG_ROOT_2PI = 0.9189385332046727
LOG_HALF = -0.6931471805599453
PAYS = 4  # tables of what could be scored at most have paid for themselves after so many triples a pick


@kernel
def flight_s(dx: float, dy: float, dz: float, c: float, u: float, v: float) -> float:
    """Compute how long sound takes over a path in moving air (exact for uniform wind).

    Parameters
    ----------
    dx, dy, dz : float
        From source to sensor [m].
    c, u, v : float
        Sound speed, and velocity of the air [m/s].

    Returns
    -------
    float
        Time [s].
    """
    along = dx * u + dy * v
    square = c * c - u * u - v * v
    return float((math.sqrt(along * along + square * (dx * dx + dy * dy + dz * dz)) - along) / square)


@kernel
def first_after(t: Floats, low: int, high: int, moment: float) -> int:
    """Find the first of some ascending times that is not before a moment.

    Parameters
    ----------
    t : numpy.ndarray, shape (n,)
        Times, ascending between `low` and `high`.
    low, high : int
        Where to look.
    moment : float
        The moment.

    Returns
    -------
    int
        Its index, or `high`.
    """
    while low < high:
        middle = (low + high) // 2
        if t[middle] < moment:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def pattern(
    theta: Floats, px: Floats, py: Floats, pz: Floats, log_hit: Floats, log_miss: Floats, step_m: float,
    delay: Floats, hit: Floats, miss: Floats,
) -> None:  # fmt: skip
    """Predict a place's pattern, and how likely each sensor is to hear it.

    Parameters
    ----------
    theta : numpy.ndarray, shape (7,)
        The place and the air, as in `agls.locate._kernels`.
    px, py, pz : numpy.ndarray, shape (m,)
        Sensors [m].
    log_hit, log_miss : numpy.ndarray, shape (TABLE,)
        Log-probabilities to hear and to miss a shot, by distance in steps of `step_m`.
    step_m : float
        Step of these tables [m].
    delay, hit, miss : numpy.ndarray, shape (m,)
        Receive delays [s] and log-probabilities.
    """
    for k in range(px.size):
        dx, dy, dz = px[k] - theta[0], py[k] - theta[1], pz[k] - theta[3]
        delay[k] = flight_s(dx, dy, dz, theta[4], theta[5], theta[6])
        row = min(int(math.sqrt(dx * dx + dy * dy + dz * dz) / step_m), TABLE - 1)
        hit[k], miss[k] = log_hit[row], log_miss[row]


@kernel
def masking(gap: float, variance: float) -> float:
    """Say how likely a pick made its sensor deaf for a sound that was due.

    Parameters
    ----------
    gap : float
        How long after the sound was due the pick came [s].
    variance : float
        Of the time at which the sound was due [s2].

    Returns
    -------
    float
        Probability that the sound came after the pick, and no later than the sensor was deaf.
    """
    if gap < -DEAD_S:
        return 0.0
    return 0.5 * math.erfc(gap / math.sqrt(2.0 * variance))


@kernel
def silence(miss: float, masked: float) -> float:
    """Score hearing nothing of a sound where the sensor may have been deaf for the moment.

    Parameters
    ----------
    miss : float
        Log-probability to miss it otherwise.
    masked : float
        Probability that the sensor was deaf.

    Returns
    -------
    float
        Log-probability.
    """
    return miss if masked == 0.0 else math.log(masked + (1.0 - masked) * math.exp(miss))


@kernel
def match(
    t0: float, delay: Floats, sigma: Floats, hit: Floats, miss: Floats, start: Ints, t: Floats, s: Floats,
    weight: Floats, used: Bools, horizon: float, enough: float, members: Ints,
) -> float:  # fmt: skip
    """Score a shot of a known pattern, and say which picks it takes.

    Parameters
    ----------
    t0 : float
        Origin time [s].
    delay, sigma : numpy.ndarray, shape (m,)
        The pattern, and its standard deviation [s].
    hit, miss : numpy.ndarray, shape (m,)
        Log-probabilities of each sensor to hear and to miss it.
    start : numpy.ndarray, shape (m + 1,)
        Where each sensor's picks begin.
    t, s, weight : numpy.ndarray, shape (n,)
        Times [s], standard deviations [s], and -ln of the density of other picks [ln s].
    used : numpy.ndarray, shape (n,)
        Picks that belong to other shots already.
    horizon : float
        Until when all that was heard has come in [s].
    enough : float
        Give up once this score is out of reach.
    members : numpy.ndarray, shape (m,)
        Receives each sensor's pick, or -1.

    Returns
    -------
    float
        Log-likelihood ratio against clutter, or NO_SCORE once it gave up.
    """
    total = 0.0
    left = NATS_PER_SENSOR * delay.size
    for k in range(delay.size):
        due = t0 + delay[k]
        best, masked = NO_SCORE, 0.0
        members[k] = -1
        low, high = start[k], start[k + 1]
        if high > low:
            spread = sigma[k] * sigma[k]
            reach = GATE * math.sqrt(s[low] * s[low] + spread)
            for q in range(first_after(t, low, high, due - max(reach, DEAD_S)), high):
                gap = t[q] - due
                if gap > reach:
                    break
                variance = s[q] * s[q] + spread
                masked = max(masked, masking(gap, variance))
                if used[q] or gap < -reach:
                    continue
                gain = hit[k] + weight[q] - LOG_ROOT_2PI - 0.5 * (math.log(variance) + gap * gap / variance)
                if gain > best:
                    best = gain
                    members[k] = q
        value = silence(miss[k], masked) if due < horizon else 0.0
        if best > value:
            value = best
        else:
            members[k] = -1
        total += value
        left -= NATS_PER_SENSOR
        if total + left < enough:
            return NO_SCORE
    return total


@kernel
def gather(members: Ints, px: Floats, py: Floats, pz: Floats, t: Floats, s: Floats, path_s: float, out: Floats) -> int:
    """Copy a shot's arrivals together for the solver.

    Parameters
    ----------
    members : numpy.ndarray, shape (m,)
        Each sensor's pick, or -1.
    px, py, pz : numpy.ndarray, shape (m,)
        Sensors [m].
    t, s : numpy.ndarray, shape (n,)
        Picks' times and standard deviations [s].
    path_s : float
        Standard deviation of the path [s].
    out : numpy.ndarray, shape (5, m)
        Receives x, y, z, time and standard deviation of each arrival.

    Returns
    -------
    int
        How many arrivals there are.
    """
    n = 0
    for k in range(px.size):
        q = members[k]
        if q >= 0:
            out[0, n], out[1, n], out[2, n], out[3, n] = px[k], py[k], pz[k], t[q]
            out[4, n] = math.sqrt(s[q] * s[q] + path_s * path_s)
            n += 1
    return n


@kernel
def settle(
    theta: Floats, px: Floats, py: Floats, pz: Floats, log_hit: Floats, log_miss: Floats, step_m: float, start: Ints,
    t: Floats, s: Floats, weight: Floats, used: Bools, horizon: float, path_s: float, mean: Floats, precision: Floats,
    members: Ints,
) -> float:  # fmt: skip
    """Let a proposed shot and its picks find each other: refine, assign, repeat.

    Parameters
    ----------
    theta : numpy.ndarray, shape (7,)
        Start; becomes the refined shot.
    px, py, pz, log_hit, log_miss, step_m
        As in `pattern`.
    start, t, s, weight, used, horizon
        As in `match`.
    path_s : float
        Standard deviation of the path [s].
    mean, precision : numpy.ndarray, shape (7,)
        Prior means and inverse variances.
    members : numpy.ndarray, shape (m,)
        Picks to begin with; becomes those at the end.

    Returns
    -------
    float
        Log-likelihood ratio against clutter; NO_SCORE where fewer than three picks are left.
    """
    m = px.size
    delay, hit, miss = np.empty(m), np.empty(m), np.empty(m)
    sigma = np.full(m, path_s)
    rows = np.empty((5, m))
    weights, residuals = np.empty(m), np.empty(m)
    score = NO_SCORE
    for _ in range(ROUNDS):
        n = gather(members, px, py, pz, t, s, path_s, rows)
        if n < 3:
            return NO_SCORE
        refine(
            rows[0, :n], rows[1, :n], rows[2, :n], rows[3, :n], rows[4, :n], theta, mean, precision, GATE, PARAMETERS,
            weights[:n], residuals[:n],
        )  # fmt: skip
        pattern(theta, px, py, pz, log_hit, log_miss, step_m, delay, hit, miss)
        t0 = theta[2] / REFERENCE_SPEED_M_S
        now = match(t0, delay, sigma, hit, miss, start, t, s, weight, used, horizon, NO_SCORE, members)
        if now <= score + 1e-6:
            return now
        score = now
    return score


@kernel
def propose(
    anchors: Ints, px: Floats, py: Floats, pz: Floats, log_hit: Floats, log_miss: Floats, step_m: float, near: Ints,
    near_height: Floats, start: Ints, owner: Ints, t: Floats, s: Floats, weight: Floats, used: Bools, horizon: float,
    path_s: float, mean: Floats, precision: Floats, max_range: float, budget: int, fewest: int, longest: float,
    clear_nats: float, least_nats: float, thetas: Floats, members: Ints, scores: Floats, clear: Bools,
) -> None:  # fmt: skip
    """Find, for each of many picks, the best shot that was heard first there.

    Every pair of later picks at two of the nearest sensors makes a triple with the anchor; each root of a triple is
    voted on by all sensors; the best few are settled.

    Parameters
    ----------
    anchors : numpy.ndarray, shape (k,)
        The picks.
    px, py, pz, log_hit, log_miss, step_m
        As in `pattern`.
    near : numpy.ndarray, shape (m, j)
        Each sensor's nearest others, nearest first, -1 where there are none.
    near_height : numpy.ndarray, shape (m,)
        Prior mean of a source's height around each sensor [m].
    start, t, s, weight, used, horizon
        As in `match`.
    owner : numpy.ndarray, shape (n,)
        Each pick's sensor.
    path_s : float
        Standard deviation of the path [s].
    mean, precision : numpy.ndarray, shape (7,)
        Prior means and inverse variances.
    max_range : float
        How far from the anchor's sensor a shot may be [m].
    budget : int
        How many triples to try at each anchor.
    fewest : int
        Least number of picks of a shot.
    longest : float
        The longest time between the picks of one shot [s].
    clear_nats : float
        A shot that brings so much, and that nearly every sensor heard that should have, is clear: its picks are used
        up at once, and no later anchor has them.
    least_nats : float
        Where no shot can bring so much, none is looked for.
    thetas, members, scores, clear : numpy.ndarray, shape (k, 7), (k, m), (k,), (k,)
        Receive the shots, their picks, their log-likelihood ratios (NO_SCORE where there is none), and whether they
        are clear.
    """
    m = px.size
    delay, hit, miss, sigma = np.empty(m), np.empty(m), np.empty(m), np.empty(m)
    scratch = np.empty(m, dtype=np.int64)
    kept = np.empty((VOTES_KEPT, 4))
    local, trial = mean.copy(), mean.copy()
    least_s, most_s = s.min(), s.max()
    sharp_s = math.sqrt(least_s * least_s + path_s * path_s)
    levels = _bound.lay_out(
        t, m, *_widths(px, py, near, least_s, most_s, path_s, mean, precision), GATE, DEAD_S
    )  # fmt: skip
    ready, tried = False, 0
    best, deaf = np.empty((m, 0), dtype=np.float32), np.empty((m, 0), dtype=np.uint8)
    silent = np.empty((log_miss.size, _bound.DEAFNESS + 1))
    for i in range(anchors.size):
        scores[i], clear[i] = NO_SCORE, False
        anchor = anchors[i]
        if used[anchor] or _company(t[anchor], start, t, s, used, longest) < fewest:
            continue
        if _at_most(anchor, px, py, pz, log_hit, start, owner, t, weight, used, sharp_s, mean, precision) < least_nats:
            continue
        local[3] = near_height[owner[anchor]]
        for k in range(kept.shape[0]):
            kept[k, 3] = 0.0
        if not ready and len(levels) > 1 and tried > PAYS * t.size:
            ready, bins = True, int(levels[-1, 3])
            best, deaf = np.empty((m, bins), dtype=np.float32), np.empty((m, bins), dtype=np.uint8)
            _bound.fill(start, t, weight, used, levels, GATE, DEAD_S, best, deaf)
            _bound.silences(log_miss, silent)
        tried += _triples(
            anchor, px, py, pz, log_hit, log_miss, step_m, near, start, owner, t, s, weight, used, horizon, path_s,
            local, precision, max_range, budget, least_s, most_s, levels, best, deaf, silent, delay, hit, miss, sigma,
            scratch, kept,
        )  # fmt: skip
        for k in range(kept.shape[0]):
            if kept[k, 3] <= 0.0:
                break
            for p in range(PARAMETERS):
                trial[p] = local[p]
            trial[0], trial[1], trial[2] = kept[k, 0], kept[k, 1], kept[k, 2]
            pattern(trial, px, py, pz, log_hit, log_miss, step_m, delay, hit, miss)
            sigma[:] = 1.5 * math.sqrt(s[anchor] * s[anchor] + path_s * path_s)
            match(
                trial[2] / REFERENCE_SPEED_M_S, delay, sigma, hit, miss, start, t, s, weight, used, horizon, NO_SCORE,
                scratch,
            )  # fmt: skip
            score = settle(
                trial, px, py, pz, log_hit, log_miss, step_m, start, t, s, weight, used, horizon, path_s, local,
                precision, scratch,
            )  # fmt: skip
            if score > scores[i]:
                scores[i] = score
                thetas[i] = trial
                members[i] = scratch
        if scores[i] >= clear_nats:
            pattern(thetas[i], px, py, pz, log_hit, log_miss, step_m, delay, hit, miss)
            clear[i] = _nearly_all(members[i], delay, hit, thetas[i, 2] / REFERENCE_SPEED_M_S, horizon)
            clear[i] = clear[i] and not _crowded(members[i], start, t, s, path_s)
        if clear[i]:
            for k in range(m):
                if members[i, k] >= 0:
                    used[members[i, k]] = True


@kernel
def _at_most(
    anchor: int, px: Floats, py: Floats, pz: Floats, log_hit: Floats, start: Ints, owner: Ints, t: Floats,
    weight: Floats, used: Bools, sharp_s: float, mean: Floats, precision: Floats,
) -> float:  # fmt: skip
    """Say what a shot heard at the anchor brings at most: at each sensor the rarest pick it could have, in time."""
    a = owner[anchor]
    doubt = math.sqrt(1.0 / precision[4] + 1.0 / precision[5] + 1.0 / precision[6])
    slowest = mean[4] - math.hypot(mean[5], mean[6]) - 3.0 * doubt
    base = log_hit.max() - LOG_ROOT_2PI - math.log(sharp_s)
    total = 0.0
    for k in range(px.size):
        dx, dy, dz = px[k] - px[a], py[k] - py[a], pz[k] - pz[a]
        far = math.sqrt(dx * dx + dy * dy + dz * dz) / slowest + CROWD_SIGMAS * sharp_s
        rarest = NO_SCORE
        for q in range(first_after(t, start[k], start[k + 1], t[anchor] - far), start[k + 1]):
            if t[q] > t[anchor] + far:
                break
            if not used[q]:
                rarest = max(rarest, weight[q])
        total += max(base + rarest, 0.0)
    return total


@kernel
def _company(moment: float, start: Ints, t: Floats, s: Floats, used: Bools, longest: float) -> int:
    """Count the sensors that have a free pick at some time or soon after."""
    count = 0
    for k in range(start.size - 1):
        q = first_after(t, start[k], start[k + 1], moment - GATE * s[start[k]] if start[k] < start[k + 1] else 0.0)
        while q < start[k + 1] and used[q]:
            q += 1
        count += q < start[k + 1] and t[q] <= moment + longest
    return count


@kernel
def _crowded(members: Ints, start: Ints, t: Floats, s: Floats, path_s: float) -> bool:
    """Say whether many of a shot's picks have a neighbour that could be meant instead."""
    count, doubtful = 0, 0
    for k in range(members.size):
        q = members[k]
        if q >= 0:
            count += 1
            near = CROWD_SIGMAS * math.sqrt(s[q] * s[q] + path_s * path_s)
            before = q > start[k] and t[q] - t[q - 1] < near
            doubtful += before or (q + 1 < start[k + 1] and t[q + 1] - t[q] < near)
    return doubtful > CROWD_SHARE * count


@kernel
def _nearly_all(members: Ints, delay: Floats, hit: Floats, t0: float, horizon: float) -> bool:
    """Say whether nearly every sensor that should have heard a shot did."""
    due, heard = 0, 0
    for k in range(members.size):
        if hit[k] > LOG_HALF and t0 + delay[k] < horizon:
            due += 1
            heard += members[k] >= 0
    return heard >= CLEAR_COUNT and heard >= CLEAR_SHARE * due


@kernel
def _triples(
    anchor: int, px: Floats, py: Floats, pz: Floats, log_hit: Floats, log_miss: Floats, step_m: float, near: Ints,
    start: Ints, owner: Ints, t: Floats, s: Floats, weight: Floats, used: Bools, horizon: float, path_s: float,
    mean: Floats, precision: Floats, max_range: float, budget: int, least_s: float, most_s: float, levels: Floats,
    best: _bound.Floats32, deaf: _bound.Bytes, silent: Floats, delay: Floats, hit: Floats, miss: Floats,
    sigma: Floats, scratch: Ints, kept: Floats,
) -> int:  # fmt: skip
    """Vote on the roots of triples of one anchor, nearest sensors first, and keep the best few; count the triples."""
    a = owner[anchor]
    c, u, v = mean[4], mean[5], mean[6]
    doubt = math.sqrt(1.0 / precision[4] + 1.0 / precision[5] + 1.0 / precision[6]) / c
    slack = GATE * math.sqrt(s[anchor] * s[anchor] + path_s * path_s)
    tx, ty, th, tt = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    corner = np.array([0, 1, 2])
    roots = np.empty((2, 3))
    trial = mean.copy()
    tx[0], ty[0], th[0], tt[0] = px[a], py[a], pz[a] - mean[3], t[anchor]
    count = 0
    for two in range(1, near.shape[1]):
        k = near[a, two]
        if k < 0:
            break
        last_k = t[anchor] + math.hypot(px[k] - px[a], py[k] - py[a]) / (c * (1.0 - 3.0 * doubt)) + slack
        first_k = first_after(t, start[k], start[k + 1], t[anchor] - slack)
        for one in range(two):
            j = near[a, one]
            last_j = t[anchor] + math.hypot(px[j] - px[a], py[j] - py[a]) / (c * (1.0 - 3.0 * doubt)) + slack
            apart = math.hypot(px[j] - px[k], py[j] - py[k]) / (c * (1.0 - 3.0 * doubt)) + slack
            for p in range(first_after(t, start[j], start[j + 1], t[anchor] - slack), start[j + 1]):
                if t[p] > last_j:
                    break
                if used[p]:
                    continue
                for q in range(first_k, start[k + 1]):
                    if t[q] > last_k:
                        break
                    if used[q] or abs(t[q] - t[p]) > apart:
                        continue
                    count += 1
                    dj, dk = t[p] - t[anchor], t[q] - t[anchor]
                    wide = 1.2 * slack / GATE + 0.5 * doubt * (dj + dk)
                    # In the frame that moves with the air all is still.
                    tx[1], ty[1], th[1], tt[1] = px[j] - u * dj, py[j] - v * dj, pz[j] - mean[3], t[p]
                    tx[2], ty[2], th[2], tt[2] = px[k] - u * dk, py[k] - v * dk, pz[k] - mean[3], t[q]
                    for r in range(triple_roots(tx, ty, th, tt, c, corner, roots)):
                        early = roots[r, 2] - t[anchor]
                        trial[0], trial[1] = roots[r, 0] + u * early, roots[r, 1] + v * early
                        if math.hypot(trial[0] - px[a], trial[1] - py[a]) > max_range:
                            continue
                        if best.shape[1] > 0 and kept[kept.shape[0] - 1, 3] >= _bound.at_most(
                            trial, roots[r, 2], math.sqrt(least_s * least_s + wide * wide),
                            math.sqrt(most_s * most_s + wide * wide), px, py, pz, log_hit, silent, step_m, horizon,
                            levels, best, deaf, delay, hit,
                        ):  # fmt: skip
                            continue
                        pattern(trial, px, py, pz, log_hit, log_miss, step_m, delay, hit, miss)
                        sigma[:] = wide
                        score = match(
                            roots[r, 2], delay, sigma, hit, miss, start, t, s, weight, used, horizon,
                            kept[kept.shape[0] - 1, 3], scratch,
                        )  # fmt: skip
                        if score > kept[kept.shape[0] - 1, 3]:
                            _insert(kept, trial[0], trial[1], roots[r, 2] * REFERENCE_SPEED_M_S, score)
        if count > budget:
            break
    return count


@kernel
def _widths(
    px: Floats, py: Floats, near: Ints, least_s: float, most_s: float, path_s: float, mean: Floats, precision: Floats
) -> tuple[float, float]:
    """Say between what standard deviations arrivals are asked for, as `_triples` does."""
    far = 0.0
    for k in range(near.shape[0]):
        for j in near[k]:
            if j >= 0:
                far = max(far, math.hypot(px[k] - px[j], py[k] - py[j]))
    c = mean[4]
    doubt = math.sqrt(1.0 / precision[4] + 1.0 / precision[5] + 1.0 / precision[6]) / c
    sharp, blunt = math.sqrt(least_s * least_s + path_s * path_s), math.sqrt(most_s * most_s + path_s * path_s)
    widest = 1.2 * blunt + doubt * (far / (c * (1.0 - 3.0 * doubt)) + GATE * blunt)
    return math.sqrt(least_s * least_s + 1.44 * sharp * sharp), math.sqrt(most_s * most_s + widest * widest)


@kernel
def _insert(kept: Floats, x: float, y: float, b: float, score: float) -> None:
    """Put a proposal into the sorted list, in the place of a near one where there is one."""
    place = kept.shape[0] - 1
    for k in range(kept.shape[0]):
        if kept[k, 3] > 0.0 and abs(kept[k, 0] - x) + abs(kept[k, 1] - y) < NEAR_M:
            if kept[k, 3] >= score:
                return
            place = k
            break
    while place > 0 and kept[place - 1, 3] < score:
        kept[place] = kept[place - 1]
        place -= 1
    kept[place, 0], kept[place, 1], kept[place, 2], kept[place, 3] = x, y, b, score
