"""Topics, decoding of whatever arrives, settings, and what happens while no broker is there."""

import contextlib
import json
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec
import paho.mqtt.client as paho
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agls import messages
from agls.broker import EmbeddedBroker
from agls.config import Mqtt
from agls.errors import InputError, MessageError
from agls.messages import Ack, ClockState, Detection, Ellipse, Heartbeat, Incident, Shot, SlewRequest, Status, UtcNs
from agls.transport import HUB_SUBSCRIPTIONS, Connection, decode_message, topic, topic_of

CLOCK = ClockState(mode="file", sigma_s=1e-4)
ELLIPSE = Ellipse(major_m=9.0, minor_m=4.0, azimuth_deg=30.0)
DETECTION = Detection(sensor_id="pole-7", boot_id="b1", seq=3, toa_ns=UtcNs(5), toa_sigma_s=1e-3, clock=CLOCK)
HEARTBEAT = Heartbeat(
    sensor_id="pole-7",
    boot_id="b1",
    sent_ns=UtcNs(1),
    uptime_s=1.0,
    clock=CLOCK,
    level_db=50.0,
    noise_floor_db=40.0,
    next_seq=4,
    oldest_seq=3,
    queue_count=1,
)
STATUS = Status(sensor_id="pole-7", boot_id="b1", state="online")
ACK = Ack(sensor_id="pole-7", boot_id="b1", next_seq=4)
SHOT = Shot(
    shot_id="s1",
    incident="i1",
    origin_ns=UtcNs(1),
    origin_sigma_s=0.01,
    x_m=1.0,
    y_m=2.0,
    z_m=3.0,
    ellipse=ELLIPSE,
    p_gunshot=0.9,
    sensor_count=5,
)
INCIDENT = Incident(
    incident="i1",
    revision=0,
    state="probable",
    first_shot_ns=UtcNs(1),
    last_shot_ns=UtcNs(1),
    round_count=1,
    x_m=1.0,
    y_m=2.0,
    z_m=3.0,
    ellipse=ELLIPSE,
    p_gunshot=0.9,
    sensor_count=5,
    shot_ids=("s1",),
)
SLEW = SlewRequest(
    request_id="r1",
    incident="i1",
    revision=0,
    camera_id="camera-2",
    issued_ns=UtcNs(1),
    not_after_ns=UtcNs(2),
    hold_s=60.0,
    target=messages.SlewTarget(latitude_deg=40.0, longitude_deg=-80.0, height_m=200.0, ellipse=ELLIPSE),
    distance_m=100.0,
    pan_deg=10.0,
    tilt_deg=-5.0,
    hfov_deg=20.0,
    fits=True,
    reason="nearest",
)


def kind_name(record: messages.Wire) -> str:
    return type(record).__name__


RECORDS = (DETECTION, HEARTBEAT, STATUS, ACK, SHOT, INCIDENT, SLEW)


# ------------------------------------------------------------------------------------------------ topics, decoding


def test_topics_are_those_that_others_rely_on() -> None:
    assert [topic_of(record) for record in RECORDS] == [
        "agls/v1/detection/pole-7",
        "agls/v1/heartbeat/pole-7",
        "agls/v1/status/pole-7",
        "agls/v1/ack/pole-7",
        "agls/v1/shot/i1",
        "agls/v1/incident/i1",
        "agls/v1/slew/camera-2",
    ]
    assert HUB_SUBSCRIPTIONS == ("agls/v1/detection/+", "agls/v1/heartbeat/+", "agls/v1/status/+")


@pytest.mark.parametrize("record", [*RECORDS, msgspec.structs.replace(SHOT, incident=None)], ids=kind_name)
def test_a_record_comes_back_from_its_topic_as_it_was(record: messages.Wire) -> None:
    assert decode_message(topic_of(record), messages.encode(record)) == record


@pytest.mark.parametrize("record", RECORDS, ids=kind_name)
def test_a_record_on_the_topic_of_another_is_refused_by_name(record: messages.Wire) -> None:
    another = topic_of(record) + "x"
    with pytest.raises(MessageError) as refusal:
        decode_message(another, messages.encode(record))
    assert refusal.value.reason == "wrong_identity"


@pytest.mark.parametrize(
    ("name", "payload", "reason"),
    [
        ("agls/v1/detection/pole-7", messages.encode(STATUS), "not_valid"),
        ("agls/v1/detection/pole-7", b"", "not_json"),
        ("agls/v1/detection/pole-7", b"\xff\xfe", "not_json"),
        ("agls/v1/detection/pole-7", b"[" * 60_000, "not_valid"),
        ("agls/v1/detection/pole-7", b" " * 70_000, "too_long"),
        ("agls/v1/detection/pole-7", messages.encode(DETECTION).replace(b'"seq":3', b'"seq":NaN'), "not_json"),
        ("agls/v1/detection/pole-7", messages.encode(DETECTION).replace(b'"seq":3', b'"seq":-1'), "not_valid"),
        ("agls/v1/detection/pole-7/more", messages.encode(DETECTION), "unknown_topic"),
        ("agls/v2/detection/pole-7", messages.encode(DETECTION), "unknown_topic"),
        ("agls/v1/clip/pole-7", messages.encode(DETECTION), "unknown_topic"),
        ("", b"", "unknown_topic"),
    ],
)
def test_each_refusal_has_its_name(name: str, payload: bytes, reason: str) -> None:
    with pytest.raises(MessageError) as refusal:
        decode_message(name, payload)
    assert refusal.value.reason == reason


REASONS = {"unknown_topic", "too_long", "not_json", "not_valid", "wrong_identity"}
topics = st.sampled_from([topic_of(record) for record in RECORDS]) | st.text(max_size=40)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def bent_records(draw: st.DrawFn) -> bytes:
    """Make a valid document with one field replaced by something else."""
    document = json.loads(messages.encode(draw(st.sampled_from(RECORDS))))
    document[draw(st.sampled_from(sorted(document)))] = draw(json_values)
    return json.dumps(document).encode()


@given(topics, st.binary(max_size=200) | bent_records() | json_values.map(lambda value: json.dumps(value).encode()))
@example("agls/v1/detection/pole-7", messages.encode(DETECTION))
def test_any_bytes_on_any_topic_become_a_record_of_that_topic_or_a_named_refusal(name: str, payload: bytes) -> None:
    try:
        record = decode_message(name, payload)
    except MessageError as refusal:
        assert refusal.reason in REASONS
    else:
        assert topic_of(record) == name


# -------------------------------------------------------------------------------------------------- without a broker


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_without_a_broker_publishing_neither_blocks_nor_grows_and_counts_what_does_not_fit() -> None:
    mqtt = Mqtt(url=f"mqtt://127.0.0.1:{unused_port()}", queue_limit_count=10)
    with Connection(mqtt, "node", [topic("ack", "pole-7")], STATUS) as connection:
        taken = [connection.publish(DETECTION) for _ in range(25)]
        assert taken == [True] * 10 + [False] * 15
        assert connection.outgoing_count == 10
        assert connection.take(0.0) == []
        assert not connection.wait_connected(0.01)
    assert connection.counts - Counter(unreachable=1000) == {"outgoing_full": 15, "unsent": 10}


EARLY = msgspec.structs.replace(DETECTION, stage="preliminary")


def test_early_notice_is_not_kept_for_later() -> None:
    mqtt = Mqtt(url=f"mqtt://127.0.0.1:{unused_port()}")
    with Connection(mqtt, "node") as connection:
        assert not connection.publish(EARLY)
        assert connection.outgoing_count == 0
    assert connection.counts["not_connected"] == 1


@given(st.permutations(["published 1", "published 2", "confirmed 1", "confirmed 2"]), st.booleans())
def test_what_is_on_its_way_is_counted_whichever_comes_first(order: list[str], confirmed: bool) -> None:
    # The broker's answer may come before the client's `publish` has returned.
    connection = Connection(Mqtt(), "node")
    for happening in order:
        what, mid = happening.split()
        if what == "published":
            connection._settle(int(mid), 1)
        elif confirmed:
            connection._on_publish(connection._client, None, int(mid), None, None)
    assert connection.outgoing_count == (0 if confirmed else 2)


def attempts(mqtt: Mqtt, reason: str, number: int = 1) -> Counter[str]:
    """Let a connection try in vain until it has counted a reason often enough."""
    with Connection(mqtt, "node", reconnect_s=0.02) as connection:
        deadline_s = time.monotonic() + 20
        while connection.counts[reason] < number and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert not connection.connected
        return connection.counts


def test_a_broker_that_is_not_there_is_counted_at_each_attempt_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    port = unused_port()
    assert attempts(Mqtt(url=f"mqtt://127.0.0.1:{port}"), "unreachable", 3)["unreachable"] >= 3
    assert caplog.messages == [f"cannot reach the broker 127.0.0.1:{port}: Connection refused; trying on"]


@pytest.mark.parametrize(
    ("scheme", "answer", "reason", "told"),
    [
        ("mqtts", b"no TLS here at all", "tls_refused", "TLS fails"),
        ("mqtt", b"", "connect_ended", "ends the connection without an answer"),
        (
            "mqtt",
            b"\x20\x02\x00\x04",
            "connect_refused",
            "refuses the password of mqtt.username 'pole-7' (Bad user name",
        ),
        ("mqtt", b"\x20\x02\x00\x03", "connect_refused", "refuses the connection (Server unavailable)"),
    ],
    ids=["no TLS", "closes", "wrong password", "unavailable"],
)
# Where the handshake fails, paho leaves closing its socket to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_why_a_broker_refuses_is_counted_and_told_by_name(
    scheme: str, answer: bytes, reason: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer_all, args=(server, answer), daemon=True)
        thread.start()
        url = f"{scheme}://127.0.0.1:{server.getsockname()[1]}"
        assert attempts(Mqtt(url=url, username="pole-7"), reason)[reason] >= 1
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    assert told in caplog.messages[0]


def test_a_broker_that_never_answers_is_told_as_that(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agls.transport.KEEPALIVE_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:  # the kernel accepts, nobody reads
        url = f"mqtt://127.0.0.1:{server.getsockname()[1]}"
        counts = attempts(Mqtt(url=url), "connect_unanswered")
    assert (counts["connect_unanswered"], counts["connect_ended"]) == (1, 0)
    assert "accepts the connection and never answers" in caplog.messages[0]


def answer_all(server: socket.socket, answer: bytes) -> None:
    """Give the same answer to whoever connects, and hang up."""
    while True:
        try:
            line = server.accept()[0]
        except OSError:
            return
        with line, contextlib.suppress(OSError):
            line.recv(4096)
            line.sendall(answer)


CONNACK = b"\x20\x02\x01\x00"  # accepted, session known


def serve_slowly(server: socket.socket, message: bytes, answered: list[bool]) -> None:
    """Accept one client after another only after a while; note whether it waited, and send it too much."""
    while True:
        try:
            line = server.accept()[0]
        except OSError:
            return
        with line, contextlib.suppress(OSError):
            line.recv(4096)
            line.settimeout(0.3)
            try:
                answered.append(line.recv(1) != b"")  # it hangs up rather than wait
            except TimeoutError:
                answered.append(True)
                line.sendall(CONNACK + message * 40)
            line.settimeout(None)
            while line.recv(4096):
                pass


def test_a_connection_that_is_being_made_is_not_broken_for_what_the_last_one_had_no_room_for() -> None:
    # A broker under load takes longer to answer than a hub waits for messages: each attempt broken, each wait doubled.
    name, payload = topic_of(DETECTION).encode(), messages.encode(DETECTION)
    body = len(name).to_bytes(2) + name + b"\x00\x01" + payload
    message = b"\x32" + bytes([len(body) & 127 | 128, len(body) >> 7]) + body
    answered: list[bool] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve_slowly, args=(server, message, answered), daemon=True)
        thread.start()
        mqtt = Mqtt(url=f"mqtt://127.0.0.1:{server.getsockname()[1]}", queue_limit_count=10)
        with Connection(mqtt, "hub", HUB_SUBSCRIPTIONS, reconnect_s=0.05) as hub:
            deadline_s = time.monotonic() + 20
            while len(answered) < 4 and time.monotonic() < deadline_s:
                time.sleep(0.01)
                # Let each connection bring more than there is room for, and empty the inbox meanwhile only if it did.
                if not hub.connected or hub.counts["inbox_full"] >= 10 * hub.counts["connected"]:
                    hub.take(0.0)
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    assert answered == [True] * 4
    assert hub.counts["inbox_full"] >= 30


def test_a_record_that_no_receiver_would_accept_is_not_sent() -> None:
    long = msgspec.structs.replace(INCIDENT, shot_ids=("s" * 60,) * 2000)
    connection = Connection(Mqtt(), "hub")
    assert not connection.publish(long)
    assert connection.counts == {"too_long": 1}


def test_what_is_refused_is_counted_and_kept_by_who_wants_it_and_never_handed_out() -> None:
    kept = []
    connection = Connection(Mqtt(), "hub", ["#"], on_refused=lambda *refused: kept.append(refused))
    for name, payload in ((b"agls/v1/detection/\xff", b"?"), (b"agls/v1/ack/pole-7", b"{")):
        message = paho.MQTTMessage(topic=name)
        message.payload = payload
        connection._on_message(connection._client, None, message)
    assert connection.counts == {"not_json": 2}
    assert [refused[:2] for refused in kept] == [("agls/v1/detection/\\xff", b"?"), ("agls/v1/ack/pole-7", b"{")]
    assert connection.take(0.0) == []


def test_a_message_that_was_not_subscribed_to_is_counted_and_dropped() -> None:
    connection = Connection(Mqtt(), "node", [topic("ack", "pole-7")])
    message = paho.MQTTMessage(topic=topic_of(STATUS).encode())
    message.payload = messages.encode(STATUS)
    connection._on_message(connection._client, None, message)
    assert connection.counts == {"not_subscribed": 1}
    assert connection.take(0.0) == []


# ----------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "url", ["http://broker", "mqtt://", "mqtt://a..b", "mqtt://broker:99999", "mqtt://broker:x", "mqtt://[::1"]
)
def test_an_address_that_cannot_be_used_is_one_sentence(url: str) -> None:
    with pytest.raises(InputError, match=r"mqtt\.url is .*; what is accepted is mqtt://HOST:PORT or mqtts://HOST:PORT"):
        Connection(Mqtt(url=url), "node")


def test_a_password_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("secret\n")
    file.chmod(0o644)
    with pytest.raises(InputError, match=r"password has mode 0644, .* accepted is 0600"):
        Connection(Mqtt(username="node", password_file=str(file)), "node")
    file.chmod(0o600)
    Connection(Mqtt(username="node", password_file=str(file)), "node")


def test_a_password_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mqtt\.username is empty; give both"):
        Connection(Mqtt(password_file=str(tmp_path / "password")), "node")


def test_a_password_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mqtt\.password_file .*none cannot be read"):
        Connection(Mqtt(username="node", password_file=str(tmp_path / "none")), "node")


def test_a_certificate_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("not a certificate")
    for mqtt in (
        Mqtt(url="mqtts://broker", ca_file=str(file)),
        Mqtt(url="mqtts://broker", ca_file=str(tmp_path / "none")),
        Mqtt(url="mqtts://broker", certificate_file=str(file), key_file=str(file)),
    ):
        with pytest.raises(InputError, match="cannot be used for TLS"):
            Connection(mqtt, "node")


# --------------------------------------------------------------------------------------------------------- realms


@pytest.mark.parametrize(("ours", "theirs"), [("live", "exercise"), ("exercise", "live")])
def test_who_is_of_one_realm_neither_hears_nor_is_heard_in_the_other(tmp_path, ours, theirs):
    with EmbeddedBroker(tmp_path) as broker:
        ours_mqtt, theirs_mqtt = (msgspec.structs.replace(broker.mqtt, realm=realm) for realm in (ours, theirs))
        hub_topics = (*HUB_SUBSCRIPTIONS, topic("incident", "+"), topic("slew", "+"))
        with (
            Connection(ours_mqtt, "hub-ours", hub_topics) as hub,
            Connection(theirs_mqtt, "hub-theirs", hub_topics) as other,
            Connection(ours_mqtt, "node", (), STATUS) as node,
        ):
            assert all(line.wait_connected(30) for line in (hub, other, node))
            for record in RECORDS:
                node.publish(record)
            heard = []
            until_s = time.monotonic() + 20
            while len({item.topic for item in heard}) < 5 and time.monotonic() < until_s:
                heard += hub.take(0.1)
            assert {item.topic.split("/")[2] for item in heard} >= {"detection", "heartbeat", "incident", "slew"}
            assert other.take(0.3) == []


def test_a_topic_of_the_other_realm_is_refused_whoever_sends_it():
    exercise = Connection(Mqtt(realm="exercise"), "hub", HUB_SUBSCRIPTIONS)
    live = Connection(Mqtt(), "hub", HUB_SUBSCRIPTIONS)
    for line, name in ((exercise, "agls/v1/detection/pole-7"), (live, "agls-exercise/v1/detection/pole-7")):
        message = paho.MQTTMessage(topic=name.encode())
        message.payload = messages.encode(DETECTION)
        line._on_message(line._client, None, message)
        assert line.take(0) == []
        assert line.counts["unknown_topic"] == 1
