"""How shots of one incident were fired: how many shooters, how fast, automatic or not, standing or moving."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agls.messages import NS_PER_S, Motion, Shot

# Shots of one shooter scatter so much about where he stands or the line he moves on: by picks, as paths are shared.
SCATTER_M = 2.5
SLOWEST_M_S = 0.5  # nobody walks slower; a place known better and better drifts so, as its rounds share their error
FASTEST_M_S = 40.0  # nobody who fires moves faster than this
AUTOMATIC_PER_S, AUTOMATIC_SHOTS, AUTOMATIC_SPREAD = 6.0, 3, 0.25
# Weapons and machines keep time to a few percent, rounds missed or not; no finger and no fuse does for several rounds.
EVEN_SHARE, MISSED_ROUNDS, FASTEST_PER_S = 0.12, 1, 20.0
MOTION_SHOTS, MOTION_S = 3, 1.0
SIGMAS_95 = 1.96


def shooters(shots: Sequence[Shot]) -> list[list[Shot]]:
    """Tell shots apart by who can have fired them.

    A shot is given to the shooter who stands, or would by then have moved, nearest to it; one whom nobody can have
    fired begins another shooter.

    Parameters
    ----------
    shots : sequence of Shot
        Shots of one incident.

    Returns
    -------
    list of list of Shot
        The shots of each shooter, in order of time.
    """
    groups: list[list[Shot]] = []
    for shot in sorted(shots, key=lambda one: (one.origin_ns, one.shot_id)):
        apart = [(_apart_m(group[-1], shot), group) for group in groups]
        near = [pair for pair in apart if pair[0] <= _reach_m(pair[1][-1], shot)]
        if near:
            min(near, key=lambda pair: pair[0])[1].append(shot)
        else:
            groups.append([shot])
    return groups


def rate_per_s(shots: Sequence[Shot]) -> float | None:
    """Measure the rate of fire of one shooter.

    Parameters
    ----------
    shots : sequence of Shot
        In order of time.

    Returns
    -------
    float or None
        Rounds a second, from the median interval; None for a single shot.
    """
    gaps = _gaps_s(shots)
    return None if gaps.size == 0 else float(1.0 / max(np.median(gaps), 0.01))


def automatic(shots: Sequence[Shot]) -> bool:
    """Say whether one shooter's weapon fires by itself: fast, and too evenly for a finger.

    Parameters
    ----------
    shots : sequence of Shot
        In order of time.

    Returns
    -------
    bool
        Whether some run of shots is fully automatic fire.
    """
    gaps = _gaps_s(shots)
    for first in range(gaps.size - AUTOMATIC_SHOTS + 2):
        run = gaps[first : first + AUTOMATIC_SHOTS - 1]
        even = run.std() <= AUTOMATIC_SPREAD * run.mean()
        if even and 1.0 / run.mean() >= AUTOMATIC_PER_S:
            return True
    return False


def even_run(shots: Sequence[Shot]) -> list[Shot]:
    """Find the longest run of one shooter's shots that keep time as an automatic weapon does.

    Parameters
    ----------
    shots : sequence of Shot
        In order of time.

    Returns
    -------
    list of Shot
        Of the first such run; empty where no two shots follow each other at an automatic weapon's rate.
    """
    best, first, steps, lasted_s = (0, 0), 0, 0, 0.0
    for k, gap_s in enumerate(_gaps_s(shots).tolist()):
        beat_s = lasted_s / steps if steps else gap_s
        missed = min(max(round(gap_s / beat_s), 1), 1 + MISSED_ROUNDS) if beat_s else 1
        if abs(gap_s - missed * beat_s) > EVEN_SHARE * beat_s:
            first, steps, lasted_s, missed = k, 0, 0.0, 1  # another may begin with this very gap
        if not AUTOMATIC_PER_S <= missed / max(gap_s, 1e-3) <= FASTEST_PER_S:
            first, steps, lasted_s = k + 1, 0, 0.0
            continue
        steps, lasted_s = steps + missed, lasted_s + gap_s
        best = max(best, (first, k + 2), key=lambda run: run[1] - run[0])
    return list(shots[best[0] : best[1]])


def motion(shots: Sequence[Shot]) -> Motion | None:
    """Fit a straight line through one shooter's places.

    Parameters
    ----------
    shots : sequence of Shot
        In order of time.

    Returns
    -------
    Motion or None
        Speed and heading; None where there are too few shots to tell, or standing still explains them.
    """
    if len(shots) < MOTION_SHOTS:
        return None
    t = np.array([(shot.origin_ns - shots[0].origin_ns) / NS_PER_S for shot in shots])
    if t[-1] < MOTION_S:
        return None
    places = np.array([(shot.x_m, shot.y_m) for shot in shots])
    t -= t.mean()
    velocity = t @ (places - places.mean(axis=0)) / (t @ t)
    left = places - places.mean(axis=0) - t[:, None] * velocity
    free = max(2 * len(shots) - 4, 1)
    # The scatter seen, and with few shots the scatter usual, whichever is more.
    scatter = max(math.sqrt(float((left**2).sum()) / free), SCATTER_M / math.sqrt(len(shots)))
    sigma = scatter / math.sqrt(float(t @ t))
    speed = math.hypot(*velocity)
    if speed < 2.5 * sigma or speed - SIGMAS_95 * sigma < SLOWEST_M_S:
        return None
    return Motion(
        speed_m_s=round(speed, 2),
        speed_low_m_s=round(max(speed - SIGMAS_95 * sigma, 0.0), 2),
        speed_high_m_s=round(speed + SIGMAS_95 * sigma, 2),
        heading_deg=round(math.degrees(math.atan2(velocity[0], velocity[1])) % 360.0, 1) % 360.0,
    )


def _gaps_s(shots: Sequence[Shot]) -> NDArray[np.float64]:
    first = shots[0].origin_ns if shots else 0
    return np.diff(np.array([(shot.origin_ns - first) / NS_PER_S for shot in shots], dtype=np.float64))


def _apart_m(one: Shot, other: Shot) -> float:
    return math.hypot(one.x_m - other.x_m, one.y_m - other.y_m)


def _reach_m(one: Shot, other: Shot) -> float:
    """Say how far apart two shots of one shooter can seem: the scatter, and what he can have run or driven."""
    gap_s = abs(other.origin_ns - one.origin_ns) / NS_PER_S
    unsure_m = 0.5 * math.hypot(one.ellipse.major_m, other.ellipse.major_m)
    return 3.0 * SCATTER_M + unsure_m + FASTEST_M_S * gap_s
