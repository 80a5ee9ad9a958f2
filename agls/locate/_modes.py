"""Finding the source of arrivals wherever it may be, compiled: consensus of triples, then descent from each mode."""

import math

import numpy as np

from agls.locate._kernels import (
    EARLY_NATS,
    PARAMETERS,
    REFERENCE_SPEED_M_S,
    Floats,
    covariance,
    judge,
    normal_equations,
    refine,
    solve_spd,
    triple_roots,
)  # fmt: skip
from agls.locate.jit import kernel

MAX_TRIPLES = 300
MODES = 12  # where half the arrivals are wrong and the air unknown, the true place is not among the first six in 2 %
OPEN_GATE = 1e6  # refuses nothing, however far a start may be off
LOOSE_GATE = 30.0  # refuses what lies so far off that no likely air explains it
SURE_COUNT = 6  # arrivals that no second place could have the agreement of, where the air is known
SURE_COST = 3.0
BELOW_SIGMAS = 0.1


@kernel
def consensus(
    px: Floats, py: Floats, h: Floats, t: Floats, s: Floats, c: float, gate: float, enough: bool, found: Floats
) -> int:  # fmt: skip
    """Find the places that most arrivals agree on, from every triple of them, in still air.

    Parameters
    ----------
    px, py, h, t, s : numpy.ndarray, shape (n,)
        Sensors and their height above the source [m], arrivals [s] and their standard deviations [s].
    c : float
        Sound speed [m/s].
    gate : float
        Standardised residual from which an arrival counts as wrong.
    enough : bool
        Whether there are so many arrivals that no second place could have the agreement of all.
    found : numpy.ndarray, shape (k, 4)
        Receives the k best distinct modes, best first: x [m], y [m], origin time [s], truncated misfit.

    Returns
    -------
    int
        How many modes were found.
    """
    n = t.size
    roots = np.empty((2, 3))
    triple = np.empty(3, dtype=np.int64)
    modes = found.shape[0]
    for k in range(modes):
        found[k, 3] = np.inf
    count = 0
    stride = max(1, n * (n - 1) * (n - 2) // 6 // MAX_TRIPLES)
    late, early = gate * gate, gate * gate + 2.0 * EARLY_NATS
    number = 0
    for i in range(n - 2):
        for j in range(i + 1, n - 1):
            for k in range(j + 1, n):
                number += 1
                if number % stride != 0:
                    continue
                triple[0], triple[1], triple[2] = i, j, k
                for r in range(triple_roots(px, py, h, t, c, triple, roots)):
                    x, y, t0 = roots[r, 0], roots[r, 1], roots[r, 2]
                    worst = found[modes - 1, 3]
                    cost = 0.0
                    for q in range(n):
                        dx, dy = px[q] - x, py[q] - y
                        e = (t[q] - t0 - math.sqrt(dx * dx + dy * dy + h[q] * h[q]) / c) / s[q]
                        cost += min(e * e, late if e > 0.0 else early)
                        if cost >= worst:
                            break
                    if cost < worst:
                        count = _keep(found, count, x, y, t0, cost, 2.0 * c * s[i])
                if enough and count > 0 and found[0, 3] < SURE_COST * (n - 3):
                    return count
    return count


@kernel
def _keep(found: Floats, count: int, x: float, y: float, t0: float, cost: float, near_m: float) -> int:
    """Put a mode into the sorted list of distinct modes; a near one with lower cost replaces its neighbour."""
    for k in range(count):
        dx, dy = found[k, 0] - x, found[k, 1] - y
        if dx * dx + dy * dy < near_m * near_m:
            if cost >= found[k, 3]:
                return count
            for q in range(k, count - 1):
                found[q] = found[q + 1]
            count -= 1
            break
    place = min(count, found.shape[0] - 1)
    while place > 0 and found[place - 1, 3] > cost:
        found[place] = found[place - 1]
        place -= 1
    found[place, 0], found[place, 1], found[place, 2], found[place, 3] = x, y, t0, cost
    count = min(count + 1, found.shape[0])
    for q in range(count, found.shape[0]):
        found[q, 3] = np.inf
    return count


@kernel
def search(
    px: Floats, py: Floats, pz: Floats, t: Floats, s: Floats, mean: Floats, precision: Floats, gate: float,
    thetas: Floats, misfits: Floats, weights: Floats, residuals: Floats,
) -> int:  # fmt: skip
    """Find every likely source of the arrivals: consensus of triples, then maximum likelihood from each mode.

    Parameters
    ----------
    px, py, pz, t, s : numpy.ndarray, shape (n,)
        Sensors [m], arrivals [s] and their standard deviations [s].
    mean, precision : numpy.ndarray, shape (7,)
        Prior means and inverse variances.
    gate : float
        As in `misfit`.
    thetas, misfits : numpy.ndarray, shape (k, 7) and (k,)
        Receive the modes, best first, the best's misfit, and the others' with what they are less likely.
    weights, residuals : numpy.ndarray, shape (n,)
        Receive each arrival's weight and residual [s] at the best.

    Returns
    -------
    int
        How many modes were found.
    """
    n = t.size
    mx, my, h, wide, agreed = np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    mean_t = 0.0
    first = 0
    for i in range(n):
        mean_t += t[i] / n
        if t[i] < t[first]:
            first = i
    air = math.sqrt(1.0 / precision[4] + 1.0 / precision[5] + 1.0 / precision[6]) / mean[4]
    # With an air to be found as well, two places can have the agreement of as many arrivals as there are unknowns.
    enough = n >= SURE_COUNT
    for i in range(n):
        # In the frame that moves with the air all is still. What is not known of the air bends arrivals in proportion
        # to how much longer than the first they travelled, which the triples must forgive.
        mx[i], my[i] = px[i] - mean[5] * (t[i] - mean_t), py[i] - mean[6] * (t[i] - mean_t)
        h[i] = pz[i] - mean[3]
        bend = air * (t[i] - t[first])
        wide[i] = math.sqrt(s[i] * s[i] + bend * bend)
        enough = enough and (n > PARAMETERS or bend < s[i])
    found = np.empty((thetas.shape[0], 4))
    count = consensus(mx, my, h, t, wide, mean[4], gate, enough, found)
    slow = np.empty(PARAMETERS)
    for k in range(count):
        theta = thetas[k]
        for p in range(PARAMETERS):
            theta[p] = mean[p]
        theta[0] = found[k, 0] + mean[5] * (found[k, 2] - mean_t)
        theta[1] = found[k, 1] + mean[6] * (found[k, 2] - mean_t)
        theta[2] = found[k, 2] * REFERENCE_SPEED_M_S
        # Sensors at one height make a saddle in their plane, from which height never leaves: people fire from below.
        theta[3] = mean[3] - BELOW_SIGMAS / math.sqrt(precision[3])
        slow[:] = theta
        judge(px, py, pz, t, wide, theta, gate, weights, residuals)
        misfits[k] = _descend(px, py, pz, t, s, theta, mean, precision, gate, agreed, weights, residuals)
        if _refused(weights) == 0:
            if k == 0 and enough:
                return 1  # all agree on it: no other place could be likelier
            continue
        # Let the place find its way under any likely air before arrivals are judged.
        refine(px, py, pz, t, wide, slow, mean, precision, gate, 3, weights, residuals)
        now = _descend(px, py, pz, t, s, slow, mean, precision, gate, agreed, weights, residuals)
        if now < misfits[k]:
            misfits[k] = now
            theta[:] = slow
    if count == 0:
        if _in_a_row(px, py):
            return 0
        # Just out of what still air allows no three arrivals meet, far off or in a wind: all of them may.
        _ring_start(px, py, t, mean, thetas[0])
        refine(px, py, pz, t, s, thetas[0], mean, precision, OPEN_GATE, PARAMETERS, weights, residuals)
        misfits[0] = refine(px, py, pz, t, s, thetas[0], mean, precision, gate, PARAMETERS, weights, residuals)
        if n - _refused(weights) <= 3:
            return 0
        count = 1
    if not enough:
        count = _nearer_and_farther(
            px, py, pz, t, s, mean, precision, gate, thetas, misfits, count, weights, residuals
        )  # fmt: skip
    judge(px, py, pz, t, s, thetas[np.argmin(misfits[:count])], gate, weights, residuals)
    if _refused(weights) > 0:
        _reconsider(px, py, pz, t, s, mean, precision, gate, thetas, misfits, count, weights, residuals)
    if count > 1:
        order = np.argsort(misfits[:count])
        cost = misfits[order]
        if not enough:
            _weigh(px, py, pz, t, s, mean, precision, gate, thetas[order], cost, weights, residuals)
        again = np.argsort(cost)
        thetas[:count] = thetas[order[again]]
        misfits[:count] = misfits[order[again[0]]] + cost[again] - cost[again[0]]
        judge(px, py, pz, t, s, thetas[0], gate, weights, residuals)
    return count


@kernel
def _descend(
    px: Floats, py: Floats, pz: Floats, t: Floats, s: Floats, theta: Floats, mean: Floats, precision: Floats,
    gate: float, agreed: Floats, weights: Floats, residuals: Floats,
) -> float:  # fmt: skip
    """Descend first with the arrivals now thought right, whatever their residuals, then judge by each one's own sigma.

    Only once those that agree under any likely air have fixed the air can the others be judged.
    """
    for i in range(t.size):
        agreed[i] = s[i] if weights[i] > 0.5 else 1e3
    refine(px, py, pz, t, agreed, theta, mean, precision, LOOSE_GATE, PARAMETERS, weights, residuals)
    return refine(px, py, pz, t, s, theta, mean, precision, gate, PARAMETERS, weights, residuals)


@kernel
def locate(
    positions: Floats, toa: Floats, sigma: Floats, air: Floats, height: Floats, gate: float, thetas: Floats,
    misfits: Floats, weights: Floats, residuals: Floats, spread: Floats, middle: Floats,
) -> int:  # fmt: skip
    """Do all that `agls.locate.solve.solve` promises, on arrays.

    Parameters
    ----------
    positions : numpy.ndarray, shape (n, 3)
        Sensors [m].
    toa, sigma : numpy.ndarray, shape (n,)
        Arrivals and their standard deviations [s].
    air : numpy.ndarray, shape (5,)
        Sound speed, east and north velocity of the air, and the standard deviations of speed and velocity [m/s].
    height : numpy.ndarray, shape (2,)
        Mean and standard deviation of the source's height [m]; a standard deviation of 0: near the earliest sensors.
    gate : float
        As in `misfit`.
    thetas, misfits, weights, residuals
        As in `search`; relative to `middle`.
    spread : numpy.ndarray, shape (7, 7)
        Receives the covariance of all unknowns of the best mode.
    middle : numpy.ndarray, shape (4,)
        Receives what the modes are relative to: the sensors' mean place [m] and the mean arrival [s].

    Returns
    -------
    int
        The number of modes; -1 where a number is not finite or a sigma not above zero, -2 where the covariance does not
        exist.
    """
    n = toa.size
    for i in range(n):
        total = positions[i, 0] + positions[i, 1] + positions[i, 2] + toa[i] + sigma[i]
        if not (np.isfinite(total) and sigma[i] > 0.0):
            return -1
    middle[:] = 0.0
    for i in range(n):
        for k in range(3):
            middle[k] += positions[i, k] / n
        middle[3] += toa[i] / n
    px, py, pz, t = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        px[i], py[i], pz[i] = positions[i, 0] - middle[0], positions[i, 1] - middle[1], positions[i, 2] - middle[2]
        t[i] = toa[i] - middle[3]
    mean, precision = np.zeros(PARAMETERS), np.zeros(PARAMETERS)
    mean[4], mean[5], mean[6] = air[0], air[1], air[2]
    precision[4], precision[5] = 1.0 / (air[3] * air[3]), 1.0 / (air[4] * air[4])
    precision[6] = precision[5]
    if height[1] > 0.0:
        mean[3], spread_z = height[0] - middle[2], height[1]
    else:
        mean[3], spread_z = height_near(pz, t)
    precision[3] = 1.0 / (spread_z * spread_z)
    count = search(px, py, pz, t, sigma, mean, precision, gate, thetas, misfits, weights, residuals)
    if count > 0 and not covariance(px, py, pz, t, sigma, thetas[0], precision, weights, spread):
        return -2
    return count


@kernel
def height_near(pz: Floats, t: Floats) -> tuple[float, float]:
    """Guess a source's height from the four sensors that heard it first.

    Parameters
    ----------
    pz, t : numpy.ndarray, shape (n,)
        Heights of the sensors [m] and arrivals [s].

    Returns
    -------
    tuple of float
        Their mean height [m], and how unsure that is: as they differ, and never less than 10 m.
    """
    first = np.argsort(t)[:4]
    mean = 0.0
    for i in first:
        mean += pz[i] / first.size
    square = 0.0
    for i in first:
        square += (pz[i] - mean) ** 2 / first.size
    return mean, max(10.0, math.sqrt(square))


@kernel
def _refused(weights: Floats) -> int:
    """Count the arrivals that were refused."""
    count = 0
    for i in range(weights.size):
        count += weights[i] < 0.5
    return count


@kernel
def _in_a_row(px: Floats, py: Floats) -> bool:
    """Tell whether sensors stand in a row, which cannot tell one side from the other."""
    xx, xy, yy = 0.0, 0.0, 0.0
    for i in range(px.size):
        dx, dy = px[i] - px[0], py[i] - py[0]
        xx, xy, yy = xx + dx * dx, xy + dx * dy, yy + dy * dy
    return xx * yy - xy * xy <= 1e-6 * (xx + yy) ** 2


@kernel
def _ring_start(px: Floats, py: Floats, t: Floats, mean: Floats, theta: Floats) -> None:
    """Start from the likeliest of some places in and around the sensors, all arrivals taken as right."""
    n = t.size
    cx, cy, size = px.mean(), py.mean(), 0.0
    for i in range(n):
        size = max(size, math.hypot(px[i] - cx, py[i] - cy))
    trial = mean.copy()
    best = np.inf
    for ring in range(5):
        for step in range(12):
            away = size * (0.5 * ring * ring + 0.3)
            trial[0] = cx + away * math.cos(step * math.pi / 6.0)
            trial[1] = cy + away * math.sin(step * math.pi / 6.0)
            origin = 0.0
            for i in range(n):
                origin += (t[i] - math.hypot(px[i] - trial[0], py[i] - trial[1]) / trial[4]) / n
            trial[2] = origin * REFERENCE_SPEED_M_S
            cost = 0.0
            for i in range(n):
                e = t[i] - origin - math.hypot(px[i] - trial[0], py[i] - trial[1]) / trial[4]
                cost += e * e
            if cost < best:
                best = cost
                theta[:] = trial


@kernel
def _nearer_and_farther(
    px: Floats, py: Floats, pz: Floats, t: Floats, s: Floats, mean: Floats, precision: Floats, gate: float,
    thetas: Floats, misfits: Floats, count: int, weights: Floats, residuals: Floats,
) -> int:  # fmt: skip
    """Start again on the bearing of the best, nearer and farther: few sensors tell a bearing better than a range."""
    best = thetas[np.argmin(misfits[:count])].copy()
    trial = np.empty(PARAMETERS)
    for share in (0.3, 3.0):
        trial[:] = mean
        trial[0], trial[1] = share * best[0], share * best[1]
        trial[3] = best[3]
        origin = 0.0
        for i in range(t.size):
            origin += (t[i] - math.hypot(px[i] - trial[0], py[i] - trial[1]) / trial[4]) / t.size
        trial[2] = origin * REFERENCE_SPEED_M_S
        refine(px, py, pz, t, s, trial, mean, precision, OPEN_GATE, PARAMETERS, weights, residuals)
        now = refine(px, py, pz, t, s, trial, mean, precision, gate, PARAMETERS, weights, residuals)
        slot = count if count < misfits.size else int(np.argmax(misfits))
        if slot == count or now < misfits[slot]:
            thetas[slot], misfits[slot] = trial, now
            count = max(count, slot + 1)
    return count


@kernel
def _weigh(
    px: Floats, py: Floats, pz: Floats, t: Floats, s: Floats, mean: Floats, precision: Floats, gate: float,
    thetas: Floats, costs: Floats, weights: Floats, residuals: Floats,
) -> None:  # fmt: skip
    """Weigh places that have the agreement of all by how much of the posterior lies about them, not by its peak.

    A narrow place may be a little likelier than a wide one, and yet far less likely to be near the truth. Against that
    stands that shots are heard about the sensors: their places have a Cauchy distribution as wide as these stand.
    Costs are in order, and change by what a place is narrower than the first.
    """
    a, b = np.empty((PARAMETERS, PARAMETERS)), np.empty(PARAMETERS)
    wide2 = 0.0
    for i in range(t.size):
        wide2 = max(wide2, px[i] * px[i] + py[i] * py[i])
    first = 0.0
    for k in range(costs.size):
        theta = thetas[k]
        normal_equations(px, py, pz, t, s, theta, mean, precision, gate, PARAMETERS, a, b, weights, residuals)
        if _refused(weights) == 0 and solve_spd(a, b, PARAMETERS):
            narrow = 1.5 * math.log1p((theta[0] * theta[0] + theta[1] * theta[1]) / wide2)
            for p in range(PARAMETERS):
                narrow += math.log(a[p, p])
            first = narrow if k == 0 else first
            costs[k] += narrow - first
        elif k == 0:
            return


@kernel
def _reconsider(
    px: Floats, py: Floats, pz: Floats, t: Floats, s: Floats, mean: Floats, precision: Floats, gate: float,
    thetas: Floats, misfits: Floats, count: int, weights: Floats, residuals: Floats,
) -> None:  # fmt: skip
    """Descend again with arrivals that were refused: a refused one may only be hidden behind a ridge.

    From every mode once with all arrivals, and from the best with each refused one by itself; where a third and more
    was refused, also from afar. A mode is replaced where this finds a more likely one.
    """
    n = t.size
    trial, agreed = np.empty(PARAMETERS), np.empty(n)
    if 3 * _refused(weights) >= n:
        _ring_start(px, py, t, mean, trial)
        refine(px, py, pz, t, s, trial, mean, precision, OPEN_GATE, PARAMETERS, weights, residuals)
        now = refine(px, py, pz, t, s, trial, mean, precision, gate, PARAMETERS, weights, residuals)
        worst = int(np.argmax(misfits[:count]))
        if now < misfits[worst]:
            misfits[worst] = now
            thetas[worst] = trial
    for k in range(count):
        trial[:] = thetas[k]
        refine(px, py, pz, t, s, trial, mean, precision, OPEN_GATE, PARAMETERS, weights, residuals)
        now = refine(px, py, pz, t, s, trial, mean, precision, gate, PARAMETERS, weights, residuals)
        if now < misfits[k]:
            misfits[k] = now
            thetas[k] = trial
    best = int(np.argmin(misfits[:count]))
    for i in range(n):
        trial[:] = thetas[best]
        refine(px, py, pz, t, s, trial, mean, precision, gate, PARAMETERS, weights, residuals)
        if weights[i] >= 0.5:
            continue
        weights[i] = 1.0
        now = _descend(px, py, pz, t, s, trial, mean, precision, gate, agreed, weights, residuals)
        if now < misfits[best]:
            misfits[best] = now
            thetas[best] = trial


@kernel
def locate_many(
    positions: Floats, toa: Floats, sigma: Floats, air: Floats, height: Floats, gate: float, places: Floats,
    covariances: Floats, misfits: Floats,
) -> None:  # fmt: skip
    """Locate many sources, each heard by the same number of sensors.

    Parameters
    ----------
    positions : numpy.ndarray, shape (k, n, 3)
        Sensors of each [m].
    toa, sigma : numpy.ndarray, shape (k, n)
        Arrivals and their standard deviations [s].
    air, height, gate
        As in `locate`.
    places : numpy.ndarray, shape (k, 4)
        Receives x, y, z [m] and origin time [s]; nan where there is no solution.
    covariances : numpy.ndarray, shape (k, 7, 7)
        Receives the covariances of all unknowns.
    misfits : numpy.ndarray, shape (k,)
        Receives the misfits.
    """
    n = toa.shape[1]
    thetas, costs = np.empty((MODES, PARAMETERS)), np.empty(MODES)
    weights, residuals, middle = np.empty(n), np.empty(n), np.empty(4)
    for k in range(toa.shape[0]):
        count = locate(
            positions[k], toa[k], sigma[k], air, height, gate, thetas, costs, weights, residuals, covariances[k], middle
        )
        if count > 0:
            places[k, 0], places[k, 1] = thetas[0, 0] + middle[0], thetas[0, 1] + middle[1]
            places[k, 2] = thetas[0, 3] + middle[2]
            places[k, 3] = thetas[0, 2] / REFERENCE_SPEED_M_S + middle[3]
            misfits[k] = costs[0]
        else:
            places[k] = np.nan
            misfits[k] = np.inf
