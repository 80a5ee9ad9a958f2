import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.messages import ClockState
from agls.sensor.clock import SteadyClock

STATE = ClockState(mode="file", sigma_s=1e-4)


def test_the_first_sample_is_taken_at_the_start():
    assert SteadyClock(1_700_000_000_000_000_123, 48_000.0, STATE).utc_ns(0) == 1_700_000_000_000_000_123


def test_a_fraction_of_a_sample_counts():
    clock = SteadyClock(0, 12_000.0, STATE)
    assert clock.utc_ns(0.5) == pytest.approx(0.5e9 / 12_000, abs=1)


def test_a_year_of_samples_loses_no_nanosecond():
    seconds = 365 * 86_400
    assert SteadyClock(5, 48_000.0, STATE).utc_ns(48_000 * seconds) == 5 + seconds * 1_000_000_000


@given(st.integers(0, 10**9), st.floats(0.001, 10_000))
def test_later_samples_are_taken_later(index, step):
    clock = SteadyClock(1_700_000_000_000_000_000, 44_100.0, STATE)
    assert clock.utc_ns(index + step) > clock.utc_ns(index)
