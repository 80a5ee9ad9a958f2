"""Where sound can go in a city: against geometry done by hand, and against the shortest string."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.city import Building, city_of, clear, crosses_itself, distance_m, routes, within

BLOCK = Building(building_id="block", outline_m=((-20, 10), (20, 10), (20, 30), (-20, 30)), height_m=12.0, loss_db=3.0)
SOURCE, EAR = np.array([0.0, 0.0, 1.5]), np.array([15.0, -5.0, 6.0])


def kinds(found) -> list[str]:
    return [route.kind for route in found]


def test_an_open_field_has_a_straight_way_and_a_bounce_off_the_ground() -> None:
    found = routes(city_of(()), SOURCE, EAR, order=2)
    assert kinds(found) == ["direct", "bounce"]
    assert found[1].length_m == pytest.approx(math.dist(SOURCE, EAR * [1, 1, -1]))
    assert found[1].ground_m == pytest.approx((15 * 1.5 / 7.5, -5 * 1.5 / 7.5))


def test_a_facade_reflects_as_a_mirror() -> None:
    echoes = [route for route in routes(city_of((BLOCK,)), SOURCE, EAR, order=1) if route.kind == "echo"]
    mirrored = np.array([15.0, 25.0, 6.0])  # the facade is at 10 m north
    assert echoes[0].length_m == pytest.approx(math.dist(SOURCE, mirrored))
    assert echoes[0].points_m[1] == pytest.approx([15 * 10 / 25, 10.0, 1.5 + 4.5 * 10 / 25])
    assert echoes[0].loss_db == 3.0
    assert len(echoes) == 2  # the other by the ground too
    assert echoes[1].length_m == pytest.approx(math.dist(SOURCE, mirrored * [1, 1, -1]))


@pytest.mark.parametrize(
    ("ear_m", "why"), [((100.0, -5.0, 6.0), "beside the facade"), ((15.0, -5.0, 60.0), "above it")]
)
def test_a_facade_reflects_no_further_than_it_reaches(ear_m: tuple[float, float, float], why: str) -> None:
    assert "echo" not in kinds(routes(city_of((BLOCK,)), SOURCE, np.array(ear_m), order=2)), why


def test_a_street_between_two_facades_echoes_twice() -> None:
    other = Building(building_id="other", outline_m=((-20, -30), (20, -30), (20, -10), (-20, -10)), height_m=12.0)
    ear_m = np.array([8.0, 2.0, 4.0])
    echoes = [route for route in routes(city_of((BLOCK, other)), SOURCE, ear_m, order=2) if route.kind == "echo"]
    # Images of the ear in walls at +10 and -10 m: once at 18 and -22, twice at 2 - 40 and 2 + 40.
    images_m = [18.0, -22.0, -38.0, 42.0]
    expected = sorted(math.dist(SOURCE, (8.0, y, z)) for y in images_m for z in (4.0, -4.0))
    assert [route.length_m for route in echoes] == pytest.approx(expected)
    assert [round(route.loss_db) for route in echoes] == [3, 3, 3, 3, 6, 6, 6, 6]


def test_behind_a_building_sound_comes_over_the_roof_and_round_the_corner_alone() -> None:
    behind = np.array([5.0, 60.0, 3.0])
    over, around = sorted(routes(city_of((BLOCK,)), SOURCE, behind, order=2), key=lambda route: route.points_m[1, 2])[
        ::-1
    ]
    edges = [(0.0, 1.5), (10.06, 12.0), (30.1, 12.0), (60.2, 3.0)]
    assert over.length_m == pytest.approx(sum(math.dist(a, b) for a, b in pairwise(edges)), abs=0.3)
    by_east = math.dist((0, 0), (20, 10)) + 20 + math.dist((20, 30), (5, 60))
    assert around.length_m == pytest.approx(by_east, abs=0.2)
    assert {over.kind, around.kind} == {"diffracted"}
    assert over.detour_m == pytest.approx(over.length_m - math.dist(SOURCE, behind))


def test_a_ray_passes_above_a_roof_and_not_below() -> None:
    legs = np.array([[[0, 0, 1.5], [0, 60, 6.0]], [[0, 0, 30.0], [0, 60, 30.0]], [[0, 0, 1.5], [0, 9.9, 1.5]]])
    assert clear(city_of((BLOCK,)), legs).tolist() == [False, True, True]


BLOCKS = tuple(
    Building(building_id=f"b{i}{j}", outline_m=((x, y), (x + 30, y), (x + 30, y + 24), (x, y + 24)), height_m=15.0)
    for i, x in enumerate((-60.0, -15.0, 30.0))
    for j, y in enumerate((-50.0, -10.0, 30.0))
)
place = st.tuples(st.floats(-100, 100), st.floats(-90, 90)).filter(
    lambda at: all(distance_m(one.outline_m, *at) > 0.5 for one in BLOCKS)
)


@settings(max_examples=40, deadline=None)
@given(place, place)
def test_ways_are_as_long_backwards_as_forwards_and_never_shorter_than_straight(a, b) -> None:
    city = city_of(BLOCKS)
    there = routes(city, np.array([*a, 2.0]), np.array([*b, 5.0]), order=2)
    back = routes(city, np.array([*b, 5.0]), np.array([*a, 2.0]), order=2)
    assert sorted(route.length_m for route in there) == pytest.approx(
        sorted(route.length_m for route in back), abs=1e-6
    )
    straight_m = math.dist((*a, 2.0), (*b, 5.0))
    assert all(route.length_m >= straight_m - 1e-9 for route in there)
    assert there, "sound finds a way"
    for route in there:
        legs = np.stack([route.points_m[:-1], route.points_m[1:]], axis=1)
        assert clear(city, legs).all() or (route.kind == "diffracted" and route.points_m[:, 2].max() >= 15.0 - 1e-9)


def test_an_outline_that_crosses_itself_is_told_from_one_that_does_not() -> None:
    assert not crosses_itself(((0, 0), (10, 0), (10, 5), (5, 5), (5, 10), (0, 10)))
    assert crosses_itself(((0, 0), (10, 10), (10, 0), (0, 10)))
    assert crosses_itself(((0, 0), (10, 0), (20, 0)))  # nothing inside


def test_a_place_is_within_an_outline_or_some_metres_from_it() -> None:
    assert within(BLOCK.outline_m, 0, 20)
    assert not within(BLOCK.outline_m, 0, 5)
    assert distance_m(BLOCK.outline_m, 0, 5) == pytest.approx(5)
    assert distance_m(BLOCK.outline_m, 23, 34) == pytest.approx(5)
    assert distance_m(BLOCK.outline_m, 0, 20) == 0
