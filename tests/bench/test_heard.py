"""What sensors heard of shots, in one form for recorded and simulated."""

import numpy as np
import pytest

from bench.heard import SATURATED_DB, Heard, Pulse, by_range, fit_levels, path_late_s, sorted_out

SPEED_M_S = 331.0
RANDOM = np.random.default_rng(3)
RING_M = np.array([[400 * np.cos(turn), 300 * np.sin(turn), 5.0] for turn in np.linspace(0, 5.5, 9)])


def pulses_from(place_m: tuple[float, float], shots: int, extra_s: np.ndarray) -> list[Pulse]:
    away_s = np.linalg.norm(RING_M - [*place_m, 0.0], axis=1) / SPEED_M_S + extra_s
    return [
        Pulse(shot, sensor, 0.005 * shot + float(away_s[sensor]), 85.0, 62.0, chosen=True)
        for shot in range(shots)
        for sensor in range(len(RING_M))
    ]


def names(count: int) -> list[str]:
    return [f"s{k}" for k in range(count)]


def levels_of(at_300: float, decade: float, path: float, shot: float, threshold: float) -> Heard:
    away_m = RANDOM.uniform(80, 1000, 150)
    middle = at_300 - decade * np.log10(away_m / 300) + RANDOM.normal(0, path, 150)
    level = middle + RANDOM.normal(0, shot, (20, 150))
    level = np.where(level < threshold, np.nan, np.minimum(level, SATURATED_DB + 0.3))
    stand = np.column_stack([away_m, np.zeros(150), np.zeros(150)])
    nothing = np.zeros((0, 3))
    return Heard("made", tuple(names(150)), stand, level * 0, level, level * 0, nothing, np.full(150, threshold))


def test_levels_are_found_though_a_third_is_saturated_or_missed_and_a_plain_fit_is_not_near() -> None:
    heard = levels_of(88.0, 42.0, 12.0, 4.0, 66.0)
    assert np.isnan(heard.level_db).mean() > 0.1
    assert (heard.level_db >= SATURATED_DB).mean() > 0.2
    found = fit_levels([heard])
    assert found.at_300_db == pytest.approx(88.0, abs=3.5)
    assert found.decade_db == pytest.approx(42.0, abs=10.0)
    assert found.path_db == pytest.approx(12.0, rel=0.2)
    assert found.shot_db == pytest.approx(4.0, rel=0.1)
    there = np.isfinite(heard.level_db)
    away = np.broadcast_to(np.log10(heard.range_m), there.shape)[there]
    assert -np.polyfit(away, heard.level_db[there], 1)[0] < 30.0


def test_the_place_is_found_though_the_survey_errs_and_what_is_left_is_the_paths_lateness() -> None:
    extra_s = RANDOM.normal(0, 0.004, len(RING_M))
    heard = sorted_out("made", names(9), RING_M, pulses_from((4.0, -3.0), 6, extra_s), 6, SPEED_M_S)
    assert heard.found.all()
    left_s = path_late_s(heard) - (extra_s - np.median(extra_s))
    assert np.abs(left_s).max() < 0.009
    assert 0.001 < path_late_s(heard).std() < 0.006


def test_what_follows_a_direct_arrival_is_its_echo_and_what_comes_far_from_its_time_is_neither() -> None:
    made = pulses_from((0.0, 0.0), 5, np.zeros(9))
    direct = made[3]
    made += [
        Pulse(direct.shot, direct.sensor, direct.after_s + 0.1, 80.0, 62.0, chosen=False),
        Pulse(direct.shot, direct.sensor, direct.after_s + 0.9, 80.0, 62.0, chosen=False),
    ]
    heard = sorted_out("made", names(9), RING_M, made, 5, SPEED_M_S)
    assert heard.echoes == pytest.approx(np.array([[direct.sensor, 0.1, -5.0]]))


def test_shares_by_range_are_of_shots_and_of_what_was_detected() -> None:
    level = np.array([[95.0, 70.0, np.nan, 70.0], [95.0, 95.0, np.nan, np.nan]])
    stand = np.array([[100.0, 0, 0], [300, 0, 0], [500, 0, 0], [700, 0, 0]])
    heard = Heard("made", tuple(names(4)), stand, level * 0, level, level * 0, np.zeros((0, 3)), np.full(4, 60.0))
    assert by_range([heard])[:4] == pytest.approx([1.0, 1.0, 0.0, 0.5])
    assert by_range([heard], saturated=True)[[0, 1, 3]] == pytest.approx([1.0, 0.5, 0.0])
