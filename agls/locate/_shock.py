"""A bullet's N-wave beside the blast of its shot. Compiled.

A bullet faster than sound drags a cone. What a sensor hears of it left the bullet's way where the way's rate of
approach to the sensor was just that of sound, so it comes before the blast, and only where the cone passes. One more
direction, speed and decay of the speed tell when it comes at all sensors; the unknowns are those of
`agls.locate._kernels` and three more:

    theta = (x, y, b, z, c, u, v, azimuth [rad, counter-clockwise from east], speed [m/s], decay [m])

where the bullet flies level and its speed falls by the same share on every metre (constant drag):
``speed * exp(-way / decay)``.
"""

import math

import numpy as np

from agls.locate._kernels import PARAMETERS, REFERENCE_SPEED_M_S, Floats, misfit, residual, solve_spd
from agls.locate._search import (
    GATE,
    LOG_ROOT_2PI,
    NO_SCORE,
    Bools,
    Ints,
    first_after,
    flight_s,
    match,
    pattern,
    settle,
)  # fmt: skip
from agls.locate.jit import kernel

UNKNOWNS = PARAMETERS + 3
FASTEST_M_S = 1100.0  # hardly a bullet is faster: an N-wave leads by no more than r / c - r / FASTEST
NO_CRACK = -1.0
BISECTIONS = 14  # the time is stationary in the way: a part in ten thousand of it is far below a microsecond
# A bullet may be stopped by a wall and its N-wave shadowed: where the cone would pass, one in two hears it.
LOG_CRACK = -0.6931471805599453
# A sensor that has just heard an N-wave often takes the blast for its echo: one in two does not report it.
LOG_DEAF = -0.6931471805599453
CRACK_S = 0.005  # how far a bullet that climbs or tumbles strays from the one assumed
MUZZLE, SHOCK = 1, 2
TURNS = 120  # directions tried: 3 degrees apart, which bends the time by less than a coarse gate forgives
COARSE = 3.0  # times wider while trying directions
ROUNDS = 4
FIT_STEPS = 12
STEPS = np.array([0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 1e-5, 0.1, 0.5])  # for derivatives


@kernel
def crack_s(
    dx: float, dy: float, dz: float, c: float, u: float, v: float, turn: float, speed: float, decay: float
) -> float:
    """Compute when a bullet's N-wave reaches a sensor.

    Parameters
    ----------
    dx, dy, dz : float
        From muzzle to sensor [m].
    c, u, v : float
        Sound speed, and velocity of the air [m/s].
    turn, speed, decay : float
        The bullet: azimuth [rad], speed at the muzzle [m/s], way over which it falls to 1/e [m].

    Returns
    -------
    float
        Time since the firing [s]; NO_CRACK where the cone does not pass.
    """
    east, north = math.cos(turn), math.sin(turn)
    along = dx * east + dy * north
    square = dx * dx + dy * dy + dz * dz
    if speed <= c or speed * along <= c * math.sqrt(square):
        return NO_CRACK
    across = max(square - along * along, 0.0)
    low, high = 0.0, min(along, decay * math.log(speed / c))
    for _ in range(BISECTIONS):
        way = 0.5 * (low + high)
        left = along - way
        if c * math.exp(way / decay) * math.sqrt(left * left + across) < speed * left:
            low = way
        else:
            high = way
    way = 0.5 * (low + high)
    fly = decay / speed * (math.exp(way / decay) - 1.0)
    return fly + flight_s(dx - way * east, dy - way * north, dz, c, u, v)


@kernel
def share(
    theta: Floats, px: Floats, py: Floats, pz: Floats, log_hit: Floats, log_miss: Floats, step_m: float, start: Ints,
    t: Floats, s: Floats, weight: Floats, wave: Ints, used: Bools, horizon: float, path_s: float, members: Ints,
    shocks: Ints,
) -> float:  # fmt: skip
    """Score a shot with its bullet: at each sensor a pick may be the blast, another the N-wave.

    Parameters
    ----------
    theta : numpy.ndarray, shape (10,)
        The shot, in the order of this module.
    px, py, pz, log_hit, log_miss, step_m, start, t, s, weight, used, horizon
        As in `agls.locate._search.pattern` and `agls.locate._search.match`.
    wave : numpy.ndarray, shape (n,)
        What nodes take the picks for: 0 not told apart, MUZZLE, SHOCK.
    path_s : float
        Standard deviation of paths [s].
    members, shocks : numpy.ndarray, shape (m,)
        Receive each sensor's picks of the blast and of the N-wave, or -1.

    Returns
    -------
    float
        Log-likelihood ratio against clutter.
    """
    t0, c, u, v = theta[2] / REFERENCE_SPEED_M_S, theta[4], theta[5], theta[6]
    total = 0.0
    gain = np.empty(4)  # best and second best blast, best and second best N-wave
    pick = np.empty(4, dtype=np.int64)
    for k in range(px.size):
        dx, dy, dz = px[k] - theta[0], py[k] - theta[1], pz[k] - theta[3]
        row = min(int(math.sqrt(dx * dx + dy * dy + dz * dz) / step_m), log_hit.size - 1)
        blast = t0 + flight_s(dx, dy, dz, c, u, v)
        crack = crack_s(dx, dy, dz, c, u, v, theta[7], theta[8], theta[9])
        passes = crack >= 0.0
        crack += t0
        gain[:] = NO_SCORE
        pick[:] = -1
        silent = log_miss[row] if blast < horizon else 0.0
        quiet = LOG_CRACK if passes and crack < horizon else 0.0
        low, high = start[k], start[k + 1]
        reach = GATE * math.sqrt(s[low] * s[low] + path_s * path_s) if low < high else 0.0
        earliest = crack if passes else blast
        for q in range(first_after(t, low, high, earliest - reach), high):
            if t[q] > blast + reach:
                break
            if used[q]:
                continue
            variance = s[q] * s[q] + path_s * path_s
            common = weight[q] - LOG_ROOT_2PI - 0.5 * math.log(variance)
            gap = t[q] - blast
            if wave[q] != SHOCK and gap * gap < GATE * GATE * variance:
                _rank(gain, pick, 0, log_hit[row] + common - 0.5 * gap * gap / variance, q)
            gap = t[q] - crack
            variance += CRACK_S * CRACK_S
            if passes and wave[q] != MUZZLE and gap * gap < GATE * GATE * variance:
                common = weight[q] - LOG_ROOT_2PI - 0.5 * math.log(variance)
                _rank(gain, pick, 2, LOG_CRACK + common - 0.5 * gap * gap / variance, q)
        best = silent + quiet
        members[k], shocks[k] = -1, -1
        for one in range(3):
            for two in range(2, 5):
                b, n = pick[one] if one < 2 else -1, pick[two] if two < 4 else -1
                if (b >= 0 and b == n) or (one < 2 and b < 0) or (two < 4 and n < 0):
                    continue
                value = gain[one] if b >= 0 else max(silent, LOG_DEAF if n >= 0 and blast < horizon else silent)
                value += gain[two] if n >= 0 else quiet
                if value > best:
                    best = value
                    members[k], shocks[k] = b, n
        total += best
    return total


@kernel
def _rank(gain: Floats, pick: Ints, first: int, value: float, q: int) -> None:
    """Put a pick into the best two of a kind."""
    if value > gain[first]:
        gain[first + 1], pick[first + 1] = gain[first], pick[first]
        gain[first], pick[first] = value, q
    elif value > gain[first + 1]:
        gain[first + 1], pick[first + 1] = value, q


@kernel
def _off_s(theta: Floats, px: float, py: float, pz: float, t: float) -> float:
    """Compute an N-wave's residual; a second where the cone does not pass."""
    crack = crack_s(
        px - theta[0], py - theta[1], pz - theta[3], theta[4], theta[5], theta[6], theta[7], theta[8], theta[9]
    )
    return t - theta[2] / REFERENCE_SPEED_M_S - crack if crack >= 0.0 else 1.0


@kernel
def _cost(
    blasts: Floats, n: int, cracks: Floats, k: int, theta: Floats, mean: Floats, precision: Floats
) -> float:  # fmt: skip
    """Compute the negative log-likelihood of blasts and N-waves, each right or simply wrong."""
    total = misfit(
        blasts[0, :n], blasts[1, :n], blasts[2, :n], blasts[3, :n], blasts[4, :n], theta, mean, precision, GATE
    )
    for i in range(k):
        z = _off_s(theta, cracks[0, i], cracks[1, i], cracks[2, i], cracks[3, i]) / cracks[4, i]
        total -= math.log(math.exp(-0.5 * min(z * z, 1000.0)) + math.exp(-0.5 * GATE * GATE))
    for p in range(PARAMETERS, UNKNOWNS):
        total += 0.5 * precision[p] * (theta[p] - mean[p]) ** 2
    return total


@kernel
def normal(
    blasts: Floats, n: int, cracks: Floats, k: int, theta: Floats, mean: Floats, precision: Floats, a: Floats,
    b: Floats,
) -> None:  # fmt: skip
    """Build the weighted normal equations of blasts and N-waves together.

    Parameters
    ----------
    blasts, cracks : numpy.ndarray, shape (5, m)
        x, y, z [m], time and standard deviation [s] of the arrivals.
    n, k : int
        How many of each.
    theta, mean, precision : numpy.ndarray, shape (10,)
        Unknowns, prior means and inverse variances.
    a, b : numpy.ndarray, shape (10, 10) and (10,)
        Receive the matrix and the right hand side.
    """
    row = np.zeros(UNKNOWNS)
    trial = theta.copy()
    for p in range(UNKNOWNS):
        b[p] = precision[p] * (mean[p] - theta[p])
        for q in range(UNKNOWNS):
            a[p, q] = 0.0
        a[p, p] = precision[p]
    for i in range(n + k):
        row[:] = 0.0
        if i < n:
            off, sigma = residual(blasts[0, i], blasts[1, i], blasts[2, i], blasts[3, i], theta, row), blasts[4, i]
        else:
            x, y, z, t, sigma = (
                cracks[0, i - n], cracks[1, i - n], cracks[2, i - n], cracks[3, i - n], cracks[4, i - n]
            )  # fmt: skip
            off = _off_s(theta, x, y, z, t)
            for p in range(UNKNOWNS):
                trial[p] = theta[p] + STEPS[p]
                row[p] = (_off_s(trial, x, y, z, t) - off) / STEPS[p]
                trial[p] = theta[p]
        excess = 0.5 * ((off / sigma) ** 2 - GATE * GATE)
        w = 1.0 / (1.0 + math.exp(min(excess, 500.0)))
        scale = w / (sigma * sigma)
        for p in range(UNKNOWNS):
            b[p] -= scale * row[p] * off
            for q in range(UNKNOWNS):
                a[p, q] += scale * row[p] * row[q]


@kernel
def fit(blasts: Floats, n: int, cracks: Floats, k: int, theta: Floats, mean: Floats, precision: Floats) -> float:
    """Descend to the likeliest shot and bullet nearby.

    Parameters
    ----------
    blasts, n, cracks, k, mean, precision
        As in `normal`.
    theta : numpy.ndarray, shape (10,)
        Start; becomes the minimum.

    Returns
    -------
    float
        Negative log-likelihood there, without constants.
    """
    a, b = np.empty((UNKNOWNS, UNKNOWNS)), np.empty(UNKNOWNS)
    damped, trial = np.empty((UNKNOWNS, UNKNOWNS)), theta.copy()
    damping = 1e-3
    best = _cost(blasts, n, cracks, k, theta, mean, precision)
    normal(blasts, n, cracks, k, theta, mean, precision, a, b)
    for _ in range(FIT_STEPS):
        damped[:] = a
        step = b.copy()
        for p in range(UNKNOWNS):
            damped[p, p] += damping * a[p, p] + 1e-12
        if not solve_spd(damped, step, UNKNOWNS):
            damping *= 10.0
            continue
        gained = 0.0
        for p in range(UNKNOWNS):
            trial[p] = theta[p] + step[p]
            gained += step[p] * b[p]
        trial[8] = min(max(trial[8], trial[4]), FASTEST_M_S)
        trial[9] = min(max(trial[9], 200.0), 5000.0)
        now = _cost(blasts, n, cracks, k, trial, mean, precision)
        if now <= best:
            theta[:] = trial
            best = now
            damping *= 0.1
            normal(blasts, n, cracks, k, theta, mean, precision, a, b)
        else:
            damping *= 10.0
        if gained < 1e-4 or damping > 1e9:
            break
    return best


@kernel
def collect(
    picks: Ints, px: Floats, py: Floats, pz: Floats, t: Floats, s: Floats, path_s: float, out: Floats
) -> int:  # fmt: skip
    """Copy arrivals together, as `agls.locate._search.gather` does.

    Parameters
    ----------
    picks : numpy.ndarray, shape (m,)
        Each sensor's pick, or -1.
    px, py, pz, t, s, path_s
        As there.
    out : numpy.ndarray, shape (5, m)
        Receives x, y, z, time and standard deviation of each.

    Returns
    -------
    int
        How many there are.
    """
    n = 0
    for k in range(picks.size):
        q = picks[k]
        if q >= 0:
            out[0, n], out[1, n], out[2, n], out[3, n] = px[k], py[k], pz[k], t[q]
            out[4, n] = math.sqrt(s[q] * s[q] + path_s * path_s)
            n += 1
    return n


@kernel
def _turned(
    theta: Floats, least: float, speeds: Floats, px: Floats, py: Floats, pz: Floats, start: Ints, t: Floats,
    s: Floats, weight: Floats, wave: Ints, used: Bools, path_s: float, decay: float,
) -> bool:  # fmt: skip
    """Turn the bullet to where it explains most of what came before the blast; say whether that could be enough."""
    t0, c, u, v = theta[2] / REFERENCE_SPEED_M_S, theta[4], theta[5], theta[6]
    low, high = np.empty(px.size, dtype=np.int64), np.empty(px.size, dtype=np.int64)
    possible = 0.0
    for k in range(px.size):
        blast = flight_s(px[k] - theta[0], py[k] - theta[1], pz[k] - theta[3], c, u, v)
        earliest = t0 + blast * c / FASTEST_M_S - path_s
        low[k] = first_after(t, start[k], start[k + 1], earliest)
        high[k] = first_after(t, low[k], start[k + 1], t0 + blast - path_s)
        best = 0.0
        for q in range(low[k], high[k]):
            if not used[q] and wave[q] != MUZZLE:
                variance = s[q] * s[q] + path_s * path_s
                best = max(best, LOG_CRACK + weight[q] - LOG_ROOT_2PI - 0.5 * math.log(variance))
        possible += best
    if possible < least:
        return False
    wide = COARSE * path_s
    log_wide = LOG_ROOT_2PI + math.log(wide)
    most = NO_SCORE
    turned, fast = 0.0, speeds[0]
    for number in range(TURNS):
        turn = 2.0 * math.pi * number / TURNS
        east, north = math.cos(turn), math.sin(turn)
        for speed in speeds:
            total = 0.0
            for k in range(px.size):
                dx, dy, dz = px[k] - theta[0], py[k] - theta[1], pz[k] - theta[3]
                if speed * (dx * east + dy * north) <= c * math.sqrt(dx * dx + dy * dy + dz * dz):
                    continue
                best = LOG_CRACK
                if low[k] < high[k]:
                    crack = t0 + crack_s(dx, dy, dz, c, u, v, turn, speed, decay)
                    for q in range(low[k], high[k]):
                        if not used[q] and wave[q] != MUZZLE:
                            gap = (t[q] - crack) / wide
                            best = max(best, LOG_CRACK + weight[q] - log_wide - 0.5 * gap * gap)
                total += best
            if total > most:
                most, turned, fast = total, turn, speed
    theta[7], theta[8], theta[9] = turned, fast, decay
    return True


@kernel
def aim(
    theta: Floats, least: float, speeds: Floats, px: Floats, py: Floats, pz: Floats, log_hit: Floats,
    log_miss: Floats, step_m: float, start: Ints, t: Floats, s: Floats, weight: Floats, wave: Ints, used: Bools,
    horizon: float, path_s: float, mean: Floats, precision: Floats, members: Ints, shocks: Ints,
) -> float:  # fmt: skip
    """Find the bullet that explains most of what was heard before a shot's blast, and let all find each other.

    Parameters
    ----------
    theta : numpy.ndarray, shape (10,)
        The shot to begin with; becomes the shot with its bullet.
    least : float
        What a bullet must explain [nats].
    speeds : numpy.ndarray, shape (j,)
        Speeds at the muzzle that are tried [m/s].
    px, py, pz, log_hit, log_miss, step_m, start, t, s, weight, wave, used, horizon, path_s, members, shocks
        As in `share`.
    mean, precision : numpy.ndarray, shape (10,)
        Prior means and inverse variances.

    Returns
    -------
    float
        Log-likelihood ratio against clutter; NO_SCORE where fewer than three blasts are left, or no bullet could
        explain enough.
    """
    if not _turned(theta, least, speeds, px, py, pz, start, t, s, weight, wave, used, path_s, mean[9]):
        return NO_SCORE
    blasts, cracks = np.empty((5, px.size)), np.empty((5, px.size))
    around = mean.copy()
    around[7] = theta[7]
    score = NO_SCORE
    for number in range(ROUNDS):
        wide = COARSE * path_s if number == 0 else path_s
        now = share(
            theta, px, py, pz, log_hit, log_miss, step_m, start, t, s, weight, wave, used, horizon, wide, members,
            shocks,
        )  # fmt: skip
        n = collect(members, px, py, pz, t, s, path_s, blasts)
        k = collect(shocks, px, py, pz, t, s, math.hypot(path_s, CRACK_S), cracks)
        if n < 3:
            return NO_SCORE
        if number > 1 and now <= score + 1e-6:
            break
        score = now
        fit(blasts, n, cracks, k, theta, around, precision)
    return share(
        theta, px, py, pz, log_hit, log_miss, step_m, start, t, s, weight, wave, used, horizon, path_s, members, shocks
    )


@kernel
def finish(
    theta: Floats, px: Floats, py: Floats, pz: Floats, log_hit: Floats, log_miss: Floats, step_m: float,
    start: Ints, t: Floats, s: Floats, weight: Floats, wave: Ints, path_s: float, mean: Floats, precision: Floats,
    members: Ints, shocks: Ints, a: Floats,
) -> float:  # fmt: skip
    """Let a shot with its bullet and its own picks find each other as exactly as paths and picks allow.

    Parameters
    ----------
    theta : numpy.ndarray, shape (10,)
        The shot to begin with; is refined.
    px, py, pz, log_hit, log_miss, step_m, start, t, s, weight, wave, path_s, mean, precision, members, shocks
        As in `aim`.
    a : numpy.ndarray, shape (10, 10)
        Receives the inverse of the covariance.

    Returns
    -------
    float
        Negative log-likelihood, without constants.
    """
    used = np.zeros(t.size, dtype=np.bool_)
    blasts, cracks, b = np.empty((5, px.size)), np.empty((5, px.size)), np.empty(UNKNOWNS)
    best, n, k = np.inf, 0, 0
    for number in range(ROUNDS):
        if number > 0:
            share(
                theta, px, py, pz, log_hit, log_miss, step_m, start, t, s, weight, wave, used, np.inf, path_s, members,
                shocks,
            )  # fmt: skip
        n = collect(members, px, py, pz, t, s, path_s, blasts)
        k = collect(shocks, px, py, pz, t, s, math.hypot(path_s, CRACK_S), cracks)
        best = fit(blasts, n, cracks, k, theta, mean, precision)
    normal(blasts, n, cracks, k, theta, mean, precision, a, b)
    return best


@kernel
def again(
    theta: Floats, px: Floats, py: Floats, pz: Floats, log_hit: Floats, log_miss: Floats, step_m: float, start: Ints,
    t: Floats, s: Floats, weight: Floats, used: Bools, horizon: float, path_s: float, mean: Floats,
    precision: Floats, members: Ints,
) -> float:  # fmt: skip
    """Score a proposed shot, without a bullet, by the picks that are left.

    Parameters
    ----------
    theta : numpy.ndarray, shape (7,)
        The shot to begin with; is refined.
    px, py, pz, log_hit, log_miss, step_m, start, t, s, weight, used, horizon, path_s, mean, precision
        As in `agls.locate._search.settle`.
    members : numpy.ndarray, shape (m,)
        Receives its picks.

    Returns
    -------
    float
        Log-likelihood ratio against clutter; NO_SCORE where fewer than three picks are left.
    """
    m = px.size
    delay, hit, miss = np.empty(m), np.empty(m), np.empty(m)
    pattern(theta, px, py, pz, log_hit, log_miss, step_m, delay, hit, miss)
    t0 = theta[2] / REFERENCE_SPEED_M_S
    match(t0, delay, np.full(m, path_s), hit, miss, start, t, s, weight, used, horizon, NO_SCORE, members)
    return settle(
        theta, px, py, pz, log_hit, log_miss, step_m, start, t, s, weight, used, horizon, path_s, mean, precision,
        members,
    )  # fmt: skip
