"""Read labelled recordings: the collections that train the shipped model, anybody's own folders, and the evaluation's.

Everything is read as one channel at its own rate. Splits are by `group`: what was recorded at one firing position, of
one fold or by one source is held out together, never clip by clip.
"""

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import get_args

import numpy as np
import soundfile
from numpy.typing import NDArray

from agls.errors import InputError
from agls.messages import Label, Onset

Floats = NDArray[np.float64]
# This package does not know how audio is heard: whoever calls hands that in (`agls.sensor.listen.onsets_in`).
Hear = Callable[[NDArray[np.float32], float], Iterable[Onset]]

LABELS: tuple[Label, ...] = tuple(label for label in get_args(Label) if label != "unknown")
# Freesound recordings that a training collection shares with the sounds kept for evaluation (the last one lies in the
# sound pack), and two under CC Sampling+.
LEFT_OUT = ("114587", "116400", "170015", "180256", "159743", "40730", "96460")
SUFFIXES = {".wav", ".flac", ".ogg"}
MATCH_S = 0.015
CLEAR_OF_SHOT_S = 0.3
# In a recording of a gun what is quieter than this below its loudest impulse is a bolt, a casing or an echo.
AS_LOUD_DB = 15.0

ESC_LABELS: dict[str, Label] = {"007": "vehicle", "008": "tool"}
CDDA_LABELS: dict[str, Label] = {
    "fire_gun/handguns": "gunshot", "fire_gun/machineguns": "gunshot", "fire_gun/rifles": "gunshot",
    "fire_gun/shotguns": "gunshot", "fire_gun/generic": "gunshot", "fire_gun/brass": "other",
    "fire_gun/empty": "other", "environment/weather/thunder": "thunder", "environment/weather": "other",
    "environment/ambient": "other", "tool": "tool", "smash": "tool", "close_door": "tool", "open_door": "tool",
    "vehicle_close": "tool", "vehicle_open": "tool", "vehicle": "vehicle", "engine": "vehicle", "reload": "other",
    "humming": "other", "fire/": "other",
}  # fmt: skip
# The classes of the evaluation set and of others that use its names.
FOREIGN_LABELS: dict[str, Label] = {
    "gun_shot": "gunshot", "fireworks": "firework", "jackhammer": "tool", "drilling": "tool", "car_horn": "vehicle",
    "engine_idling": "vehicle", "siren": "vehicle", "dog_bark": "other", "street_music": "other",
    "children_playing": "other", "air_conditioner": "other",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording of which somebody knows what it holds.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    label : Label
        What its impulses are.
    collection : str
        Where it is from.
    group : str
        What is heard or held out as one.
    kind : str
        The collection's own name for what it holds.
    shots_s : tuple of float
        When shots arrived, where that is known: then nothing else is a gunshot, and what came before is `label`.
    """

    path: Path
    label: Label
    collection: str
    group: str
    kind: str = ""
    shots_s: tuple[float, ...] = ()

    def read(self) -> tuple[NDArray[np.float32], float]:
        """Read the sound.

        Returns
        -------
        wave : numpy.ndarray, shape (frames,), float32
            Its channels averaged.
        rate_hz : float
            Its sampling rate.

        Raises
        ------
        InputError
            If the file cannot be read.
        """
        try:
            wave, rate_hz = soundfile.read(self.path, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, OSError) as error:
            raise InputError(f"{self.path}: cannot be read ({error}); WAV, FLAC or OGG are accepted") from None
        return np.nan_to_num(wave.mean(axis=1)), float(rate_hz)

    def named(
        self, onsets: Iterable[Onset], since_s: float = 0.0, stretch: float = 1.0
    ) -> Iterator[tuple[Onset, Label]]:
        """Say what impulses are, as far as it is sure.

        Parameters
        ----------
        onsets : iterable of Onset
            What was heard in it.
        since_s : float
            Where in it hearing began [s].
        stretch : float
            By how much slower it was played.

        Yields
        ------
        tuple of Onset and Label
            Without echoes of shots, and without what is quiet in a recording of a gun.
        """
        heard = list(onsets)
        loudest_db = max((onset.level_db for onset in heard), default=0.0)
        shots_s = (np.array(self.shots_s) - since_s) * stretch
        for onset in heard:
            time_s = onset.index / onset.sample_rate_hz
            if shots_s.size:
                if np.abs(shots_s - time_s).min() <= MATCH_S:
                    yield onset, "gunshot"
                elif time_s < shots_s.min() - CLEAR_OF_SHOT_S:
                    yield onset, self.label
            elif self.label != "gunshot" or onset.level_db >= loudest_db - AS_LOUD_DB:
                yield onset, self.label


def pittsburgh(root: Path) -> Iterator[Recording]:
    """List the live-fire tests: direct arrivals are gunshots, what came before the shot is not.

    Parameters
    ----------
    root : pathlib.Path
        Folder somewhere above the firing positions.

    Yields
    ------
    Recording
        Grouped by firing position.
    """
    for tuples in sorted(root.rglob("*.nlos-tuples.json")):
        test = tuples.name.split(".")[0]
        cited = {uuid for one in json.loads(tuples.read_text()) for uuid in one["pulse_uuids"]}
        pulses = json.loads(tuples.with_name(f"{test}.allpulses.json").read_text())
        for meta in sorted(tuples.parent.glob(f"{test}.audio.*.json")):
            about = json.loads(meta.read_text())
            start = datetime.fromisoformat(about["timestamp"])
            shots_s = sorted(
                (datetime.fromisoformat(pulse["arrival_time_utc"]) - start).total_seconds()
                for pulse in pulses
                if pulse["serial_number"] == about["serial_number"] and pulse["pulse_uuid"] in cited
            )
            if shots_s:
                place = f"pittsburgh/{tuples.parent.parent.name}"
                yield Recording(meta.with_suffix(".wav"), "other", "pittsburgh", place, "live fire", tuple(shots_s))


def esc10(root: Path) -> Iterator[Recording]:
    """List ESC-10, but for the recordings it shares with the evaluation.

    Parameters
    ----------
    root : pathlib.Path
        Folder that holds the ten class folders.

    Yields
    ------
    Recording
        Grouped by fold.
    """
    for path in sorted(root.glob("*/*.ogg")):
        fold, recording, _ = path.stem.split("-")
        if recording not in LEFT_OUT:
            label = ESC_LABELS.get(path.parent.name[:3], "other")
            yield Recording(path, label, "esc10", f"esc10/{fold}", path.parent.name[6:])


def cdda(root: Path) -> Iterator[Recording]:
    """List the sound pack, as far as its credits name a licence that allows training.

    Parameters
    ----------
    root : pathlib.Path
        Folder somewhere above the sounds.

    Yields
    ------
    Recording
        Grouped by folder, in four parts.
    """
    for path in sorted(root.rglob("*.ogg")):
        # Below the root only, so that where the collection lies changes nothing.
        place = f"/{path.relative_to(root).as_posix()}"
        label = next((label for key, label in CDDA_LABELS.items() if f"/{key}" in place), None)
        if label is not None and _credited(path):
            part = int(hashlib.sha256(place.rpartition("/")[0].encode()).hexdigest(), 16) % 4
            yield Recording(path, label, "cdda", f"cdda/{part}", path.parent.name)


def _credited(path: Path) -> bool:
    """Whether the credits beside a sound name it, with a licence that allows training and shipping."""
    credit = path.with_name("credits.md")
    lines = credit.read_text(encoding="utf-8", errors="replace").splitlines() if credit.is_file() else []
    mine = [line for line in lines if path.name in line]
    free = all(re.search(r"CC[ -]?(0|BY)", line) and not re.search(r"NC|ND", line) for line in mine)
    return bool(mine) and free and not any(f"/{number}/" in line for number in LEFT_OUT for line in mine)


def opensoundscape(root: Path) -> Iterator[Recording]:
    """List the recorders of birds.

    Parameters
    ----------
    root : pathlib.Path
        Folder somewhere above the recordings.

    Yields
    ------
    Recording
        In one group.
    """
    for path in sorted(root.rglob("*.wav")):
        yield Recording(path, "other", "opensoundscape", "opensoundscape/0", "birds")


def listed(table: Path) -> Iterator[Recording]:
    """List what a CSV names: ``path,label``, and ``source_id`` where several are from one source.

    Parameters
    ----------
    table : pathlib.Path
        The CSV; paths count from its folder.

    Yields
    ------
    Recording
        Grouped by source; without one every file is its own.

    Raises
    ------
    InputError
        If the CSV cannot be read, a column is missing or a label is unknown.
    """
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{table}: cannot be read ({error}); give a CSV with path and label") from None
    rows = csv.DictReader(lines)
    for column in ("path", "label"):
        if column not in (rows.fieldnames or ()):
            raise InputError(f"{table}:1: has no column {column!r}; path, label and perhaps source_id are read")
    for number, row in enumerate(rows, 2):
        kind = row["label"] or ""
        label = FOREIGN_LABELS.get(kind) or next((one for one in LABELS if one == kind), None)
        if label is None:
            accepted = ", ".join((*LABELS, *FOREIGN_LABELS))
            raise InputError(f"{table}:{number}: label {kind!r} is unknown; {accepted} are accepted")
        source = row.get("source_id") or row["path"]
        yield Recording(table.parent / row["path"], label, table.parent.name, source, kind)


def folders(root: Path) -> Iterator[Recording]:
    """List a folder whose folders are named by labels.

    Parameters
    ----------
    root : pathlib.Path
        Holds folders such as ``gunshot`` and ``firework``; below them each folder, else each file, is one source.

    Yields
    ------
    Recording
        Grouped by source.

    Raises
    ------
    InputError
        If no folder in it is named by a label.
    """
    found = 0
    for folder in sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []:
        label = FOREIGN_LABELS.get(folder.name) or next((one for one in LABELS if one == folder.name), None)
        if label is None:
            continue
        for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
            found += 1
            place = path.relative_to(folder).parts
            yield Recording(path, label, root.name, f"{folder.name}/{place[0]}", folder.name)
    if not found:
        raise InputError(f"{root}: holds no recordings in folders named {', '.join(LABELS)}; one of them is needed")
