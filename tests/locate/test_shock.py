"""A bullet's N-wave is told from the blast, and neither from nor into another shot."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agls.config import Locating
from agls.locate import _shock
from agls.locate.search import Array, Picks, find_shots
from agls.messages import Rejection, Shot
from tests.locate.ground import SPEED_M_S, STILL, detections, flight_s, hear, square
from tests.locate.test_associate import associator, at_once, last, stream

PLACE_M = np.array([380.0, 420.0, 1.5])
SPEED, DECAY_M = 900.0, 800.0


def cracks_s(positions_m, place_m, turn, speed=SPEED, decay_m=DECAY_M):
    """Find by trying when the N-wave comes first from anywhere on the way where the bullet outruns sound."""
    way = np.linspace(0.0, decay_m * math.log(speed / SPEED_M_S), 40_000)
    points = place_m + way[:, None] * np.array([math.cos(turn), math.sin(turn), 0.0])
    fly = decay_m / speed * np.expm1(way / decay_m)
    out = []
    for place in positions_m:
        arrive = fly + np.linalg.norm(place - points, axis=1) / SPEED_M_S
        first = int(arrive.argmin())
        out.append(arrive[first] if 0 < first < len(way) - 1 else math.nan)
    return np.array(out)


def rifle(seed=0, turn=0.7):
    """Let twelve sensors hear a rifle: picks, whether each is an N-wave, and where the sensors stand."""
    rng = np.random.default_rng(seed)
    positions = square(12, 1000.0, rng)
    blast, crack = flight_s(positions, PLACE_M), cracks_s(positions, PLACE_M, turn)
    rows = [(moment, k, False) for k, moment in enumerate(blast)]
    rows += [(moment, k, True) for k, moment in enumerate(crack) if math.isfinite(moment)]
    toa_s, sensor, shock = (np.array(column) for column in zip(*sorted(rows), strict=True))
    return positions, sensor.astype(np.int64), toa_s + rng.normal(0, 0.001, len(toa_s)), shock


def find(positions, sensor, toa_s, wave=None):
    array = Array(tuple(f"s{k:02d}" for k in range(len(positions))), positions)
    picks = Picks(sensor, toa_s, np.full(len(toa_s), 0.001), wave=wave)
    return find_shots(picks, array, STILL, Locating(path_sigma_s=0.003))


@given(
    x_m=st.floats(-800, 800), y_m=st.floats(-800, 800), turn=st.floats(-3.1, 3.1), speed=st.floats(400, 1000),
    decay_m=st.floats(500, 1500),
)  # fmt: skip
@settings(max_examples=40)
def test_an_n_wave_comes_when_trying_every_point_of_the_way_says_so(x_m, y_m, turn, speed, decay_m) -> None:
    at = np.array([x_m, y_m, 8.0])
    tried = cracks_s(at[None] + [0, 0, 1.5], np.array([0.0, 0.0, 1.5]), turn, speed, decay_m)[0]
    crack = _shock.crack_s(x_m, y_m, 8.0, SPEED_M_S, 0.0, 0.0, turn, speed, decay_m)
    away_m = float(np.linalg.norm(at))
    if crack >= 0.0 and math.isfinite(tried):
        assert crack == pytest.approx(tried, abs=2e-5)
        assert away_m / _shock.FASTEST_M_S <= crack <= away_m / SPEED_M_S + 1e-9  # all that it can lead
    elif math.isfinite(tried):
        assert tried == pytest.approx(away_m / SPEED_M_S, abs=1e-4)  # at the edge of the cone the two are one


@pytest.mark.parametrize("seed", range(3))
def test_n_waves_that_no_node_knew_are_told_from_the_blast(seed: int) -> None:
    positions, sensor, toa_s, shock = rifle(seed)
    assert shock.sum() >= 4
    (shot,) = find(positions, sensor, toa_s)
    assert np.hypot(shot.place_m[0] - PLACE_M[0], shot.place_m[1] - PLACE_M[1]) < 5.0
    assert shock[list(shot.shocks)].mean() > 0.8
    assert not shock[list(shot.members)].any()


def test_n_waves_that_nodes_know_make_no_shot_however_well_they_agree() -> None:
    rng = np.random.default_rng(1)
    positions = square(10, 1000.0, rng)
    heard = hear(positions, [(0.0, 420.0, 610.0)], rng)
    assert len(find(positions, heard.sensor, heard.toa_s)) == 1
    assert find(positions, heard.sensor, heard.toa_s, np.full(len(heard.toa_s), _shock.SHOCK)) == []


@pytest.mark.parametrize("gap_s", [0.1, 0.3, 0.6])
def test_a_shot_before_another_is_not_its_n_wave(gap_s: float) -> None:
    rng = np.random.default_rng(4)
    positions = square(12, 1000.0, rng)
    heard = hear(positions, [(0.0, 300.0, 300.0), (gap_s, 650.0, 600.0)], rng)
    shots = find(positions, heard.sensor, heard.toa_s)
    assert len(shots) == 2
    assert not any(shot.shocks for shot in shots)


def test_n_waves_are_listed_with_their_shot_and_counted_by_name() -> None:
    positions, sensor, toa_s, shock = rifle()
    heard = type(hear(positions, [(0.0, 1.0, 1.0)], np.random.default_rng(0)))(sensor, toa_s, np.zeros(len(sensor)))
    said = stream(associator(positions, locating=Locating(path_sigma_s=0.003)), at_once(detections(heard)))
    (shot,) = last(said)
    known = {arrival.seq for arrival in shot.arrivals if arrival.reason == "shockwave"}
    assert known
    assert shock[sorted(known)].all()
    assert not any(shock[arrival.seq] for arrival in shot.arrivals if arrival.used)
    reasons = [item.reason for _, item in said if isinstance(item, Rejection)]
    assert reasons.count("shockwave") == len(known)
    assert all(item.shot_id == shot.shot_id for _, item in said if isinstance(item, Shot) and item.state == "located")
