"""Read what really happened. Called only after everything has been located: nothing in a reader or in the hub may know.

For the Pittsburgh release the truth is the survey (place, rounds) and, where it is there, the vendor's choice of pulses
for each shot, from which the time of each shot follows. For AGLS's own layout it is ``truth.csv``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from agls.errors import InputError
from agls.messages import NS_PER_S, parse_utc
from agls.physics import sound_speed_m_s
from agls.replay.csv_rows import Row, read_rows
from agls.replay.dataset import Kind
from agls.replay.pittsburgh import find_test_folders, recording_name

COLUMNS = ("recording", "time_utc", "x_m", "y_m", "z_m", "rounds", "firearm")
# Rounds of one row follow each other: this much later at most, each.
SLOWEST_ROUND_S = 2.0
# The vendor's pulses scatter by 11 ms about a shot (measured), the survey's error adds 15 ms; shots are 380 ms apart.
TIME_TOLERANCE_S = 0.19

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TrueShot:
    """One shot that was really fired.

    Attributes
    ----------
    recording : str
        In which recording.
    x_m, y_m, z_m : float
        Where [m], in the dataset's own frame.
    earliest_ns, latest_ns : int or None
        When, UTC [ns]; None where nobody knows.
    """

    recording: str
    x_m: float
    y_m: float
    z_m: float
    earliest_ns: int | None = None
    latest_ns: int | None = None


def read_truth(folder: Path, kind: Kind) -> tuple[list[TrueShot], list[str]]:
    """Read the truth of a dataset, as far as it holds any.

    Parameters
    ----------
    folder : pathlib.Path
        The dataset.
    kind : str
        Its layout.

    Returns
    -------
    list of TrueShot
        Every shot fired, one by one.
    list of str
        A sentence for each part of the truth that cannot be read.
    """
    if kind == "pittsburgh":
        return _read_surveys(folder)
    if kind == "agls" and (folder / "truth.csv").exists():
        return _read_csv(folder / "truth.csv")
    return [], []


# ------------------------------------------------------------------------------------------------ AGLS's truth.csv


def _read_csv(path: Path) -> tuple[list[TrueShot], list[str]]:
    shots: list[TrueShot] = []
    refused: list[str] = []
    try:
        rows = read_rows(path, COLUMNS)
    except InputError as error:
        return [], [str(error)]
    for row in rows:
        try:
            shots += _shots(row)
        except InputError as error:
            refused.append(str(error))
    return shots, refused


def _shots(row: Row) -> list[TrueShot]:
    recording = row.name("recording")
    x_m, y_m, z_m = (row.number(column, -1e7, 1e7, "m") for column in ("x_m", "y_m", "z_m"))
    rounds = row.number("rounds", 0, 10_000)
    if rounds != int(rounds):
        raise InputError(f"{row.where('rounds')}: {rounds}; a whole number is accepted")
    first_ns = row.moment("time_utc", 2**62) if row.has("time_utc") else None
    tolerance_ns = round(TIME_TOLERANCE_S * NS_PER_S)
    earliest = None if first_ns is None else first_ns - tolerance_ns
    # Of several rounds only the first has its time told.
    spread_ns = round((rounds - 1) * SLOWEST_ROUND_S * NS_PER_S)
    latest = None if first_ns is None else first_ns + spread_ns + tolerance_ns
    return [TrueShot(recording, x_m, y_m, z_m, earliest, latest) for _ in range(int(rounds))]


# -------------------------------------------------------------------------------------------- the Pittsburgh release


class _Xyz(msgspec.Struct, frozen=True):
    x: float
    y: float
    z: float


class _Survey(msgspec.Struct, frozen=True):
    num_rounds: Annotated[int, Meta(ge=0, le=10_000)]
    survey_location: _Xyz


class _Tuple(msgspec.Struct, frozen=True):
    pulse_uuids: list[str]


class _Pulse(msgspec.Struct, frozen=True):
    pulse_uuid: str
    arrival_time_utc: str
    location: _Xyz


class _Air(msgspec.Struct, frozen=True):
    temperature: float


def _read_surveys(root: Path) -> tuple[list[TrueShot], list[str]]:
    shots: list[TrueShot] = []
    refused: list[str] = []
    for folder in find_test_folders(root):
        for file in sorted(folder.glob("*.survey.json")):
            try:
                shots += _surveyed_shots(folder, _decode(file, _Survey))
            except InputError as error:
                refused.append(str(error))
    return shots, refused


def _surveyed_shots(folder: Path, survey: _Survey) -> list[TrueShot]:
    name, spot = recording_name(folder), survey.survey_location
    times_ns = _vendor_times_ns(folder, spot)
    if len(times_ns) != survey.num_rounds:
        return [TrueShot(name, spot.x, spot.y, spot.z)] * survey.num_rounds
    tolerance_ns = round(TIME_TOLERANCE_S * NS_PER_S)
    return [TrueShot(name, spot.x, spot.y, spot.z, t - tolerance_ns, t + tolerance_ns) for t in times_ns]


def _vendor_times_ns(folder: Path, spot: _Xyz) -> list[int]:
    """Say when each shot was fired, from the pulses that the vendor chose for it and the surveyed place."""
    pulses = {
        pulse.pulse_uuid: pulse
        for file in sorted(folder.glob("*.allpulses.json"))
        for pulse in _decode(file, list[_Pulse])
    }
    airs = [_decode(file, _Air) for file in sorted(folder.glob("*.weather.json"))]
    speed_m_s = sound_speed_m_s(airs[0].temperature if airs else 0.0, 60.0)
    times_ns = []
    for file in sorted(folder.glob("*.nlos-tuples.json")):
        for chosen in _decode(file, list[_Tuple]):
            own = [pulses[uuid] for uuid in chosen.pulse_uuids if uuid in pulses]
            if own:
                times_ns.append(round(median(_fired_ns(own, spot, speed_m_s))))
    return sorted(times_ns)


def _fired_ns(pulses: Iterable[_Pulse], spot: _Xyz, speed_m_s: float) -> Iterable[float]:
    for pulse in pulses:
        at = pulse.location
        distance_m = ((at.x - spot.x) ** 2 + (at.y - spot.y) ** 2 + (at.z - spot.z) ** 2) ** 0.5
        yield parse_utc(pulse.arrival_time_utc) - distance_m / speed_m_s * NS_PER_S


def _decode(file: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); the truth of this test is not scored") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: {error}; the truth of this test is not scored") from None
