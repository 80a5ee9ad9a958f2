"""The one way into the hub: nothing heard is lost, nothing heard breaks it, and a replay gives the same bytes."""

import json
import logging
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.desk import Desk, replay_into
from agls.errors import InputError
from agls.journal import Advanced, Heard, Journal, Refused, read_journal
from agls.messages import NS_PER_S, UtcNs, decode, encode
from agls.sinks import OutFolder
from tests import town


class Live:
    """A desk with its journal and folder."""

    def __init__(self, path: Path, clock_ns=None):
        self.path = path
        self.folder = OutFolder(path)
        self.journal = Journal(path / "journal.jsonl", town.site())
        self.desk = Desk(town.StandIn(town.site()), self.folder, self.journal, clock_ns)

    def hear(self, record, received_ns, name=None):
        kind = {"Detection": "detection", "Heartbeat": "heartbeat", "Status": "status"}[type(record).__name__]
        return self.desk.hear(f"agls/v1/{kind}/{name or record.sensor_id}", encode(record), received_ns)

    def close(self):
        self.desk.sync()
        self.journal.close()
        return self.path


@pytest.fixture
def live(tmp_path):
    live = Live(tmp_path / "live")
    yield live
    live.close()


def outputs(path):
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name != "journal.jsonl"
    }


def entries(path):
    return list(read_journal(path / "journal.jsonl"))[1:]


# ------------------------------------------------------------------------------------------------ any bytes at all

topics = st.one_of(
    st.text(max_size=40),
    st.builds("agls/v1/{}/{}".format, st.sampled_from(["detection", "heartbeat", "status", "ack", "shot"]), st.text()),
)
payloads = st.one_of(
    st.binary(max_size=80),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=9,
    ).map(lambda value: json.dumps(value).encode()),
    st.tuples(st.integers(0, 330), st.binary(min_size=1, max_size=3)).map(
        lambda edit: (whole := encode(town.detection(3)))[: edit[0]] + edit[1] + whole[edit[0] + 1 :]
    ),
)


@given(st.lists(st.tuples(topics, payloads, st.integers(0, 2**62)), max_size=5))
def test_any_bytes_on_any_topic_are_journaled_and_counted_and_never_break_the_desk(tmp_path_factory, arrivals):
    live = Live(tmp_path_factory.mktemp("any") / "live")
    for topic, payload, received_ns in [*arrivals, ("agls/v1/detection/s0", encode(town.detection(0)), 0)]:
        live.desk.hear(topic, payload, received_ns)
    live.close()
    kept = entries(live.path)
    assert len(kept) == len(arrivals) + 1
    assert sorted(line.at_ns for line in kept) == [line.at_ns for line in kept]
    for (_, payload, _), line in zip(arrivals, kept, strict=False):
        assert isinstance(line, Heard) or line.payload_base64 == payload
    refused = [line for line in kept if isinstance(line, Refused)]
    counted = json.loads((live.path / "rejections.json").read_bytes())
    assert sum(number for name, number in counted.items() if name.startswith("hub.")) == len(refused)
    assert live.desk.counts["detection"] >= 1


def test_a_record_on_the_topic_of_another_sensor_is_refused_and_kept(live):
    (rejection,) = live.hear(town.detection(0), town.NOW_NS, name="s1")
    assert (rejection.stage, rejection.reason) == ("hub", "wrong_identity")
    assert entries(live.close())[0].payload_base64 == encode(town.detection(0))


def test_what_the_stages_cannot_digest_is_counted_and_the_next_is_heard(live, caplog):
    with caplog.at_level(logging.CRITICAL):
        (rejection,) = live.hear(town.detection(0, wave="shock"), town.NOW_NS)
    assert (rejection.reason, rejection.subject) == ("internal_error", "ZeroDivisionError")
    live.hear(town.detection(1), town.NOW_NS)
    assert [type(item).__name__ for item in live.desk.advance(town.NOW_NS + 3 * NS_PER_S)] == [
        "Shot", "Incident", "CadEvent", "SlewRequest",
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------- time, disk


def test_time_never_runs_back_and_a_clock_set_back_by_much_is_counted(live):
    live.desk.advance(town.NOW_NS)
    live.hear(town.detection(0), town.NOW_NS - 5)
    live.desk.advance(town.NOW_NS - 61 * NS_PER_S)
    assert [line.at_ns for line in entries(live.close())] == [town.NOW_NS] * 3
    assert live.desk.counts["clock_back"] == 1


def test_a_detection_is_acknowledged_only_after_its_line_is_with_the_operating_system(live):
    live.hear(town.detection(0), town.NOW_NS)
    assert entries(live.path) == []
    (ack,) = live.desk.acks(town.NOW_NS)
    assert ack.next_seq == 1
    assert entries(live.path) == [Heard(at_ns=UtcNs(town.NOW_NS), message=town.detection(0))]


def test_a_full_disk_silences_nothing_but_the_acknowledgements(live, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(live.journal, "append", refuse)
    monkeypatch.setattr(live.folder, "write", refuse)
    monkeypatch.setattr(live.folder, "flush", refuse)
    with caplog.at_level(logging.CRITICAL):
        live.hear(town.detection(0), town.NOW_NS)
        assert len(live.desk.advance(town.NOW_NS + 3 * NS_PER_S)) == 4
        live.desk.sync()
    assert live.desk.acks(town.NOW_NS + 3 * NS_PER_S) == []
    counts = live.desk.counts
    assert (counts["journal.failed"], counts["folder.failed"], counts["tables.failed"]) == (1, 4, 1)


def test_the_latency_of_a_cad_document_counts_from_the_last_detection_its_shots_used(tmp_path):
    live = Live(tmp_path / "live", clock_ns=lambda: town.NOW_NS + 4 * NS_PER_S)
    live.hear(town.detection(0), town.NOW_NS)
    live.hear(town.detection(0, sensor_id="s1"), town.NOW_NS + NS_PER_S)
    live.hear(town.detection(0, sensor_id="s1"), town.NOW_NS + NS_PER_S * 3 // 2)  # heard already
    live.hear(town.heartbeat(), town.NOW_NS + NS_PER_S * 3 // 2)
    live.desk.advance(town.NOW_NS + 2 * NS_PER_S)
    assert list(live.desk.latencies_s) == [3.0]
    live.close()


# ----------------------------------------------------------------------------------------------------------- replay


def scatter(seed):
    """Make what four sensors say over twenty seconds: duplicates, stragglers, rubbish, and moments in between."""
    chance = random.Random(seed)  # noqa: S311
    happenings = []
    for second in range(0, 20, 3):
        for sensor in range(4):
            toa_ns = town.NOW_NS + second * NS_PER_S + chance.randrange(NS_PER_S)
            record = town.detection(second // 3, sensor_id=f"s{sensor}", toa_ns=UtcNs(toa_ns))
            for _ in range(chance.choice([1, 1, 2])):
                delay_ns = chance.choice([10**7, 10**8, 5 * 10**9])
                happenings.append((toa_ns + chance.randrange(delay_ns), f"agls/v1/detection/s{sensor}", encode(record)))
    happenings += [(town.NOW_NS + chance.randrange(20 * NS_PER_S), "agls/v1/detection/s1", b"rubbish")] * 3
    happenings += [(town.NOW_NS + chance.randrange(25 * NS_PER_S), "", b"") for _ in range(chance.randrange(100))]
    return sorted(happenings)


def run_live(path, happenings):
    live = Live(path)
    for at_ns, topic, payload in happenings:
        if topic:
            live.desk.hear(topic, payload, at_ns)
        else:
            live.desk.advance(at_ns)
            live.desk.acks(at_ns)
    live.desk.advance(town.NOW_NS + 60 * NS_PER_S)
    return live.close()


@pytest.mark.parametrize("seed", range(5))
def test_replaying_a_journal_gives_the_same_folder_byte_for_byte(tmp_path, seed):
    path = run_live(tmp_path / "live", scatter(seed))
    counts = replay_into(path / "journal.jsonl", OutFolder(tmp_path / "again"), town.StandIn)
    first, second = outputs(path), outputs(tmp_path / "again")
    assert first == second
    assert len([name for name in first if name.startswith("cad/")]) >= 7
    assert counts["detection"] == sum(isinstance(line, Heard) for line in entries(path)) > 28


def test_a_replay_of_a_torn_journal_is_the_run_up_to_there(tmp_path):
    path = run_live(tmp_path / "live", scatter(1)) / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-3])
    counts = replay_into(path, OutFolder(tmp_path / "again"), town.StandIn)
    assert counts["torn_line"] == 1
    assert counts["shot"] > 0


def test_a_replay_into_a_folder_that_cannot_be_written_says_so(tmp_path, monkeypatch, caplog):
    path = run_live(tmp_path / "live", scatter(1))
    folder = OutFolder(tmp_path / "again")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "write", refuse)
    with caplog.at_level(logging.CRITICAL), pytest.raises(InputError, match="could not be written"):
        replay_into(path / "journal.jsonl", folder, town.StandIn)


def test_what_is_journaled_of_a_record_is_the_record(live):
    received = Heard(at_ns=UtcNs(town.NOW_NS), message=town.heartbeat(counts={"clipped": 3}))
    assert live.desk.take(received) == []
    live.desk.take(Advanced(at_ns=UtcNs(town.NOW_NS + 1)))
    assert entries(live.close()) == [received, Advanced(at_ns=UtcNs(town.NOW_NS + 1))]
    assert decode(encode(received), Heard) == received
