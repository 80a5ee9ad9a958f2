"""`agls sensor check`: what is well is said to be, and each thing that is not is named, with what to do about it.

The node hears a simulated card in virtual time, and is otherwise the real one: its outbox on disk, a real broker, and a
hub that acknowledges.
"""

import json
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import agls.sensor.check
from agls.broker import EmbeddedBroker
from agls.cli import main
from agls.config import Classification, Microphone, Mqtt, NodeConfig, Survey
from agls.example import example
from agls.messages import Ack, Detection, Heartbeat
from agls.sensor.card import BLOCK_FRAMES, CardSource
from agls.sensor.check import Heard, answered, check, look_at_clipping, look_at_clock, look_at_hum, look_at_level
from agls.sensor.finding import Finding
from agls.sensor.gps import Gps
from agls.sensor.health import Fix
from agls.sensor.premises import look_at_broker, look_at_disk, look_at_node, look_at_survey, look_at_time
from agls.sensor.shell import LATEST, model_name, run_node
from agls.sensor.store import Store
from agls.transport import HUB_SUBSCRIPTIONS, Connection
from firmware_sim.clock import Sync
from firmware_sim.delivery import Stream, open_stream
from firmware_sim.faults import AnyFault, Unplugged, Zeros
from firmware_sim.scene import DEMO_SCENE, load_scene

PATIENCE_S = 20.0
PLACE = Survey(latitude_deg=40.4406, longitude_deg=-79.9959)
S = 10**9


@pytest.fixture(scope="module")
def mqtt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mqtt]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker.mqtt


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nobody longer than a test should."""
    for name, seconds in (("DEAF_S", 0.5), ("ACK_S", 1.0), ("AWAY_S", 0.0), ("ANSWER_S", 0.5), ("CLOCK_S", 4.0)):
        monkeypatch.setattr(agls.sensor.check, name, seconds)


def source(config: NodeConfig, *faults: AnyFault, **card: Any) -> CardSource:
    """Make a source that hears the demo's city as fast as it can be rendered."""
    scene = load_scene(DEMO_SCENE)
    told = msgspec.structs.replace(scene.card, block_frames=BLOCK_FRAMES, **card)
    scene = msgspec.structs.replace(scene, card=told, fault=faults)
    streams: list[Stream] = []

    def _open() -> Stream:
        at_s = streams[-1].now_s + 1.0 if streams else 0.0
        streams.append(open_stream(scene, scene.sensor[0], time.time_ns(), at_s, repeats=True))
        return streams[-1]

    rate_hz = float(config.microphone.sample_rate_hz)
    return CardSource(_open, rate_hz, BLOCK_FRAMES, config.microphone.pulse_channel, lambda _s: None)


def node_config(folder: Path, mqtt: Mqtt, sensor_id: str = "pole-1", **more: Any) -> NodeConfig:
    outbox = str(folder / "outbox.sqlite")
    return NodeConfig(sensor_id=sensor_id, microphone=Microphone(device="sim"), mqtt=mqtt, outbox_file=outbox, **more)


def found_by(config: NodeConfig, *faults: AnyFault, clap_s: float = 3.0) -> dict[str, Finding]:
    opened = source(config, *faults)
    return {one.name: one for one in check(config, Path("pole.toml"), lambda *_: opened, clap_s)}


@contextmanager
def hub(mqtt: Mqtt, name: str, *, knows: bool = True) -> Iterator[list[Any]]:
    """Acknowledge what arrives, as a hub does that knows the sensor."""
    heard: list[Any] = []
    halt = threading.Event()

    def _serve() -> None:
        while not halt.is_set():
            for received in line.take(0.02):
                heard.append(received.record)
                if isinstance(received.record, Detection) and knows:
                    one = received.record
                    line.publish(Ack(sensor_id=one.sensor_id, boot_id=one.boot_id, next_seq=one.seq + 1))

    with Connection(mqtt, name, HUB_SUBSCRIPTIONS) as line:
        assert line.wait_connected(PATIENCE_S)
        thread = threading.Thread(target=_serve)
        thread.start()
        try:
            yield heard
        finally:
            halt.set()
            thread.join()


# ------------------------------------------------------------------------------------------------------- the whole way


def test_a_node_that_is_well_is_found_so_and_the_hub_confirms_the_clap(tmp_path: Path, mqtt: Mqtt) -> None:
    with hub(mqtt, "hub-1"):
        found = found_by(node_config(tmp_path, mqtt, survey=PLACE))
    assert [name for name, one in found.items() if one.verdict == "FAILED"] == []
    assert found["clap"].said.endswith("the hub has it")
    assert found["clock"].said.startswith("pps_chrony")
    assert "accepts this node" in found["broker"].said


def test_a_clap_that_the_hub_does_not_confirm_is_told_and_kept(tmp_path: Path, mqtt: Mqtt) -> None:
    with hub(mqtt, "hub-2", knows=False) as heard:
        found = found_by(node_config(tmp_path, mqtt, "pole-2"))
        assert any(isinstance(one, Detection) for one in heard)
    assert found["clap"].verdict == "FAILED"
    assert "the hub said nothing" in found["clap"].said
    assert '"pole-2" in its site\'s file' in found["clap"].do
    store = Store(str(tmp_path / "outbox.sqlite"))
    assert list(store.held())
    store.close()


def test_the_command_prints_a_table_or_json_and_ends_with_1_where_something_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = node_config(tmp_path, Mqtt(url="mqtt://127.0.0.1:1"))
    path = tmp_path / "pole.toml"
    path.write_text(example(NodeConfig, config))
    monkeypatch.setattr("agls.cli._microphone", lambda config, _path: source(config))
    assert main(["sensor", "check", str(path), "--no-clap"]) == 1
    told = capsys.readouterr()
    assert "FAILED  broker      127.0.0.1:1: Connection refused" in told.out
    assert told.out.splitlines()[-1] == "1 failed: broker; not looked at: clap"
    assert main(["sensor", "check", str(path), "--no-clap", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["sensor_id"], document["passed"]) == ("pole-1", False)
    assert all(one["do"] for one in document["findings"] if one["verdict"] == "FAILED")


# ----------------------------------------------------------------------------------------------- what goes wrong: sound


def test_a_card_that_is_not_there_is_named_and_what_needs_sound_is_left_out(tmp_path: Path) -> None:
    found = found_by(node_config(tmp_path, Mqtt(url="mqtt://127.0.0.1:1")), Unplugged(start_s=0, end_s=3600))
    assert (found["device"].verdict, found["clap"].verdict) == ("FAILED", "skipped")
    assert "there is no card" in found["device"].said
    assert "arecord -l" in found["device"].do


def test_a_microphone_that_gives_zeros_is_named(tmp_path: Path) -> None:
    found = found_by(node_config(tmp_path, Mqtt(url="mqtt://127.0.0.1:1")), Zeros(start_s=0, end_s=3600), clap_s=0.0)
    assert found["device"].verdict == "FAILED"
    assert "nothing but zeros" in found["device"].said


def test_a_node_that_runs_already_is_said_to(tmp_path: Path) -> None:
    config = node_config(tmp_path, Mqtt(url="mqtt://127.0.0.1:1"))
    running = Store(config.outbox_file)
    found = found_by(config)
    running.close()
    assert "runs already" in found["device"].said
    assert "systemctl stop" in found["device"].do


NOISE = 1e-3 * np.random.default_rng(5).standard_normal(4 * 48_000).astype(np.float32)
TIME = np.arange(NOISE.size) / 48_000


@pytest.mark.parametrize(
    ("finding", "verdict"),
    [
        (look_at_level(NOISE, 120.0), "ok"),
        (look_at_level(NOISE * 1e-3, 120.0), "FAILED"),
        (look_at_level(NOISE * 300, 120.0), "look"),
        (look_at_hum(NOISE, 48_000.0), "ok"),
        (look_at_hum((NOISE + 4e-3 * np.sin(2 * np.pi * 60.01 * TIME)).astype(np.float32), 48_000.0), "FAILED"),
        (look_at_hum((NOISE + 8e-4 * np.sin(2 * np.pi * 150 * TIME)).astype(np.float32), 48_000.0), "look"),
        (look_at_clipping(NOISE), "ok"),
        (look_at_clipping(np.clip(NOISE * 400, -1, 1)), "FAILED"),
        (look_at_clipping(NOISE + np.float32(0.2)), "look"),
        (look_at_clock(Heard(samples_count=1)), "FAILED"),
    ],
)
def test_sound_is_judged(finding: Finding, verdict: str) -> None:
    assert finding.verdict == verdict
    assert bool(finding.do) == (verdict != "ok")


def test_the_mains_that_hum_are_named() -> None:
    for mains_hz in (50, 60):
        tone = 3e-3 * np.sin(2 * np.pi * 2 * mains_hz * TIME)
        assert look_at_hum((NOISE + tone).astype(np.float32), 48_000.0).said.startswith(f"{mains_hz} Hz")


# ------------------------------------------------------------------------------------ what goes wrong: everything else


def test_a_file_of_another_node_is_named_in_the_check_and_in_the_heartbeat_and_nothing_is_lost(
    tmp_path: Path, mqtt: Mqtt
) -> None:
    away = Mqtt(url="mqtt://127.0.0.1:1")
    found_by(node_config(tmp_path, away, "pole-3"))
    wrong = node_config(tmp_path, mqtt, "pole-4")
    assert look_at_node(wrong).verdict == "FAILED"
    assert 'was filled by "pole-3"' in look_at_node(wrong).said
    with hub(mqtt, "hub-3") as heard:
        run_some(wrong)
        beats = [one for one in heard if isinstance(one, Heartbeat) and one.sensor_id == "pole-4"]
        assert "other_node" in beats[-1].signs
        # What the other node heard still goes out, under the other node's name.
        assert {one.sensor_id for one in heard if isinstance(one, Detection)} >= {"pole-3"}


def run_some(config: NodeConfig, until_s: float = 14.0) -> None:
    """Run a node for some seconds of its scene."""
    opened = source(config)

    class Ended:
        clock, counts, trouble = opened.clock, property(lambda _self: opened.counts), ""

        def blocks(self) -> Iterator[Any]:
            for block in opened.blocks():
                yield block
                if block.first_index > until_s * 48_000:
                    return

        def close(self) -> None:
            opened.close()

    run_node(config, Ended(), threading.Event())


@pytest.mark.parametrize(
    ("counts", "connected", "said"),
    [
        ({"connected": 1}, True, "accepts this node"),
        ({"connect_refused": 3}, False, "refuses this node"),
        ({"connect_ended": 2}, False, "without an answer"),
        ({"connect_unanswered": 2}, False, "never answers"),
        ({}, False, "never answers"),
        ({"connected": 4, "connection_lost": 3}, False, "broke 3 times"),
    ],
)
def test_what_a_broker_does_with_a_node_is_told(counts: dict[str, int], connected: bool, said: str) -> None:
    heard = Heard(connected=connected, counts=Counter(counts))
    found = answered(Finding("broker", "ok", "it is there"), heard)
    assert said in found.said
    assert (found.verdict == "ok") == connected


def test_a_certificate_of_another_node_is_named(tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="certificates are made with cryptography: pip install 'agls[hub]'")
    from tests.sensor.test_setup import bundle_of, init

    node = tmp_path / "node"
    assert init(node, "--profile", "sim", "--bundle", str(bundle_of("pole-7", tmp_path))) == 0
    from agls.config import load_node

    config = load_node(node / "pole-7.toml")
    assert look_at_node(config).verdict == "ok"
    other = look_at_node(msgspec.structs.replace(config, sensor_id="pole-8"))
    assert (other.verdict, 'certificate is that of "pole-7"' in other.said) == ("FAILED", True)


def test_heartbeats_tell_what_gpsd_says_of_receiver_and_pulse(tmp_path: Path, mqtt: Mqtt) -> None:
    from tests.sensor.test_gps import PPS, TPV, Peer, line

    peer = Peer(lambda connection: (connection.sendall(line(TPV) + line(PPS)), peer.hold())[0])
    config = node_config(tmp_path, mqtt, "pole-gps", gpsd=peer.address, survey=PLACE)
    with hub(mqtt, "hub-gps") as heard:
        run_some(config)
        beats, _ = of("pole-gps", heard)
    peer.done.set()
    peer.thread.join()
    peer.server.close()
    assert beats[-1].gps_age_s is not None
    assert beats[-1].pps_age_s is not None


def test_a_receiver_that_is_elsewhere_is_named() -> None:
    config = NodeConfig(sensor_id="pole-1", survey=PLACE, gpsd="127.0.0.1:2947")
    near, far = Fix(40.44062, -79.99590, 3.0), Fix(40.4506, -79.9959, 3.0)
    assert look_at_survey(config, Gps(), [near, near], "").verdict == "ok"
    moved = look_at_survey(config, Gps(), [far], "")
    assert (moved.verdict, "1112 m away" in moved.said) == ("FAILED", True)
    assert look_at_survey(config, Gps(satellites_count=2), [], "").said.endswith("no fix, 2 satellites")


def test_a_model_that_was_changed_is_named_and_the_shipped_one_judges(tmp_path: Path, mqtt: Mqtt) -> None:
    from importlib.resources import files

    bad = tmp_path / "bad.json"
    bad.write_bytes(files("agls.classify").joinpath("model.json").read_bytes().replace(b"agls-", b"other-"))
    config = node_config(tmp_path, mqtt, "pole-5", classification=Classification(model_file=str(bad)))
    with hub(mqtt, "hub-5") as heard:
        found = found_by(config)
        run_some(config)
        beats = [one for one in heard if isinstance(one, Heartbeat) and one.sensor_id == "pole-5"]
    assert "SHA-256 does not match" in found["model"].said
    assert (beats[-1].counts["model_refused"], beats[-1].model) == (1, model_name(""))
    assert found["clap"].verdict == "ok"


def test_a_clock_set_back_an_hour_is_named_in_the_check_and_in_the_heartbeat(tmp_path: Path, mqtt: Mqtt) -> None:
    config = node_config(tmp_path, mqtt, "pole-6")
    store = Store(config.outbox_file)
    store.know(LATEST, str(time.time_ns() + 3600 * S))
    store.close()
    finding = look_at_time(config, Sync("none", 10.0, np.inf, np.nan), Gps(), time.time_ns())
    assert finding.verdict == "FAILED"
    assert "was set back" in finding.said
    assert "3600 s before its latest" in finding.said
    with hub(mqtt, "hub-6") as heard:
        run_some(config)
        beats = [one for one in heard if isinstance(one, Heartbeat) and one.sensor_id == "pole-6"]
    assert beats[-1].counts["clock_set_back"] == 1


def test_a_clock_that_contradicts_the_receiver_or_the_network_is_named(tmp_path: Path) -> None:
    config = node_config(tmp_path, Mqtt())
    good = Sync("pps", 1e-6, 0.5, 0.001)
    assert look_at_time(config, good, Gps(system_ahead_s=0.3), time.time_ns()).verdict == "ok"
    assert "3600 s behind the receiver" in look_at_time(config, good, Gps(system_ahead_s=-3600.0), time.time_ns()).said
    assert "against network" in look_at_time(config, Sync("pps", 1e-6, 0.5, 1.0e4), Gps(), time.time_ns()).said


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts"])
def test_a_broker_that_accepts_and_never_answers_is_named_and_nothing_is_lost(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agls.sensor.premises.CONNECT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        config = node_config(tmp_path, Mqtt(url=url))
        if scheme == "mqtts":
            told = look_at_broker(config.mqtt, 0.3)
        else:
            found = found_by(config)
            told = found["broker"]
            assert "kept in the outbox" in found["clap"].said
            store = Store(config.outbox_file)
            assert list(store.held())
            store.close()
    assert told.verdict == "FAILED"
    assert "accepts the connection and never answers" in told.said


FULL = textwrap.dedent("""
    import json, resource, sys
    from pathlib import Path
    sys.path.insert(0, {project!r})
    from tests.sensor.test_check import node_config, run_some
    from agls.config import Mqtt
    from agls.sensor.premises import look_at_disk

    config = node_config(Path({folder!r}), Mqtt(**json.loads({mqtt!r})), "pole-full")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    print(look_at_disk(config).verdict, look_at_disk(config).said)
    run_some(config)
""")


def test_a_disk_that_takes_nothing_from_the_start_is_named_in_check_and_heartbeat_and_nothing_is_lost(
    tmp_path: Path, mqtt: Mqtt, project: Path
) -> None:
    # A limit to the size of files stands for it.
    script = FULL.format(project=str(project), folder=str(tmp_path), mqtt=msgspec.json.encode(mqtt).decode())
    with hub(mqtt, "hub-full") as heard:
        ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
        beats, got = of("pole-full", heard)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("FAILED")
    assert "takes nothing more" in ended.stdout
    assert "disk_full" in beats[-1].signs
    assert beats[-1].counts["file_full"] == 1
    assert_all_came(beats, got)


def of(sensor_id: str, heard: list[Any]) -> tuple[list[Heartbeat], list[Detection]]:
    """Pick one node's heartbeats and final detections."""
    own = [one for one in heard if one.sensor_id == sensor_id]
    finals = [one for one in own if isinstance(one, Detection) and one.stage == "final"]
    return [one for one in own if isinstance(one, Heartbeat)], finals


def assert_all_came(beats: list[Heartbeat], got: list[Detection]) -> None:
    """The last heartbeat says how many there were; the hub has each."""
    assert {one.seq for one in got if one.boot_id == beats[-1].boot_id} == set(range(beats[-1].next_seq))
    assert len(got) >= 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a disk of eight megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root and a system that allows it")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_others_filled_since_is_named_in_check_and_heartbeat_and_nothing_is_lost(
    small_disk: Path, mqtt: Mqtt
) -> None:
    config = node_config(small_disk, mqtt, "pole-filled")
    Store(config.outbox_file).close()
    with pytest.raises(OSError, match="No space"), (small_disk / "others").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))

    found = look_at_disk(config)
    assert (found.verdict, "takes nothing more (No space left" in found.said) == ("FAILED", True)
    with hub(mqtt, "hub-filled") as heard:
        run_some(config)
        beats, got = of("pole-filled", heard)
    assert "disk_full" in beats[-1].signs
    assert_all_came(beats, got)
