"""Classify recordings: files in, one CSV row per impulse out (the command ``agls classify``)."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from agls.classify.model import Model, load_model, probability
from agls.errors import InputError
from agls.messages import Onset

HEADER = ("file", "onset_s", "label", "p_gunshot")
EVEN_PRIOR = 0.5

# This package does not know how audio is heard: whoever calls hands that in (`agls.sensor.listen.onsets_of`).
Hear = Callable[[Path], Iterable[Onset]]
Row = tuple[str, str, str, str]


def classify_files(files: Sequence[Path], out: Path, hear: Hear, model: Model | None = None) -> None:
    """Say of each impulse in recordings what it was, and write it as CSV.

    One row per impulse: file, onset in seconds from the first sample, likeliest class (``unknown`` where nothing like
    it was in the training), probability of gunshot at even prior. A file with no impulse gets one row with empty
    onset, label ``none`` and probability 0. Memory does not grow with the length of a file.

    Parameters
    ----------
    files : sequence of pathlib.Path
        WAV, FLAC or OGG, any length, 8 to 192 kHz.
    out : pathlib.Path
        The CSV to write.
    hear : callable
        Gives the onsets of a file: `agls.sensor.listen.onsets_of`.
    model : Model or None
        Who judges; None for the shipped model.

    Raises
    ------
    InputError
        If a file cannot be read, after the rows of the others are written; or if the CSV cannot be written.
    """
    judge = model if model is not None else load_model()
    refused: list[str] = []
    unfinished = out.with_name(out.name + ".unfinished")
    try:
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            for path in files:
                try:
                    writer.writerows(rows(path, hear, judge))
                except InputError as error:
                    refused.append(str(error))
        unfinished.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); give a file in a folder that exists") from None
    if refused:
        raise InputError("; ".join(refused))


def rows(path: Path, hear: Hear, model: Model) -> Iterator[Row]:
    """Judge the impulses of one recording.

    Parameters
    ----------
    path : pathlib.Path
        The recording.
    hear : callable
        Gives the onsets of a file.
    model : Model
        Who judges.

    Yields
    ------
    tuple of str
        File, onset_s, label and p_gunshot, as the CSV holds them.

    Raises
    ------
    InputError
        If the file cannot be read to its end; rows before that were given.
    """
    silent = True
    for onset in hear(path):
        silent = False
        judgement = model.examine(onset)
        onset_s = max(0.0, onset.index / onset.sample_rate_hz)
        yield str(path), f"{onset_s:.6f}", judgement.label, f"{probability(judgement.llr['gunshot'], EVEN_PRIOR):.9f}"
    if silent:
        yield str(path), "", "none", "0"
