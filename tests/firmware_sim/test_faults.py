"""Faults: what a scene accepts to go wrong, and what it refuses."""

from pathlib import Path
from typing import get_args

import pytest

from agls.errors import InputError
from firmware_sim.faults import AnyFault, GpsLoss, Overflow, of_sensor
from firmware_sim.scene import DEMO_SCENE, load_scene

SCENE = """
name = "yard"
duration_s = 60.0
[origin]
latitude_deg = 40.44
longitude_deg = -79.99
[[sensor]]
sensor_id = "a"
x_m = 0.0
y_m = 0.0
[[sensor]]
sensor_id = "b"
x_m = 300.0
y_m = 0.0
[[fault]]
sensor_id = "b"
kind = "gps_loss"
start_s = 10.0
end_s = 40.0
drift_ppm = 0.2
[[fault]]
kind = "overflow"
start_s = 5.0
end_s = 5.02
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "scene.toml"
    path.write_text(text)
    return path


def test_a_fault_meets_the_sensor_it_names_or_all_of_them(tmp_path: Path) -> None:
    faults = load_scene(written(tmp_path, SCENE)).fault
    assert of_sensor(faults, "b", GpsLoss) == (GpsLoss(sensor_id="b", start_s=10, end_s=40, drift_ppm=0.2),)
    assert of_sensor(faults, "a", GpsLoss) == ()
    assert [len(of_sensor(faults, name, Overflow)) for name in ("a", "b")] == [1, 1]


def test_a_fault_begins_at_its_start_and_is_over_at_its_end() -> None:
    fault = Overflow(start_s=1.0, end_s=2.0)
    assert [fault.holds(time_s) for time_s in (0.999, 1.0, 1.999, 2.0)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            'kind = "gps_loss"',
            'kind = "gremlin"',
            r'line 17: fault\[0\].kind is "gremlin", but must be one of "clock_s',
        ),
        ('kind = "gps_loss"\n', "", r'line 15: fault\[0\] .{5} lacks kind, which must be one of "clock_step", "dead"'),
        (
            'sensor_id = "b"\nkind',
            'sensor_id = "c"\nkind',
            r'fault\[0\].sensor_id is "c", but must be \* or one of a, b',
        ),
        ("drift_ppm = 0.2", "drift_ppm = 2000", r"line 20: fault\[0\].drift_ppm is 2000, .*from -100 to 100 \(by how"),
        (
            "drift_ppm = 0.2",
            "drift_ppb = 2",
            r"line 20: fault\[0\] .{5} has no key drift_ppb .*did you mean drift_ppm, a num",
        ),
        ("drift_ppm = 0.2", "share = 0.2", r"fault\[0\] .{5} has no key share .*; accepted are .*drift_ppm"),
        ("end_s = 40.0\n", "", r"line 15: fault\[0\] .{5} lacks end_s, which must be a number from 0 to 86400"),
        ("end_s = 5.02", "end_s = 5.0", r"fault\[1\].end_s is 5, but must be more than start_s \(5\)"),
        (
            "start_s = 5.0\nend_s = 5.02",
            "start_s = 90.0\nend_s = 91.0",
            r"fault\[1\].start_s is 90, but the scene ends",
        ),
    ],
)
def test_a_fault_that_cannot_be_is_refused_in_one_sentence(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = written(tmp_path, SCENE.replace(old, new, 1))
    with pytest.raises(InputError, match=says) as refused:
        load_scene(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_the_scene_of_a_bad_day_shows_every_kind_of_fault() -> None:
    bad_day = load_scene(DEMO_SCENE.with_name("bad_day.toml"))
    assert {type(fault) for fault in bad_day.fault} == set(get_args(AnyFault))
