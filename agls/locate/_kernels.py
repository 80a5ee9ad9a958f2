"""Arithmetic of multilateration, compiled. Friendly functions around it: `agls.locate.solve`.

Everything is in metres and seconds relative to a reference near the array, so that float64 keeps nanoseconds and
micrometres. The unknowns, in the order used throughout:

    theta = (x, y, b, z, c, u, v)

x, y, z place [m]; b = REFERENCE_SPEED * origin time [m], so that all of the first three have like scale; c sound speed
[m/s]; (u, v) velocity of the air, where it goes to [m/s]. The wavefront of a shot is a sphere that grows with c around
a centre that drifts with the air, so sensor i hears it at t_i where

    |p_i - p - w (t_i - t0)| = c (t_i - t0),

which is exact for uniform wind, and does not depend on where the frame has its zero.
"""

import math

import numpy as np
from numpy.typing import NDArray

from agls.locate.jit import kernel

Floats = NDArray[np.float64]

REFERENCE_SPEED_M_S = 340.0
PARAMETERS = 7
MAX_STEPS = 40
STEP_TOLERANCE = 1e-3  # of a standard deviation: far below anything that could matter
# What is wrong is nearly always late: an echo, or sound that came round a corner. To be early takes a sound of another
# source just then, or a bullet's N-wave taken for the blast: one in some fifty (exp(-4)) where a third may be echoes.
EARLY_NATS = 4.0


@kernel
def triple_roots(px: Floats, py: Floats, h: Floats, t: Floats, c: float, triple: NDArray[np.int64], out: Floats) -> int:
    """Find the places and origin times that three arrivals allow, in still air.

    Subtracting the three spheres pairwise leaves two lines in (x, y) against the origin time; put back into the first
    sphere they give a quadratic with up to two causal roots (as in the closed form of Bancroft, for three sensors in
    the plane with known height offsets `h`).

    Parameters
    ----------
    px, py, h : numpy.ndarray, shape (n,)
        Sensors east and north, and their height above the assumed source [m].
    t : numpy.ndarray, shape (n,)
        Arrivals [s].
    c : float
        Sound speed [m/s].
    triple : numpy.ndarray, shape (3,), int64
        Which three arrivals.
    out : numpy.ndarray, shape (2, 3)
        Receives x [m], y [m], origin time [s] of each root.

    Returns
    -------
    int
        Number of roots, 0 to 2.
    """
    i, j, k = triple[0], triple[1], triple[2]
    ax, ay = px[j] - px[i], py[j] - py[i]
    bx, by = px[k] - px[i], py[k] - py[i]
    det = ax * by - ay * bx
    if abs(det) < 1e-6 * (ax * ax + ay * ay + bx * bx + by * by):
        return 0
    sj, sk = c * (t[j] - t[i]), c * (t[k] - t[i])
    gj = 0.5 * (ax * ax + ay * ay + h[j] * h[j] - h[i] * h[i] - sj * sj)
    gk = 0.5 * (bx * bx + by * by + h[k] * h[k] - h[i] * h[i] - sk * sk)
    slope_x, slope_y = (sj * by - sk * ay) / det, (ax * sk - bx * sj) / det
    fixed_x, fixed_y = (gj * by - gk * ay) / det, (ax * gk - bx * gj) / det
    qa = slope_x * slope_x + slope_y * slope_y - 1.0
    qb = slope_x * fixed_x + slope_y * fixed_y
    qc = fixed_x * fixed_x + fixed_y * fixed_y + h[i] * h[i]
    latest = min(0.0, sj, sk)
    count = 0
    disc = qb * qb - qa * qc
    if disc < 0.0:
        # Noise can push a source on the line through two sensors just off the real axis: take the nearest real point.
        if disc < -0.01 * qb * qb:
            return 0
        disc = 0.0
    root = math.sqrt(disc)
    for sign in (-1.0, 1.0):
        if abs(qa) > 1e-9:
            tau = (-qb + sign * root) / qa
        elif sign < 0.0 and abs(qb) > 1e-9:
            tau = -qc / (2.0 * qb)
        else:
            continue
        if tau <= latest and (count == 0 or root > 0.0):
            out[count, 0] = px[i] + slope_x * tau + fixed_x
            out[count, 1] = py[i] + slope_y * tau + fixed_y
            out[count, 2] = t[i] + tau / c
            count += 1
    return count


@kernel
def residual(px: float, py: float, pz: float, t: float, theta: Floats, row: Floats) -> float:
    """Compute one arrival's residual and its derivatives.

    Parameters
    ----------
    px, py, pz : float
        Sensor [m].
    t : float
        Arrival [s].
    theta : numpy.ndarray, shape (7,)
        Unknowns, in the order of this module.
    row : numpy.ndarray, shape (7,)
        Receives the derivatives of the residual by the unknowns.

    Returns
    -------
    float
        Time since the origin less the time sound needs [s].
    """
    flight = t - theta[2] / REFERENCE_SPEED_M_S
    c = theta[4]
    dx = px - theta[0] - theta[5] * flight
    dy = py - theta[1] - theta[6] * flight
    dz = pz - theta[3]
    d = math.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
    ux, uy = dx / (d * c), dy / (d * c)
    row[0] = ux
    row[1] = uy
    row[2] = -(1.0 + ux * theta[5] + uy * theta[6]) / REFERENCE_SPEED_M_S
    row[3] = dz / (d * c)
    row[4] = d / (c * c)
    row[5] = ux * flight
    row[6] = uy * flight
    return float(flight - d / c)


@kernel
def right(z: float, gate: float) -> float:
    """Tell how likely an arrival is right by its standardised residual, positive when late.

    Parameters
    ----------
    z : float
        Standardised residual.
    gate : float
        As in `misfit`.

    Returns
    -------
    float
        Probability.
    """
    excess = 0.5 * (z * z - gate * gate)
    if z < 0.0:
        excess -= EARLY_NATS
    if excess < -37.0:
        return 1.0  # to the last bit
    return 1.0 / (1.0 + math.exp(excess)) if excess < 500.0 else 0.0


@kernel
def misfit(
    px: Floats,
    py: Floats,
    pz: Floats,
    t: Floats,
    s: Floats,
    theta: Floats,
    mean: Floats,
    precision: Floats,
    gate: float,
) -> float:
    """Compute the negative log-likelihood of arrivals, each Gaussian or (with a floor at `gate`) simply wrong.

    The floor is lower for arrivals before their time, which are rarely wrong, than for late ones.

    Parameters
    ----------
    px, py, pz, t, s : numpy.ndarray, shape (n,)
        Sensors [m], arrivals [s] and their standard deviations [s].
    theta, mean, precision : numpy.ndarray, shape (7,)
        Unknowns, prior means and prior inverse variances (0 for a flat prior).
    gate : float
        Standardised residual at which a late arrival is as likely wrong as right.

    Returns
    -------
    float
        The negative log-likelihood, constants left out.
    """
    late = 0.5 * gate * gate
    plain = late - 30.0  # so far below the gate the floor adds nothing a float64 could hold
    total = 0.0
    c = theta[4]
    for i in range(t.size):
        flight = t[i] - theta[2] / REFERENCE_SPEED_M_S
        dx = px[i] - theta[0] - theta[5] * flight
        dy = py[i] - theta[1] - theta[6] * flight
        dz = pz[i] - theta[3]
        r = (flight - math.sqrt(dx * dx + dy * dy + dz * dz) / c) / s[i]
        half = 0.5 * r * r
        if half < plain:
            total += half
        else:
            wrong = late if r > 0.0 else late + EARLY_NATS
            total += (
                half - math.log1p(math.exp(half - wrong))
                if half < wrong
                else wrong - math.log1p(math.exp(wrong - half))
            )
    for k in range(PARAMETERS):
        off = theta[k] - mean[k]
        total += 0.5 * precision[k] * off * off
    return total


@kernel
def solve_spd(a: Floats, b: Floats, m: int) -> bool:
    """Solve a small positive definite system in place by Cholesky decomposition.

    Parameters
    ----------
    a : numpy.ndarray, shape (7, 7)
        The matrix; its lower triangle becomes the factor.
    b : numpy.ndarray, shape (7,)
        The right hand side; becomes the solution.
    m : int
        How many rows and columns count.

    Returns
    -------
    bool
        False where the matrix is not positive definite.
    """
    for i in range(m):
        for j in range(i + 1):
            total = a[i, j]
            for k in range(j):
                total -= a[i, k] * a[j, k]
            if i == j:
                if total <= 0.0:
                    return False
                a[i, i] = math.sqrt(total)
            else:
                a[i, j] = total / a[j, j]
    for i in range(m):
        for k in range(i):
            b[i] -= a[i, k] * b[k]
        b[i] /= a[i, i]
    for i in range(m - 1, -1, -1):
        for k in range(i + 1, m):
            b[i] -= a[k, i] * b[k]
        b[i] /= a[i, i]
    return True


@kernel
def normal_equations(
    px: Floats, py: Floats, pz: Floats, t: Floats, s: Floats, theta: Floats, mean: Floats, precision: Floats,
    gate: float, m: int, a: Floats, b: Floats, weights: Floats, residuals: Floats,
) -> None:  # fmt: skip
    """Build the weighted normal equations at `theta`, and the weights and residuals on the way.

    Parameters
    ----------
    px, py, pz, t, s : numpy.ndarray, shape (n,)
        Sensors [m], arrivals [s] and their standard deviations [s].
    theta, mean, precision : numpy.ndarray, shape (7,)
        Unknowns, prior means and prior inverse variances.
    gate : float
        As in `misfit`.
    m : int
        How many unknowns are free.
    a, b : numpy.ndarray, shape (7, 7) and (7,)
        Receive the matrix and the descent direction's right hand side.
    weights, residuals : numpy.ndarray, shape (n,)
        Receive each arrival's posterior probability of being right, and its residual [s].
    """
    row = np.empty(PARAMETERS)
    for p in range(m):
        b[p] = precision[p] * (mean[p] - theta[p])
        for q in range(m):
            a[p, q] = 0.0
        a[p, p] = precision[p]
    for i in range(t.size):
        r = residual(px[i], py[i], pz[i], t[i], theta, row)
        residuals[i] = r
        w = right(r / s[i], gate)
        weights[i] = w
        k = w / (s[i] * s[i])
        for p in range(m):
            kp = k * row[p]
            b[p] -= kp * r
            for q in range(p + 1):
                a[p, q] += kp * row[q]
    for p in range(m):
        for q in range(p):
            a[q, p] = a[p, q]


@kernel
def refine(
    px: Floats, py: Floats, pz: Floats, t: Floats, s: Floats, theta: Floats, mean: Floats, precision: Floats,
    gate: float, m: int, weights: Floats, residuals: Floats,
) -> float:  # fmt: skip
    """Descend to the nearest minimum of `misfit` over the first `m` unknowns (Levenberg-Marquardt, reweighted).

    Parameters
    ----------
    px, py, pz, t, s : numpy.ndarray, shape (n,)
        Sensors [m], arrivals [s] and their standard deviations [s].
    theta : numpy.ndarray, shape (7,)
        Start; becomes the minimum.
    mean, precision : numpy.ndarray, shape (7,)
        Prior means and inverse variances.
    gate : float
        As in `misfit`.
    m : int
        How many unknowns are free.
    weights, residuals : numpy.ndarray, shape (n,)
        Receive each arrival's weight and residual [s] at the minimum.

    Returns
    -------
    float
        The misfit there.
    """
    a = np.empty((PARAMETERS, PARAMETERS))
    damped = np.empty((PARAMETERS, PARAMETERS))
    b = np.empty(PARAMETERS)
    step = np.empty(PARAMETERS)
    trial = theta.copy()
    damping = 1e-4
    best = misfit(px, py, pz, t, s, theta, mean, precision, gate)
    normal_equations(px, py, pz, t, s, theta, mean, precision, gate, m, a, b, weights, residuals)
    for _ in range(MAX_STEPS):
        for p in range(m):
            for q in range(m):
                damped[p, q] = a[p, q]
            damped[p, p] += damping * a[p, p] + 1e-12
            step[p] = b[p]
        if not solve_spd(damped, step, m):
            damping = max(damping, 1e-8) * 10.0
            continue
        decrement = 0.0
        for p in range(m):
            trial[p] = theta[p] + step[p]
            decrement += step[p] * b[p]
        trial[4] = min(max(trial[4], 200.0), 500.0)
        now = misfit(px, py, pz, t, s, trial, mean, precision, gate)
        if now <= best:
            for p in range(m):
                theta[p] = trial[p]
            best = now
            damping *= 0.1
            normal_equations(px, py, pz, t, s, theta, mean, precision, gate, m, a, b, weights, residuals)
        else:
            damping = max(damping, 1e-8) * 10.0
        if decrement < STEP_TOLERANCE * STEP_TOLERANCE or damping > 1e12:
            break
    return best


@kernel
def covariance(
    px: Floats,
    py: Floats,
    pz: Floats,
    t: Floats,
    s: Floats,
    theta: Floats,
    precision: Floats,
    weights: Floats,
    out: Floats,
) -> bool:
    """Compute the posterior covariance of all unknowns at a minimum (inverse of the weighted normal matrix).

    Parameters
    ----------
    px, py, pz, t, s : numpy.ndarray, shape (n,)
        Sensors [m], arrivals [s] and their standard deviations [s].
    theta, precision : numpy.ndarray, shape (7,)
        The minimum, and the prior inverse variances.
    weights : numpy.ndarray, shape (n,)
        Each arrival's weight.
    out : numpy.ndarray, shape (7, 7)
        Receives the covariance.

    Returns
    -------
    bool
        False where the arrivals and priors do not fix all unknowns.
    """
    m = PARAMETERS
    a = np.zeros((m, m))
    row = np.empty(m)
    for p in range(m):
        a[p, p] = precision[p]
    for i in range(t.size):
        residual(px[i], py[i], pz[i], t[i], theta, row)
        k = weights[i] / (s[i] * s[i])
        for p in range(m):
            for q in range(m):
                a[p, q] += k * row[p] * row[q]
    scale = np.empty(m)
    for p in range(m):
        if a[p, p] <= 0.0:
            return False
        scale[p] = 1.0 / math.sqrt(a[p, p])
    factor = np.empty((m, m))
    column = np.empty(m)
    for q in range(m):
        for i in range(m):
            for j in range(m):
                factor[i, j] = a[i, j] * scale[i] * scale[j]
            column[i] = scale[q] if i == q else 0.0
        if not solve_spd(factor, column, m):
            return False
        for i in range(m):
            out[i, q] = column[i] * scale[i]
    return True


@kernel
def judge(
    px: Floats,
    py: Floats,
    pz: Floats,
    t: Floats,
    s: Floats,
    theta: Floats,
    gate: float,
    weights: Floats,
    residuals: Floats,
) -> None:
    """Judge arrivals by a source: each one's residual, and how likely it is right.

    Parameters
    ----------
    px, py, pz, t, s : numpy.ndarray, shape (n,)
        Sensors [m], arrivals [s] and their standard deviations [s].
    theta : numpy.ndarray, shape (7,)
        The source.
    gate : float
        As in `misfit`.
    weights, residuals : numpy.ndarray, shape (n,)
        Receive the judgement.
    """
    row = np.empty(PARAMETERS)
    for i in range(t.size):
        residuals[i] = residual(px[i], py[i], pz[i], t[i], theta, row)
        weights[i] = right(residuals[i] / s[i], gate)
