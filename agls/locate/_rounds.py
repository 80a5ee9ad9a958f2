"""Laying the delays of one round over those of others, compiled. What for: `agls.locate.rounds`."""

import math

import numpy as np

from agls.locate._kernels import Floats, right, solve_spd
from agls.locate.jit import kernel

UNKNOWNS = 3  # east and north of the other round [m], and how much later it is [s]
ROUNDS = 12
NARROWING = 6  # in so many steps from a path's scatter, which no place is far enough off to miss, to a pick's
STEP_M = 0.001
ROUND_GATE = 4.0  # standard deviations of a pick from which a delay is another sound's


@kernel
def lay_over(
    away: Floats, speed: float, delay: Floats, sigma: Floats, pattern: Floats, path: float, moved: Floats,
    spread: Floats, left: Floats, weights: Floats,
) -> int:  # fmt: skip
    """Find how far from a place, and how much later, a round was fired that is heard with other delays.

    Paths are common to both and do not matter: what is left is pick errors.

    Parameters
    ----------
    away : numpy.ndarray, shape (m, 3)
        From the place to the sensors, as sound goes there in the moving air [m].
    speed : float
        Sound speed [m/s].
    delay, pattern : numpy.ndarray, shape (m,)
        Delays of the round and of the place [s], nan where not heard.
    sigma : numpy.ndarray, shape (m,)
        Standard deviations of their differences, by picks alone [s].
    path : float
        Standard deviation of the paths [s].
    moved : numpy.ndarray, shape (3,)
        Start; becomes east, north [m] and how much later [s].
    spread : numpy.ndarray, shape (3, 3)
        Receives their covariance.
    left, weights : numpy.ndarray, shape (m,)
        Receive what is left of each difference [s], and how likely it is right; 0 where not heard by both.

    Returns
    -------
    int
        How many sensors heard both; 0 where they do not fix the unknowns.
    """
    m = delay.size
    a, factor, row, step = np.empty((3, 3)), np.empty((3, 3)), np.empty(3), np.empty(3)
    count = 0
    for rounds in range(ROUNDS):
        wide = path * 0.5**rounds if rounds < NARROWING else 0.0
        a[:] = 0.0
        step[:] = 0.0
        count = 0
        for i in range(m):
            weights[i], left[i] = 0.0, 0.0
            if not (math.isfinite(delay[i]) and math.isfinite(pattern[i])):
                continue
            count += 1
            dx, dy, dz = away[i, 0] - moved[0], away[i, 1] - moved[1], away[i, 2]
            was = math.sqrt(away[i, 0] ** 2 + away[i, 1] ** 2 + away[i, 2] ** 2)
            now = math.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
            left[i] = delay[i] - pattern[i] - moved[2] - (now - was) / speed
            s = math.hypot(sigma[i], wide)
            weights[i] = right(left[i] / s, ROUND_GATE)
            row[0], row[1], row[2] = -dx / (now * speed), -dy / (now * speed), 1.0
            k = weights[i] / (s * s)
            for p in range(UNKNOWNS):
                step[p] += k * row[p] * left[i]
                for q in range(UNKNOWNS):
                    a[p, q] += k * row[p] * row[q]
        if rounds == ROUNDS - 1:
            break
        factor[:] = a
        if count < UNKNOWNS or not solve_spd(factor, step, UNKNOWNS):
            return 0
        moved += step
        if wide == 0.0 and abs(step[0]) + abs(step[1]) < STEP_M and rounds > NARROWING:
            break
    for q in range(UNKNOWNS):
        factor[:] = a
        row[:] = 0.0
        row[q] = 1.0
        if not solve_spd(factor, row, UNKNOWNS):
            return 0
        spread[:, q] = row
    return count
