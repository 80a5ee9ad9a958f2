import json

import numpy as np
import pytest
import soundfile

from agls.classify.model import load_model
from agls.classify.train import Example, cdda, esc10, pittsburgh, tabulate, train, variant, weights
from agls.errors import InputError
from agls.sensor.listen import onsets_of

pytest.importorskip("sklearn", reason="training needs the extra train")
RATE_HZ = 12_000


def recording(times_s, seed):
    rng = np.random.default_rng(seed)
    times = np.arange(5 * RATE_HZ) / RATE_HZ
    wave = rng.normal(0, 1e-3, times.size)
    for time_s in times_s:
        wave += 0.6 * rng.normal(size=times.size) * np.exp(-np.maximum(times - time_s, 0) / 0.04) * (times >= time_s)
    return np.clip(wave, -1, 1)


@pytest.fixture(scope="module")
def collections(tmp_path_factory):
    """Small collections in the layouts of the real ones."""
    root = tmp_path_factory.mktemp("collections")
    for number, position in enumerate(("FP1", "FP6")):
        test = root / "live" / position / f"test_00{number}"
        test.mkdir(parents=True)
        about = {"serial_number": "S1", "timestamp": "2018-12-19T00:00:00.000Z"}
        pulse = {"pulse_uuid": f"u{number}", "serial_number": "S1", "arrival_time_utc": "2018-12-19T00:00:03.001Z"}
        (test / f"{test.name}.audio.S1.json").write_text(json.dumps(about))
        (test / f"{test.name}.allpulses.json").write_text(json.dumps([pulse]))
        (test / f"{test.name}.nlos-tuples.json").write_text(json.dumps([{"pulse_uuids": [f"u{number}"]}]))
        soundfile.write(test / f"{test.name}.audio.S1.wav", recording([1.0, 3.0, 3.5], number), RATE_HZ)
    for name in ("1-100-A", "1-114587-A"):
        (root / "esc" / "001 - Dog bark").mkdir(parents=True, exist_ok=True)
        soundfile.write(root / "esc" / "001 - Dog bark" / f"{name}.ogg", recording([1.0, 2.0], 7), RATE_HZ)
    folder = root / "pack" / "sound" / "fire_gun" / "handguns"
    folder.mkdir(parents=True)
    for name in ("free", "noncommercial", "uncredited"):
        soundfile.write(folder / f"{name}.ogg", recording([1.0], 9), RATE_HZ)
    (folder / "credits.md").write_text("| free.ogg | A | CC BY 4.0 |\n| noncommercial.ogg | B | CC BY-NC 4.0 |\n")
    return root


def test_direct_arrivals_are_gunshots_and_what_came_before_is_not(collections):
    found = [(one.label, round(one.onset.index / RATE_HZ), one.group) for one in pittsburgh(collections, onsets_of)]
    assert found == [
        (label, second, f"pittsburgh/{position}")
        for position in ("FP1", "FP6")
        for label, second in (("other", 1), ("gunshot", 3))
    ]


def test_recordings_shared_with_the_evaluation_are_left_out(collections):
    assert {one.group for one in esc10(collections / "esc", onsets_of)} == {"esc10/1"}
    heard = list(onsets_of(collections / "esc" / "001 - Dog bark" / "1-100-A.ogg"))
    assert len(list(esc10(collections / "esc", onsets_of))) == len(heard) > 0


def test_sounds_without_a_free_licence_are_left_out(collections):
    free = list(onsets_of(next(collections.rglob("free.ogg"))))
    assert [one.label for one in cdda(collections / "pack", onsets_of)] == ["gunshot"] * len(free)
    assert free


def test_a_variant_stays_within_full_scale_and_keeps_its_length(collections):
    onset = next(pittsburgh(collections, onsets_of)).onset
    other = variant(onset, np.random.default_rng(1))
    assert other.snippet.shape == onset.snippet.shape
    assert np.abs(other.snippet).max() <= 1
    assert not np.array_equal(other.snippet, onset.snippet)


def test_gunshots_weigh_as_much_as_all_else_in_training(collections):
    examples = list(pittsburgh(collections, onsets_of))
    onset = examples[0].onset
    examples += [Example(onset, "tool", "cdda", "g"), Example(onset, "thunder", "cdda", "g")]
    examples += [Example(onset, "vehicle", "cdda", "g")] * 5
    table = tabulate(examples, seed=0)
    share = weights(table)
    assert share[table.labels == 0].sum() == pytest.approx(share[table.labels != 0].sum())


def test_the_same_recordings_give_the_same_model_which_loads(collections, tmp_path):
    folders = {"pittsburgh": collections / "live", "esc10": collections / "esc"}
    for name in ("a.json", "b.json"):
        train(folders, onsets_of, tmp_path / name, name="test-1")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    model = load_model(tmp_path / "a.json")
    assert model.name == "test-1"
    assert model.content.training[0].counts == {"gunshot": 2, "other": 2}


def test_a_collection_of_unknown_layout_is_refused(tmp_path):
    with pytest.raises(InputError, match="no known collection"):
        train({"mystery": tmp_path}, onsets_of, tmp_path / "a.json")


def test_gunshots_alone_or_none_are_refused(collections, tmp_path):
    with pytest.raises(InputError, match="both needed"):
        train({"esc10": collections / "esc"}, onsets_of, tmp_path / "a.json")
