"""Sample clocks: files exactly, sound cards by the line through when their blocks arrive."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agls.messages import NS_PER_S, ClockState
from agls.sensor.chrony import HostSync, read_answers
from agls.sensor.clock import FittedClock, SteadyClock
from agls.sensor.line import Line
from agls.sensor.pulses import PulseFinder
from agls.sensor.system_time import SystemTime

STATE = ClockState(mode="file", sigma_s=1e-4)
RATE_HZ = 48_000.0
UTC_NS = 1_800_000_000 * NS_PER_S
NOTHING = float("nan")


def test_the_first_sample_is_taken_at_the_start():
    assert SteadyClock(1_700_000_000_000_000_123, 48_000.0, STATE).utc_ns(0) == 1_700_000_000_000_000_123


def test_a_fraction_of_a_sample_counts():
    clock = SteadyClock(0, 12_000.0, STATE)
    assert clock.utc_ns(0.5) == pytest.approx(0.5e9 / 12_000, abs=1)


def test_a_year_of_samples_loses_no_nanosecond():
    seconds = 365 * 86_400
    assert SteadyClock(5, 48_000.0, STATE).utc_ns(48_000 * seconds) == 5 + seconds * 1_000_000_000


def test_a_file_knows_the_time_of_every_sample():
    clock = SteadyClock(0, 48_000.0, STATE)
    assert (clock.known(7), clock.state_at(7)) == ("yes", STATE)


@given(st.integers(0, 10**9), st.floats(0.001, 10_000))
def test_later_samples_are_taken_later(index, step):
    clock = SteadyClock(1_700_000_000_000_000_000, 44_100.0, STATE)
    assert clock.utc_ns(index + step) > clock.utc_ns(index)


# ------------------------------------------------------------------------------------------------------------- a line


def test_a_line_agrees_with_least_squares_while_the_rate_stands_still(monkeypatch):
    monkeypatch.setattr("agls.sensor.line.WANDER_LEAST", 1e-12)
    monkeypatch.setattr("agls.sensor.line.WANDER_FIRST", 1e-12)
    random, line = np.random.default_rng(3), Line(RATE_HZ)
    second = np.arange(60.0)
    time_s = second * (1 + 3e-5) + random.normal(0, 1e-5, 60)
    for at, taken_s in zip(second, time_s, strict=True):
        (line.feed if line.count else line.start)(at * RATE_HZ, round(taken_s * NS_PER_S), 1e-5)
    slope, level = np.polyfit(second, time_s, 1)
    assert line.at(59 * RATE_HZ).time_ns * 1e-9 == pytest.approx(level + 59 * slope, abs=2e-7)
    assert line.rate_error == pytest.approx(slope - 1, abs=1e-8)
    assert line.at(59 * RATE_HZ).sigma_s == pytest.approx(2e-5 / np.sqrt(60), rel=0.05)


def test_a_line_is_less_sure_the_longer_it_runs_alone_and_its_crystal_outlives_an_interruption():
    line = Line(RATE_HZ)
    line.start(0, 0, 1e-6)
    for second in range(1, 40):
        line.feed(second * RATE_HZ, second * (NS_PER_S + 20_000), 1e-6)
    alone = [line.at((39 + ahead_s) * RATE_HZ).sigma_s for ahead_s in (0, 1, 10, 100, 1000)]
    assert alone == sorted(alone)
    assert alone[-1] > 100 * alone[0]
    assert line.again().rate_error == pytest.approx(2e-5, rel=0.01)
    assert line.again().count == 0


@settings(max_examples=20, deadline=None)
@given(st.floats(-100, 100), st.floats(1e-6, 5e-5), st.integers(0, 2**31))
def test_blocks_that_are_late_by_chance_give_the_time_within_sigma(ppm, wake_s, seed):
    random, clock = np.random.default_rng(seed), FittedClock(RATE_HZ, 1001)
    clock.system.read(0, UTC_NS)
    for number in range(1, 1000):
        taken_s = number * 1001 / RATE_HZ * (1 - 1e-6 * ppm)
        late_s = random.exponential(wake_s) + (random.random() < 0.05) * random.uniform(0, 3e-3)
        at_ns = round((taken_s + late_s) * NS_PER_S)
        clock.feed(number * 1001, at_ns, UTC_NS + at_ns)
        if number % 48 == 0:
            clock.tell(HostSync("pps", 1e-6, 0.5, 0.0))
    index = 980 * 1001
    error_s = (clock.utc_ns(index) - UTC_NS) * 1e-9 - index / RATE_HZ * (1 - 1e-6 * ppm)
    assert clock.known(index) == "yes"
    assert abs(error_s) < 5 * clock.state_at(index).sigma_s + 1e-6
    assert clock.drift_ppm == pytest.approx(ppm, abs=2)


def test_no_time_is_known_before_blocks_agree_for_some_seconds():
    clock = FittedClock(RATE_HZ, 1000)
    clock.feed(1000, 20_833_333, UTC_NS + 20_833_333)
    clock.tell(HostSync("pps", 1e-6, 0.5, 0.0))
    assert clock.known(500) == "not yet"
    clock.restart(1000, "overflow")
    assert clock.known(500) == "never"


# ------------------------------------------------------------------------------------------------------------- pulses


@settings(max_examples=30, deadline=None)
@given(st.floats(5_000, 40_000), st.integers(50, 5_000), st.sampled_from([0.05, 0.5]))
def test_an_edge_is_found_to_a_fraction_of_a_sample_however_audio_is_cut(at, cut, size):
    index = np.arange(48_000)
    noise = 1e-4 * np.random.default_rng(1).standard_normal(index.size)
    wave = (size / (1 + np.exp(-np.clip((index - at) / 0.7, -50, 50))) + noise).astype(np.float32)
    finder, found = PulseFinder(RATE_HZ), []
    for first in range(0, wave.size, cut):
        found += finder.feed(wave[first : first + cut], first)
    assert len(found) == 1
    assert found[0][0] == pytest.approx(at, abs=0.06)


def test_noise_is_no_pulse():
    finder, random = PulseFinder(RATE_HZ), np.random.default_rng(2)
    for number in range(200):
        assert finder.feed(random.normal(0, 0.01, 1001).astype(np.float32), number * 1001) == []


# ------------------------------------------------------------------------------------------------------- system clock


def told(source, sigma_s=1e-6, against_s=NOTHING):
    return SimpleNamespace(source=source, sigma_s=sigma_s, pulse_age_s=0.5, against_ntp_s=against_s)


@pytest.mark.parametrize("step_s", [-3600.0, 1.0, 0.4])
def test_a_clock_that_is_set_wrong_is_not_believed_where_network_time_says_so(step_s):
    system = SystemTime()
    system.read(0, UTC_NS)
    system.tell(told("pps", against_s=0.002), 0)
    for at_ns in (NS_PER_S - 1000, NS_PER_S):
        system.read(at_ns, UTC_NS + at_ns + round(step_s * NS_PER_S))
    system.tell(told("pps", against_s=step_s + 0.002), NS_PER_S)
    assert system.utc_ns(2 * NS_PER_S) == UTC_NS + 2 * NS_PER_S
    assert system.counts["clock_set"] == 1


def test_a_pause_between_reading_two_clocks_is_no_step():
    system = SystemTime()
    for at_ns, late_ns in ((0, 0), (1000, 5_000_000), (2000, 0)):
        system.read(at_ns, UTC_NS + at_ns + late_ns)
        system.tell(told("ntp", against_s=0.0), at_ns)
    assert system.utc_ns(3000) == UTC_NS + 3000
    assert not system.counts["clock_set"]


def test_a_clock_that_is_set_right_at_last_is_believed():
    system = SystemTime()
    system.read(0, 0)
    system.tell(told("none", 10.0), 0)
    for _ in range(2):
        system.read(NS_PER_S, UTC_NS)
    system.tell(told("ntp", 3e-3, against_s=0.0), NS_PER_S)
    assert system.utc_ns(NS_PER_S) == UTC_NS
    assert system.sigma_s(NS_PER_S) == pytest.approx(3e-3)


def test_without_its_source_a_clock_is_less_sure_each_minute_and_recovers_slowly():
    system = SystemTime()
    system.read(0, UTC_NS)
    system.tell(told("pps"), 0)
    system.tell(told("none"), 1)
    alone = [system.sigma_s(seconds * NS_PER_S) for seconds in (1, 60, 600, 3600)]
    assert alone == sorted(alone)
    assert alone[2] == pytest.approx(6e-5, rel=0.05)
    system.tell(told("pps"), 600 * NS_PER_S)
    assert system.sigma_s(610 * NS_PER_S) == pytest.approx(6e-5 * np.exp(-0.5), rel=0.05)


# ------------------------------------------------------------------------------------------------------------- chrony

TRACKING = "50505300,PPS,1,1763654321.1,0.0000001,0.0000002,0.0000004,-12.3,0.001,0.02,0.000000001,0.00001,16.0,Normal"
SOURCES = "#,*,PPS,0,4,377,9,-0.0000001,-0.0000001,0.0000002\n^,-,time.example.org,2,6,377,31,0.0021,0.0021,0.0123\n"


def test_chronys_answers_are_read():
    sync, measured_s = read_answers(TRACKING, SOURCES)
    assert (sync.source, sync.pulse_age_s, sync.against_ntp_s, measured_s) == ("pps", 9.0, 0.0021, 31.0)
    assert 1e-7 < sync.sigma_s < 1e-4
    sync, _ = read_answers(TRACKING, SOURCES.replace("#,*", "#,?").replace("^,-", "^,*"))
    assert sync.source == "ntp"


@pytest.mark.parametrize("answer", ["", "506 Cannot talk to daemon", "a,b,c", ","])
def test_where_chrony_says_nothing_the_clock_follows_nothing(answer):
    assert read_answers(answer, answer)[0].source == "none"
    assert read_answers(TRACKING, answer)[0].source == "none"
