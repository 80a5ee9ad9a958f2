"""The benchmarks' own physics and bound, checked against finite differences, simulation and each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.oracle import bound_m2, chan_ho, flight_s, inside_hull, jacobian

SPEED_M_S = 340.0
wind = st.tuples(st.floats(-15, 15), st.floats(-15, 15))
place = st.tuples(st.floats(-800, 800), st.floats(-800, 800), st.floats(0, 30)).map(np.array)


def array(seed: int, count: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(-500, 500, (count, 2)), rng.uniform(4, 12, count)])


@given(place, wind, st.integers(0, 100))
def test_sound_arrives_when_the_moving_air_has_carried_it_there(source, blowing, seed) -> None:
    at = array(seed)
    tau = flight_s(at, source, SPEED_M_S, blowing)
    carried = source + np.outer(tau, [*blowing, 0.0])
    assert np.linalg.norm(at - carried, axis=1) == pytest.approx(SPEED_M_S * tau, rel=1e-9)


@given(place, wind, st.integers(0, 100))
def test_derivatives_are_those_of_finite_differences(source, blowing, seed) -> None:
    at = array(seed)

    def times(theta: np.ndarray) -> np.ndarray:
        return theta[3] + flight_s(at, theta[:3], theta[4], theta[5:])

    theta = np.array([*source, 0.0, SPEED_M_S, *blowing])
    steps = np.array([1e-3, 1e-3, 1e-3, 1e-4, 1e-3, 1e-3, 1e-3])
    numeric = [(times(theta + step) - times(theta - step)) / (2 * step.max()) for step in np.diag(steps)]
    assert jacobian(at, source, SPEED_M_S, blowing) == pytest.approx(np.array(numeric).T, rel=1e-4, abs=1e-7)


def test_the_bound_is_reached_by_linear_estimates_of_simulated_arrivals() -> None:
    at, source, sigma = array(3), np.array([60.0, -90.0, 2.0]), 1e-5
    rng = np.random.default_rng(4)
    rows = jacobian(at, source, SPEED_M_S, (0.0, 0.0))[:, [0, 1, 3]]
    noise = sigma * rng.normal(size=(20_000, len(at)))
    errors = noise @ np.linalg.pinv(rows).T
    bound = bound_m2(at, source, np.full(len(at), sigma), SPEED_M_S, (0.0, 0.0), (1e-6, 1e-6, 1e-6))
    assert np.cov(errors[:, :2].T) == pytest.approx(bound, rel=0.05, abs=0.05 * bound.max())


def test_the_bound_grows_with_what_is_not_known() -> None:
    at, source, sigma = array(5), np.array([60.0, -90.0, 2.0]), np.full(8, 1e-3)
    known, unknown = (bound_m2(at, source, sigma, SPEED_M_S, (0.0, 0.0), (1.0, s, s)) for s in (0.01, 5.0))
    assert (np.linalg.eigvalsh(unknown - known) > 0).all()


def test_chan_ho_finds_a_source_exactly_where_there_is_no_noise() -> None:
    at = array(6)
    at[:, 2] = 0.0
    source = np.array([120.0, 210.0, 0.0])
    toa = 3.0 + flight_s(at, source, SPEED_M_S, (0.0, 0.0))
    assert chan_ho(at, toa, SPEED_M_S) == pytest.approx(source[:2], abs=1e-3)


def test_a_hull_holds_its_middle_and_not_what_lies_beyond_a_corner() -> None:
    corners = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]])
    assert inside_hull(corners, np.array([[5.0, 5.0], [11.0, 11.0]])).tolist() == [True, False]
