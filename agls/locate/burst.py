"""Bursts so dense that no shot of theirs stands out alone: found as a whole, by the delays between pairs of sensors.

Two automatic weapons over a wide array have dozens of sounds on their way at any time, and any four sensors agree on
some wrong place. But each shot of one place puts the same delay between two sensors, whatever else is heard, so the
place stands out once delays are counted (`agls.locate._stack`); its shots follow from its pattern.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain, combinations

import numpy as np

from agls.locate import _search, _stack
from agls.locate._kernels import Floats
from agls.locate.choose import BURST_SHOTS, choose, share_out
from agls.locate.picks import Array, Found
from agls.locate.places import Place, pool
from agls.locate.solve import Air, Height, Solution, solve
from agls.locate.window import MARGIN_M, Window

STACK_FLIGHT = 5.0  # sounds in flight from which no shot stands out alone
STACKS = 8  # bursts looked for at most
GRID_COUNT = 150_000  # places that are looked at in a fraction of a second
PEAKS, PEAK_CELLS = 10, 3_000  # peaks that are tried, among so many of the highest places
GRID_STEP = 1.2  # of what arrivals resolve: no peak falls between
PEAK_STEPS, PEAK_M = 4.0, 12.0  # two peaks nearer than this are one
# The air is searched where not knowing it blurs a second's delay more than so many sigmas.
BLUR_S, AIR_SIGMAS = 1.0, 2.0
PAIR_PEAKS, PATTERNS = 3, 12  # peaks of a pair that are followed up, as rounds of a burst make several; and patterns
AIR_FOUND_M_S = 1.0  # the air found is that sure
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
    """Take the air in which the burst that explains most was fired, where not knowing it blurs delays more than sigma.

    Delays over an array bend by tens of milliseconds in a wind nobody reported: in the wrong air no place stands out.
    """
    sigma_c, sigma_w = window.precision[4] ** -0.5, window.precision[5] ** -0.5
    if math.hypot(sigma_c, sigma_w) * BLUR_S < AIR_SIGMAS * window.speed_m_s * window.sigma_s:
        return window
    best: Place | None = None
    for theta in _in_any_air(window):
        place = pool(window, theta)
        if place is not None and len(place.origins) >= BURST_SHOTS and (best is None or place.worth > best.worth):
            best = place
    if best is None:
        return window
    precision = window.precision.copy()
    precision[4:] = np.maximum(precision[4:], AIR_FOUND_M_S**-2)
    return replace(window, mean=np.concatenate([window.mean[:4], best.theta[4:]]), precision=precision)


def _in_any_air(window: Window) -> list[Floats]:
    """Propose places of bursts, each with its air: first the delays that go together, then what makes such delays.

    The highest peak of two sensors' delays is nearly always some burst's. The others' delays follow from it, as they
    must go with both, and with each other: nothing need be known of place or air. Few patterns come of all peaks, and
    each is located as if it were one shot, air and all.
    """
    counts, chance, bin_s = _histograms(window)
    m, middle = len(window.array.near), (counts.shape[1] - 1) // 2
    longest = np.ceil(_longest_s(window) / bin_s).astype(np.int64)
    stacks: dict[tuple[int, ...], float] = {}
    for row, (i, j) in enumerate(combinations(range(m), 2)):
        for at in _pair_peaks(counts[row]):
            lags = np.zeros(m, dtype=np.int64)
            height = _stack.align(i, j, at - middle, counts, chance, longest, int(NARROW_BINS), lags)
            stacks[tuple((lags - lags[0]).tolist())] = height
    likely = sorted(stacks, key=lambda one: -stacks[one])[:PATTERNS]
    return [theta for lags in likely for theta in _located(window, np.array(lags) * bin_s)]


def _located(window: Window, delay: Floats) -> list[Floats]:
    """Locate a pattern of delays as if it were one shot; nothing where that is not possible."""
    mean = window.mean_at(window.mean)
    sigma_z, sigma_c, sigma_w = (window.precision[3:6] ** -0.5).tolist()
    air = Air(float(mean[4]), float(mean[5]), float(mean[6]), sigma_c, sigma_w)
    positions = np.column_stack(window.array.columns_m)
    found = solve(positions, delay, np.full(len(delay), window.sigma_s), air, Height(float(mean[3]), sigma_z))
    if not isinstance(found, Solution):
        return []
    moved = found.air
    return [
        np.array([found.x_m, found.y_m, 0.0, found.z_m, moved.sound_speed_m_s, moved.east_m_s, moved.north_m_s])
    ]  # fmt: skip


def _pair_peaks(counts: Floats) -> list[int]:
    """Pick the delays between two sensors that stand out most, as bins."""
    width = 2 * int(NARROW_BINS) + 1
    near = counts[width:] - counts[:-width]
    peaks = []
    for _ in range(PAIR_PEAKS):
        best = int(np.argmax(near))
        peaks.append(best + int(NARROW_BINS))
        near[max(best - width, 0) : best + width + 1] = 0.0
    return peaks


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


def _longest_s(window: Window) -> Floats:
    """Bound the delays between every two sensors [s]."""
    px, py, _ = window.array.columns_m
    apart = np.hypot(px[:, None] - px, py[:, None] - py)
    return np.asarray(apart / (SLOWEST_SHARE * window.speed_m_s) + 4 * window.sigma_s + np.eye(len(px)))


def _histograms(window: Window) -> tuple[Floats, Floats, float]:
    """Count the delays between all pairs of sensors; say how many there are by chance, and how wide a bin is [s]."""
    longest = _longest_s(window)
    m = len(longest)
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
    for i in np.argsort(-heights, kind="stable")[:PEAK_CELLS]:
        if all(math.hypot(xs[i] - xs[j], ys[i] - ys[j]) > apart_m for j in peaks):
            peaks.append(int(i))
        if len(peaks) == PEAKS:
            break
    return peaks
