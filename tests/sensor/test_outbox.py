"""The outbox: nothing is forgotten before the hub has it, nothing the hub has is sent again."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agls.messages import NS_PER_S, Ack, ClockState, Detection, UtcNs
from agls.sensor.outbox import LATE_NS, PROBE_COUNT, RESEND_NS, Outbox

CLOCK = ClockState(mode="file", sigma_s=1e-4)
LIMIT = 40


def detection(seq: int) -> Detection:
    return Detection(sensor_id="pole-1", boot_id="boot", seq=seq, toa_ns=UtcNs(seq), toa_sigma_s=1e-3, clock=CLOCK)


def ack(next_seq: int, *missing: int, boot_id: str = "boot") -> Ack:
    return Ack(sensor_id="pole-1", boot_id=boot_id, next_seq=next_seq, missing=missing)


def filled(count: int, *, sent: bool = True) -> Outbox:
    outbox = Outbox("boot", limit_count=1000)
    for seq in range(count):
        outbox.put(detection(seq), now_ns=0)
    if sent:
        outbox.take(now_ns=0, room_count=count)
    return outbox


def seqs(detections: list[Detection]) -> list[int]:
    return [detection.seq for detection in detections]


def test_a_new_detection_is_sent_once_while_the_hub_may_still_answer() -> None:
    outbox = filled(3, sent=False)
    assert seqs(outbox.take(0, 10)) == [0, 1, 2]
    assert outbox.take(RESEND_NS - 1, 10) == []
    assert seqs(outbox.pending()) == [0, 1, 2]


def test_no_more_is_taken_than_there_is_room_for() -> None:
    outbox = filled(5, sent=False)
    assert outbox.take(0, 0) == []
    assert seqs(outbox.take(0, 2)) == [0, 1]
    assert seqs(outbox.take(0, 9)) == [2, 3, 4]


def test_an_ack_forgets_everything_below_it_but_what_is_missing() -> None:
    outbox = filled(6)
    assert seqs(outbox.acknowledged(ack(5, 1, 3))) == [1, 3]
    assert seqs(outbox.pending()) == [1, 3, 5]
    assert seqs(outbox.take(1, 10)) == [1, 3]


def test_what_was_never_sent_cannot_be_acknowledged_away() -> None:
    outbox = filled(2, sent=False)
    assert outbox.acknowledged(ack(2**53)) == []
    assert seqs(outbox.take(0, 10)) == [0, 1]


def test_an_ack_to_another_run_of_the_node_changes_nothing_and_is_counted() -> None:
    outbox = filled(2)
    assert outbox.acknowledged(ack(2, boot_id="earlier")) == []
    assert len(outbox) == 2
    assert outbox.counts == {"ack_other_boot": 1}


def test_after_the_broker_lost_its_memory_everything_is_sent_again() -> None:
    outbox = filled(4)
    outbox.acknowledged(ack(1))
    outbox.resend()
    assert seqs(outbox.take(1, 10)) == [1, 2, 3]


def test_in_silence_only_the_oldest_are_sent_again_and_ever_less_often() -> None:
    outbox = filled(10 * PROBE_COUNT)
    sent_s = {now_s: seqs(found) for now_s in range(200) if (found := outbox.take(now_s * NS_PER_S, 1000))}
    assert list(sent_s) == [5, 15, 35, 75, 155]
    assert all(found == list(range(PROBE_COUNT)) for found in sent_s.values())


def test_once_the_hub_speaks_again_the_next_oldest_follow_at_once() -> None:
    outbox = filled(3 * PROBE_COUNT)
    outbox.take(100 * NS_PER_S, 1000)
    outbox.acknowledged(ack(PROBE_COUNT))
    assert seqs(outbox.take(100 * NS_PER_S, 1000)) == list(range(PROBE_COUNT, 2 * PROBE_COUNT))


def test_a_full_outbox_drops_the_oldest_counts_it_and_says_where_it_begins() -> None:
    outbox = Outbox("boot", limit_count=2)
    assert outbox.oldest_seq == 0
    for seq in range(5):
        outbox.put(detection(seq), now_ns=0)
    assert outbox.counts == {"outbox_full": 3}
    assert outbox.oldest_seq == 3
    assert seqs(outbox.take(0, 10)) == [3, 4]
    outbox.acknowledged(ack(5))
    assert outbox.oldest_seq == 5


def test_a_detection_that_waited_long_says_that_it_is_late() -> None:
    outbox = filled(1, sent=False)
    assert [found.late for found in outbox.take(LATE_NS, 1)] == [False]
    outbox.resend()
    assert [found.late for found in outbox.take(LATE_NS + 1, 1)] == [True]
    assert [found.late for found in outbox.pending()] == [False]


def test_preliminary_detections_and_steps_back_are_a_programming_error() -> None:
    outbox = filled(2)
    with pytest.raises(ValueError, match="preliminary"):
        outbox.put(msgspec.structs.replace(detection(7), stage="preliminary"), now_ns=0)
    with pytest.raises(ValueError, match="finals from 2"):
        outbox.put(detection(1), now_ns=0)


class NodeAndHub(RuleBasedStateMachine):
    """A node with an outbox, a broker that loses whatever it likes, and a hub that acknowledges what reached it."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox("boot", LIMIT)
        self.now_ns = 0
        self.made = 0
        self.at_hub: set[int] = set()
        self.known_to_node: set[int] = set()
        self.acks: list[Ack] = []

    @rule(count=st.integers(1, 10))
    def hear(self, count: int) -> None:
        for _ in range(count):
            self.outbox.put(detection(self.made), self.now_ns)
            self.made += 1

    @rule(room=st.integers(0, 30), reaches=st.lists(st.booleans(), min_size=30, max_size=30))
    def send(self, room: int, reaches: list[bool]) -> None:
        sent = self.outbox.take(self.now_ns, room)
        assert len(sent) <= room
        for found, arrives in zip(sent, reaches, strict=False):
            assert found.seq not in self.known_to_node, "acknowledged, yet sent again"
            if arrives:
                self.at_hub.add(found.seq)

    @rule()
    def hub_acknowledges(self) -> None:
        next_seq = max(self.at_hub, default=-1) + 1
        missing = tuple(seq for seq in range(self.outbox.oldest_seq, next_seq) if seq not in self.at_hub)
        self.acks.append(ack(next_seq, *missing))

    @rule(which=st.integers(0, 5))
    def an_ack_arrives_perhaps_an_old_one(self, which: int) -> None:
        if self.acks:
            found = self.acks[max(0, len(self.acks) - 1 - which)]
            self.outbox.acknowledged(found)
            self.known_to_node |= {seq for seq in self.at_hub if seq < found.next_seq and seq not in found.missing}

    @rule()
    def broker_loses_its_memory(self) -> None:
        self.outbox.resend()

    @rule(seconds=st.integers(1, 400))
    def time_passes(self, seconds: int) -> None:
        self.now_ns += seconds * NS_PER_S

    @invariant()
    def nothing_is_forgotten_before_the_hub_has_it(self) -> None:
        held = set(seqs(self.outbox.pending()))
        gone = set(range(self.made)) - held - self.at_hub
        assert len(gone) <= self.outbox.counts["outbox_full"]
        assert all(seq < self.outbox.oldest_seq for seq in gone)
        assert len(held) <= LIMIT

    def teardown(self) -> None:
        """However it went, once the broker behaves the hub has all that was not dropped."""
        for _ in range(200):
            self.now_ns += RESEND_NS
            self.at_hub |= set(seqs(self.outbox.take(self.now_ns, 30)))
            self.outbox.acknowledged(ack(max(self.at_hub, default=-1) + 1, *self._holes()))
        assert self.outbox.pending() == []
        assert self.made - len(self.at_hub) <= self.outbox.counts["outbox_full"]

    def _holes(self) -> list[int]:
        return [seq for seq in range(self.outbox.oldest_seq, max(self.at_hub, default=0)) if seq not in self.at_hub]


TestNodeAndHub = NodeAndHub.TestCase
TestNodeAndHub.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@given(st.lists(st.one_of(st.integers(0, 60), st.tuples(st.integers(0, 80), st.sets(st.integers(0, 80))))))
def test_whatever_acks_arrive_only_what_they_cover_is_forgotten(steps: list[int | tuple[int, set[int]]]) -> None:
    outbox = filled(60)
    held = set(range(60))
    for step in steps:
        if isinstance(step, tuple):
            next_seq, missing = step
            outbox.acknowledged(ack(next_seq, *missing))
            held -= {seq for seq in held if seq < next_seq and seq not in missing}
        else:
            outbox.take(step * NS_PER_S, 5)
        assert set(seqs(outbox.pending())) == held
