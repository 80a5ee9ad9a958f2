"""The head moves as a head does: within its limits and speeds, without jumps, and the same every time."""

import math

import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.camera.geodesy import sight
from firmware_sim.camera.head import Head, HeadModel, Mount, Pose, direction, hfov_deg, reading

MODEL = HeadModel()
TWENTY_DOWN = (math.cos(math.radians(20)), -math.sin(math.radians(20)))
PANS = st.floats(-180, 180)
TILTS = st.floats(-90, 20)
SHARES = st.floats(-1, 1)
COMMANDS = st.one_of(
    st.tuples(st.just("go"), st.tuples(PANS, TILTS), st.floats(0, 1)),
    st.tuples(st.just("drive"), st.tuples(SHARES, SHARES), SHARES),
)
HISTORIES = st.lists(st.tuples(st.floats(0.01, 2.0), COMMANDS), min_size=1, max_size=6)


def obey(head: Head, time_s: float, command: tuple[str, tuple[float, float], float]) -> Head:
    """Hand a command to a head."""
    name, pair, zoom = command
    return head.go(time_s, pair, zoom) if name == "go" else head.drive(time_s, pair, zoom, 0.7)


@given(HISTORIES)
def test_no_history_of_commands_makes_a_head_leave_its_limits_its_speed_or_its_acceleration(history) -> None:
    head, time_s, step_s = Head.at_home(MODEL), 0.0, 0.01
    place, rate = head.pan.at(0.0)
    for lasts_s, command in history:
        head = obey(head, time_s, command)
        for _ in range(round(lasts_s / step_s)):
            time_s += step_s
            pose, (now, speed) = head.at(time_s), head.pan.at(time_s)
            assert MODEL.pan_min_deg - 1e-6 <= pose.pan_deg <= MODEL.pan_max_deg + 1e-6
            assert MODEL.tilt_min_deg - 1e-6 <= pose.tilt_deg <= MODEL.tilt_max_deg + 1e-6
            assert -1e-6 <= pose.zoom <= 1 + 1e-6
            assert abs(now - place) <= MODEL.pan_speed_deg_s * step_s + 1e-6
            assert abs(speed - rate) <= MODEL.pan_acceleration_deg_s2 * step_s + 1e-6
            place, rate = now, speed


@given(HISTORIES, PANS, TILTS)
def test_a_head_told_to_go_somewhere_arrives_there_whatever_it_did_before(history, pan_deg, tilt_deg) -> None:
    head, time_s = Head.at_home(MODEL), 0.0
    for lasts_s, command in history:
        head, time_s = obey(head, time_s, command), time_s + lasts_s
    pose = head.go(time_s, (pan_deg, tilt_deg), 0.25).at(time_s + 60)
    assert (pose.pan_deg, pose.tilt_deg, pose.zoom) == pytest.approx((pan_deg, tilt_deg, 0.25), abs=1e-6)
    assert not pose.turning
    assert not pose.zooming


def test_a_half_turn_takes_the_time_its_speed_and_acceleration_allow() -> None:
    head = Head.at_home(MODEL).go(10.0, (180.0, 0.0))
    speed, push = MODEL.pan_speed_deg_s, MODEL.pan_acceleration_deg_s2
    assert head.pan.rests_from_s == pytest.approx(10.0 + 180.0 / speed + speed / push)
    assert head.at(head.pan.rests_from_s - 0.01).turning


def test_half_the_speed_takes_twice_the_cruise() -> None:
    slow = Head.at_home(MODEL).go(0.0, (180.0, 0.0), share=(0.5, 0.5))
    assert slow.pan.rests_from_s == pytest.approx(180.0 / 150.0 + 150.0 / 900.0)


def test_a_drive_stops_by_itself_when_its_time_is_over() -> None:
    head = Head.at_home(MODEL).drive(0.0, (0.1, 0.0), None, 1.0)
    assert head.at(0.9).turning
    assert not head.at(5.0).turning
    assert head.at(5.0).pan_deg == pytest.approx(30.0)  # a ramp up and the same ramp down: as if there were none


def test_a_drive_without_end_stops_at_the_limit() -> None:
    assert Head.at_home(MODEL).drive(0.0, (0.0, 1.0)).at(60.0).tilt_deg == pytest.approx(MODEL.tilt_max_deg)


def test_an_endless_head_takes_the_shorter_way() -> None:
    head = Head.at_home(HeadModel(endless=True)).go(0.0, (170.0, 0.0)).go(10.0, (-170.0, 0.0))
    assert head.pan.rests_from_s < 10.5
    assert head.at(20.0).pan_deg == pytest.approx(-170.0)


def test_the_view_narrows_from_wide_to_tele() -> None:
    assert hfov_deg(MODEL, 0.0) == pytest.approx(MODEL.hfov_max_deg)
    assert hfov_deg(MODEL, 1.0) == pytest.approx(MODEL.hfov_min_deg)
    assert hfov_deg(MODEL, 0.6) > hfov_deg(MODEL, 0.61)


@pytest.mark.parametrize(
    ("mount", "pose", "looks"),
    [
        (Mount(), Pose(0, 0, 0), (0, 1, 0)),
        (Mount(yaw_deg=90), Pose(0, 0, 0), (1, 0, 0)),
        (Mount(yaw_deg=90), Pose(90, 0, 0), (0, -1, 0)),
        (Mount(pitch_deg=10), Pose(0, 0, 0), (0, math.cos(math.radians(10)), math.sin(math.radians(10)))),
        (Mount(roll_deg=10), Pose(90, 0, 0), (math.cos(math.radians(10)), 0, -math.sin(math.radians(10)))),
        (Mount(yaw_deg=180, pitch_deg=10), Pose(180, -10, 0), (0, *TWENTY_DOWN)),
    ],
)  # fmt: skip
def test_a_mount_turns_pitches_and_rolls_the_way_it_says(mount, pose, looks) -> None:
    assert direction(mount, pose) == pytest.approx(looks, abs=1e-12)


@given(st.floats(-180, 180), st.floats(-20, 20), st.floats(-20, 20), st.floats(-179, 179), st.floats(-60, 10))
@settings(max_examples=40)
def test_the_reading_of_a_direction_is_the_reading_it_came_from(yaw, pitch, roll, pan, tilt) -> None:
    mount = Mount(yaw_deg=yaw, pitch_deg=pitch, roll_deg=roll)
    assert reading(mount, MODEL, *direction(mount, Pose(pan, tilt, 0))) == pytest.approx((pan, tilt), abs=1e-9)


@given(st.floats(-80, 80), st.floats(-180, 180), st.floats(-0.05, 0.05), st.floats(-0.05, 0.05), st.floats(-50, 300))
@settings(max_examples=30)
def test_where_a_place_is_seen_agrees_with_pyproj(latitude, longitude, north_deg, east_deg, height_m) -> None:
    oracle = pyproj.Transformer.from_pipeline(
        "+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad +step +proj=cart +ellps=WGS84 +step "
        f"+proj=topocentric +ellps=WGS84 +lat_0={latitude:.12f} +lon_0={longitude:.12f} +h_0=100"
    )
    target = (latitude + north_deg, longitude + east_deg, height_m)
    expected = oracle.transform(target[1], target[0], target[2])
    assert sight((latitude, longitude, 100.0), target) == pytest.approx(expected, abs=1e-5)
