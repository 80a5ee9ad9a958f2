"""What a hub learns over shots, and which clock it blames."""

import numpy as np
import pytest

from agls.locate.slow import SlowState
from agls.locate.solve import Air, Solution, solve
from tests.locate.ground import SPEED_M_S, flight_s, square

S_NS = 1_000_000_000
PICK_S = 0.0015
REPORT = Air(SPEED_M_S, 0.0, 0.0, 2.0, 3.0)


def fire(state, positions, source, number, rng, *, wind=(0.0, 0.0), path_s=0.003, offset_s=None, speed=SPEED_M_S):
    """Let a place fire, locate it, and let the hub learn; return whom it names."""
    n = len(positions)
    toa = flight_s(positions, source, wind, speed) + rng.normal(0, np.hypot(path_s, PICK_S), n)
    toa += np.zeros(n) if offset_s is None else offset_s
    late_s, clock_s = state.clocks.known(np.arange(n))
    toa, sigma_s = toa - late_s, np.hypot(np.hypot(PICK_S, state.path_sigma_s), clock_s)
    solution = solve(positions, toa, sigma_s, state.air)
    assert isinstance(solution, Solution)
    return state.feed(solution, np.arange(n), positions, sigma_s, np.full(n, PICK_S), number * 60 * S_NS), solution


def season(seed=0, places=30, **trouble):
    """Let a city hear shots from many places; return what the hub has learned and the sensors it named."""
    rng = np.random.default_rng(seed)
    positions = square(12, 1000.0, rng)
    state, named = SlowState(REPORT, 0.005), []
    for number in range(places):
        source = np.array([*rng.uniform(100, 900, 2), 1.5])
        suspects, _ = fire(state, positions, source, number, rng, **trouble)
        named += suspects
    return state, named


def clock_off(seed, off_s, inside):
    """Let the clock of the node nearest to the middle, or farthest from it, be off; return it and who is named."""
    positions = square(12, 1000.0, np.random.default_rng(seed))
    apart = np.linalg.norm(positions - positions.mean(axis=0), axis=1)
    node = int(np.argmin(apart) if inside else np.argmax(apart))
    offset_s = np.zeros(12)
    offset_s[node] = off_s
    return node, season(seed, wind=(2.4, -1.8), offset_s=offset_s)[1]


@pytest.mark.parametrize("off_s", [0.015, -0.015])
def test_a_node_15_ms_off_is_named_and_no_neighbour_is_in_a_wind_of_3_m_s(off_s: float) -> None:
    found = 0
    for seed in range(4):
        node, named = clock_off(seed, off_s, inside=True)
        assert {suspect.sensor for suspect in named} <= {node}
        assert all(suspect.offset_s == pytest.approx(off_s, abs=0.006) for suspect in named)
        found += bool(named)
    assert found == 4


@pytest.mark.parametrize("seed", range(4))
def test_a_node_15_ms_off_at_the_edge_of_the_array_is_named(seed: int) -> None:
    node, named = clock_off(seed, 0.015, inside=False)
    assert {suspect.sensor for suspect in named} == {node}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("wind", [(0.0, 0.0), (5.0, 3.0)])
def test_wind_alone_names_nobody(seed: int, wind) -> None:
    _, named = season(seed, wind=wind)
    assert named == []


@pytest.mark.parametrize("inside", [True, False], ids=["inner", "edge"])
def test_once_a_clock_is_known_to_be_off_shots_are_placed_as_if_it_were_right(inside: bool) -> None:
    rng = np.random.default_rng(8)
    positions = square(8, 1000.0, rng)
    apart = np.linalg.norm(positions - positions.mean(axis=0), axis=1)
    offset_s = np.zeros(8)
    offset_s[np.argmin(apart) if inside else np.argmax(apart)] = 0.025
    state, errors = SlowState(REPORT, 0.005), []
    for number in range(60):
        source = np.array([*rng.uniform(100, 900, 2), 1.5])
        solution = fire(state, positions, source, number, rng, offset_s=offset_s)[1]
        errors.append(np.hypot(solution.x_m - source[0], solution.y_m - source[1]))
    assert np.median(errors[40:]) < 0.7 * np.median(errors[:10])
    assert np.median(errors[40:]) < 3.0


def test_two_clocks_that_are_off_are_both_named_and_nobody_else() -> None:
    offset_s = np.zeros(12)
    offset_s[[2, 7]] = 0.020, -0.018
    named = season(5, places=45, wind=(-2.0, 2.0), offset_s=offset_s)[1]
    assert {suspect.sensor for suspect in named} == {2, 7}


@pytest.mark.parametrize("seed", range(3))
def test_paths_that_scatter_more_than_they_are_thought_to_name_nobody(seed: int) -> None:
    assert season(seed, places=40, path_s=0.012)[1] == []


def test_echoes_at_one_node_do_not_make_its_clock_late() -> None:
    rng = np.random.default_rng(6)
    positions = square(12, 1000.0, rng)
    state, named = SlowState(REPORT, 0.005), []
    for number in range(40):
        late_s = np.zeros(12)
        late_s[3] = rng.uniform(0.03, 0.08) if number % 3 == 0 else 0.0  # of every third shot only the echo is heard
        named += fire(state, positions, np.array([*rng.uniform(100, 900, 2), 1.5]), number, rng, offset_s=late_s)[0]
    assert named == []


def test_what_is_remembered_of_clocks_is_bounded_and_a_clock_set_right_is_forgiven_and_named_anew() -> None:
    rng = np.random.default_rng(7)
    positions = square(12, 1000.0, rng)
    node = int(np.argmin(np.linalg.norm(positions - positions.mean(axis=0), axis=1)))
    watch, named = SlowState(REPORT, 0.005), []
    for number in range(240):
        offset_s = np.zeros(12)
        offset_s[node] = 0.0 if 60 <= number < 150 else 0.02
        source = np.array([*rng.uniform(0, 1000, 2), 1.5])
        named += [(number, one.sensor) for one in fire(watch, positions, source, number, rng, offset_s=offset_s)[0]]
    assert {sensor for _, sensor in named} == {node}
    assert len(named) == 2
    assert named[0][0] < 60
    assert named[1][0] >= 150


def test_wind_and_sound_speed_are_learned() -> None:
    state, _ = season(1, wind=(4.0, -2.0), speed=SPEED_M_S + 1.5, places=60)
    assert (state.air.east_m_s, state.air.north_m_s) == pytest.approx((4.0, -2.0), abs=2.5 * state.air.wind_sigma_m_s)
    assert state.air.sound_speed_m_s == pytest.approx(SPEED_M_S + 1.5, abs=0.6)
    assert state.air.wind_sigma_m_s < 0.2 * REPORT.wind_sigma_m_s


def test_air_three_sigmas_from_the_report_is_believed_after_a_few_shots() -> None:
    speed = SPEED_M_S + 3.0 * REPORT.sound_speed_sigma_m_s
    for seed in range(4):
        state, _ = season(seed, wind=(9.0, 0.0), speed=speed, places=6)
        assert state.air.east_m_s == pytest.approx(9.0, abs=3.0 * state.air.wind_sigma_m_s)
        assert state.air.sound_speed_m_s == pytest.approx(speed, abs=3.0 * state.air.sound_speed_sigma_m_s)
        assert state.air.wind_sigma_m_s < 0.7 * REPORT.wind_sigma_m_s


def test_paths_twice_as_rough_as_configured_are_noticed_within_five_places() -> None:
    learned = [season(seed, places=5, path_s=0.010)[0].path_sigma_s for seed in range(8)]
    assert np.median(learned) == pytest.approx(0.010, abs=0.0025)
    assert min(learned) > 0.006


def test_an_arrival_of_another_sound_does_not_roughen_the_paths() -> None:
    late_s = np.zeros(12)
    late_s[3] = 0.2
    assert season(5, places=20, offset_s=late_s)[0].path_sigma_s < 0.0045


def test_a_place_is_not_located_by_the_air_it_taught() -> None:
    rng = np.random.default_rng(7)
    positions = square(12, 1000.0, rng)
    state = SlowState(REPORT, 0.005)
    fresh = state.air
    _, solution = fire(state, positions, np.array([420.0, 510.0, 1.5]), 0, rng, wind=(4.0, 0.0))
    assert state.air.wind_sigma_m_s < 0.9 * fresh.wind_sigma_m_s
    sigma_s, pick_s = np.full(12, 0.005), np.full(12, PICK_S)
    assert state.expected(solution, positions, sigma_s, pick_s)[0].wind_sigma_m_s > state.air.wind_sigma_m_s


def test_the_scatter_of_paths_is_learned_from_many_places_and_not_from_one() -> None:
    rng = np.random.default_rng(2)
    state, _ = season(2, places=80, path_s=0.010)
    assert state.path_sigma_s > 0.0075
    positions = square(12, 1000.0, rng)
    alone = SlowState(REPORT, 0.005)
    for number in range(80):
        fire(alone, positions, np.array([420.0, 510.0, 1.5]), number, rng, path_s=0.010)
    assert alone.path_sigma_s < state.path_sigma_s


def test_what_is_known_of_the_air_never_gets_less_sure_than_the_report() -> None:
    state, _ = season(3, places=10)
    rng = np.random.default_rng(3)
    positions = square(12, 1000.0, rng)
    fire(state, positions, np.array([420.0, 510.0, 1.5]), 1_000_000, rng)  # two years later
    assert state.air.wind_sigma_m_s <= REPORT.wind_sigma_m_s
    assert state.air.sound_speed_sigma_m_s <= REPORT.sound_speed_sigma_m_s


def test_shots_heard_by_few_teach_nothing() -> None:
    rng = np.random.default_rng(4)
    positions = square(5, 800.0, rng)
    state, fresh = SlowState(REPORT, 0.005), SlowState(REPORT, 0.005)
    assert fire(state, positions, np.array([300.0, 400.0, 1.5]), 0, rng)[0] == []
    assert (state.air, state.path_sigma_s) == (fresh.air, fresh.path_sigma_s)
