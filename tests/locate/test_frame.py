"""The local frame against geodesy computed another way."""

import numpy as np
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.config import Origin, Sensor, SiteConfig
from agls.locate.frame import Frame

PITTSBURGH = Origin(latitude_deg=40.44, longitude_deg=-79.99, height_m=230.0)
TO_EARTH = pyproj.Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
CORNERS = tuple(
    Sensor(
        sensor_id=f"s{k}", latitude_deg=40.44 + 0.01 * (k % 2), longitude_deg=-79.99 + 0.01 * (k // 2), height_m=240.0
    )
    for k in range(4)
)


def east_north_up(latitude_deg, longitude_deg, height_m, origin):
    """Turn the difference of two places in Earth's own axes into the horizon of one of them."""
    there = np.array(TO_EARTH.transform(longitude_deg, latitude_deg, height_m))
    here = np.array(TO_EARTH.transform(origin.longitude_deg, origin.latitude_deg, origin.height_m))
    lam, phi = np.radians([origin.longitude_deg, origin.latitude_deg])
    turn = np.array(
        [
            [-np.sin(lam), np.cos(lam), 0.0],
            [-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)],
            [np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)],
        ]
    )
    return turn @ (there - here)


def test_sensors_in_degrees_stand_where_an_independent_computation_puts_them() -> None:
    frame = Frame.of_site(SiteConfig(name="P", origin=PITTSBURGH, sensor=CORNERS))
    for sensor in CORNERS:
        expected = east_north_up(sensor.latitude_deg, sensor.longitude_deg, sensor.height_m, PITTSBURGH)
        assert frame.sensor_positions_m[sensor.sensor_id] == pytest.approx(expected, abs=1e-5)


@given(
    latitude=st.floats(-85, 85), longitude=st.floats(-180, 180),
    place=st.tuples(st.floats(-20_000, 20_000), st.floats(-20_000, 20_000), st.floats(-300, 3000)),
)  # fmt: skip
def test_the_way_to_degrees_and_back_returns_to_the_same_millimetre(latitude, longitude, place) -> None:
    origin = Origin(latitude_deg=latitude, longitude_deg=longitude, height_m=100.0)
    frame = Frame.of_site(SiteConfig(name="P", origin=origin, sensor=()))
    geodetic = frame.to_geodetic(*place)
    assert geodetic is not None
    assert frame.to_local(*geodetic) == pytest.approx(place, abs=1e-3)
    assert east_north_up(*geodetic, origin) == pytest.approx(place, abs=1e-3)


def test_the_origin_is_the_zero_and_north_is_north() -> None:
    frame = Frame.of_site(SiteConfig(name="P", origin=PITTSBURGH, sensor=()))
    assert frame.to_local(40.44, -79.99, 230.0) == pytest.approx((0, 0, 0), abs=1e-6)
    latitude, longitude, _ = frame.to_geodetic(0.0, 1000.0, 0.0)
    azimuth, _, distance = pyproj.Geod(ellps="WGS84").inv(-79.99, 40.44, longitude, latitude)
    assert azimuth == pytest.approx(0.0, abs=1e-6)
    assert distance == pytest.approx(1000.0, abs=0.1)


def test_without_an_origin_the_mean_of_the_sensors_is_the_zero() -> None:
    frame = Frame.of_site(SiteConfig(name="P", sensor=CORNERS))
    assert frame.origin is not None
    assert (frame.origin.latitude_deg, frame.origin.longitude_deg) == pytest.approx((40.445, -79.985), abs=1e-9)
    assert frame.origin.height_m == pytest.approx(240.0)
    assert np.mean(list(frame.sensor_positions_m.values()), axis=0)[:2] == pytest.approx((0, 0), abs=0.1)


def test_a_site_in_metres_is_taken_as_it_is_and_has_no_place_on_earth() -> None:
    frame = Frame.of_site(SiteConfig(name="P", sensor=(Sensor(sensor_id="a", x_m=3.0, y_m=-4.0, z_m=2.5),)))
    assert frame.sensor_positions_m == {"a": (3.0, -4.0, 2.5)}
    assert frame.to_geodetic(0.0, 0.0, 0.0) is None
    assert frame.to_local(40.0, -80.0, 0.0) is None
