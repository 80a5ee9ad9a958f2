import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from agls.classify.collections import evaluated
from agls.classify.evaluate import (
    Impulse,
    Judged,
    alarms_interval,
    area,
    calibration_error,
    differences,
    evaluate,
    excess_calibration_error,
    roc,
)
from agls.classify.evaluate_page import page, spectrogram_png
from agls.classify.model import load_model
from agls.classify.recordings import Recording, folders
from agls.errors import InputError
from agls.sensor.listen import onsets_in


def judged(label, kind, source, *ratios, truth=None):
    recording = Recording(Path(f"{kind}-{source}.wav"), label, "test", source, kind)
    impulses = [
        Impulse(0.1 * number, truth or label, "other", {"gunshot": ratio}, 20.0, clipped=False)
        for number, ratio in enumerate(ratios)
    ]
    return Judged(recording, 4.0, tuple(impulses))


GUNS = [judged("gunshot", "gun_shot", f"g{number}", ratio) for number, ratio in enumerate((3.0, 1.0, -1.0, 5.0))]
OTHERS = [
    judged("other", "dog", "d1", -3.0, 0.5), judged("other", "dog", "d2"),
    judged("firework", "fireworks", "f1", 4.0), judged("firework", "fireworks", "f2", -4.0),
]  # fmt: skip


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=30), st.lists(st.floats(-9, 9), min_size=1, max_size=30))
def test_the_area_is_how_often_a_gunshot_ranks_higher(guns, others):
    wins = np.mean([(gun > other) + 0.5 * (gun == other) for gun in guns for other in others])
    assert area(np.array(guns), np.array(others)) == pytest.approx(float(wins), abs=1e-9)
    false_alarms, recall = roc(np.array(guns), np.array(others))
    assert (np.diff(false_alarms) >= 0).all()
    assert (np.diff(recall) >= 0).all()
    assert (false_alarms[-1], recall[-1]) == (1.0, 1.0)


def test_a_recording_counts_by_its_likeliest_impulse_and_a_silent_one_as_refused():
    found = evaluate([*GUNS, *OTHERS], "m", draws_count=20).figures
    assert found["recall at even prior"].value == 0.75
    assert found["dog called gunshot"].value == 0.5
    assert found["dog called gunshot"].sources_count == 2
    assert found["fireworks called gunshot"].value == 0.5
    assert found["false alarms at even prior, mean over classes"].value == 0.5
    assert found["area under ROC, without fireworks"].value == 0.875


def test_intervals_come_from_sources_not_from_clips():
    one = [judged("gunshot", "gun_shot", "g", ratio) for ratio in (1.0, -1.0) * 20]
    assert evaluate([*one, *OTHERS], "m", draws_count=50).figures["recall at even prior"].interval == (0.5, 0.5)


def test_false_alarms_are_counted_for_each_hour():
    found = evaluate([*GUNS, *OTHERS], "m", draws_count=10).figures
    (rate,) = [figure for name, figure in found.items() if "an hour, even prior" in name]
    assert rate.count == 2
    assert rate.value == pytest.approx(2 / (16 / 3600))


def test_none_in_some_hours_supports_only_less_than_three_over_the_hours():
    assert alarms_interval(0, 10.0) == (0.0, pytest.approx(0.3))
    low, high = alarms_interval(10, 1.0)  # exact Poisson: 4.795 to 18.39
    assert low == pytest.approx(4.795, rel=0.01)
    assert high == pytest.approx(18.39, rel=0.01)


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_ratios_that_mean_what_they_say_have_no_excess_error(seed):
    rng = np.random.default_rng(seed)
    gunshot = rng.random(4_000) < 0.5
    # Of two normal distributions two apart, the ratio at x is 2 x.
    llr = 2 * (rng.normal(size=4_000) + np.where(gunshot, 1.0, -1.0))
    assert abs(excess_calibration_error(llr, gunshot, 0.5, rng)) < 0.02
    assert excess_calibration_error(3 * llr + 2, gunshot, 0.5, rng) > 0.03


def test_bins_hold_equal_mass():
    rng = np.random.default_rng(1)
    error, bins = calibration_error(rng.random(1_000), rng.random(1_000) < 0.3, np.ones(1_000))
    assert [count for _, _, count in bins] == [100] * 10
    assert 0 < error < 1


def test_two_models_are_compared_on_the_same_sources():
    new = evaluate([*GUNS, *OTHERS], "new", draws_count=20)
    worse = [judged("gunshot", "gun_shot", one.recording.group, one.llr - 10) for one in GUNS]
    found = differences(new, evaluate([*worse, *OTHERS], "old", draws_count=20), draws_count=50)
    assert found["recall at even prior"].value == 0.75
    assert found["false alarms at even prior, mean over classes"].interval == (0.0, 0.0)


def test_gunshots_alone_cannot_be_evaluated():
    with pytest.raises(InputError, match="both are needed"):
        evaluate(GUNS, "m")


def test_a_spectrogram_is_a_png_whatever_the_sound():
    for wave, rate_hz in ((np.zeros(3), 8_000.0), (np.ones(48_000), 48_000.0)):
        assert spectrogram_png(wave.astype(np.float32), rate_hz).startswith(b"\x89PNG\r\n")


def test_the_page_the_figures_and_the_impulses_are_written(tmp_path):
    rng = np.random.default_rng(2)
    times = np.arange(24_000) / 12_000
    for label in ("gunshot", "tool"):
        (tmp_path / "in" / label).mkdir(parents=True)
        for number in range(2):
            bang = rng.normal(size=times.size) * np.exp(-np.maximum(times - 1, 0) / 0.05) * (times >= 1)
            soundfile.write(tmp_path / "in" / label / f"{number}.wav", 0.3 * bang / np.abs(bang).max(), 12_000)
    model = load_model()
    evaluated(list(folders(tmp_path / "in")), onsets_in, [model, model], tmp_path / "out", 20, lambda *_: None)
    text = (tmp_path / "out" / "evaluation.html").read_text()
    assert text.count("<svg") == 4
    assert "data:audio/wav;base64," in text
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["differences"]
    with (tmp_path / "out" / "impulses.csv").open() as file:
        assert {row["truth"] for row in csv.DictReader(file)} == {"gunshot", "tool"}


def test_names_in_the_page_are_escaped():
    strange = Recording(Path("a"), "other", "test", "<s>", "<b>bold")
    gun = Recording(Path("b"), "gunshot", "test", "<i>", "<u>gun")
    whole = [Judged(gun, 1.0, ()), judged("gunshot", "gun_shot", "g", 2.0), Judged(strange, 1.0, ()), OTHERS[0]]
    found = evaluate([replace(one, impulses=one.impulses[:1]) for one in whole], "<model>", draws_count=10)
    text = page([found], {})
    assert "nothing was heard" in text
    assert not any(tag in text for tag in ("<b>", "<model>", "<i>", "<u>", "<s>"))
