"""What a recorded dataset is, whatever its layout: recordings, each with its sensors and what they heard.

A recording is either audio (`tracks`), finished detections, or windows of audio to be correlated (`calls`). Nothing
here holds the truth: that is read by `agls.replay.truth`, after everything has been located.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from agls.config import Locating, Origin, Sensor, SiteConfig, Weather
from agls.errors import InputError
from agls.messages import Detection
from agls.site_checks import SAME_SPOT_M

Kind: TypeAlias = Literal["agls", "pittsburgh", "opensoundscape"]
Choice: TypeAlias = Literal["audio", "detections"]

# A clock a little ahead is no reason to refuse a recording; the hub allows as much.
FUTURE_NS = 10_000_000_000
_M_PER_DEG = 111_320.0


@dataclass(frozen=True, slots=True)
class Track:
    """One sensor's audio file.

    Attributes
    ----------
    sensor_id : str
        Which sensor recorded it.
    path : pathlib.Path
        WAV, FLAC or OGG.
    start_ns : int
        When the first sample was taken, UTC [ns].
    clock_sigma_s : float
        Standard deviation of that moment [s].
    full_scale_db_spl : float
        Sound pressure level that reaches full scale [dB].
    """

    sensor_id: str
    path: Path
    start_ns: int
    clock_sigma_s: float = 1e-3
    full_scale_db_spl: float = 120.0


@dataclass(frozen=True, slots=True)
class Call:
    """A moment in which several recorders heard the same sound, to be lined up by correlation.

    Attributes
    ----------
    label : str
        What somebody heard there.
    start_ns, end_ns : int
        The window, UTC [ns].
    sensor_ids : tuple of str
        The recorders that heard it; the first is the reference.
    """

    label: str
    start_ns: int
    end_ns: int
    sensor_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording: a layout of sensors, the air over it, and what was heard.

    Attributes
    ----------
    name : str
        Name of the recording, such as ``FP1/test_001``.
    site : SiteConfig
        Sensors and weather, as the hub takes them.
    detections : tuple of Detection
        What sensors heard, where that is known.
    tracks : tuple of Track
        Audio, where that is to be listened to.
    calls : tuple of Call
        Windows of the audio to be correlated instead.
    """

    name: str
    site: SiteConfig
    detections: tuple[Detection, ...] = ()
    tracks: tuple[Track, ...] = ()
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """A folder of recordings.

    Attributes
    ----------
    path : pathlib.Path
        The folder.
    kind : str
        Its layout: agls, pittsburgh or opensoundscape.
    recordings : tuple of Recording
        What can be replayed, in order of name.
    refused : tuple of str
        A sentence for each thing that cannot.
    notes : tuple of str
        What a reader of the results should know about how it was read.
    """

    path: Path
    kind: Kind
    recordings: tuple[Recording, ...]
    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where one sensor stands, and where that is written.

    Attributes
    ----------
    sensor : Sensor
        The sensor with its position.
    where : str
        File and line, for a sentence.
    """

    sensor: Sensor
    where: str


@dataclass(slots=True)
class Layout:
    """Sensors of one recording while it is read: those that can be used, and why others cannot.

    Attributes
    ----------
    places : dict of str to Place
        Sensors with a position of their own.
    faults : dict of str to str
        Sensor to the sentence that refuses it.
    """

    places: dict[str, Place] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def sensors(self, used: Iterable[str], recording: str) -> tuple[Sensor, ...]:
        """Give the sensors of a recording, after checking those it uses.

        Parameters
        ----------
        used : iterable of str
            Sensors that heard something in it.
        recording : str
            Its name, for a sentence.

        Returns
        -------
        tuple of Sensor
            Every sound sensor of the layout, in order of name.

        Raises
        ------
        InputError
            If a sensor that heard something has no position of its own.
        """
        for sensor_id in used:
            if sensor_id in self.faults:
                raise InputError(self.faults[sensor_id])
            if sensor_id not in self.places:
                raise InputError(
                    f"recording {recording!r} uses sensor {sensor_id!r}, which has no position; every sensor needs one"
                )
        return tuple(self.places[name].sensor for name in sorted(self.places) if name not in self.faults)


def find_shared_spots(places: Sequence[Place]) -> dict[str, str]:
    """Find sensors that stand on one spot, which no timing can tell apart.

    Parameters
    ----------
    places : sequence of Place
        Sensors of one layout.

    Returns
    -------
    dict of str to str
        Each sensor concerned, and the sentence that refuses it.
    """
    faults: dict[str, str] = {}
    if len(places) < 2:
        return faults
    spots_m = np.array([_metres(place.sensor) for place in places])
    for i, first in enumerate(places):
        apart_m = np.linalg.norm(spots_m[i + 1 :] - spots_m[i], axis=1)
        for j in np.flatnonzero(apart_m <= SAME_SPOT_M):
            second = places[i + 1 + int(j)]
            sentence = (
                f"{second.where}: sensor {second.sensor.sensor_id!r} stands on the spot of sensor"
                f" {first.sensor.sensor_id!r} ({_told(second.sensor)}); two sensors must be more than"
                f" {SAME_SPOT_M} m apart"
            )
            for place in (first, second):
                faults.setdefault(place.sensor.sensor_id, sentence)
    return faults


def site_of(
    name: str,
    sensors: Sequence[Sensor],
    weather: Weather,
    origin: Origin | None = None,
    locating: Locating | None = None,
) -> SiteConfig:
    """Build the hub's configuration for one recording.

    Parameters
    ----------
    name : str
        Name of the recording.
    sensors : sequence of Sensor
        Its layout.
    weather : Weather
        The air over it.
    origin : Origin, optional
        Zero of the local frame; none where the dataset knows only metres.
    locating : Locating, optional
        How detections become shots; the defaults if not given.

    Returns
    -------
    SiteConfig
        The configuration.
    """
    return SiteConfig(
        name=name[:80], origin=origin, sensor=tuple(sensors), weather=weather, locating=locating or Locating()
    )


def boot_id_of(recording: str) -> str:
    """Name the run of a node in a recording; the same recording always gives the same name.

    Parameters
    ----------
    recording : str
        Name of the recording.

    Returns
    -------
    str
        An identifier.
    """
    return "replay-" + blake2b(recording.encode(), digest_size=5).hexdigest()


def _metres(sensor: Sensor) -> tuple[float, float, float]:
    """Give a position in metres, exact enough to compare neighbours."""
    if sensor.latitude_deg is None:
        return sensor.x_m or 0.0, sensor.y_m or 0.0, sensor.z_m or 0.0
    east_m = _M_PER_DEG * (sensor.longitude_deg or 0.0) * float(np.cos(np.radians(sensor.latitude_deg)))
    return east_m, _M_PER_DEG * sensor.latitude_deg, sensor.height_m or 0.0


def _told(sensor: Sensor) -> str:
    if sensor.latitude_deg is None:
        return f"x_m, y_m, z_m = {sensor.x_m}, {sensor.y_m}, {sensor.z_m}"
    return f"latitude_deg, longitude_deg, height_m = {sensor.latitude_deg}, {sensor.longitude_deg}, {sensor.height_m}"
