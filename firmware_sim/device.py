"""A simulated sensor: its microphone, converter and clock."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from firmware_sim.acoustics import peak_pa, sampled
from firmware_sim.background import Background
from firmware_sim.propagation import pulses
from firmware_sim.scene import Ear, Scene, generator

HALF_RANGE = 32_768  # of a 16-bit converter


def clock_error_s(scene: Scene, ear: Ear) -> float:
    """Draw how far a sensor's clock is ahead of UTC.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.

    Returns
    -------
    float
        Seconds; positive where the sensor stamps too late a time.
    """
    return float(generator(scene, "clock", ear.sensor_id).normal(0, scene.device.clock_sigma_s))


class Recorder:
    """What one sensor's converter puts out, for any stretch of samples asked for in order.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.
    repeats : bool
        Whether the scene begins again when it ends.
    """

    def __init__(self, scene: Scene, ear: Ear, repeats: bool = False) -> None:
        self._pulses = [sampled(pulse, pulse.time_s * scene.device.sample_rate_hz) for pulse in pulses(scene, ear)]
        self._background = Background(scene, ear)
        self._period = round(scene.duration_s * scene.device.sample_rate_hz) if repeats else 0
        self._full_scale_pa = peak_pa(scene.device.full_scale_db_spl)

    def samples(self, first_index: int, frames: int) -> NDArray[np.int16]:
        """Render a stretch.

        Parameters
        ----------
        first_index : int
            Index of its first sample since the scene began.
        frames : int
            Its length.

        Returns
        -------
        numpy.ndarray, shape (frames,), int16
            As a 16-bit converter gives it, clipped at full scale.
        """
        pressure = self._background.pressure_pa(first_index, frames)
        for pulse, start in self._heard(first_index, frames):
            begin, end = max(start, first_index), min(start + pulse.size, first_index + frames)
            pressure[begin - first_index : end - first_index] += pulse[begin - start : end - start]
        counts = np.rint(pressure * np.float32(HALF_RANGE / self._full_scale_pa))
        clipped: NDArray[np.int16] = np.clip(counts, -HALF_RANGE, HALF_RANGE - 1).astype(np.int16)
        return clipped

    def _heard(self, first_index: int, frames: int) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Find the pulses that fall into a stretch, and where they begin."""
        for first, pulse in self._pulses:
            # The latest repetition that begins before the stretch ends; the one before it has died away by then.
            turn = (first_index + frames - 1 - first) // self._period if self._period else 0
            start = first + max(turn, 0) * self._period
            if start < first_index + frames and start + pulse.size > first_index:
                yield pulse, start
