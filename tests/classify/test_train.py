import base64
import json
import re
import warnings

import numpy as np
import pytest
import soundfile

from agls.classify import channel
from agls.classify.collections import gathered, secret_key
from agls.classify.examples import CLASSES, FOLDS, Table, scene, tabulate
from agls.classify.features import FEATURE_NAMES
from agls.classify.model import RELEASE_KEY, load_model
from agls.classify.recordings import cdda, esc10, folders, listed, pittsburgh
from agls.classify.signature import public_key
from agls.classify.synthesis import MAKERS, draw
from agls.classify.train import fit, learner, standardised, train, weights
from agls.errors import InputError
from agls.sensor.listen import onsets_in

pytest.importorskip("sklearn", reason="training needs the extra train")
RATE_HZ = 12_000


def bangs(times_s, seed, seconds=5):
    rng = np.random.default_rng(seed)
    times = np.arange(seconds * RATE_HZ) / RATE_HZ
    wave = rng.normal(0, 1e-3, times.size)
    for time_s in times_s:
        wave += 0.6 * rng.normal(size=times.size) * np.exp(-np.maximum(times - time_s, 0) / 0.04) * (times >= time_s)
    return np.clip(wave, -1, 1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
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
        soundfile.write(test / f"{test.name}.audio.S1.wav", bangs([1.0, 3.0, 3.5], number), RATE_HZ)
    for name in ("1-100-A", "1-114587-A"):
        (root / "esc" / "001 - Dog bark").mkdir(parents=True, exist_ok=True)
        soundfile.write(root / "esc" / "001 - Dog bark" / f"{name}.ogg", bangs([1.0, 2.0], 7), RATE_HZ)
    folder = root / "pack" / "sound" / "fire_gun" / "handguns"
    folder.mkdir(parents=True)
    for name in ("free", "noncommercial", "uncredited", "shared"):
        soundfile.write(folder / f"{name}.ogg", bangs([1.0], 9), RATE_HZ)
    (folder / "credits.md").write_text(
        "| free.ogg | A | CC BY 4.0 |\n| noncommercial.ogg | B | CC BY-NC 4.0 |\n"
        "| shared.ogg | C | CC0 | https://freesound.org/people/C/sounds/159743/ |\n"
    )
    for label in ("gunshot", "firework"):
        (root / "own" / label / "one").mkdir(parents=True)
        soundfile.write(root / "own" / label / "one" / "a.wav", bangs([1.0], 3), RATE_HZ)
        soundfile.write(root / "own" / label / "b.WAV", bangs([1.0, 2.0], 4), RATE_HZ)
    return root


def test_direct_arrivals_are_gunshots_and_what_came_before_is_not(root):
    found = [
        (label, round(onset.index / RATE_HZ), recording.group)
        for recording in pittsburgh(root)
        for onset, label in recording.named(onsets_in(*recording.read()))
    ]
    assert found == [
        (label, second, f"pittsburgh/{position}")
        for position in ("FP1", "FP6")
        for label, second in (("other", 1), ("gunshot", 3))
    ]


def test_recordings_shared_with_the_evaluation_are_left_out(root):
    assert [one.path.stem for one in esc10(root / "esc")] == ["1-100-A"]


def test_sounds_without_a_free_licence_or_shared_with_the_evaluation_are_left_out(root):
    assert [(one.path.stem, one.label) for one in cdda(root / "pack")] == [("free", "gunshot")]


def test_what_is_quiet_in_a_recording_of_a_gun_is_no_gunshot(root, tmp_path):
    wave = bangs([1.0, 2.0], 1)
    wave[: RATE_HZ * 3 // 2] *= 0.05
    soundfile.write(tmp_path / "a.wav", wave, RATE_HZ)
    (tmp_path / "x.csv").write_text("path,label\na.wav,gun_shot\n")
    (recording,) = listed(tmp_path / "x.csv")
    named = [round(onset.index / RATE_HZ) for onset, _ in recording.named(onsets_in(*recording.read()))]
    assert named == [2]


def test_folders_named_by_label_are_read_and_their_folders_are_sources(root):
    found = [(one.label, one.group) for one in folders(root / "own")]
    assert sorted(found) == [
        ("firework", "firework/b.WAV"), ("firework", "firework/one"),
        ("gunshot", "gunshot/b.WAV"), ("gunshot", "gunshot/one"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path\na.wav\n", "no column 'label'"),
        ("path,label\na.wav,bang\n", r"x\.csv:2: label 'bang'"),
        ("", "no column"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(tmp_path, text, words):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        list(listed(tmp_path / "x.csv"))


def test_what_holds_no_recordings_is_refused(tmp_path):
    with pytest.raises(InputError, match="no recordings in folders named"):
        gathered(None, [tmp_path])
    with pytest.raises(InputError, match="cannot be read"):
        gathered(None, [tmp_path / "nowhere.csv"])
    with pytest.raises(InputError, match="shotspotter-pittsburgh: holds no recordings"):
        gathered(tmp_path, [])
    with pytest.raises(InputError, match="no recordings are given"):
        gathered(None, [])


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_every_made_sound_is_finite_within_full_scale_and_the_same_for_the_same_chance(kind):
    for rate_hz in (12_000.0, 22_050.0):
        dry = draw(np.random.default_rng(3), rate_hz, kind)
        assert np.isfinite(dry.wave).all()
        assert np.abs(dry.wave).max() == pytest.approx(1.0)
    wave, rate_hz, _ = scene(kind, (), np.random.default_rng(4))
    again, _, _ = scene(kind, (), np.random.default_rng(4))
    assert np.abs(wave).max() <= 1.0
    assert np.array_equal(wave, again)


def test_a_made_shot_begins_where_it_is_said_to():
    heard = 0
    for seed in range(12):
        wave, rate_hz, begins_s = scene("shot", (), np.random.default_rng(seed))
        onsets = onsets_in(wave.astype(np.float32), rate_hz)
        heard += any(min(abs(onset.index / rate_hz - begin_s) for begin_s in begins_s) < 0.005 for onset in onsets)
    assert heard >= 9


@pytest.mark.parametrize("stage", [channel.coloured, channel.limited, channel.compressed])
def test_a_recorder_changes_a_sound_and_keeps_its_length(stage):
    wave = bangs([1.0], 5, seconds=2)
    other = stage(wave, float(RATE_HZ), np.random.default_rng(8))
    assert other.shape == wave.shape
    assert np.isfinite(other).all()


def table_of(labels, collections=None, seed=1):
    rng = np.random.default_rng(seed)
    numbers = np.array([CLASSES.index(label) for label in labels])
    rows = rng.normal(size=(len(labels), len(FEATURE_NAMES))) + numbers[:, None]
    names = np.array(collections or ["own"] * len(labels))
    groups = np.array([f"{name}/{number % 5}" for number, name in enumerate(names)])
    return Table(rows.astype(np.float32), numbers, names, groups, np.ones(len(labels), bool))


def test_shots_heard_in_a_city_weigh_more_than_made_ones_and_classes_keep_their_shares():
    table = table_of(["gunshot"] * 6 + ["tool"] * 3 + ["other"], ["pittsburgh"] * 3 + ["made"] * 7)
    share = weights(table)
    assert share[:3].sum() > 2 * share[3:6].sum()
    assert share[:6].sum() / share[6:9].sum() == pytest.approx(0.45 / 0.1)


def test_groups_are_dealt_into_folds_whole():
    table = table_of(["tool"] * 40)
    for group in set(table.groups.tolist()):
        assert len(set(table.folds[table.groups == group].tolist())) == 1
    assert set(table.folds.tolist()) == set(range(FOLDS))


def test_scores_equal_those_of_scikit_learn():
    table = table_of(["gunshot", "tool", "other", "firework"] * 30)
    fitted = fit(table, seed=3, networks_count=1)
    rng = np.random.default_rng([3, 2, 0])
    share, seen = weights(table), fitted.networks.sees[0]
    assert np.array_equal(seen, np.sort(rng.choice(len(FEATURE_NAMES), seen.size, replace=False)))
    drawn = rng.choice(share.size, size=share.size, p=share)
    standard = standardised(table.rows, fitted.mean, fitted.scale).astype(np.float32)[:, seen]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same = learner(len(drawn), 3).fit(standard[drawn], table.labels[drawn])
    theirs = same.predict_log_proba(standard.astype(np.float64))
    for row, log_posterior in zip(standardised(table.rows, fitted.mean, fitted.scale), theirs, strict=True):
        ours = fitted.networks.scores(row.astype(np.float32).astype(np.float64))
        np.testing.assert_allclose((ours - np.logaddexp.reduce(ours))[same.classes_], log_posterior, atol=1e-6)


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    """Train twice on little, with one key, and once without."""
    folder = tmp_path_factory.mktemp("trained")
    recordings = [*pittsburgh(root / "live"), *esc10(root / "esc"), *folders(root / "own")]
    for name, key in (("a", bytes(range(32))), ("b", bytes(range(32))), ("unsigned", None)):
        train(
            recordings, onsets_in, folder / f"{name}.json", name="test-1", made_count=12, networks_count=2, key=key
        )  # fmt: skip
    return folder


def test_the_same_recordings_give_the_same_model_which_loads(trained):
    assert (trained / "a.json").read_bytes() == (trained / "b.json").read_bytes()
    model = load_model(trained / "a.json", [public_key(bytes(range(32))).hex()])
    assert model.name == "test-1"
    counts = {one.name: one.counts for one in model.content.training}
    assert counts["ShotSpotter sample live fire test data, Pittsburgh 2018 (FP1, FP6, FP8)"].keys() == {
        "gunshot",
        "other",
    }
    assert re.search(r"# Model test-1.*SHA-256 " + model.content.sha256, (trained / "a.md").read_text(), re.DOTALL)


def test_a_model_signed_by_nobody_trusted_is_refused(trained, tmp_path):
    with pytest.raises(InputError, match="not trusted here"):
        load_model(trained / "a.json")
    with pytest.raises(InputError, match="is not signed"):
        load_model(trained / "unsigned.json")
    content = json.loads((trained / "a.json").read_text())
    content["signature"]["key"] = RELEASE_KEY
    (tmp_path / "forged.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="forged"):
        load_model(tmp_path / "forged.json")


def test_gunshots_alone_or_none_are_refused(root, tmp_path):
    with pytest.raises(InputError, match="both are needed"):
        train(list(esc10(root / "esc")), onsets_in, tmp_path / "a.json", made_count=0)


def test_leaving_a_recording_out_changes_no_made_sound(root):
    recordings = list(folders(root / "own"))
    with_all = tabulate(recordings, onsets_in, made_count=6, seed=1)
    with_less = tabulate(recordings[:1], onsets_in, made_count=6, seed=1)
    made = with_all.collections == "made"
    assert made.any()
    np.testing.assert_array_equal(with_all.rows[made], with_less.rows[with_less.collections == "made"])


def test_a_secret_key_is_made_once_for_its_owner_alone(tmp_path):
    key = secret_key(tmp_path / "k")
    assert secret_key(tmp_path / "k") == key
    assert (tmp_path / "k").stat().st_mode & 0o077 == 0
    (tmp_path / "bad").write_text(base64.b64encode(key).decode())
    with pytest.raises(InputError, match="holds no secret key"):
        secret_key(tmp_path / "bad")
