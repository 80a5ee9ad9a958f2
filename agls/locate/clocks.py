"""Whose clock is off: what one node has left at many places, and neither the wind nor a neighbour can explain.

Every decided shot says something of all clocks that heard it, blurred by its paths and by what was fitted to it: place,
time and height of its own, and an air that changes slowly about what the weather report says. All remembered places
are taken together, linearised where each was located, and what was fitted is left free again. So an offset that a fit
has spread over its neighbours, or that was learned as a wind, is gathered in again: the clock is blamed that explains
most, and only where no other clock, nor the air, explains nearly as much.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agls.locate._kernels import Floats
from agls.locate.solve import Air, Solution

# Off by so much, so surely, heard at so many places. A dozen clocks are looked at a hundred times before all that is
# remembered has changed: chance must name one less than once in a hundred thousand looks.
SUSPECT_S, SUSPECT_SIGMAS, SUSPECT_PLACES = 0.008, 4.5, 10
# One clock is blamed and not another only where it explains more by a likelihood ratio of e to this (1 in 150).
CLEARLY_NATS = 5.0
REMEMBERED = 50  # places
OUTLIER_SIGMAS = 4.0  # a residual so large is an echo's, or another shot's, and says nothing (Tukey's weight)
LEAST_WEIGHT = 1e-6  # keeps a place determined whose arrivals are all off
HEIGHT_SIGMA_M = 10.0  # how well a source's height is known
SAME_AIR = 1e-6  # of its variance: two shots at once have the same air, and the inverse exists
NO_INFORMATION = 1e-12  # of the best: a clock that nothing is known of


@dataclass(frozen=True, slots=True)
class Suspect:
    """A node whose arrivals are off at many places: by how much [s], and how sure that is [s]."""

    sensor: int
    offset_s: float
    sigma_s: float


@dataclass(frozen=True, slots=True)
class _Heard:
    """What one place left, in units of the standard deviation of each arrival: as located, and in the air reported."""

    sensors: NDArray[np.int64]
    misfit: Floats
    left: Floats
    own: Floats
    air: Floats
    late: Floats
    origin_s: float


class ClockWatch:
    """Compare clocks at the places where shots were fired.

    Parameters
    ----------
    report : Air
        What the weather report says: the air is somewhere about it.
    wander_m_s_per_root_s : float
        How fast the air changes: after a second, one standard deviation [m/s].
    """

    def __init__(self, report: Air, wander_m_s_per_root_s: float) -> None:
        self._report = np.array([report.sound_speed_m_s, report.east_m_s, report.north_m_s])
        self._sigma = np.array([report.sound_speed_sigma_m_s, report.wind_sigma_m_s, report.wind_sigma_m_s])
        self._wander = wander_m_s_per_root_s
        self._places: deque[_Heard] = deque(maxlen=REMEMBERED)
        self._named: dict[int, Suspect] = {}

    def feed(
        self, solution: Solution, sensors: NDArray[np.int64], positions_m: Floats, sigma_s: Floats, origin_ns: int
    ) -> list[Suspect]:
        """Learn from a shot from a new place.

        Parameters
        ----------
        solution : Solution
            The shot as located, by arrivals less what is `known` of their clocks.
        sensors : numpy.ndarray, shape (n,)
            Indices of its sensors.
        positions_m : numpy.ndarray, shape (n, 3)
            Their places [m].
        sigma_s : numpy.ndarray, shape (n,)
            Standard deviations of its arrivals, paths and picks together [s].
        origin_ns : int
            When it was fired, UTC.

        Returns
        -------
        list of Suspect
            Nodes that have just become suspect.
        """
        own, air = _slopes(solution, positions_m)
        found = np.array([solution.air.sound_speed_m_s, solution.air.east_m_s, solution.air.north_m_s])
        sure = 1.0 / sigma_s
        misfit = (solution.residuals_s + self.known(sensors)[0]) * sure
        left = misfit + air @ (found - self._report) * sure
        self._places.append(
            _Heard(sensors, misfit, left, own * sure[:, None], air * sure[:, None], sure, origin_ns / 1e9)
        )
        before, self._named = self._named, {one.sensor: one for one in self._off()}
        return [one for sensor, one in self._named.items() if sensor not in before]

    def known(self, sensors: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Say how far off the clocks of sensors are, as far as that is known.

        Parameters
        ----------
        sensors : numpy.ndarray, shape (n,)
            Indices of sensors.

        Returns
        -------
        tuple of numpy.ndarray, shape (n,)
            How late each says what it hears [s], and how sure that is [s]; 0 for clocks that are not suspect.
        """
        late, sigma = np.zeros(len(sensors)), np.zeros(len(sensors))
        for sensor, one in self._named.items():
            late[sensors == sensor], sigma[sensors == sensor] = one.offset_s, one.sigma_s
        return late, sigma

    def _off(self) -> list[Suspect]:
        """Blame clocks one by one, each only where it explains clearly more than any other."""
        heard = np.bincount(np.concatenate([place.sensors for place in self._places]))
        if heard.max() < SUSPECT_PLACES:
            return []
        information, score = self._information(len(heard))
        blamed: list[int] = []
        while len(blamed) < len(heard) - 1:
            gain, offset = _alone(information, score, blamed)
            second, worst = np.argsort(gain)[-2:].tolist()
            clear = 0.5 * (gain[worst] - gain[second]) > CLEARLY_NATS
            sure = gain[worst] > SUSPECT_SIGMAS**2 and abs(offset[worst]) > SUSPECT_S
            if not (clear and sure and heard[worst] >= SUSPECT_PLACES):
                break
            blamed.append(worst)
        spread = np.linalg.inv(information[np.ix_(blamed, blamed)])
        offsets, sigmas = spread @ score[blamed], np.sqrt(np.diag(spread))
        return [Suspect(*one) for one in zip(blamed, offsets.tolist(), sigmas.tolist(), strict=True)]

    def _air_prior(self) -> Floats:
        """Write how alike the air was at the remembered places: reported once, it wanders, and never leaves the report.

        A process that returns to its mean: after a short time its changes are those of a walk, after a long time they
        are as large as the report's error.
        """
        times = np.array([place.origin_s for place in self._places])
        apart = np.abs(times[:, None] - times)
        prior = np.zeros((3 * len(times), 3 * len(times)))
        for k, sigma in enumerate(self._sigma):
            alike = np.exp(-apart * self._wander**2 / (2.0 * sigma**2)) + SAME_AIR * np.eye(len(times))
            prior[k::3, k::3] = np.linalg.inv(alike) / sigma**2
        return prior

    def _information(self, count: int) -> tuple[Floats, Floats]:
        """Gather what all places say of all offsets, once what is free of each place is left free.

        Both are scaled by how well offsets of none would fit: where paths scatter more than they are thought to, all
        of it says less.
        """
        n = len(self._places)
        air, air_score = self._air_prior(), np.zeros(3 * n)
        both, clocks, score = np.zeros((3 * n, count)), np.zeros((count, count)), np.zeros(count)
        square = free_count = 0.0
        for k, (place, weight) in enumerate(zip(self._places, self._weights(count), strict=True)):
            free = place.own * weight[:, None]
            inner = np.linalg.inv(free.T @ place.own + np.diag([0.0, 0.0, HEIGHT_SIGMA_M**-2, 0.0]))
            seen = np.diag(weight) - free @ inner @ free.T
            rows, who, left = slice(3 * k, 3 * k + 3), place.sensors, seen @ place.left
            air[rows, rows] += place.air.T @ seen @ place.air
            air_score[rows] = place.air.T @ left
            late = seen * place.late
            both[rows, who] = place.air.T @ late
            clocks[np.ix_(who, who)] += place.late[:, None] * late
            score[who] += place.late * left
            square += float(place.left @ left)
            free_count += float(weight.sum()) - 3.0
        cleared = np.linalg.solve(air, np.column_stack([both, air_score]))
        scale = max((square - float(air_score @ cleared[:, -1])) / max(free_count, 1.0), 1.0)
        return (clocks - both.T @ cleared[:, :-1]) / scale, (score - both.T @ cleared[:, -1]) / scale

    def _weights(self, count: int) -> list[Floats]:
        """Trust arrivals the less the farther they are off what is usual for their node."""
        usual = np.zeros(count)
        for sensor in range(count):
            own = [float(one) for place in self._places for one in place.misfit[place.sensors == sensor]]
            usual[sensor] = np.median(own) if len(own) >= SUSPECT_PLACES // 2 else 0.0
        share = [np.clip((place.misfit - usual[place.sensors]) / OUTLIER_SIGMAS, -1.0, 1.0) for place in self._places]
        return [np.maximum((1.0 - each**2) ** 2, LEAST_WEIGHT) for each in share]


def _alone(information: Floats, score: Floats, blamed: Sequence[int]) -> tuple[Floats, Floats]:
    """Say for each clock how much it would explain if it alone were off, beside those blamed, and by how much [s]."""
    if blamed:
        others = information[:, blamed] @ np.linalg.inv(information[np.ix_(blamed, blamed)])
        score = score - others @ score[blamed]
        information = information - others @ information[blamed]
    own = np.diag(information)
    told = own > NO_INFORMATION * max(float(own.max()), 1.0)
    safe = np.where(told, own, 1.0)
    gain, off = np.where(told, score**2 / safe, 0.0), np.where(told, score / safe, 0.0)
    gain[list(blamed)] = 0.0
    return gain, off


def _slopes(solution: Solution, positions_m: Floats) -> tuple[Floats, Floats]:
    """Differentiate arrivals by place, height and origin time, and by the air."""
    away = positions_m - np.array([solution.x_m, solution.y_m, solution.z_m])
    apart = np.linalg.norm(away, axis=1, keepdims=True)
    toward, speed = away / np.maximum(apart, 1e-9), solution.air.sound_speed_m_s
    along = -apart / speed**2
    return np.hstack([-toward / speed, np.ones_like(apart)]), np.hstack([along, along * toward[:, :2]])
