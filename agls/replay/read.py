"""Recognise a dataset's layout and read it; the truth stays closed."""

import time
from pathlib import Path

from agls.errors import InputError
from agls.replay import agls_csv, opensoundscape, pittsburgh
from agls.replay.dataset import FUTURE_NS, Choice, Dataset


def read_dataset(folder: Path, source: Choice | None = None, *, now_ns: int | None = None) -> Dataset:
    """Read a recorded dataset: AGLS's CSV files, the Pittsburgh release or OpenSoundscape's CSVs.

    Parameters
    ----------
    folder : pathlib.Path
        The dataset; which layout it has is found out.
    source : str, optional
        ``audio`` or ``detections``; if not given, audio where a recording has audio, else detections.
    now_ns : int, optional
        What is later than this is in the future [ns]; the computer's clock if not given.

    Returns
    -------
    Dataset
        Its recordings, and a sentence for each that is refused.

    Raises
    ------
    InputError
        If the folder holds no dataset, or one of which nothing can be used.
    """
    if not folder.is_dir():
        found = "is a file" if folder.is_file() else "there is no such folder"
        raise InputError(f"{folder}: {found}; a folder that holds a dataset, or a hub's journal (.jsonl), is needed")
    latest_ns = (time.time_ns() if now_ns is None else now_ns) + FUTURE_NS
    if agls_csv.is_agls(folder):
        return agls_csv.read(folder, source, latest_ns)
    if pittsburgh.find_test_folders(folder):
        return pittsburgh.read(folder, source, latest_ns)
    if opensoundscape.is_opensoundscape(folder):
        return opensoundscape.read(folder, source, latest_ns)
    raise InputError(
        f"{folder}: holds no dataset; sensors.csv with recordings.csv or detections.csv, ShotSpotter's test folders"
        " (*.allpulses.json, *.audio.*.wav) or OpenSoundscape's CSVs (file,start_time,end_time) are accepted"
    )
