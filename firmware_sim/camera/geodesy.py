"""Where a place on Earth is, seen from another: WGS 84, by hand, so that a test may hold it against a library."""

import math

AXIS_M = 6_378_137.0
FLATTENING = 1 / 298.257223563
ECCENTRICITY2 = FLATTENING * (2 - FLATTENING)

Triple = tuple[float, float, float]


def sight(origin: Triple, target: Triple) -> Triple:
    """Compute east, north and up of a place, seen from another.

    Parameters
    ----------
    origin, target : tuple of float, shape (3,)
        Latitude and longitude [deg], height above the ellipsoid [m].

    Returns
    -------
    tuple of float
        East, north, up [m].

    Raises
    ------
    ValueError
        If a latitude is none or a number is not finite.
    """
    for place in (origin, target):
        if not all(map(math.isfinite, place)) or abs(place[0]) > 90:
            raise ValueError(f"{place} is no place on Earth")
    (ax, ay, az), (bx, by, bz) = _geocentric(origin), _geocentric(target)
    x, y, z = bx - ax, by - ay, bz - az
    latitude, longitude = math.radians(origin[0]), math.radians(origin[1])
    outward = x * math.cos(longitude) + y * math.sin(longitude)
    return (
        y * math.cos(longitude) - x * math.sin(longitude),
        z * math.cos(latitude) - outward * math.sin(latitude),
        outward * math.cos(latitude) + z * math.sin(latitude),
    )


def _geocentric(place: Triple) -> Triple:
    latitude, longitude = math.radians(place[0]), math.radians(place[1])
    normal = AXIS_M / math.sqrt(1 - ECCENTRICITY2 * math.sin(latitude) ** 2)
    around = (normal + place[2]) * math.cos(latitude)
    up = (normal * (1 - ECCENTRICITY2) + place[2]) * math.sin(latitude)
    return around * math.cos(longitude), around * math.sin(longitude), up
