"""The same behaviour against our embedded broker and against a real mosquitto, where its binary is found."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agls import messages
from agls.broker import EmbeddedBroker
from agls.config import Mqtt, NodeConfig
from agls.errors import InputError
from agls.messages import Ack, Block, ClockState, Detection, Status, UtcNs
from agls.sensor.clock import SteadyClock
from agls.sensor.outbox import Outbox
from agls.sensor.shell import NodeShell
from agls.sensor.store import MEMORY, Store
from agls.transport import HUB_SUBSCRIPTIONS, Connection, Message, topic

CLOCK = ClockState(mode="file", sigma_s=1e-4)
PATIENCE_S = 20.0
QUICK_S = 0.2  # first wait before reconnecting
SEARCH = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"


def detection(seq: int, sensor_id: str = "pole-1") -> Detection:
    return Detection(sensor_id=sensor_id, boot_id="boot", seq=seq, toa_ns=UtcNs(seq), toa_sigma_s=1e-3, clock=CLOCK)


def status(state: str, sensor_id: str = "pole-1") -> Status:
    return Status(sensor_id=sensor_id, boot_id="boot", state=state)


# ------------------------------------------------------------------------------------------------------- the brokers


class Broker(Protocol):
    """What the tests ask of a broker."""

    @property
    def mqtt(self) -> Mqtt: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


class Mosquitto:
    """A mosquitto on loopback that keeps nothing on disk, with a password."""

    def __init__(self, folder: Path, listener: str = "", scheme: str = "mqtt") -> None:
        self.folder, self.scheme, self.listener = folder, scheme, listener
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        password = secrets.token_urlsafe(16)
        for name, text in {"password": password, "users": ""}.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        subprocess.run([found("mosquitto_passwd"), "-b", folder / "users", "agls", password], check=True)
        (folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\n{listener}\nallow_anonymous false\npassword_file {folder / 'users'}\n"
            # Started by root it would become another user, who cannot read this folder.
            f"persistence false\nuser root\nlog_type none\n"
        )

    @property
    def mqtt(self) -> Mqtt:
        return Mqtt(
            url=f"{self.scheme}://127.0.0.1:{self.port}",
            username="agls",
            password_file=str(self.folder / "password"),
        )

    def start(self) -> None:
        self.process = subprocess.Popen([found("mosquitto"), "-c", self.folder / "mosquitto.conf"])
        until(lambda: listens(self.port))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def found(program: str) -> str:
    path = shutil.which(program, path=SEARCH)
    if path is None:
        pytest.skip(f"needs the program {program} (Debian package mosquitto) in PATH or /usr/sbin")
    return path


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(params=["amqtt", "mosquitto"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    broker: Broker = EmbeddedBroker(tmp_path) if request.param == "amqtt" else Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.stop()


# --------------------------------------------------------------------------------------------------------- the tools


def until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.02)


def hear(connection: Connection, enough: Callable[[list[Message]], bool]) -> list[Message]:
    """Take until it is enough; time alone decides nothing but when to give up."""
    heard: list[Message] = []
    deadline_s = time.monotonic() + PATIENCE_S
    while not enough(heard):
        assert time.monotonic() < deadline_s, f"heard only {heard}"
        heard += [received.record for received in connection.take(0.1)]
    connection.take(0.0)
    return heard


def connected(mqtt: Mqtt, client_id: str, *subscriptions: str, status: Status | None = None) -> Connection:
    connection = Connection(mqtt, client_id, subscriptions, status, reconnect_s=QUICK_S)
    connection.start()
    assert connection.wait_connected(PATIENCE_S)
    return connection


def hub_at(mqtt: Mqtt, client_id: str = "hub") -> Connection:
    return connected(mqtt, client_id, *HUB_SUBSCRIPTIONS)


# --------------------------------------------------------------------------------------------- the same at each broker


def test_what_a_node_publishes_the_hub_receives_in_order_and_the_other_way_round(broker: Broker) -> None:
    hub = hub_at(broker.mqtt)
    node = connected(broker.mqtt, "node", topic("ack", "pole-1"))
    sent = [detection(seq) for seq in range(300)]
    for record in sent:
        assert node.publish(record)
    assert hear(hub, lambda heard: len(heard) >= 300) == sent
    ack = Ack(sensor_id="pole-1", boot_id="boot", next_seq=300)
    hub.publish(Ack(sensor_id="pole-2", boot_id="boot", next_seq=300))
    hub.publish(ack)
    assert hear(node, bool) == [ack]
    until(lambda: node.outgoing_count == 0 and hub.outgoing_count == 0)
    node.close()
    hub.close()
    assert node.counts == hub.counts == {"connected": 1}


def test_what_comes_while_the_hub_is_away_waits_for_it_at_the_broker(broker: Broker) -> None:
    hub_at(broker.mqtt).close()
    with connected(broker.mqtt, "node") as node:
        for seq in range(200):
            node.publish(detection(seq))
        until(lambda: node.outgoing_count == 0)
    hub = hub_at(broker.mqtt)
    assert hub.new_sessions_count == 0
    heard = hear(hub, lambda heard: len(heard) >= 200)
    assert heard == [detection(seq) for seq in range(200)]
    hub.close()


def test_early_notice_reaches_a_hub_that_is_there_and_does_not_wait_for_one_that_is_not(broker: Broker) -> None:
    early = msgspec.structs.replace(detection(1), stage="preliminary")
    hub = hub_at(broker.mqtt)
    with connected(broker.mqtt, "node") as node:
        assert node.publish(early)
        assert hear(hub, bool) == [early]
        hub.close()
        assert node.publish(early)
        assert node.publish(detection(1))
        until(lambda: node.outgoing_count == 0)
        hub = hub_at(broker.mqtt)
        heard = hear(hub, lambda heard: detection(1) in heard)
        assert heard == [detection(1)] or not isinstance(broker, Mosquitto)  # amqtt keeps it all the same
    hub.close()


def test_the_status_is_kept_for_late_comers_and_a_farewell_changes_it(broker: Broker) -> None:
    node = connected(broker.mqtt, "node", status=status("online"))
    until(lambda: node.outgoing_count == 0)
    with hub_at(broker.mqtt, "early") as hub:
        assert hear(hub, bool) == [status("online")]
    node.close()
    with hub_at(broker.mqtt, "late") as hub:
        assert set(hear(hub, bool)) == {status("offline")}


DIES = """
import sys, time
from agls.config import Mqtt
from agls.messages import Status
from agls.transport import Connection
status = Status(sensor_id="pole-1", boot_id="boot", state="online")
with Connection(Mqtt(url=sys.argv[1], username="agls", password_file=sys.argv[2]), "node", status=status):
    time.sleep(60)
"""


def test_a_node_that_dies_without_a_word_is_told_offline_by_its_last_will(broker: Broker) -> None:
    hub = hub_at(broker.mqtt)
    node = subprocess.Popen([sys.executable, "-c", DIES, broker.mqtt.url, broker.mqtt.password_file])
    assert hear(hub, bool) == [status("online")]
    node.send_signal(signal.SIGKILL)
    node.wait()
    assert hear(hub, bool) == [status("offline")]
    hub.close()
    with hub_at(broker.mqtt, "late") as late:
        assert set(hear(late, bool)) == {status("offline")}


def test_a_broken_connection_is_made_again_and_says_so(broker: Broker) -> None:
    hub = hub_at(broker.mqtt)
    node = connected(broker.mqtt, "node", topic("ack", "pole-1"), status=status("online"))
    hear(hub, lambda heard: heard == [status("online")])
    node._connect_anew()
    assert hear(hub, lambda heard: len(heard) >= 2) == [status("offline"), status("online")]
    until(lambda: node.connected)
    hub.publish(Ack(sensor_id="pole-1", boot_id="boot", next_seq=1))
    assert len(hear(node, bool)) == 1
    assert node.new_sessions_count == 1
    node.close()
    hub.close()
    assert node.counts["connected"] == 2
    assert node.counts["connection_lost"] == 1


def test_any_bytes_are_counted_by_name_and_the_next_good_message_arrives(broker: Broker) -> None:
    hub = hub_at(broker.mqtt)
    vandal = paho.Client(CallbackAPIVersion.VERSION2, "vandal", protocol=paho.MQTTv311)
    vandal.username_pw_set("agls", Path(broker.mqtt.password_file).read_text().strip())
    vandal.connect("127.0.0.1", int(broker.mqtt.url.rpartition(":")[2]))
    vandal.loop_start()
    good = messages.encode(detection(0))
    sent = [
        ("agls/v1/detection/pole-1", b"\x00\xff\xfe"),
        ("agls/v1/detection/pole-1", b""),
        ("agls/v1/heartbeat/pole-1", b"{"),
        ("agls/v1/status/pole-1", b"[]"),
        ("agls/v1/heartbeat/pole-1", good),
        ("agls/v1/detection/pole-2", good),
        ("agls/v1/detection/", good),
        ("agls/v1/detection/pole-1", b" " * 100_000),
        ("agls/v1/slew/pole-1", good),
        ("agls/v1/detection/pole-1/more", good),
        ("nowhere", good),
    ]
    for qos in (0, 1, 2):
        for name, payload in sent:
            vandal.publish(name, payload, qos=qos)
        vandal.publish("agls/v1/detection/pole-1", messages.encode(detection(qos)), qos=qos).wait_for_publish(
            PATIENCE_S
        )
    heard = hear(hub, lambda heard: len(heard) >= 3)
    assert heard == [detection(0), detection(1), detection(2)]
    vandal.disconnect()
    vandal.loop_stop()
    hub.close()
    assert hub.counts == {"not_json": 9, "not_valid": 6, "wrong_identity": 6, "too_long": 3, "connected": 1}


def test_a_hub_with_no_room_refuses_by_count_and_gets_the_rest_once_it_has(
    broker: Broker, request: pytest.FixtureRequest
) -> None:
    settings = broker.mqtt
    small = Mqtt(url=settings.url, username="agls", password_file=settings.password_file, queue_limit_count=10)
    hub = hub_at(small)
    with connected(broker.mqtt, "node") as node:
        for seq in range(50):
            node.publish(detection(seq))
        until(lambda: node.outgoing_count == 0)
        until(lambda: hub.counts["inbox_full"] > 0)
        seen = Counter(record.seq for record in hear(hub, lambda heard: len(heard) >= 10))
        if isinstance(broker, Mosquitto):  # which sends again what was not acknowledged; amqtt forgets it
            seen += Counter(
                record.seq for record in hear(hub, lambda heard: {r.seq for r in heard} | set(seen) >= set(range(50)))
            )
        until(lambda: hub.take(0.05) == [] and hub.connected)
        node.publish(detection(50))
        assert detection(50) in hear(hub, lambda heard: detection(50) in heard)
    hub.close()


def test_without_the_right_password_nobody_comes_in(broker: Broker, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("guess")
    wrong.chmod(0o600)
    for settings in (
        Mqtt(url=broker.mqtt.url),
        Mqtt(url=broker.mqtt.url, username="agls", password_file=str(wrong)),
    ):
        with Connection(settings, "stranger", HUB_SUBSCRIPTIONS) as stranger:
            until(lambda stranger=stranger: stranger.counts["connect_refused"] > 0)
            assert not stranger.connected


# ----------------------------------------------------------------------------------------- a broker that loses all


class FakeNode:
    """A pipeline that hears one impulse in every block that is not silent."""

    sensor_id, boot_id = "pole-1", "boot"
    model = type("Model", (), {"name": "none"})
    clock = SteadyClock(start_ns=0, sample_rate_hz=8000.0, state=CLOCK)

    def __init__(self) -> None:
        self.next_seq = 0
        self.counts: Counter[str] = Counter()

    def feed(self, block: Block) -> list[Detection]:
        if not block.samples.any():
            return []
        self.next_seq += 1
        return [detection(self.next_seq - 1)]

    def finish(self) -> list[Detection]:
        return []


IMPULSE = Block(samples=np.ones(8, np.float32), first_index=0, sample_rate_hz=8000.0)
SILENCE = Block(samples=np.zeros(8, np.float32), first_index=0, sample_rate_hz=8000.0)


def test_after_the_broker_is_killed_and_started_again_the_hub_gets_everything_not_acknowledged(broker: Broker) -> None:
    hub = hub_at(broker.mqtt)
    store = Store(MEMORY)
    outbox = Outbox(store, 1_000, boot_id="boot")
    shell = NodeShell(NodeConfig(sensor_id="pole-1", mqtt=broker.mqtt), FakeNode(), outbox, store)
    with shell.connection:
        assert shell.connection.wait_connected(PATIENCE_S)
        for _ in range(30):
            shell.hear(IMPULSE)
        until(lambda: shell.connection.outgoing_count == 0)
        hub.publish(Ack(sensor_id="pole-1", boot_id="boot", next_seq=10, missing=(4,)))
        until(lambda: hub.outgoing_count == 0)
        broker.kill()
        until(lambda: not shell.connection.connected and not hub.connected)
        while hub.take(0.1):  # what came before the crash is as good as lost: this hub did not acknowledge it
            pass
        for _ in range(10):
            shell.hear(IMPULSE)
        broker.start()
        heard: set[int] = set()
        deadline_s = time.monotonic() + PATIENCE_S
        wanted = {4, *range(10, 40)}
        while not heard >= wanted:
            assert time.monotonic() < deadline_s, f"missing {wanted - heard}"
            heard |= {received.record.seq for received in hub.take(0.05) if isinstance(received.record, Detection)}
            shell.hear(SILENCE)
        assert heard & set(range(10)) <= {4}, "acknowledged, yet sent again"
        hub.publish(Ack(sensor_id="pole-1", boot_id="boot", next_seq=40))
        until(lambda: shell.hear(SILENCE) or outbox.pending() == [])
    hub.close()
    assert "dropped" not in shell.counts


# ------------------------------------------------------------------------------------------------ the embedded broker


def test_the_credentials_are_private_and_the_broker_never_sees_the_password(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path / "broker") as broker:
        password = Path(broker.mqtt.password_file)
        users = password.with_name("users")
        assert {path.stat().st_mode & 0o777 for path in (password, users)} == {0o600}
        assert "$argon2id$" in users.read_text()
        assert password.read_text().strip() not in users.read_text()
        kept = password.read_text()
    with EmbeddedBroker(tmp_path / "broker") as again:
        assert Path(again.mqtt.password_file).read_text() == kept


def test_the_broker_ends_with_its_parent_however_that_ends(tmp_path: Path) -> None:
    program = (
        "import sys, time, pathlib; from agls.broker import EmbeddedBroker\n"
        "broker = EmbeddedBroker(pathlib.Path(sys.argv[1])); broker.start(); print(broker.port, flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE) as parent:
        port = int(parent.stdout.readline())
        assert listens(port)
        parent.kill()
    until(lambda: not listens(port))


def test_stop_is_clean_and_may_be_said_twice(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path)
    broker.stop()
    broker.start()
    assert broker.running
    with hub_at(broker.mqtt):
        broker.stop()
    assert not broker.running
    assert not listens(broker.port)
    broker.stop()


def test_a_port_that_is_taken_is_one_clear_sentence(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        broker = EmbeddedBroker(tmp_path, port)
        with pytest.raises(InputError, match=rf"did not start on 127.0.0.1:{port}: .*address already in use; free"):
            broker.start()
        assert not broker.running


# ---------------------------------------------------------------------------------------------------------------- TLS


# Where the handshake fails, paho leaves closing its socket to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_over_tls_the_certificate_is_checked(
    tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [found("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key,
         "-out", certificate, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    broker = Mosquitto(tmp_path, f"certfile {certificate}\nkeyfile {key}", scheme="mqtts")
    broker.start()
    request.addfinalizer(broker.stop)
    plain = broker.mqtt
    mqtt = Mqtt(url=plain.url, username="agls", password_file=plain.password_file, ca_file=str(certificate))
    with hub_at(mqtt) as hub, connected(mqtt, "node") as node:
        node.publish(detection(1))
        assert hear(hub, bool) == [detection(1)]
        hub._connect_anew()
        until(lambda: hub.counts["connected"] >= 2 and hub.connected)
        node.publish(detection(2))
        assert detection(2) in hear(hub, lambda heard: detection(2) in heard)
    with Connection(plain, "trusting", reconnect_s=QUICK_S) as trusting:  # the system's authorities do not know it
        until(lambda: trusting.counts["tls_refused"] > 0)
    assert "its certificate is refused (" in caplog.text
