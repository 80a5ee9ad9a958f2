"""N-waves told from blasts, in sounds of the simulator, which draws its own."""

import numpy as np
import pytest

from agls.config import OnsetDetection
from agls.messages import Block
from agls.sensor.onset import OnsetDetector
from firmware_sim.sounds import friedlander, n_wave


def taken_for(spectrum, rate_hz, rng, *, snr_db=32.0):
    """Hear a sound and its bounce off the ground, dulled a little, in white noise."""
    frames = rate_hz
    hertz = np.fft.rfftfreq(frames, 1 / rate_hz)
    paths = sum(share * np.exp(-2j * np.pi * hertz * at_s) for share, at_s in ((1.0, 0.4), (0.6, 0.4 + 4.2e-4)))
    dull = np.exp(-((2 * np.pi * hertz * 2e-5) ** 2) / 2) / (1 + (hertz / (0.46 * rate_hz)) ** 16)
    wave = np.fft.irfft(spectrum(hertz) * dull * paths, frames) * rate_hz
    wave += rng.normal(size=frames) * np.abs(wave).max() / 10 ** (snr_db / 20)
    detector = OnsetDetector(OnsetDetection(), 120.0)
    found = detector.feed(Block((0.3 * wave / np.abs(wave).max()).astype(np.float32), 0, float(rate_hz)))
    return [onset.wave for onset in found + detector.finish()][:1]


@pytest.mark.parametrize("length_s", [2e-4, 2.7e-4, 3.6e-4])
def test_an_n_wave_is_a_shock(length_s):
    assert taken_for(n_wave(1.0, length_s), 48_000, np.random.default_rng(1)) == ["shock"]


@pytest.mark.parametrize("tau_s", [3e-4, 5e-4, 1e-3])
def test_a_blast_is_no_shock(tau_s):
    assert taken_for(friedlander(1.0, tau_s), 48_000, np.random.default_rng(2)) in (["muzzle"], ["unknown"])


def test_a_short_blast_is_a_muzzle_blast():
    assert taken_for(friedlander(1.0, 3e-4), 48_000, np.random.default_rng(2)) == ["muzzle"]


def test_a_rate_at_which_they_look_alike_tells_nothing():
    assert taken_for(n_wave(1.0, 2.7e-4), 12_000, np.random.default_rng(3)) == ["unknown"]
