"""Multilateration: the place and time of a shot from the times it was heard at sensors.

`solve` is the whole of it: every place that three arrivals allow is tried, the one most arrivals agree on is refined to
maximum likelihood, together with height, sound speed and wind under priors that say how well those are known, and
what is returned carries the covariance of all of it. Wrong arrivals (echoes, a neighbour's shot) lose their weight.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from agls.config import Weather
from agls.locate import _modes
from agls.locate._kernels import PARAMETERS, REFERENCE_SPEED_M_S, Floats
from agls.physics import sound_speed_m_s, wind_vector_m_s

GATE = 4.0  # standard deviations at which a late arrival is as likely wrong as right
MIN_ARRIVALS = 3
OTHER_M = 1.0  # places nearer than this are one
OTHER_NATS = 5.0  # places less likely than exp(-5) of the best are not worth a dispatcher's time
_PLACE = np.ix_([0, 1, 3, 2], [0, 1, 3, 2])
_SCALES = np.outer([1.0, 1.0, 1.0, 1.0 / REFERENCE_SPEED_M_S], [1.0, 1.0, 1.0, 1.0 / REFERENCE_SPEED_M_S])
_UNKNOWN_HEIGHT = np.zeros(2)


class Air(msgspec.Struct, frozen=True, gc=False):
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


class Height(msgspec.Struct, frozen=True, gc=False):
    """What is known of a source's height before listening [m]."""

    mean_m: float
    sigma_m: float = 10.0


class Solution(msgspec.Struct, frozen=True):
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


class NoSolution(msgspec.Struct, frozen=True, gc=False):
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
        Standard deviations at which a late arrival is as likely wrong as right; an early one is rarely wrong.

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
    n = toa.size
    if n < MIN_ARRIVALS:
        return NoSolution("too_few_arrivals")
    thetas, misfits, weights, residuals = (
        np.empty((_modes.MODES, PARAMETERS)),
        np.empty(_modes.MODES),
        np.empty(n),
        np.empty(n),
    )
    spread, middle = np.empty((PARAMETERS, PARAMETERS)), np.empty(4)
    known = _known(air)
    source = np.array((height.mean_m, height.sigma_m)) if height is not None else _UNKNOWN_HEIGHT
    count = _modes.locate(
        positions, toa, sigma, known, source, gate, thetas, misfits, weights, residuals, spread, middle
    )
    if count == -1:
        raise ValueError("positions, arrivals and sigmas must be finite, sigmas above zero")
    if count <= 0:
        return NoSolution("no_common_source" if count == 0 else "geometry_does_not_fix_place")
    x, y, b, z, c, u, v = thetas[0].tolist()
    middle_x, middle_y, middle_z, middle_s = middle.tolist()
    found = Air(c, u, v, math.sqrt(spread[4, 4]), math.sqrt(0.5 * (spread[5, 5] + spread[6, 6])))
    return Solution(
        x + middle_x, y + middle_y, z + middle_z, b / REFERENCE_SPEED_M_S + middle_s, spread[_PLACE] * _SCALES,
        residuals, weights, float(misfits[0]), found, _others(thetas, misfits, middle, count) if count > 1 else (),
    )  # fmt: skip


def solve_batch(
    positions_m: Floats, toa_s: Floats, sigma_s: Floats, air: Air, height: Height | None = None, *, gate: float = GATE
) -> tuple[Floats, Floats, Floats]:
    """Locate many sources at once, each heard by the same number of sensors.

    Parameters
    ----------
    positions_m : numpy.ndarray, shape (k, n, 3)
        Sensors of each [m].
    toa_s, sigma_s : numpy.ndarray, shape (k, n)
        Arrivals and their standard deviations [s].
    air : Air
        What is known of the air.
    height : Height, optional
        What is known of the sources' height.
    gate : float, optional
        As in `solve`.

    Returns
    -------
    places : numpy.ndarray, shape (k, 4)
        Place [m] (x, y, z) and origin time [s]; nan where there is no solution.
    covariances : numpy.ndarray, shape (k, 4, 4)
        Of these.
    misfits : numpy.ndarray, shape (k,)
        Negative log-likelihoods without constants; infinite where there is no solution.

    Raises
    ------
    ValueError
        If shapes do not match.
    """
    positions, toa, sigma = (np.ascontiguousarray(each, dtype=np.float64) for each in (positions_m, toa_s, sigma_s))
    if positions.shape != (*toa.shape, 3) or sigma.shape != toa.shape or toa.ndim != 2 or toa.shape[1] < MIN_ARRIVALS:
        raise ValueError(
            f"shapes {positions.shape}, {toa.shape}, {sigma.shape}: expected (k, n, 3), (k, n), (k, n), n >= 3"
        )
    count = len(toa)
    places, spreads, misfits = np.empty((count, 4)), np.empty((count, PARAMETERS, PARAMETERS)), np.empty(count)
    source = np.array((height.mean_m, height.sigma_m)) if height is not None else _UNKNOWN_HEIGHT
    _modes.locate_many(positions, toa, sigma, _known(air), source, gate, places, spreads, misfits)
    return places, spreads[:, _PLACE[0], _PLACE[1]] * _SCALES, misfits


def _known(air: Air) -> Floats:
    return np.array((air.sound_speed_m_s, air.east_m_s, air.north_m_s, air.sound_speed_sigma_m_s, air.wind_sigma_m_s))


def _others(thetas: Floats, misfits: Floats, middle: Floats, count: int) -> tuple[tuple[float, float, float], ...]:
    """List the places that fit almost as well as the best, each once, with their odds against it."""
    told = [thetas[0, :2]]
    out: list[tuple[float, float, float]] = []
    for k in range(1, count):
        near = min(float(np.hypot(*(thetas[k, :2] - other))) for other in told) < OTHER_M
        if misfits[k] - misfits[0] < OTHER_NATS and not near:
            told.append(thetas[k, :2])
            x_m, y_m = (thetas[k, :2] + middle[:2]).tolist()
            out.append((x_m, y_m, math.exp(misfits[0] - misfits[k])))
    return tuple(out)


def _checked(positions_m: Floats, toa_s: Floats, sigma_s: Floats) -> tuple[Floats, Floats, Floats]:
    positions = np.ascontiguousarray(positions_m, dtype=np.float64)
    toa = np.ascontiguousarray(toa_s, dtype=np.float64)
    sigma = np.ascontiguousarray(sigma_s, dtype=np.float64)
    if positions.ndim != 2 or positions.shape[1] != 3 or toa.shape != positions.shape[:1] or sigma.shape != toa.shape:
        raise ValueError(f"shapes {positions.shape}, {toa.shape}, {sigma.shape}: expected (n, 3), (n,), (n,)")
    return positions, toa, sigma


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
