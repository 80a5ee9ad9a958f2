"""Rounds fired from one place, located together: between them only picks differ, as their paths are the same.

Which sensors hear a round differs from round to round, and with them the errors of their paths: located each for
itself, rounds of one place scatter by metres. So the delays of all are averaged into one pattern, which is located as
if it were one round, with paths as unsure as ever; and each round is placed relative to it by how its own delays
differ, which tells where it was to a pick's error. A shooter who moves is followed, not pulled back.

Whether two rounds share their paths is told by their delays alone: whether what is left of their differences, once
place and time have been moved, is as small as picks are or as wide as paths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from agls.locate._kernels import Floats
from agls.locate._rounds import ROUND_GATE, UNKNOWNS, lay_over
from agls.locate.slow import DECLARED, FACTORS, LIKE_M, WRONG_PER_S, SlowState, shares
from agls.locate.solve import Air, NoSolution, Solution, solve

# Arrivals have been chosen already; those left that are off are mostly bent paths, and better distrusted early, but
# where there are few none can be spared.
MANY, GATE, FEW_GATE = 8, 3.0, 6.0
AGREE = 0.5  # weight from which a delay agrees
TIE_NATS = 0.1  # where paths scatter less than picks, delays say nothing of whether they are shared, and they are
SWEEPS = 2  # of laying rounds over their pattern and averaging them into it
_FLAT = np.ix_([0, 1, 3], [0, 1, 3])


@dataclass(frozen=True, slots=True)
class Round:
    """A round as heard, and as located.

    Attributes
    ----------
    sensors : numpy.ndarray, shape (n,)
        Indices of the sensors that heard it.
    toa_s : numpy.ndarray, shape (n,)
        When [s].
    pick_s, common_s : numpy.ndarray, shape (n,)
        Standard deviations of its own picks, and of what is the same from round to round: survey and clocks [s].
    solution : Solution
        Where it was fired.
    air : Air
        What was known of the air.
    path_s : float
        Standard deviation of the paths [s].
    """

    sensors: NDArray[np.int64]
    toa_s: Floats
    pick_s: Floats
    common_s: Floats
    solution: Solution
    air: Air
    path_s: float


@dataclass(frozen=True, slots=True)
class _Laid:
    """A round laid over a pattern: how far it moved, how sure, what is left and how likely each is right."""

    moved: Floats
    spread: Floats
    left: Floats
    weights: Floats


class _Place:
    """How delays change about a place, that of a burst's first round."""

    def __init__(self, first: Round, positions_m: Floats) -> None:
        self.solution, self.path_s = first.solution, first.path_s
        self.positions_m = positions_m
        self.speed = self.solution.air.sound_speed_m_s
        place = np.array([self.solution.x_m, self.solution.y_m, self.solution.z_m])
        away = positions_m - place
        wind = np.array([self.solution.air.east_m_s, self.solution.air.north_m_s, 0.0])
        self.away = away - np.linalg.norm(away, axis=1)[:, None] / self.speed * wind

    def __call__(self, moved: Floats) -> Floats:
        """Say how much longer sound takes to each sensor from a place moved, fired later [s]."""
        now = np.linalg.norm(self.away - np.array([moved[0], moved[1], 0.0]), axis=1)
        return np.asarray(moved[2] + (now - np.linalg.norm(self.away, axis=1)) / self.speed)

    def lay(self, delay: Floats, sigma: Floats, pattern: Floats, start: Floats) -> tuple[int, _Laid]:
        """Lay a round's delays over a pattern."""
        m = len(delay)
        laid = _Laid(start.copy(), np.empty((3, 3)), np.empty(m), np.empty(m))
        count = lay_over(
            self.away, self.speed, delay, sigma, pattern, self.path_s, laid.moved, laid.spread, laid.left,
            laid.weights,
        )  # fmt: skip
        return count, laid


@dataclass(slots=True)
class _Burst:
    """Rounds of one place: what the sensors hear of each, and the pattern, counted from the first one's origin.

    `delays` has a row for each round, nan where it was not heard; `moved` how far and how much later each was fired.
    """

    about: _Place
    which: list[int]
    delays: list[Floats]
    picks: list[Floats]
    moved: list[Floats]
    pattern: Floats
    unsure: Floats

    def compare(self, delay: Floats, pick: Floats, one: Round) -> tuple[float, Floats]:
        """Say how much likelier the same paths make a round's delays than paths of their own [nats], and from where."""
        both = np.isfinite(delay) & np.isfinite(self.pattern)
        sigma, first = np.hypot(pick, self.unsure), self.about.solution
        place = np.array([one.solution.x_m - first.x_m, one.solution.y_m - first.y_m, 0.0])
        fits = [(-math.inf, -math.inf, place)]
        if both.sum() <= UNKNOWNS:
            return -math.inf, place
        for start in (np.zeros(3), place):
            start[2] = float(np.median((delay - self.pattern - self.about(start))[both]))
            count, laid = self.about.lay(delay, sigma, self.pattern, start)
            # Place and time are free to fit three: of the others most must agree.
            agree = int((laid.weights[both] > AGREE).sum()) - UNKNOWNS
            if count and math.hypot(*laid.moved[:2]) < LIKE_M and 2 * agree > int(both.sum()) - UNKNOWNS:
                same, apart = _same_and_apart(laid.left[both], sigma[both], self.about.path_s)
                fits.append((same, same - apart, laid.moved))
        _, nats, moved = max(fits, key=lambda fit: fit[0])
        return nats, moved

    def average(self) -> None:
        """Average the rounds into the pattern, each moved back to the place of the first."""
        back = np.array([d - self.about(q) for d, q in zip(self.delays, self.moved, strict=True)])
        picks = np.array(self.picks)
        heard = np.isfinite(back)
        known = heard.any(axis=0)
        middle = np.full(len(known), math.nan)
        middle[known] = np.nanmedian(back[:, known], axis=0)
        like = heard & (np.abs(back - middle) <= ROUND_GATE * picks)
        # Where rounds contradict, what is late by more than paths scatter is an echo: wrong is nearly always late.
        soon = back <= np.nanmin(np.where(heard, back, np.inf), axis=0) + ROUND_GATE * self.about.path_s
        used = np.where(like.any(axis=0), like, heard & soon)
        count = np.maximum(used.sum(axis=0), 1)
        mean = np.where(used, back, 0.0).sum(axis=0) / count
        pick = np.where(used, picks, 0.0).sum(axis=0) / count
        off = np.where(used, back - mean, 0.0)
        self.pattern = np.where(known, mean, math.nan)
        self.unsure = np.sqrt(np.maximum(pick**2, (off**2).sum(axis=0) / count) / count)


def locate(
    sensors: NDArray[np.int64], toa_s: Floats, pick_s: Floats, common_s: Floats, positions_m: Floats, slow: SlowState
) -> Round | NoSolution:
    """Locate a round: first by all that is known, then by what may be expected of one that looks like it.

    Parameters
    ----------
    sensors : numpy.ndarray, shape (n,)
        Indices of the sensors that heard it.
    toa_s : numpy.ndarray, shape (n,)
        When [s].
    pick_s, common_s : numpy.ndarray, shape (n,)
        As in `Round`.
    positions_m : numpy.ndarray, shape (m, 3)
        All sensors [m].
    slow : SlowState
        What is known of the air and the paths.

    Returns
    -------
    Round or NoSolution
        The round, or why it cannot be located.
    """
    heard_m, pick = positions_m[sensors], np.hypot(pick_s, common_s)
    air, path_s = slow.air, slow.path_sigma_s
    gate = GATE if len(sensors) >= MANY else FEW_GATE
    solution = solve(heard_m, toa_s, np.hypot(pick, path_s), air, gate=gate)
    if isinstance(solution, Solution):
        air, path_s = slow.expected(solution, heard_m, np.hypot(pick, path_s), pick)
        solution = solve(heard_m, toa_s, np.hypot(pick, path_s), air, gate=gate)
    if isinstance(solution, NoSolution):
        return solution
    return Round(sensors, toa_s, pick_s, common_s, solution, air, path_s)


def together(rounds: Sequence[Round], positions_m: Floats, slow: SlowState) -> list[Round]:
    """Locate rounds of one place together.

    Parameters
    ----------
    rounds : sequence of Round
        Rounds that were fired soon after each other, located each for itself, in order of time.
    positions_m : numpy.ndarray, shape (m, 3)
        All sensors [m].
    slow : SlowState
        What is known of the air and the paths.

    Returns
    -------
    list of Round
        The same rounds; those that share their place's paths as located together.
    """
    out = list(rounds)
    for burst in _bursts(rounds, positions_m):
        if len(burst.which) > 1:
            _place(burst, rounds, out, slow)
    return out


def _bursts(rounds: Sequence[Round], positions_m: Floats) -> list[_Burst]:
    """Gather rounds whose delays differ by no more than picks do."""
    bursts: list[_Burst] = []
    for k, one in enumerate(rounds):
        m = len(positions_m)
        delay, pick = np.full(m, math.nan), np.full(m, 1.0)
        delay[one.sensors], pick[one.sensors] = one.toa_s - one.solution.origin_s, one.pick_s
        best: tuple[float, Floats, _Burst] | None = None
        for burst in bursts:
            nats, moved = burst.compare(delay, pick, one)
            if nats > (best[0] if best else -TIE_NATS):
                best = nats, moved, burst
        if best is None:
            bursts.append(_Burst(_Place(one, positions_m), [k], [delay], [pick], [np.zeros(3)], delay, pick))
            continue
        _, moved, burst = best
        burst.which.append(k)
        burst.delays.append(delay)
        burst.picks.append(pick)
        burst.moved.append(moved)
        burst.average()
    return bursts


def _same_and_apart(left_s: Floats, sigma_s: Floats, path_s: float) -> tuple[float, float]:
    """Say how likely it is that what is left of differences is picks', and that it is picks' and two paths' [nats].

    How well picks are known is itself not known, as elsewhere; place and time took up three of the differences.
    """
    square = (FACTORS[:, None] * sigma_s) ** 2
    own, other = _log_dense(left_s, square), _log_dense(left_s, square + 2.0 * path_s**2)
    spent = UNKNOWNS * 0.5 * np.log((square + 2.0 * path_s**2) / square).mean(axis=1)
    odds = np.log(shares(DECLARED))
    same, apart = odds + own.sum(axis=1) - spent, odds + other.sum(axis=1)
    return float(np.logaddexp.reduce(same)), float(np.logaddexp.reduce(apart))


def _log_dense(left_s: Floats, square: Floats) -> Floats:
    return np.asarray(np.log(np.exp(-0.5 * left_s**2 / square) / np.sqrt(2.0 * np.pi * square) + WRONG_PER_S))


def _place(burst: _Burst, rounds: Sequence[Round], out: list[Round], slow: SlowState) -> None:
    """Locate a burst's pattern, and each of its rounds relative to it."""
    laid: list[_Laid] = []
    for _ in range(SWEEPS):
        laid = []
        for k, (delay, pick) in enumerate(zip(burst.delays, burst.picks, strict=True)):
            count, one = burst.about.lay(delay, np.hypot(pick, burst.unsure), burst.pattern, burst.moved[k])
            if count == 0:
                return
            laid.append(one)
            burst.moved[k] = one.moved
        burst.average()
    known = np.flatnonzero(np.isfinite(burst.pattern))
    common = np.zeros(len(burst.pattern))
    for k in burst.which:
        common[rounds[k].sensors] = rounds[k].common_s
    whole = locate(
        known, burst.pattern[known], burst.unsure[known], common[known], burst.about.positions_m, slow
    )  # fmt: skip
    if isinstance(whole, NoSolution):
        return
    left, weights = np.full(len(common), math.nan), np.zeros(len(common))
    left[known], weights[known] = whole.solution.residuals_s, whole.solution.weights
    for k, one, delay in zip(burst.which, laid, burst.delays, strict=True):
        own = rounds[k].sensors
        off = (delay - burst.pattern - burst.about(one.moved))[own]
        solution = msgspec.structs.replace(
            _moved(whole.solution, one, rounds[k].solution.origin_s),
            residuals_s=left[own] + off, weights=weights[own] * one.weights[own],
        )  # fmt: skip
        out[k] = replace(rounds[k], solution=solution, air=whole.air, path_s=whole.path_s)


def _moved(whole: Solution, laid: _Laid, origin_s: float) -> Solution:
    """Move a pattern's place to one of its rounds: both are unsure, and independent."""
    dx, dy, later = laid.moved.tolist()
    covariance = whole.covariance.copy()
    covariance[_FLAT] += laid.spread
    return msgspec.structs.replace(
        whole, x_m=whole.x_m + dx, y_m=whole.y_m + dy, origin_s=whole.origin_s + origin_s + later,
        covariance=covariance, others=tuple((x + dx, y + dy, odds) for x, y, odds in whole.others),
    )  # fmt: skip
