"""Choosing among the shots that were proposed, and all shots of one place. Compiled.

Picks and patterns are those of `agls.locate._search`. What explains most is taken first; its picks are gone for the
others, which are scored again by what is left to them.
"""

import math

import numpy as np

from agls.locate._kernels import Floats
from agls.locate._search import GATE, LOG_ROOT_2PI, NO_SCORE, Bools, Ints, masking, match, silence
from agls.locate.jit import kernel

# So soon after a shot, from about its place and heard by so many fewer sensors, comes the echo of a near wall.
WALL_S, WALL_SHARE = 0.15, 0.8
LOG_MISS_LIKE = -3.0  # of a sensor that heard a like shot: it misses one in twenty
MOVE_NATS = 12.0  # moving a shot to where its picks put it gains at most about so much
SETTLED_S = 1e-6  # and is done below this, a thousandth of a pick
SAME_SCORE = 1e-9  # scores that differ by less differ by rounding
RESCORED = 50  # a candidate that loses a pick so often is taken as it is, lest two of them take turns for ever
MEDIANS = 4  # rounds after which medians of delays and of origin times have agreed
TAILS = 5.0  # echoes later than so many decay times are too rare to expect
# Levels of an echo and of another shot, less the direct sound's [dB]: means and spreads, and their bounds [nats].
ECHO_STEP_DB, ECHO_SPREAD_DB, SAME_SPREAD_DB, OTHER_SPREAD_DB = -9.0, 7.0, 5.0, 11.0
LEVEL_SHARE, LEAST_LEVEL_NATS, MOST_LEVEL_NATS = 0.5, -2.0, 4.0


@kernel
def back_project(
    delay: Floats, sigma: Floats, hit: Floats, miss: Floats, start: Ints, owner: Ints, t: Floats, s: Floats,
    weight: Floats, used: Bools, horizon: float, threshold: float, apart_s: float, origins: Floats, members: Ints,
    scores: Floats,
) -> int:  # fmt: skip
    """Find the shots of one known pattern: every pick names an origin time, and all sensors vote on it.

    Parameters
    ----------
    delay, sigma, hit, miss, start, t, s, weight, used, horizon
        As in `agls.locate._search.match`.
    owner : numpy.ndarray, shape (n,)
        Each pick's sensor.
    threshold : float
        Least log-likelihood ratio of a shot.
    apart_s : float
        Least time between two shots of one place [s].
    origins, members, scores : numpy.ndarray, shape (n,), (n, m), (n,)
        Receive the shots in order of their score.

    Returns
    -------
    int
        How many there are.
    """
    m, n = delay.size, t.size
    own = used.copy()
    moments, worth = np.empty(n), np.empty(n)
    scratch = np.empty(m, dtype=np.int64)
    for q in range(n):
        moments[q] = t[q] - delay[owner[q]]
        worth[q] = NO_SCORE
        if not own[q]:
            worth[q] = _at(moments, q, delay, sigma, hit, miss, start, t, s, weight, own, horizon, threshold, scratch)
    count = 0
    while count < n:
        q = int(np.argmax(worth))
        if worth[q] < threshold:
            break
        now = _at(moments, q, delay, sigma, hit, miss, start, t, s, weight, own, horizon, threshold, scratch)
        if now < worth[q] - SAME_SCORE:
            worth[q] = now  # another shot took a pick of it
            continue
        worth[q] = NO_SCORE
        clash = False
        for other in range(count):
            clash = clash or abs(origins[other] - moments[q]) < apart_s
        if clash:
            continue
        origins[count], scores[count] = moments[q], now
        members[count] = scratch
        for k in range(m):
            if scratch[k] >= 0:
                own[scratch[k]] = True
        count += 1
    return count


@kernel
def _at(
    moments: Floats, q: int, delay: Floats, sigma: Floats, hit: Floats, miss: Floats, start: Ints, t: Floats,
    s: Floats, weight: Floats, used: Bools, horizon: float, threshold: float, members: Ints,
) -> float:  # fmt: skip
    """Score the shot at one origin time, moved to where its picks put it."""
    score = match(
        moments[q], delay, sigma, hit, miss, start, t, s, weight, used, horizon, threshold - MOVE_NATS, members
    )
    if score == NO_SCORE:
        return score
    for _ in range(2):
        moment = _origin(members, delay, sigma, t, s)
        if abs(moment - moments[q]) < SETTLED_S:
            break
        moments[q] = moment
        score = match(moment, delay, sigma, hit, miss, start, t, s, weight, used, horizon, NO_SCORE, members)
    return score


@kernel
def _origin(members: Ints, delay: Floats, sigma: Floats, t: Floats, s: Floats) -> float:
    """Average what a shot's picks say of its origin time."""
    total, mass = 0.0, 0.0
    for k in range(members.size):
        q = members[k]
        if q >= 0:
            w = 1.0 / (s[q] * s[q] + sigma[k] * sigma[k])
            total += w * (t[q] - delay[k])
            mass += w
    return total / mass if mass > 0.0 else 0.0


@kernel
def average_pattern(
    members: Ints, count: int, t: Floats, delay: Floats, origins: Floats, mean_delay: Floats, heard: Ints
) -> None:  # fmt: skip
    """Average the pattern of several shots of one place, each with an origin time of its own.

    By medians: some of the picks are another shooter's.

    Parameters
    ----------
    members : numpy.ndarray, shape (k, m)
        Each shot's picks, or -1.
    count : int
        How many shots.
    t : numpy.ndarray, shape (n,)
        Picks' times [s].
    delay : numpy.ndarray, shape (m,)
        The pattern so far.
    origins : numpy.ndarray, shape (k,)
        Origin times to begin with [s]; become those that fit the average.
    mean_delay, heard : numpy.ndarray, shape (m,)
        Receive the averaged delays [s], and by how many shots each is known.
    """
    m = delay.size
    own = np.empty(max(count, m))
    for k in range(m):
        mean_delay[k] = delay[k]
    for _ in range(MEDIANS):
        for k in range(m):
            heard[k] = 0
            for i in range(count):
                if members[i, k] >= 0:
                    own[heard[k]] = t[members[i, k]] - origins[i]
                    heard[k] += 1
            if heard[k] > 0:
                mean_delay[k] = np.median(own[: heard[k]])
        for i in range(count):
            n = 0
            for k in range(m):
                if members[i, k] >= 0 and (heard[k] > 1 or count == 1):
                    own[n] = t[members[i, k]] - mean_delay[k]
                    n += 1
            if n > 0:
                origins[i] = np.median(own[:n])


@kernel
def select(
    delay: Floats, sigma: Floats, hit: Floats, miss: Floats, origins: Floats, cost: Floats, few: Bools,
    place_x: Floats, place_y: Floats, start: Ints, t: Floats, s: Floats, weight: Floats, level: Floats, used: Bools,
    horizon: float, fewest: int, apart_s: float, apart_m: float, like_s: float, like_m: float, same_m: float,
    echo_rate: float, echo_tail_s: float, count: int, chosen: Ints, members: Ints, scores: Floats,
) -> int:  # fmt: skip
    """Choose among candidate shots, the most certain first, so that each pick belongs to one shot.

    A candidate whose picks were taken is scored again by what is left. The echoes of a chosen shot are expected at its
    sensors, so that candidates made of echoes lose their support.

    Parameters
    ----------
    delay, sigma, hit, miss : numpy.ndarray, shape (k, m)
        The candidates' patterns, as in `agls.locate._search.match`.
    origins, cost : numpy.ndarray, shape (k,)
        Their origin times [s]; become what their picks say. What each must bring [nats].
    few : numpy.ndarray, shape (k,)
        Whether a candidate's place fires too seldom to be an automatic weapon.
    place_x, place_y : numpy.ndarray, shape (k,)
        Their places [m].
    start, t, s, weight, used, horizon
        As in `agls.locate._search.match`; `used` and `weight` are changed.
    level : numpy.ndarray, shape (n,)
        Levels of the picks [dB], nan where unknown.
    fewest : int
        Least number of picks of a shot.
    apart_s, apart_m : float
        No two shots nearer in time [s] than this come from places nearer than this [m].
    like_s, like_m, same_m : float
        A shot nearer than this in time [s] and place [m] to a better heard one is heard by the same sensors, or is its
        echo; from the same place (nearer than `same_m`) it is no echo.
    echo_rate, echo_tail_s : float
        How many echoes follow an arrival, and over what time they decay [s].
    count : int
        How many are chosen already: the first so many of the arrays below, their picks used.
    chosen : numpy.ndarray, shape (k,)
        Receives the indices of the chosen candidates.
    members, scores : numpy.ndarray, shape (k, m), (k,)
        Receive their picks and log-likelihood ratios, in the order of `chosen`.

    Returns
    -------
    int
        How many were chosen.
    """
    n, m = delay.shape
    net = np.empty(n)
    rescored = np.zeros(n, dtype=np.int64)
    scratch = np.empty(m, dtype=np.int64)
    for i in range(n):
        net[i] = NO_SCORE
    for i in range(count, n):
        net[i] = _at(origins, i, delay[i], sigma[i], hit[i], miss[i], start, t, s, weight, used, horizon, 0.0, scratch)
        net[i] -= cost[i]
    while count < n:
        i = int(np.argmax(net))
        if net[i] <= 0.0:
            break
        now = _at(origins, i, delay[i], sigma[i], hit[i], miss[i], start, t, s, weight, used, horizon, 0.0, scratch)
        if now - cost[i] < net[i] - SAME_SCORE and rescored[i] < RESCORED:
            net[i] = now - cost[i]
            rescored[i] += 1
            continue
        net[i] = NO_SCORE
        hits = 0
        for k in range(m):
            hits += scratch[k] >= 0
        clash = hits < fewest
        silence, weaker = 0.0, 0.0
        for j in range(count):
            o = chosen[j]
            apart = math.hypot(place_x[o] - place_x[i], place_y[o] - place_y[i])
            gap = abs(origins[o] - origins[i])
            if apart < apart_m:
                others = 0
                for k in range(m):
                    others += members[j, k] >= 0
                clash = clash or gap < apart_s or (few[i] and gap < WALL_S and hits < WALL_SHARE * others)
            if gap < like_s and same_m < apart < like_m:
                lost = 0.0
                for k in range(m):
                    if members[j, k] >= 0 and scratch[k] < 0:
                        lost += max(miss[i, k] - LOG_MISS_LIKE, 0.0)
                silence = max(silence, lost)
            if -apart_s < origins[i] - origins[o] < like_s:
                echo = _like_echo(scratch, members[j], t, level, apart < apart_m)
                weaker = max(weaker, echo)
        if clash or now - cost[i] - silence - weaker <= 0.0:
            continue
        chosen[count], scores[count] = i, now
        members[count] = scratch
        count += 1
        for k in range(m):
            if scratch[k] >= 0:
                used[scratch[k]] = True
                _expect_echoes(scratch[k], start[k + 1], t, weight, echo_rate, echo_tail_s)
    return count


@kernel
def _like_echo(members: Ints, direct: Ints, t: Floats, level: Floats, same: bool) -> float:
    """Sum up how much more a shot's levels look like echoes of another's than like a shot [nats].

    An echo is weaker than the direct sound at the same sensor; another shot is as loud, give or take its own paths.
    Levels of one shot share causes, so they count half, and each only so much.
    """
    total = 0.0
    spread = SAME_SPREAD_DB if same else OTHER_SPREAD_DB
    for k in range(members.size):
        if members[k] >= 0 and direct[k] >= 0 and t[members[k]] > t[direct[k]]:
            step = level[members[k]] - level[direct[k]]
            if step == step:
                shot = -0.5 * (step / spread) ** 2 - math.log(spread)
                echo = -0.5 * ((step - ECHO_STEP_DB) / ECHO_SPREAD_DB) ** 2 - math.log(ECHO_SPREAD_DB)
                total += LEVEL_SHARE * min(max(echo - shot, LEAST_LEVEL_NATS), MOST_LEVEL_NATS)
    return total


@kernel
def _expect_echoes(q: int, past: int, t: Floats, weight: Floats, echo_rate: float, echo_tail_s: float) -> None:
    """Lower the weight of the picks that may be echoes of one."""
    if echo_rate <= 0.0:
        return
    for e in range(q + 1, past):
        lag = t[e] - t[q]
        if lag > TAILS * echo_tail_s:
            break
        weight[e] = min(weight[e], lag / echo_tail_s - math.log(echo_rate / echo_tail_s))


@kernel
def advantage(
    sensor: int, origins: Floats, delay: Floats, sigma: Floats, hit: Floats, miss: Floats, start: Ints, t: Floats,
    s: Floats, weight: Floats, blocked: Bools, horizon: float, out: Floats, quiet: Floats,
) -> None:  # fmt: skip
    """Compute what each shot would gain from each pick of one sensor, over hearing nothing there, and what that costs.

    Parameters
    ----------
    sensor : int
        The sensor.
    origins : numpy.ndarray, shape (k,)
        Origin times of the shots [s].
    delay, sigma, hit, miss : numpy.ndarray, shape (k, m)
        Their patterns, as in `agls.locate._search.match`.
    start, t, s, weight
        As in `agls.locate._search.match`.
    blocked : numpy.ndarray, shape (n,)
        Picks not to be had.
    horizon : float
        As in `agls.locate._search.match`.
    out : numpy.ndarray, shape (k, picks of the sensor)
        Receives the gains [nats]; 0 where there is none.
    quiet : numpy.ndarray, shape (k,)
        Receives what hearing nothing counts.
    """
    for i in range(origins.size):
        due = origins[i] + delay[i, sensor]
        masked = 0.0
        for q in range(start[sensor], start[sensor + 1]):
            variance = s[q] * s[q] + sigma[i, sensor] * sigma[i, sensor]
            gap = t[q] - due
            out[i, q - start[sensor]] = 0.0
            masked = max(masked, masking(gap, variance))
            if not blocked[q] and gap * gap < GATE * GATE * variance:
                gain = hit[i, sensor] + weight[q] - LOG_ROOT_2PI - 0.5 * (math.log(variance) + gap * gap / variance)
                other = silence(miss[i, sensor], masking(gap, variance))
                out[i, q - start[sensor]] = max(gain - other, 0.0)
        quiet[i] = silence(miss[i, sensor], masked) if due < horizon else 0.0


@kernel
def density(start: Ints, t: Floats, count: Floats, window_s: float, floor_count: float, out: Floats) -> None:
    """Count how many other picks a second there are around each at its sensor.

    Parameters
    ----------
    start, t
        As in `agls.locate._search.match`.
    count : numpy.ndarray, shape (n,)
        For how much each pick counts.
    window_s : float
        In what time around it others count [s].
    floor_count : float
        What is counted anyway.
    out : numpy.ndarray, shape (n,)
        Receives the densities [1/s].
    """
    total = np.empty(t.size + 1)
    for k in range(start.size - 1):
        first, past = start[k], start[k + 1]
        total[first] = 0.0
        for q in range(first, past):
            total[q + 1] = total[q] + count[q]
        low, high = first, first
        for q in range(first, past):
            while low < past and t[low] < t[q] - window_s / 2:
                low += 1
            while high < past and t[high] < t[q] + window_s / 2:
                high += 1
            out[q] = (max(total[high] - total[low] - count[q], 0.0) + floor_count) / window_s


@kernel
def count_after(start: Ints, t: Floats, direct: Bools, rest: Bools, span_s: float) -> int:
    """Count how many more other picks follow direct arrivals at their sensor within a time than come before them.

    Parameters
    ----------
    start, t
        As in `agls.locate._search.match`.
    direct, rest : numpy.ndarray, shape (n,)
        The direct arrivals, and the others that are counted.
    span_s : float
        How long before and after [s].

    Returns
    -------
    int
        How many more.
    """
    total = 0
    for k in range(start.size - 1):
        low = middle = high = start[k]
        before = now = after = 0
        for q in range(start[k], start[k + 1]):
            if not direct[q]:
                continue
            while low < start[k + 1] and t[low] < t[q] - span_s:
                before += rest[low]
                low += 1
            while middle < start[k + 1] and t[middle] < t[q]:
                now += rest[middle]
                middle += 1
            while high < start[k + 1] and t[high] < t[q] + span_s:
                after += rest[high]
                high += 1
            total += (after - now) - (now - before)
    return total


@kernel
def echo_density(start: Ints, t: Floats, used: Bools, echo_tail_s: float, out: Floats) -> None:
    """Compute how dense the echoes of explained picks are at each pick, if one followed each of them.

    Parameters
    ----------
    start, t
        As in `agls.locate._search.match`.
    used : numpy.ndarray, shape (n,)
        The picks that are explained.
    echo_tail_s : float
        Over what time echoes decay [s].
    out : numpy.ndarray, shape (n,)
        Receives the densities [1/s].
    """
    for k in range(start.size - 1):
        now = 0.0
        for q in range(start[k], start[k + 1]):
            if q > start[k]:
                now = (now + used[q - 1] / echo_tail_s) * math.exp((t[q - 1] - t[q]) / echo_tail_s)
            out[q] = now


@kernel
def expect_echoes(start: Ints, t: Floats, used: Bools, weight: Floats, echo_rate: float, echo_tail_s: float) -> None:
    """Lower the weight of the picks that may be echoes of explained ones.

    Parameters
    ----------
    start, t, weight
        As in `agls.locate._search.match`; `weight` is changed.
    used : numpy.ndarray, shape (n,)
        The picks that are explained.
    echo_rate, echo_tail_s : float
        How many echoes follow an arrival, and over what time they decay [s].
    """
    for k in range(start.size - 1):
        for q in range(start[k], start[k + 1]):
            if used[q]:
                _expect_echoes(q, start[k + 1], t, weight, echo_rate, echo_tail_s)
