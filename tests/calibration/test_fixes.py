"""GNSS fixes become a place whose sigma is true although fixes follow each other in error."""

import math
from functools import reduce
from operator import xor
from pathlib import Path

import numpy as np
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from agls.errors import InputError
from calibration.fixes import Fix, average, correlation_time_s, read_fixes

GEOD = pyproj.Geod(ellps="WGS84")
PLACE = (40.44, -79.99, 250.0)


def wander(rng: np.random.Generator, count: int, scatter_m: float, memory_s: float) -> np.ndarray:
    """Draw an error that wanders: first-order Markov, one value a second."""
    keep = math.exp(-1 / memory_s)
    steps = rng.normal(0, scatter_m * math.sqrt(1 - keep**2), count)
    steps[0] /= math.sqrt(1 - keep**2)
    return lfilter([1.0], [1.0, -keep], steps)


def fixes_of(seed: int, count: int, scatter_m: float, memory_s: float, stated_m: float = 2.0) -> list[Fix]:
    """Let a receiver stand at `PLACE`."""
    rng = np.random.default_rng(seed)
    east, north, up = (wander(rng, count, scatter_m * more, memory_s) for more in (1, 1, 1.7))
    azimuth, away = np.degrees(np.arctan2(east, north)), np.hypot(east, north)
    longitude, latitude, _ = GEOD.fwd(np.full(count, PLACE[1]), np.full(count, PLACE[0]), azimuth, away)
    return [
        Fix(float(k), *values, stated_m)
        for k, values in enumerate(zip(latitude.tolist(), longitude.tolist(), (PLACE[2] + up).tolist(), strict=True))
    ]


def away_m(latitude_deg: float, longitude_deg: float) -> tuple[float, float]:
    """Say how far east and north of `PLACE` a place is."""
    azimuth, _, distance = GEOD.inv(PLACE[1], PLACE[0], longitude_deg, latitude_deg)
    return distance * math.sin(math.radians(azimuth)), distance * math.cos(math.radians(azimuth))


@pytest.mark.parametrize(("minutes", "scatter_m", "memory_s"), [(10, 2.0, 300), (30, 3.0, 600), (60, 2.0, 600)])
def test_the_stated_sigma_covers_the_place(minutes: int, scatter_m: float, memory_s: float) -> None:
    ratios = []
    for seed in range(40):
        found = average(fixes_of(seed, 60 * minutes, scatter_m, memory_s))
        ratios += [side / found.sigma_m for side in away_m(found.latitude_deg, found.longitude_deg)]
        ratios.append((found.height_m - PLACE[2]) / found.height_sigma_m)
    assert 0.88 <= np.mean(np.abs(ratios) < 1.96) <= 1.0


def test_longer_is_surer_and_more_often_is_not() -> None:
    hour = fixes_of(1, 3600, 2.0, 200)
    assert average(hour).sigma_m < 0.8 * average(hour[:600]).sigma_m
    assert average(hour).sigma_m == pytest.approx(average(hour[::10]).sigma_m, rel=0.1)
    assert average(hour).effective_count < 10


def test_a_receiver_with_corrections_is_believed() -> None:
    assert average(fixes_of(2, 600, 0.02, 30, stated_m=0.02)).sigma_m < 0.03


@given(st.floats(20, 400))
def test_the_correlation_time_is_that_of_the_wandering(memory_s: float) -> None:
    values = wander(np.random.default_rng(0), 40_000, 1.0, memory_s)
    assert correlation_time_s(values, np.arange(40_000.0)) == pytest.approx(memory_s, rel=0.6)


def test_outliers_are_refused_by_count_and_too_many_refuse_the_survey() -> None:
    fixes = fixes_of(3, 600, 1.0, 60)
    wild = [Fix(fix.time_s, fix.latitude_deg + 1e-3, fix.longitude_deg, fix.height_m, 2.0) for fix in fixes[100:120]]
    spoiled = fixes[:100] + wild + fixes[120:]
    found = average(spoiled)
    assert (found.refused_count, found.fixes_count) == (20, 580)
    assert math.hypot(*away_m(found.latitude_deg, found.longitude_deg)) < 2.0
    worse = [Fix(fix.time_s, fix.latitude_deg + 1e-3, fix.longitude_deg, 250.0, 2.0) for fix in fixes[:150]]
    with pytest.raises(InputError, match="150 of 600 fixes lie far"):
        average(worse + fixes[150:])
    with pytest.raises(InputError, match="9 fixes; at least 10"):
        average(fixes[:9])


def sentence(text: str) -> str:
    """Put a checksum to an NMEA sentence."""
    return f"${text}*{reduce(xor, text.encode(), 0):02X}"


def gga(clock: str, quality: int = 1, geoid: str = "-33.6") -> str:
    """Say where the receiver is, as NMEA does."""
    return sentence(f"GPGGA,{clock},4026.4000,N,07959.4000,W,{quality},08,1.0,283.6,M,{geoid},M,,")


def test_nmea_is_read_with_its_sigma_past_midnight_and_damaged_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.nmea"
    lines = [
        sentence("GPGST,235959.00,,,,,1.5,2.5,4.0"),
        gga("235959.00"),
        gga("000000.50"),
        gga("000001.00").replace("4026", "4126"),
        gga("000001.50", quality=0),
        "$garbage",
    ]
    path.write_text("\r\n".join(lines))
    first, second = read_fixes(path)
    assert (first.latitude_deg, first.longitude_deg) == pytest.approx((PLACE[0], PLACE[1]), abs=1e-9)
    assert first.height_m == pytest.approx(250.0)
    assert second.time_s - first.time_s == pytest.approx(1.5)
    assert first.sigma_m == pytest.approx(math.hypot(1.5, 2.5) / math.sqrt(2))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("$GPGGA,1,2*00\n", "no GGA sentence with a fix"),
        (gga("120000.00", geoid="") + "\n", "line 1: GGA without the height of the geoid"),
        ("utc,latitude_deg,longitude_deg\n", "column height_m is missing"),
        ("utc,latitude_deg,longitude_deg,height_m\n2026-01-01T00:00:00Z,91,0,0\n", "'91'; a number from -90 to 90"),
    ],
)
def test_files_that_hold_no_fixes_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "fixes"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_fixes(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_fixes(tmp_path / "nowhere")
