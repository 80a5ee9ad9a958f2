"""Read OpenSoundscape's localization CSVs: recorders' coordinates, and clips in which a sound was recognised.

Any CSV below the folder with columns ``x,y`` (``z`` too, else 0) beside a file name tells where recorders stand; any
with ``file,start_time,end_time`` and a column per class tells which recorders heard something when, and is a
recording, named after the CSV. Both name audio files by paths of the machine they were made on, so files are
matched by name alone. A WAV's own note of its start (``recording_start_time``) is believed; without one, recorders are
taken to have started together at the epoch.
"""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import soundfile

from agls.config import Locating, Sensor, Weather
from agls.errors import InputError
from agls.replay.csv_rows import IDENTIFIER, Row, moment_ns, read_table
from agls.replay.dataset import Call, Choice, Dataset, Layout, Place, Recording, Track, find_shared_spots, site_of

CLIP_COLUMNS = ("file", "start_time", "end_time")
# Recorders tied to GPS agree within a millisecond; half of it is one sigma.
CLOCK_SIGMA_S = 5e-4
# Open air over tens of metres bends no path by much, unlike a city; the array is its own yardstick.
LOCATING = Locating(path_sigma_s=1e-4, max_range_m=200.0, settle_s=1.0)
_AUDIO = (".wav", ".flac", ".ogg")


@dataclass(slots=True)
class _Folder:
    """What the CSVs and audio files of a folder hold between them."""

    audio: dict[str, Path] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    clips: dict[str, list[Row]] = field(default_factory=dict)
    starts_ns: dict[str, int] = field(default_factory=dict)


def is_opensoundscape(folder: Path) -> bool:
    """Tell whether a folder has this layout.

    Parameters
    ----------
    folder : pathlib.Path
        The folder.

    Returns
    -------
    bool
        True if a CSV below it names clips.
    """
    return any(_has_clips(_header(path)) for path in folder.rglob("*.csv"))


def read(folder: Path, choice: Choice | None, latest_ns: int) -> Dataset:
    """Read the CSVs.

    Parameters
    ----------
    folder : pathlib.Path
        A folder above the CSVs and the audio files.
    choice : str or None
        ``audio`` or None: there is nothing else.
    latest_ns : int
        Later times are in the future [ns].

    Returns
    -------
    Dataset
        One recording per CSV of clips; what its rows name in vain is in `refused`.

    Raises
    ------
    InputError
        If detections are asked for, which this layout does not hold.
    """
    if choice == "detections":
        raise InputError(f"{folder}: OpenSoundscape's clips hold no times of arrival; --from audio is accepted")
    found = _look(folder)
    recordings, refused = [], dict.fromkeys(found.faults.values())
    for name, rows in sorted(found.clips.items()):
        try:
            recordings.append(_recording(name, rows, found, latest_ns, refused))
        except InputError as error:
            refused[str(error)] = None
    note = "taken by band-limited phase correlation between recorders (5-9 kHz), not by the onset picker"
    return Dataset(folder, "opensoundscape", tuple(recordings), tuple(refused), (f"Delays are {note}.",))


def _look(folder: Path) -> _Folder:
    found = _Folder()
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _AUDIO and path.is_file():
            found.audio.setdefault(path.name, path)
    for path in sorted(folder.rglob("*.csv")):
        header = _header(path)
        if _has_clips(header):
            found.clips[path.stem] = read_table(path)[1]
        elif {"x", "y"} <= set(header):
            _read_places(path, found)
    return found


def _header(path: Path) -> list[str]:
    """Read the first line alone; a file that is no such CSV is another's business."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return [cell.strip() for cell in file.readline(10_000).split(",")]
    except (OSError, UnicodeDecodeError):
        return []


def _has_clips(header: list[str]) -> bool:
    return all(column in header for column in CLIP_COLUMNS)


def _read_places(path: Path, found: _Folder) -> None:
    """Take the recorders of a CSV of coordinates; its first column names the file, whatever it is called."""
    header, rows = read_table(path)
    for row in rows:
        name = _file_name(row.cells.get(header[0], ""))
        where = f"{row.path} line {row.line}"
        if name not in found.audio:
            found.faults[name] = f"{where}: there is no audio file {name!r} below the folder; give the file or its name"
            continue
        if not IDENTIFIER.fullmatch(Path(name).stem):
            found.faults[name] = (
                f"{where}: {name!r} cannot name a sensor; letters, digits, '_', '-' and '.' are accepted"
            )
            continue
        try:
            sensor = Sensor(
                sensor_id=Path(name).stem,
                x_m=row.number("x", -1e7, 1e7, "m"),
                y_m=row.number("y", -1e7, 1e7, "m"),
                z_m=row.number("z", -1e7, 1e7, "m") if "z" in header else 0.0,
                position_sigma_m=0.1,
            )
        except InputError as error:
            found.faults[name] = str(error)
        else:
            found.places[name] = Place(sensor, where)


def _file_name(text: str) -> str:
    return text.replace("\\", "/").rpartition("/")[2]


def _recording(name: str, rows: list[Row], found: _Folder, latest_ns: int, refused: dict[str, None]) -> Recording:
    """Gather the clips of one CSV into calls; a row that names nothing usable is refused by itself."""
    heard: defaultdict[tuple[int, int, str], list[str]] = defaultdict(list)
    tracks: dict[str, Track] = {}
    for row in rows:
        try:
            file = _file_name(row.name("file"))
            tracks[file] = track = _track(row, file, found, latest_ns)
            window = _window_ns(row, track.start_ns)
            for label in _labels(row):
                heard[*window, label].append(track.sensor_id)
        except InputError as error:
            refused[str(error)] = None
    if not heard:
        raise InputError(f"recording {name!r}: no clip of it can be used; at least one with a class above 0 is needed")
    places = [found.places[file] for file in tracks]
    layout = Layout({place.sensor.sensor_id: place for place in places}, find_shared_spots(places))
    sensors = layout.sensors(sorted(layout.places), name)
    calls = tuple(Call(label, start, end, tuple(ids)) for (start, end, label), ids in sorted(heard.items()))
    site = site_of(name, sensors, Weather(temperature_sigma_c=10.0, wind_sigma_m_s=1.0), locating=LOCATING)
    return Recording(name, site, tracks=tuple(tracks.values()), calls=calls)


def _track(row: Row, file: str, found: _Folder, latest_ns: int) -> Track:
    if file not in found.audio:
        raise InputError(
            f"{row.where('file')}: {row.cells['file']!r} is not there, nor is any audio file {file!r} below the folder"
        )
    if file not in found.places:
        raise InputError(
            found.faults.get(file, f"{row.where('file')}: recorder {file!r} has no position; x and y are needed")
        )
    path = found.audio[file]
    if file not in found.starts_ns:
        found.starts_ns[file] = _start_ns(path, latest_ns)
    return Track(found.places[file].sensor.sensor_id, path, found.starts_ns[file], CLOCK_SIGMA_S)


def _window_ns(row: Row, start_ns: int) -> tuple[int, int]:
    """Give a clip's window in UTC, to the millisecond, so that recorders that started apart still meet in it."""
    begin_s = row.number("start_time", 0, 86_400, "s")
    end_s = row.number("end_time", begin_s, 86_400, "s")
    if end_s == begin_s:
        raise InputError(f"{row.where('end_time')}: {end_s} s is no later than start_time; later is accepted")
    milli = 1_000_000
    return start_ns + round(begin_s * 1000) * milli, start_ns + round(end_s * 1000) * milli


def _labels(row: Row) -> list[str]:
    labels = [column for column in row.cells if column not in (*CLIP_COLUMNS, "start_timestamp", "")]
    return [label for label in labels if row.has(label) and row.number(label, -1e6, 1e6) > 0]


def _start_ns(path: Path, latest_ns: int) -> int:
    """Read when a file began from the note that OpenSoundscape leaves in it."""
    try:
        with soundfile.SoundFile(path) as file:
            note = str(file.comment)
    except (soundfile.SoundFileError, OSError):
        return 0  # whoever listens to the file will say what is wrong with it
    try:
        text = json.loads(note.partition("opso_metadata")[2] or "{}").get("recording_start_time")
    except (json.JSONDecodeError, AttributeError):
        return 0
    if not isinstance(text, str):
        return 0
    return moment_ns(text.replace("+00:00", "Z"), f"{path}, recording_start_time", latest_ns)
