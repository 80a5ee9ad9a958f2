"""Which picks are one shot: what must be found, and what must not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agls.config import Locating
from agls.locate.search import Array, Picks, find_shots
from agls.locate.solve import Air
from tests.locate.ground import STILL, Heard, hear, search, square


def groups(positions, heard, **settings):
    return [set(shot.members) for shot in search(positions, heard, **settings)]


def score(heard, shots, found):
    """Count shots found with most of their picks, and groups that are no shot."""
    right = 0
    for number in range(shots):
        own = heard.members(number)
        right += any(len(own & group) >= 0.6 * max(len(own), len(group)) for group in found)
    return right, len(found) - right


def test_one_shot_is_found_with_all_its_picks_and_about_its_place() -> None:
    rng = np.random.default_rng(0)
    positions = square(10, 1000.0, rng)
    heard = hear(positions, [(0.0, 420.0, 610.0)], rng)
    (shot,) = search(positions, heard)
    assert set(shot.members) == heard.members(0)
    assert np.hypot(shot.place_m[0] - 420.0, shot.place_m[1] - 610.0) < 5.0
    assert abs(shot.origin_s) < 0.02
    assert 0.0 < shot.surplus < shot.score
    assert list(heard.toa_s[list(shot.members)]) == sorted(heard.toa_s[list(shot.members)])


@pytest.mark.parametrize("seed", range(4))
def test_two_shots_that_cross_on_their_way_are_told_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions = square(10, 1000.0, rng)
    heard = hear(positions, [(0.0, 200.0, 300.0), (0.4, 800.0, 700.0)], rng)
    assert score(heard, 2, groups(positions, heard)) == (2, 0)


@pytest.mark.parametrize("seed", range(4))
def test_echoes_at_every_sensor_make_no_shot(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions = square(12, 1000.0, rng)
    heard = hear(positions, [(0.0, 420.0, 610.0), (3.0, 425.0, 608.0)], rng, echo=0.9)
    assert score(heard, 2, groups(positions, heard)) == (2, 0)


@given(order=st.randoms(use_true_random=False), seed=st.integers(0, 5))
@settings(max_examples=15)
def test_the_order_of_picks_does_not_matter(order, seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions = square(10, 1000.0, rng)
    heard = hear(positions, [(0.0, 200.0, 300.0), (0.3, 800.0, 700.0)], rng, p_detect=0.9, echo=0.3, clutter_per_s=0.2)
    way = list(range(len(heard.toa_s)))
    order.shuffle(way)
    mixed = Heard(heard.sensor[way], heard.toa_s[way], heard.shot[way])
    before, after = search(positions, heard), search(positions, mixed)
    assert [(shot.origin_s, shot.place_m, shot.score) for shot in after] == [
        (shot.origin_s, shot.place_m, shot.score) for shot in before
    ]
    assert [tuple(way[k] for k in shot.members) for shot in after] == [shot.members for shot in before]


@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_no_pick_belongs_to_two_shots_and_no_sensor_to_a_shot_twice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions = square(8, 800.0, rng)
    shots = [(0.7 * k, *rng.uniform(0, 800, 2)) for k in range(5)]
    heard = hear(positions, shots, rng, p_detect=0.9, echo=0.5, clutter_per_s=0.5)
    found = search(positions, heard)
    every = [pick for shot in found for pick in shot.members]
    assert len(every) == len(set(every))
    for shot in found:
        assert len(shot.members) >= 4
        assert len(set(heard.sensor[list(shot.members)])) == len(shot.members)


@pytest.mark.parametrize("seed", range(3))
def test_a_minute_of_clutter_makes_no_shot(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions = square(12, 1000.0, rng)
    sensor, toa = rng.integers(0, 12, 720), np.sort(rng.uniform(0, 60, 720))
    assert search(positions, Heard(sensor, toa, np.full(720, -1)), path_sigma_s=0.0055) == []


@pytest.mark.parametrize("seed", range(3))
def test_bursts_of_two_automatic_weapons_are_told_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions = square(10, 1000.0, rng)
    times = np.arange(12)
    shots = [(0.1 * k + rng.normal(0, 0.002), 350.0, 400.0) for k in times]
    shots += [(0.04 + 0.1 * k + rng.normal(0, 0.002), 610.0, 560.0) for k in times]
    heard = hear(positions, sorted(shots), rng, p_detect=0.9, echo=0.2)
    right, wrong = score(heard, len(shots), groups(positions, heard))
    assert right >= 22
    assert wrong <= 1


@pytest.mark.parametrize("speed_m_s", [2.0, 12.0], ids=["on foot", "in a car"])
def test_a_shooter_who_moves_is_followed(speed_m_s: float) -> None:
    rng = np.random.default_rng(1)
    positions = square(12, 1000.0, rng)
    heard = hear(positions, [(0.5 * k, 400.0 + 0.5 * k * speed_m_s, 500.0) for k in range(8)], rng, p_detect=0.9)
    assert score(heard, 8, groups(positions, heard)) == (8, 0)


@pytest.mark.parametrize("seed", range(2))
def test_a_shooter_on_foot_among_echoes_is_no_burst_from_one_place(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions = square(8, 1000.0, rng)
    shots = [(0.5 * k + rng.normal(0, 0.01), 400.0 + k, 500.0 + k) for k in range(20)]
    heard = hear(positions, shots, rng, p_detect=0.9, echo=0.3)
    right, wrong = score(heard, len(shots), groups(positions, heard))
    assert right >= 19
    assert wrong <= 1


@pytest.mark.parametrize(("side_m", "sigma_s"), [(8.0, 2e-5), (12_000.0, 0.004)], ids=["a room", "hills"])
def test_a_room_and_hills_are_searched_with_settings_alone(side_m: float, sigma_s: float) -> None:
    rng = np.random.default_rng(4)
    positions = square(9, side_m, rng)
    positions[:, 2] = rng.uniform(0.5, 2.5, 9)
    shots = [(0.0, 0.4 * side_m, 0.5 * side_m), (0.5, 0.7 * side_m, 0.6 * side_m)]
    heard = hear(positions, shots, rng, sigma_s=sigma_s)
    found = search(positions, heard, sigma_s=sigma_s, path_sigma_s=sigma_s, max_range_m=min(4 * side_m, 20_000.0))
    assert score(heard, 2, [set(shot.members) for shot in found]) == (2, 0)
    for shot, (_, x, y) in zip(found, shots, strict=True):
        assert len(shot.members) >= 8
        assert np.hypot(shot.place_m[0] - x, shot.place_m[1] - y) < 0.02 * side_m


def test_silence_before_the_horizon_speaks_against_a_shot_and_after_it_does_not() -> None:
    rng = np.random.default_rng(5)
    positions = square(14, 1000.0, rng)
    heard = hear(positions, [(0.0, 500.0, 500.0)], rng)
    first = np.argsort(heard.toa_s)[:5]
    few = Heard(heard.sensor[first], heard.toa_s[first], heard.shot[first])
    array = Array(tuple("abcdefghijklmn"), positions)
    picks = Picks(few.sensor, few.toa_s, np.full(5, 0.001))
    early = find_shots(picks, array, STILL, Locating(), horizon_s=float(few.toa_s.max()))
    late = find_shots(picks, array, STILL, Locating())
    assert len(early) == 1
    assert late == [] or late[0].surplus < early[0].surplus - 10.0


def test_shots_decided_before_keep_their_picks() -> None:
    rng = np.random.default_rng(6)
    positions = square(10, 1000.0, rng)
    heard = hear(positions, [(0.0, 200.0, 300.0), (0.4, 800.0, 700.0)], rng)
    array = Array(tuple("abcdefghij"), positions)
    picks = Picks(heard.sensor, heard.toa_s, np.full(len(heard.toa_s), 0.001))
    first, second = find_shots(picks, array, STILL, Locating())
    assert [shot.members for shot in find_shots(picks, array, STILL, Locating(), decided=[first])] == [second.members]


def test_no_picks_one_sensor_and_too_few_sensors_give_no_shot() -> None:
    nothing = Picks(np.empty(0, dtype=np.int64), np.empty(0), np.empty(0))
    many = Picks(np.zeros(9, dtype=np.int64), np.arange(9.0), np.full(9, 0.001))
    three = Picks(np.arange(9) % 3, np.arange(9.0), np.full(9, 0.001))
    corners = np.array([[0, 0, 8], [300, 0, 8], [0, 300, 8], [300, 300, 8]], dtype=float)
    for array in (Array((), np.empty((0, 3))), Array(("a",), corners[:1]), Array(tuple("abcd"), corners)):
        assert find_shots(nothing, array, STILL, Locating()) == []
    assert find_shots(many, Array(("a",), corners[:1]), STILL, Locating()) == []
    assert find_shots(many, Array(tuple("abcd"), corners), STILL, Locating()) == []
    assert find_shots(three, Array(tuple("abcd"), corners), STILL, Locating()) == []


def test_a_shot_in_a_wind_that_is_known_roughly_is_found_where_it_was() -> None:
    rng = np.random.default_rng(8)
    positions = square(10, 1000.0, rng)
    heard = hear(positions, [(0.0, 420.0, 610.0)], rng, wind_m_s=(5.0, -3.0))
    (shot,) = search(positions, heard, air=Air(340.0, 0.0, 0.0, 2.0, 4.0))
    assert set(shot.members) == heard.members(0)
    assert np.hypot(shot.place_m[0] - 420.0, shot.place_m[1] - 610.0) < 8.0


def test_a_burst_far_outside_the_sensors_is_found_in_a_wind_that_nobody_reported() -> None:
    rng = np.random.default_rng(3)
    positions = square(8, 800.0, rng)
    shots = [(0.1 * k + rng.normal(0, 0.002), 1050.0, 500.0) for k in range(25)]
    heard = hear(positions, sorted(shots), rng, p_detect=0.9, echo=0.3, clutter_per_s=0.2, wind_m_s=(-2.2, 5.6))
    found = search(positions, heard, air=Air(340.8, 0.0, 0.0, 6.3, 3.0), path_sigma_s=0.0)
    right, wrong = score(heard, len(shots), [set(shot.members) for shot in found])
    assert right >= 23
    assert wrong <= 1
