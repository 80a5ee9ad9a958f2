"""Phase correlation in a band."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.replay.correlate import correlate, loudest_s

RATE_HZ = 22_050.0


def call(delay_s, noise, seed, frames=8192):
    """Make a chirp through the band, delayed by any fraction of a sample, in noise."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(frames) / RATE_HZ - 0.15 - delay_s
    envelope = np.exp(-((time_s / 0.02) ** 2))
    chirp = envelope * np.sin(2 * np.pi * (7000 * time_s + 0.5 * 40_000 * time_s**2))
    return chirp + rng.normal(0, noise, frames)


@given(st.floats(-0.03, 0.03), st.integers(0, 2**16))
def test_a_delay_is_found_to_a_fraction_of_a_sample(delay_s, seed):
    found = correlate(call(0.0, 0.02, seed), call(delay_s, 0.02, seed + 1), RATE_HZ, 0.05)
    assert found.delay_s == pytest.approx(delay_s, abs=0.25 / RATE_HZ)
    assert found.strength > 5


def test_swapping_the_recorders_turns_the_sign():
    one, other = call(0.0, 0.02, 1), call(0.011, 0.02, 2)
    there, back = (correlate(*pair, RATE_HZ, 0.05).delay_s for pair in ((one, other), (other, one)))
    assert there == pytest.approx(-back, abs=1e-6)


def test_loudness_changes_nothing():
    one, other = call(0.0, 0.02, 1), call(0.011, 0.02, 2)
    plain, louder = (correlate(one, factor * other, RATE_HZ, 0.05) for factor in (1, 1e-3))
    assert plain.delay_s == pytest.approx(louder.delay_s, abs=1e-9)


def test_noise_alone_is_weak():
    rng = np.random.default_rng(5)
    strengths = [
        correlate(rng.normal(size=6615), rng.normal(size=6615), RATE_HZ, 0.05).strength for _ in range(20)
    ]  # fmt: skip
    assert max(strengths) < 5.0


def test_no_delay_beyond_the_greatest_is_given():
    assert abs(correlate(call(0.0, 0.02, 1), call(0.03, 0.02, 2), RATE_HZ, 0.01).delay_s) <= 0.01


def test_silence_is_no_reason_to_fail():
    assert correlate(np.zeros(500), np.zeros(500), RATE_HZ, 0.01).strength == 0.0


@pytest.mark.parametrize(("frames", "band"), [(99, (5e3, 9e3)), (100, (5e3, 20e3)), (100, (9e3, 5e3))])
def test_windows_of_two_lengths_and_impossible_bands_are_refused(frames, band):
    with pytest.raises(ValueError, match="must"):
        correlate(np.ones(100), np.ones(frames), RATE_HZ, 0.01, band)


def test_the_loudest_moment_is_in_the_middle_of_the_call():
    assert loudest_s(call(0.02, 0.02, 3), RATE_HZ) == pytest.approx(0.17, abs=0.01)
