"""Sounds at 1 m: each has the shape and the level that it is said to have."""

import numpy as np
import pytest

from firmware_sim.acoustics import LEAD_IN_SAMPLES, REFERENCE_PA
from firmware_sim.sounds import friedlander, modes, n_wave, on_grid, sound_of, sounded
from firmware_sim.sources import BANG_DB, Bang, Emission, Shooter

RATE_HZ = 48_000.0


def seconds(pressure: np.ndarray) -> np.ndarray:
    return (np.arange(pressure.size) - LEAD_IN_SAMPLES) / RATE_HZ


def test_a_blast_has_friedlanders_shape() -> None:
    pressure = on_grid(friedlander(100.0, 1e-3), 0.03, RATE_HZ)
    since = seconds(pressure)
    blast = np.where(since >= 0, 100 * (1 - since / 1e-3) * np.exp(-since / 1e-3), 0.0)
    assert np.abs(pressure - blast)[np.abs(since) > 3e-4].max() < 1.5


def test_a_shock_goes_up_at_once_evenly_down_and_up_at_once() -> None:
    pressure = on_grid(n_wave(50.0, 2e-3), 0.02, RATE_HZ)
    since = seconds(pressure)
    wave = np.where((since >= 0) & (since < 2e-3), 50 * (1 - since / 1e-3), 0.0)
    away_from_edges = (np.abs(since) > 2e-4) & (np.abs(since - 2e-3) > 2e-4)
    assert np.abs(pressure - wave)[away_from_edges].max() < 2.0


def test_struck_things_sound_as_their_tones_added_up() -> None:
    struck = modes(8.0, np.array([150.0, 410.0]), np.array([1.0, 3.0]), attack_s=4e-3, decay_s=0.03)
    pressure = on_grid(struck, 0.5, RATE_HZ)
    since = seconds(pressure)
    fade = np.exp(-since.clip(0) / 0.03) - np.exp(-since.clip(0) / 4e-3)
    tones = 2.0 * np.sin(2 * np.pi * 150 * since) + 6.0 * np.sin(2 * np.pi * 410 * since)
    assert np.abs(pressure - np.where(since >= 0, tones * fade, 0)).max() < 0.02


@pytest.mark.parametrize("kind", BANG_DB)
def test_every_bang_is_as_loud_as_said_and_dies_away(kind: str) -> None:
    peaks_db = []
    for number in range(6):
        emission = Emission(0.0, (0.0, 0.0, 1.5), Bang(bang_id="b", kind=kind, x_m=0.0, y_m=0.0, start_s=0.0), number)
        sound = sound_of(emission, np.random.default_rng(number))
        pressure = np.abs(sounded(sound, RATE_HZ))
        peaks_db.append(20 * np.log10(pressure.max() / REFERENCE_PA))
        assert pressure[-200:].max() < 0.05 * pressure.max()
        assert pressure[: LEAD_IN_SAMPLES - 30].max() < 0.05 * pressure.max()
    assert np.mean(peaks_db) == pytest.approx(BANG_DB[kind], abs=1.5)


def test_rounds_of_one_weapon_scatter_by_about_a_decibel() -> None:
    shooter = Shooter(shooter_id="s", x_m=0.0, y_m=0.0, start_s=0.0, weapon="9mm")
    levels_db = [
        sound_of(Emission(0.0, (0.0, 0.0, 1.5), shooter), np.random.default_rng(seed)).level_db for seed in range(200)
    ]
    assert np.mean(levels_db) == pytest.approx(160.5, abs=0.3)
    assert np.std(levels_db) == pytest.approx(1.0, abs=0.15)
