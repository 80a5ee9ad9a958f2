"""Train a model: hear, describe, fit, calibrate on what was held out, write one JSON file and its card.

Runs on a workstation, never on a node: scikit-learn is imported inside the functions that fit. Splits are by source,
never by clip: each Pittsburgh firing position is judged by models that never heard that position, and so is each part
of the other collections. The same recordings, seed and versions give the same file.

Many small networks, each of which sees half of the features, generalise to other guns and microphones where one
that sees all does not: it leans on whatever the training happens to have in common.
"""

import base64
import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agls.classify.examples import CLASSES, FOLDS, MADE, Table, Tell, tabulate
from agls.classify.features import FEATURE_NAMES
from agls.classify.model import FORMAT, MAX_DEVIATION, SIGNED, Networks, content_sha256, load_model, log_ratios
from agls.classify.recordings import Hear, Recording
from agls.classify.signature import public_key, sign
from agls.errors import InputError
from agls.messages import Label

Floats = NDArray[np.float64]

MADE_COUNT, NETWORKS_COUNT, JUDGES_COUNT = 12_000, 16, 8
FEATURES_SHARE, HIDDEN_COUNT, DECAY, ROUNDS, BATCH = 0.5, 48, 0.01, 25, 256
AXES_COUNT = 12
FAR_QUANTILE = 0.995
# A class that a fit has not seen must not win.
UNSEEN_SCORE = -20.0
# What the classes count in the fit: gunshots nearly half, the rest by how much of it a city has to be told from them.
SHARES: dict[Label, float] = {
    "gunshot": 0.45, "firework": 0.14, "backfire": 0.025, "tool": 0.1, "pop": 0.025, "thunder": 0.01, "vehicle": 0.05,
    "other": 0.2,
}  # fmt: skip
# Shots that a city's sensors heard count more than as many made ones: with 1, 0.5 and 0.15 for them 94, 90 and 81 % of
# those at a position held out are recognised, with 2 96 %; what is lost are shots recorded close by, against fireworks.
GUN_WEIGHTS = {"pittsburgh": 2.5}

SOURCES = {
    "pittsburgh": (
        "ShotSpotter sample live fire test data, Pittsburgh 2018 (FP1, FP6, FP8)",
        "CC BY 4.0",
        "ShotSpotter, Inc., Technical Note 098, github.com/ShotSpotter/research.accuracy-of-gunshot-location",
    ),
    "esc10": (
        "ESC-10, folds 1-4",
        "CC BY 3.0 (the clips used: CC0 or CC BY)",
        "K. J. Piczak, ESC-10: Environmental Sound Classification, doi:10.7910/DVN/YDEPUT; Freesound authors",
    ),
    "cdda": (
        "CC-Sounds for Cataclysm: DDA",
        "CC0 or CC BY 3.0-4.0 per file",
        "Fris0uman and contributors, github.com/Fris0uman/CDDA-Soundpacks; authors per file in its credits.md",
    ),
    "opensoundscape": (
        "OpenSoundscape test recordings for localization",
        "MIT",
        "Kitzes Lab, University of Pittsburgh, github.com/kitzeslab/opensoundscape",
    ),
    MADE: ("Sounds made by agls.classify.synthesis", "Apache-2.0", "AGLS"),
}
CAUTION = (
    "Real guns in the training are handguns in one city in winter and ten others; all other guns, fireworks, backfires"
    " and popping bags in it are made. The Pittsburgh positions FP1, FP6 and FP8 trained it: figures from replaying"
    " them are partly on trained data; the metrics here are from models that had not heard the position. No field"
    " recording tested it: false alarms a day are unknown."
)


@dataclass(frozen=True)
class Fitted:
    """What a fit finds.

    Attributes
    ----------
    mean, scale : numpy.ndarray, shape (feature_count,)
        Of the features.
    networks : Networks
        What judges.
    """

    mean: Floats
    scale: Floats
    networks: Networks

    def ratios(self, rows: NDArray[np.float32]) -> Floats:
        """Weigh features, before calibration.

        Parameters
        ----------
        rows : numpy.ndarray, shape (examples, feature_count)
            Features.

        Returns
        -------
        numpy.ndarray, shape (examples, classes), float64
            Log-likelihood ratios.
        """
        return np.array(
            [log_ratios(self.networks.scores(row), LOG_PRIOR) for row in standardised(rows, self.mean, self.scale)]
        )


def standardised(rows: NDArray[Any], mean: Floats, scale: Floats) -> Floats:
    """Standardise features.

    Parameters
    ----------
    rows : numpy.ndarray, shape (examples, feature_count)
        Features.
    mean, scale : numpy.ndarray, shape (feature_count,)
        Of the training's features.

    Returns
    -------
    numpy.ndarray, shape (examples, feature_count), float64
        Within `MAX_DEVIATION`.
    """
    return np.asarray(np.clip((rows - mean) / scale, -MAX_DEVIATION, MAX_DEVIATION))


LOG_PRIOR = np.log([SHARES[label] for label in CLASSES])


def weights(table: Table) -> Floats:
    """Weigh examples so that classes count as `SHARES` says, and shots heard in a city more than made ones.

    Parameters
    ----------
    table : Table
        The examples.

    Returns
    -------
    numpy.ndarray, shape (examples,)
        With sum 1.
    """
    gun = table.labels == CLASSES.index("gunshot")
    share = np.where(gun, [GUN_WEIGHTS.get(name, 1.0) for name in table.collections.tolist()], 1.0)
    for number, label in enumerate(CLASSES):
        here = table.labels == number
        share[here] *= SHARES[label] / max(float(share[here].sum()), 1e-12)
    return np.asarray(share / share.sum())


def fit(table: Table, seed: int, networks_count: int) -> Fitted:
    """Fit networks with one hidden layer, each to some of the features.

    Parameters
    ----------
    table : Table
        The examples to learn from.
    seed : int
        Of the fit.
    networks_count : int
        How many.

    Returns
    -------
    Fitted
        Standardisation and networks.
    """
    # As the file will hold them, so that nothing is rounded later.
    mean = table.rows.mean(axis=0, dtype=np.float64).astype(np.float32).astype(np.float64)
    spread = np.maximum(table.rows.std(axis=0, dtype=np.float64), 1e-6).astype(np.float32).astype(np.float64)
    standard, share = standardised(table.rows, mean, spread).astype(np.float32), weights(table)
    sees, networks = [], []
    for number in range(networks_count):
        rng = np.random.default_rng([seed, 2, number])
        seen = np.sort(rng.choice(len(FEATURE_NAMES), round(FEATURES_SHARE * len(FEATURE_NAMES)), replace=False))
        # Networks differ by what they see and by what they are shown: drawn by weight, which serves as weighting too.
        drawn = rng.choice(share.size, size=share.size, p=share)
        sees.append(seen)
        networks.append(_network(standard[np.ix_(drawn, seen)], table.labels[drawn], seed + number))
    return Fitted(mean, spread, Networks(np.array(sees), *(np.array(part) for part in zip(*networks, strict=True))))


def learner(examples_count: int, seed: int) -> Any:
    """Make what fits one network.

    Parameters
    ----------
    examples_count : int
        How many examples it will see.
    seed : int
        Its chance.

    Returns
    -------
    sklearn.neural_network.MLPClassifier
        Not yet fitted.
    """
    from sklearn.neural_network import MLPClassifier

    batch = min(BATCH, examples_count)
    return MLPClassifier((HIDDEN_COUNT,), alpha=DECAY, max_iter=ROUNDS, batch_size=batch, random_state=seed)


def _network(
    standard: NDArray[np.float32], labels: NDArray[np.int64], seed: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """Fit one network: weights and bias of its hidden layer, and of its output laid out over all classes."""
    from sklearn.exceptions import ConvergenceWarning

    one = learner(len(labels), seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is stopped early on purpose
        one.fit(standard, labels)
    output, output_bias = np.zeros((len(CLASSES), HIDDEN_COUNT)), np.full(len(CLASSES), UNSEEN_SCORE)
    if one.classes_.size == 2:  # one score tells two classes apart
        output[one.classes_[1]] = one.coefs_[1][:, 0]
        output_bias[one.classes_] = 0.0, one.intercepts_[1][0]
    else:
        output[one.classes_], output_bias[one.classes_] = one.coefs_[1].T, one.intercepts_[1]
    return one.coefs_[0].T.astype(np.float64), one.intercepts_[0].astype(np.float64), output, output_bias


def held_out(table: Table, seed: int, networks_count: int, tell: Tell) -> Floats:
    """Weigh every example by networks that heard nothing of its group.

    Parameters
    ----------
    table : Table
        All examples.
    seed : int
        Of the fits.
    networks_count : int
        How many judge each.
    tell : callable
        Is told how far it is.

    Returns
    -------
    numpy.ndarray, shape (examples, classes)
        Log-likelihood ratios.
    """
    ratios, folds = np.zeros((table.labels.size, len(CLASSES))), table.folds
    for fold in sorted(set(folds.tolist())):
        tell("held-out fits", fold, FOLDS)
        apart = folds == fold
        rest = table.where(~apart)
        if rest.labels.size and (rest.labels != rest.labels[0]).any():
            ratios[apart] = fit(rest, seed, networks_count).ratios(table.rows[apart])
    return ratios


def calibrate(ratios: Floats, table: Table) -> list[tuple[float, float]]:
    """Fit slope and offset of each class's ratio on held-out examples, so that it is what it says: a ratio.

    Parameters
    ----------
    ratios : numpy.ndarray, shape (examples, classes)
        From `held_out`.
    table : Table
        The same examples.

    Returns
    -------
    list of tuple of float
        One (slope, offset) for each class.
    """
    from sklearn.linear_model import LogisticRegression

    share = weights(table)
    lines = []
    for number in range(len(CLASSES)):
        mine = table.labels == number
        if not mine.any() or mine.all():
            lines.append((1.0, 0.0))
            continue
        # Even odds, whatever the shares: a ratio is free of prior.
        even = np.where(mine, share / share[mine].sum(), share / share[~mine].sum()) * mine.size / 2
        line = LogisticRegression(C=1e3).fit(ratios[:, [number]], mine, sample_weight=even)
        lines.append((max(float(line.coef_[0, 0]), 1e-3), float(line.intercept_[0])))
    return lines


def surroundings(fitted: Fitted, table: Table) -> dict[str, Any]:
    """Describe where the training examples lie, so that what lies far off can be called unknown.

    Parameters
    ----------
    fitted : Fitted
        From `fit`.
    table : Table
        The examples.

    Returns
    -------
    dict
        Axes, axis_scale, far.
    """
    standard = standardised(table.rows, fitted.mean, fitted.scale)
    spread, axes = np.linalg.eigh(standard.T @ standard / len(standard))
    axes = axes[:, ::-1][:, :AXES_COUNT].T.astype(np.float32)
    axis_scale = np.sqrt(spread[::-1][:AXES_COUNT]).astype(np.float32)
    distances = np.sqrt(np.mean((standard @ axes.T / axis_scale) ** 2, axis=1))
    return {"axes": axes, "axis_scale": axis_scale, "far": float(np.quantile(distances, FAR_QUANTILE))}


def metrics_of(ratios: Floats, table: Table) -> dict[str, float]:
    """Measure held-out ratios at even prior.

    Parameters
    ----------
    ratios : numpy.ndarray, shape (examples,)
        Calibrated gunshot ratios from models that had not heard the group.
    table : Table
        The examples.

    Returns
    -------
    dict
        Share of gunshots recognised and of others refused, and of how many, for the recordings of each collection as
        they are, for each Pittsburgh position, and for made sounds by class.
    """
    gunshot = table.labels == CLASSES.index("gunshot")
    made = table.collections == MADE
    parts = {name: (table.collections == name) & table.original for name in sorted(set(table.collections.tolist()))}
    parts |= {
        name: (table.groups == name) & table.original for name in sorted(set(table.groups.tolist())) if "/FP" in name
    }
    parts |= {f"{MADE} {label}": made & (table.labels == number) for number, label in enumerate(CLASSES)}
    out: dict[str, float] = {}
    for name, here in parts.items():
        if (here & gunshot).any():
            out[f"{name} gunshots recognised"] = round(float(np.mean(ratios[here & gunshot] > 0)), 4)
            out[f"{name} gunshots recognised, count"] = float((here & gunshot).sum())
        if (here & ~gunshot).any():
            out[f"{name} others refused"] = round(float(np.mean(ratios[here & ~gunshot] <= 0)), 4)
            out[f"{name} others refused, count"] = float((here & ~gunshot).sum())
    return out


# ---------------------------------------------------------------------------------------------------- the whole


def train(
    recordings: Sequence[Recording],
    hear: Hear,
    out: Path,
    *,
    name: str = "agls-2",
    seed: int = 0,
    made_count: int = MADE_COUNT,
    networks_count: int = NETWORKS_COUNT,
    key: bytes | None = None,
    tell: Tell = lambda *_: None,
) -> dict[str, float]:
    """Train a model and write its file, and beside it the model card.

    Parameters
    ----------
    recordings : sequence of Recording
        Labelled recordings (`agls.classify.recordings` lists collections and folders).
    hear : callable
        Gives the onsets of samples, such as `agls.sensor.listen.onsets_in`.
    out : pathlib.Path
        The model file to write; the card has its name with ``.md``.
    name : str
        Name and version the model will go by.
    seed : int
        The same seed and recordings give the same file.
    made_count : int
        How many sounds to make besides.
    networks_count : int
        How many networks to fit.
    key : bytes or None
        Secret key to sign with; without one a model equal to the shipped one keeps its signature, another has none.
    tell : callable, optional
        Is told what is done: its name, how far, of how many.

    Returns
    -------
    dict
        Held-out figures, as written into the file.

    Raises
    ------
    InputError
        If there are no gunshots or nothing else, a recording cannot be read, or the file cannot be written.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # Matrices are small: threads would cost more than they gain, and add up in another order each time.
    with threadpool_limits(1):
        table = tabulate(recordings, hear, made_count=made_count, seed=seed, tell=tell)
        if len({label == "gunshot" for label in np.array(CLASSES)[table.labels].tolist()}) < 2:
            raise InputError("the recordings hold no gunshots or nothing else that is heard; both are needed")
        ratios = held_out(table, seed, min(JUDGES_COUNT, networks_count), tell)
        calibration = calibrate(ratios, table)
        tell("last fit", 0, 1)
        fitted = fit(table, seed, networks_count)
        fitted_content = _content(fitted, table, calibration)
    at = CLASSES.index("gunshot")
    metrics = metrics_of(ratios[:, at] * calibration[at][0] + calibration[at][1], table)
    content = fitted_content | {
        "name": name,
        "training": [_training_set(part, recordings, table) for part in sorted(set(table.collections.tolist()))],
        "metrics": metrics,
    }
    finished = _signed(content, key)
    try:
        write_atomically(out, _text(finished))
        write_atomically(out.with_suffix(".md"), _card(finished).encode())
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); give a file in a folder that exists") from None
    return metrics


def _content(fitted: Fitted, table: Table, calibration: list[tuple[float, float]]) -> dict[str, Any]:
    """Put what was fitted into the form of the file."""
    around = surroundings(fitted, table)
    return {
        "format": FORMAT,
        "features": list(FEATURE_NAMES),
        "classes": list(CLASSES),
        "mean": packed(fitted.mean),
        "scale": packed(fitted.scale),
        "sees": fitted.networks.sees.tolist(),
        "hidden": packed(fitted.networks.hidden),
        "hidden_bias": packed(fitted.networks.hidden_bias),
        "output": packed(fitted.networks.output),
        "output_bias": packed(fitted.networks.output_bias),
        "log_prior": LOG_PRIOR.tolist(),
        "calibration": [[round(slope, 6), round(offset, 6)] for slope, offset in calibration],
        "axes": packed(around["axes"]),
        "axis_scale": packed(around["axis_scale"]),
        "far": round(around["far"], 6),
        "caution": CAUTION,
    }  # fmt: skip


def packed(numbers: NDArray[Any]) -> dict[str, Any]:
    """Write an array as 32-bit numbers, little-endian, in base64.

    Parameters
    ----------
    numbers : numpy.ndarray
        Of one to three dimensions.

    Returns
    -------
    dict
        As `agls.classify.model.Packed` reads it.
    """
    return {"shape": list(numbers.shape), "base64": base64.b64encode(numbers.astype("<f4").tobytes()).decode()}


def _training_set(collection: str, recordings: Sequence[Recording], table: Table) -> dict[str, Any]:
    """Name a collection, its licence, its content's hash and what it gave."""
    title, licence, attribution = SOURCES.get(collection, (collection, "its owner's", "its owner"))
    digest = hashlib.sha256()
    paths = [one.path for one in recordings if one.collection == collection]
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    if collection == MADE:  # there are no files: what was heard in the made sounds stands for them
        digest.update(table.rows[table.collections == MADE].astype("<f4").tobytes())
    counts = Counter(CLASSES[label] for label in table.labels[table.collections == collection].tolist())
    return {
        "name": title, "licence": licence, "attribution": attribution, "sha256": digest.hexdigest(),
        "counts": dict(sorted(counts.items())),
    }  # fmt: skip


def _signed(content: dict[str, Any], key: bytes | None) -> dict[str, Any]:
    """Add the SHA-256 and the signature; a model equal to the shipped one has the shipped one's, which is public."""
    sha256 = content_sha256(content)
    signature: dict[str, str] | None = None
    if key is not None:
        signature = {"key": public_key(key).hex(), "value": sign(key, SIGNED + sha256.encode()).hex()}
    else:
        try:
            shipped = load_model().content
        except InputError:  # it is being replaced
            shipped = None
        if shipped is not None and shipped.sha256 == sha256 and shipped.signature is not None:
            signature = {"key": shipped.signature.key, "value": shipped.signature.value}
    return content | {"sha256": sha256, "signature": signature}


def _text(content: dict[str, Any]) -> bytes:
    """Write a model file's text: JSON, one line per entry."""
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _card(content: dict[str, Any]) -> str:
    """Tell a person what the model is, what it learnt from, how well it does and where it must not be trusted."""
    trained = "\n".join(
        f"- {one['name']}; {one['licence']}; {one['attribution']}: "
        + ", ".join(f"{count} {label}" for label, count in one["counts"].items())
        for one in content["training"]
    )
    measured = "\n".join(f"| {name} | {value:.3f} |" for name, value in content["metrics"].items())
    return (
        f"# Model {content['name']}\n\nSays of an impulsive sound which of {', '.join(content['classes'])} it was, as"
        f" log-likelihood ratios free of prior, or that it knows nothing like it. {len(content['features'])} features,"
        f" {len(content['sees'])} networks. SHA-256 {content['sha256']}.\n\n## Trained on\n\n{trained}\n\n"
        "## Held out\n\nShares at even prior, by models that had not heard the position, fold or part; recordings as"
        f" they are, made sounds apart.\n\n| what | share |\n|---|---|\n{measured}\n\n"
        f"## Caution\n\n{content['caution']}\n"
    )


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that nobody ever sees half of it.

    Parameters
    ----------
    path : pathlib.Path
        Where.
    content : bytes
        What.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_bytes(content)
    unfinished.replace(path)
