"""The shock of a bullet that is faster than sound: where on its flight it leaves for a microphone, and how it sounds.

Of all points of the flight the shock heard first is the one whose sound arrives at the same time as that of its
neighbours (Fermat). Where there is none - behind the cone of the muzzle, or beyond where the bullet stops or falls
below the speed of sound - no shock is heard.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from firmware_sim.acoustics import SEA_LEVEL_KPA, Air, Floats, Spectrum, sound_speed_m_s, travel_time_s
from firmware_sim.city import City, clear, flight_m, mirrored_ears
from firmware_sim.sounds import n_wave
from firmware_sim.sources import WEAPONS, Shooter, Weapon, muzzle

HALVINGS = 48
LEAST_MACH = 1.01  # below which a shock is none
NEAREST_M = 0.3  # Whitham's formula is for far away


@dataclass(frozen=True, slots=True, eq=False)
class Shock:
    """A shock as a microphone hears it.

    Attributes
    ----------
    delay_s : float
        From the shot to its arrival [s].
    length_m : float
        Way of the sound, without the bullet's flight.
    points_m : numpy.ndarray, shape (points, 3)
        Muzzle, the point of the flight that it comes from, the facade or ground that reflects it if any, microphone.
    spectrum : Spectrum
        Its pressure at the microphone, before the air swallows any.
    """

    delay_s: float
    length_m: float
    points_m: Floats
    spectrum: Spectrum


def shocks(
    shooter: Shooter, place_m: tuple[float, float, float], ear_m: Floats, city: City, air: Air
) -> Iterator[Shock]:
    """Find the shocks of one round at a microphone: straight, and off the ground and one facade.

    Parameters
    ----------
    shooter : Shooter
        Who fires; with a direction.
    place_m : tuple of float, shape (3,)
        Where.
    ear_m : numpy.ndarray, shape (3,)
        The microphone.
    city : City
        The city, which stops bullets, and sound.
    air : Air
        The air.

    Yields
    ------
    Shock
        Each that no building stands in the way of.
    """
    weapon, speed = WEAPONS[shooter.weapon], sound_speed_m_s(air)
    start, along = np.array(place_m), np.array(muzzle(shooter))
    end_m = _heard_until_m(shooter, weapon, start, along, city, speed)
    for mirror in mirrored_ears(city, ear_m) if end_m > 0 else ():
        leaves_m = _leaves_m(weapon, along, mirror.image_m - start, end_m, speed)
        leaves = start + leaves_m * along
        points = mirror.way(leaves)
        if leaves_m <= 0 or len(points) < 2 or not clear(city, np.stack([points[:-1], points[1:]], axis=1)).all():
            continue
        flown_s = math.expm1(weapon.drag_per_m * leaves_m) / (weapon.drag_per_m * weapon.speed_m_s)
        sound_s = sum(travel_time_s(a, b, air) for a, b in pairwise(points))
        missed_m = float(np.linalg.norm(np.cross(mirror.image_m - start, along)))
        mach = weapon.speed_m_s * math.exp(-weapon.drag_per_m * leaves_m) / speed
        wave, length_m = whitham(weapon, mach, missed_m, speed), float(np.linalg.norm(mirror.image_m - leaves))
        # Whitham's bullet keeps its speed. One that slows down sends its rays ever more forward, so that they part.
        parting = 1 + length_m * weapon.drag_per_m * mach / (mach**2 - 1)
        kept = 10 ** (-mirror.loss_db / 20) / math.sqrt(parting)
        yield Shock(flown_s + sound_s, length_m, np.vstack([start, points]), n_wave(kept * wave[0], wave[1]))


def whitham(weapon: Weapon, mach: float, missed_m: float, speed_m_s: float) -> tuple[float, float]:
    """Compute a shock's strength beside a bullet's flight.

    Parameters
    ----------
    weapon : Weapon
        Whose bullet.
    mach : float
        Its speed in speeds of sound.
    missed_m : float
        By how much it misses the microphone.
    speed_m_s : float
        Of sound.

    Returns
    -------
    peak_pa : float
        Overpressure [Pa].
    duration_s : float
        Of the N [s].

    References
    ----------
    Whitham 1952, The flow pattern of a supersonic projectile, Communications on Pure and Applied Mathematics 5:301.
    """
    missed, beyond = max(missed_m, NEAREST_M), mach**2 - 1
    slender = weapon.calibre_m / weapon.bullet_m**0.25
    peak = 0.53 * SEA_LEVEL_KPA * 1_000 * slender * beyond**0.125 / missed**0.75
    return peak, 1.82 * slender * mach * missed**0.25 / (speed_m_s * beyond**0.375)


def _heard_until_m(
    shooter: Shooter, weapon: Weapon, start_m: Floats, along: Floats, city: City, speed_m_s: float
) -> float:
    """Say how far the bullet flies faster than sound before anything stops it."""
    if weapon.speed_m_s <= LEAST_MACH * speed_m_s:
        return 0.0
    slows_m = math.log(weapon.speed_m_s / (LEAST_MACH * speed_m_s)) / weapon.drag_per_m
    falls_m = start_m[2] / -along[2] if along[2] < 0 else math.inf
    reach_m = min(shooter.flies_m, slows_m, falls_m)
    return flight_m(city, start_m, start_m + reach_m * along)


def _leaves_m(weapon: Weapon, along: Floats, ear_m: Floats, end_m: float, speed_m_s: float) -> float:
    """Find where on the flight the shock leaves for a microphone; 0 where nowhere."""
    ahead = float(ear_m @ along)
    aside_square = max(float(ear_m @ ear_m) - ahead**2, NEAREST_M**2)

    def _slope(flown_m: float) -> float:
        left = ahead - flown_m
        slowness = math.exp(weapon.drag_per_m * flown_m) / weapon.speed_m_s
        return slowness - left / math.sqrt(left**2 + aside_square) / speed_m_s

    low, high = 0.0, end_m
    if not _slope(low) < 0 < _slope(high):
        return 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _slope(middle) < 0 else (low, middle)
    return low
