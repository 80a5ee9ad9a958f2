"""What reaches a microphone: impulses as pressure with their times, and which way each arrival came.

`ways` says how sound gets there; `sounds` what leaves the source. Here they meet. Impulses of one place that follow
close on each other are rendered together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from firmware_sim.acoustics import LEAD_IN_SAMPLES, REFERENCE_PA, Floats, Pulse, even_frames
from firmware_sim.city import Kind
from firmware_sim.scene import Ear, Scene, emissions, generator, street_noise_db
from firmware_sim.sounds import Sound, on_grid, sound_of, sounded
from firmware_sim.sources import Emission, name_of
from firmware_sim.ways import KERNEL_FRAMES, Way, blast_ways, place_of, response, shock_ways

Wave: TypeAlias = Literal["blast", "shock"]

TOGETHER_S = 0.25  # impulses of one place within such a moment are rendered together, and the air does not move
FADE_S, FADES_COUNT = 0.03, 64  # moving air does otherwise to what comes so much later
INAUDIBLE_DB = -12.0  # peak against the street's noise: an impulse below is not rendered


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """One impulse as it arrives by one way: the truth against which times are scored.

    Attributes
    ----------
    kind : str
        ``direct``, ``bounce`` (off the ground), ``echo``, ``diffracted`` or ``shock``.
    toa_s : float
        When it arrives, since the scene began [s]; true time.
    level_db : float
        Peak level of this way alone.
    length_m : float
        Way of the sound.
    points_m : numpy.ndarray, shape (points, 3)
        Where it came along.
    """

    kind: Kind
    toa_s: float
    level_db: float
    length_m: float
    points_m: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Paths:
    """All ways of one kind of wave from one place to one sensor."""

    ways: tuple[Way, ...]
    levels_db: Floats
    response: Floats


def ways(scene: Scene, ear: Ear, emission: Emission) -> list[Arrival]:
    """Say by which ways an impulse reaches a sensor.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.
    emission : Emission
        The impulse.

    Returns
    -------
    list of Arrival
        In order of time.
    """
    louder_db = _sound(scene, emission).level_db - _sound(scene, _first_of(emission)).level_db
    gust, found = _gust(scene, ear, emission), []
    for wave in _WAVES:
        paths = _paths(scene, ear, _first_of(emission), wave)
        for way, level_db in zip(paths.ways, paths.levels_db, strict=True):
            faded_db = 20 * np.log10(gust.gain(np.array(way.delay_s - paths.ways[0].delay_s)))
            heard_db = float(level_db + faded_db) + (louder_db if wave == "blast" else 0.0)
            toa_s = emission.time_s + way.delay_s + gust.later_s
            found.append(Arrival(way.kind, toa_s, heard_db, way.length_m, way.points_m))
    return sorted(found, key=lambda arrival: arrival.toa_s)


def arrival_s(scene: Scene, ear: Ear, emission: Emission) -> float:
    """Compute when an impulse's blast first reaches a sensor: the truth against which picks are tested.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.
    emission : Emission
        The impulse.

    Returns
    -------
    float
        True time since the scene began [s].
    """
    delay_s = _paths(scene, ear, _first_of(emission), "blast").ways[0].delay_s
    return emission.time_s + delay_s + _gust(scene, ear, emission).later_s


def pulses(scene: Scene, ear: Ear) -> list[Pulse]:
    """Render everything impulsive that reaches a sensor, by all ways.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.

    Returns
    -------
    list of Pulse
        In order of time.
    """
    found = []
    for train in _trains(emissions(scene)):
        for wave in _WAVES:
            paths = _paths(scene, ear, _first_of(train[0]), wave)
            if paths.ways and paths.levels_db.max() > street_noise_db(scene, ear) + INAUDIBLE_DB:
                found.append(_pulse(scene, train, wave, paths, _gust(scene, ear, train[0])))
    return sorted(found, key=lambda pulse: pulse.time_s)


_WAVES: tuple[Wave, ...] = ("blast", "shock")


def _first_of(emission: Emission) -> Emission:
    """Forget which impulse of its maker it is: all from one place go the same ways."""
    return Emission(0.0, emission.position_m, emission.maker)


def _moment(emission: Emission) -> int:
    return int(emission.time_s // TOGETHER_S)


def _trains(made: Sequence[Emission]) -> Iterator[list[Emission]]:
    """Gather impulses of one maker at one place in one moment."""

    def _whence(emission: Emission) -> tuple[str, tuple[float, float, float], int]:
        return name_of(emission.maker), emission.position_m, _moment(emission)

    for _, train in groupby(sorted(made, key=_whence), key=_whence):
        yield sorted(train, key=lambda emission: emission.time_s)


class _Gust(NamedTuple):
    """By how much air on the move delays sound, and its gain every `FADE_S` from what arrives first."""

    later_s: float
    gains: Floats

    def gain(self, after_s: Floats) -> Floats:
        """Say how much stronger sound is that comes so much later; it went another way, through other air."""
        return np.interp(after_s, FADE_S * np.arange(self.gains.size), self.gains)


def _gust(scene: Scene, ear: Ear, emission: Emission) -> _Gust:
    """Draw what moving air does to sound from a place at a moment."""
    random = generator(scene, "gust", place_of(emission), ear.sensor_id, _moment(emission))
    later_s = float(random.normal(0, 1)) * scene.ways.gust_s
    return _Gust(later_s, 10 ** (random.normal(0, 1, FADES_COUNT) * scene.ways.fade_db / 20))


def _sound(scene: Scene, emission: Emission) -> Sound:
    return sound_of(emission, generator(scene, "source", name_of(emission.maker), emission.number))


@lru_cache(maxsize=128)
def _paths(scene: Scene, ear: Ear, emission: Emission, wave: Wave) -> _Paths:
    found = (blast_ways if wave == "blast" else shock_ways)(scene, ear, emission)
    if not found:
        return _Paths((), np.zeros(0), np.zeros(0))
    levels_db = _levels_db(_sounded(scene, (emission,), wave), found)
    laid = response(scene, ear, emission, found)
    # What each way does is in the response now, and would fill the memory.
    return _Paths(tuple(replace(way, transfer=way.transfer[:0]) for way in found), levels_db, laid)


def _levels_db(train_pa: Floats, found: Sequence[Way]) -> Floats:
    """Measure the peak of what arrives by each way alone."""
    loudest = int(np.argmax(np.abs(train_pa)))
    around = train_pa[max(0, loudest - KERNEL_FRAMES) : loudest + KERNEL_FRAMES]
    transfers = np.stack([way.transfer for way in found])
    # A quarter of the stretch later, so that what a filter puts before an edge does not fall off its beginning.
    later = np.exp(-0.5j * np.pi * np.arange(transfers.shape[1]))
    kernels, frames = np.fft.irfft(transfers * later, KERNEL_FRAMES), even_frames(KERNEL_FRAMES + around.size)
    heard = np.fft.irfft(np.fft.rfft(kernels, frames) * np.fft.rfft(around, frames), frames)
    return np.asarray(20 * np.log10(np.maximum(np.abs(heard).max(axis=1), 1e-30) / REFERENCE_PA))


@lru_cache(maxsize=256)
def _sounded(scene: Scene, train: tuple[Emission, ...], wave: Wave) -> Floats:
    """Sound a train of impulses at 1 m; shocks bring their own sound with each way, so there a click."""
    rate_hz = float(scene.device.sample_rate_hz)
    parts: list[tuple[int, Floats]] = []
    for emission in train:
        whole, share = divmod((emission.time_s - train[0].time_s) * rate_hz, 1)
        later_s = share / rate_hz
        one = sounded(_sound(scene, emission), rate_hz, later_s) if wave == "blast" else _click(rate_hz, later_s)
        parts.append((int(whole), one))
    together = np.zeros(max(start + part.size for start, part in parts))
    for start, part in parts:
        together[start : start + part.size] += part
    return together


def _click(rate_hz: float, later_s: float) -> Floats:
    return on_grid(lambda frequency_hz: np.full(frequency_hz.size, 1 / rate_hz, complex), 1e-3, rate_hz, later_s)


def _pulse(scene: Scene, train: Sequence[Emission], wave: Wave, paths: _Paths, gust: _Gust) -> Pulse:
    train_pa = _sounded(scene, tuple(train), wave)
    frames = even_frames(train_pa.size + paths.response.size)
    after_s = (np.arange(paths.response.size) - LEAD_IN_SAMPLES) / scene.device.sample_rate_hz
    faded = paths.response * gust.gain(after_s)
    spectrum = np.fft.rfft(train_pa, frames) * np.fft.rfft(faded, frames)
    lead_in_s = 2 * LEAD_IN_SAMPLES / scene.device.sample_rate_hz
    begins_s = train[0].time_s + gust.later_s + paths.ways[0].delay_s - lead_in_s
    return Pulse(begins_s, spectrum)
