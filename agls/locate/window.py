"""The picks that are searched at a time, as the kernels want them: sorted, weighed against what is heard anyway."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from agls.config import Locating
from agls.locate import _select
from agls.locate._kernels import REFERENCE_SPEED_M_S, Floats
from agls.locate._search import DEAD_S, GATE, TABLE, Bools, Ints
from agls.locate._shock import SHOCK
from agls.locate.picks import Array, Found, Picks
from agls.locate.solve import Air, Height, prior

WIDER = 1.8  # across places association must be wider than the ellipse: bent paths have a long tail
HEIGHT_SIGMA_M = 20.0  # people shoot from streets and from roofs
DENSITY_WINDOW_S = 4.0  # how much a sensor reports changes over seconds
DENSITY_FLOOR_COUNT = 0.3  # a sensor that reported nothing else may still report something
# A pick that sounds like gunfire is likelier part of a shot. Nodes err together (`agls.locate.evidence`): of five, each
# counts for some two fifths of what it says.
LLR_SHARE, LLR_NATS = 0.4, 3.0
DETECT_BEST = 0.95  # even near by one shot in twenty is missed
HALF_RANGE_SHARE = 0.45  # of the maximum range: where half of the sensors still hear
STEEPNESS = 4.0  # of the fall of hearing about there, so that at the maximum range hardly any do
ECHO_RATE = 1.7  # echoes per direct arrival in a city (63 % of the Pittsburgh pulses are not direct)
ECHO_TAIL_S = 0.3  # over what time they decay
# As much as so many shots heard or missed by a sensor about there, within such a share of the half range.
HEARING_COUNT, HEARING_SHARE = 10.0, 0.2
MIXTURE_ROUNDS = 8  # after which the shares of echoes and of what comes anyway hardly change
RATE_COUNT = 20.0  # arrivals that must be seen before their echoes count for more than those of other cities
BURST_S = 4.0  # shots are asked for within so long of each other
MARGIN_M = 200.0  # and within so far of the sensors
ORIGIN_SIGMAS = 2.5  # the root of two pi: how wide a Gaussian is as a box


@dataclass(frozen=True)
class Window:
    """Picks sorted by sensor and time, and all that the kernels need with them, relative to the array's middle.

    Attributes
    ----------
    array : Array
        The sensors.
    order, rank : numpy.ndarray, shape (n,)
        The way from sorted picks to those given, and back.
    reference_s : float
        Moment that times here count from, on the scale of the picks given [s].
    t, s : numpy.ndarray, shape (n,)
        Times and standard deviations of the picks [s].
    owner : numpy.ndarray, shape (n,)
        Their sensors.
    start : numpy.ndarray, shape (m + 1,)
        Where each sensor's picks begin.
    level : numpy.ndarray, shape (n,)
        Their levels, nan where unknown [dB].
    heard : numpy.ndarray, shape (n,)
        What it counts that they sound like gunfire [nats].
    wave : numpy.ndarray, shape (n,)
        What the nodes take them for: 0 not told apart, MUZZLE, SHOCK.
    taken : numpy.ndarray, shape (n,)
        Whether they are explained by a shot, or are no blast anyway.
    weight : numpy.ndarray, shape (n,)
        How rare a pick is there, and how much it sounds like gunfire [ln s].
    horizon_s : float
        Until when all that was heard is here [s].
    path_s : float
        Standard deviation of the paths [s].
    mean, precision : numpy.ndarray, shape (7,)
        What is known beforehand of a shot and the air, in the order of `agls.locate._kernels`.
    max_range_m : float
        How far a shot is heard [m].
    fewest : int
        Least number of picks of a shot.
    echo_rate : float
        Echoes that follow a direct arrival here.
    doubt_nats : float
        What any place must bring more than usual.
    reached_m : numpy.ndarray, shape (k, 2)
        How far shots found here were from sensors [m], and whether these heard them (1 or 0).
    """

    array: Array
    order: Ints
    rank: Ints
    reference_s: float
    t: Floats
    s: Floats
    owner: Ints
    start: Ints
    level: Floats
    heard: Floats
    wave: Ints
    taken: Bools
    weight: Floats
    horizon_s: float
    path_s: float
    mean: Floats
    precision: Floats
    max_range_m: float
    fewest: int
    echo_rate: float = ECHO_RATE
    doubt_nats: float = 0.0
    reached_m: Floats = field(default_factory=lambda: np.empty((0, 2)))

    @cached_property
    def memory(self) -> dict[str, Any]:
        """What was worked out of this very window, and need not be again.

        Returns
        -------
        dict of str to any
            Results by name, empty to begin with.
        """
        return {}

    @cached_property
    def pick_s(self) -> float:
        """Standard deviation of a pick here [s].

        Returns
        -------
        float
            The median.
        """
        return float(np.median(self.s))

    @property
    def sigma_s(self) -> float:
        """Standard deviation of an arrival, path and pick together [s].

        Returns
        -------
        float
            Standard deviation.
        """
        return math.hypot(self.path_s, self.pick_s)

    @property
    def speed_m_s(self) -> float:
        """The sound speed before listening [m/s].

        Returns
        -------
        float
            Mean of the prior.
        """
        return float(self.mean[4])

    @property
    def same_m(self) -> float:
        """How far apart two shots of one place may seem [m]: the path bends both alike, so only picks tell.

        Returns
        -------
        float
            Distance.
        """
        return 1.0 + 3.0 * self.speed_m_s * self.pick_s

    @property
    def area_m2(self) -> float:
        """Where shots are asked for: among the sensors and around them [m2].

        Returns
        -------
        float
            Area.
        """
        x_m, y_m = np.ptp(self.array.positions_m[:, :2], axis=0) + 2 * MARGIN_M
        return float(x_m * y_m)

    @cached_property
    def hearing(self) -> tuple[Floats, Floats, float]:
        """The tables of how likely a shot is heard, by distance.

        Returns
        -------
        tuple of numpy.ndarray, numpy.ndarray and float
            Log-probabilities to hear and to miss it; the distance from one row to the next [m].
        """
        step_m = 2.0 * self.max_range_m / TABLE
        half_m = HALF_RANGE_SHARE * self.max_range_m
        distance = (np.arange(TABLE) + 0.5) * step_m
        heard = DETECT_BEST / (1.0 + np.exp(np.minimum(STEEPNESS * (distance - half_m) / half_m, 50.0)))
        if len(self.reached_m):
            near = np.exp(-0.5 * ((distance[:, None] - self.reached_m[:, 0]) / (HEARING_SHARE * half_m)) ** 2)
            told = near @ self.reached_m[:, 1]
            heard = (HEARING_COUNT * heard + told) / (HEARING_COUNT + near.sum(axis=1))
        return np.log(heard), np.log1p(-heard), step_m

    def theta_of(self, shot: Found) -> Floats:
        """Write a shot as the kernels' unknowns.

        Parameters
        ----------
        shot : Found
            The shot.

        Returns
        -------
        numpy.ndarray, shape (7,)
            Its place and time, in the air as known beforehand.
        """
        theta = self.mean.copy()
        theta[[0, 1, 3]] = np.array(shot.place_m) - self.array.middle_m
        theta[2] = (shot.origin_s - self.reference_s) * REFERENCE_SPEED_M_S
        return theta

    def mean_at(self, theta: Floats) -> Floats:
        """Take the prior means with the height that is usual around a place.

        Parameters
        ----------
        theta : numpy.ndarray, shape (7,)
            The place.

        Returns
        -------
        numpy.ndarray, shape (7,)
            Prior means there.
        """
        mean = self.mean.copy()
        apart = np.hypot(*(self.array.positions_m[:, :2] - self.array.middle_m[:2] - theta[:2]).T)
        mean[3] = self.array.near_height_m[int(np.argmin(apart))]
        return mean

    def cost_nats(self, shots: int) -> float:
        """Say what each of several shots of one place must bring: the log of the places and times it could have had.

        The place is paid for once by all its shots, and a place that fires often is likelier to fire now.

        Parameters
        ----------
        shots : int
            How many there are.

        Returns
        -------
        float
            What each must bring [nats].
        """
        resolution_m = self.speed_m_s * self.sigma_s
        place = math.log(self.area_m2 / (2 * math.pi * resolution_m**2))
        moment = math.log(BURST_S / (ORIGIN_SIGMAS * self.sigma_s * shots))
        return moment + (max(place, 0.0) + self.doubt_nats) / shots

    def crowd_nats(self, shots: float) -> float:
        """Say how much less a shot need bring where so many are fired that one more is no surprise.

        Parameters
        ----------
        shots : float
            How many are fired here, each alone.

        Returns
        -------
        float
            How much less [nats].
        """
        return math.log(max(shots * BURST_S / max(float(np.ptp(self.t)), BURST_S), 1.0))

    def members_of(self, shot: Found) -> Ints:
        """Find a shot's picks here.

        Parameters
        ----------
        shot : Found
            The shot.

        Returns
        -------
        numpy.ndarray, shape (m,)
            Each sensor's pick, or -1.
        """
        members = np.full(len(self.array.near), -1, dtype=np.int64)
        own = self.rank[list(shot.members)]
        members[self.owner[own]] = own
        return members

    def picks_of(self, shots: Sequence[Found]) -> Bools:
        """Mark the picks of shots, and those that are no blast.

        Parameters
        ----------
        shots : sequence of Found
            The shots.

        Returns
        -------
        numpy.ndarray, shape (n,)
            Whether each pick is one of theirs, or an N-wave.
        """
        taken: Bools = np.equal(self.wave, SHOCK)
        taken[self.rank[[pick for shot in shots for pick in shot.members + shot.shocks]]] = True
        return taken

    def explained(self, taken: Bools) -> Window:
        """Take picks as explained: the rest stands out more, but for the echoes that are due after them.

        Parameters
        ----------
        taken : numpy.ndarray, shape (n,)
            The picks that are explained, and no others.

        Returns
        -------
        Window
            The same picks, weighed anew.
        """
        weight = self.heard - np.log(_density(self.t, self.start, (~taken).astype(np.float64)))
        # What follows an N-wave is the blast.
        _select.expect_echoes(self.start, self.t, taken & (self.wave != SHOCK), weight, self.echo_rate, ECHO_TAIL_S)
        return replace(self, taken=taken, weight=weight)

    def in_air(self, air: Air) -> Window:
        """Believe in another air.

        Parameters
        ----------
        air : Air
            The air.

        Returns
        -------
        Window
            The same picks.
        """
        mean, precision = prior(air, Height(0.0, HEIGHT_SIGMA_M))
        return replace(self, mean=mean, precision=precision)

    def presumed(self, share: float) -> Window:
        """Weigh all picks anew, as if shots explained all but a share of what is heard.

        Parameters
        ----------
        share : float
            How much of it they leave over.

        Returns
        -------
        Window
            The same picks, weighed anew, as free as before; no further echoes are expected in it.
        """
        weight = self.heard - np.log(_density(self.t, self.start, np.full(len(self.t), share)))
        return replace(self, weight=weight, echo_rate=0.0)

    def foreseen(self, shots: Sequence[Found]) -> Window:
        """Weigh all picks anew, knowing what was found at last: what else is heard is echoes, and what comes anyway.

        How much of either, and how far a shot is heard, is learned from these shots and the picks they leave over.

        Parameters
        ----------
        shots : sequence of Found
            The shots found at last.

        Returns
        -------
        Window
            The same picks, weighed anew, those explained as free as before; no further echoes are expected in it.
        """
        explained = self.picks_of(shots)
        after = np.empty(len(self.t))
        _select.echo_density(self.start, self.t, explained, ECHO_TAIL_S, after)
        free, rate = ~explained, ECHO_RATE
        share = np.zeros(len(self.t))  # of each pick, as an echo
        for _ in range(MIXTURE_ROUNDS):
            anyway = _density(self.t, self.start, free * (1.0 - share))
            share = rate * after / (anyway + rate * after)
            rate = (share[free].sum() + ECHO_RATE * RATE_COUNT) / (explained.sum() + RATE_COUNT)
        weight = self.heard - np.log(anyway + rate * after)
        return replace(self, weight=weight, echo_rate=0.0, reached_m=self._reached_m(shots))

    def _reached_m(self, shots: Sequence[Found]) -> Floats:
        """List how far shots were from the sensors that heard them, and from those that could have and did not."""
        rows = []
        surest = sorted(shots, key=lambda shot: -shot.surplus)[: (len(shots) + 1) // 2]  # the rest may be others' picks
        for shot in surest:
            members = self.members_of(shot)
            apart_m = np.linalg.norm(self.array.positions_m - np.array(shot.place_m), axis=1)
            due = shot.origin_s - self.reference_s + apart_m / self.speed_m_s
            for k in range(len(members)):
                own = self.t[self.start[k] : self.start[k + 1]]
                deaf = np.searchsorted(own, due[k] + GATE * self.sigma_s) - np.searchsorted(own, due[k] - DEAD_S)
                if members[k] >= 0 or (deaf == 0 and due[k] < self.horizon_s):
                    rows.append((apart_m[k], float(members[k] >= 0)))
        return np.array(rows).reshape(-1, 2)

    def found(self, theta: Floats, origin_s: float, members: Ints, score: float, cost: float) -> Found:
        """Write a shot in the terms of the picks given.

        Parameters
        ----------
        theta : numpy.ndarray, shape (7,)
            Its place.
        origin_s : float
            Its origin time here [s].
        members : numpy.ndarray, shape (m,)
            Each sensor's pick, or -1.
        score, cost : float
            What it brings and had to bring [nats].

        Returns
        -------
        Found
            The shot.
        """
        own = members[members >= 0]
        own = own[np.argsort(self.t[own], kind="stable")]
        x, y, z = (theta[[0, 1, 3]] + self.array.middle_m).tolist()
        return Found(origin_s + self.reference_s, (x, y, z), tuple(self.order[own].tolist()), score, score - cost)


def open_window(
    picks: Picks, array: Array, air: Air, settings: Locating, horizon_s: float, decided: Sequence[Found]
) -> Window:
    """Sort picks and weigh them.

    Parameters
    ----------
    picks : Picks
        What was heard; at least one.
    array : Array
        The sensors.
    air : Air
        What is known of the air.
    settings : Locating
        The site's settings.
    horizon_s : float
        Until when all that was heard is among `picks` [s].
    decided : sequence of Found
        Shots decided before, whose members are among `picks`.

    Returns
    -------
    Window
        The window, with the picks of decided shots explained.
    """
    order = np.lexsort((picks.toa_s, picks.sensor))
    reference_s = float(picks.toa_s.min())
    owner = picks.sensor[order].astype(np.int64)
    mean, precision = prior(air, Height(0.0, HEIGHT_SIGMA_M))
    count = len(order)
    level = np.full(count, math.nan) if picks.level_db is None else picks.level_db
    heard = np.zeros(count) if picks.llr is None else np.clip(LLR_SHARE * picks.llr, -LLR_NATS, LLR_NATS)
    window = Window(
        array=array,
        order=order,
        rank=np.argsort(order),
        reference_s=reference_s,
        t=np.ascontiguousarray(picks.toa_s[order] - reference_s),
        s=np.ascontiguousarray(picks.sigma_s[order]),
        owner=owner,
        start=np.searchsorted(owner, np.arange(len(array.sensor_ids) + 1)).astype(np.int64),
        level=level[order],
        heard=heard[order],
        wave=np.zeros(count, dtype=np.int64) if picks.wave is None else picks.wave[order],
        taken=np.zeros(count, dtype=np.bool_),
        weight=np.zeros(count),
        horizon_s=min(horizon_s - reference_s, 1e9),
        path_s=WIDER * settings.path_sigma_s,
        mean=mean,
        precision=precision,
        max_range_m=settings.max_range_m,
        fewest=settings.min_sensors_count,
    )
    return window.explained(window.picks_of(decided))


def _density(t: Floats, start: Ints, count: Floats) -> Floats:
    """Count how many other picks a second there are around each at its sensor, each pick for so much."""
    density = np.empty(len(t))
    _select.density(start, t, count, DENSITY_WINDOW_S, DENSITY_FLOOR_COUNT, density)
    return density
