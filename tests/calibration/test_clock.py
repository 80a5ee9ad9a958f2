"""How late a device stamps is found from pulses, and pulses that cannot be trusted are refused."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from agls.config import Microphone, NodeConfig, load_node
from agls.errors import InputError
from agls.messages import NS_PER_S, format_utc
from calibration import clock
from calibration.clock import Run, edges, find_latency, lateness, paired_run, pps_run
from calibration.tables import document

RATE_HZ = 48_000.0
START_NS = 1_790_000_000 * NS_PER_S + 250_000_000


def pulses(
    rng: np.random.Generator,
    latency_s: float,
    *,
    seconds: int = 30,
    ppm: float = 0.0,
    noise: float = 0.003,
    skip: Sequence[int] = (),
) -> np.ndarray:
    """Record a pulse per second through a capacitor: an edge up on the second, one down a tenth later.

    The device says that its first sample was taken at `START_NS`; in truth it was `latency_s` earlier, and it takes
    `ppm` millionths more samples a second.
    """
    true_s = START_NS / NS_PER_S % 1 - latency_s + np.arange(round(seconds * RATE_HZ)) / (RATE_HZ * (1 + 1e-6 * ppm))
    found = rng.normal(0, noise, true_s.size)
    for second in range(-1, seconds + 2):
        if second in skip:
            continue
        for edge_s, sign in ((second, 0.3), (second + 0.1, -0.3)):
            since = true_s - edge_s
            near = (since > -1e-3) & (since < 0.05)
            shape = 0.5 * (1 + erf(since[near] / 15e-6)) * np.exp(-np.maximum(since[near], 0) / 0.004)
            found[near] += sign * shape
    return found


@settings(max_examples=6)
@given(st.integers(0, 999), st.floats(-0.2, 0.2), st.floats(-80, 80))
def test_latency_and_drift_come_out_of_a_pulse_per_second(seed: int, latency_s: float, ppm: float) -> None:
    samples = pulses(np.random.default_rng(seed), latency_s, ppm=ppm)
    found = lateness(pps_run(samples, RATE_HZ, START_NS, "a recording"))
    assert found.latency_s == pytest.approx(latency_s, abs=max(4 * found.sigma_s, 2e-6))
    assert found.drift_ppm == pytest.approx(ppm, abs=max(4 * found.drift_sigma_ppm, 0.1))
    assert found.sigma_s < 3e-6
    assert found.refused_count == 0


def test_an_edge_is_found_to_a_small_part_of_a_sample() -> None:
    found = edges(pulses(np.random.default_rng(1), 0.0371, noise=1e-4), RATE_HZ) / RATE_HZ
    off = (found - 0.0371 + START_NS / NS_PER_S % 1 + 0.5) % 1 - 0.5
    assert np.abs(off).max() < 2e-6
    assert off.std() < 5e-8


def test_its_sigma_covers_the_truth_when_errors_wander() -> None:
    ratios = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        wander = np.convolve(rng.normal(0, 1e-5, 700), np.ones(8) / np.sqrt(8), "valid")[:600]
        stamped = np.arange(600.0)
        found = lateness(Run("x", stamped, 0.012 + 3e-6 * stamped + wander, 300.0))
        ratios.append((found.latency_s - 0.0129) / found.sigma_s)
    assert 0.9 <= np.mean(np.abs(ratios) < 1.96) <= 0.99


def test_starts_that_differ_widen_the_sigma() -> None:
    rng = np.random.default_rng(0)
    late = [0.010, 0.0104, 0.0097, 0.0101]
    runs = [Run("x", np.arange(50.0), one + rng.normal(0, 1e-6, 50), 0.0) for one in late]
    assert find_latency(runs[:1]).sigma_s < 2e-6
    assert "give several" in find_latency(runs[:1]).lines()[-1]
    found = find_latency(runs)
    assert found.latency_s == pytest.approx(np.mean(late), abs=1e-6)
    assert found.sigma_s == pytest.approx(np.std(late, ddof=1) * np.sqrt(1.25), rel=0.02)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (
            pulses(np.random.default_rng(0), 0.01, skip=[12]),
            r"a pulse is missing: after the one at 10\.7\d* s the next",
        ),
        (np.random.default_rng(0).normal(0, 0.01, 480_000), "no pulses: each second's highest"),
        (np.zeros(480_000), "no pulses"),
        (np.zeros(0), "no pulses"),
        (
            np.concatenate([pulses(np.random.default_rng(0), 0.01)[: k * 48_000 + 7_000 * k] for k in (9, 8)]),
            "irregular",
        ),
        (pulses(np.random.default_rng(0), 0.01, ppm=900), "irregular"),
    ],
    ids=["missing", "noise", "silence", "empty", "jump", "fast"],
)
def test_missing_and_irregular_pulses_are_refused(samples: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        pps_run(samples, RATE_HZ, START_NS, "a.wav")


def test_stamps_pair_up_with_a_reference_and_doubtful_ones_are_left_out() -> None:
    true_ns = [START_NS + k * 3 * NS_PER_S for k in range(20)]
    stamps_ns = [moment + 7_000_000 for moment in true_ns] + [true_ns[3] + 50_000_000, START_NS + 1_500_000_000]
    found = lateness(paired_run(stamps_ns, true_ns, "claps", delay_s=0.002))
    assert found.latency_s == pytest.approx(0.005, abs=1e-9)
    assert len(found.residuals_s) == 19
    with pytest.raises(InputError, match="9 pulses pair up"):
        paired_run(stamps_ns[4:13], true_ns, "claps")


def command(folder: Path, *words: object) -> NodeConfig:
    """Run the command and read what it wrote."""
    parser = argparse.ArgumentParser()
    clock.add_arguments(parser)
    node = folder / "node.toml"
    node.write_text(document(NodeConfig(sensor_id="north-03", microphone=Microphone(latency_s=0.002))))
    out = folder / "new.toml"
    assert clock.run(parser.parse_args([str(word) for word in ("--node", node, "--out", out, *words)])) == 0
    return load_node(out)


def test_recordings_of_several_starts_give_a_node_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words: list[object] = []
    for number, latency_s in enumerate((0.0131, 0.0128)):
        samples = pulses(np.random.default_rng(number), latency_s, seconds=15)
        path = tmp_path / f"start{number}.wav"
        soundfile.write(path, np.column_stack([np.zeros_like(samples), samples]), round(RATE_HZ), subtype="FLOAT")
        words += ["--pps", f"{path}={format_utc(START_NS)}"]
    node = command(tmp_path, *words)
    assert node.microphone.latency_s == pytest.approx(0.01295, abs=2e-6)
    assert node.microphone.latency_sigma_s == pytest.approx(0.00026, abs=2e-5)
    text = (tmp_path / "new.toml").read_text()
    assert "[microphone]\n# " in text
    assert "residuals" in text
    assert "start1.wav: late by 12.8" in capsys.readouterr().out


def test_claps_beside_a_reference_add_to_the_latency_already_stated(tmp_path: Path) -> None:
    rows = ["sensor_id,toa_utc"]
    for k in range(15):
        rows += [f"bench-01,{format_utc(START_NS + k * NS_PER_S)}"]
        rows += [f"north-03,{format_utc(START_NS + k * NS_PER_S + 4_000_000)}"]
    (tmp_path / "detections.csv").write_text("\n".join(rows))
    words = ["--detections", tmp_path / "detections.csv", "--reference", "bench-01"]
    assert command(tmp_path, *words).microphone.latency_s == pytest.approx(0.006)
    (tmp_path / "times.csv").write_text("\n".join(["time_utc", *[row.split(",")[1] for row in rows[1::2]]]))
    words = ["--detections", tmp_path / "detections.csv", "--times", tmp_path / "times.csv"]
    assert command(tmp_path, *words).microphone.latency_s == pytest.approx(0.006)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "either --pps or --detections is needed"),
        (["--pps", "a.wav"], "a recording and its start are accepted"),
        (["--pps", "nowhere.wav=2026-01-01T00:00:00Z"], "nowhere.wav: is not there"),
        (["--pps", "mono.wav=2026-01-01T00:00:00Z"], "--channel is 2; the file has channels 1 to 1"),
        (["--pps", "mono.wav=yesterday", "--channel", "1"], "'yesterday' is not a time"),
        (["--pps", "text.wav=2026-01-01T00:00:00Z"], "is not a readable WAV"),
        (["--detections", "some.csv"], "needs either --reference or --times"),
        (["--detections", "some.csv", "--reference", "b"], "b heard nothing there; it tells of north-03"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: Sequence[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write("mono.wav", np.zeros(100), 48_000)
    Path("text.wav").write_text("no audio")
    Path("some.csv").write_text("sensor_id,toa_utc\nnorth-03,2026-01-01T00:00:00Z\n")
    with pytest.raises(InputError, match=said):
        command(tmp_path, *words)
    assert not Path("new.toml").exists()
