"""A mount calibrated from landmarks: as sure as it says, one mistake named, and refused where it cannot be told.

Readings are made by the simulator's own head (`firmware_sim.camera.head`), which shares no formula with `agls`.
"""

import argparse
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agls.bridge.camera.geometry import Sight, levelled, pan_choices
from agls.config import Camera, load_site
from agls.errors import InputError
from calibration.camera import Landmark, Mounting, add_arguments, angles, mounted, mounting, run, turn
from firmware_sim.camera.head import HeadModel, Mount, reading

HEAD = HeadModel()
NOISE_DEG = 0.1


def scene(seed: int, *, count: int = 5, gross: bool = False, shift_m=(0.0, 0.0, 0.0)) -> tuple[Mount, list[Landmark]]:
    """Look at landmarks all round a camera, with 0.1 degrees of noise, and perhaps one gross mistake."""
    chance = np.random.default_rng(seed)
    mount = Mount(
        yaw_deg=float(chance.uniform(-180, 180)),
        pitch_deg=float(2 * chance.normal()),
        roll_deg=float(2 * chance.normal()),
    )
    landmarks = []
    for k in range(count):
        azimuth, away_m, up_m = chance.uniform(0, 2 * np.pi), chance.uniform(60, 400), float(chance.uniform(-15, 10))
        place = (float(away_m * np.sin(azimuth)), float(away_m * np.cos(azimuth)), up_m)
        pan, tilt = reading(mount, HEAD, *np.subtract(place, shift_m).tolist()) + NOISE_DEG * chance.normal(size=2)
        wrong = chance.choice([-1, 1]) * chance.uniform(2, 60) if gross and k == 2 else 0.0
        landmarks.append(Landmark(f"mark-{k}", place, float(pan + wrong), float(tilt), 0.0))
    return mount, landmarks


def off_deg(found: Mounting, mount: Mount) -> float:
    """Compute the error of yaw."""
    return (found.yaw_deg - mount.yaw_deg + 180) % 360 - 180


@pytest.mark.parametrize("gross", [False, True])
def test_five_landmarks_tell_yaw_to_a_tenth_of_a_degree_and_by_how_much_it_may_be_wrong(gross: bool) -> None:
    trials = [scene(seed, gross=gross) for seed in range(60)]
    found = [(mounting(landmarks), mount) for mount, landmarks in trials]
    errors = np.array([off_deg(one, mount) for one, mount in found])
    stated = np.array([one.sigma_deg[0] for one, _ in found])
    assert math.sqrt((errors**2).mean()) <= 0.1
    assert np.median(stated) <= 0.1
    assert 0.85 <= (np.abs(errors) < 1.96 * stated).mean() <= 1.0
    assert not gross or not any(one.used[2] for one, _ in found)
    assert sum(one.used.sum() < 5 - gross for one, _ in found) <= 4


def test_noise_of_places_counts_by_distance() -> None:
    _, landmarks = scene(3)
    blurred = [Landmark(one.name, one.place_m, one.pan_deg, one.tilt_deg, 2.0) for one in landmarks]
    assert mounting(blurred).sigma_deg[0] > 1.5 * mounting(landmarks).sigma_deg[0]


def test_readings_worse_than_stated_widen_the_sigma() -> None:
    _, landmarks = scene(5, count=8)
    found = mounting(landmarks, read_back_sigma_deg=0.02)
    assert found.scale > 2
    assert found.used.sum() >= 7


def test_the_place_of_the_camera_is_found_too_where_it_may_be_wrong() -> None:
    mount, landmarks = scene(7, count=10, shift_m=(3.0, -2.0, 1.0))
    found = mounting(landmarks, position_sigma_m=5.0)
    assert found.shift_m == pytest.approx((3.0, -2.0, 1.0), abs=3 * max(found.shift_sigma_m))
    assert max(found.shift_sigma_m[:2]) < 1.5
    assert abs(off_deg(found, mount)) < 3 * found.sigma_deg[0]


def test_landmarks_in_one_direction_do_not_tell_the_turn_about_it() -> None:
    landmarks = [Landmark(f"mark-{k}", (0.0, 50.0 + 40 * k, 0.0), 0.0, 0.0, 0.0) for k in range(5)]
    with pytest.raises(InputError, match=r"axis towards azimuth (0|180|360), 0 degrees up can be told not at all"):
        mounting(landmarks)


def test_landmarks_close_together_say_what_they_leave_open() -> None:
    mount = Mount(yaw_deg=40)
    places = [(100.0 + 2 * k, 5.0 + k, -8.0 + k) for k in range(4)]
    landmarks = [Landmark(f"mark-{k}", place, *reading(mount, HEAD, *place), 0.1) for k, place in enumerate(places)]
    with pytest.raises(InputError, match=r"towards azimuth (8|26)\d, \d degrees up can be told only to"):
        mounting(landmarks)


def test_three_landmarks_that_contradict_each_other_are_refused() -> None:
    _, landmarks = scene(11, count=3, gross=True)
    with pytest.raises(InputError, match="of 3 landmarks agree"):
        mounting(landmarks)
    with pytest.raises(InputError, match="2 landmarks; at least 3"):
        mounting(landmarks[:2])


@given(st.floats(-179, 179), st.floats(-80, 80), st.floats(-179, 179))
@settings(max_examples=40)
def test_angles_and_turns_undo_each_other(yaw: float, pitch: float, roll: float) -> None:
    assert np.degrees(angles(turn(*np.radians([yaw, pitch, roll])))) == pytest.approx((yaw, pitch, roll), abs=1e-9)


@given(st.floats(-180, 180), st.floats(-20, 20), st.floats(-20, 20), st.floats(0, 360), st.floats(-40, 10))
@settings(max_examples=40)
def test_the_bridge_aims_through_a_crooked_mount_as_the_simulator_does(yaw, pitch, roll, azimuth, up_m) -> None:
    camera = Camera(
        camera_id="c", latitude_deg=0, longitude_deg=0, height_m=0, pan_zero_azimuth_deg=yaw, mount_pitch_deg=pitch,
        mount_roll_deg=roll,
    )  # fmt: skip
    east, north = 100 * math.sin(math.radians(azimuth)), 100 * math.cos(math.radians(azimuth))
    counted = levelled(camera, Sight(east, north, up_m))
    pan, tilt = reading(Mount(yaw_deg=yaw, pitch_deg=pitch, roll_deg=roll), HEAD, east, north, up_m)
    assert counted.elevation_deg == pytest.approx(tilt, abs=1e-9)
    assert min(abs((choice - pan + 180) % 360 - 180) for choice in pan_choices(camera, counted.azimuth_deg)) < 1e-3


# ------------------------------------------------------------------------------------------------------- the command

SITE = """
name = "Example"
[origin]
latitude_deg = 40.44
longitude_deg = -79.99
height_m = 230.0
[[sensor]]
sensor_id = "north"
x_m = 0.0
y_m = 300.0
z_m = 8.0
[[camera]]
camera_id = "cam-0"
latitude_deg = 40.44
longitude_deg = -79.99
height_m = 240.0
pan_min_deg = -170.0
"""


def command(tmp_path, landmarks: str, *more: str) -> int:
    """Run the command on a site and landmarks."""
    (tmp_path / "site.toml").write_text(SITE)
    (tmp_path / "landmarks.csv").write_text(landmarks)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    files = [
        "--site",
        tmp_path / "site.toml",
        "--landmarks",
        tmp_path / "landmarks.csv",
        "--out",
        tmp_path / "new.toml",
    ]
    return run(parser.parse_args([*map(str, files), "--camera", "cam-0", *more]))


def written(seed: int = 3, *, gross: bool = True) -> tuple[Mount, str]:
    """Write landmarks in the site's own metres; its camera is 10 m above the origin."""
    mount, landmarks = scene(seed, gross=gross)
    rows = [
        f"{one.name},{one.place_m[0]},{one.place_m[1]},{one.place_m[2] + 10.0},0.05,{one.pan_deg},{one.tilt_deg}"
        for one in landmarks
    ]
    return mount, "\n".join(["landmark,x_m,y_m,z_m,position_sigma_m,pan_deg,tilt_deg", *rows])


def test_the_command_writes_a_site_that_agls_reads_and_names_the_mistake(tmp_path, capsys) -> None:
    mount, landmarks = written()
    assert command(tmp_path, landmarks) == 0
    camera = load_site(tmp_path / "new.toml").camera[0]
    assert abs((camera.pan_zero_azimuth_deg - mount.yaw_deg + 180) % 360 - 180) < 4 * camera.mount_sigma_deg
    assert camera.mount_pitch_deg == pytest.approx(mount.pitch_deg, abs=0.3)
    assert camera.mount_roll_deg == pytest.approx(mount.roll_deg, abs=0.3)
    assert camera.pan_min_deg == -170.0
    told, kept = capsys.readouterr().out, (tmp_path / "new.toml").read_text()
    for text in (told, kept):
        assert "4 of 5 landmarks" in text
        assert text.count("REFUSED") == 1
        assert "mark-2: " in next(line for line in text.splitlines() if "REFUSED" in line)


def test_a_mount_that_was_moved_has_its_new_place(tmp_path) -> None:
    _, landmarks = written(gross=False)
    command(tmp_path, landmarks, "--position-sigma-m", "2")
    camera = load_site(tmp_path / "new.toml").camera[0]
    assert 0 < abs(camera.latitude_deg - 40.44) < 1e-4


@pytest.mark.parametrize(("landmarks", "more", "says"), [
    ("landmark,pan_deg,tilt_deg\na,1,2", (), "column latitude_deg: ''; a number from -90 to 90"),
    ("landmark,x_m,y_m,z_m,pan_deg,tilt_deg\na,1,99,0,1,2\na,1,99,0,1,2", (), "'a' is there already"),
    ("landmark,x_m,y_m,z_m,pan_deg,tilt_deg\na,0,0,10,1,2", (), "'a' is where the camera is"),
    ("landmark,x_m,y_m,z_m,pan_deg,tilt_deg\na,0,90,10,1,2", (), "landmarks.csv: 1 landmarks; at least 3"),
    ("landmark,tilt_deg\na,0", (), "pan_deg"),
    (written()[1], ("--camera", "cam-9"), "has no camera 'cam-9'; it has cam-0"),
    (written()[1], ("--read-back-sigma-deg", "0"), "--read-back-sigma-deg 0: a number from 0.001 to 10"),
])  # fmt: skip
def test_bad_input_is_refused_in_a_sentence_and_nothing_is_written(tmp_path, landmarks, more, says) -> None:
    with pytest.raises(InputError, match=says):
        command(tmp_path, landmarks, *more)
    assert not (tmp_path / "new.toml").exists()


def test_what_is_found_is_what_the_site_gets() -> None:
    _, landmarks = scene(2)
    found = mounting(landmarks)
    camera = mounted(Camera(camera_id="c", latitude_deg=1.0, longitude_deg=2.0, height_m=3.0), found)
    assert (camera.pan_zero_azimuth_deg, camera.mount_sigma_deg) == (
        round(found.yaw_deg, 4),
        round(max(found.sigma_deg), 4),
    )
    assert (camera.latitude_deg, camera.longitude_deg, camera.height_m) == (1.0, 2.0, 3.0)
