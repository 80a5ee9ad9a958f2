"""The folder that others read."""

import csv
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.errors import InputError
from agls.messages import CadEvent, Ellipse, Rejection, UtcNs, decode
from agls.sinks import OutFolder, document
from tests import town


def filled(path, items, **keywords):
    folder = OutFolder(path, **keywords)
    for item, recording in [pair if isinstance(pair, tuple) else (pair, "") for pair in items]:
        folder.write(item, recording)
    folder.close()
    return path


def rows(path, name="shots.csv"):
    with (path / name).open(newline="") as file:
        return list(csv.DictReader(file))


def contents(path):
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_an_empty_run_leaves_headers_and_empty_collections(tmp_path):
    filled(tmp_path, [])
    header = (
        b"recording,incident,shot,origin_time,x_m,y_m,z_m,latitude_deg,longitude_deg,ellipse95_major_m,"
        b"ellipse95_minor_m,ellipse95_azimuth_deg,p_gunshot,sensor_count\n"
    )
    assert contents(tmp_path) == {
        "shots.csv": header,
        "withdrawn.csv": header,
        "incidents.geojson": b'{\n  "type": "FeatureCollection",\n  "features": []\n}\n',
        "rejections.json": b"{}\n",
    }


def test_a_shot_stands_in_the_columns_that_others_rely_on(tmp_path):
    filled(tmp_path, [town.shot(x_m=-0.0004, y_m=20.00051)])
    assert rows(tmp_path) == [
        {
            "recording": "", "incident": "inc-1", "shot": "shot-1", "origin_time": "2023-11-14T22:13:20.000000000Z",
            "x_m": "0.000", "y_m": "20.001", "z_m": "1.500", "latitude_deg": "40.44062010",
            "longitude_deg": "-79.99589010", "ellipse95_major_m": "4.000", "ellipse95_minor_m": "2.000",
            "ellipse95_azimuth_deg": "30.00", "p_gunshot": "0.970000", "sensor_count": "4",
        }
    ]  # fmt: skip


def test_a_shot_without_a_place_on_earth_or_an_incident_leaves_those_cells_empty(tmp_path):
    filled(tmp_path, [town.shot(incident=None, latitude_deg=None, longitude_deg=None, height_m=None)])
    (row,) = rows(tmp_path)
    assert (row["incident"], row["latitude_deg"], row["longitude_deg"]) == ("", "", "")


def test_an_azimuth_never_rounds_to_180_degrees(tmp_path):
    filled(tmp_path, [town.shot(ellipse=Ellipse(major_m=2, minor_m=1, azimuth_deg=179.999)), town.incident()])
    assert rows(tmp_path)[0]["ellipse95_azimuth_deg"] == "0.00"


def test_the_last_revision_of_a_shot_stands_whatever_comes_after_it(tmp_path):
    filled(tmp_path, [town.shot(x_m=1), town.shot(x_m=3, revision=2), town.shot(x_m=2, revision=1)])
    assert [row["x_m"] for row in rows(tmp_path)] == ["3.000"]


def test_a_withdrawn_shot_moves_to_the_withdrawn_and_back_if_it_is_told_again(tmp_path):
    told, taken_back = town.shot(), town.shot(revision=1, state="withdrawn")
    filled(tmp_path, [told, taken_back])
    assert (rows(tmp_path), [row["shot"] for row in rows(tmp_path, "withdrawn.csv")]) == ([], ["shot-1"])
    filled(tmp_path, [told, taken_back, town.shot(revision=2)])
    assert ([row["shot"] for row in rows(tmp_path)], rows(tmp_path, "withdrawn.csv")) == (["shot-1"], [])


@given(st.permutations(range(6)))
def test_the_order_in_which_shots_are_told_changes_no_byte(tmp_path_factory, order):
    shots = [
        (town.shot(shot_id=f"shot-{n % 3}", origin_ns=UtcNs(town.NOW_NS - n % 3 * town.S)), f"test_{n // 3}")
        for n in range(6)
    ]
    path = filled(tmp_path_factory.mktemp("out"), [shots[n] for n in order])
    assert [(row["recording"], row["shot"]) for row in rows(path)] == [
        (f"test_{recording}", f"shot-{n}") for recording in range(2) for n in (2, 1, 0)
    ]


def test_incidents_are_geojson_points_in_order_of_longitude_latitude_height(tmp_path):
    filled(tmp_path, [town.incident(), town.incident(revision=3, round_count=2), town.incident(revision=2)])
    collection = json.loads((tmp_path / "incidents.geojson").read_bytes())
    (feature,) = collection["features"]
    assert collection["type"] == "FeatureCollection"
    assert (feature["type"], feature["id"]) == ("Feature", "inc-1")
    assert feature["geometry"] == {"type": "Point", "coordinates": [-79.9958901, 40.4406201, 250.0]}
    assert feature["properties"] == {
        "recording": "", "incident": "inc-1", "revision": 3, "state": "probable",
        "first_shot_time": "2023-11-14T22:13:20.000000000Z", "last_shot_time": "2023-11-14T22:13:20.000000000Z",
        "round_count": 2, "p_gunshot": 0.97, "sensor_count": 4, "x_m": 10.0, "y_m": 20.0, "z_m": 1.5,
        "ellipse95_major_m": 4.0, "ellipse95_minor_m": 2.0, "ellipse95_azimuth_deg": 30.0, "shots": ["shot-1"],
    }  # fmt: skip


def test_an_incident_without_a_place_on_earth_has_no_geometry_but_metres(tmp_path):
    filled(tmp_path, [town.incident(latitude_deg=None, longitude_deg=None, height_m=None)])
    (feature,) = json.loads((tmp_path / "incidents.geojson").read_bytes())["features"]
    assert feature["geometry"] is None
    assert feature["properties"]["x_m"] == 10.0


def test_a_cad_event_and_a_slew_request_are_on_disk_at_once_as_they_are_sent(tmp_path):
    folder = OutFolder(tmp_path)
    folder.write(town.cad_event(revision=2))
    folder.write(town.slew_request())
    assert (tmp_path / "cad" / "inc-1.2.json").read_bytes() == document(town.cad_event(revision=2))
    assert (tmp_path / "slew" / "slew-1.json").read_bytes() == document(town.slew_request())
    assert decode(document(town.cad_event()), CadEvent) == town.cad_event()
    assert len(contents(tmp_path)) == 2


def test_two_recordings_that_use_one_name_do_not_overwrite_each_other(tmp_path):
    first, second = town.cad_event(headline="first"), town.cad_event(headline="second")
    filled(tmp_path, [(first, "FP1/test_001"), (second, "FP1/test_002"), (first, "FP1/test_001")])
    assert {path.name: json.loads(path.read_bytes())["headline"] for path in (tmp_path / "cad").iterdir()} == {
        "inc-1.0.json": "first",
        "FP1_test_002.inc-1.0.json": "second",
    }


def test_rejections_are_counted_by_stage_and_name(tmp_path):
    names = ["duplicate", "too_old", "duplicate"]
    filled(tmp_path, [Rejection(stage="intake", reason=name, subject="s0") for name in names])
    assert json.loads((tmp_path / "rejections.json").read_bytes()) == {"intake.duplicate": 2, "intake.too_old": 1}


def test_an_earlier_run_s_documents_go_and_what_is_not_ours_stays(tmp_path):
    filled(tmp_path, [town.cad_event(), town.slew_request()])
    (tmp_path / "cad" / "drawing.json").write_text("{}")
    filled(tmp_path, [], keep=True)
    assert {"cad/inc-1.0.json", "slew/slew-1.json"} <= set(contents(tmp_path))
    filled(tmp_path, [])
    assert {name for name in contents(tmp_path) if "/" in name} == {"cad/drawing.json"}


def test_nothing_half_written_is_left(tmp_path):
    filled(tmp_path, [town.shot(), town.incident(), town.cad_event(), town.slew_request()])
    assert [name for name in contents(tmp_path) if name.endswith(".part")] == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made a folder"):
        OutFolder(tmp_path / "file")


def test_what_is_past_its_days_is_left_out_of_the_tables_and_its_documents_are_removed(tmp_path):
    folder, later = OutFolder(tmp_path), UtcNs(town.NOW_NS + 10**9)
    for item in (town.shot(), town.incident(), town.cad_event(), town.slew_request()):
        folder.write(item)
    folder.write(town.shot(shot_id="shot-2", origin_ns=later))
    folder.write(town.incident(incident="inc-2", last_shot_ns=later))
    folder.forget(time.time_ns() + 10**12)
    folder.flush()
    assert list((tmp_path / "cad").glob("*.json")) + list((tmp_path / "slew").glob("*.json")) == []
    assert (tmp_path / "shots.csv").read_text().count("\n") == 1
    folder.write(town.shot(shot_id="shot-2", origin_ns=later))
    folder.forget(later)
    folder.flush()
    assert "shot-2" in (tmp_path / "shots.csv").read_text()
