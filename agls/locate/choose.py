"""Letting proposed shots compete for picks, so that each pick belongs to one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from agls.locate import _select
from agls.locate._kernels import Floats
from agls.locate._search import Bools
from agls.locate.picks import Found
from agls.locate.places import FASTEST_S, Place, alone
from agls.locate.window import ECHO_TAIL_S, Window

OUTSIDE_M_PER_NAT = 200.0  # shots far outside the sensors are rarely heard, and wrong combinations often lie there
BURST_SHOTS = 6  # a place that fires so often is taken for an automatic weapon
SAME_PLACE_M = 40.0  # echoes near the muzzle seem to come from within so far
SWEEPS, SWEEPS_MOST = 2, 12  # of sharing out, after which hardly a pick changes hands, and hardly a shot gives way
LIKE_S, LIKE_M = 2.0, 150.0  # shots so near each other are heard by the same sensors


def choose(
    window: Window, places: Sequence[Place], decided: Sequence[Found], *, share: bool = False
) -> tuple[list[Found], Window]:
    """Let the shots of all places compete for picks, best first, each with what is left when its turn comes.

    Parameters
    ----------
    window : Window
        The picks.
    places : sequence of Place
        What is proposed.
    decided : sequence of Found
        Shots that stand already; what is proposed may be their echoes.
    share : bool, optional
        Whether the picks are shared out among the chosen at last, each to where it fits best.

    Returns
    -------
    tuple of list of Found and Window
        The chosen ones in order of their origin time, and the window with their picks explained.
    """
    rows = [(place, origin) for place in _stand(window, decided) + list(places) for origin in place.origins.tolist()]
    origins = np.array([origin for _, origin in rows])
    delay, sigma = np.array([place.delay for place, _ in rows]), np.array([place.sigma for place, _ in rows])
    hit, miss = np.array([place.hit for place, _ in rows]), np.array([place.miss for place, _ in rows])
    xy = np.array([place.theta[:2] for place, _ in rows])
    cost = np.array([place.cost for place, _ in rows]) + window.array.outside_m(xy) / OUTSIDE_M_PER_NAT
    few = np.array([len(place.origins) < BURST_SHOTS for place, _ in rows])
    used, weight = window.taken.copy(), window.weight.copy()
    chosen, scores = np.arange(len(rows)), np.zeros(len(rows))
    members = np.full((len(rows), len(window.array.near)), -1, dtype=np.int64)
    for i, shot in enumerate(decided):
        members[i] = window.members_of(shot)
    number = _select.select(
        delay, sigma, hit, miss, origins, cost, few, xy[:, 0], xy[:, 1], window.start, window.t, window.s, weight,
        window.level, used, window.horizon_s, window.fewest, FASTEST_S, SAME_PLACE_M, LIKE_S, LIKE_M, window.same_m,
        window.echo_rate, ECHO_TAIL_S, len(decided), chosen, members, scores,
    )  # fmt: skip
    pairs = []
    for k in range(len(decided), number):
        place = rows[chosen[k]][0]
        shot = window.found(place.theta, float(origins[chosen[k]]), members[k], float(scores[k]), place.cost)
        pairs.append((place, shot))
    if share and pairs:
        also = _crowded_out(window, rows, origins, pairs)
        return sorted(share_out(window, pairs + also, window.taken), key=lambda shot: shot.origin_s), window
    found = [shot for _, shot in pairs]
    return sorted(found, key=lambda shot: shot.origin_s), window.explained(used)


def _crowded_out(
    window: Window, rows: Sequence[tuple[Place, float]], origins: Floats, chosen: Sequence[tuple[Place, Found]]
) -> list[tuple[Place, Found]]:
    """List the shots of bursts that were left too few picks, but may win them back: none beside another there."""
    stand = [(place.theta[:2], shot.origin_s - window.reference_s) for place, shot in chosen]
    also = []
    for (place, _), origin in zip(rows, origins.tolist(), strict=True):
        beside = (
            math.hypot(*(place.theta[:2] - xy)) < SAME_PLACE_M and abs(origin - t0) < FASTEST_S for xy, t0 in stand
        )
        if len(place.origins) >= BURST_SHOTS and not any(beside):
            members = np.full(len(place.delay), -1, dtype=np.int64)
            also.append((place, window.found(place.theta, origin, members, 0.0, place.cost)))
            stand.append((place.theta[:2], origin))
    return also


def share_out(window: Window, rows: Sequence[tuple[Place, Found]], blocked: Bools) -> list[Found]:
    """Share the picks out anew among the shots of several bursts, so that all together gain most at each sensor.

    Taken one by one, the first have taken some picks that fit the others better.

    Parameters
    ----------
    window : Window
        The picks.
    rows : sequence of tuple of Place and Found
        The shots, each with its place.
    blocked : numpy.ndarray, shape (n,)
        Picks not to be had.

    Returns
    -------
    list of Found
        Those that enough picks are left to.
    """
    members = np.full((len(rows), len(window.array.near)), -1, dtype=np.int64)
    worth, lost = np.zeros(members.shape), np.zeros(members.shape)
    origins = np.array([shot.origin_s for _, shot in rows]) - window.reference_s
    cost = np.array([place.cost for place, _ in rows])
    for sweep in range(SWEEPS_MOST):
        delay, sigma = np.array([place.delay for place, _ in rows]), np.array([place.sigma for place, _ in rows])
        hit, miss = np.array([place.hit for place, _ in rows]), np.array([place.miss for place, _ in rows])
        for k in range(delay.shape[1]):
            first, past = window.start[k], window.start[k + 1]
            gain = np.empty((len(rows), past - first))
            quiet = np.empty(len(rows))
            _select.advantage(
                k, origins, delay, sigma, hit, miss, window.start, window.t, window.s, window.weight, blocked,
                window.horizon_s, gain, quiet,
            )  # fmt: skip
            mine, theirs = linear_sum_assignment(gain, maximize=True)
            members[:, k], worth[:, k], lost[:, k] = -1, quiet, 0.0
            good = gain[mine, theirs] > 0
            members[mine[good], k] = theirs[good] + first
            own = np.zeros(len(rows))
            own[mine[good]] = gain[mine[good], theirs[good]]
            # What others would gain from a shot's pick is lost to them.
            lost[mine[good], k] = np.maximum(gain[:, theirs[good]] - own[:, None], 0.0).max(axis=0)
            worth[:, k] += own
        for i, row in enumerate(members):
            heard = row >= 0
            if heard.any():
                origins[i] = np.mean(window.t[row[heard]] - delay[i, heard])
        net = np.where((members >= 0).sum(axis=1) >= window.fewest, (worth - lost).sum(axis=1) - cost, -math.inf)
        poor = np.flatnonzero(net <= 0.0)
        if sweep + 1 >= SWEEPS and len(poor) == 0:
            break
        # The poorest half gives way; of two that want the same picks one may be worth its cost with all of them.
        if sweep > 0:
            keep = np.setdiff1d(np.arange(len(rows)), poor[np.argsort(net[poor])][: (len(poor) + 1) // 2])
            rows = [rows[i] for i in keep]
            members, worth, lost = members[keep], worth[keep], lost[keep]
            origins, cost = origins[keep], cost[keep]
            if not rows:
                break
    return [
        window.found(place.theta, float(origins[i]), members[i], float(worth[i].sum()), place.cost)
        for i, (place, _) in enumerate(rows)
        if (members[i] >= 0).sum() >= window.fewest
    ]


def _stand(window: Window, decided: Sequence[Found]) -> list[Place]:
    return [alone(window, window.theta_of(shot)) for shot in decided]
