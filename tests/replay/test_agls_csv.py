"""AGLS's own dataset layout."""

import math

import pytest

from agls.errors import InputError
from agls.replay.read import read_dataset
from tests.replay.builders import START_NS, write_audio, write_csv, write_detections, write_sensors

HEADER = "recording,sensor_id,toa_utc,toa_sigma_s,p_gunshot,level_db,snr_db"


def rewrite(path, old, new, count=1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def test_detections_are_read_exactly(tmp_path):
    write_sensors(tmp_path)
    write_csv(tmp_path / "detections.csv", HEADER, "r,a,2023-11-14T22:13:20.123456789Z,0.002,0.9,,")
    dataset = read_dataset(tmp_path)
    detection = dataset.recordings[0].detections[0]
    assert detection.toa_ns == START_NS + 123_456_789
    assert detection.toa_sigma_s == 0.002
    assert detection.llr["gunshot"] == pytest.approx(math.log(9))
    assert (detection.level_db, detection.snr_db) == (None, None)
    assert dataset.refused == ()


def test_columns_may_stand_in_any_order_and_others_are_ignored(tmp_path):
    write_detections(tmp_path)
    plain = read_dataset(tmp_path)
    for name in ("sensors.csv", "detections.csv", "weather.csv"):
        rows = [line.split(",") for line in (tmp_path / name).read_text().splitlines()]
        extra = [["colour" if number == 0 else "blue"] for number in range(len(rows))]
        write_csv(tmp_path / name, *(",".join(more + row[::-1]) for row, more in zip(rows, extra, strict=True)))
    assert read_dataset(tmp_path) == plain


def test_the_order_of_rows_changes_nothing(tmp_path):
    write_detections(tmp_path)
    plain = read_dataset(tmp_path)
    header, *rows = (tmp_path / "detections.csv").read_text().splitlines()
    write_csv(tmp_path / "detections.csv", header, *rows[::-1])
    assert read_dataset(tmp_path) == plain


def test_a_probability_of_one_is_not_taken_for_certainty(tmp_path):
    write_sensors(tmp_path)
    write_csv(tmp_path / "detections.csv", HEADER, "r,a,2023-11-14T22:13:20Z,0.002,1,,")
    assert read_dataset(tmp_path).recordings[0].detections[0].llr["gunshot"] < 15


def test_layout_may_differ_from_recording_to_recording(tmp_path):
    rows = ("a,0,0,0,", "b,1,2,3,one", "b,4,5,6,two", "c,9,9,9,two")
    write_csv(tmp_path / "sensors.csv", "sensor_id,x_m,y_m,z_m,recording", *rows)
    rows = [f"{r},{s},2023-11-14T22:13:20Z,0.002,,," for r in ("one", "two") for s in "ab"]
    write_csv(tmp_path / "detections.csv", HEADER, *rows)
    one, two = read_dataset(tmp_path).recordings
    assert [(s.sensor_id, s.x_m) for s in one.site.sensor] == [("a", 0), ("b", 1)]
    assert [(s.sensor_id, s.x_m) for s in two.site.sensor] == [("a", 0), ("b", 4), ("c", 9)]


def test_degrees_are_read_where_there_are_no_metres(tmp_path):
    write_csv(tmp_path / "sensors.csv", "sensor_id,latitude_deg,longitude_deg,height_m", "a,40.1,-80.2,300")
    write_csv(tmp_path / "detections.csv", HEADER, "r,a,2023-11-14T22:13:20Z,0.002,,,")
    sensor = read_dataset(tmp_path).recordings[0].site.sensor[0]
    assert (sensor.latitude_deg, sensor.longitude_deg, sensor.height_m, sensor.x_m) == (40.1, -80.2, 300, None)


def test_audio_goes_before_detections_unless_asked_otherwise(tmp_path):
    write_audio(tmp_path)
    write_detections(tmp_path)
    write_audio(tmp_path)
    assert all(recording.tracks and not recording.detections for recording in read_dataset(tmp_path).recordings)
    assert all(recording.detections for recording in read_dataset(tmp_path, "detections").recordings)


def test_a_recording_without_audio_is_read_from_its_detections(tmp_path):
    write_audio(tmp_path)
    write_detections(tmp_path, recordings=("three",))
    kinds = {recording.name: bool(recording.tracks) for recording in read_dataset(tmp_path).recordings}
    assert kinds == {"one": True, "two": True, "three": False}


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("detections.csv", "0.001", "nan", ("detections.csv line 2", "toa_sigma_s", "'nan'", "accepted")),
        ("detections.csv", "0.001", "", ("detections.csv line 2", "toa_sigma_s", "''")),
        ("detections.csv", "0.9", "1.5", ("detections.csv line 2", "p_gunshot", "'1.5'", "0 to 1")),
        ("detections.csv", "2023-", "2223-", ("detections.csv line 2", "toa_utc", "2223-", "future")),
        ("detections.csv", "2023-", "14.11.2023 ", ("detections.csv line 2", "toa_utc", "accepted")),
        (
            "detections.csv",
            "one,a,",
            "one,zz,",
            ("detections.csv line 2", "sensor_id", "'zz' is no sensor", "accepted"),
        ),
        ("detections.csv", "one,a,", "one,a/b,", ("detections.csv line 2", "'a/b'")),
        ("weather.csv", "one,14.6", "one,inf", ("weather.csv line 2", "temperature_c", "'inf'")),
    ],
)
def test_a_bad_cell_refuses_its_recording_alone(tmp_path, file, old, new, words):
    write_detections(tmp_path)
    rewrite(tmp_path / file, old, new)
    dataset = read_dataset(tmp_path)
    assert [recording.name for recording in dataset.recordings] == ["two"]
    (sentence,) = dataset.refused
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    ("row", "word"),
    [("a,,,,", "no position"), ("a,1,nan,2,", "'nan'"), ("a,400,10,6,", "on the spot of"), ("a,1,2,x,", "'x'")],
)
def test_a_sensor_that_cannot_be_placed_refuses_only_recordings_that_hear_it(tmp_path, row, word):
    write_detections(tmp_path)
    rewrite(tmp_path / "sensors.csv", "a,0.0,0.0,5.0,0.1", row)
    lines = (tmp_path / "detections.csv").read_text().splitlines()
    # Recording "two" does without either of the sensors that may be on one spot.
    write_csv(tmp_path / "detections.csv", *(line for line in lines if not line.startswith(("two,a", "two,b"))))
    dataset = read_dataset(tmp_path)
    assert [recording.name for recording in dataset.recordings] == ["two"]
    assert "a" not in {sensor.sensor_id for sensor in dataset.recordings[0].site.sensor}
    (sentence,) = dataset.refused
    assert "sensors.csv line" in sentence
    assert word in sentence


def test_a_sensor_named_twice_is_refused(tmp_path):
    write_detections(tmp_path)
    with (tmp_path / "sensors.csv").open("a") as file:
        file.write("a,7,7,7,1\n")
    dataset = read_dataset(tmp_path)
    assert dataset.recordings == ()
    assert "sensors.csv line 8" in dataset.refused[0]
    assert "twice" in dataset.refused[0]


def test_a_file_that_is_not_there_refuses_its_recording(tmp_path):
    write_audio(tmp_path)
    (tmp_path / "two_c.wav").unlink()
    dataset = read_dataset(tmp_path)
    assert [recording.name for recording in dataset.recordings] == ["one"]
    assert "recordings.csv line 10, column file" in dataset.refused[0]
    assert "two_c.wav" in dataset.refused[0]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["sensor_id,x_m,y_m,z_m"], ("no sensor",)),
        ([], ("sensor_id", "missing")),
        (["x_m,y_m,z_m", "1,2,3"], ("column sensor_id is missing", "x_m")),
        (["sensor_id,x_m,y_m", "a,1,2"], ("column z_m is missing",)),
        (["sensor_id", "a"], ("no position", "latitude_deg")),
        (["sensor_id,x_m,x_m", "a,1,2"], ("x_m", "twice")),
        (["sensor_id,x_m,y_m,z_m", "a,1,2,3,4,5"], ("line 2", "6 cells")),
    ],
)
def test_a_dataset_without_usable_sensors_is_refused(tmp_path, lines, words):
    write_detections(tmp_path)
    write_csv(tmp_path / "sensors.csv", *lines)
    with pytest.raises(InputError) as refusal:
        read_dataset(tmp_path)
    assert all(word in str(refusal.value) for word in ("sensors.csv", *words)), refusal.value


def test_a_missing_sensors_file_is_refused(tmp_path):
    write_detections(tmp_path)
    (tmp_path / "sensors.csv").unlink()
    with pytest.raises(InputError, match=r"sensors\.csv"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("column", HEADER.split(","))
def test_a_missing_column_is_named(tmp_path, column):
    write_detections(tmp_path)
    rewrite(tmp_path / "detections.csv", column, "something")
    with pytest.raises(InputError, match=rf"detections\.csv line 1: column {column} is missing"):
        read_dataset(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    write_detections(tmp_path)
    (tmp_path / "detections.csv").write_bytes(b"recording\xff\xfe\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_dataset(tmp_path)


def test_asking_for_what_is_not_there_is_refused(tmp_path):
    write_detections(tmp_path)
    with pytest.raises(InputError, match=r"recordings\.csv"):
        read_dataset(tmp_path, "audio")


def test_a_folder_that_is_no_dataset_is_refused_with_what_would_be(tmp_path):
    with pytest.raises(InputError, match=r"holds no dataset; .*sensors\.csv"):
        read_dataset(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        read_dataset(tmp_path / "nowhere")


def test_a_table_with_a_header_alone_is_refused(tmp_path):
    write_sensors(tmp_path)
    write_csv(tmp_path / "detections.csv", HEADER)
    with pytest.raises(InputError, match="name no recording; at least one row under the header is needed"):
        read_dataset(tmp_path)


def test_a_file_in_place_of_a_dataset_is_called_one(tmp_path):
    (tmp_path / "shots.wav").write_bytes(b"")
    with pytest.raises(InputError, match=r"shots\.wav: is a file; a folder that holds a dataset"):
        read_dataset(tmp_path / "shots.wav")
