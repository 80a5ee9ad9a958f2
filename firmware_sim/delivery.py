"""How samples get from a card into a program, in virtual time: what a callback of PortAudio is given, and when.

    stream = open_stream(scene, ear, start_ns)
    for callback in stream:        # as long as the card is there
        ...                        # callback.frames, .monotonic_ns, .wall_ns, .adc_s, .current_s, .overflow
    stream.true_s(index)           # the truth, for scoring alone

No clock is read: an hour passes as fast as it is asked for, and the same scene gives the same callbacks.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agls.messages import NS_PER_S
from firmware_sim.clock import HostClock, Sync, Ticks, host_of, ticks_of
from firmware_sim.device import HALF_RANGE, Recorder
from firmware_sim.faults import Overflow, Reboot, Stall, Stamps, Unplugged, of_sensor
from firmware_sim.scene import Ear, Scene, generator

USB_FRAME_S = 1e-3
WAKE_S = 40e-6  # from a block that is there to its callback, on average, when nothing else is to be done
RUN_S = 20e-6  # that a callback keeps the next one waiting
FULL_SCALE = np.float32(1 / HALF_RANGE)
PULSE_S = 0.1  # that a receiver holds its pulse
PULSE_SIZE, PULSE_FALL_S, PULSE_EDGE_FRAMES = (
    0.5,
    0.015,
    0.7,
)  # as it comes through the capacitor of a sound card's input
PULSE_NOISE = 0.005  # 40 dB below


class CardAbsentError(OSError):
    """The card is not there, as PortAudio says when a stream is opened."""


@dataclass(frozen=True, slots=True, eq=False)
class Callback:
    """What one callback is given, and what it can read.

    Attributes
    ----------
    frames : numpy.ndarray, shape (frames, channels), float32
        Full scale is 1.0; the second channel is the pulse per second, where the card has it there.
    monotonic_ns, wall_ns : int
        What ``time.monotonic_ns`` and ``time.time_ns`` say when it is called.
    adc_s, current_s : float
        ``inputBufferAdcTime`` and ``currentTime`` as stated, on the monotonic clock [s]; they may be zero or frozen.
    overflow : bool
        Whether samples are said to be lost before these.
    """

    frames: NDArray[np.float32]
    monotonic_ns: int
    wall_ns: int
    adc_s: float
    current_s: float
    overflow: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples that a program never gets.

    Attributes
    ----------
    first, end : int
        The first of them and the first after them, by the converter's count.
    flagged : bool
        Whether it is said.
    """

    first: int
    end: int
    flagged: bool = True


def gaps(scene: Scene, ear: Ear, ticks: Ticks) -> tuple[Gap, ...]:
    """List the samples that overflow, before anybody reads them.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.
    ticks : Ticks
        When it takes its samples.

    Returns
    -------
    tuple of Gap
        In order, none touching the next.
    """
    spans = [(fault.start_s, fault.end_s, fault.flagged) for fault in of_sensor(scene.fault, ear.sensor_id, Overflow)]
    stalls, full_s = of_sensor(scene.fault, ear.sensor_id, Stall), scene.card.buffer_s
    spans += [(stall.start_s + full_s, stall.end_s, True) for stall in stalls if stall.start_s + full_s < stall.end_s]
    found: list[Gap] = []
    for start_s, end_s, flagged in sorted(spans):
        first, end = math.ceil(ticks.index_at(start_s)), math.ceil(ticks.index_at(end_s))
        if found and first <= found[-1].end:
            found[-1] = Gap(found[-1].first, max(end, found[-1].end), flagged or found[-1].flagged)
        elif first < end:
            found.append(Gap(first, end, flagged))
    return tuple(found)


def absences(scene: Scene, ear: Ear) -> tuple[tuple[float, float], ...]:
    """List the times during which there is no card: unplugged, or the computer off.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.

    Returns
    -------
    tuple of tuple of float
        Beginning and end [s], in order.
    """
    faults = (*of_sensor(scene.fault, ear.sensor_id, Unplugged), *of_sensor(scene.fault, ear.sensor_id, Reboot))
    return tuple(sorted((fault.start_s, fault.end_s) for fault in faults))


@dataclass
class _Reading:
    """How far a stream has been read: the next sample by the converter's count, and where samples were left out."""

    next_index: int
    delivered: int = 0
    starts: list[int] = field(default_factory=list)  # delivered index from which on ...
    origins: list[int] = field(default_factory=list)  # ... this is the converter's index of delivered sample 0


class Stream:
    """An open stream of one simulated card: an iterable of callbacks, and the truth about its samples.

    Made by `open_stream`. Iterating it a second time goes on where the first time stopped.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.
    start_ns : int
        When the scene begins, UTC [ns].
    opened_s : float
        When the stream is opened, since the scene began [s].
    audio : bool
        Whether samples are rendered; else they are zeros, where times alone are of interest.
    repeats : bool, optional
        Whether the scene begins again when it ends; its faults do not.
    """

    def __init__(
        self, scene: Scene, ear: Ear, start_ns: int, opened_s: float, audio: bool, repeats: bool = False
    ) -> None:
        self._scene, self._ear, self._card = scene, ear, scene.card
        self._start_ns = start_ns
        self._ticks: Ticks = ticks_of(scene, ear)
        self._host: HostClock = host_of(scene, ear)
        self._recorder = Recorder(scene, ear, repeats, self._ticks) if audio else None
        self._random = generator(scene, "delivery", ear.sensor_id, round(opened_s * 1e6))
        self._frame_phase_s = float(generator(scene, "usb", ear.sensor_id).uniform(0, USB_FRAME_S))
        self._frame_s = USB_FRAME_S * (1 - 1e-6 * self._host.rate_ppm)
        self._gaps = gaps(scene, ear, self._ticks)
        self._stalls = of_sensor(scene.fault, ear.sensor_id, Stall)
        self._stamps = of_sensor(scene.fault, ear.sensor_id, Stamps)
        self._ends_s = min((start_s for start_s, _ in absences(scene, ear) if start_s >= opened_s), default=math.inf)
        self._opened_s = opened_s
        self._until_s = min(self._ends_s, math.inf if repeats else scene.duration_s)
        self._reading = _Reading(math.ceil(self._ticks.index_at(opened_s)))
        self._called_s = 0.0
        self._good_stamp = (0.0, 0.0)
        self.now_s = opened_s
        """True time of the last callback, since the scene began [s]; of the opening before the first."""

    def __iter__(self) -> Iterator[Callback]:
        """Hand over callbacks until the card is gone, or the scene ends."""
        while True:
            spans, overflow = self._next_spans()
            first, last = spans[0][0], spans[-1][1] - 1
            called_s = self._calls_at(self._ticks.time_s(last))
            if called_s >= self._until_s:
                return
            for begin, end in spans:
                self._note(begin, end)
            self.now_s = self._called_s = called_s
            adc_s, current_s = self._stated(first, called_s)
            yield Callback(
                frames=self._frames(spans),
                monotonic_ns=round(self._host.monotonic_s(called_s) * NS_PER_S),
                wall_ns=self._start_ns + round((called_s + self._host.wall_error_s(called_s)) * NS_PER_S),
                adc_s=adc_s,
                current_s=current_s,
                overflow=overflow,
            )

    # ------------------------------------------------------------------------------------------ beside the callbacks

    def sync(self) -> Sync:
        """Ask the computer about its clock, as of the last callback.

        Returns
        -------
        Sync
            What it states.
        """
        return self._host.sync(self.now_s)

    @property
    def boot_count(self) -> int:
        """Count the reboots before the last callback.

        Returns
        -------
        int
            How many.
        """
        return self._host.boots_count(self.now_s)

    def true_s(self, index: float) -> float:
        """Tell the truth about a sample: for scoring alone.

        Parameters
        ----------
        index : float
            Its index among those delivered, from 0 at the stream's opening, with its fraction.

        Returns
        -------
        float
            When it was taken, since the scene began [s].
        """
        where = max(0, bisect_right(self._reading.starts, index) - 1)
        origin = self._reading.origins[where] if self._reading.origins else self._reading.next_index
        return self._ticks.time_s(origin + index)

    def true_ns(self, index: float) -> int:
        """Tell the truth about a sample as a moment of UTC: for scoring alone.

        Parameters
        ----------
        index : float
            Its index among those delivered, with its fraction.

        Returns
        -------
        int
            UTC [ns].
        """
        return self._start_ns + round(self.true_s(index) * NS_PER_S)

    # --------------------------------------------------------------------------------------------------- one block

    def _next_spans(self) -> tuple[list[tuple[int, int]], bool]:
        """Find the samples of the next block, by the converter's count, around what is lost."""
        at, missing, overflow = self._reading.next_index, self._card.block_frames, False
        spans: list[tuple[int, int]] = []
        while missing:
            lost = next((gap for gap in self._gaps if gap.end > at), None)
            if lost is not None and lost.first <= at:
                at = lost.end
                if lost.flagged:  # what is said to be lost is lost before the first sample of a block
                    spans, missing, overflow = [], self._card.block_frames, True
                continue
            end = min(at + missing, lost.first if lost else at + missing)
            spans.append((at, end))
            missing -= end - at
            at = end
        return spans, overflow

    def _note(self, begin: int, end: int) -> None:
        """Remember which samples were delivered."""
        reading = self._reading
        if begin != reading.next_index or not reading.starts:
            reading.starts.append(reading.delivered)
            reading.origins.append(begin - reading.delivered)
        reading.delivered += end - begin
        reading.next_index = end

    def _calls_at(self, taken_s: float) -> float:
        """Say when a block's callback runs whose last sample was taken at a time."""
        card, random = self._card, self._random
        there_s = taken_s + card.latency_s
        if card.delivery == "usb":  # its frame has to end first
            there_s = self._frame_s * math.ceil((there_s - self._frame_phase_s) / self._frame_s) + self._frame_phase_s
        late_s = random.exponential(WAKE_S)
        busy, spike, wait = random.random(3)
        late_s += card.busy_s * wait if busy < card.busy_share else 0.0
        late_s += card.spike_s if spike < card.spike_share else 0.0
        called_s = max(there_s + late_s, self._called_s + RUN_S)
        for stall in self._stalls:
            if stall.holds(called_s):
                called_s = stall.end_s + RUN_S
        return float(called_s)

    def _stated(self, first: int, called_s: float) -> tuple[float, float]:
        """Say what PortAudio states: now, less what waits to be read, at the nominal rate."""
        asked_s = called_s - RUN_S / 2
        seen_s = asked_s - self._card.latency_s
        if self._card.delivery == "usb":  # whole frames are counted
            seen_s = self._frame_s * math.floor((seen_s - self._frame_phase_s) / self._frame_s) + self._frame_phase_s
        waiting = math.floor(self._ticks.index_at(seen_s)) - first
        current_s = self._host.monotonic_s(asked_s)
        for fault in self._stamps:
            if fault.holds(called_s):
                return self._good_stamp if fault.frozen_time else (0.0, 0.0)
        self._good_stamp = (current_s - waiting / self._ticks.rate_hz, current_s)
        return self._good_stamp

    # ---------------------------------------------------------------------------------------------------- samples

    def _frames(self, spans: list[tuple[int, int]]) -> NDArray[np.float32]:
        channels = 2 if self._card.sync == "pps_audio" else 1
        frames = np.zeros((self._card.block_frames, channels), np.float32)
        row = 0
        for begin, end in spans:
            part = frames[row : row + end - begin]
            if self._recorder is not None:
                part[:, 0] = self._recorder.samples(begin, end - begin) * FULL_SCALE
            if channels == 2:
                part[:, 1] = self._pulse(begin, end)
            row += end - begin
        return frames

    def _pulse(self, begin: int, end: int) -> NDArray[np.float32]:
        """Render the pulse per second as a sound card's input sees it: steep at the second, falling back by itself."""
        random = self._random
        heard = (PULSE_NOISE * random.standard_normal(end - begin)).astype(np.float32)
        offset_s = self._start_ns % NS_PER_S / NS_PER_S
        begin_s, end_s = self._ticks.time_s(begin), self._ticks.time_s(end)
        for second in range(math.floor(begin_s + offset_s) - 1, math.ceil(end_s + offset_s) + 1):
            true_s = second - offset_s
            jitter = generator(self._scene, "pps", self._ear.sensor_id, max(0, second)).normal(0, 1)
            if self._host.pulses_at(true_s):
                for later_s, size in ((0.0, PULSE_SIZE), (PULSE_S, -PULSE_SIZE)):
                    at = self._ticks.index_at(true_s + later_s + float(jitter) * self._card.pps_sigma_s)
                    heard += self._edge(at, size, begin, end)
        return heard

    def _edge(self, at: float, size: float, begin: int, end: int) -> NDArray[np.float32]:
        """Render a step at a fraction of a sample, rounded by the converter's band limit."""
        after = np.arange(begin, end) - at
        rise = 1 / (1 + np.exp(np.clip(-after / PULSE_EDGE_FRAMES, -50, 50)))
        fall = np.exp(-np.maximum(after, 0) / (PULSE_FALL_S * self._ticks.rate_hz))
        return np.asarray(size * rise * fall, np.float32)


def open_stream(
    scene: Scene, ear: Ear, start_ns: int, opened_s: float = 0.0, audio: bool = True, repeats: bool = False
) -> Stream:
    """Open a stream of a simulated card, as a program does at its start and after each failure.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.
    start_ns : int
        When the scene begins, UTC [ns].
    opened_s : float, optional
        When it is opened, since the scene began [s].
    audio : bool, optional
        Whether samples are rendered; else they are zeros, where times alone are of interest.
    repeats : bool, optional
        Whether the scene begins again when it ends; its faults do not.

    Returns
    -------
    Stream
        An iterable of callbacks.

    Raises
    ------
    CardAbsentError
        If there is no card at that time.
    """
    for start_s, end_s in absences(scene, ear):
        if start_s <= opened_s < end_s:
            raise CardAbsentError(f"{ear.sensor_id}: there is no card from {start_s:g} s to {end_s:g} s of the scene")
    return Stream(scene, ear, start_ns, opened_s, audio, repeats)


def callbacks(scene: Scene, ear: Ear, start_ns: int, opened_s: float = 0.0, audio: bool = True) -> Iterator[Callback]:
    """Hand over the callbacks of a stream, where the truth about it is not asked for.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.
    start_ns : int
        When the scene begins, UTC [ns].
    opened_s : float, optional
        When the stream is opened, since the scene began [s].
    audio : bool, optional
        Whether samples are rendered.

    Yields
    ------
    Callback
        The next.
    """
    yield from open_stream(scene, ear, start_ns, opened_s, audio)
