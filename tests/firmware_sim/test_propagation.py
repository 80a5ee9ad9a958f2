"""What reaches a microphone: times, levels and the ways that explain them."""

import msgspec
import numpy as np
import pytest

from agls.config import Origin
from firmware_sim.acoustics import sampled
from firmware_sim.city import Building
from firmware_sim.propagation import arrival_s, pulses, ways
from firmware_sim.scene import Air, Device, Ear, Scene, Ways, emissions
from firmware_sim.sources import Bang, Shooter

DRY = Ways(
    late_s=0.0,
    gust_s=0.0,
    fade_db=0.0,
    echoes_count=0,
    loss_db=0.0,
    loss_sigma_db=0.0,
    scatter_db=-120.0,
    reverb_db=-120.0,
    dull_above_hz=1e6,
)
RATE_HZ = 48_000
FIELD = Scene(
    name="field",
    seed=5,
    duration_s=6.0,
    origin=Origin(latitude_deg=0.0, longitude_deg=0.0),
    sensor=(Ear(sensor_id="near", x_m=50.0, y_m=0.0), Ear(sensor_id="far", x_m=0.0, y_m=600.0)),
    shooter=(Shooter(shooter_id="one", x_m=0.0, y_m=0.0, start_s=1.0, rounds_count=2),),
    air=Air(temperature_c=12.0, humidity_percent=70.0),
    ways=DRY,
    device=Device(noise_db=30.0),
)
TOWN = tuple(
    Building(building_id=f"b{i}{j}", outline_m=((x, y), (x + 40, y), (x + 40, y + 40), (x, y + 40)), height_m=14.0)
    for i, x in enumerate((-110.0, -50.0, 10.0, 70.0))
    for j, y in enumerate((10.0, 70.0, 130.0))
)


def changed(scene: Scene, **fields: object) -> Scene:
    return msgspec.structs.replace(scene, **fields)


def heard(scene: Scene, ear: Ear) -> np.ndarray:
    pressure = np.zeros(round(scene.duration_s * RATE_HZ) + 4 * RATE_HZ)
    for pulse in pulses(scene, ear):
        first, samples = sampled(pulse, pulse.time_s * RATE_HZ)
        pressure[first : first + samples.size] += samples
    return pressure


def first_above(pressure: np.ndarray, share: float) -> float:
    return float(np.argmax(np.abs(pressure) > share * np.abs(pressure).max())) / RATE_HZ


@pytest.mark.parametrize("ear", FIELD.sensor, ids=lambda ear: ear.sensor_id)
def test_a_shot_is_heard_when_its_first_way_says_and_as_loud(ear: Ear) -> None:
    one = changed(FIELD, shooter=(msgspec.structs.replace(FIELD.shooter[0], rounds_count=1),))
    pressure, found = heard(one, ear), ways(one, ear, emissions(one)[0])
    assert [way.kind for way in found] == ["direct", "bounce"]
    assert first_above(pressure, 0.5) == pytest.approx(arrival_s(one, ear, emissions(one)[0]), abs=2.5e-4)
    alone_db = 20 * np.log10(np.abs(pressure).max() / 20e-6)
    assert found[0].level_db - 0.5 < alone_db < found[0].level_db + 6.1


def test_levels_fall_as_a_sphere_spreads_and_air_swallows() -> None:
    levels_db = [ways(FIELD, ear, emissions(FIELD)[0])[0].level_db for ear in FIELD.sensor]
    assert levels_db[0] == pytest.approx(160.5 - 34.0, abs=3.0)
    assert 20 * np.log10(12) < levels_db[0] - levels_db[1] < 20 * np.log10(12) + 6


def test_a_city_that_is_not_drawn_takes_more_on_a_longer_way() -> None:
    lossy = changed(FIELD, ways=msgspec.structs.replace(DRY, loss_db=3.0, loss_db_km=20.0))
    for ear, loss_db in zip(FIELD.sensor, (3.0 + 1.0, 3.0 + 12.0), strict=True):
        open_db, lost_db = (ways(scene, ear, emissions(scene)[0])[0].level_db for scene in (FIELD, lossy))
        assert open_db - lost_db == pytest.approx(loss_db, abs=0.1)


def test_echoes_off_what_is_not_drawn_are_as_much_weaker_than_the_first_arrival_as_is_asked() -> None:
    asked = msgspec.structs.replace(DRY, echoes_count=40, echo_loss_db=10.0, echo_sigma_db=0.0, loss_db=15.0)
    scene = changed(FIELD, ways=asked)
    found = ways(scene, scene.sensor[1], emissions(scene)[0])
    echoes = [way for way in found if way.kind == "echo"]
    assert len(echoes) == 40
    for echo in echoes:
        spread_db = 20 * np.log10(echo.length_m / found[0].length_m)
        assert found[0].level_db - echo.level_db == pytest.approx(10.0 + spread_db, abs=0.5)


def test_a_shooter_is_louder_in_front_than_behind_and_a_bystander_hears_between() -> None:
    ears = [Ear(sensor_id=name, x_m=x, y_m=y) for name, x, y in (("f", 0, 100), ("l", -100, 0), ("b", 0, -100))]
    aimed = changed(
        FIELD, shooter=(Shooter(shooter_id="one", weapon="45acp", x_m=0.0, y_m=0.0, start_s=1.0, towards_deg=0.0),)
    )
    front, left, behind = (ways(aimed, ear, emissions(aimed)[0])[0].level_db for ear in ears)
    assert front - behind == pytest.approx(10.0, abs=0.2)
    assert left == pytest.approx((front + behind) / 2, abs=0.2)


def test_each_arrival_in_the_pressure_is_one_of_the_ways() -> None:
    town = changed(
        FIELD, building=TOWN, shooter=(Shooter(shooter_id="one", x_m=-20.0, y_m=5.0, start_s=1.0, level_db=180.0),)
    )
    ear = Ear(sensor_id="street", x_m=64.0, y_m=3.0, z_m=5.0)
    pressure, found = heard(town, ear), ways(town, ear, emissions(town)[0])
    assert {way.kind for way in found} >= {"direct", "bounce", "echo"}
    steep = np.abs(np.diff(pressure))
    loud = np.flatnonzero(steep > 0.25 * steep.max()) / RATE_HZ
    explained = [min(abs(at - way.toa_s) for way in found) for at in loud]
    assert max(explained) < 1.5e-3


def test_behind_buildings_a_shot_is_late_weak_and_dull() -> None:
    ear = Ear(sensor_id="behind", x_m=-60.0, y_m=115.0, z_m=3.0)
    free = changed(FIELD, shooter=(Shooter(shooter_id="one", x_m=5.0, y_m=0.0, start_s=1.0),))
    town = changed(free, building=TOWN)
    made = emissions(free)[0]
    assert {way.kind for way in ways(town, ear, made)} == {"diffracted"}
    assert 1e-3 < arrival_s(town, ear, made) - arrival_s(free, ear, made) < 0.1
    assert ways(free, ear, made)[0].level_db - max(way.level_db for way in ways(town, ear, made)) > 8
    spectra = [np.abs(np.fft.rfft(heard(scene, ear))) for scene in (free, town)]
    lost_db = [
        20 * np.log10(spectra[0][band].mean() / spectra[1][band].mean())
        for band in (slice(600, 3_000), slice(30_000, 60_000))
    ]
    assert lost_db[1] > lost_db[0] + 5


def test_the_path_term_is_common_to_all_shots_of_a_place_and_scatters_by_what_is_asked() -> None:
    ears = tuple(Ear(sensor_id=f"s{n}", x_m=100.0 + n, y_m=50.0) for n in range(60))
    late = changed(FIELD, sensor=ears, ways=msgspec.structs.replace(DRY, late_s=0.008))
    first, second = emissions(late)
    lates_s = np.array([arrival_s(late, ear, first) - arrival_s(FIELD, ear, first) for ear in ears])
    again_s = np.array([arrival_s(late, ear, second) - arrival_s(FIELD, ear, second) for ear in ears])
    assert lates_s == pytest.approx(again_s, abs=1e-12)
    assert lates_s.min() >= 0
    assert 6e-3 < lates_s.std() < 10e-3


def test_moving_air_makes_shots_of_a_place_differ_by_a_millisecond() -> None:
    one = msgspec.structs.replace(FIELD.shooter[0], rounds_count=200, cadence_s=1.0)
    gusty = changed(FIELD, duration_s=300.0, shooter=(one,), ways=msgspec.structs.replace(DRY, gust_s=0.001))
    ear = FIELD.sensor[0]
    delays_s = np.array([arrival_s(gusty, ear, made) - made.time_s for made in emissions(gusty)])
    assert delays_s.std() == pytest.approx(1e-3, rel=0.15)
    assert ways(gusty, ear, emissions(gusty)[3])[0].toa_s == arrival_s(gusty, ear, emissions(gusty)[3])


def test_moving_air_makes_a_shot_louder_at_one_sensor_and_not_at_another_as_ways_tell_and_pressure_has() -> None:
    one = msgspec.structs.replace(FIELD.shooter[0], rounds_count=100, cadence_s=1.0)
    gusty = changed(FIELD, duration_s=300.0, shooter=(one,), ways=msgspec.structs.replace(DRY, fade_db=4.0))
    told, had = np.empty((2, 100)), np.empty((2, 100))
    for k, ear in enumerate(gusty.sensor):
        told[k] = [ways(gusty, ear, made)[0].level_db for made in emissions(gusty)]
        had[k] = [20 * np.log10(np.abs(sampled(pulse, 0.0)[1]).max()) for pulse in pulses(gusty, ear)]
        assert told[k].std() == pytest.approx(np.hypot(4.0, 1.0), rel=0.2)
        assert np.allclose(told[k] - told[k].mean(), had[k] - had[k].mean(), atol=0.6)
    assert abs(np.corrcoef(told[0], told[1])[0, 1]) < 0.3


def test_against_the_wind_sound_is_lost_in_a_shadow_and_with_it_is_not() -> None:
    windy = changed(FIELD, air=Air(temperature_c=25.0, wind_speed_m_s=8.0, wind_from_deg=0.0, roughness_m=0.5))
    ears = [Ear(sensor_id=name, x_m=0.0, y_m=y) for name, y in (("against", 700.0), ("with", -700.0))]
    against, along = (ways(windy, ear, emissions(windy)[0])[0] for ear in ears)
    assert along.level_db - against.level_db > 10
    assert along.toa_s < against.toa_s


def test_a_train_of_blows_is_the_sum_of_its_blows() -> None:
    breaker = Bang(bang_id="b", kind="jackhammer", x_m=0.0, y_m=0.0, start_s=1.0, count=9, cadence_s=0.0471)
    together = changed(FIELD, shooter=(), bang=(breaker,))
    ear = FIELD.sensor[0]
    pressure = heard(together, ear)
    assert len(pulses(together, ear)) == 2  # of two moments
    starts_s = [arrival_s(together, ear, made) for made in emissions(together)]
    assert np.diff(starts_s) == pytest.approx(0.0471)
    for at_s in starts_s:
        around = np.abs(pressure[round(at_s * RATE_HZ) - 100 : round(at_s * RATE_HZ) + 400])
        assert around[:80].max() < 0.35 * around.max()
        assert around.max() > 0.5 * np.abs(pressure).max()


def test_what_no_sensor_can_hear_is_not_rendered() -> None:
    quiet = changed(
        FIELD, shooter=(), bang=(Bang(bang_id="h", kind="hammer", x_m=0.0, y_m=0.0, start_s=1.0, level_db=60.0),)
    )
    assert pulses(quiet, FIELD.sensor[1]) == []


def test_an_echo_fades_otherwise_than_what_comes_first() -> None:
    one = msgspec.structs.replace(FIELD.shooter[0], rounds_count=100, cadence_s=1.0)
    asked = msgspec.structs.replace(DRY, fade_db=4.0, echoes_count=1, echo_after_s=0.2, echo_sigma_db=0.0)
    gusty = changed(FIELD, duration_s=300.0, shooter=(one,), ways=asked)
    heard_db = np.array([[way.level_db for way in ways(gusty, gusty.sensor[0], made)] for made in emissions(gusty)])
    first_db, echo_db = heard_db[:, 0], heard_db[:, -1]
    assert 2.0 < echo_db.std() < 5.0
    assert abs(np.corrcoef(first_db, echo_db)[0, 1]) < 0.3
