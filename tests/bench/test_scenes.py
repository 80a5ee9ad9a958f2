"""Scenes of the benchmarks: what is called a shot's pick is one, and the scores count what they say."""

import math
from dataclasses import replace

import numpy as np
import pytest

from agls.messages import Ellipse, UtcNs
from bench.association import STREET, automatic, moving
from bench.coverage import World, fire, match
from bench.oracle import flight_s
from bench.pittsburgh import spread_m2
from bench.rifle import shock_lead
from bench.scenes import SPEED_M_S, Scene, Trouble, f1, render, without_unasked
from bench.stream import detections, moment_ns, seconds
from tests import town


def scene(seed: int = 1, **trouble) -> Scene:
    return automatic(replace(STREET, **trouble), 2, 8, (10.0, 10.0), np.random.default_rng(seed))


def test_picks_of_a_shot_lie_within_five_sigma_of_what_sound_needs() -> None:
    made = scene(wind_m_s=(3.0, -2.0))
    for k, (origin, place) in enumerate(zip(made.origin_s, made.place_m, strict=True)):
        own = made.shot == k
        flight = flight_s(made.positions_m, np.array([*place, 1.5]), SPEED_M_S, (3.0, -2.0))
        assert np.abs(made.toa_s[own] - origin - flight[made.sensor[own]]).max(initial=0.0) < 5 * STREET.sigma_s


def test_shooters_stand_300_m_apart_and_a_walker_moves() -> None:
    made = scene()
    assert np.ptp(made.place_m, axis=0) @ np.ptp(made.place_m, axis=0) == pytest.approx(300.0**2, rel=1e-6)
    walked = moving(Trouble(), (2.0, 2.0), np.random.default_rng(1))
    assert math.dist(walked.place_m[0], walked.place_m[-1]) == pytest.approx(2.0 * np.ptp(walked.origin_s), rel=0.01)


def test_repeated_echoes_come_at_the_same_lag_each_time() -> None:
    trouble = Trouble(echo=1.0, echo_repeats=True)
    shots = (np.array([10.0, 13.0]), np.full((2, 2), 400.0))
    made = render(np.array([[0.0, 0.0, 8.0], [900.0, 0.0, 8.0]]), *shots, trouble, np.random.default_rng(1))
    for sensor in (0, 1):
        own = made.toa_s[made.sensor == sensor].reshape(2, 2)
        assert np.ptp(np.diff(own, axis=1)) < 6 * trouble.sigma_s * 2**0.5


def test_no_sensor_reports_while_it_is_busy() -> None:
    made = scene(echo=0.9)
    for sensor in range(8):
        assert np.diff(made.toa_s[made.sensor == sensor]).min() >= STREET.dead_time_s


def test_the_true_groups_score_one_and_no_groups_score_nothing() -> None:
    made = scene()
    truth = [tuple(np.flatnonzero(made.shot == k)) for k in range(len(made.origin_s))]
    assert f1(made, [own for own in truth if len(own) >= 4]) == (1.0, 1.0, 1.0)
    assert f1(made, [])[1:] == (0.0, 0.0)


def test_a_shot_told_twice_and_one_that_is_none_cost_precision() -> None:
    made = scene()
    truth = [own for k in range(len(made.origin_s)) if len(own := tuple(np.flatnonzero(made.shot == k))) >= 4]
    nobody = tuple(np.flatnonzero(made.shot == -1)[:5])
    assert f1(made, [*truth, truth[0], nobody])[0] == pytest.approx(len(truth) / (len(truth) + 2))


def test_shots_of_a_burst_share_the_path_and_not_the_pick() -> None:
    fired = fire(World(rounds=30, p_detect=1.0, survey_m=0.0), 1, np.random.default_rng(2))
    delays = np.empty((30, 12))
    delays[fired.shot, fired.sensor] = fired.toa_s - fired.origin_s[fired.shot]
    assert delays.std(axis=0).mean() == pytest.approx(0.0015, rel=0.15)


def test_each_shot_is_matched_with_the_nearest_in_time_and_place_once() -> None:
    rows = ((10.15, 1.0), (10.0, 0.0), (10.1, 900.0))
    shots = [town.shot(shot_id=f"S{k}", origin_ns=UtcNs(moment_ns(t)), x_m=x, y_m=0.0) for k, (t, x) in enumerate(rows)]
    pairs, extra = match(shots, np.array([10.0, 10.15]), np.zeros((2, 2)))
    assert [(k, seconds(shot.origin_ns)) for k, shot in pairs] == [(0, 10.0), (1, 10.15)]
    assert extra == 1


def test_a_bullet_is_heard_before_the_blast_where_it_passes_and_nowhere_behind() -> None:
    at = np.array([[300.0, 50.0, 5.0], [-300.0, 0.0, 5.0], [100.0, 0.0, 5.0]])
    muzzle = np.array([0.0, 0.0, 1.5])
    lead = flight_s(at, muzzle, 340.0, (0.0, 0.0)) - shock_lead(at, muzzle, 0.0, 600.0, 340.0)
    assert np.isnan(lead[1])
    assert 0.24 < lead[0] < 0.83  # as measured for a 900 m/s rifle at 150 to 500 m
    assert lead[2] > 0


def test_an_ellipse_becomes_the_covariance_it_was_drawn_from() -> None:
    spread = spread_m2(Ellipse(major_m=2.4477468, minor_m=1.2238734, azimuth_deg=90.0))
    assert spread == pytest.approx(np.diag([1.0, 0.25]), abs=1e-6)


def test_detections_carry_the_index_of_their_pick() -> None:
    heard = detections([3, 1], [2.0, 1.0], 0.001)
    assert [(one.sensor_id, one.seq, seconds(one.toa_ns)) for one in heard] == [("s003", 0, 2.0), ("s001", 1, 1.0)]


def test_a_true_shot_that_three_sensors_heard_can_count_neither_for_nor_against() -> None:
    made = scene(p_detect=0.5)
    truth = [tuple(int(i) for i in np.flatnonzero(made.shot == k)) for k in range(len(made.origin_s))]
    three = next(own for own in truth if len(own) == 3)
    asked = [own for own in truth if len(own) >= 4]
    stray = int(np.flatnonzero(made.shot == -1)[0])
    nobody = tuple(int(i) for i in np.flatnonzero(made.shot == -1)[:5])
    assert f1(made, [*asked, (*three, stray)])[0] < 1.0
    assert without_unasked(made, [*asked, (*three, stray), nobody]) == [*asked, nobody]
