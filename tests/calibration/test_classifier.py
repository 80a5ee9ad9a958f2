"""Ratios corrected by labelled sounds say what they mean, for each node as far as its own sounds tell."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from agls.config import NodeConfig, load_node
from agls.errors import InputError
from calibration import classifier
from calibration.classifier import WIDE, Labelled, calibrate, cost_bits, fit_line, reliability
from calibration.tables import document


def judged(
    rng: np.random.Generator, guns: int, others: int, slope: float, offset: float, strength: float = 3.0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw sounds whose true ratio is ``slope * llr + offset``: two Gaussians of one width have linear ratios."""
    truth = np.repeat([True, False], [guns, others])
    ratio = rng.normal(np.where(truth, strength, -strength), math.sqrt(2 * strength))
    return (ratio - offset) / slope, truth


def labelled(*parts: tuple[str, tuple[np.ndarray, np.ndarray]]) -> Labelled:
    """Join the sounds of several nodes."""
    names = tuple(name for name, (llr, _) in parts for _ in llr)
    return Labelled(
        np.concatenate([llr for _, (llr, _) in parts]), np.concatenate([t for _, (_, t) in parts]), names, {}
    )


@pytest.mark.parametrize(("guns", "others"), [(200, 200), (40, 300)])
def test_the_line_is_found_whatever_the_share_of_gunshots_and_as_surely_as_stated(guns: int, others: int) -> None:
    ratios = []
    for seed in range(120):
        llr, truth = judged(np.random.default_rng(seed), guns, others, 0.6, -1.2)
        line = fit_line(llr, truth, np.zeros(2), WIDE)
        ratios += [(float(line(np.array(x))) - (0.6 * x - 1.2)) / line.sigma(x) for x in (-4.0, 2.0, 8.0)]
    assert 0.92 <= np.mean(np.abs(ratios) < 1.96) <= 0.99
    assert abs(np.mean(ratios)) < 0.3


def test_it_is_logistic_regression() -> None:
    llr, truth = judged(np.random.default_rng(1), 80, 150, 0.5, 1.0)
    oracle = LogisticRegression(C=1e9, tol=1e-10).fit(llr[:, None], truth)
    line = fit_line(llr, truth, np.zeros(2), 1e6 * WIDE)
    assert line.slope == pytest.approx(float(oracle.coef_[0, 0]), rel=1e-3)
    assert line.offset == pytest.approx(float(oracle.intercept_[0]) - math.log(80 / 150), abs=1e-3)


@given(st.integers(0, 99), st.floats(0.1, 4), st.floats(-5, 5))
def test_order_is_kept_and_stretched_ratios_are_stretched_back(seed: int, slope: float, offset: float) -> None:
    llr, truth = judged(np.random.default_rng(seed), 60, 60, 1.0, 0.0)
    plain = fit_line(llr, truth, np.zeros(2), 1e6 * WIDE)
    other = fit_line((llr - offset) / slope, truth, np.zeros(2), 1e6 * WIDE)
    assert other.slope > 0
    np.testing.assert_allclose(other((llr - offset) / slope), plain(llr), atol=0.02)


def test_sounds_that_a_model_never_confuses_still_give_a_bounded_line() -> None:
    llr = np.concatenate([np.linspace(4, 9, 20), np.linspace(-9, -4, 20)])
    line = fit_line(llr, llr > 0, np.zeros(2), WIDE)
    assert 0.5 < line.slope < 5
    assert abs(line.offset) < 0.5


def test_a_node_with_its_own_sounds_goes_its_own_way_and_one_without_takes_the_others() -> None:
    rng = np.random.default_rng(2)
    common = labelled(
        ("a", judged(rng, 150, 150, 0.6, 0.0)),
        ("b", judged(rng, 150, 150, 0.6, 0.0)),
        ("odd", judged(rng, 150, 150, 0.6, -3.0)),
        ("new", judged(rng, 2, 3, 0.6, -3.0)),
    )
    odd, new, plain = (calibrate(common, name) for name in ("odd", "new", "a"))
    assert (odd.pooled, new.pooled) == (False, True)
    assert odd.line.offset == pytest.approx(-3.0, abs=0.6)
    assert plain.line.offset == pytest.approx(0.0, abs=0.6)
    assert -2.0 < new.line.offset < -0.3
    assert new.line.sigma(0.0) > 3 * plain.line.sigma(0.0)


def test_few_sounds_of_a_node_move_it_little_from_the_others() -> None:
    rng = np.random.default_rng(3)
    many = judged(rng, 300, 300, 0.6, 0.0)
    misled = (np.concatenate([np.full(5, -3.0), np.full(5, 3.0)]), np.repeat([True, False], 5))
    alone, among = calibrate(labelled(("a", misled)), "a"), calibrate(labelled(("a", misled), ("b", many)), "a")
    assert alone.line.slope < 0.3
    assert among.line.slope > alone.line.slope


def test_a_boastful_model_costs_less_once_corrected() -> None:
    llr, truth = judged(np.random.default_rng(4), 200, 200, 0.25, -1.0)
    said, corrected, best = calibrate(labelled(("a", (llr, truth))), "a").costs
    assert corrected < 0.7 * said
    assert best <= corrected < best + 0.05
    assert cost_bits(np.zeros(400), truth) == pytest.approx(1.0)


def test_reliability_counts_gunshots_and_others_alike() -> None:
    llr, truth = judged(np.random.default_rng(5), 50, 5000, 1.0, 0.0)
    rows = list(reliability(llr, truth))
    assert sum(row[2] for row in rows) == 5050
    assert sum(least <= said <= most for _, _, _, said, _, least, most in rows) >= len(rows) - 1


def command(
    folder: Path, scores: Sequence[str], labels: Sequence[str], head: str = "file,label,sensor_id"
) -> NodeConfig:
    """Run the command and read what it wrote."""
    parser = argparse.ArgumentParser()
    classifier.add_arguments(parser)
    (folder / "scores.csv").write_text("\n".join(["file,onset_s,label,p_gunshot", *scores]))
    (folder / "labels.csv").write_text("\n".join([head, *labels]))
    (folder / "node.toml").write_text(document(NodeConfig(sensor_id="north-03")))
    words = [f"--{name}={folder / file}" for name, file in (("scores", "scores.csv"), ("labels", "labels.csv"))]
    words += [f"--node={folder / 'node.toml'}", f"--out={folder / 'new.toml'}"]
    assert classifier.run(parser.parse_args(words)) == 0
    return load_node(folder / "new.toml")


def test_scores_and_labels_give_a_node_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    llr, truth = judged(np.random.default_rng(6), 120, 120, 0.5, -1.0)
    scores, labels = [], []
    for k, (ratio, gun) in enumerate(zip(llr.tolist(), truth.tolist(), strict=True)):
        p = 1 / (1 + math.exp(-ratio))
        scores += [f"far/{k}.wav,0.5,gunshot,{p:.4f}", f"far/{k}.wav,0.9,other,{p / 3:.4f}"]
        labels += [f"{k}.wav,{'gunshot' if gun else 'firework'},north-03"]
    scores.append("far/still.wav,,none,0")
    labels.append("still.wav,gunshot,north-03")
    node = command(tmp_path, scores, labels)
    assert node.classification.gunshot_slope == pytest.approx(0.5, rel=0.3)
    assert node.classification.gunshot_offset == pytest.approx(-1.0, abs=0.5)
    told = capsys.readouterr().out
    assert "120 gunshots and 120 other sounds of this node are labelled; its own are used" in told
    assert "1 labelled sounds not heard by the node" in told
    assert "[classification]\n# 120 gunshots" in (tmp_path / "new.toml").read_text()


@pytest.mark.parametrize(
    ("labels", "head", "said"),
    [
        (["x.wav,gunshot"], "file,label", "'x.wav' is in no row of"),
        (["a.wav,gunshot"], "file,label", "1 gunshots and 0 other sounds are labelled and judged; at least 5"),
        (["a.wav,gunshot,0.7"], "file,label,onset_s", "0 gunshots and 0 other .* 1 not heard by the node"),
        (["a.wav"], "file", "column label is missing"),
        (["a.wav,"], "file,label", "column label: ''"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path, labels: list[str], head: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        command(tmp_path, ["a.wav,0.5,gunshot,0.9"], labels, head)
    assert not (tmp_path / "new.toml").exists()
