"""The outbox: nothing is forgotten before the hub has it, nothing the hub has is sent again."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import agls.sensor.store
from agls.errors import InputError
from agls.messages import NS_PER_S, Ack, ClockState, Detection, UtcNs, encode
from agls.sensor.outbox import LATE_NS, MAX_DETECTION_BYTES, PROBE_COUNT, RESEND_NS, WRITE_AGAIN_NS, Outbox
from agls.sensor.store import MEMORY, Store

CLOCK = ClockState(mode="file", sigma_s=1e-4)
LIMIT = 40


def detection(seq: int) -> Detection:
    return Detection(sensor_id="pole-1", boot_id="boot", seq=seq, toa_ns=UtcNs(seq), toa_sigma_s=1e-3, clock=CLOCK)


def ack(next_seq: int, *missing: int, boot_id: str = "boot") -> Ack:
    return Ack(sensor_id="pole-1", boot_id=boot_id, next_seq=next_seq, missing=missing)


def in_memory(limit_count: int) -> Outbox:
    return Outbox(Store(MEMORY), limit_count, boot_id="boot")


def filled(count: int, *, sent: bool = True) -> Outbox:
    outbox = in_memory(1000)
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
    assert outbox.acknowledged(ack(5, 1, 3)) == 2
    assert seqs(outbox.pending()) == [1, 3, 5]
    assert seqs(outbox.take(1, 10)) == [1, 3]


def test_what_was_never_sent_cannot_be_acknowledged_away() -> None:
    outbox = filled(2, sent=False)
    assert outbox.acknowledged(ack(2**53)) == 0
    assert seqs(outbox.take(0, 10)) == [0, 1]


def test_an_ack_to_another_run_of_the_node_changes_nothing_and_is_counted() -> None:
    outbox = filled(2)
    assert outbox.acknowledged(ack(2, boot_id="earlier")) == 0
    assert len(outbox) == 2
    assert +outbox.counts == {"ack_other_boot": 1}


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
    outbox = in_memory(2)
    assert outbox.oldest_seq == 0
    for seq in range(5):
        outbox.put(detection(seq), now_ns=0)
    assert +outbox.counts == {"dropped": 3}
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


def test_a_preliminary_is_never_put() -> None:
    with pytest.raises(ValueError, match="preliminary"):
        filled(2).put(msgspec.structs.replace(detection(7), stage="preliminary"), now_ns=0)


def test_a_final_has_the_number_its_preliminary_was_told_under() -> None:
    outbox = in_memory(10)
    outbox.put(detection(0), 0)
    told = outbox.number(msgspec.structs.replace(detection(1), stage="preliminary"))
    outbox.put(detection(2), 0)
    outbox.put(detection(1), 0)
    assert (told.boot_id, told.seq) == ("boot", 1)
    assert {(held.seq, held.toa_ns) for held in outbox.pending()} == {(0, 0), (1, 1), (2, 2)}
    assert outbox.next_seq == 3


def test_a_final_that_the_disk_will_not_take_does_not_keep_the_number_it_was_told_early_under(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The number is not on disk, so the next process could give it to another sound.
    outbox = in_memory(10)
    told = outbox.number(msgspec.structs.replace(detection(0), stage="preliminary"))
    monkeypatch.setattr(Store, "put", refuse)
    final = outbox.put(detection(0), 0)
    assert final.boot_id != told.boot_id
    assert [one.boot_id for one in outbox.pending()] == [final.boot_id]


def refuse(*_: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")


def test_what_is_longer_than_a_kibibyte_does_not_leave_the_node() -> None:
    outbox = in_memory(10)
    outbox.put(msgspec.structs.replace(detection(0), model="\n" * MAX_DETECTION_BYTES), 0)
    assert len(outbox) == 0
    assert +outbox.counts == {"too_long": 1}


def test_the_oldest_go_too_where_there_are_too_many_bytes_and_late_ones_are_named_so() -> None:
    outbox = Outbox(Store(MEMORY), 1000, limit_bytes=1_000, boot_id="boot")
    for seq in range(10):
        outbox.put(detection(seq), now_ns=seq * LATE_NS)
    kept = outbox.pending()
    assert seqs(kept) == list(range(10 - len(kept), 10))
    assert sum(len(encode(held)) for held in kept) <= 1_000
    assert outbox.counts["dropped_late"] == 10 - len(kept)


# ---------------------------------------------------------------------------------------------- on disk


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "outbox.sqlite")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for the kernel's word on which boot this is: write another, and the machine has started anew."""
    word = tmp_path / "boot_id"
    word.write_text("first")
    monkeypatch.setattr(agls.sensor.store, "MACHINE_BOOT", word)
    return word


def opened(path: str, limit_count: int = 1000) -> tuple[Outbox, Store]:
    store = Store(path)
    return Outbox(store, limit_count), store


def test_the_next_process_sends_what_the_last_one_held_and_goes_on_numbering(path: str) -> None:
    outbox, store = opened(path)
    for seq in range(5):
        outbox.put(detection(seq), now_ns=0)
    outbox.take(0, 5)
    outbox.acknowledged(ack(2, boot_id=outbox.boot_id))
    store.close()
    again, store = opened(path)
    assert (again.boot_id, again.next_seq, again.oldest_seq) == (outbox.boot_id, 5, 2)
    again.put(detection(0), now_ns=0)
    assert [(held.seq, held.toa_ns, held.late) for held in again.take(0, 9)] == [
        (2, 2, False), (3, 3, False), (4, 4, False), (5, 0, False),
    ]  # fmt: skip
    store.close()


def test_after_the_machine_started_anew_numbers_have_a_new_name_and_what_was_held_is_late(
    path: str, machine: Path
) -> None:
    outbox, store = opened(path)
    for seq in range(3):
        outbox.put(detection(seq), now_ns=50 * NS_PER_S)
    store.close()
    machine.write_text("second")
    again, store = opened(path)
    again.put(detection(0), now_ns=NS_PER_S)
    assert again.boot_id != outbox.boot_id
    assert again.earlier() == [(outbox.boot_id, 0, 3)]
    assert (again.oldest_seq, again.next_seq) == (0, 1)
    sent = again.take(NS_PER_S, 9)
    assert [(held.boot_id, held.seq, held.late) for held in sent] == [
        *((outbox.boot_id, seq, True) for seq in range(3)), (again.boot_id, 0, False),
    ]  # fmt: skip
    again.acknowledged(ack(3, boot_id=outbox.boot_id))
    assert again.earlier() == []
    assert len(again) == 1
    store.close()


def test_early_notice_costs_no_write_and_the_next_process_may_give_its_number_to_another_sound(path: str) -> None:
    outbox, store = opened(path)
    before = store._base.total_changes
    told = outbox.number(msgspec.structs.replace(detection(0), stage="preliminary"))
    assert store._base.total_changes == before
    store.close()
    again, store = opened(path)
    again.put(detection(7), now_ns=0)
    assert [(held.seq, held.toa_ns) for held in again.pending()] == [(told.seq, 7)]
    store.close()


def test_one_node_at_a_time_has_the_file(path: str) -> None:
    _, store = opened(path)
    with pytest.raises(InputError, match="in use by another node"):
        Store(path)
    store.close()
    opened(path)[1].close()


def test_a_file_that_is_none_is_set_aside_and_a_new_one_begun(path: str) -> None:
    Path(path).parent.mkdir()
    Path(path).write_bytes(b"no database" * 1000)
    outbox, store = opened(path)
    outbox.put(detection(0), 0)
    assert outbox.counts["file_damaged"] == 1
    assert [found.name for found in Path(path).parent.glob("*damaged*")] == ["outbox.sqlite.damaged-1"]
    store.close()


def test_a_place_where_nothing_can_be_written_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match=r"outbox /proc/nowhere/o\.sqlite cannot be written"):
        Store("/proc/nowhere/o.sqlite")


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a new file be as small as can be."""
    monkeypatch.setattr(agls.sensor.store, "ROOM", "")


def fill_disk(store: Store) -> None:
    pages = store._base.execute("PRAGMA page_count").fetchone()[0]
    store._base.execute(f"PRAGMA max_page_count={pages}")


def free_disk(store: Store) -> None:
    store._base.execute("PRAGMA max_page_count=1000000")


@pytest.mark.usefixtures("no_room")
def test_while_the_disk_is_full_nothing_is_lost_and_no_number_is_given_out_twice(path: str) -> None:
    outbox, store = opened(path)
    fill_disk(store)
    for seq in range(40):
        outbox.put(detection(seq), now_ns=0)
    assert outbox.counts["not_on_disk"] > 0
    told = {(held.boot_id, held.seq): held.toa_ns for held in outbox.take(0, 100)}
    assert sorted(told.values()) == list(range(40))
    before = {held.boot_id for held in outbox.pending()}
    assert len(before) == 2  # what could not be numbered on disk has a name of its own
    store.close()  # killed while the disk is full: what was in memory is gone, and its name with it
    again, store = opened(path)
    for seq in range(100, 140):
        again.put(detection(seq), now_ns=0)
    for held in again.pending():
        assert told.get((held.boot_id, held.seq), held.toa_ns) == held.toa_ns
    store.close()


@pytest.mark.usefixtures("no_room")
def test_once_the_disk_has_room_again_what_was_held_in_memory_is_written(path: str) -> None:
    outbox, store = opened(path)
    fill_disk(store)
    for seq in range(40):
        outbox.put(detection(seq), now_ns=0)
    free_disk(store)
    outbox.take(WRITE_AGAIN_NS, 0)
    outbox.put(detection(40), now_ns=WRITE_AGAIN_NS)
    store.close()
    again, store = opened(path)
    assert sorted(held.toa_ns for held in again.pending()) == list(range(41))
    assert len({(held.boot_id, held.seq) for held in again.pending()}) == 41
    store.close()


def test_a_disk_that_others_fill_later_still_takes_hundreds_of_detections(path: str) -> None:
    outbox, store = opened(path, 10_000)
    fill_disk(store)
    for seq in range(600):
        outbox.put(detection(seq), now_ns=0)
    assert outbox.counts["not_on_disk"] == 0
    store.close()


@given(cut=st.integers(0, 200_000))
@settings(max_examples=25)
def test_wherever_the_log_is_torn_off_what_is_left_is_a_whole_beginning(cut: int, torn: tuple[Path, int]) -> None:
    folder, count = torn
    copy = folder.with_name("torn")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    log = copy / "outbox.sqlite-wal"
    os.truncate(log, min(cut, log.stat().st_size))
    outbox, store = opened(str(copy / "outbox.sqlite"))
    held = outbox.pending()
    assert [(one.seq, one.toa_ns) for one in held] == [(seq, seq) for seq in range(len(held))]
    assert outbox.next_seq in (0, len(held))
    assert len(held) == count or cut < 200_000
    store.close()


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Copy the files of a living outbox, log and all."""
    live, frozen = tmp_path_factory.mktemp("live"), tmp_path_factory.mktemp("frozen") / "copy"
    outbox, store = opened(str(live / "outbox.sqlite"))
    for seq in range(30):
        outbox.put(detection(seq), now_ns=0)
    shutil.copytree(live, frozen)
    store.close()
    return frozen, 30


PUTTER = """
import sys, time
from tests.sensor.test_outbox import detection, opened
outbox, store = opened(sys.argv[1], 100_000)
for number in range(10_000):
    outbox.put(detection(int(sys.argv[2]) + number), time.monotonic_ns())
    sent = outbox.take(time.monotonic_ns(), 10)
    print(*(f"{one.boot_id} {one.seq} {one.toa_ns}" for one in sent), sep="\\n", flush=True)
"""


def test_killed_at_any_moment_a_node_has_all_that_it_ever_told_and_tells_nothing_as_another(path: str) -> None:
    chance = np.random.default_rng(5)
    told: dict[tuple[str, int], int] = {}
    for turn in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", PUTTER, path, str(100_000 * turn)],
            stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert child.stdout
        lines = [child.stdout.readline()]
        time.sleep(chance.uniform(0.0, 0.2))
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
        child.wait()
        child.stdout.close()
        for line in lines:
            if line.endswith(b"\n") and len(words := line.split()) == 3:
                key = words[0].decode(), int(words[1])
                assert told.setdefault(key, int(words[2])) == int(words[2]), "one number, two sounds"
    outbox, store = opened(path, 100_000)
    held = {(one.boot_id, one.seq): one.toa_ns for one in outbox.pending()}
    assert len(told) > 20
    assert told.items() <= held.items()
    assert len(set(held.values())) == len(held)
    store.close()


def dropped(outbox: Outbox) -> int:
    return outbox.counts["dropped"] + outbox.counts["dropped_late"]


class NodeAndHub(RuleBasedStateMachine):
    """A node with an outbox, a broker that loses whatever it likes, and a hub that acknowledges what reached it."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = in_memory(LIMIT)
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
        assert len(gone) <= dropped(self.outbox)
        assert all(seq < self.outbox.oldest_seq for seq in gone)
        assert len(held) <= LIMIT

    def teardown(self) -> None:
        """However it went, once the broker behaves the hub has all that was not dropped."""
        for _ in range(200):
            self.now_ns += RESEND_NS
            self.at_hub |= set(seqs(self.outbox.take(self.now_ns, 30)))
            self.outbox.acknowledged(ack(max(self.at_hub, default=-1) + 1, *self._holes()))
        assert self.outbox.pending() == []
        assert self.made - len(self.at_hub) <= dropped(self.outbox)

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
