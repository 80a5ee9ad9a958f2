"""Say where something is as people do: nearest address, nearest intersection, beat; from the agency's own GeoJSON."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from agls.bridge.policy import inside
from agls.bridge.record import Nearby, Place
from agls.config import Policy
from agls.errors import InputError

M_PER_DEG = 111_195.0  # of a degree of latitude on a sphere of 6371 km; within 0.6 % of the ellipsoid
NOT_NEAR_M = 2_000.0  # an address farther away than this helps nobody
MAX_FILE_BYTES = 500_000_000


@dataclass(frozen=True, eq=False)
class Points:
    """Named points.

    Attributes
    ----------
    names : tuple of str
        Their names.
    latitudes_deg, longitudes_deg : numpy.ndarray, shape (n,), float64
        Where they are.
    """

    names: tuple[str, ...]
    latitudes_deg: NDArray[np.float64]
    longitudes_deg: NDArray[np.float64]


NO_POINTS = Points((), np.empty(0), np.empty(0))


@dataclass(frozen=True)
class Beat:
    """A named area: its outer ring of corners (longitude, latitude), closed, and its holes."""

    name: str
    rings: tuple[tuple[tuple[float, float], ...], ...]


@dataclass(frozen=True)
class Places:
    """What the agency calls its places.

    Attributes
    ----------
    addresses, intersections : Points
        What may be nearest.
    beats : tuple of Beat
        What a place may lie in.
    """

    addresses: Points = NO_POINTS
    intersections: Points = NO_POINTS
    beats: tuple[Beat, ...] = ()

    def beat(self, place: Place) -> str:
        """Name the beat a place lies in.

        Parameters
        ----------
        place : Place
            The place.

        Returns
        -------
        str
            Its name; empty where there is none.
        """
        if place.latitude_deg is None or place.longitude_deg is None:
            return ""
        for beat in self.beats:
            # A hole is a second ring round the point: inside an even number of rings is outside.
            if sum(inside(ring, place.longitude_deg, place.latitude_deg) for ring in beat.rings) % 2:
                return beat.name
        return ""


def load_places(policy: Policy, folder: Path = Path()) -> Places:
    """Read the agency's files.

    Parameters
    ----------
    policy : Policy
        Which files; an empty name is none.
    folder : pathlib.Path, optional
        What their names are relative to.

    Returns
    -------
    Places
        What they hold.

    Raises
    ------
    InputError
        If one cannot be read, or holds what it must not, such as a beat whose ring is open.
    """
    return Places(
        addresses=_points(folder / policy.address_file) if policy.address_file else NO_POINTS,
        intersections=_points(folder / policy.intersection_file) if policy.intersection_file else NO_POINTS,
        beats=_beats(folder / policy.beat_file) if policy.beat_file else (),
    )


def nearest(points: Points, place: Place) -> Nearby | None:
    """Find the nearest of some points.

    Parameters
    ----------
    points : Points
        The points.
    place : Place
        Where from.

    Returns
    -------
    Nearby or None
        Its name, its distance, and in which direction the place lies from it; None where none is near.
    """
    if not points.names or place.latitude_deg is None or place.longitude_deg is None:
        return None
    east_m = (place.longitude_deg - points.longitudes_deg + 180.0) % 360.0 - 180.0
    east_m *= M_PER_DEG * math.cos(math.radians(place.latitude_deg))
    north_m = (place.latitude_deg - points.latitudes_deg) * M_PER_DEG
    best = int(np.argmin(east_m * east_m + north_m * north_m))
    distance_m = math.hypot(east_m[best], north_m[best])
    if distance_m > NOT_NEAR_M:
        return None
    bearing_deg = round(math.degrees(math.atan2(east_m[best], north_m[best])) % 360.0, 1) % 360.0
    return Nearby(name=points.names[best], distance_m=round(distance_m, 1), bearing_deg=bearing_deg)


def metres_apart(one_deg: tuple[float, float], other_deg: tuple[float, float]) -> float:
    """Measure how far two near places are apart.

    Parameters
    ----------
    one_deg, other_deg : tuple of float
        Latitude and longitude of each [deg].

    Returns
    -------
    float
        Distance over the ground [m].
    """
    east_deg = (one_deg[1] - other_deg[1] + 180.0) % 360.0 - 180.0
    return M_PER_DEG * math.hypot(east_deg * math.cos(math.radians(one_deg[0])), one_deg[0] - other_deg[0])


def moved_place(place: Place, latitude_deg: float, longitude_deg: float) -> Place:
    """Say where a place is in the site's frame that is known on Earth alone, near one that is known in both.

    Parameters
    ----------
    place : Place
        Known in both.
    latitude_deg, longitude_deg : float
        Where the other one is.

    Returns
    -------
    Place
        The other one, at the same height.

    Raises
    ------
    InputError
        If the site has no place on Earth.
    """
    if place.latitude_deg is None or place.longitude_deg is None:
        raise InputError("the site has no place on Earth, so a latitude and longitude cannot be placed in it")
    east_deg = (longitude_deg - place.longitude_deg + 180.0) % 360.0 - 180.0
    return msgspec.structs.replace(
        place,
        x_m=round(place.x_m + east_deg * M_PER_DEG * math.cos(math.radians(latitude_deg)), 3),
        y_m=round(place.y_m + (latitude_deg - place.latitude_deg) * M_PER_DEG, 3),
        latitude_deg=latitude_deg,
        longitude_deg=longitude_deg,
    )


# ---------------------------------------------------------------------------------------------- reading GeoJSON


def _features(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes, but at most {MAX_FILE_BYTES} are read")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a GeoJSON file") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); give a GeoJSON FeatureCollection") from None
    features = content.get("features") if isinstance(content, dict) else None
    if not isinstance(features, list):
        raise InputError(f"{path}: has no list of features; give a GeoJSON FeatureCollection")
    return features


def _points(path: Path) -> Points:
    names, places = [], []
    for number, feature in enumerate(_features(path)):
        name, kind, coordinates = _parts(path, number, feature)
        if kind != "Point":
            raise InputError(f"{path}: features[{number}] ({name!r}) is a {kind}, but must be a Point")
        names.append(name)
        places.append(_corner(path, number, coordinates))
    array = np.array(places, float).reshape(-1, 2)
    return Points(tuple(names), array[:, 1], array[:, 0])


def _beats(path: Path) -> tuple[Beat, ...]:
    beats = []
    for number, feature in enumerate(_features(path)):
        name, kind, coordinates = _parts(path, number, feature)
        if kind not in ("Polygon", "MultiPolygon") or not isinstance(coordinates, list):
            raise InputError(
                f"{path}: features[{number}] ({name!r}) is a {kind}, but must be a Polygon or MultiPolygon"
            )
        rings = coordinates if kind == "Polygon" else [ring for part in coordinates for ring in part]
        beats.append(Beat(name, tuple(_ring(path, number, name, ring) for ring in rings)))
    return tuple(beats)


def _ring(path: Path, number: int, name: str, corners: Any) -> tuple[tuple[float, float], ...]:
    where = f"{path}: features[{number}] ({name!r})"
    if not isinstance(corners, list) or len(corners) < 4:
        raise InputError(f"{where} has a ring of fewer than four corners; a ring needs three and the first one again")
    ring = tuple(_corner(path, number, corner) for corner in corners)
    if ring[0] != ring[-1]:
        raise InputError(f"{where} has an open ring, from {ring[0]} to {ring[-1]}; its last corner must be its first")
    return ring


def _parts(path: Path, number: int, feature: Any) -> tuple[str, str, Any]:
    try:
        name, geometry = feature["properties"]["name"], feature["geometry"]
        clean = "".join(letter if letter.isprintable() else " " for letter in str(name)[:500])
        return clean, str(geometry["type"]), geometry["coordinates"]
    except (KeyError, TypeError):
        raise InputError(f"{path}: features[{number}] needs a geometry and properties with a name") from None


def _corner(path: Path, number: int, corner: Any) -> tuple[float, float]:
    try:
        longitude_deg, latitude_deg = float(corner[0]), float(corner[1])
    except (IndexError, KeyError, TypeError, ValueError):
        longitude_deg = latitude_deg = math.nan
    if not (abs(longitude_deg) <= 180 and abs(latitude_deg) <= 90):
        raise InputError(f"{path}: features[{number}] has the corner {corner!r}; [longitude, latitude] is accepted")
    return longitude_deg, latitude_deg
