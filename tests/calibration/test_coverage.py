"""Coverage of a plan: hearing as it was measured, accuracy as the solver's, advice that the map confirms."""

import argparse
import csv
import json
import math
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from agls.config import Weather
from agls.errors import InputError
from agls.locate.solve import Air, Height, Solution, solve
from calibration.coverage import (
    WITHIN_M,
    Plan,
    _Draws,
    _within,
    add_arguments,
    added,
    cover,
    evenly,
    grid_of,
    losses,
    next_places,
    run,
)
from calibration.hearing import REFERENCE, Hearing, absorption_db_m

STILL = Weather()
LOUD = Hearing(STILL, noise_db=-60.0)  # everybody hears everything


def ring(count: int = 8, radius_m: float = 400.0, hearing: Hearing = LOUD) -> Plan:
    """Put sensors round a place."""
    turns = 2 * np.pi * np.arange(count) / count
    places = np.column_stack([radius_m * np.cos(turns), radius_m * np.sin(turns), np.full(count, 6.0)])
    names = tuple(f"s{k}" for k in range(count))
    return Plan(names, places, np.full(count, 0.006), Air.of_weather(STILL), hearing, 4)


# ------------------------------------------------------------------------------------------------------- hearing


@pytest.mark.parametrize(("away_m", "share"), [(150, 1.00), (300, 0.85), (500, 0.79), (700, 0.62)])
def test_a_shot_is_heard_as_often_as_in_pittsburgh(away_m: float, share: float) -> None:
    heard = Hearing(REFERENCE).probability(np.array([[away_m, 0.0, 0.0], [0.0, -away_m, 0.0]]))
    assert heard == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize(("temperature_c", "humidity_percent", "db_km"), [
    (0, 70, (0.8, 1.6, 4.6, 16, 56, 154)), (10, 70, (1.0, 1.9, 3.7, 9.7, 33, 118)),
    (20, 50, (1.3, 2.7, 4.7, 9.9, 30, 105)), (30, 50, (1.2, 3.6, 7.0, 12, 25, 74)),
])  # fmt: skip
def test_air_absorbs_as_the_standard_says(temperature_c, humidity_percent, db_km) -> None:
    weather = Weather(temperature_c=temperature_c, humidity_percent=humidity_percent)
    found = [1_000 * absorption_db_m(weather, frequency) for frequency in (250, 500, 1_000, 2_000, 4_000, 8_000)]
    assert found == pytest.approx(db_km, rel=0.04, abs=0.06)


def test_noise_and_wind_shorten_the_range_and_wind_only_against_it() -> None:
    quiet, loud = Hearing(STILL, 45.0), Hearing(STILL, 65.0)
    assert quiet.range_m() > 2 * loud.range_m() > 0
    windy = Hearing(Weather(wind_speed_m_s=5.0, wind_from_deg=270.0))
    east, west = windy.probability(np.array([[500.0, 0, 0], [-500.0, 0, 0]]))
    assert east == pytest.approx(Hearing(STILL).probability(np.array([500.0, 0, 0])), abs=0.02)
    assert west < east - 0.2
    assert windy.range_m(0.5, -1.0) < windy.range_m(0.5, 1.0)


# ------------------------------------------------------------------------------------------------------ accuracy


def test_a_place_is_as_unsure_as_the_solver_says_where_all_hear() -> None:
    plan = ring()
    place = np.array([120.0, -60.0, 6.0])
    grid = replace(grid_of(plan.places_m), east_m=place[:1], north_m=place[1:2], up_m=6.0)
    mine = _Draws(plan, grid).covariance[0, 0, :2, :2]
    toa = np.linalg.norm(plan.places_m - place, axis=1) / plan.air.sound_speed_m_s
    found = solve(plan.places_m, toa, plan.sigma_s, plan.air, Height(6.0, 10.0))
    assert isinstance(found, Solution)
    assert mine == pytest.approx(found.covariance[:2, :2], rel=0.1, abs=0.3)


def test_the_chance_to_be_near_is_that_of_many_draws() -> None:
    covariance = np.array([[30.0**2, 150.0], [150.0, 8.0**2]])
    drawn = np.random.default_rng(1).multivariate_normal([0, 0], covariance, 200_000)
    expected = (np.hypot(*drawn.T) <= WITHIN_M).mean()
    assert _within(covariance[None, None], np.array([[True]]))[0, 0] == pytest.approx(expected, abs=0.005)
    assert _within(covariance[None, None], np.array([[False]]))[0, 0] == 0.0


def test_sensors_that_hear_nothing_locate_nothing() -> None:
    deaf = ring(hearing=Hearing(STILL, noise_db=120.0))
    found = cover(deaf, grid_of(deaf.places_m, cells=60))
    assert found.located.max() == 0.0
    assert np.isinf(found.major_m).all()


def test_a_ring_is_surer_inside_than_outside() -> None:
    plan = ring()
    found = cover(plan, grid_of(plan.places_m, margin_m=400.0, cells=200))
    middle = np.hypot(*found.grid.places_m[:, :2].T)
    assert found.major_m[middle < 200].max() < found.major_m[middle > 900].min()


def test_a_node_more_never_harms_and_one_less_never_helps() -> None:
    plan = ring(hearing=Hearing(STILL))
    grid = grid_of(plan.places_m, cells=150)
    draws = _Draws(plan, grid)
    base = _within(draws.covariance[..., :2, :2], draws.count >= plan.fewest).mean(axis=1)
    assert (draws.with_one(np.array([30.0, 40.0, 6.0]), 0.006) >= base - 1e-9).all()
    assert (draws.without(3) <= base + 1e-9).all()


def test_a_node_more_by_one_row_is_a_node_more_by_all_rows() -> None:
    plan, place = ring(5), np.array([30.0, 40.0, 6.0])
    grid = grid_of(plan.places_m, cells=80)
    by_row = _Draws(plan, grid).with_one(place, 0.006)
    whole = _Draws(added(plan, "new", place), grid)
    assert by_row == pytest.approx(_within(whole.covariance[..., :2, :2], whole.count >= 4).mean(axis=1), abs=1e-6)
    before = _Draws(plan, grid)
    assert whole.without(5) == pytest.approx(
        _within(before.covariance[..., :2, :2], before.count >= 4).mean(axis=1), abs=1e-6
    )


def test_the_next_node_goes_where_one_is_missing_and_the_one_after_goes_elsewhere() -> None:
    whole = ring(hearing=Hearing(STILL, noise_db=65.0))
    keep = np.array([0, 1, 2, 4, 5, 6, 7])
    plan = replace(
        whole, names=tuple(whole.names[k] for k in keep), places_m=whole.places_m[keep], sigma_s=whole.sigma_s[keep]
    )
    grid = grid_of(whole.places_m, margin_m=50.0, cells=150)
    choices = next_places(plan, grid, evenly(plan, grid, 64), 2)
    first, second = (np.array(gains[0].place_m) for gains in choices)
    assert first @ whole.places_m[3] > 0.15 * 400.0**2
    assert np.linalg.norm(first - second) > 100.0
    scores = [cover(added(plan, name, place), grid).score for name, place in evenly(plan, grid, 64)]
    assert cover(added(plan, "first", first), grid).score > max(scores) - 0.01
    assert choices[0][0].gain >= choices[1][0].gain > 0


def test_of_two_sensors_close_together_neither_matters_much() -> None:
    whole = ring(6, hearing=Hearing(STILL, noise_db=62.0))
    plan = added(whole, "twin", whole.places_m[2] + [10.0, 0.0, 0.0])
    order = [one.name for one in losses(plan, grid_of(plan.places_m, cells=150))]
    assert set(order[-2:]) == {"s2", "twin"}


# ---------------------------------------------------------------------------------------------------- the command


def site_text(*, origin: bool = True) -> str:
    """Write a site with six sensors."""
    places = [(0, 0), (500, 30), (980, 0), (20, 500), (510, 540), (300, 900)]
    sensors = [
        f'[[sensor]]\nsensor_id = "pole-{k}"\nx_m = {x}.0\ny_m = {y}.0\nz_m = 6.0\n' for k, (x, y) in enumerate(places)
    ]
    where = "[origin]\nlatitude_deg = 40.44\nlongitude_deg = -79.99\nheight_m = 230.0\n" if origin else ""
    wind = "[weather]\nwind_speed_m_s = 3.0\nwind_from_deg = 240.0\n"
    return f'name = "Smith & Sons"\n{where}{"".join(sensors)}{wind}'


def command(tmp_path, *more: str, site: str = "", candidates: str = "") -> int:
    """Run the command on a small site."""
    (tmp_path / "site.toml").write_text(site or site_text())
    given = ["--site", str(tmp_path / "site.toml"), "--out", str(tmp_path / "out"), "--cells", "150", *more]
    if candidates:
        (tmp_path / "candidates.csv").write_text(candidates)
        given += ["--candidates", str(tmp_path / "candidates.csv")]
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(given))


PLACES = "candidate,x_m,y_m,z_m\nroof,950,900,20\nschool,100,100,8\n"


def test_the_command_leaves_a_picture_a_map_and_tables(tmp_path, capsys) -> None:
    assert command(tmp_path, "--add", "2", candidates=PLACES) == 0
    told = capsys.readouterr().out
    assert "first further node: roof" in told
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "coverage.svg", "coverage.geojson", "ranges.csv", "sensors.csv", "candidates.csv",
    }  # fmt: skip
    words = " ".join(ET.fromstring((out / "coverage.svg").read_text()).itertext())  # noqa: S314 - our own
    assert all(word in words for word in ("Smith & Sons", "pole-3", "Chance to locate", "north"))
    rows = list(csv.DictReader((out / "sensors.csv").read_text().splitlines()))
    assert sorted(row["sensor_id"] for row in rows) == [f"pole-{k}" for k in range(6)]
    assert float(rows[0]["loss"]) <= float(rows[-1]["loss"]) <= 0
    best = next(csv.DictReader((out / "candidates.csv").read_text().splitlines()))
    assert (best["choice"], best["candidate"]) == ("1", "roof")


def test_the_map_is_geojson_about_the_site(tmp_path) -> None:
    command(tmp_path, "--add", "1")
    features = json.loads((tmp_path / "out" / "coverage.geojson").read_text())["features"]
    cells = [one for one in features if one["properties"]["kind"] == "cell"]
    assert len(cells) > 100
    for one in cells:
        corners = one["geometry"]["coordinates"][0]
        assert corners[0] == corners[-1]
        turning = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(corners))
        assert turning > 0  # counter-clockwise, as RFC 7946 asks
        assert all(math.dist(corner, (-79.984, 40.444)) < 0.03 for corner in corners)
        assert 0 <= one["properties"]["p_within_25_m"] <= one["properties"]["p_located"] <= 1
    assert [one["properties"]["kind"] for one in features[len(cells) :]] == ["sensor"] * 6 + ["choice"]


def test_a_site_without_a_place_on_earth_still_gets_its_picture(tmp_path) -> None:
    assert command(tmp_path, "--add", "0", site=site_text(origin=False)) == 0
    assert json.loads((tmp_path / "out" / "coverage.geojson").read_text())["features"] == []
    assert "pole-3" in (tmp_path / "out" / "coverage.svg").read_text()


def test_the_same_plan_gives_the_same_map(tmp_path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        command(folder, "--add", "0")
    assert (first / "out" / "coverage.svg").read_bytes() == (second / "out" / "coverage.svg").read_bytes()


@pytest.mark.parametrize(("more", "candidates", "says"), [
    (("--noise-db", "5"), "", "--noise-db 5: a number from 20 to 120"),
    (("--add", "-1"), "", "--add -1: a whole number from 0 to 20"),
    (("--up-share", "nan"), "", "--up-share nan"),
    (("--cells", "-5"), "", "--cells -5: a number from 50 to 20000"),
    (("--cells", "1000000000"), "", "--cells 1e\\+09: a number from 50 to 20000"),
    ((), "candidate,x_m,y_m,z_m\n", "holds no candidate"),
    ((), "candidate,x_m,y_m,z_m\na,1,2,3\na,1,2,3\n", "'a' is there already"),
    ((), "candidate,x_m,y_m\na,1,2\n", "column z_m: ''; a number"),
])  # fmt: skip
def test_bad_input_is_refused_in_a_sentence(tmp_path, more, candidates, says) -> None:
    with pytest.raises(InputError, match=says):
        command(tmp_path, *more, candidates=candidates)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_refused_in_a_sentence(tmp_path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="out: cannot be written"):
        command(tmp_path, "--add", "0")
