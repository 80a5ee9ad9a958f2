"""What a hub learns over shots: the air, how paths scatter, and which node's clock is off.

All of it changes slowly and is updated only when a shot is decided, in order of origin time, so it does not depend on
the order in which detections came. Shots from one place share their paths: only the first of them teaches.

A uniform wind delays arrivals like a plane of clock offsets, so the two cannot be told apart from arrivals alone. The
weather report decides: the air is what explains most within what the report allows, and an offset is what one node has
left, at many places, against its neighbours.

How sure a report and a configured path term are is itself not sure. Each is held to be wrong by an unknown factor, over
which everything is averaged: the first shots are located with fat tails, which thin as shots bear the factor out.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from agls.locate._kernels import REFERENCE_SPEED_M_S, Floats
from agls.locate.clocks import ClockWatch, Suspect
from agls.locate.solve import Air, Solution

LIKE_M = 25.0  # shots nearer than this share their paths
PLACES = 200  # how many shots are remembered to tell like places
FACTOR_SIGMA = 0.5  # what is declared is good to a factor of some 1.6 (exp(0.5)), one sigma
FACTORS = np.exp(np.linspace(math.log(0.25), math.log(8.0), 57))  # those considered, 6 % apart
DECLARED = -0.5 * (np.log(FACTORS) / FACTOR_SIGMA) ** 2  # their log-odds, before anything is heard
LEAST_PATH_S = 1e-5  # what a path term of zero is taken for: a few millimetres
WRONG_PER_S = 0.1  # of ten arrivals one is another sound's, anywhere within about a second
HEIGHT_SIGMA_M = 10.0  # as the solver has it where no height is told
LEAST_LEFT = 0.1  # of an arrival's variance is left at least where the fit bent to it
FEWEST = 6  # arrivals from which a shot's residuals say something
AIR_M_S_PER_ROOT_S = 0.03  # the air wanders: 1 m/s in 20 minutes


@dataclass(frozen=True, slots=True)
class _Taught:
    """What arrivals alone say of sound speed and wind, less what the report says of them.

    Attributes
    ----------
    information : numpy.ndarray, shape (3, 3)
        Inverse covariance; zero in what arrivals do not tell.
    pull : numpy.ndarray, shape (3,)
        That, times the difference.
    """

    information: Floats
    pull: Floats

    def add(self, other: _Taught) -> _Taught:
        """Join what independent arrivals say."""
        return _Taught(self.information + other.information, self.pull + other.pull)

    def aged(self, square: float) -> _Taught:
        """Grow less sure by a variance; right also where nothing was known."""
        fade = np.linalg.inv(np.eye(3) + square * self.information)
        return _Taught(fade @ self.information, fade @ self.pull)


@dataclass(frozen=True, slots=True)
class _Fit:
    """How a fit bent to its arrivals: the share of each one's variance that it left, and what they say of the air."""

    free: Floats
    said: _Taught


class SlowState:
    """Learn the air and the paths of a site, and watch the clocks of its nodes.

    Parameters
    ----------
    air : Air
        What the weather report says.
    path_sigma_s : float
        Configured standard deviation of the paths [s].
    """

    def __init__(self, air: Air, path_sigma_s: float) -> None:
        self.report = air
        self._path_s = max(path_sigma_s, LEAST_PATH_S) * FACTORS
        self._path_odds = DECLARED.copy()
        self._taught = _Taught(np.zeros((3, 3)), np.zeros(3))
        self.air = air
        self._places: deque[tuple[float, float, _Taught]] = deque(maxlen=PLACES)
        self.clocks = ClockWatch(air, AIR_M_S_PER_ROOT_S)
        self._last_ns: int | None = None

    @property
    def path_sigma_s(self) -> float:
        """Standard deviation of the paths here [s], as configured and learned.

        Returns
        -------
        float
            Standard deviation [s].
        """
        return self._path_of(self._path_odds)

    def feed(
        self, solution: Solution, sensors: NDArray[np.int64], positions_m: Floats, sigma_s: Floats, pick_s: Floats,
        origin_ns: int,
    ) -> list[Suspect]:  # fmt: skip
        """Learn from a decided shot.

        Parameters
        ----------
        solution : Solution
            The shot as located.
        sensors : numpy.ndarray, shape (n,)
            Indices of its sensors.
        positions_m : numpy.ndarray, shape (n, 3)
            Their places [m].
        sigma_s : numpy.ndarray, shape (n,)
            Standard deviations of its arrivals, paths and picks together [s].
        pick_s : numpy.ndarray, shape (n,)
            Standard deviations of its picks [s].
        origin_ns : int
            When it was fired, UTC.

        Returns
        -------
        list of Suspect
            Nodes that have just become suspect.
        """
        if int((solution.weights > 0.5).sum()) < FEWEST or self._like(solution) is not None:
            return []  # a like place has taught already: its paths, and with them its errors, are the same
        self._places.append((solution.x_m, solution.y_m, self._taught))
        fit = _fit(solution, positions_m, sigma_s, self.report, self.air)
        self._path_odds += self._path_evidence(solution, pick_s, fit)
        self._wander(origin_ns)
        self._taught = self._taught.add(fit.said)
        self.air = _no_wider(_combined(self.report, self._taught, self._taught), self.report)
        return self.clocks.feed(solution, sensors, positions_m, sigma_s, origin_ns)

    def expected(
        self, solution: Solution, positions_m: Floats, sigma_s: Floats, pick_s: Floats
    ) -> tuple[Air, float]:  # fmt: skip
        """Say what to locate a shot by, now that it is known what it looks like: the air, and how paths scatter.

        A shot from a place that has taught the air must not be located by what that place taught: its own path errors
        would confirm themselves, and its ellipse shrink. Of the shot itself only this is taken: by what factor its
        residuals and its air bear out, or not, what was declared.

        Parameters
        ----------
        solution : Solution
            The shot, as located by all that is known.
        positions_m : numpy.ndarray, shape (n, 3)
            Places of its sensors [m].
        sigma_s, pick_s : numpy.ndarray, shape (n,)
            Standard deviations of its arrivals, with and without paths [s].

        Returns
        -------
        Air
            The air as it was known before its place taught.
        float
            Standard deviation of the paths [s].
        """
        like = self._like(solution)
        taught = self._taught if like is None else like
        if int((solution.weights > 0.5).sum()) < FEWEST:
            return _combined(self.report, taught, taught), self.path_sigma_s
        fit = _fit(solution, positions_m, sigma_s, self.report, self.air)
        odds = self._path_odds if like is not None else self._path_odds + self._path_evidence(solution, pick_s, fit)
        return _combined(self.report, taught, taught.add(fit.said)), self._path_of(odds)

    def _like(self, solution: Solution) -> _Taught | None:
        """Find what was known of the air before a like place taught."""
        place = (solution.x_m, solution.y_m)
        return next((known for x_m, y_m, known in self._places if math.dist(place, (x_m, y_m)) < LIKE_M), None)

    def _path_of(self, odds: Floats) -> float:
        return math.sqrt(float(shares(odds) @ self._path_s**2))

    def _path_evidence(self, solution: Solution, pick_s: Floats, fit: _Fit) -> Floats:
        """Say how likely each path term makes a shot's residuals, some of which may be another sound's [nats]."""
        square = (self._path_s[:, None] ** 2 + pick_s**2) * fit.free
        dense = np.exp(-0.5 * solution.residuals_s**2 / square) / np.sqrt(2.0 * np.pi * square)
        return np.asarray(np.log(dense + WRONG_PER_S).sum(axis=1))

    def _wander(self, origin_ns: int) -> None:
        """Forget of the air what it may have changed by since the last shot that taught."""
        gone_s = 0.0 if self._last_ns is None else max(origin_ns - self._last_ns, 0) / 1e9
        self._last_ns = origin_ns
        self._taught = self._taught.aged(AIR_M_S_PER_ROOT_S**2 * gone_s)


def shares(odds: Floats) -> Floats:
    """Turn log-odds into shares of one.

    Parameters
    ----------
    odds : numpy.ndarray, shape (n,)
        Log-odds, up to a constant [nats].

    Returns
    -------
    numpy.ndarray, shape (n,)
        Shares.
    """
    weights = np.exp(odds - odds.max())
    return np.asarray(weights / weights.sum())


def _combined(report: Air, taught: _Taught, seen: _Taught) -> Air:
    """Weigh a report and what shots taught, averaged over the factors by which the report's sigmas may be wrong.

    How likely each factor is, is judged by all that was seen, which may be more than what is to be counted.
    """
    prior = FACTORS[:, None, None] ** -2.0 * np.diag(_air_sigmas(report) ** -2.0)
    all_seen = seen.information + prior
    odds = DECLARED + 0.5 * (np.linalg.inv(all_seen) @ seen.pull) @ seen.pull
    odds += 0.5 * (np.linalg.slogdet(prior)[1] - np.linalg.slogdet(all_seen)[1])
    spreads = np.linalg.inv(taught.information + prior)
    share, means = shares(odds), spreads @ taught.pull
    middle = share @ means
    square = share @ (np.diagonal(spreads, axis1=1, axis2=2) + (means - middle) ** 2)
    return Air(
        report.sound_speed_m_s + float(middle[0]), report.east_m_s + float(middle[1]),
        report.north_m_s + float(middle[2]), math.sqrt(square[0]), math.sqrt(0.5 * (square[1] + square[2])),
    )  # fmt: skip


def _no_wider(air: Air, report: Air) -> Air:
    """Search for shots in no wider air than reported: once found, they are located by what is `expected`."""
    return msgspec.structs.replace(
        air,
        sound_speed_sigma_m_s=min(air.sound_speed_sigma_m_s, report.sound_speed_sigma_m_s),
        wind_sigma_m_s=min(air.wind_sigma_m_s, report.wind_sigma_m_s),
    )


def _air_sigmas(air: Air) -> Floats:
    return np.array([air.sound_speed_sigma_m_s, air.wind_sigma_m_s, air.wind_sigma_m_s])


def _fit(solution: Solution, positions_m: Floats, sigma_s: Floats, report: Air, known: Air) -> _Fit:
    """Take a fit apart by the derivatives of its residuals, as at the solution."""
    air = solution.air
    away = positions_m - np.array([solution.x_m, solution.y_m, solution.z_m])
    flight = np.linalg.norm(away, axis=1) / air.sound_speed_m_s
    wind = np.array([air.east_m_s, air.north_m_s, 0.0])
    away -= flight[:, None] * wind
    toward = away / np.linalg.norm(away, axis=1, keepdims=True) / air.sound_speed_m_s
    origin = -(1.0 + toward @ wind) / REFERENCE_SPEED_M_S
    slope = np.column_stack([toward, origin, flight / air.sound_speed_m_s, toward[:, :2] * flight[:, None]])
    heavy = solution.weights / sigma_s**2
    whole = slope.T @ (heavy[:, None] * slope)
    whole[2, 2] += HEIGHT_SIGMA_M**-2
    step = -slope.T @ (heavy * solution.residuals_s)
    rest = whole[4:, :4] @ np.linalg.pinv(whole[:4, :4], hermitian=True)
    information = whole[4:, 4:] - rest @ whole[:4, 4:]
    off = np.array([air.sound_speed_m_s, air.east_m_s, air.north_m_s])
    off -= [report.sound_speed_m_s, report.east_m_s, report.north_m_s]
    said = _Taught(information, information @ off + step[4:] - rest @ step[:4])
    whole[4:, 4:] += np.diag(_air_sigmas(known) ** -2.0)
    bent = np.einsum("ij,jk,ik->i", slope, np.linalg.pinv(whole, hermitian=True), slope) / sigma_s**2
    return _Fit(np.where(solution.weights > 0.5, np.maximum(1.0 - bent, LEAST_LEFT), 1.0 + bent), said)
