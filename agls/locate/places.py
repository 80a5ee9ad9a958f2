"""Places that shots may come from, and the pattern of delays that all shots of a place share.

Error = path + pick. The path's part of each delay is common to all shots of a place, so their average still holds it,
while the picks' part shrinks. A place known from several shots therefore predicts the next one's delays to a pick's
error, far better than any model of the air could.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln

from agls.locate import _search, _select
from agls.locate._kernels import PARAMETERS, REFERENCE_SPEED_M_S, Floats, refine
from agls.locate._search import GATE, LOG_HALF, NATS_PER_SENSOR, NO_SCORE, Ints
from agls.locate.picks import Found
from agls.locate.solve import MIN_ARRIVALS, Air, Height, Solution, solve
from agls.locate.window import Window

LEAST_NATS = 4.0  # below this nothing is worth looking at
FASTEST_S = 0.042  # no weapon cycles faster than this: a second shot from one place so soon is an echo near the muzzle
POOL_ROUNDS = 3  # after which shots and pattern have found each other
SURE_SHARE = 0.6  # shots that score so much of their place's best teach its pattern
PATTERN_S = 0.0003  # what a pattern never tells better than: shooters move
UNSURE_S = 0.001  # a place known from one shot predicts no delay better than this
HEARING_SHOTS = 2.0  # distance tells as much of whether a sensor hears a place as so many shots from there
LISTENS = 2  # of laying a place's shots over each other
LISTEN_SHOTS = 6  # shots of which so many agree by chance at no sensor
LISTEN_S = 0.12  # a place that lies some tens of metres wrong errs by so much at the sensors it does not fit
STACK_SIGMAS = 2.0  # picks so near each other in a stack are of one sound
STACK_PEAKS = 4  # sounds that come again with the shots: their own, those of a neighbouring round, another shooter's
STACK_FLIGHT_S = 0.5  # over what delay the air that was assumed errs between sensors
STACK_TRIPLES = 500
TRUSTED = 0.5  # weight from which a delay agrees with the place's others


@dataclass(frozen=True)
class Place:
    """A place that shots may come from.

    Attributes
    ----------
    theta : numpy.ndarray, shape (7,)
        Where it is, in what air, as in `agls.locate._kernels`.
    delay, sigma : numpy.ndarray, shape (m,)
        Its pattern: delays to the sensors and their standard deviations [s].
    hit, miss : numpy.ndarray, shape (m,)
        Log-probabilities of each sensor to hear and to miss a shot there.
    origins : numpy.ndarray, shape (k,)
        Origin times of its shots [s].
    cost : float
        What each of them must bring [nats].
    worth : float
        What all of them bring [nats].
    told : bool
        Whether its own shots told the pattern, and not the place alone.
    """

    theta: Floats
    delay: Floats
    sigma: Floats
    hit: Floats
    miss: Floats
    origins: Floats
    cost: float
    worth: float = 0.0
    told: bool = False


def alone(window: Window, theta: Floats, cost: float = 0.0) -> Place:
    """Make a place of a single shot.

    Parameters
    ----------
    window : Window
        The picks.
    theta : numpy.ndarray, shape (7,)
        The shot.
    cost : float, optional
        What it must bring [nats].

    Returns
    -------
    Place
        Its place, whose delays are known as well as paths are.
    """
    delay, hit, miss = _predicted(window, theta)
    origin = np.array([theta[2] / REFERENCE_SPEED_M_S])
    return Place(theta, delay, np.full(len(delay), window.path_s), hit, miss, origin, cost)


def pool(window: Window, theta: Floats, known: Sequence[Found] = ()) -> Place | None:
    """Find all shots from about one place, and from all of them the place's pattern; repeat.

    Parameters
    ----------
    window : Window
        The picks.
    theta : numpy.ndarray, shape (7,)
        About where.
    known : sequence of Found, optional
        Shots of this place found before, which tell its pattern whatever air they were found in.

    Returns
    -------
    Place or None
        The place with its shots; None where there are not two.
    """
    place = _pooled(window, theta, known)
    for _ in range(LISTENS):
        if place is None or len(place.origins) < LISTEN_SHOTS or _heard_by_all(window, place):
            break
        again = _pooled(window, _stacked_up(window, place), ())
        if again is None or again.worth <= place.worth:
            break
        place = again
    return place


def _pooled(window: Window, theta: Floats, known: Sequence[Found]) -> Place | None:
    """Find all shots from about one place, from the pattern that this place would have."""
    count, m = len(window.t), len(window.array.near)
    theta = theta.copy()
    delay, hit, miss = _predicted(window, theta)
    sigma = np.full(m, max(window.path_s, UNSURE_S))
    origins, members, scores = np.empty(count), np.empty((count, m), dtype=np.int64), np.empty(count)
    worth, place, pattern_nats = -math.inf, None, 0.0
    if known:
        theta, delay, sigma, pattern_nats = _learned(window, *_members(window, known), delay, theta)
    for attempt in range(POOL_ROUNDS):
        number = _select.back_project(
            delay, sigma, hit, miss, window.start, window.owner, window.t, window.s, window.weight, window.taken,
            window.horizon_s, LEAST_NATS, FASTEST_S, origins, members, scores,
        )  # fmt: skip
        enough = [i for i in range(number) if (members[i] >= 0).sum() >= window.fewest]
        now = float((scores[enough] - LEAST_NATS).sum()) - pattern_nats
        if len(enough) < 2 or now <= worth + 1e-6:
            return place
        worth = now
        cost = window.cost_nats(len(enough)) + pattern_nats / len(enough)
        place = Place(theta, delay, sigma, hit, miss, origins[enough], cost, now, attempt > 0)
        sure = [i for i in enough if scores[i] >= SURE_SHARE * scores[enough].max()]
        theta, delay, sigma, pattern_nats = _learned(window, members[sure], origins[sure], delay, theta)
        hit, miss, hearing_nats = _hearing(window, members[sure], theta)
        pattern_nats += hearing_nats
    return place


def _heard_by_all(window: Window, place: Place) -> bool:
    """Say whether every sensor near enough hears most of a place's shots where its pattern says."""
    _, near, _ = _predicted(window, place.theta)
    return bool((place.hit > LOG_HALF)[near > LOG_HALF].all()) and place.told


def _stacked_up(window: Window, place: Place) -> Floats:
    """Locate a place anew by all its shots laid over each other, as if they were one.

    A place that lies wrong, or in a wrong air, fits some sensors alone; counted from its shots, the delays of the
    others stand out all the same, only elsewhere than they were looked for.
    """
    lags, worths, owners = [], [], []
    spread = STACK_SIGMAS * math.sqrt(2.0) * window.pick_s
    for k in range(len(place.delay)):
        own = slice(window.start[k], window.start[k + 1])
        off = (window.t[own][~window.taken[own], None] - place.origins - place.delay[k]).ravel()
        off = np.sort(off[np.abs(off) < LISTEN_S])
        low, high = np.searchsorted(off, off - spread), np.searchsorted(off, off + spread)
        chance = max(len(off) * spread / LISTEN_S, 1e-9)
        nats = np.where(high - low > chance, (high - low) * np.log((high - low) / chance) - (high - low) + chance, 0.0)
        for _ in range(STACK_PEAKS):
            i = int(np.argmax(nats)) if len(nats) else -1
            if i < 0 or nats[i] <= 0.0:
                break
            lags.append(place.delay[k] + float(np.median(off[low[i] : high[i]])))
            worths.append(float(nats[i]))
            owners.append(k)
            nats[np.abs(off - off[i]) < 2.0 * spread] = 0.0
    return _one_shot(window, np.array(lags), np.array(worths), np.array(owners, dtype=np.int64), place.theta)


def _one_shot(window: Window, lags: Floats, worths: Floats, owners: Ints, theta: Floats) -> Floats:
    """Locate one shot heard at some of many delays, each of which may be an accident."""
    order = np.lexsort((lags, owners))
    lags, owners, count, m = lags[order], owners[order], len(order), len(window.array.near)
    # The first guess is in the air as known beforehand.
    doubt = math.sqrt(float((1.0 / window.precision[4:]).sum())) / window.speed_m_s
    s = np.full(count, math.hypot(window.pick_s, STACK_FLIGHT_S * doubt))
    variance = s[0] ** 2 + window.path_s**2
    weight = NATS_PER_SENSOR * worths[order] / worths.max() + 0.5 * math.log(2.0 * math.pi * variance)
    thetas, members, scores = np.empty((count, 7)), np.empty((count, m), dtype=np.int64), np.empty(count)
    start = np.searchsorted(owners, np.arange(m + 1)).astype(np.int64)
    _search.propose(
        np.argsort(lags, kind="stable").astype(np.int64), *window.array.columns_m, *window.hearing, window.array.near,
        window.array.near_height_m, start, owners, lags, s, weight, np.zeros(count, dtype=np.bool_), math.inf,
        window.path_s, window.mean, window.precision, window.max_range_m, STACK_TRIPLES, window.fewest, math.inf,
        math.inf, -math.inf, thetas, members, scores, np.empty(count, dtype=np.bool_),
    )  # fmt: skip
    best = int(np.argmax(scores))
    return thetas[best] if scores[best] > NO_SCORE else theta


def _members(window: Window, shots: Sequence[Found]) -> tuple[Ints, Floats]:
    origins = np.array([shot.origin_s for shot in shots]) - window.reference_s
    return np.array([window.members_of(shot) for shot in shots]), origins


def _predicted(window: Window, theta: Floats) -> tuple[Floats, Floats, Floats]:
    """Predict a place's delays [s], and how likely each sensor is to hear and to miss a shot there."""
    m = len(window.array.near)
    delay, hit, miss = np.empty(m), np.empty(m), np.empty(m)
    _search.pattern(theta, *window.array.columns_m, *window.hearing, delay, hit, miss)
    return delay, hit, miss


def _hearing(window: Window, members: Ints, theta: Floats) -> tuple[Floats, Floats, float]:
    """Learn which sensors hear a place, as its pattern is learned: what a wall hides of one shot it hides of all.

    Distance says how likely a sensor hears the place, once; its shots say the rest (beta-binomial). Returns the
    log-probabilities to hear and to miss it, and what the shots had to pay to learn them [nats].
    """
    _, hit, _ = _predicted(window, theta)
    heard, count = (members >= 0).sum(axis=0), len(members)
    like, unlike = HEARING_SHOTS * np.exp(hit), HEARING_SHOTS * -np.expm1(hit)
    share = (heard + like) / (count + HEARING_SHOTS)
    told = heard * np.log(share) + (count - heard) * np.log1p(-share)
    return (
        np.log(share),
        np.log1p(-share),
        float((told - betaln(heard + like, count - heard + unlike) + betaln(like, unlike)).sum()),
    )


def _learned(
    window: Window, members: Ints, origins: Floats, delay: Floats, theta: Floats
) -> tuple[Floats, Floats, Floats, float]:
    """Average the shots of a place into its pattern, and fit the place to the pattern as if it were one shot.

    Where the pattern was never heard it is the place's prediction, with the path's uncertainty. Returns place, delays,
    their standard deviations, and what the pattern itself must be paid for [nats]: how unlikely such paths are, and
    how exactly they are known.
    """
    m = len(delay)
    mean_delay, heard = np.empty(m), np.empty(m, dtype=np.int64)
    moments = origins.copy()
    _select.average_pattern(members, len(origins), window.t, delay, moments, mean_delay, heard)
    known = np.flatnonzero(heard > 0)
    px, py, pz = (axis[known] for axis in window.array.columns_m)
    spread = np.sqrt(window.path_s**2 + window.pick_s**2 / heard[known])
    fitted = _located(window, known, mean_delay[known], spread, theta)
    weights, residuals = np.empty(len(known)), np.empty(len(known))
    refine(
        px, py, pz, mean_delay[known], spread, fitted, window.mean_at(theta), window.precision, GATE, PARAMETERS,
        weights, residuals,
    )  # fmt: skip
    shift = fitted[2] / REFERENCE_SPEED_M_S
    learned, _, _ = _predicted(window, fitted)
    sigma = np.full(m, max(window.path_s, UNSURE_S))
    # A delay heard n times tells the next one to a pick's error over the root of n; heard once, it may be an echo's.
    trusted = (heard[known] > 1) & (weights > TRUSTED)
    often = known[trusted]
    learned[often] = mean_delay[often] - shift
    sigma[often] = window.pick_s / np.sqrt(heard[often]) + PATTERN_S
    off = residuals[trusted] / spread[trusted]
    return (
        fitted,
        learned,
        sigma,
        float(0.5 * (off**2).sum() + np.log(np.maximum(spread[trusted] / sigma[often], 1.0)).sum()),
    )


def _located(window: Window, known: Ints, delay: Floats, spread: Floats, theta: Floats) -> Floats:
    """Locate a place by its pattern alone: a start near by would be held by the delays that are another shooter's."""
    start = theta.copy()
    start[2] = 0.0
    mean = window.mean_at(theta)
    sigma_z, sigma_c, sigma_w = (window.precision[3:6] ** -0.5).tolist()
    air = Air(float(mean[4]), float(mean[5]), float(mean[6]), sigma_c, sigma_w)
    if len(known) <= MIN_ARRIVALS + 1:
        return start
    positions = np.column_stack(window.array.columns_m)[known]
    found = solve(positions, delay, spread, air, Height(float(mean[3]), sigma_z))
    if not isinstance(found, Solution):
        return start
    moved = found.air
    return np.array(
        [found.x_m, found.y_m, found.origin_s * REFERENCE_SPEED_M_S, found.z_m, moved.sound_speed_m_s, moved.east_m_s,
         moved.north_m_s]
    )  # fmt: skip
