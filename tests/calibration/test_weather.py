"""The air told from located shots, beside what the feed says of it."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.config import Sensor, SiteConfig, Weather, load_site
from agls.errors import InputError
from agls.locate.solve import Air
from agls.messages import NS_PER_S, format_utc
from agls.replay.run import replay
from bench.oracle import flight_s
from bench.survey import draw
from calibration import weather
from calibration.arrivals import Heap
from calibration.bundle import Network
from calibration.tables import document
from calibration.weather import EXPLANATIONS, find_air, weather_of

START_NS = 1_780_000_000 * NS_PER_S
RIGHT, OTHER_AIR, CLOCKS = EXPLANATIONS


def heard(seed: int, path_s: float, *, feed: Air, clocks_off: bool = False) -> tuple[Network, Heap, np.ndarray]:
    """Hear shots of unknown place at well surveyed sensors."""
    site, rng = draw(seed, path_s), np.random.default_rng(seed)
    toa_s = site.picks.toa_s - (0.0 if clocks_off else site.offsets_s[site.picks.sensor])
    guess = site.shots.places_m + np.column_stack([rng.normal(0, 3, (12, 2)), np.zeros(12)])
    shots = replace(site.shots, places_m=guess, place_sigma_m=np.tile([math.inf, math.inf, 1.0], (12, 1)))
    network = replace(
        site.network,
        positions_m=site.positions_m,
        position_sigma_m=0.05 * site.network.position_sigma_m,
        offset_sigma_s=np.zeros(12),
        air=feed,
    )
    return network, Heap(shots, replace(site.picks, toa_s=toa_s), 0, {}), site.wind_m_s


STILL = Air(340.0, 0.0, 0.0, 3.0, 0.5)


@pytest.mark.parametrize("path_s", [0.0, 0.008])
def test_shots_tell_the_wind_as_surely_as_they_say(path_s: float) -> None:
    ratios = []
    for seed in range(6):
        network, heap, wind = heard(seed, path_s, feed=STILL)
        found = find_air(network, heap)
        apart = np.array([found.shots.air.east_m_s, found.shots.air.north_m_s]) - wind
        ratios += (apart / np.sqrt(np.diag(found.covariance))[1:]).tolist()
    assert np.mean(np.abs(ratios) < 1.96) >= 0.85
    assert np.sqrt(np.mean(np.square(ratios))) < 1.4


def test_a_feed_that_is_right_is_believed_and_one_that_is_wrong_is_not() -> None:
    for seed in range(2):
        _, _, wind = heard(seed, 0.0, feed=STILL)
        network, heap, _ = heard(seed, 0.0, feed=Air(340.0, float(wind[0]), float(wind[1]), 3.0, 0.5))
        right = find_air(network, heap)
        assert (right.best, right.agrees) == (RIGHT, True)
        network, heap, _ = heard(seed, 0.0, feed=STILL)
        wrong = find_air(network, heap)
        assert (wrong.best, wrong.agrees) == (OTHER_AIR, False)
        slope = np.array([math.sin(math.radians(wrong.plane_deg)), math.cos(math.radians(wrong.plane_deg))])
        np.testing.assert_allclose(-slope * wrong.plane_us_m * 1e-6 * 340.0**2, wind, atol=0.2)


def test_clocks_that_are_off_are_named_instead_of_a_wind() -> None:
    for seed in range(2):
        network, heap, _ = heard(seed, 0.0, feed=Air(340.0, 0.0, 0.0, 3.0, 3.0), clocks_off=True)
        found = find_air(network, heap)
        assert found.best == CLOCKS
        told = "\n".join(weather.summary(found, heap))
        assert "the feed is right and clocks are off: 1.000" in told
        assert "whether clocks are off like that, arrivals cannot tell" in told


@given(st.floats(300, 360), st.floats(-20, 20), st.floats(-20, 20), st.floats(0, 100))
def test_a_report_made_from_an_air_is_read_as_that_air(speed: float, east: float, north: float, humid: float) -> None:
    air = Air(speed, east, north, 1.2, 0.7)
    again = Air.of_weather(weather_of(air, humid))
    assert again.sound_speed_m_s == pytest.approx(speed, abs=2e-3)
    assert (again.east_m_s, again.north_m_s) == pytest.approx((east, north), abs=0.01)
    assert (again.sound_speed_sigma_m_s, again.wind_sigma_m_s) == pytest.approx((1.2, 0.7), rel=0.01)


def test_a_sound_speed_that_no_air_has_is_refused() -> None:
    with pytest.raises(InputError, match=r"sound speed of 400\.0 m/s"):
        weather_of(Air(400.0), 50.0)


def town(
    folder: Path, wind_m_s: tuple[float, float], speed_m_s: float, places_count: int = 20, sigma_s: float = 1e-3
) -> Path:
    """Write a dataset of shots in a wind, and the site as the feed knows it: still and of 15 degrees."""
    rng = np.random.default_rng(4)
    places = np.array([[x, y, 6.0] for x in (0.0, 400.0, 800.0) for y in (0.0, 400.0, 800.0)])
    places[:, :2] += rng.uniform(-80, 80, (9, 2))
    sensors = tuple(
        Sensor(sensor_id=f"s{k}", x_m=x, y_m=y, z_m=z, position_sigma_m=0.05)
        for k, (x, y, z) in enumerate(places.tolist())
    )
    lines, sources = [], []
    for number in range(20):
        source = np.array([*rng.uniform(50, 750, 2), 1.5]) if number < places_count else sources[number % places_count]
        sources.append(source)
        toa_s = 20.0 * number + flight_s(places, source, speed_m_s, wind_m_s) + rng.normal(0, 1e-3, 9)
        lines += [
            f"day,s{k},{format_utc(START_NS + round(toa * NS_PER_S))},{sigma_s},0.99,,"
            for k, toa in enumerate(toa_s.tolist())
        ]
    dataset = folder / "dataset"
    dataset.mkdir()
    (dataset / "detections.csv").write_text(
        "\n".join(["recording,sensor_id,toa_utc,toa_sigma_s,p_gunshot,level_db,snr_db", *lines])
    )
    rows = [f"{one.sensor_id},{one.x_m},{one.y_m},{one.z_m},0.05" for one in sensors]
    (dataset / "sensors.csv").write_text("\n".join(["sensor_id,x_m,y_m,z_m,position_sigma_m", *rows]))
    site = folder / "site.toml"
    feed = Weather(temperature_c=15.0, wind_speed_m_s=0.0, temperature_sigma_c=5.0, wind_sigma_m_s=2.0)
    site.write_text(document(SiteConfig(name="Town", sensor=sensors, weather=feed)))
    return site


def command(*words: object) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser()
    weather.add_arguments(parser)
    return weather.run(parser.parse_args([str(word) for word in words]))


def test_a_replay_tells_the_air_of_its_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = town(tmp_path, wind_m_s=(4.0, -2.0), speed_m_s=346.0)
    replay(tmp_path / "dataset", tmp_path / "out")
    assert command("--site", site, "--replay", tmp_path / "out", "--out", tmp_path / "new.toml") == 0
    new = load_site(tmp_path / "new.toml")
    air = Air.of_weather(new.weather)
    assert air.sound_speed_m_s == pytest.approx(346.0, abs=4 * air.sound_speed_sigma_m_s)
    assert (air.east_m_s, air.north_m_s) == pytest.approx((4.0, -2.0), abs=4 * air.wind_sigma_m_s)
    assert air.wind_sigma_m_s < 0.6
    assert new.sensor == load_site(site).sensor
    assert "[weather]\n# 20 shots, 180 picks" in (tmp_path / "new.toml").read_text()
    assert "the feed says: sound 340." in capsys.readouterr().out


def test_shots_of_one_place_may_differ_by_more_than_nodes_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = town(tmp_path, wind_m_s=(4.0, -2.0), speed_m_s=346.0, places_count=5, sigma_s=5e-5)
    replay(tmp_path / "dataset", tmp_path / "out")
    assert command("--site", site, "--replay", tmp_path / "out", "--out", tmp_path / "new.toml") == 0
    told = capsys.readouterr().out
    assert "20 shots, 180 picks, 0 refused" in told
    assert "DO NOT FIT" not in told
    air = Air.of_weather(load_site(tmp_path / "new.toml").weather)
    assert (air.east_m_s, air.north_m_s) == pytest.approx((4.0, -2.0), abs=3 * air.wind_sigma_m_s)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no shots to tell the air from; give --replay or --arrivals"),
        (["--replay", "nowhere"], "holds neither detections.jsonl nor journal.jsonl"),
        (["--arrivals", "nowhere.csv"], "cannot be read"),
        (["--arrivals", "x", "--clock-sigma", "0"], "--clock-sigma is 0.0; more than 0"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path, words: Sequence[str], said: str) -> None:
    site = town(tmp_path, (0.0, 0.0), 340.0)
    with pytest.raises(InputError, match=said):
        command("--site", site, "--out", tmp_path / "new.toml", *words)
