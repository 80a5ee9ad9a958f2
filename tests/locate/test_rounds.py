"""Rounds of one place are located together, and a shooter who moves is not held back."""

import numpy as np
import pytest

from agls.locate.rounds import Round, locate, together
from agls.locate.slow import SlowState
from agls.locate.solve import Air
from tests.locate.ground import SPEED_M_S, flight_s, square

PICK_S, PATH_S = 0.0015, 0.008
AIR = Air(SPEED_M_S, 0.0, 0.0, 0.6, 1.0)


def burst(places, seed, *, p_detect=1.0, path_s=None):
    """Fire rounds half a second apart, whose paths are the same; locate each for itself, and then all together."""
    rng = np.random.default_rng(seed)
    positions = square(12, 1000.0, rng)
    slow = SlowState(AIR, PATH_S)
    path = PATH_S * rng.normal(size=12)
    alone = []
    for k, place in enumerate(places):
        own = path if path_s is None else path_s[k]
        toa = 0.5 * k + flight_s(positions, np.array([*place, 1.5]), (0.0, 0.0), SPEED_M_S) + own
        toa += PICK_S * rng.normal(size=12)
        heard = np.flatnonzero(rng.random(12) < p_detect)
        one = locate(heard, toa[heard], np.full(len(heard), PICK_S), np.zeros(len(heard)), positions, slow)
        assert isinstance(one, Round)
        alone.append(one)
    return alone, together(alone, positions, slow)


def at(rounds):
    """Give the places of rounds."""
    return np.array([(one.solution.x_m, one.solution.y_m) for one in rounds])


def scatter_m(rounds):
    """Measure how far rounds scatter about their middle."""
    return float(np.sqrt(((at(rounds) - at(rounds).mean(axis=0)) ** 2).sum(axis=1).mean()))


def test_rounds_heard_by_different_sensors_scatter_by_picks_and_not_by_paths() -> None:
    for seed in range(4):
        alone, joint = burst([(420.0, 380.0)] * 5, seed, p_detect=0.8)
        assert scatter_m(joint) < 0.55 * scatter_m(alone)
        assert scatter_m(joint) < 0.5


@pytest.mark.parametrize("speed_m_s", [1.5, 15.0])
def test_a_shooter_who_moves_is_followed(speed_m_s: float) -> None:
    places = [(400.0 + speed_m_s * 0.5 * k, 450.0) for k in range(7)]
    for seed in range(4):
        _, joint = burst(places, seed)
        moved = at(joint)[-1] - at(joint)[0]
        assert moved == pytest.approx([3.0 * speed_m_s, 0.0], abs=2.0)


def test_rounds_whose_paths_differ_stay_as_they_were_located_alone() -> None:
    for seed in range(4):
        paths = PATH_S * np.random.default_rng(90 + seed).normal(size=(2, 12))
        alone, joint = burst([(420.0, 380.0)] * 2, seed, path_s=paths)
        assert np.array_equal(at(alone), at(joint))


def test_an_echo_taken_for_one_round_moves_neither_it_nor_the_others() -> None:
    paths = np.tile(PATH_S * np.random.default_rng(3).normal(size=12), (4, 1))
    right = at(burst([(420.0, 380.0)] * 4, 6, path_s=paths)[1])
    paths[1, 4] += 0.025
    assert np.abs(at(burst([(420.0, 380.0)] * 4, 6, path_s=paths)[1]) - right).max() < 0.5


def test_how_sure_a_place_is_stays_as_sure_as_its_paths() -> None:
    off, count = 0.0, 30
    for seed in range(count):
        place = (420.0, 380.0)
        one = burst([place] * 6, 100 + seed)[1][0].solution
        away = np.array([one.x_m, one.y_m]) - place
        off += float(away @ np.linalg.solve(one.covariance[:2, :2], away)) / 2.0
    assert 0.5 < off / count < 1.5


def test_where_paths_do_not_scatter_rounds_of_one_place_are_located_as_one_in_a_wind_that_nobody_reported() -> None:
    rng = np.random.default_rng(5)
    positions = square(8, 1000.0, rng)
    slow = SlowState(Air(SPEED_M_S - 2.0, 0.0, 0.0, 6.0, 3.0), 0.0)
    place, rounds = np.array([420.0, 380.0, 1.5]), []
    for k in range(20):
        toa = 0.1 * k + flight_s(positions, place, (-5.0, 3.0), SPEED_M_S) + PICK_S * rng.normal(size=8)
        heard = np.flatnonzero(rng.random(8) < 0.9)
        one = locate(heard, toa[heard], np.full(len(heard), PICK_S), np.zeros(len(heard)), positions, slow)
        assert isinstance(one, Round)
        rounds.append(one)
    joint = together(rounds, positions, slow)
    assert scatter_m(joint) < 0.6 * scatter_m(rounds)
    assert all((one.solution.weights > 0.5).sum() >= len(one.sensors) - 1 for one in joint)
