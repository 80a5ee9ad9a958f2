"""One transaction: what is written together, or not at all.

A `Writing` holds the lock of the audit's end, so moves of one store follow one another whoever makes them, and each
entry of the audit holds the digest of the one before.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from agls.bridge.life import BY
from agls.bridge.record import IncidentRecord, StageTimes, judgement, shown
from agls.bridge.store import tables
from agls.config import Realm, Subscriber
from agls.messages import NS_PER_S, UtcNs, decode, encode

MAX_BODY_BYTES = 100_000_000
MACHINE = "machine"
RESTORED = "restored"  # why a letter is dead that a hub before this one may have delivered


class Writing:
    """What one transaction writes.

    Parameters
    ----------
    db : sqlalchemy.Connection
        In a transaction.
    realm : Realm
        Of the store.
    subscribers : sequence of Subscriber
        Who may be told.
    now_ns : int
        Wall clock, UTC.
    """

    def __init__(self, db: sa.Connection, realm: Realm, subscribers: Sequence[Subscriber], now_ns: int) -> None:
        self.db = db
        self.now_ns = int(now_ns)
        self._realm = realm
        self._subscribers = subscribers
        self._digest = str(_marked(db, "digest", lock=True))
        self.restored_ns = int(_marked(db, "restored_ns") or 0)

    def record(self, incident: str) -> IncidentRecord | None:
        """Read the latest revision of an incident.

        Parameters
        ----------
        incident : str
            Its name.

        Returns
        -------
        IncidentRecord or None
            None where there is none.
        """
        named = sa.select(tables.incident.c.body).where(tables.incident.c.incident == incident)
        body = self.db.scalar(named)
        return None if body is None else read_record(body)

    def keep(self, record: IncidentRecord, author: str, reason: str) -> None:
        """Write a revision and its entry of the audit, and queue it for whoever is told of every one.

        Parameters
        ----------
        record : IncidentRecord
            The revision.
        author, reason : str
            By whom, and why.
        """
        # Whatever went wrong elsewhere: what is none of it real is never written where the live receivers look.
        assert record.exercise == (self._realm == "exercise")  # noqa: S101
        body, found = encode(record), shown(record)
        row = {
            "revision": record.revision,
            "state": record.state,
            "first_shot_ns": int(found.first_shot_ns),
            "changed_ns": int(record.at_ns),
            "latitude_deg": found.place.latitude_deg,
            "longitude_deg": found.place.longitude_deg,
            "body": body,
        }
        put(self.db, tables.incident, {"incident": record.incident}, row, {"hold": ""})
        self.db.execute(
            sa.insert(tables.revision),
            {
                "incident": record.incident,
                "revision": record.revision,
                "move": record.move,
                "at_ns": int(record.at_ns),
                "body": body,
            },
        )
        self.note(record.incident, record.revision, record.move, author, reason)
        self.queue(record, [one for one in self._subscribers if one.told == "every"])

    def note(self, subject: str, revision: int, move: str, author: str, reason: str) -> None:
        """Write an entry of the audit.

        Parameters
        ----------
        subject : str
            The incident, or what else it is about.
        revision : int
            Its revision.
        move : str
            What was done.
        author, reason : str
            By whom, and why.
        """
        row = {
            "at_ns": self.now_ns,
            "subject": subject,
            "revision": revision,
            "move": move,
            "author": author,
            "reason": reason,
        }
        self._digest = chained(self._digest, row)
        self.db.execute(sa.insert(tables.audit), {**row, "digest": self._digest})

    def tell(self, record: IncidentRecord, *, is_withheld: bool) -> None:
        """Queue a revision for whoever is told of what matters to dispatch.

        Parameters
        ----------
        record : IncidentRecord
            The revision.
        is_withheld : bool
            Whether a person must review it before those who know nothing of it yet are told.
        """
        self.queue(record, [one for one in self._subscribers if one.told == "paced"], is_withheld=is_withheld)

    def queue(self, record: IncidentRecord, subscribers: Iterable[Subscriber], *, is_withheld: bool = False) -> None:
        """Queue a revision for some subscribers, each as what it is to them.

        Parameters
        ----------
        record : IncidentRecord
            The revision.
        subscribers : iterable of Subscriber
            Who may be told.
        is_withheld : bool, optional
            Whether only those are told who know of the incident already.
        """
        for subscriber in subscribers:
            telling = self._telling(record, subscriber, is_withheld=is_withheld)
            if telling:
                self._queue(record, subscriber, telling)

    def mark(self, name: str, value: str) -> None:
        """Note how far something has come.

        Parameters
        ----------
        name, value : str
            What, and how far.
        """
        put(self.db, tables.realm, {"name": name}, {"value": value})

    def pass_stages(self, incident: str, **stages_ns: int | None) -> None:
        """Note when an incident passed stages; only the first time counts.

        Parameters
        ----------
        incident : str
            The incident.
        **stages_ns : int or None
            Stage, as in `StageTimes` without ``_ns``, to moment; None is left out.
        """
        pass_stages(self.db, incident, **stages_ns)

    def finish(self) -> None:
        """Note where the audit ends; the last thing before the transaction is committed."""
        self.mark("digest", self._digest)

    def _telling(self, record: IncidentRecord, subscriber: Subscriber, *, is_withheld: bool) -> str | None:
        """Say what a revision is to a subscriber, by what it was told before and will have been told by then."""
        box = tables.outbox.c
        before = self.db.scalar(
            sa.select(box.telling)
            .where(box.incident == record.incident, box.subscriber == subscriber.subscriber_id)
            .where((box.state != "dead") | (box.answer == RESTORED))
            .order_by(box.number.desc())
            .limit(1)
        )
        found = shown(record)
        if BY[record.move] == MACHINE and found.last_shot_ns < self.restored_ns:
            return None  # the hub that the back-up is of may have said so
        if found.verdict == "withdrawn" or record.state in ("withdrawn", "merged"):
            return "cancel" if before in ("open", "update") else None
        if before in ("open", "update"):
            return "update"
        if record.state == "candidate" or is_withheld:
            return None
        judged = judgement(record)
        enough = {"possible": True, "probable": found.verdict == "probable", "reviewed": judged is not None}
        return "open" if enough[subscriber.least] else None

    def _queue(self, record: IncidentRecord, subscriber: Subscriber, telling: str) -> None:
        box = tables.outbox.c
        named = (box.subscriber == subscriber.subscriber_id) & (box.incident == record.incident)
        # All that waits of an incident goes with its latest priority: so its revisions stay in order.
        self.db.execute(sa.update(tables.outbox).where(named, box.state == "waiting").values(priority=record.priority))
        row: dict[str, Any] = {
            "telling": telling,
            "priority": record.priority,
            "state": "waiting",
            "tries": 0,
            "made_ns": int(record.at_ns),
            "until_ns": int(record.at_ns) + round(subscriber.max_delay_s * NS_PER_S),
            "answer": "",
        }
        put_off_ns = self.db.scalar(sa.select(sa.func.max(box.next_ns)).where(named, box.state == "waiting"))
        row["next_ns"] = put_off_ns or 0  # behind what waits of the same incident
        names = {
            "subscriber": subscriber.subscriber_id,
            "incident": record.incident,
            "revision": record.revision,
        }
        put(self.db, tables.outbox, names, {}, row)


@contextmanager
def writing(engine: sa.Engine, realm: Realm, subscribers: Sequence[Subscriber], now_ns: int) -> Iterator[Writing]:
    """Write something together: committed where the context ends well, undone where it does not.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The store.
    realm : Realm
        Of the store.
    subscribers : sequence of Subscriber
        Who may be told.
    now_ns : int
        Wall clock, UTC.

    Yields
    ------
    Writing
        To write with.
    """
    with engine.begin() as db:
        one = Writing(db, realm, subscribers, now_ns)
        yield one
        one.finish()


def put(
    db: sa.Connection,
    table: sa.Table,
    key: dict[str, Any],
    values: dict[str, Any],
    first: dict[str, Any] | None = None,
) -> None:
    """Insert a row, or set some values of the one that is there.

    Parameters
    ----------
    db : sqlalchemy.Connection
        In a transaction.
    table : sqlalchemy.Table
        The table.
    key : dict
        What names the row: the columns that are unique together.
    values : dict
        What is set, in a new row or the one that is there; empty to leave that one as it is.
    first : dict, optional
        What a new row holds besides.
    """
    dialect = postgresql if db.dialect.name == "postgresql" else sqlite
    inserted = dialect.insert(table).values({**key, **values, **(first or {})})
    columns = list(key)
    if values:
        db.execute(inserted.on_conflict_do_update(index_elements=columns, set_=values))
    else:
        db.execute(inserted.on_conflict_do_nothing(index_elements=columns))


def pass_stages(db: sa.Connection, incident: str, **stages_ns: int | None) -> None:
    """Note when an incident passed stages; only the first time counts.

    Parameters
    ----------
    db : sqlalchemy.Connection
        In a transaction.
    incident : str
        The incident.
    **stages_ns : int or None
        Stage, as in `StageTimes` without ``_ns``, to moment; None is left out.
    """
    for name, at_ns in stages_ns.items():
        if at_ns is not None:
            put(db, tables.stage, {"incident": incident, "stage": name}, {}, {"at_ns": int(at_ns)})


def read_record(body: bytes) -> IncidentRecord:
    """Read a record as it is kept.

    Parameters
    ----------
    body : bytes
        JSON.

    Returns
    -------
    IncidentRecord
        The record.
    """
    return decode(bytes(body), IncidentRecord, max_bytes=MAX_BODY_BYTES)


def stages_of(db: sa.Connection, incident: str) -> StageTimes:
    """Read when an incident passed its stages.

    Parameters
    ----------
    db : sqlalchemy.Connection
        The store.
    incident : str
        The incident.

    Returns
    -------
    StageTimes
        What is known.
    """
    rows = db.execute(sa.select(tables.stage.c.stage, tables.stage.c.at_ns).where(tables.stage.c.incident == incident))
    return StageTimes(**{f"{name}_ns": UtcNs(at_ns) for name, at_ns in rows})


def chained(digest: str, row: dict[str, Any]) -> str:
    """Continue the audit's chain.

    Parameters
    ----------
    digest : str
        Of the entry before; empty for none.
    row : dict
        The entry without its number and digest.

    Returns
    -------
    str
        SHA-256 of both, hexadecimal.
    """
    return hashlib.sha256(digest.encode() + msgspec.json.encode(row, order="sorted")).hexdigest()


def _marked(db: sa.Connection, name: str, *, lock: bool = False) -> str | None:
    named = sa.select(tables.realm.c.value).where(tables.realm.c.name == name)
    return db.scalar(named.with_for_update() if lock else named)


def entered_ns(db: sa.Connection) -> int:
    """Read up to which moment the hub's word has been entered.

    Parameters
    ----------
    db : sqlalchemy.Connection
        The store.

    Returns
    -------
    int
        UTC; what the hub said before is all in the store.
    """
    return int(_marked(db, "entered_ns") or 0)
