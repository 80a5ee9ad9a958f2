"""A sound card as a source: what its callbacks hand over, checked, timed, and opened again when it goes wrong.

What opens the card is handed in: PortAudio (`agls.sensor.portaudio`) on a pole, the simulator in tests. Here is what
both need: which samples were lost, which stamps are of no use, when a card is silent or stuck or gone, and when to try
again. While nothing is heard, blocks without samples are handed over, so that the node goes on with all else.
"""

import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agls.messages import NS_PER_S, Block
from agls.sensor.clock import FittedClock
from agls.sensor.health import CLIPPED, LEAST_CLIPPED, is_still
from agls.sensor.pulses import PulseFinder
from agls.sensor.system_time import Sync

# Not a multiple of a millisecond, in which USB hands samples over, and without a common divisor with its 48 samples:
# blocks then end at 48 places of such a frame instead of 1000's 6, so the earliest are early by 21 us, not 167 us.
BLOCK_FRAMES = 1001
STILL_S = 2.0  # of one and the same value: no microphone is so quiet. Longer than a node takes to say that it is deaf,
# as is the time until a lost card is opened again, for opening may keep everything waiting.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 4.0
TURN_S = 0.25  # how often a node without a card turns its loop
SYNC_S = 1.0


class Delivered(Protocol):
    """What one callback is given, and what it can read."""

    @property
    def frames(self) -> NDArray[np.float32]:
        """Samples, shape (frames, channels); none where time passed without any."""

    @property
    def monotonic_ns(self) -> int:
        """Monotonic clock when it was called."""

    @property
    def wall_ns(self) -> int:
        """System clock when it was called."""

    @property
    def adc_s(self) -> float:
        """When the first sample is said to have been converted."""

    @property
    def overflow(self) -> bool:
        """Whether samples are said to be lost before these."""


class Stream(Protocol):
    """An open card: callbacks, until it is gone."""

    def __iter__(self) -> Generator[Delivered] | Iterator[Delivered]:
        """Hand over callbacks; end when there are no more."""

    def sync(self) -> Sync:
        """Ask the computer about its clock."""


class CardSource:
    """Hear by a sound card, whatever happens to it.

    Parameters
    ----------
    open_card : callable
        Opens the card; raises OSError where it is not there.
    rate_hz : float
        Sampling rate.
    block_frames : int, optional
        Samples of a callback.
    pulse_channel : int, optional
        The channel with a pulse per second, from 1; 0 for none. Sound is on the first other one.
    pause : callable, optional
        Wait so many seconds.
    watch_still : bool, optional
        Whether a card that hears one and the same value is opened again.

    Attributes
    ----------
    clock : FittedClock
        Stamps its samples.
    """

    def __init__(
        self,
        open_card: Callable[[], Stream],
        rate_hz: float,
        block_frames: int = BLOCK_FRAMES,
        pulse_channel: int = 0,
        pause: Callable[[float], object] | None = None,
        watch_still: bool = True,
    ) -> None:
        self.clock = FittedClock(rate_hz, block_frames)
        self._open_card, self._rate_hz, self._block_frames = open_card, rate_hz, block_frames
        self._pulses = PulseFinder(rate_hz) if pulse_channel else None
        self._pulse_column, self._sound_column = pulse_channel - 1, int(pulse_channel == 1)
        self._closed = threading.Event()
        self._watch_still = watch_still
        self._pause = pause or self._closed.wait
        self._index = 0
        self._opened_count = 0
        self._pause_s = FIRST_PAUSE_S
        self._done: Counter[str] = Counter()
        self._trouble = "no card was opened yet"

    @property
    def trouble(self) -> str:
        """Say why nothing is heard.

        Returns
        -------
        str
            For a person; empty while something is.
        """
        return self._trouble

    @property
    def counts(self) -> Counter[str]:
        """Count what went wrong, by name.

        Returns
        -------
        collections.Counter
            ``card.absent`` (could not be opened), ``card.gone`` (callbacks stopped), ``card.silent`` and ``card.stuck``
            (only zeros, or one other value), ``card.overflow``, ``card.bad_stamp`` (zero, or as before),
            ``card.clipped`` (blocks that reach full scale), ``card.reopened``, and what the clock counts.
        """
        return self._done + self.clock.counts

    def blocks(self) -> Iterator[Block]:
        """Hand over what is heard, for ever.

        Yields
        ------
        Block
            The next samples, or none where time passes without.
        """
        while not self._closed.is_set():
            try:
                stream = self._open_card()
            except OSError as error:
                self._done["card.absent"] += 1
                self._trouble = str(error)
            else:
                self._done["card.reopened"] += self._opened_count > 0
                self._opened_count += 1
                yield from self._hear(stream)
            yield from self._rest()

    def close(self) -> None:
        """Let go of the card; `blocks` ends."""
        self._closed.set()

    def _rest(self) -> Iterator[Block]:
        """Wait before the next try, longer each time nothing came of it."""
        left_s, self._pause_s = self._pause_s, min(2 * self._pause_s, LONGEST_PAUSE_S)
        while left_s > 0 and not self._closed.is_set():
            yield self._block(np.zeros(0, np.float32))
            self._pause(min(left_s, TURN_S))
            left_s -= TURN_S

    def _hear(self, stream: Stream) -> Iterator[Block]:
        """Hear until the card is gone, silent, or closed."""
        if self._opened_count > 1:  # another card may be in its place
            self.clock.restart(self._index, "reopened", same_card=False)
        if self._pulses:
            self._pulses.restart()
        watch, told_ns = _Watch(), 0
        callbacks = iter(stream)
        try:
            for callback in callbacks:
                if self._closed.is_set():
                    return
                yield self._take(callback, watch)
                if callback.monotonic_ns - told_ns >= SYNC_S * NS_PER_S:
                    told_ns = callback.monotonic_ns
                    self.clock.tell(stream.sync())
                if self._watch_still and watch.still_s > STILL_S:
                    self._done["card.silent" if watch.value == 0 else "card.stuck"] += 1
                    self._trouble = (
                        "it gives nothing but zeros" if watch.value == 0 else "it gives one and the same value"
                    )
                    return
                if watch.heard:
                    self._pause_s, self._trouble = FIRST_PAUSE_S, ""
            self._done["card.gone"] += 1
            self._trouble = "it gives no samples any more"
        finally:
            if isinstance(callbacks, Generator):
                callbacks.close()

    def _take(self, callback: Delivered, watch: "_Watch") -> Block:
        """Check what a callback was given, and time it."""
        frames, first = callback.frames, self._index
        if not len(frames):
            return self._block(np.zeros(0, np.float32))
        if callback.overflow:
            self._done["card.overflow"] += 1
            self.clock.restart(first, "overflow")
            if self._pulses:
                self._pulses.restart()
        self._index += len(frames)
        sound = np.ascontiguousarray(frames[:, self._sound_column])
        watch.feed(sound, callback.monotonic_ns)
        if watch.is_clipped:
            self._done["card.clipped"] += 1
        if watch.is_bad_stamp(callback.adc_s):
            self._done["card.bad_stamp"] += 1
        self.clock.feed(self._index, callback.monotonic_ns, callback.wall_ns)
        if self._pulses:
            for index, sigma_frames in self._pulses.feed(frames[:, self._pulse_column], first):
                self.clock.feed_pulse(index, sigma_frames)
        return Block(sound, first, self._rate_hz, lost=callback.overflow)

    def _block(self, samples: NDArray[np.float32]) -> Block:
        return Block(samples, self._index, self._rate_hz)


class _Watch:
    """Whether an open card hears anything, and stamps it."""

    def __init__(self) -> None:
        self.still_s, self.value = 0.0, float("nan")
        self.heard = self.is_clipped = False
        self._since_ns = 0
        self._adc_s = 0.0

    def feed(self, sound: NDArray[np.float32], monotonic_ns: int) -> None:
        self.heard = not is_still(sound)
        self.is_clipped = float(np.dot(sound, sound)) >= LEAST_CLIPPED and float(np.abs(sound).max()) >= CLIPPED
        if self.heard or sound[-1] != self.value:
            self._since_ns = monotonic_ns
        self.value = float(sound[-1])
        self.still_s = (monotonic_ns - self._since_ns) / NS_PER_S

    def is_bad_stamp(self, adc_s: float) -> bool:
        """Whether a stated time of conversion is none."""
        bad, self._adc_s = adc_s <= 0.0 or adc_s == self._adc_s, adc_s
        return bad
