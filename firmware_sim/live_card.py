"""A simulated sound card, live: what a callback of PortAudio is given, as the wall clock passes.

    open_card = live_card(microphone, "pole-7")     # microphone.device is "sim" or "sim:SCENE.toml"
    stream = open_card()                            # OSError while the scene has it unplugged
    for callback in stream: ...

The scene begins when `live_card` is called, and again whenever it ends; its faults hold in the first turn alone. The
card belongs to the scene's sensor of that name; a node of another name hears by its first.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from agls.config import Microphone
from agls.errors import InputError
from agls.messages import NS_PER_S
from firmware_sim.clock import Sync
from firmware_sim.delivery import Callback, Stream, open_stream
from firmware_sim.scene import DEMO_SCENE, Scene, load_scene

GONE_S, TURN_S = 1.0, 0.25  # a program takes so long to believe that a card is gone, looking up so often


class LiveStream:
    """An open card of a scene, paced by the wall clock.

    Parameters
    ----------
    stream : firmware_sim.delivery.Stream
        Its callbacks, in the scene's own time.
    begun_s : float
        When the scene began, on the monotonic clock [s].
    """

    def __init__(self, stream: Stream, begun_s: float) -> None:
        self._stream, self._begun_s = stream, begun_s

    def __iter__(self) -> Iterator[Callback]:
        """Hand over callbacks, each when it is due; a while without any; end."""
        last: Callback | None = None
        for last in self._stream:
            wait_s = self._begun_s + self._stream.now_s - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            yield last
        if last is None:
            return
        for turn in range(1, 1 + round(GONE_S / TURN_S)):
            time.sleep(TURN_S)
            passed_ns = round(turn * TURN_S * NS_PER_S)
            now_ns, wall_ns = last.monotonic_ns + passed_ns, last.wall_ns + passed_ns
            yield Callback(np.zeros((0, last.frames.shape[1]), np.float32), now_ns, wall_ns, 0.0, 0.0, overflow=False)

    def sync(self) -> Sync:
        """Ask the computer about its clock.

        Returns
        -------
        Sync
            As of the last callback.
        """
        return self._stream.sync()


def live_card(microphone: Microphone, sensor_id: str, block_frames: int) -> Callable[[], LiveStream]:
    """Make what opens a simulated card, as often as one likes.

    Parameters
    ----------
    microphone : Microphone
        The node's table ``[microphone]``; its sampling rate is taken.
    sensor_id : str
        The node's name.
    block_frames : int
        Samples of a callback.

    Returns
    -------
    callable
        Opens it; raises OSError while the scene has no card.

    Raises
    ------
    InputError
        If the scene cannot be read, or its card has no such pulse channel.
    """
    file = microphone.device.partition(":")[2]
    scene = _with(load_scene(Path(file) if file else DEMO_SCENE), microphone, block_frames)
    channels = 2 if scene.card.sync == "pps_audio" else 1
    if microphone.pulse_channel not in (0, channels):
        raise InputError(
            f"microphone.pulse_channel is {microphone.pulse_channel}, but the simulated card of {microphone.device} has"
            f" its pulse {'on channel 2' if channels == 2 else 'nowhere (card.sync is not pps_audio)'};"
            f" {'2 or 0 is' if channels == 2 else '0 is'} accepted"
        )
    ear = next((ear for ear in scene.sensor if ear.sensor_id == sensor_id), scene.sensor[0])
    start_ns, begun_s = time.time_ns(), time.monotonic()
    return lambda: LiveStream(open_stream(scene, ear, start_ns, time.monotonic() - begun_s, repeats=True), begun_s)


def _with(scene: Scene, microphone: Microphone, block_frames: int) -> Scene:
    """Give a scene the node's sampling rate and blocks."""
    return msgspec.structs.replace(
        scene,
        device=msgspec.structs.replace(scene.device, sample_rate_hz=microphone.sample_rate_hz),
        card=msgspec.structs.replace(scene.card, block_frames=block_frames),
    )
