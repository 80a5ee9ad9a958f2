"""Delivery: what callbacks are given, when, and the truth about it."""

from itertools import islice, pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agls.config import Origin
from firmware_sim.card import Card
from firmware_sim.clock import ticks_of
from firmware_sim.delivery import Callback, CardAbsentError, Stream, callbacks, open_stream
from firmware_sim.device import Recorder
from firmware_sim.faults import AnyFault, GpsLoss, Overflow, Reboot, Stall, Stamps, Unplugged
from firmware_sim.scene import Device, Ear, Scene

EAR = Ear(sensor_id="pole", x_m=0.0, y_m=0.0)
SCENE = Scene(
    name="delivery",
    duration_s=120.0,
    origin=Origin(latitude_deg=0.0, longitude_deg=0.0),
    sensor=(EAR,),
    device=Device(sample_rate_hz=48_000),
)
START_NS = 1_800_000_000_250_000_000  # a quarter of a second after a whole one


def stream(*faults: AnyFault, opened_s: float = 0.0, audio: bool = False, **card: object) -> Stream:
    made = msgspec.structs.replace(SCENE, card=msgspec.convert(card, Card), fault=faults)
    return open_stream(made, EAR, START_NS, opened_s, audio)


def taken(opened: Stream, until_s: float) -> list[Callback]:
    found = []
    for callback in opened:
        found.append(callback)
        if opened.now_s > until_s:
            break
    return found


def test_the_same_scene_gives_the_same_callbacks() -> None:
    one, other = (list(islice(callbacks(SCENE, EAR, START_NS), 40)) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(a.frames, b.frames)
        assert (a.monotonic_ns, a.wall_ns, a.adc_s, a.current_s) == (b.monotonic_ns, b.wall_ns, b.adc_s, b.current_s)


@pytest.mark.parametrize("delivery", ["usb", "i2s"])
def test_a_callback_comes_after_its_last_sample_and_not_before_the_one_before(delivery: str) -> None:
    opened, index, last_ns = stream(delivery=delivery), 0, 0
    for callback in islice(opened, 400):
        index += len(callback.frames)
        assert opened.now_s > opened.true_s(index - 1)
        assert callback.monotonic_ns > last_ns
        last_ns = callback.monotonic_ns


def lateness_s(opened: Stream, count: int) -> np.ndarray:
    """Say by how much each callback comes after its last sample."""
    late, index = [], 0
    for callback in islice(opened, count):
        index += len(callback.frames)
        late.append(opened.now_s - opened.true_s(index - 1))
    return np.array(late)


def test_callbacks_are_late_by_what_the_card_says() -> None:
    late_s = lateness_s(stream(latency_s=2e-3, busy_share=0.05, busy_s=3e-3, spike_share=0.0), 2_000)
    assert late_s.min() == pytest.approx(2e-3, abs=2e-6)
    assert 0.03 < np.mean(late_s > 2.5e-3) < 0.07
    assert late_s.max() < 5.5e-3


def test_frames_of_a_millisecond_hide_when_blocks_of_whole_milliseconds_were_taken_and_no_others() -> None:
    spread_s = {}
    for frames in (960, 1_000):
        opened = stream(delivery="usb", block_frames=frames, busy_share=0.0, spike_share=0.0)
        parts = np.split(lateness_s(opened, 200), 10)
        spread_s[frames] = float(np.median([np.ptp(part) for part in parts]))
    # Blocks of 20 ms all wait alike long for the end of a frame, those of 20.8 ms anything up to a frame.
    assert spread_s[960] < 3e-4
    assert spread_s[1_000] > 7e-4


def test_a_stated_time_of_conversion_is_right_to_a_sample_with_i2s_and_to_a_frame_with_usb() -> None:
    errors_s = {}
    for delivery in ("i2s", "usb"):
        opened, index, found = stream(delivery=delivery, latency_s=0.0, rate_sigma_ppm=0.0, thermal_ppm=0.0), 0, []
        for callback in islice(opened, 500):
            behind_s = callback.monotonic_ns * 1e-9 - callback.adc_s
            found.append(behind_s - (opened.now_s - opened.true_s(index)))
            index += len(callback.frames)
        errors_s[delivery] = np.ptp(found)
    assert errors_s["i2s"] < 5e-5
    assert 5e-4 < errors_s["usb"] < 1.1e-3


WHOLE = Recorder(SCENE, EAR, ticks=ticks_of(SCENE, EAR)).samples(0, 72_000) / np.float32(32_768)


@settings(max_examples=12)
@given(st.lists(st.tuples(st.floats(0.05, 0.7), st.floats(0.001, 0.1), st.booleans()), max_size=4))
def test_whatever_is_lost_the_truth_about_what_is_left_holds(losses: list[tuple[float, float, bool]]) -> None:
    faults = [Overflow(start_s=start, end_s=start + length, flagged=flag) for start, length, flag in losses]
    opened, ticks = stream(*faults, audio=True), ticks_of(SCENE, EAR)
    heard = np.concatenate([callback.frames[:, 0] for callback in taken(opened, 0.9)])
    for index in range(0, heard.size, 7):
        true_s = opened.true_s(index)
        assert heard[index] == WHOLE[round(ticks.index_at(true_s))]
        assert not any(fault.start_s <= true_s < fault.end_s for fault in faults)


def test_lost_samples_are_flagged_on_the_callback_that_begins_after_them_but_not_how_many() -> None:
    opened, index = stream(Overflow(start_s=1.0, end_s=1.3)), 0
    for callback in taken(opened, 2.0):
        if callback.overflow:
            assert opened.true_s(index) == pytest.approx(1.3, abs=1e-4)
            assert opened.true_s(index) - opened.true_s(index - 1) >= 0.3
        index += len(callback.frames)
    assert sum(callback.overflow for callback in taken(stream(Overflow(start_s=1.0, end_s=1.3)), 2.0)) == 1
    assert not any(callback.overflow for callback in taken(stream(Overflow(start_s=1, end_s=2, flagged=False)), 3.0))


def test_after_a_short_stall_all_comes_at_once_and_after_a_long_one_something_is_lost() -> None:
    brief = taken(stream(Stall(start_s=1.0, end_s=1.2), buffer_s=0.5), 2.0)
    gaps_s = [(b.monotonic_ns - a.monotonic_ns) * 1e-9 for a, b in pairwise(brief)]
    assert max(gaps_s) == pytest.approx(0.2, abs=0.03)
    assert sum(gap_s < 1e-3 for gap_s in gaps_s) >= 7
    assert not any(callback.overflow for callback in brief)
    assert sum(callback.overflow for callback in taken(stream(Stall(start_s=1.0, end_s=2.0), buffer_s=0.5), 3.0)) == 1


def test_an_unplugged_cards_callbacks_just_stop_and_it_can_be_opened_when_it_is_back() -> None:
    fault = Unplugged(start_s=2.0, end_s=5.0)
    opened = stream(fault)
    assert len(list(opened)) == pytest.approx(96, abs=1)
    assert opened.now_s <= 2.0
    with pytest.raises(CardAbsentError, match="no card from 2 s to 5 s"):
        stream(fault, opened_s=3.0)
    again = stream(fault, opened_s=5.5)
    next(iter(again))
    assert again.true_s(0) == pytest.approx(5.5, abs=1e-4)


def test_a_reboot_ends_a_stream_and_begins_monotonic_time_and_boots_anew() -> None:
    fault = Reboot(start_s=2.0, end_s=30.0)
    before, after = stream(fault), stream(fault, opened_s=31.0)
    assert before.boot_count == 0
    first = next(iter(after))
    assert first.monotonic_ns * 1e-9 == pytest.approx(1.0, abs=0.1)
    assert after.boot_count == 1


def test_stated_times_can_be_zero_or_frozen() -> None:
    zero = taken(stream(Stamps(start_s=0.5, end_s=1.0)), 1.5)
    frozen = taken(stream(Stamps(start_s=0.5, end_s=1.0, frozen_time=True)), 1.5)
    assert sum(callback.adc_s == callback.current_s == 0.0 for callback in zero) == pytest.approx(24, abs=1)
    assert sum(a.adc_s == b.adc_s for a, b in pairwise(frozen)) == pytest.approx(24, abs=1)


def test_the_pulse_on_a_second_channel_stands_at_the_true_second_to_a_microsecond() -> None:
    opened = stream(GpsLoss(start_s=4.0, end_s=6.0), sync="pps_audio")
    pulse = np.concatenate([callback.frames[:, 1] for callback in taken(opened, 9.0)])
    steep = np.flatnonzero((pulse[:-4] < 0.1) & (pulse[4:] > 0.4))  # once it is up it only falls back, slowly
    rising = [
        index + int(np.argmax(pulse[index : index + 5] >= 0.25)) - 1 for index in steep[np.diff(steep, prepend=-9) > 9]
    ]
    found_s = []
    for index in rising:
        share = (0.25 - pulse[index]) / (pulse[index + 1] - pulse[index])
        found_s.append(opened.true_s(index + float(share)))
    # Whole seconds of UTC are at three quarters of the scene's; two pulses were missing.
    assert [round(time_s + 0.25) for time_s in found_s] == [1, 2, 3, 4, 7, 8, 9]
    assert np.abs(np.array(found_s) + 0.25 - np.round(np.array(found_s) + 0.25)).max() < 3e-6


def test_the_wall_clock_is_read_with_the_error_of_its_source() -> None:
    opened = stream(sync="ntp", ntp_sigma_s=5e-3)
    errors_s = [callback.wall_ns * 1e-9 - (START_NS * 1e-9 + opened.now_s) for callback in islice(opened, 50)]
    assert 1e-5 < np.abs(errors_s).max() < 0.03
    assert np.ptp(errors_s) < 1e-3
