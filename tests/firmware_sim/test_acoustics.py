"""The simulator's physics, against authorities that are not AGLS."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.signal import resample_poly

from firmware_sim import acoustics
from firmware_sim.acoustics import Air, Pulse
from firmware_sim.sounds import friedlander, on_grid

RATE_HZ = 48_000


@pytest.mark.parametrize(
    ("temperature_c", "humidity_percent", "speed_m_s"),
    # Cramer 1993 (JASA 93:2510), his equation 15 at 101.325 kPa and 400 ppm CO2.
    [(0, 0, 331.45), (20, 0, 343.36), (20, 50, 343.98), (30, 100, 351.47)],
)
def test_sound_speed_agrees_with_cramer(temperature_c: float, humidity_percent: float, speed_m_s: float) -> None:
    air = Air(temperature_c, humidity_percent, (0.0, 0.0, 0.0))
    assert acoustics.sound_speed_m_s(air) == pytest.approx(speed_m_s, abs=0.2)


@pytest.mark.parametrize(
    ("temperature_c", "humidity_percent", "db_km"),
    # ISO 9613-1 and 9613-2 table 2, at 250, 500, 1000, 2000, 4000 and 8000 Hz.
    [
        (10, 70, [1.0, 1.9, 3.7, 9.7, 32.8, 117]),
        (20, 70, [1.1, 2.8, 5.0, 9.0, 22.9, 76.6]),
        (15, 50, [1.2, 2.2, 4.2, 10.8, 36.2, 129]),
    ],
)
def test_absorption_agrees_with_the_standards_table(
    temperature_c: float, humidity_percent: float, db_km: list[float]
) -> None:
    octaves_hz = np.array([250.0, 500, 1000, 2000, 4000, 8000])
    found = acoustics.absorption_db_m(octaves_hz, Air(temperature_c, humidity_percent, (0.0, 0.0, 0.0))) * 1000
    assert found == pytest.approx(db_km, rel=0.06)


def test_wind_carries_sound_as_tracing_the_drifting_wavefront_does() -> None:
    air = Air(12.0, 70.0, (5.0, -8.0, 0.5))
    source, receiver = np.array([30.0, -50.0, 1.5]), np.array([-400.0, 620.0, 12.0])

    def behind_m(time_s: float) -> float:
        centre = source + np.array(air.wind_m_s) * time_s
        return float(np.linalg.norm(receiver - centre) - acoustics.sound_speed_m_s(air) * time_s)

    traced_s = brentq(behind_m, 0, 60, xtol=1e-14)
    assert acoustics.travel_time_s(source, receiver, air) == pytest.approx(traced_s, abs=1e-9)


@pytest.mark.parametrize("share", [1 / 16, 5 / 16, 13 / 16])
def test_a_delay_of_part_of_a_sample_is_what_a_finer_rate_shows_as_whole_samples(share: float) -> None:
    # Oracle: polyphase resampling of the undelayed pulse to 16 times the rate, shifted by whole fine samples.
    blast = on_grid(friedlander(100.0, 4e-4), 0.02, RATE_HZ)
    pulse = Pulse(0.01, np.fft.rfft(blast))
    first, still = acoustics.sampled(pulse, 480.0)
    later_first, later = acoustics.sampled(pulse, 480.0 + share)
    fine = np.roll(resample_poly(still.astype(float), 16, 1, window=("kaiser", 12.0)), round(share * 16))[::16]
    assert (first, later_first) == (480, 480)
    assert np.abs(later - fine).max() < 8e-3 * np.abs(still).max()


def test_wind_falls_towards_the_ground_as_the_logarithm_says() -> None:
    air = Air(15.0, 50.0, (8.0, 0.0, 0.0), roughness_m=0.5)
    assert acoustics.wind_share(air, 10.0) == pytest.approx(1.0)
    assert acoustics.wind_share(air, 2.0) == pytest.approx(np.log(4) / np.log(20))
    assert acoustics.wind_share(air, 0.1) == 0.0


def test_sound_bends_up_against_the_wind_and_in_the_sun_and_down_in_a_clear_night() -> None:
    windy, sunny, night = (
        Air(15.0, 50.0, (8.0, 0.0, 0.0), 0.5),
        Air(30.0, 50.0, (0, 0, 0), 0.5, -0.05),
        Air(5.0, 80.0, (0, 0, 0), 0.5, 0.1),
    )
    east, west = np.array([300.0, 0.0, 0.0]), np.array([-300.0, 0.0, 0.0])
    assert acoustics.bending_per_s(windy, west) == pytest.approx(-acoustics.bending_per_s(windy, east))
    assert acoustics.bending_per_s(windy, west) < 0
    assert acoustics.bending_per_s(sunny, east) == pytest.approx(-0.03)
    assert acoustics.bending_per_s(night, east) == pytest.approx(0.06)
