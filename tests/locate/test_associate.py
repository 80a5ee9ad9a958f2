"""From a stream of detections to shots: what is told when, and what must not matter."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agls.config import Gathering, Locating
from agls.locate.associate import Associator
from agls.locate.frame import Frame
from agls.messages import NS_PER_S, Rejection, Shot
from agls.pipeline import Hub
from tests.locate.ground import START_NS, detections, hear, site_of, square

LATENCY_NS = NS_PER_S // 20
END_NS = START_NS + 40 * NS_PER_S


def street(seed=0, shots=((0.0, 420.0, 610.0), (0.5, 423.0, 612.0), (1.2, 700.0, 300.0)), **trouble):
    """Let ten sensors hear three shots."""
    rng = np.random.default_rng(seed)
    positions = square(10, 1000.0, rng)
    settings = {"p_detect": 0.95, "echo": 0.3, "clutter_per_s": 0.05}
    return positions, detections(hear(positions, list(shots), rng, **settings | trouble))


def stream(stage, messages, ticks_ns=()):
    """Give a stage messages, each with its time of receipt, in the order of receipt; return what it says, with when."""
    said = []
    events_ns = [(at_ns, None) for at_ns in ticks_ns] + [(at_ns, one) for at_ns, one in messages]
    for at_ns, one in [*sorted(events_ns, key=lambda pair: pair[0]), (END_NS, None)]:
        if isinstance(stage, Associator):
            said += stage.advance(at_ns)
            said += [(at_ns, item) for item in (stage.feed(one, at_ns) if one is not None else [])]
        else:
            said += [(at_ns, item) for item in (stage.advance(at_ns) if one is None else stage.feed(one, at_ns))]
    return said


def at_once(found):
    return [(one.toa_ns + LATENCY_NS, one) for one in found]


def associator(positions, **changes) -> Associator:
    site = site_of(positions, **changes)
    return Associator(site, Frame.of_site(site))


def last(said) -> list[Shot]:
    """Take the last revision of every shot that stands, in order of time."""
    shots = {item.shot_id: item for _, item in said if isinstance(item, Shot)}
    return sorted((one for one in shots.values() if one.state == "located"), key=lambda one: one.origin_ns)


def substance(said):
    """Take what was decided, without what tells how it became known."""
    return [
        (
            one.origin_ns, one.x_m, one.y_m, one.ellipse, one.p_gunshot, one.sensor_count,
            tuple(arrival.seq for arrival in one.arrivals if arrival.used),
        )
        for one in last(said)
    ]  # fmt: skip


def test_each_shot_of_the_street_is_located_once() -> None:
    positions, found = street()
    shots = last(stream(associator(positions), at_once(found)))
    assert [(round(shot.x_m, -1), round(shot.y_m, -1)) for shot in shots] == [(420, 610), (420, 610), (700, 300)]
    assert all(shot.ellipse.major_m < 15.0 and shot.p_gunshot > 0.9 for shot in shots)


@given(
    seed=st.integers(0, 8),
    delays_s=st.lists(st.floats(0.0, 0.9), min_size=60, max_size=60),
    twice=st.lists(st.booleans(), min_size=60, max_size=60),
)
@settings(max_examples=15)
def test_order_duplicates_and_batches_leave_the_decided_shots_the_same(seed, delays_s, twice) -> None:
    positions, found = street(seed)
    late = [(at_ns + int(delays_s[k % 60] * NS_PER_S), one) for k, (at_ns, one) in enumerate(at_once(found))]
    late += [(at_ns + NS_PER_S // 7, one) for k, (at_ns, one) in enumerate(late) if twice[k % 60]]
    before = stream(Hub(site_of(positions)), at_once(found))
    after = stream(Hub(site_of(positions)), late)
    assert substance(after) == substance(before)
    assert len(last(before)) >= 3


@given(seed=st.integers(0, 8), ticks=st.lists(st.integers(0, 12_000), max_size=60))
@settings(max_examples=15)
def test_letting_time_pass_more_often_changes_nothing(seed, ticks) -> None:
    positions, found = street(seed)
    before = stream(associator(positions), at_once(found))
    after = stream(associator(positions), at_once(found), [START_NS + tick * 1_000_000 for tick in ticks])
    assert after == before


def test_the_first_shot_is_told_before_it_is_decided_and_then_stands() -> None:
    positions, found = street(shots=[(0.0, 420.0, 610.0)], echo=0.0, clutter_per_s=0.0)
    said = stream(associator(positions), at_once(found))
    told = [(at_ns, item) for at_ns, item in said if isinstance(item, Shot)]
    assert told[0][0] <= max(one.toa_ns for one in found) + LATENCY_NS
    assert [item.revision for _, item in told] == list(range(len(told)))
    assert len({item.shot_id for _, item in told}) == 1
    first, final = told[0][1], told[-1][1]
    assert np.hypot(first.x_m - final.x_m, first.y_m - final.y_m) < 25.0
    assert final.sensor_count == len(found)


def test_what_silence_refutes_is_withdrawn_under_its_name() -> None:
    rng = np.random.default_rng(2)
    positions = square(16, 1000.0, rng)
    heard = hear(positions, [(0.0, 500.0, 500.0)], rng)
    first = np.argsort(heard.toa_s)[:4]  # the four nearest, as echoes might; none of the twelve others hears anything
    found = [one for one in detections(heard) if one.seq in first]
    said = stream(associator(positions), at_once(found))
    shots = [item for _, item in said if isinstance(item, Shot)]
    assert [shot.state for shot in shots] == ["located"] * (len(shots) - 1) + ["withdrawn"]
    assert len(shots) >= 2
    assert len({shot.shot_id for shot in shots}) == 1
    assert shots[-1].revision == shots[-2].revision + 1
    assert [item.reason for _, item in said if isinstance(item, Rejection)] == ["unassociated"] * 4


@pytest.mark.parametrize(("behind_s", "late"), [(100.0, False), (130.0, True)])
def test_a_shot_located_after_late_s_says_so(behind_s: float, late: bool) -> None:
    positions, found = street(shots=[(0.0, 420.0, 610.0)])
    stage = associator(positions, gathering=Gathering(late_s=120.0))
    at_ns = START_NS + int(behind_s * NS_PER_S)
    said = [item for one in found for item in stage.feed(one, at_ns)]
    said += [item for _, item in stage.advance(at_ns + 20 * NS_PER_S)]
    assert [item.late for item in said if isinstance(item, Shot)][-1:] == [late]


def test_a_flood_is_shed_by_name_and_memory_stays_bounded() -> None:
    rng = np.random.default_rng(3)
    positions = square(10, 1000.0, rng)
    stage = associator(positions, locating=Locating(max_pending_count=100))
    found = detections(hear(positions, [(0.0, 420.0, 610.0)], rng, clutter_per_s=6.0))
    shed = []
    for one in found:
        shed += stage.feed(one, START_NS)
        assert len(stage.held) == len(stage.by_key) <= 100
    assert {item.reason for item in shed} == {"shed"}
    assert len(shed) == len(found) - 100
    assert shed[0].subject.startswith(found[0].sensor_id)


def test_a_final_takes_the_place_of_its_preliminary() -> None:
    positions, found = street(shots=[(0.0, 420.0, 610.0)], echo=0.0, clutter_per_s=0.0)
    stage = associator(positions)
    rough = [
        msgspec.structs.replace(one, stage="preliminary", toa_ns=one.toa_ns + 2_000_000, toa_sigma_s=0.004)
        for one in found
    ]
    said = stream(stage, [*at_once(rough), *((at_ns + LATENCY_NS, one) for at_ns, one in at_once(found))])
    (shot,) = last(said)
    assert {arrival.toa_ns for arrival in shot.arrivals} == {one.toa_ns for one in found}


def test_every_detection_ends_in_a_shot_or_in_a_named_no() -> None:
    positions, found = street(4)
    said = stream(associator(positions), at_once(found))
    used = {(arrival.sensor_id, arrival.seq) for shot in last(said) for arrival in shot.arrivals if arrival.used}
    refused = [item for _, item in said if isinstance(item, Rejection) and item.reason == "unassociated"]
    members = {
        (arrival.sensor_id, arrival.seq)
        for shot in last(said)
        for arrival in shot.arrivals
        if arrival.used or arrival.reason == "outlier"
    }
    assert used <= members
    assert len(members) + len(refused) == len(found)


def test_nothing_heard_is_nothing_said() -> None:
    positions, _ = street()
    stage = associator(positions)
    assert stage.advance(START_NS) == []
    assert stage.advance(END_NS) == []
