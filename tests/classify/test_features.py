import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from agls.classify.features import (
    BAND_COUNT,
    BAND_EDGES_HZ,
    FEATURE_NAMES,
    GRID_S,
    HOP,
    LEAD_S,
    ONSET,
    RATE_HZ,
    STRETCHES_S,
    WINDOW,
    _crossings,
    features,
)
from agls.messages import Onset


def heard(wave, start, rate_hz):
    return Onset(
        index=float(start), sigma_s=1e-5, level_db=90.0, snr_db=30.0, clipped=False, wave="unknown",
        snippet=np.asarray(wave, np.float32), snippet_onset=float(start), sample_rate_hz=float(rate_hz),
    )  # fmt: skip


def bang(rate_hz, corner_hz=3_000.0, seed=1):
    """Make half a second of decaying noise below 3 kHz that starts after 50 ms, the same at every rate."""
    fine_hz = 96_000
    frames = fine_hz // 2
    times_s = np.arange(frames) / fine_hz - 0.05
    wave = np.random.default_rng(seed).normal(size=frames) * np.exp(-np.maximum(times_s, 0) / 0.05) * (times_s >= 0)
    spectrum = np.fft.rfft(wave) / (1 + (np.fft.rfftfreq(frames, 1 / fine_hz) / corner_hz) ** 8)
    count = rate_hz // 2
    wave = np.fft.irfft(spectrum[: count // 2 + 1], count) * count / frames
    wave += np.random.default_rng(seed).normal(0, 1e-4, count)
    return heard(0.5 * wave / np.abs(wave).max(), 0.05 * rate_hz, rate_hz)


@settings(max_examples=40)
@given(
    wave=arrays.arrays(np.float32, st.integers(0, 3_000), elements=st.floats(-1, 1, width=32)),
    share=st.floats(0, 1),
    rate_hz=st.sampled_from([8_000, 11_025, 12_000, 44_100, 192_000]),
)
def test_any_snippet_has_finite_features(wave, share, rate_hz):
    row = features(heard(wave, share * wave.size, rate_hz))
    assert row.shape == (len(FEATURE_NAMES),)
    assert np.isfinite(row).all()


@pytest.mark.parametrize("value", [0.0, 1.0, -0.3])
def test_silence_and_constant_offset_have_features_too(value):
    assert np.isfinite(features(heard(np.full(6_000, value), 600, 12_000))).all()


def test_gain_changes_nothing():
    loud = bang(12_000)
    quiet = heard(0.01 * loud.snippet, loud.snippet_onset, 12_000)
    np.testing.assert_allclose(features(quiet), features(loud), atol=1e-3)


@pytest.mark.parametrize("rate_hz", [24_000, 44_100, 48_000])
def test_the_same_sound_at_another_rate_has_nearly_the_same_features(rate_hz):
    here, there = features(bang(12_000)), features(bang(rate_hz))
    difference = dict(zip(FEATURE_NAMES, np.abs(here - there), strict=True))
    endings = tuple(f"_{band:02d}" for band in range(8))
    audible = [difference[name] for name in FEATURE_NAMES if name.endswith(endings) and "before" not in name]
    assert max(audible) < 1.5
    assert difference["crossings"] < 0.02


def test_a_longer_tail_is_seen_as_longer():
    short, long = bang(12_000), bang(12_000)
    stretched = long.snippet.copy()
    stretched[600:] = np.random.default_rng(2).normal(0, 0.2, stretched.size - 600)
    late = FEATURE_NAMES.index("late")
    assert features(heard(stretched, 600, 12_000))[late] > features(short)[late] + 10


def librosa_log_mel(onset):
    """Describe colours as librosa does: its resampling, its spectrogram, its mel bands."""
    librosa = pytest.importorskip("librosa", reason="the oracle of features needs the extra train")
    wave = np.asarray(onset.snippet, np.float64)
    padded = np.zeros(round(GRID_S * onset.sample_rate_hz))
    lead = round(LEAD_S * onset.sample_rate_hz) - round(onset.snippet_onset)
    padded[lead : lead + wave.size] = wave - wave.mean()
    common = librosa.resample(padded, orig_sr=onset.sample_rate_hz, target_sr=RATE_HZ, res_type="fft")
    mel = librosa.feature.melspectrogram(
        y=common, sr=RATE_HZ, n_fft=WINDOW, hop_length=HOP, center=False, window="hann", n_mels=BAND_COUNT,
        fmin=BAND_EDGES_HZ[0], fmax=BAND_EDGES_HZ[1], htk=True, norm=None,
    )  # fmt: skip
    middles_s = (np.arange(mel.shape[1]) * HOP + WINDOW / 2 - ONSET) / RATE_HZ
    level = {
        name: mel[:, (middles_s >= first) & (middles_s < last)].mean(axis=1)
        for name, (first, last) in STRETCHES_S.items()
    }
    attack, total = level["attack"], level["attack"].sum()
    out = {"attack": librosa.power_to_db(attack / total, amin=1e-30, top_db=None)}
    for name in tuple(STRETCHES_S)[1:]:
        out[name] = librosa.power_to_db(level[name] / np.maximum(attack, total * 1e-6), amin=1e-30, top_db=None)
    return np.maximum(np.concatenate(list(out.values())), -60.0)


@pytest.mark.parametrize("rate_hz", [12_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_log_mel_statistics_equal_those_of_librosa(rate_hz, seed):
    onset = bang(rate_hz, seed=seed)
    ours = features(onset)[: len(STRETCHES_S) * BAND_COUNT]
    np.testing.assert_allclose(ours, librosa_log_mel(onset), atol=1e-4)


def test_crossings_equal_those_of_librosa():
    librosa = pytest.importorskip("librosa", reason="the oracle of features needs the extra train")
    wave = np.random.default_rng(5).normal(size=1_201)
    theirs = librosa.zero_crossings(wave, pad=False)[1:].mean()
    assert _crossings(wave) == pytest.approx(float(theirs), abs=1e-12)
