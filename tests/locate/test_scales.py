"""The whole way from detections to shots, in other frames and at other scales: only settings may differ."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agls.config import Locating, Weather
from agls.locate.associate import Associator
from agls.locate.frame import Frame
from agls.messages import NS_PER_S, Shot
from tests.locate.ground import SPEED_M_S, START_NS, Heard, detections, flight_s, hear, site_of, square

STREET = ((0.0, 420.0, 610.0), (0.5, 423.0, 612.0), (1.2, 700.0, 300.0))


def located(positions, found, **changes) -> list[Shot]:
    """Run detections through a site; return the shots that stand, in order of time."""
    site = site_of(positions, **changes)
    stage = Associator(site, Frame.of_site(site))
    said = []
    for one in sorted(found, key=lambda one: one.toa_ns):
        now_ns = one.toa_ns + NS_PER_S // 20
        said += [item for _, item in stage.advance(now_ns)] + stage.feed(one, now_ns)
    said += [item for _, item in stage.advance(START_NS + 400 * NS_PER_S)]
    last = {item.shot_id: item for item in said if isinstance(item, Shot)}
    return sorted((one for one in last.values() if one.state == "located"), key=lambda one: one.origin_ns)


@given(
    angle=st.floats(-3.1, 3.1),
    shift=st.tuples(st.floats(-8000, 8000), st.floats(-8000, 8000)),
    delay_ns=st.integers(0, 50 * NS_PER_S),
)
@settings(max_examples=8)
def test_turning_shifting_and_delaying_all_turns_shifts_and_delays_the_shots(angle, shift, delay_ns) -> None:
    rng = np.random.default_rng(0)
    positions = square(10, 1000.0, rng)
    found = detections(hear(positions, list(STREET), rng, p_detect=0.95, echo=0.3, clutter_per_s=0.05))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = positions.copy()
    turned[:, :2] = positions[:, :2] @ turn.T + np.array(shift)
    later = [msgspec.structs.replace(one, toa_ns=one.toa_ns + delay_ns) for one in found]
    before, after = located(positions, found), located(turned, later)
    assert len(before) == len(after) == 3
    for one, other in zip(before, after, strict=True):
        assert (other.x_m, other.y_m) == pytest.approx(tuple(turn @ [one.x_m, one.y_m] + np.array(shift)), abs=0.02)
        assert other.origin_ns - one.origin_ns == pytest.approx(delay_ns, abs=50_000)
        assert other.ellipse.major_m == pytest.approx(one.ellipse.major_m, rel=0.01)
        assert [a.seq for a in other.arrivals if a.used] == [a.seq for a in one.arrivals if a.used]


def test_microphones_4_m_apart_in_a_room_locate_to_centimetres() -> None:
    rng = np.random.default_rng(1)
    grid = np.array([(x, y) for x in (0.0, 4.0, 8.0) for y in (0.0, 4.0, 8.0)])
    positions = np.column_stack([grid, rng.uniform(0.5, 2.5, 9)])
    heard = hear(positions, [(0.0, 2.7, 5.1), (0.8, 6.2, 3.3)], rng, sigma_s=2e-5)
    shots = located(
        positions,
        detections(heard, sigma_s=2e-5),
        locating=Locating(path_sigma_s=2e-5, max_range_m=20.0, settle_s=0.2),
    )
    assert [len([a for a in shot.arrivals if a.used]) for shot in shots] == [9, 9]
    for shot, (x_m, y_m) in zip(shots, [(2.7, 5.1), (6.2, 3.3)], strict=True):
        assert np.hypot(shot.x_m - x_m, shot.y_m - y_m) < 0.05
        assert shot.ellipse.major_m < 0.2


@pytest.mark.parametrize("seed", range(2))
def test_sensors_4_km_apart_on_hills_locate_a_shot_in_the_valley(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = np.array([(x, y) for x in (0.0, 4000.0, 8000.0) for y in (0.0, 4000.0, 8000.0)])
    positions = np.column_stack([grid + rng.uniform(-300, 300, (9, 2)), rng.uniform(100.0, 600.0, 9)])
    source = np.array([*rng.uniform(2500, 5500, 2), 250.0])
    wind = (4.0, -2.0)
    arrivals = 1.0 + flight_s(positions, source, wind, SPEED_M_S) + rng.normal(0, 0.010, 9)
    order = np.argsort(arrivals)
    heard = Heard(order.astype(np.int64), arrivals[order], np.zeros(9, dtype=np.int64))
    weather = Weather(
        temperature_c=14.2, humidity_percent=50.0, temperature_sigma_c=3.0, wind_speed_m_s=4.0, wind_from_deg=300.0,
        wind_sigma_m_s=1.5,
    )  # fmt: skip
    (shot,) = located(
        positions,
        detections(heard, sigma_s=0.004),
        locating=Locating(path_sigma_s=0.010, max_range_m=12_000.0),
        weather=weather,
    )
    off_m = np.hypot(shot.x_m - source[0], shot.y_m - source[1])
    assert off_m < max(30.0, 1.5 * shot.ellipse.major_m)
    assert shot.ellipse.major_m < 120.0
    assert shot.sensor_count >= 8
