"""Who may speak to a site's broker: certificates, bundles, revocation; against a real mosquitto where there is one."""

import os
import pwd
import socket
import ssl
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from agls.cli import main
from agls.config import Mqtt
from agls.deploy import mosquitto, revoke
from agls.deploy.certs import CertsFolder, make_certs
from agls.deploy.enroll import enroll
from agls.errors import InputError
from agls.messages import Ack, Detection, SlewRequest, Status
from agls.transport import HUB_SUBSCRIPTIONS, Connection, Message, topic
from tests.test_broker import QUICK_S, connected, detection, found, hear, listens, until
from tests.test_transport import SLEW

PROJECT = Path(__file__).resolve().parent.parent


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def run(*words: object) -> int:
    """Give a command of `agls deploy`."""
    return main(["deploy", *map(str, words)])


# ---------------------------------------------------------------------------------------------------- without a broker


def test_keys_are_for_their_owner_alone_and_so_is_a_bundle(tmp_path: Path) -> None:
    make_certs(tmp_path / "certs")
    bundle = enroll("pole-1", tmp_path / "certs")
    keys = sorted(path.name for path in tmp_path.rglob("*.key"))
    assert keys == ["broker.key", "ca.key", "console.key", "hub.key"]
    assert {mode(path) for path in [*tmp_path.rglob("*.key"), bundle]} == {0o600}
    assert list(tmp_path.rglob("*.part")) == []


def test_a_bundle_holds_all_that_a_node_needs_to_know(tmp_path: Path) -> None:
    make_certs(tmp_path, hosts=("hub.example.org", "192.0.2.7"), site="Town", port=8884)
    bundle = enroll("pole-1", tmp_path, tmp_path / "here")
    assert bundle == tmp_path / "here" / "pole-1.bundle.toml"
    said = tomllib.loads(bundle.read_text())
    assert said["identity"] == {"sensor_id": "pole-1", "site": "Town"}
    pems = {name: said["broker"].pop(name) for name in ("ca_pem", "cert_pem", "key_pem")}
    assert said["broker"] == {"host": "hub.example.org", "port": 8884}
    assert pems["ca_pem"].encode() == (tmp_path / "ca" / "ca.pem").read_bytes()
    node = x509.load_pem_x509_certificate(pems["cert_pem"].encode())
    assert node.subject.rfc4514_string() == "CN=pole-1"
    node.verify_directly_issued_by(x509.load_pem_x509_certificate(pems["ca_pem"].encode()))


def test_the_broker_is_known_by_every_name_it_is_given_and_on_its_own_machine(tmp_path: Path) -> None:
    make_certs(tmp_path, hosts=("hub.example.org", "192.0.2.7"))
    broker = x509.load_pem_x509_certificate((tmp_path / "broker" / "broker.pem").read_bytes())
    names = broker.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["hub.example.org", "localhost"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7", "127.0.0.1"]


def test_made_again_the_authority_stays_and_what_was_given_before_is_remembered(tmp_path: Path) -> None:
    make_certs(tmp_path, hosts=("hub.example.org",), site="Town", bind="0.0.0.0", port=8884)  # noqa: S104
    authority, broker = (tmp_path / "ca" / "ca.key").read_bytes(), (tmp_path / "broker" / "broker.pem").read_bytes()
    again, is_new = make_certs(tmp_path, port=8885)
    assert (again.site, again.hosts, again.bind, again.port) == ("Town", ("hub.example.org",), "0.0.0.0", 8885)  # noqa: S104
    assert not is_new
    assert (tmp_path / "ca" / "ca.key").read_bytes() == authority
    assert (tmp_path / "broker" / "broker.pem").read_bytes() != broker


def test_a_key_without_its_certificate_is_not_overwritten(tmp_path: Path) -> None:
    make_certs(tmp_path)
    (tmp_path / "ca" / "ca.pem").unlink()
    key = (tmp_path / "ca" / "ca.key").read_bytes()
    with pytest.raises(InputError, match="no authority that can be used"):
        make_certs(tmp_path)
    assert (tmp_path / "ca" / "ca.key").read_bytes() == key


def test_a_revoked_certificate_is_on_the_list_and_the_name_may_be_given_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revoke, "REACH_S", 0.0)
    make_certs(tmp_path)
    first = x509.load_pem_x509_certificate(
        tomllib.loads(enroll("pole-1", tmp_path).read_text())["broker"]["cert_pem"].encode()
    )
    revoke.revoke("pole-1", tmp_path, "mqtts://127.0.0.1:1")
    second = x509.load_pem_x509_certificate(
        tomllib.loads(enroll("pole-1", tmp_path).read_text())["broker"]["cert_pem"].encode()
    )
    revoked = x509.load_pem_x509_crl((tmp_path / "broker" / "crl.pem").read_bytes())
    assert revoked.get_revoked_certificate_by_serial_number(first.serial_number) is not None
    assert revoked.get_revoked_certificate_by_serial_number(second.serial_number) is None


def test_a_list_of_revoked_certificates_outlives_every_certificate(tmp_path: Path) -> None:
    # OpenSSL lets nobody in where the list is out of date.
    make_certs(tmp_path)
    revoked = x509.load_pem_x509_crl((tmp_path / "broker" / "crl.pem").read_bytes())
    for path in tmp_path.rglob("*.pem"):
        if path.name != "crl.pem":
            assert revoked.next_update_utc >= x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc


@pytest.mark.parametrize(
    ("words", "said"),
    [(["certs", "--out", "DIR", "--host", "a_b"], "--host 'a_b' is no name or address of a machine"),
     (["certs", "--out", "DIR", "--bind", "here"], "--bind 'here' is no address"),
     (["certs", "--out", "DIR", "--site", "a\\b"], "is no name of a site; one line of 1 to 80 characters"),
     (["certs", "--out", "/proc/x"], "/proc/x/ca/ca.key cannot be written"),
     (["enroll", "pole-1", "--certs", "NONE"], "NONE/ca holds no authority that can be used"),
     (["enroll", "pole+1", "--certs", "DIR"], "'pole+1' cannot be a sensor's name"),
     (["enroll", "agls-hub", "--certs", "DIR"], "not a node's name but the hub's"),
     (["enroll", "known", "--certs", "DIR"], "known is enrolled already"),
     (["enroll", "pole-1", "--certs", "DIR", "--out", "/proc/x"], "/proc/x/pole-1.bundle.toml cannot be written"),
     (["revoke", "pole-1", "--certs", "DIR"], "pole-1 is not enrolled in"),
     (["revoke", "known", "--certs", "DIR", "--broker", "nowhere"], "mqtt.url is 'nowhere'")],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_wrong_use_is_one_sentence_and_changes_nothing(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_certs(tmp_path / "dir")
    enroll("known", tmp_path / "dir")
    before = {path: path.read_bytes() for path in (tmp_path / "dir").rglob("*") if path.is_file()}
    places = {"DIR": str(tmp_path / "dir"), "NONE": str(tmp_path / "none")}
    assert run(*(places.get(word, word) for word in words)) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert said.replace("NONE", places["NONE"]) in told
    assert {path: path.read_bytes() for path in (tmp_path / "dir").rglob("*") if path.is_file()} == before


def test_the_settings_shown_in_the_project_are_those_that_are_made() -> None:
    shown = PROJECT / "deploy"
    assert (shown / "mosquitto.conf").read_text() == mosquitto.conf(Path("/etc/agls/certs/broker"), "127.0.0.1", 8883)
    assert (shown / "acl").read_text() == mosquitto.acl()


# ------------------------------------------------------------------------------------------------------- with mosquitto


class Town:
    """A real mosquitto with what `agls deploy certs` made."""

    def __init__(self, folder: Path) -> None:
        self.certs = folder / "certs"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        make_certs(self.certs, hosts=("127.0.0.1",), port=self.port)
        self.url = f"mqtts://127.0.0.1:{self.port}"
        self.conf = self.certs / "broker" / "mosquitto.conf"
        if os.geteuid() == 0:  # it would become another user, who cannot read this folder
            self.conf.write_text(self.conf.read_text() + "user root\n")
        self.folder = folder

    def start(self) -> None:
        self.process = subprocess.Popen([found("mosquitto"), "-c", self.conf], stderr=subprocess.DEVNULL)
        until(lambda: listens(self.port))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def at(self, folder: Path, name: str) -> Mqtt:
        pems = (folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key")
        return Mqtt(url=self.url, ca_file=str(pems[0]), certificate_file=str(pems[1]), key_file=str(pems[2]))

    def hub(self) -> Connection:
        return connected(self.at(self.certs / "hub", "hub"), "hub", *HUB_SUBSCRIPTIONS)

    def node(self, name: str, status: Status | None = None) -> Connection:
        """Let a node in by its bundle, as `agls sensor init` does."""
        bundle = self.certs / "bundles" / f"{name}.bundle.toml"
        said = tomllib.loads((bundle if bundle.exists() else enroll(name, self.certs)).read_text())["broker"]
        for kind, text in (("ca", "ca_pem"), (name, "cert_pem")):
            (self.folder / f"{kind}.pem").write_text(said[text])
        (self.folder / f"{name}.key").write_text(said["key_pem"])
        mqtt = self.at(self.folder, name)
        return connected(mqtt, f"agls-node-{name}", topic("ack", name), status=status)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    found("mosquitto")
    town = Town(tmp_path)
    town.start()
    yield town
    town.stop()


def refusal(line: Connection) -> str:
    """Wait until a connection was refused, and say by which name that is counted."""
    names = {"tls_refused", "connect_ended"}
    until(lambda: bool(names & set(line.counts)))
    assert not line.connected
    line.close()
    return (names & set(line.counts)).pop()


def test_node_and_hub_speak_to_each_other_as_ever(town: Town) -> None:
    hub, node = town.hub(), town.node("pole-1", Status(sensor_id="pole-1", boot_id="boot", state="online"))
    node.publish(detection(1))
    assert [type(one).__name__ for one in hear(hub, lambda heard: len(heard) >= 2)] == ["Status", "Detection"]
    hub.publish(Ack(sensor_id="pole-1", boot_id="boot", next_seq=2))
    assert len(hear(node, bool)) == 1
    node.close()
    hub.close()


def test_what_a_node_writes_in_anothers_name_never_reaches_the_hub(town: Town) -> None:
    hub, node = town.hub(), town.node("pole-1")
    console = connected(town.at(town.certs / "console", "console"), "console", topic("slew", "+"))
    forged: list[Message] = [detection(1, "pole-2"), Status(sensor_id="pole-2", boot_id="b", state="offline"), SLEW]
    for record in forged:
        node.publish(record)
    until(lambda: node.outgoing_count == 0)  # it is told Success all the same
    node.publish(detection(2))
    assert hear(hub, bool) == [detection(2)]
    slew = msgspec.structs.replace(SLEW, request_id="true")
    hub.publish(slew)
    assert [one.request_id for one in hear(console, bool) if isinstance(one, SlewRequest)] == ["true"]
    for line in (node, console, hub):
        line.close()


def test_what_is_said_of_an_exercise_does_not_pass_a_live_broker(town: Town) -> None:
    bundle = town.node("pole-1")
    bundle.close()
    exercise = msgspec.structs.replace(town.at(town.folder, "pole-1"), realm="exercise")
    hub = connected(
        msgspec.structs.replace(town.at(town.certs / "hub", "hub"), realm="exercise"), "x", *HUB_SUBSCRIPTIONS
    )
    with connected(exercise, "node") as node:
        node.publish(detection(1))
        until(lambda: node.outgoing_count == 0)
    assert hub.take(0.2) == []
    hub.close()
    assert "topic read agls-exercise/v1/detection/+" in mosquitto.acl("exercise")
    assert "agls/v1" not in mosquitto.acl("exercise")


def test_a_node_hears_its_own_acknowledgements_alone(town: Town) -> None:
    hub = town.hub()
    node = town.node("pole-1")
    node._client.subscribe([(topic("ack", "+"), 1), (topic("detection", "+"), 1)])
    for name in ("pole-2", "pole-1"):
        hub.publish(Ack(sensor_id=name, boot_id="boot", next_seq=1))
    assert hear(node, bool) == [Ack(sensor_id="pole-1", boot_id="boot", next_seq=1)]
    assert "not_subscribed" not in node.counts
    node.close()
    hub.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_a_certificate_or_with_one_of_another_site_nobody_comes_in(town: Town, tmp_path: Path) -> None:
    ca = str(town.certs / "ca" / "ca.pem")
    assert refusal(start(Mqtt(url=town.url, ca_file=ca)))
    make_certs(tmp_path / "elsewhere")
    stranger = tmp_path / "elsewhere" / "hub"
    mqtt = Mqtt(url=town.url, ca_file=ca, certificate_file=f"{stranger}/hub.pem", key_file=f"{stranger}/hub.key")
    assert refusal(start(mqtt))
    # And a node of another site does not speak to this broker either.
    assert refusal(start(town.at(stranger, "hub"))) == "tls_refused"


def start(mqtt: Mqtt) -> Connection:
    line = Connection(mqtt, "stranger", reconnect_s=QUICK_S)
    line.start()
    return line


def test_tls_before_1_2_is_refused(town: Town) -> None:
    context = ssl.create_default_context(cafile=str(town.certs / "ca" / "ca.pem"))
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", town.port)) as line, pytest.raises(ssl.SSLError):
        context.wrap_socket(line, server_hostname="127.0.0.1")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_revoked_node_is_thrown_out_at_once_and_comes_back_only_with_a_new_certificate(
    town: Town, capsys: pytest.CaptureFixture[str]
) -> None:
    hub, other = town.hub(), town.node("pole-2")
    node = town.node("pole-1", Status(sensor_id="pole-1", boot_id="boot", state="online"))
    hear(hub, bool)
    assert run("revoke", "pole-1", "--certs", town.certs) == 0
    assert "its connection is ended" in capsys.readouterr().out
    until(lambda: not node.connected)
    # Who listens learns it: by the node's last will, and by the authority's word.
    assert {one.state for one in hear(hub, bool) if isinstance(one, Status)} == {"offline"}
    node.publish(detection(7))
    assert refusal(node)
    assert other.counts == {"connected": 1}
    (town.certs / "bundles" / "pole-1.bundle.toml").unlink()
    again = town.node("pole-1")
    again.publish(detection(8))
    assert detection(8) in hear(hub, lambda heard: detection(8) in heard)
    assert detection(7) not in hub.take(0.1)
    for line in (again, other, hub):
        line.close()


def test_a_broker_that_does_not_know_the_new_list_is_found_out(
    town: Town, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = town.node("pole-1")
    monkeypatch.setattr(revoke, "_tell", lambda _: False)
    assert run("revoke", "pole-1", "--certs", town.certs) == 1
    assert "systemctl reload mosquitto" in capsys.readouterr().err
    node.close()
    # Reloaded, and said again, it is out.
    monkeypatch.undo()
    assert run("revoke", "pole-1", "--certs", town.certs) == 0


def test_a_hub_that_was_away_gets_every_message_that_waited(town: Town) -> None:
    town.hub().close()
    node = town.node("pole-1")
    for seq in range(3_000):
        assert node.publish(detection(seq))
    until(lambda: node.outgoing_count == 0)
    node.close()
    hub = town.hub()
    heard = [one for one in hear(hub, lambda heard: len(heard) >= 3_000) if isinstance(one, Detection)]
    assert sorted(one.seq for one in heard) == list(range(3_000))
    hub.close()


def test_what_waits_for_the_hub_survives_a_restart_of_the_broker(town: Town) -> None:
    town.hub().close()
    node = town.node("pole-1")
    for seq in range(20):
        node.publish(detection(seq))
    until(lambda: node.outgoing_count == 0)
    town.stop()
    town.start()
    hub = town.hub()
    assert {one.seq for one in hear(hub, lambda heard: len(heard) >= 20) if isinstance(one, Detection)} == set(
        range(20)
    )
    node.close()
    hub.close()


def test_a_file_that_root_writes_belongs_to_whom_its_folder_belongs(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    make_certs(tmp_path)
    broker = CertsFolder(tmp_path).broker
    for path in [broker, *broker.rglob("*")]:
        os.chown(path, 1234, 1234)
    make_certs(tmp_path)
    assert {path.stat().st_uid for path in broker.rglob("*")} == {1234}


def test_a_broker_that_root_starts_runs_as_itself_and_can_write() -> None:
    try:
        account = pwd.getpwnam(mosquitto.USER)
    except KeyError:
        pytest.skip("mosquitto has no user here")
    if os.geteuid():
        pytest.skip("needs root")
    program = found("mosquitto")
    with socket.socket() as probe, tempfile.TemporaryDirectory() as name:  # the tests' own folder is closed to others
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
        probe.close()
        Path(name).chmod(0o755)
        make_certs(Path(name) / "certs", port=port)
        broker = CertsFolder(Path(name) / "certs").broker
        process = subprocess.Popen([program, "-c", broker / "mosquitto.conf"], stderr=subprocess.DEVNULL)
        try:
            until(lambda: listens(port))
            assert Path(f"/proc/{process.pid}").stat().st_uid == account.pw_uid
            assert (broker / "kept" / "mosquitto.pid").read_text().strip() == str(process.pid)
        finally:
            process.terminate()
            process.wait()
