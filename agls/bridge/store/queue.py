"""The outbox's rows: which is next for a subscriber, and what became of it.

A subscriber is told in order of priority, then of number; all that waits of one incident has its latest priority and is
put off together, so the revisions of an incident are never told in another order. What is undelivered for too long, or
refused, becomes a dead letter with its reason; if it was to open a call, the next word of the incident opens it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from agls.bridge.record import IncidentRecord
from agls.bridge.store import tables
from agls.bridge.store.writing import RESTORED, pass_stages, read_record

RETIRED_AT_ONCE_COUNT = 500
_box = tables.outbox.c


@dataclass(frozen=True, slots=True)
class Letter:
    """One row: something to tell a subscriber.

    Attributes
    ----------
    number : int
        Its place in the order in which it was queued.
    subscriber, incident : str
        Who is told of what.
    revision : int
        Which revision.
    telling : str
        ``open``, ``update`` or ``cancel``.
    tries : int
        How often it was tried in vain.
    until_ns : int
        When it is no longer worth delivering, UTC.
    state : str
        ``waiting``, ``delivered`` or ``dead``.
    answer : str
        What the subscriber said, or why it is dead.
    """

    number: int
    subscriber: str
    incident: str
    revision: int
    telling: str
    tries: int
    until_ns: int
    state: str
    answer: str

    @property
    def key(self) -> str:
        """Name the document such that its receiver knows it again.

        Returns
        -------
        str
            The idempotency key.
        """
        return f"{self.incident}.{self.revision}"


_LETTER = (
    _box.number, _box.subscriber, _box.incident, _box.revision, _box.telling, _box.tries, _box.until_ns, _box.state,
    _box.answer,
)  # fmt: skip


def next_letter(db: sa.Connection, subscriber: str, now_ns: int) -> Letter | None:
    """Find what a subscriber is told next.

    Parameters
    ----------
    db : sqlalchemy.Connection
        The store.
    subscriber : str
        Who.
    now_ns : int
        UTC.

    Returns
    -------
    Letter or None
        None where nothing is due.
    """
    due = sa.select(*_LETTER).where(_waiting(subscriber), _box.next_ns <= now_ns)
    row = db.execute(due.order_by(_box.priority, _box.number).limit(1)).first()
    return None if row is None else Letter(*row)


def next_due_ns(db: sa.Connection, subscriber: str) -> int | None:
    """Say when something put off is due again.

    Parameters
    ----------
    db : sqlalchemy.Connection
        The store.
    subscriber : str
        Who.

    Returns
    -------
    int or None
        UTC; None where nothing waits.
    """
    due_ns: int | None = db.scalar(sa.select(sa.func.min(_box.next_ns)).where(_waiting(subscriber)))
    return due_ns


def revision_of(db: sa.Connection, letter: Letter) -> IncidentRecord:
    """Read the revision that a letter tells.

    Parameters
    ----------
    db : sqlalchemy.Connection
        The store.
    letter : Letter
        The letter.

    Returns
    -------
    IncidentRecord
        As it was kept.
    """
    row = tables.revision.c
    named = (row.incident == letter.incident) & (row.revision == letter.revision)
    return read_record(db.execute(sa.select(row.body).where(named)).scalar_one())


def delivered(db: sa.Connection, letter: Letter, answer: str, sent_ns: int, now_ns: int, *, is_dispatch: bool) -> None:
    """Note that a subscriber has a letter.

    Parameters
    ----------
    db : sqlalchemy.Connection
        In a transaction.
    letter : Letter
        The letter.
    answer : str
        What the subscriber said.
    sent_ns, now_ns : int
        When it had the bytes, and when it answered, UTC.
    is_dispatch : bool
        Whether this is dispatch, whose answer is a stage.
    """
    values = {"state": "delivered", "done_ns": now_ns, "answer": answer[:500]}
    db.execute(sa.update(tables.outbox).where(_box.number == letter.number, _box.state == "waiting").values(values))
    if is_dispatch:
        pass_stages(db, letter.incident, sent=sent_ns, acknowledged=now_ns)


def put_off(db: sa.Connection, letter: Letter, next_ns: int, answer: str) -> None:
    """Note that a letter was tried in vain; all that waits of its incident is put off with it.

    Parameters
    ----------
    db : sqlalchemy.Connection
        In a transaction.
    letter : Letter
        The letter.
    next_ns : int
        When to try again, UTC.
    answer : str
        Why.
    """
    same = _waiting(letter.subscriber) & (_box.incident == letter.incident)
    db.execute(sa.update(tables.outbox).where(same).values(next_ns=next_ns))
    tried = {"tries": letter.tries + 1, "answer": answer[:500]}
    db.execute(sa.update(tables.outbox).where(_box.number == letter.number).values(tried))


def retire(db: sa.Connection, letters: Sequence[Letter], reason: str, now_ns: int) -> None:
    """Make letters dead, by name; what was to open a call leaves that to the next word of its incident.

    Parameters
    ----------
    db : sqlalchemy.Connection
        In a transaction.
    letters : sequence of Letter
        In order.
    reason : str
        Why.
    now_ns : int
        UTC.
    """
    for letter in letters:
        # One before it may have left it the opening, or taken it along.
        telling = db.scalar(sa.select(_box.telling).where(_box.number == letter.number, _box.state == "waiting"))
        if telling is not None:
            _bury(db, letter.number, reason, now_ns)
        if telling == "open":
            _leave_opening_to_the_next(db, letter, now_ns)


def retire_late(db: sa.Connection, subscriber: str, now_ns: int) -> int:
    """Make what is no longer worth delivering dead, as ``too_late``.

    Parameters
    ----------
    db : sqlalchemy.Connection
        In a transaction.
    subscriber : str
        Who was to be told.
    now_ns : int
        UTC.

    Returns
    -------
    int
        How many letters; at most `RETIRED_AT_ONCE_COUNT`.
    """
    late = sa.select(*_LETTER).where(_waiting(subscriber), _box.until_ns < now_ns)
    letters = [Letter(*row) for row in db.execute(late.order_by(_box.number).limit(RETIRED_AT_ONCE_COUNT))]
    retire(db, letters, "too_late", now_ns)
    return len(letters)


def letters_of(db: sa.Connection, *, incident: str = "", subscriber: str = "", state: str = "") -> list[Letter]:
    """List letters, for people: what was told, acknowledged, waits, or is dead and why.

    Parameters
    ----------
    db : sqlalchemy.Connection
        The store.
    incident, subscriber, state : str, optional
        Of which; empty for all.

    Returns
    -------
    list of Letter
        In the order in which they were queued.
    """
    wanted = sa.select(*_LETTER)
    for column, value in ((_box.incident, incident), (_box.subscriber, subscriber), (_box.state, state)):
        wanted = wanted.where(column == value) if value else wanted
    return [Letter(*row) for row in db.execute(wanted.order_by(_box.number))]


def _waiting(subscriber: str) -> sa.ColumnElement[bool]:
    return (_box.subscriber == subscriber) & (_box.state == "waiting")


def bury_all(db: sa.Connection, now_ns: int) -> int:
    """Make all that waits dead, as `RESTORED`: in a store that was restored, it may have been delivered since.

    Parameters
    ----------
    db : sqlalchemy.Connection
        In a transaction.
    now_ns : int
        UTC.

    Returns
    -------
    int
        How many letters.
    """
    values = {"state": "dead", "done_ns": now_ns, "answer": RESTORED}
    return int(db.execute(sa.update(tables.outbox).where(_box.state == "waiting").values(values)).rowcount)


def _bury(db: sa.Connection, number: int, reason: str, now_ns: int) -> None:
    values = {"state": "dead", "done_ns": now_ns, "answer": reason[:500]}
    db.execute(sa.update(tables.outbox).where(_box.number == number).values(values))


def _leave_opening_to_the_next(db: sa.Connection, letter: Letter, now_ns: int) -> None:
    same = _waiting(letter.subscriber) & (_box.incident == letter.incident)
    row = db.execute(sa.select(_box.number, _box.telling).where(same).order_by(_box.number).limit(1)).first()
    if row is None:
        return
    if row.telling == "cancel":
        _bury(db, row.number, "nothing_to_cancel", now_ns)
    else:
        db.execute(sa.update(tables.outbox).where(_box.number == row.number).values(telling="open"))
