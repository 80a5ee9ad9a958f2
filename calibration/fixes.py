"""Average the fixes of a GNSS receiver into a place, and say honestly how sure it is.

Errors of a receiver wander over minutes, so fixes that follow each other err alike: a thousand fixes of ten minutes
tell hardly more than one. The mean is as sure as the wandering, its scatter and its time constant, allows over the span
observed; where the span is too short to show the wandering, what is known of receivers takes its place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import xor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agls.config import Origin, SiteConfig
from agls.errors import InputError
from agls.locate.frame import Frame
from agls.messages import NS_PER_S, UtcNs
from agls.replay.csv_rows import read_rows

Floats = NDArray[np.float64]

FEWEST = 10
MOST_REFUSED = 0.2
OUTLIER = 6.0  # robust standard deviations from the median, on any axis
LEAST_SCATTER_M = 0.05  # what counts as no scatter when outliers are looked for
SLOW_S = 600.0  # receivers' errors wander no faster: satellites and their reflections move over many minutes
STANDALONE_M = 2.0  # scatter of a receiver without corrections that does not state its own, each horizontal axis
ROUNDS = 6
UPWARD = 1.7  # heights scatter more than that
QUALITY_M = {1: STANDALONE_M, 2: 1.0, 4: 0.02, 5: 0.3}  # by the quality that a GGA sentence states
LATEST_NS = UtcNs(4_102_444_800 * NS_PER_S)  # the year 2100: a receiver's clock is not judged here


@dataclass(frozen=True, slots=True)
class Fix:
    """One fix.

    Attributes
    ----------
    time_s : float
        When, on any scale [s].
    latitude_deg, longitude_deg, height_m : float
        Where; height above the ellipsoid.
    sigma_m : float
        Standard deviation of each horizontal axis as the receiver states or its quality implies [m].
    """

    time_s: float
    latitude_deg: float
    longitude_deg: float
    height_m: float
    sigma_m: float


@dataclass(frozen=True, slots=True)
class Average:
    """Where a receiver stood.

    Attributes
    ----------
    latitude_deg, longitude_deg, height_m : float
        The mean of the fixes.
    sigma_m, height_sigma_m : float
        Standard deviation of each horizontal axis, and of the height [m].
    fixes_count, refused_count : int
        Fixes averaged, and outliers refused.
    span_s : float
        From the first to the last [s].
    effective_count : float
        As how many independent fixes they count.
    scatter_m : float
        Scatter of the fixes on a horizontal axis [m].
    """

    latitude_deg: float
    longitude_deg: float
    height_m: float
    sigma_m: float
    height_sigma_m: float
    fixes_count: int
    refused_count: int
    span_s: float
    effective_count: float
    scatter_m: float

    def __str__(self) -> str:
        """Tell it in a line."""
        return (
            f"{self.fixes_count} GNSS fixes in {self.span_s:.0f} s, {self.refused_count} refused, scatter"
            f" {self.scatter_m:.2f} m, worth {self.effective_count:.1f} independent ones:"
            f" +-{self.sigma_m:.2f} m, height +-{self.height_sigma_m:.2f} m"
        )


def average(fixes: Sequence[Fix], where: str = "the fixes") -> Average:
    """Average fixes into a place.

    Parameters
    ----------
    fixes : sequence of Fix
        In any order.
    where : str, optional
        What they are, for a sentence.

    Returns
    -------
    Average
        The place and how sure it is.

    Raises
    ------
    InputError
        If there are too few, or too many of them are outliers.
    """
    ordered = sorted(fixes, key=lambda fix: fix.time_s)
    if len(ordered) < FEWEST:
        raise InputError(f"{where}: {len(ordered)} fixes; at least {FEWEST} are needed, better those of half an hour")
    first = ordered[0]
    origin = Origin(
        latitude_deg=first.latitude_deg,
        longitude_deg=first.longitude_deg,
        height_m=min(max(first.height_m, -500), 9000),
    )
    frame = Frame.of_site(SiteConfig(name="fixes", origin=origin))
    local = [frame.to_local(fix.latitude_deg, fix.longitude_deg, fix.height_m) for fix in ordered]
    places_m = np.array(local, dtype=np.float64)
    good = _near_median(places_m)
    refused = int((~good).sum())
    if refused > MOST_REFUSED * len(ordered) or len(ordered) - refused < FEWEST:
        raise InputError(
            f"{where}: {refused} of {len(ordered)} fixes lie far from the others; at most {MOST_REFUSED:.0%} may,"
            f" and {FEWEST} must remain: survey again under open sky"
        )
    return _mean(places_m[good], [fix for fix, kept in zip(ordered, good, strict=True) if kept], refused, frame)


def _near_median(places_m: Floats) -> NDArray[np.bool_]:
    away = np.abs(places_m - np.median(places_m, axis=0))
    scatter = np.maximum(1.4826 * np.median(away, axis=0), LEAST_SCATTER_M)
    return np.asarray((away <= OUTLIER * scatter).all(axis=1))


def _mean(places_m: Floats, fixes: Sequence[Fix], refused: int, frame: Frame) -> Average:
    times_s = np.array([fix.time_s for fix in fixes])
    stated_m = float(np.median([fix.sigma_m for fix in fixes]))
    stated = np.array([stated_m, stated_m, UPWARD * stated_m])
    share = np.array([_left_share(places_m[:, axis], times_s) for axis in range(3)])
    # The scatter seen lacks the part of the wandering that the mean has taken with it.
    seen = places_m.std(axis=0, ddof=1) / np.sqrt(np.maximum(1.0 - share, 0.1))
    sigma_m = np.maximum(seen, stated) * np.sqrt(share)
    geodetic = frame.to_geodetic(*places_m.mean(axis=0).tolist())
    assert geodetic is not None  # noqa: S101 - the frame has an origin
    return Average(
        *geodetic,
        sigma_m=float(np.hypot(*sigma_m[:2]) / math.sqrt(2)),
        height_sigma_m=float(sigma_m[2]),
        fixes_count=len(fixes),
        refused_count=refused,
        span_s=float(times_s[-1] - times_s[0]),
        effective_count=float(1.0 / share[:2].mean()),
        scatter_m=float(np.hypot(*places_m[:, :2].std(axis=0, ddof=1)) / math.sqrt(2)),
    )


def _left_share(values: Floats, times_s: Floats) -> float:
    """Say what share of the wandering's variance the mean over the span still has (a first-order Markov process)."""
    span_s, share = max(float(times_s[-1] - times_s[0]), 1e-9), 0.0
    for _ in range(ROUNDS):
        ratio = max(correlation_time_s(values, times_s, share), SLOW_S) / span_s
        share = min(2 * ratio * (1 - ratio * -math.expm1(-1 / ratio)), 1.0)
    return share


def correlation_time_s(values: Floats, times_s: Floats, mean_share: float = 0.0) -> float:
    """Estimate over what time a wandering quantity forgets where it was.

    Parameters
    ----------
    values : numpy.ndarray, shape (n,)
        The quantity.
    times_s : numpy.ndarray, shape (n,)
        When, rising, about evenly spaced [s].
    mean_share : float, optional
        Share of its variance that went with the mean: without it, what is left seems to forget faster than it does.

    Returns
    -------
    float
        Integral of its autocorrelation up to where that is lost in noise [s].
    """
    away = values - values.mean()
    size = 1 << (2 * len(away) - 1).bit_length()
    lags = np.fft.irfft(np.abs(np.fft.rfft(away, size)) ** 2, size)[: len(away)]
    if lags[0] <= 0:
        return 0.0
    correlation = lags / lags[0] * (1 - mean_share) + mean_share
    lost = np.flatnonzero(correlation < 0.05 + mean_share / 2)
    reach = int(lost[0]) if lost.size else len(correlation)
    return float((correlation[:reach].sum() - 0.5) * np.median(np.diff(times_s)))


# --------------------------------------------------------------------------------------------------- reading fixes


def read_fixes(path: Path) -> list[Fix]:
    """Read the fixes of a receiver.

    Parameters
    ----------
    path : pathlib.Path
        A CSV with ``utc,latitude_deg,longitude_deg,height_m`` and perhaps ``sigma_m``, or what a receiver says in NMEA
        0183 (sentences GGA, and GST where it states its sigma).

    Returns
    -------
    list of Fix
        In the order of the file.

    Raises
    ------
    InputError
        If the file cannot be read or holds no fix.
    """
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            beginning = file.read(200).lstrip()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); a CSV or NMEA file is needed") from None
    return _read_nmea(path) if beginning.startswith(("$", "!")) else _read_csv(path)


def _read_csv(path: Path) -> list[Fix]:
    rows = read_rows(path, ("utc", "latitude_deg", "longitude_deg", "height_m"))
    return [
        Fix(
            row.moment("utc", LATEST_NS) / NS_PER_S,
            row.number("latitude_deg", -90, 90, "degrees"),
            row.number("longitude_deg", -180, 180, "degrees"),
            row.number("height_m", -500, 9_000, "m"),
            row.number_or_none("sigma_m", 1e-4, 1_000, "m") or STANDALONE_M,
        )
        for row in rows
    ]


def _read_nmea(path: Path) -> list[Fix]:
    """Read GGA sentences; a sentence whose checksum is wrong, or that says it has no fix, is passed over."""
    fixes: list[Fix] = []
    sigma_m, day_s = math.nan, 0.0
    for number, line in enumerate(path.read_text(encoding="ascii", errors="replace").splitlines(), 1):
        fields = _sentence(line)
        if fields[0].endswith("GST") and len(fields) >= 9 and fields[6] and fields[7]:
            sigma_m = math.hypot(_nmea(path, number, fields[6]), _nmea(path, number, fields[7])) / math.sqrt(2)
        if fields[0].endswith("GGA") and len(fields) >= 12 and fields[6] not in ("", "0"):
            fix = _gga(path, number, fields, sigma_m)
            if fixes and fix.time_s + day_s < fixes[-1].time_s - 43_200:
                day_s += 86_400  # past midnight
            fixes.append(Fix(fix.time_s + day_s, fix.latitude_deg, fix.longitude_deg, fix.height_m, fix.sigma_m))
    if not fixes:
        raise InputError(f"{path}: holds no GGA sentence with a fix and a right checksum; let the receiver find one")
    return fixes


def _sentence(line: str) -> list[str]:
    """Give the fields of a sentence whose checksum is right, else one empty field."""
    match = re.fullmatch(r"\$(.*)\*([0-9A-Fa-f]{2})", line.strip())
    if match is None or reduce(xor, match[1].encode("ascii", "replace"), 0) != int(match[2], 16):
        return [""]
    return match[1].split(",")


def _gga(path: Path, number: int, fields: list[str], sigma_m: float) -> Fix:
    if not fields[11]:
        raise InputError(
            f"{path} line {number}: GGA without the height of the geoid; heights above the ellipsoid are needed,"
            " so let the receiver state it or give a CSV"
        )
    moment, latitude, longitude = (_nmea(path, number, fields[k]) for k in (1, 2, 4))
    hours, rest = divmod(moment, 10_000)
    minutes, seconds = divmod(rest, 100)
    stated_m = sigma_m if sigma_m > 0 else QUALITY_M.get(int(_nmea(path, number, fields[6])), STANDALONE_M)
    return Fix(
        hours * 3600 + minutes * 60 + seconds,
        _degrees(latitude) * (-1 if fields[3] == "S" else 1),
        _degrees(longitude) * (-1 if fields[5] == "W" else 1),
        _nmea(path, number, fields[9]) + _nmea(path, number, fields[11]),
        stated_m,
    )


def _degrees(packed: float) -> float:
    """Unpack degrees and minutes written as one number, ddmm.mmmm."""
    degrees, minutes = divmod(packed, 100)
    return degrees + minutes / 60


def _nmea(path: Path, number: int, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{path} line {number}: {text[:40]!r} in an NMEA sentence; a number is accepted") from None
