"""The simulator's physics, against authorities that are not AGLS."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.signal import resample_poly

from firmware_sim import acoustics
from firmware_sim.acoustics import Air, Spectrum

RATE_HZ = 48_000
STILL = Air(20.0, 50.0, (0.0, 0.0, 0.0))


@dataclass
class Heard:
    first_index: int
    pressure_pa: np.ndarray


def received(source: Spectrum, arrival_s: float, length_m: float, frames: int = 4096) -> Heard:
    free = np.ones(frames // 2 + 1, complex)
    pulse = acoustics.received_pulse(source, arrival_s, length_m, STILL, RATE_HZ, free)
    return Heard(*acoustics.sampled(pulse, arrival_s * RATE_HZ))


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


def test_a_delay_of_part_of_a_sample_is_what_a_finer_rate_shows_as_whole_samples() -> None:
    # Oracle: polyphase resampling of the undelayed pulse to 16 times the rate, shifted by whole fine samples.
    source = acoustics.friedlander(100.0, 4e-4)
    still = received(source, 0.01, 300.0).pressure_pa
    for sixteenths in (1, 5, 13):
        later = received(source, 0.01 + sixteenths / 16 / RATE_HZ, 300.0)
        fine = np.roll(resample_poly(still.astype(float), 16, 1, window=("kaiser", 12.0)), sixteenths)[::16]
        assert np.abs(later.pressure_pa - fine).max() < 2e-3 * np.abs(still).max()


def test_a_pulse_begins_at_its_arrival_and_has_the_shape_of_a_blast() -> None:
    pulse = received(acoustics.friedlander(100.0, 1e-3), 0.5, 1.0)
    seconds = (pulse.first_index + np.arange(pulse.pressure_pa.size)) / RATE_HZ - 0.5
    blast = np.where(seconds >= 0, 100 * (1 - seconds / 1e-3) * np.exp(-seconds / 1e-3), 0.0)
    away_from_the_edge = np.abs(seconds) > 3e-4
    assert np.abs(pulse.pressure_pa - blast)[away_from_the_edge].max() < 1.5


def test_pressure_falls_with_distance_as_on_a_sphere_where_air_swallows_nothing() -> None:
    near, far = (received(acoustics.friedlander(100.0, 5e-3), 0.1, length_m, 8192) for length_m in (10.0, 20.0))
    # The slow negative phase holds only low frequencies, which lose under 0.01 dB over this way.
    assert near.pressure_pa.min() / far.pressure_pa.min() == pytest.approx(2.0, rel=5e-3)


def test_distance_dulls_a_blast() -> None:
    spectra = [
        np.abs(np.fft.rfft(received(acoustics.friedlander(100.0, 4e-4), 0.1, length_m).pressure_pa))
        for length_m in (1.0, 501.0)
    ]
    lost_db = 20 * np.log10(spectra[0] / spectra[1]) - 20 * np.log10(501)
    at = np.round(np.array([1000, 4000]) / RATE_HZ * 4096).astype(int)
    assert lost_db[at] == pytest.approx([2.33, 14.9], abs=0.3)


def test_struck_things_sound_as_their_tones_added_up() -> None:
    tones_hz, weights = np.array([150.0, 410.0]), np.array([1.0, 3.0])
    struck = acoustics.modes(8.0, tones_hz, weights, attack_s=4e-3, decay_s=0.03)
    pulse = received(struck, 0.0, 1.0, 32_768)
    seconds = (pulse.first_index + np.arange(32_768)) / RATE_HZ
    fade = np.exp(-seconds / 0.03) - np.exp(-seconds / 4e-3)
    tones = 2.0 * np.sin(2 * np.pi * 150 * seconds) + 6.0 * np.sin(2 * np.pi * 410 * seconds)
    assert np.abs(pulse.pressure_pa - np.where(seconds >= 0, tones * fade, 0)).max() < 0.02


def test_a_street_scatters_as_much_as_asked_and_it_dies_away() -> None:
    drawn = [acoustics.scattering(np.random.default_rng(seed), -4.0, -19.0, RATE_HZ, 32_768) for seed in range(40)]
    power = np.mean([np.fft.irfft(one, 32_768) ** 2 for one in drawn], axis=0)
    level_db = [10 * np.log10(power[round(ms * 48) :][:480].mean() * RATE_HZ * 5e-3) for ms in (15, 95, 300, 670)]
    assert level_db[:3] == pytest.approx([-9.3, -18.9, -23.8], abs=1.5)
    assert level_db[3] < -50


def test_an_edge_dulls_three_decibel_an_octave_and_spares_the_bass() -> None:
    gain_db = 20 * np.log10(acoustics.bent_gain(np.array([20.0, 8_000.0, 16_000.0]), 500.0))
    assert gain_db[0] == pytest.approx(0.0, abs=0.2)
    assert gain_db[1] - gain_db[2] == pytest.approx(3.0, abs=0.2)
