"""Shots of rifles: the blast and what the bullet's N-wave lets sensors hear before it, told apart.

N-waves left unexplained agree with each other on places where nobody fired, and, taken for the blast, they pull the
true place away. Nor is a sound that comes early an N-wave for that alone: it may be another shot. So both stories are
told, one shot with one bullet against one or two shots without, and the likelier is kept.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np

from agls.locate import _modes, _search, _shock
from agls.locate._kernels import PARAMETERS, REFERENCE_SPEED_M_S, Floats, residual
from agls.locate._search import GATE, NO_SCORE, Bools, Ints
from agls.locate.burst import STACK_FLIGHT, in_flight
from agls.locate.picks import Array, Found, Picks
from agls.locate.solve import Air, Height, NoSolution, Solution, prior, solve
from agls.locate.window import Window

FEWEST_CRACKS = 3  # a bullet has three unknowns
# What a bullet must bring: one direction among some hundred that N-waves tell apart, a speed and its decay among a
# few, and that few shots are heard so.
BULLET_NATS = 8.0
SPEEDS_M_S = np.array([500.0, 700.0, 900.0])
# Rifles: 700 to 1000 m/s at the muzzle, which fall to 1/e over 600 to 1500 m; pistols may be just faster than sound.
SPEED_M_S, SPEED_SIGMA_M_S = 800.0, 200.0
DECAY_M, DECAY_SIGMA_M = 900.0, 300.0
CANDIDATES = 15  # proposals that are tried, best first
RIFLES = 20  # that are looked for in a window
# A shot's own picks are shared out as on a quiet street, by sensors that hear nearly all.
QUIET = 2.5
HEARING = (np.array([math.log(0.95)]), np.array([math.log(0.05)]), 1e9)
PLACE = np.ix_([0, 1, 3, 2], [0, 1, 3, 2])
SCALES = np.outer([1.0, 1.0, 1.0, 1.0 / REFERENCE_SPEED_M_S], [1.0, 1.0, 1.0, 1.0 / REFERENCE_SPEED_M_S])


def may_hold_rifles(window: Window) -> bool:
    """Say whether enough sensors heard an N-wave, or something twice within the lead an N-wave can have.

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
        return False  # so much comes early of other shots that no bullet stands out
    longest_s = window.array.longest_delay_s(window.speed_m_s, window.max_range_m)
    lead_s = longest_s * (1.0 - window.speed_m_s / _shock.FASTEST_M_S)
    count = 0
    for first, past in pairwise(window.start):
        own = window.t[first:past][~window.taken[first:past] | (window.wave[first:past] == _shock.SHOCK)]
        labelled = (window.wave[first:past] == _shock.SHOCK).any()
        count += bool(labelled or (np.diff(own) < lead_s).any())
    return count >= 1


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
    thetas = _distinct(thetas, window)[:CANDIDATES]
    late = [one for theta in thetas for one in _latest(window, theta)]
    thetas = _distinct(np.array([*thetas, *late]), window)
    found: list[Found] = []
    while len(found) < RIFLES:
        best = _best(window, thetas, used)
        if best is None:
            break
        shot, members, shocks = best
        found.append(shot)
        used[members[members >= 0]] = True
        used[shocks[shocks >= 0]] = True
    taken = used | (window.wave == _shock.SHOCK)
    return found, window.explained(taken) if found else window


def _latest(window: Window, theta: Floats) -> list[Floats]:
    """Propose the shot that the last sounds at each sensor about the time of a proposed one agree on.

    Where a sensor hears N-wave and blast, the blast is the last; and a few that heard the N-wave alone, or an echo
    too, the solver distrusts.
    """
    delay, hit, miss = (np.empty(len(window.array.near)) for _ in range(3))
    _search.pattern(theta, *window.array.columns_m, *window.hearing, delay, hit, miss)
    lead_s = delay * (1.0 - window.speed_m_s / _shock.FASTEST_M_S)
    due_s = theta[2] / REFERENCE_SPEED_M_S + delay
    free = ~window.taken
    last = []
    for k, (first, past) in enumerate(pairwise(window.start)):
        own = np.arange(first, past)[free[first:past]]
        own = own[np.abs(window.t[own] - due_s[k]) <= lead_s[k] + 4.0 * window.sigma_s]
        last += own[-1:].tolist()
    if len(last) < window.fewest:
        return []
    air = Air(*window.mean[4:].tolist(), *(window.precision[4:6] ** -0.5).tolist())
    at = np.column_stack(window.array.columns_m)[window.owner[last]]
    solution = solve(at, window.t[last], np.hypot(window.s[last], window.path_s), air)
    if isinstance(solution, NoSolution):
        return []
    place = [solution.x_m, solution.y_m, solution.origin_s * REFERENCE_SPEED_M_S, solution.z_m]
    return [np.array([*place, solution.air.sound_speed_m_s, solution.air.east_m_s, solution.air.north_m_s])]


def _distinct(thetas: Floats, window: Window) -> Floats:
    """Leave out proposals that are nearly another."""
    kept: list[Floats] = []
    apart_m = window.speed_m_s * window.sigma_s
    for theta in thetas:
        if all(np.abs(theta[:3] - other[:3]).max() > apart_m for other in kept):
            kept.append(theta)
    return np.array(kept).reshape(-1, PARAMETERS)


def _best(window: Window, thetas: Floats, used: Bools) -> tuple[Found, Ints, Ints] | None:
    """Find the shot that with its bullet explains most, and more than without."""
    cost = window.cost_nats(1)
    blocked = used | (window.wave == _shock.SHOCK)  # for blasts
    tried = []
    for theta in thetas:
        plain, _ = _again(window, theta, blocked)
        score, full, members, shocks = _aimed(window, theta, used)
        if (shocks >= 0).sum() >= FEWEST_CRACKS and (members >= 0).sum() >= window.fewest:
            tried.append((score - BULLET_NATS - cost, plain - cost, score, full, members, shocks))
    for worth, plain, score, full, members, shocks in sorted(tried, key=lambda one: -one[0]):
        score, full, members, shocks = _doubted(window, used, score, full, members, shocks)
        worth = score - BULLET_NATS - cost
        without = blocked.copy()
        without[members[members >= 0]] = True
        rival = max((_again(window, theta, without)[0] - cost for theta in thetas), default=0.0)
        if worth > max(plain, 0.0) + max(rival, 0.0):
            shot = window.found(full, full[2] / REFERENCE_SPEED_M_S, members, score, cost + BULLET_NATS)
            own = shocks[shocks >= 0]
            bullet = tuple(full[PARAMETERS:].tolist())
            return replace(shot, shocks=tuple(window.order[own].tolist()), bullet=bullet), members, shocks
    return None


def solve_rifle(
    array: Array, shot: Found, picks: Picks, air: Air, path_s: float, count: int
) -> Solution | NoSolution:
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
        How many of the picks may be the blast.

    Returns
    -------
    Solution or NoSolution
        The likeliest shot; residuals and weights are those of the first `count` picks.
    """
    order = np.lexsort((picks.toa_s, picks.sensor))
    owner, t, s = picks.sensor[order], picks.toa_s[order] - shot.origin_s, picks.sigma_s[order]
    start = np.searchsorted(owner, np.arange(len(array.sensor_ids) + 1)).astype(np.int64)
    px, py, pz = array.columns_m
    place = np.array(shot.place_m) - array.middle_m
    first = np.argsort(picks.toa_s[:count])
    height_m, sigma_m = _modes.height_near(pz[picks.sensor[:count]][first], picks.toa_s[:count][first])
    mean, precision = prior(air, Height(float(height_m), float(sigma_m)))
    mean = np.concatenate([mean, [shot.bullet[0], SPEED_M_S, DECAY_M]])
    precision = np.concatenate([precision, [0.0, SPEED_SIGMA_M_S**-2, DECAY_SIGMA_M**-2]])
    theta = np.concatenate([mean[:PARAMETERS], shot.bullet])
    theta[[0, 1, 2, 3]] = place[0], place[1], 0.0, min(place[2], height_m - 1.0)
    rank = np.argsort(order)
    members, shocks = (np.full(len(pz), -1, dtype=np.int64) for _ in range(2))
    members[picks.sensor[:count]], shocks[picks.sensor[count:]] = rank[:count], rank[count:]
    normal = np.empty((_shock.UNKNOWNS, _shock.UNKNOWNS))
    wave = np.zeros(len(order), dtype=np.int64) if picks.wave is None else picks.wave[order]
    misfit = _shock.finish(
        theta, px, py, pz, *HEARING, start, t, s, np.full(len(t), QUIET), wave, path_s, mean, precision, members,
        shocks, normal,
    )  # fmt: skip
    scale = 1.0 / np.sqrt(np.diag(normal))
    spread = np.linalg.inv(normal * np.outer(scale, scale)) * np.outer(scale, scale)
    residuals, row = np.empty(count), np.empty(PARAMETERS)
    for i, q in enumerate(rank[:count]):
        k = owner[q]
        residuals[i] = residual(px[k], py[k], pz[k], t[q], theta[:PARAMETERS], row)
    right = np.isin(rank[:count], members[members >= 0])
    off = residuals**2 / (picks.sigma_s[:count] ** 2 + path_s**2)
    weights = np.where(right, 1.0 / (1.0 + np.exp(np.minimum(0.5 * (off - GATE**2), 500.0))), 0.0)
    x, y, z = (theta[[0, 1, 3]] + array.middle_m).tolist()
    found = Air(
        float(theta[4]), float(theta[5]), float(theta[6]), float(spread[4, 4] ** 0.5),
        float((0.5 * (spread[5, 5] + spread[6, 6])) ** 0.5),
    )  # fmt: skip
    return Solution(
        x, y, z, theta[2] / REFERENCE_SPEED_M_S + shot.origin_s, spread[PLACE] * SCALES, residuals, weights,
        float(misfit), found,
    )  # fmt: skip


def _again(window: Window, theta: Floats, blocked: Bools) -> tuple[float, Ints]:
    """Score a proposal, without a bullet, by the picks that are left to it."""
    members = np.empty(len(window.array.near), dtype=np.int64)
    score = _shock.again(
        theta.copy(), *window.array.columns_m, *window.hearing, window.start, window.t, window.s, window.weight,
        blocked, window.horizon_s, window.path_s, window.mean_at(theta), window.precision, members,
    )  # fmt: skip
    return score if (members >= 0).sum() >= window.fewest else NO_SCORE, members


def _doubted(
    window: Window, used: Bools, score: float, full: Floats, members: Ints, shocks: Ints
) -> tuple[float, Floats, Ints, Ints]:
    """Take one pick after the other for no blast, as long as that explains more: one N-wave among blasts hides others."""
    best = (score, full, members, shocks)
    heard = members >= 0
    passed_s = full[2] / REFERENCE_SPEED_M_S + window.array.longest_delay_s(window.speed_m_s, window.max_range_m)
    improved = heard.sum() > window.fewest and window.horizon_s > passed_s  # before, too few blasts speak against it
    while improved:
        improved = False
        for q in best[2][best[2] >= 0]:
            if window.wave[q] == 0:
                wave = window.wave.copy()
                wave[q] = _shock.SHOCK
                trial = _aimed(replace(window, wave=wave), best[1][:PARAMETERS], used)
                if trial[0] > best[0] + 1e-6:
                    best, improved = trial, True
                    break
    return best


def _aimed(window: Window, theta: Floats, used: Bools) -> tuple[float, Floats, Ints, Ints]:
    """Find the bullet of a proposal that explains most."""
    full = np.concatenate([theta, [0.0, SPEED_M_S, DECAY_M]])
    mean = np.concatenate([window.mean_at(theta), [0.0, SPEED_M_S, DECAY_M]])
    precision = np.concatenate([window.precision, [0.0, SPEED_SIGMA_M_S**-2, DECAY_SIGMA_M**-2]])
    members, shocks = (np.full(len(window.array.near), -1, dtype=np.int64) for _ in range(2))
    score = _shock.aim(
        full, BULLET_NATS, SPEEDS_M_S, *window.array.columns_m, *window.hearing, window.start, window.t, window.s, window.weight,
        window.wave, used, window.horizon_s, window.path_s, mean, precision, members, shocks,
    )  # fmt: skip
    return score, full, members, shocks
