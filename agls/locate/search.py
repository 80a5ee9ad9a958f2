"""The search for shots: which detections are the same shot.

`find_shots` is a pure function of the picks it is given, so that the order in which they came cannot matter. It takes
what is certain first: shots that nearly every sensor heard; then bursts as a whole; then all else that is proposed
competes for the picks that are left, twice, as the second time more is known to be explained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from agls.config import Locating
from agls.locate import _search, _select
from agls.locate._kernels import REFERENCE_SPEED_M_S, Floats
from agls.locate._search import Bools, Ints
from agls.locate._shock import SHOCK
from agls.locate.burst import STACK_FLIGHT, find_bursts, in_flight
from agls.locate.choose import BURST_SHOTS, choose
from agls.locate.common_air import common_air, learned_air
from agls.locate.costs import lone_costs, one_place_m
from agls.locate.picks import Array, Found, Idle, Picks
from agls.locate.places import FASTEST_S, LEAST_NATS, Place, alone, pool
from agls.locate.shock import find_rifles, may_have_cracked, may_hold_rifles
from agls.locate.solve import Air
from agls.locate.window import ECHO_RATE, Window, open_window

__all__ = ["Array", "Found", "Idle", "Picks", "find_shots"]

TRIPLES = 1500  # tried at each pick: in dense fire the nearest sensors' are enough
BESIDE_M, BESIDE_S = 150.0, 1.0  # a burst's rounds, taken for each other's, seem to come from so near, so soon
CLEAR_NATS = 10.0  # a shot that brings so much more than it must is not made of others' picks
SLOWEST_SHARE = 0.9  # of the sound speed, with all winds against it
LEFT_SHARE = 0.02  # where no more is left over than this, hardly a shot has others' picks
DENSE_FLIGHT = 12.0  # sounds in flight from which what is found first is mostly made of others' picks
AGAIN, MORE = 6, 1.03  # so often what is explained tells more of what else is heard, or until it explains hardly more
UNEXPLAINED_SHARE = 0.3  # of what is heard in dense fire, to begin with
# Where nothing else was fired a shot must bring so much more, at one impulse a second at each sensor; three arrivals
# make a place, so chance grows with the cube of the impulses.
LONE_NATS, TRIPLE, LONE_LEAST, LONE_MOST = 12.0, 3.0, 2.0, 16.0
ALONG_S = 5.0  # shots so near in time come along with each other
BESIDE_BURST_NATS = 5.0  # what a burst leaves is mostly parts of its own shots: more is asked of it
PLACES_FIRST = 2  # places that are tried as a whole before all compete
ECHO_ARRIVALS = 10.0  # a city's rate of echoes counts as much as so many arrivals
ECHO_SPAN_S = 1.0  # how long echoes are counted after a direct arrival
ECHO_LAG_S = 1.0  # an echo's lag is short,
SAME_LAG_S = 0.0015  # the same each time,
ECHO_SHARE = 0.85  # and fewer sensors hear it


# Proposed shots, their picks, their scores, and whether they are clear.
_Proposals = tuple[Floats, Ints, Floats, Bools]
_Plan = tuple[Window, list[Found], Window]  # searched, found, and what is left
_Step = Callable[[Window, list[Found]], tuple[list[Found], Window]]


def find_shots(
    picks: Picks,
    array: Array,
    air: Air,
    settings: Locating,
    horizon_s: float = math.inf,
    decided: Sequence[Found] = (),
    *,
    thorough: bool = True,
    idle: Idle | None = None,
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
    idle : Idle, optional
        What the sensors reported before without a shot.

    Returns
    -------
    list of Found
        Further shots in order of their origin time.
    """
    if len(picks.toa_s) < settings.min_sensors_count or len(array.sensor_ids) < settings.min_sensors_count:
        return []
    idle = idle or Idle.at_first(len(array.sensor_ids))
    window = open_window(picks, array, air, settings, horizon_s, decided)
    plans = [(window, *_find(window, decided, thorough=thorough))]
    dense = thorough and bool(plans[0][1]) and in_flight(window) >= DENSE_FLIGHT
    if dense and _mostly_alone(plans[0][1]) and (shots := _all_alone(window, decided)):
        found = shots
    else:
        if thorough and (learned := learned_air(plans[0][1], picks, array, air, settings)) is not None:
            plans.append((window.in_air(learned), *_find(window.in_air(learned), decided, thorough=thorough)))
        found, after = _with_bullets(plans, decided, thorough=thorough)
        if dense and float((~after.taken).mean()) > LEFT_SHARE:
            window = replace(window, mean=after.mean, precision=after.precision)
            found = _reconsidered(window, found, decided, lambda shots: learned_air(shots, picks, array, air, settings))
    found = _without_repeated_echoes(found, decided, one_place_m(window))
    return _unlikely_by_chance(found, window, decided, idle)


def _find(window: Window, decided: Sequence[Found], *, thorough: bool) -> tuple[list[Found], Window]:
    """Find shots, each a blast."""
    plain = _in_steps(window, decided, _steps(thorough=thorough))
    if thorough and STACK_FLIGHT <= in_flight(window) < DENSE_FLIGHT:
        # So few sounds stack up also where a shooter walks past; each shot alone may tell more.
        each = _in_steps(window, decided, (_clear, _competing, _competing))
        plain = max(plain, each, key=lambda one: sum(shot.surplus for shot in one[0]))
    return plain


def _steps(*, thorough: bool) -> tuple[_Step, ...]:
    return (_clear, find_bursts, _competing, _competing) if thorough else (_at_once,)


def _with_bullets(plans: Sequence[_Plan], decided: Sequence[Found], *, thorough: bool) -> tuple[list[Found], Window]:
    """Take the plan that explains most, or, if that explains more, one with bullets: a blast and a crack look like two.

    Delays in a wrong air look like something more that was heard, too: so in each air something must be left.
    """
    window, found, after = max(plans, key=lambda one: sum(shot.surplus for shot in one[1]))
    # An early look takes no time to doubt what no node took for a crack: what is wrong so is withdrawn.
    cracked = thorough and all(may_have_cracked(shots, left) for _, shots, left in plans)
    if not ((window.wave == SHOCK).any() or (cracked and may_hold_rifles(window))):
        return found, after
    rifles, rest = _rifles(window, [])
    if not rifles:
        return found, after  # all else would be found again as it was
    more, rest = _in_steps(replace(rest, doubt_nats=0.0), [*decided, *rifles], _steps(thorough=thorough))
    return max((found, after), (rifles + more, rest), key=lambda one: sum(shot.surplus for shot in one[0]))


def _in_steps(window: Window, decided: Sequence[Found], steps: Sequence[_Step]) -> tuple[list[Found], Window]:
    """Find shots, those that are certain first."""
    shots = list(decided)
    if _automatic(shots):
        window = replace(window, doubt_nats=BESIDE_BURST_NATS)
    for search in steps:
        if (~window.taken).sum() < window.fewest:
            break
        more, window = search(window, shots)
        shots += more
        if not more and search is _competing:
            break  # nor would it find anything a second time
        if more:
            beside = search is find_bursts or _automatic(decided)
            window = replace(window, doubt_nats=BESIDE_BURST_NATS if beside else 0.0)
    return shots[len(decided) :], window


def _reconsidered(
    window: Window, found: list[Found], decided: Sequence[Found], learn: Callable[[list[Found]], Air | None]
) -> list[Found]:
    """Let all shots compete anew, now that it is known what else is heard: hardly anything, once most is explained."""
    if (~window.picks_of([*decided, *found])).sum() < window.fewest:
        return found
    thetas: Floats | None = None
    count = 0
    for _ in range(AGAIN):
        if (air := learn(found)) is not None:
            window = window.in_air(air)
        now = window.foreseen([*decided, *found])
        bursts = _bursts(found)
        places = [place for burst in bursts if (place := pool(now, now.theta_of(burst[0]), burst)) is not None]
        if thetas is None:
            settled = [shot for burst in bursts if len(burst) >= BURST_SHOTS for shot in burst]
            thetas, members, scores, _ = _proposals(replace(now, taken=now.picks_of([*decided, *settled])))
            worth = scores > LEAST_NATS
            thetas, members, scores = thetas[worth], members[worth], scores[worth]
        doubt = BESIDE_BURST_NATS if _automatic([*decided, *found]) else 0.0
        costs = lone_costs(replace(now, doubt_nats=doubt), thetas, members, scores) - _crowd_nats(now, found)
        places += [alone(now, theta, cost) for theta, cost in zip(thetas, costs.tolist(), strict=True)]
        found, _ = choose(now, places, decided, share=True)
        explained = sum(len(shot.members) for shot in found)
        if explained <= MORE * count:
            break
        count = explained
    return found


def _mostly_alone(found: Sequence[Found]) -> bool:
    """Say whether shots that were fired alone explain more than bursts."""
    bursts = sum(shot.surplus for burst in _bursts(found) if len(burst) >= BURST_SHOTS for shot in burst)
    return sum(shot.surplus for shot in found) > 2.0 * bursts


def _all_alone(window: Window, decided: Sequence[Found]) -> list[Found]:
    """Let shots compete, each fired from a place of its own, as if all that is heard were such shots.

    Among many shots none stands out from all the others; but what the others explain is nothing to stand out from.
    How much is explained, and in what air, is learned from what was found, again and again while that explains more.
    Nothing is found where all that is heard is likelier to come by itself: among so much some will always agree.
    """
    now, known = window.presumed(UNEXPLAINED_SHARE), window
    count = (1.0 - UNEXPLAINED_SHARE) * len(window.t) / len(window.array.near)
    best: list[Found] = []
    most, likelier, idle = 0, False, window.foreseen(decided)
    for _ in range(AGAIN):
        thetas, members, scores, _ = _proposals(now)
        worth = scores > LEAST_NATS
        thetas, members, scores = thetas[worth], members[worth], scores[worth]
        costs = lone_costs(now, thetas, members, scores) - now.crowd_nats(count)
        places = [alone(now, theta, cost) for theta, cost in zip(thetas, costs.tolist(), strict=True)]
        found = choose(now, places, decided, share=True)[0] if places else []
        explained = sum(len(shot.members) for shot in found)
        if explained <= most:
            break
        best, most, count = found, explained, float(len(found))
        # All is Poisson: what comes by itself, now rarer, and the shots, whose rate was taken from their own number.
        rarer_nats = float((now.weight - idle.weight).sum()) - explained + len(found)
        likelier = sum(shot.surplus for shot in found) > rarer_nats
        if (air := common_air(found, known)) is not None:
            window = window.in_air(air)
        now = window.foreseen([*decided, *found])
    return best if likelier else []


def _bursts(found: Sequence[Found]) -> list[list[Found]]:
    """Put together the shots of each place that fired more than once."""
    by_place: dict[tuple[float, float, float], list[Found]] = {}
    for shot in found:
        by_place.setdefault(shot.place_m, []).append(shot)
    return [burst for burst in by_place.values() if len(burst) > 1]


def _automatic(shots: Sequence[Found]) -> bool:
    """Say whether some place fired often."""
    return any(len(burst) >= BURST_SHOTS for burst in _bursts(shots))


def _crowd_nats(window: Window, found: list[Found]) -> float:
    """Say how much less a shot need bring where so many are fired that one more is no surprise."""
    return window.crowd_nats(len(found) - sum(map(len, _bursts(found))))


def _unlikely_by_chance(found: list[Found], window: Window, decided: Sequence[Found], idle: Idle) -> list[Found]:
    """Leave out lone shots that what sensors report anyway would make by chance, now and then.

    Gunfire comes once in hours, not once in seconds, and the more impulses there are, the more combinations of them
    are tried. But one shot makes the next likely: only the best of each few seconds must bring so much.
    """
    explained = window.picks_of([*found, *decided])
    free = np.sort(window.t[~explained])
    kept: list[Found] = []
    for shot in sorted(found, key=lambda one: -one.surplus):
        if not any(abs(other.origin_s - shot.origin_s) < ALONG_S for other in [*kept, *decided]):
            own = window.t[window.rank[list(shot.members)]]
            began, over = float(own.min()), float(own.max()) + ECHO_SPAN_S
            count = idle.count + float(np.searchsorted(free, began)) + float(free.size - np.searchsorted(free, over))
            rest_s = began + max(float(window.t.max()) - over, 0.0)
            rate = count / (idle.sensor_s + rest_s * len(window.array.near))
            if shot.surplus < min(max(LONE_NATS + TRIPLE * math.log(rate), LONE_LEAST), LONE_MOST):
                continue
        kept.append(shot)
    return sorted(kept, key=lambda shot: shot.origin_s)


def _rifles(window: Window, _known: list[Found]) -> tuple[list[Found], Window]:
    """Take the shots whose bullets explain what else was heard: their N-waves look like shots, and bend places."""
    thetas, _, scores, _ = _proposals(window)
    order = [i for i in np.argsort(-scores, kind="stable") if scores[i] > LEAST_NATS]
    return find_rifles(window, thetas[order])


def _clear(window: Window, _known: list[Found]) -> tuple[list[Found], Window]:
    """Take, in order of time, the shots that nearly every sensor heard: there is nothing to weigh."""
    enough = window.cost_nats(1) + CLEAR_NATS
    return _taken_clear(window, _proposals(window, enough, enough))


def _taken_clear(window: Window, proposals: _Proposals) -> tuple[list[Found], Window]:
    cost = window.cost_nats(1)
    thetas, members, scores, clear = proposals
    found = [
        window.found(thetas[i], float(thetas[i, 2]) / REFERENCE_SPEED_M_S, members[i], float(scores[i]), cost)
        for i in np.flatnonzero(clear)
    ]
    # Rounds of a burst may have lent each other picks, all alike: those are weighed with their neighbours.
    single = [shot for shot, burst in zip(found, _beside(found, BESIDE_M, BESIDE_S), strict=True) if not burst]
    return single, window.explained(window.taken | window.picks_of(single)) if single else window


def _beside(shots: list[Found], apart_m: float, apart_s: float = math.inf) -> Bools:
    """Say of each shot whether another was fired so near it in place and time: one of a burst, however short."""
    places = np.array([(*shot.place_m[:2], shot.origin_s) for shot in shots]).reshape(-1, 3)
    gaps = np.abs(places[:, None] - places)
    near = (np.hypot(gaps[..., 0], gaps[..., 1]) < apart_m) & (gaps[..., 2] < apart_s)
    return np.asarray(near.sum(axis=1) > 1)


def _at_once(window: Window, known: list[Found]) -> tuple[list[Found], Window]:
    """Take what is clear, and let the rest compete; where nothing is clear, as it was proposed already."""
    proposals = _proposals(window, window.cost_nats(1) + CLEAR_NATS)
    found, after = _taken_clear(window, proposals)
    if not found:
        return _competing(window, known, proposals)
    more, after = _competing(after, [*known, *found])
    return found + more, after


def _competing(window: Window, known: list[Found], proposals: _Proposals | None = None) -> tuple[list[Found], Window]:
    """Find shots alone and places of a few: all that is proposed competes."""
    places = _proposed(window, proposals or _proposals(window))
    if not places:
        return [], window
    found, after = choose(window, places, known)
    rate = _echo_rate(window, after.taken)
    if rate > window.echo_rate:
        window = replace(window, echo_rate=rate)
        found, after = choose(window, places, known)
    quiet = replace(window, echo_rate=min(_echo_rate(window, after.taken, ECHO_ARRIVALS), window.echo_rate))
    plan = _best_plan(quiet, places, known)
    own = [shot for shot, burst in zip(plan, _beside(plan, one_place_m(window)), strict=True) if burst]
    if not own:
        return found, after
    rest, after = choose(window.explained(window.picks_of([*known, *own])), places, [*known, *own])
    return sorted(own + rest, key=lambda shot: shot.origin_s), after


def _best_plan(window: Window, places: list[Place], known: list[Found]) -> list[Found]:
    """Let all shots compete, or take a place's shots first and let the others compete, whichever explains most.

    Best first, a shot of a burst that happens to fit well alone takes picks of its neighbours, and no likelihood
    of the burst is ever seen.
    """
    first = sorted((place for place in places if len(place.origins) > 1), key=lambda place: -place.worth)
    if not first:
        return []
    plans = [choose(window, places, known)[0]]
    for place in first[:PLACES_FIRST]:
        own, after = choose(window, [place], known)
        plans.append(own + choose(after, places, [*known, *own])[0])
    return max(plans, key=lambda plan: sum(shot.surplus for shot in plan))


def _echo_rate(window: Window, used: Bools, prior: float = 0.0) -> float:
    """Count the unexplained picks that follow a direct arrival here, beyond what comes anyway.

    A city's rate counts as much as some arrivals heard here.
    """
    surplus = _select.count_after(window.start, window.t, used & (window.wave != SHOCK), ~used, ECHO_SPAN_S)
    return (max(surplus, 0) + prior * ECHO_RATE) / max(int(used.sum()) + prior, 1.0)


def _proposed(window: Window, proposals: _Proposals) -> list[Place]:
    """Propose places: each pick's best shot alone, and places that several of these agree on, with all their shots."""
    thetas, members, scores, _ = proposals
    order = [i for i in np.argsort(-scores, kind="stable") if scores[i] > LEAST_NATS]
    thetas = thetas[order]
    costs = lone_costs(window, thetas, members[order], scores[order])
    places = [alone(window, theta, cost) for theta, cost in zip(thetas, costs.tolist(), strict=True)]
    apart_m = one_place_m(window)
    grouped = np.zeros(len(thetas), dtype=np.bool_)
    for i, theta in enumerate(thetas):
        if grouped[i]:
            continue
        near = np.hypot(thetas[:, 0] - theta[0], thetas[:, 1] - theta[1]) < apart_m
        grouped |= near
        if np.ptp(thetas[near, 2]) / REFERENCE_SPEED_M_S > FASTEST_S:
            place = pool(window, theta)
            places += [place] if place is not None else []
    return places


def _proposals(window: Window, clear_nats: float = math.inf, least_nats: float = LEAST_NATS) -> _Proposals:
    """Propose the best shot first heard at each pick, if it may bring enough; those that are clear take their picks."""
    if clear_nats == math.inf:
        if "proposals" not in window.memory:
            window.memory["proposals"] = _proposed_anew(window, clear_nats, least_nats)
        known: _Proposals = window.memory["proposals"]
        return known
    return _proposed_anew(window, clear_nats, least_nats)


def _proposed_anew(window: Window, clear_nats: float, least_nats: float) -> _Proposals:
    anchors = np.argsort(window.t, kind="stable").astype(np.int64)
    count, m = len(anchors), len(window.array.near)
    thetas, members, scores = np.empty((count, 7)), np.empty((count, m), np.int64), np.empty(count)
    clear, used = np.empty(count, dtype=np.bool_), window.taken.copy()
    longest_s = window.array.longest_delay_s(SLOWEST_SHARE * window.speed_m_s, window.max_range_m)
    _search.propose(
        anchors, *window.array.columns_m, *window.hearing, window.array.near, window.array.near_height_m, window.start,
        window.owner, window.t, window.s, window.weight, used, window.horizon_s, window.path_s, window.mean,
        window.precision, window.max_range_m, TRIPLES, window.fewest, longest_s, clear_nats, least_nats, thetas,
        members, scores, clear,
    )  # fmt: skip
    return thetas, members, scores, clear


def _without_repeated_echoes(shots: list[Found], decided: Sequence[Found], apart_m: float) -> list[Found]:
    """Leave out places that fire with every shot of a better heard place, always by the same lag: a wall fires no gun.

    The lag may be negative: where many sensors lose the direct sound, echoes can fit a place behind the wall, and a
    little sooner. A burst that goes on from where it was fired is nobody's echo, however even its cadence.
    """
    by_place: dict[tuple[float, float, float], list[Found]] = {}
    for shot in shots:
        by_place.setdefault(shot.place_m, []).append(shot)
    groups = sorted(by_place.values(), key=lambda group: -max(shot.score for shot in group))
    kept = list(decided)
    for group in groups:
        elsewhere = [shot for shot in kept if math.dist(shot.place_m[:2], group[0].place_m[:2]) > apart_m]
        if not _echoes(group, elsewhere):
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
