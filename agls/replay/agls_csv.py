"""Read AGLS's own dataset layout: a folder of CSV files.

- ``sensors.csv``: ``sensor_id`` and either ``x_m,y_m,z_m`` or ``latitude_deg,longitude_deg,height_m``; optional
  ``position_sigma_m``, and ``recording`` where the layout differs from recording to recording.
- ``recordings.csv``: ``recording,sensor_id,file,start_utc``, optional ``clock_sigma_s``.
- ``detections.csv``: ``recording,sensor_id,toa_utc,toa_sigma_s,p_gunshot,level_db,snr_db``; cells of the last three
  may be empty.
- ``weather.csv``, optional: ``recording,temperature_c,wind_speed_m_s,wind_from_deg``, optional ``humidity_percent``.

``truth.csv`` is not read here.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from agls.config import Sensor, Weather
from agls.errors import InputError
from agls.messages import ClockState, Detection, UtcNs
from agls.replay.csv_rows import Row, read_rows
from agls.replay.dataset import (
    Choice,
    Dataset,
    Layout,
    Place,
    Recording,
    Track,
    boot_id_of,
    find_shared_spots,
    site_of,
)

LOCAL, GEODETIC = ("x_m", "y_m", "z_m"), ("latitude_deg", "longitude_deg", "height_m")
DETECTION_COLUMNS = ("recording", "sensor_id", "toa_utc", "toa_sigma_s", "p_gunshot", "level_db", "snr_db")
TRACK_COLUMNS = ("recording", "sensor_id", "file", "start_utc")
WEATHER_COLUMNS = ("recording", "temperature_c", "wind_speed_m_s", "wind_from_deg")
# A station's weather may be wrong by a few degrees where the sensors are.
WEATHER_SIGMA_C = 3.0


def wind_sigma_m_s(speed_m_s: float) -> float:
    """Say how far a station's wind may be off where the sensors are.

    Parameters
    ----------
    speed_m_s : float
        Reported wind speed [m/s].

    Returns
    -------
    float
        One standard deviation of each component [m/s]: what counts as calm, and more the more it blows.
    """
    return math.hypot(1.2, 0.4 * speed_m_s)


# A stated probability of 0 or 1 is taken as a millionth from it: no sound is that certain.
_LEAST_P = 1e-6
_FILE_CLOCK = ClockState(mode="file", sigma_s=1e-6)

T = TypeVar("T")


def is_agls(folder: Path) -> bool:
    """Tell whether a folder has this layout.

    Parameters
    ----------
    folder : pathlib.Path
        The folder.

    Returns
    -------
    bool
        True if it holds any of the CSV files by name.
    """
    return any((folder / name).is_file() for name in ("sensors.csv", "recordings.csv", "detections.csv"))


def read(folder: Path, choice: Choice | None, latest_ns: int) -> Dataset:
    """Read a dataset.

    Parameters
    ----------
    folder : pathlib.Path
        Where the CSV files are.
    choice : str or None
        ``audio``, ``detections``, or for None audio where there is audio and detections elsewhere.
    latest_ns : int
        Later times are in the future [ns].

    Returns
    -------
    Dataset
        Its recordings; those that cannot be used are in `refused`, each with a sentence.

    Raises
    ------
    InputError
        If nothing of it can be used: no sensors, a missing file or column.
    """
    layouts = _Layouts(folder / "sensors.csv")
    refused: dict[str, str] = {}
    weather = _per_recording(folder / "weather.csv", WEATHER_COLUMNS, _weather, refused)
    heard, tracks = _sources(folder, choice, latest_ns, refused, layouts)
    if not (heard or tracks or refused):
        raise InputError(f"{folder}: its CSV files name no recording; at least one row under the header is needed")
    names = sorted({*heard, *tracks, *refused})
    recordings = []
    for name in names:
        if name in refused:
            continue
        try:
            recordings.append(_recording(name, layouts, weather.get(name), heard.get(name), tracks.get(name)))
        except InputError as error:
            refused[name] = str(error)
    sentences = list(refused.values()) + sorted(layouts.faults() - set(refused.values()))
    return Dataset(folder, "agls", tuple(recordings), tuple(dict.fromkeys(sentences)))


def _recording(
    name: str,
    layouts: "_Layouts",
    weather: list[Weather] | None,
    detections: list[Detection] | None,
    tracks: list[Track] | None,
) -> Recording:
    used = {item.sensor_id for item in tracks or detections or ()}
    sensors = layouts.of(name).sensors(sorted(used), name)
    site = site_of(name, sensors, weather[0] if weather else Weather())
    if tracks:
        return Recording(name, site, tracks=tuple(sorted(tracks, key=lambda track: (track.start_ns, track.sensor_id))))
    return Recording(name, site, detections=number_detections(name, detections or []))


def number_detections(name: str, detections: Iterable[Detection]) -> tuple[Detection, ...]:
    """Give detections read from a file the identity that a node would have given them.

    Parameters
    ----------
    name : str
        Name of the recording.
    detections : iterable of Detection
        In any order.

    Returns
    -------
    tuple of Detection
        In order of time of arrival, each sensor's numbered from 0.
    """
    from msgspec.structs import replace

    boot_id = boot_id_of(name)
    following: defaultdict[str, int] = defaultdict(int)
    numbered = []
    # The record itself breaks ties, so that the order of rows in a file cannot.
    for detection in sorted(detections, key=lambda one: (one.toa_ns, one.sensor_id, repr(one))):
        numbered.append(replace(detection, boot_id=boot_id, seq=following[detection.sensor_id]))
        following[detection.sensor_id] += 1
    return tuple(numbered)


def _sources(
    folder: Path, choice: Choice | None, latest_ns: int, refused: dict[str, str], layouts: "_Layouts"
) -> tuple[dict[str, list[Detection]], dict[str, list[Track]]]:
    """Read the files that the choice asks for; audio goes before detections."""
    audio, finished = folder / "recordings.csv", folder / "detections.csv"
    if choice is None and not audio.exists() and not finished.exists():
        raise InputError(f"{folder}: holds neither recordings.csv nor detections.csv; one of them is needed")
    tracks: dict[str, list[Track]] = {}
    if choice == "audio" or (choice is None and audio.exists()):
        tracks = _per_recording(
            audio, TRACK_COLUMNS, lambda row: _track(layouts.known(row), latest_ns), refused, needed=True
        )
    heard: dict[str, list[Detection]] = {}
    if choice == "detections" or (choice is None and finished.exists()):
        heard = _per_recording(
            finished, DETECTION_COLUMNS, lambda row: _detection(layouts.known(row), latest_ns), refused, needed=True
        )
    return heard, tracks


def _per_recording(
    path: Path,
    columns: tuple[str, ...],
    convert: Callable[[Row], T],
    refused: dict[str, str],
    needed: bool = False,
) -> dict[str, list[T]]:
    """Convert every row; a row that cannot be refuses its recording."""
    if not needed and not path.exists():
        return {}
    found: defaultdict[str, list[T]] = defaultdict(list)
    for row in read_rows(path, columns):
        name = row.name("recording")
        try:
            found[name].append(convert(row))
        except InputError as error:
            refused.setdefault(name, str(error))
    return dict(found)


def _track(row: Row, latest_ns: int) -> Track:
    file = row.path.parent / row.name("file")
    if not file.is_file():
        raise InputError(f"{row.where('file')}: there is no file {file}; a WAV, FLAC or OGG file is needed")
    sigma_s = row.number_or_none("clock_sigma_s", 1e-9, 10, "s")
    return Track(row.identifier("sensor_id"), file, row.moment("start_utc", latest_ns), sigma_s or 1e-3)


def _detection(row: Row, latest_ns: int) -> Detection:
    p = row.number_or_none("p_gunshot", 0, 1)
    return Detection(
        sensor_id=row.identifier("sensor_id"),
        boot_id="unnumbered",
        seq=0,
        toa_ns=UtcNs(row.moment("toa_utc", latest_ns)),
        toa_sigma_s=row.number("toa_sigma_s", 1e-9, 10, "s"),
        level_db=row.number_or_none("level_db", -200, 250, "dB"),
        snr_db=row.number_or_none("snr_db", -200, 250, "dB"),
        # The file states p at even prior, where the log-likelihood ratio is its logit.
        llr={} if p is None else {"gunshot": _logit(min(max(p, _LEAST_P), 1 - _LEAST_P))},
        clock=_FILE_CLOCK,
    )


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _weather(row: Row) -> Weather:
    humidity = row.number_or_none("humidity_percent", 0, 100, "%")
    return Weather(
        temperature_c=row.number("temperature_c", -60, 60, "degrees C"),
        humidity_percent=60.0 if humidity is None else humidity,
        wind_speed_m_s=row.number("wind_speed_m_s", 0, 60, "m/s"),
        wind_from_deg=row.number("wind_from_deg", 0, 360, "degrees"),
        temperature_sigma_c=WEATHER_SIGMA_C,
        wind_sigma_m_s=wind_sigma_m_s(row.number("wind_speed_m_s", 0, 60, "m/s")),
    )


class _Layouts:
    """The sensors of ``sensors.csv``: of one recording, or of all."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"{path}: is not there; a dataset needs this file with at least one sensor")
        rows = read_rows(path, ("sensor_id",))
        if not rows:
            raise InputError(f"{path}: holds no sensor; at least one row under the header is needed")
        columns = _position_columns(path, rows)
        self._path = path
        self._found: dict[str, Layout] = {}
        for row in rows:
            scope = row.name("recording") if row.has("recording") else ""
            _place(row, columns, self._found.setdefault(scope, Layout()))
        for scope in self._found:
            layout = self.of(scope)
            spots = find_shared_spots(list(layout.places.values()))
            self._found[scope].faults.update(
                {sensor_id: sentence for sensor_id, sentence in spots.items() if sensor_id not in layout.faults}
            )

    def of(self, recording: str) -> Layout:
        """Give the sensors of a recording: those named for it, and those named for all."""
        common, own = self._found.get("", Layout()), self._found.get(recording, Layout())
        faults = {key: value for key, value in common.faults.items() if key not in own.places} | own.faults
        return Layout(common.places | own.places, faults)

    def known(self, row: Row) -> Row:
        """Give back a row that names a sensor of its recording, well placed or not; refuse any other."""
        sensor_id, scopes = row.identifier("sensor_id"), ("", row.name("recording"))
        layouts = [self._found[scope] for scope in scopes if scope in self._found]
        if any(sensor_id in layout.places or sensor_id in layout.faults for layout in layouts):
            return row
        names = sorted({name for layout in layouts for name in layout.places})
        accepted = ", ".join(names[:8]) + (" and others" if len(names) > 8 else "")
        raise InputError(
            f"{row.where('sensor_id')}: {sensor_id!r} is no sensor of this recording in {self._path.name}; "
            + (f"accepted are {accepted}" if names else "it has none")
        )

    def faults(self) -> set[str]:
        """Give every sentence that refuses a sensor."""
        return {sentence for layout in self._found.values() for sentence in layout.faults.values()}


def _position_columns(path: Path, rows: list[Row]) -> tuple[str, ...]:
    """Decide how positions are given: metres win where a file has both."""
    header = rows[0].cells.keys()
    for columns in (LOCAL, GEODETIC):
        if all(column in header for column in columns) and any(row.has(columns[0]) for row in rows):
            return columns
    for columns in (LOCAL, GEODETIC):
        if any(column in header for column in columns):
            missing = [column for column in columns if column not in header]
            if missing:
                raise InputError(f"{path} line 1: column {missing[0]} is missing; needed are {', '.join(columns)}")
            return columns
    raise InputError(f"{path} line 1: no position; columns {', '.join(LOCAL)} or {', '.join(GEODETIC)} are needed")


def _place(row: Row, columns: tuple[str, ...], layout: Layout) -> None:
    """Add a row to a layout, as a place or as a fault."""
    sensor_id = row.identifier("sensor_id")
    where = f"{row.path} line {row.line}"
    if sensor_id in layout.places:
        layout.faults[sensor_id] = f"{where}: sensor {sensor_id!r} is there twice; once is accepted"
        return
    missing = [column for column in columns if not row.has(column)]
    if missing:
        layout.faults[sensor_id] = (
            f"{where}, column {missing[0]}: sensor {sensor_id!r} has no position; a number is needed"
        )
        return
    try:
        layout.places[sensor_id] = Place(_sensor(sensor_id, row, columns), where)
    except InputError as error:
        layout.faults[sensor_id] = str(error)


def _sensor(sensor_id: str, row: Row, columns: tuple[str, ...]) -> Sensor:
    sigma_m = row.number_or_none("position_sigma_m", 0.001, 50, "m")
    limits = (1e7, 1e7, 1e7) if columns == LOCAL else (90.0, 180.0, 9_000.0)
    units = ("m",) * 3 if columns == LOCAL else ("degrees", "degrees", "m")
    position = {
        column: row.number(column, -limit, limit, unit)
        for column, limit, unit in zip(columns, limits, units, strict=True)
    }
    return Sensor(sensor_id=sensor_id, position_sigma_m=sigma_m or 0.5, **position)
