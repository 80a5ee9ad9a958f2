"""How likely a sensor hears a shot: by distance, noise, air and wind.

    level = 164 dB at 1 m - 31 dB a decade of distance - what this air absorbs more than Pittsburgh's - wind shadow
    heard = level + 11 dB of scatter (one sigma) is more than noise + what an onset needs over it

Level, decline and scatter are those of the Pittsburgh live fire by a likelihood that minds saturated and missed
arrivals; with the 57 dB of noise that put its threshold at 73 dB they give the shares that were heard there:

    | range, m | below 200 | 200-400 | 400-600 | 600-800 |
    |---|---|---|---|---|
    | heard there | 1.00 | .85 | .79 | .62 |
    | here, at the middle | .996 | .90 | .75 | .60 |

That was handguns on a winter night; rifles carry farther, suppressed weapons much less. The wind shadow is a ray that
bends up in a logarithmic wind over a suburb; how deep it gets between buildings nobody has measured, 15 dB is assumed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from agls.config import OnsetDetection, Weather
from agls.physics import sound_speed_m_s, vapour_pressure_pa, wind_vector_m_s

LEVEL_DB = 164.0  # of a handgun at 1 m, by the slope below; muzzle blasts measure 159-163 dB there
DECADE_DB = 31.0
SCATTER_DB = 11.0
NOISE_DB = 57.0
PULSE_HZ = 1_000.0  # where a muzzle blast still has its strength after some hundred metres
REFERENCE = Weather(temperature_c=0.0, humidity_percent=70.0)
SHEAR_PER_S = 0.067  # of a wind of 1 m/s at 10 m, between 2 and 10 m, over roughness of half a metre
SHOOTER_M, EAR_M = 1.5, 6.0  # above the ground
SHADOW_DB = 15.0
NEAREST_M = 1.0
PRESSURE_KPA = 101.325

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Hearing:
    """What decides whether a shot is heard.

    Attributes
    ----------
    weather : Weather
        The air.
    noise_db : float
        Noise at the sensors: about 45 at night in a suburb, 57 in a quiet city, 65 by day at a street [dB SPL].
    level_db : float
        Peak of the shot at 1 m [dB SPL].
    min_snr_db : float
        What an onset needs over the noise [dB].
    up_share : float
        Share of the time that a node is up.
    max_range_m : float
        Distance beyond which nothing counts [m].
    """

    weather: Weather
    noise_db: float = NOISE_DB
    level_db: float = LEVEL_DB
    min_snr_db: float = OnsetDetection().min_snr_db
    up_share: float = 1.0
    max_range_m: float = 2_000.0

    def probability(self, offset_m: Floats) -> Floats:
        """Compute how likely a shot is heard.

        Parameters
        ----------
        offset_m : numpy.ndarray, shape (..., 3)
            From the shot to the sensor: east, north, up [m].

        Returns
        -------
        numpy.ndarray, shape (...)
            Probabilities.
        """
        away_m = np.maximum(np.linalg.norm(offset_m, axis=-1), NEAREST_M)
        thicker_db_m = absorption_db_m(self.weather, PULSE_HZ) - absorption_db_m(REFERENCE, PULSE_HZ)
        level_db = self.level_db - DECADE_DB * np.log10(away_m) - thicker_db_m * away_m - self._shadow(offset_m, away_m)
        over = (level_db - self.noise_db - self.min_snr_db) / SCATTER_DB
        return np.asarray(np.where(away_m <= self.max_range_m, self.up_share * ndtr(over), 0.0))

    def _shadow(self, offset_m: Floats, away_m: Floats) -> Floats:
        """Compute what is lost upwind, where rays bend away from the ground [dB]."""
        wind = wind_vector_m_s(self.weather.wind_speed_m_s, self.weather.wind_from_deg)
        against_m_s = np.maximum(-(offset_m[..., :2] @ np.array(wind)) / away_m, 1e-3)
        speed = sound_speed_m_s(self.weather.temperature_c, self.weather.humidity_percent)
        reach = math.sqrt(2 * speed / SHEAR_PER_S) * (math.sqrt(SHOOTER_M) + math.sqrt(EAR_M))
        beyond = np.maximum(away_m * np.sqrt(against_m_s) / reach - 1.0, 0.0)
        return np.asarray(SHADOW_DB * -np.expm1(-beyond))

    def range_m(self, share: float = 0.5, downwind: float = 0.0) -> float:
        """Compute how far a shot is heard.

        Parameters
        ----------
        share : float, optional
            By what share of the sensors there.
        downwind : float, optional
            Which way: 1 with the wind, -1 against it, 0 across.

        Returns
        -------
        float
            Distance [m]; 0 where not even near ones hear so often.
        """
        wind = np.array(wind_vector_m_s(1.0, self.weather.wind_from_deg))
        across = np.array([-wind[1], wind[0]])
        way = downwind * wind + math.sqrt(max(1.0 - downwind**2, 0.0)) * across
        away_m = np.arange(1.0, self.max_range_m + 1.0)
        heard = self.probability(np.column_stack([away_m[:, None] * way, np.zeros(len(away_m))]))
        return float(away_m[heard >= share].max(initial=0.0))


def absorption_db_m(weather: Weather, frequency_hz: float) -> float:
    """Compute how much air absorbs.

    Parameters
    ----------
    weather : Weather
        Temperature and humidity.
    frequency_hz : float
        Of the sound [Hz].

    Returns
    -------
    float
        Attenuation [dB/m] at sea level.

    References
    ----------
    ISO 9613-1:1993, equations 3 to 5.
    """
    kelvin = weather.temperature_c + 273.15
    warmth = kelvin / 293.15
    water = weather.humidity_percent * vapour_pressure_pa(weather.temperature_c) / 1_000.0 / PRESSURE_KPA
    oxygen_hz = 24 + 4.04e4 * water * (0.02 + water) / (0.391 + water)
    nitrogen_hz = (9 + 280 * water * math.exp(-4.170 * (math.pow(warmth, -1 / 3) - 1))) / math.sqrt(warmth)
    relaxing = 0.01275 * math.exp(-2239.1 / kelvin) / (oxygen_hz + frequency_hz**2 / oxygen_hz)
    relaxing += 0.1068 * math.exp(-3352.0 / kelvin) / (nitrogen_hz + frequency_hz**2 / nitrogen_hz)
    return 8.686 * frequency_hz**2 * (1.84e-11 * math.sqrt(warmth) + math.pow(warmth, -2.5) * relaxing)
