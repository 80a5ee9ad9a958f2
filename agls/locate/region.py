"""The 95 % credible region of a place as a polygon, where it is no ellipse: few sensors, or a shot outside them."""

from __future__ import annotations

import math

import numpy as np

from agls.locate._kernels import PARAMETERS, REFERENCE_SPEED_M_S, Floats, refine
from agls.locate._modes import OPEN_GATE
from agls.locate.jit import kernel
from agls.locate.solve import Air, Height, Solution, prior

CORNERS = 36
HALF_CHI2_95_2D = 2.995732273553991
FARTHEST_M = 20_000.0
LEAST_M = 0.01


def region95(
    solution: Solution, positions_m: Floats, toa_s: Floats, sigma_s: Floats, air: Air, height: Height
) -> Floats:
    """Walk from a place in all directions until the arrivals contradict.

    The directions are spread evenly over the ellipse, so that a long thin region has its corners where it bends. In
    each direction the farthest place that is not less likely than 95 % allows (by the profile of the likelihood over
    origin time, height and air) is a corner.

    Parameters
    ----------
    solution : Solution
        The place.
    positions_m : numpy.ndarray, shape (n, 3)
        Sensors [m].
    toa_s, sigma_s : numpy.ndarray, shape (n,)
        Arrivals and their standard deviations [s]; those refused are left out.
    air : Air
        What was known of the air.
    height : Height
        What was known of the height.

    Returns
    -------
    numpy.ndarray, shape (CORNERS, 2)
        East and north of the corners [m], counter-clockwise.
    """
    good = solution.weights > 0.5
    middle = np.array([solution.x_m, solution.y_m, 0.0])
    px, py, pz = np.ascontiguousarray((positions_m[good] - middle).T)
    mean, precision = prior(air, height)
    start = mean.copy()
    start[2], start[3] = 0.0, solution.z_m
    start[4], start[5], start[6] = solution.air.sound_speed_m_s, solution.air.east_m_s, solution.air.north_m_s
    values, vectors = np.linalg.eigh(solution.covariance[:2, :2])
    angles = 2.0 * np.pi * np.arange(CORNERS) / CORNERS
    spokes = np.column_stack([np.cos(angles), np.sin(angles)]) * np.sqrt(np.maximum(values, LEAST_M**2)) @ vectors.T
    corners = np.empty((CORNERS, 2))
    t = np.ascontiguousarray(toa_s[good] - solution.origin_s)
    _corners(px, py, pz, t, np.ascontiguousarray(sigma_s[good]), start, mean, precision, spokes, corners)
    return np.asarray(corners + middle[:2])


@kernel
def _corners(
    px: Floats, py: Floats, pz: Floats, t: Floats, s: Floats, start: Floats, mean: Floats, precision: Floats,
    spokes: Floats, out: Floats,
) -> None:  # fmt: skip
    fixed, pull = mean.copy(), precision.copy()
    pull[0] = pull[1] = 1e8  # holds the place where it is put
    weights, residuals = np.empty(t.size), np.empty(t.size)
    theta = np.empty(PARAMETERS)
    for corner in range(out.shape[0]):
        along_x, along_y = spokes[corner]
        limit = FARTHEST_M / math.hypot(along_x, along_y)
        low, high = 0.0, limit
        floor = 0.0
        for step in range(26):
            away = 0.0 if step == 0 else (min(2.0 * low + 1.0, high) if high == limit else 0.5 * (low + high))
            theta[:] = start
            theta[0] = fixed[0] = away * along_x
            theta[1] = fixed[1] = away * along_y
            origin = 0.0
            for i in range(t.size):
                origin += (t[i] - math.hypot(px[i] - theta[0], py[i] - theta[1]) / theta[4]) / t.size
            theta[2] = origin * REFERENCE_SPEED_M_S
            cost = refine(px, py, pz, t, s, theta, fixed, pull, OPEN_GATE, PARAMETERS, weights, residuals)
            if step == 0:
                floor = cost
            elif cost - floor < HALF_CHI2_95_2D:
                low = away
            else:
                high = away
            if low >= limit or high - low < 0.01 * high:
                break
        out[corner, 0], out[corner, 1] = low * along_x, low * along_y
