"""OpenSoundscape's localization CSVs, lined up by phase correlation."""

import numpy as np
import pytest

from agls.errors import InputError
from agls.replay.listen import line_up
from agls.replay.read import read_dataset
from tests.replay.builders import write_csv

# What OpenSoundscape's own tests expect of the clip, against recorder 3 [s].
EXPECTED_S = {"3": 0.0, "4": 0.0325, "5": -0.002, "6": 0.0316, "7": -0.0086, "8": 0.024}


@pytest.fixture
def fixture(shared):
    return read_dataset(shared / "data" / "opensoundscape-localization")


def delays_s(recording):
    arrivals = {detection.sensor_id: detection.toa_ns for detection in line_up(recording)}
    reference = arrivals[recording.calls[0].sensor_ids[0]]
    return {name: (toa_ns - reference) / 1e9 for name, toa_ns in arrivals.items()}


@pytest.mark.parametrize("name", ["LOCA_2021_detections", "LOCA_2021_detections_different_starts"])
def test_the_expected_delays_are_met_within_a_millisecond(fixture, name):
    (recording,) = (one for one in fixture.recordings if one.name == name)
    found = {sensor.removesuffix("_late_start")[-1]: delay for sensor, delay in delays_s(recording).items()}
    assert found.keys() == EXPECTED_S.keys()
    for recorder, expected in EXPECTED_S.items():
        assert found[recorder] == pytest.approx(expected, abs=1e-3)


def test_delays_from_a_known_source_agree_with_its_distance(fixture):
    (recording,) = (one for one in fixture.recordings if one.name == "localizer_preds")
    distance_m = {s.sensor_id: np.hypot(s.x_m - 10, s.y_m - 15) for s in recording.site.sensor}
    found = delays_s(recording)
    assert len(found) == 5
    for name, delay_s in found.items():
        assert delay_s == pytest.approx((distance_m[name] - distance_m["aru_1"]) / 343, abs=5e-4)


def test_what_the_csvs_name_in_vain_is_refused_by_name_and_the_rest_is_read(fixture):
    assert len(fixture.recordings) == 3
    assert len(fixture.refused) == 2
    coordinates, clips = fixture.refused
    assert "LOCA_2021_aru_coords.csv line 9" in coordinates
    assert "LOCA_2021_detections.csv line 8" in clips
    assert "tests/audio/veryshort.wav" in clips
    assert "veryshort.wav" in coordinates


def test_detections_are_refused_for_they_hold_no_times_of_arrival(shared):
    with pytest.raises(InputError, match="--from audio"):
        read_dataset(shared / "data" / "opensoundscape-localization", "detections")


def test_a_recorder_without_coordinates_is_refused(shared, tmp_path):
    audio = shared / "data" / "opensoundscape-localization" / "audio"
    for number in (1, 2):
        (tmp_path / f"aru_{number}.wav").write_bytes((audio / f"aru_{number}.wav").read_bytes())
    write_csv(tmp_path / "places.csv", "file,x,y", "elsewhere/aru_1.wav,0,1")
    write_csv(tmp_path / "clips.csv", "file,start_time,end_time,bird", "aru_1.wav,0,1,1", "aru_2.wav,0,1,1")
    dataset = read_dataset(tmp_path)
    assert [recording.name for recording in dataset.recordings] == ["clips"]
    assert "'aru_2.wav' has no position" in dataset.refused[0]
