"""What is none of it real reaches nobody: neither an exercise nor a replay."""

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from agls import hub
from agls.bridge.outbox import Outbox
from agls.bridge.store.book import Book, subscribers_of
from agls.bridge.store.opening import FILE_NAMES, open_store
from agls.config import Cad, Mqtt, Origin, SiteConfig, Store, Subscriber
from agls.messages import NS_PER_S, UtcNs
from agls.replay.run import replay, replay_journal
from agls.transport import ROOTS, topic_of
from tests import town
from tests.test_hub import Air, bang

LIVE = Subscriber(subscriber_id="live", url="http://127.0.0.1:9/live")
DRILL = Subscriber(subscriber_id="drill", url="http://127.0.0.1:9/drill", realm="exercise")


@pytest.fixture
def nobody(monkeypatch):
    """Let nobody be reached: every connection that is tried is kept, and refused."""
    tried = []

    def refuse(_self, address):
        tried.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket.socket, "sendto", refuse)
    return tried


def everything(realm: str = "live") -> SiteConfig:
    """Describe a town that tells everybody it can."""
    return msgspec.structs.replace(
        town.site(cad=Cad(webhook_url="http://127.0.0.1:9/cad"), subscriber=(LIVE, DRILL), mqtt=Mqtt(realm=realm)),
        origin=Origin(latitude_deg=40.44, longitude_deg=-79.99, height_m=200.0),
    )


def test_each_realm_has_its_own_receivers_topics_and_store() -> None:
    assert [one.subscriber_id for one in subscribers_of(everything())] == ["cad", "live"]
    assert [one.subscriber_id for one in subscribers_of(everything("exercise"))] == ["drill"]
    assert len(set(ROOTS.values())) == len(set(FILE_NAMES.values())) == 2
    assert not any(one.startswith(other) for one in ROOTS.values() for other in ROOTS.values() if one != other)


def test_an_exercise_tells_its_own_receivers_alone_and_says_that_it_is_one(tmp_path, monkeypatch) -> None:
    told, heard = [], threading.Event()

    class Sender:
        def __init__(self, name: str) -> None:
            self.name = name

        def send(self, document: bytes, _key: str):
            from agls.bridge.sender import Answer

            told.append((self.name, msgspec.json.decode(document)["exercise"]))
            heard.set()
            return Answer("sent", "HTTP 200")

        def close(self) -> None:
            pass

    from agls.bridge import formats

    monkeypatch.setattr(
        "agls.bridge.outbox.open_sender", lambda one: (Sender(one.subscriber_id), formats.load("cad")[0])
    )
    monkeypatch.setattr(hub, "Connection", Air(*bang(0, time.time_ns())))
    stop = threading.Event()
    running = threading.Thread(target=hub.run_hub, args=(everything("exercise"), tmp_path, stop))
    running.start()
    try:
        assert heard.wait(60)
    finally:
        stop.set()
        running.join()
    assert set(told) == {("drill", True)}
    assert (tmp_path / "exercise.sqlite").exists()
    assert not (tmp_path / "bridge.sqlite").exists()


def test_letters_of_an_exercise_wait_in_a_store_that_no_live_outbox_opens(tmp_path, said, incident) -> None:
    site = everything("exercise")
    engine = open_store(Store(), tmp_path, "exercise")
    Book(engine, site).enter([said(incident(), 1.0)], 0)
    engine.dispose()
    live = Book(open_store(Store(), tmp_path, "live"), everything())
    outbox = Outbox(live)
    outbox.start()
    time.sleep(0.2)
    outbox.close()
    assert outbox.counts.total() == 0
    live.engine.dispose()


# -------------------------------------------------------------------------------------------------------- replays


def test_the_replay_of_a_live_journal_reaches_nobody(tmp_path, monkeypatch, nobody) -> None:
    monkeypatch.setattr(hub, "Connection", Air(*bang(0, time.time_ns())))
    stop = threading.Event()
    stop.set()
    hub.run_hub(msgspec.structs.replace(everything(), subscriber=(), cad=Cad()), tmp_path / "live", stop)
    nobody.clear()
    replay_journal(tmp_path / "live" / "journal.jsonl", tmp_path / "again")
    assert nobody == []
    assert list((tmp_path / "again" / "cad").glob("*.json"))
    assert list((tmp_path / "again").glob("*.sqlite*")) == []


def test_the_replay_of_a_dataset_reaches_nobody(tmp_path, nobody) -> None:
    source = tmp_path / "set"
    source.mkdir()
    sensors = everything().sensor
    (source / "sensors.csv").write_text(
        "sensor_id,x_m,y_m,z_m\n" + "".join(f"{s.sensor_id},{s.x_m},{s.y_m},{s.z_m}\n" for s in sensors)
    )
    heard = [(one.sensor_id, one.toa_ns) for one in bang(0, town.NOW_NS)]
    from agls.messages import format_utc

    (source / "detections.csv").write_text(
        "recording,sensor_id,toa_utc,toa_sigma_s,p_gunshot,level_db,snr_db\n"
        + "".join(f"r1,{name},{format_utc(toa_ns)},0.001,0.99,,\n" for name, toa_ns in heard)
    )
    replay(source, tmp_path / "out")
    assert nobody == []
    assert list((tmp_path / "out" / "cad").glob("*.json"))
    assert list((tmp_path / "out").glob("*.sqlite*")) == []


def test_what_replays_loads_neither_store_nor_any_way_to_a_receiver() -> None:
    tell = "import sys, agls.replay.run; from agls.bridge.cad.event import CadDesk; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", tell], capture_output=True, text=True, check=True).stdout.split()
    strange = {
        "sqlalchemy",
        "agls.bridge.outbox",
        "agls.bridge.webhook",
        "agls.bridge.running",
        "agls.transport",
        "paho.mqtt.client",
    }
    assert strange & set(loaded) == set()


# ----------------------------------------------------------------------------------------------- an outage of a day


def test_what_an_outage_of_a_day_held_back_is_kept_as_late_opens_no_call_and_moves_no_camera(tmp_path) -> None:
    from agls.bridge.store import tables
    from agls.bridge.store.book import Batch
    from agls.config import Camera
    from agls.messages import CadEvent, Incident, Shot, SlewRequest
    from agls.pipeline import Hub

    camera = Camera(camera_id="cam", latitude_deg=40.4405, longitude_deg=-79.9905, height_m=215.0)
    site = msgspec.structs.replace(everything(), camera=(camera,))
    one = Hub(site)
    engine = open_store(Store(), tmp_path, "live")
    book, now_ns, out = Book(engine, site), town.NOW_NS + 86_400 * NS_PER_S, []
    for seq in range(25):
        for detection in bang(seq, town.NOW_NS + seq * 3000 * NS_PER_S):
            now_ns += 2_000_000
            late = msgspec.structs.replace(detection, late=True, toa_ns=UtcNs(detection.toa_ns))
            out += one.feed(late, now_ns)
    out += one.advance(now_ns + 60 * NS_PER_S)
    book.enter([Batch(tuple(out), now_ns, now_ns, {})], now_ns)
    assert not [item for item in out if isinstance(item, CadEvent | SlewRequest | Incident)]
    shots = [item for item in out if isinstance(item, Shot)]
    assert shots
    assert all(shot.late for shot in shots)
    with engine.connect() as db:
        kept = [row.late for row in db.execute(tables.shot.select())]
        assert (db.execute(tables.incident.select()).all(), db.execute(tables.outbox.select()).all()) == ([], [])
    assert len(kept) == len({shot.shot_id for shot in shots}) >= 20
    assert all(kept)
    engine.dispose()


def test_the_hub_names_topics_as_ever_and_the_connection_knows_the_realm() -> None:
    assert topic_of(town.incident()) == "agls/v1/incident/inc-1"
    assert Path(FILE_NAMES["exercise"]).name == "exercise.sqlite"
