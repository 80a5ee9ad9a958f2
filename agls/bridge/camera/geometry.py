"""Where a target stands as seen from a camera, and how the camera must be set to show it.

    WGS 84 (degrees, ellipsoidal height) -> geocentric -> topocentric at the lens: east, north, up
                               -> turned by the mount's pitch and roll, about where pan 0 looks
    azimuth   = atan2(east, north)              pan  = azimuth - pan_zero_azimuth, or that +-360
    elevation = atan2(up, hypot(east, north))   tilt = elevation

pyproj does the geodesy. The ellipse lies flat at the target's height; whether it fits is decided by its outline as the
lens sees it, because near the camera an ellipse spans more than atan(semi-axis / distance): its near side is nearer.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from agls.config import Camera
from agls.messages import Ellipse, Rejection

MARGIN_M = 5.0  # shown beyond the ellipse on each side: the mount's error, and people who walk away
MOUNT_SIGMAS = 2.0  # of the mount's calibration that a view is widened by, on each side
_OUTLINE = np.linspace(0.0, 2.0 * np.pi, 72, endpoint=False)


@dataclass(frozen=True, slots=True)
class Sight:
    """A target as seen from a place: straight metres east, north and up of it."""

    east_m: float
    north_m: float
    up_m: float

    @property
    def azimuth_deg(self) -> float:
        """Direction of the target.

        Returns
        -------
        float
            Clockwise from north, 0 to 360 [deg]; 0 straight overhead.
        """
        return math.degrees(math.atan2(self.east_m, self.north_m)) % 360.0

    @property
    def elevation_deg(self) -> float:
        """Angle of the target above the horizontal.

        Returns
        -------
        float
            Negative where the target is lower [deg].
        """
        return math.degrees(math.atan2(self.up_m, math.hypot(self.east_m, self.north_m)))

    @property
    def distance_m(self) -> float:
        """Distance along the line of sight.

        Returns
        -------
        float
            Straight, not along the ground [m].
        """
        return math.hypot(self.east_m, self.north_m, self.up_m)


@dataclass(frozen=True, slots=True)
class Aim:
    """How a camera is to be set; every angle lies within the camera's limits."""

    pan_deg: float
    tilt_deg: float
    hfov_deg: float
    distance_m: float
    fits: bool
    missing_deg: float


class Topocentre:
    """East, north and up at one place on Earth.

    Parameters
    ----------
    latitude_deg : float
        North positive, WGS 84 [deg].
    longitude_deg : float
        East positive, WGS 84 [deg].
    height_m : float
        Above the WGS 84 ellipsoid [m].
    """

    def __init__(self, latitude_deg: float, longitude_deg: float, height_m: float) -> None:
        # `!r` writes every digit of a float, where a format could round a camera off its pole.
        self._transformer = Transformer.from_pipeline(
            "+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad +step +proj=cart +ellps=WGS84 "
            f"+step +proj=topocentric +ellps=WGS84 +lat_0={float(latitude_deg)!r} "
            f"+lon_0={float(longitude_deg)!r} +h_0={float(height_m)!r}"
        )

    def sight(self, latitude_deg: float, longitude_deg: float, height_m: float) -> Sight:
        """Look at a target.

        Parameters
        ----------
        latitude_deg : float
            North positive, WGS 84 [deg].
        longitude_deg : float
            East positive, WGS 84 [deg].
        height_m : float
            Above the WGS 84 ellipsoid [m].

        Returns
        -------
        Sight
            The target, relative to this place.
        """
        east_m, north_m, up_m = self._transformer.transform(longitude_deg, latitude_deg, height_m)
        return Sight(float(east_m), float(north_m), float(up_m))

    def seen_m(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Look at many places.

        Parameters
        ----------
        places : numpy.ndarray, shape (n, 3)
            Latitude and longitude [deg], height above the WGS 84 ellipsoid [m].

        Returns
        -------
        numpy.ndarray, shape (n, 3)
            East, north, up of this place [m].
        """
        return np.column_stack(self._transformer.transform(places[:, 1], places[:, 0], places[:, 2]))


def levelled(camera: Camera, sight: Sight) -> Sight:
    """Turn a sight as if the mount stood level: its azimuth and elevation are then what pan and tilt count.

    Parameters
    ----------
    camera : Camera
        With its pan zero, pitch and roll.
    sight : Sight
        The target as seen from the lens.

    Returns
    -------
    Sight
        The same distance away.
    """
    if camera.mount_pitch_deg == 0.0 == camera.mount_roll_deg:
        return sight
    yaw, pitch, roll = (
        math.radians(angle) for angle in (camera.pan_zero_azimuth_deg, camera.mount_pitch_deg, camera.mount_roll_deg)
    )
    right = sight.east_m * math.cos(yaw) - sight.north_m * math.sin(yaw)
    ahead = sight.east_m * math.sin(yaw) + sight.north_m * math.cos(yaw)
    ahead, up = (
        ahead * math.cos(pitch) + sight.up_m * math.sin(pitch),
        sight.up_m * math.cos(pitch) - ahead * math.sin(pitch),
    )
    right, up = right * math.cos(roll) - up * math.sin(roll), up * math.cos(roll) + right * math.sin(roll)
    return Sight(right * math.cos(yaw) + ahead * math.sin(yaw), ahead * math.cos(yaw) - right * math.sin(yaw), up)


def pan_choices(camera: Camera, azimuth_deg: float) -> list[float]:
    """List the pan readings at which a camera looks in a direction.

    Parameters
    ----------
    camera : Camera
        With its pan zero and its limits.
    azimuth_deg : float
        The direction, clockwise from north, of a mount that stands level [deg].

    Returns
    -------
    list of float
        Readings within the limits [deg], the one nearest to pan 0 first; empty where the head cannot turn there.
    """
    pan_deg = _rounded((azimuth_deg - camera.pan_zero_azimuth_deg) % 360.0)
    turns = [pan_deg + 360.0 * turn for turn in (-2, -1, 0, 1)]
    return sorted((pan for pan in turns if camera.pan_min_deg <= pan <= camera.pan_max_deg), key=abs)


def span_deg(sight: Sight, ellipse: Ellipse) -> float:
    """Say how wide an ellipse is for a lens that looks at its centre.

    Parameters
    ----------
    sight : Sight
        The centre of the ellipse as seen from the lens.
    ellipse : Ellipse
        Lying flat at the target's height.

    Returns
    -------
    float
        The least horizontal field of view, centred, that holds the whole outline [deg]; 180 and more where part of
        it lies beside or behind the lens.
    """
    azimuth, tilt = math.radians(ellipse.azimuth_deg - sight.azimuth_deg), math.radians(sight.elevation_deg)
    along, across = ellipse.major_m * np.cos(_OUTLINE), ellipse.minor_m * np.sin(_OUTLINE)
    right_m = along * math.sin(azimuth) + across * math.cos(azimuth)
    beyond_m = along * math.cos(azimuth) - across * math.sin(azimuth)
    depth_m = sight.distance_m + beyond_m * math.cos(tilt)
    return 2.0 * math.degrees(float(np.max(np.arctan2(np.abs(right_m), depth_m))))


def is_fixed(camera: Camera) -> bool:
    """Tell whether a camera cannot turn.

    Parameters
    ----------
    camera : Camera
        With its limits.

    Returns
    -------
    bool
        Whether the limits leave it one pan and one tilt.
    """
    return camera.pan_min_deg == camera.pan_max_deg and camera.tilt_min_deg == camera.tilt_max_deg


def nearest_aim(camera: Camera, sight: Sight) -> Aim:
    """Set a camera, zoomed out, as near to a target as its limits allow; a fixed one looks where it looks.

    Parameters
    ----------
    camera : Camera
        The camera and its limits.
    sight : Sight
        The target as seen from the lens.

    Returns
    -------
    Aim
        The setting; it may not show the target at all.
    """
    counted = levelled(camera, sight)
    wanted_deg = (counted.azimuth_deg - camera.pan_zero_azimuth_deg) % 360.0
    limits = (camera.pan_min_deg, camera.pan_max_deg)
    turns = [wanted_deg + 360.0 * turn for turn in (-2, -1, 0, 1)]
    near = [(abs(min(max(pan, limits[0]), limits[1]) - pan), min(max(pan, limits[0]), limits[1])) for pan in turns]
    return Aim(
        pan_deg=_rounded(min(near, key=lambda pair: (pair[0], abs(pair[1])))[1]),
        tilt_deg=_rounded(min(max(counted.elevation_deg, camera.tilt_min_deg), camera.tilt_max_deg)),
        hfov_deg=camera.hfov_max_deg,
        distance_m=round(sight.distance_m, 3),
        fits=False,
        missing_deg=0.0,
    )


def aim(camera: Camera, sight: Sight, ellipse: Ellipse) -> Aim | Rejection:
    """Set a camera so that it shows an ellipse, or say why it cannot.

    Parameters
    ----------
    camera : Camera
        The camera and its limits.
    sight : Sight
        The centre of the ellipse as seen from the lens.
    ellipse : Ellipse
        The 95 % ellipse of the target.

    Returns
    -------
    Aim or Rejection
        The setting; or a refusal named ``out_of_range``, ``pan_limits`` or ``tilt_limits``.
    """
    counted = levelled(camera, sight)
    distance_m, tilt_deg = sight.distance_m, _rounded(counted.elevation_deg)
    if distance_m > camera.range_m:
        return _no(camera, "out_of_range", f"{distance_m:.0f} m away, asked up to {camera.range_m:.0f} m")
    pans = pan_choices(camera, counted.azimuth_deg)
    if not pans:
        limits = f"pan {camera.pan_min_deg:g} to {camera.pan_max_deg:g} degrees"
        return _no(camera, "pan_limits", f"azimuth {sight.azimuth_deg:.1f} degrees is out of {limits}")
    if not camera.tilt_min_deg <= tilt_deg <= camera.tilt_max_deg:
        limits = f"tilt {camera.tilt_min_deg:g} to {camera.tilt_max_deg:g} degrees"
        return _no(camera, "tilt_limits", f"elevation {tilt_deg:.1f} degrees is out of {limits}")
    unsure_deg = 2.0 * MOUNT_SIGMAS * camera.mount_sigma_deg
    seen_deg = span_deg(sight, ellipse) + unsure_deg
    wanted_deg = max(2.0 * math.degrees(math.atan2(ellipse.major_m + MARGIN_M, distance_m)) + unsure_deg, seen_deg)
    return Aim(
        pan_deg=pans[0],
        tilt_deg=tilt_deg,
        hfov_deg=min(max(_rounded(wanted_deg), camera.hfov_min_deg), camera.hfov_max_deg),
        distance_m=round(distance_m, 3),
        fits=seen_deg <= camera.hfov_max_deg,
        missing_deg=max(0.0, seen_deg - camera.hfov_max_deg),
    )


def _no(camera: Camera, reason: str, detail: str) -> Rejection:
    return Rejection(stage="camera", reason=reason, subject=camera.camera_id, detail=detail)


def _rounded(angle_deg: float) -> float:
    """Round to a thousandth of a degree (2 cm at 1 km): before a limit is asked, lest dust decide; never to -0."""
    return round(angle_deg, 3) + 0.0
