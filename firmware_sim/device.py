"""A simulated sensor: its microphone and converter, with what goes wrong there.

What reaches the membrane is filtered as a microphone hears (or a drowned one), limited where the membrane can no more,
and put into numbers by a converter whose samples are taken by its own crystal.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from firmware_sim.acoustics import Complex, peak_pa, sampled
from firmware_sim.background import Background
from firmware_sim.clock import Ticks
from firmware_sim.faults import Dead, Drowned, Fault, Stuck, Zeros, of_sensor
from firmware_sim.propagation import pulses
from firmware_sim.scene import Ear, Scene, generator

HALF_RANGE = 32_768  # of a 16-bit converter
CHUNK_FRAMES = 32_768  # filtered at once
BEFORE_FRAMES, AFTER_FRAMES = 8_192, 128  # that bear on a chunk's first and last sample
KNEE = 8  # how sharply a membrane's travel ends: 8 % short at its limit
STUCK_COUNTS = 17


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


def even_ticks(scene: Scene) -> Ticks:
    """Describe a converter that runs at exactly its nominal rate, as recordings are kept.

    Parameters
    ----------
    scene : Scene
        The scene.

    Returns
    -------
    Ticks
        When it takes its samples.
    """
    return Ticks(float(scene.device.sample_rate_hz))


def microphone_gain(frequency_hz: NDArray[np.float64], low_cut_hz: float, high_cut_hz: float) -> Complex:
    """Compute how a microphone passes a tone: once below its vent's corner, twice above its membrane's.

    Parameters
    ----------
    frequency_hz : numpy.ndarray, shape (n,)
        Frequencies.
    low_cut_hz, high_cut_hz : float
        Where it passes 3 dB less.

    Returns
    -------
    numpy.ndarray, shape (n,), complex128
        Factors, delay included.
    """
    low, high = 1j * frequency_hz / low_cut_hz, 1j * frequency_hz / high_cut_hz
    gain: Complex = low / (1 + low) / (1 + np.sqrt(2) * high + high**2)
    return gain


class Recorder:
    """What one sensor's converter puts out, for any stretch of samples asked for in order.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.
    repeats : bool, optional
        Whether the scene begins again when it ends; its faults do not.
    ticks : Ticks, optional
        When samples are taken; at the nominal rate if not given.
    """

    def __init__(self, scene: Scene, ear: Ear, repeats: bool = False, ticks: Ticks | None = None) -> None:
        self._scene, self._ear = scene, ear
        self._ticks = ticks or even_ticks(scene)
        self._pulses = pulses(scene, ear)
        self._background = Background(scene, ear)
        self._period_s = scene.duration_s if repeats else 0.0
        self._placed: dict[tuple[int, int], tuple[int, NDArray[np.float32]]] = {}
        self._chunks: dict[int, NDArray[np.int16]] = {}
        card = scene.card
        gain_db = generator(scene, "gain", ear.sensor_id).normal(0, card.gain_sigma_db)
        self._counts_pa = np.float32(HALF_RANGE / peak_pa(scene.device.full_scale_db_spl) * 10 ** (gain_db / 20))
        self._overload_pa = np.float32(peak_pa(card.overload_db_spl))
        self._hiss_pa = np.float32(peak_pa(card.self_noise_db))
        frequency_hz = np.fft.rfftfreq(CHUNK_FRAMES, 1 / scene.device.sample_rate_hz).astype(np.float64)
        self._heard = microphone_gain(frequency_hz, card.low_cut_hz, card.high_cut_hz)
        self._drowned = [
            (fault, self._heard * 10 ** (-fault.loss_db / 20) * microphone_gain(frequency_hz, 1e-3, fault.high_cut_hz))
            for fault in of_sensor(scene.fault, ear.sensor_id, Drowned)
        ]

    def samples(self, first_index: int, frames: int) -> NDArray[np.int16]:
        """Render a stretch.

        Parameters
        ----------
        first_index : int
            Index of its first sample since the scene began, by the converter's count.
        frames : int
            Its length.

        Returns
        -------
        numpy.ndarray, shape (frames,), int16
            As a 16-bit converter gives it, clipped at full scale.
        """
        hop = CHUNK_FRAMES - BEFORE_FRAMES - AFTER_FRAMES
        first, last = first_index // hop, (first_index + frames - 1) // hop
        edges = [first_index, *range((first + 1) * hop, last * hop + 1, hop), first_index + frames]
        parts = [self._chunk(start // hop)[start % hop :][: end - start] for start, end in pairwise(edges)]
        return np.concatenate(parts)

    def _chunk(self, number: int) -> NDArray[np.int16]:
        """Render a chunk; chunks lie where they lie, so what is asked for when changes nothing."""
        if number not in self._chunks:
            self._chunks = {old: kept for old, kept in self._chunks.items() if old == number - 1}
            self._chunks[number] = self._converted(number)
        return self._chunks[number]

    def _converted(self, number: int) -> NDArray[np.int16]:
        """Turn pressure into numbers, with what is wrong at the time."""
        hop = CHUNK_FRAMES - BEFORE_FRAMES - AFTER_FRAMES
        first = number * hop
        spectrum = np.fft.rfft(self._pressure_pa(first - BEFORE_FRAMES))
        moved = self._filtered(spectrum * self._heard)
        for fault, response in self._drowned:
            if (wet := self._span(fault, first, hop)) != slice(0, 0):
                moved[wet] = self._filtered(spectrum * response)[wet]
        moved = _limited(moved, self._overload_pa)
        for dead in of_sensor(self._scene.fault, self._ear.sensor_id, Dead):
            moved[self._span(dead, first, hop)] = 0
        hiss = generator(self._scene, "hiss", self._ear.sensor_id, number).standard_normal(hop, dtype=np.float32)
        counts = np.rint((moved + self._hiss_pa * hiss) * self._counts_pa)
        for zeros in of_sensor(self._scene.fault, self._ear.sensor_id, Zeros):
            counts[self._span(zeros, first, hop)] = 0
        for stuck in of_sensor(self._scene.fault, self._ear.sensor_id, Stuck):
            counts[self._span(stuck, first, hop)] = STUCK_COUNTS
        clipped: NDArray[np.int16] = np.clip(counts, -HALF_RANGE, HALF_RANGE - 1).astype(np.int16)
        return clipped

    @staticmethod
    def _filtered(spectrum: Complex) -> NDArray[np.float32]:
        return np.fft.irfft(spectrum, CHUNK_FRAMES)[BEFORE_FRAMES:-AFTER_FRAMES].astype(np.float32)

    def _span(self, fault: Fault, first: int, frames: int) -> slice:
        """Find the samples of a chunk during which a fault holds."""
        begin, end = (round(self._ticks.index_at(time_s)) - first for time_s in (fault.start_s, fault.end_s))
        return slice(max(begin, 0), min(end, frames)) if begin < frames and end > 0 else slice(0, 0)

    def _pressure_pa(self, first: int) -> NDArray[np.float32]:
        """Lay out what reaches the membrane; before the scene began there was nothing."""
        pressure = np.zeros(CHUNK_FRAMES, np.float32)
        silent = max(0, -first)
        pressure[silent:] = self._background.pressure_pa(first + silent, CHUNK_FRAMES - silent)
        for start, pulse in self._heard_from(first):
            begin, end = max(start, first), min(start + pulse.size, first + CHUNK_FRAMES)
            if begin < end:  # it may have ended just before the chunk
                pressure[begin - first : end - first] += pulse[begin - start : end - start]
        return pressure

    def _heard_from(self, first: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Find the pulses that fall into a chunk, each put on the converter's grid when it is first met."""
        begin_s, end_s = self._ticks.time_s(first), self._ticks.time_s(first + CHUNK_FRAMES)
        self._placed = {name: kept for name, kept in self._placed.items() if kept[0] + kept[1].size > first}
        for number, pulse in enumerate(self._pulses):
            length_s = 2 * pulse.spectrum.size / self._ticks.rate_hz  # at most
            # The latest repetition that begins before the chunk ends; the one before it has died away by then.
            turn = max(0, int((end_s - pulse.time_s) // self._period_s)) if self._period_s else 0
            at_s = pulse.time_s + turn * self._period_s
            if at_s >= end_s or at_s + length_s <= begin_s:
                continue
            if (number, turn) not in self._placed:
                self._placed[number, turn] = sampled(pulse, self._ticks.index_at(at_s))
            yield self._placed[number, turn]


def _limited(pressure_pa: NDArray[np.float32], limit_pa: np.float32) -> NDArray[np.float32]:
    """Limit what a membrane can follow."""
    loud = np.abs(pressure_pa) > limit_pa / 4  # below, it is linear to a part in half a million
    pressure_pa[loud] /= (1 + np.abs(pressure_pa[loud] / limit_pa) ** KNEE) ** np.float32(1 / KNEE)
    return pressure_pa
