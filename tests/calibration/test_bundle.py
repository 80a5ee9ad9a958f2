"""Adjusting sensors, clocks, air and shots together: right where it can be, and unsure where it cannot."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from agls.errors import InputError
from bench import oracle
from bench.survey import CLOCK_S, KNOWN, PICK_S, SURVEY_M, draw
from calibration.bundle import Bundle, Picks, Shots, adjust, flight_s, same_places
from calibration.ties import off_plane, ties


def unknown_places(shots: Shots, rng: np.random.Generator) -> Shots:
    """Forget where shots were fired, but for a guess within some 5 m."""
    guess = shots.places_m + np.column_stack([rng.normal(0, 5, (len(shots.names), 2)), np.zeros(len(shots.names))])
    return replace(shots, places_m=guess, place_sigma_m=np.tile([math.inf, math.inf, 1.0], (len(shots.names), 1)))


@given(st.integers(0, 999), st.floats(300, 360), st.floats(-20, 20), st.floats(-20, 20))
def test_flight_times_are_those_of_the_oracle(seed: int, speed: float, east: float, north: float) -> None:
    rng = np.random.default_rng(seed)
    sensors, source = rng.uniform(-1000, 1000, (5, 3)), rng.uniform(-1000, 1000, 3)
    found, unit = flight_s(sensors - source, speed, np.array([east, north, 0.0]))
    np.testing.assert_allclose(found, oracle.flight_s(sensors, source, speed, (east, north)), rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1.0)


def test_it_finds_what_scipy_finds_for_the_same_problem() -> None:
    site = draw(1, 0.0)
    network = replace(site.network, path_sigma_s=0.0)
    found = adjust(network, site.shots, site.picks)
    count, shot, sensor = len(network.sensor_ids), site.picks.shot, site.picks.sensor

    def left(unknown: np.ndarray) -> np.ndarray:
        moved, late, air, origin = np.split(unknown, [2 * count, 3 * count, 3 * count + 3])
        places = network.positions_m + np.column_stack([moved.reshape(-1, 2) * SURVEY_M, np.zeros(count)])
        speed, wind = 340.0 + 3 * air[0], 3 * air[1:]
        flights = np.array([oracle.flight_s(places, source, speed, wind) for source in site.shots.places_m])
        due = 10.0 * np.arange(count)[shot] + 1e-3 * origin[shot] + flights[shot, sensor] + CLOCK_S * late[sensor]
        return np.concatenate([(site.picks.toa_s - due) / PICK_S, unknown[: 3 * count + 3]])

    best = least_squares(left, np.zeros(4 * count + 3), jac="3-point", xtol=1e-15, ftol=1e-15, gtol=1e-12)
    np.testing.assert_allclose(
        (found.positions_m - network.positions_m)[:, :2], SURVEY_M * best.x[: 2 * count].reshape(-1, 2), atol=1e-4
    )
    np.testing.assert_allclose(found.offsets_s, CLOCK_S * best.x[2 * count : 3 * count], atol=1e-6)
    assert found.misfit == pytest.approx(2 * best.cost, rel=1e-6)
    covariance = np.linalg.inv(best.jac.T @ best.jac)
    np.testing.assert_allclose(
        found.position_sigma_m[:, :2].ravel(), SURVEY_M * np.sqrt(np.diag(covariance))[: 2 * count], rtol=1e-3
    )


@settings(max_examples=8)
@given(st.integers(0, 999), st.floats(0, 2 * math.pi), st.floats(-9e3, 9e3), st.floats(-9e3, 9e3), st.booleans())
def test_turning_and_shifting_the_site_turns_and_shifts_the_answer(
    seed: int, angle: float, x_m: float, y_m: float, known: bool
) -> None:
    site = draw(seed, 0.002)
    shots = site.shots if known else unknown_places(site.shots, np.random.default_rng(seed))
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    shift = np.array([x_m, y_m, 0.0])
    network = replace(site.network, positions_m=site.network.positions_m @ turn.T + shift)
    moved = replace(shots, places_m=shots.places_m @ turn.T + shift)
    plain, turned = adjust(site.network, shots, site.picks), adjust(network, moved, site.picks)
    np.testing.assert_allclose(turned.positions_m, plain.positions_m @ turn.T + shift, atol=0.02)
    np.testing.assert_allclose(turned.offsets_s, plain.offsets_s, atol=5e-5)
    wind = [turned.air.east_m_s, turned.air.north_m_s]
    np.testing.assert_allclose(wind, turn[:2, :2] @ [plain.air.east_m_s, plain.air.north_m_s], atol=0.02)


def test_one_delay_added_to_all_picks_moves_only_the_origin_times() -> None:
    site = draw(2, 0.002)
    later = replace(site.picks, toa_s=site.picks.toa_s + 7.0)
    plain, moved = (adjust(site.network, site.shots, picks) for picks in (site.picks, later))
    np.testing.assert_allclose(moved.positions_m, plain.positions_m, atol=1e-3)
    np.testing.assert_allclose(moved.origins_s - plain.origins_s, 7.0, atol=1e-6)


@pytest.mark.parametrize("path_s", [0.0, 0.008])
def test_its_sigma_covers_the_truth_and_the_scatter_of_paths_is_found(path_s: float) -> None:
    ratios, paths = [], []
    for seed in range(12):
        site = draw(seed, path_s)
        found = adjust(site.network, site.shots, site.picks)
        ratios += ((found.positions_m - site.positions_m)[:, :2] / found.position_sigma_m[:, :2]).ravel().tolist()
        ratios += ((found.offsets_s - site.offsets_s) / found.offset_sigma_s).tolist()
        paths.append(found.path_sigma_s)
    assert 0.90 <= np.mean(np.abs(ratios) < 1.96) <= 0.985
    assert np.median(paths) == pytest.approx(path_s, rel=0.15, abs=2e-4)


def test_echoes_are_refused_and_nothing_else() -> None:
    site = draw(5, 0.0)
    toa_s = site.picks.toa_s.copy()
    late = [3, 17, 40, 41, 77, 100, 143]
    toa_s[late] += np.linspace(0.008, 0.09, len(late))
    found = adjust(site.network, site.shots, replace(site.picks, toa_s=toa_s))
    assert np.flatnonzero(~found.used).tolist() == late
    clean = adjust(site.network, site.shots, site.picks)
    assert np.abs(found.positions_m - clean.positions_m).max() < 0.3


def test_a_late_pick_among_shots_of_one_place_is_refused_although_paths_scatter_more() -> None:
    site = draw(6, 0.008)
    again = [np.tile(part, 3) for part in (site.picks.sensor, site.picks.toa_s)]
    shot = np.concatenate([site.picks.shot + 12 * time for time in range(3)])
    toa_s = again[1] + 200.0 * np.repeat(range(3), 144) + np.random.default_rng(1).normal(0, PICK_S, 432)
    toa_s[200] += 0.004
    thrice = replace(
        site.shots,
        names=tuple(map(str, range(36))),
        places_m=np.tile(site.shots.places_m, (3, 1)),
        place_sigma_m=np.zeros((36, 3)),
        place=np.tile(site.shots.place, 3),
        origin_s=np.zeros(36),
        origin_sigma_s=np.full(36, math.inf),
    )
    found = adjust(site.network, thrice, Picks(shot, again[0], toa_s, np.full(432, 3e-4)))
    assert np.flatnonzero(~found.used).tolist() == [200]
    assert found.path_sigma_s == pytest.approx(0.008, rel=0.25)
    # Shots of one place share their paths: three times as many tell no more of the sensors.
    single = adjust(site.network, site.shots, site.picks)
    assert found.position_sigma_m[:, :2].mean() == pytest.approx(single.position_sigma_m[:, :2].mean(), rel=0.15)


def test_picks_that_do_not_fit_are_told_of_whatever_the_descent_met() -> None:
    site = draw(7, 0.002)
    assert adjust(site.network, site.shots, site.picks).doubt == ()
    # Shots mistaken for others: a trial may want a wind faster than sound, and nothing fits in the end.
    wrong = replace(site.picks, toa_s=site.picks.toa_s[::-1].copy())
    found = adjust(site.network, unknown_places(site.shots, np.random.default_rng(7)), wrong)
    assert np.isfinite(found.misfit)
    assert "DO NOT FIT" in found.doubt[0]


def names_of(bundle: Bundle, network: object) -> set[str]:
    """Name what was not told."""
    return {tie.name for tie in ties(network, bundle)}


def test_a_wind_is_named_as_a_plane_of_clock_offsets_unless_clocks_are_right() -> None:
    site = draw(7, 0.0)
    found = adjust(site.network, site.shots, site.picks)
    assert names_of(found, site.network) == {"all_clocks", "wind_east", "wind_north"}
    punctual = replace(site.network, offset_sigma_s=np.zeros(12))
    picks = replace(site.picks, toa_s=site.picks.toa_s - site.offsets_s[site.picks.sensor])
    told = adjust(punctual, site.shots, picks)
    assert names_of(told, punctual) == set()
    np.testing.assert_allclose([told.air.east_m_s, told.air.north_m_s], site.wind_m_s, atol=0.3)


def test_a_wind_nobody_knew_moves_the_offsets_by_a_plane_alone() -> None:
    site = draw(8, 0.0)
    still = replace(site.network, air=replace_air(0.01))
    found = adjust(still, site.shots, site.picks)
    plane = np.column_stack([np.ones(12), site.positions_m[:, :2]])
    late = found.offsets_s - site.offsets_s
    slope = np.linalg.lstsq(plane, late)[0]
    np.testing.assert_allclose(-slope[1:] * found.air.sound_speed_m_s**2, site.wind_m_s, atol=0.15)
    apart_s, apart_sigma_s = off_plane(found.positions_m, found)
    truth = site.offsets_s - plane @ np.linalg.lstsq(plane, site.offsets_s)[0]
    assert np.sqrt(np.mean((apart_s - truth) ** 2)) < 5e-4
    assert (apart_sigma_s < 5e-4).all()


def replace_air(wind_sigma_m_s: float) -> object:
    """Claim still air, this surely."""
    return type(KNOWN)(KNOWN.sound_speed_m_s, 0.0, 0.0, KNOWN.sound_speed_sigma_m_s, wind_sigma_m_s)


def test_unknown_shots_leave_shift_turn_and_size_to_the_survey() -> None:
    site = draw(9, 0.0)
    shots = unknown_places(site.shots, np.random.default_rng(9))
    found = adjust(site.network, shots, site.picks)
    assert {"shift_east", "shift_north", "turn", "size"} <= names_of(found, site.network)
    shapes = [
        np.linalg.norm(places[:, None] - places, axis=2)
        for places in (found.positions_m, site.positions_m, site.network.positions_m)
    ]
    adjusted_m, surveyed_m = (np.sqrt(np.mean((shapes[k] - shapes[1]) ** 2)) for k in (0, 2))
    assert adjusted_m < 0.6 * surveyed_m


def test_a_sensor_that_hears_nothing_keeps_its_survey() -> None:
    site = draw(10, 0.0)
    heard = site.picks.sensor != 4
    picks = Picks(*(part[heard] for part in (site.picks.shot, site.picks.sensor, site.picks.toa_s, site.picks.sigma_s)))
    found = adjust(site.network, site.shots, picks)
    np.testing.assert_allclose(found.positions_m[4], site.network.positions_m[4])
    assert found.offset_sigma_s[4] == pytest.approx(CLOCK_S)
    assert {"the east of s4", "the north of s4", "the clock of s4"} <= names_of(found, site.network)


def test_too_few_picks_are_refused() -> None:
    site = draw(11, 0.0)
    picks = Picks(*(part[:3] for part in (site.picks.shot, site.picks.sensor, site.picks.toa_s, site.picks.sigma_s)))
    with pytest.raises(InputError, match="3 picks; at least 4"):
        adjust(site.network, site.shots, picks)


def test_shots_near_each_other_are_of_one_place() -> None:
    places = np.array([[0.0, 0, 0], [500, 0, 0], [10, 10, 0], [520, 0, 1]])
    assert same_places(places, 25.0).tolist() == [0, 1, 0, 1]
