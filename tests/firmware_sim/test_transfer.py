"""What ways do to sound, against authorities that are not AGLS."""

import numpy as np
import pytest
from scipy.special import wofz

from firmware_sim import transfer

OCTAVES_HZ = np.array([63.0, 125, 250, 500, 1000, 2000, 4000, 8000])


def test_a_city_dulls_three_decibel_an_octave_and_spares_the_bass() -> None:
    gain_db = 20 * np.log10(np.abs(transfer.bent_gain(np.array([20.0, 8_000.0, 16_000.0]), 500.0)))
    assert gain_db[0] == pytest.approx(0.0, abs=0.2)
    assert gain_db[1] - gain_db[2] == pytest.approx(3.0, abs=0.2)


@pytest.mark.parametrize("detour_m", [0.0, 0.01, 0.3, 5.0])
def test_an_edge_takes_what_maekawa_measured(detour_m: float) -> None:
    maekawa_db = 10 * np.log10(3 + 20 * 2 * detour_m * OCTAVES_HZ / 340)
    found_db = -20 * np.log10(np.abs(transfer.edge_gain(OCTAVES_HZ, detour_m, 340.0)))
    assert found_db == pytest.approx(maekawa_db, abs=1.6)


@pytest.mark.parametrize(
    "dulled", [lambda f: transfer.bent_gain(f, 300.0), lambda f: transfer.edge_gain(f, 2.0, 340.0)]
)
def test_nothing_arrives_before_its_time(dulled) -> None:
    frequency_hz = np.fft.rfftfreq(8192, 1 / 48_000)
    band = np.exp(-((frequency_hz / 6_000) ** 2))
    click = np.fft.irfft(dulled(frequency_hz) * band * np.exp(-2j * np.pi * frequency_hz * 2048 / 48_000))
    assert np.sum(click[: 2048 - 20] ** 2) < 2e-3 * np.sum(click**2)


def test_the_error_function_agrees_with_scipy_over_the_upper_half_plane() -> None:
    x, y = np.meshgrid(np.linspace(-12, 12, 49), np.linspace(0, 12, 25))
    z = (x + 1j * y).ravel()
    assert np.abs(transfer.faddeeva(z) / wofz(z) - 1).max() < 1e-4


def test_hard_ground_doubles_and_grass_far_away_swallows() -> None:
    asphalt = transfer.ground_gain(OCTAVES_HZ, 0.05, 100.0, 1e6, 340.0)
    assert np.abs(asphalt - 1)[:5].max() < 0.15
    grass = np.abs(1 + transfer.ground_gain(OCTAVES_HZ, 0.004, 800.0, 200.0, 340.0))
    assert 20 * np.log10(grass[3]) < -6  # the ground dip of open country
    assert grass[0] > 1


def test_a_shadow_deepens_with_frequency_and_distance_until_eddies_fill_it() -> None:
    shallow = 20 * np.log10(np.abs(transfer.shadow_gain(OCTAVES_HZ, 50.0, -0.08, 340.0)))
    deep = 20 * np.log10(np.abs(transfer.shadow_gain(OCTAVES_HZ, 2_000.0, -0.08, 340.0)))
    assert (np.diff(shallow) < 0).all()
    assert (shallow[2:] > deep[2:]).all()
    assert deep[-3:] == pytest.approx([transfer.TURBULENCE_DB] * 3, abs=0.5)
    assert np.abs(transfer.shadow_gain(OCTAVES_HZ, 0.0, -0.08, 340.0)) == pytest.approx(np.ones(8))


def test_a_street_scatters_as_much_as_asked_and_it_dies_away() -> None:
    drawn = [transfer.scattering(np.random.default_rng(seed), -4.0, -19.0, 48_000, 32_768) for seed in range(40)]
    power = np.mean([one**2 for one in drawn], axis=0)
    level_db = [10 * np.log10(power[round(ms * 48) :][:480].mean() * 48_000 * 5e-3) for ms in (15, 95, 300, 670)]
    assert level_db[:3] == pytest.approx([-9.3, -18.9, -23.8], abs=1.5)
    assert level_db[3] < -50
