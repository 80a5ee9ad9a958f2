"""The site's local frame: east, north, up in metres around one origin, and the way to and from WGS 84."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyproj

from agls.config import Origin, Sensor, SiteConfig


@dataclass(frozen=True)
class Frame:
    """A local east-north-up frame.

    Attributes
    ----------
    origin : Origin or None
        Where the frame's zero lies on the ellipsoid; None for a site known in local metres only.
    sensor_positions_m : dict of str to tuple of float
        East, north, up of each sensor [m].
    """

    origin: Origin | None
    sensor_positions_m: dict[str, tuple[float, float, float]]
    _to_local: pyproj.Transformer | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of_site(cls, site: SiteConfig) -> Frame:
        """Build the frame of a site.

        Parameters
        ----------
        site : SiteConfig
            Sensors in metres are taken as they are; those in degrees are turned into the frame, whose zero is the
            site's origin or, where it states none, the mean of the sensors given in degrees.

        Returns
        -------
        Frame
            The frame with every sensor's position.
        """
        geodetic = [sensor for sensor in site.sensor if sensor.latitude_deg is not None]
        origin = site.origin or (_mean_origin(geodetic) if geodetic else None)
        transformer = _topocentric(origin) if origin else None
        positions = {sensor.sensor_id: _position(sensor, transformer) for sensor in site.sensor}
        return cls(origin, positions, transformer)

    def to_geodetic(self, x_m: float, y_m: float, z_m: float) -> tuple[float, float, float] | None:
        """Turn a place in the frame into degrees.

        Parameters
        ----------
        x_m, y_m, z_m : float
            East, north, up [m].

        Returns
        -------
        tuple of float or None
            Latitude [degrees], longitude [degrees], height above the ellipsoid [m]; None in a frame without origin.
        """
        if self._to_local is None:
            return None
        longitude, latitude, height = self._to_local.transform(x_m, y_m, z_m, direction="INVERSE")
        return latitude, longitude, height

    def to_local(self, latitude_deg: float, longitude_deg: float, height_m: float) -> tuple[float, float, float] | None:
        """Turn a place in degrees into the frame.

        Parameters
        ----------
        latitude_deg, longitude_deg : float
            Place on WGS 84 [degrees].
        height_m : float
            Height above the ellipsoid [m].

        Returns
        -------
        tuple of float or None
            East, north, up [m]; None in a frame without origin.
        """
        if self._to_local is None:
            return None
        x, y, z = self._to_local.transform(longitude_deg, latitude_deg, height_m)
        return x, y, z


def _topocentric(origin: Origin) -> pyproj.Transformer:
    return pyproj.Transformer.from_pipeline(
        "+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad +step +proj=cart +ellps=WGS84 "
        f"+step +proj=topocentric +ellps=WGS84 +lon_0={origin.longitude_deg:.12f} +lat_0={origin.latitude_deg:.12f} "
        f"+h_0={origin.height_m:.6f}"
    )


def _mean_origin(sensors: list[Sensor]) -> Origin:
    count = len(sensors)
    return Origin(
        latitude_deg=sum(sensor.latitude_deg or 0.0 for sensor in sensors) / count,
        longitude_deg=sum(sensor.longitude_deg or 0.0 for sensor in sensors) / count,
        height_m=sum(sensor.height_m or 0.0 for sensor in sensors) / count,
    )


def _position(sensor: Sensor, transformer: pyproj.Transformer | None) -> tuple[float, float, float]:
    if sensor.x_m is not None:
        return sensor.x_m, sensor.y_m or 0.0, sensor.z_m or 0.0
    assert transformer is not None  # noqa: S101 - of_site makes one wherever a sensor is given in degrees
    x, y, z = transformer.transform(sensor.longitude_deg, sensor.latitude_deg, sensor.height_m or 0.0)
    return x, y, z
