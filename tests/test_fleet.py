"""Who can be relied on now, and what coverage that leaves."""

import itertools
import json
import math
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls import hub
from agls.fleet import BACKLOG_COUNT, MAX_SIGMA_S, SILENT_NS, Fleet, FleetState, _share, write_fleet
from agls.intake import Gaps
from agls.messages import NS_PER_S, ClockState, Heartbeat, Status, UtcNs
from tests import town
from tests.test_hub import Air, stopped

NOW_NS = town.NOW_NS
NAMES = ("s0", "s1", "s2", "s3")
PLACES_M = {f"s{number}": (300.0 * (number % 2), 300.0 * (number // 2), 6.0) for number in range(4)}


def beat(sensor_id: str = "s0", at_s: float = 0.0, **changes: Any) -> Heartbeat:
    return town.heartbeat(sensor_id, sent_ns=UtcNs(NOW_NS + round(at_s * NS_PER_S)), **changes)


def heard(*messages: Any, at_s: float = 0.0, healthy: bool = True) -> Fleet:
    """Make the town's fleet, all well at the beginning, that then hears some messages."""
    fleet = Fleet(town.site(), PLACES_M)
    for message in (*(map(beat, NAMES) if healthy else ()), *messages):
        when_s = (message.sent_ns - NOW_NS) / NS_PER_S if isinstance(message, Heartbeat) else at_s
        fleet.feed(message, NOW_NS + round(when_s * NS_PER_S))
    return fleet


def reasons(state: FleetState, sensor_id: str = "s0") -> tuple[str, ...]:
    return next(node.reasons for node in state.nodes if node.sensor_id == sensor_id)


def test_nodes_that_say_they_are_well_are_relied_on() -> None:
    state = heard().state(NOW_NS + NS_PER_S)
    assert [node.reasons for node in state.nodes] == [()] * 4
    assert state.reliable_count == 4
    assert state.coverage_share == state.coverage_whole_share > 0.3


def test_of_a_node_that_never_spoke_nobody_knows_anything() -> None:
    state = heard(beat("s1"), healthy=False).state(NOW_NS)
    assert [node.reasons for node in state.nodes] == [("never_heard",), (), ("never_heard",), ("never_heard",)]
    assert state.coverage_share == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"clock": ClockState(mode="free", sigma_s=1e-3)}, "clock"),
        ({"clock": ClockState(mode="ntp", sigma_s=2 * MAX_SIGMA_S)}, "clock"),
        ({"queue_count": BACKLOG_COUNT + 1}, "backlog"),
        ({"signs": ("deaf",)}, "deaf"),
        ({"signs": ("moved", "throttled")}, "moved"),
        ({"signs": ("level_drop",)}, "level_drop"),
        ({"overflow_count": 1}, "losing_samples"),
    ],
)
def test_what_makes_detections_absent_or_wrong_is_a_reason(changes: dict[str, Any], reason: str) -> None:
    state = heard(beat(at_s=1, **changes)).state(NOW_NS + 2 * NS_PER_S)
    assert reasons(state) == (reason,)
    assert state.reliable_count == 3
    assert state.coverage_share < state.coverage_whole_share
    # And it is relied on again once it says that all is well.
    again = heard(beat(at_s=1, **changes), beat(at_s=2, overflow_count=changes.get("overflow_count", 0)))
    assert reasons(again.state(NOW_NS + 2 * NS_PER_S)) == ()


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({"signs": ("throttled",)}, "throttled"),
        ({"signs": ("disk_full",)}, "disk_full"),
        ({"clip_share": 0.01}, "clipping"),
        ({"queue_count": BACKLOG_COUNT}, "behind"),
    ],
)
def test_what_does_no_harm_yet_is_a_remark(changes: dict[str, Any], remark: str) -> None:
    state = heard(beat(at_s=1, **changes)).state(NOW_NS + 2 * NS_PER_S)
    assert (state.nodes[0].reliable, state.nodes[0].remarks) == (True, (remark,))


def test_a_node_that_says_farewell_or_whose_will_is_read_is_offline_until_it_speaks_again() -> None:
    gone = Status(sensor_id="s2", boot_id="b1", state="offline", version="0.1")
    fleet = heard(gone)
    assert reasons(fleet.state(NOW_NS), "s2") == ("offline",)
    fleet.feed(msgspec.structs.replace(gone, state="online"), NOW_NS)
    assert reasons(fleet.state(NOW_NS), "s2") == ()


def test_silence_is_noticed_after_a_minute_or_three_heartbeats_of_a_slow_node() -> None:
    fleet = heard(beat("s1", at_s=300))
    late_ns = NOW_NS + 300 * NS_PER_S + SILENT_NS
    assert reasons(fleet.state(late_ns), "s1") == ()
    assert reasons(fleet.state(late_ns), "s0") == ("silent",)
    assert reasons(fleet.state(NOW_NS + 1201 * NS_PER_S), "s1") == ("silent",)


def test_a_node_that_tells_of_earlier_numbers_too_is_one_node_that_beats_once() -> None:
    old = msgspec.structs.replace(beat(at_s=1, overflow_count=5), boot_id="b0", oldest_seq=0, next_seq=9)
    assert reasons(heard(beat(at_s=1, overflow_count=0), old).state(NOW_NS + NS_PER_S)) == ()


@pytest.mark.parametrize("off_s", [3600, -3600])
def test_a_node_whose_clock_was_set_wrong_is_named_at_its_second_heartbeat_and_relied_on_once_it_is_right(
    off_s: int,
) -> None:
    fleet = heard()

    def speak(at_s: int, off_s: int) -> tuple[str, ...]:
        fleet.feed(beat(at_s=at_s - off_s), NOW_NS + at_s * NS_PER_S)
        return reasons(fleet.state(NOW_NS + at_s * NS_PER_S))

    assert speak(15, off_s) == ()
    assert speak(30, off_s) == ("wrong_time",)
    assert speak(45, 0) == ()


def test_heartbeats_that_a_broker_held_back_say_nothing_of_the_clock() -> None:
    fleet = heard()
    for held_s in range(15, 3600, 15):
        fleet.feed(beat(at_s=held_s), NOW_NS + 3600 * NS_PER_S + held_s)
    assert reasons(fleet.state(NOW_NS + 3601 * NS_PER_S)) == ()


def test_numbers_that_did_not_come_are_shown_and_remarked_while_they_are_asked_for() -> None:
    gaps = {"s0": Gaps(missing_count=3, lost_count=2), "s1": Gaps(lost_count=1, unjudged_count=4)}
    fleet = Fleet(town.site(), PLACES_M, lambda: gaps)
    for name in NAMES:
        fleet.feed(beat(name), NOW_NS)
    state = fleet.state(NOW_NS)
    assert [node.remarks for node in state.nodes] == [("gaps",), (), (), ()]
    shown = json.loads(state.document())["nodes"]
    assert [(one["missing_count"], one["lost_count"], one["unjudged_count"]) for one in shown[:2]] == [
        (3, 2, 0),
        (0, 1, 4),
    ]


def test_strangers_are_not_listened_to() -> None:
    assert len(heard(beat("stranger")).state(NOW_NS).nodes) == 4


def test_a_loud_street_leaves_less_coverage_than_a_quiet_one() -> None:
    def covered(floor_db: float) -> float:
        return heard(*(beat(name, 1, noise_floor_db=floor_db) for name in NAMES)).state(NOW_NS).coverage_share

    assert covered(45.0) > covered(57.0) > covered(70.0) > covered(90.0)
    assert covered(-20.0) == covered(30.0)  # a node that is not calibrated hears no farther for it


@given(
    chances=st.lists(st.floats(0, 1), min_size=0, max_size=7),
    fewest=st.integers(1, 5),
)
def test_the_chance_that_enough_hear_is_that_of_all_ways_added_up(chances: list[float], fewest: int) -> None:
    ways = itertools.product((False, True), repeat=len(chances))
    expected = math.fsum(
        math.prod(p if hears else 1 - p for p, hears in zip(chances, way, strict=True))
        for way in ways
        if sum(way) >= fewest
    )
    assert _share(np.array(chances).reshape(-1, 1), fewest) == pytest.approx(expected, abs=1e-12)


def test_the_file_is_whole_and_says_who_why_and_what_is_left(tmp_path: Path) -> None:
    state = heard(beat(at_s=1, signs=("deaf",), temperature_c=61.5)).state(NOW_NS + NS_PER_S)
    write_fleet(state, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["fleet.json"]
    found = json.loads((tmp_path / "fleet.json").read_text())
    assert (found["nodes_count"], found["reliable_count"]) == (4, 3)
    assert found["coverage_share"] == 0  # three are one too few
    assert 0 < found["coverage_whole_share"] <= 1
    first = found["nodes"][0]
    assert (first["sensor_id"], first["reliable"], first["reasons"]) == ("s0", False, ["deaf"])
    assert (first["temperature_c"], first["clock"]["mode"]) == (61.5, "simulated")


def test_a_running_hub_keeps_the_file_and_counts_the_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "Connection", Air(beat("s0"), beat("s1", signs=("moved",))))
    summary = hub.run_hub(town.site(), tmp_path, stopped())
    found = json.loads((tmp_path / "fleet.json").read_text())
    assert [node["reasons"] for node in found["nodes"]] == [[], ["moved"], ["never_heard"], ["never_heard"]]
    assert summary.counts["fleet.reliable"] == 1
    assert summary.counts["fleet.nodes"] == 4
    assert summary.counts["fleet.moved"] == 1


def test_a_folder_that_cannot_be_written_does_not_stop_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(hub, "Connection", Air(beat("s0")))
    monkeypatch.setattr(hub, "write_fleet", refuse)
    stop = threading.Event()
    stop.set()
    assert hub.run_hub(town.site(), tmp_path, stop).counts["fleet.failed"] >= 1
