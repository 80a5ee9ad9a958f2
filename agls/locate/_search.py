"""Finding shots among many picks: proposals from near sensors, votes of all, the shots of a place together. Compiled.

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

from agls.locate._kernels import PARAMETERS, REFERENCE_SPEED_M_S, Floats, refine, triple_roots
from agls.locate.jit import kernel

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

GATE = 4.0
LOG_ROOT_2PI = 0.9189385332046727
TABLE = 256
NO_SCORE = -1e30
DEAD_S = 0.02
LOG_HALF = -0.6931471805599453
CLEAR_COUNT, CLEAR_SHARE, CROWD_SIGMAS, CROWD_SHARE = 6, 0.75, 10.0, 0.3
# So soon after a shot, from about its place and heard by so many fewer sensors, comes the echo of a near wall.
WALL_S, WALL_SHARE = 0.15, 0.8
LOG_MISS_LIKE = -3.0  # of a sensor that heard a like shot: it misses one in twenty


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
    left = 6.0 * delay.size  # no sensor adds more than about six nats
    for k in range(delay.size):
        due = t0 + delay[k]
        value = miss[k] if due < horizon else 0.0
        members[k] = -1
        low, high = start[k], start[k + 1]
        if high > low:
            spread = sigma[k] * sigma[k]
            reach = GATE * math.sqrt(s[low] * s[low] + spread)
            for q in range(first_after(t, low, high, due - reach), high):
                if t[q] > due + reach:
                    break
                if used[q]:
                    continue
                variance = s[q] * s[q] + spread
                gap = t[q] - due
                gain = hit[k] + weight[q] - LOG_ROOT_2PI - 0.5 * (math.log(variance) + gap * gap / variance)
                if gain > value:
                    value = gain
                    members[k] = q
            if members[k] < 0 and value < 0.0:
                # A sensor that has just reported something else is deaf for a moment: its silence says nothing.
                q = first_after(t, low, high, due - DEAD_S)
                if q < high and t[q] < due + reach:
                    value = 0.0
        total += value
        left -= 6.0
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
    for _ in range(4):
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
    clear_nats: float, thetas: Floats, members: Ints, scores: Floats, clear: Bools,
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
    thetas, members, scores, clear : numpy.ndarray, shape (k, 7), (k, m), (k,), (k,)
        Receive the shots, their picks, their log-likelihood ratios (NO_SCORE where there is none), and whether they
        are clear.
    """
    m = px.size
    delay, hit, miss, sigma = np.empty(m), np.empty(m), np.empty(m), np.empty(m)
    scratch = np.empty(m, dtype=np.int64)
    kept = np.empty((3, 4))
    local, trial = mean.copy(), mean.copy()
    for i in range(anchors.size):
        scores[i], clear[i] = NO_SCORE, False
        anchor = anchors[i]
        if used[anchor] or _company(t[anchor], start, t, s, used, longest) < fewest:
            continue
        local[3] = near_height[owner[anchor]]
        for k in range(kept.shape[0]):
            kept[k, 3] = 0.0
        _triples(
            anchor, px, py, pz, log_hit, log_miss, step_m, near, start, owner, t, s, weight, used, horizon, path_s,
            local, precision, max_range, budget, delay, hit, miss, sigma, scratch, kept,
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
    mean: Floats, precision: Floats, max_range: float, budget: int, delay: Floats, hit: Floats, miss: Floats,
    sigma: Floats, scratch: Ints, kept: Floats,
) -> None:  # fmt: skip
    """Vote on the roots of triples of one anchor, nearest sensors first, and keep the best few."""
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
            return
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
                    # In the frame that moves with the air all is still.
                    tx[1], ty[1], th[1], tt[1] = px[j] - u * dj, py[j] - v * dj, pz[j] - mean[3], t[p]
                    tx[2], ty[2], th[2], tt[2] = px[k] - u * dk, py[k] - v * dk, pz[k] - mean[3], t[q]
                    for r in range(triple_roots(tx, ty, th, tt, c, corner, roots)):
                        early = roots[r, 2] - t[anchor]
                        trial[0], trial[1] = roots[r, 0] + u * early, roots[r, 1] + v * early
                        if math.hypot(trial[0] - px[a], trial[1] - py[a]) > max_range:
                            continue
                        pattern(trial, px, py, pz, log_hit, log_miss, step_m, delay, hit, miss)
                        sigma[:] = 1.2 * slack / GATE + 0.5 * doubt * (dj + dk)
                        score = match(
                            roots[r, 2], delay, sigma, hit, miss, start, t, s, weight, used, horizon,
                            kept[kept.shape[0] - 1, 3], scratch,
                        )  # fmt: skip
                        if score > kept[kept.shape[0] - 1, 3]:
                            _insert(kept, trial[0], trial[1], roots[r, 2] * REFERENCE_SPEED_M_S, score)
        if count > budget:
            return


@kernel
def _insert(kept: Floats, x: float, y: float, b: float, score: float) -> None:
    """Put a proposal into the sorted list, in the place of a near one where there is one."""
    place = kept.shape[0] - 1
    for k in range(kept.shape[0]):
        if kept[k, 3] > 0.0 and abs(kept[k, 0] - x) + abs(kept[k, 1] - y) < 10.0:
            if kept[k, 3] >= score:
                return
            place = k
            break
    while place > 0 and kept[place - 1, 3] < score:
        kept[place] = kept[place - 1]
        place -= 1
    kept[place, 0], kept[place, 1], kept[place, 2], kept[place, 3] = x, y, b, score


@kernel
def back_project(
    delay: Floats, sigma: Floats, hit: Floats, miss: Floats, start: Ints, owner: Ints, t: Floats, s: Floats,
    weight: Floats, used: Bools, horizon: float, threshold: float, apart_s: float, origins: Floats, members: Ints,
    scores: Floats,
) -> int:  # fmt: skip
    """Find the shots of one known pattern: every pick names an origin time, and all sensors vote on it.

    Parameters
    ----------
    delay, sigma, hit, miss, start, t, s, weight, used, horizon
        As in `match`; `used` is changed, as no pick belongs to two shots.
    owner : numpy.ndarray, shape (n,)
        Each pick's sensor.
    threshold : float
        Least log-likelihood ratio of a shot.
    apart_s : float
        Least time between two shots of one place [s].
    origins, members, scores : numpy.ndarray, shape (n,), (n, m), (n,)
        Receive the shots in order of their score.

    Returns
    -------
    int
        How many there are.
    """
    m, n = delay.size, t.size
    own = used.copy()
    moments, worth = np.empty(n), np.empty(n)
    scratch = np.empty(m, dtype=np.int64)
    for q in range(n):
        moments[q] = t[q] - delay[owner[q]]
        worth[q] = NO_SCORE
        if not own[q]:
            worth[q] = _at(moments, q, delay, sigma, hit, miss, start, t, s, weight, own, horizon, threshold, scratch)
    count = 0
    while count < n:
        q = int(np.argmax(worth))
        if worth[q] < threshold:
            break
        now = _at(moments, q, delay, sigma, hit, miss, start, t, s, weight, own, horizon, threshold, scratch)
        if now < worth[q] - 1e-9:
            worth[q] = now  # another shot took a pick of it
            continue
        worth[q] = NO_SCORE
        clash = False
        for other in range(count):
            clash = clash or abs(origins[other] - moments[q]) < apart_s
        if clash:
            continue
        origins[count], scores[count] = moments[q], now
        members[count] = scratch
        for k in range(m):
            if scratch[k] >= 0:
                own[scratch[k]] = True
        count += 1
    return count


@kernel
def _at(
    moments: Floats, q: int, delay: Floats, sigma: Floats, hit: Floats, miss: Floats, start: Ints, t: Floats,
    s: Floats, weight: Floats, used: Bools, horizon: float, threshold: float, members: Ints,
) -> float:  # fmt: skip
    """Score the shot at one origin time, moved to where its picks put it."""
    score = match(moments[q], delay, sigma, hit, miss, start, t, s, weight, used, horizon, threshold - 12.0, members)
    if score == NO_SCORE:
        return score
    for _ in range(2):
        moment = _origin(members, delay, sigma, t, s)
        if abs(moment - moments[q]) < 1e-6:
            break
        moments[q] = moment
        score = match(moment, delay, sigma, hit, miss, start, t, s, weight, used, horizon, NO_SCORE, members)
    return score


@kernel
def _origin(members: Ints, delay: Floats, sigma: Floats, t: Floats, s: Floats) -> float:
    """Average what a shot's picks say of its origin time."""
    total, mass = 0.0, 0.0
    for k in range(members.size):
        q = members[k]
        if q >= 0:
            w = 1.0 / (s[q] * s[q] + sigma[k] * sigma[k])
            total += w * (t[q] - delay[k])
            mass += w
    return total / mass if mass > 0.0 else 0.0


@kernel
def average_pattern(
    members: Ints, count: int, t: Floats, delay: Floats, origins: Floats, mean_delay: Floats, heard: Ints
) -> None:  # fmt: skip
    """Average the pattern of several shots of one place, each with an origin time of its own.

    By medians: some of the picks are another shooter's.

    Parameters
    ----------
    members : numpy.ndarray, shape (k, m)
        Each shot's picks, or -1.
    count : int
        How many shots.
    t : numpy.ndarray, shape (n,)
        Picks' times [s].
    delay : numpy.ndarray, shape (m,)
        The pattern so far.
    origins : numpy.ndarray, shape (k,)
        Origin times to begin with [s]; become those that fit the average.
    mean_delay, heard : numpy.ndarray, shape (m,)
        Receive the averaged delays [s], and by how many shots each is known.
    """
    m = delay.size
    own = np.empty(max(count, m))
    for k in range(m):
        mean_delay[k] = delay[k]
    for _ in range(4):
        for k in range(m):
            heard[k] = 0
            for i in range(count):
                if members[i, k] >= 0:
                    own[heard[k]] = t[members[i, k]] - origins[i]
                    heard[k] += 1
            if heard[k] > 0:
                mean_delay[k] = np.median(own[: heard[k]])
        for i in range(count):
            n = 0
            for k in range(m):
                if members[i, k] >= 0 and (heard[k] > 1 or count == 1):
                    own[n] = t[members[i, k]] - mean_delay[k]
                    n += 1
            if n > 0:
                origins[i] = np.median(own[:n])


@kernel
def select(
    delay: Floats, sigma: Floats, hit: Floats, miss: Floats, origins: Floats, cost: Floats, few: Bools,
    place_x: Floats, place_y: Floats, start: Ints, t: Floats, s: Floats, weight: Floats, level: Floats, used: Bools,
    horizon: float, fewest: int, apart_s: float, apart_m: float, like_s: float, like_m: float, same_m: float,
    echo_rate: float, echo_tail_s: float, count: int, chosen: Ints, members: Ints, scores: Floats,
) -> int:  # fmt: skip
    """Choose among candidate shots, the most certain first, so that each pick belongs to one shot.

    A candidate whose picks were taken is scored again by what is left. The echoes of a chosen shot are expected at its
    sensors, so that candidates made of echoes lose their support.

    Parameters
    ----------
    delay, sigma, hit, miss : numpy.ndarray, shape (k, m)
        The candidates' patterns, as in `match`.
    origins, cost : numpy.ndarray, shape (k,)
        Their origin times [s]; become what their picks say. What each must bring [nats].
    few : numpy.ndarray, shape (k,)
        Whether a candidate's place fires too seldom to be an automatic weapon.
    place_x, place_y : numpy.ndarray, shape (k,)
        Their places [m].
    start, t, s, weight, used, horizon
        As in `match`; `used` and `weight` are changed.
    level : numpy.ndarray, shape (n,)
        Levels of the picks [dB], nan where unknown.
    fewest : int
        Least number of picks of a shot.
    apart_s, apart_m : float
        No two shots nearer in time [s] than this come from places nearer than this [m].
    like_s, like_m, same_m : float
        A shot nearer than this in time [s] and place [m] to a better heard one is heard by the same sensors, or is its
        echo; from the same place (nearer than `same_m`) it is no echo.
    echo_rate, echo_tail_s : float
        How many echoes follow an arrival, and over what time they decay [s].
    count : int
        How many are chosen already: the first so many of the arrays below, their picks used.
    chosen : numpy.ndarray, shape (k,)
        Receives the indices of the chosen candidates.
    members, scores : numpy.ndarray, shape (k, m), (k,)
        Receive their picks and log-likelihood ratios, in the order of `chosen`.

    Returns
    -------
    int
        How many were chosen.
    """
    n, m = delay.shape
    net = np.empty(n)
    version = np.zeros(n, dtype=np.int64)
    scratch = np.empty(m, dtype=np.int64)
    for i in range(n):
        net[i] = NO_SCORE
    for i in range(count, n):
        net[i] = _at(origins, i, delay[i], sigma[i], hit[i], miss[i], start, t, s, weight, used, horizon, 0.0, scratch)
        net[i] -= cost[i]
    while count < n:
        i = int(np.argmax(net))
        if net[i] <= 0.0:
            break
        now = _at(origins, i, delay[i], sigma[i], hit[i], miss[i], start, t, s, weight, used, horizon, 0.0, scratch)
        if now - cost[i] < net[i] - 1e-9 and version[i] < 50:
            net[i] = now - cost[i]
            version[i] += 1
            continue
        net[i] = NO_SCORE
        hits = 0
        for k in range(m):
            hits += scratch[k] >= 0
        clash = hits < fewest
        silence, weaker = 0.0, 0.0
        for j in range(count):
            o = chosen[j]
            apart = math.hypot(place_x[o] - place_x[i], place_y[o] - place_y[i])
            gap = abs(origins[o] - origins[i])
            if apart < apart_m:
                others = 0
                for k in range(m):
                    others += members[j, k] >= 0
                clash = clash or gap < apart_s or (few[i] and gap < WALL_S and hits < WALL_SHARE * others)
            if gap < like_s and same_m < apart < like_m:
                lost = 0.0
                for k in range(m):
                    if members[j, k] >= 0 and scratch[k] < 0:
                        lost += max(miss[i, k] - LOG_MISS_LIKE, 0.0)
                silence = max(silence, lost)
            if -apart_s < origins[i] - origins[o] < like_s:
                echo = _like_echo(scratch, members[j], t, level, apart < apart_m)
                weaker = max(weaker, echo)
        if clash or now - cost[i] - silence - weaker <= 0.0:
            continue
        chosen[count], scores[count] = i, now
        members[count] = scratch
        count += 1
        for k in range(m):
            if scratch[k] >= 0:
                used[scratch[k]] = True
                _expect_echoes(scratch[k], start[k + 1], t, weight, echo_rate, echo_tail_s)
    return count


@kernel
def _like_echo(members: Ints, direct: Ints, t: Floats, level: Floats, same: bool) -> float:
    """Sum up how much more a shot's levels look like echoes of another's than like a shot [nats].

    An echo is some 9 dB weaker than the direct sound at the same sensor; another shot is as loud, give or take its own
    paths. Levels share causes, so they count half, and each only so much.
    """
    total = 0.0
    spread = 5.0 if same else 11.0
    for k in range(members.size):
        if members[k] >= 0 and direct[k] >= 0 and t[members[k]] > t[direct[k]]:
            step = level[members[k]] - level[direct[k]]
            if step == step:
                shot = -0.5 * (step / spread) ** 2 - math.log(spread)
                echo = -0.5 * ((step + 9.0) / 7.0) ** 2 - math.log(7.0)
                total += 0.5 * min(max(echo - shot, -2.0), 4.0)
    return total


@kernel
def _expect_echoes(q: int, past: int, t: Floats, weight: Floats, echo_rate: float, echo_tail_s: float) -> None:
    """Lower the weight of the picks that may be echoes of one."""
    for e in range(q + 1, past):
        lag = t[e] - t[q]
        if lag > 5.0 * echo_tail_s:
            break
        weight[e] = min(weight[e], lag / echo_tail_s - math.log(echo_rate / echo_tail_s))


@kernel
def advantage(
    sensor: int, origins: Floats, delay: Floats, sigma: Floats, hit: Floats, miss: Floats, start: Ints, t: Floats,
    s: Floats, weight: Floats, blocked: Bools, out: Floats,
) -> None:  # fmt: skip
    """Compute what each shot would gain from each pick of one sensor, over hearing nothing there.

    Parameters
    ----------
    sensor : int
        The sensor.
    origins : numpy.ndarray, shape (k,)
        Origin times of the shots [s].
    delay, sigma, hit, miss : numpy.ndarray, shape (k, m)
        Their patterns, as in `match`.
    start, t, s, weight
        As in `match`.
    blocked : numpy.ndarray, shape (n,)
        Picks not to be had.
    out : numpy.ndarray, shape (k, picks of the sensor)
        Receives the gains [nats]; 0 where there is none.
    """
    for i in range(origins.size):
        due = origins[i] + delay[i, sensor]
        for q in range(start[sensor], start[sensor + 1]):
            variance = s[q] * s[q] + sigma[i, sensor] * sigma[i, sensor]
            gap = t[q] - due
            out[i, q - start[sensor]] = 0.0
            if not blocked[q] and gap * gap < GATE * GATE * variance:
                gain = hit[i, sensor] + weight[q] - LOG_ROOT_2PI - 0.5 * (math.log(variance) + gap * gap / variance)
                out[i, q - start[sensor]] = max(gain - miss[i, sensor], 0.0)


@kernel
def expect_echoes(start: Ints, t: Floats, used: Bools, weight: Floats, echo_rate: float, echo_tail_s: float) -> None:
    """Lower the weight of the picks that may be echoes of explained ones.

    Parameters
    ----------
    start, t, weight
        As in `match`; `weight` is changed.
    used : numpy.ndarray, shape (n,)
        The picks that are explained.
    echo_rate, echo_tail_s : float
        How many echoes follow an arrival, and over what time they decay [s].
    """
    for k in range(start.size - 1):
        for q in range(start[k], start[k + 1]):
            if used[q]:
                _expect_echoes(q, start[k + 1], t, weight, echo_rate, echo_tail_s)
