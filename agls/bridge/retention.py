"""Forget what need not be kept: incidents, shots and calls after their days, unless they are held as evidence."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa

from agls.bridge.store import tables
from agls.bridge.store.book import Book
from agls.bridge.store.opening import begin_reading
from agls.messages import NS_PER_S

DAY_NS = 86_400 * NS_PER_S
AT_ONCE_COUNT = 200  # so that nothing waits long for a purge to end


def purge(book: Book, now_ns: int) -> Counter[str]:
    """Delete what is past its days; each incident leaves one line in the audit.

    Parameters
    ----------
    book : Book
        The book.
    now_ns : int
        UTC.

    Returns
    -------
    collections.Counter
        Numbers of what was deleted: ``incident``, ``shot``, ``call``, ``report``, ``audit``.
    """
    store, gone = book.site.store, Counter[str]()
    row = tables.incident.c
    old = sa.select(row.incident).where(row.state.in_(("closed", "merged")), row.hold == "")
    old = old.where(row.changed_ns < now_ns - round(store.incidents_d * DAY_NS))
    while True:
        with begin_reading(book.engine) as db:
            names = list(db.scalars(old.limit(AT_ONCE_COUNT)))
        gone["incident"] += _forget_incidents(book, names, now_ns)
        if len(names) < AT_ONCE_COUNT:
            break
    heard_ns = now_ns - round(store.detections_d * DAY_NS)
    with book.engine.begin() as db:
        shot, call, report, audit = tables.shot.c, tables.call.c, tables.report.c, tables.audit.c
        for table, condition in (
            (tables.shot, (shot.incident == "") & (shot.origin_ns < heard_ns)),
            (tables.call, call.received_ns < heard_ns),
            (tables.report, report.at_ns < now_ns - round(store.audit_d * DAY_NS)),
            (tables.audit, audit.at_ns < now_ns - round(store.audit_d * DAY_NS)),
        ):
            gone[table.name] += db.execute(sa.delete(table).where(condition)).rowcount
    return +gone


def remove_old_files(folder: Path, patterns: Sequence[str], before_ns: int) -> int:
    """Delete files that were last written before a moment.

    Parameters
    ----------
    folder : pathlib.Path
        Where.
    patterns : sequence of str
        Which, such as ``journal-*.jsonl``.
    before_ns : int
        The moment, UTC.

    Returns
    -------
    int
        How many.
    """
    count = 0
    for path in [path for pattern in patterns for path in folder.glob(pattern)]:
        with suppress(OSError):
            if path.stat().st_mtime_ns < before_ns:
                path.unlink()
                count += 1
    return count


def _forget_incidents(book: Book, names: list[str], now_ns: int) -> int:
    if not names:
        return 0
    with book.writing(now_ns) as one:
        # Once more, under the lock: one may have been held as evidence meanwhile.
        row = tables.incident.c
        going = list(one.db.scalars(sa.select(row.incident).where(row.incident.in_(names), row.hold == "")))
        for table in (tables.outbox, tables.stage, tables.revision, tables.shot, tables.incident):
            one.db.execute(sa.delete(table).where(table.c.incident.in_(going)))
        for name in going:
            one.note(name, 0, "purge", "clock", "past its days")
    return len(going)
