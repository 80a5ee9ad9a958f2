import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from agls.bridge.camera.plan import CameraPlanner
from agls.config import Camera, SiteConfig, Slewing
from agls.messages import Ellipse, Rejection, SlewRequest, decode, encode

LATITUDE, LONGITUDE = 40.44062, -79.99589  # of the usual incident
NOW_NS = 1_545_220_805_000_000_000
S = 10**9


def camera_at(name: str, azimuth: float, distance_m: float, **otherwise) -> Camera:
    """A camera from which the incident lies at this azimuth and distance, 8 m above it."""
    longitude, latitude, _ = Geod(ellps="WGS84").fwd(LONGITUDE, LATITUDE, azimuth + 180.0, distance_m)
    return Camera(camera_id=name, latitude_deg=latitude, longitude_deg=longitude, height_m=258.0, **otherwise)


def site(*cameras: Camera, most: int = 4) -> SiteConfig:
    return SiteConfig(name="Test", camera=cameras, slewing=Slewing(max_cameras_count=most, hold_s=60.0))


def asked(answers: list[SlewRequest | Rejection]) -> list[str]:
    return [answer.camera_id for answer in answers if isinstance(answer, SlewRequest)]


def refused(answers: list[SlewRequest | Rejection]) -> dict[str, str]:
    return {answer.subject: answer.reason for answer in answers if isinstance(answer, Rejection)}


def test_a_request_says_how_to_turn_and_zoom(incident) -> None:
    [request] = CameraPlanner(site(camera_at("c", 70.0, 100.0, pan_zero_azimuth_deg=100.0))).feed(incident(), NOW_NS)
    assert isinstance(request, SlewRequest)
    assert request.pan_deg == pytest.approx(-30.0, abs=0.01)
    assert request.tilt_deg == pytest.approx(-math.degrees(math.atan(8.0 / 100.0)), abs=0.01)
    assert request.hfov_deg == pytest.approx(2 * math.degrees(math.atan(31.2 / 100.32)), abs=0.01)
    assert request.fits
    assert request.target.latitude_deg == LATITUDE
    assert (request.issued_ns, request.not_after_ns, request.hold_s) == (NOW_NS, NOW_NS + 60 * S, 60.0)
    assert decode(encode(request), SlewRequest) == request


def test_the_nearest_cameras_that_can_hold_the_ellipse_come_first(incident) -> None:
    cameras = [
        camera_at("far", 0, 300),
        camera_at("near", 90, 80),
        camera_at("under", 45, 14),
        camera_at("middle", 180, 150),
    ]
    answers = CameraPlanner(site(*cameras)).feed(incident(), NOW_NS)
    assert asked(answers) == ["near", "middle", "far", "under"]
    assert [answer.fits for answer in answers] == [True, True, True, False]


def test_no_more_cameras_are_asked_than_the_site_allows(incident) -> None:
    cameras = [camera_at(f"c{number}", 0, 100 + number) for number in range(5)]
    answers = CameraPlanner(site(*cameras, most=2)).feed(incident(), NOW_NS)
    assert asked(answers) == ["c0", "c1"]
    assert refused(answers) == dict.fromkeys(["c2", "c3", "c4"], "enough_cameras")
    assert CameraPlanner(site(*cameras, most=0)).feed(incident(), NOW_NS) == []


def test_a_camera_that_cannot_look_there_says_why_once(incident) -> None:
    planner = CameraPlanner(
        site(
            camera_at("far", 0, 600), camera_at("fixed", 0, 90, pan_min_deg=90, pan_max_deg=120), camera_at("ok", 0, 90)
        )
    )
    first = planner.feed(incident(), NOW_NS)
    assert refused(first) == {"far": "out_of_range", "fixed": "pan_limits"}
    moved = planner.feed(incident(revision=1, x_m=160.0), NOW_NS + S)
    assert asked(moved) == ["ok"]
    assert refused(moved) == {}


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({}, False),
        ({"round_count": 9, "p_gunshot": 0.99}, False),
        ({"x_m": 121.5}, False),
        ({"x_m": 122.5}, True),
        ({"ellipse": Ellipse(major_m=12.9, minor_m=6.0, azimuth_deg=30.0)}, False),
        ({"ellipse": Ellipse(major_m=20.0, minor_m=6.0, azimuth_deg=30.0)}, True),
        ({"ellipse": Ellipse(major_m=5.0, minor_m=5.0, azimuth_deg=30.0)}, True),
        ({"state": "withdrawn"}, False),
    ],
)
def test_heads_move_again_only_for_another_place_or_another_zoom(incident, change, again) -> None:
    planner = CameraPlanner(site(camera_at("c", 0, 90)))
    first = planner.feed(incident(), NOW_NS)
    later = planner.feed(incident(revision=1, **change), NOW_NS + S)
    assert asked(later) == (["c"] if again else [])
    if again:
        assert later[0].request_id != first[0].request_id


def test_small_moves_add_up_to_a_new_request(incident) -> None:
    planner = CameraPlanner(site(camera_at("c", 0, 90)))
    said = [asked(planner.feed(incident(revision=step, x_m=120.0 + step), NOW_NS)) for step in range(4)]
    assert said == [["c"], [], [], ["c"]]


def test_cameras_are_kept_there_while_it_goes_on(incident) -> None:
    planner = CameraPlanner(site(camera_at("c", 0, 90)))
    planner.feed(incident(), NOW_NS)
    after_ns = NOW_NS + 61 * S
    assert asked(planner.feed(incident(revision=1), after_ns)) == []
    assert asked(planner.feed(incident(revision=2, round_count=4, last_shot_ns=after_ns), after_ns)) == ["c"]


def test_a_withdrawn_incident_asks_nothing_and_one_that_returns_asks_again(incident) -> None:
    planner = CameraPlanner(site(camera_at("c", 0, 90)))
    states = ["withdrawn", "probable", "withdrawn", "possible"]
    said = [asked(planner.feed(incident(revision=step, state=state), NOW_NS)) for step, state in enumerate(states)]
    assert said == [[], ["c"], [], ["c"]]


def test_an_incident_without_a_place_on_earth_is_refused_by_name_once(incident) -> None:
    planner = CameraPlanner(site(camera_at("c", 0, 90)))
    local = {"latitude_deg": None, "longitude_deg": None, "height_m": None}
    [answer] = planner.feed(incident(**local), NOW_NS)
    assert (answer.stage, answer.reason, answer.subject) == ("camera", "no_geodetic_frame", "i20181219-1")
    assert planner.feed(incident(revision=1, x_m=900.0, **local), NOW_NS) == []


def test_no_camera_moves_for_a_shot_of_long_ago(incident) -> None:
    [answer] = CameraPlanner(site(camera_at("c", 0, 90))).feed(incident(), NOW_NS + 200 * S)
    assert answer.reason == "too_late"


def test_a_revision_heard_again_asks_nothing(incident) -> None:
    planner = CameraPlanner(site(camera_at("c", 0, 90)))
    planner.feed(incident(revision=3), NOW_NS)
    assert planner.feed(incident(revision=3, x_m=900.0), NOW_NS) == []


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 360), st.floats(1, 700)), max_size=8), st.integers(0, 5), st.floats(0, 90))
def test_every_camera_gets_exactly_one_answer(incident, places, most, major_m) -> None:
    cameras = [camera_at(f"c{number}", azimuth, away_m) for number, (azimuth, away_m) in enumerate(places)]
    ellipse = Ellipse(major_m=major_m, minor_m=major_m / 2, azimuth_deg=10.0)
    answers = CameraPlanner(site(*cameras, most=most)).feed(incident(ellipse=ellipse), NOW_NS)
    again = CameraPlanner(site(*cameras, most=most)).feed(incident(ellipse=ellipse), NOW_NS)
    assert answers == again
    assert len(asked(answers)) <= most
    if most:
        assert sorted([*asked(answers), *refused(answers)]) == sorted(camera.camera_id for camera in cameras)
    assert all(decode(encode(answer), type(answer)) == answer for answer in answers)
