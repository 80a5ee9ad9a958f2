"""The hub's shell: what it hears through a broker, what it says, and how it ends."""

import json
import logging
import math
import os
import queue
import random
import threading
import time
from collections import Counter

import msgspec
import pytest

from agls import hub
from agls.bridge.store import tables
from agls.bridge.store.book import Book
from agls.bridge.store.opening import open_store
from agls.broker import EmbeddedBroker
from agls.config import Camera, Origin, Store
from agls.errors import InputError
from agls.hub import Desk, HubSummary, pending_ns, replay_into, run_hub
from agls.journal import Heard, Journal, Refused, read_journal, segment_name
from agls.messages import NS_PER_S, Ack, CadEvent, Incident, Shot, SlewRequest, UtcNs, encode
from agls.pipeline import Hub
from agls.sinks import OutFolder
from agls.transport import Connection, Received, topic_of
from tests import town

SOUND_M_S = 340.3


def site(**changes):
    """Describe a square of sensors with a place on Earth and a camera."""
    origin = Origin(latitude_deg=40.44, longitude_deg=-79.99, height_m=200.0)
    camera = Camera(camera_id="cam", latitude_deg=40.4405, longitude_deg=-79.9905, height_m=215.0)
    return msgspec.structs.replace(town.site(**changes), origin=origin, camera=(camera,))


def bang(seq, origin_ns, x_m=110.0, y_m=140.0):
    """Let a shot be heard by every sensor of the town."""
    for sensor in town.site().sensor:
        distance_m = math.dist((x_m, y_m, 1.5), (sensor.x_m, sensor.y_m, sensor.z_m))
        toa_ns = origin_ns + round(distance_m / SOUND_M_S * NS_PER_S)
        yield town.detection(seq, sensor_id=sensor.sensor_id, toa_ns=UtcNs(toa_ns), llr={"gunshot": 6.0})


class Air:
    """Stand in for a connection to a broker: what it is given is heard, what is published is kept."""

    def __init__(self, *arrivals):
        self.inbox = queue.Queue()
        self.published = []
        self.refused = []  # topic, payload, time
        self.counts = Counter(connected=1)
        for record in arrivals:
            self.say(record)

    def say(self, record):
        self.inbox.put(Received(record, topic_of(record), time.time_ns()))

    def __call__(self, _mqtt, client_id, _subscriptions, on_refused):
        self.client_id = client_id
        for refused in self.refused:
            on_refused(*refused)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def take(self, timeout_s):
        try:
            first = self.inbox.get(timeout=timeout_s)
        except queue.Empty:
            return []
        return [first, *(self.inbox.get_nowait() for _ in range(self.inbox.qsize()))]

    def publish(self, record):
        self.published.append(record)
        return True

    def of(self, kind):
        return [record for record in self.published if isinstance(record, kind)]


def stopped():
    """Make a stop that is set already: the hub takes in what waits, decides it, and ends."""
    stop = threading.Event()
    stop.set()
    return stop


def outputs(path):
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        # Who can be relied on follows from the time of day: no replay says it.
        if file.is_file() and not file.name.startswith(("journal", "fleet", "bridge.sqlite"))
    }


def test_a_shot_is_heard_located_told_written_and_acknowledged_before_the_hub_ends(tmp_path, monkeypatch):
    air, shown = Air(*bang(0, time.time_ns())), []
    monkeypatch.setattr(hub, "Connection", air)
    summary = run_hub(site(), tmp_path, stopped(), shown.append)
    shot = air.of(Shot)[-1]
    assert math.hypot(shot.x_m - 110, shot.y_m - 140) < 10
    assert air.of(Incident)[-1].incident == shot.incident
    assert air.of(SlewRequest)[0].camera_id == "cam"
    assert {(ack.sensor_id, ack.next_seq, ack.missing) for ack in air.of(Ack)} == {(f"s{n}", 1, ()) for n in range(4)}
    assert [record for record in shown if not isinstance(record, CadEvent)] == [
        record for record in air.published if not isinstance(record, Ack)
    ]
    assert (tmp_path / "cad" / f"{shot.incident}.0.json").exists()
    assert len(summary.cad_latencies_s) == summary.counts["cad_event"] >= 1
    assert 0 < min(summary.cad_latencies_s) < 60
    assert "from the last needed detection to the CAD document" in str(summary)
    assert summary.counts["mqtt.connected"] == 1


def test_the_journal_of_a_real_hub_replays_to_the_same_bytes(tmp_path, monkeypatch):
    now_ns = time.time_ns()
    said = [record for seq in range(5) for record in bang(seq, now_ns - seq * NS_PER_S * 3 // 2, x_m=30.0 + 50 * seq)]
    air = Air(*said[::2], *said[1::2], said[3], town.detection(0, sensor_id="nobody"), *said[5:7])
    monkeypatch.setattr(hub, "Connection", air)
    run_hub(site(), tmp_path / "live", stopped())
    replay_into(tmp_path / "live" / "journal.jsonl", OutFolder(tmp_path / "again"))
    live = outputs(tmp_path / "live")
    assert live == outputs(tmp_path / "again")
    assert live["shots.csv"].count(b"\n") == 6
    assert json.loads(live["rejections.json"])["intake.duplicate"] == 3


@pytest.mark.parametrize("seed", range(3))
def test_a_run_with_moments_at_random_replays_to_the_same_bytes(tmp_path, seed):
    chance = random.Random(seed)  # noqa: S311
    begin_ns = town.NOW_NS
    said = [
        (record.toa_ns, record) for seq in range(4) for record in bang(seq, begin_ns + seq * NS_PER_S * 8, 60.0 * seq)
    ]
    happenings = [(toa_ns + chance.randrange(NS_PER_S), record) for toa_ns, record in said for _ in range(2)]
    happenings += [(begin_ns + chance.randrange(60 * NS_PER_S), None) for _ in range(chance.randrange(10, 200))]
    with Journal(tmp_path / "live" / "journal.jsonl", site()) as journal:
        desk = Desk(Hub(site()), OutFolder(tmp_path / "live"), journal)
        for at_ns, record in sorted(happenings, key=lambda pair: pair[0]):
            if record is None:
                desk.advance(at_ns)
            else:
                desk.hear(topic_of(record), encode(record), at_ns)
        desk.advance(begin_ns + 90 * NS_PER_S)
        desk.sync()
    replay_into(tmp_path / "live" / "journal.jsonl", OutFolder(tmp_path / "again"))
    live = outputs(tmp_path / "live")
    assert live == outputs(tmp_path / "again")
    assert live["shots.csv"].count(b"\n") == 5


def test_refused_bytes_are_in_the_journal(tmp_path, monkeypatch):
    air = Air()
    air.refused = [("agls/v1/detection/s0", b"\xffrubbish", time.time_ns())]
    monkeypatch.setattr(hub, "Connection", air)
    summary = run_hub(town.site(), tmp_path, stopped())
    (line,) = [line for line in read_journal(tmp_path / "journal.jsonl") if isinstance(line, Refused)]
    assert (line.topic, line.reason, line.payload_base64) == ("agls/v1/detection/s0", "not_json", b"\xffrubbish")
    assert summary.counts["hub.not_json"] == 1
    assert "no CAD document" in str(summary)


def test_one_who_shows_records_and_fails_does_not_stop_the_hub(tmp_path, monkeypatch, caplog):
    def fail(_):
        raise RuntimeError("the page is broken")

    monkeypatch.setattr(hub, "Connection", Air(*bang(0, time.time_ns())))
    with caplog.at_level(logging.CRITICAL):
        summary = run_hub(site(), tmp_path, stopped(), fail)
    assert summary.counts["on_outbound.failed"] == sum(
        summary.counts[name] for name in ("shot", "incident", "cad_event", "slew_request")
    ) + sum(number for name, number in summary.counts.items() if name.startswith(("associate.", "incident.")))


def test_the_session_is_the_same_at_each_start_and_another_for_each_site(tmp_path, monkeypatch):
    names = []
    for number, name in enumerate(["Town", "Town", "Ville d'été"]):
        air = Air()
        monkeypatch.setattr(hub, "Connection", air)
        run_hub(msgspec.structs.replace(town.site(), name=name), tmp_path / str(number), stopped())
        names.append(air.client_id)
    assert names[0] == names[1] != names[2]
    assert all(len(name) <= 23 and name.isascii() for name in names)


# ------------------------------------------------------------------------------------------------------ a second run


def run_twice(tmp_path, monkeypatch, second_site, **keywords):
    now_ns = time.time_ns()
    monkeypatch.setattr(hub, "Connection", Air(*bang(0, now_ns)))
    run_hub(site(), tmp_path, stopped())
    air = Air(*bang(0, now_ns), *bang(1, now_ns + NS_PER_S))
    monkeypatch.setattr(hub, "Connection", air)
    return air, run_hub(second_site, tmp_path, stopped(), **keywords)


def test_a_hub_that_resumes_knows_what_it_heard_and_goes_on(tmp_path, monkeypatch):
    air, summary = run_twice(tmp_path, monkeypatch, site(), resume=True)
    assert summary.counts["intake.duplicate"] == 4
    assert (tmp_path / "shots.csv").read_bytes().count(b"\n") == 3
    assert {ack.next_seq for ack in air.of(Ack)} >= {2}
    assert len({shot.shot_id for shot in air.of(Shot)}) == 1
    replay_into(tmp_path / "journal.jsonl", OutFolder(tmp_path / "again"))
    again = outputs(tmp_path / "again")
    live = {name: content for name, content in outputs(tmp_path).items() if not name.startswith("again/")}
    assert live == again


@pytest.mark.parametrize("keywords", [{"resume": False}, {"resume": True}])
def test_a_run_that_does_not_resume_begins_anew_and_keeps_the_earlier_journal(tmp_path, monkeypatch, keywords):
    other = site() if not keywords["resume"] else msgspec.structs.replace(site(), name="Another")
    _, summary = run_twice(tmp_path, monkeypatch, other, **keywords)
    assert "intake.duplicate" not in summary.counts
    assert sum(isinstance(line, Heard) for line in read_journal(tmp_path / "journal.1.jsonl")) == 4
    assert sum(isinstance(line, Heard) for line in read_journal(tmp_path / "journal.jsonl")) == 8


def stored(path):
    """Read what the bridge of an earlier hub entered."""
    engine = open_store(Store(), path, "live")
    book = Book(engine, site())
    with engine.connect() as db:
        names = [row.incident for row in db.execute(tables.incident.select())]
    found = {name: book.revisions(name) for name in names}
    engine.dispose()
    return found


def test_what_a_hub_says_of_incidents_is_in_its_store_with_the_time_of_each_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "Connection", Air(*bang(0, time.time_ns())))
    summary = run_hub(site(), tmp_path, stopped())
    [(name, revisions)] = stored(tmp_path).items()
    engine = open_store(Store(), tmp_path, "live")
    record = Book(engine, site()).record(name)
    engine.dispose()
    stages = record.stages
    assert revisions[-1].latest.round_count == 1
    assert stages.fired_ns < stages.heard_ns  # in this test sounds are told of before they arrive
    assert stages.received_ns <= stages.due_ns
    assert stages.located_ns < stages.stored_ns
    assert summary.counts["bridge.entered"] >= 1


def test_what_a_hub_that_died_had_not_entered_is_entered_when_it_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "Connection", Air(*bang(0, time.time_ns())))
    with monkeypatch.context() as patch:
        patch.setattr(hub.Bridge, "tell", lambda *_: None)  # killed between journal and store
        run_hub(site(), tmp_path, stopped())
    assert stored(tmp_path) == {}
    monkeypatch.setattr(hub, "Connection", Air())
    run_hub(site(), tmp_path, stopped(), resume=True)
    [revisions] = stored(tmp_path).values()
    assert revisions[-1].latest.round_count == 1
    monkeypatch.setattr(hub, "Connection", Air())
    run_hub(site(), tmp_path, stopped(), resume=True)
    assert list(stored(tmp_path).values()) == [revisions]


def test_a_hub_remembers_over_a_restart_though_its_journal_went_on_in_another_file(tmp_path, monkeypatch):
    now_ns = time.time_ns()
    monkeypatch.setattr(hub, "Connection", Air(*bang(0, now_ns)))
    run_hub(site(), tmp_path, stopped())
    with Journal(tmp_path / "journal.jsonl", site()) as journal:
        journal.turn_over(segment_name(now_ns))
    monkeypatch.setattr(hub, "Connection", Air(*bang(0, now_ns)))
    summary = run_hub(site(), tmp_path, stopped(), resume=True)
    assert summary.counts["intake.duplicate"] == 4
    [revisions] = stored(tmp_path).values()
    assert revisions[-1].latest.round_count == 1


def test_journals_past_their_days_are_deleted_and_others_are_not(tmp_path, monkeypatch):
    old, new, strange = (
        tmp_path / "journal-20200101T000000.000000000.jsonl",
        tmp_path / "journal.1.jsonl",
        tmp_path / "x.jsonl",
    )
    for path in (old, new, strange):
        path.write_text("{}")
    for path in (old, strange):
        os.utime(path, (0, 0))
    monkeypatch.setattr(hub, "TIDY_S", 0.0)
    monkeypatch.setattr(hub, "UPKEEP_S", 0.0)
    monkeypatch.setattr(hub, "Connection", Air(town.heartbeat()))
    run_hub(town.site(), tmp_path, stopped())
    assert [path.exists() for path in (old, new, strange)] == [False, True, True]


def test_a_journal_from_the_future_is_refused_with_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "Connection", Air())
    with Journal(tmp_path / "journal.jsonl", town.site()) as journal:
        journal.append(hub.Heard(at_ns=UtcNs(time.time_ns() + 3600 * NS_PER_S), message=town.heartbeat()))
    with pytest.raises(InputError, match="after this machine's clock"):
        run_hub(town.site(), tmp_path, stopped(), resume=True)


def test_what_may_be_pending_covers_the_slowest_sound_across_the_site():
    assert pending_ns(site()) > 2 * site().locating.max_range_m / 250.0 * NS_PER_S


def test_a_summary_names_number_median_and_maximum():
    text = str(HubSummary({"shot": 3}, (0.1, 0.2, 0.9)))
    assert "shot 3" in text
    assert "number 3, median 0.200 s, maximum 0.900 s" in text


# --------------------------------------------------------------------------------------------------- a real broker


def test_over_a_broker_rubbish_is_journaled_and_a_detection_is_acknowledged(tmp_path):
    stop, summaries = threading.Event(), []
    with EmbeddedBroker(tmp_path / "broker") as broker:
        town_site = town.site(mqtt=broker.mqtt)
        thread = threading.Thread(target=lambda: summaries.append(run_hub(town_site, tmp_path / "out", stop)))
        thread.start()
        try:
            acks = speak_until_acknowledged(broker)
        finally:
            stop.set()
            thread.join(30)
    assert acks[0].boot_id == "b1"
    (summary,) = summaries
    assert summary.counts["mqtt.not_json"] == summary.counts["hub.not_json"] >= 1
    lines = read_journal(tmp_path / "out" / "journal.jsonl")
    assert sum(isinstance(line, Refused) for line in lines) == summary.counts["hub.not_json"]


def speak_until_acknowledged(broker):
    """Send detections and rubbish; the hub may not listen to the first."""
    with Connection(broker.mqtt, "node-s0", (topic_of(Ack(sensor_id="s0", boot_id="b1", next_seq=0)),)) as node:
        assert node.wait_connected(30)
        for seq in range(300):
            node.publish(town.detection(seq, toa_ns=UtcNs(time.time_ns())))
            node._client.publish("agls/v1/detection/s0", b"\xff\x00", qos=1)
            acks = [item.record for item in node.take(0.1)]
            if acks:
                return acks
    return []
