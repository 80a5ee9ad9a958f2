"""Picks of a front in a stretch that holds one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agls.sensor.pick import LOST_S, pick

RATE_HZ = 48_000.0


def front(snr_db, seed=1, *, at=200.4, dulled=4.0, frames=480):
    """Make a front that air dulled evenly on both sides of where it would stand, and what came before it."""
    rng = np.random.default_rng(seed)
    fine = 64
    grid = np.arange(2048 * fine) / fine - at
    wave = np.where(grid >= 0, np.exp(-np.maximum(grid, 0) / 40) * (1 - np.maximum(grid, 0) / 40), 0.0)
    bins = np.fft.rfftfreq(wave.size, 1 / fine)
    dull = np.fft.irfft(np.fft.rfft(wave) * np.exp(-((2 * np.pi * bins * dulled) ** 2) / 2))[::fine][:frames]
    noise = rng.normal(size=1440 + frames) * dull.max() / 10 ** (snr_db / 20)
    return dull + noise[1440:], noise[:1440]


@pytest.mark.parametrize("dulled", [1.0, 3.0, 6.0])
def test_a_front_is_picked_where_it_would_stand_however_far_it_came(dulled):
    found = pick(*front(60.0, dulled=dulled), RATE_HZ)
    assert found.index == pytest.approx(200.4, abs=0.8)
    assert abs(found.index - 200.4) / RATE_HZ <= 2 * found.sigma_s


@settings(max_examples=25)
@given(seed=st.integers(0, 99), gain=st.sampled_from([-4.0, -1.0, 0.25, 2.0]))
def test_neither_loudness_nor_polarity_moves_a_pick(seed, gain):
    near, before = front(25.0, seed)
    one, other = pick(near, before, RATE_HZ), pick(gain * near, gain * before, RATE_HZ)
    assert (other.index, other.sigma_s) == pytest.approx((one.index, one.sigma_s))
    assert other.peak == pytest.approx(abs(gain) * one.peak)


def test_a_clipped_front_is_picked_where_the_whole_one_is():
    near, before = front(60.0)
    clipped = pick(np.clip(near, -0.2, 0.2), before, RATE_HZ)
    assert clipped.index == pytest.approx(pick(near, before, RATE_HZ).index, abs=5)


def test_a_front_that_noise_may_have_made_claims_no_more_than_the_stretch_that_was_searched():
    noise = np.random.default_rng(5).normal(size=1920)
    assert pick(noise[1440:], noise[:1440], RATE_HZ).sigma_s == pytest.approx(LOST_S)
    assert pick(*front(30.0), RATE_HZ).sigma_s < 2e-5


def test_a_stretch_without_a_sound_and_nothing_before_it_is_no_error():
    assert 0 <= pick(np.zeros(480), np.zeros(0), RATE_HZ).index < 480
