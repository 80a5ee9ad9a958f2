"""The hub's front door: each detection once, and acknowledgements that never promise too much."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agls import intake
from agls.config import Sensor, SiteConfig
from agls.intake import Intake, SeqSet
from agls.messages import Ack, ClockState, Detection, Heartbeat, Rejection, Status, UtcNs, decode, encode

NOW_NS = 1_700_000_000_000_000_000
S = 1_000_000_000
CLOCK = ClockState(mode="simulated", sigma_s=1e-4)
SITE = SiteConfig(
    name="Two", sensor=(Sensor(sensor_id="a", x_m=0, y_m=0, z_m=0), Sensor(sensor_id="b", x_m=9, y_m=0, z_m=0))
)


def detection(seq, *, sensor="a", boot="b1", stage="final", toa_ns=NOW_NS, late=False):
    return Detection(
        sensor_id=sensor, boot_id=boot, seq=seq, stage=stage, late=late, toa_ns=UtcNs(toa_ns), toa_sigma_s=1e-3,
        clock=CLOCK,
    )  # fmt: skip


def heartbeat(*, oldest, upcoming, sensor="a", boot="b1"):
    return Heartbeat(
        sensor_id=sensor, boot_id=boot, sent_ns=UtcNs(NOW_NS), uptime_s=1.0, clock=CLOCK, level_db=60,
        noise_floor_db=40, next_seq=upcoming, oldest_seq=oldest, queue_count=0,
    )  # fmt: skip


def reason(answer):
    return answer.reason if isinstance(answer, Rejection) else ""


def one_ack(stage, now_ns):
    (ack,) = stage.acks(now_ns)
    return ack


# ------------------------------------------------------------------------------------------------ each detection once


def test_a_detection_is_handed_on_once():
    stage = Intake(SITE)
    assert stage.feed(detection(0), NOW_NS) == detection(0)
    assert reason(stage.feed(detection(0), NOW_NS)) == "duplicate"


def test_the_same_number_of_another_sensor_or_boot_is_another_detection():
    stage = Intake(SITE)
    for other in (detection(0), detection(0, sensor="b"), detection(0, boot="b2")):
        assert stage.feed(other, NOW_NS) == other


def test_a_final_follows_its_preliminary_and_a_preliminary_after_its_final_is_dropped():
    stage = Intake(SITE)
    early, final = detection(3, stage="preliminary"), detection(3)
    assert stage.feed(early, NOW_NS) == early
    assert reason(stage.feed(early, NOW_NS)) == "duplicate"
    assert stage.feed(final, NOW_NS) == final
    assert reason(stage.feed(detection(4), NOW_NS)) == ""
    assert reason(stage.feed(detection(4, stage="preliminary"), NOW_NS)) == "preliminary_after_final"


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (detection(0, sensor="nobody"), "unknown_sensor"),
        (heartbeat(oldest=0, upcoming=0, sensor="nobody"), "unknown_sensor"),
        (Status(sensor_id="nobody", boot_id="b", state="online"), "unknown_sensor"),
        (detection(0, toa_ns=NOW_NS + 10 * S + 1), "future_time"),
        (detection(0, toa_ns=NOW_NS - 7 * 86_400 * S - 1), "too_old"),
        (heartbeat(oldest=2, upcoming=1), "impossible_heartbeat"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_name(message, name):
    answer = Intake(SITE).feed(message, NOW_NS)
    assert reason(answer) == name
    assert answer.stage == "intake"
    assert decode(encode(answer), Rejection) == answer


@pytest.mark.parametrize(
    "message",
    [
        detection(0, toa_ns=NOW_NS + 10 * S),
        detection(0, toa_ns=NOW_NS - 7 * 86_400 * S, late=True),
        heartbeat(oldest=0, upcoming=5),
        Status(sensor_id="a", boot_id="b", state="offline"),
    ],
)
def test_what_is_in_order_is_handed_on_unchanged(message):
    assert Intake(SITE).feed(message, NOW_NS) == message


seqs = st.integers(0, 40)
stages = st.sampled_from(["preliminary", "final"])
deliveries = st.lists(st.tuples(seqs, stages, st.sampled_from(["a", "b"]), st.sampled_from(["b1", "b2"])))


def accepted(deliveries):
    stage = Intake(SITE)
    out = Counter()
    for seq, kind, sensor, boot in deliveries:
        if isinstance(stage.feed(detection(seq, stage=kind, sensor=sensor, boot=boot), NOW_NS), Detection):
            out[seq, kind, sensor, boot] += 1
    return out


@given(deliveries, st.randoms(use_true_random=False))
def test_any_order_and_duplication_ends_in_the_same_finals_and_each_counts_once(wanted, random):
    again = wanted * 2
    random.shuffle(again)
    first, second = accepted(wanted), accepted(again)
    assert set(first.values()) | set(second.values()) <= {1}
    finals = {key for key in first if key[1] == "final"}
    assert finals == {key for key in second if key[1] == "final"} == {key for key in wanted if key[1] == "final"}
    known = {(seq, sensor, boot) for seq, _, sensor, boot in wanted}
    for got in (first, second):
        assert {(seq, sensor, boot) for seq, _, sensor, boot in got} == known


# ------------------------------------------------------------------------------------------------- acknowledgements


def test_a_final_is_acknowledged_once_and_again_when_the_node_repeats_it():
    stage = Intake(SITE)
    stage.feed(detection(0), NOW_NS)
    assert one_ack(stage, NOW_NS) == Ack(sensor_id="a", boot_id="b1", next_seq=1)
    assert stage.acks(NOW_NS) == []
    stage.feed(detection(0), NOW_NS)
    assert one_ack(stage, NOW_NS) == Ack(sensor_id="a", boot_id="b1", next_seq=1)


def test_a_preliminary_is_not_acknowledged():
    stage = Intake(SITE)
    stage.feed(detection(0, stage="preliminary"), NOW_NS)
    assert stage.acks(NOW_NS) == []


def test_a_detection_refused_for_its_time_is_acknowledged_for_it_did_come():
    stage = Intake(SITE)
    stage.feed(detection(0, toa_ns=0), NOW_NS)
    assert one_ack(stage, NOW_NS).next_seq == 1


def test_a_gap_is_asked_for_after_a_while_and_then_ever_less_often():
    stage = Intake(SITE)
    for seq in (0, 1, 4):
        stage.feed(detection(seq), NOW_NS)
    assert one_ack(stage, NOW_NS) == Ack(sensor_id="a", boot_id="b1", next_seq=2)
    asked_s = [
        s for s in range(100) for ack in stage.acks(NOW_NS + s * S) if ack.missing == (2, 3) and ack.next_seq == 5
    ]
    assert asked_s == [2, 6, 14, 30, 62]


def test_a_backlog_that_fills_the_gap_by_itself_is_not_asked_for():
    stage = Intake(SITE)
    stage.feed(detection(500), NOW_NS)
    for seq in range(500):
        stage.feed(detection(seq), NOW_NS + seq * S // 10)
        for ack in stage.acks(NOW_NS + seq * S // 10):
            assert ack.missing == ()
    assert one_ack_after(stage).next_seq == 501


def one_ack_after(stage):
    stage.feed(heartbeat(oldest=0, upcoming=0), NOW_NS)
    return one_ack(stage, NOW_NS)


def test_a_heartbeat_shows_a_missing_tail():
    stage = Intake(SITE)
    stage.feed(detection(0), NOW_NS)
    stage.feed(heartbeat(oldest=0, upcoming=3), NOW_NS)
    assert one_ack(stage, NOW_NS).next_seq == 1
    ack = one_ack(stage, NOW_NS + 2 * S)
    assert (ack.next_seq, ack.missing) == (3, (1, 2))


def test_a_node_without_the_missing_ends_the_asking_and_they_count_as_lost():
    stage = Intake(SITE)
    for seq in (0, 3):
        stage.feed(detection(seq), NOW_NS)
    assert stage.lost == 0
    stage.feed(heartbeat(oldest=3, upcoming=4), NOW_NS)
    assert one_ack(stage, NOW_NS) == Ack(sensor_id="a", boot_id="b1", next_seq=4)
    assert stage.acks(NOW_NS + 100 * S) == []
    assert stage.lost == 2


def test_a_lost_detection_that_comes_after_all_is_taken_and_lost_no_more():
    stage = Intake(SITE)
    stage.feed(detection(0), NOW_NS)
    stage.feed(heartbeat(oldest=3, upcoming=3), NOW_NS)
    assert stage.lost == 2
    assert stage.feed(detection(1), NOW_NS) == detection(1)
    assert stage.lost == 1


def test_what_a_node_forgot_before_this_hub_first_heard_it_is_not_counted_as_lost():
    stage = Intake(SITE)
    stage.feed(detection(500), NOW_NS)
    stage.feed(heartbeat(oldest=500, upcoming=501), NOW_NS)
    assert stage.lost == 0
    assert one_ack(stage, NOW_NS).next_seq == 501


def test_a_heartbeat_of_a_node_that_still_holds_what_came_brings_the_ack_again():
    stage = Intake(SITE)
    stage.feed(detection(0), NOW_NS)
    stage.acks(NOW_NS)
    stage.feed(heartbeat(oldest=1, upcoming=1), NOW_NS)
    assert stage.acks(NOW_NS) == []
    stage.feed(heartbeat(oldest=0, upcoming=1), NOW_NS)
    assert one_ack(stage, NOW_NS).next_seq == 1


def test_a_boot_that_fell_silent_is_not_asked_for_ever():
    stage = Intake(SITE)
    stage.feed(detection(1), NOW_NS)
    assert sum(bool(stage.acks(NOW_NS + s * S)) for s in range(0, 3600, 5)) > 10
    assert stage.acks(NOW_NS + 3600 * S) == []


steps = st.lists(
    st.one_of(
        st.tuples(st.just("final"), st.integers(0, 60)),
        st.tuples(st.just("preliminary"), st.integers(0, 60)),
        st.tuples(st.just("beat"), st.integers(0, 60), st.integers(0, 60)),
        st.tuples(st.just("acks"), st.integers(0, 100)),
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(steps)
def test_acks_never_claim_what_did_not_come_nor_ask_for_what_did(steps):
    stage, came, oldest, now_ns = Intake(SITE), set(), 0, NOW_NS
    for kind, *numbers in steps:
        if kind == "beat":
            low, high = sorted(numbers)
            stage.feed(heartbeat(oldest=low, upcoming=high), now_ns)
            oldest = max(oldest, low)
        elif kind == "acks":
            now_ns += numbers[0] * S // 10
            for ack in stage.acks(now_ns):
                claimed = set(range(oldest, ack.next_seq)) - set(ack.missing)
                assert claimed <= came
                assert not set(ack.missing) & came
                assert all(oldest <= seq < ack.next_seq for seq in ack.missing)
        else:
            stage.feed(detection(numbers[0], stage=kind), now_ns)
            came |= {numbers[0]} if kind == "final" else set()


@given(st.lists(seqs), st.lists(seqs))
def test_what_acks_were_asked_for_changes_no_answer(first, second):
    asked, unasked = Intake(SITE), Intake(SITE)
    for seq in first + second:
        assert asked.feed(detection(seq), NOW_NS) == unasked.feed(detection(seq), NOW_NS)
        asked.acks(NOW_NS + 100 * S)


# --------------------------------------------------------------------------------------------------- bounded memory


def test_a_number_of_2_to_the_50_takes_no_memory_and_a_heartbeat_ends_it():
    stage = Intake(SITE)
    stage.feed(detection(2**50), NOW_NS)
    ack = one_ack(stage, NOW_NS + 2 * S)
    assert (ack.next_seq, ack.missing) == (1000, tuple(range(1000)))
    assert decode(encode(ack), Ack) == ack
    stage.feed(heartbeat(oldest=2**50, upcoming=2**53), NOW_NS)
    ack = one_ack(stage, NOW_NS + 100 * S)
    assert (ack.next_seq, ack.missing[0], len(ack.missing)) == (2**50 + 1001, 2**50 + 1, 1000)


def test_a_flood_of_boots_leaves_only_the_latest_in_memory():
    stage = Intake(SITE)
    for number in range(1000):
        stage.feed(detection(1, boot=f"boot{number}"), NOW_NS)
    assert len(stage._boots["a"]) == intake.MAX_BOOT_COUNT
    assert len(stage.acks(NOW_NS + 10 * S)) == intake.MAX_BOOT_COUNT


def test_unknown_sensors_leave_no_trace():
    stage = Intake(SITE)
    for number in range(100):
        stage.feed(detection(0, sensor=f"x{number}"), NOW_NS)
    assert set(stage._boots) == {"a", "b"}
    assert stage.acks(NOW_NS + 10 * S) == []


def test_detections_too_scattered_to_remember_are_left_with_the_node():
    stage = Intake(SITE)
    for seq in range(0, 2 * intake.MAX_RUN_COUNT, 2):
        assert reason(stage.feed(detection(seq), NOW_NS)) == ""
    assert reason(stage.feed(detection(9999), NOW_NS)) == "too_scattered"
    assert reason(stage.feed(detection(1), NOW_NS)) == ""
    assert reason(stage.feed(detection(9999), NOW_NS)) == ""
    assert one_ack(stage, NOW_NS).next_seq == 3


def test_gaps_that_nobody_can_fill_make_room_and_stay_counted_as_lost():
    stage = Intake(SITE)
    for seq in range(0, 2 * intake.MAX_RUN_COUNT, 2):
        stage.feed(detection(seq), NOW_NS)
    stage.feed(heartbeat(oldest=100, upcoming=9999), NOW_NS)
    assert stage.lost == 50
    assert reason(stage.feed(detection(9998), NOW_NS)) == ""
    assert stage.lost == 50


def test_any_number_of_scattered_preliminaries_is_taken_once():
    stage = Intake(SITE)
    for seq in range(0, 4 * intake.MAX_RUN_COUNT, 2):
        assert reason(stage.feed(detection(seq, stage="preliminary"), NOW_NS)) == ""
        assert reason(stage.feed(detection(seq, stage="preliminary"), NOW_NS)) == "duplicate"


@given(st.lists(st.integers(0, 30)), st.integers(0, 31), st.integers(0, 31))
def test_a_seq_set_is_a_set(numbers, low, high):
    compact, plain = SeqSet(), set()
    for number in numbers:
        assert (number in compact) == (number in plain)
        if number not in plain:
            compact.add(number)
            plain.add(number)
    assert compact.end == max(plain, default=-1) + 1
    assert [n for first, past in compact.gaps(low, high) for n in range(first, past)] == sorted(
        set(range(low, high)) - plain
    )
    assert all(past < first for past, first in zip(compact.past, compact.first[1:], strict=False))


@given(st.lists(st.integers(0, 30), unique=True))
def test_a_seq_set_never_has_more_runs_than_allowed(numbers):
    compact = SeqSet(max_run_count=3)
    for number in numbers:
        if compact.has_room_for(number):
            compact.add(number)
        assert len(compact.first) == len(compact.past) <= 3


def test_a_sound_told_early_and_then_let_go_of_is_no_lost_one():
    stage = Intake(SITE)
    stage.feed(detection(0), NOW_NS)
    stage.feed(detection(1, stage="preliminary"), NOW_NS)
    stage.feed(detection(3), NOW_NS)
    assert (stage.lost, stage.unjudged) == (0, 0)  # its final may still come
    stage.feed(heartbeat(upcoming=4, oldest=4), NOW_NS)
    assert (stage.lost, stage.unjudged) == (1, 1)
    stage.feed(detection(1), NOW_NS)
    assert (stage.lost, stage.unjudged) == (1, 0)


def test_a_gap_shows_once_it_was_asked_for_twice_and_no_more_when_it_is_filled_or_lost():
    stage = Intake(SITE)
    for seq in (0, 2):
        stage.feed(detection(seq), NOW_NS)
    at_ns, shown = NOW_NS, []
    for _ in range(3):
        at_ns += 10 * S
        shown.append(stage.gaps()["a"].missing_count)
        stage.acks(at_ns)
    assert shown == [0, 0, 1]
    stage.feed(detection(1), at_ns)
    assert stage.gaps()["a"] == intake.Gaps()
    stage.feed(heartbeat(upcoming=9, oldest=5), at_ns)
    assert stage.gaps() == {"a": intake.Gaps(lost_count=2), "b": intake.Gaps()}
