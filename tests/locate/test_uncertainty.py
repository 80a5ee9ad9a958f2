"""The 95 % ellipse says what a covariance means."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from agls.locate.uncertainty import ellipse95, within95

ROOT = float(np.sqrt(chi2.ppf(0.95, 2)))


def covariance(major_m, minor_m, azimuth_deg):
    """Make the covariance whose standard deviations along and across an azimuth are these."""
    angle = np.radians(azimuth_deg)
    along, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
    return major_m**2 * np.outer(along, along) + minor_m**2 * np.outer(across, across)


@given(st.floats(2.0, 500.0), st.floats(0.1, 0.9), st.floats(0.0, 179.9))
def test_axes_and_azimuth_come_back(major_m: float, ratio: float, azimuth_deg: float) -> None:
    ellipse = ellipse95(covariance(major_m, ratio * major_m, azimuth_deg))
    assert ellipse.major_m == pytest.approx(ROOT * major_m, abs=1e-3)
    assert ellipse.minor_m == pytest.approx(ROOT * ratio * major_m, abs=1e-3)
    assert 0.0 <= ellipse.azimuth_deg < 180.0
    assert abs((ellipse.azimuth_deg - azimuth_deg + 90.0) % 180.0 - 90.0) < 0.01


def test_place_and_time_beyond_the_plane_do_not_matter() -> None:
    full = np.diag([9.0, 4.0, 100.0, 1.0])
    assert ellipse95(full) == ellipse95(full[:2, :2])
    assert within95(np.array([1.0, 1.0, 50.0]), full)


def test_ninety_five_of_a_hundred_draws_lie_within() -> None:
    rng = np.random.default_rng(0)
    spread = covariance(12.0, 3.0, 30.0)
    inside = np.mean([within95(off, spread) for off in rng.multivariate_normal([0, 0], spread, 4000)])
    assert inside == pytest.approx(0.95, abs=0.012)


def test_the_edge_of_the_ellipse_is_the_edge_of_within() -> None:
    spread = covariance(10.0, 2.0, 90.0)  # long from west to east
    major_m = ellipse95(spread).major_m
    assert within95(np.array([0.999 * major_m, 0.0]), spread)
    assert not within95(np.array([1.001 * major_m, 0.0]), spread)
    assert not within95(np.array([0.0, 0.999 * major_m]), spread)


def test_an_ellipse_without_end_is_written_as_a_number() -> None:
    ellipse = ellipse95(np.diag([1e30, 1.0]))
    assert (ellipse.major_m, ellipse.azimuth_deg) == (1e7, 90.0)
