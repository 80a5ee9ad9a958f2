"""What must hold of a hub, whatever the network does to detections, and of a node, whatever its clock knows."""

import math
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agls.classify.model import load_model
from agls.config import NodeConfig, Sensor, SiteConfig
from agls.messages import (
    NS_PER_S,
    Block,
    CadEvent,
    ClockState,
    Detection,
    Incident,
    Outbound,
    Shot,
    SlewRequest,
    UtcNs,
    encode,
)  # fmt: skip
from agls.pipeline import Hub, Node
from agls.sensor.clock import Known

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


# ------------------------------------------------------------------------------------------- early notice to the hub

EARLY_NS, FINAL_NS = NS_PER_S // 10, NS_PER_S // 2  # from the sound to the hub: heard, and judged
EARLY = [msgspec.structs.replace(one, stage="preliminary", llr={}) for one in HEARD]
JUDGED = run(HEARD, [FINAL_NS] * len(HEARD))


@settings(max_examples=15)
@given(st.sets(st.integers(0, len(HEARD) - 1)), st.sets(st.integers(0, len(HEARD) - 1), max_size=1))
def test_sounds_that_at_most_one_node_has_judged_tell_nothing(early: set[int], judged: set[int]) -> None:
    heard = [EARLY[k] for k in early] + [HEARD[k] for k in judged]
    out = run(heard, [EARLY_NS] * len(early) + [FINAL_NS] * len(judged))
    assert [item for item in out if isinstance(item, Shot | Incident | CadEvent | SlewRequest)] == []


@settings(max_examples=15)
@given(st.lists(st.integers(0, NS_PER_S), min_size=len(HEARD), max_size=len(HEARD)), st.sets(st.integers(0, 26)))
def test_early_notice_changes_no_final_revision(lags_ns: list[int], never: set[int]) -> None:
    early = [k for k in range(len(HEARD)) if k not in never]
    out = run(HEARD + [EARLY[k] for k in early], [FINAL_NS] * len(HEARD) + [lags_ns[k] for k in early])
    assert places(last_revisions(out)) == places(last_revisions(JUDGED))
    assert [one.p_gunshot for one in last_revisions(out)] == [one.p_gunshot for one in last_revisions(JUDGED)]


def test_of_sounds_told_early_that_are_never_judged_nothing_stays() -> None:
    heard = HEARD[:2]
    out = run(EARLY[:9] + heard, [EARLY_NS] * 9 + [FINAL_NS] * 2)
    assert last_revisions(out) == []


def first_told_s(heard: Sequence[Detection], lags_ns: Sequence[int]) -> float:
    """Say when a hub first tells of an incident, since the first shot."""
    hub = Hub(SITE)
    happenings = [(one.toa_ns + lag_ns, one) for one, lag_ns in zip(heard, lags_ns, strict=True)]
    for at_ns, one in sorted(happenings, key=lambda happening: happening[0]):
        if any(isinstance(item, Incident) for item in hub.feed(one, at_ns)):
            return (at_ns - START_NS) / NS_PER_S
    return math.inf


def test_with_early_notice_a_shot_is_told_before_most_nodes_have_judged_it() -> None:
    heard, early = HEARD[: len(SENSORS)], EARLY[: len(SENSORS)]
    judged_s = first_told_s(heard, [FINAL_NS] * len(heard))
    noticed_s = first_told_s(heard + early, [FINAL_NS] * len(heard) + [EARLY_NS] * len(early))
    assert noticed_s < judged_s - 0.2


@pytest.mark.parametrize("delay_ns", [1_000_000_000, 12_345_678_912])
def test_one_delay_added_to_all_moves_only_the_origin_time(delay_ns: int) -> None:
    later = [msgspec.structs.replace(one, toa_ns=UtcNs(one.toa_ns + delay_ns)) for one in HEARD]
    moved = last_revisions(run(later, [NS_PER_S // 20] * len(HEARD)))
    for before, after in zip(last_revisions(PROMPT), moved, strict=True):
        assert abs(after.origin_ns - before.origin_ns - delay_ns) < 10_000
        assert after.x_m == pytest.approx(before.x_m, abs=0.002)
        assert after.y_m == pytest.approx(before.y_m, abs=0.002)
        assert after.ellipse.major_m == pytest.approx(before.ellipse.major_m, abs=0.002)


# ---------------------------------------------------------------------------------------------------------- a node


class LateClock:
    """A sample clock that knows nothing before a moment, and never knows what came before another."""

    def __init__(self, known_from: int, lost_before: int = 0) -> None:
        self.state = ClockState(mode="pps_chrony", sigma_s=1e-6)
        self.heard, self.known_from, self.lost_before = 0, known_from, lost_before

    def known(self, index: float) -> Known:
        return "never" if index < self.lost_before else "yes" if self.heard >= self.known_from else "not yet"

    def state_at(self, index: float) -> ClockState:  # noqa: ARG002 - as every clock
        return self.state

    def utc_ns(self, index: float) -> int:
        return round(index / 48_000 * NS_PER_S)


def node_hears(clock: LateClock, shots_s: Sequence[float], **more: Any) -> tuple[Node, list[tuple[int, Detection]]]:
    """Let a node hear bangs; say at which sample each detection was handed over."""
    chance = np.random.default_rng(5)
    wave = 1e-3 * chance.standard_normal(6 * 48_000).astype(np.float32)
    for shot_s in shots_s:
        wave[round(shot_s * 48_000) :][:200] += 0.5 * np.exp(-np.arange(200) / 50, dtype=np.float32)
    node = Node(NodeConfig(sensor_id="pole"), clock, load_model(None), "boot", **more)
    found = []
    for first in range(0, wave.size, 1001):
        clock.heard = first + 1001
        found += [(clock.heard, one) for one in node.feed(Block(wave[first : first + 1001], first, 48_000.0))]
    return node, found + [(clock.heard, one) for one in node.finish()]


def test_impulses_heard_before_the_clock_is_known_are_stamped_once_it_is() -> None:
    node, found = node_hears(LateClock(known_from=4 * 48_000), [1.0, 2.0, 5.0])
    assert [one.seq for _, one in found] == [0, 1, 2]
    assert [at >= 4 * 48_000 for at, _ in found] == [True, True, True]
    assert [one.toa_ns / NS_PER_S for _, one in found] == [pytest.approx(shot_s, abs=1e-3) for shot_s in (1, 2, 5)]
    assert node.counts["no_time"] == 0


def test_impulses_whose_time_is_never_known_are_counted_and_leave_no_gap_in_seq() -> None:
    node, found = node_hears(LateClock(known_from=48_000, lost_before=72_000), [1.0, 2.0])
    assert [(one.seq, round(one.toa_ns / NS_PER_S)) for _, one in found] == [(0, 2)]
    assert node.counts["no_time"] == 1
    node, found = node_hears(LateClock(known_from=10**9), [1.0, 2.0])
    assert found == []
    assert node.counts["no_time"] == 2


def test_no_sound_is_kept_of_what_has_no_time_yet() -> None:
    kept: list[Detection] = []
    node_hears(LateClock(known_from=4 * 48_000), [1.0, 5.0], on_impulse=lambda _, one: kept.append(one))
    assert [round(one.toa_ns / NS_PER_S) for one in kept] == [5]


def test_what_is_heard_is_told_early_under_the_number_that_its_judgement_will_have() -> None:
    _, found = node_hears(LateClock(known_from=0), [1.0, 2.0, 2.2, 5.0], early=True)
    early = [(at, one) for at, one in found if one.stage == "preliminary"]
    finals = [(at, one) for at, one in found if one.stage == "final"]
    assert [one.seq for _, one in early] == [one.seq for _, one in finals] == [0, 1, 2, 3]
    assert [one.toa_ns for _, one in early] == [one.toa_ns for _, one in finals]
    assert {(one.llr == {}, one.model) for _, one in early} == {(True, "")}
    assert all(one.llr for _, one in finals)
    assert all((at - one.toa_ns * 48_000 / NS_PER_S) / 48_000 < 0.09 for at, one in early)


def test_nothing_is_told_early_whose_time_is_not_known_yet() -> None:
    _, found = node_hears(LateClock(known_from=3 * 48_000), [1.0, 2.0, 5.0], early=True)
    assert [(one.stage, one.seq) for _, one in found] == [
        ("final", 0), ("final", 1), ("preliminary", 2), ("final", 2)
    ]  # fmt: skip
