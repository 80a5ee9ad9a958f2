"""PortAudio: the one place where a real sound card is opened.

The callback copies and enqueues, nothing else: whatever else it did would keep the next one waiting. PortAudio knows
the cards that were there when it was initialised and no others, so it is initialised anew at each opening.
"""

import queue
import re
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agls.config import Microphone
from agls.errors import InputError
from agls.sensor.card import BLOCK_FRAMES, TURN_S, CardSource
from agls.sensor.chrony import Chrony
from agls.sensor.system_time import Sync

DEAD_S, DEAD_PERIODS = 1.0, 4  # without a callback for so long, a card is gone
FIRST_S = 2.0  # the first may take longer
BUFFER_BLOCKS = 4  # that the card's buffer should hold: enough for a busy computer, and few enough to come one by one
WAITING_S = 5.0  # of sound that may wait to be heard; then samples are lost
# Onsets are looked for 50 ms at a time; to wake up for each callback's 21 ms costs more than to look. One waits for the
# next, with the stamps it was given, so what an onset's time is worth does not change.
TOGETHER_COUNT = 2
# What stands between a program and the card resamples, repeats and moves streams: no time can be had of it.
UNTIMED = ("pulse", "pipewire", "jack", "default", "sysdefault", "dmix", "dsnoop", "plug", "plughw")
INSTALL = "PortAudio is not installed; on Debian and Raspberry Pi OS: apt install libportaudio2"


def load() -> ModuleType:
    """Load sounddevice, which needs the system's PortAudio.

    Returns
    -------
    module
        ``sounddevice``.

    Raises
    ------
    InputError
        If PortAudio is not installed.
    """
    try:
        import sounddevice
    except (OSError, ImportError):
        raise InputError(INSTALL) from None
    module: ModuleType = sounddevice
    return module


@dataclass(frozen=True, slots=True, eq=False)
class Callback:
    """What one callback was given and read; as `agls.sensor.card.Delivered` says."""

    frames: NDArray[np.float32]
    monotonic_ns: int
    wall_ns: int
    adc_s: float
    overflow: bool


def card_numbers(folder: Path = Path("/proc/asound")) -> dict[str, int]:
    """List the cards of the kernel by their names, which stay when the numbers change.

    Parameters
    ----------
    folder : pathlib.Path, optional
        Where ALSA tells of them.

    Returns
    -------
    dict of str to int
        Name to number.
    """
    try:
        text = (folder / "cards").read_text("utf-8", errors="replace")
    except OSError:
        return {}
    return {name: int(number) for number, name in re.findall(r"^\s*(\d+) \[(\S+)\s*\]", text, re.MULTILINE)}


def choose_device(
    name: str, devices: Sequence[Mapping[str, Any]], numbers: Mapping[str, int], forced: bool = False
) -> int:
    """Find the capture device of a name.

    Parameters
    ----------
    name : str
        ``hw:NAME`` with ALSA's name of the card, or a part of what PortAudio calls the device.
    devices : sequence of mapping
        As PortAudio lists them.
    numbers : mapping of str to int
        The kernel's cards, by name.
    forced : bool, optional
        Whether a device that cannot be timed will do.

    Returns
    -------
    int
        Its place in the list.

    Raises
    ------
    InputError
        If the name can never be a good one: a number, a device that cannot be timed, or several.
    OSError
        If there is no such device at present.
    """
    inputs = {place: str(one["name"]) for place, one in enumerate(devices) if one["max_input_channels"] > 0}
    there = ", ".join(f'"{one}"' for one in inputs.values()) or "none"
    if not name or re.fullmatch(r"(hw:|plughw:)?\d+(,\d+)?", name):
        raise InputError(
            f'microphone.device is "{name}", but numbers of cards change from start to start: hw: and the name of a'
            f" card ({', '.join(sorted(numbers)) or 'there is none'}) is accepted, or a part of a device's: {there}"
        )
    if not forced and name.partition(":")[0].lower() in UNTIMED:
        raise InputError(
            f'microphone.device is "{name}", through which samples cannot be timed; hw: and the name of a card'
            f" ({', '.join(sorted(numbers)) or 'there is none'}) is accepted; microphone.forced = true hears without"
        )
    if name.startswith("hw:"):
        card, _, device = name[3:].removeprefix("CARD=").partition(",")
        if card not in numbers:
            raise OSError(f"there is no card {card}; there are: {', '.join(sorted(numbers)) or 'none'}")
        wanted = f"(hw:{numbers[card]},{device.removeprefix('DEV=') or '0'})"
    else:
        wanted = name
    found = [place for place, one in inputs.items() if one == name] or [
        place for place, one in inputs.items() if wanted.lower() in one.lower()
    ]
    timed = [place for place in found if "(hw:" in inputs[place]]
    found = timed or (found if forced else [])
    if len(found) > 1:
        raise InputError(f'microphone.device is "{name}", which may be any of {len(found)} devices here: {there}')
    if not found:
        raise OSError(f'there is no device "{name}" that can be timed; there are: {there}')
    return found[0]


class CallbackQueue:
    """What callbacks were given, waiting to be heard a few at a time.

    Parameters
    ----------
    rate_hz : float
        Sampling rate.
    block_frames : int
        Samples of a callback.
    channels : int
        Channels of the card.
    """

    def __init__(self, rate_hz: float, block_frames: int, channels: int) -> None:
        self._waiting: queue.SimpleQueue[list[Callback]] = queue.SimpleQueue()
        self._gathered: list[Callback] = []
        self._most = max(8, round(WAITING_S * rate_hz / block_frames / TOGETHER_COUNT))
        self._dead_s = max(DEAD_S, DEAD_PERIODS * block_frames / rate_hz)
        self._channels = channels
        self._dropped = False

    def put(self, frames: NDArray[np.float32], adc_s: float, overflow: bool) -> None:
        """Copy and enqueue, nothing else; what reads is woken for several at once.

        Parameters
        ----------
        frames : numpy.ndarray, shape (frames, channels), float32
            Samples, the card's own.
        adc_s : float
            When the first is said to have been converted.
        overflow : bool
            Whether samples are said to be lost before these.
        """
        monotonic_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        if self._waiting.qsize() >= self._most:
            self._dropped = True
            return
        lost, self._dropped = self._dropped or overflow, False
        self._gathered.append(Callback(frames.copy(), monotonic_ns, wall_ns, adc_s, lost))
        if len(self._gathered) >= TOGETHER_COUNT:
            self._waiting.put(self._gathered)
            self._gathered = []

    def __iter__(self) -> Generator[Callback]:
        """Hand over callbacks, and one without samples while there are none; end when the card is gone."""
        quiet_s, dead_s = 0.0, FIRST_S
        while quiet_s < dead_s:
            try:
                yield from self._waiting.get(timeout=TURN_S)
                quiet_s, dead_s = 0.0, self._dead_s
            except queue.Empty:
                quiet_s += TURN_S
                nothing = np.zeros((0, self._channels), np.float32)
                yield Callback(nothing, time.monotonic_ns(), time.time_ns(), 0.0, overflow=False)


class PortAudioStream:
    """An open card.

    Parameters
    ----------
    microphone : Microphone
        Which, and how.
    chrony : Chrony
        What tells of the system clock.
    block_frames : int, optional
        Samples of a callback.

    Raises
    ------
    InputError
        If the device's name cannot be accepted, or PortAudio is not installed.
    OSError
        If it cannot be opened at present.
    """

    def __init__(self, microphone: Microphone, chrony: Chrony, block_frames: int = BLOCK_FRAMES) -> None:
        audio = load()
        audio._terminate()  # noqa: SLF001 - the only way to make PortAudio look for cards again
        audio._initialize()  # noqa: SLF001
        self._chrony = chrony
        channels = max(1, microphone.pulse_channel, 2 if microphone.pulse_channel == 1 else 1)
        self._queue = CallbackQueue(float(microphone.sample_rate_hz), block_frames, channels)
        place = choose_device(microphone.device, audio.query_devices(), card_numbers(), microphone.forced)
        try:
            self._stream = audio.InputStream(
                device=place,
                channels=channels,
                samplerate=microphone.sample_rate_hz,
                blocksize=block_frames,
                dtype="float32",
                latency=BUFFER_BLOCKS * block_frames / microphone.sample_rate_hz,
                callback=self._called,
            )
            self._stream.start()
        except audio.PortAudioError as error:
            raise OSError(f"{microphone.device}: cannot be opened ({error})") from None

    def _called(self, frames: NDArray[np.float32], _count: int, stated: Any, status: Any) -> None:
        self._queue.put(frames, stated.inputBufferAdcTime, bool(status.input_overflow))

    def __iter__(self) -> Generator[Callback]:
        """Hand over callbacks until the card is gone."""
        try:
            yield from self._queue
        finally:
            self._stream.close()

    def sync(self) -> Sync:
        """Ask the computer about its clock.

        Returns
        -------
        Sync
            What chrony last said.
        """
        return self._chrony.sync()


def open_microphone(microphone: Microphone) -> CardSource:
    """Make the source of a node's microphone.

    Parameters
    ----------
    microphone : Microphone
        The node's table ``[microphone]``.

    Returns
    -------
    CardSource
        It opens the card when its blocks are asked for, and again whenever it must.

    Raises
    ------
    InputError
        If PortAudio is not installed.
    """
    load()
    chrony = Chrony()
    return CardSource(
        lambda: PortAudioStream(microphone, chrony),
        float(microphone.sample_rate_hz),
        BLOCK_FRAMES,
        microphone.pulse_channel,
    )
