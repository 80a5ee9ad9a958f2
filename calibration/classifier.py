"""Calibrate what a model says on one node by recordings of which somebody knows what they hold.

    agls classify recordings/*.wav --out scores.csv
    agls calibrate classifier --scores scores.csv --labels labels.csv --node NODE.toml --out NEW.toml

`labels.csv` has ``file,label`` and perhaps ``sensor_id`` (which node recorded it) and ``onset_s`` (which impulse of the
file it is; without it a gunshot is the one most like gunfire, another sound its first). The log-likelihood ratio of
gunshot is stretched and shifted, so that order is kept: ``slope * ratio + offset``, fitted by logistic regression free
of the share of gunshots among the labels (Platt's method in the space of ratios). A node begins where the other nodes'
labelled recordings lead and departs from that as far as its own tell; one with too few of its own takes what all of
them say together.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize

from agls.config import load_node
from agls.errors import InputError
from agls.replay.csv_rows import Row, read_rows
from calibration.tables import ALL, write_table

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

FEWEST = 5  # labelled sounds of each kind with which a node may depart from the others
LEAST_P = 5e-5  # `agls classify` writes four decimals
SAME_ONSET_S = 0.05
# Before anything is labelled: slopes within a factor of e of one, offsets within three nats.
WIDE = np.diag([1.0, 9.0])
# So much do nodes differ from each other.
BETWEEN_NODES = np.diag([0.3**2, 1.0])
EDGES = (0.0, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0)
FOLDS = 5
SLOPES, OFFSETS = (1e-3, 10.0), (-20.0, 20.0)  # as a node file accepts them


@dataclass(frozen=True)
class Labelled:
    """Judged sounds of which somebody knows what they were.

    Attributes
    ----------
    llr : numpy.ndarray, shape (n,)
        What the model said: log-likelihood ratio of gunshot.
    gunshot : numpy.ndarray, shape (n,), bool
        What they were.
    sensor_id : tuple of str
        Who recorded each; empty where nobody says.
    left_out : dict of str to int
        Labels that could not be used, by reason.
    """

    llr: Floats
    gunshot: Flags
    sensor_id: tuple[str, ...]
    left_out: dict[str, int]


@dataclass(frozen=True)
class Line:
    """A stretch and a shift of ratios.

    Attributes
    ----------
    slope, offset : float
        ``slope * ratio + offset`` is the corrected ratio.
    covariance : numpy.ndarray, shape (2, 2)
        Of the slope's logarithm and the offset.
    """

    slope: float
    offset: float
    covariance: Floats

    def __call__(self, llr: Floats) -> Floats:
        """Correct ratios.

        Parameters
        ----------
        llr : numpy.ndarray, shape (n,)
            As the model gives them.

        Returns
        -------
        numpy.ndarray, shape (n,)
            Corrected.
        """
        return self.slope * llr + self.offset

    def sigma(self, llr: float) -> float:
        """Say how sure a corrected ratio is.

        Parameters
        ----------
        llr : float
            As the model gives it.

        Returns
        -------
        float
            One standard deviation.
        """
        direction = np.array([self.slope * llr, 1.0])
        return math.sqrt(float(direction @ self.covariance @ direction))


@dataclass(frozen=True)
class Calibration:
    """What was found for a node.

    Attributes
    ----------
    line : Line
        The correction.
    gunshots_count, others_count : int
        The node's own labelled sounds.
    pooled : bool
        Whether it has too few and takes what all nodes say.
    costs : tuple of float
        Bits lost for each sound at even prior: as the model says, corrected (on sounds not fitted to), and by the best
        curve of any shape that keeps the order (fitted to the same sounds: a bound).
    table : tuple of tuple
        Reliability: from, to, how many sounds, what was said and what was true, with its 95 % interval, at even prior.
    """

    line: Line
    gunshots_count: int
    others_count: int
    pooled: bool
    costs: tuple[float, float, float]
    table: tuple[tuple[float, float, int, float, float, float, float], ...]

    def lines(self) -> list[str]:
        """Tell it, for a person.

        Returns
        -------
        list of str
            Sentences and a table.
        """
        line, (said, corrected, best) = self.line, self.costs
        slope_sigma, offset_sigma = line.slope * math.sqrt(line.covariance[0, 0]), math.sqrt(line.covariance[1, 1])
        own = f"{self.gunshots_count} gunshots and {self.others_count} other sounds of this node are labelled"
        whose = f"too few ({FEWEST} of each are needed), so all nodes' are used" if self.pooled else "its own are used"
        sure = ", ".join(
            f"{ratio:+d}: {float(line(np.array(ratio))):+.2f} +-{line.sigma(ratio):.2f}" for ratio in (-5, 0, 5)
        )
        rows = [
            f"said {low:.2f} to {high:.2f}: {count} sounds, said {told:.3f} on average, true {true:.3f}"
            f" ({least:.3f} to {most:.3f})"
            for low, high, count, told, true, least, most in self.table
        ]
        return [
            f"{own}; {whose}",
            f"slope {line.slope:.3f} +-{slope_sigma:.3f}, offset {line.offset:+.3f} +-{offset_sigma:.3f}",
            f"what ratios become: {sure}",
            f"bits lost a sound: {said:.3f} as the model says, {corrected:.3f} corrected, {best:.3f} by the best curve",
            *rows,
        ]


def calibrate(labelled: Labelled, sensor_id: str) -> Calibration:
    """Find how to correct a node's ratios.

    Parameters
    ----------
    labelled : Labelled
        Labelled sounds of this and other nodes.
    sensor_id : str
        Which node.

    Returns
    -------
    Calibration
        The correction, and how well it holds.

    Raises
    ------
    InputError
        If there are too few labelled sounds in all.
    """
    own = np.array([one == sensor_id for one in labelled.sensor_id], dtype=bool)
    guns, others = int((own & labelled.gunshot).sum()), int((own & ~labelled.gunshot).sum())
    pooled = min(guns, others) < FEWEST
    if pooled:
        own = np.ones(len(own), dtype=bool)
    if min(int(labelled.gunshot[own].sum()), int((~labelled.gunshot[own]).sum())) < FEWEST:
        raise InputError(
            f"{labelled.gunshot.sum()} gunshots and {(~labelled.gunshot).sum()} other sounds are labelled and judged;"
            f" at least {FEWEST} of each are needed, better fifty{_reasons(labelled.left_out)}"
        )
    prior = _prior(labelled, ~own)
    llr, truth = labelled.llr[own], labelled.gunshot[own]
    line = fit_line(llr, truth, *prior)
    if pooled:
        line = replace(line, covariance=line.covariance + BETWEEN_NODES)
    unseen = _unseen(llr, truth, prior)
    costs = cost_bits(llr, truth), cost_bits(unseen, truth), cost_bits(_best(llr, truth), truth)
    return Calibration(line, guns, others, pooled, costs, tuple(reliability(unseen, truth)))


def _reasons(left_out: dict[str, int]) -> str:
    return "".join(f"; {count} {reason}" for reason, count in left_out.items())


def _prior(labelled: Labelled, others: Flags) -> tuple[Floats, Floats]:
    """Say what other nodes lead to expect: their line, as sure as it is and as nodes are alike."""
    llr, truth = labelled.llr[others], labelled.gunshot[others]
    if min(int(truth.sum()), int((~truth).sum())) < FEWEST:
        return np.zeros(2), WIDE
    line = fit_line(llr, truth, np.zeros(2), WIDE)
    return np.array([math.log(line.slope), line.offset]), line.covariance + BETWEEN_NODES


def fit_line(llr: Floats, gunshot: Flags, mean: Floats, covariance: Floats) -> Line:
    """Fit the line that makes the labels likeliest, under what is expected of it.

    Parameters
    ----------
    llr : numpy.ndarray, shape (n,)
        What the model said.
    gunshot : numpy.ndarray, shape (n,), bool
        What it was; both kinds.
    mean : numpy.ndarray, shape (2,)
        Expected logarithm of the slope, and offset.
    covariance : numpy.ndarray, shape (2, 2)
        How sure that is.

    Returns
    -------
    Line
        The line.
    """
    odds = math.log(gunshot.sum() / (~gunshot).sum())  # of a gunshot among the labels: no node's prior
    firm, sign = np.linalg.inv(covariance), np.where(gunshot, 1.0, -1.0)

    def _cost(unknown: Floats) -> tuple[float, Floats]:
        ratio = math.exp(unknown[0]) * llr + unknown[1] + odds
        pull = -sign * _chance(-sign * ratio)
        slopes = np.column_stack([math.exp(unknown[0]) * llr, np.ones(len(llr))])
        away = unknown - mean
        return float(np.logaddexp(0.0, -sign * ratio).sum() + away @ firm @ away / 2), slopes.T @ pull + firm @ away

    edges = [(math.log(SLOPES[0]), math.log(SLOPES[1])), OFFSETS]
    found = minimize(_cost, mean, jac=True, method="L-BFGS-B", bounds=edges, options={"ftol": 1e-14, "gtol": 1e-9}).x
    slope, offset = math.exp(found[0]), float(found[1])
    chance = _chance(slope * llr + offset + odds)
    slopes = np.column_stack([slope * llr, np.ones(len(llr))])
    information = slopes.T @ (slopes * (chance * (1 - chance))[:, None]) + firm
    return Line(slope, offset, np.linalg.inv(information))


def _chance(log_odds: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0.0, -log_odds)))


def _unseen(llr: Floats, gunshot: Flags, prior: tuple[Floats, Floats]) -> Floats:
    """Correct each sound by a line that was fitted without it: every fifth of each kind is left out in turn."""
    turn = np.zeros(len(llr), np.int64)
    for kind in (True, False):
        turn[gunshot == kind] = np.arange(int((gunshot == kind).sum())) % FOLDS
    corrected = np.zeros(len(llr))
    for fold in range(FOLDS):
        rest = turn != fold
        corrected[~rest] = fit_line(llr[rest], gunshot[rest], *prior)(llr[~rest])
    return corrected


def cost_bits(llr: Floats, gunshot: Flags) -> float:
    """Say what ratios cost who decides by them: 0 for perfect ones, 1 for ones that say nothing.

    Parameters
    ----------
    llr : numpy.ndarray, shape (n,)
        Log-likelihood ratios.
    gunshot : numpy.ndarray, shape (n,), bool
        What the sounds were; both kinds.

    Returns
    -------
    float
        Bits a sound, gunshots and others counting alike.

    References
    ----------
    N. Brummer, J. du Preez, "Application-independent evaluation of speaker detection", Comput. Speech Lang. 20, 2006.
    """
    missed, alarmed = np.logaddexp(0.0, -llr[gunshot]).mean(), np.logaddexp(0.0, llr[~gunshot]).mean()
    return float((missed + alarmed) / 2 / math.log(2))


def _best(llr: Floats, gunshot: Flags) -> Floats:
    """Give the ratios of the best curve that keeps the order (isotonic regression)."""
    weight = np.where(gunshot, 0.5 / gunshot.sum(), 0.5 / (~gunshot).sum())
    values, groups = np.unique(llr, return_inverse=True)
    mass = np.bincount(groups, weight)
    share = np.bincount(groups, weight * gunshot) / mass
    fitted = np.clip(isotonic_regression(share, weights=mass).x, 1e-12, 1 - 1e-12)
    return np.asarray(np.log(fitted / (1 - fitted))[groups]) if len(values) else llr


def reliability(llr: Floats, gunshot: Flags) -> Iterator[tuple[float, float, int, float, float, float, float]]:
    """Compare what was said with what was true, at even prior.

    Parameters
    ----------
    llr : numpy.ndarray, shape (n,)
        Log-likelihood ratios.
    gunshot : numpy.ndarray, shape (n,), bool
        What the sounds were.

    Yields
    ------
    tuple
        From, to, how many, mean of what was said, share that was true, and its 95 % interval.
    """
    said = _chance(llr)
    weight = np.where(gunshot, 0.5 / max(gunshot.sum(), 1), 0.5 / max((~gunshot).sum(), 1))
    for low, high in pairwise(EDGES):
        here = (said >= low) & ((said < high) | (high == 1.0))
        if not here.any():
            continue
        own = weight[here]
        true, told = float(own @ gunshot[here] / own.sum()), float(own @ said[here] / own.sum())
        count = float(own.sum() ** 2 / (own**2).sum())  # as many sounds of equal weight
        yield low, high, int(here.sum()), told, true, *_interval(true, count)


def _interval(share: float, count: float) -> tuple[float, float]:
    """Give the 95 % Wilson interval of a share."""
    square = 1.959964**2 / count
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


# ------------------------------------------------------------------------------------------------------------ reading


def read_labelled(scores: Path, labels: Path) -> Labelled:
    """Join what the model said with what sounds were.

    Parameters
    ----------
    scores : pathlib.Path
        What `agls classify` wrote.
    labels : pathlib.Path
        CSV with ``file,label``, perhaps ``sensor_id`` and ``onset_s``.

    Returns
    -------
    Labelled
        The sounds that have both.

    Raises
    ------
    InputError
        If a file cannot be read, or a label names a recording that was not judged.
    """
    judged: defaultdict[str, list[Row]] = defaultdict(list)
    for row in read_rows(scores, ("file", "onset_s", "label", "p_gunshot")):
        judged[row.name("file")].append(row)
    names = _by_short_name(list(judged))
    ratios, truths, sensors, left_out = [], [], [], Counter[str]()
    for row in read_rows(labels, ("file", "label")):
        file = row.name("file")
        known = file if file in judged else names.get(Path(file).name, "")
        if not known:
            raise InputError(
                f"{row.where('file')}: {file!r} is in no row of {scores}; name a recording as it stands there"
            )
        heard = _heard(judged[known], row)
        if heard is None:
            left_out["not heard by the node"] += 1
            continue
        p = min(max(heard.number("p_gunshot", 0, 1), LEAST_P), 1 - LEAST_P)
        ratios.append(math.log(p / (1 - p)))
        truths.append(row.name("label") == "gunshot")
        sensors.append(row.identifier("sensor_id") if row.has("sensor_id") else "")
    return Labelled(np.array(ratios), np.array(truths, dtype=bool), tuple(sensors), dict(left_out))


def _by_short_name(names: Sequence[str]) -> dict[str, str]:
    """Find recordings by their name without folders, where that is clear."""
    counts = Counter(Path(name).name for name in names)
    return {Path(name).name: name for name in names if counts[Path(name).name] == 1}


def _heard(rows: Sequence[Row], label: Row) -> Row | None:
    """Find the impulse a label means: the one at its onset.

    Without one a gunshot is the impulse most like gunfire, for a clip of a shot holds its echoes too; another sound is
    its first, for the most like gunfire of many harmless ones says more than any of them.
    """
    impulses = [row for row in rows if row.has("onset_s")]
    if label.has("onset_s"):
        onset_s = label.number("onset_s", 0, 1e6, "s")
        impulses = [row for row in impulses if abs(row.number("onset_s", 0, 1e6, "s") - onset_s) <= SAME_ONSET_S]
    if label.name("label") == "gunshot":
        return max(impulses, key=lambda row: row.number("p_gunshot", 0, 1), default=None)
    return min(impulses, key=lambda row: row.number("onset_s", 0, 1e6, "s"), default=None)


# ------------------------------------------------------------------------------------------------------- the command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``agls calibrate classifier``.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where they go.
    """
    parser.add_argument("--scores", type=Path, metavar="CSV", required=True, help="what `agls classify` wrote")
    parser.add_argument("--labels", type=Path, metavar="CSV", required=True, help="file,label[,sensor_id][,onset_s]")
    parser.add_argument("--node", type=Path, metavar="NODE.toml", required=True, help="the node's file as it is")
    parser.add_argument("--out", type=Path, metavar="NEW.toml", required=True, help="the node file to write")


def run(arguments: argparse.Namespace) -> int:
    """Run ``agls calibrate classifier``.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` defines them.

    Returns
    -------
    int
        Exit code 0.

    Raises
    ------
    InputError
        If anything given cannot be used.
    """
    node = load_node(arguments.node)
    labelled = read_labelled(arguments.scores, arguments.labels)
    found = calibrate(labelled, node.sensor_id)
    lines = [*found.lines(), *(f"{count} labelled sounds {reason}" for reason, count in labelled.left_out.items())]
    classification = msgspec.structs.replace(
        node.classification, gunshot_slope=round(found.line.slope, 5), gunshot_offset=round(found.line.offset, 5)
    )
    new = msgspec.structs.replace(node, classification=classification)
    remarks = {ALL: ["Made by `agls calibrate classifier`."], ("classification",): lines}
    write_table(arguments.out, new, remarks, source=arguments.node)
    print("\n".join(lines))
    return 0
