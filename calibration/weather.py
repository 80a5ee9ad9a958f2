"""Tell sound speed and wind from located shots, and hold them against what the weather feed says.

    agls calibrate weather --site SITE.toml --replay OUT --out NEW.toml
    agls calibrate weather --site SITE.toml --arrivals arrivals.csv [--shots shots.csv] --out NEW.toml

Three explanations of the same arrivals are weighed: the feed is right, the air differs from it, or the air is as it
says and clocks are off. The last two are hard to tell apart, for a wind is a plane of clock offsets; which of them is
right must be known from elsewhere, and the tool says so. The new site file has the air of the likeliest explanation.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2

from agls.config import SiteConfig, Weather, load_site
from agls.errors import InputError
from agls.locate.frame import Frame
from agls.locate.solve import Air
from agls.physics import sound_speed_m_s
from calibration.arrivals import Heap, gather, read_arrivals, read_known, read_out
from calibration.bundle import Bundle, Floats, Network, adjust
from calibration.survey import network_of
from calibration.tables import ALL, write_table

ANY_SPEED_M_S, ANY_WIND_M_S = 15.0, 10.0  # how far the air may be from what the feed says, where the feed is wrong
CLOCK_SIGMA_S = 0.005  # how far clocks are off where they are
STRANGE = 0.01  # shots and feed contradict each other when chance does so more rarely
EXPLANATIONS = ("the feed is right", "the air is not as the feed says", "the feed is right and clocks are off")


@dataclass(frozen=True)
class AirFound:
    """What shots say of the air, beside the feed.

    Attributes
    ----------
    feed : Air
        What the feed says.
    shots : Bundle
        The adjustment by shots alone.
    airs : dict of str to Air
        The air under each of `EXPLANATIONS`: that of the second is by shots alone, the others heed the feed.
    covariance : numpy.ndarray, shape (3, 3)
        Of sound speed, east and north wind by shots alone [m2/s2].
    chi2, p : float
        Square of the difference from the feed in standard deviations, three expected; how often chance makes it larger.
    odds : dict of str to float
        Probability of each of `EXPLANATIONS`, alike before anything was heard.
    plane_s : float
        Scatter over the sensors of the clock offsets that would make the same difference [s].
    plane_us_m, plane_deg : float
        How steep they are [us/m], and towards which azimuth they grow [degrees].
    """

    feed: Air
    shots: Bundle
    airs: dict[str, Air]
    covariance: Floats
    chi2: float
    p: float
    odds: dict[str, float]
    plane_s: float
    plane_us_m: float
    plane_deg: float

    @property
    def agrees(self) -> bool:
        """Whether shots and feed are compatible.

        Returns
        -------
        bool
            False where chance makes such a difference in less than one of a hundred cases.
        """
        return self.p >= STRANGE

    @property
    def best(self) -> str:
        """The likeliest explanation.

        Returns
        -------
        str
            One of `EXPLANATIONS`.
        """
        return max(self.odds, key=lambda name: self.odds[name])


def find_air(network: Network, heap: Heap, clock_sigma_s: float = CLOCK_SIGMA_S) -> AirFound:
    """Tell the air from shots.

    Parameters
    ----------
    network : Network
        Sensors and their clocks as sure as they are claimed to be, and the air as the feed says.
    heap : Heap
        Shots and when they were heard.
    clock_sigma_s : float, optional
        How far clocks are off where clocks are the explanation [s].

    Returns
    -------
    AirFound
        The air, and how it compares with the feed.

    Raises
    ------
    InputError
        If there are too few picks.
    """
    feed = network.air
    free = Air(feed.sound_speed_m_s, feed.east_m_s, feed.north_m_s, ANY_SPEED_M_S, ANY_WIND_M_S)
    off = np.hypot(network.offset_sigma_s, clock_sigma_s)
    fits = [
        adjust(_with(network, air, sigma_s), heap.shots, heap.picks)
        for air, sigma_s in ((feed, network.offset_sigma_s), (free, network.offset_sigma_s), (feed, off))
    ]
    shots = fits[1]
    nats = np.array([fit.unlikelihood for fit in fits]) / -2
    odds = np.exp(nats - np.logaddexp.reduce(nats))
    where = shots.index["air"]
    covariance = shots.covariance[np.ix_(where, where)]
    apart = _velocities(shots.air) - _velocities(feed)
    beside = np.diag(np.array([feed.sound_speed_sigma_m_s, feed.wind_sigma_m_s, feed.wind_sigma_m_s]) ** 2)
    strange = float(apart @ np.linalg.solve(covariance + beside, apart))
    slope = -apart[1:] / feed.sound_speed_m_s**2
    over = (network.positions_m - network.positions_m.mean(axis=0))[:, :2] @ slope
    airs = {name: fit.air for name, fit in zip(EXPLANATIONS, fits, strict=True)}
    return AirFound(
        feed, shots, airs, covariance, strange, float(chi2.sf(strange, 3)),
        dict(zip(EXPLANATIONS, odds.tolist(), strict=True)), float(over.std()), 1e6 * float(np.hypot(*slope)),
        math.degrees(math.atan2(slope[0], slope[1])) % 360,
    )  # fmt: skip


def _with(network: Network, air: Air, offset_sigma_s: Floats) -> Network:
    return replace(network, air=air, offset_sigma_s=offset_sigma_s)


def _velocities(air: Air) -> Floats:
    return np.array([air.sound_speed_m_s, air.east_m_s, air.north_m_s])


def weather_of(air: Air, humidity_percent: float) -> Weather:
    """Write an air as a weather report.

    Parameters
    ----------
    air : Air
        Sound speed and wind.
    humidity_percent : float
        Relative humidity, which arrivals do not tell.

    Returns
    -------
    Weather
        The report from which `agls` takes that air again.

    Raises
    ------
    InputError
        If no temperature between -60 and 60 degrees makes that sound speed.
    """
    low_m_s, high_m_s = (sound_speed_m_s(edge, humidity_percent) for edge in (-60.0, 60.0))
    if not low_m_s < air.sound_speed_m_s < high_m_s:
        raise InputError(
            f"the arrivals want a sound speed of {air.sound_speed_m_s:.1f} m/s; air between -60 and 60 degrees has"
            f" {low_m_s:.1f} to {high_m_s:.1f}, so places or times of the arrivals must be wrong"
        )
    warm = brentq(lambda warm: sound_speed_m_s(warm, humidity_percent) - air.sound_speed_m_s, -60.0, 60.0)
    step_m_s = sound_speed_m_s(warm + 1.0, humidity_percent) - air.sound_speed_m_s
    wind_m_s = math.hypot(air.east_m_s, air.north_m_s)
    return Weather(
        temperature_c=round(warm, 3),
        humidity_percent=humidity_percent,
        wind_speed_m_s=round(min(wind_m_s, 60.0), 3),
        wind_from_deg=round(math.degrees(math.atan2(-air.east_m_s, -air.north_m_s)) % 360, 2),
        temperature_sigma_c=round(min(max(air.sound_speed_sigma_m_s / step_m_s, 1e-3), 50.0), 3),
        wind_sigma_m_s=round(min(max(air.wind_sigma_m_s, 1e-3), 50.0), 3),
    )


def summary(found: AirFound, heap: Heap) -> list[str]:
    """Tell what was found, for a person.

    Parameters
    ----------
    found : AirFound
        What was found.
    heap : Heap
        What was heard.

    Returns
    -------
    list of str
        Sentences.
    """
    shots, sigmas = found.shots, np.sqrt(np.diag(found.covariance))
    refused, heard = int((~shots.used).sum()), len(shots.used)
    residual_ms = 1e3 * float(np.sqrt((shots.residuals_s[shots.used] ** 2).mean()))
    verdict = (
        f"they {'agree' if found.agrees else 'contradict each other'}: chi2 {found.chi2:.1f} where 3 is expected"
        f" (chance makes it larger in {found.p:.2g} of all cases)"
    )
    plane = (
        f"what the wind differs sounds like clock offsets growing by {found.plane_us_m:.2g} us/m towards"
        f" {found.plane_deg:.0f} degrees, {1e3 * found.plane_s:.2f} ms rms over the site: whether clocks are off like"
        " that, arrivals cannot tell"
    )
    lines = [
        f"{len(heap.shots.names)} shots, {heard} picks, {refused} refused; residuals {residual_ms:.3f} ms rms",
        f"shots say: {_told(shots.air, sigmas)}",
        f"the feed says: {_told(found.feed, (found.feed.sound_speed_sigma_m_s, *[found.feed.wind_sigma_m_s] * 2))}",
        verdict,
        "; ".join(f"{name}: {odds:.3f}" for name, odds in found.odds.items()),
    ]
    return [*shots.doubt, *lines, plane]


def _told(air: Air, sigmas: Floats | tuple[float, ...]) -> str:
    speed, east, north = (float(one) for one in sigmas)
    return (
        f"sound {air.sound_speed_m_s:.2f} +-{speed:.2f} m/s, wind towards east {air.east_m_s + 0.0:+.2f} +-{east:.2f}"
        f" and north {air.north_m_s + 0.0:+.2f} +-{north:.2f} m/s"
    )


# ------------------------------------------------------------------------------------------------------- the command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``agls calibrate weather``.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where they go.
    """
    parser.add_argument(
        "--site", type=Path, metavar="SITE.toml", required=True, help="the site, with what the feed says"
    )
    parser.add_argument("--out", type=Path, metavar="NEW.toml", required=True, help="the site file to write")
    parser.add_argument("--replay", type=Path, metavar="OUT", help="what `agls replay` or `agls hub` wrote")
    parser.add_argument("--arrivals", type=Path, metavar="CSV", help="shot,sensor_id,toa_utc,toa_sigma_s")
    parser.add_argument("--shots", type=Path, metavar="CSV", help="where shots of the arrivals were fired, if known")
    parser.add_argument(
        "--clock-sigma",
        type=float,
        default=CLOCK_SIGMA_S,
        metavar="S",
        help=f"how far clocks would be off if they were the reason (default: {CLOCK_SIGMA_S})",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run ``agls calibrate weather``.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` defines them.

    Returns
    -------
    int
        Exit code 0.

    Raises
    ------
    InputError
        If anything given cannot be used.
    """
    if not (arguments.arrivals or arguments.replay):
        raise InputError("no shots to tell the air from; give --replay or --arrivals")
    if not 0 < arguments.clock_sigma <= 1:
        raise InputError(f"--clock-sigma is {arguments.clock_sigma}; more than 0 and at most 1 second is accepted")
    site = load_site(arguments.site)
    network = network_of(site)
    heap = _heap(site, network, arguments)
    found = find_air(network, heap, arguments.clock_sigma)
    lines = summary(found, heap)
    new = msgspec.structs.replace(site, weather=weather_of(found.airs[found.best], site.weather.humidity_percent))
    remarks = {ALL: ["Made by `agls calibrate weather`."], ("weather",): lines}
    write_table(arguments.out, new, remarks, source=arguments.site)
    print("\n".join(lines))
    return 0


def _heap(site: SiteConfig, network: Network, arguments: argparse.Namespace) -> Heap:
    """Gather what was heard, from whatever was given."""
    heard, known = read_out(arguments.replay, network) if arguments.replay is not None else ([], {})
    if arguments.arrivals is not None:
        heard += read_arrivals(arguments.arrivals, network.sensor_ids)
    if arguments.shots is not None:
        known |= read_known(arguments.shots, Frame.of_site(site))
    return gather(heard, known, network)
