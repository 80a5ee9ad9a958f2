"""What is not sent but fetched: the letters of a subscriber wait in the store, and whoever serves them reads on.

The number of a letter is the cursor: what is read after it, in order, is all that was queued since. A process of its
own serves them (`agls bridge serve`), so that nobody who fetches can make the hub wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from agls.bridge.record import IncidentRecord
from agls.bridge.sender import Answer
from agls.bridge.store import tables
from agls.bridge.store.opening import begin_reading
from agls.bridge.store.writing import read_record
from agls.config import Subscriber

MOST_COUNT = 500
_box, _revision, _incident = tables.outbox.c, tables.revision.c, tables.incident.c
_LETTERS = sa.select(_box.number, _box.telling, _revision.body).join(
    tables.revision, (_revision.incident == _box.incident) & (_revision.revision == _box.revision)
)
OVER = ("closed", "withdrawn", "merged")


class Shelf:
    """Leave documents where they are fetched.

    Parameters
    ----------
    subscriber : Subscriber
        Who fetches them.
    content_type : str, optional
        Of the documents.
    """

    def __init__(self, subscriber: Subscriber, content_type: str = "") -> None:
        del subscriber, content_type

    def send(self, document: bytes, key: str) -> Answer:  # noqa: ARG002 - a sender is asked so
        """Say that a document is there.

        Parameters
        ----------
        document : bytes
            What to say.
        key : str
            The same whenever the same is said.

        Returns
        -------
        Answer
            That it can be fetched.
        """
        return Answer("sent", "to be fetched")

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Item:
    """A letter to be fetched.

    Attributes
    ----------
    number : int
        Its cursor.
    record : IncidentRecord
        The revision, with what it is to its receiver as `telling`.
    """

    number: int
    record: IncidentRecord


def after(engine: sa.Engine, subscriber: str, number: int) -> list[Item]:
    """Read on.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The store.
    subscriber : str
        Whose letters.
    number : int
        The last one read; 0 for none.

    Returns
    -------
    list of Item
        What follows it, in order; at most `MOST_COUNT`.
    """
    wanted = _LETTERS.where(_box.subscriber == subscriber, _box.number > number).order_by(_box.number)
    with begin_reading(engine) as db:
        return _items(db.execute(wanted.limit(MOST_COUNT)).all())


def last_number(engine: sa.Engine, subscriber: str) -> int:
    """Find the cursor from which nothing follows yet.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The store.
    subscriber : str
        Whose letters.

    Returns
    -------
    int
        The number of the last letter; 0 where there is none.
    """
    wanted = sa.select(sa.func.max(_box.number)).where(_box.subscriber == subscriber)
    with begin_reading(engine) as db:
        return int(db.scalar(wanted) or 0)


def active(engine: sa.Engine, subscriber: str) -> list[Item]:
    """Read the last letter of each incident that is not over.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The store.
    subscriber : str
        Whose letters.

    Returns
    -------
    list of Item
        In order.
    """
    open_ones = sa.select(_incident.incident).where(_incident.state.not_in(OVER))
    last = sa.select(sa.func.max(_box.number)).where(_box.subscriber == subscriber, _box.incident.in_(open_ones))
    wanted = _LETTERS.where(_box.number.in_(last.group_by(_box.incident)), _box.telling != "cancel")
    with begin_reading(engine) as db:
        return _items(db.execute(wanted.order_by(_box.number)).all())


def latest(engine: sa.Engine, subscriber: str, incident: str, since_ns: int) -> Item | None:
    """Read the last letter of one incident.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The store.
    subscriber : str
        Whose letters.
    incident : str
        Which incident.
    since_ns : int
        If it was over before this moment it is not told any more, UTC.

    Returns
    -------
    Item or None
        None where there is none to tell.
    """
    there = sa.select(_incident.incident).where(
        _incident.incident == incident, _incident.state.not_in(OVER) | (_incident.changed_ns >= since_ns)
    )
    wanted = _LETTERS.where(_box.subscriber == subscriber, _box.incident.in_(there)).order_by(_box.number.desc())
    with begin_reading(engine) as db:
        found = _items(db.execute(wanted.limit(1)).all())
    return found[0] if found else None


def _items(rows: Sequence[Any]) -> list[Item]:
    return [Item(number, msgspec.structs.replace(read_record(body), telling=telling)) for number, telling, body in rows]
