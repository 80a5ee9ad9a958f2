"""Read when shots were heard where: a list of arrivals, or what a hub or a replay left, matched to its shots."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from agls.errors import InputError, MessageError
from agls.hub import JOURNAL_NAME
from agls.journal import Heard, read_journal
from agls.locate.frame import Frame
from agls.locate.solve import NoSolution, solve
from agls.messages import NS_PER_S, Detection, UtcNs, decode
from agls.replay.csv_rows import Row, read_rows
from calibration.bundle import Network, Picks, Shots, flight_s, indices, same_places

LATEST_NS = UtcNs(4_102_444_800 * NS_PER_S)  # the year 2100
AIR_SIGMAS = 2.0  # so many standard deviations of the feed a shot's own air may be off
MATCH_S = 0.04  # a detection this near where a located shot predicts it may be of it (paths scatter by up to 10 ms)
LIKE_M = 25.0  # shots nearer than this share their paths
SHOT_SIGMA_S = 1e-3  # moving air makes shots of one place differ by 1-3 ms at a sensor, which no node's sigma knows of
HEIGHT_SIGMA_M = 3.0  # of a shot that nobody surveyed
FEWEST = 4


@dataclass(frozen=True, slots=True)
class Arrival:
    """A shot heard by a sensor.

    Attributes
    ----------
    shot, sensor_id : str
        Which shot, and who heard it.
    toa_ns : int
        When, UTC [ns].
    sigma_s : float
        Standard deviation of the pick [s].
    """

    shot: str
    sensor_id: str
    toa_ns: int
    sigma_s: float


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a shot beforehand.

    Attributes
    ----------
    place_m : tuple of float
        East, north, up [m].
    sigma_m : float
        How sure [m]: 0 for exactly, infinity for a first guess.
    origin_ns : int or None
        When it was fired, UTC, where anybody knows.
    origin_sigma_s : float
        How sure that is [s].
    """

    place_m: tuple[float, float, float]
    sigma_m: float
    origin_ns: int | None = None
    origin_sigma_s: float = math.inf


@dataclass(frozen=True)
class Heap:
    """Arrivals and shots as the adjustment takes them.

    Attributes
    ----------
    shots : Shots
        The shots.
    picks : Picks
        When they were heard.
    reference_ns : int
        What their seconds count from, UTC [ns].
    left_out : dict of str to int
        Shots that could not be used, by reason.
    """

    shots: Shots
    picks: Picks
    reference_ns: int
    left_out: dict[str, int]


def read_arrivals(path: Path, sensor_ids: Sequence[str]) -> list[Arrival]:
    """Read a list of arrivals.

    Parameters
    ----------
    path : pathlib.Path
        CSV with ``shot,sensor_id,toa_utc,toa_sigma_s``.
    sensor_ids : sequence of str
        The sensors there are.

    Returns
    -------
    list of Arrival
        In the order of the file.

    Raises
    ------
    InputError
        If it cannot be read, names a strange sensor, or has one sensor hear one shot twice.
    """
    found: dict[tuple[str, str], Arrival] = {}
    for row in read_rows(path, ("shot", "sensor_id", "toa_utc", "toa_sigma_s")):
        key = row.name("shot"), row.identifier("sensor_id")
        if key[1] not in sensor_ids:
            raise InputError(f"{row.where('sensor_id')}: {key[1]!r} is no sensor of the site; {_some(sensor_ids)}")
        if key in found:
            raise InputError(f"{row.where('sensor_id')}: {key[1]!r} hears shot {key[0]!r} twice; once is accepted")
        found[key] = Arrival(*key, row.moment("toa_utc", LATEST_NS), row.number("toa_sigma_s", 1e-9, 10, "s"))
    return list(found.values())


def _some(names: Sequence[str]) -> str:
    return f"accepted are {', '.join(names[:8])}" + (" and others" if len(names) > 8 else "")


def read_known(path: Path, frame: Frame) -> dict[str, Known]:
    """Read where test shots were fired.

    Parameters
    ----------
    path : pathlib.Path
        CSV with ``shot`` and ``x_m,y_m,z_m`` or ``latitude_deg,longitude_deg,height_m``; perhaps ``sigma_m`` (0 if not
        given), ``time_utc`` and ``time_sigma_s``.
    frame : Frame
        The site's.

    Returns
    -------
    dict of str to Known
        By shot.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    known = {}
    for row in read_rows(path, ("shot",)):
        timed = row.has("time_utc")
        known[row.name("shot")] = Known(
            _place(row, frame),
            row.number_or_none("sigma_m", 0, 1_000, "m") or 0.0,
            row.moment("time_utc", LATEST_NS) if timed else None,
            row.number("time_sigma_s", 1e-9, 1_000, "s") if timed else math.inf,
        )
    return known


def _place(row: Row, frame: Frame) -> tuple[float, float, float]:
    if row.has("x_m") or not row.has("latitude_deg"):
        x_m, y_m, z_m = (row.number(column, -1e7, 1e7, "m") for column in ("x_m", "y_m", "z_m"))
        return x_m, y_m, z_m
    local = frame.to_local(
        row.number("latitude_deg", -90, 90, "degrees"),
        row.number("longitude_deg", -180, 180, "degrees"),
        row.number("height_m", -500, 9_000, "m"),
    )
    if local is None:
        raise InputError(f"{row.where('latitude_deg')}: the site has no place on Earth; x_m, y_m, z_m are accepted")
    return local


def read_out(folder: Path, network: Network) -> tuple[list[Arrival], dict[str, Known]]:
    """Read the shots that a hub or a replay located, and find the detections that are theirs.

    Parameters
    ----------
    folder : pathlib.Path
        With ``shots.csv``, and ``detections.jsonl`` or a hub's journal.
    network : Network
        Sensors and air as the shots were located by.

    Returns
    -------
    arrivals : list of Arrival
        For each shot, the detection of each sensor that is nearest to where it was to be expected.
    known : dict of str to Known
        The shots, as first guesses.

    Raises
    ------
    InputError
        If the folder does not hold them.
    """
    heard = _detections(folder)
    arrivals, known = [], {}
    for row in read_rows(folder / "shots.csv", ("recording", "shot", "origin_time", "x_m", "y_m", "z_m")):
        recording, origin_ns = row.cells.get("recording", ""), row.moment("origin_time", LATEST_NS)
        x_m, y_m, z_m = (row.number(column, -1e7, 1e7, "m") for column in ("x_m", "y_m", "z_m"))
        shot = f"{recording}/{row.name('shot')}" if recording else row.name("shot")
        known[shot] = Known((x_m, y_m, z_m), math.inf, origin_ns, math.inf)
        arrivals += _matched(shot, known[shot], heard.get(recording, {}), network)
    return arrivals, known


def _detections(folder: Path) -> dict[str, dict[str, list[Detection]]]:
    """Gather detections by recording and sensor; in a journal, a final replaces its preliminary."""
    by_key: dict[Any, Detection] = {}
    if (folder / "detections.jsonl").is_file():
        for recording, one in _lines(folder / "detections.jsonl"):
            by_key[recording, one.sensor_id, one.boot_id, one.seq] = one
    elif (folder / JOURNAL_NAME).is_file():
        for entry in read_journal(folder / JOURNAL_NAME):
            if isinstance(entry, Heard) and isinstance(entry.message, Detection):
                by_key["", entry.message.sensor_id, entry.message.boot_id, entry.message.seq] = entry.message
    else:
        raise InputError(
            f"{folder}: holds neither detections.jsonl nor {JOURNAL_NAME}; what a replay or a hub wrote is needed"
        )
    found: defaultdict[str, defaultdict[str, list[Detection]]] = defaultdict(lambda: defaultdict(list))
    for (recording, sensor_id, *_), one in by_key.items():
        found[recording][sensor_id].append(one)
    return {recording: dict(sensors) for recording, sensors in found.items()}


def _lines(path: Path) -> list[tuple[str, Detection]]:
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            whole = msgspec.json.decode(line)
            recording = whole.pop("recording", "")
            found.append((str(recording), decode(msgspec.json.encode(whole), Detection)))
        except (MessageError, msgspec.DecodeError, AttributeError) as error:
            raise InputError(f"{path} line {number}: no detection ({error}); what a replay wrote is needed") from None
    return found


def _matched(shot: str, known: Known, heard: Mapping[str, Sequence[Detection]], network: Network) -> list[Arrival]:
    air = network.air
    wind = np.array([air.east_m_s, air.north_m_s, 0.0])
    flights, _ = flight_s(network.positions_m - np.array(known.place_m), air.sound_speed_m_s, wind)
    # The shot was located in the air that the hub had learned; the feed's bends delays by what it does not know.
    doubt = AIR_SIGMAS * math.hypot(air.sound_speed_sigma_m_s, air.wind_sigma_m_s) / air.sound_speed_m_s
    matched = []
    for sensor_id, flight, late in zip(network.sensor_ids, flights.tolist(), network.offsets_s.tolist(), strict=True):
        due_ns = (known.origin_ns or 0) + round((flight + late) * NS_PER_S)
        near = min(heard.get(sensor_id, ()), key=lambda one: abs(one.toa_ns - due_ns), default=None)
        if near is not None and abs(near.toa_ns - due_ns) < (MATCH_S + doubt * flight) * NS_PER_S:
            matched.append(Arrival(shot, sensor_id, near.toa_ns, math.hypot(near.toa_sigma_s, SHOT_SIGMA_S)))
    return matched


def gather(arrivals: Sequence[Arrival], known: Mapping[str, Known], network: Network) -> Heap:
    """Lay out arrivals and shots for the adjustment; a shot that is not known is located first.

    Parameters
    ----------
    arrivals : sequence of Arrival
        What was heard.
    known : mapping of str to Known
        What is known of shots.
    network : Network
        The sensors.

    Returns
    -------
    Heap
        Shots and picks.

    Raises
    ------
    InputError
        If no shot can be used.
    """
    by_shot: defaultdict[str, list[Arrival]] = defaultdict(list)
    for arrival in arrivals:
        by_shot[arrival.shot].append(arrival)
    reference_ns = min((arrival.toa_ns for arrival in arrivals), default=0)
    usable: dict[str, Known] = {}
    left_out: defaultdict[str, int] = defaultdict(int)
    for shot, own in by_shot.items():
        found = known.get(shot) or _located(own, network)
        if isinstance(found, str) or (len(own) < FEWEST and found.sigma_m > 0):
            left_out[found if isinstance(found, str) else "too few heard it"] += 1
        else:
            usable[shot] = found
    if not usable:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "none was heard"
        raise InputError(f"no shot can be used ({reasons}); known places, or shots heard by four sensors, are needed")
    picks = [arrival for arrival in arrivals if arrival.shot in usable]
    return Heap(
        _shots(usable, reference_ns), _picks(picks, list(usable), network, reference_ns), reference_ns, left_out
    )


def _located(own: Sequence[Arrival], network: Network) -> Known | str:
    """Locate a shot from its arrivals as a first guess, or say why that fails."""
    sensors = indices(network.sensor_ids, [arrival.sensor_id for arrival in own])
    toa_s = np.array([(arrival.toa_ns - own[0].toa_ns) / NS_PER_S for arrival in own]) - network.offsets_s[sensors]
    unsure_s = np.hypot(
        network.position_sigma_m[sensors, 0] / network.air.sound_speed_m_s, network.offset_sigma_s[sensors]
    )
    sigma_s = np.hypot(np.hypot(np.array([arrival.sigma_s for arrival in own]), unsure_s), network.path_sigma_s)
    found = solve(network.positions_m[sensors], toa_s, sigma_s, network.air)
    if isinstance(found, NoSolution):
        return f"not located: {found.reason}"
    return Known((found.x_m, found.y_m, found.z_m), math.inf, None)


def _shots(known: Mapping[str, Known], reference_ns: int) -> Shots:
    places_m = np.array([one.place_m for one in known.values()], np.float64)
    sigma_m = np.array([_sigmas(one.sigma_m) for one in known.values()])
    origins = [0.0 if one.origin_ns is None else (one.origin_ns - reference_ns) / NS_PER_S for one in known.values()]
    return Shots(
        names=tuple(known),
        places_m=places_m,
        place_sigma_m=sigma_m,
        place=same_places(places_m, LIKE_M),
        origin_s=np.array(origins),
        origin_sigma_s=np.array([one.origin_sigma_s for one in known.values()]),
    )


def _sigmas(sigma_m: float) -> tuple[float, float, float]:
    """Give a shot's uncertainty by axis: a height that nobody knows is never left quite free."""
    return sigma_m, sigma_m, min(sigma_m, HEIGHT_SIGMA_M)


def _picks(arrivals: Sequence[Arrival], shots: Sequence[str], network: Network, reference_ns: int) -> Picks:
    return Picks(
        shot=indices(shots, [arrival.shot for arrival in arrivals]),
        sensor=indices(network.sensor_ids, [arrival.sensor_id for arrival in arrivals]),
        toa_s=np.array([(arrival.toa_ns - reference_ns) / NS_PER_S for arrival in arrivals]),
        sigma_s=np.array([arrival.sigma_s for arrival in arrivals]),
    )
