"""The simulated city, live."""

import threading
import time
from itertools import islice

import numpy as np

from firmware_sim.device import Recorder, clock_error_s
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
    assert np.array_equal(heard, Recorder(SCENE, ear).samples(0, 200_000) / np.float32(32_768))


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
