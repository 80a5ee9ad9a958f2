"""Shocks of bullets: against tabulated figures, and against the cone drawn by hand."""

import math

import numpy as np
import pytest

from firmware_sim.acoustics import Air, sound_speed_m_s
from firmware_sim.city import Building, city_of
from firmware_sim.shock import shocks, whitham
from firmware_sim.sources import WEAPONS, Shooter

AIR = Air(20.0, 50.0, (0.0, 0.0, 0.0))
EAST = Shooter(shooter_id="s", weapon="223", x_m=0.0, y_m=0.0, z_m=1.5, start_s=0.0, towards_deg=90.0)
FIELD = city_of(())


def heard(ear_m, shooter: Shooter = EAST, city=FIELD):
    return list(shocks(shooter, (0.0, 0.0, 1.5), np.array(ear_m, float), city, AIR))


@pytest.mark.parametrize(("missed_m", "peak_pa", "duration_us"), [(10.0, 185, 197), (50.0, 55, 294)])
def test_a_rifles_shock_is_as_strong_and_long_as_tabulated(missed_m: float, peak_pa: float, duration_us: float) -> None:
    # 940 m/s at 343 m/s: 185 Pa and 197 us at 10 m, 55 Pa and 294 us at 50 m.
    found = whitham(WEAPONS["223"], 940 / 343, missed_m, 343.0)
    assert found[0] == pytest.approx(peak_pa, rel=0.06)
    assert found[1] * 1e6 == pytest.approx(duration_us, rel=0.06)


def test_a_shock_is_on_the_cone_of_the_bullet() -> None:
    (first, *_) = heard((300.0, 40.0, 1.5))
    leaves = first.points_m[1]
    mach = WEAPONS["223"].speed_m_s * math.exp(-WEAPONS["223"].drag_per_m * leaves[0]) / sound_speed_m_s(AIR)
    away = np.array([300.0, 40.0, 1.5]) - leaves
    assert away[0] / np.linalg.norm(away) == pytest.approx(1 / mach, abs=1e-6)


def test_no_other_point_of_the_flight_is_heard_sooner() -> None:
    weapon, speed = WEAPONS["223"], sound_speed_m_s(AIR)
    (first, *_) = heard((250.0, 60.0, 1.5))
    flown = np.linspace(0, 400, 40_001)
    arrivals = np.expm1(weapon.drag_per_m * flown) / (weapon.drag_per_m * weapon.speed_m_s)
    arrivals += np.hypot(250 - flown, 60) / speed
    assert first.delay_s == pytest.approx(arrivals.min(), abs=1e-6)


def test_a_shock_leads_the_blast_of_a_rifle_by_tenths_of_a_second() -> None:
    leads_s = [r / sound_speed_m_s(AIR) - heard((r, 10.0, 1.5))[0].delay_s for r in (150.0, 500.0)]
    assert 0.2 < leads_s[0] < 0.3
    assert 0.6 < leads_s[1] < 0.9


@pytest.mark.parametrize(
    ("ear_m", "changed", "why"),
    [
        ((-100.0, 20.0, 1.5), {}, "behind the shooter"),
        ((2.0, 150.0, 1.5), {}, "beside the muzzle, outside the cone"),
        ((300.0, 20.0, 1.5), {"weapon": "45acp"}, "slower than sound"),
        ((600.0, 20.0, 1.5), {"flies_m": 100.0}, "the bullet stopped long before"),
    ],
)
def test_where_no_shock_is_heard(ear_m, changed, why: str) -> None:
    shooter = Shooter(
        shooter_id="s", x_m=0.0, y_m=0.0, start_s=0.0, **({"weapon": "223", "towards_deg": 90.0} | changed)
    )
    assert heard(ear_m, shooter) == [], why


def test_a_wall_stops_bullet_and_shock() -> None:
    wall = Building(building_id="wall", outline_m=((50, -30), (52, -30), (52, 30), (50, 30)), height_m=20.0)
    assert heard((300.0, 40.0, 1.5), city=city_of((wall,))) == []


def test_a_shock_comes_off_the_ground_and_a_facade_too() -> None:
    facade = Building(building_id="row", outline_m=((0, 60), (400, 60), (400, 70), (0, 70)), height_m=20.0)
    found = heard((200.0, 20.0, 6.0), city=city_of((facade,)))
    assert len(found) == 3
    assert sorted(len(one.points_m) for one in found) == [3, 4, 4]
    assert max(found, key=lambda one: one.delay_s).points_m[2][1] == pytest.approx(60.0)
