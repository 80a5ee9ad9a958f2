"""Replay the Pittsburgh live fire from pulses: the whole, six sensors a shot, and two halves of a shot's sensors.

The recordings are found by ``AGLS_SHARED`` or at ``../shared`` beside the project. The vendor's tuples are read here
to know which sensors heard a shot, never by what locates.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
from numpy.typing import NDArray

from agls.config import Locating
from agls.locate import window
from agls.messages import Ellipse, Shot
from agls.replay import read_dataset
from agls.replay.dataset import Recording
from agls.replay.run import run_hub
from agls.replay.score import RecordingScore, ellipse_distance, score_recording
from agls.replay.truth import TrueShot, read_truth
from bench.rows import ANY, Ask, Plan, Row, bootstrap, share_detail, share_row, spread

LIMIT_M = 15.0
GHOST_M = 50.0
SIX = 6
HALF = 4
CHI2_95_2D = 5.991464547107979
CANNOT_TELL = (
    "three of nine positions, handguns, calm air near 0 C, no foliage, no heat; the survey itself is good to 2.5 m"
)
ABSENT = "the Pittsburgh release is not at hand; name the folder above data/ with AGLS_SHARED"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """What could be chosen otherwise.

    Attributes
    ----------
    path_sigma_s : float
        Standard deviation of the paths, a setting of the site [s].
    wider : float
        How many times wider association takes them (`agls.locate.window.WIDER`).
    """

    path_sigma_s: float
    wider: float

    def on(self, case: Case) -> Case:
        """Set a case up so.

        Parameters
        ----------
        case : Case
            The case.

        Returns
        -------
        Case
            The same with this path term in its site.
        """
        site = case.recording.site
        locating = msgspec.structs.replace(site.locating, path_sigma_s=self.path_sigma_s)
        site = msgspec.structs.replace(site, locating=locating)
        return replace(case, recording=replace(case.recording, site=site))


@dataclass(frozen=True)
class Case:
    """One test of the release with its truth.

    Attributes
    ----------
    recording : Recording
        What may be seen.
    truth : tuple of TrueShot
        Every shot fired, in order of time.
    heard_by : tuple of tuple of str
        For each shot, the sensors whose pulse the vendor chose.
    """

    recording: Recording
    truth: tuple[TrueShot, ...]
    heard_by: tuple[tuple[str, ...], ...]

    @property
    def position(self) -> str:
        """Name the firing position.

        Returns
        -------
        str
            Such as ``FP1``.
        """
        return self.recording.name.partition("/")[0]


def find_release() -> Path | None:
    """Find the Pittsburgh release.

    Returns
    -------
    pathlib.Path or None
        Its folder; None where it is not at hand.
    """
    named = os.environ.get("AGLS_SHARED")
    shared = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    release = shared / "data" / "shotspotter-pittsburgh"
    return release if release.is_dir() else None


def read_cases(release: Path) -> list[Case]:
    """Read recordings, truth and tuples.

    Parameters
    ----------
    release : pathlib.Path
        The release.

    Returns
    -------
    list of Case
        In order of name.
    """
    truth: defaultdict[str, list[TrueShot]] = defaultdict(list)
    for shot in read_truth(release, "pittsburgh")[0]:
        truth[shot.recording].append(shot)
    chosen = _chosen_sensors(release)
    return [
        Case(recording, tuple(truth[recording.name]), chosen[recording.name])
        for recording in read_dataset(release, "detections").recordings
    ]


def _chosen_sensors(release: Path) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Say which sensors the vendor chose for each shot, in order of the shots' times as the truth has them."""
    found = {}
    for file in sorted(release.rglob("*.nlos-tuples.json")):
        (pulse_file,) = file.parent.glob("*.allpulses.json")
        pulses = {one["pulse_uuid"]: one for one in json.loads(pulse_file.read_text("utf-8"))}
        shots = [
            [pulses[uuid] for uuid in one["pulse_uuids"] if uuid in pulses]
            for one in json.loads(file.read_text("utf-8"))
        ]
        # All sensors hear the shots of a test in the same order.
        shots.sort(key=lambda own: sorted(pulse["arrival_time_utc"] for pulse in own)[len(own) // 2])
        name = f"{file.parent.parent.name}/{file.parent.name}"
        found[name] = tuple(tuple(sorted({pulse["serial_number"] for pulse in own})) for own in shots)
    return found


def locate(recording: Recording) -> list[Shot]:
    """Run a recording's pulses through a hub, as a replay does.

    Parameters
    ----------
    recording : Recording
        With detections.

    Returns
    -------
    list of Shot
        The last revision of each shot that stands.
    """
    last: dict[str, Shot] = {}
    for item in run_hub(recording, recording.detections):
        if isinstance(item, Shot) and item.revision >= last.get(item.shot_id, item).revision:
            last[item.shot_id] = item
    return [shot for shot in last.values() if shot.state == "located"]


def keep_sensors(recording: Recording, sensors: set[str]) -> Recording:
    """Leave only some sensors of a site, with all they heard.

    Parameters
    ----------
    recording : Recording
        A recording.
    sensors : set of str
        Those that stay.

    Returns
    -------
    Recording
        As if the others had never been built.
    """
    site = msgspec.structs.replace(
        recording.site, sensor=tuple(one for one in recording.site.sensor if one.sensor_id in sensors)
    )
    heard = tuple(one for one in recording.detections if one.sensor_id in sensors)
    return Recording(recording.name, site, detections=heard)


def spread_m2(ellipse: Ellipse) -> Floats:
    """Turn a 95 % ellipse back into a covariance.

    Parameters
    ----------
    ellipse : Ellipse
        As published.

    Returns
    -------
    numpy.ndarray, shape (2, 2)
        Of east and north [m2].
    """
    azimuth = math.radians(ellipse.azimuth_deg)
    along = np.array([math.sin(azimuth), math.cos(azimuth)])
    across = np.array([along[1], -along[0]])
    major, minor = (axis**2 / CHI2_95_2D for axis in (ellipse.major_m, ellipse.minor_m))
    return np.asarray(major * np.outer(along, along) + minor * np.outer(across, across))


# ------------------------------------------------------------------------------------------------- the whole array


def measure_replay(plan: Plan) -> list[Row]:
    """Locate every test with all its pulses.

    Parameters
    ----------
    plan : Plan
        How many processes.

    Returns
    -------
    list of Row
        Tests found, shots within 15 m, ghosts, rounds, scatter, ellipses; by position.
    """
    release = find_release()
    if release is None:
        return [Row("Pittsburgh: shots within 15 m", math.nan, Ask(low=107), note=ABSENT)]
    cases = read_cases(release)
    scores = dict(zip((case.recording.name for case in cases), spread(_score_whole, cases, plan), strict=True))
    by_position: dict[str, list[RecordingScore]] = {}
    for case in cases:
        by_position.setdefault(case.position, []).append(scores[case.recording.name])
    rows = [_counted(figure, by_position, count, ask) for figure, count, ask in _COUNTED]
    return [*rows, *_scatter_rows(by_position), *_ellipse_rows(by_position)]


def _score_whole(case: Case) -> RecordingScore:
    return score_recording(case.recording.name, case.truth, locate(case.recording))


def _errors_m(score: RecordingScore) -> list[float]:
    return [match.error_m for match in score.matches]


_COUNTED: tuple[tuple[str, Any, Ask], ...] = (
    ("Pittsburgh: tests found, of 54", lambda score: score.located_count > 0, Ask(low=54)),
    ("Pittsburgh: shots <= 15 m, of 108", lambda score: sum(e <= LIMIT_M for e in _errors_m(score)), Ask(low=107)),
    ("Pittsburgh: shots <= 5 m, of 108", lambda score: sum(e <= 5.0 for e in _errors_m(score)), ANY),
    ("Pittsburgh: ghosts > 50 m", lambda score: len(score.ghosts), Ask(high=0)),
    ("Pittsburgh: doubles <= 50 m", lambda score: len(score.doubles), ANY),
    (
        "Pittsburgh: round counts exact, of 54",
        lambda score: score.located_count == len(score.matches) and not score.doubles and not score.ghosts,
        Ask(low=53),
    ),
)


def _counted(figure: str, by_position: dict[str, list[RecordingScore]], count: Any, ask: Ask) -> Row:
    by_name = {name: int(sum(count(score) for score in scores)) for name, scores in by_position.items()}
    of = sum(len(scores) for scores in by_position.values())
    return Row(figure, sum(by_name.values()), ask, of, detail=by_name, note=CANNOT_TELL if ask.low == 107 else "")


def _scatter_rows(by_position: dict[str, list[RecordingScore]]) -> list[Row]:
    """Say how shots of one position scatter about their median; what the survey gets wrong does not matter."""
    rows = []
    for name, scores in by_position.items():
        found = [m for score in scores for m in score.matches if m.shot is not None]
        off = np.array([(m.shot.x_m - m.true.x_m, m.shot.y_m - m.true.y_m) for m in found if m.shot is not None])
        if len(off) < 3:
            rows.append(Row(f"Pittsburgh {name}: scatter per axis, 1.48 MAD [m]", math.nan, Ask(high=0.8)))
            continue
        axes = _scatter(off)
        worst = int(axes.argmax())
        rows.append(
            Row(
                f"Pittsburgh {name}: scatter per axis, 1.48 MAD [m]", float(axes[worst]), Ask(high=0.8), len(off),
                bootstrap(off, lambda rows, k=worst: float(_scatter(rows)[k])),  # type: ignore[misc]
                {"x_m": axes[0], "y_m": axes[1], "bias_x_m": np.median(off[:, 0]), "bias_y_m": np.median(off[:, 1]),
                 "within_one_test_x_m": _within_tests(scores, 0), "within_one_test_y_m": _within_tests(scores, 1)},
            )
        )  # fmt: skip
    return rows


def _scatter(off_m: Floats) -> Floats:
    return np.asarray(1.4826 * np.median(np.abs(off_m - np.median(off_m, axis=0)), axis=0))


def _within_tests(scores: list[RecordingScore], axis: int) -> float:
    """Take the same within each test alone, where the shooter stood still."""
    left: list[float] = []
    for score in scores:
        own = [(m.shot.x_m, m.shot.y_m)[axis] for m in score.matches if m.shot is not None]
        left += [abs(one - float(np.median(own))) for one in own if len(own) == 3]
    return 1.4826 * float(np.median(left)) if left else math.nan


def _ellipse_rows(by_position: dict[str, list[RecordingScore]]) -> list[Row]:
    found = {name: [m for s in scores for m in s.matches if m.shot is not None] for name, scores in by_position.items()}
    major = {name: [m.shot.ellipse.major_m for m in matches if m.shot] for name, matches in found.items()}
    every = np.array([one for axes in major.values() for one in axes])
    held = {name: sum(_holds(m.shot, m.true) for m in ms if m.shot) for name, ms in found.items()}
    detail = {name: float(np.median(axes)) for name, axes in major.items() if axes}
    return [
        Row(
            "Pittsburgh: median major semi-axis [m]", float(np.median(every)) if len(every) else math.nan,
            Ask(high=5.0), len(every), bootstrap(every, lambda rows: float(np.median(rows))) if len(every) else None,
            detail,
        ),
        share_row(
            "Pittsburgh: ellipse holds the survey (itself 2.5 m off)", sum(held.values()), len(every),
            detail={name: share_detail(held[name], len(found[name])) for name in found},
        ),
    ]  # fmt: skip


def _holds(shot: Shot, true: TrueShot) -> bool:
    return ellipse_distance(shot.ellipse, true.x_m - shot.x_m, true.y_m - shot.y_m) <= 1.0


# --------------------------------------------------------------------------------------------------- six sensors


def measure_six(plan: Plan) -> list[Row]:
    """Locate each shot with six of the sensors that heard it, drawn again and again, all their pulses kept.

    Parameters
    ----------
    plan : Plan
        How many draws.

    Returns
    -------
    list of Row
        Share within 15 m, by position.
    """
    figure, ask = "Pittsburgh: six sensors, <= 15 m", Ask(low=0.985)
    release = find_release()
    if release is None:
        return [Row(figure, math.nan, ask, note=ABSENT)]
    draws = plan.draws(100, 4)
    items = [(case, shot, draws, plan.first_seed) for case in read_cases(release) for shot in range(len(case.truth))]
    errors: defaultdict[str, list[float]] = defaultdict(list)
    ghosts: defaultdict[str, int] = defaultdict(int)
    for (case, _, _, _), (found, wrong) in zip(items, spread(_six, items, plan), strict=True):
        errors[case.position] += found
        ghosts[case.position] += wrong
    every = [error for own in errors.values() for error in own]
    detail: dict[str, Any] = {}
    for name, own in errors.items():
        good = [one for one in own if math.isfinite(one)]
        detail[name] = share_detail(sum(one <= LIMIT_M for one in own), len(own))
        detail[name] |= {"not_located": len(own) - len(good), "error_median_m": float(np.median(good))}
        detail[name] |= {"error_p95_m": float(np.quantile(good, 0.95)), "ghosts_over_50_m": ghosts[name]}
    return [share_row(figure, sum(one <= LIMIT_M for one in every), len(every), ask, detail=detail)]


def _six(item: tuple[Case, int, int, int]) -> tuple[list[float], int]:
    """Draw sensors for one shot; a shot that is not found is infinitely far off."""
    case, shot, draws, seed = item
    heard_by = case.heard_by[shot]
    rng = np.random.default_rng([seed, _number(case), shot])
    errors, ghosts = [], 0
    for _ in range(draws if len(heard_by) >= SIX else 0):
        sensors = {str(one) for one in rng.choice(heard_by, SIX, replace=False)}
        score = score_recording(case.recording.name, case.truth, locate(keep_sensors(case.recording, sensors)))
        errors.append(score.matches[shot].error_m)
        ghosts += len(score.ghosts)
    return errors, ghosts


def _number(case: Case) -> int:
    return int("".join(mark for mark in case.recording.name if mark.isdigit()))


# ---------------------------------------------------------------------------------- chosen on two, told of the third

CHOOSING_SEED = 0  # settings are chosen on these draws, and reported on others
USUAL = Setting(Locating().path_sigma_s, window.WIDER)
GRID = tuple(dict.fromkeys(
    (USUAL, *(Setting(path_s, wider) for path_s in (0.0045, 0.0055, 0.007) for wider in (1.4, 1.8, 2.2)))
))  # fmt: skip
HELD_OUT = (
    "path term and width of association from a grid of nine; this cannot test other cities: the three positions share"
    " sensors, survey, weather and weapons, and the grid was drawn up by people who had seen all three"
)


def measure_held_out(plan: Plan) -> list[Row]:
    """Choose settings by six sensors a shot on two positions, and report the third, in turn.

    Parameters
    ----------
    plan : Plan
        How many draws.

    Returns
    -------
    list of Row
        Share within 15 m over the three positions, each with what was chosen on the others.
    """
    figure, ask = "Pittsburgh: six sensors, <= 15 m, settings chosen on the other positions", Ask(low=0.985)
    release = find_release()
    if release is None:
        return [Row(figure, math.nan, ask, note=ABSENT)]
    cases = read_cases(release)
    choosing = {setting: _by_position(cases, setting, plan.draws(6, 1), CHOOSING_SEED, plan) for setting in GRID}
    detail: dict[str, Any] = {}
    good = of = 0
    for name in sorted({case.position for case in cases}):
        others = {setting: _share_elsewhere(found, name) for setting, found in choosing.items()}
        chosen = max(others, key=lambda setting: others[setting])  # the first of equals: the usual one is first
        own = [case for case in cases if case.position == name]
        ((count, drawn),) = _by_position(own, chosen, plan.draws(40, 2), plan.first_seed, plan).values()
        ((usual, _),) = _by_position(own, USUAL, plan.draws(40, 2), plan.first_seed, plan).values()
        detail[name] = share_detail(count, drawn) | {"with_the_usual_settings": usual / drawn}
        detail[name] |= {"path_sigma_s": chosen.path_sigma_s, "wider": chosen.wider, "elsewhere": others[chosen]}
        good, of = good + count, of + drawn
    tried = {f"{one.path_sigma_s * 1e3:g} ms x {one.wider:g}": dict(found) for one, found in choosing.items()}
    return [share_row(figure, good, of, ask, detail=detail | {"tried": tried}, note=HELD_OUT)]


def _by_position(
    cases: list[Case], setting: Setting, draws: int, seed: int, plan: Plan
) -> dict[str, tuple[int, int]]:  # fmt: skip
    """Count shots within 15 m by six sensors, and shots drawn, by position."""
    items = [(case, shot, draws, seed) for case in cases for shot in range(len(case.truth))]
    counts: dict[str, tuple[int, int]] = {}
    for (case, *_), (errors, _) in zip(items, spread(partial(_six_set, setting), items, plan), strict=True):
        good, of = counts.get(case.position, (0, 0))
        counts[case.position] = (good + sum(one <= LIMIT_M for one in errors), of + len(errors))
    return counts


def _six_set(setting: Setting, item: tuple[Case, int, int, int]) -> tuple[list[float], int]:
    with patch.object(window, "WIDER", setting.wider):
        return _six((setting.on(item[0]), *item[1:]))


def _share_elsewhere(found: dict[str, tuple[int, int]], name: str) -> float:
    good, of = (sum(column) for column in zip(*(pair for other, pair in found.items() if other != name), strict=True))
    return good / of


# ------------------------------------------------------------------------------------------------------- halves


def measure_halves(plan: Plan) -> list[Row]:
    """Locate each shot twice, by two disjoint halves of its sensors, and see whether the ellipses allow the difference.

    Parameters
    ----------
    plan : Plan
        How many splits.

    Returns
    -------
    list of Row
        Share of differences within the summed 95 % covariances, overall and by position.
    """
    figure = "Pittsburgh: two halves agree within their ellipses"
    release = find_release()
    if release is None:
        return [Row(figure, math.nan, Ask(0.90, 0.98), note=ABSENT)]
    splits = plan.draws(20, 2)
    items = [(case, shot, splits, plan.first_seed) for case in read_cases(release) for shot in range(len(case.truth))]
    pairs: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    lost: defaultdict[str, int] = defaultdict(int)
    for (case, _, _, _), (found, missing) in zip(items, spread(_halves, items, plan), strict=True):
        pairs[case.position] += found
        lost[case.position] += missing
    detail = {}
    for name, own in pairs.items():
        detail[name] = share_detail(sum(square <= CHI2_95_2D for square, _ in own), len(own))
        detail[name] |= {"not_located_by_both": lost[name], "median_apart_m": float(np.median([m for _, m in own]))}
    every = [square for own in pairs.values() for square, _ in own]
    return [
        share_row(figure, sum(one <= CHI2_95_2D for one in every), len(every), Ask(0.90, 0.98), detail=detail,
                  note="intervals take splits as independent; those of one shot are not"),
        Row("Pittsburgh: two halves agree, worst position", min(one["share"] for one in detail.values()),
            Ask(low=0.85), len(every), detail={name: one["share"] for name, one in detail.items()}),
        share_row("Pittsburgh: splits of which a half found nothing", sum(lost.values()),
                  len(every) + sum(lost.values()), detail=dict(lost)),
    ]  # fmt: skip


def _halves(item: tuple[Case, int, int, int]) -> tuple[list[tuple[float, float]], int]:
    """Split the sensors of one shot; hand back squared differences in units of the covariance, and distances [m]."""
    case, shot, splits, seed = item
    heard_by = case.heard_by[shot]
    rng = np.random.default_rng([seed, _number(case), shot, 2])
    found, missing = [], 0
    for _ in range(splits if len(heard_by) >= 2 * HALF else 0):
        mixed = [str(one) for one in rng.permutation(heard_by)]
        halves = (set(mixed[: len(mixed) // 2]), set(mixed[len(mixed) // 2 :]))
        scores = [
            score_recording(case.recording.name, case.truth, locate(keep_sensors(case.recording, half)))
            for half in halves
        ]
        one, other = (score.matches[shot].shot for score in scores)
        if one is None or other is None:
            missing += 1
            continue
        apart = np.array([one.x_m - other.x_m, one.y_m - other.y_m])
        both = spread_m2(one.ellipse) + spread_m2(other.ellipse)
        found.append((float(apart @ np.linalg.solve(both, apart)), float(np.hypot(*apart))))
    return found, missing


# -------------------------------------------------------------------------------------------------- from audio


def measure_audio(plan: Plan) -> list[Row]:
    """Replay the release from its audio.

    Parameters
    ----------
    plan : Plan
        Not used: there is one set of recordings.

    Returns
    -------
    list of Row
        As scored by the replay itself; nothing is asked here.
    """
    from agls.replay import replay

    release = find_release()
    if release is None or plan.quick:
        return [Row("Pittsburgh audio: located", math.nan, note=ABSENT if release is None else "left out when quick")]
    with tempfile.TemporaryDirectory() as folder:
        total: dict[str, Any] = (replay(release, Path(folder), source="audio").score or {})["total"]  # type: ignore[assignment]
    of = total["true_shots_count"]
    return [
        share_row("Pittsburgh audio: located", total["located_count"], of),
        share_row("Pittsburgh audio: <= 15 m", total["within"]["15 m"]["count"], of),
        Row("Pittsburgh audio: ghosts > 50 m", total["ghosts_count"], count=of),
        Row("Pittsburgh audio: doubles <= 50 m", total["doubles_count"], count=of),
        Row("Pittsburgh audio: round counts exact", total["rounds_exact"]["count"], count=total["rounds_exact"]["of"]),
    ]
