"""How much of where a shooter may be a camera can show: the ellipse as points, each seen or not.

The 95 % ellipse becomes `POINTS` places, each as likely as the others (quantiles of a normal distribution along a
sunflower spiral: no chance, so a replay says the same). A place is in view if it lies in the picture and no building
stands between. Buildings are 2.5-D: polygons of one height each, as agencies have them; the wall a camera hangs on does
not hide anything from it.
"""

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agls.bridge.camera.geometry import Aim, Sight, Topocentre, levelled
from agls.config import Camera
from agls.errors import InputError
from agls.messages import Ellipse

POINTS = 96
SIGMAS_95 = math.sqrt(-2.0 * math.log(0.05))  # semi-axis of the 95 % ellipse in standard deviations
ASPECT = 9 / 16  # height of a picture against its width
OWN_WALL_M = 2.0  # a wall this near to the lens is the one it hangs on
MAX_FILE_BYTES = 500_000_000

Floats: TypeAlias = NDArray[np.float64]

_RADII = np.sqrt(-2.0 * np.log1p(-(np.arange(POINTS) + 0.5) / POINTS))
_TURNS = np.arange(POINTS) * (math.pi * (3.0 - math.sqrt(5.0)))
_NORMAL = np.column_stack([_RADII * np.cos(_TURNS), _RADII * np.sin(_TURNS)])


@dataclass(frozen=True, slots=True)
class Walls:
    """Walls as seen from a lens: straight pieces on the ground, and how high they reach.

    Attributes
    ----------
    ends_m : numpy.ndarray, shape (n, 4)
        East and north of both ends.
    top_m : numpy.ndarray, shape (n,)
        Above the lens; negative where lower.
    """

    ends_m: Floats
    top_m: Floats


NO_WALLS = Walls(np.empty((0, 4)), np.empty(0))


@dataclass(frozen=True, slots=True)
class Building:
    """A building: corners of its outline on Earth, and its roof above the WGS 84 ellipsoid."""

    corners_deg: tuple[tuple[float, float], ...]
    top_m: float


def places_of(sight: Sight, ellipse: Ellipse, widened_m: float = 0.0) -> Floats:
    """Spread a shooter over where they may be.

    Parameters
    ----------
    sight : Sight
        The centre of the ellipse as seen from the lens.
    ellipse : Ellipse
        The 95 % ellipse, flat at the target's height.
    widened_m : float, optional
        How far people may have gone since; added to both semi-axes [m].

    Returns
    -------
    numpy.ndarray, shape (POINTS, 3)
        East, north, up of places that are equally likely [m].
    """
    azimuth = math.radians(ellipse.azimuth_deg)
    along = _NORMAL[:, 0] * (ellipse.major_m + widened_m) / SIGMAS_95
    across = _NORMAL[:, 1] * (ellipse.minor_m + widened_m) / SIGMAS_95
    east = sight.east_m + along * math.sin(azimuth) + across * math.cos(azimuth)
    north = sight.north_m + along * math.cos(azimuth) - across * math.sin(azimuth)
    return np.column_stack([east, north, np.full(POINTS, sight.up_m)])


def share_in_view(camera: Camera, aim: Aim, places_m: Floats, hidden: NDArray[np.bool_]) -> float:
    """Say how likely the shooter is in the picture.

    Parameters
    ----------
    camera : Camera
        How its mount stands, and how far it is asked to look.
    aim : Aim
        How it is set.
    places_m : numpy.ndarray, shape (n, 3)
        Equally likely places, east, north, up of the lens [m].
    hidden : numpy.ndarray, shape (n,)
        Those behind a building.

    Returns
    -------
    float
        From 0 to 1.
    """
    pan, tilt = math.radians(camera.pan_zero_azimuth_deg + aim.pan_deg), math.radians(aim.tilt_deg)
    flat = _levelled(camera, places_m)
    right = flat[:, 0] * math.cos(pan) - flat[:, 1] * math.sin(pan)
    ahead = flat[:, 0] * math.sin(pan) + flat[:, 1] * math.cos(pan)
    depth = ahead * math.cos(tilt) + flat[:, 2] * math.sin(tilt)
    above = flat[:, 2] * math.cos(tilt) - ahead * math.sin(tilt)
    half = math.tan(math.radians(min(aim.hfov_deg, 179.0) / 2.0))
    inside = (depth > 0) & (np.abs(right) <= depth * half) & (np.abs(above) <= depth * half * ASPECT)
    near = np.linalg.norm(places_m, axis=1) <= camera.range_m
    return float(np.mean(inside & near & ~hidden))


def _levelled(camera: Camera, places_m: Floats) -> Floats:
    """Turn places as `levelled` turns one: it is linear, so three of them tell all."""
    if camera.mount_pitch_deg == 0.0 == camera.mount_roll_deg:
        return places_m
    axes = [levelled(camera, Sight(*axis)) for axis in np.eye(3).tolist()]
    return np.asarray(places_m @ np.array([[one.east_m, one.north_m, one.up_m] for one in axes]))


def hidden_by(walls: Walls, places_m: Floats) -> NDArray[np.bool_]:
    """Say which places buildings hide from the lens.

    Parameters
    ----------
    walls : Walls
        Round the lens.
    places_m : numpy.ndarray, shape (n, 3)
        East, north, up of the lens [m].

    Returns
    -------
    numpy.ndarray of bool, shape (n,)
        Whether a wall that reaches above the line of sight stands across it.
    """
    hidden = np.zeros(len(places_m), bool)
    ends, top = _between(walls, places_m)
    if not len(ends):
        return hidden
    px, py = places_m[:, None, 0], places_m[:, None, 1]
    ax, ay, bx, by = (ends[None, :, column] for column in range(4))
    ex, ey = bx - ax, by - ay
    cross = px * ey - py * ex
    with np.errstate(divide="ignore", invalid="ignore"):
        way = (ax * ey - ay * ex) / cross  # share of the way to the place at which the wall stands
        along = (ax * py - ay * px) / cross  # share of the wall
        crossed = (way > 0) & (way < 1) & (along >= 0) & (along < 1)
        crossed &= way * np.hypot(px, py) > OWN_WALL_M
        hidden |= np.any(crossed & (way * places_m[:, None, 2] < top[None, :]), axis=1)
    return hidden


def _between(walls: Walls, places_m: Floats) -> tuple[Floats, Floats]:
    """Keep the walls that stand in the lane from the lens to the places, and reach above the lowest line of sight."""
    high = walls.top_m > min(0.0, float(places_m[:, 2].min()))
    ends, top = walls.ends_m[high], walls.top_m[high]
    ahead = places_m[:, :2].mean(axis=0)
    length = math.hypot(*ahead.tolist()) or 1.0
    lane = np.array([[ahead[0], ahead[1]], [ahead[1], -ahead[0]]]).T / length  # along and across it
    spots = places_m[:, :2] @ lane
    low, most = np.minimum(spots.min(axis=0), 0.0), np.maximum(spots.max(axis=0), 0.0)
    first, second = ends[:, :2] @ lane, ends[:, 2:] @ lane
    kept = np.all((np.maximum(first, second) >= low) & (np.minimum(first, second) <= most), axis=1)
    return ends[kept], top[kept]


def walls_round(camera: Camera, place: Topocentre, buildings: tuple[Building, ...]) -> Walls:
    """Find the walls near a camera, as its lens sees them.

    Parameters
    ----------
    camera : Camera
        With its range.
    place : Topocentre
        Of its lens.
    buildings : tuple of Building
        All of the site.

    Returns
    -------
    Walls
        Those within its range.
    """
    wide_deg = 2.0 * camera.range_m / 111_000.0
    across_deg = wide_deg / max(math.cos(math.radians(camera.latitude_deg)), 0.01)
    near = [
        one
        for one in buildings
        if abs(one.corners_deg[0][1] - camera.latitude_deg) <= wide_deg
        and abs(one.corners_deg[0][0] - camera.longitude_deg) <= across_deg
    ]
    pieces = [(*first, *second, one.top_m) for one in near for first, second in pairwise(one.corners_deg)]
    if not pieces:
        return NO_WALLS
    table = np.array(pieces)  # longitude and latitude of both ends, height
    ends = [place.seen_m(table[:, columns])[:, :2] for columns in ([1, 0, 4], [3, 2, 4])]
    return Walls(np.hstack(ends), table[:, 4] - camera.height_m)


def load_buildings(path: Path, ground_m: float) -> tuple[Building, ...]:
    """Read buildings.

    Parameters
    ----------
    path : pathlib.Path
        GeoJSON FeatureCollection of Polygons or MultiPolygons; property `height_m` says how high each is, `ground_m`
        perhaps on which height above the WGS 84 ellipsoid.
    ground_m : float
        Where a building that does not say stands [m].

    Returns
    -------
    tuple of Building
        One for each ring.

    Raises
    ------
    InputError
        If the file is not that.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes, but at most {MAX_FILE_BYTES} are read")
        features = json.loads(path.read_bytes())["features"]
        if not isinstance(features, list):
            raise TypeError
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a GeoJSON file of buildings") from None
    except (ValueError, RecursionError, KeyError, TypeError):
        raise InputError(f"{path}: no GeoJSON FeatureCollection; one of buildings is accepted") from None
    return tuple(one for number, feature in enumerate(features) for one in _rings(path, number, feature, ground_m))


def _rings(path: Path, number: int, feature: Any, ground_m: float) -> list[Building]:
    where = f"{path}: features[{number}]"
    try:
        kind, content = feature["geometry"]["type"], feature["geometry"]["coordinates"]
        parts = {"Polygon": [content], "MultiPolygon": content}[kind]
        rings = [tuple((float(lon), float(lat)) for lon, lat, *_ in ring) for part in parts for ring in part]
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{where} is no Polygon or MultiPolygon of [longitude, latitude]") from None
    try:
        top_m = float(feature["properties"].get("ground_m", ground_m)) + float(feature["properties"]["height_m"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"{where} needs the property height_m, a number of metres above the ground") from None
    for ring in rings:
        if len(ring) < 4 or ring[0] != ring[-1]:
            raise InputError(f"{where} has an open ring; three corners or more and the first one again are accepted")
        if not all(abs(lon) <= 180 and abs(lat) <= 90 for lon, lat in ring):
            raise InputError(f"{where} has a corner that is not on Earth; [longitude, latitude] is accepted")
    return [Building(ring, top_m) for ring in rings] if math.isfinite(top_m) else []
