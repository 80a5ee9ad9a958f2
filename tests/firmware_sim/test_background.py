"""What a microphone hears beside impulses."""

import msgspec
import numpy as np
import pytest

from agls.config import Origin
from firmware_sim.background import Background
from firmware_sim.city import Street
from firmware_sim.scene import Device, Ear, Scene, street_noise_db
from firmware_sim.sources import Noise

RATE_HZ = 48_000
QUIET = Scene(
    name="quiet",
    duration_s=20.0,
    origin=Origin(latitude_deg=0.0, longitude_deg=0.0),
    sensor=(Ear(sensor_id="here", x_m=0.0, y_m=30.0, z_m=5.0),),
    device=Device(noise_db=30.0),
)


def heard(scene: Scene, seconds: float = 8.0) -> np.ndarray:
    return Background(scene, scene.sensor[0]).pressure_pa(0, round(seconds * RATE_HZ)).astype(float)


def level_db(pressure: np.ndarray) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(pressure**2)) / 20e-6))


def with_noise(**fields) -> Scene:
    return msgspec.structs.replace(QUIET, noise=(Noise(noise_id="n", **fields),))


@pytest.mark.parametrize("kind", ["traffic", "rain", "wind"])
def test_noise_that_is_everywhere_has_the_level_asked_for(kind: str) -> None:
    assert level_db(heard(with_noise(kind=kind, level_db=70.0), 16.0)) == pytest.approx(70.0, abs=2.5)


@pytest.mark.parametrize("kind", ["siren", "helicopter", "music"])
def test_noise_from_a_place_falls_with_distance(kind: str) -> None:
    near, far = (
        heard(with_noise(kind=kind, level_db=100.0, x_m=0.0, y_m=30.0 + away, z_m=5.0)) for away in (10.0, 100.0)
    )
    assert level_db(near) == pytest.approx(80.0, abs=2.0)
    assert level_db(far) == pytest.approx(60.0, abs=2.0)


def test_rain_hisses_and_wind_rumbles() -> None:
    def middle_hz(kind: str) -> float:
        power = np.abs(np.fft.rfft(heard(with_noise(kind=kind, level_db=70.0)))) ** 2
        return float(np.searchsorted(np.cumsum(power), power.sum() / 2) / 8.0)

    assert middle_hz("wind") < 60 < middle_hz("traffic") < 1_500 < middle_hz("rain")


def test_a_siren_that_comes_is_higher_than_one_that_goes() -> None:
    def pitch_hz(speed_m_s: float) -> float:
        scene = with_noise(kind="helicopter", level_db=120.0, y_m=-400.0, north_m_s=speed_m_s)
        spectrum = np.abs(np.fft.rfft(heard(scene) * np.hanning(8 * RATE_HZ)))
        low, high = 8 * 8, 22 * 8
        return float(np.argmax(spectrum[low:high]) + low) / 8.0

    assert pitch_hz(40.0) / pitch_hz(-40.0) == pytest.approx(343 / 303 * 383 / 343, rel=0.03)


def test_a_noise_begins_and_ends_when_asked() -> None:
    pressure = heard(with_noise(kind="music", level_db=100.0, y_m=20.0, start_s=2.0, end_s=5.0))
    seconds = np.split(pressure, 8)
    assert [level_db(second) > 60 for second in seconds] == [False, False, True, True, True, False, False, False]


def test_traffic_is_louder_beside_its_street() -> None:
    def beside_db(away_m: float) -> float:
        outline = ((-200.0, 30 - away_m - 10), (200.0, 30 - away_m - 10), (200.0, 30 - away_m), (-200.0, 30 - away_m))
        return level_db(
            heard(msgspec.structs.replace(QUIET, street=(Street(street_id="s", outline_m=outline, traffic_db=70.0),)))
        )

    assert beside_db(10.0) == pytest.approx(70.0, abs=2.0)
    assert beside_db(10.0) - beside_db(100.0) == pytest.approx(10.0, abs=0.5)


def test_however_it_is_cut_it_is_the_same() -> None:
    scene = msgspec.structs.replace(
        QUIET, noise=(Noise(noise_id="a", kind="rain", level_db=50.0), Noise(noise_id="b", kind="siren", level_db=90.0))
    )
    whole, parts = heard(scene, 3.0), Background(scene, scene.sensor[0])
    cut = np.concatenate([parts.pressure_pa(first, 7_001) for first in range(0, 2 * RATE_HZ, 7_001)])
    assert np.abs(cut - whole[: cut.size]).max() < 1e-6


def test_streets_are_as_unlike_in_noise_as_is_asked_and_keep_their_own() -> None:
    uneven = msgspec.structs.replace(QUIET, device=Device(noise_db=50.0, noise_sigma_db=6.0))
    ears = [Ear(sensor_id=f"s{k}", x_m=10.0 * k, y_m=0.0) for k in range(200)]
    asked_db = np.array([street_noise_db(uneven, ear) for ear in ears])
    assert asked_db.mean() == pytest.approx(50.0, abs=1.5)
    assert asked_db.std() == pytest.approx(6.0, rel=0.15)
    for ear, told_db in zip(ears[:3], asked_db[:3], strict=True):
        pressure_pa = Background(uneven, ear).pressure_pa(0, RATE_HZ)
        assert level_db(pressure_pa.astype(float)) == pytest.approx(told_db, abs=0.7)
