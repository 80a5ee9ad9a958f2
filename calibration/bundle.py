"""Bundle adjustment: sensors, their clocks, the air and the shots together, from when each shot was heard where.

A pick is ``origin + flight + clock offset + path + noise``. Everything but the origin times has a prior: the survey for
a place, the clock's own claim for an offset, the weather report for the air; a prior of zero width holds a quantity
fast, one of infinite width leaves it to the arrivals. A path delays all shots from one place at one sensor alike; it is
not solved for but stands in the covariance of the picks, and its scatter is found by the likelihood of all picks. Picks
that what the others say makes incredible (an echo for the direct sound) are refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_array

from agls.errors import InputError
from agls.locate.solve import Air

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

GATE = 4.5  # standard deviations beyond which a pick is refused
CAUCHY = 2.4  # at so many a pick counts a half while the rest is not settled yet
ASIDE = 1e4  # a refused pick's sigma is multiplied by this: it stays in the tables and says nothing
LEAST_PATH_S, MOST_PATH_S = 1e-6, 0.1
PATH_SPREAD = math.log(10.0)  # the paths' scatter stated beforehand may be wrong by a factor of ten
ROUNDS, STEPS, MOST_DAMPING = 8, 60, 1e9
STRANGE = 3.0  # so many times the misfit that is expected is no chance


@dataclass(frozen=True)
class Network:
    """What is known of sensors, clocks and air before anything is heard.

    Attributes
    ----------
    sensor_ids : tuple of str
        The sensors, n of them.
    positions_m, position_sigma_m : numpy.ndarray, shape (n, 3)
        Where they stand, and how sure each coordinate is [m].
    offsets_s, offset_sigma_s : numpy.ndarray, shape (n,)
        How late their clocks stamp, and how sure that is [s].
    air : Air
        The air and how sure that is.
    path_sigma_s : float
        Expected scatter of the paths [s]; 0 for none.
    """

    sensor_ids: tuple[str, ...]
    positions_m: Floats
    position_sigma_m: Floats
    offsets_s: Floats
    offset_sigma_s: Floats
    air: Air
    path_sigma_s: float


@dataclass(frozen=True)
class Shots:
    """What is known of the shots.

    Attributes
    ----------
    names : tuple of str
        The shots, k of them.
    places_m, place_sigma_m : numpy.ndarray, shape (k, 3)
        Where they were fired [m]: sigma 0 for exactly there, infinity for anywhere.
    place : numpy.ndarray, shape (k,)
        Number of the place of each; shots of one place share their paths.
    origin_s, origin_sigma_s : numpy.ndarray, shape (k,)
        When they were fired [s]; infinity where nobody knows.
    """

    names: tuple[str, ...]
    places_m: Floats
    place_sigma_m: Floats
    place: Ints
    origin_s: Floats
    origin_sigma_s: Floats


@dataclass(frozen=True)
class Picks:
    """When shots were heard.

    Attributes
    ----------
    shot, sensor : numpy.ndarray, shape (m,)
        Numbers of the shot and the sensor of each pick.
    toa_s, sigma_s : numpy.ndarray, shape (m,)
        Time of arrival on the scale of the origin times, and the pick's own standard deviation [s].
    """

    shot: Ints
    sensor: Ints
    toa_s: Floats
    sigma_s: Floats


@dataclass(frozen=True)
class Bundle:
    """What came out.

    Attributes
    ----------
    positions_m, position_sigma_m : numpy.ndarray, shape (n, 3)
        Sensors and the standard deviation of each coordinate [m].
    offsets_s, offset_sigma_s : numpy.ndarray, shape (n,)
        How late each clock stamps [s].
    air : Air
        Sound speed and wind; `wind_sigma_m_s` is the larger of both components'.
    places_m : numpy.ndarray, shape (k, 3)
        Shots [m].
    origins_s : numpy.ndarray, shape (k,)
        Their times [s].
    path_sigma_s : float
        Scatter of the paths as found [s].
    residuals_s : numpy.ndarray, shape (m,)
        Pick less prediction [s].
    used : numpy.ndarray, shape (m,), bool
        Which picks were used; the others are refused.
    misfit, free : float
        Sum of squares of all residuals and priors in their standard deviations, and how many of it were expected.
    unlikelihood : float
        Minus twice the logarithm of how likely the picks are under all that was known before, up to a constant that is
        the same whatever was known of the same quantities: it compares explanations.
    covariance : numpy.ndarray, shape (p, p)
        Of all that was not held fast, in the order sensors' coordinates, offsets, air, shots' coordinates, origins.
    told : numpy.ndarray, shape (p, p)
        What the picks alone say of the same: the information matrix without priors.
    prior_sigma : numpy.ndarray, shape (p,)
        Standard deviation of each beforehand.
    index : dict of str to numpy.ndarray
        Where `position`, `offset`, `air`, `place` and `origin` are in it, shaped like them; -1 where held fast.
    """

    positions_m: Floats
    position_sigma_m: Floats
    offsets_s: Floats
    offset_sigma_s: Floats
    air: Air
    places_m: Floats
    origins_s: Floats
    path_sigma_s: float
    residuals_s: Floats
    used: Flags
    misfit: float
    free: float
    unlikelihood: float
    covariance: Floats
    told: Floats
    prior_sigma: Floats
    index: dict[str, Ints] = field(repr=False)

    @property
    def doubt(self) -> tuple[str, ...]:
        """Say that the picks do not fit, where they do not.

        Returns
        -------
        tuple of str
            A sentence, or nothing.
        """
        if self.misfit < STRANGE * max(self.free, 1.0):
            return ()
        times = f"{self.misfit / max(self.free, 1.0):.0f} times worse than their sigmas say"
        must = "toa_sigma_s must hold what moving air adds (a millisecond or more), shots and sensors their right names"
        return (f"THE PICKS DO NOT FIT, {times}: trust nothing of this; {must}",)

    def sigma(self, direction: Floats) -> float:
        """Say how sure a combination of what was not held fast is.

        Parameters
        ----------
        direction : numpy.ndarray, shape (p,)
            Weight of each.

        Returns
        -------
        float
            One standard deviation of their sum.
        """
        return math.sqrt(max(float(direction @ self.covariance @ direction), 0.0))


def adjust(network: Network, shots: Shots, picks: Picks) -> Bundle:
    """Find the sensors, clocks, air and shots that explain best when shots were heard.

    Parameters
    ----------
    network : Network
        Sensors, clocks and air beforehand.
    shots : Shots
        Shots beforehand.
    picks : Picks
        What was heard.

    Returns
    -------
    Bundle
        The most probable of all, and how sure it is.

    Raises
    ------
    InputError
        If there are too few picks to say anything.
    """
    if len(picks.toa_s) < 4:
        raise InputError(f"{len(picks.toa_s)} picks; at least 4 are needed to calibrate anything by them")
    problem = _Problem(network, shots, picks)
    path_s, inflated_s = network.path_sigma_s, picks.sigma_s
    theta = problem.start()
    for _ in range(ROUNDS):  # what lies far off pulls less and less
        theta = problem.fit(theta, inflated_s, path_s)
        away = problem.surprise(theta, picks.sigma_s, path_s)
        inflated_s = picks.sigma_s * np.sqrt(1.0 + (away / CAUCHY) ** 2)
    refused = np.abs(problem.surprise(theta, inflated_s, path_s)) > GATE
    for _ in range(ROUNDS):
        sigma_s = np.where(refused, ASIDE * picks.sigma_s, picks.sigma_s)
        theta, path_s = problem.fit_with_paths(theta, sigma_s, path_s)
        again = np.abs(problem.surprise(theta, sigma_s, path_s)) > GATE
        if (again == refused).all():
            break
        refused = again
    return problem.result(theta, np.where(refused, ASIDE * picks.sigma_s, picks.sigma_s), path_s, ~refused)


@dataclass(frozen=True)
class _Equations:
    """The misfit at some values of the unknowns, and its slopes there; `told` is `normal` without the priors."""

    misfit: float
    told: Floats
    normal: Floats
    pull: Floats
    left: Floats
    slopes: csr_array


class _Problem:
    """The unknowns in one row, what they predict, and how the misfit depends on them."""

    def __init__(self, network: Network, shots: Shots, picks: Picks) -> None:
        self.network, self.shots, self.picks = network, shots, picks
        air = network.air
        parts = {
            "position": (network.positions_m, network.position_sigma_m),
            "offset": (network.offsets_s, network.offset_sigma_s),
            "air": (
                np.array([air.sound_speed_m_s, air.east_m_s, air.north_m_s]),
                np.array([air.sound_speed_sigma_m_s, air.wind_sigma_m_s, air.wind_sigma_m_s]),
            ),
            "place": (shots.places_m, shots.place_sigma_m),
            "origin": (shots.origin_s, shots.origin_sigma_s),
        }
        self.mean = np.concatenate([value.ravel() for value, _ in parts.values()])
        sigma = np.concatenate([np.asarray(sigma, np.float64).ravel() for _, sigma in parts.values()])
        self.loose = sigma > 0
        self.sigma = sigma[self.loose]
        ends = np.cumsum([value.size for value, _ in parts.values()])
        self.at = {
            name: np.arange(end - value.size, end).reshape(value.shape)
            for (name, (value, _)), end in zip(parts.items(), ends, strict=True)
        }
        path = shots.place[picks.shot] * len(network.sensor_ids) + picks.sensor
        self.group = np.unique(path, return_inverse=True)[1]
        count = len(path)
        self.groups = csr_array((np.ones(count), (self.group, np.arange(count))))
        self.alone = len(np.unique(self.group)) == count
        # Which unknowns each pick depends on, in the order of `predict`; those held fast are left out.
        of_sensor, of_shot = picks.sensor[:, None], picks.shot[:, None]
        every = np.hstack(
            (
                self.at["position"][picks.sensor],
                self.at["place"][picks.shot],
                self.at["offset"][of_sensor],
                self.at["origin"][of_shot],
                np.broadcast_to(self.at["air"], (count, 3)),
            )
        )
        number = np.where(self.loose, np.cumsum(self.loose) - 1, -1)
        self.filled = self.loose[every]
        self.columns = number[every][self.filled]
        self.starts = np.concatenate([[0], np.cumsum(self.filled.sum(axis=1))])

    def start(self) -> Floats:
        """Begin at what is known beforehand, each shot's time from the picks of it."""
        theta = self.mean.copy()
        unknown = self.at["origin"][np.isinf(self.shots.origin_sigma_s)]
        theta[unknown] = 0.0
        left = self.picks.toa_s - self.predict(theta)[0]
        for number, where in enumerate(self.at["origin"]):
            own = left[self.picks.shot == number]
            if where in unknown and own.size:
                theta[where] = np.median(own)
        return theta

    def predict(self, theta: Floats) -> tuple[Floats, csr_array]:
        """Compute when each pick should be, and how that depends on every unknown that is not held fast."""
        sensor, shot, at = self.picks.sensor, self.picks.shot, self.at
        c, wind = theta[at["air"][0]], np.array([*theta[at["air"][1:]], 0.0])
        flight, unit = flight_s(theta[at["position"]][sensor] - theta[at["place"]][shot], c, wind)
        by_place = unit / (c + unit @ wind)[:, None]
        by_air = -(flight / (c + unit @ wind))[:, None] * np.column_stack([np.ones(len(flight)), unit[:, :2]])
        ones = np.ones((len(flight), 1))
        values = np.hstack([by_place, -by_place, ones, ones, by_air])[self.filled]
        slopes = csr_array((values, self.columns, self.starts), shape=(len(flight), len(self.sigma)))
        return theta[at["origin"]][shot] + flight + theta[at["offset"]][sensor], slopes

    def weigh(self, sigma_s: Floats, path_s: float) -> tuple[Floats, Floats]:
        """Invert the covariance of the picks: ``diag(sigma^2) + path^2`` within each place and sensor.

        The inverse is ``diag(own) - own' common own`` within each group, by Sherman and Morrison.
        """
        if self.alone:  # no pick shares a path with another
            return 1.0 / (sigma_s**2 + path_s**2), np.zeros(len(sigma_s))
        own = sigma_s**-2.0
        return own, path_s**2 / (1.0 + path_s**2 * (self.groups @ own))

    def equations(self, theta: Floats, sigma_s: Floats, path_s: float) -> _Equations:
        """Set up the misfit and how it depends on the unknowns."""
        predicted, slopes = self.predict(theta)
        left, owed, firm = self.picks.toa_s - predicted, (self.mean - theta)[self.loose] / self.sigma, 1.0 / self.sigma
        own, common = self.weigh(sigma_s, path_s)
        weighed = _rows_times(own, slopes)
        told, pull, misfit = (slopes.T @ weighed).toarray(), weighed.T @ left, own @ left**2
        if not self.alone:
            summed, summed_left = self.groups @ weighed, self.groups @ (own * left)
            told -= (summed.T @ _rows_times(common, summed)).toarray()
            pull -= summed.T @ (common * summed_left)
            misfit -= common @ summed_left**2
        return _Equations(
            misfit=float(misfit + owed @ owed),
            told=told,
            normal=told + np.diag(firm**2),
            pull=pull + firm * owed,
            left=left,
            slopes=slopes,
        )

    def fit(self, theta: Floats, sigma_s: Floats, path_s: float) -> Floats:
        """Descend to the least misfit by damped Gauss-Newton steps."""
        damping, here = 0.0, self.equations(theta, sigma_s, path_s)
        for _ in range(STEPS):
            scale = 1.0 / np.sqrt(np.diag(here.normal))
            damped = here.normal * np.outer(scale, scale) + damping * np.eye(len(scale))
            step = np.zeros(len(theta))
            step[self.loose] = scale * np.linalg.solve(damped, scale * here.pull)
            there = self.equations(theta + step, sigma_s, path_s)
            gained = here.misfit - there.misfit
            if not gained >= 0 and damping < MOST_DAMPING:  # worse, or no number at all
                damping = max(10.0 * damping, 1e-3)
                continue
            if gained > 0:
                theta, here, damping = theta + step, there, damping / 10.0 if damping > 1e-6 else 0.0
            if gained < 1e-9 * (1.0 + here.misfit):
                break
        return theta

    def surprise(self, theta: Floats, sigma_s: Floats, path_s: float) -> Floats:
        """Say by how many standard deviations each pick differs from what all others predict for it."""
        here = self.equations(theta, sigma_s, path_s)
        covariance = _inverse(here.normal)
        # P, the inverse covariance of the picks with everything unknown integrated out: its diagonal, and P times left.
        slopes = self.unblur(here.slopes, sigma_s, path_s)
        own, common = self.weigh(sigma_s, path_s)
        diagonal = own - common[self.group] * own**2 - ((slopes @ covariance) * slopes.toarray()).sum(axis=1)
        left = self.unblur(csr_array(here.left[:, None]), sigma_s, path_s).toarray()[:, 0]
        left -= slopes @ (covariance @ (slopes.T @ here.left))
        variance = np.maximum(1.0 / diagonal - sigma_s**2, 0.0) + self.picks.sigma_s**2
        return np.asarray(left / diagonal / np.sqrt(variance))

    def unblur(self, values: csr_array, sigma_s: Floats, path_s: float) -> csr_array:
        """Multiply columns by the inverse covariance of the picks."""
        own, common = self.weigh(sigma_s, path_s)
        scaled = _rows_times(own, values)
        summed = _rows_times(common, csr_array(self.groups @ scaled))
        return csr_array(scaled - _rows_times(own, csr_array(self.groups.T @ summed)))

    def unlikelihood(self, theta: Floats, sigma_s: Floats, path_s: float) -> float:
        """Give minus twice the log likelihood of the picks, all unknowns integrated out, up to a constant."""
        here = self.equations(theta, sigma_s, path_s)
        _, depth = np.linalg.slogdet(here.normal)
        spread = 2 * np.log(sigma_s).sum() + np.log1p(path_s**2 * np.bincount(self.group, sigma_s**-2.0)).sum()
        return here.misfit + float(spread + depth + 2 * np.log(self.sigma[np.isfinite(self.sigma)]).sum())

    def fit_with_paths(self, theta: Floats, sigma_s: Floats, path_s: float) -> tuple[Floats, float]:
        """Find the scatter of the paths that makes the picks likeliest, and fit under it."""
        stated = self.network.path_sigma_s
        if stated == 0.0:
            return self.fit(theta, sigma_s, 0.0), 0.0

        nearest = [theta]

        def cost(log_path: float) -> float:
            nearest[0] = self.fit(nearest[0], sigma_s, math.exp(log_path))
            strange = (log_path - math.log(stated)) / PATH_SPREAD
            return self.unlikelihood(nearest[0], sigma_s, math.exp(log_path)) + strange**2

        bounds = (math.log(LEAST_PATH_S), math.log(MOST_PATH_S))
        best = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 0.05})
        path_s = math.exp(float(best.x))
        return self.fit(nearest[0], sigma_s, path_s), path_s

    def result(self, theta: Floats, sigma_s: Floats, path_s: float, used: Flags) -> Bundle:
        """Lay out what was found."""
        here = self.equations(theta, sigma_s, path_s)
        covariance = _inverse(here.normal)
        number = np.where(self.loose, np.cumsum(self.loose) - 1, -1)
        spread = np.zeros(len(theta))
        spread[self.loose] = np.sqrt(np.diag(covariance))
        at = self.at
        c, east, north = theta[at["air"]].tolist()
        wind_sigma = float(spread[at["air"][1:]].max())
        finite = np.isfinite(self.sigma)
        return Bundle(
            positions_m=theta[at["position"]],
            position_sigma_m=spread[at["position"]],
            offsets_s=theta[at["offset"]],
            offset_sigma_s=spread[at["offset"]],
            air=Air(c, east, north, float(spread[at["air"][0]]), wind_sigma),
            places_m=theta[at["place"]],
            origins_s=theta[at["origin"]],
            path_sigma_s=path_s,
            residuals_s=here.left,
            used=used,
            misfit=here.misfit,
            free=float(used.sum() + finite.sum() - len(self.sigma)),
            unlikelihood=self.unlikelihood(theta, sigma_s, path_s),
            covariance=covariance,
            told=here.told,
            prior_sigma=self.sigma,
            index={name: number[where] for name, where in at.items()},
        )


def flight_s(away_m: Floats, speed_m_s: float, wind_m_s: Floats) -> tuple[Floats, Floats]:
    """Compute how long sound takes through air that moves as a whole: ``|away - wind t| = speed t``.

    Parameters
    ----------
    away_m : numpy.ndarray, shape (m, 3)
        From source to sensor [m].
    speed_m_s : float
        Sound speed [m/s].
    wind_m_s : numpy.ndarray, shape (3,)
        Where the air goes [m/s].

    Returns
    -------
    numpy.ndarray, shape (m,)
        Times [s].
    numpy.ndarray, shape (m, 3)
        Direction in which the sound crosses the air, unit vectors.
    """
    along = away_m @ wind_m_s
    slack = speed_m_s**2 - float(wind_m_s @ wind_m_s)
    # A trial of the adjustment may try a wind faster than sound; what comes of it is far off, and is not kept.
    flight = (np.sqrt(np.maximum(along**2 + slack * (away_m**2).sum(axis=1), 0.0)) - along) / slack
    crossed = away_m - flight[:, None] * wind_m_s
    return flight, crossed / np.maximum(np.linalg.norm(crossed, axis=1), 1e-9)[:, None]


def same_places(places_m: Floats, within_m: float) -> Ints:
    """Number the places of shots; shots near the first of a place are of that place.

    Parameters
    ----------
    places_m : numpy.ndarray, shape (k, 3)
        Where shots were fired [m].
    within_m : float
        How near [m].

    Returns
    -------
    numpy.ndarray, shape (k,)
        Number of each shot's place.
    """
    firsts: list[Floats] = []
    numbers = []
    for place in places_m:
        near = [number for number, first in enumerate(firsts) if np.linalg.norm(place - first) <= within_m]
        if not near:
            firsts.append(place)
        numbers.append(near[0] if near else len(firsts) - 1)
    return np.array(numbers, np.int64)


def _rows_times(factors: Floats, values: csr_array) -> csr_array:
    """Multiply each row by a factor of its own."""
    scaled = values.data * np.repeat(factors, np.diff(values.indptr))
    return csr_array((scaled, values.indices, values.indptr), shape=values.shape)


def _inverse(normal: Floats) -> Floats:
    """Invert a normal matrix, scaled to a unit diagonal: seconds and metres differ by a factor of 340."""
    scale = 1.0 / np.sqrt(np.diag(normal))
    return np.asarray(np.linalg.inv(normal * np.outer(scale, scale)) * np.outer(scale, scale))


def indices(names: Sequence[str], wanted: Sequence[str]) -> Ints:
    """Find where names stand in a list.

    Parameters
    ----------
    names : sequence of str
        The list, each once.
    wanted : sequence of str
        Names of it.

    Returns
    -------
    numpy.ndarray, shape (len(wanted),)
        Index of each.
    """
    where = {name: number for number, name in enumerate(names)}
    return np.array([where[name] for name in wanted], np.int64)
