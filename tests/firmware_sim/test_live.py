"""The simulated city, live."""

import threading
import time
from itertools import islice

import msgspec
import numpy as np
import pytest

from firmware_sim.clock import ticks_of
from firmware_sim.device import Recorder, clock_error_s
from firmware_sim.faults import GpsLoss, Overflow, SecondSlip, Unplugged
from firmware_sim.live import SimulatedSource, open_source, sources
from firmware_sim.propagation import arrival_s
from firmware_sim.scene import DEMO_SCENE, load_scene, shots

SCENE = load_scene(DEMO_SCENE)
START_NS = 1_800_000_000_000_000_000


def test_all_sources_begin_at_one_moment_but_for_their_clocks_errors() -> None:
    found = sources(SCENE, START_NS)
    assert list(found) == [ear.sensor_id for ear in SCENE.sensor]
    for ear in SCENE.sensor:
        clock = found[ear.sensor_id].clock
        assert clock.state.mode == "simulated"
        assert abs(clock.utc_ns(0) - START_NS - clock_error_s(SCENE, ear) * 1e9) <= 1


def test_blocks_follow_each_other_and_hold_what_the_sensor_records() -> None:
    ear = SCENE.sensor[4]
    blocks = list(islice(SimulatedSource(SCENE, ear, START_NS, paced=False).blocks(), 200))
    assert [block.first_index for block in blocks] == list(range(0, 200_000, 1_000))
    assert not any(block.lost for block in blocks)
    heard = np.concatenate([block.samples for block in blocks])
    assert heard.dtype == np.float32
    assert np.array_equal(
        heard, Recorder(SCENE, ear, ticks=ticks_of(SCENE, ear)).samples(0, 200_000) / np.float32(32_768)
    )


def test_the_clock_puts_a_shot_where_the_truth_does() -> None:
    ear, shot = SCENE.sensor[4], shots(SCENE)[0]
    source = open_source(DEMO_SCENE, ear.sensor_id, START_NS)
    stamped_s = (source.clock.utc_ns(arrival_s(SCENE, ear, shot) * 48_000) - START_NS) * 1e-9
    assert abs(stamped_s - shot.time_s - np.hypot(ear.x_m - 70, ear.y_m - 110) / 342.5) < 0.02


def test_a_block_is_handed_over_only_once_it_has_been_heard() -> None:
    start_ns = time.time_ns() + 50_000_000
    source = SimulatedSource(SCENE, SCENE.sensor[0], start_ns)
    for block in islice(source.blocks(), 10):
        assert time.time_ns() >= start_ns + (block.first_index + 1_000) * 1_000_000_000 // 48_000 - 5_000_000


def test_closing_ends_a_source_that_waits() -> None:
    source = SimulatedSource(SCENE, SCENE.sensor[0], time.time_ns() + 3_600_000_000_000)
    threading.Timer(0.1, source.close).start()
    assert list(source.blocks()) == []


def test_lost_samples_and_an_unplugged_card_leave_gaps_that_are_told() -> None:
    faults = (Overflow(start_s=0.5, end_s=0.6), Unplugged(start_s=2.0, end_s=3.0))
    scene = msgspec.structs.replace(SCENE, fault=faults)
    ear, ticks = scene.sensor[0], ticks_of(scene, scene.sensor[0])
    blocks = list(islice(SimulatedSource(scene, ear, START_NS, paced=False).blocks(), 150))
    after = [block.first_index for block in blocks if block.lost]
    assert after == pytest.approx([ticks.index_at(0.6), ticks.index_at(3.0)], abs=1)
    for block in blocks:
        begin_s, end_s = ticks.time_s(block.first_index), ticks.time_s(block.first_index + 1_000)
        assert end_s < 0.5001 or 0.5999 < begin_s < end_s < 2.001 or begin_s > 2.999


def test_a_node_does_not_know_of_a_slipped_second_and_does_know_that_its_pulse_is_gone() -> None:
    faults = (SecondSlip(start_s=5.0, end_s=9.0), GpsLoss(start_s=20.0, end_s=40.0, drift_ppm=10.0))
    scene = msgspec.structs.replace(SCENE, fault=faults)
    ear = scene.sensor[0]
    clock, sound = (SimulatedSource(one, ear, START_NS, paced=False).clock for one in (scene, SCENE))
    apart_s = [(clock.utc_ns(at_s * 48_000) - sound.utc_ns(at_s * 48_000)) * 1e-9 for at_s in (4, 7, 12, 30)]
    assert apart_s == pytest.approx([0.0, 1.0, 0.0, 1e-4], abs=1e-6)
    sound_sigma_s = clock.state.sigma_s
    clock.now_s = 7.0
    assert clock.state.sigma_s == sound_sigma_s
    clock.now_s = 1_000.0
    scene = msgspec.structs.replace(SCENE, fault=(GpsLoss(start_s=0.0, end_s=2_000.0),))
    lost = SimulatedSource(scene, ear, START_NS, paced=False).clock
    lost.now_s = 1_000.0
    assert lost.state.sigma_s > 5e-4


def test_the_clock_follows_the_converters_own_rate() -> None:
    ear = SCENE.sensor[2]
    clock, ticks = SimulatedSource(SCENE, ear, START_NS, paced=False).clock, ticks_of(SCENE, ear)
    for true_s in (0.0, 10.0, 1_000.0):
        stamped_s = (clock.utc_ns(ticks.index_at(true_s)) - START_NS) * 1e-9
        assert stamped_s == pytest.approx(true_s + clock_error_s(SCENE, ear), abs=1e-8)
