"""Shots of rifles: the blast, and what a bullet's N-wave lets sensors hear before it, told apart.

N-waves left unexplained agree with each other on places where nobody fired and, taken for the blast, pull the true
place away. Nor is a sound an N-wave because it comes early: it may be another shot's. So both stories are told, one
shot with a bullet against one or two shots without, and the likelier is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from agls.locate import _modes, _search, _shock
from agls.locate._kernels import PARAMETERS, REFERENCE_SPEED_M_S, Floats, judge
from agls.locate._search import GATE, NO_SCORE, Bools, Ints
from agls.locate.burst import STACK_FLIGHT, in_flight
from agls.locate.picks import Array, Found, Picks
from agls.locate.places import alone
from agls.locate.solve import Air, Height, NoSolution, Solution, prior, solve
from agls.locate.window import Window

SLOWEST_SHARE = 0.9  # of the sound speed, with all winds against it
CRACK_SHARE = 0.75  # of those that heard the blast, as many at most heard the crack
FEWEST_CRACKS = 4  # a bullet has three unknowns: the fourth N-wave is the first to test them
# What a bullet must bring: one direction among some hundred that N-waves tell apart, a speed and its decay among some
# ten, and that hardly one shot in a hundred is heard so in a city.
BULLET_NATS = 12.0
SPEEDS_M_S = np.array([500.0, 700.0, 900.0])
# Rifles: 700 to 1000 m/s at the muzzle, which fall to 1/e over 600 to 1500 m; pistols may be just faster than sound.
SPEED_M_S, SPEED_SIGMA_M_S = 800.0, 200.0
DECAY_M, DECAY_SIGMA_M = 900.0, 300.0
TURN_SIGMA = 2.0  # any direction is as likely: so wide a prior holds it nowhere
BULLET, BULLET_PRECISION = [0.0, SPEED_M_S, DECAY_M], [TURN_SIGMA**-2, SPEED_SIGMA_M_S**-2, DECAY_SIGMA_M**-2]
CANDIDATES, LATEST = 15, 5  # proposals that are tried, best first, and of these with the last sounds
RIFLES = 20  # that are looked for in a window
# A shot's own picks are shared out as on a quiet street, by sensors that hear nearly all.
QUIET = 2.5
HEARING = (np.array([math.log(0.95)]), np.array([math.log(0.05)]), 1e9)
PLACE = [0, 1, 3, 2]
TO_SECONDS = np.array([1.0, 1.0, 1.0, 1.0 / REFERENCE_SPEED_M_S])


@dataclass(frozen=True)
class _Story:
    """A shot with a bullet: unknowns as in `agls.locate._shock`, and each sensor's picks of blast and N-wave or -1."""

    score: float
    theta: Floats
    members: Ints
    shocks: Ints


def may_hold_rifles(window: Window) -> bool:
    """Say whether a sensor heard an N-wave, or something twice within the lead an N-wave can have.

    Parameters
    ----------
    window : Window
        The picks.

    Returns
    -------
    bool
        Whether it is worth looking for bullets.
    """
    if in_flight(window) >= STACK_FLIGHT:
        return False  # so much of other shots comes early that no bullet stands out
    if (window.wave == _shock.SHOCK).any():
        return True
    longest_s = window.array.longest_delay_s(window.speed_m_s, window.max_range_m)
    lead_s = longest_s * (1.0 - window.speed_m_s / _shock.FASTEST_M_S)
    rows = (window.t[first:past][~window.taken[first:past]] for first, past in pairwise(window.start))
    return any((np.diff(own) < lead_s).any() for own in rows)


def may_have_cracked(found: list[Found], window: Window) -> bool:
    """Say whether enough sensors heard something more within a bullet's lead of some shot.

    Something before the blast is the crack; after it, where the crack was taken for the blast, the blast. It may seem
    explained by another shot, but only by one that fewer sensors heard: a bullet passes some of them.

    Parameters
    ----------
    found : list of Found
        The shots.
    window : Window
        Where they were found, their picks taken.

    Returns
    -------
    bool
        Whether it is worth looking for bullets.
    """
    order = np.argsort(window.t, kind="stable")
    moments, longest_s = window.t[order], window.array.longest_delay_s(SLOWEST_SHARE * window.speed_m_s, math.inf)
    for shot in found:
        theta = window.theta_of(shot)
        place = alone(window, theta)
        t0, most_s = theta[2] / REFERENCE_SPEED_M_S, 2.0 * place.delay.max() + GATE * window.sigma_s
        near = order[np.searchsorted(moments, t0 - most_s) : np.searchsorted(moments, t0 + most_s)]
        flight_s = place.delay[window.owner[near]]
        lead_s = np.abs(t0 + flight_s - window.t[near])
        near = near[lead_s < flight_s * (1.0 - window.speed_m_s / _shock.FASTEST_M_S) + GATE * window.sigma_s]
        if np.unique(window.owner[near]).size < FEWEST_CRACKS:
            continue
        heard, along_s = CRACK_SHARE * len(shot.members), 2.0 * (most_s + longest_s)
        others = (one for one in found if abs(one.origin_s - shot.origin_s) < along_s and len(one.members) >= heard)
        near = near[~window.picks_of([shot, *others])[near]]
        if np.unique(window.owner[near]).size >= FEWEST_CRACKS:
            return True
    return False


def find_rifles(window: Window, thetas: Floats) -> tuple[list[Found], Window]:
    """Find the shots that explain more together with a bullet than the likeliest shots without.

    Parameters
    ----------
    window : Window
        The picks.
    thetas : numpy.ndarray, shape (k, 7)
        Proposed shots, best first.

    Returns
    -------
    tuple of list of Found and Window
        The shots, with the picks of their N-waves, and the window with all of these explained.
    """
    used = window.taken & (window.wave != _shock.SHOCK)
    likely = _distinct(thetas, window, CANDIDATES)
    likely = _distinct([*likely, *(late for theta in likely[:LATEST] for late in _latest(window, theta))], window)
    cost = window.cost_nats(1) + BULLET_NATS
    found: list[Found] = []
    while len(found) < RIFLES and (best := _best(window, likely, used)) is not None:
        shot = window.found(best.theta, best.theta[2] / REFERENCE_SPEED_M_S, best.members, best.score, cost)
        own = best.shocks[best.shocks >= 0]
        bullet = tuple(best.theta[PARAMETERS:].tolist())
        found.append(replace(shot, shocks=tuple(window.order[own].tolist()), bullet=bullet))
        used[own] = True
        used[best.members[best.members >= 0]] = True
    return found, window.explained(used | (window.wave == _shock.SHOCK)) if found else window


def _latest(window: Window, theta: Floats) -> list[Floats]:
    """Propose the shot that the last sounds at each sensor about the time of a proposed one agree on.

    Where a sensor hears N-wave and blast, the blast is the last; and a few that heard the N-wave alone, or an echo
    too, the solver distrusts.
    """
    delay, hit, miss = (np.empty(len(window.array.near)) for _ in range(3))
    _search.pattern(theta, *window.array.columns_m, *window.hearing, delay, hit, miss)
    reach_s = delay * (1.0 - window.speed_m_s / _shock.FASTEST_M_S) + GATE * window.sigma_s
    near = np.abs(window.t - theta[2] / REFERENCE_SPEED_M_S - delay[window.owner]) <= reach_s[window.owner]
    free = near & ~window.taken
    rows = (np.flatnonzero(free[first:past]) + first for first, past in pairwise(window.start))
    last = [int(own[-1]) for own in rows if own.size]
    if len(last) < window.fewest:
        return []
    air = Air(*window.mean[4:].tolist(), *(window.precision[4:6] ** -0.5).tolist())
    at = np.column_stack(window.array.columns_m)[window.owner[last]]
    solution = solve(at, window.t[last], np.hypot(window.s[last], window.path_s), air)
    if isinstance(solution, NoSolution):
        return []
    place = [solution.x_m, solution.y_m, solution.origin_s * REFERENCE_SPEED_M_S, solution.z_m]
    return [np.array([*place, solution.air.sound_speed_m_s, solution.air.east_m_s, solution.air.north_m_s])]


def _distinct(thetas: Sequence[Floats] | Floats, window: Window, most: int = 2 * CANDIDATES) -> list[Floats]:
    """Leave out proposals that are nearly another, and those after the first so many."""
    kept: list[Floats] = []
    apart_m = window.speed_m_s * window.sigma_s
    for theta in thetas:
        if len(kept) == most:
            break
        if all(np.abs(theta[:3] - other[:3]).max() > apart_m for other in kept):
            kept.append(theta)
    return kept


def _best(window: Window, thetas: Sequence[Floats], used: Bools) -> _Story | None:
    """Find the shot that with its bullet explains most, and more than it and the likeliest other shot do without."""
    cost = window.cost_nats(1)
    blocked = used | (window.wave == _shock.SHOCK)  # for blasts
    stories = [(_aimed(window, theta, used), theta) for theta in thetas]
    for story, theta in sorted(stories, key=lambda one: -one[0].score):
        if not _enough(story, window):
            continue
        rest = blocked.copy()
        rest[story.members[story.members >= 0]] = True
        plain = max(_without(window, theta, blocked) - cost, 0.0)
        rival = max(0.0, *(_without(window, other, rest) - cost for other in thetas))
        if story.score - cost - BULLET_NATS > plain + rival:
            return _doubted(window, used, story)
    return None


def _enough(story: _Story, window: Window) -> bool:
    return int((story.shocks >= 0).sum()) >= FEWEST_CRACKS and int((story.members >= 0).sum()) >= window.fewest


def _doubted(window: Window, used: Bools, story: _Story) -> _Story:
    """Take one pick after the other for no blast, as long as that explains more: one wrong one may hide another.

    Not before all sensors could have heard the shot: as long as there are few blasts any of them can be doubted.
    """
    longest_s = window.array.longest_delay_s(window.speed_m_s, window.max_range_m)
    if window.horizon_s <= story.theta[2] / REFERENCE_SPEED_M_S + longest_s:
        return story
    for q in story.members[story.members >= 0]:
        if window.wave[q] == 0:
            wave = window.wave.copy()
            wave[q] = _shock.SHOCK
            trial = _aimed(replace(window, wave=wave), story.theta[:PARAMETERS], used)
            if trial.score > story.score + 1e-6 and _enough(trial, window):
                return _doubted(window, used, trial)
    return story


def _without(window: Window, theta: Floats, blocked: Bools) -> float:
    """Score a proposal, without a bullet, by the picks that are left to it."""
    members = np.empty(len(window.array.near), dtype=np.int64)
    score = _shock.again(
        theta.copy(), *window.array.columns_m, *window.hearing, window.start, window.t, window.s, window.weight,
        blocked, window.horizon_s, window.path_s, window.mean_at(theta), window.precision, members,
    )  # fmt: skip
    return score if (members >= 0).sum() >= window.fewest else NO_SCORE


def _aimed(window: Window, theta: Floats, used: Bools) -> _Story:
    """Find the bullet of a proposal that explains most."""
    full = np.concatenate([theta, BULLET])
    mean, precision = np.append(window.mean_at(theta), BULLET), np.append(window.precision, BULLET_PRECISION)
    members, shocks = (np.full(len(window.array.near), -1, dtype=np.int64) for _ in range(2))
    score = _shock.aim(
        full, BULLET_NATS, SPEEDS_M_S, *window.array.columns_m, *window.hearing, window.start, window.t, window.s,
        window.weight, window.wave, used, window.horizon_s, window.path_s, mean, precision, members, shocks,
    )  # fmt: skip
    return _Story(score, full, members, shocks)


def solve_rifle(array: Array, shot: Found, picks: Picks, air: Air, path_s: float, count: int) -> Solution:
    """Locate a shot from its blast and its bullet's N-wave together.

    Parameters
    ----------
    array : Array
        The sensors.
    shot : Found
        The shot, with its bullet; times count as those of `picks`.
    picks : Picks
        Arrivals of its blast, then those of the N-wave; which is which is judged anew.
    air : Air
        What is known of the air.
    path_s : float
        Standard deviation of paths [s].
    count : int
        How many of the picks came as the blast.

    Returns
    -------
    Solution
        The likeliest shot; residuals and weights are those of the first `count` picks.
    """
    order = np.lexsort((picks.toa_s, picks.sensor))
    rank = np.argsort(order)
    sensor, t, s = picks.sensor[order], picks.toa_s[order] - shot.origin_s, picks.sigma_s[order]
    wave = np.zeros(len(order), dtype=np.int64) if picks.wave is None else picks.wave[order]
    start = np.searchsorted(sensor, np.arange(len(array.sensor_ids) + 1)).astype(np.int64)
    theta, mean, precision = _known(array, shot, picks, air, count)
    members, shocks = (np.full(len(array.sensor_ids), -1, dtype=np.int64) for _ in range(2))
    members[picks.sensor[:count]], shocks[picks.sensor[count:]] = rank[:count], rank[count:]
    normal = np.empty((_shock.UNKNOWNS, _shock.UNKNOWNS))
    misfit = _shock.finish(
        theta, *array.columns_m, *HEARING, start, t, s, np.full(len(t), QUIET), wave, path_s, mean, precision,
        members, shocks, normal,
    )  # fmt: skip
    scale = np.diag(normal) ** -0.5
    spread = np.linalg.inv(normal * np.outer(scale, scale)) * np.outer(scale, scale)
    own = rank[:count]
    px, py, pz = (axis[sensor[own]] for axis in array.columns_m)
    residuals, weights = np.empty(count), np.empty(count)
    judge(px, py, pz, t[own], np.hypot(s[own], path_s), theta[:PARAMETERS], GATE, weights, residuals)
    x, y, z = (theta[[0, 1, 3]] + array.middle_m).tolist()
    c, u, v = theta[4:PARAMETERS].tolist()
    sigma_c, sigma_w = (float(value**0.5) for value in (spread[4, 4], 0.5 * (spread[5, 5] + spread[6, 6])))
    return Solution(
        x, y, z, float(theta[2]) / REFERENCE_SPEED_M_S + shot.origin_s,
        spread[np.ix_(PLACE, PLACE)] * np.outer(TO_SECONDS, TO_SECONDS), residuals, weights * np.isin(own, members),
        float(misfit), Air(c, u, v, sigma_c, sigma_w),
    )  # fmt: skip


def _known(array: Array, shot: Found, picks: Picks, air: Air, count: int) -> tuple[Floats, Floats, Floats]:
    """Write where a shot with its bullet is looked for from, and what is known of it beforehand."""
    up = array.columns_m[2][picks.sensor[:count]]
    height_m, sigma_m = _modes.height_near(up, picks.toa_s[:count])
    mean, precision = prior(air, Height(height_m, sigma_m))
    x, y, z = (np.array(shot.place_m) - array.middle_m).tolist()
    # Sensors at one height make a saddle in their plane, from which height never leaves: people fire from below.
    theta = np.array([x, y, 0.0, min(z, height_m - 1.0), *mean[4:], *shot.bullet])
    return theta, np.append(mean, [shot.bullet[0], *BULLET[1:]]), np.append(precision, BULLET_PRECISION)
