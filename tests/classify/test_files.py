import csv

import numpy as np
import pytest
import soundfile

from agls.classify.files import classify_files
from agls.errors import InputError
from agls.sensor.listen import onsets_of


def bangs(rate_hz, times_s, seconds=2.0, seed=1):
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    rng = np.random.default_rng(seed)
    wave = rng.normal(0, 1e-3, times.size)
    for time_s in times_s:
        after = times - time_s
        wave += 0.5 * rng.normal(size=times.size) * np.exp(-np.maximum(after, 0) / 0.03) * (after >= 0)
    return np.clip(wave, -1, 1)


def classify(files, tmp_path):
    classify_files(files, tmp_path / "x.csv", onsets_of)
    with (tmp_path / "x.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("name", "rate_hz", "subtype"),
    [("a.wav", 8_000, "PCM_16"), ("a.wav", 48_000, "PCM_24"), ("a.wav", 192_000, "FLOAT"), ("a.wav", 12_000, "PCM_U8"),
     ("a.flac", 44_100, "PCM_16"), ("a.ogg", 48_000, "VORBIS")],
)  # fmt: skip
def test_each_impulse_has_a_row_at_its_time_in_any_format(tmp_path, name, rate_hz, subtype):
    soundfile.write(tmp_path / name, bangs(rate_hz, [0.5, 1.2]), rate_hz, subtype=subtype)
    rows = classify([tmp_path / name], tmp_path)
    assert list(rows[0]) == ["file", "onset_s", "label", "p_gunshot"]
    assert {row["file"] for row in rows} == {str(tmp_path / name)}
    starts_s = np.array([float(row["onset_s"]) for row in rows])
    assert all(np.abs(starts_s - time_s).min() < 0.005 for time_s in (0.5, 1.2))
    assert all(0 <= float(row["p_gunshot"]) <= 1 for row in rows)
    assert list(starts_s) == sorted(starts_s)


def test_a_sound_at_the_very_start_is_heard(tmp_path):
    soundfile.write(tmp_path / "a.wav", bangs(48_000, [0.0], seconds=1.0), 48_000)
    rows = classify([tmp_path / "a.wav"], tmp_path)
    assert float(rows[0]["onset_s"]) < 0.005


@pytest.mark.parametrize("wave", [np.zeros(24_000), np.full(24_000, 0.5), np.zeros(1)])
def test_a_file_without_impulse_has_one_row_that_says_so(tmp_path, wave):
    soundfile.write(tmp_path / "a.wav", wave, 12_000)
    assert classify([tmp_path / "a.wav"], tmp_path) == [
        {"file": str(tmp_path / "a.wav"), "onset_s": "", "label": "none", "p_gunshot": "0"}
    ]


def test_noise_at_full_scale_gets_an_answer(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(1).uniform(-1, 1, (24_000, 6)), 12_000)
    assert classify([tmp_path / "a.wav"], tmp_path)


def test_a_bad_file_is_named_and_the_others_are_done(tmp_path):
    soundfile.write(tmp_path / "a.wav", bangs(12_000, [0.5]), 12_000)
    (tmp_path / "bad.wav").write_bytes(b"")
    with pytest.raises(InputError, match=r"bad\.wav: is empty"):
        classify_files([tmp_path / "bad.wav", tmp_path / "a.wav"], tmp_path / "x.csv", onsets_of)
    assert str(tmp_path / "a.wav") in (tmp_path / "x.csv").read_text()


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        classify_files([], tmp_path / "nowhere" / "x.csv", onsets_of)
