"""The air of the simulated city: how fast sound is, where it bends, what is swallowed; and sound on a converter's grid.

Nothing here comes from `agls`: a simulator that shared the solver's formulas would only prove that they equal
themselves. Sound speed is the ideal gas of moist air from its molar masses and heat capacities, wind is the exact
moving frame, absorption is ISO 9613-1. Sounds are kept in the frequency domain, where a delay of a fraction of a
sample is exact.
"""

import math
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
WIND_HEIGHT_M = 10.0  # at which a scene's wind is measured
WARMTH_M_S_C = 0.6  # change of the sound speed with temperature
SHEAR_BETWEEN_M = (2.0, 20.0)  # heights between which the sound speed's change bends sound


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
        Velocity of the air at 10 m, east, north and up: where it goes, not where it comes from.
    roughness_m : float
        Of the city, which slows the wind near the ground; 0 for a wind that is the same at every height.
    gradient_c_m : float
        By how much it is warmer each metre up; -0.01 on a fair afternoon, above 0 on a clear night.
    """

    temperature_c: float
    humidity_percent: float
    wind_m_s: tuple[float, float, float]
    roughness_m: float = 0.0
    gradient_c_m: float = 0.0


@dataclass(frozen=True, slots=True)
class Pulse:
    """One impulse as one microphone receives it.

    Attributes
    ----------
    time_s : float
        The true time of its first sample, since the scene began [s]; it is heard a little later.
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


def wind_share(air: Air, height_m: float) -> float:
    """Say how strong the wind is at a height, by the logarithmic profile.

    Parameters
    ----------
    air : Air
        The air.
    height_m : float
        Above the ground.

    Returns
    -------
    float
        Against that at 10 m.
    """
    if air.roughness_m <= 0:
        return 1.0
    return math.log(max(height_m / air.roughness_m, 1.0)) / math.log(WIND_HEIGHT_M / air.roughness_m)


def bending_per_s(air: Air, way_m: Floats) -> float:
    """Say by how much sound is faster each metre up, which bends its way down (above 0) or up (below).

    Parameters
    ----------
    air : Air
        The air.
    way_m : numpy.ndarray, shape (3,)
        Any vector along the way.

    Returns
    -------
    float
        Change of the sound's speed over the ground with height [m/s per m].
    """
    flat_m = math.hypot(way_m[0], way_m[1])
    along_m_s = (air.wind_m_s[0] * way_m[0] + air.wind_m_s[1] * way_m[1]) / flat_m if flat_m else 0.0
    low_m, high_m = SHEAR_BETWEEN_M
    shear = (wind_share(air, high_m) - wind_share(air, low_m)) / (high_m - low_m)
    return float(WARMTH_M_S_C * air.gradient_c_m + along_m_s * shear)


def travel_time_s(source_m: Floats, receiver_m: Floats, air: Air) -> float:
    """Compute how long sound takes on a straight leg, carried by the wind at the leg's mean height.

    Sound spreads as a sphere around a point that drifts with the air, so ``|receiver - source - wind t| = c t``. Where
    air bends sound down, its way arches above the straight line, into stronger wind: two thirds of the arch on average.

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
    speed = sound_speed_m_s(air)
    arch_m = float(way @ way) * max(bending_per_s(air, way), 0.0) / (8 * speed)
    height_m = float(source_m[2] + receiver_m[2]) / 2 + arch_m * 2 / 3
    wind = np.asarray(air.wind_m_s) * wind_share(air, height_m)
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


def sampled(pulse: Pulse, at_sample: float) -> tuple[int, NDArray[np.float32]]:
    """Put an impulse on a converter's grid.

    Parameters
    ----------
    pulse : Pulse
        The impulse.
    at_sample : float
        Its `time_s`, counted in the converter's samples; it need not fall on one.

    Returns
    -------
    first_index : int
        Index of the first sample.
    pressure_pa : numpy.ndarray, shape (frames,), float32
        Sound pressure [Pa].
    """
    whole, share = divmod(at_sample, 1)
    frames = 2 * (pulse.spectrum.size - 1)
    turn = -2j * np.pi * share / frames
    moved = pulse.spectrum * np.exp(turn * np.arange(pulse.spectrum.size))
    return int(whole), np.fft.irfft(moved, frames).astype(np.float32)


def even_frames(least: int) -> int:
    """Round a length up to one that is transformed quickly.

    Parameters
    ----------
    least : int
        Frames needed.

    Returns
    -------
    int
        A power of two, or three quarters of one.
    """
    power = 1 << max(6, (least - 1).bit_length())
    return power * 3 // 4 if power * 3 // 4 >= least else power
