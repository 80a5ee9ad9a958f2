"""A node's account of itself: how loud it is, whether it hears at all, who touched it."""

import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.messages import NS_PER_S, Block
from agls.sensor.health import (
    AT_ONCE_COUNT,
    BLOCKS_COUNT,
    DAY_COUNT,
    DEAF_NS,
    DROP_DB,
    ENOUGH_COUNT,
    FIX_COUNT,
    FULL_BYTES,
    QUARTER_NS,
    DayLevels,
    Fix,
    Health,
    Hearing,
    Machine,
    Standing,
    read_machine,
)

RATE_HZ = 48_000
BEAT_NS = 15 * NS_PER_S


def block(values: object, *, lost: bool = False) -> Block:
    return Block(np.asarray(values, np.float32), first_index=0, sample_rate_hz=RATE_HZ, lost=lost)


def test_loudness_is_the_mean_power_and_the_floor_what_a_tenth_stays_below() -> None:
    hearing = Hearing(120.0)
    for number in range(100):
        hearing.feed(block(np.full(8, 0.01 if number < 50 else 0.1)))
    level_db, floor_db, clip_share = hearing.take()
    assert level_db == pytest.approx(120 + 10 * math.log10((0.01**2 + 0.1**2) / 2), abs=0.01)
    assert floor_db == pytest.approx(80, abs=0.01)
    assert clip_share == 0
    assert hearing.take() == (level_db, floor_db, clip_share)


def test_digital_silence_has_a_level_too() -> None:
    hearing = Hearing(120.0)
    hearing.feed(block(np.zeros(8)))
    assert hearing.take() == (0.0, 0.0, 0.0)


def test_samples_at_full_scale_and_lost_ones_are_counted() -> None:
    hearing = Hearing(120.0)
    hearing.feed(block([0.0, 1.0, -1.0, 0.5], lost=True))
    hearing.feed(block([0.0, 0.1, 0.2, 0.3]))
    assert hearing.take()[2] == 0.25
    assert hearing.overflow_count == 1


@pytest.mark.parametrize("stuck", [[0.0] * 8, [0.25] * 8, []], ids=["zeros", "one value", "no samples"])
def test_a_microphone_that_gives_one_value_or_none_is_deaf_within_two_seconds(stuck: list[float]) -> None:
    hearing = Hearing(120.0, now_ns=0)
    hearing.feed(block([0.1, -0.1]), 0)
    hearing.feed(block(stuck), 1)
    for now_ns in range(0, DEAF_NS, DEAF_NS // 10):
        hearing.feed(block(stuck), now_ns)
        assert not hearing.is_deaf(now_ns)
    hearing.feed(block(stuck), DEAF_NS + 1)
    assert hearing.is_deaf(DEAF_NS + 1)
    hearing.feed(block([0.0, 1e-6]), DEAF_NS + 2)
    assert not hearing.is_deaf(DEAF_NS + 2)


def a_day(levels: DayLevels, floor_db: float = 45.0) -> int:
    """Let a day with its ups and downs go by; say when it ends."""
    now_ns = 0
    for beat in range(DAY_COUNT * QUARTER_NS // BEAT_NS):
        now_ns = beat * BEAT_NS
        levels.feed(floor_db + 8 * math.sin(beat / 900) ** 2 + 0.5 * math.sin(7 * beat), now_ns)
    return now_ns


def test_a_covered_microphone_is_told_from_a_quiet_night_and_stays_told() -> None:
    levels = DayLevels()
    now_ns = a_day(levels)
    assert not levels.is_dropped
    for beat in range(1, 3 * DAY_COUNT * 60):
        levels.feed(45.0 - DROP_DB - 2, now_ns + beat * BEAT_NS)
        assert levels.is_dropped == (beat >= AT_ONCE_COUNT)
    levels.feed(46.0, now_ns)
    assert not levels.is_dropped


@given(floors_db=st.lists(st.floats(-120, 120), max_size=200))
def test_before_enough_of_a_day_is_known_nobody_is_suspected(floors_db: list[float]) -> None:
    levels = DayLevels()
    for number, floor_db in enumerate(floors_db):
        levels.feed(floor_db, number * BEAT_NS)
        assert not levels.is_dropped


def test_what_a_day_is_like_outlives_a_restart_and_a_damaged_memory_is_none() -> None:
    levels = DayLevels()
    a_day(levels)
    again = DayLevels(levels.text)
    assert again.text == levels.text
    for beat in range(AT_ONCE_COUNT):
        again.feed(30.0, beat * BEAT_NS)
    assert again.is_dropped
    assert DayLevels("[1, 2").text == "[]"
    assert len(DayLevels(str([1.0] * ENOUGH_COUNT * 10)).text) < 10 * DAY_COUNT


def fixes(standing: Standing, north_m: float, sigma_m: float = 3.0, longitude_deg: float = -80.0) -> Standing:
    for number in range(FIX_COUNT):
        wander_m = 4 * math.sin(2 * number)
        latitude_deg = 40.0 + (north_m + wander_m) / 111_195
        standing.feed(Fix(latitude_deg, longitude_deg + wander_m / 85_000, sigma_m))
    return standing


@pytest.mark.parametrize("longitude_deg", [-80.0, 180.0])
def test_a_node_that_was_taken_away_says_so_and_one_whose_fixes_wander_does_not(longitude_deg: float) -> None:
    standing = fixes(Standing(), 0.0, longitude_deg=longitude_deg)
    assert not fixes(standing, 10.0, longitude_deg=longitude_deg).is_moved
    assert not fixes(standing, 60.0, sigma_m=20.0, longitude_deg=longitude_deg).is_moved
    assert fixes(standing, 60.0, longitude_deg=longitude_deg).is_moved
    assert fixes(Standing(standing.text), 60.0, longitude_deg=longitude_deg).is_moved
    assert not fixes(standing, 0.0, longitude_deg=longitude_deg).is_moved


def test_the_machine_is_read_where_it_says_something_and_not_asked_twice_where_not(tmp_path: Path) -> None:
    assert read_machine("", tmp_path) == Machine()
    for name, text in (
        ("class/thermal/thermal_zone0/temp", "51540\n"),
        ("devices/platform/soc/soc:firmware/get_throttled", "50005\n"),
        ("class/pps/pps0/assert", "1000000000.000000123#45\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    found = read_machine(str(tmp_path), tmp_path)
    assert (found.temperature_c, found.throttled) == (51.5, True)
    assert found.pps_age_s is not None
    assert found.pps_age_s > 1e8
    assert found.disk_free_bytes
    (tmp_path / "devices/platform/soc/soc:firmware/get_throttled").write_text("50000\n")
    assert not read_machine("", tmp_path).throttled


def test_signs_are_told_by_name() -> None:
    memory: dict[str, str] = {}
    machine = Machine(throttled=True, disk_free_bytes=FULL_BYTES - 1, temperature_c=80.0)
    health = Health(120.0, lambda: machine, lambda name: memory.get(name, ""), memory.__setitem__, now_ns=0)
    told = health.beat(DEAF_NS)
    assert told["signs"] == ("deaf", "throttled", "disk_full")
    assert told["temperature_c"] == 80.0
    assert memory == {}


def test_while_no_heartbeat_is_taken_for_days_memory_does_not_grow() -> None:
    hearing, heard, held_bytes = Hearing(120.0), block(np.linspace(-1e-3, 1e-3, 8)), []
    tracemalloc.start()
    for _ in range(2):
        for _ in range(BLOCKS_COUNT):
            hearing.feed(heard)
        held_bytes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held_bytes[1] - held_bytes[0] < 2 * BLOCKS_COUNT


def test_full_scale_is_counted_sample_by_sample() -> None:
    hearing = Hearing(120.0)
    hearing.feed(block([0.0] * 999 + [-1.0]))
    hearing.feed(block([0.1] * 999 + [0.2]))
    assert hearing.take()[2] == 1 / 2000


def test_a_surveyed_place_is_home_from_the_start() -> None:
    here, there = Fix(40.0, 7.0, 3.0), Fix(40.01, 7.0, 3.0)
    for fix, moved in ((here, False), (there, True)):
        standing = Standing("", surveyed=(40.0, 7.0))
        for _ in range(FIX_COUNT):
            standing.feed(fix)
        assert standing.is_moved == moved
