"""Sound in the simulated city: from pressure at the muzzle to pressure at a microphone.

Nothing here comes from `agls`: a simulator that shared the solver's formulas would only prove that they equal
themselves. Sound speed is the ideal gas of moist air from its molar masses and heat capacities, wind is the exact
moving frame, absorption is ISO 9613-1. Pulses are built in the frequency domain, where a delay of a fraction of a
sample is exact.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Complex = NDArray[np.complex128]
Spectrum = Callable[[Floats], Complex]
"""Maps frequencies [Hz] to the Fourier transform [Pa s] of a pressure at 1 m that begins at time zero."""

REFERENCE_PA = 20e-6
GAS_CONSTANT_J_MOL_K = 8.314462618
DRY_AIR_KG_MOL = 28.9647e-3
WATER_KG_MOL = 18.0153e-3
SEA_LEVEL_KPA = 101.325

LEAD_IN_SAMPLES = 96  # room for the ringing that a band limit puts before a sharp edge
BAND_EDGE_SHARE = (0.40, 0.48)  # of the sampling rate: where the converter's anti-alias filter falls from 1 to 0

SCATTER_S, REVERB_S = 0.0167, 0.25  # in which scattered power falls to 1/e
BUILD_UP_S = 5e-3
DIRECT_S = 5e-3  # the stretch of the first arrival that scattered power is measured against


@dataclass(frozen=True, slots=True)
class Air:
    """The air sound travels through.

    Attributes
    ----------
    temperature_c : float
        Degrees Celsius.
    humidity_percent : float
        Relative humidity.
    wind_m_s : tuple of float, shape (3,)
        Velocity of the air, east, north and up: where it goes, not where it comes from.
    """

    temperature_c: float
    humidity_percent: float
    wind_m_s: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Pulse:
    """One impulse as one microphone receives it.

    Attributes
    ----------
    time_s : float
        When it begins at the microphone, since the scene began [s]; true time.
    spectrum : numpy.ndarray, shape (frames // 2 + 1,), complex128
        Fourier transform of its samples [Pa]; `sampled` puts them on a converter's grid.
    """

    time_s: float
    spectrum: Complex


def water_share(air: Air) -> float:
    """Compute the mole fraction of water vapour at sea level.

    Parameters
    ----------
    air : Air
        The air.

    Returns
    -------
    float
        Share of molecules that are water; saturation after Magnus (Alduchov and Eskridge 1996).
    """
    saturation_kpa = 0.61094 * np.exp(17.625 * air.temperature_c / (243.04 + air.temperature_c))
    return float(air.humidity_percent / 100 * saturation_kpa / SEA_LEVEL_KPA)


def sound_speed_m_s(air: Air) -> float:
    """Compute the speed of sound in still moist air, as an ideal gas mixture.

    Parameters
    ----------
    air : Air
        The air.

    Returns
    -------
    float
        Metres per second.
    """
    water = water_share(air)
    molar_kg = DRY_AIR_KG_MOL * (1 - water) + WATER_KG_MOL * water
    heat = 3.5 * (1 - water) + 4.04 * water  # molar heat capacity at constant pressure, in gas constants
    gamma = heat / (heat - 1)
    return float(np.sqrt(gamma * GAS_CONSTANT_J_MOL_K * (air.temperature_c + 273.15) / molar_kg))


def travel_time_s(source_m: Floats, receiver_m: Floats, air: Air) -> float:
    """Compute how long sound takes, carried by a steady wind.

    Sound spreads as a sphere around a point that drifts with the air, so ``|receiver - source - wind t| = c t``.

    Parameters
    ----------
    source_m, receiver_m : numpy.ndarray, shape (3,)
        East, north, up.
    air : Air
        The air; its wind must be slower than sound.

    Returns
    -------
    float
        Seconds.
    """
    way = np.asarray(receiver_m, float) - np.asarray(source_m, float)
    wind = np.asarray(air.wind_m_s)
    speed = sound_speed_m_s(air)
    # (c^2 - w.w) t^2 + 2 (way.w) t - way.way = 0, the root that is not negative.
    a, b, c = speed**2 - wind @ wind, way @ wind, way @ way
    return float((np.sqrt(b * b + a * c) - b) / a)


def absorption_db_m(frequency_hz: Floats, air: Air) -> Floats:
    """Compute how much of a tone the air itself swallows.

    Parameters
    ----------
    frequency_hz : numpy.ndarray, shape (n,)
        Frequencies.
    air : Air
        The air, at sea level pressure.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Decibels per metre.

    References
    ----------
    ISO 9613-1:1993, equations 3 to 5.
    """
    kelvin = air.temperature_c + 273.15
    warmth = kelvin / 293.15
    h = 100 * water_share(air)
    oxygen_hz = 24 + 4.04e4 * h * (0.02 + h) / (0.391 + h)
    nitrogen_hz = warmth**-0.5 * (9 + 280 * h * np.exp(-4.170 * (warmth ** (-1 / 3) - 1)))
    square = np.asarray(frequency_hz, float) ** 2
    oxygen = 0.01275 * np.exp(-2239.1 / kelvin) / (oxygen_hz + square / oxygen_hz)
    nitrogen = 0.1068 * np.exp(-3352.0 / kelvin) / (nitrogen_hz + square / nitrogen_hz)
    loss: Floats = 8.686 * square * (1.84e-11 * warmth**0.5 + warmth**-2.5 * (oxygen + nitrogen))
    return loss


def peak_pa(level_db: float) -> float:
    """Turn a peak level into a pressure.

    Parameters
    ----------
    level_db : float
        Peak sound pressure level [dB re 20 uPa].

    Returns
    -------
    float
        Pascal.
    """
    return float(REFERENCE_PA * 10 ** (level_db / 20))


def friedlander(peak: float, tau_s: float) -> Spectrum:
    """Describe a blast: ``peak (1 - t/tau) exp(-t/tau)``.

    Parameters
    ----------
    peak : float
        Peak overpressure at 1 m [Pa].
    tau_s : float
        Duration of the positive phase [s].

    Returns
    -------
    Spectrum
        Its Fourier transform in closed form, so that its edge is not aliased.
    """
    rate = 1 / tau_s

    def _spectrum(frequency_hz: Floats) -> Complex:
        angular = 2j * np.pi * frequency_hz
        blast: Complex = peak * angular / (rate + angular) ** 2
        return blast

    return _spectrum


def modes(peak: float, frequencies_hz: Floats, weights: Floats, attack_s: float, decay_s: float) -> Spectrum:
    """Describe something struck: tones that begin together and die away, such as a door or a metal sheet.

    Parameters
    ----------
    peak : float
        Sum of the tones' amplitudes at 1 m [Pa].
    frequencies_hz, weights : numpy.ndarray, shape (tones,)
        Each tone and its share; the shares are scaled to sum to one.
    attack_s, decay_s : float
        Time constants of beginning and dying away [s]; the attack is the shorter.

    Returns
    -------
    Spectrum
        The Fourier transform of ``sum w sin(2 pi f t) (exp(-t/decay) - exp(-t/attack))``.
    """
    amplitudes = peak * weights / weights.sum()
    turns = 2 * np.pi * frequencies_hz

    def _spectrum(frequency_hz: Floats) -> Complex:
        angular = 2j * np.pi * np.asarray(frequency_hz)[:, None]
        ring = [turns / ((1 / time_s + angular) ** 2 + turns**2) for time_s in (decay_s, attack_s)]
        struck: Complex = ((ring[0] - ring[1]) * amplitudes).sum(axis=1)
        return struck

    return _spectrum


def bent_gain(frequency_hz: Floats, dull_above_hz: float) -> Floats:
    """Dull sound that comes over a roof or round a corner: 3 dB an octave, as a thin edge far into its shadow does.

    Parameters
    ----------
    frequency_hz : numpy.ndarray, shape (n,)
        Frequencies.
    dull_above_hz : float
        Where it begins.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Amplitude factors, 1 at low frequencies.

    References
    ----------
    Maekawa 1968, Noise reduction by screens, Applied Acoustics 1:157.
    """
    return 1 / np.sqrt(1 + np.asarray(frequency_hz, float) / dull_above_hz)


def scattering(
    random: np.random.Generator, scatter_db: float, reverb_db: float, rate_hz: float, frames: int
) -> Complex:
    """Draw what a street adds to the sound that comes through it: what near walls scatter, then reverberation.

    Powers are those of a stretch of sound against that of the first 5 ms of the first arrival. The times are those of
    98 recordings of live fire in a city (ShotSpotter, Pittsburgh 2018), whose medians are -9, -7, -6, -13, -15, -18,
    -21, -20, -18 and -20 dB at 5-10, 10-20, 20-30, 30-50, 50-75, 75-100, 100-150, 150-200, 200-300 and 300-400 ms.

    Parameters
    ----------
    random : numpy.random.Generator
        Of the place and the sensor, so that each shot from there sounds alike.
    scatter_db, reverb_db : float
        Power scattered at 0 ms (before it has built up), and reverberating at 100 ms.
    rate_hz : float
        Sampling rate.
    frames : int
        Length of the pulse it is for.

    Returns
    -------
    numpy.ndarray, shape (frames // 2 + 1,), complex128
        Factors by which to multiply the spectrum of the first arrival.
    """
    seconds = np.arange(frames) / rate_hz
    near = 10 ** (scatter_db / 10) * np.exp(-seconds / SCATTER_S)
    far = 10 ** (reverb_db / 10) * np.exp(-(seconds - 0.1) / REVERB_S)
    power = (near + far) * (1 - np.exp(-seconds / BUILD_UP_S)) / (DIRECT_S * rate_hz)
    power *= (
        np.cos(np.pi / 2 * np.clip((np.arange(frames) / frames - 0.5) / 0.35, 0, 1)) ** 2
    )  # gone before the pulse ends
    added: Complex = np.fft.rfft(random.standard_normal(frames) * np.sqrt(power))
    return added


def received_pulse(
    source: Spectrum, arrival_s: float, length_m: float, air: Air, rate_hz: float, transfer: Complex
) -> Pulse:
    """Render one impulse after its way through the air, at an arrival time that need not fall on a sample.

    Amplitude falls with distance (spherical spreading) and absorption dulls it. Absorption is applied without phase:
    its classical part has no dispersion, and that of the relaxations is under 0.1 % of the sound speed.

    Parameters
    ----------
    source : Spectrum
        Pressure at 1 m.
    arrival_s : float
        When it begins at the microphone, since the scene began [s].
    length_m : float
        Way travelled [m].
    air : Air
        The air.
    rate_hz : float
        Sampling rate.
    transfer : numpy.ndarray, shape (bins,), complex128
        What else the way does, as factors; it sets the length, ``2 (bins - 1)`` samples, by which the impulse must have
        died away.

    Returns
    -------
    Pulse
        The impulse, on no converter's grid yet.
    """
    frames = 2 * (transfer.size - 1)
    frequency_hz: Floats = np.fft.rfftfreq(frames, 1 / rate_hz).astype(np.float64)
    spectrum = source(frequency_hz) * transfer * (rate_hz / max(length_m, 1.0))
    spectrum *= 10 ** (-absorption_db_m(frequency_hz, air) * length_m / 20)
    spectrum *= _band_limit(frequency_hz / rate_hz)
    return Pulse(arrival_s, spectrum)


def sampled(pulse: Pulse, at_sample: float) -> tuple[int, NDArray[np.float32]]:
    """Put an impulse on a converter's grid.

    Parameters
    ----------
    pulse : Pulse
        The impulse.
    at_sample : float
        The moment of its beginning, counted in the converter's samples; it need not fall on one.

    Returns
    -------
    first_index : int
        Index of the first sample; a little before `at_sample`, where the band limit rings.
    pressure_pa : numpy.ndarray, shape (frames,), float32
        Sound pressure [Pa].
    """
    whole, share = divmod(at_sample, 1)
    turn = -2j * np.pi * (LEAD_IN_SAMPLES + share) / (2 * (pulse.spectrum.size - 1))
    moved = pulse.spectrum * np.exp(turn * np.arange(pulse.spectrum.size))
    return int(whole) - LEAD_IN_SAMPLES, np.fft.irfft(moved).astype(np.float32)


def _band_limit(share: Floats) -> Floats:
    low, high = BAND_EDGE_SHARE
    fall = np.clip((share - low) / (high - low), 0, 1)
    kept: Floats = 0.5 * (1 + np.cos(np.pi * fall))
    return kept
