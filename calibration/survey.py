"""Survey a site: average GNSS fixes, and adjust sensors, clocks and air together by shots that they heard.

    agls calibrate survey --site SITE.toml --fixes north-03=fixes.csv --out NEW.toml
    agls calibrate survey --site SITE.toml --arrivals arrivals.csv --shots shots.csv --out NEW.toml
    agls calibrate survey --site SITE.toml --replay OUT --out NEW.toml

`arrivals.csv` has ``shot,sensor_id,toa_utc,toa_sigma_s``; `shots.csv` says where test shots were fired (``shot`` and
``x_m,y_m,z_m`` or ``latitude_deg,longitude_deg,height_m``; perhaps ``sigma_m``, ``time_utc``, ``time_sigma_s``). Shots
that it does not name, and those of a replay or a hub, are adjusted too. Survey from the site file as it was before
these very shots changed it, or they count twice. The new one has each sensor's place and clock offset with their sigma;
the air of the day is told in a comment, for tomorrow's is another.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from agls.config import Sensor, SiteConfig, load_site
from agls.errors import InputError
from agls.locate.frame import Frame
from agls.locate.solve import Air
from calibration.arrivals import Heap, gather, read_arrivals, read_known, read_out
from calibration.bundle import Bundle, Floats, Network, adjust
from calibration.fixes import Average, average, read_fixes
from calibration.tables import ALL, Remarks, write_table
from calibration.ties import Tie, off_plane, ties

CLOCK_SIGMA_S = 0.005  # what network time leaves a clock off by
LEAST_SIGMA_M, MOST_SIGMA_M = 0.001, 50.0  # as a site file accepts them


@dataclass(frozen=True)
class Survey:
    """What a bundle adjustment says of a site.

    Attributes
    ----------
    network : Network
        What was known before.
    heap : Heap
        What was heard.
    bundle : Bundle
        What was found.
    ties : tuple of Tie
        What could not be told apart.
    """

    network: Network
    heap: Heap
    bundle: Bundle
    ties: tuple[Tie, ...]


def network_of(site: SiteConfig, clock_sigma_s: float | None = None) -> Network:
    """Say what a site file knows of its sensors, clocks and air.

    Parameters
    ----------
    site : SiteConfig
        The site.
    clock_sigma_s : float, optional
        How sure clock offsets are [s]; as the site states it if not given.

    Returns
    -------
    Network
        What is known beforehand.
    """
    places = Frame.of_site(site).sensor_positions_m
    sigmas_m = np.array([one.position_sigma_m for one in site.sensor], np.float64)
    return Network(
        sensor_ids=tuple(one.sensor_id for one in site.sensor),
        positions_m=np.array([places[one.sensor_id] for one in site.sensor], np.float64),
        position_sigma_m=np.repeat(sigmas_m[:, None], 3, axis=1),
        offsets_s=np.array([one.clock_offset_s for one in site.sensor], np.float64),
        offset_sigma_s=np.array(
            [one.clock_offset_sigma_s if clock_sigma_s is None else clock_sigma_s for one in site.sensor], np.float64
        ),
        air=Air.of_weather(site.weather),
        path_sigma_s=site.locating.path_sigma_s,
    )


def survey(network: Network, heap: Heap) -> Survey:
    """Adjust sensors, clocks and air together, and name what could not be told apart.

    Parameters
    ----------
    network : Network
        What is known beforehand.
    heap : Heap
        Shots and when they were heard.

    Returns
    -------
    Survey
        What was found.

    Raises
    ------
    InputError
        If there are too few picks.
    """
    bundle = adjust(network, heap.shots, heap.picks)
    return Survey(network, heap, bundle, ties(network, bundle))


def with_average(site: SiteConfig, sensor_id: str, found: Average) -> SiteConfig:
    """Put a sensor where its GNSS fixes are.

    Parameters
    ----------
    site : SiteConfig
        The site.
    sensor_id : str
        Which sensor.
    found : Average
        Its averaged fixes.

    Returns
    -------
    SiteConfig
        The site with the place and its sigma.

    Raises
    ------
    InputError
        If the site has no such sensor, or no place on Earth.
    """
    names = [one.sensor_id for one in site.sensor]
    if sensor_id not in names:
        raise InputError(f"--fixes {sensor_id}=...: the site has no such sensor; accepted are {', '.join(names)}")
    place_m = Frame.of_site(site).to_local(found.latitude_deg, found.longitude_deg, found.height_m)
    if place_m is None:
        raise InputError(f"--fixes {sensor_id}=...: the site has no place on Earth; give it an [origin] first")
    old = site.sensor[names.index(sensor_id)]
    return _replaced(site, {sensor_id: _moved(old, Frame.of_site(site), place_m, found.sigma_m)})


def with_survey(site: SiteConfig, found: Survey) -> SiteConfig:
    """Put sensors and their clocks as a survey found them; a sensor that heard nothing stays as it was.

    Parameters
    ----------
    site : SiteConfig
        The site that was surveyed.
    found : Survey
        What was found.

    Returns
    -------
    SiteConfig
        The site with places, offsets and their sigma.
    """
    frame, bundle, new = Frame.of_site(site), found.bundle, {}
    for number, old in enumerate(site.sensor):
        if not (found.bundle.used & (found.heap.picks.sensor == number)).any():
            continue
        sigma_m = float(np.hypot(*bundle.position_sigma_m[number, :2]) / math.sqrt(2))
        x_m, y_m, z_m = bundle.positions_m[number].tolist()
        new[old.sensor_id] = msgspec.structs.replace(
            _moved(old, frame, (x_m, y_m, z_m), sigma_m),
            clock_offset_s=round(float(bundle.offsets_s[number]), 7),
            clock_offset_sigma_s=round(float(bundle.offset_sigma_s[number]), 7),
        )
    return _replaced(site, new)


def _moved(old: Sensor, frame: Frame, place_m: tuple[float, float, float], sigma_m: float) -> Sensor:
    """Place a sensor in the way in which it was placed before."""
    sigma_m = round(min(max(sigma_m, LEAST_SIGMA_M), MOST_SIGMA_M), 4)
    geodetic = frame.to_geodetic(*place_m)
    if old.latitude_deg is None or geodetic is None:
        x_m, y_m, z_m = (round(value, 4) for value in place_m)
        return msgspec.structs.replace(old, x_m=x_m, y_m=y_m, z_m=z_m, position_sigma_m=sigma_m)
    latitude, longitude, height_m = geodetic
    return msgspec.structs.replace(
        old,
        latitude_deg=round(latitude, 9),
        longitude_deg=round(longitude, 9),
        height_m=round(height_m, 4),
        position_sigma_m=sigma_m,
    )


def _replaced(site: SiteConfig, new: Mapping[str, Sensor]) -> SiteConfig:
    """Exchange sensors of a site; the zero of its frame stays where it was."""
    sensors = tuple(new.get(one.sensor_id, one) for one in site.sensor)
    return msgspec.structs.replace(site, sensor=sensors, origin=Frame.of_site(site).origin)


# ------------------------------------------------------------------------------------------------------ what is told


def summary(found: Survey) -> list[str]:
    """Tell what a survey found, for a person.

    Parameters
    ----------
    found : Survey
        What was found.

    Returns
    -------
    list of str
        Sentences: how well it fits, the air, and what could not be told apart.
    """
    bundle, air, shots = found.bundle, found.bundle.air, found.heap.shots
    known, refused = int((shots.place_sigma_m[:, 0] == 0).sum()), int((~bundle.used).sum())
    left_out = "".join(f"; {count} left out, {reason}" for reason, count in found.heap.left_out.items())
    heard = f"{len(shots.names)} shots, {known} of known place{left_out}; {len(bundle.used)} picks, {refused} refused"
    fit = (
        f"misfit {bundle.misfit:.0f} where {bundle.free:.0f} is expected; residuals"
        f" {_ms(_rms(bundle.residuals_s[bundle.used]))} ms rms; paths scatter by {_ms(bundle.path_sigma_s)} ms"
    )
    weather = (
        f"air of the day: sound {air.sound_speed_m_s:.2f} +-{air.sound_speed_sigma_m_s:.2f} m/s, wind towards"
        f" east {air.east_m_s:+.2f} and north {air.north_m_s:+.2f} +-{air.wind_sigma_m_s:.2f} m/s"
    )
    return [*bundle.doubt, heard, fit, weather, *(tie.sentence for tie in found.ties)]


def sensor_lines(found: Survey) -> dict[str, list[str]]:
    """Tell what a survey found of each sensor.

    Parameters
    ----------
    found : Survey
        What was found.

    Returns
    -------
    dict of str to list of str
        Sensor to sentences.
    """
    bundle, picks = found.bundle, found.heap.picks
    moved_m = bundle.positions_m - found.network.positions_m
    apart_s, apart_sigma_s = off_plane(bundle.positions_m, bundle)
    lines = {}
    for number, sensor_id in enumerate(found.network.sensor_ids):
        own = picks.sensor == number
        used = own & bundle.used
        if not used.any():
            lines[sensor_id] = [f"heard {int(own.sum())} shots and none is used; left as it was"]
            continue
        (east_m, north_m, _), (east_sigma_m, north_sigma_m, _) = moved_m[number], bundle.position_sigma_m[number]
        lines[sensor_id] = [
            f"moved {east_m:+.2f} +-{east_sigma_m:.2f} m east, {north_m:+.2f} +-{north_sigma_m:.2f} m north",
            f"clock late by {_ms(bundle.offsets_s[number])} +-{_ms(bundle.offset_sigma_s[number])} ms",
            f"without the plane that a wind explains {_ms(apart_s[number])} +-{_ms(apart_sigma_s[number])} ms",
            f"{used.sum()} picks left {_ms(_rms(bundle.residuals_s[used]))} ms rms, {(own ^ used).sum()} refused",
        ]
    return lines


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _ms(seconds: float) -> str:
    return f"{1e3 * float(seconds):.3f}"


# ------------------------------------------------------------------------------------------------------- the command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``agls calibrate survey``.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where they go.
    """
    parser.add_argument("--site", type=Path, metavar="SITE.toml", required=True, help="the site as known so far")
    parser.add_argument("--out", type=Path, metavar="NEW.toml", required=True, help="the site file to write")
    parser.add_argument(
        "--fixes",
        action="append",
        default=[],
        metavar="SENSOR=FILE",
        help="GNSS fixes of a sensor, CSV or NMEA; once for each sensor",
    )
    parser.add_argument("--arrivals", type=Path, metavar="CSV", help="shot,sensor_id,toa_utc,toa_sigma_s")
    parser.add_argument("--shots", type=Path, metavar="CSV", help="where test shots were fired")
    parser.add_argument("--replay", type=Path, metavar="OUT", help="what `agls replay` or `agls hub` wrote")
    parser.add_argument(
        "--clock-sigma",
        type=float,
        default=CLOCK_SIGMA_S,
        metavar="S",
        help=f"how far clocks may be off from what the site states (default: {CLOCK_SIGMA_S}; 0: not at all)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run ``agls calibrate survey``.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` defines them.

    Returns
    -------
    int
        Exit code 0, or 1 where the picks do not fit and nothing of it is to be trusted.

    Raises
    ------
    InputError
        If anything given cannot be used.
    """
    if not (arguments.fixes or arguments.arrivals or arguments.replay):
        raise InputError("nothing to survey by; give --fixes, --arrivals or --replay")
    if not 0 <= arguments.clock_sigma <= 1:
        raise InputError(f"--clock-sigma is {arguments.clock_sigma}; a number of seconds from 0 to 1 is accepted")
    site = load_site(arguments.site)
    told: dict[str, list[str]] = {}
    for text in arguments.fixes:
        sensor_id, found = _averaged(text)
        site = with_average(site, sensor_id, found)
        told[sensor_id] = [str(found)]
    lines: list[str] = []
    is_doubtful = False
    if arguments.arrivals or arguments.replay:
        surveyed = survey_of(site, arguments.arrivals, arguments.shots, arguments.replay, arguments.clock_sigma)
        site, lines = with_survey(site, surveyed), summary(surveyed)
        is_doubtful = bool(surveyed.bundle.doubt)
        for sensor_id, more in sensor_lines(surveyed).items():
            told[sensor_id] = told.get(sensor_id, []) + more
    write_table(arguments.out, site, _remarks(site, lines, told), source=arguments.site)
    print("\n".join([*lines, *(f"{name}: {line}" for name, own in told.items() for line in own)]))
    return int(is_doubtful)


def survey_of(
    site: SiteConfig, arrivals: Path | None, shots: Path | None, replay: Path | None, clock_sigma_s: float
) -> Survey:
    """Survey a site by files.

    Parameters
    ----------
    site : SiteConfig
        The site.
    arrivals, shots, replay : pathlib.Path or None
        As the command takes them.
    clock_sigma_s : float
        How far clocks may be off [s].

    Returns
    -------
    Survey
        What was found.

    Raises
    ------
    InputError
        If a file cannot be used, or there are too few picks.
    """
    network = network_of(site, clock_sigma_s)
    heard, known = read_out(replay, network) if replay is not None else ([], {})
    if arrivals is not None:
        heard += read_arrivals(arrivals, network.sensor_ids)
    if shots is not None:
        known |= read_known(shots, Frame.of_site(site))
    return survey(network, gather(heard, known, network))


def _averaged(text: str) -> tuple[str, Average]:
    sensor_id, _, file = text.partition("=")
    if not (sensor_id and file):
        raise InputError(f"--fixes {text!r}: a sensor and its file are accepted, such as north-03=fixes.csv")
    return sensor_id, average(read_fixes(Path(file)), file)


def _remarks(site: SiteConfig, lines: Sequence[str], told: Mapping[str, Sequence[str]]) -> Remarks:
    remarks: dict[tuple[str | int, ...], Sequence[str]] = {ALL: ["Made by `agls calibrate survey`.", *lines]}
    for number, sensor in enumerate(site.sensor):
        remarks["sensor", number] = told.get(sensor.sensor_id, ())
    return remarks
