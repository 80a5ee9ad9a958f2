"""ShotSpotter's Pittsburgh release, recognised by its layout."""

import json
import shutil

import pytest

from agls.replay.pittsburgh import PULSE_SIGMA_S
from agls.replay.read import read_dataset
from tests.replay.builders import write_pittsburgh


def test_any_root_above_the_tests_gives_the_same_recordings(tmp_path):
    write_pittsburgh(tmp_path / "deep" / "er", ("test_001", "test_002"))
    found = [read_dataset(root).recordings for root in (tmp_path, tmp_path / "deep" / "er", tmp_path / "deep/er/FP1")]
    assert [recording.name for recording in found[0]] == ["FP1/test_001", "FP1/test_002"]
    assert found[0] == found[1] == found[2]


def test_pulses_become_detections_with_an_honest_sigma(tmp_path):
    write_pittsburgh(tmp_path)
    (recording,) = read_dataset(tmp_path, "detections").recordings
    assert len(recording.detections) == 6
    assert all(detection.toa_sigma_s == PULSE_SIGMA_S >= 1e-3 for detection in recording.detections)
    assert recording.site.weather.temperature_c == 14.6
    assert {sensor.sensor_id for sensor in recording.site.sensor} == set("abcdef")


def test_survey_and_tuples_may_be_absent(tmp_path):
    write_pittsburgh(tmp_path)
    with_truth = read_dataset(tmp_path).recordings
    for path in [*tmp_path.rglob("*.survey.json"), *tmp_path.rglob("*.nlos-tuples.json")]:
        path.unlink()
    assert read_dataset(tmp_path).recordings == with_truth


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pulses: pulses[2].pop("location"), ("location", "$[2]")),
        (lambda pulses: pulses[1].update(arrival_time_utc="2223-01-01T00:00:00Z"), ("future", "2223")),
        (lambda pulses: pulses[1].update(power_dB_SPL=float("nan")), ("allpulses.json",)),
        (lambda pulses: pulses[1].update(location=pulses[0]["location"]), ("on the spot of",)),
    ],
)
def test_a_bad_pulse_refuses_its_test_alone(tmp_path, change, words):
    write_pittsburgh(tmp_path, ("test_001", "test_002"))
    path = tmp_path / "FP1/test_001/test_001.allpulses.json"
    pulses = json.loads(path.read_text())
    change(pulses)
    path.write_text(json.dumps(pulses))
    dataset = read_dataset(tmp_path)
    assert [recording.name for recording in dataset.recordings] == ["FP1/test_002"]
    (sentence,) = dataset.refused
    assert "test_001" in sentence
    assert all(word in sentence for word in words), sentence


def test_asking_for_audio_where_there_is_none_refuses_the_test(tmp_path):
    write_pittsburgh(tmp_path)
    dataset = read_dataset(tmp_path, "audio")
    assert dataset.recordings == ()
    assert "--from detections" in dataset.refused[0]


def test_the_release_is_read_whole(shared):
    root = shared / "data" / "shotspotter-pittsburgh"
    pulses, audio = read_dataset(root, "detections"), read_dataset(root)
    assert len(pulses.recordings) == len(audio.recordings) == 54
    assert pulses.refused == audio.refused == ()
    assert sum(len(recording.detections) for recording in pulses.recordings) == 4526
    assert sum(len(recording.tracks) for recording in audio.recordings) == 296


def test_averaged_positions_of_the_pulses_are_preferred_to_single_fixes(shared):
    root = shared / "data" / "shotspotter-pittsburgh"
    pulses = {recording.name: recording for recording in read_dataset(root, "detections").recordings}
    for recording in read_dataset(root, "audio").recordings:
        averaged = {sensor.sensor_id: sensor for sensor in pulses[recording.name].site.sensor}
        for sensor in recording.site.sensor:
            assert averaged.get(sensor.sensor_id, sensor) == sensor


def test_a_wav_without_its_json_refuses_its_test(shared, tmp_path):
    found = next((shared / "data" / "shotspotter-pittsburgh").rglob("FP1/test_001"))
    copy = tmp_path / "FP1" / "test_001"
    shutil.copytree(found, copy, copy_function=shutil.copyfile)
    copy.chmod(0o755)
    gone = min(copy.glob("*.audio.*.json"))
    gone.unlink()
    dataset = read_dataset(tmp_path, "audio")
    assert dataset.recordings == ()
    assert gone.name in dataset.refused[0]
