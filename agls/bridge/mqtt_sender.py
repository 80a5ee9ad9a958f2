"""Publish documents on an MQTT broker, the hub's own or another: ``agls/v1/document/<incident>``, QoS 1.

An exercise has the root ``agls-exercise/v1``. MQTT 3.1.1 has no content type: an envelope says what is in it.

    sent          the broker acknowledged it
    refused       longer than a message may be
    away          no connection, or no acknowledgement in time
"""

import time

from agls.bridge.sender import Answer
from agls.config import Mqtt, Subscriber
from agls.messages import MAX_MESSAGE_BYTES
from agls.transport import Connection

SLOW_S = 5.0
STEP_S = 0.005


class MqttSender:
    """Publish to one broker over a connection that is kept.

    Parameters
    ----------
    subscriber : Subscriber
        Its `url` is ``mqtt://HOST:PORT`` or ``mqtts://HOST:PORT``; where it has a `secret_file`, that holds the
        password of the user named as the subscriber.
    content_type : str, optional
        Of the documents; MQTT 3.1.1 has no place for it.
    slow_s : float, optional
        Limit for connecting, and again for the acknowledgement [s].

    Raises
    ------
    InputError
        If the address is not such a URL, or a file cannot be used.
    """

    def __init__(self, subscriber: Subscriber, content_type: str = "", *, slow_s: float = SLOW_S) -> None:
        del content_type
        settings = Mqtt(
            url=subscriber.url,
            username=subscriber.subscriber_id if subscriber.secret_file else "",
            password_file=subscriber.secret_file,
            ca_file=subscriber.ca_file,
            certificate_file=subscriber.certificate_file,
            key_file=subscriber.key_file,
            realm=subscriber.realm,
        )
        self._connection = Connection(settings, f"agls-bridge-{subscriber.subscriber_id}")
        self._slow_s = slow_s

    def send(self, document: bytes, key: str) -> Answer:
        """Publish a document, and wait for the broker to have it.

        Parameters
        ----------
        document : bytes
            What to say.
        key : str
            The same whenever the same is said.

        Returns
        -------
        Answer
            What became of it.
        """
        if len(document) > MAX_MESSAGE_BYTES:
            return Answer("refused", f"{len(document)} bytes, over MQTT at most {MAX_MESSAGE_BYTES}")
        self._connection.start()
        if not self._connection.wait_connected(self._slow_s):
            return Answer("away", "not connected")
        sent_ns, end_s = time.time_ns(), time.monotonic() + self._slow_s
        if not self._connection.publish_document(key.rpartition(".")[0], document):
            return Answer("away", "no room")
        while self._connection.outgoing_count:
            if time.monotonic() > end_s:
                return Answer("away", "not acknowledged")
            time.sleep(STEP_S)
        return Answer("sent", "acknowledged", sent_ns=sent_ns)

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()
