"""Evaluate a model on labelled recordings that trained nothing: how often it is right, and whether its ratios mean it.

A recording is called a gunshot when its likeliest impulse is; so its ratio is the highest of its impulses, and that of
a recording in which nothing is heard is lower than any. Intervals come from drawing sources again with replacement,
never clips: a hundred clips of one recording say little more than one.
"""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agls.classify.model import MAX_LLR, Model, probability
from agls.classify.recordings import Hear, Recording
from agls.errors import InputError
from agls.messages import Label, Onset

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Tell = Callable[[str, int, int], None]

SILENT_LLR = -MAX_LLR - 10.0
DRAWS_COUNT = 1_000
BINS_COUNT = 10
PERFECT_COUNT = 20
SNR_EDGES_DB = (16.0, 25.0, 35.0, 50.0)
EVEN = 0.5


@dataclass(frozen=True, slots=True)
class Impulse:
    """One impulse and what a model said of it.

    Attributes
    ----------
    onset_s : float
        When, from the recording's first sample [s].
    truth : Label or None
        What it was; None where nobody can say (an echo, a bolt, a casing).
    called : Label
        What it was called.
    llr : dict of str to float
        Log-likelihood ratios.
    snr_db : float
        Peak over noise.
    clipped : bool
        Whether it reached full scale.
    """

    onset_s: float
    truth: Label | None
    called: Label
    llr: dict[Label, float]
    snr_db: float
    clipped: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """One recording and what a model said of its impulses.

    Attributes
    ----------
    recording : Recording
        The recording.
    seconds : float
        How long it is.
    impulses : tuple of Impulse
        In order of time.
    """

    recording: Recording
    seconds: float
    impulses: tuple[Impulse, ...]

    @property
    def llr(self) -> float:
        """Give the recording's ratio of gunshot.

        Returns
        -------
        float
            The highest of its impulses.
        """
        return max((one.llr["gunshot"] for one in self.impulses), default=SILENT_LLR)


@dataclass(frozen=True)
class Figure:
    """A measured number with its 95 % interval and on how much it rests.

    Attributes
    ----------
    value : float
        The number.
    interval : tuple of float
        From the sources drawn again.
    count : int
        Recordings or impulses.
    sources_count : int
        Sources.
    """

    value: float
    interval: tuple[float, float]
    count: int
    sources_count: int


@dataclass(frozen=True)
class Evaluation:
    """Everything measured of one model.

    Attributes
    ----------
    model : str
        Its name.
    judged : tuple of Judged
        All recordings.
    figures : dict of str to Figure
        By name.
    reliability : dict of str to list
        For each prior the bins: mean probability, share of gunshots, count.
    """

    model: str
    judged: tuple[Judged, ...]
    figures: dict[str, Figure]
    reliability: dict[str, list[tuple[float, float, int]]] = field(default_factory=dict)


def judge(
    recordings: Sequence[Recording], hear: Hear, model: Model, tell: Tell = lambda *_: None
) -> tuple[Judged, ...]:
    """Hear recordings and judge their impulses.

    Parameters
    ----------
    recordings : sequence of Recording
        Labelled.
    hear : callable
        Gives the onsets of samples.
    model : Model
        Who judges.
    tell : callable, optional
        Is told how far it is.

    Returns
    -------
    tuple of Judged
        In the same order.
    """
    out = []
    for number, recording in enumerate(recordings):
        tell("recordings", number, len(recordings))
        wave, rate_hz = recording.read()
        onsets = list(hear(wave, rate_hz))
        truth = {id(onset): label for onset, label in recording.named(onsets)}
        out.append(
            Judged(recording, wave.size / rate_hz, tuple(_judged(one, truth.get(id(one)), model) for one in onsets))
        )
    return tuple(out)


def _judged(onset: Onset, truth: Label | None, model: Model) -> Impulse:
    said = model.examine(onset)
    onset_s = max(0.0, onset.index / onset.sample_rate_hz)
    return Impulse(onset_s, truth, said.label, said.llr, onset.snr_db, onset.clipped)


# ------------------------------------------------------------------------------------------------------- measures


def roc(guns: Floats, others: Floats) -> tuple[Floats, Floats]:
    """Follow recall over false alarms as the threshold falls.

    Parameters
    ----------
    guns, others : numpy.ndarray, shape (n,) and (m,)
        Ratios of gunshots and of the rest.

    Returns
    -------
    false_alarms, recall : numpy.ndarray, shape (k,)
        From 0 to 1.
    """
    every = np.concatenate([guns, others])
    order = np.argsort(-every, kind="stable")
    gun = np.concatenate([np.ones(guns.size), np.zeros(others.size)])[order]
    last = np.append(np.diff(every[order]) != 0, True)  # equal ratios pass the threshold together
    recall = np.cumsum(gun)[last] / max(guns.size, 1)
    false_alarms = np.cumsum(1 - gun)[last] / max(others.size, 1)
    return np.concatenate(([0.0], false_alarms)), np.concatenate(([0.0], recall))


def area(guns: Floats, others: Floats) -> float:
    """Compute the area under the ROC curve: how often a gunshot's ratio is higher than another's.

    Parameters
    ----------
    guns, others : numpy.ndarray, shape (n,) and (m,)
        Ratios.

    Returns
    -------
    float
        0 to 1; not a number if either is empty.
    """
    if not guns.size or not others.size:
        return float("nan")
    false_alarms, recall = roc(guns, others)
    return float(np.trapezoid(recall, false_alarms))


def calibration_error(p: Floats, gunshot: Flags, weight: Floats) -> tuple[float, list[tuple[float, float, int]]]:
    """Compare what was said with what was true, in bins of equal mass.

    Parameters
    ----------
    p : numpy.ndarray, shape (n,)
        Probabilities of gunshot.
    gunshot : numpy.ndarray, shape (n,), bool
        The truth.
    weight : numpy.ndarray, shape (n,)
        What each counts.

    Returns
    -------
    error : float
        Expected calibration error.
    bins : list of tuple
        Mean probability, share of gunshots and count of each bin.
    """
    order = np.argsort(p, kind="stable")
    p, truth, weight = p[order], gunshot[order].astype(float), weight[order]
    mass = np.cumsum(weight) / weight.sum()
    place = np.minimum((mass - weight / weight.sum() / 2) * BINS_COUNT, BINS_COUNT - 1).astype(int)
    total = np.maximum(np.bincount(place, weight, BINS_COUNT), 1e-300)
    said = np.bincount(place, weight * p, BINS_COUNT) / total
    true = np.bincount(place, weight * truth, BINS_COUNT) / total
    counts = np.bincount(place, minlength=BINS_COUNT)
    error = float((np.abs(said - true) * total).sum() / weight.sum())
    return error, [(float(a), float(b), int(n)) for a, b, n in zip(said, true, counts, strict=True) if n]


def excess_calibration_error(llr: Floats, gunshot: Flags, prior: float, rng: np.random.Generator) -> float:
    """Say by how much the calibration error exceeds that of a model that is right about its probabilities.

    Parameters
    ----------
    llr : numpy.ndarray, shape (n,)
        Ratios of gunshot.
    gunshot : numpy.ndarray, shape (n,), bool
        The truth.
    prior : float
        Share of gunshots, by weighting.
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    float
        Error less the mean error where the truth is drawn with the very probabilities said.
    """
    p = np.array([probability(one, prior) for one in llr.tolist()])
    weight = weights_at(gunshot, prior)
    own, _ = calibration_error(p, gunshot, weight)
    # Impulses as said, in the same effective number: the weights stay, the truth is drawn.
    drawn = [calibration_error(p, rng.random(p.size) < p, weight)[0] for _ in range(PERFECT_COUNT)]
    return own - float(np.mean(drawn))


def weights_at(gunshot: Flags, prior: float) -> Floats:
    """Weigh impulses so that gunshots are as frequent as a prior says.

    Parameters
    ----------
    gunshot : numpy.ndarray, shape (n,), bool
        The truth.
    prior : float
        Share of gunshots.

    Returns
    -------
    numpy.ndarray, shape (n,)
        With sum 1.
    """
    guns = max(int(gunshot.sum()), 1), max(int((~gunshot).sum()), 1)
    return np.where(gunshot, prior / guns[0], (1 - prior) / guns[1])


def alarms_interval(count: int, hours: float) -> tuple[float, float]:
    """Give the 95 % interval of a rate.

    Parameters
    ----------
    count : int
        How many were counted.
    hours : float
        In how long.

    Returns
    -------
    tuple of float
        Per hour; for none the upper end is ``3 / hours``.
    """
    # Byar's approximation of the exact Poisson interval; within 1 % from one on.
    low = count * (1 - 1 / (9 * count) - 1.96 / (3 * np.sqrt(count))) ** 3 if count else 0.0
    more = count + 1
    high = more * (1 - 1 / (9 * more) + 1.96 / (3 * np.sqrt(more))) ** 3 if count else 3.0
    return float(low / hours), float(high / hours)


# -------------------------------------------------------------------------------------------------- evaluation


def evaluate(
    judged: Sequence[Judged], model: str, *, apart: Sequence[str] = ("fireworks",), draws_count: int = DRAWS_COUNT
) -> Evaluation:
    """Measure what a model said.

    Parameters
    ----------
    judged : sequence of Judged
        From `judge`.
    model : str
        Its name.
    apart : sequence of str
        Kinds that are told apart from the mean of the others.
    draws_count : int
        How often sources are drawn again.

    Returns
    -------
    Evaluation
        Figures with intervals.

    Raises
    ------
    InputError
        If there are no gunshots or nothing else.
    """
    guns = [one for one in judged if one.recording.label == "gunshot"]
    others = [one for one in judged if one.recording.label != "gunshot"]
    if not guns or not others:
        raise InputError("the recordings hold only gunshots or none; both are needed to evaluate a model")
    kinds = sorted({one.recording.kind for one in others})
    rest = [kind for kind in kinds if kind not in apart]
    figures = {"area under ROC, all others": _drawn(judged, draws_count, lambda part: _area(part, kinds))}
    if rest and len(rest) < len(kinds):
        figures[f"area under ROC, without {', '.join(apart)}"] = _drawn(judged, draws_count, lambda p: _area(p, rest))
    figures["recall at even prior"] = _drawn(guns, draws_count, called_share)
    if rest:
        chosen = [one for one in others if one.recording.kind in rest]
        figures["false alarms at even prior, mean over classes"] = _drawn(chosen, draws_count, _mean_over_kinds)
    for kind in kinds:
        mine = [one for one in others if one.recording.kind == kind]
        figures[f"{kind} called gunshot"] = _drawn(mine, draws_count, called_share)
    figures |= _by_condition(guns, others, draws_count) | _rates(others)
    reliability = {}
    for name, prior in (("50:50", 0.5), ("1:99", 0.01)):
        figure, bins = _calibration(judged, prior, draws_count // 5)
        figures[f"excess calibration error at {name}"], reliability[name] = figure, bins
    return Evaluation(model, tuple(judged), figures, reliability)


def called_share(part: Sequence[Judged]) -> float:
    """Say which share of recordings is called a gunshot at even prior.

    Parameters
    ----------
    part : sequence of Judged
        Some recordings.

    Returns
    -------
    float
        0 to 1.
    """
    return float(np.mean([one.llr > 0 for one in part]))


def _mean_over_kinds(part: Sequence[Judged]) -> float:
    kinds = {one.recording.kind for one in part}
    return float(np.mean([called_share([one for one in part if one.recording.kind == kind]) for kind in kinds]))


def _area(part: Sequence[Judged], kinds: Sequence[str]) -> float:
    guns = np.array([one.llr for one in part if one.recording.label == "gunshot"])
    others = np.array([one.llr for one in part if one.recording.label != "gunshot" and one.recording.kind in kinds])
    return area(guns, others)


def _drawn(part: Sequence[Judged], draws_count: int, measure: Callable[[Sequence[Judged]], float]) -> Figure:
    """Measure, and again with the sources of each kind drawn with replacement."""
    sources: dict[str, dict[str, list[Judged]]] = {}
    for one in part:
        sources.setdefault(one.recording.kind, {}).setdefault(one.recording.group, []).append(one)
    rng = np.random.default_rng(20)
    values = []
    for _ in range(draws_count):
        again: list[Judged] = []
        for groups in sources.values():
            every = list(groups.values())
            for at in rng.integers(0, len(every), len(every)).tolist():
                again += every[at]
        values.append(measure(again))
    low, high = np.nanquantile(values, [0.025, 0.975]) if values else (float("nan"),) * 2
    return Figure(measure(part), (float(low), float(high)), len(part), sum(map(len, sources.values())))


def _by_condition(guns: Sequence[Judged], others: Sequence[Judged], draws_count: int) -> dict[str, Figure]:
    """Tell recall and false alarms by signal-to-noise and clipping of the impulse that decided."""
    out: dict[str, Figure] = {}
    tests: dict[str, Callable[[Impulse], bool]] = {
        "clipped": lambda one: one.clipped,
        "not clipped": lambda one: not one.clipped,
    }
    for low, high in pairwise((*SNR_EDGES_DB, float("inf"))):
        tests[f"{low:g} to {high:g} dB"] = partial(_is_between, low, high)
    for name, holds in tests.items():
        for what, part in (("recall", guns), ("false alarms", others)):
            mine = [one for one in part if one.impulses and holds(_deciding(one))]
            if mine:
                out[f"{what}, {name}"] = _drawn(mine, draws_count // 5, called_share)
    return out


def _is_between(low_db: float, high_db: float, one: Impulse) -> bool:
    return low_db <= one.snr_db < high_db


def _deciding(one: Judged) -> Impulse:
    return max(one.impulses, key=lambda impulse: impulse.llr["gunshot"])


def _rates(others: Sequence[Judged]) -> dict[str, Figure]:
    """Count impulses called gunshot in all that is none, for each hour, at even prior and at one in a thousand."""
    hours = sum(one.seconds for one in others) / 3600
    out = {}
    for name, prior in (("even prior", EVEN), ("prior 0.001", 0.001)):
        count = sum(probability(impulse.llr["gunshot"], prior) > EVEN for one in others for impulse in one.impulses)
        interval = alarms_interval(count, hours)
        out[f"impulses called gunshot an hour, {name}, in {hours:.3g} h"] = Figure(
            count / hours, interval, count, len({one.recording.group for one in others})
        )
    return out


def known(judged: Iterable[Judged]) -> tuple[Floats, Flags, list[str]]:
    """Gather the impulses of which somebody knows what they are.

    Parameters
    ----------
    judged : iterable of Judged
        Recordings.

    Returns
    -------
    llr : numpy.ndarray, shape (n,)
        Ratios of gunshot.
    gunshot : numpy.ndarray, shape (n,), bool
        The truth.
    sources : list of str
        Where each is from.
    """
    rows = [
        (impulse.llr["gunshot"], impulse.truth == "gunshot", one.recording.group)
        for one in judged
        for impulse in one.impulses
        if impulse.truth is not None
    ]
    llr, gunshot = np.array([row[0] for row in rows], float), np.array([row[1] for row in rows], bool)
    return llr, gunshot, [row[2] for row in rows]


def _calibration(
    judged: Sequence[Judged], prior: float, draws_count: int
) -> tuple[Figure, list[tuple[float, float, int]]]:
    llr, gunshot, sources = known(judged)
    rng = np.random.default_rng(21)
    value = excess_calibration_error(llr, gunshot, prior, rng)
    members: dict[str, list[int]] = {}
    for number, name in enumerate(sources):
        members.setdefault(name, []).append(number)
    every = list(members.values())
    values = []
    for _ in range(draws_count):
        chosen = np.concatenate([every[at] for at in rng.integers(0, len(every), len(every)).tolist()])
        values.append(excess_calibration_error(llr[chosen], gunshot[chosen], prior, rng))
    low, high = np.quantile(values, [0.025, 0.975]) if values else (float("nan"),) * 2
    p = np.array([probability(one, prior) for one in llr.tolist()])
    _, bins = calibration_error(p, gunshot, weights_at(gunshot, prior))
    return Figure(value, (float(low), float(high)), len(llr), len(every)), bins


def differences(new: Evaluation, old: Evaluation, draws_count: int = DRAWS_COUNT) -> dict[str, Figure]:
    """Compare two models on the same recordings, sources drawn again together.

    Parameters
    ----------
    new, old : Evaluation
        Of the same recordings in the same order.
    draws_count : int
        How often sources are drawn again.

    Returns
    -------
    dict of str to Figure
        New less old.
    """
    pairs = {id(one): other for one, other in zip(new.judged, old.judged, strict=True)}
    guns = [one for one in new.judged if one.recording.label == "gunshot"]
    others = [one for one in new.judged if one.recording.label != "gunshot"]
    kinds = sorted({one.recording.kind for one in others})

    def _less(measure: Callable[[Sequence[Judged]], float]) -> Callable[[Sequence[Judged]], float]:
        return lambda part: measure(part) - measure([pairs[id(one)] for one in part])

    return {
        "area under ROC, all others": _drawn(new.judged, draws_count, _less(lambda part: _area(part, kinds))),
        "recall at even prior": _drawn(guns, draws_count, _less(called_share)),
        "false alarms at even prior, mean over classes": _drawn(others, draws_count, _less(_mean_over_kinds)),
    }


def as_json(evaluations: Sequence[Evaluation], compared: dict[str, Figure]) -> str:
    """Write figures as JSON.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        Of each model.
    compared : dict of str to Figure
        From `differences`; may be empty.

    Returns
    -------
    str
        Indented, ending in a newline.
    """
    whole = {
        "models": [
            {
                "model": one.model,
                "figures": _plain(one.figures),
                "reliability": one.reliability,
                "called gunshot by source": _by_source(one.judged),
            }
            for one in evaluations
        ],
        "differences": _plain(compared),
    }
    return json.dumps(whole, indent=1) + "\n"


def _by_source(judged: Iterable[Judged]) -> dict[str, dict[str, list[int]]]:
    """Count for each source of each kind its recordings called gunshot, and all."""
    out: dict[str, dict[str, list[int]]] = {}
    for one in judged:
        counts = out.setdefault(one.recording.kind, {}).setdefault(one.recording.group, [0, 0])
        counts[0] += one.llr > 0
        counts[1] += 1
    return out


def _plain(figures: dict[str, Figure]) -> dict[str, Any]:
    def _number(value: float) -> float | None:
        return round(value, 5) if np.isfinite(value) else None

    return {
        name: {"value": _number(one.value), "interval": [_number(end) for end in one.interval], "count": one.count,
               "sources": one.sources_count}
        for name, one in figures.items()
    }  # fmt: skip


def write_labels(path: Path, judged: Iterable[Judged]) -> None:
    """Write what was said of every impulse as CSV.

    Parameters
    ----------
    path : pathlib.Path
        The CSV to write.
    judged : iterable of Judged
        Recordings.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "source", "kind", "truth", "onset_s", "label", "llr_gunshot", "snr_db", "clipped"))
        for one in judged:
            about = (str(one.recording.path), one.recording.group, one.recording.kind)
            for impulse in one.impulses:
                said = (f"{impulse.onset_s:.6f}", impulse.called, f"{impulse.llr['gunshot']:.4f}")
                writer.writerow((*about, impulse.truth or "", *said, f"{impulse.snr_db:.1f}", int(impulse.clipped)))
