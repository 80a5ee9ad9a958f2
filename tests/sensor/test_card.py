"""A sound card as a source, on simulated deliveries: what goes wrong is named, and is over when the card is back."""

import dataclasses
import itertools
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from agls.config import Origin
from agls.messages import Block
from agls.sensor.card import BLOCK_FRAMES, LONGEST_PAUSE_S, CardSource
from firmware_sim.card import Card
from firmware_sim.delivery import Callback, Stream, open_stream
from firmware_sim.faults import (
    AnyFault,
    ClockStep,
    GpsLoss,
    Overflow,
    Reboot,
    SecondSlip,
    Stall,
    Stamps,
    Stuck,
    Unplugged,
    Zeros,
)
from firmware_sim.scene import Device, Ear, Scene

RATE_HZ = 48_000
EAR = Ear(sensor_id="pole", x_m=0.0, y_m=0.0)
START_NS = 1_800_000_000_250_000_000
SCENE = Scene(
    name="card",
    duration_s=3_600.0,
    origin=Origin(latitude_deg=0.0, longitude_deg=0.0),
    sensor=(EAR,),
    device=Device(sample_rate_hz=RATE_HZ),
)


class Pole:
    """A node's card in virtual time: waiting takes none."""

    def __init__(self, *faults: AnyFault, audio: bool = False, **card: object) -> None:
        told = {"block_frames": BLOCK_FRAMES, **card}
        self.scene = msgspec.structs.replace(SCENE, card=msgspec.convert(told, Card), fault=faults)
        self.now_s, self.audio = 0.0, audio
        self.streams: list[Stream] = []
        self.offsets: list[int] = []
        self.next_index = 0
        pulse_channel = 2 if card.get("sync") == "pps_audio" else 0
        self.source = CardSource(self.open, RATE_HZ, BLOCK_FRAMES, pulse_channel, self.wait, watch_still=audio)

    def open(self) -> Stream:
        if self.streams:
            self.now_s = max(self.now_s, self.streams[-1].now_s + 1.0)  # that it takes to notice
        self.streams.append(open_stream(self.scene, EAR, START_NS, self.now_s, self.audio))
        self.offsets.append(self.next_index)
        return self.streams[-1]

    def wait(self, pause_s: float) -> None:
        self.now_s += pause_s

    def hear(self, until_s: float) -> Iterator[Block]:
        for block in self.source.blocks():
            if block.samples.size:
                self.next_index = block.first_index + block.samples.size
                self.now_s = self.streams[-1].now_s
            yield block
            if self.now_s > until_s:
                self.source.close()

    def errors_s(self, until_s: float) -> list[tuple[float, float, float]]:
        """Stamp a moment half a second ago after each block: when, how far off, and sigma."""
        found = []
        for block in self.hear(until_s):
            index = block.first_index + block.samples.size - RATE_HZ // 2
            if block.samples.size and index >= self.offsets[-1] and self.source.clock.known(index) == "yes":
                true_ns = self.streams[-1].true_ns(index - self.offsets[-1])
                error_s = (self.source.clock.utc_ns(index) - true_ns) * 1e-9
                found.append((self.now_s, error_s, self.source.clock.state_at(index).sigma_s))
        return found


def test_blocks_follow_each_other_and_hold_what_the_card_heard() -> None:
    pole = Pole(audio=True)
    blocks = list(pole.hear(1.0))
    assert [block.first_index for block in blocks] == [BLOCK_FRAMES * k for k in range(len(blocks))]
    assert all(block.samples.dtype == np.float32 and not block.lost for block in blocks)
    expected = [one.frames[:, 0] for one, _ in zip(open_stream(pole.scene, EAR, START_NS), blocks, strict=False)]
    assert np.array_equal(np.concatenate([block.samples for block in blocks]), np.concatenate(expected))


def test_samples_said_to_be_lost_begin_another_epoch_whose_times_are_right() -> None:
    pole = Pole(Overflow(start_s=20.0, end_s=20.3))
    found = pole.errors_s(40.0)
    assert pole.source.counts["card.overflow"] == pole.source.counts["clock.restart_overflow"] == 1
    # The latency is left in; nothing else.
    assert max(abs(error_s - 1.2e-3) for _, error_s, _ in found) < 5e-5
    # What came before the loss keeps its time, and for what came after it is found anew.
    told = [at for at, _, _ in found if at > 20.9]
    assert 22.0 < min(told) < 30.0


@pytest.mark.parametrize("delivery", ["usb", "i2s"])
@pytest.mark.parametrize("lost_s", [0.01, 0.1])
def test_samples_lost_without_a_word_are_noticed_before_a_wrong_time_is_told(delivery: str, lost_s: float) -> None:
    pole = Pole(Overflow(start_s=20.0, end_s=20.0 + lost_s, flagged=False), delivery=delivery)
    found = pole.errors_s(40.0)
    assert pole.source.counts["clock.restart_unsaid_loss"] == 1
    assert max(abs(error_s - found[0][1]) for _, error_s, _ in found) < 2e-4


def test_a_card_that_is_pulled_out_is_named_waited_for_and_heard_again_soon_after_it_is_back() -> None:
    pole = Pole(Unplugged(start_s=15.0, end_s=60.0))
    heard = [(pole.now_s, block.samples.size) for block in pole.hear(75.0)]
    away = [at for at, size in heard if not size]
    assert len(away) > 100  # the node's loop turns on meanwhile
    assert min(at for at, size in heard if size and at > 16.0) < 60.0 + LONGEST_PAUSE_S + 1.5
    counts = pole.source.counts
    assert counts["card.gone"] == counts["card.reopened"] == 1
    assert 5 < counts["card.absent"] < 30


def test_times_after_a_replug_are_right_again() -> None:
    pole = Pole(Unplugged(start_s=15.0, end_s=20.0))
    found = [one for one in pole.errors_s(50.0) if one[0] > 21.0]
    assert found
    assert max(abs(error_s - 1.2e-3) for _, error_s, _ in found) < 5e-5


@pytest.mark.parametrize(("fault", "name"), [(Zeros, "card.silent"), (Stuck, "card.stuck")])
def test_a_card_that_gives_one_value_for_ever_is_named_and_opened_again(fault: type[Zeros], name: str) -> None:
    pole = Pole(fault(start_s=2.0, end_s=6.0), audio=True)
    live = [pole.now_s for block in pole.hear(10.0) if block.samples.size and np.ptp(block.samples) > 0]
    assert pole.source.counts[name] >= 1
    assert pole.source.counts["card.reopened"] >= 1
    assert min(at for at in live if at > 3.0) < 6.0 + LONGEST_PAUSE_S + 1.5


@pytest.mark.parametrize("frozen", [True, False])
def test_stamps_of_no_use_are_counted_and_times_stay_right(frozen: bool) -> None:
    pole = Pole(Stamps(start_s=12.0, end_s=14.0, frozen_time=frozen))
    found = pole.errors_s(20.0)
    assert pole.source.counts["card.bad_stamp"] == pytest.approx(96, abs=3)
    assert max(abs(error_s - 1.2e-3) for _, error_s, _ in found) < 5e-5


def test_a_computer_that_is_busy_for_half_a_second_loses_no_time() -> None:
    pole = Pole(Stall(start_s=20.0, end_s=20.4))
    found = pole.errors_s(30.0)
    assert not [name for name in pole.source.counts if "restart" in name]
    assert max(abs(error_s - 1.2e-3) for _, error_s, _ in found) < 5e-5


@pytest.mark.parametrize("sync", ["pps_chrony", "pps_audio"])
@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (SecondSlip(start_s=15.0, end_s=25.0, slip_s=1), "second_slip"),
        (ClockStep(start_s=15.0, end_s=25.0), "clock_set"),
    ],
)
def test_whole_seconds_that_slip_and_clocks_that_are_set_are_found_and_change_no_time(
    sync: str, fault: AnyFault, name: str
) -> None:
    pole = Pole(fault, sync=sync)
    found = pole.errors_s(40.0)
    assert max(abs(error_s) for _, error_s, _ in found) < 2e-3
    assert pole.source.counts[name] >= 1


def test_a_slip_from_the_beginning_is_found_too() -> None:
    pole = Pole(SecondSlip(start_s=0.0, end_s=20.0, slip_s=-1))
    assert max(abs(error_s) for _, error_s, _ in pole.errors_s(30.0)) < 2e-3


def test_a_pulse_on_the_second_channel_is_the_best_clock_and_its_loss_is_told_by_sigma() -> None:
    pole = Pole(GpsLoss(start_s=20.0, end_s=50.0), sync="pps_audio", delivery="usb")
    found = pole.errors_s(60.0)
    assert found[0][0] < 8.0
    assert max(abs(error_s) for at, error_s, _ in found if at < 20.0) < 5e-6
    sigmas = {round(at): sigma_s for at, _, sigma_s in found}
    assert sigmas[19] < 2e-6 < 1e-5 < sigmas[45] < 1e-3
    assert sigmas[58] < 2e-6
    assert all(abs(error_s) < 4 * sigma_s for _, error_s, sigma_s in found)


def test_a_clock_that_nobody_set_tells_no_time_for_a_minute_and_then_a_second_of_sigma() -> None:
    found = Pole(sync="free").errors_s(70.0)
    assert min(at for at, _, _ in found) > 60.0
    assert min(sigma_s for _, _, sigma_s in found) >= 1.0


def test_after_a_reboot_time_begins_anew() -> None:
    pole = Pole(Reboot(start_s=10.0, end_s=12.0))
    pole.now_s = 12.5
    assert max(abs(error_s - 1.2e-3) for _, error_s, _ in pole.errors_s(30.0)) < 5e-5


def test_clipping_is_counted() -> None:
    class Loud:
        def __init__(self, stream: Stream) -> None:
            self.stream, self.sync = stream, stream.sync

        def __iter__(self) -> Iterator[Callback]:
            for callback in self.stream:
                yield dataclasses.replace(callback, frames=np.clip(callback.frames * 1e6, -1, 1))

    scene = Pole(audio=True).scene
    source = CardSource(lambda: Loud(open_stream(scene, EAR, START_NS)), RATE_HZ)
    taken = list(itertools.islice(source.blocks(), 10))
    assert source.counts["card.clipped"] == len(taken) == 10
