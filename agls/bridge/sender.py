"""What a way to a subscriber must do, and which ways there are: one entry each in `senders`."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Literal, Protocol, TypeAlias

from agls.bridge import formats
from agls.bridge.record import IncidentRecord
from agls.config import Subscriber
from agls.errors import InputError

Outcome: TypeAlias = Literal["sent", "refused", "troubled", "away"]

# Kind of subscriber: the module and the class that reach it, made from a Subscriber and a content type.
SENDERS: dict[str, str] = {
    "webhook": "agls.bridge.webhook:Webhook",
    "mqtt": "agls.bridge.mqtt_sender:MqttSender",
    "tak": "agls.bridge.tak:TakServer",
    "eido": "agls.bridge.eido_push:EidoPush",
    "eido_server": "agls.bridge.shelf:Shelf",
    "stream": "agls.bridge.shelf:Shelf",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a document.

    Attributes
    ----------
    outcome : Outcome
        The subscriber has it; or will never take it; or is there, but not this time; or is not there.
    said : str
        What it said, for people.
    call_number : str
        The number that dispatch gave the call; empty where it told none.
    sent_ns : int
        When the bytes had left, UTC; 0 where they had not.
    """

    outcome: Outcome
    said: str
    call_number: str = ""
    sent_ns: int = 0


class Sender(Protocol):
    """A way to one subscriber."""

    def send(self, document: bytes, key: str) -> Answer:
        """Say a document, once, in bounded time; never raise what the network may do.

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

    def close(self) -> None:
        """Let go of the subscriber."""


def open_sender(subscriber: Subscriber) -> tuple[Sender, Callable[[IncidentRecord], bytes]]:
    """Make the way to a subscriber, and what writes its documents.

    Parameters
    ----------
    subscriber : Subscriber
        Who.

    Returns
    -------
    sender : Sender
        The way.
    document : callable
        From a record to bytes in its format.

    Raises
    ------
    InputError
        If there is no such kind or format, or its address cannot be used.
    """
    where = f'subscriber "{subscriber.subscriber_id}"'
    if subscriber.kind not in SENDERS:
        raise InputError(f"{where} has kind = {subscriber.kind!r}; accepted are {', '.join(sorted(SENDERS))}")
    names = formats.names()
    if subscriber.format not in names:
        raise InputError(f"{where} has format = {subscriber.format!r}; accepted are {', '.join(names)}")
    document, content_type = formats.load(subscriber.format, subscriber.dialect)
    module, _, name = SENDERS[subscriber.kind].partition(":")
    sender: Sender = getattr(import_module(module), name)(subscriber, content_type)
    return sender, document
