"""Scenes: what is accepted, what is refused, what the hub is told."""

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from agls.errors import InputError
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
        ("y_m = 100.0", "y_ft = 300.0", r"no key y_ft"),
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
