"""Read ShotSpotter's release of the Pittsburgh live-fire tests, recognised by its layout alone.

Below any root, a folder that holds ``*.allpulses.json`` or ``*.audio.<serial>.wav`` is a recording, named after it and
the folder above, such as ``FP1/test_001``. The survey and the vendor's tuples are the truth and are not read here.

Where a sensor stands is taken from the pulses: there the vendor gives averaged positions. The JSON beside a WAV gives
a single GPS fix (measured: 3 m off on each horizontal axis and 7 m in height, one sigma), so it is used only where no
pulse of this firing position tells better, and then the median of all its fixes.
"""

import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from agls.config import Sensor, Weather
from agls.errors import InputError
from agls.messages import ClockState, Detection, Identifier, UtcNs
from agls.replay.agls_csv import WEATHER_SIGMA_C, number_detections, wind_sigma_m_s
from agls.replay.csv_rows import moment_ns
from agls.replay.dataset import Choice, Dataset, Layout, Place, Recording, Track, find_shared_spots, site_of

# Arrivals are rounded to 1 ms (0.3 ms rms) and scatter by 0.8-1.5 ms from shot to shot (see facts of the dataset).
PULSE_SIGMA_S = 1.5e-3
# The vendor's `location_error` (0.03 m) is that of an average; re-surveyed sensors moved by 0.5-4 m during the tests.
POSITION_SIGMA_M, FIX_SIGMA_M = 0.5, 3.5
# Peaks in the pulse files saturate at 93-95 dB SPL, which is where the WAVs clip.
FULL_SCALE_DB_SPL = 95.0
# The time of the first sample is given in whole milliseconds.
WAV_CLOCK_SIGMA_S = 5e-4

T = TypeVar("T")

_AUDIO = re.compile(r".+\.audio\.(?P<serial>.+)\.(?:wav|json)")


class _Xyz(msgspec.Struct, frozen=True):
    x: Annotated[float, Meta(ge=-1e7, le=1e7)]
    y: Annotated[float, Meta(ge=-1e7, le=1e7)]
    z: Annotated[float, Meta(ge=-1e7, le=1e7)]


class _Pulse(msgspec.Struct, frozen=True):
    serial_number: Identifier
    arrival_time_utc: str
    location: _Xyz
    signal_to_noise: Annotated[float, Meta(ge=-200, le=250)] = msgspec.field(name="signal_to_noise_dB")
    power: Annotated[float, Meta(ge=-200, le=250)] = msgspec.field(name="power_dB_SPL")


class _Audio(msgspec.Struct, frozen=True):
    serial_number: Identifier
    timestamp: str
    location: _Xyz


class _Air(msgspec.Struct, frozen=True):
    temperature: Annotated[float, Meta(ge=-60, le=60)]
    speed: Annotated[float, Meta(ge=0, le=60)] = 0.0
    direction: Annotated[float, Meta(ge=0, le=360)] = 0.0


@dataclass(slots=True)
class _Test:
    """One test folder as far as it could be read."""

    name: str
    folder: Path
    pulses: list[_Pulse] = field(default_factory=list)
    has_pulses: bool = False
    audio: list[tuple[Path, _Audio]] = field(default_factory=list)
    weather: Weather = field(default_factory=Weather)
    fault: str = ""


def find_test_folders(root: Path) -> list[Path]:
    """Find the test folders below a root.

    Parameters
    ----------
    root : pathlib.Path
        Any folder at or above them.

    Returns
    -------
    list of pathlib.Path
        Folders that hold pulses or audio, in order of name.
    """
    files = [*root.rglob("*.allpulses.json"), *root.rglob("*.audio.*.wav"), *root.rglob("*.audio.*.json")]
    return sorted({file.parent for file in files})


def recording_name(folder: Path) -> str:
    """Name the recording of a test folder.

    Parameters
    ----------
    folder : pathlib.Path
        The test folder.

    Returns
    -------
    str
        Such as ``FP1/test_001``.
    """
    folder = folder.resolve()
    return f"{folder.parent.name}/{folder.name}"


def read(root: Path, choice: Choice | None, latest_ns: int) -> Dataset:
    """Read the release.

    Parameters
    ----------
    root : pathlib.Path
        Any folder at or above the test folders.
    choice : str or None
        ``audio`` for the WAVs, ``detections`` for the pulses; None for audio where a test has any.
    latest_ns : int
        Later times are in the future [ns].

    Returns
    -------
    Dataset
        One recording per test folder.
    """
    by_position: defaultdict[Path, list[_Test]] = defaultdict(list)
    for folder in find_test_folders(root):
        by_position[folder.parent].append(_read_test(folder))
    recordings: dict[str, Recording] = {}
    refused: list[str] = []
    for tests in by_position.values():
        fallback = _Positions(tests)
        for test in tests:
            try:
                if test.name in recordings:
                    raise InputError(f"{test.folder}: a test named {test.name} was there already; once is accepted")
                recordings[test.name] = _recording(test, fallback, choice, latest_ns)
            except InputError as error:
                refused.append(str(error))
    notes = ("Audio is the default; --from detections reads the vendor's pulses instead.",) if choice is None else ()
    return Dataset(root, "pittsburgh", tuple(recordings[name] for name in sorted(recordings)), tuple(refused), notes)


def _recording(test: _Test, fallback: "_Positions", choice: Choice | None, latest_ns: int) -> Recording:
    if test.fault:
        raise InputError(test.fault)
    audio = choice == "audio" or (choice is None and bool(test.audio))
    if audio and not test.audio:
        raise InputError(f"{test.folder}: holds no *.audio.*.wav; its pulses can be replayed with --from detections")
    if not audio and not test.has_pulses:
        raise InputError(f"{test.folder}: holds no *.allpulses.json; its audio can be replayed with --from audio")
    serials = {found.serial_number for _, found in test.audio} if audio else {p.serial_number for p in test.pulses}
    places = [fallback.place(serial, test) for serial in sorted(serials)]
    layout = Layout({place.sensor.sensor_id: place for place in places}, find_shared_spots(places))
    site = site_of(test.name, layout.sensors(sorted(serials), test.name), test.weather)
    if audio:
        return Recording(test.name, site, tracks=tuple(_track(path, found, latest_ns) for path, found in test.audio))
    heard = [_detection(pulse, f"{test.folder}, allpulses", latest_ns) for pulse in test.pulses]
    return Recording(test.name, site, detections=number_detections(test.name, heard))


def _track(path: Path, found: _Audio, latest_ns: int) -> Track:
    start_ns = moment_ns(found.timestamp, f"{path.with_suffix('.json')}, timestamp", latest_ns)
    return Track(found.serial_number, path, start_ns, WAV_CLOCK_SIGMA_S, FULL_SCALE_DB_SPL)


def _detection(pulse: _Pulse, where: str, latest_ns: int) -> Detection:
    return Detection(
        sensor_id=pulse.serial_number,
        boot_id="unnumbered",
        seq=0,
        toa_ns=UtcNs(moment_ns(pulse.arrival_time_utc, f"{where}, arrival_time_utc", latest_ns)),
        toa_sigma_s=PULSE_SIGMA_S,
        level_db=pulse.power,
        snr_db=pulse.signal_to_noise,
        clock=ClockState(mode="file", sigma_s=WAV_CLOCK_SIGMA_S),
    )


# ------------------------------------------------------------------------------------------------------ reading


def _read_test(folder: Path) -> _Test:
    """Read what a test folder holds; a fault refuses the test, not its neighbours."""
    test = _Test(recording_name(folder), folder)
    try:
        for file in sorted(folder.glob("*.allpulses.json")):
            test.pulses += _decode(file, list[_Pulse])
            test.has_pulses = True
        for file in sorted(folder.glob("*.weather.json")):
            test.weather = _weather(_decode(file, _Air))
        test.audio = _read_audio(folder)
    except InputError as error:
        test.fault = str(error)
    return test


def _read_audio(folder: Path) -> list[tuple[Path, _Audio]]:
    stems = {file.with_suffix("") for file in folder.glob("*.audio.*") if _AUDIO.fullmatch(file.name)}
    found = []
    for stem in sorted(stems):
        wav, about = stem.with_name(stem.name + ".wav"), stem.with_name(stem.name + ".json")
        for file, need in ((wav, "audio"), (about, "time and position")):
            if not file.is_file():
                raise InputError(f"{file}: is not there; the {need} of this sensor is needed")
        found.append((wav, _decode(about, _Audio)))
    serials = [audio.serial_number for _, audio in found]
    twice = {serial for serial in serials if serials.count(serial) > 1}
    if twice:
        raise InputError(f"{folder}: audio of sensor {min(twice)!r} is there twice; once is accepted")
    return found


def _decode(file: Path, kind: type[T]) -> T:
    """Read a JSON file strictly as far as it is needed; other fields are ignored."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); a JSON file is needed") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: {error}; a file as ShotSpotter's README describes it is accepted") from None


def _weather(air: _Air) -> Weather:
    return Weather(
        temperature_c=air.temperature,
        wind_speed_m_s=air.speed,
        wind_from_deg=air.direction,
        temperature_sigma_c=WEATHER_SIGMA_C,
        wind_sigma_m_s=wind_sigma_m_s(air.speed),
    )


class _Positions:
    """Where the sensors around one firing position stand, for tests whose own pulses do not tell."""

    def __init__(self, tests: list[_Test]) -> None:
        self._pulses: defaultdict[str, list[_Xyz]] = defaultdict(list)
        self._fixes: defaultdict[str, list[_Xyz]] = defaultdict(list)
        for test in tests:
            for pulse in test.pulses:
                self._pulses[pulse.serial_number].append(pulse.location)
            for _, audio in test.audio:
                self._fixes[audio.serial_number].append(audio.location)

    def place(self, serial: str, test: _Test) -> Place:
        """Give the best known position of a sensor for one test."""
        own = [pulse.location for pulse in test.pulses if pulse.serial_number == serial]
        averaged = own or self._pulses[serial]
        fixes = self._fixes[serial]
        sigma_m = POSITION_SIGMA_M if averaged else max(POSITION_SIGMA_M, FIX_SIGMA_M / math.sqrt(len(fixes)))
        spots = averaged or fixes
        sensor = Sensor(
            sensor_id=serial,
            x_m=median(spot.x for spot in spots),
            y_m=median(spot.y for spot in spots),
            z_m=median(spot.z for spot in spots),
            position_sigma_m=sigma_m,
        )
        return Place(sensor, str(test.folder))
