"""The solver where the simulated city makes the arrivals."""

import numpy as np

from bench.physics import PATH_S, SENSORS_COUNT, SHOTS_A_SCENE, World, city, locate
from firmware_sim.scene import told_weather


def test_without_a_path_term_shots_are_located_to_a_metre_and_with_it_to_several() -> None:
    errors_m = {
        late_s: [one.error_m for seed in (1, 2, 3) for one in locate((World(late_s), seed))] for late_s in (0.0, PATH_S)
    }
    assert len(errors_m[0.0]) == 3 * SHOTS_A_SCENE
    assert np.median(errors_m[0.0]) < 1.5
    assert np.median(errors_m[0.0]) < np.median(errors_m[PATH_S]) < 8.0


def test_the_report_errs_and_the_city_stays_as_it_is() -> None:
    made = city(World(), 5)
    assert made == city(World(), 5)
    assert len(made.sensor) == SENSORS_COUNT
    assert 0 < abs(told_weather(made).temperature_c - made.air.temperature_c) < 5.0
