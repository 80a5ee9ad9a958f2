"""What is searched and what is found: the sensors of a site as arrays, picks, shots."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from agls.locate._kernels import Floats
from agls.locate._search import Ints

NEIGHBOURS = 6  # two of them that hear a shot after the sensor itself propose it: hardly any shot has no such three
QUIET_PER_S, QUIET_S = 0.05, 5.0  # a street before it has been listened to: as if quiet for some seconds
MEMORY_S = 600.0  # how long what came before counts
AROUND = 3  # sensors whose heights say how high the ground is between them


@dataclass(frozen=True)
class Array:
    """The sensors of a site as arrays, and what follows from where they stand.

    Attributes
    ----------
    sensor_ids : tuple of str
        Their names.
    positions_m : numpy.ndarray, shape (m, 3)
        Their places in the site's frame [m].
    middle_m : numpy.ndarray, shape (3,)
        Their mean place [m]; the kernels work relative to it.
    columns_m : tuple of numpy.ndarray, shape (m,)
        East, north, up of the sensors, relative to the middle [m].
    near : numpy.ndarray, shape (m, NEIGHBOURS)
        Each sensor's nearest others, -1 where there are none.
    near_height_m : numpy.ndarray, shape (m,)
        Mean height around each sensor, relative to the middle [m].
    """

    sensor_ids: tuple[str, ...]
    positions_m: Floats
    middle_m: Floats = field(init=False)
    columns_m: tuple[Floats, Floats, Floats] = field(init=False)
    near: Ints = field(init=False)
    near_height_m: Floats = field(init=False)

    def __post_init__(self) -> None:
        """Work out what follows from the places."""
        middle = self.positions_m.mean(axis=0) if len(self.positions_m) else np.zeros(3)
        apart = np.hypot(*(self.positions_m[:, None, :2] - self.positions_m[None, :, :2]).transpose(2, 0, 1))
        np.fill_diagonal(apart, np.inf)
        order = np.argsort(apart, axis=1, kind="stable")[:, : min(NEIGHBOURS, max(len(apart) - 1, 0))]
        near = np.full((len(apart), NEIGHBOURS), -1, dtype=np.int64)
        near[:, : order.shape[1]] = order
        east, north, up = np.ascontiguousarray((self.positions_m - middle).T)
        around = [np.append(up[row[row >= 0][:AROUND]], up[k]).mean() for k, row in enumerate(near)]
        for name, value in (
            ("middle_m", middle),
            ("columns_m", (east, north, up)),
            ("near", near),
            ("near_height_m", np.array(around, dtype=np.float64)),
        ):
            object.__setattr__(self, name, value)

    def longest_delay_s(self, slowest_m_s: float, max_range_m: float) -> float:
        """Say how far apart the arrivals of one shot can be.

        Parameters
        ----------
        slowest_m_s : float
            Least speed of sound with the wind against it [m/s].
        max_range_m : float
            How far a shot is heard [m].

        Returns
        -------
        float
            Time from first to last arrival [s].
        """
        return min(self._widest_m, max_range_m) / slowest_m_s

    @cached_property
    def _widest_m(self) -> float:
        """The longest way from one sensor to another [m]."""
        places = self.positions_m
        return max((float(np.linalg.norm(places - place, axis=1).max()) for place in places), default=0.0)

    def outside_m(self, xy_m: Floats) -> Floats:
        """Measure how far places lie outside the box round the sensors.

        Parameters
        ----------
        xy_m : numpy.ndarray, shape (k, 2)
            Places, relative to the middle [m].

        Returns
        -------
        numpy.ndarray, shape (k,)
            Distances [m], 0 inside.
        """
        flat = self.positions_m[:, :2]
        low, high = flat.min(axis=0), flat.max(axis=0)
        beyond = np.maximum(low - self.middle_m[:2] - xy_m, xy_m - (high - self.middle_m[:2])).clip(0)
        return np.asarray(np.hypot(beyond[:, 0], beyond[:, 1]))


@dataclass(frozen=True)
class Picks:
    """Detections as arrays, in any order.

    Attributes
    ----------
    sensor : numpy.ndarray, shape (n,), int64
        Index of the sensor.
    toa_s : numpy.ndarray, shape (n,)
        Times of arrival relative to any moment near them [s].
    sigma_s : numpy.ndarray, shape (n,)
        Standard deviations of the picks, without the path's [s].
    level_db : numpy.ndarray, shape (n,), optional
        Levels, nan where unknown [dB].
    llr : numpy.ndarray, shape (n,), optional
        What the nodes heard: log-likelihood ratios of gunfire, 0 where unknown.
    wave : numpy.ndarray, shape (n,), int64, optional
        What the nodes take them for: 0 not told apart, `MUZZLE`, `SHOCK`.
    """

    sensor: Ints
    toa_s: Floats
    sigma_s: Floats
    level_db: Floats | None = None
    llr: Floats | None = None
    wave: Ints | None = None


@dataclass(frozen=True)
class Found:
    """A shot found among picks.

    Attributes
    ----------
    origin_s : float
        Rough origin time, on the scale of the picks [s].
    place_m : tuple of float
        Rough place in the site's frame [m].
    members : tuple of int
        Indices of its picks, one per sensor, ordered by time.
    score : float
        Log-likelihood ratio against clutter.
    surplus : float
        How much of it is left once the places and times the shot could have had are paid for.
    shocks : tuple of int
        Indices of the picks that are its bullet's N-wave.
    bullet : tuple of float
        Where to and how fast the bullet flew, as in `agls.locate._shock`; empty without such picks.
    """

    origin_s: float
    place_m: tuple[float, float, float]
    members: tuple[int, ...]
    score: float
    surplus: float
    shocks: tuple[int, ...] = ()
    bullet: tuple[float, ...] = ()


@dataclass(frozen=True)
class Idle:
    """What sensors report without a shot: how many picks, in how many seconds of how many sensors.

    Attributes
    ----------
    count : float
        Picks that belonged to no shot.
    sensor_s : float
        Time in which they came, summed over the sensors [s].
    sensors : int
        How many sensors there are.
    """

    count: float
    sensor_s: float
    sensors: int

    @classmethod
    def at_first(cls, sensors: int) -> Idle:
        """Assume a quiet street, as if it had been listened to for a few seconds.

        Parameters
        ----------
        sensors : int
            How many sensors there are.

        Returns
        -------
        Idle
            One impulse in twenty seconds at each.
        """
        return cls(QUIET_PER_S * QUIET_S * sensors, QUIET_S * sensors, sensors)

    def after(self, count: int, sensor_s: float) -> Idle:
        """Add what came since, and forget what is long past.

        Parameters
        ----------
        count : int
            Further picks that belonged to no shot.
        sensor_s : float
            Time in which they came, summed over the sensors [s].

        Returns
        -------
        Idle
            The sum.
        """
        keep = math.exp(-sensor_s / (MEMORY_S * self.sensors))
        return Idle(keep * self.count + count, keep * self.sensor_s + sensor_s, self.sensors)
