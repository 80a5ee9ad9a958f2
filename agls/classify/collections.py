"""What `agls train` and `agls evaluate` work on: recordings found, keys kept, pages written."""

import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from agls.classify.evaluate import Evaluation, as_json, differences, evaluate, judge, write_labels
from agls.classify.evaluate_page import page
from agls.classify.model import Model
from agls.classify.recordings import Hear, Recording, cdda, esc10, folders, listed, opensoundscape, pittsburgh
from agls.errors import InputError

SHIPPED_FROM = {
    "shotspotter-pittsburgh": pittsburgh,
    "esc-10": esc10,
    "cdda-cc-sounds": cdda,
    "opensoundscape-localization": opensoundscape,
}


def gathered(shared: Path | None, added: Sequence[Path]) -> list[Recording]:
    """List recordings: those that the shipped model learns from, and others.

    Parameters
    ----------
    shared : pathlib.Path or None
        Folder that holds the collections of `SHIPPED_FROM`, itself or in a folder ``data``.
    added : sequence of pathlib.Path
        Folders of folders named by label, and CSV files.

    Returns
    -------
    list of Recording
        In a fixed order.

    Raises
    ------
    InputError
        If a collection is missing, nothing is given, or something given cannot be read.
    """
    found: list[Recording] = []
    if shared is not None:
        root = shared / "data" if (shared / "data").is_dir() else shared
        for folder, read in SHIPPED_FROM.items():
            recordings = list(read(root / folder))
            if not recordings:
                raise InputError(
                    f"{root / folder}: holds no recordings of this collection, which the model learns from"
                )
            found += recordings
    for path in added:
        found += list(folders(path) if path.is_dir() else listed(path))
    if not found:
        raise InputError("no recordings are given; name a folder of folders named by label, or a CSV")
    return found


def secret_key(path: Path) -> bytes:
    """Read a secret key, or make one where there is none.

    Parameters
    ----------
    path : pathlib.Path
        A file with 64 hexadecimal digits that its owner alone may read.

    Returns
    -------
    bytes
        32 bytes.

    Raises
    ------
    InputError
        If the file cannot be read or written, or holds something else.
    """
    try:
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32) + "\n")
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise InputError(f"{path}: cannot be used as a key file ({error.strerror})") from None
    except ValueError:
        key = b""
    if len(key) != 32:
        raise InputError(f"{path}: holds no secret key; a file with 64 hexadecimal digits is accepted")
    return key


def evaluated(
    recordings: Sequence[Recording],
    hear: Hear,
    models: Sequence[Model],
    out: Path,
    draws_count: int,
    tell: Callable[[str, int, int], None],
) -> Evaluation:
    """Evaluate one model or two, and write ``evaluation.html``, ``evaluation.json`` and ``impulses.csv``.

    Parameters
    ----------
    recordings : sequence of Recording
        Labelled.
    hear : callable
        Gives the onsets of samples.
    models : sequence of Model
        The first is shown in full.
    out : pathlib.Path
        Folder to write to.
    draws_count : int
        How often sources are drawn again.
    tell : callable
        Is told how far it is.

    Returns
    -------
    Evaluation
        Of the first model.

    Raises
    ------
    InputError
        If the recordings do not serve or the folder cannot be written.
    """
    found = [evaluate(judge(recordings, hear, one, tell), one.name, draws_count=draws_count) for one in models]
    compared = differences(found[0], found[1], draws_count) if len(found) > 1 else {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in (("evaluation.json", as_json(found, compared)), ("evaluation.html", page(found, compared))):
            unfinished = out / (name + ".unfinished")
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(out / name)
        write_labels(out / "impulses.csv", found[0].judged)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); give a folder") from None
    return found[0]
