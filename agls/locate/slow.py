"""What a hub learns over shots: the air, how paths scatter, and which node's clock is off.

All of it changes slowly and is updated only when a shot is decided, in order of origin time, so it does not depend on
the order in which detections came. Shots from one place share their paths: only the first of them teaches.

A uniform wind delays arrivals like a plane of clock offsets, so the two cannot be told apart from arrivals alone. The
weather report decides: the air is what explains most within what the report allows, and an offset is what one node has
left, at many places, against its neighbours.
"""

from __future__ import annotations

import math
from collections import deque

import msgspec
import numpy as np
from numpy.typing import NDArray

from agls.locate._kernels import Floats
from agls.locate.clocks import ClockWatch, Suspect
from agls.locate.solve import Air, Solution

LIKE_M = 25.0  # shots nearer than this share their paths
PLACES = 200  # how many shots are remembered to tell like places
PRIOR_SHOTS = 20.0  # the configured path term counts as much as so many places
FEWEST = 6  # arrivals from which a shot's residuals say something
AIR_M_S_PER_ROOT_S = 0.03  # the air wanders: 1 m/s in 20 minutes


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
        self.air = air
        self._path_mass = PRIOR_SHOTS
        self._path_square = PRIOR_SHOTS * path_sigma_s**2
        self._places: deque[tuple[float, float, Air]] = deque(maxlen=PLACES)
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
        return math.sqrt(self._path_square / self._path_mass)

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
        good = solution.weights > 0.5
        if good.sum() < FEWEST:
            return []
        if self._like(solution) is not None:
            return []  # its paths, and with them its errors, are those of a shot that has taught already
        self._places.append((solution.x_m, solution.y_m, self.air))
        self._learn_path(solution, pick_s, good)
        self._learn_air(solution, origin_ns)
        return self.clocks.feed(solution, sensors, positions_m, sigma_s, origin_ns)

    def air_for(self, solution: Solution) -> Air:
        """Say what is known of the air by shots from elsewhere.

        A shot from a place that has taught the air must not be located by what that place taught: its own path errors
        would confirm themselves, and its ellipse shrink.

        Parameters
        ----------
        solution : Solution
            The shot, as located by all that is known.

        Returns
        -------
        Air
            The air as it was known before its place taught.
        """
        return self._like(solution) or self.air

    def _like(self, solution: Solution) -> Air | None:
        """Find the air known before a like place taught."""
        place = (solution.x_m, solution.y_m)
        return next((air for x_m, y_m, air in self._places if math.dist(place, (x_m, y_m)) < LIKE_M), None)

    def _learn_path(self, solution: Solution, pick_s: Floats, good: NDArray[np.bool_]) -> None:
        """Take what residuals have left over the picks, made up for the unknowns that were fitted to them."""
        free = good.sum() - 3.0 - 1.0  # place, origin time, and about one for the air within its prior
        left = float((solution.residuals_s[good] ** 2).sum() / free - (pick_s[good] ** 2).mean())
        self._path_square += min(max(left, 0.0), (5.0 * self.path_sigma_s) ** 2)
        self._path_mass += 1.0

    def _learn_air(self, solution: Solution, origin_ns: int) -> None:
        """Make what a shot says of the air the next one's prior, never surer than its wandering allows."""
        gone_s = 0.0 if self._last_ns is None else max(origin_ns - self._last_ns, 0) / 1e9
        self._last_ns = origin_ns
        wander = AIR_M_S_PER_ROOT_S * math.sqrt(gone_s)
        found = solution.air
        self.air = msgspec.structs.replace(
            found,
            sound_speed_sigma_m_s=min(
                math.hypot(found.sound_speed_sigma_m_s, wander), self.report.sound_speed_sigma_m_s
            ),
            wind_sigma_m_s=min(math.hypot(found.wind_sigma_m_s, wander), self.report.wind_sigma_m_s),
        )
