"""What must hold of the hub as a whole, whatever the network does to the detections."""

import random
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agls.config import Sensor, SiteConfig
from agls.messages import NS_PER_S, ClockState, Detection, Outbound, Shot, UtcNs, encode
from agls.pipeline import Hub

START_NS = 1_700_000_000 * NS_PER_S
END_NS = START_NS + 120 * NS_PER_S
SPEED_M_S = 340.3
SENSORS = tuple(
    Sensor(sensor_id=f"s{row}{column}", x_m=400.0 * column, y_m=400.0 * row, z_m=6.0 + 2.0 * column)
    for row in range(3)
    for column in range(3)
)
SITE = SiteConfig(name="Town", sensor=SENSORS)
SHOTS = ((0.0, 310.0, 220.0), (0.6, 310.0, 220.0), (9.0, 620.0, 530.0))  # seconds, east, north


def heard_at(shots: Sequence[tuple[float, float, float]]) -> list[Detection]:
    """Hear shots at every sensor, with 2 ms of noise."""
    rng = np.random.default_rng(5)
    heard = []
    for number, (time_s, x_m, y_m) in enumerate(shots):
        for sensor in SENSORS:
            away_m = float(np.linalg.norm([sensor.x_m - x_m, sensor.y_m - y_m, sensor.z_m - 1.5]))
            toa_s = time_s + away_m / SPEED_M_S + rng.normal(0, 0.002)
            heard.append(
                Detection(
                    sensor_id=sensor.sensor_id,
                    boot_id="b",
                    seq=number,
                    toa_ns=UtcNs(START_NS + round(toa_s * NS_PER_S)),
                    toa_sigma_s=0.002,
                    wave="muzzle",
                    level_db=95.0,
                    snr_db=30.0,
                    llr={"gunshot": 4.0},
                    clock=ClockState(mode="simulated", sigma_s=1e-4),
                )
            )
    return heard


HEARD = heard_at(SHOTS)


def run(heard: Sequence[Detection], lags_ns: Sequence[int], advances_ns: Sequence[int] = ()) -> list[Outbound]:
    """Give a hub detections, each so long after its arrival, and let time pass at these moments besides."""
    hub = Hub(SITE)
    happenings = [
        (one.toa_ns + lag_ns, index, one) for index, (one, lag_ns) in enumerate(zip(heard, lags_ns, strict=True))
    ]
    happenings += [(START_NS + after_ns, -1, None) for after_ns in advances_ns]
    out: list[Outbound] = []
    for at_ns, _, detection in sorted(happenings, key=lambda one: one[:2]):
        out += hub.advance(at_ns) if detection is None else hub.feed(detection, at_ns)
    return out + hub.advance(END_NS)


def last_revisions(out: Sequence[Outbound]) -> list[Shot]:
    """List the shots that stand in the end."""
    last = {item.shot_id: item for item in out if isinstance(item, Shot)}
    return sorted((shot for shot in last.values() if shot.state == "located"), key=lambda shot: shot.origin_ns)


def places(shots: Sequence[Shot]) -> list[tuple[int, float, float, float]]:
    """Say when and where shots were."""
    return [(shot.origin_ns, shot.x_m, shot.y_m, shot.z_m) for shot in shots]


PROMPT = run(HEARD, [NS_PER_S // 20] * len(HEARD))


def test_every_shot_is_located_once_near_the_truth() -> None:
    found = last_revisions(PROMPT)
    assert [round((shot.origin_ns - START_NS) / NS_PER_S, 1) for shot in found] == [time_s for time_s, _, _ in SHOTS]
    for shot, (_, x_m, y_m) in zip(found, SHOTS, strict=True):
        assert np.hypot(shot.x_m - x_m, shot.y_m - y_m) < 5.0


@settings(max_examples=25)
@given(st.lists(st.integers(0, 60 * NS_PER_S), max_size=60))
def test_letting_time_pass_more_or_less_often_changes_nothing(advances_ns: list[int]) -> None:
    out = run(HEARD, [NS_PER_S // 20] * len(HEARD), advances_ns)
    assert [encode(item) for item in out] == [encode(item) for item in PROMPT]


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(0, NS_PER_S))
def test_the_order_in_which_detections_come_changes_no_final_revision(seed: int, most_ns: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    out = run(HEARD, [chance.randint(0, most_ns) for _ in HEARD])
    assert places(last_revisions(out)) == places(last_revisions(PROMPT))


@settings(max_examples=15)
@given(st.sets(st.integers(0, len(HEARD) - 1), max_size=10))
def test_hearing_a_detection_twice_changes_nothing(twice: set[int]) -> None:
    heard = HEARD + [HEARD[index] for index in twice]
    out = run(heard, [NS_PER_S // 20] * len(HEARD) + [NS_PER_S // 4] * len(twice))
    assert places(last_revisions(out)) == places(last_revisions(PROMPT))


@pytest.mark.parametrize("delay_ns", [1_000_000_000, 12_345_678_912])
def test_one_delay_added_to_all_moves_only_the_origin_time(delay_ns: int) -> None:
    later = [msgspec.structs.replace(one, toa_ns=UtcNs(one.toa_ns + delay_ns)) for one in HEARD]
    moved = last_revisions(run(later, [NS_PER_S // 20] * len(HEARD)))
    for before, after in zip(last_revisions(PROMPT), moved, strict=True):
        assert abs(after.origin_ns - before.origin_ns - delay_ns) < 10_000
        assert after.x_m == pytest.approx(before.x_m, abs=0.002)
        assert after.y_m == pytest.approx(before.y_m, abs=0.002)
        assert after.ellipse.major_m == pytest.approx(before.ellipse.major_m, abs=0.002)
