import json
import math
from pathlib import Path

import numpy as np
import pytest
from pyproj import Geod

from agls.bridge.camera.geometry import Aim, Sight
from agls.bridge.camera.plan import CameraPlanner
from agls.bridge.camera.view import Walls, hidden_by, load_buildings, places_of, share_in_view
from agls.config import Camera, Origin, SiteConfig, Slewing
from agls.errors import InputError
from agls.messages import Ellipse, SlewRequest
from tests.bridge.camera.test_plan import LATITUDE, LONGITUDE, NOW_NS, asked, camera_at, refused

WALL = Walls(np.array([[-20.0, 50.0, 20.0, 50.0]]), np.array([5.0]))  # 50 m to the north, 5 m above the lens
NARROW = Camera(camera_id="c", latitude_deg=0.0, longitude_deg=0.0, height_m=0.0)


def test_the_places_are_spread_as_the_ellipse_says() -> None:
    places = places_of(Sight(0.0, 200.0, -8.0), Ellipse(major_m=49.0, minor_m=24.5, azimuth_deg=90.0))
    off = places - places.mean(axis=0)
    assert places.mean(axis=0) == pytest.approx([0.0, 200.0, -8.0], abs=0.5)
    assert np.sqrt(np.mean(off**2, axis=0)) == pytest.approx([20.0, 10.0, 0.0], rel=0.06)  # 95 % is 2.448 sigma
    inside = (places[:, 0] / 49.0) ** 2 + ((places[:, 1] - 200.0) / 24.5) ** 2 <= 1.0
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)


def test_a_picture_shows_the_share_that_a_normal_distribution_has_in_it() -> None:
    places = places_of(Sight(0.0, 2_000.0, 0.0), Ellipse(major_m=244.8, minor_m=0.1, azimuth_deg=90.0))
    narrow = Aim(0.0, 0.0, 2.0 * math.degrees(math.atan(100.0 / 2_000.0)), 2_000.0, fits=False, missing_deg=0.0)
    far = Camera(camera_id="c", latitude_deg=0.0, longitude_deg=0.0, height_m=0.0, range_m=9_000.0)
    assert share_in_view(far, narrow, places, np.zeros(len(places), bool)) == pytest.approx(0.683, abs=0.04)


@pytest.mark.parametrize(
    ("place", "hidden"),
    [((0, 100, 0), True), ((0, 100, 11), False), ((0, 49, 0), False), ((90, 100, 0), False), ((0, -100, 0), False)],
)
def test_a_wall_hides_what_is_lower_and_behind_it(place, hidden: bool) -> None:
    assert hidden_by(WALL, np.array([place], float)).tolist() == [hidden]


def test_the_wall_that_a_camera_hangs_on_hides_nothing() -> None:
    own = Walls(WALL.ends_m * [1.0, 0.02, 1.0, 0.02], WALL.top_m)
    assert not hidden_by(own, np.array([[0.0, 100.0, -8.0]])).any()


def block_north_of(azimuth: float, away_m: float, height_m: float, path: Path) -> Path:
    """A building 30 m wide across the line of sight, this far from the incident."""
    geod = Geod(ellps="WGS84")
    longitude, latitude, _ = geod.fwd(LONGITUDE, LATITUDE, azimuth, away_m)
    ring = [geod.fwd(longitude, latitude, azimuth + turn, 20.0)[:2] for turn in (45, 135, 225, 315, 45)]
    geometry = {"type": "Polygon", "coordinates": [[*ring]]}
    ring[-1] = ring[0]
    feature = {"type": "Feature", "properties": {"height_m": height_m, "ground_m": 240.0}, "geometry": geometry}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path


@pytest.mark.parametrize(("height_m", "names"), [(40.0, ["south"]), (1.0, ["north", "south"])])
def test_a_camera_behind_a_building_is_not_asked(incident, tmp_path: Path, height_m: float, names: list[str]) -> None:
    path = block_north_of(0.0, 60.0, height_m, tmp_path / "buildings.geojson")
    cameras = (camera_at("north", 180.0, 120.0), camera_at("south", 0.0, 130.0))
    policy = Slewing(buildings_file=str(path))
    origin = Origin(latitude_deg=LATITUDE, longitude_deg=LONGITUDE, height_m=240.0)
    answers = CameraPlanner(SiteConfig(name="T", camera=cameras, slewing=policy, origin=origin)).feed(
        incident(), NOW_NS
    )
    assert sorted(asked(answers)) == names
    assert refused(answers) == ({} if len(names) == 2 else {"north": "hidden"})


def planned(incident, *cameras: Camera, **policy) -> list:
    site = SiteConfig(name="T", camera=cameras, slewing=Slewing(**policy))
    return CameraPlanner(site).feed(incident(), NOW_NS)


def test_a_fixed_camera_that_was_recording_is_asked_first_for_a_clip_from_half_a_minute_before(incident) -> None:
    fixed = {
        "pan_min_deg": 0.0, "pan_max_deg": 0.0, "tilt_min_deg": -4.0, "tilt_max_deg": -4.0, "hfov_min_deg": 70.0,
        "hfov_max_deg": 70.0, "recording": True,
    }  # fmt: skip
    looks, away = ({"pan_zero_azimuth_deg": azimuth} for azimuth in (10.0, 180.0))
    answers = planned(
        incident, camera_at("ptz", 90.0, 60.0), camera_at("fixed", 10.0, 150.0, **fixed, **looks),
        camera_at("averted", 10.0, 140.0, **fixed, **away),
    )  # fmt: skip
    assert asked(answers) == ["fixed", "ptz"]
    assert refused(answers) == {"averted": "out_of_view"}
    clip, live = (answer for answer in answers if isinstance(answer, SlewRequest))
    assert clip.clip_from_ns == incident().first_shot_ns - 30 * 10**9
    assert live.clip_from_ns is None
    assert (clip.pan_deg, clip.tilt_deg, clip.hfov_deg) == (0.0, -4.0, 70.0)


def test_cameras_that_look_from_different_angles_are_asked_before_a_nearer_one_from_the_same(incident) -> None:
    cameras = [camera_at("a", 0.0, 80.0), camera_at("beside", 5.0, 85.0), camera_at("across", 95.0, 120.0)]
    assert asked(planned(incident, *cameras, max_cameras_count=2)) == ["a", "across"]


def test_what_an_owner_wants_private_is_not_asked_and_the_street_comes_first(incident) -> None:
    cameras = [
        camera_at(name, 0.0, away_m, privacy=name)
        for away_m, name in ((60, "never"), (70, "restricted"), (90, "street"))
    ]
    assert asked(planned(incident, *cameras)) == ["street", "restricted"]
    possible = lambda: incident(state="possible")  # noqa: E731
    answers = planned(possible, *cameras)
    assert (asked(answers), refused(answers)) == (["street"], {"never": "private", "restricted": "restricted"})


def test_a_view_widens_with_the_age_of_the_shot(incident) -> None:
    site = SiteConfig(name="T", camera=(camera_at("c", 0.0, 200.0),))
    views = [CameraPlanner(site).feed(incident(), NOW_NS + age * 10**9)[0].hfov_deg for age in (0, 2, 8)]
    assert views == sorted(views)
    assert views[2] > 1.5 * views[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "FeatureCollection"), ("{}", "FeatureCollection"), ('{"features": 3}', "FeatureCollection"),
        ('{"features": [{"geometry": null}]}', "features[0] is no Polygon"),
        ('{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0,0],[0,1],[1,1],[0,0]]]}}]}',
         "height_m"),
        (('{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0,0],[0,1],[1,1],[1,0]]]}, '
         '"properties": {"height_m": 3}}]}'), "open ring"),
        (('{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0,0],[0,99],[1,1],[0,0]]]}, '
         '"properties": {"height_m": 3}}]}'), "not on Earth"),
    ],
)  # fmt: skip
def test_a_file_of_buildings_that_is_none_is_refused_in_one_sentence(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "b.geojson").write_text(content)
    with pytest.raises(InputError) as refusal:
        load_buildings(tmp_path / "b.geojson", 0.0)
    assert words in str(refusal.value)
    with pytest.raises(InputError, match="cannot be read"):
        load_buildings(tmp_path / "none", 0.0)
