"""What a way does to sound besides its length: edges, facades, the ground, shadows, and what streets scatter.

Each is a factor on a spectrum, with the phase that keeps an effect behind its cause, so that nothing arrives before the
moment that geometry gives. Absorption alone is applied without phase: its classical part has no dispersion, and that
of the relaxations is under 0.1 % of the sound speed.
"""

import math

import numpy as np

from firmware_sim.acoustics import Complex, Floats

SCATTER_S, REVERB_S = 0.0167, 0.25  # in which scattered power falls to 1/e
BUILD_UP_S = 5e-3
TAIL_S = 0.68  # after which the reverberation is faded out
DIRECT_S = 5e-3  # the stretch of the first arrival that scattered power is measured against
CREEP = 1.0188  # first zero of the derivative of the Airy function: a wave that creeps along hard ground
TURBULENCE_DB = -25.0  # what eddies scatter into a shadow
TERMS = 24  # of the rational series for the error function; five digits


def bent_gain(frequency_hz: Floats, dull_above_hz: float) -> Complex:
    """Dull sound that comes over a roof or round a corner: 3 dB an octave, as a thin edge far into its shadow does.

    Parameters
    ----------
    frequency_hz : numpy.ndarray, shape (n,)
        Frequencies.
    dull_above_hz : float
        Where it begins.

    Returns
    -------
    numpy.ndarray, shape (n,), complex128
        Factors, 1 at low frequencies; behind a sharp front they fall as one over the root of time.

    References
    ----------
    Maekawa 1968, Noise reduction by screens, Applied Acoustics 1:157.
    """
    return np.asarray(1 / np.sqrt(1 + 1j * np.asarray(frequency_hz, float) / dull_above_hz), complex)


def edge_gain(frequency_hz: Floats, detour_m: float, speed_m_s: float) -> Complex:
    """Bend sound round an edge, into the shadow that it throws.

    Parameters
    ----------
    frequency_hz : numpy.ndarray, shape (n,)
        Frequencies.
    detour_m : float
        How much further the way over the edge is than the straight line.
    speed_m_s : float
        Of sound.

    Returns
    -------
    numpy.ndarray, shape (n,), complex128
        Factors, of amplitude ``1 / sqrt(3 + 20 N)`` within 1.5 dB, N being the detour in half wavelengths.

    References
    ----------
    Maekawa 1968, Noise reduction by screens, Applied Acoustics 1:157; the factor 3 + 20 N is ISO 9613-2's.
    """
    half_waves = 2 * detour_m / speed_m_s * np.asarray(frequency_hz, float)
    bent: Complex = 1 / np.sqrt(3 + 20j * half_waves)
    return bent


def shadow_gain(frequency_hz: Floats, depth_m: float, bending_per_s: float, speed_m_s: float) -> Complex:
    """Let sound creep into the shadow where the air bends its ways up from the ground.

    Parameters
    ----------
    frequency_hz : numpy.ndarray, shape (n,)
        Frequencies.
    depth_m : float
        How far into the shadow; 0 or less for not at all.
    bending_per_s : float
        Change of the sound speed with height, below 0.
    speed_m_s : float
        Of sound.

    Returns
    -------
    numpy.ndarray, shape (n,), complex128
        Factors.

    References
    ----------
    Pierce 1981, Acoustics, section 9-5: the leading term of the residue series over hard ground.
    """
    if depth_m <= 0 or bending_per_s >= 0:
        return np.ones(len(frequency_hz), complex)
    waves_per_m = 2 * np.pi * np.asarray(frequency_hz, float) / speed_m_s
    radius_m = speed_m_s / -bending_per_s
    creep = CREEP * (waves_per_m / (2 * radius_m**2)) ** (1 / 3) * depth_m
    floor = 10 ** (TURBULENCE_DB / 20)
    crept: Complex = (1 - floor) * np.exp(-creep * np.exp(1j * np.pi / 6)) + floor
    return crept


def ground_gain(
    frequency_hz: Floats, sin_grazing: float, length_m: float, hardness: float, speed_m_s: float
) -> Complex:
    """Reflect a spherical wave off ground with pores.

    Parameters
    ----------
    frequency_hz : numpy.ndarray, shape (n,)
        Frequencies.
    sin_grazing : float
        Sine of the angle between way and ground.
    length_m : float
        Whole length of the way.
    hardness : float
        The ground's flow resistivity [kPa s/m2]: 200 grass, 20,000 asphalt.
    speed_m_s : float
        Of sound.

    Returns
    -------
    numpy.ndarray, shape (n,), complex128
        Reflection factors.

    References
    ----------
    Delany and Bazley 1970 in Chessell's form for the impedance; Attenborough 1985 for the spherical wave.
    """
    frequency = np.maximum(np.asarray(frequency_hz, float), 1.0)
    share = frequency / hardness
    admittance = 1 / (1 + 9.08 * share**-0.75 + 11.9j * share**-0.73)
    plane = (sin_grazing - admittance) / (sin_grazing + admittance)
    distance = np.sqrt(1j * np.pi * frequency / speed_m_s * length_m) * (sin_grazing + admittance)
    surface = 1 + 1j * math.sqrt(math.pi) * distance * faddeeva(distance)
    # The literature's time factor is exp(-i w t), ours exp(+i w t).
    reflected: Complex = np.conj(plane + (1 - plane) * surface)
    return reflected


def faddeeva(z: Complex) -> Complex:
    """Compute ``exp(-z^2) erfc(-i z)`` in the upper half of the plane.

    Parameters
    ----------
    z : numpy.ndarray, shape (n,), complex128
        Where.

    Returns
    -------
    numpy.ndarray, shape (n,), complex128
        Its values.

    References
    ----------
    Weideman 1994, Computation of the complex error function, SIAM Journal on Numerical Analysis 31:1497.
    """
    scale = math.sqrt(TERMS / math.sqrt(2))
    angle = np.arange(-2 * TERMS + 1, 2 * TERMS) * np.pi / (2 * TERMS)
    t = scale * np.tan(angle / 2)
    sampled = np.concatenate([[0.0], np.exp(-(t**2)) * (scale**2 + t**2)])
    series = np.fft.fft(np.fft.fftshift(sampled)).real / (4 * TERMS)
    turned = (scale + 1j * z) / (scale - 1j * z)
    value = np.polyval(series[TERMS:0:-1], turned)
    result: Complex = 2 * value / (scale - 1j * z) ** 2 + 1 / math.sqrt(math.pi) / (scale - 1j * z)
    return result


def scattering(random: np.random.Generator, scatter_db: float, reverb_db: float, rate_hz: float, frames: int) -> Floats:
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
        How long.

    Returns
    -------
    numpy.ndarray, shape (frames,), float64
        What a click of one sample is followed by.
    """
    seconds = np.arange(frames) / rate_hz
    near = 10 ** (scatter_db / 10) * np.exp(-seconds / SCATTER_S)
    far = 10 ** (reverb_db / 10) * np.exp(-(seconds - 0.1) / REVERB_S)
    power = (near + far) * (1 - np.exp(-seconds / BUILD_UP_S)) / (DIRECT_S * rate_hz)
    power *= np.cos(np.pi / 2 * np.clip((np.arange(frames) / frames - 0.5) / 0.35, 0, 1)) ** 2  # gone before the end
    added: Floats = random.standard_normal(frames) * np.sqrt(power)
    return added
