import csv
import tracemalloc

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


CONTENTS = {
    "silence": lambda _, frames: np.zeros(frames),
    "DC": lambda _, frames: np.full(frames, 0.7),
    "full scale": lambda rng, frames: np.sign(rng.normal(size=frames)),
    "noise": lambda rng, frames: rng.uniform(-1, 1, frames),
    "click": lambda _, frames: np.eye(1, frames, frames // 2)[0],
    "tone": lambda _, frames: np.sin(np.arange(frames) * 0.1),
    "too loud": lambda rng, frames: 1e6 * rng.normal(size=frames),
}
FORMATS = [
    ("wav", "PCM_U8"), ("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "PCM_32"), ("wav", "FLOAT"), ("wav", "DOUBLE"),
    ("wav", "ULAW"), ("wav", "ALAW"), ("flac", "PCM_16"), ("flac", "PCM_24"), ("ogg", "VORBIS"),
]  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.sampled_from(sorted(CONTENTS)),
    form=st.sampled_from(FORMATS),
    rate_hz=st.sampled_from([8_000, 11_025, 12_000, 22_050, 44_100, 48_000, 96_000]),
    channels=st.integers(1, 6),
    frames=st.integers(1, 20_000),
    seed=st.integers(0, 9),
)
def test_whatever_a_file_holds_it_gets_rows_that_can_be_read(tmp_path, content, form, rate_hz, channels, frames, seed):
    wave = np.repeat(CONTENTS[content](np.random.default_rng(seed), frames)[:, None], channels, axis=1)
    path = tmp_path / f"a.{form[0]}"
    soundfile.write(path, np.clip(wave, -1, 1) if form[1] == "VORBIS" else wave, rate_hz, subtype=form[1])
    rows = classify([path], tmp_path)
    assert rows
    for row in rows:
        assert row["file"] == str(path)
        assert 0 <= float(row["p_gunshot"]) <= 1
        assert (row["onset_s"] == "") == (row["label"] == "none")
        assert row["onset_s"] == "" or 0 <= float(row["onset_s"]) <= frames / rate_hz


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_get_an_answer_or_one_sentence(tmp_path, value):
    wave = bangs(12_000, [0.5, 1.2])
    wave[9_000:9_100] = value
    soundfile.write(tmp_path / "a.wav", wave, 12_000, subtype="FLOAT")
    try:
        rows = classify([tmp_path / "a.wav"], tmp_path)
    except InputError as error:
        assert str(tmp_path / "a.wav") in str(error)
        assert "\n" not in str(error)
    else:
        assert all(0 <= float(row["p_gunshot"]) <= 1 for row in rows)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=300), head=st.integers(0, 200))
def test_any_bytes_are_refused_in_one_sentence_or_judged(tmp_path, raw, head):
    soundfile.write(tmp_path / "whole.wav", bangs(8_000, [0.01], seconds=0.05), 8_000)
    path = tmp_path / "a.wav"
    path.write_bytes((tmp_path / "whole.wav").read_bytes()[:head] + raw)
    try:
        assert classify([path], tmp_path)
    except InputError as error:
        assert "\n" not in str(error)


def test_memory_does_not_grow_with_the_length_of_a_file(tmp_path):
    peaks = []
    for seconds in (15, 60):
        with soundfile.SoundFile(tmp_path / "a.wav", "w", 8_000, 1) as file:
            for second in range(seconds):
                file.write(bangs(8_000, [0.5], seconds=1.0, seed=second))
        tracemalloc.start()
        classify_files([tmp_path / "a.wav"], tmp_path / "x.csv", onsets_of)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 100_000
