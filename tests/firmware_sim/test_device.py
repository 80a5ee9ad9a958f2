"""A simulated sensor: what its converter gives."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.config import Origin
from firmware_sim.device import Recorder
from firmware_sim.propagation import arrival_s
from firmware_sim.scene import Air, Device, Ear, Scene, Ways, shots
from firmware_sim.sources import Shooter

QUIET = Scene(
    name="quiet",
    seed=5,
    duration_s=3.0,
    origin=Origin(latitude_deg=0.0, longitude_deg=0.0),
    sensor=(Ear(sensor_id="near", x_m=40.0, y_m=30.0, z_m=1.5), Ear(sensor_id="far", x_m=-300.0, y_m=200.0)),
    shooter=(Shooter(shooter_id="only", x_m=0.0, y_m=0.0, start_s=0.7, rounds_count=2, cadence_s=0.9),),
    air=Air(wind_speed_m_s=6.0, wind_from_deg=120.0),
    ways=Ways(late_s=0.0, echoes_count=0, loss_db=0.0, loss_sigma_db=0.0, scatter_db=-120.0, reverb_db=-120.0),
    device=Device(noise_db=30.0),
)
WHOLE = Recorder(QUIET, QUIET.sensor[1]).samples(0, 3 * 48_000)


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=12))
def test_cutting_a_recording_otherwise_gives_the_same_samples(cuts: list[int]) -> None:
    recorder, first, parts = Recorder(QUIET, QUIET.sensor[1]), 0, []
    for frames in cuts:
        parts.append(recorder.samples(first, frames))
        first += frames
    joined = np.concatenate(parts)[: WHOLE.size]
    assert np.array_equal(joined, WHOLE[: joined.size])


@pytest.mark.parametrize("ear", QUIET.sensor, ids=lambda ear: ear.sensor_id)
def test_a_threshold_finds_each_shot_when_geometry_says(ear: Ear) -> None:
    pressure = Recorder(QUIET, ear).samples(0, 3 * 48_000).astype(float)
    for shot in shots(QUIET):
        expected_s = arrival_s(QUIET, ear, shot)
        around = slice(round((expected_s - 0.05) * 48_000), round((expected_s + 0.05) * 48_000))
        loud = np.abs(pressure[around])
        first = around.start + int(np.argmax(loud > 0.3 * loud.max()))
        assert first / 48_000 == pytest.approx(expected_s, abs=2e-4)


def test_a_shot_next_to_the_microphone_clips_and_does_not_wrap() -> None:
    beside = Ear(sensor_id="beside", x_m=2.0, y_m=0.0, z_m=1.5)
    samples = Recorder(msgspec.structs.replace(QUIET, sensor=(beside,)), beside).samples(0, 48_000)
    assert samples.max() == 32_767
    assert samples.min() == -32_768
    assert np.abs(np.diff(samples[: round(0.69 * 48_000)].astype(int))).max() < 100


def test_noise_has_the_level_the_scene_says_in_every_second() -> None:
    scene: Scene = msgspec.structs.replace(QUIET, shooter=(), device=Device(noise_db=70.0))
    pressure = Recorder(scene, scene.sensor[0]).samples(0, 8 * 48_000) / 32_768.0
    level_db = [120 + 20 * np.log10(np.std(second)) for second in np.split(pressure, 8)]
    assert level_db == pytest.approx([70.0] * 8, abs=1.5)


def test_sensors_do_not_share_their_noise() -> None:
    scene: Scene = msgspec.structs.replace(QUIET, shooter=(), device=Device(noise_db=70.0))
    a, b = (Recorder(scene, ear).samples(0, 96_000).astype(float) for ear in scene.sensor)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.1


def test_played_live_the_scene_begins_again_with_fresh_noise() -> None:
    recorder = Recorder(QUIET, QUIET.sensor[0], repeats=True)
    turns = [recorder.samples(turn * 3 * 48_000, 3 * 48_000).astype(float) for turn in range(3)]
    assert [np.argmax(np.abs(turn[:60_000])) for turn in turns[1:]] == [np.argmax(np.abs(turns[0][:60_000]))] * 2
    assert not np.array_equal(turns[0], turns[1])


def test_echoes_come_later_and_weaker() -> None:
    dry = Recorder(QUIET, QUIET.sensor[0])
    ways: Ways = msgspec.structs.replace(QUIET.ways, echoes_count=4)
    echoing: Scene = msgspec.structs.replace(QUIET, ways=ways)
    wet = Recorder(echoing, echoing.sensor[0])
    extra = (wet.samples(0, 120_000).astype(float) - dry.samples(0, 120_000))[: round(1.5 * 48_000)]
    begins_s = np.argmax(np.abs(extra) > 0.2 * np.abs(extra).max()) / 48_000
    first_s = arrival_s(QUIET, QUIET.sensor[0], shots(QUIET)[0])
    assert begins_s > first_s + 0.019
    assert np.abs(extra).max() < 0.6 * np.abs(dry.samples(0, 120_000).astype(float)).max()
