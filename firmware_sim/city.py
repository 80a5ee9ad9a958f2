"""The simulated city: buildings and streets as outlines with heights, and every way of sound round, over and off them.

Geometry only: where sound can go. `ways` says how long it takes and what is lost.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, TypeAlias

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from agls.config import Table
from agls.messages import Identifier

Floats = NDArray[np.float64]
Plan = tuple[Floats, tuple[int, ...]]
"""A way seen from above, shape (points, 2) [m], and the walls it is reflected by, in order."""
Kind: TypeAlias = Literal["direct", "bounce", "echo", "diffracted", "shock"]

East: TypeAlias = Annotated[float, Meta(ge=-20_000, le=20_000, description="east of the origin")]
North: TypeAlias = Annotated[float, Meta(ge=-20_000, le=20_000, description="north of the origin")]
Outline: TypeAlias = Annotated[
    tuple[tuple[East, North], ...],
    Meta(min_length=3, max_length=60, description="corners in order, either way round"),
]

TOUCH_M = 1e-3  # a leg that ends on a wall does not cross it
CORNER_M = 0.02  # how far from a corner sound turns round it
DETOUR_M = 350.0  # echoes that come later than a second are lost in the street's reverberation
MOST_ECHOES = 30
CHUNK = 1_000_000  # pairs of leg and wall looked at together


class Building(Table, frozen=True, kw_only=True):
    """A building: an outline that rises from the ground to one height."""

    building_id: Annotated[Identifier, Meta(description="name of the building")]
    outline_m: Outline
    height_m: Annotated[float, Meta(gt=0, le=500, description="height of its roof")] = 10.0
    loss_db: Annotated[
        float, Meta(ge=0, le=40, description="what a facade swallows and scatters of what it reflects")
    ] = 3.0


class Street(Table, frozen=True, kw_only=True):
    """A street: hard ground, and the traffic on it."""

    street_id: Annotated[Identifier, Meta(description="name of the street")]
    outline_m: Outline
    traffic_db: Annotated[
        float, Meta(ge=0, le=110, description="its traffic's level 10 m away, root mean square; 0 for none")
    ] = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class City:
    """Buildings, prepared for asking where sound can go.

    Attributes
    ----------
    starts_m, ends_m : numpy.ndarray, shape (walls, 2)
        Ends of each wall, so that the building is on its left.
    outward : numpy.ndarray, shape (walls, 2)
        Unit vectors out of the building.
    tops_m, loss_db : numpy.ndarray, shape (walls,)
        Height of each wall and what it loses of a reflection.
    corners_m : numpy.ndarray, shape (corners, 2)
        Where sound can turn round a building.
    between_m : numpy.ndarray, shape (corners, corners)
        The shortest way from corner to corner round all buildings.
    onward : numpy.ndarray, shape (corners, corners)
        The next corner on that way.
    """

    starts_m: Floats
    ends_m: Floats
    outward: Floats
    tops_m: Floats
    loss_db: Floats
    corners_m: Floats
    between_m: Floats
    onward: NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One way from a source to a microphone.

    Attributes
    ----------
    kind : str
        ``direct``, ``bounce`` (off the ground), ``echo`` (off facades) or ``diffracted`` (round or over buildings).
    points_m : numpy.ndarray, shape (points, 3)
        Where it goes.
    loss_db : float
        What facades take.
    sin_grazing : float
        Sine of the angle at which it meets the ground; 0 where it does not.
    ground_m : tuple of float, shape (2,)
        Where it meets the ground.
    detour_m : float
        How much further it is than the straight line, where it bends.
    """

    kind: Kind
    points_m: Floats
    loss_db: float = 0.0
    sin_grazing: float = 0.0
    ground_m: tuple[float, float] = (0.0, 0.0)
    detour_m: float = 0.0

    @property
    def length_m(self) -> float:
        """Measure it.

        Returns
        -------
        float
            Metres.
        """
        return float(np.linalg.norm(np.diff(self.points_m, axis=0), axis=1).sum())


# ---------------------------------------------------------------------------------------------------------- outlines


def crosses_itself(outline_m: Sequence[tuple[float, float]]) -> bool:
    """Say whether an outline is no simple polygon.

    Parameters
    ----------
    outline_m : sequence of tuple of float
        Its corners.

    Returns
    -------
    bool
        True where two of its sides meet that are no neighbours, or it encloses nothing.
    """
    count = len(outline_m)
    sides = [(np.array(outline_m[k]), np.array(outline_m[(k + 1) % count])) for k in range(count)]
    for k in range(count):
        for other in range(k + 1, count):
            apart = other - k not in (1, count - 1)
            if apart and _meet(*sides[k], *sides[other]):
                return True
    return abs(_area_m2(np.array(outline_m))) < TOUCH_M


def _cross(a: Floats, b: Floats) -> Floats:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])


def _meet(a: Floats, b: Floats, c: Floats, d: Floats) -> bool:
    sides = [float(_cross(b - a, c - a)), float(_cross(b - a, d - a)), float(_cross(d - c, a - c))]
    sides.append(float(_cross(d - c, b - c)))
    return sides[0] * sides[1] <= 0 and sides[2] * sides[3] <= 0 and any(sides)


def _area_m2(outline_m: Floats) -> float:
    return float(_cross(outline_m, np.roll(outline_m, -1, axis=0)).sum() / 2)


def within(outline_m: Sequence[tuple[float, float]], x_m: float, y_m: float) -> bool:
    """Say whether an outline encloses a place.

    Parameters
    ----------
    outline_m : sequence of tuple of float
        Its corners.
    x_m, y_m : float
        The place.

    Returns
    -------
    bool
        Whether it does.
    """
    inside = False
    for k, (ax, ay) in enumerate(outline_m):
        bx, by = outline_m[k - 1]
        if (ay > y_m) != (by > y_m) and x_m < (bx - ax) * (y_m - ay) / (by - ay) + ax:
            inside = not inside
    return inside


def distance_m(outline_m: Sequence[tuple[float, float]], x_m: float, y_m: float) -> float:
    """Measure how far a place is from an outline's area.

    Parameters
    ----------
    outline_m : sequence of tuple of float
        Its corners.
    x_m, y_m : float
        The place.

    Returns
    -------
    float
        Metres; 0 inside.
    """
    if within(outline_m, x_m, y_m):
        return 0.0
    a, place = np.array(outline_m), np.array([x_m, y_m])
    along = np.roll(a, -1, axis=0) - a
    share = np.clip(((place - a) * along).sum(axis=1) / np.maximum((along**2).sum(axis=1), TOUCH_M**2), 0, 1)
    return float(np.linalg.norm(a + share[:, None] * along - place, axis=1).min())


# ------------------------------------------------------------------------------------------------------------ survey


@lru_cache(maxsize=8)
def city_of(buildings: tuple[Building, ...]) -> City:
    """Prepare a city for asking where sound can go.

    Parameters
    ----------
    buildings : tuple of Building
        Its buildings.

    Returns
    -------
    City
        Walls, corners and the shortest ways between corners.
    """
    starts, ends, corners = [np.zeros((0, 2))], [np.zeros((0, 2))], [np.zeros((0, 2))]
    for building in buildings:
        outline = np.array(building.outline_m)
        outline = outline if _area_m2(outline) > 0 else outline[::-1]
        starts.append(outline)
        ends.append(np.roll(outline, -1, axis=0))
        corners.append(_turning_points(outline))
    a, b = np.concatenate(starts), np.concatenate(ends)
    along = (b - a) / np.maximum(np.linalg.norm(b - a, axis=1, keepdims=True), TOUCH_M)
    sides = [len(building.outline_m) for building in buildings]
    tops = np.repeat([building.height_m for building in buildings], sides).astype(np.float64)
    loss = np.repeat([building.loss_db for building in buildings], sides).astype(np.float64)
    places = np.concatenate(corners)
    empty = np.zeros((0, 0))
    walls = City(a, b, np.column_stack([along[:, 1], -along[:, 0]]), tops, loss, places, empty, empty.astype(np.intp))
    between, onward = _shortest(walls)
    return City(a, b, walls.outward, tops, loss, places, between, onward)


def _turning_points(outline_m: Floats) -> Floats:
    """Find the corners that stick out, and step a little away from them."""
    before, after = outline_m - np.roll(outline_m, 1, axis=0), np.roll(outline_m, -1, axis=0) - outline_m
    units = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (before, after)]
    out = np.column_stack([units[0][:, 1] + units[1][:, 1], -units[0][:, 0] - units[1][:, 0]])
    convex = _cross(before, after) > 0
    size = np.maximum(np.linalg.norm(out, axis=1, keepdims=True), TOUCH_M)
    return np.asarray((outline_m + CORNER_M * out / size)[convex])


def _shortest(city: City) -> tuple[Floats, NDArray[np.intp]]:
    """Find the shortest way between all corners (Floyd and Warshall)."""
    count = len(city.corners_m)
    i, j = np.triu_indices(count, 1)
    legs = _at_height(np.stack([city.corners_m[i], city.corners_m[j]], axis=1), -1.0)
    seen = clear(city, legs)
    between = np.full((count, count), np.inf)
    np.fill_diagonal(between, 0.0)
    between[i[seen], j[seen]] = np.linalg.norm(legs[seen, 1] - legs[seen, 0], axis=1)
    between = np.minimum(between, between.T)
    onward = np.where(np.isfinite(between), np.arange(count)[None, :], -1)
    for k in range(count):
        through = between[:, k, None] + between[None, k, :]
        shorter = through < between
        between = np.where(shorter, through, between)
        onward = np.where(shorter, onward[:, k, None], onward)
    return between, onward


def _at_height(plan_m: Floats, height_m: float) -> Floats:
    return np.concatenate([plan_m, np.full((*plan_m.shape[:-1], 1), height_m)], axis=-1)


def clear(city: City, legs_m: Floats) -> NDArray[np.bool_]:
    """Say which straight legs no building stands in the way of.

    Parameters
    ----------
    city : City
        The city.
    legs_m : numpy.ndarray, shape (legs, 2, 3)
        Both ends of each.

    Returns
    -------
    numpy.ndarray of bool, shape (legs,)
        Whether each is free.
    """
    step = max(1, CHUNK // max(1, len(city.tops_m)))
    parts = [~_blocked(city, legs_m[first : first + step]) for first in range(0, len(legs_m), step)]
    return np.concatenate(parts) if parts else np.zeros(0, bool)


def _blocked(city: City, legs_m: Floats) -> NDArray[np.bool_]:
    share, hit = _crossings(city, legs_m)
    start, end = legs_m[:, 0, 2, None], legs_m[:, 1, 2, None]
    return np.asarray((hit & (start + share * (end - start) < city.tops_m)).any(axis=1))


def _crossings(city: City, legs_m: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Find where legs cross walls seen from above: share of the leg, and whether it does; shapes (legs, walls)."""
    start = legs_m[:, None, 0, :2]
    way = legs_m[:, None, 1, :2] - start
    wall = (city.ends_m - city.starts_m)[None]
    gap = city.starts_m[None] - start
    turn = _cross(way, wall)
    slanted = np.abs(turn) > 1e-12
    turn = np.where(slanted, turn, 1.0)
    share, place = _cross(gap, wall) / turn, _cross(gap, way) / turn
    near = TOUCH_M / np.maximum(np.linalg.norm(way, axis=-1), TOUCH_M)
    return share, slanted & (place >= 0) & (place <= 1) & (share > near) & (share < 1 - near)


# ------------------------------------------------------------------------------------------------------------ routes


def routes(city: City, source_m: Floats, ear_m: Floats, order: int) -> list[Route]:
    """Find every way from a source to a microphone: straight, off the ground, off facades, round and over buildings.

    Parameters
    ----------
    city : City
        The city.
    source_m, ear_m : numpy.ndarray, shape (3,)
        East, north, up.
    order : int
        By how many facades an echo is reflected at most, 0 to 2.

    Returns
    -------
    list of Route
        The shortest first.
    """
    plans: list[Plan] = [(np.stack([source_m[:2], ear_m[:2]]), ())]
    plans += [*_once(city, source_m, ear_m)] if order > 0 else []
    plans += [*_twice(city, source_m, ear_m)] if order > 1 else []
    # Below zero the land falls away, and nobody knows where it is.
    over_ground = (False, True) if min(source_m[2], ear_m[2]) >= 0 else (False,)
    tried = [_raised(city, plan, source_m[2], ear_m[2], ground) for plan in plans for ground in over_ground]
    found = [one for one in tried if _free(city, one.points_m)]
    if not found or found[0].kind != "direct":
        straight_m = float(np.linalg.norm(ear_m - source_m))
        found += [*_over(city, source_m, ear_m, straight_m), *_round(city, source_m, ear_m, straight_m)]
    echoes = sorted((one for one in found if one.kind == "echo"), key=lambda one: one.length_m)
    others = [one for one in found if one.kind != "echo"]
    return sorted(others + echoes[:MOST_ECHOES], key=lambda one: one.length_m)


def _free(city: City, points_m: Floats) -> bool:
    return bool(clear(city, np.stack([points_m[:-1], points_m[1:]], axis=1)).all())


def _raised(city: City, plan: Plan, from_z_m: float, to_z_m: float, ground: bool) -> Route:
    """Give a way its heights: straight in the unfolded plan, or folded up where it meets the ground."""
    flat, walls = plan
    run = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(flat, axis=0), axis=1))])
    share = run / run[-1] if run[-1] > TOUCH_M else np.linspace(0.0, 1.0, len(run))
    loss_db = float(city.loss_db[list(walls)].sum())
    if not ground:
        heights = from_z_m + (to_z_m - from_z_m) * share
        return Route("echo" if walls else "direct", np.column_stack([flat, heights]), loss_db)
    both_m = max(from_z_m + to_z_m, TOUCH_M)
    sunk, hit = from_z_m - both_m * share, from_z_m / both_m
    where = [float(np.interp(hit, share, flat[:, axis])) for axis in (0, 1)]
    points = np.insert(np.column_stack([flat, np.abs(sunk)]), int(np.searchsorted(share, hit)), [*where, 0.0], axis=0)
    sine = both_m / math.hypot(run[-1], both_m)
    return Route("echo" if walls else "bounce", points, loss_db, sine, (where[0], where[1]))


def _mirror_point(city: City, source_m: Floats, ear_m: Floats, walls: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Find where sound meets a wall on its way to the ear, and whether it does; shapes (walls, 2) and (walls,)."""
    start, out = city.starts_m[walls], city.outward[walls]
    before, after = ((source_m - start) * out).sum(axis=-1), ((ear_m - start) * out).sum(axis=-1)
    facing = (before > TOUCH_M) & (after > TOUCH_M)
    share = before / np.where(facing, before + after, 1.0)
    point = source_m + share[..., None] * (ear_m - source_m)
    point = point - ((point - start) * out).sum(axis=-1, keepdims=True) * out
    wall = city.ends_m[walls] - start
    place = ((point - start) * wall).sum(axis=-1) / np.maximum((wall**2).sum(axis=-1), TOUCH_M**2)
    return point, facing & (place >= 0) & (place <= 1)


def _once(city: City, source_m: Floats, ear_m: Floats) -> Iterator[Plan]:
    walls = np.arange(len(city.tops_m))
    points, met = _mirror_point(city, source_m[:2], ear_m[:2], walls)
    for wall in np.flatnonzero(met):
        plan = np.stack([source_m[:2], points[wall], ear_m[:2]])
        if _worth(city, plan, (int(wall),), source_m, ear_m):
            yield plan, (int(wall),)


def _twice(city: City, source_m: Floats, ear_m: Floats) -> Iterator[Plan]:
    walls = np.arange(len(city.tops_m))
    start, out = city.starts_m, city.outward
    image = source_m[:2] - 2 * ((source_m[:2] - start) * out).sum(axis=1, keepdims=True) * out
    first, second = (grid.ravel() for grid in np.meshgrid(walls, walls, indexing="ij"))
    near = np.linalg.norm(image - ear_m[:2], axis=1) < np.linalg.norm(source_m - ear_m) + 2 * DETOUR_M
    pairs = (first != second) & near[first]
    first, second = first[pairs], second[pairs]
    later, met = _mirror_point(city, image[first], ear_m[:2], second)
    first, second, later = first[met], second[met], later[met]
    sooner, met = _mirror_point(city, source_m[:2], later, first)
    for k in np.flatnonzero(met):
        plan = np.stack([source_m[:2], sooner[k], later[k], ear_m[:2]])
        by = (int(first[k]), int(second[k]))
        if _worth(city, plan, by, source_m, ear_m):
            yield plan, by


def _worth(city: City, plan_m: Floats, walls: tuple[int, ...], source_m: Floats, ear_m: Floats) -> bool:
    """Say whether an echo is not too late to tell, and its walls are high enough to reflect it."""
    run = np.cumsum(np.linalg.norm(np.diff(plan_m, axis=0), axis=1))
    if run[-1] - np.linalg.norm(ear_m[:2] - source_m[:2]) > DETOUR_M:
        return False
    heights = source_m[2] + (ear_m[2] - source_m[2]) * run[:-1] / run[-1]
    return bool((heights < city.tops_m[list(walls)]).all())


def _over(city: City, source_m: Floats, ear_m: Floats, straight_m: float) -> Iterator[Route]:
    """Stretch a string over the roofs in between."""
    leg = np.stack([source_m, ear_m])[None]
    share, hit = _crossings(city, leg)
    edges = sorted((float(share[0, k]), float(city.tops_m[k])) for k in np.flatnonzero(hit[0]))
    flat_m = float(np.linalg.norm(ear_m[:2] - source_m[:2]))
    string = [(0.0, float(source_m[2]))]
    for at, top in [*((share * flat_m, top) for share, top in edges), (flat_m, float(ear_m[2]))]:
        while len(string) > 1 and _sags(string[-2], string[-1], (at, top)):
            string.pop()
        string.append((at, top))
    if len(string) > 2:
        run, height = np.array(string).T
        flat = source_m[:2] + (run / max(flat_m, TOUCH_M))[:, None] * (ear_m[:2] - source_m[:2])
        route = Route("diffracted", np.column_stack([flat, height]))
        yield Route("diffracted", route.points_m, detour_m=route.length_m - straight_m)


def _sags(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


def _round(city: City, source_m: Floats, ear_m: Floats, straight_m: float) -> Iterator[Route]:
    """Stretch a string round the corners in between."""
    ends = [_reach_m(city, place[:2]) for place in (source_m, ear_m)]
    total = ends[0][:, None] + city.between_m + ends[1][None, :]
    if not total.size or not np.isfinite(total.min()):
        return
    here, last = (int(k) for k in np.unravel_index(int(np.argmin(total)), total.shape))
    corners = [here]
    while corners[-1] != last:
        corners.append(int(city.onward[corners[-1], last]))
    flat = np.concatenate([source_m[None, :2], city.corners_m[corners], ear_m[None, :2]])
    points = _raised(city, (flat, ()), source_m[2], ear_m[2], ground=False).points_m
    route = Route("diffracted", points)
    yield Route("diffracted", points, detour_m=max(route.length_m - straight_m, 0.0))


def _reach_m(city: City, place_m: Floats) -> Floats:
    """Measure the way to each corner that is in sight, infinite elsewhere."""
    legs = _at_height(np.stack([np.broadcast_to(place_m, city.corners_m.shape), city.corners_m], axis=1), -1.0)
    far = np.linalg.norm(city.corners_m - place_m, axis=1)
    return np.where(clear(city, legs), far, np.inf)


# ----------------------------------------------------------------------------------------------------------- bullets


@dataclass(frozen=True, slots=True, eq=False)
class Mirror:
    """A microphone as the ground or a facade shows it; or as it is.

    Attributes
    ----------
    image_m : numpy.ndarray, shape (3,)
        Where it appears to be.
    ear_m : numpy.ndarray, shape (3,)
        Where it is.
    through_m : numpy.ndarray, shape (2, 3)
        A point of the mirror and the unit vector out of it; zeros for none.
    wall : int
        Which wall it is; -1 for none.
    city : City
        Whose wall.
    """

    image_m: Floats
    ear_m: Floats
    through_m: Floats
    wall: int
    city: City

    @property
    def loss_db(self) -> float:
        """Say what is lost of a reflection.

        Returns
        -------
        float
            Decibels.
        """
        return float(self.city.loss_db[self.wall]) if self.wall >= 0 else 0.0

    def way(self, source_m: Floats) -> Floats:
        """Fold the straight line to the image at the mirror.

        Parameters
        ----------
        source_m : numpy.ndarray, shape (3,)
            Where sound leaves.

        Returns
        -------
        numpy.ndarray, shape (points, 3)
            Source, point of reflection if any, microphone; the source alone where the mirror does not show it.
        """
        point, out = self.through_m
        if not out.any():
            return np.stack([source_m, self.ear_m])
        before, after = float((source_m - point) @ out), float((self.ear_m - point) @ out)
        if before <= TOUCH_M or after <= TOUCH_M:
            return source_m[None]
        met = source_m + before / (before + after) * (self.image_m - source_m)
        if self.wall >= 0:
            a, b = self.city.starts_m[self.wall], self.city.ends_m[self.wall]
            place = float((met[:2] - a) @ (b - a)) / max(float((b - a) @ (b - a)), TOUCH_M**2)
            if not 0 <= place <= 1 or not 0 <= met[2] < self.city.tops_m[self.wall]:
                return source_m[None]
        return np.stack([source_m, met, self.ear_m])


def mirrored_ears(city: City, ear_m: Floats) -> Iterator[Mirror]:
    """Show a microphone as it is, in the ground, and in each facade that faces it.

    Parameters
    ----------
    city : City
        The city.
    ear_m : numpy.ndarray, shape (3,)
        The microphone.

    Yields
    ------
    Mirror
        Each.
    """
    yield Mirror(ear_m, ear_m, np.zeros((2, 3)), -1, city)
    yield Mirror(ear_m * [1, 1, -1], ear_m, np.array([[0.0, 0, 0], [0, 0, 1]]), -1, city)
    before_m = ((ear_m[:2] - city.starts_m) * city.outward).sum(axis=1)
    for wall in np.flatnonzero((before_m > TOUCH_M) & (before_m < DETOUR_M / 2)):
        out = np.array([*city.outward[wall], 0.0])
        image = ear_m - 2 * before_m[wall] * out
        yield Mirror(image, ear_m, np.stack([np.array([*city.starts_m[wall], 0.0]), out]), int(wall), city)


def flight_m(city: City, start_m: Floats, end_m: Floats) -> float:
    """Measure how far a bullet flies before a wall stops it.

    Parameters
    ----------
    city : City
        The city.
    start_m, end_m : numpy.ndarray, shape (3,)
        Muzzle, and where the bullet would go.

    Returns
    -------
    float
        Metres, at most to `end_m`.
    """
    share, hit = _crossings(city, np.stack([start_m, end_m])[None])
    stopped = hit[0] & (start_m[2] + share[0] * (end_m[2] - start_m[2]) < city.tops_m)
    return float(np.linalg.norm(end_m - start_m) * min([1.0, *share[0][stopped]]))
