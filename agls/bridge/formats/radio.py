"""The radio read-out: one line that can be read aloud, without taking more of the channel than it must."""

from agls.bridge.formats import _wording as wording
from agls.bridge.record import CAUTION, IncidentRecord, shown
from agls.config import Dialect

CONTENT_TYPE = "text/plain; charset=utf-8"


def document(record: IncidentRecord, dialect: Dialect) -> bytes:  # noqa: ARG001 - speech leaves nothing to agreement
    """Write a record as a line to be read aloud.

    Parameters
    ----------
    record : IncidentRecord
        The record.
    dialect : Dialect
        What the receiver agreed to.

    Returns
    -------
    bytes
        One line of text.
    """
    found = shown(record)
    sensors = f"{found.sensor_count} sensor{'' if found.sensor_count == 1 else 's'}"
    exercise = "EXERCISE, EXERCISE: " if record.exercise else ""
    words = [wording.what(record), wording.where(record), f"heard by {sensors}", *filter(None, record.statements)]
    return f"{exercise}{'; '.join(words)}; {CAUTION}\n".encode()
