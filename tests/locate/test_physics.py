"""The physics of air against tables that others have measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.physics import sound_speed_m_s, vapour_pressure_pa, wind_vector_m_s


@pytest.mark.parametrize(
    ("temperature_c", "pressure_pa"), [(0, 611.2), (10, 1228.2), (20, 2339.3), (30, 4247.0), (40, 7384.9)]
)
def test_vapour_pressure_is_that_of_the_steam_tables(temperature_c: float, pressure_pa: float) -> None:
    assert vapour_pressure_pa(temperature_c) == pytest.approx(pressure_pa, rel=0.004)


@pytest.mark.parametrize(("temperature_c", "speed_m_s"), [(-20, 318.9), (0, 331.3), (20, 343.2), (40, 354.7)])
def test_sound_speed_in_dry_air_is_that_of_the_tables(temperature_c: float, speed_m_s: float) -> None:
    assert sound_speed_m_s(temperature_c, 0.0) == pytest.approx(speed_m_s, rel=0.001)


def test_humid_air_is_faster_by_what_cramer_measured() -> None:
    # 1.2 m/s at 20 degrees from dry to saturated, 3.3 m/s at 35 degrees (O. Cramer, 1993).
    assert sound_speed_m_s(20.0, 100.0) - sound_speed_m_s(20.0, 0.0) == pytest.approx(1.2, abs=0.15)
    assert sound_speed_m_s(35.0, 100.0) - sound_speed_m_s(35.0, 0.0) == pytest.approx(3.0, abs=0.5)


@given(temperature_c=st.floats(-40, 49), humidity=st.floats(0, 100))
def test_warmer_air_is_faster(temperature_c: float, humidity: float) -> None:
    assert sound_speed_m_s(temperature_c + 1.0, humidity) - sound_speed_m_s(temperature_c, humidity) == pytest.approx(
        0.65, abs=0.25
    )


def test_no_air_is_as_cold_as_that() -> None:
    with pytest.raises(ValueError, match="-100"):
        sound_speed_m_s(-101.0)


@pytest.mark.parametrize(
    ("from_deg", "east", "north"), [(0, 0, -10), (90, -10, 0), (180, 0, 10), (270, 10, 0), (225, 7.0711, 7.0711)]
)
def test_wind_goes_away_from_where_it_comes_from(from_deg: float, east: float, north: float) -> None:
    assert wind_vector_m_s(10.0, from_deg) == pytest.approx((east, north), abs=1e-4)
