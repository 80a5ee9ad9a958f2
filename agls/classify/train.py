"""Train the shipped model: gather licensed recordings, describe their impulses, fit, measure, write one JSON file.

Runs on a workstation, never on a node: scikit-learn is imported inside the functions that fit. Recordings are heard
through the very detector a node runs. Splits are by source, never by clip: each Pittsburgh firing position is judged
by a model that never heard that position, and so is each part of the other collections. The same folders and seed
give the same file.

Data (each used as its licence allows, see `SOURCES`): the Pittsburgh live-fire tests (gunshots: pulses that the
vendor's tuples tie to a shot; others: what the same microphones heard before it), ESC-10 and the CDDA sound pack.
"""

import hashlib
import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agls.classify.features import FEATURE_NAMES, features
from agls.classify.model import FORMAT, MAX_DEVIATION, content_sha256, log_ratios, scores
from agls.errors import InputError
from agls.messages import Label, Onset

Floats = NDArray[np.float64]
Hear = Callable[[Path], Iterable[Onset]]

CLASSES: tuple[Label, ...] = ("gunshot", "tool", "thunder", "vehicle", "other")
# Freesound recordings that ESC-10 shares with the sounds kept for evaluation, and two under CC Sampling+.
LEFT_OUT = ("114587", "116400", "170015", "180256", "40730", "96460")
MATCH_S = 0.015
CLEAR_OF_SHOT_S = 0.3
PER_FILE_COUNT = 12
VARIANTS_COUNT = 4
AXES_COUNT = 12
FAR_QUANTILE = 0.995
HIDDEN, DECAY, ROUNDS = (64,), 1.0, 30
# A class that a fit has not seen must not win.
UNSEEN_SCORE = -20.0

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
}
ESC_LABELS: dict[str, Label] = {"007": "vehicle", "008": "tool"}
CDDA_LABELS: dict[str, Label] = {
    "fire_gun/handguns": "gunshot", "fire_gun/machineguns": "gunshot", "fire_gun/rifles": "gunshot",
    "fire_gun/shotguns": "gunshot", "fire_gun/generic": "gunshot", "fire_gun/brass": "other",
    "fire_gun/empty": "other", "environment/weather/thunder": "thunder", "environment/weather": "other",
    "environment/ambient": "other", "tool": "tool", "smash": "tool", "close_door": "tool", "open_door": "tool",
    "vehicle_close": "tool", "vehicle_open": "tool", "vehicle": "vehicle", "engine": "vehicle", "reload": "other",
    "humming": "other", "fire/": "other",
}  # fmt: skip
CAUTION = (
    "Trained on handguns in one city in winter and a few other guns; no fireworks, backfires or popping bags were"
    " heard, so they may pass for gunshots. The Pittsburgh positions FP1, FP6 and FP8 trained it: figures from"
    " replaying them are partly on trained data; the metrics here are from models that had not heard the position."
    " No field recording tested it: false alarms a day are unknown."
)


@dataclass(frozen=True, slots=True)
class Example:
    """One impulse with what it was.

    Attributes
    ----------
    onset : Onset
        The impulse.
    label : Label
        What it was.
    source : str
        The collection it is from.
    group : str
        The part of the collection that is heard or held out as one.
    """

    onset: Onset
    label: Label
    source: str
    group: str


def pittsburgh(root: Path, hear: Hear) -> Iterator[Example]:
    """Hear the live-fire tests: direct arrivals are gunshots, what came before the shot is not.

    Parameters
    ----------
    root : pathlib.Path
        Folder somewhere above the firing positions.
    hear : callable
        Gives the onsets of a file.

    Yields
    ------
    Example
        Grouped by firing position.
    """
    for tuples in sorted(root.rglob("*.nlos-tuples.json")):
        test = tuples.name.split(".")[0]
        cited = {uuid for one in json.loads(tuples.read_text()) for uuid in one["pulse_uuids"]}
        pulses = json.loads(tuples.with_name(f"{test}.allpulses.json").read_text())
        for meta in sorted(tuples.parent.glob(f"{test}.audio.*.json")):
            about = json.loads(meta.read_text())
            start = datetime.fromisoformat(about["timestamp"])
            mine = [pulse for pulse in pulses if pulse["serial_number"] == about["serial_number"]]
            times = {
                pulse["pulse_uuid"]: (datetime.fromisoformat(pulse["arrival_time_utc"]) - start).total_seconds()
                for pulse in mine
            }
            direct = np.array([time for uuid, time in times.items() if uuid in cited])
            if direct.size:
                for onset, label in _tell_apart(hear(meta.with_suffix(".wav")), direct):
                    yield Example(onset, label, "pittsburgh", f"pittsburgh/{tuples.parent.parent.name}")


def _tell_apart(onsets: Iterable[Onset], direct_s: Floats) -> Iterator[tuple[Onset, Label]]:
    """Name the onsets that are surely gunshots or surely not; echoes are neither."""
    for onset in onsets:
        time_s = onset.index / onset.sample_rate_hz
        if np.abs(direct_s - time_s).min() <= MATCH_S:
            yield onset, "gunshot"
        elif time_s < direct_s.min() - CLEAR_OF_SHOT_S:
            yield onset, "other"


def esc10(root: Path, hear: Hear) -> Iterator[Example]:
    """Hear ESC-10, but for the recordings it shares with the evaluation.

    Parameters
    ----------
    root : pathlib.Path
        Folder that holds the ten class folders.
    hear : callable
        Gives the onsets of a file.

    Yields
    ------
    Example
        Grouped by fold; at most a dozen per clip.
    """
    for path in sorted(root.glob("*/*.ogg")):
        fold, recording, _ = path.stem.split("-")
        if recording in LEFT_OUT:
            continue
        label = ESC_LABELS.get(path.parent.name[:3], "other")
        for onset in _spread(hear(path)):
            yield Example(onset, label, "esc10", f"esc10/{fold}")


def cdda(root: Path, hear: Hear) -> Iterator[Example]:
    """Hear the sound pack, as far as its credits name a licence that allows it.

    Parameters
    ----------
    root : pathlib.Path
        Folder somewhere above the sounds.
    hear : callable
        Gives the onsets of a file.

    Yields
    ------
    Example
        Grouped by folder, in four parts; at most a dozen per sound.
    """
    for path in sorted(root.rglob("*.ogg")):
        # Below the root only, so that where the collection lies changes nothing.
        place = f"/{path.relative_to(root).as_posix()}"
        label = next((label for key, label in CDDA_LABELS.items() if f"/{key}" in place), None)
        if label is None or not _credited(path):
            continue
        part = int(hashlib.sha256(place.rpartition("/")[0].encode()).hexdigest(), 16) % 4
        for onset in _spread(hear(path)):
            yield Example(onset, label, "cdda", f"cdda/{part}")


def _credited(path: Path) -> bool:
    """Whether the credits beside a sound name it with a licence that allows training and shipping."""
    credit = path.with_name("credits.md")
    lines = credit.read_text(encoding="utf-8", errors="replace").splitlines() if credit.is_file() else []
    mine = [line for line in lines if path.name in line]
    return bool(mine) and all(re.search(r"CC[ -]?(0|BY)", line) and not re.search(r"NC|ND", line) for line in mine)


def _spread(onsets: Iterable[Onset]) -> list[Onset]:
    """Take onsets evenly over a clip, so that a busy one does not outweigh the rest."""
    every = list(onsets)
    return every[:: max(1, -(-len(every) // PER_FILE_COUNT))]


# -------------------------------------------------------------------------------------------------- augmentation


def variant(onset: Onset, rng: np.random.Generator) -> Onset:
    """Change what should not matter: microphone colour, distance, noise, gain and clipping.

    Parameters
    ----------
    onset : Onset
        An impulse.
    rng : numpy.random.Generator
        Chance.

    Returns
    -------
    Onset
        As another microphone might have heard it.
    """
    wave = onset.snippet.astype(np.float64)
    bins = np.fft.rfftfreq(wave.size, 1 / onset.sample_rate_hz)
    octaves = np.log2(np.maximum(bins, 20.0) / 1000)
    colour_db = rng.normal(0, 2.0) * octaves - np.abs(rng.normal(0, 6.0)) * (bins / 5000) ** 2
    high_pass = bins / np.sqrt(bins**2 + rng.uniform(20, 300) ** 2)
    wave = np.fft.irfft(np.fft.rfft(wave) * 10 ** (colour_db / 20) * high_pass, wave.size)
    peak = max(float(np.abs(wave).max()), 1e-9)
    noise = rng.normal(size=wave.size)
    noise = 0.7 * noise + np.convolve(noise, np.ones(8) / 4, "same")
    wave = wave / peak + noise * 10 ** (-rng.uniform(18, 60) / 20)
    gain = 10 ** (rng.uniform(0, 15) / 20) if rng.random() < 0.4 else rng.uniform(0.05, 0.95)
    wave = np.clip(wave * gain * rng.choice([-1.0, 1.0]), -1, 1)
    return replace(onset, snippet=wave.astype(np.float32))


# -------------------------------------------------------------------------------------------------------- fitting


@dataclass(frozen=True)
class Table:
    """Examples as numbers.

    Attributes
    ----------
    rows : numpy.ndarray, shape (examples, feature_count)
        Features.
    labels : numpy.ndarray, shape (examples,)
        Index in `CLASSES`.
    groups : numpy.ndarray, shape (examples,)
        What is held out as one.
    sources : numpy.ndarray, shape (examples,)
        Collection.
    original : numpy.ndarray, shape (examples,), bool
        False for variants.
    """

    rows: Floats
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    sources: NDArray[np.str_]
    original: NDArray[np.bool_]

    def where(self, mask: NDArray[np.bool_]) -> "Table":
        """Keep the examples of a mask.

        Parameters
        ----------
        mask : numpy.ndarray, shape (examples,), bool
            True for those to keep.

        Returns
        -------
        Table
            The kept examples, in order.
        """
        return Table(self.rows[mask], self.labels[mask], self.groups[mask], self.sources[mask], self.original[mask])


def tabulate(examples: Iterable[Example], seed: int) -> Table:
    """Describe examples and their variants.

    Parameters
    ----------
    examples : iterable of Example
        All of them.
    seed : int
        Of the variants.

    Returns
    -------
    Table
        Originals and variants.
    """
    rng = np.random.default_rng(seed)
    rows: list[Floats] = []
    about: list[tuple[int, str, str, bool]] = []
    for one in examples:
        for number in range(1 + VARIANTS_COUNT):
            rows.append(features(variant(one.onset, rng) if number else one.onset))
            about.append((CLASSES.index(one.label), one.group, one.source, not number))
    labels, groups, sources, original = (np.array(column) for column in zip(*about, strict=True))
    return Table(np.array(rows), labels, groups, sources, original)


def weights(table: Table) -> Floats:
    """Weigh examples so that gunshots count half, and within a class every collection alike.

    Parameters
    ----------
    table : Table
        The examples.

    Returns
    -------
    numpy.ndarray, shape (examples,)
        With mean 1.
    """
    cells = list(zip(table.labels.tolist(), table.sources.tolist(), strict=True))
    sizes = Counter(cells)
    collections = Counter(label for label, _ in sizes)
    share = np.array([1 / sizes[cell] / collections[cell[0]] * _prior(cell[0]) for cell in cells])
    return np.asarray(share / share.mean())


def _prior(label: int) -> float:
    return {"gunshot": 0.5, "other": 0.2}.get(CLASSES[label], 0.1)


LOG_PRIOR = np.log([_prior(label) for label in range(len(CLASSES))])


def fit(table: Table, seed: int) -> dict[str, Any]:
    """Fit standardisation and classifier, a network with one hidden layer.

    Parameters
    ----------
    table : Table
        The examples to learn from.
    seed : int
        Of the fit.

    Returns
    -------
    dict
        The parameters of a model file that depend on the examples: mean, scale, layers.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    mean, scale = table.rows.mean(axis=0), np.maximum(table.rows.std(axis=0), 1e-6)
    standard = _standard(table.rows, mean, scale)
    # The learner takes no weights: draw by them instead.
    share = weights(table)
    drawn = np.random.default_rng(seed).choice(share.size, size=share.size, p=share / share.sum())
    learner = MLPClassifier(HIDDEN, alpha=DECAY, max_iter=ROUNDS, batch_size=min(256, share.size), random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is stopped early on purpose
        learner.fit(standard[drawn], table.labels[drawn])
    layers = [(w.T, b) for w, b in zip(learner.coefs_, learner.intercepts_, strict=True)]
    last = np.zeros((len(CLASSES), layers[-1][0].shape[1])), np.full(len(CLASSES), UNSEEN_SCORE)
    last[0][learner.classes_], last[1][learner.classes_] = layers[-1]
    return {"mean": mean, "scale": scale, "layers": [*layers[:-1], last]}


def _standard(rows: Floats, mean: Floats, scale: Floats) -> Floats:
    return np.asarray(np.clip((rows - mean) / scale, -MAX_DEVIATION, MAX_DEVIATION))


def ratios_of(part: dict[str, Any], rows: Floats) -> Floats:
    """Weigh rows with fitted parameters, before calibration.

    Parameters
    ----------
    part : dict
        From `fit`.
    rows : numpy.ndarray, shape (examples, feature_count)
        Features.

    Returns
    -------
    numpy.ndarray, shape (examples, classes)
        Log-likelihood ratios.
    """
    standard = _standard(rows, part["mean"], part["scale"])
    return np.array([log_ratios(scores(part["layers"], row), LOG_PRIOR) for row in standard])


def held_out(table: Table, seed: int) -> Floats:
    """Weigh every original by a model that heard nothing of its group.

    Parameters
    ----------
    table : Table
        All examples.
    seed : int
        Of the fits.

    Returns
    -------
    numpy.ndarray, shape (originals, classes)
        Log-likelihood ratios, in the order of the originals.
    """
    ratios = np.zeros((table.labels.size, len(CLASSES)))
    for group in sorted(set(table.groups.tolist())):
        apart = table.groups == group
        ratios[apart & table.original] = ratios_of(fit(table.where(~apart), seed), table.rows[apart & table.original])
    return ratios[table.original]


def calibrate(ratios: Floats, table: Table) -> list[tuple[float, float]]:
    """Fit slope and offset of the gunshot ratio on held-out recordings; the other classes stay as they are.

    Parameters
    ----------
    ratios : numpy.ndarray, shape (originals, classes)
        From `held_out`.
    table : Table
        The originals.

    Returns
    -------
    list of tuple of float
        One (slope, offset) for each class.
    """
    from sklearn.linear_model import LogisticRegression

    gunshot = table.labels == CLASSES.index("gunshot")
    at = CLASSES.index("gunshot")
    line = LogisticRegression(C=1e3).fit(ratios[:, [at]], gunshot, sample_weight=weights(table))
    fitted = (float(line.coef_[0, 0]), float(line.intercept_[0]))
    return [fitted if index == at else (1.0, 0.0) for index in range(len(CLASSES))]


def surroundings(rows: Floats, part: dict[str, Any]) -> dict[str, Any]:
    """Describe where the training impulses lie, so that what lies far off can be called unknown.

    Parameters
    ----------
    rows : numpy.ndarray, shape (examples, feature_count)
        Features.
    part : dict
        From `fit`.

    Returns
    -------
    dict
        Axes, axis_scale, far.
    """
    standard = _standard(rows, part["mean"], part["scale"])
    _, spread, axes = np.linalg.svd(standard, full_matrices=False)
    axes, axis_scale = axes[:AXES_COUNT], spread[:AXES_COUNT] / np.sqrt(len(rows))
    distances = np.sqrt(np.mean((standard @ axes.T / axis_scale) ** 2, axis=1))
    return {"axes": axes, "axis_scale": axis_scale, "far": float(np.quantile(distances, FAR_QUANTILE))}


def metrics_of(ratios: Floats, table: Table) -> dict[str, float]:
    """Measure held-out ratios at even prior.

    Parameters
    ----------
    ratios : numpy.ndarray, shape (originals,)
        Calibrated gunshot ratios from models that had not heard the group.
    table : Table
        The originals.

    Returns
    -------
    dict
        Share of gunshots recognised and of others refused, for each collection and each Pittsburgh position.
    """
    gunshot = table.labels == CLASSES.index("gunshot")
    out: dict[str, float] = {}
    parts = {name: table.sources == name for name in sorted(set(table.sources.tolist()))}
    parts |= {name: table.groups == name for name in sorted(set(table.groups.tolist())) if "pittsburgh" in name}
    for name, here in parts.items():
        if (here & gunshot).any():
            out[f"{name} gunshots recognised"] = round(float(np.mean(ratios[here & gunshot] > 0)), 4)
        if (here & ~gunshot).any():
            out[f"{name} others refused"] = round(float(np.mean(ratios[here & ~gunshot] <= 0)), 4)
    return out


# ---------------------------------------------------------------------------------------------------- the whole


def train(folders: dict[str, Path], hear: Hear, out: Path, *, name: str = "agls-1", seed: int = 0) -> dict[str, float]:
    """Train a model and write its file.

    Parameters
    ----------
    folders : dict of str to pathlib.Path
        Where each collection of `SOURCES` lies.
    hear : callable
        Gives the onsets of a file, such as `agls.sensor.listen.onsets_of`.
    out : pathlib.Path
        The model file to write.
    name : str
        Name and version the model will go by.
    seed : int
        The same seed and recordings give the same file.

    Returns
    -------
    dict
        Held-out figures, as written into the file.

    Raises
    ------
    InputError
        If a folder is unknown, or holds no gunshots or nothing else.
    """
    readers = {"pittsburgh": pittsburgh, "esc10": esc10, "cdda": cdda}
    for key in folders:
        if key not in readers:
            raise InputError(f"{key}: is no known collection; {', '.join(readers)} are accepted")
    examples = [example for key, root in folders.items() for example in readers[key](root, hear)]
    if len({example.label == "gunshot" for example in examples}) < 2:
        raise InputError(f"{', '.join(map(str, folders.values()))}: gunshots and other impulses are both needed")
    table = tabulate(examples, seed)
    originals = table.where(table.original)
    ratios = held_out(table, seed)
    calibration = calibrate(ratios, originals)
    at = CLASSES.index("gunshot")
    metrics = metrics_of(ratios[:, at] * calibration[at][0] + calibration[at][1], originals)
    part = fit(table, seed)
    part |= surroundings(table.rows, part) | {"calibration": calibration, "metrics": metrics, "name": name}
    write_atomically(out, model_json(part, [_training_set(key, root, examples) for key, root in folders.items()]))
    return metrics


def _training_set(key: str, root: Path, examples: list[Example]) -> dict[str, Any]:
    """Name a collection, its licence, its content's hash and what it gave."""
    title, licence, attribution = SOURCES[key]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.suffix in {".wav", ".ogg", ".flac"}:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    counts = Counter(example.label for example in examples if example.source == key)
    return {
        "name": title, "licence": licence, "attribution": attribution, "sha256": digest.hexdigest(),
        "counts": dict(sorted(counts.items())),
    }  # fmt: skip


def model_json(part: dict[str, Any], training: list[dict[str, Any]]) -> bytes:
    """Write a model file's text, with its SHA-256.

    Parameters
    ----------
    part : dict
        Parameters, name and metrics.
    training : list of dict
        The collections it learnt from.

    Returns
    -------
    bytes
        JSON, one line per entry.
    """
    content: dict[str, Any] = {
        "format": FORMAT,
        "name": part["name"],
        "features": list(FEATURE_NAMES),
        "classes": list(CLASSES),
        "mean": _short(part["mean"]),
        "scale": _short(part["scale"]),
        "layers": [{"weights": _short(w), "bias": _short(b)} for w, b in part["layers"]],
        "log_prior": _short(LOG_PRIOR),
        "calibration": _short(part["calibration"]),
        "axes": _short(part["axes"]),
        "axis_scale": _short(part["axis_scale"]),
        "far": _short(part["far"]),
        "training": training,
        "metrics": part["metrics"],
        "caution": CAUTION,
    }
    content["sha256"] = content_sha256(content)
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _short(numbers: Any) -> Any:
    """Keep six digits: more would say nothing and triple the file."""
    if np.ndim(numbers):
        return [_short(number) for number in numbers]
    return float(f"{float(numbers):.6g}")


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
