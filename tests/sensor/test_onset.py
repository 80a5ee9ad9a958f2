"""Onsets in simulated sound: Friedlander pulses, the bounce off the ground, echoes, street noise."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agls.config import OnsetDetection
from agls.messages import Block
from agls.sensor.onset import OnsetDetector, band_filter

RATES_HZ = (12_000, 48_000)
FULL_SCALE_DB_SPL = 120.0
WEAK_DB = 12.0  # what a pick says of itself must hold for sounds weaker than those a node reports unless told to


def friedlander(times_s, rate_hz, seconds, rng, *, tau_s=5e-4, corner_hz=6_000.0):
    """Make band-limited blast waves that begin exactly at given times, of peak about 1."""
    frames = round(seconds * rate_hz)
    fine = frames * (192_000 // rate_hz)
    hertz = np.fft.rfftfreq(fine, seconds / fine)[: frames // 2 + 1]
    s = 2j * np.pi * hertz
    blast = s / (s + 1 / tau_s) ** 2 * np.exp(-((hertz / corner_hz) ** 2) / 2) / (1 + (hertz / (0.46 * rate_hz)) ** 16)
    arrivals = sum(strength * np.exp(-s * time_s) for time_s, strength in times_s)
    return np.fft.irfft(blast * arrivals, frames) * rate_hz + rng.normal(0, 1e-9, frames)


def street(frames, rate_hz, rng):
    """Make noise that falls with frequency as a street's does, of root mean square 1 in the picker's band."""
    shape = 1 / np.sqrt(np.maximum(np.fft.rfftfreq(frames, 1 / rate_hz), 50.0))
    noise = np.fft.irfft(np.fft.rfft(rng.normal(size=frames)) * shape, frames)
    return noise / in_band(noise, rate_hz)[rate_hz // 10 :].std()


def in_band(wave, rate_hz):
    return np.convolve(wave, band_filter(rate_hz))[: wave.size]


def shot(rate_hz, snr_db, rng, *, seconds=1.0):
    """Make one shot in a street: the wave and the true index of its arrival."""
    start_s = 0.5 + rng.uniform(0, 1e-3)
    paths = [(start_s, 1.0), (start_s + rng.uniform(0.15e-3, 3e-3), rng.uniform(0.3, 0.9))]
    echoes = [
        (rng.uniform(6e-3, 0.3), rng.choice([-1, 1]) * rng.uniform(0.05, 0.6)) for _ in range(rng.integers(3, 12))
    ]
    paths += [(start_s + late_s, strength) for late_s, strength in echoes]
    corner_hz = rng.uniform(4_000, 9_000) * np.sqrt(200 / rng.uniform(80, 500))
    wave = friedlander(paths, rate_hz, seconds, rng, tau_s=rng.uniform(3e-4, 1e-3), corner_hz=corner_hz)
    begin = int(start_s * rate_hz)
    peak = np.abs(in_band(wave, rate_hz)[begin : begin + rate_hz // 250]).max()
    wave += street(wave.size, rate_hz, rng) * peak / 10 ** (snr_db / 20)
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32), start_s * rate_hz


def onsets(wave, rate_hz, **options):
    detector = OnsetDetector(OnsetDetection(**options), FULL_SCALE_DB_SPL)
    found = detector.feed(Block(np.asarray(wave, np.float32), 0, float(rate_hz)))
    return found + detector.finish(), detector.counts


def nearest(found, truth):
    return min(found, key=lambda onset: abs(onset.index - truth))


def picks(rate_hz, snr_db, count, seed):
    """Pick simulated shots: errors and what the picker says of them [s]."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        wave, truth = shot(rate_hz, snr_db if snr_db is not None else rng.uniform(14, 40), rng)
        found, _ = onsets(wave, rate_hz, min_snr_db=WEAK_DB)
        if found:  # the weakest are not reported, and claim nothing
            onset = nearest(found, truth)
            rows.append(((onset.index - truth) / rate_hz, onset.sigma_s))
    return np.array(rows)


def same(one, other):
    return (
        one.index == other.index
        and one.sigma_s == other.sigma_s
        and one.level_db == other.level_db
        and one.snr_db == other.snr_db
        and one.clipped == other.clipped
        and one.wave == other.wave
        and one.snippet_onset == other.snippet_onset
        and np.array_equal(one.snippet, other.snippet)
    )


@pytest.fixture(scope="module", params=RATES_HZ)
def firing(request):
    """Two seconds with seven sounds in them, at each rate."""
    rate_hz = request.param
    rng = np.random.default_rng(3)
    times_s = [
        (t, a) for t, a in zip((0.31, 0.37, 0.9, 1.02, 1.4, 1.45, 1.9), (1, 1, 0.2, 0.1, 1, 0.5, 1), strict=True)
    ]
    wave = 0.5 * friedlander(times_s, rate_hz, 2.0, rng) + 0.002 * street(2 * rate_hz, rate_hz, rng)
    return wave.astype(np.float32), rate_hz


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 95_999), max_size=40))
def test_cutting_the_audio_into_other_blocks_changes_no_bit(firing, cuts):
    wave, rate_hz = firing
    whole, counts = onsets(wave, rate_hz)
    edges = [0, *sorted(cut for cut in cuts if cut < wave.size), wave.size]
    detector = OnsetDetector(OnsetDetection(), FULL_SCALE_DB_SPL)
    pieces = []
    for start, stop in itertools.pairwise(edges):
        pieces += detector.feed(Block(wave[start:stop], start, float(rate_hz)))
    pieces += detector.finish()
    assert len(whole) >= 7
    assert len(pieces) == len(whole)
    assert all(same(one, other) for one, other in zip(pieces, whole, strict=True))
    assert detector.counts == counts


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_at_20_db_the_pick_is_within_15_us_and_never_grossly_wrong(rate_hz):
    error_s = picks(rate_hz, 20.0, 100, seed=1)[:, 0]
    assert np.mean(np.abs(error_s - np.median(error_s)) > 5e-4) <= 0.01
    assert error_s.std() <= 16e-6
    assert abs(np.median(error_s)) <= 30e-6


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_the_stated_sigma_is_honest(rate_hz):
    error_s, sigma_s = picks(rate_hz, None, 150, seed=2).T
    assert 0.45 <= np.mean(np.abs(error_s) <= sigma_s) <= 0.85
    assert 0.88 <= np.mean(np.abs(error_s) <= 2 * sigma_s) <= 0.99


def test_sigma_grows_as_the_sound_sinks_into_the_noise():
    rng = np.random.default_rng(4)
    sigmas = []
    for snr_db in (40.0, 20.0, 14.0):
        wave, truth = shot(48_000, snr_db, rng)
        sigmas.append(nearest(onsets(wave, 48_000, min_snr_db=WEAK_DB)[0], truth).sigma_s)
    assert sigmas == sorted(sigmas)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_street_without_impulses_gives_no_onsets_not_even_as_the_stream_begins(rate_hz):
    wave = 0.005 * street(20 * rate_hz, rate_hz, np.random.default_rng(12))
    found, _ = onsets(wave, rate_hz)
    assert len(found) <= 1


def test_what_rises_before_any_noise_was_heard_is_counted_and_not_reported():
    found, counts = onsets(shot(48_000, 40.0, np.random.default_rng(13))[0][24_000 - 480 :], 48_000)
    assert counts["too_early"] >= 1
    assert all(onset.index > 0.04 * 48_000 for onset in found)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_every_round_of_1200_a_minute_is_reported(rate_hz):
    rng = np.random.default_rng(5)
    times_s = [0.3 + 0.05 * number for number in range(20)]
    paths = [(time_s + late_s, strength) for time_s in times_s for late_s, strength in ((0, 1.0), (0.012, 0.3))]
    wave = 0.4 * friedlander(paths, rate_hz, 2.0, rng) + 0.002 * street(2 * rate_hz, rate_hz, rng)
    found, _ = onsets(wave, rate_hz, max_rate_per_s=50.0)
    starts_s = np.array([onset.index / rate_hz for onset in found])
    assert all(np.abs(starts_s - time_s).min() < 1e-3 for time_s in times_s)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_round_is_reported_although_a_weaker_echo_comes_just_before_it(rate_hz):
    rng = np.random.default_rng(17)
    wave = 0.4 * friedlander([(0.5, 1.0), (0.57, 0.4), (0.585, 1.0)], rate_hz, 1.5, rng)
    wave += 0.002 * street(wave.size, rate_hz, rng)
    found, _ = onsets(wave, rate_hz)
    assert min(abs(onset.index / rate_hz - 0.585) for onset in found) < 1e-4


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_clear_echo_is_another_onset_but_the_ripples_of_a_tail_are_not(rate_hz):
    rng = np.random.default_rng(6)
    tail = rng.normal(size=2 * rate_hz) * np.exp(-np.maximum(np.arange(2 * rate_hz) / rate_hz - 0.5, 0) / 0.08)
    tail[: rate_hz // 2] = 0
    wave = 0.5 * friedlander([(0.5, 1.0), (0.75, 0.4)], rate_hz, 2.0, rng) + 0.02 * tail
    wave += 0.0005 * street(wave.size, rate_hz, rng)
    found, _ = onsets(wave, rate_hz)
    assert [round(onset.index / rate_hz, 2) for onset in found] == [0.5, 0.75]


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_clipping_moves_a_pick_by_less_than_a_fifth_of_a_millisecond(rate_hz):
    wave, truth = shot(rate_hz, 40.0, np.random.default_rng(7))
    clean = nearest(onsets(wave, rate_hz)[0], truth)
    clipped = nearest(onsets(np.clip(15 * wave, -1, 1), rate_hz)[0], truth)
    assert (clean.clipped, clipped.clipped) == (False, True)
    assert abs(clipped.index - clean.index) / rate_hz < 2e-4


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_steady_noise_has_no_onset(rate_hz):
    wave = 0.1 * street(5 * rate_hz, rate_hz, np.random.default_rng(8))
    assert onsets(wave, rate_hz)[0] == []


def test_a_constant_offset_is_no_sound():
    assert onsets(np.full(48_000, 0.4), 48_000)[0] == []


def test_level_counts_from_what_full_scale_means():
    wave, truth = shot(48_000, 40.0, np.random.default_rng(9))
    onset = nearest(onsets(wave, 48_000)[0], truth)
    peak = np.abs(wave[int(truth) - 10 : int(truth) + 240]).max()
    assert onset.level_db == pytest.approx(FULL_SCALE_DB_SPL + 20 * np.log10(peak), abs=0.01)


def test_the_snippet_holds_the_sound_from_before_it_to_its_tail():
    wave, truth = shot(48_000, 40.0, np.random.default_rng(10), seconds=1.5)
    onset = nearest(onsets(wave, 48_000)[0], truth)
    start = round(onset.index - onset.snippet_onset)
    assert onset.snippet.size == 24_000
    assert onset.snippet_onset == pytest.approx(2_400, abs=1)
    np.testing.assert_array_equal(onset.snippet, wave[start : start + 24_000])


def test_a_recording_that_ends_early_gives_a_shorter_snippet():
    wave, truth = shot(48_000, 40.0, np.random.default_rng(11))
    found, _ = onsets(wave[: int(truth) + 4_800], 48_000)
    onset = nearest(found, truth)
    assert onset.snippet.size == pytest.approx(2_400 + 4_800, abs=2)


def test_what_is_too_weak_is_counted():
    rng = np.random.default_rng(12)
    wave, _ = shot(48_000, 26.0, rng)
    found, counts = onsets(wave, 48_000, min_snr_db=45.0)
    assert found == []
    assert counts["below_snr"] >= 1


def test_what_comes_too_fast_is_counted():
    rng = np.random.default_rng(13)
    wave = 0.4 * friedlander([(0.2 + 0.1 * n, 1.0) for n in range(10)], 12_000, 1.5, rng)
    wave += 0.002 * street(wave.size, 12_000, rng)
    found, counts = onsets(wave, 12_000, max_rate_per_s=4.0)
    assert (len(found), counts["rate_limited"]) == (4, 6)


def test_a_microphone_that_comes_to_life_is_no_onset():
    wave = 0.1 * street(24_000, 12_000, np.random.default_rng(14))
    wave[:12_000] = 0
    found, counts = onsets(wave, 12_000)
    assert found == []
    assert counts["from_nothing"] == 1


def test_a_sound_out_of_digital_silence_is_an_onset():
    wave = 0.5 * friedlander([(0.5, 1.0)], 12_000, 1.5, np.random.default_rng(15))
    wave[:5_999] = 0
    wave[9_000:] = 0
    assert len(onsets(wave, 12_000)[0]) == 1


def test_after_lost_samples_a_new_stream_begins():
    wave, truth = shot(12_000, 40.0, np.random.default_rng(16), seconds=1.5)
    detector = OnsetDetector(OnsetDetection(), FULL_SCALE_DB_SPL)
    found = detector.feed(Block(wave[:3_000], 0, 12_000.0))
    found += detector.feed(Block(wave[3_000:], 1_003_000, 12_000.0, lost=True))
    found += detector.finish()
    assert nearest(found, truth + 1_000_000).index == pytest.approx(truth + 1_000_000, abs=1)


def test_a_detector_that_heard_nothing_finishes_with_nothing():
    assert OnsetDetector(OnsetDetection(), FULL_SCALE_DB_SPL).finish() == []
    assert onsets(np.zeros(0), 48_000)[0] == []
