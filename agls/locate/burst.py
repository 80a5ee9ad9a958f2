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
from agls.locate._search import Ints
from agls.locate.choose import BURST_SHOTS, choose, share_out
from agls.locate.picks import Found
from agls.locate.places import Place, pool
from agls.locate.solve import Air, Height, Solution, solve
from agls.locate.window import Window

STACK_FLIGHT = 5.0  # sounds in flight from which no shot stands out alone
STACKS = 8  # bursts looked for at most
# The air is searched where not knowing it blurs a second's delay more than so many sigmas.
BLUR_S, AIR_SIGMAS = 1.0, 2.0
# A burst's rounds put peaks beside the highest, too: so many of each pair are looked at, and so many patterns in all.
PAIR_PEAKS, PATTERNS = 3, 12
NEAR_BINS = 2  # a bin is a standard deviation of a pair over two: from the top of a peak on, this wide
PEAK_BINS = 3 * NEAR_BINS  # two peaks nearer than this are one
HEARD_SHARE = 0.33  # of what the sensor that heard a burst best adds to its stack; those that add less did not hear it
AIR_FOUND_M_S = 1.0  # the air found is that sure
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
        stacked = _stacked(window)
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
    """Propose the places of bursts: those that the delays between all pairs of sensors stack up for."""
    if in_flight(window) < STACK_FLIGHT:
        return []
    places = [pool(window, theta) for theta in _proposed(window)]
    return [place for place in places if place is not None and len(place.origins) >= BURST_SHOTS]


def _in_likeliest_air(window: Window) -> Window:
    """Take the air in which the burst that explains most was fired, where not knowing it blurs delays more than sigma.

    Delays over an array bend by tens of milliseconds in a wind nobody reported: in the wrong air no place stands out.
    """
    sigma_c, sigma_w = window.precision[4] ** -0.5, window.precision[5] ** -0.5
    if math.hypot(sigma_c, sigma_w) * BLUR_S < AIR_SIGMAS * window.speed_m_s * window.sigma_s:
        return window
    best = max(_stacked(window), key=lambda place: place.worth, default=None)
    if best is None:
        return window
    precision = window.precision.copy()
    precision[4:] = np.maximum(precision[4:], AIR_FOUND_M_S**-2)
    return replace(window, mean=np.concatenate([window.mean[:4], best.theta[4:]]), precision=precision)


def _proposed(window: Window) -> list[Floats]:
    """Propose places of bursts, each with its air: first the delays that go together, then what makes such delays.

    The highest peak of two sensors' delays is nearly always some burst's. The others' delays follow from it, as they
    must go with both and with each other: nothing need be known of place or air. Each pattern of delays is located as
    if it were one shot, air and all.
    """
    near, longest, bin_s = _nearness(window)
    m, middle = len(longest), near.shape[1] // 2
    first, second = np.triu_indices(m, 1)
    thetas: list[Floats] = []
    patterns = np.empty((0, m), dtype=np.int64)
    for row, at in _peaks(near):
        i, j, lag = int(first[row]), int(second[row]), at - middle
        if (np.abs(patterns[:, j] - patterns[:, i] - lag) <= NEAR_BINS).any():
            continue  # it has been followed up with another pair
        lags, heights = np.zeros(m, dtype=np.int64), np.zeros(m)
        _stack.align(i, j, lag, near, longest, lags, heights)
        patterns = np.vstack([patterns, lags])
        delay_s: Floats = lags.astype(np.float64) * bin_s
        thetas += _located(window, np.flatnonzero(heights > HEARD_SHARE * heights.max()), delay_s)
        if len(patterns) == PATTERNS:
            break
    return thetas


def _peaks(near: Floats) -> list[tuple[int, int]]:
    """Pick the delays between two sensors that stand out most, as rows and bins, highest first."""
    left = near.copy()
    rows, found = np.arange(len(left)), []
    for _ in range(PAIR_PEAKS):
        best = left.argmax(axis=1)
        found += list(zip((-left[rows, best]).tolist(), rows.tolist(), best.tolist(), strict=True))
        for row, at in enumerate(best.tolist()):
            left[row, max(at - PEAK_BINS, 0) : at + PEAK_BINS + 1] = -np.inf
    return [(row, at) for _, row, at in sorted(found)]


def _located(window: Window, heard: Ints, delay: Floats) -> list[Floats]:
    """Locate a pattern of delays as if it were one shot; nothing where that is not possible."""
    mean = window.mean_at(window.mean)
    sigma_z, sigma_c, sigma_w = (window.precision[3:6] ** -0.5).tolist()
    air = Air(float(mean[4]), float(mean[5]), float(mean[6]), sigma_c, sigma_w)
    positions, sigma_s = np.column_stack(window.array.columns_m)[heard], np.full(len(heard), window.sigma_s)
    found = solve(positions, delay[heard], sigma_s, air, Height(float(mean[3]), sigma_z))
    if not isinstance(found, Solution):
        return []
    moved = found.air
    return [
        np.array([found.x_m, found.y_m, 0.0, found.z_m, moved.sound_speed_m_s, moved.east_m_s, moved.north_m_s])
    ]  # fmt: skip


def _nearness(window: Window) -> tuple[Floats, Ints, float]:
    """Say what each pair of sensors adds to a stack at each delay, the longest delays, and how wide a bin is [s]."""
    px, py, _ = window.array.columns_m
    m = len(px)
    apart = np.hypot(px[:, None] - px, py[:, None] - py)
    longest_s = apart / (SLOWEST_SHARE * window.speed_m_s) + 4 * window.sigma_s + np.eye(m)
    bin_s = window.sigma_s / math.sqrt(2.0)
    longest = np.ceil(longest_s / bin_s).astype(np.int64)
    width = 2 * NEAR_BINS + 1
    bins = 2 * (int(longest.max()) + NEAR_BINS) + 3
    counts, chance = np.empty((m * (m - 1) // 2, bins + 1)), np.empty(m * (m - 1) // 2)
    _stack.delay_histograms(window.start, window.t, window.taken, longest_s, bin_s, bins, counts, chance)
    expected = chance[:, None] * width
    return (counts[:, width:] - counts[:, :-width] - expected) / (1.0 + expected), longest, bin_s
