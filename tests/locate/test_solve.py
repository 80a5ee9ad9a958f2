"""The solver against an independent one, against truth, and against what must not matter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import least_squares
from scipy.stats import binom, chi2

from agls.locate.solve import Air, Height, NoSolution, Solution, solve
from tests.locate.ground import SPEED_M_S, STILL, flight_s, square

SIGMA_S = 0.001
OPEN_GATE = 30.0
STREET = Height(1.5, 2.0)


def heard(count=8, seed=0, side_m=1000.0, wind_m_s=(0.0, 0.0), sigma_s=SIGMA_S):
    """Fire one shot inside a square of sensors."""
    rng = np.random.default_rng(seed)
    positions = square(count, side_m, rng)
    source = np.array([*rng.uniform(0.2 * side_m, 0.8 * side_m, 2), 1.5])
    toa = flight_s(positions, source, wind_m_s) + rng.normal(0, 1, count) * sigma_s
    return positions, toa, np.full(count, SIGMA_S), source


def found(*arguments, **settings) -> Solution:
    """Solve what has a solution."""
    solution = solve(*arguments, **settings)
    assert isinstance(solution, Solution), solution
    return solution


def place(solution) -> np.ndarray:
    return np.array([solution.x_m, solution.y_m, solution.z_m])


def least_squares_solution(positions, toa, sigma, air, height, start):
    """Solve the same question with scipy and derivatives by differences."""

    def off(theta):
        x, y, z, origin, c, u, v = theta
        late = (toa - origin - flight_s(positions, np.array([x, y, z]), (u, v), c)) / sigma
        prior = [
            (z - height.mean_m) / height.sigma_m, (c - air.sound_speed_m_s) / air.sound_speed_sigma_m_s,
            (u - air.east_m_s) / air.wind_sigma_m_s, (v - air.north_m_s) / air.wind_sigma_m_s,
        ]  # fmt: skip
        return np.concatenate([late, prior])

    best = least_squares(
        off, start, x_scale=[1, 1, 1, 0.003, 1, 1, 1], jac="3-point", xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    return best.x, np.linalg.inv(best.jac.T @ best.jac)


@pytest.mark.parametrize("seed", range(6))
def test_place_time_and_covariance_are_those_of_an_independent_least_squares(seed: int) -> None:
    wind = (4.0, -3.0) if seed % 2 else (0.0, 0.0)
    positions, toa, sigma, source = heard(7 + seed, seed, wind_m_s=wind)
    air = Air(SPEED_M_S + 0.4, wind[0] + 0.3, wind[1] - 0.2, 0.6, 0.5)
    solution = found(positions, toa, sigma, air, STREET, gate=OPEN_GATE)
    start = np.array([*source, 0.0, air.sound_speed_m_s, air.east_m_s, air.north_m_s])
    expected, spread = least_squares_solution(positions, toa, sigma, air, STREET, start)
    # In wind the locator weighs arrivals upwind and downwind alike, to a share of wind over sound speed.
    share = 5e-3 + 2.0 * np.hypot(*wind) / SPEED_M_S
    off = np.append(place(solution), solution.origin_s) - expected[:4]
    assert np.abs(off / np.sqrt(np.diag(spread)[:4])).max() < share
    assert abs(solution.air.sound_speed_m_s - expected[4]) < share * np.sqrt(spread[4, 4])
    assert np.diag(solution.covariance) == pytest.approx(np.diag(spread)[:4], rel=0.02 + share)


@given(
    angle=st.floats(0, 6.28),
    shift=st.tuples(*[st.floats(-500, 500)] * 3),
    delay_s=st.floats(-2, 2),
    seed=st.integers(0, 20),
)
def test_turning_or_shifting_all_and_delaying_all_turns_shifts_and_delays_the_shot(angle, shift, delay_s, seed) -> None:
    positions, toa, sigma, _ = heard(7, seed, wind_m_s=(5.0, 2.0))
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    wind = turn[:2, :2] @ (5.0, 2.0)
    before = found(positions, toa, sigma, Air(SPEED_M_S, 5.0, 2.0, 0.6, 0.5), STREET)
    moved = Height(STREET.mean_m + shift[2], STREET.sigma_m)
    after = found(positions @ turn.T + shift, toa + delay_s, sigma, Air(SPEED_M_S, *wind, 0.6, 0.5), moved)
    assert place(after) == pytest.approx(turn @ place(before) + shift, abs=1e-3)
    assert after.origin_s == pytest.approx(before.origin_s + delay_s, abs=1e-6)
    rotated = turn[:2, :2] @ before.covariance[:2, :2] @ turn[:2, :2].T
    assert after.covariance[:2, :2] == pytest.approx(rotated, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_a_frame_12_km_away_changes_nothing_in_a_wind_of_15_m_s(seed: int) -> None:
    positions, toa, sigma, source = heard(8, seed, wind_m_s=(12.0, 9.0))
    air = Air(SPEED_M_S, 12.0, 9.0, 0.6, 0.5)
    before = found(positions, toa, sigma, air, STREET)
    away = np.array([12_000.0, -12_000.0, 0.0])
    after = found(positions + away, toa, sigma, air, STREET)
    assert place(after) - away == pytest.approx(place(before), abs=1e-3)
    assert after.origin_s == pytest.approx(before.origin_s, abs=1e-6)
    assert np.hypot(*(place(before) - source)[:2]) < 5.0


def test_three_late_echoes_of_eight_do_not_move_the_shot() -> None:
    rng = np.random.default_rng(3)
    for seed in range(60):
        positions, toa, sigma, source = heard(8, seed)
        clean = found(positions, toa, sigma, STILL, STREET)
        wrong = rng.choice(8, 3, replace=False)
        late = toa.copy()
        late[wrong] += rng.uniform(0.05, 0.6, 3)
        solution = found(positions, late, sigma, STILL, STREET)
        assert np.hypot(*(place(solution) - source)[:2]) < np.hypot(*(place(clean) - source)[:2]) + 5.0
        assert (solution.weights[wrong] < 0.5).all()


def test_of_places_that_explain_as_many_arrivals_the_one_that_makes_the_others_late_is_told() -> None:
    rng = np.random.default_rng(4)
    known = Air(SPEED_M_S, 0.0, 0.0, 0.1, 0.1)
    lost = 0
    for seed in range(500):
        positions, toa, sigma, source = heard(8, seed)
        toa[rng.choice(8, 3, replace=False)] += rng.uniform(0.02, 0.5, 3)
        lost += np.hypot(*(place(found(positions, toa, sigma, known, STREET)) - source)[:2]) > 10.0
    assert lost <= 1  # three, where early and late are held for equally likely


@pytest.mark.parametrize("far", [False, True], ids=["among the sensors", "far from them"])
def test_air_far_from_what_was_told_makes_no_right_arrival_look_wrong(far) -> None:
    rng = np.random.default_rng(6)
    refused = 0
    for seed in range(400):
        positions, _, sigma, source = heard(6, seed)
        source[:2] = (500.0, 500.0) + 1100.0 * np.array([np.cos(seed), np.sin(seed)]) if far else source[:2]
        toa = flight_s(positions, source, rng.normal(0, 3.0, 2), rng.normal(SPEED_M_S, 5.0))
        solution = found(positions, toa + rng.normal(0, SIGMA_S, 6), sigma, Air(SPEED_M_S), STREET)
        refused += (solution.weights < 0.5).any()
    assert refused == 0


@pytest.mark.parametrize("count", [5, 8, 14])
def test_the_covariance_covers_truth_as_often_as_it_says(count: int) -> None:
    rng = np.random.default_rng(count)
    inside, draws = 0, 300
    for seed in range(draws):
        wind = rng.normal(0, STILL.wind_sigma_m_s, 2)
        speed = rng.normal(SPEED_M_S, STILL.sound_speed_sigma_m_s)
        positions, _, sigma, source = heard(count, 1000 + seed)
        source[2] = rng.normal(STREET.mean_m, STREET.sigma_m)
        toa = flight_s(positions, source, wind, speed) + rng.normal(0, SIGMA_S, count)
        solution = found(positions, toa, sigma, STILL, STREET)
        off = (place(solution) - source)[:2]
        inside += off @ np.linalg.solve(solution.covariance[:2, :2], off) <= chi2.ppf(0.95, 2)
    low, high = binom.ppf([0.001, 0.999], draws, 0.95)
    assert low <= inside <= high


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_arrivals_are_a_named_no(count: int) -> None:
    solution = solve(np.zeros((count, 3)), np.zeros(count), np.full(count, SIGMA_S), STILL)
    assert solution == NoSolution("too_few_arrivals")


@pytest.mark.parametrize(
    "positions",
    [
        np.column_stack([np.arange(5) * 100.0, np.zeros(5), np.full(5, 8.0)]),
        np.column_stack([np.arange(5) * 100.0, np.arange(5) * 100.0, np.full(5, 8.0)]),
        np.tile([100.0, 100.0, 8.0], (5, 1)),
    ],
    ids=["in a row", "in a slanted row", "on one spot"],
)
def test_sensors_in_a_row_or_on_one_spot_are_a_named_no_or_an_honest_ellipse(positions) -> None:
    source = np.array([150.0, 220.0, 1.5])
    toa = flight_s(positions, source)
    solution = solve(positions, toa, np.full(5, SIGMA_S), STILL, STREET)
    if isinstance(solution, NoSolution):
        assert solution.reason in {"no_common_source", "geometry_does_not_fix_place"}
        return
    off = (place(solution) - source)[:2]
    mirrored = any(np.hypot(x - source[0], y - source[1]) < 20.0 for x, y, _ in solution.others)
    assert mirrored or off @ np.linalg.solve(solution.covariance[:2, :2], off) <= chi2.ppf(0.999, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("which", range(3))
def test_what_is_no_number_is_an_error(bad: float, which: int) -> None:
    arrays = [array.copy() for array in heard(6)[:3]]
    arrays[which].flat[2] = bad
    with pytest.raises(ValueError, match="finite"):
        solve(*arrays, STILL)


def test_sigmas_of_zero_and_shapes_that_differ_are_errors() -> None:
    positions, toa, sigma, _ = heard(6)
    with pytest.raises(ValueError, match="above zero"):
        solve(positions, toa, 0 * sigma, STILL)
    with pytest.raises(ValueError, match="shapes"):
        solve(positions, toa[:5], sigma, STILL)


def test_with_four_sensors_the_other_place_that_fits_is_told_with_its_odds() -> None:
    positions = np.array([[0, 0, 8], [100, 1, 8], [200, -1, 8], [300, 0, 8]], dtype=float)
    source = np.array([150.0, 200.0, 1.5])
    solution = found(positions, flight_s(positions, source), np.full(4, 0.003), STILL, STREET)
    places = [place(solution)[:2], *(np.array(other[:2]) for other in solution.others)]
    assert min(np.hypot(*(one - source[:2])) for one in places) < 30.0
    assert min(np.hypot(*(one - (150.0, -200.0))) for one in places) < 40.0
    assert all(0.0 < odds <= 1.0 for _, _, odds in solution.others)


def test_a_shot_among_many_sensors_has_no_other_place() -> None:
    assert found(*heard(10)[:3], STILL, STREET).others == ()


@pytest.mark.parametrize("side_m", [4.0, 1000.0, 12_000.0])
def test_rooms_cities_and_hills_are_solved_alike(side_m: float) -> None:
    sigma_s = 2e-5 * max(side_m / 20.0, 1.0)
    positions, toa, _, source = heard(8, 2, side_m, sigma_s=sigma_s)
    solution = found(positions, toa, np.full(8, sigma_s), Air(SPEED_M_S, 0, 0, 0.3, 0.1), Height(1.5, 0.5))
    off = (place(solution) - source)[:2]
    assert off @ np.linalg.solve(solution.covariance[:2, :2], off) <= chi2.ppf(0.999, 2)
    assert np.hypot(*off) < 0.01 * side_m


def test_a_room_whose_microphones_hang_at_one_height_is_covered_too() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(60):
        positions = square(8, 4.0, rng, up_m=2.5)
        source = np.array([*rng.uniform(0.5, 3.5, 2), 1.5])
        solution = found(positions, flight_s(positions, source) + rng.normal(0, 2e-5, 8), np.full(8, 2e-5), STILL)
        off = (place(solution) - source)[:2]
        inside += off @ np.linalg.solve(solution.covariance[:2, :2], off) <= chi2.ppf(0.95, 2)
    assert inside >= 50


def test_no_other_place_is_told_twice() -> None:
    positions = np.array([[0, 0, 8], [100, 1, 8], [200, -1, 8], [300, 0, 8]], dtype=float)
    source = np.array([150.0, 200.0, 1.5])
    others = found(positions, flight_s(positions, source), np.full(4, 0.003), STILL, STREET).others
    assert len({(round(x), round(y)) for x, y, _ in others}) == len(others)
