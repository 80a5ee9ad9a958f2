import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from agls.bridge.camera.geometry import MARGIN_M, Aim, Sight, Topocentre, aim, pan_choices, span_deg
from agls.config import Camera
from agls.messages import Ellipse, Rejection

GEOD = Geod(ellps="WGS84")
LATITUDE, LONGITUDE = 40.44062, -79.99589
DOT = Ellipse(major_m=0.0, minor_m=0.0, azimuth_deg=0.0)


def camera(**otherwise) -> Camera:
    return Camera(
        **{"camera_id": "c", "latitude_deg": LATITUDE, "longitude_deg": LONGITUDE, "height_m": 8.0, **otherwise}
    )


def turn_deg(one: float, other: float) -> float:
    return abs((one - other + 180.0) % 360.0 - 180.0)


def circle(radius_m: float) -> Ellipse:
    return Ellipse(major_m=radius_m, minor_m=radius_m, azimuth_deg=0.0)


@given(st.floats(-89, 89), st.floats(-180, 180), st.floats(0, 360), st.floats(5, 5_000))
def test_azimuth_and_distance_agree_with_the_geodesic(latitude, longitude, azimuth, distance_m) -> None:
    there = GEOD.fwd(longitude, latitude, azimuth, distance_m)
    sight = Topocentre(latitude, longitude, 0.0).sight(there[1], there[0], 0.0)
    assert sight.distance_m == pytest.approx(distance_m, rel=1e-6)
    assert turn_deg(sight.azimuth_deg, azimuth) < 0.01


@pytest.mark.parametrize("azimuth", [0.0, 37.5, 90.0, 180.0, 271.0])
def test_tilt_is_the_angle_a_hand_would_compute(azimuth) -> None:
    longitude, latitude, _ = GEOD.fwd(LONGITUDE, LATITUDE, azimuth, 100.0)
    sight = Topocentre(LATITUDE, LONGITUDE, 12.0).sight(latitude, longitude, 2.0)
    assert sight.elevation_deg == pytest.approx(-5.7106, abs=0.002)  # atan(10 / 100), and 0.0004 of the Earth's bend
    assert sight.distance_m == pytest.approx(100.499, abs=0.01)  # hypot(10, 100)


def test_across_the_date_line_the_way_stays_short() -> None:
    sight = Topocentre(-16.8, 179.9999, 0.0).sight(-16.8, -179.9999, 0.0)
    assert sight.azimuth_deg == pytest.approx(90.0, abs=0.01)
    assert sight.distance_m < 25.0


@given(st.floats(0, 360), st.floats(-360, 360), st.floats(-360, 360), st.floats(-360, 360))
def test_every_pan_looks_there_and_lies_within_the_limits(azimuth, zero, one, other) -> None:
    head = camera(pan_zero_azimuth_deg=zero, pan_min_deg=min(one, other), pan_max_deg=max(one, other))
    pans = pan_choices(head, azimuth)
    for pan in pans:
        assert head.pan_min_deg <= pan <= head.pan_max_deg
        assert turn_deg(pan + zero, azimuth) <= 0.0006
    if head.pan_max_deg - head.pan_min_deg >= 360.0:
        assert pans
    assert pans == sorted(pans, key=abs)


@given(st.floats(0, 360), st.floats(-170, 170), st.floats(0, 360))
def test_turning_the_pan_zero_turns_the_pan_back(azimuth, zero, turn) -> None:
    before = pan_choices(camera(pan_zero_azimuth_deg=zero), azimuth)[0]
    after = pan_choices(camera(pan_zero_azimuth_deg=(zero + turn + 180.0) % 360.0 - 180.0), azimuth)[0]
    assert turn_deg(before - turn, after) <= 0.0015


@pytest.mark.parametrize(
    ("low", "high", "azimuth", "pans"),
    [
        (-180, 180, 270.0, [-90.0]),
        (0, 350, 270.0, [270.0]),
        (-350, 350, 190.0, [-170.0, 190.0]),
        (-360, 360, 0.0, [0.0, 360.0, -360.0]),
        (-90, 90, 90.0, [90.0]),
        (-90, 90, 91.0, []),
        (90, -90, 0.0, []),
    ],
)
def test_both_ways_round_are_considered(low, high, azimuth, pans) -> None:
    assert sorted(pan_choices(camera(pan_min_deg=low, pan_max_deg=high), azimuth)) == sorted(pans)


def test_the_field_of_view_holds_the_ellipse_and_a_margin() -> None:
    setting = aim(camera(), Sight(0.0, 100.0, 0.0), circle(15.0))
    assert isinstance(setting, Aim)
    assert setting.hfov_deg == pytest.approx(2 * math.degrees(math.atan((15.0 + MARGIN_M) / 100.0)), abs=0.001)
    assert setting.fits


def test_the_lens_is_never_asked_for_more_than_it_has() -> None:
    wide = aim(camera(hfov_max_deg=50.0), Sight(0.0, 40.0, 0.0), circle(60.0))
    far = aim(camera(hfov_min_deg=4.0), Sight(0.0, 499.0, 0.0), DOT)
    assert isinstance(wide, Aim)
    assert isinstance(far, Aim)
    assert (wide.hfov_deg, wide.fits) == (50.0, False)
    assert (far.hfov_deg, far.fits) == (4.0, True)


@given(st.floats(1.0, 99.0), st.floats(0, 360))
def test_a_circle_spans_the_angle_between_its_tangents(radius_m, azimuth) -> None:
    sight = Sight(100.0 * math.sin(math.radians(azimuth)), 100.0 * math.cos(math.radians(azimuth)), 0.0)
    assert span_deg(sight, circle(radius_m)) == pytest.approx(2 * math.degrees(math.asin(radius_m / 100.0)), rel=0.01)


def test_a_lens_among_the_ellipse_cannot_hold_it() -> None:
    assert span_deg(Sight(0.0, 10.0, 0.0), circle(20.0)) > 180.0


@given(st.floats(0, 179), st.floats(0, 360))
def test_an_ellipse_seen_end_on_looks_narrower_than_from_its_side(azimuth, turn) -> None:
    ellipse = Ellipse(major_m=30.0, minor_m=3.0, azimuth_deg=azimuth)
    end, side = (
        span_deg(Sight(400 * math.sin(math.radians(a)), 400 * math.cos(math.radians(a)), -5.0), ellipse)
        for a in (azimuth, azimuth + 90.0)
    )
    assert end < 1.1 * 2 * math.degrees(math.atan(3.0 / 400.0))
    assert side == pytest.approx(2 * math.degrees(math.atan(30.0 / 400.0)), rel=0.01)


@given(
    st.floats(-400, 400), st.floats(-400, 400), st.floats(-60, 60), st.floats(0, 100), st.floats(0, 1),
    st.floats(0, 179), st.floats(-360, 360), st.floats(-360, 360), st.floats(-360, 360), st.floats(-90, 90),
    st.floats(-90, 90),
)  # fmt: skip
def test_a_setting_is_always_within_the_limits(
    east, north, up, major, ratio, azimuth, zero, pan1, pan2, tilt1, tilt2
) -> None:
    head = camera(
        pan_zero_azimuth_deg=zero,
        pan_min_deg=min(pan1, pan2),
        pan_max_deg=max(pan1, pan2),
        tilt_min_deg=min(tilt1, tilt2),
        tilt_max_deg=max(tilt1, tilt2),
    )
    answer = aim(head, Sight(east, north, up), Ellipse(major_m=major, minor_m=major * ratio, azimuth_deg=azimuth))
    if isinstance(answer, Rejection):
        assert answer.stage == "camera"
        assert answer.reason in ("out_of_range", "pan_limits", "tilt_limits")
    else:
        assert head.pan_min_deg <= answer.pan_deg <= head.pan_max_deg
        assert head.tilt_min_deg <= answer.tilt_deg <= head.tilt_max_deg
        assert head.hfov_min_deg <= answer.hfov_deg <= head.hfov_max_deg
        assert 0.0 <= answer.distance_m <= head.range_m


def test_each_refusal_has_a_name_and_its_figures() -> None:
    far = aim(camera(range_m=300.0), Sight(0.0, 301.0, 0.0), DOT)
    behind = aim(camera(pan_min_deg=-90.0, pan_max_deg=90.0), Sight(0.0, -50.0, 0.0), DOT)
    below = aim(camera(tilt_min_deg=-30.0), Sight(0.0, 5.0, -8.0), DOT)
    assert [answer.reason for answer in (far, behind, below)] == ["out_of_range", "pan_limits", "tilt_limits"]
    assert far.detail == "301 m away, asked up to 300 m"
