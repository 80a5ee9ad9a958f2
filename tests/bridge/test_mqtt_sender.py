import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agls.bridge.mqtt_sender import MqttSender
from agls.broker import USER, EmbeddedBroker
from agls.config import Subscriber
from agls.errors import InputError
from agls.messages import MAX_MESSAGE_BYTES


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path / "broker") as one:
        yield one


def test_what_the_broker_acknowledged_was_sent_and_what_is_too_long_is_refused(broker: EmbeddedBroker) -> None:
    subscriber = Subscriber(subscriber_id=USER, url=broker.mqtt.url, secret_file=broker.mqtt.password_file)
    sender = MqttSender(subscriber, slow_s=5.0)
    try:
        assert sender.send(b"{}", "I1.0").outcome == "sent"
        assert sender.send(b"x" * (MAX_MESSAGE_BYTES + 1), "I1.1").outcome == "refused"
    finally:
        sender.close()


def test_no_broker_is_away_in_bounded_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    sender = MqttSender(Subscriber(subscriber_id="rtcc", url=f"mqtt://127.0.0.1:{port}"), slow_s=0.2)
    try:
        assert sender.send(b"{}", "I1.0").outcome == "away"
    finally:
        sender.close()


def test_an_address_that_is_no_broker_is_refused_in_one_sentence() -> None:
    with pytest.raises(InputError, match="mqtt://HOST:PORT"):
        MqttSender(Subscriber(subscriber_id="rtcc", url="http://rtcc.example/"))
