"""What reaches a microphone, and by which ways: impulses with their times, and the background.

What happens on the way (loss, detour, echoes) is drawn once for each place and sensor; noise for each sensor; see
`scene.generator` for why the same scene gives the same bytes.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_sim import acoustics
from firmware_sim.acoustics import Air, Pulse, Spectrum
from firmware_sim.scene import Ear, Emission, Scene, Shooter, emissions, generator, name_of

NOISE_FRAMES = 32_768  # one stretch of noise; neighbours overlap by half
# The quietest stretches of 98 recordings in a city fall 6-7 dB an octave from 125 Hz on; electronics add an even floor.
NOISE_FLAT_BELOW_HZ, NOISE_FLAT_ABOVE_HZ = 125.0, 10_000.0
PULSE_FRAMES = 32_768  # long enough for the reverberation of a street
ECHO_FRAMES = 8_192
LEVEL_SCATTER_DB = 1.0  # from round to round
SCATTER_SIGMA_DB = 3.0  # from place to place


def air_of(scene: Scene) -> Air:
    """Turn a scene's weather into the air that sound meets.

    Parameters
    ----------
    scene : Scene
        The scene.

    Returns
    -------
    Air
        With wind as the velocity of the air.
    """
    weather = scene.air
    towards = math.radians(weather.wind_from_deg + 180)
    wind = (weather.wind_speed_m_s * math.sin(towards), weather.wind_speed_m_s * math.cos(towards), 0.0)
    return Air(weather.temperature_c, weather.humidity_percent, wind)


def arrival_s(scene: Scene, ear: Ear, emission: Emission) -> float:
    """Compute when an impulse first reaches a sensor: the truth against which picks are tested.

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
    return emission.time_s + _ways(scene, ear, emission)[0].delay_s


def pulses(scene: Scene, ear: Ear) -> list[Pulse]:
    """Render everything that reaches a sensor, first arrivals and echoes.

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
    air, rate_hz = air_of(scene), float(scene.device.sample_rate_hz)
    known: dict[str, list[_Way]] = {}
    found = []
    for emission in emissions(scene):
        source, name = _source(scene, emission), name_of(emission.maker)
        if name not in known:
            known[name] = _ways(scene, ear, emission)
        for way in known[name]:
            at_s = emission.time_s + way.delay_s
            found.append(acoustics.received_pulse(source, at_s, way.length_m, air, rate_hz, way.transfer))
    return sorted(found, key=lambda pulse: pulse.time_s)


def _source(scene: Scene, emission: Emission) -> Spectrum:
    """Describe the sound of one impulse at 1 m."""
    random = generator(scene, "source", name_of(emission.maker), emission.number)
    peak = acoustics.peak_pa(emission.maker.level_db + random.normal(0, LEVEL_SCATTER_DB))
    if isinstance(emission.maker, Shooter):
        return acoustics.friedlander(peak, emission.maker.tau_s)
    if emission.maker.kind == "door":
        tones_hz = np.sort(random.uniform(70, 900, 12))
        return acoustics.modes(peak, tones_hz, random.uniform(0.3, 1, 12), attack_s=4e-3, decay_s=0.05)
    # A small aerial shell: black powder burns longer than a cartridge, and the shell's paper tears over milliseconds.
    boom = acoustics.friedlander(0.6 * peak, 3e-3)
    tearing = acoustics.modes(peak, random.uniform(200, 6_000, 60), random.uniform(0.2, 1, 60), 2e-3, 0.03)
    return lambda frequency_hz: boom(frequency_hz) + tearing(frequency_hz)


@dataclass(frozen=True, slots=True)
class _Way:
    """One way from a place to a sensor: how long it takes [s], its length [m], and what it does to a spectrum."""

    delay_s: float
    length_m: float
    transfer: acoustics.Complex


def _ways(scene: Scene, ear: Ear, emission: Emission) -> list[_Way]:
    """List the ways from a place to a sensor, the first first."""
    ways, air = scene.ways, air_of(scene)
    random = generator(scene, "ways", name_of(emission.maker), ear.sensor_id)
    place, ear_m = np.array(emission.position_m), np.array([ear.x_m, ear.y_m, ear.z_m])
    length_m = float(np.linalg.norm(ear_m - place))
    loss_db = max(0.0, random.normal(ways.loss_db, ways.loss_sigma_db))
    direct_s = acoustics.travel_time_s(place, ear_m, air) + random.exponential(1.0) * ways.late_s
    found = [_Way(direct_s, length_m, _transfer(scene, ear, emission, loss_db))]
    speed_m_s = acoustics.sound_speed_m_s(air)
    low, high = np.log([ways.echo_after_s, ways.echo_until_s])
    for later_s in np.sort(np.exp(random.uniform(low, high, ways.echoes_count))):
        # Echoes turn corners that the direct way has to climb over: their loss does not follow the direct one's.
        echo_db = max(0.0, random.normal(ways.loss_db, ways.loss_sigma_db)) + ways.echo_loss_db
        further_m = float(later_s) * speed_m_s
        found.append(_Way(direct_s + float(later_s), length_m + further_m, _bent(scene, echo_db, ECHO_FRAMES)))
    return found


def _transfer(scene: Scene, ear: Ear, emission: Emission, loss_db: float) -> acoustics.Complex:
    """Say what the first arrival's way does besides its length: loss, dulling, scattering, reverberation."""
    ways = scene.ways
    random = generator(scene, "scattering", name_of(emission.maker), ear.sensor_id)
    scatter_db, reverb_db = random.normal([ways.scatter_db, ways.reverb_db], SCATTER_SIGMA_DB)
    added = acoustics.scattering(random, scatter_db, reverb_db, scene.device.sample_rate_hz, PULSE_FRAMES)
    # What walls scatter has gone round one more edge, so it is duller once more.
    return _bent(scene, loss_db, PULSE_FRAMES) * (1 + _bent(scene, 0.0, PULSE_FRAMES) * added)


def _bent(scene: Scene, loss_db: float, frames: int) -> acoustics.Complex:
    """Say what going round an edge does to a spectrum."""
    frequency_hz = np.fft.rfftfreq(frames, 1 / scene.device.sample_rate_hz).astype(np.float64)
    bent = acoustics.bent_gain(frequency_hz, scene.ways.dull_above_hz)
    transfer: acoustics.Complex = (10 ** (-loss_db / 20) * bent).astype(np.complex128)
    return transfer


def _noise_shape(scene: Scene) -> NDArray[np.float32]:
    """Weigh the frequencies of street noise so that its root mean square is the scene's level [Pa]."""
    frequency_hz = np.fft.rfftfreq(NOISE_FRAMES, 1 / scene.device.sample_rate_hz)
    amplitude = 1 / np.clip(frequency_hz, NOISE_FLAT_BELOW_HZ, NOISE_FLAT_ABOVE_HZ)
    amplitude[frequency_hz < 15] = 0
    rms = np.sqrt(2 * np.sum(2 * amplitude**2)) / NOISE_FRAMES
    scaled: NDArray[np.float64] = amplitude * (acoustics.peak_pa(scene.device.noise_db) / rms)
    return scaled.astype(np.float32)


class Background:
    """What a microphone hears beside impulses, as pressure, for any stretch of samples asked for in order.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.
    """

    def __init__(self, scene: Scene, ear: Ear) -> None:
        self._scene = scene
        self._ear = ear
        self._shape = _noise_shape(scene)
        self._window = np.sin(np.pi * (np.arange(NOISE_FRAMES) + 0.5) / NOISE_FRAMES).astype(np.float32)
        self._stretches: dict[int, NDArray[np.float32]] = {}

    def pressure_pa(self, first_index: int, frames: int) -> NDArray[np.float32]:
        """Lay out noise that does not depend on how it is cut: seeded stretches, each fading into the next.

        Parameters
        ----------
        first_index : int
            Index of the first sample since the scene began, at the scene's rate.
        frames : int
            How many.

        Returns
        -------
        numpy.ndarray, shape (frames,), float32
            Sound pressure [Pa].
        """
        hop = NOISE_FRAMES // 2
        first, last = first_index // hop, (first_index + frames - 1) // hop
        # Sample n lies in stretches n // hop and n // hop - 1; squared windows of the two add up to one.
        laid = [self._stretch(number)[:hop] + self._stretch(number - 1)[hop:] for number in range(first, last + 1)]
        start = first_index - first * hop
        noise = (laid[0] if len(laid) == 1 else np.concatenate(laid))[start : start + frames]
        return np.array(noise)

    def _stretch(self, number: int) -> NDArray[np.float32]:
        if number not in self._stretches:
            random = generator(self._scene, "noise", self._ear.sensor_id, number + 1)
            parts = random.standard_normal((2, self._shape.size), dtype=np.float32)
            spectrum = (parts[0] + 1j * parts[1]) * self._shape
            self._stretches = {old: kept for old, kept in self._stretches.items() if old >= number - 1}
            self._stretches[number] = self._window * np.fft.irfft(spectrum, NOISE_FRAMES).astype(np.float32)
        return self._stretches[number]
