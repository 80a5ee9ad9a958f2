import base64
import json
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.classify.features import FEATURE_NAMES
from agls.classify.model import RELEASE_KEY, content_sha256, load_model, log_ratios, probability, trusted
from agls.errors import InputError
from agls.messages import Label, Onset


@pytest.fixture(scope="module")
def shipped():
    return load_model()


@pytest.fixture
def content(project):
    return json.loads((project / "agls/classify/model.json").read_text())


def refusal(tmp_path, content, *, sign=True):
    if sign:
        content["sha256"] = content_sha256(content)
    (tmp_path / "m.json").write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        load_model(tmp_path / "m.json", keys=() if sign else (RELEASE_KEY,))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_shipped_model_is_small_and_says_what_trained_it(shipped, project):
    assert (project / "agls/classify/model.json").stat().st_size < 400 * 1024
    licences = {one.licence.split(" ")[0] for one in shipped.content.training}
    assert licences == {"CC", "CC0", "MIT", "Apache-2.0"}
    assert all("NC" not in one.licence and one.attribution and one.sha256 for one in shipped.content.training)
    assert "partly on trained data" in shipped.content.caution
    assert shipped.content.metrics["pittsburgh gunshots recognised"] > 0.8


def test_a_judgement_weighs_every_class_it_knows(shipped):
    rng = np.random.default_rng(1)
    onset = Onset(600.0, 1e-5, 90.0, 20.0, False, "unknown", rng.normal(0, 0.1, 6_000), 600.0, 12_000.0)
    llr = shipped.judge(onset)
    assert set(llr) == set(shipped.content.classes) <= set(get_args(Label)) - {"unknown"}
    assert all(-50 <= ratio <= 50 for ratio in llr.values())
    assert llr == shipped.judge(onset)


@given(st.lists(st.floats(-1e6, 1e6), min_size=len(FEATURE_NAMES), max_size=len(FEATURE_NAMES)))
def test_no_features_are_too_wild_to_be_weighed(shipped, row):
    judgement = shipped.examine_features(np.array(row))
    assert all(-50 <= ratio <= 50 for ratio in judgement.llr.values())
    assert judgement.distance >= 0
    assert judgement.label == "unknown" or (judgement.label == "gunshot") == (judgement.llr["gunshot"] > 0)


def test_what_is_far_from_all_training_is_unknown(shipped):
    mean, axes = shipped.content.mean.unpacked(), shipped.content.axes.unpacked()
    assert shipped.examine_features(mean + 1e6 * axes[0]).label == "unknown"
    assert shipped.examine_features(mean).label != "unknown"


def test_a_key_of_ones_own_is_trusted_besides_the_release_key():
    assert trusted("") == (RELEASE_KEY,)
    assert trusted("11" * 32) == (RELEASE_KEY, "11" * 32)


def test_ratios_do_not_depend_on_the_class_shares_of_training():
    likelihood = np.array([-1.0, -3.0, -2.5])
    even, skewed = np.log([1 / 3, 1 / 3, 1 / 3]), np.log([0.9, 0.05, 0.05])
    np.testing.assert_allclose(log_ratios(likelihood + even, even)[0], log_ratios(likelihood + skewed, skewed)[0])


def test_two_classes_have_opposite_ratios():
    here, there = log_ratios(np.array([2.0, -1.0]), np.log([0.5, 0.5]))
    assert here == pytest.approx(3.0)
    assert there == pytest.approx(-3.0)


def test_a_ratio_is_read_at_a_prior():
    assert probability(0.0, 0.5) == pytest.approx(0.5)
    assert probability(0.0, 0.001) == pytest.approx(0.001)
    assert probability(np.log(0.95 / 0.03), 0.5) == pytest.approx(0.95 / 0.98)
    assert probability(np.log(0.95 / 0.03), 0.001) == pytest.approx(0.0307, abs=1e-4)


@given(st.floats(-50, 50), st.floats(1e-9, 1 - 1e-9))
def test_a_probability_is_a_probability(llr, prior):
    assert 0 <= probability(llr, prior) <= 1


def test_a_changed_parameter_is_refused(tmp_path, content):
    content["far"] += 0.1
    assert "SHA-256" in refusal(tmp_path, content, sign=False)


def test_a_model_whose_signature_was_changed_or_taken_off_is_refused(tmp_path, content):
    assert "not signed" in refusal(tmp_path, content | {"signature": None}, sign=False)
    other = {"key": content["signature"]["key"], "value": "00" * 64}
    assert "forged" in refusal(tmp_path, content | {"signature": other}, sign=False)
    strange = {"key": "11" * 32, "value": content["signature"]["value"]}
    assert "not trusted" in refusal(tmp_path, content | {"signature": strange}, sign=False)


@pytest.mark.parametrize("key", ["features", "hidden", "sha256", "training", "signature"])
def test_a_missing_part_is_refused(tmp_path, content, key):
    del content[key]
    refusal(tmp_path, content, sign=False)


def test_parts_that_do_not_fit_are_refused(tmp_path, content):
    assert "format" in refusal(tmp_path, content | {"format": "agls-model-9"})
    assert "features" in refusal(tmp_path, content | {"features": content["features"][::-1]})
    count = len(content["features"])
    zeros = {"shape": [count], "base64": base64.b64encode(bytes(4 * count)).decode()}
    assert "shape" in refusal(tmp_path, content | {"mean": content["axis_scale"]})
    assert "shape" in refusal(tmp_path, content | {"sees": content["sees"][:-1]})
    assert "shape" in refusal(tmp_path, content | {"sees": [[count] * len(one) for one in content["sees"]]})
    assert "shape" in refusal(tmp_path, content | {"hidden": content["hidden_bias"]})
    assert "shape" in refusal(tmp_path, content | {"output": content["hidden"]})
    assert "scale" in refusal(tmp_path, content | {"scale": zeros})
    assert "not a model" in refusal(tmp_path, content | {"mean": zeros | {"base64": "AAAA"}})
    assert "not a model" in refusal(tmp_path, content | {"mean": zeros | {"base64": "!"}})
    nan = {"shape": [count], "base64": base64.b64encode(np.full(count, np.nan, "<f4").tobytes()).decode()}
    assert "no number" in refusal(tmp_path, content | {"mean": nan})
    renamed = ["unknown" if name == "gunshot" else name for name in content["classes"]]
    assert "gunshot" in refusal(tmp_path, content | {"classes": renamed})


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"[1]", b"\x80\x04K\x01.", b'{"mean": NaN}', b"[" * 100_000, b" " * 2_000_000]
)
def test_what_is_no_model_is_refused(tmp_path, raw):
    (tmp_path / "m.json").write_bytes(raw)
    with pytest.raises(InputError, match=r"m\.json"):
        load_model(tmp_path / "m.json")


def test_a_missing_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_model(tmp_path / "nowhere.json")
