"""A simulated sensor: what its converter gives."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.config import Origin
from firmware_sim.card import Card
from firmware_sim.clock import Ticks
from firmware_sim.device import AFTER_FRAMES, BEFORE_FRAMES, CHUNK_FRAMES, Recorder, microphone_gain
from firmware_sim.faults import AnyFault, Dead, Drowned, Stuck, Zeros
from firmware_sim.propagation import arrival_s, pulses
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
    card=Card(gain_sigma_db=0.0),
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


# ------------------------------------------------------------------------------------- microphone and converter


def rendered(seconds: int, *faults: AnyFault, scene: Scene = QUIET, ticks: Ticks | None = None) -> np.ndarray:
    changed: Scene = msgspec.structs.replace(scene, fault=faults)
    return Recorder(changed, changed.sensor[0], ticks=ticks).samples(0, seconds * 48_000).astype(float)


def test_a_microphone_passes_half_the_power_at_its_corners_and_falls_as_said() -> None:
    gain_db = 20 * np.log10(np.abs(microphone_gain(np.array([10.0, 20.0, 1_000.0, 5_000.0, 10_000.0]), 20.0, 5_000.0)))
    assert gain_db == pytest.approx([-7.0, -3.0, 0.0, -3.0, -12.3], abs=0.1)


def test_a_fast_converter_counts_more_samples_until_a_shot() -> None:
    slow, fast = (rendered(2, ticks=Ticks(48_000.0, offset_ppm=ppm)) for ppm in (0.0, 1_000.0))
    at = [int(np.argmax(np.abs(one[:60_000]))) for one in (slow, fast)]
    assert at[1] - at[0] == pytest.approx(at[0] * 1e-3, abs=1)


def test_a_membrane_at_its_limit_flattens_a_shot_below_full_scale() -> None:
    low: Scene = msgspec.structs.replace(QUIET, card=Card(gain_sigma_db=0.0, overload_db_spl=100.0))
    peak = np.abs(rendered(2, scene=low)).max()
    assert np.abs(rendered(2)).max() > 2 * peak
    assert peak == pytest.approx(32_768 * 10 ** ((100 - 120) / 20), rel=0.05)


def test_microphones_differ_in_sensitivity_as_the_scene_says() -> None:
    ears = tuple(Ear(sensor_id=f"s{n}", x_m=5_000.0 + 10 * n, y_m=0.0) for n in range(40))
    noisy: Scene = msgspec.structs.replace(
        QUIET, shooter=(), sensor=ears, device=Device(noise_db=70.0), card=Card(gain_sigma_db=2.0)
    )
    levels_db = [20 * np.log10(np.std(Recorder(noisy, ear).samples(0, 24_000).astype(float))) for ear in ears]
    assert np.std(levels_db) == pytest.approx(2.0, rel=0.35)


LOUD: Scene = msgspec.structs.replace(QUIET, device=Device(noise_db=70.0))


def test_a_dead_microphone_hisses_and_hears_nothing() -> None:
    heard = rendered(3, Dead(start_s=0.5, end_s=2.0), scene=LOUD)
    dead = heard[24_500:95_500]  # the shot falls into it
    assert 0 < np.std(dead) < 0.02 * np.std(heard[:23_000])
    assert np.std(heard[97_000:]) > 50 * np.std(dead)


def test_a_drowned_microphone_is_quiet_and_dull() -> None:
    heard = rendered(3, Drowned(start_s=1.5, end_s=3.0, loss_db=20.0, high_cut_hz=300.0), scene=LOUD)
    dry, wet = (
        np.abs(np.fft.rfft(part * np.hanning(28_000))) ** 2 for part in (heard[:28_000], heard[100_000:128_000])
    )
    hz = np.fft.rfftfreq(28_000, 1 / 48_000)
    low, high = (hz > 100) & (hz < 200), (hz > 2_000) & (hz < 4_000)
    assert 10 * np.log10(wet[low].sum() / dry[low].sum()) == pytest.approx(-20, abs=2)
    assert 10 * np.log10(wet[high].sum() / dry[high].sum()) < -30  # down to its hiss


def test_a_deaf_card_gives_exact_zeros_and_a_stuck_one_the_same_again() -> None:
    heard = rendered(3, Zeros(start_s=1.0, end_s=1.5), Stuck(start_s=2.0, end_s=2.5), scene=LOUD)
    assert not heard[48_000:72_000].any()
    assert len(set(heard[96_000:120_000])) == 1
    assert heard[96_000] != 0
    assert heard[72_000:96_000].any()


@pytest.mark.parametrize("frames_before", range(-8, 4))  # the street moves what it carries by a few frames
def test_a_pulse_that_ends_just_before_a_stretch_is_rendered_disturbs_nothing(frames_before: int) -> None:
    ear = QUIET.sensor[0]
    one = msgspec.structs.replace(QUIET.shooter[0], rounds_count=1)
    first = msgspec.structs.replace(QUIET, shooter=(one,))
    heard = pulses(first, ear)[0]
    end = heard.time_s * 48_000 + 2 * (heard.spectrum.size - 1)
    hop = CHUNK_FRAMES - BEFORE_FRAMES - AFTER_FRAMES
    boundary = next(at for at in range(-BEFORE_FRAMES, 10**6, hop) if at > end + 10)
    moved = msgspec.structs.replace(one, start_s=one.start_s + (boundary - frames_before - end) / 48_000)
    samples = Recorder(msgspec.structs.replace(QUIET, shooter=(moved,)), ear).samples(0, boundary + CHUNK_FRAMES)
    assert np.abs(samples[boundary + 10_000 :].astype(int)).max() < 100
