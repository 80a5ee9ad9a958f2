"""Physics and bounds of the benchmarks' own, written apart from the solver's: what it shares with it, it cannot test.

The model: a source at (x, y, z) sounds at t0 in air that moves as a whole with (east, north) and carries sound at c.
Sensor i hears it after tau with ``|p - s - w tau| = c tau``, blurred by white noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def flight_s(positions_m: Floats, source_m: Floats, speed_m_s: float, wind_m_s: Floats | tuple[float, float]) -> Floats:
    """Compute how long sound takes to each sensor through moving air.

    Parameters
    ----------
    positions_m : numpy.ndarray, shape (n, 3)
        Sensors [m].
    source_m : numpy.ndarray, shape (3,)
        Source [m].
    speed_m_s : float
        Sound speed [m/s].
    wind_m_s : array_like, shape (2,)
        Where the air goes [m/s].

    Returns
    -------
    numpy.ndarray, shape (n,)
        Times [s].
    """
    w = np.array([*wind_m_s, 0.0])
    away = positions_m - source_m
    a, b, c = speed_m_s**2 - w @ w, away @ w, (away**2).sum(axis=1)
    return np.asarray((np.sqrt(b**2 + a * c) - b) / a)


def jacobian(positions_m: Floats, source_m: Floats, speed_m_s: float, wind_m_s: Floats | tuple[float, float]) -> Floats:
    """Differentiate the times of arrival.

    Parameters
    ----------
    positions_m : numpy.ndarray, shape (n, 3)
        Sensors [m].
    source_m : numpy.ndarray, shape (3,)
        Source [m].
    speed_m_s : float
        Sound speed [m/s].
    wind_m_s : array_like, shape (2,)
        Where the air goes [m/s].

    Returns
    -------
    numpy.ndarray, shape (n, 7)
        By x, y, z, t0, c, east and north.
    """
    w = np.array([*wind_m_s, 0.0])
    tau = flight_s(positions_m, source_m, speed_m_s, wind_m_s)
    unit = (positions_m - source_m - tau[:, None] * w) / (speed_m_s * tau[:, None])
    stretch = (speed_m_s + unit @ w)[:, None]
    ones = np.ones((len(tau), 1))
    return np.hstack([-unit / stretch, ones, -tau[:, None] / stretch, -tau[:, None] * unit[:, :2] / stretch])


def bound_m2(
    positions_m: Floats, source_m: Floats, sigma_s: Floats, speed_m_s: float, wind_m_s: Floats | tuple[float, float],
    prior_sigmas: tuple[float, float, float],
) -> Floats:  # fmt: skip
    """Compute the Cramer-Rao bound of a horizontal place, Bayesian in what has a prior.

    Parameters
    ----------
    positions_m : numpy.ndarray, shape (n, 3)
        Sensors [m].
    source_m : numpy.ndarray, shape (3,)
        Source [m].
    sigma_s : numpy.ndarray, shape (n,)
        Standard deviations of the arrivals [s].
    speed_m_s : float
        Sound speed [m/s].
    wind_m_s : array_like, shape (2,)
        Where the air goes [m/s].
    prior_sigmas : tuple of float
        Standard deviations of height [m], sound speed and each component of the wind [m/s] known beforehand.

    Returns
    -------
    numpy.ndarray, shape (2, 2)
        Least covariance of east and north [m2].
    """
    rows = jacobian(positions_m, source_m, speed_m_s, wind_m_s) / sigma_s[:, None]
    height, speed, wind = prior_sigmas
    known = np.array([0.0, 0.0, height**-2, 0.0, speed**-2, wind**-2, wind**-2])
    information = rows.T @ rows + np.diag(known)
    # Scaled to a unit diagonal: seconds and metres differ by a factor of 340.
    scale = 1 / np.sqrt(np.diag(information))
    inverse = np.linalg.inv(information * np.outer(scale, scale)) * np.outer(scale, scale)
    return inverse[:2, :2]


def chan_ho(positions_m: Floats, toa_s: Floats, speed_m_s: float) -> Floats:
    """Locate in the plane by Chan and Ho's two steps, as a reference without robustness.

    Parameters
    ----------
    positions_m : numpy.ndarray, shape (n, 3)
        Sensors; their heights are not used [m].
    toa_s : numpy.ndarray, shape (n,)
        Arrivals, equally sure [s].
    speed_m_s : float
        Sound speed [m/s].

    Returns
    -------
    numpy.ndarray, shape (2,)
        East and north [m].

    References
    ----------
    Y. T. Chan, K. C. Ho, "A simple and efficient estimator for hyperbolic location", IEEE Trans. Signal Proc. 42, 1994.
    """
    middle = positions_m[:, :2].mean(axis=0)
    p = positions_m[:, :2] - middle
    r = (toa_s[1:] - toa_s[0]) * speed_m_s
    q = np.eye(len(r)) + 1.0  # covariance of differences to the first arrival
    g = -np.column_stack([p[1:] - p[0], r])
    h = 0.5 * (r**2 - (p[1:] ** 2).sum(axis=1) + (p[0] ** 2).sum())
    weight = np.linalg.inv(q)
    z = np.linalg.solve(g.T @ weight @ g, g.T @ weight @ h)
    for _ in range(2):
        away = np.hypot(*(p[1:] - z[:2]).T)
        weight = np.linalg.inv(away[:, None] * q * away)
        covariance = np.linalg.inv(g.T @ weight @ g)
        z = covariance @ (g.T @ weight @ h)
    away_m = z - [*p[0], 0.0]
    second = np.linalg.inv(4 * np.outer(away_m, away_m) * covariance)
    g2 = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    square = np.linalg.solve(g2.T @ second @ g2, g2.T @ second @ away_m**2)
    refined: Floats = np.sign(away_m[:2]) * np.sqrt(np.abs(square)) + p[0] + middle
    return refined


def inside_hull(positions_m: Floats, places_m: Floats) -> NDArray[np.bool_]:
    """Tell which places lie among the sensors.

    Parameters
    ----------
    positions_m : numpy.ndarray, shape (n, 2 or 3)
        Sensors [m].
    places_m : numpy.ndarray, shape (k, 2)
        Places [m].

    Returns
    -------
    numpy.ndarray, shape (k,), bool
        True inside the convex hull.
    """
    from scipy.spatial import ConvexHull

    edges = ConvexHull(positions_m[:, :2]).equations
    return np.asarray((places_m @ edges[:, :2].T + edges[:, 2] <= 0).all(axis=1))
