"""Multilateration: the place and time of a shot from the times it was heard at sensors.

`solve` is the whole of it: every place that three arrivals allow is tried, the one most arrivals agree on is refined to
maximum likelihood, together with height, sound speed and wind under priors that say how well those are known, and
what is returned carries the covariance of all of it. Wrong arrivals (echoes, a neighbour's shot) lose their weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agls.config import Weather
from agls.locate import _kernels
from agls.locate._kernels import PARAMETERS, REFERENCE_SPEED_M_S, Floats
from agls.physics import sound_speed_m_s, wind_vector_m_s

GATE = 4.0  # standard deviations at which an arrival is as likely wrong as right
MIN_ARRIVALS = 3
MODES = 6


@dataclass(frozen=True, slots=True)
class Air:
    """What is known of the air: sound speed, where it blows to, and how sure that is.

    Attributes
    ----------
    sound_speed_m_s, east_m_s, north_m_s : float
        Sound speed and velocity of the air [m/s].
    sound_speed_sigma_m_s, wind_sigma_m_s : float
        One standard deviation of the sound speed, and of each component of the wind [m/s].
    """

    sound_speed_m_s: float
    east_m_s: float = 0.0
    north_m_s: float = 0.0
    sound_speed_sigma_m_s: float = 5.0
    wind_sigma_m_s: float = 3.0

    @classmethod
    def of_weather(cls, weather: Weather) -> Air:
        """Take the air from a weather report.

        Parameters
        ----------
        weather : Weather
            Report and its uncertainty.

        Returns
        -------
        Air
            The air.
        """
        speed = sound_speed_m_s(weather.temperature_c, weather.humidity_percent)
        warmer = sound_speed_m_s(weather.temperature_c + 1.0, weather.humidity_percent)
        east, north = wind_vector_m_s(weather.wind_speed_m_s, weather.wind_from_deg)
        return cls(speed, east, north, (warmer - speed) * weather.temperature_sigma_c, weather.wind_sigma_m_s)


@dataclass(frozen=True, slots=True)
class Height:
    """What is known of a source's height before listening [m]."""

    mean_m: float
    sigma_m: float = 10.0


@dataclass(frozen=True, slots=True)
class Solution:
    """A located source.

    Attributes
    ----------
    x_m, y_m, z_m : float
        Place [m].
    origin_s : float
        When the sound began, on the scale of the arrivals [s].
    covariance : numpy.ndarray, shape (4, 4)
        Of x, y, z [m] and origin time [s].
    residuals_s : numpy.ndarray, shape (n,)
        Arrival less the time predicted [s].
    weights : numpy.ndarray, shape (n,)
        Probability of each arrival to be right, 0 to 1.
    misfit : float
        Negative log-likelihood without constants.
    air : Air
        Sound speed and wind as prior and arrivals together have them, and how sure.
    others : tuple of tuple of float
        Other places [m, m] that fit almost as well, with their odds against this one.
    """

    x_m: float
    y_m: float
    z_m: float
    origin_s: float
    covariance: Floats
    residuals_s: Floats
    weights: Floats
    misfit: float
    air: Air
    others: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class NoSolution:
    """Why arrivals have no common source: a name to count it by."""

    reason: str


def solve(
    positions_m: Floats, toa_s: Floats, sigma_s: Floats, air: Air, height: Height | None = None, *, gate: float = GATE
) -> Solution | NoSolution:
    """Locate a source from its arrivals.

    Parameters
    ----------
    positions_m : numpy.ndarray, shape (n, 3)
        Sensors: east, north, up [m].
    toa_s : numpy.ndarray, shape (n,)
        Times of arrival [s], relative to any moment near them.
    sigma_s : numpy.ndarray, shape (n,)
        Standard deviation of each arrival: path and pick together [s].
    air : Air
        What is known of the air.
    height : Height, optional
        What is known of the source's height; near the earliest sensors where not given.
    gate : float, optional
        Standard deviations at which an arrival is as likely wrong as right.

    Returns
    -------
    Solution or NoSolution
        The most likely source, or the reason there is none.

    Raises
    ------
    ValueError
        If shapes do not match, or a number is not finite.
    """
    positions, toa, sigma = _checked(positions_m, toa_s, sigma_s)
    if toa.size < MIN_ARRIVALS:
        return NoSolution("too_few_arrivals")
    height = height or height_near(positions, toa)
    middle = positions.mean(axis=0)
    px, py, pz = np.ascontiguousarray((positions - middle).T)
    t_ref = float(toa.mean())
    return _solve(px, py, pz, toa - t_ref, sigma, air, height, middle, t_ref, gate)


def height_near(positions_m: Floats, toa_s: Floats, count: int = 4) -> Height:
    """Guess a source's height from the sensors that heard it first.

    Parameters
    ----------
    positions_m : numpy.ndarray, shape (n, 3)
        Sensors [m].
    toa_s : numpy.ndarray, shape (n,)
        Times of arrival [s].
    count : int, optional
        How many of the earliest to take.

    Returns
    -------
    Height
        Their mean height; as uncertain as they differ, and never surer than 10 m.
    """
    nearest = positions_m[np.argsort(toa_s, kind="stable")[:count], 2]
    return Height(float(nearest.mean()), max(10.0, float(nearest.std())))


def _checked(positions_m: Floats, toa_s: Floats, sigma_s: Floats) -> tuple[Floats, Floats, Floats]:
    positions = np.asarray(positions_m, dtype=np.float64)
    toa = np.asarray(toa_s, dtype=np.float64)
    sigma = np.asarray(sigma_s, dtype=np.float64)
    if positions.ndim != 2 or positions.shape[1] != 3 or toa.shape != positions.shape[:1] or sigma.shape != toa.shape:
        raise ValueError(f"shapes {positions.shape}, {toa.shape}, {sigma.shape}: expected (n, 3), (n,), (n,)")
    if not (np.isfinite(positions).all() and np.isfinite(toa).all() and np.isfinite(sigma).all() and (sigma > 0).all()):
        raise ValueError("positions, arrivals and sigmas must be finite, sigmas above zero")
    return positions, toa, sigma


def _solve(
    px: Floats, py: Floats, pz: Floats, t: Floats, s: Floats, air: Air, height: Height, middle: Floats,
    t_ref: float, gate: float,
) -> Solution | NoSolution:  # fmt: skip
    mean, precision = prior(air, Height(height.mean_m - middle[2], height.sigma_m))
    thetas, misfits = np.empty((MODES, PARAMETERS)), np.empty(MODES)
    weights, residuals = np.empty(t.size), np.empty(t.size)
    count = _kernels.search(px, py, pz, t, s, mean, precision, gate, thetas, misfits, weights, residuals)
    if count == 0:
        return NoSolution("no_common_source")
    theta = thetas[0]
    spread = np.empty((PARAMETERS, PARAMETERS))
    if not _kernels.covariance(px, py, pz, t, s, theta, precision, weights, spread):
        return NoSolution("geometry_does_not_fix_place")
    others = tuple(
        (float(thetas[k, 0] + middle[0]), float(thetas[k, 1] + middle[1]), float(np.exp(misfits[0] - misfits[k])))
        for k in range(1, count)
        if misfits[k] - misfits[0] < 5.0 and np.hypot(*(thetas[k, :2] - theta[:2])) > 1.0
    )
    x, y, b, z, c, u, v = (float(value) for value in theta)
    found = Air(c, u, v, float(spread[4, 4]) ** 0.5, float((spread[5, 5] + spread[6, 6]) / 2) ** 0.5)
    return Solution(
        x + float(middle[0]), y + float(middle[1]), z + float(middle[2]), b / REFERENCE_SPEED_M_S + t_ref,
        place_covariance(spread), residuals, weights, float(misfits[0]), found, others,
    )  # fmt: skip


def prior(air: Air, height: Height) -> tuple[Floats, Floats]:
    """Write what is known beforehand as means and inverse variances of the seven unknowns.

    Parameters
    ----------
    air : Air
        What is known of the air.
    height : Height
        What is known of the source's height, in the frame of the arrays.

    Returns
    -------
    tuple of numpy.ndarray, shape (7,)
        Means and inverse variances; place and origin time have flat priors.
    """
    mean = np.array([0.0, 0.0, 0.0, height.mean_m, air.sound_speed_m_s, air.east_m_s, air.north_m_s])
    wind = air.wind_sigma_m_s**-2
    precision = np.array([0.0, 0.0, 0.0, height.sigma_m**-2, air.sound_speed_sigma_m_s**-2, wind, wind])
    return mean, precision


def place_covariance(spread: Floats) -> Floats:
    """Pick place and origin time out of the covariance of all unknowns.

    Parameters
    ----------
    spread : numpy.ndarray, shape (7, 7)
        Covariance in the order of `agls.locate._kernels`.

    Returns
    -------
    numpy.ndarray, shape (4, 4)
        Covariance of x, y, z [m] and origin time [s].
    """
    scale = np.array([1.0, 1.0, 1.0, 1.0 / REFERENCE_SPEED_M_S])
    chosen = spread[np.ix_([0, 1, 3, 2], [0, 1, 3, 2])]
    return np.asarray(chosen * np.outer(scale, scale))
