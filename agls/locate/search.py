"""Which detections are the same shot? The friendly side of `agls.locate._search`.

`find_shots` is a pure function of the picks it is given, so that the order in which they came cannot matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment

from agls.config import Locating
from agls.locate import _search, _stack
from agls.locate._kernels import PARAMETERS, REFERENCE_SPEED_M_S, Floats, refine
from agls.locate._search import GATE, TABLE, Bools, Ints
from agls.locate.solve import Air, Height, prior

# Across places association must be wider than the ellipse: bent paths have a long tail.
WIDER = 1.8
DENSITY_WINDOW_S = 4.0
DENSITY_FLOOR_COUNT = 0.3  # a sensor that reported nothing else may still report something
BURST_S = 4.0  # shots are asked for within so long of each other
MARGIN_M = 200.0  # and within so far of the sensors
OUTSIDE_M_PER_NAT = 200.0  # shots far outside the sensors are rarely heard, and wrong combinations often lie there
LEAST_NATS = 4.0  # below this nothing is worth looking at
# A pick that sounds like gunfire is likelier part of a shot. Nodes err together, so their word is worth little here.
LLR_SHARE, LLR_NATS = 0.2, 0.7
HEIGHT_SIGMA_M = 20.0
DETECT_BEST = 0.95
HALF_RANGE_SHARE = 0.45  # of the maximum range: where half of the sensors still hear
ECHO_RATE = 1.7  # echoes per direct arrival in a city (63 % of the Pittsburgh pulses are not direct)
ECHO_TAIL_S, ECHO_SPAN_S = 0.3, 1.0  # over what time they decay, and how long they are counted
ECHO_LAG_S, SAME_LAG_S = 1.0, 0.0015  # an echo's lag is short, and the same each time,
ECHO_SHARE = 0.85  # and fewer sensors hear it
FASTEST_S = 0.042  # no weapon cycles faster than this: a second shot from one place so soon is an echo near the muzzle
SAME_PLACE_M = 40.0
LIKE_S, LIKE_M = 2.0, 150.0  # shots so near each other are heard by the same sensors
TRIPLES = 1500
POOL_ROUNDS = 3
CLEAR_NATS = 10.0
BURST_SHOTS, STACKS, SWEEPS = 6, 8, 2
BESIDE_BURST_NATS = 5.0
STACK_FLIGHT = 12.0  # sounds in flight from which no shot stands out alone
GRID_COUNT, PEAK_CELLS, PEAKS = 150_000, 3_000, 10
NEIGHBOURS = 6
POOL_M = 6.0  # proposals this near each other may be one place
SURE_SHARE = 0.6  # shots that score so much of their place's best teach its pattern
PATTERN_S = 0.0003  # what a pattern never tells better than, shooters move
UNSURE_S = 0.001  # a place known from one shot predicts no delay better than this


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
    near : numpy.ndarray, shape (m, NEIGHBOURS)
        Each sensor's nearest others, -1 where there are none.
    near_height_m : numpy.ndarray, shape (m,)
        Mean height around each sensor, relative to the middle [m].
    """

    sensor_ids: tuple[str, ...]
    positions_m: Floats
    middle_m: Floats = field(init=False)
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
        heights = self.positions_m[:, 2] - middle[2]
        around = [np.append(heights[row[row >= 0][:3]], heights[k]).mean() for k, row in enumerate(near)]
        for name, value in (
            ("middle_m", middle),
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
        flat = self.positions_m
        widest = max((float(np.linalg.norm(flat - place, axis=1).max()) for place in flat), default=0.0)
        return min(widest, max_range_m) / slowest_m_s


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
    """

    sensor: Ints
    toa_s: Floats
    sigma_s: Floats
    level_db: Floats | None = None
    llr: Floats | None = None


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
    """

    origin_s: float
    place_m: tuple[float, float, float]
    members: tuple[int, ...]
    score: float
    surplus: float


@dataclass(frozen=True)
class _Window:
    """Picks sorted by sensor and time, and all that the kernels need with them, relative to the array's middle."""

    array: Array
    order: Ints
    rank: Ints
    reference_s: float
    t: Floats
    s: Floats
    owner: Ints
    start: Ints
    taken: Bools
    weight: Floats
    level: Floats
    heard: Floats
    horizon: float
    path_s: float
    mean: Floats
    precision: Floats
    max_range_m: float
    fewest: int
    echo_rate: float = ECHO_RATE
    extra_nats: float = 0.0

    @property
    def sigma_s(self) -> float:
        """Standard deviation of an arrival: path and pick."""
        return math.hypot(self.path_s, float(np.median(self.s)))

    @property
    def resolution_m(self) -> float:
        return float(self.mean[4]) * self.sigma_s

    @property
    def same_m(self) -> float:
        """How far apart two shots of one place may seem: the path bends both alike, so only picks tell."""
        return 1.0 + 3.0 * float(self.mean[4]) * float(np.median(self.s))

    def theta_of(self, shot: Found) -> Floats:
        """Write a shot as the kernels' unknowns."""
        theta = self.mean.copy()
        theta[[0, 1, 3]] = np.array(shot.place_m) - self.array.middle_m
        theta[2] = (shot.origin_s - self.reference_s) * REFERENCE_SPEED_M_S
        return theta

    def mean_at(self, theta: Floats) -> Floats:
        """Take the prior means with the height that is usual around a place."""
        mean = self.mean.copy()
        apart = np.hypot(*(self.array.positions_m[:, :2] - self.array.middle_m[:2] - theta[:2]).T)
        mean[3] = self.array.near_height_m[int(np.argmin(apart))]
        return mean

    @property
    def sensors(self) -> tuple[Floats, Floats, Floats]:
        px, py, pz = np.ascontiguousarray((self.array.positions_m - self.array.middle_m).T)
        return px, py, pz

    @property
    def hearing(self) -> tuple[Floats, Floats, float]:
        """Tables of the log-probabilities to hear and to miss a shot, by distance."""
        step_m = 2.0 * self.max_range_m / TABLE
        half_m = HALF_RANGE_SHARE * self.max_range_m
        distance = (np.arange(TABLE) + 0.5) * step_m
        heard = DETECT_BEST / (1.0 + np.exp(np.minimum(4.0 * (distance - half_m) / half_m, 50.0)))
        return np.log(heard), np.log1p(-heard), step_m


_NONE = np.empty(0)


@dataclass(frozen=True)
class _Place:
    """A place that shots may come from: its pattern of delays, and what each shot there must bring [nats]."""

    theta: Floats
    delay: Floats
    sigma: Floats
    origins: Floats
    cost: float
    worth: float = 0.0


def find_shots(
    picks: Picks,
    array: Array,
    air: Air,
    settings: Locating,
    horizon_s: float = math.inf,
    decided: Sequence[Found] = (),
    *,
    thorough: bool = True,
) -> list[Found]:
    """Find the shots that explain picks, each pick in at most one.

    Parameters
    ----------
    picks : Picks
        What was heard.
    array : Array
        The sensors.
    air : Air
        What is known of the air.
    settings : Locating
        The site's settings.
    horizon_s : float, optional
        Until when all that was heard is among `picks` [s]: a sensor's silence after that says nothing.
    decided : sequence of Found, optional
        Shots decided before, whose members are among `picks`; their echoes may be, too.
    thorough : bool, optional
        Whether to look for bursts so dense that no shot of theirs stands out alone.

    Returns
    -------
    list of Found
        Further shots in order of their origin time.
    """
    if len(picks.toa_s) < settings.min_sensors_count or len(array.sensor_ids) < settings.min_sensors_count:
        return []
    window = _window(picks, array, air, settings, horizon_s, decided)
    shots = list(decided)
    for search in (_clear, _bursts, _candidates, _candidates) if thorough else (_clear, _candidates):
        if (~window.taken).sum() < window.fewest:
            break
        more, window = search(window, shots)
        shots += more
        if search is _bursts and more:
            # What a burst leaves is mostly parts of its own shots.
            window = replace(window, extra_nats=BESIDE_BURST_NATS)
    return _without_repeated_echoes(shots[len(decided) :], decided)


def _bursts(window: _Window, known: list[Found]) -> tuple[list[Found], _Window]:
    """Find bursts: the one that explains most, then the next in what it left; then each again beside all others."""
    start = window
    places: list[_Place] = []
    shots: list[list[Found]] = []
    for _ in range(STACKS):
        stacked = [place for place in _stacked(window) if len(place.origins) >= BURST_SHOTS]
        if not stacked:
            break
        place = max(stacked, key=lambda place: place.worth)
        more, after = _choose(window, [place], [*known, *chain.from_iterable(shots)])
        if len(more) < BURST_SHOTS or sum(shot.surplus for shot in more) <= _alone_nats(window, more):
            break
        places.append(place)
        shots.append(more)
        window = after
    found = list(chain.from_iterable(shots))
    if len(places) > 1:
        found = _shared_out(_reweighted(start, _taken(start, known + found)), places, shots, _taken(start, known))
    return found, _reweighted(start, _taken(start, known + found))


def _shared_out(window: _Window, places: list[_Place], shots: list[list[Found]], blocked: Bools) -> list[Found]:
    """Share the picks out anew among the shots of several bursts, so that all together gain most at each sensor."""
    rows = [(place, shot) for place, own in zip(places, shots, strict=True) for shot in own]
    m = len(window.array.near)
    delay, sigma = np.array([place.delay for place, _ in rows]), np.array([place.sigma for place, _ in rows])
    hit, miss, scratch = np.empty((len(rows), m)), np.empty((len(rows), m)), np.empty(m)
    for i, (place, _) in enumerate(rows):
        _search.pattern(place.theta, *window.sensors, *window.hearing, scratch, hit[i], miss[i])
    origins = np.array([shot.origin_s for _, shot in rows]) - window.reference_s
    members = np.full((len(rows), m), -1, dtype=np.int64)
    for _ in range(SWEEPS):
        for k in range(m):
            first, past = window.start[k], window.start[k + 1]
            gain = np.empty((len(rows), past - first))
            _search.advantage(
                k, origins, delay, sigma, hit, miss, window.start, window.t, window.s, window.weight, blocked, gain
            )
            mine, theirs = linear_sum_assignment(gain, maximize=True)
            members[:, k] = -1
            good = gain[mine, theirs] > 0
            members[mine[good], k] = theirs[good] + first
        for i, row in enumerate(members):
            heard = row >= 0
            if heard.any():
                origins[i] = np.mean(window.t[row[heard]] - delay[i, heard])
    return [
        _found(window, place, float(origins[i]), members[i], shot.score)
        for i, (place, shot) in enumerate(rows)
        if (members[i] >= 0).sum() >= window.fewest
    ]


def _taken(window: _Window, shots: Sequence[Found]) -> Bools:
    """Mark the picks of shots."""
    taken = np.zeros(len(window.t), dtype=np.bool_)
    taken[window.rank[[pick for shot in shots for pick in shot.members]]] = True
    return taken


def _alone_nats(window: _Window, shots: list[Found]) -> float:
    """Sum up what shots would bring each for itself: more than together where the shooter moved."""
    total = 0.0
    cost = _cost(window, 1)
    for shot in shots:
        theta, members = window.theta_of(shot), np.full(len(window.array.near), -1, dtype=np.int64)
        own = window.rank[list(shot.members)]
        members[window.owner[own]] = own
        score = _search.settle(
            theta, *window.sensors, *window.hearing, window.start, window.t, window.s, window.weight, window.taken,
            window.horizon, window.path_s, window.mean_at(theta), window.precision, members,
        )  # fmt: skip
        total += max(score - cost, 0.0)
    return total


def _candidates(window: _Window, known: list[Found]) -> tuple[list[Found], _Window]:
    """Find shots alone and places of a few: all that is proposed competes."""
    places = _proposed(window)
    if not places:
        return [], window
    found, after = _choose(window, places, known)
    rate = _echo_rate(window, after.taken)
    if rate > window.echo_rate:
        found, after = _choose(replace(window, echo_rate=rate), places, known)
    return found, after


def _echo_rate(window: _Window, used: Bools) -> float:
    """Count the unexplained picks that follow a direct arrival here, beyond what comes anyway."""
    after = before = 0
    for first, past in pairwise(window.start):
        own, rest = window.t[first:past][used[first:past]], window.t[first:past][~used[first:past]]
        after += int((np.searchsorted(rest, own + ECHO_SPAN_S) - np.searchsorted(rest, own)).sum())
        before += int((np.searchsorted(rest, own) - np.searchsorted(rest, own - ECHO_SPAN_S)).sum())
    return max(after - before, 0) / max(int(used.sum()), 1)


def _without_repeated_echoes(shots: list[Found], decided: Sequence[Found]) -> list[Found]:
    """Leave out places that fire with every shot of a better heard place, always by the same lag: a wall fires no gun.

    The lag may be negative: where many sensors lose the direct sound, echoes can fit a place behind the wall, and a
    little sooner.
    """
    by_place: dict[tuple[float, float, float], list[Found]] = {}
    for shot in shots:
        by_place.setdefault(shot.place_m, []).append(shot)
    groups = sorted(by_place.values(), key=lambda group: -max(shot.score for shot in group))
    kept = list(decided)
    for group in groups:
        if not _echoes(group, kept):
            kept += group
    return sorted(kept[len(decided) :], key=lambda shot: shot.origin_s)


def _echoes(group: list[Found], leaders: list[Found]) -> bool:
    """Say whether each shot of one place comes with a better heard shot by the same lag."""
    if len(group) < 2 or not leaders:
        return False
    origins = np.array([leader.origin_s for leader in leaders])
    hits = np.array([len(leader.members) for leader in leaders])
    lags = group[0].origin_s - origins
    for lag in lags[np.abs(lags) < ECHO_LAG_S]:
        gaps = np.array([shot.origin_s for shot in group])[:, None] - lag - origins
        nearest = np.abs(gaps).argmin(axis=1)
        off = gaps[np.arange(len(group)), nearest]
        own = float(np.mean([len(shot.members) for shot in group]))
        if np.abs(off).max() < 4 * SAME_LAG_S and off.std() < SAME_LAG_S and own < ECHO_SHARE * hits[nearest].mean():
            return True
    return False


def _in_flight(window: _Window) -> float:
    """Say how many sounds are on their way past a sensor at a time: from few, shots stand out alone."""
    free = window.t[~window.taken]
    if free.size == 0:
        return 0.0
    width_m = float(np.ptp(window.array.positions_m[:, :2], axis=0).max())
    span_s = max(float(np.ptp(free)), 1.0)
    return free.size / len(window.array.near) / span_s * width_m / float(window.mean[4])


def _stacked(window: _Window) -> list[_Place]:
    """Propose the places of bursts: where the delays between all pairs of sensors stack up."""
    px, py, pz = window.sensors
    m = len(px)
    if _in_flight(window) < STACK_FLIGHT:
        return []
    sigma_s = window.sigma_s
    speed = float(window.mean[4])
    apart = np.hypot(px[:, None] - px, py[:, None] - py)
    longest = apart / (0.95 * speed) + 4 * sigma_s + np.eye(m)
    bin_s = sigma_s / math.sqrt(2.0)
    bins = 2 * int(longest.max() / bin_s) + 3
    counts, chance = np.empty((m * (m - 1) // 2, bins + 1)), np.empty(m * (m - 1) // 2)
    _stack.delay_histograms(window.start, window.t, window.taken, longest, bin_s, bins, counts, chance)
    xs, ys, zs, step_m = _grid(window.array, speed * sigma_s)
    wide = np.full(len(chance), np.round((1.4 * sigma_s + 0.4 * step_m / speed) / bin_s))
    narrow = np.full(len(chance), 2.0)
    heights = np.empty(len(xs))
    c, u, v = (float(value) for value in window.mean[4:])
    _stack.coarse_map(xs, ys, zs, c, u, v, px, py, pz, counts, chance, bin_s, wide, heights)
    places: list[_Place] = []
    for i in _peaks(xs, ys, heights, max(4 * step_m, 12.0)):
        theta = window.mean.copy()
        theta[0], theta[1], theta[3] = xs[i], ys[i], zs[i]
        _stack.climb(theta, step_m / 2, 0.5, px, py, pz, counts, chance, bin_s, narrow, window.mean, window.precision)
        place = _pool(window, theta)
        places += [place] if place is not None else []
    return places


def _grid(array: Array, resolution_m: float) -> tuple[Floats, Floats, Floats, float]:
    """Lay a grid over the sensors and their surroundings, as fine as the arrivals resolve and the machine can bear."""
    flat = array.positions_m[:, :2] - array.middle_m[:2]
    low, high = flat.min(axis=0) - MARGIN_M / 2, flat.max(axis=0) + MARGIN_M / 2
    step_m = max(1.2 * resolution_m, math.sqrt(float(np.prod(high - low)) / GRID_COUNT))
    xs, ys = (axis.ravel() for axis in np.meshgrid(*(np.arange(a, b, step_m) for a, b in zip(low, high, strict=True))))
    return xs, ys, np.full(len(xs), float(array.near_height_m.mean())), step_m


def _peaks(xs: Floats, ys: Floats, heights: Floats, apart_m: float) -> list[int]:
    """Pick the highest places, none near a higher one."""
    peaks: list[int] = []
    for i in np.argsort(-heights, kind="stable")[:PEAK_CELLS]:
        if all(math.hypot(xs[i] - xs[j], ys[i] - ys[j]) > apart_m for j in peaks):
            peaks.append(int(i))
        if len(peaks) == PEAKS:
            break
    return peaks


def _proposed(window: _Window) -> list[_Place]:
    """Propose places: each pick's best shot alone, and places that several of these agree on, with all their shots."""
    thetas, _, scores, _, _ = _proposals(window)
    order = [i for i in np.argsort(-scores, kind="stable") if scores[i] > LEAST_NATS]
    thetas = thetas[order]
    cost = _cost(window, 1)
    places = [_single(window, theta, cost) for theta in thetas]
    apart_m = max(POOL_M, 1.5 * window.path_s * window.mean[4])
    grouped = np.zeros(len(thetas), dtype=np.bool_)
    for i, theta in enumerate(thetas):
        if grouped[i]:
            continue
        near = np.hypot(thetas[:, 0] - theta[0], thetas[:, 1] - theta[1]) < apart_m
        grouped |= near
        moments = thetas[near, 2] / REFERENCE_SPEED_M_S
        if np.ptp(moments) > FASTEST_S:
            place = _pool(window, theta)
            places += [place] if place is not None else []
    return places


def _single(window: _Window, theta: Floats, cost: float = 0.0) -> _Place:
    m = len(window.array.near)
    delay, hit, miss = np.empty(m), np.empty(m), np.empty(m)
    _search.pattern(theta, *window.sensors, *window.hearing, delay, hit, miss)
    origin = np.array([theta[2] / REFERENCE_SPEED_M_S])
    return _Place(theta, delay, np.full(m, window.path_s), origin, cost)


def _proposals(window: _Window, clear_nats: float = math.inf) -> tuple[Floats, Ints, Floats, Bools, Bools]:
    """Propose the best shot first heard at each pick; those that are clear take their picks."""
    anchors = np.argsort(window.t, kind="stable").astype(np.int64)
    count, m = len(anchors), len(window.array.near)
    thetas, members, scores = np.empty((count, 7)), np.empty((count, m), np.int64), np.empty(count)
    clear, used = np.empty(count, dtype=np.bool_), window.taken.copy()
    longest_s = window.array.longest_delay_s(0.9 * float(window.mean[4]), window.max_range_m)
    _search.propose(
        anchors, *window.sensors, *window.hearing, window.array.near, window.array.near_height_m, window.start,
        window.owner, window.t, window.s, window.weight, used, window.horizon, window.path_s, window.mean,
        window.precision, window.max_range_m, TRIPLES, window.fewest, longest_s, clear_nats, thetas, members, scores,
        clear,
    )  # fmt: skip
    return thetas, members, scores, clear, used


def _clear(window: _Window, known: list[Found]) -> tuple[list[Found], _Window]:
    """Take, in order of time, the shots that nearly every sensor heard: there is nothing to weigh."""
    del known
    cost = _cost(window, 1)
    thetas, members, scores, clear, used = _proposals(window, cost + CLEAR_NATS)
    found = [
        _found(
            window,
            _Place(thetas[i], _NONE, _NONE, _NONE, cost),
            float(thetas[i, 2]) / REFERENCE_SPEED_M_S,
            members[i],
            float(scores[i]),
        )
        for i in np.flatnonzero(clear)
    ]
    return found, _reweighted(window, used)


def _cost(window: _Window, shots: int) -> float:
    """Say what each of several shots of one place must bring: the logarithm of the places and times it could have had.

    The place is paid for once by all its shots, and a place that fires often is likelier to fire now.
    """
    sigma_s = window.sigma_s
    x_m, y_m = np.ptp(window.array.positions_m[:, :2], axis=0) + 2 * MARGIN_M
    place = math.log(float(x_m * y_m) / (2 * math.pi * window.resolution_m**2))
    return math.log(BURST_S / (2.5 * sigma_s * shots)) + (max(place, 0.0) + window.extra_nats) / shots


def _pool(window: _Window, theta: Floats, known: _Place | None = None) -> _Place | None:
    """Find all shots from about one place, and from all of them the place's pattern; repeat."""
    count, m = len(window.t), len(window.array.near)
    delay, hit, miss = np.empty(m), np.empty(m), np.empty(m)
    theta = theta.copy()
    _search.pattern(theta, *window.sensors, *window.hearing, delay, hit, miss)
    sigma = np.full(m, max(window.path_s, UNSURE_S))
    if known is not None:
        delay, sigma = known.delay.copy(), known.sigma.copy()
    origins, members, scores = np.empty(count), np.empty((count, m), dtype=np.int64), np.empty(count)
    worth, place, known_nats = -math.inf, None, 0.0
    for _ in range(POOL_ROUNDS):
        number = _search.back_project(
            delay, sigma, hit, miss, window.start, window.owner, window.t, window.s, window.weight, window.taken,
            window.horizon, LEAST_NATS, FASTEST_S, origins, members, scores,
        )  # fmt: skip
        enough = [i for i in range(number) if (members[i] >= 0).sum() >= window.fewest]
        now = float((scores[enough] - LEAST_NATS).sum()) - known_nats
        if len(enough) < 2 or now <= worth + 1e-6:
            return place
        worth = now
        cost = _cost(window, len(enough)) + known_nats / len(enough)
        place = _Place(theta.copy(), delay.copy(), sigma.copy(), origins[enough], cost, now)
        sure = [i for i in enough if scores[i] >= SURE_SHARE * scores[enough].max()]
        known_nats = _learn_pattern(window, members[sure], origins[sure], delay, sigma, theta, hit, miss)
    return place


def _learn_pattern(
    window: _Window, members: Ints, origins: Floats, delay: Floats, sigma: Floats, theta: Floats, hit: Floats,
    miss: Floats,
) -> float:  # fmt: skip
    """Average the shots of a place into its pattern, and fit the place to the pattern as if it were one shot.

    The path's part of each delay is common to all shots, so it is in the average as it is in each of them: only the
    picks' part has shrunk. Where the pattern was never heard it is the place's prediction, with the path's
    uncertainty. Returns what the pattern itself must be paid for [nats]: how unlikely such paths are, and how exactly
    they are known.
    """
    m = len(delay)
    mean_delay, heard = np.empty(m), np.empty(m, dtype=np.int64)
    shots = len(origins)
    _search.average_pattern(members, shots, window.t, delay, origins.copy(), mean_delay, heard)
    known = np.flatnonzero(heard > 0)
    pick_s = float(np.median(window.s))
    px, py, pz = (axis[known] for axis in window.sensors)
    spread = np.sqrt(window.path_s**2 + pick_s**2 / heard[known])
    start = theta.copy()
    start[2] = 0.0
    weights, residuals = np.empty(len(known)), np.empty(len(known))
    refine(
        px, py, pz, mean_delay[known], spread, start, window.mean_at(theta), window.precision, GATE, PARAMETERS,
        weights, residuals,
    )  # fmt: skip
    shift = start[2] / REFERENCE_SPEED_M_S
    theta[:] = start
    _search.pattern(theta, *window.sensors, *window.hearing, delay, hit, miss)
    sigma[:] = max(window.path_s, UNSURE_S)
    # A delay heard n times tells the next one to a pick's error over the root of n; heard once, it may be an echo's.
    trusted = (heard[known] > 1) & (weights > 0.5)
    often = known[trusted]
    delay[often] = mean_delay[often] - shift
    sigma[often] = pick_s / np.sqrt(heard[often]) + PATTERN_S
    off = residuals[trusted] / spread[trusted]
    return float(0.5 * (off**2).sum() + np.log(np.maximum(spread[trusted] / sigma[often], 1.0)).sum())


def _choose(window: _Window, places: list[_Place], decided: Sequence[Found]) -> tuple[list[Found], _Window]:
    """Let the shots of all places compete for picks, best first, each with what is left when its turn comes."""
    m = len(window.array.near)
    fixed = [_single(window, window.theta_of(shot)) for shot in decided]
    rows = [(place, float(origin)) for place in fixed + places for origin in place.origins]
    delay, sigma = np.array([place.delay for place, _ in rows]), np.array([place.sigma for place, _ in rows])
    hit, miss, scratch = np.empty((len(rows), m)), np.empty((len(rows), m)), np.empty(m)
    for i, (place, _) in enumerate(rows):
        _search.pattern(place.theta, *window.sensors, *window.hearing, scratch, hit[i], miss[i])
    origins = np.array([origin for _, origin in rows])
    xy = np.array([place.theta[:2] for place, _ in rows])
    cost = np.array([place.cost for place, _ in rows]) + _outside_m(window.array, xy) / OUTSIDE_M_PER_NAT
    few = np.array([len(place.origins) < BURST_SHOTS for place, _ in rows])
    used, weight = window.taken.copy(), window.weight.copy()
    chosen, scores = np.arange(len(rows)), np.zeros(len(rows))
    members = np.full((len(rows), m), -1, dtype=np.int64)
    for i, shot in enumerate(decided):
        own = window.rank[list(shot.members)]
        members[i, window.owner[own]] = own
    number = _search.select(
        delay, sigma, hit, miss, origins, cost, few, xy[:, 0], xy[:, 1], window.start, window.t, window.s, weight,
        window.level, used, window.horizon, window.fewest, FASTEST_S, SAME_PLACE_M, LIKE_S, LIKE_M, window.same_m,
        window.echo_rate, ECHO_TAIL_S, len(decided), chosen, members, scores,
    )  # fmt: skip
    found = [
        _found(window, rows[chosen[k]][0], float(origins[chosen[k]]), members[k], float(scores[k]))
        for k in range(len(decided), number)
    ]
    return sorted(found, key=lambda shot: shot.origin_s), _reweighted(window, used)


def _outside_m(array: Array, xy: Floats) -> Floats:
    """Measure how far places lie outside the box round the sensors."""
    low, high = array.positions_m[:, :2].min(axis=0), array.positions_m[:, :2].max(axis=0)
    beyond = np.maximum(low - array.middle_m[:2] - xy, xy - (high - array.middle_m[:2])).clip(0)
    return np.asarray(np.hypot(beyond[:, 0], beyond[:, 1]))


def _window(
    picks: Picks, array: Array, air: Air, settings: Locating, horizon_s: float, decided: Sequence[Found]
) -> _Window:
    order = np.lexsort((picks.toa_s, picks.sensor))
    reference_s = float(picks.toa_s.min())
    t = np.ascontiguousarray(picks.toa_s[order] - reference_s)
    owner = picks.sensor[order].astype(np.int64)
    start = np.searchsorted(owner, np.arange(len(array.sensor_ids) + 1)).astype(np.int64)
    mean, precision = prior(air, Height(0.0, HEIGHT_SIGMA_M))
    none = np.zeros(len(t), dtype=np.bool_)
    level = np.full(len(t), math.nan) if picks.level_db is None else picks.level_db
    heard = np.zeros(len(t)) if picks.llr is None else np.clip(LLR_SHARE * picks.llr, -LLR_NATS, LLR_NATS)
    window = _Window(
        array, order, np.argsort(order), reference_s, t, np.ascontiguousarray(picks.sigma_s[order]), owner, start, none, np.zeros(len(t)),
        level[order], heard[order],
        min(horizon_s - reference_s, 1e9), WIDER * settings.path_sigma_s, mean, precision, settings.max_range_m,
        settings.min_sensors_count,
    )  # fmt: skip
    return _reweighted(window, _taken(window, decided))


def _reweighted(window: _Window, used: Bools) -> _Window:
    """Take picks as explained: the rest stands out more, but for the echoes that are due after them."""
    weight = _log_rarity(window.t, window.start, used) + window.heard
    _search.expect_echoes(window.start, window.t, used, weight, window.echo_rate, ECHO_TAIL_S)
    return replace(window, taken=used, weight=weight)


def _log_rarity(t: Floats, start: Ints, explained: Bools) -> Floats:
    """Take the negative logarithm of how many other unexplained picks a second there are around each, at its sensor."""
    weight = np.empty(len(t))
    for first, past in pairwise(start):
        own = t[first:past]
        rest = own[~explained[first:past]]
        around = np.searchsorted(rest, own + DENSITY_WINDOW_S / 2) - np.searchsorted(rest, own - DENSITY_WINDOW_S / 2)
        others = np.maximum(around - ~explained[first:past], 0)
        weight[first:past] = -np.log((others + DENSITY_FLOOR_COUNT) / DENSITY_WINDOW_S)
    return weight


def _found(window: _Window, place: _Place, origin: float, members: Ints, score: float) -> Found:
    own = members[members >= 0]
    own = own[np.argsort(window.t[own], kind="stable")]
    x, y, z = (place.theta[[0, 1, 3]] + window.array.middle_m).tolist()
    picks = tuple(window.order[own].tolist())
    return Found(origin + window.reference_s, (x, y, z), picks, score, score - place.cost)
