"""The credible region where no ellipse describes it."""

import numpy as np

from agls.locate.region import CORNERS, region95
from agls.locate.solve import Air, Height, Solution, solve
from tests.locate.ground import flight_s, square

SIGMA_S = 0.004
AIR = Air(340.0, 0.0, 0.0, 1.0, 1.0)
STREET = Height(1.5, 2.0)


def walked(positions, source, rng):
    toa_s = flight_s(positions, source, speed_m_s=340.0) + rng.normal(0, SIGMA_S, len(positions))
    sigma_s = np.full(len(positions), SIGMA_S)
    solution = solve(positions, toa_s, sigma_s, AIR, STREET, gate=30.0)
    assert isinstance(solution, Solution)
    return solution, region95(solution, positions, toa_s, sigma_s, AIR, STREET)


def holds(corners, place) -> bool:
    """Say whether a polygon holds a place, by the winding of its corners."""
    angles = np.unwrap(np.arctan2(*(corners - place).T[::-1]))
    turn = np.angle(np.exp(1j * np.diff(np.append(angles, angles[0])))).sum()
    return abs(turn) > np.pi


def test_amid_many_sensors_it_is_the_ellipse() -> None:
    rng = np.random.default_rng(1)
    solution, corners = walked(square(12, 1000.0, rng), np.array([480.0, 510.0, 1.5]), rng)
    off = corners - np.array([solution.x_m, solution.y_m])
    chi2 = np.einsum("ij,jk,ik->i", off, np.linalg.inv(solution.covariance[:2, :2]), off)
    assert corners.shape == (CORNERS, 2)
    assert np.all((chi2 > 4.5) & (chi2 < 7.5))  # 5.99 on the ellipse


def test_far_outside_it_reaches_farther_out_than_in_and_holds_the_place_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    inside = out = inward = 0
    for _ in range(60):
        positions = square(6, 400.0, rng)
        angle = rng.uniform(0, 2 * np.pi)
        middle = positions[:, :2].mean(axis=0)
        away = np.array([np.cos(angle), np.sin(angle)])
        source = np.array([*(middle + 700.0 * away), 1.5])
        solution, corners = walked(positions, source, rng)
        inside += holds(corners, source[:2])
        reach = (corners - np.array([solution.x_m, solution.y_m])) @ away
        out += reach.max()
        inward -= reach.min()
    assert inside >= 52
    assert out > 1.1 * inward
