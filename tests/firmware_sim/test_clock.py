"""Clocks of a simulated node: what crystals, network time and pulses make of true time."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from agls.config import Origin
from firmware_sim.card import Card
from firmware_sim.clock import HostClock, Ticks, host_of, ticks_of
from firmware_sim.faults import AnyFault, ClockStep, GpsLoss, Heat, Reboot, SecondSlip
from firmware_sim.scene import Ear, Scene

EARS = tuple(Ear(sensor_id=f"s{number}", x_m=10.0 * number, y_m=0.0) for number in range(200))
SCENE = Scene(name="clocks", duration_s=3600.0, origin=Origin(latitude_deg=0.0, longitude_deg=0.0), sensor=EARS)


def host(*faults: AnyFault, sync: str = "pps_chrony", ear: Ear = EARS[0]) -> HostClock:
    card = msgspec.convert({"sync": sync}, Card)
    return host_of(msgspec.structs.replace(SCENE, card=card, fault=faults), ear)


def test_a_sample_index_and_its_time_are_each_others_inverse() -> None:
    @given(st.floats(0, 1e6), st.floats(-200, 200), st.floats(0, 20), st.floats(-50, 50))
    def holds(time_s: float, offset_ppm: float, swing_ppm: float, heat_ppm: float) -> None:
        heat = (Heat(start_s=100.0, end_s=900.0, rate_ppm=heat_ppm),)
        ticks = Ticks(48_000.0, offset_ppm, swing_ppm, 3_600.0, 1.0, heat)
        assert ticks.time_s(ticks.index_at(time_s)) == pytest.approx(time_s, abs=1e-9)

    holds()


def test_samples_counted_are_the_integral_of_the_rate() -> None:
    heat = Heat(start_s=100.0, end_s=400.0, rate_ppm=8.0, lag_s=60.0)
    ticks = Ticks(48_000.0, 20.0, 1.5, 600.0, 0.7, (heat,))

    def rate_ppm(time_s: float) -> float:
        warm = 1 - math.exp(-(min(time_s, 400.0) - 100.0) / 60.0) if time_s > 100 else 0.0
        cooling = math.exp(-max(0.0, time_s - 400.0) / 60.0)
        return 20.0 + 1.5 * math.sin(2 * math.pi * time_s / 600.0 + 0.7) + 8.0 * warm * cooling

    for until_s in (50.0, 250.0, 700.0):
        ahead_s = quad(rate_ppm, 0, until_s, points=[100.0, 400.0], limit=200)[0] * 1e-6
        assert ticks.index_at(until_s) == pytest.approx(48_000 * (until_s + ahead_s), abs=1e-3)


def test_crystals_scatter_as_the_scene_says_and_each_sensor_keeps_its_own() -> None:
    offsets_ppm = [ticks_of(SCENE, ear).offset_ppm for ear in EARS]
    assert np.std(offsets_ppm) == pytest.approx(30.0, rel=0.15)
    assert ticks_of(SCENE, EARS[3]) == ticks_of(SCENE, EARS[3])


@pytest.mark.parametrize(("sync", "sigma_s"), [("pps_chrony", 1e-6), ("ntp", 3e-3), ("pps_audio", 3e-3)])
def test_a_system_clock_errs_as_its_source_does(sync: str, sigma_s: float) -> None:
    errors_s = [host(sync=sync, ear=ear).wall_error_s(time_s) for ear in EARS for time_s in (0.0, 777.0, 3_000.0)]
    assert np.std(errors_s) == pytest.approx(sigma_s, rel=0.2)


def test_without_its_pulse_a_clock_runs_away_and_comes_back_slowly() -> None:
    lost, whole = host(GpsLoss(start_s=100.0, end_s=1_100.0, drift_ppm=0.2)), host()
    apart_s = [lost.wall_error_s(time_s) - whole.wall_error_s(time_s) for time_s in (100.0, 600.0, 1_100.0, 1_300.0)]
    assert apart_s == pytest.approx([0.0, 1e-4, 2e-4, 0.0], abs=1e-7)
    assert [lost.pulses_at(time_s) for time_s in (99.0, 100.0, 1_100.0)] == [True, False, True]
    assert lost.sync(600.0).source == "none"
    assert lost.sync(600.0).sigma_s > 1e-4
    assert lost.sync(50.0).source == "pps"


def test_network_time_shows_a_second_that_was_counted_wrongly() -> None:
    slipped = host(SecondSlip(start_s=10.0, end_s=20.0, slip_s=-1))
    assert slipped.wall_error_s(15.0) == pytest.approx(-1.0, abs=1e-4)
    assert slipped.sync(15.0).against_ntp_s == pytest.approx(-1.0, abs=0.05)
    assert abs(slipped.sync(25.0).against_ntp_s) < 0.05


def test_setting_the_clock_moves_the_wall_clock_and_not_the_monotonic_one() -> None:
    stepped, whole = host(ClockStep(start_s=10.0, end_s=20.0, step_s=-3_600.0)), host()
    assert stepped.wall_error_s(15.0) == pytest.approx(-3_600.0, abs=1e-4)
    assert stepped.monotonic_s(15.0) == whole.monotonic_s(15.0)


def test_a_reboot_begins_monotonic_time_anew() -> None:
    rebooted = host(Reboot(start_s=50.0, end_s=80.0))
    assert rebooted.monotonic_s(49.0) == pytest.approx(89.0, abs=1e-4)
    assert rebooted.monotonic_s(81.0) == pytest.approx(1.0, abs=1e-4)
    assert [rebooted.boots_count(time_s) for time_s in (49.0, 81.0)] == [0, 1]


def test_a_free_clock_runs_at_the_rate_of_its_crystal() -> None:
    free = host(sync="free")
    drift_s = free.wall_error_s(1_000.0) - free.wall_error_s(0.0)
    assert drift_s == pytest.approx(free.rate_ppm * 1e-3, rel=1e-6)
    assert free.sync(0.0).source == "none"
