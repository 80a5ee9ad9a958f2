"""Scenes: what is accepted, what is refused, what the hub is told."""

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from agls.errors import InputError
from firmware_sim.propagation import ways
from firmware_sim.scene import (
    DEMO_SCENE,
    Ear,
    Scene,
    emissions,
    load_scene,
    node_configs,
    shots,
    site_config,
    surveyed,
)  # fmt: skip

SCENE = """
name = "yard"
duration_s = 6.0
[origin]
latitude_deg = 40.44
longitude_deg = -79.99
[air]
temperature_c = 18.0
[[sensor]]
sensor_id = "a"
x_m = 0.0
y_m = 0.0
[[sensor]]
sensor_id = "b"
x_m = 300.0
y_m = 0.0
[[shooter]]
shooter_id = "gate"
x_m = 100.0
y_m = 100.0
start_s = 1.0
rounds_count = 2
"""
SMALL_MAP = "[map]\nwest_m = -50.0\neast_m = 50.0\n"
HOUSE = """
[[building]]
building_id = "house"
outline_m = [[290.0, -20.0], [310.0, -20.0], [310.0, 20.0], [290.0, 20.0]]
height_m = 9.0
"""
CROSSED = """
[[building]]
building_id = "bow"
outline_m = [[0.0, 20.0], [40.0, 60.0], [40.0, 20.0], [0.0, 60.0]]
"""
TWICE = """
[[bang]]
bang_id = "gate"
kind = "door"
x_m = 50.0
y_m = 50.0
start_s = 1.0
"""
BACKWARDS = """
[[noise]]
noise_id = "rain"
kind = "rain"
level_db = 50.0
start_s = 2.0
end_s = 1.0
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "scene.toml"
    path.write_text(text)
    return path


def test_the_demo_scene_is_a_city_of_twelve_sensors_with_shots_and_other_noises() -> None:
    scene = load_scene(DEMO_SCENE)
    assert len(scene.sensor) == 12
    assert len(scene.camera) >= 3
    assert len(shots(scene)) >= 5
    assert len(emissions(scene)) > len(shots(scene))
    assert max(shot.time_s for shot in shots(scene)) < 30


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('sensor_id = "b"', 'sensor_id = "a"', r'sensor\[1\].sensor_id is "a", which sensor\[0\] has'),
        ("rounds_count = 2", "rounds_count = 0", r"line 22: shooter\[0\].rounds_count is 0, .*from 1 to 1000"),
        ("temperature_c = 18.0", "temperature_c = 291.15", r"air.temperature_c is 291.15, .*from -60 to 60.*Celsius"),
        ("x_m = 300.0", "x_m = 0.05", r'"b"\) stands where "a" does'),
        ("start_s = 1.0", "start_s = 7.0", r'"gate" sounds at 7 s, but the scene ends at 6 s'),
        ("[air]", "[ways]\necho_until_s = 0.01\n[air]", r"ways.echo_until_s is 0.01, but must be more"),
        ("duration_s", 'start_utc = "noon"\nduration_s', r'start_utc is "noon", but must be a UTC time'),
        ("duration_s", 'start_utc = "9999-12-31T23:59:59Z"\nduration_s', r"must be a UTC time from 1970 to 2099"),
        ("[air]", TWICE + "[air]", r'bang_id "gate" is a shooter.s name too'),
        ("[air]", BACKWARDS + "[air]", r'noise "rain": end_s is 1, but must be more than start_s \(2\)'),
        ("[air]", "[map]\nwest_m = 900.0\neast_m = -900.0\n[air]", r"west_m must be less than east_m"),
        (
            "[air]",
            CROSSED.replace("60.0]]\n", "60.0], [0.0, 60.0]]\n") + "[air]",
            r'"bow": outline_m has a corner twice in a row',
        ),
        ("y_m = 100.0", "y_ft = 300.0", r"no key y_ft"),
        ("temperature_c = 18.0", "temperature_c = -300.0", r"air.temperature_c is -300.0, .*from -60 to 60.*Celsius"),
        ("temperature_c = 18.0", "temperature_k = 291.15", r"no key temperature_k .*did you mean temperature_c"),
        ("y_m = 100.0", "y_m = 30000.0", r'"gate"\).y_m is 30000.0, .*from -20000 to 20000|y_m is 30000.0'),
        ("[air]", SMALL_MAP + "[air]", r'shooter "gate" is at 100 m east, 100 m north at 1 s, outside the map \(-50'),
        ("[air]", HOUSE + "[air]", r'sensor "b" is at 300 m east, 0 m north, 6 m up, inside building "house" \(9 m'),
        (
            "[air]",
            HOUSE.replace("290.0", "90.0").replace("310.0", "110.0").replace("20.0]", "120.0]") + "[air]",
            r'shooter "gate" is at 100 m east, 100 m north, 1.5 m up, inside building "house"',
        ),
        ("[air]", CROSSED + "[air]", r'building "bow": outline_m crosses itself'),
        ("y_m = 100.0", "y_m = nan", r"shooter\[0\].y_m is nan"),
    ],
)
def test_a_scene_that_cannot_be_is_refused_in_one_sentence(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = written(tmp_path, SCENE.replace(old, new, 1))
    with pytest.raises(InputError, match=says) as refused:
        load_scene(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_a_shooter_fires_every_round_at_its_cadence(tmp_path: Path) -> None:
    fired = shots(load_scene(written(tmp_path, SCENE)))
    assert [(shot.time_s, shot.number, shot.position_m) for shot in fired] == [
        (1.0, 0, (100.0, 100.0, 1.5)),
        (1.5, 1, (100.0, 100.0, 1.5)),
    ]


def test_the_hub_is_told_nothing_of_what_happens() -> None:
    scene = load_scene(DEMO_SCENE)
    told = msgspec.json.encode(site_config(scene)).decode()
    named = [shooter.shooter_id for shooter in scene.shooter] + [bang.bang_id for bang in scene.bang]
    assert not [name for name in named if re.search(rf'"{name}"', told)]
    assert [node.sensor_id for node in node_configs(scene)] == [ear.sensor_id for ear in scene.sensor]


def test_the_survey_errs_by_the_sigma_it_states() -> None:
    scene = load_scene(DEMO_SCENE)
    ears = tuple(Ear(sensor_id=f"s{n}", x_m=10.0 * n, y_m=0.0) for n in range(400))
    many: Scene = msgspec.structs.replace(scene, sensor=ears)
    errors_m = [(s.x_m or 0) - e.x_m for s, e in zip(surveyed(many), ears, strict=True)]
    assert np.std(errors_m) == pytest.approx(scene.device.survey_sigma_m, rel=0.1)


def test_a_new_sensor_changes_no_other_sensors_errors() -> None:
    scene = load_scene(DEMO_SCENE)
    more: Scene = msgspec.structs.replace(scene, sensor=(Ear(sensor_id="new", x_m=900.0, y_m=900.0), *scene.sensor))
    assert surveyed(more)[1:] == surveyed(scene)


def test_a_sensor_on_a_roof_and_a_shooter_at_a_corner_are_fine(tmp_path: Path) -> None:
    text = SCENE.replace("[air]", HOUSE + "[air]").replace(
        "x_m = 300.0\ny_m = 0.0", "x_m = 300.0\ny_m = 0.0\nz_m = 9.5"
    )
    assert len(load_scene(written(tmp_path, text)).building) == 1


def test_a_shooter_walks_while_firing(tmp_path: Path) -> None:
    walk = "rounds_count = 4\npath_m = [[104.0, 100.0], [104.0, 200.0]]\nspeed_m_s = 6.0"
    fired = shots(load_scene(written(tmp_path, SCENE.replace("rounds_count = 2", walk))))
    assert [shot.position_m[:2] for shot in fired] == [(100, 100), (103, 100), (104, 102), (104, 105)]


@pytest.mark.parametrize("path", sorted(DEMO_SCENE.parent.glob("scenes/*.toml")), ids=lambda path: path.stem)
def test_every_scene_shipped_is_heard_by_every_sensor(path: Path) -> None:
    scene = load_scene(path)
    assert 25 <= scene.duration_s <= 60
    loudest = {}
    for made in emissions(scene)[:: max(1, len(emissions(scene)) // 12)]:
        for ear in scene.sensor:
            level_db = max(way.level_db for way in ways(scene, ear, made))
            loudest[ear.sensor_id] = max(loudest.get(ear.sensor_id, 0.0), level_db)
    assert min(loudest.values()) > scene.device.noise_db + 15, loudest
