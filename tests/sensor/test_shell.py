"""A node live: what it hears reaches the hub, and it ends when it should."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import agls.sensor.shell
import agls.sensor.store
from agls.broker import EmbeddedBroker
from agls.classify.model import load_model
from agls.config import Mqtt, NodeConfig
from agls.errors import InputError
from agls.messages import Ack, Block, ClockState, Detection, Heartbeat, Status
from agls.pipeline import Node
from agls.sensor.clock import SteadyClock
from agls.sensor.outbox import Outbox
from agls.sensor.shell import Around, NodeShell, run_node
from agls.sensor.store import MEMORY, Store, new_boot_id
from agls.transport import HUB_SUBSCRIPTIONS, Connection

RATE_HZ = 48_000
BLOCK = 1000
PATIENCE_S = 20.0
SHOTS_S = (0.8, 1.6, 2.4)


@pytest.fixture(scope="module")
def mqtt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mqtt]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker.mqtt


class FakeSource:
    """Bangs over noise from memory; endless where asked, then in real time."""

    def __init__(self, duration_s: float = 3.2, *, endless: bool = False) -> None:
        chance = np.random.default_rng(7)
        count = round(duration_s * RATE_HZ)
        self.samples = 1e-3 * chance.standard_normal(count).astype(np.float32)
        length = round(0.004 * RATE_HZ)
        bang = 0.5 * chance.standard_normal(length).astype(np.float32) * np.exp(-np.arange(length) / (0.001 * RATE_HZ))
        for shot_s in SHOTS_S:
            start = round(shot_s * RATE_HZ)
            self.samples[start : start + length] += bang[: count - start].astype(np.float32)
        self.endless = endless
        self.closed = False
        self.clock = SteadyClock(time.time_ns(), RATE_HZ, ClockState(mode="simulated", sigma_s=1e-4))

    def blocks(self) -> Iterator[Block]:
        index = 0
        while self.endless or index < self.samples.size:
            start = index % self.samples.size
            yield Block(self.samples[start : start + BLOCK], first_index=index, sample_rate_hz=RATE_HZ)
            index += BLOCK
            if self.endless:
                time.sleep(BLOCK / RATE_HZ)

    def close(self) -> None:
        self.closed = True


class Hub(threading.Thread):
    """Acknowledge what arrives, as far as one is told to, until stopped."""

    def __init__(self, mqtt: Mqtt, name: str, *, acknowledges: bool = True) -> None:
        super().__init__()
        self.connection = Connection(mqtt, name, HUB_SUBSCRIPTIONS)
        self.acknowledges = acknowledges
        self.heard: list[Any] = []
        self.halt = threading.Event()

    def run(self) -> None:
        while not self.halt.is_set():
            for record in [received.record for received in self.connection.take(0.05)]:
                self.heard.append(record)
                if isinstance(record, Detection) and self.acknowledges:
                    ack = Ack(sensor_id=record.sensor_id, boot_id=record.boot_id, next_seq=record.seq + 1)
                    self.connection.publish(ack)

    def __enter__(self) -> "Hub":
        self.connection.start()
        assert self.connection.wait_connected(PATIENCE_S)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.halt.set()
        self.join()
        self.connection.close()

    def of(self, kind: type, sensor_id: str) -> list[Any]:
        return [record for record in self.heard if isinstance(record, kind) and record.sensor_id == sensor_id]

    def finals(self, sensor_id: str) -> list[Detection]:
        return [detection for detection in self.of(Detection, sensor_id) if detection.stage == "final"]

    def until(self, holds: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline_s, f"heard only {self.heard}"
            time.sleep(0.02)


def node_config(sensor_id: str, mqtt: Mqtt, heartbeat_s: float = 1.0) -> NodeConfig:
    return NodeConfig(sensor_id=sensor_id, mqtt=mqtt, heartbeat_s=heartbeat_s)


def test_what_a_node_hears_reaches_the_hub_and_the_node_ends_once_it_is_acknowledged(mqtt: Mqtt) -> None:
    source = FakeSource()
    with Hub(mqtt, "hub-1") as hub:
        counts = run_node(node_config("pole-1", mqtt), source, threading.Event(), boot_id="boot-1")
        hub.until(lambda: [status.state for status in hub.of(Status, "pole-1")][-1:] == ["offline"])
    heard = hub.finals("pole-1")
    assert [detection.seq for detection in heard] == list(range(len(heard)))
    assert {detection.boot_id for detection in heard} == {"boot-1"}
    toas_s = [(detection.toa_ns - source.clock.start_ns) / 1e9 for detection in heard]
    for shot_s in SHOTS_S:
        assert min(abs(toa_s - shot_s) for toa_s in toas_s) < 1e-3
    assert counts["detections"] == len(heard)
    assert counts["unacknowledged"] == 0
    assert source.closed


@pytest.mark.parametrize("preliminary", [True, False])
def test_what_a_node_hears_is_told_early_too_unless_it_is_told_not_to(mqtt: Mqtt, preliminary: bool) -> None:
    name, stop = f"early-{preliminary}", threading.Event()
    config = NodeConfig(sensor_id=name, mqtt=mqtt, preliminary=preliminary)
    with Hub(mqtt, f"hub-{name}") as hub:
        node = threading.Thread(target=run_node, args=(config, FakeSource(endless=True), stop))
        node.start()
        hub.until(lambda: len(hub.finals(name)) >= 2)
        stop.set()
        node.join()
        heard = hub.of(Detection, name)
    early = {(one.seq, one.toa_ns) for one in heard if one.stage == "preliminary"}
    assert bool(early) == preliminary
    assert early <= {(one.seq, one.toa_ns) for one in heard if one.stage == "final"}


def test_heartbeats_tell_how_loud_it_is_and_what_is_still_in_the_outbox(mqtt: Mqtt) -> None:
    with Hub(mqtt, "hub-2") as hub:
        counts = run_node(node_config("pole-2", mqtt), FakeSource(), threading.Event())
        hub.until(lambda: any(beat.next_seq == counts["detections"] for beat in hub.of(Heartbeat, "pole-2")))
    last = hub.of(Heartbeat, "pole-2")[-1]
    assert last.next_seq == counts["detections"] == len(hub.finals("pole-2"))
    assert 0 <= last.oldest_seq <= last.next_seq
    assert last.queue_count <= last.next_seq
    assert last.clock.mode == "simulated"
    # Noise of 0.001 of full scale, which is 120 dB SPL; the bangs lie far above its floor.
    assert last.noise_floor_db == pytest.approx(60, abs=1)
    # One heartbeat may be said between the last bang and the end.
    assert max(beat.level_db for beat in hub.of(Heartbeat, "pole-2")) > 65


def test_a_live_node_stops_when_it_is_told_to_and_says_farewell(mqtt: Mqtt) -> None:
    stop = threading.Event()
    source = FakeSource(endless=True)
    with Hub(mqtt, "hub-3") as hub:
        node = threading.Thread(target=run_node, args=(node_config("pole-3", mqtt), source, stop))
        node.start()
        hub.until(lambda: len(hub.of(Heartbeat, "pole-3")) >= 2 and hub.of(Detection, "pole-3"))
        stop.set()
        node.join(PATIENCE_S)
        hub.until(lambda: [status.state for status in hub.of(Status, "pole-3")][-1:] == ["offline"])
    assert not node.is_alive()
    assert source.closed
    assert [status.state for status in hub.of(Status, "pole-3")] == ["online", "offline"]


def test_without_a_hub_the_node_waits_a_bounded_time_and_counts_what_nobody_has(
    mqtt: Mqtt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agls.sensor.shell, "DRAIN_S", 0.5)
    with Hub(mqtt, "hub-4", acknowledges=False) as hub:
        counts = run_node(node_config("pole-4", mqtt), FakeSource(), threading.Event())
        hub.until(lambda: len(hub.finals("pole-4")) == counts["detections"])
    assert counts["unacknowledged"] == counts["detections"] >= len(SHOTS_S)


def test_without_a_broker_the_node_hears_on_and_counts_what_nobody_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agls.sensor.shell, "DRAIN_S", 0.2)
    broker = EmbeddedBroker(tmp_path)
    broker.start()
    broker.stop()
    counts = run_node(node_config("pole-5", broker.mqtt), FakeSource(), threading.Event())
    assert counts["unacknowledged"] == counts["detections"] >= len(SHOTS_S)
    assert counts["heartbeats"] == 0


def test_settings_that_cannot_be_used_are_refused_and_the_source_is_closed() -> None:
    source = FakeSource()
    config = NodeConfig(sensor_id="pole-6", mqtt=Mqtt(url="mqtt://a..b"))
    with pytest.raises(InputError, match=r"mqtt\.url"):
        run_node(config, source, threading.Event())
    assert source.closed


def test_each_run_has_a_name_of_its_own_that_may_stand_in_a_topic() -> None:
    names = {new_boot_id() for _ in range(50)}
    assert len(names) == 50
    assert all(re.fullmatch(r"\d{8}T\d{6}-[0-9a-f]{8}", name) for name in names)


def test_a_node_that_was_stopped_before_the_hub_heard_it_is_heard_at_its_next_start(
    mqtt: Mqtt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agls.sensor.shell, "DRAIN_S", 0.0)
    gone = msgspec.structs.replace(mqtt, url="mqtt://127.0.0.1:1")
    config = NodeConfig(sensor_id="pole-7", mqtt=gone, heartbeat_s=1.0, outbox_file=str(tmp_path / "outbox.sqlite"))
    first = run_node(config, FakeSource(), threading.Event())
    assert first["unacknowledged"] == first["detections"] >= len(SHOTS_S)
    monkeypatch.setattr(agls.sensor.shell, "DRAIN_S", PATIENCE_S)
    with Hub(mqtt, "hub-7") as hub:
        second = run_node(msgspec.structs.replace(config, mqtt=mqtt), FakeSource(), threading.Event())
        heard = hub.of(Detection, "pole-7")
    assert second["unacknowledged"] == 0
    assert len({detection.boot_id for detection in heard}) == 1
    assert sorted({detection.seq for detection in heard}) == list(range(first["detections"] + second["detections"]))


def test_what_is_held_from_before_a_power_cut_is_told_of_under_its_own_name(
    mqtt: Mqtt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = tmp_path / "boot_id"
    monkeypatch.setattr(agls.sensor.store, "MACHINE_BOOT", word)
    monkeypatch.setattr(agls.sensor.shell, "DRAIN_S", 0.0)
    config = NodeConfig(sensor_id="pole-8", mqtt=mqtt, heartbeat_s=1.0, outbox_file=str(tmp_path / "outbox.sqlite"))
    word.write_text("first")
    gone = msgspec.structs.replace(config, mqtt=msgspec.structs.replace(mqtt, url="mqtt://127.0.0.1:1"))
    first = run_node(gone, FakeSource(), threading.Event())
    word.write_text("second")
    monkeypatch.setattr(agls.sensor.shell, "DRAIN_S", PATIENCE_S)
    with Hub(mqtt, "hub-8") as hub:
        run_node(config, FakeSource(), threading.Event())
        beats = hub.of(Heartbeat, "pole-8")
        heard = hub.of(Detection, "pole-8")
    old, new = sorted({detection.boot_id for detection in heard}, key=[one.boot_id for one in heard].index)
    assert {detection.late for detection in heard if detection.boot_id == old} == {True}
    assert {detection.late for detection in heard if detection.boot_id == new} == {False}
    assert (old, 0, first["detections"]) in [(beat.boot_id, beat.oldest_seq, beat.next_seq) for beat in beats]


def test_a_source_that_has_nothing_to_give_is_told_of_at_once_and_so_is_its_return(mqtt: Mqtt) -> None:
    now_ns = 10**12
    store = Store(MEMORY)
    node_like = NodeConfig(sensor_id="pole-9", mqtt=mqtt, heartbeat_s=600.0)
    node = Node(node_like, FakeSource().clock, load_model(), "boot")
    outbox = Outbox(store, 100, boot_id="boot")
    shell = NodeShell(node_like, node, outbox, store, around=Around(clock_ns=lambda: now_ns))
    nothing = Block(np.zeros(0, np.float32), first_index=0, sample_rate_hz=RATE_HZ)
    sound = Block(np.linspace(-1e-3, 1e-3, BLOCK, dtype=np.float32), first_index=0, sample_rate_hz=RATE_HZ)
    with Hub(mqtt, "hub-9") as hub, shell.connection:
        assert shell.connection.wait_connected(PATIENCE_S)
        for block, after_s in ((sound, 0.0), (nothing, 1.9), (nothing, 0.2), (nothing, 1.0), (sound, 0.1)):
            now_ns += round(after_s * 1e9)
            shell.hear(block)
        hub.until(lambda: len(hub.of(Heartbeat, "pole-9")) == 3)
    assert [beat.signs for beat in hub.of(Heartbeat, "pole-9")] == [(), ("deaf",), ()]
