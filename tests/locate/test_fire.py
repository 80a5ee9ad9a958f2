"""Who fired, how fast, and where they went."""

import numpy as np
import pytest

from agls.locate.fire import automatic, motion, rate_per_s, shooters
from agls.messages import Ellipse, UtcNs
from tests import town
from tests.town import NOW_NS, S

SMALL = Ellipse(major_m=3.0, minor_m=2.0, azimuth_deg=0.0)


def volley(times_s, places_m, ellipse=SMALL):
    return [
        town.shot(shot_id=f"s{k}", origin_ns=UtcNs(NOW_NS + round(t * S)), x_m=float(x), y_m=float(y), ellipse=ellipse)
        for k, (t, (x, y)) in enumerate(zip(times_s, places_m, strict=True))
    ]


def test_a_burst_at_ten_rounds_a_second_is_automatic_and_a_fast_finger_is_not() -> None:
    rng = np.random.default_rng(1)
    gun = volley(np.arange(8) / 10 + rng.normal(0, 0.002, 8), np.zeros((8, 2)))
    finger = volley(np.cumsum(rng.uniform(0.2, 0.6, 8)), np.zeros((8, 2)))
    assert automatic(gun)
    assert rate_per_s(gun) == pytest.approx(10, rel=0.05)
    assert not automatic(finger)
    assert not automatic(gun[:2])


def test_one_round_has_no_rate() -> None:
    assert rate_per_s(volley([0.0], [(0, 0)])) is None
    assert not automatic([])


def test_two_places_fired_from_at_once_are_two_shooters() -> None:
    shots = volley([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], [(0, 0), (60, 0), (1, 0), (61, 1), (0, 1), (60, 0)])
    assert [len(group) for group in shooters(shots)] == [3, 3]


def test_scatter_makes_no_second_shooter() -> None:
    rng = np.random.default_rng(2)
    shots = volley(np.arange(20) / 5, rng.normal(0, 1.5, (20, 2)))
    assert len(shooters(shots)) == 1


@pytest.mark.parametrize(
    ("east_m_s", "north_m_s", "heading_deg"), [(12.0, 0.0, 90.0), (0.0, -12.0, 180.0), (-9, 9, 315)]
)
def test_a_moving_shooter_has_speed_and_heading(east_m_s: float, north_m_s: float, heading_deg: float) -> None:
    rng = np.random.default_rng(3)
    times = np.arange(10) / 2
    shots = volley(times, times[:, None] * np.array([east_m_s, north_m_s]) + rng.normal(0, 1, (10, 2)))
    moved = motion(shots)
    assert moved is not None
    assert moved.speed_low_m_s <= np.hypot(east_m_s, north_m_s) <= moved.speed_high_m_s
    assert moved.heading_deg == pytest.approx(heading_deg, abs=8)
    assert len(shooters(shots)) == 1


def test_the_interval_of_a_speed_holds_it_and_standing_still_is_rarely_called_motion() -> None:
    rng = np.random.default_rng(4)
    times = np.arange(8) / 2
    inside = moving = 0
    for _ in range(200):
        walk = motion(volley(times, times[:, None] * np.array([8.0, 0.0]) + rng.normal(0, 1.5, (8, 2))))
        inside += walk is not None and walk.speed_low_m_s <= 8.0 <= walk.speed_high_m_s
        moving += motion(volley(times, rng.normal(0, 1.5, (8, 2)))) is not None
    assert inside >= 178
    assert moving <= 14


def test_too_few_rounds_or_too_short_a_time_tell_no_motion() -> None:
    assert motion(volley([0.0, 5.0], [(0, 0), (60, 0)])) is None
    assert motion(volley([0.0, 0.1, 0.2], [(0, 0), (5, 0), (10, 0)])) is None
