"""Finding shots among many detections: proposals from near sensors, votes of all, exclusive choice. Compiled.

Picks are arrays sorted by sensor, then by time; sensor k's are ``start[k]`` to ``start[k + 1]``. A shot's score is a
log-likelihood ratio against clutter: every sensor that should have heard it adds

    ln(P_detect N(residual) / density)   where it has a pick near the predicted time,
    ln(1 - P_detect)                     where it has none,

so that agreement counts for less where sensors report much, and silence counts against.
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
NEIGHBOURS = 6
PROPOSALS = 3
ROUNDS = 4


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
    return (math.sqrt(along * along + square * (dx * dx + dy * dy + dz * dz)) - along) / square


@kernel
def detect_probability(distance: float, best: float, half_range: float) -> float:
    """Say how likely a sensor is to hear and report a shot.

    Parameters
    ----------
    distance : float
        From shot to sensor [m].
    best : float
        Probability close by.
    half_range : float
        Distance at which it has halved [m].

    Returns
    -------
    float
        Probability.
    """
    return best / (1.0 + math.exp(min(4.0 * (distance - half_range) / half_range, 50.0)))


@kernel
def vote(
    theta: Floats, px: Floats, py: Floats, pz: Floats, start: Ints, t: Floats, s: Floats, density: Floats, used: Bools,
    best: float, half_range: float, horizon: float, spread: float, members: Ints,
) -> float:  # fmt: skip
    """Score a proposed shot by what every sensor heard, and say which picks it takes.

    Parameters
    ----------
    theta : numpy.ndarray, shape (7,)
        The proposed shot, as in `agls.locate._kernels`.
    px, py, pz : numpy.ndarray, shape (m,)
        Sensors [m].
    start : numpy.ndarray, shape (m + 1,)
        Where each sensor's picks begin.
    t, s, density : numpy.ndarray, shape (n,)
        Times [s], standard deviations with the path's [s], and other picks per second around each [1/s].
    used : numpy.ndarray, shape (n,)
        Picks that belong to other shots already.
    best, half_range : float
        As in `detect_probability`.
    horizon : float
        Until when all that was heard has come in [s]: silence later than that says nothing.
    spread : float
        Further standard deviation of the predicted times, from the proposal's own error [s].
    members : numpy.ndarray, shape (m,)
        Receives each sensor's pick, or -1.

    Returns
    -------
    float
        Log-likelihood ratio against clutter.
    """
    total = 0.0
    t0 = theta[2] / REFERENCE_SPEED_M_S
    for k in range(px.size):
        dx, dy, dz = px[k] - theta[0], py[k] - theta[1], pz[k] - theta[3]
        due = t0 + flight_s(dx, dy, dz, theta[4], theta[5], theta[6])
        pd = detect_probability(math.sqrt(dx * dx + dy * dy + dz * dz), best, half_range)
        value = math.log(1.0 - pd) if due < horizon else 0.0
        members[k] = -1
        low, high = start[k], start[k + 1]
        reach = GATE * math.sqrt((s[low] * s[low] if high > low else 0.0) + spread * spread)
        first = low + np.searchsorted(t[low:high], due - reach)
        for q in range(first, high):
            if t[q] > due + reach:
                break
            if used[q]:
                continue
            sigma = math.sqrt(s[q] * s[q] + spread * spread)
            r = (t[q] - due) / sigma
            gain = math.log(pd / (density[q] * sigma)) - LOG_ROOT_2PI - 0.5 * r * r
            if gain > value:
                value = gain
                members[k] = q
        total += value
    return total


@kernel
def settle(
    theta: Floats, px: Floats, py: Floats, pz: Floats, start: Ints, t: Floats, s: Floats, density: Floats, used: Bools,
    best: float, half_range: float, horizon: float, mean: Floats, precision: Floats, members: Ints,
) -> float:  # fmt: skip
    """Let a proposed shot and its picks find each other: assign, refine, repeat.

    Parameters
    ----------
    theta : numpy.ndarray, shape (7,)
        Start; becomes the refined shot.
    px, py, pz, start, t, s, density, used, best, half_range, horizon
        As in `vote`.
    mean, precision : numpy.ndarray, shape (7,)
        Prior means and inverse variances.
    members : numpy.ndarray, shape (m,)
        Picks to begin with; becomes those at the end.

    Returns
    -------
    float
        Log-likelihood ratio against clutter; minus infinity where fewer than three picks are left.
    """
    m = px.size
    gx, gy, gz, gt, gs = np.empty(m), np.empty(m), np.empty(m), np.empty(m), np.empty(m)
    weights, residuals = np.empty(m), np.empty(m)
    score = -np.inf
    for _ in range(ROUNDS):
        n = 0
        for k in range(m):
            if members[k] >= 0:
                gx[n], gy[n], gz[n], gt[n], gs[n] = px[k], py[k], pz[k], t[members[k]], s[members[k]]
                n += 1
        if n < 3:
            return -np.inf
        refine(
            gx[:n], gy[:n], gz[:n], gt[:n], gs[:n], theta, mean, precision, GATE, PARAMETERS, weights[:n], residuals[:n]
        )
        now = vote(theta, px, py, pz, start, t, s, density, used, best, half_range, horizon, 0.0, members)
        if now <= score + 1e-9:
            return now
        score = now
    return score


@kernel
def propose(
    anchor: int, px: Floats, py: Floats, pz: Floats, start: Ints, owner: Ints, near: Ints, t: Floats, s: Floats,
    density: Floats, used: Bools, best: float, half_range: float, horizon: float, mean: Floats, precision: Floats, max_range: float,
    theta: Floats, members: Ints,
) -> float:  # fmt: skip
    """Find the best shot that was heard first at one pick.

    Parameters
    ----------
    anchor : int
        The pick.
    px, py, pz, start, t, s, density, used, best, half_range, horizon
        As in `vote`.
    owner : numpy.ndarray, shape (n,)
        Each pick's sensor.
    near : numpy.ndarray, shape (m, NEIGHBOURS)
        Each sensor's nearest others, -1 where there are none.
    mean, precision : numpy.ndarray, shape (7,)
        Prior means and inverse variances.
    max_range : float
        How far from the anchor's sensor a shot may be [m].
    theta, members : numpy.ndarray, shape (7,) and (m,)
        Receive the shot and its picks.

    Returns
    -------
    float
        Its log-likelihood ratio; minus infinity where there is none.
    """
    a = owner[anchor]
    c, u, v = mean[4], mean[5], mean[6]
    air = math.sqrt(1.0 / precision[4] + 1.0 / precision[5] + 1.0 / precision[6]) / c
    tx, ty, th, tt = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    corner = np.array([0, 1, 2])
    roots = np.empty((2, 3))
    trial = mean.copy()
    kept = np.empty((PROPOSALS, 4))
    for k in range(PROPOSALS):
        kept[k, 3] = -np.inf
    scratch = np.empty(px.size, dtype=np.int64)
    tx[0], ty[0], th[0], tt[0] = px[a], py[a], pz[a] - mean[3], t[anchor]
    for one in range(near.shape[1] - 1):
        j = near[a, one]
        if j < 0:
            break
        span_j = math.hypot(px[j] - px[a], py[j] - py[a]) / (c * (1.0 - 3.0 * air)) + GATE * s[anchor]
        for p in range(
            start[j] + np.searchsorted(t[start[j] : start[j + 1]], t[anchor] - GATE * s[anchor]), start[j + 1]
        ):
            if t[p] > t[anchor] + span_j:
                break
            if used[p]:
                continue
            for two in range(one + 1, near.shape[1]):
                k = near[a, two]
                if k < 0:
                    break
                span_k = math.hypot(px[k] - px[a], py[k] - py[a]) / (c * (1.0 - 3.0 * air)) + GATE * s[anchor]
                from_k = start[k] + np.searchsorted(t[start[k] : start[k + 1]], t[anchor] - GATE * s[anchor])
                for q in range(from_k, start[k + 1]):
                    if t[q] > t[anchor] + span_k:
                        break
                    if used[q]:
                        continue
                    dj, dk = t[p] - t[anchor], t[q] - t[anchor]
                    tx[1], ty[1], th[1], tt[1] = px[j] - u * dj, py[j] - v * dj, pz[j] - mean[3], t[p]
                    tx[2], ty[2], th[2], tt[2] = px[k] - u * dk, py[k] - v * dk, pz[k] - mean[3], t[q]
                    for r in range(triple_roots(tx, ty, th, tt, c, corner, roots)):
                        early = roots[r, 2] - t[anchor]
                        trial[0], trial[1] = roots[r, 0] + u * early, roots[r, 1] + v * early
                        trial[2] = roots[r, 2] * REFERENCE_SPEED_M_S
                        if math.hypot(trial[0] - px[a], trial[1] - py[a]) > max_range:
                            continue
                        spread = 1.5 * s[anchor] + air * (dj + dk) * 0.5
                        score = vote(
                            trial, px, py, pz, start, t, s, density, used, best, half_range, horizon, spread, scratch
                        )
                        if score > kept[PROPOSALS - 1, 3]:
                            _insert(kept, trial[0], trial[1], trial[2], score)
    top = -np.inf
    for k in range(PROPOSALS):
        if kept[k, 3] == -np.inf:
            break
        for p in range(PARAMETERS):
            trial[p] = mean[p]
        trial[0], trial[1], trial[2] = kept[k, 0], kept[k, 1], kept[k, 2]
        vote(trial, px, py, pz, start, t, s, density, used, best, half_range, horizon, 2.0 * s[anchor], scratch)
        score = settle(
            trial, px, py, pz, start, t, s, density, used, best, half_range, horizon, mean, precision, scratch
        )
        if score > top:
            top = score
            theta[:] = trial
            members[:] = scratch
    return top


@kernel
def _insert(kept: Floats, x: float, y: float, b: float, score: float) -> None:
    """Put a proposal into the sorted list, in the place of a near one where there is one."""
    last = kept.shape[0] - 1
    place = last
    for k in range(kept.shape[0]):
        if kept[k, 3] > -np.inf and abs(kept[k, 0] - x) + abs(kept[k, 1] - y) < 10.0:
            if kept[k, 3] >= score:
                return
            place = k
            break
    while place > 0 and kept[place - 1, 3] < score:
        kept[place] = kept[place - 1]
        place -= 1
    kept[place, 0], kept[place, 1], kept[place, 2], kept[place, 3] = x, y, b, score


@kernel
def propose_all(
    anchors: Ints, px: Floats, py: Floats, pz: Floats, start: Ints, owner: Ints, near: Ints, near_height: Floats,
    t: Floats, s: Floats, density: Floats, used: Bools, best: float, half_range: float, horizon: float, mean: Floats,
    precision: Floats, max_range: float, thetas: Floats, members: Ints, scores: Floats,
) -> None:  # fmt: skip
    """Find, for each of many picks, the best shot heard first there.

    Parameters
    ----------
    anchors : numpy.ndarray, shape (k,)
        The picks.
    px, py, pz, start, owner, near, t, s, density, used, best, half_range, horizon, mean, precision, max_range
        As in `propose`.
    near_height : numpy.ndarray, shape (m,)
        Mean height of the sensors around each sensor [m]: the prior mean of a source's height there.
    thetas, members, scores : numpy.ndarray, shape (k, 7), (k, m), (k,)
        Receive the shots, their picks and their log-likelihood ratios.
    """
    local = mean.copy()
    for i in range(anchors.size):
        local[3] = near_height[owner[anchors[i]]]
        scores[i] = propose(
            anchors[i], px, py, pz, start, owner, near, t, s, density, used, best, half_range, horizon, local, precision,
            max_range, thetas[i], members[i],
        )  # fmt: skip


@kernel
def choose(
    px: Floats, py: Floats, pz: Floats, start: Ints, owner: Ints, t: Floats, s: Floats, density: Floats, used: Bools,
    best: float, half_range: float, horizon: float, mean: Floats, precision: Floats, threshold: float, fewest: int, echo_rate: float,
    echo_tail_s: float, thetas: Floats, members: Ints, scores: Floats, chosen: Ints,
    worth: Floats,
) -> int:  # fmt: skip
    """Choose among proposed shots, best first, so that each pick belongs to one shot.

    A chosen shot explains the echoes that follow its arrivals, so the density of picks there grows and later
    proposals built of echoes lose their support.

    Parameters
    ----------
    px, py, pz, start, owner, t, s, density, used, best, half_range, horizon, mean, precision
        As in `propose`; `density` and `used` are changed.
    threshold : float
        Least log-likelihood ratio of a shot.
    fewest : int
        Least number of picks of a shot.
    echo_rate, echo_tail_s : float
        How many echoes follow an arrival, and over what time they decay [s].
    thetas, members, scores : numpy.ndarray, shape (k, 7), (k, m), (k,)
        Proposals; become the shots as chosen.
    chosen, worth : numpy.ndarray, shape (k,)
        Receive the indices of the chosen, and their log-likelihood ratios.

    Returns
    -------
    int
        How many were chosen.
    """
    count = 0
    local = mean.copy()
    fresh = np.zeros(scores.size, dtype=np.int64)
    version = 0
    while count < scores.size:
        top = np.argmax(scores)
        if scores[top] < threshold:
            break
        if fresh[top] < version:
            # Others were chosen since: what is left for this one?
            local[3] = thetas[top, 3]
            scores[top] = settle(
                thetas[top], px, py, pz, start, t, s, density, used, best, half_range, horizon, local, precision, members[top]
            ) if _free(members[top], used) else _again(
                thetas[top], px, py, pz, start, t, s, density, used, best, half_range, horizon, local, precision, members[top]
            )  # fmt: skip
            fresh[top] = version
            continue
        hits = 0
        for k in range(px.size):
            if members[top, k] >= 0:
                hits += 1
        if hits < fewest:
            scores[top] = -np.inf
            continue
        chosen[count] = top
        worth[count] = scores[top]
        count += 1
        scores[top] = -np.inf
        version += 1
        for k in range(px.size):
            q = members[top, k]
            if q < 0:
                continue
            used[q] = True
            for e in range(q + 1, start[k + 1]):
                lag = t[e] - t[q]
                if lag > 5.0 * echo_tail_s:
                    break
                density[e] += echo_rate / echo_tail_s * math.exp(-lag / echo_tail_s)
    return count


@kernel
def _free(members: Ints, used: Bools) -> bool:
    for k in range(members.size):
        if members[k] >= 0 and used[members[k]]:
            return False
    return True


@kernel
def _again(
    theta: Floats, px: Floats, py: Floats, pz: Floats, start: Ints, t: Floats, s: Floats, density: Floats, used: Bools,
    best: float, half_range: float, horizon: float, mean: Floats, precision: Floats, members: Ints,
) -> float:  # fmt: skip
    """Assign picks anew where some were taken, then settle."""
    vote(theta, px, py, pz, start, t, s, density, used, best, half_range, horizon, 0.0, members)
    return settle(theta, px, py, pz, start, t, s, density, used, best, half_range, horizon, mean, precision, members)
