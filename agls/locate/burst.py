"""Bursts so dense that no shot of theirs stands out alone: found as a whole, by the delays between pairs of sensors.

Two automatic weapons over a wide array have dozens of sounds on their way at any time, and any four sensors agree on
some wrong place. But each shot of one place puts the same delay between two sensors, whatever else is heard, so the
place stands out once delays are counted (`agls.locate._stack`); its shots follow from its pattern.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain

import numpy as np

from agls.locate import _search, _stack
from agls.locate._kernels import Floats
from agls.locate.choose import BURST_SHOTS, choose, share_out
from agls.locate.picks import Array, Found
from agls.locate.places import Place, pool
from agls.locate.window import MARGIN_M, Window

STACK_FLIGHT = 5.0  # sounds in flight from which no shot stands out alone
STACKS = 8  # bursts looked for at most
GRID_COUNT = 150_000  # places that are looked at in a fraction of a second
PEAKS, PEAK_CELLS = 10, 3_000  # peaks that are tried, among so many of the highest places
GRID_STEP = 1.2  # of what arrivals resolve: no peak falls between
PEAK_STEPS, PEAK_M = 4.0, 12.0  # two peaks nearer than this are one
AIR_GRID_COUNT = 30_000  # places looked at in each air there may be
# The air is searched where not knowing it blurs a second's delay more than so many sigmas.
BLUR_S, AIR_SIGMAS = 1.0, 2.0
AIR_STEP_M_S, AIR_REACH = 2.2, 2.2  # in such steps, so many standard deviations far
AIR_TOPS, AIR_FOUND_M_S = 12, 1.0  # so many of the airs are looked at closely; the one found is that sure
NARROW_BINS = 2.0  # a bin is a standard deviation of a pair over two: from the top on, this wide
WIND_STEP_M_S = 0.5  # first step in the air while climbing
SLOWEST_SHARE = 0.95  # of the sound speed, with the wind against it


def find_bursts(window: Window, known: list[Found]) -> tuple[list[Found], Window]:
    """Find bursts: the one that explains most, then the next in what it left; then each again beside all others.

    Parameters
    ----------
    window : Window
        The picks.
    known : list of Found
        Shots found before.

    Returns
    -------
    tuple of list of Found and Window
        Further shots, and the window with their picks explained.
    """
    if in_flight(window) < STACK_FLIGHT:
        return [], window
    start = window = _in_likeliest_air(window)
    places: list[Place] = []
    shots: list[list[Found]] = []
    for _ in range(STACKS):
        stacked = [place for place in _stacked(window) if len(place.origins) >= BURST_SHOTS]
        if not stacked:
            break
        place = max(stacked, key=lambda place: place.worth)
        more, after = choose(window, [place], [*known, *chain.from_iterable(shots)])
        # A shooter who moves seems to fire from one place for a while, but each shot alone explains more.
        if len(more) < BURST_SHOTS or sum(shot.surplus for shot in more) <= _alone_nats(window, more):
            break
        places.append(place)
        shots.append(more)
        window = after
    found = list(chain.from_iterable(shots))
    if len(places) > 1:
        rows = [(place, shot) for place, own in zip(places, shots, strict=True) for shot in own]
        found = share_out(start.explained(start.picks_of(known + found)), rows, start.picks_of(known))
    return found, start.explained(start.picks_of(known + found))


def _alone_nats(window: Window, shots: list[Found]) -> float:
    """Sum up what shots would bring each for itself."""
    total = 0.0
    cost = window.cost_nats(1)
    for shot in shots:
        theta = window.theta_of(shot)
        score = _search.settle(
            theta, *window.array.columns_m, *window.hearing, window.start, window.t, window.s, window.weight,
            window.taken, window.horizon_s, window.path_s, window.mean_at(theta), window.precision,
            window.members_of(shot),
        )  # fmt: skip
        total += max(score - cost, 0.0)
    return total


def in_flight(window: Window) -> float:
    """Say how many sounds are on their way past a sensor at a time: from few, shots stand out alone.

    Parameters
    ----------
    window : Window
        The picks; those explained do not count.

    Returns
    -------
    float
        Sounds between one end of the array and the other.
    """
    free = window.t[~window.taken]
    if free.size == 0:
        return 0.0
    width_m = float(np.ptp(window.array.positions_m[:, :2], axis=0).max())
    span_s = max(float(np.ptp(free)), 1.0)
    return free.size / len(window.array.near) / span_s * width_m / window.speed_m_s


def _stacked(window: Window) -> list[Place]:
    """Propose the places of bursts: where the delays between all pairs of sensors stack up."""
    if in_flight(window) < STACK_FLIGHT:
        return []
    sensors, speed, sigma_s = window.array.columns_m, window.speed_m_s, window.sigma_s
    counts, chance, bin_s = _histograms(window)
    xs, ys, zs, step_m = _grid(window.array, speed * sigma_s)
    wide = np.full(len(chance), np.round((1.4 * sigma_s + 0.4 * step_m / speed) / bin_s))
    heights = np.empty(len(xs))
    c, u, v = window.mean[4:].tolist()
    _stack.coarse_map(xs, ys, zs, c, u, v, *sensors, counts, chance, bin_s, wide, heights)
    places: list[Place] = []
    for i in _peaks(xs, ys, heights, max(PEAK_STEPS * step_m, PEAK_M)):
        theta = window.mean.copy()
        theta[0], theta[1], theta[3] = xs[i], ys[i], zs[i]
        _climbed(window, theta, step_m, counts, chance, bin_s)
        place = pool(window, theta)
        places += [place] if place is not None else []
    return places


def _in_likeliest_air(window: Window) -> Window:
    """Choose, among the airs there may be, the one in which some place stands out most.

    Delays over an array bend by tens of milliseconds in a wind nobody reported: in the wrong air no place stands out.
    """
    sigma_c, sigma_w = window.precision[4] ** -0.5, window.precision[5] ** -0.5
    if math.hypot(sigma_c, sigma_w) * BLUR_S < AIR_SIGMAS * window.speed_m_s * window.sigma_s:
        return window
    counts, chance, bin_s = _histograms(window)
    xs, ys, zs, step_m = _grid(window.array, window.speed_m_s * window.sigma_s, AIR_GRID_COUNT)
    wide = np.full(len(chance), np.round((1.4 * window.sigma_s + 0.4 * step_m / window.speed_m_s) / bin_s))
    heights = np.empty(len(xs))
    tops: list[tuple[float, int, Floats]] = []
    for air in _airs(window.mean, sigma_c, sigma_w):
        c, u, v = air.tolist()
        _stack.coarse_map(xs, ys, zs, c, u, v, *window.array.columns_m, counts, chance, bin_s, wide, heights)
        top = int(np.argmax(heights))
        tops.append((float(heights[top]), top, air))
    tops.sort(key=lambda one: -one[0])
    # Maps as coarse as these only suggest: what stands out most once place and air have found each other is it.
    climbed = [
        _climbed(window, np.array([xs[top], ys[top], 0.0, zs[top], *air]), step_m, counts, chance, bin_s)
        for _, top, air in tops[:AIR_TOPS]
    ]
    _, theta = max(climbed, key=lambda one: one[0])
    precision = window.precision.copy()
    precision[4:] = np.maximum(precision[4:], AIR_FOUND_M_S**-2)
    return replace(window, mean=np.concatenate([window.mean[:4], theta[4:]]), precision=precision)


def _climbed(
    window: Window, theta: Floats, step_m: float, counts: Floats, chance: Floats, bin_s: float
) -> tuple[float, Floats]:
    """Climb from a peak of a map to where delays stack up most, place and air together."""
    narrow = np.full(len(chance), NARROW_BINS)
    height = _stack.climb(
        theta, step_m / 2, WIND_STEP_M_S, *window.array.columns_m, counts, chance, bin_s, narrow, window.mean,
        window.precision,
    )  # fmt: skip
    return height, theta


def _airs(mean: Floats, sigma_c: float, sigma_w: float) -> list[Floats]:
    """List the airs there may be, in steps that bend delays by less than is forgiven."""
    far = AIR_REACH * sigma_w
    steps = np.arange(-math.floor(far / AIR_STEP_M_S), math.floor(far / AIR_STEP_M_S) + 1) * AIR_STEP_M_S
    speeds = [0.0, -1.2 * sigma_c, 1.2 * sigma_c] if sigma_c > AIR_STEP_M_S else [0.0]
    return [
        mean[4:] + np.array([c, u, v]) for c in speeds for u in steps for v in steps if math.hypot(u, v) <= far + 1e-9
    ]


def _histograms(window: Window) -> tuple[Floats, Floats, float]:
    """Count the delays between all pairs of sensors; say how many there are by chance, and how wide a bin is [s]."""
    px, py, _ = window.array.columns_m
    m = len(px)
    apart = np.hypot(px[:, None] - px, py[:, None] - py)
    longest = apart / (SLOWEST_SHARE * window.speed_m_s) + 4 * window.sigma_s + np.eye(m)
    bin_s = window.sigma_s / math.sqrt(2.0)
    bins = 2 * int(longest.max() / bin_s) + 3
    counts, chance = np.empty((m * (m - 1) // 2, bins + 1)), np.empty(m * (m - 1) // 2)
    _stack.delay_histograms(window.start, window.t, window.taken, longest, bin_s, bins, counts, chance)
    return counts, chance, bin_s


def _grid(array: Array, resolution_m: float, cells: int = GRID_COUNT) -> tuple[Floats, Floats, Floats, float]:
    """Lay a grid over the sensors and their surroundings, as fine as the arrivals resolve and the machine can bear."""
    flat = array.positions_m[:, :2] - array.middle_m[:2]
    low, high = flat.min(axis=0) - MARGIN_M / 2, flat.max(axis=0) + MARGIN_M / 2
    step_m = max(GRID_STEP * resolution_m, math.sqrt(float(np.prod(high - low)) / cells))
    xs, ys = (axis.ravel() for axis in np.meshgrid(*(np.arange(a, b, step_m) for a, b in zip(low, high, strict=True))))
    return xs, ys, np.full(len(xs), float(array.near_height_m.mean())), step_m


def _peaks(xs: Floats, ys: Floats, heights: Floats, apart_m: float) -> list[int]:
    """Pick the highest places, none near a higher one."""
    peaks: list[int] = []
    least = np.partition(heights, -PEAK_CELLS)[-PEAK_CELLS] if len(heights) > PEAK_CELLS else -math.inf
    high = np.flatnonzero(heights >= least)
    for i in high[np.argsort(-heights[high], kind="stable")][:PEAK_CELLS]:
        if all(math.hypot(xs[i] - xs[j], ys[i] - ys[j]) > apart_m for j in peaks):
            peaks.append(int(i))
        if len(peaks) == PEAKS:
            break
    return peaks
