"""Score located shots against the truth.

Each true shot is matched with at most one located shot and the other way round: the time must fit where it is known,
the place must lie within 50 m, and of all pairings the one with the most matches and then the least distance counts.
Distances are horizontal. A located shot without a match is a double within 50 m of a place where shots were fired in
its recording, and a ghost beyond; a ghost is called gunfire from a probability of 0.5. Shares are of all true shots,
a missed one being within no distance, with 95 % Wilson intervals.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from agls.messages import Ellipse, Shot
from agls.replay.truth import TrueShot

RADII_M = (5, 10, 15, 25)
GHOST_M = 50.0
CALLED_GUNFIRE_P = 0.5
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Match:
    """A true shot, and the located shot that is it.

    Attributes
    ----------
    true : TrueShot
        What was fired.
    shot : Shot or None
        What was located; None where it was missed.
    error_m : float
        Horizontal distance [m]; infinite where it was missed.
    """

    true: TrueShot
    shot: Shot | None
    error_m: float


@dataclass(frozen=True, slots=True)
class RecordingScore:
    """How one recording was located.

    Attributes
    ----------
    recording : str
        Its name.
    matches : tuple of Match
        One per true shot.
    doubles, ghosts : tuple of Shot
        Located shots that match nothing, within 50 m of the truth and beyond.
    """

    recording: str
    matches: tuple[Match, ...]
    doubles: tuple[Shot, ...]
    ghosts: tuple[Shot, ...]

    @property
    def located_count(self) -> int:
        """Number of true shots that were located.

        Returns
        -------
        int
            Those with a match.
        """
        return sum(match.shot is not None for match in self.matches)


def score_recording(recording: str, truth: Sequence[TrueShot], shots: Sequence[Shot]) -> RecordingScore:
    """Match the shots of one recording with the truth.

    Parameters
    ----------
    recording : str
        Its name.
    truth : sequence of TrueShot
        What was fired in it.
    shots : sequence of Shot
        What was located in it.

    Returns
    -------
    RecordingScore
        The matches and what was left over.
    """
    errors_m = np.array([[_error_m(true, shot) for shot in shots] for true in truth]).reshape(len(truth), len(shots))
    possible = np.array([[_fits(true, shot) for shot in shots] for true in truth], dtype=bool).reshape(errors_m.shape)
    possible &= errors_m <= GHOST_M
    # One match more outweighs any distance; a pairing that cannot be is worth nothing.
    cost = np.where(possible, errors_m - 1e6, 0.0)
    pairs = {int(i): int(j) for i, j in zip(*linear_sum_assignment(cost), strict=True) if possible[i, j]}
    matches = tuple(
        Match(true, shots[pairs[i]], float(errors_m[i, pairs[i]])) if i in pairs else Match(true, None, math.inf)
        for i, true in enumerate(truth)
    )
    left = [j for j in range(len(shots)) if j not in pairs.values()]
    near = {j for j in left if len(truth) and errors_m[:, j].min() <= GHOST_M}
    doubles = tuple(shots[j] for j in left if j in near)
    return RecordingScore(recording, matches, doubles, tuple(shots[j] for j in left if j not in near))


def _error_m(true: TrueShot, shot: Shot) -> float:
    return math.hypot(shot.x_m - true.x_m, shot.y_m - true.y_m)


def _fits(true: TrueShot, shot: Shot) -> bool:
    if true.earliest_ns is None or true.latest_ns is None:
        return True
    return true.earliest_ns <= shot.origin_ns <= true.latest_ns


# -------------------------------------------------------------------------------------------------- what is told


def summarise(scores: Sequence[RecordingScore]) -> dict[str, Any]:
    """Make the document ``score.json`` out of the scores of recordings.

    Parameters
    ----------
    scores : sequence of RecordingScore
        One per recording that has a truth.

    Returns
    -------
    dict
        ``total``, ``recordings`` (by name), ``places`` (shots fired from one place, over all recordings) and
        ``how``, which says what is counted.
    """
    return {
        "how": " ".join((__doc__ or "").partition("\n\n")[2].split()),
        "total": tally(scores),
        "recordings": {score.recording: tally([score]) for score in scores},
        "places": _places(scores),
    }


def tally(scores: Sequence[RecordingScore]) -> dict[str, Any]:
    """Add up the scores of recordings.

    Parameters
    ----------
    scores : sequence of RecordingScore
        One or more recordings.

    Returns
    -------
    dict
        Counts, shares with intervals, and errors [m].
    """
    matches = [match for score in scores for match in score.matches]
    errors_m = sorted(match.error_m for match in matches if match.shot is not None)
    held = sum(match.shot is not None and _holds(match.shot, match.true) for match in matches)
    fired = [score for score in scores if score.matches]
    exact = sum(score.located_count == len(score.matches) and not score.doubles for score in fired)
    return {
        "true_shots_count": len(matches),
        "located_count": len(errors_m),
        "missed_count": len(matches) - len(errors_m),
        "doubles_count": sum(len(score.doubles) for score in scores),
        "ghosts_count": sum(len(score.ghosts) for score in scores),
        "ghosts_called_gunfire_count": sum(
            shot.p_gunshot >= CALLED_GUNFIRE_P for score in scores for shot in score.ghosts
        ),
        "located": share(len(errors_m), len(matches)),
        "within": {f"{r} m": share(sum(error <= r for error in errors_m), len(matches)) for r in RADII_M},
        "error_median_m": _quantile(errors_m, 0.5),
        "error_p90_m": _quantile(errors_m, 0.9),
        "error_p95_m": _quantile(errors_m, 0.95),
        "rounds_exact": share(exact, len(fired)),
        "ellipse95_holds_truth": share(held, len(errors_m)),
        "scatter": _scatter(scores),
    }


def share(count: int, of: int) -> dict[str, Any]:
    """Give a share with its 95 % Wilson interval.

    Parameters
    ----------
    count : int
        How many.
    of : int
        Of how many.

    Returns
    -------
    dict
        ``count``, ``of``, ``share``, ``low``, ``high``; the last three None of nothing.
    """
    if of == 0:
        return {"count": count, "of": 0, "share": None, "low": None, "high": None}
    p, spread = count / of, _Z95**2 / of
    middle = (p + spread / 2) / (1 + spread)
    half = _Z95 * math.sqrt(p * (1 - p) / of + spread / (4 * of)) / (1 + spread)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return {"count": count, "of": of, "share": round(p, 4), "low": round(low, 4), "high": round(high, 4)}


def _quantile(sorted_m: Sequence[float], q: float) -> float | None:
    return round(float(np.quantile(sorted_m, q)), 3) if sorted_m else None


def _holds(shot: Shot, true: TrueShot) -> bool:
    """Tell whether a shot's 95 % ellipse holds the true place."""
    return ellipse_distance(shot.ellipse, true.x_m - shot.x_m, true.y_m - shot.y_m) <= 1.0


def ellipse_distance(ellipse: Ellipse, east_m: float, north_m: float) -> float:
    """Say how far out a place lies in an ellipse: 0 in its middle, 1 on its edge.

    Parameters
    ----------
    ellipse : Ellipse
        The ellipse.
    east_m, north_m : float
        The place seen from its middle [m].

    Returns
    -------
    float
        Distance in units of the ellipse.
    """
    azimuth = math.radians(ellipse.azimuth_deg)
    along_m = east_m * math.sin(azimuth) + north_m * math.cos(azimuth)
    across_m = east_m * math.cos(azimuth) - north_m * math.sin(azimuth)
    return math.hypot(along_m / max(ellipse.major_m, 1e-9), across_m / max(ellipse.minor_m, 1e-9))


def _scatter(scores: Sequence[RecordingScore]) -> dict[str, Any]:
    """Say how located shots of one recording and place scatter about their own mean, per axis."""
    groups: defaultdict[tuple[str, float, float], list[tuple[float, float]]] = defaultdict(list)
    for score in scores:
        for match in score.matches:
            if match.shot is not None:
                groups[score.recording, match.true.x_m, match.true.y_m].append((match.shot.x_m, match.shot.y_m))
    squares, freedom = np.zeros(2), 0
    for spots in groups.values():
        if len(spots) > 1:
            squares += _squares(np.array(spots))
            freedom += len(spots) - 1
    sigma_m = np.sqrt(squares / freedom).round(3).tolist() if freedom else [None, None]
    return {"x_sigma_m": sigma_m[0], "y_sigma_m": sigma_m[1], "degrees_of_freedom": freedom}


def _squares(spots_m: NDArray[np.float64]) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = ((spots_m - spots_m.mean(axis=0)) ** 2).sum(axis=0)
    return squares


def _places(scores: Sequence[RecordingScore]) -> list[dict[str, Any]]:
    """Gather shots fired from one place over all recordings: there the survey's own error shows as an offset."""
    groups: defaultdict[tuple[str, float, float], list[Match]] = defaultdict(list)
    for score in scores:
        for match in score.matches:
            groups[score.recording.rpartition("/")[0], match.true.x_m, match.true.y_m].append(match)
    return [_place(group, x_m, y_m, matches) for (group, x_m, y_m), matches in sorted(groups.items())]


def _place(group: str, x_m: float, y_m: float, matches: Sequence[Match]) -> dict[str, Any]:
    off_m = np.array([(m.shot.x_m - x_m, m.shot.y_m - y_m) for m in matches if m.shot is not None]).reshape(-1, 2)
    place: dict[str, Any] = {"group": group, "x_m": round(x_m, 3), "y_m": round(y_m, 3)}
    place |= {"true_shots_count": len(matches), "located_count": len(off_m)}
    middle = np.median(off_m, axis=0).round(3).tolist() if len(off_m) else [None, None]
    sigma = off_m.std(axis=0, ddof=1).round(3).tolist() if len(off_m) > 1 else [None, None]
    place |= {"median_offset_x_m": middle[0], "median_offset_y_m": middle[1]}
    return place | {"x_sigma_m": sigma[0], "y_sigma_m": sigma[1]}
