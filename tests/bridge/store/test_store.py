"""The store: made and brought up to date, of one realm, and written whole or not at all."""

import sqlite3
import threading

import msgspec
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from agls.bridge import people
from agls.bridge.record import judgement, shown
from agls.bridge.retention import purge
from agls.bridge.store import queue, tables
from agls.bridge.store.opening import open_store
from agls.bridge.store.writing import chained
from agls.config import Cad, Mqtt, Policy, Store, Subscriber
from agls.errors import InputError, MessageError

NOON_NS = 1_545_220_800_000_000_000
S = 10**9
DAY_NS = 86_400 * S
CAD = Subscriber(subscriber_id="cad", url="http://127.0.0.1:9/")
RTCC = Subscriber(subscriber_id="rtcc", url="http://127.0.0.1:9/", told="every")


def rows(book, table: sa.Table, *columns: str):
    with book.engine.connect() as db:
        order = list(table.primary_key.columns)
        return [tuple(row) for row in db.execute(sa.select(*(table.c[name] for name in columns)).order_by(*order))]


def letters(book, **which: str):
    with book.engine.connect() as db:
        return [(one.subscriber, one.revision, one.telling) for one in queue.letters_of(db, **which)]


def test_a_new_store_has_the_tables_as_they_are_described(open_book) -> None:
    with open_book().engine.connect() as db:
        assert compare_metadata(MigrationContext.configure(db), tables.metadata) == []


def test_a_revision_its_audit_and_its_letters_are_written_together_or_not_at_all(open_book, said, incident) -> None:
    book = open_book(subscriber=(CAD, RTCC))
    bad = said(incident(incident="I2", shot_ids=("x",), latitude_deg="no number"), 2.0, is_due=False)
    with pytest.raises(MessageError, match="latitude_deg"):
        book.enter([said(incident(), 1.0), bad], NOON_NS)
    for table in (tables.incident, tables.revision, tables.audit, tables.outbox, tables.shot, tables.stage):
        assert rows(book, table, *table.columns.keys()) == []
    assert book.entered_ns() == 0
    book.enter([said(incident(), 1.0)], NOON_NS)
    assert rows(book, tables.revision, "incident", "move") == [("i20181219-1", "publish")]
    assert rows(book, tables.audit, "subject", "move", "author") == [("i20181219-1", "publish", "machine")]
    assert letters(book, incident="i20181219-1") == [("rtcc", 0, "open"), ("cad", 0, "open")]
    assert book.entered_ns() == NOON_NS + S


def test_wherever_a_store_fails_within_a_move_nothing_of_it_is_kept(open_book, said, incident) -> None:
    book, statements, fail_at = open_book(subscriber=(CAD, RTCC)), [], [0]

    @sa.event.listens_for(book.engine, "before_cursor_execute")
    def count(_connection, _cursor, statement, *_):
        statements.append(statement)
        if len(statements) == fail_at[0]:
            raise sa.exc.OperationalError(statement, {}, Exception("gone"))

    moves = (
        lambda: book.enter([said(incident(), 1.0)], NOON_NS),
        lambda: people.review(book, "i20181219-1", "R", "x", "gunfire", now_ns=NOON_NS + 9 * S),
    )
    for number, move in enumerate(moves):
        for failed_at in range(1, 60):
            statements.clear()
            fail_at[0] = failed_at
            try:
                move()
                break
            except sa.exc.OperationalError:
                fail_at[0] = 0
                counts = [len(rows(book, table, *table.columns.keys())) for table in (tables.revision, tables.audit)]
                assert counts == [number, number], f"failed at statement {failed_at}"
                assert len(letters(book)) == 2 * number
        fail_at[0] = 0
        assert len(statements) > 8
    assert (len(rows(book, tables.revision, "revision")), len(letters(book))) == (2, 4)


def test_what_the_hub_says_again_changes_nothing(open_book, said, incident) -> None:
    book = open_book(subscriber=(CAD, RTCC))
    batches = [said(incident(), 1.0), said(incident(revision=1, round_count=9), 2.0)]
    book.enter(batches, NOON_NS)
    before = [rows(book, table, *table.columns.keys()) for table in tables.metadata.sorted_tables]
    book.enter(batches, NOON_NS + S)
    assert [rows(book, table, *table.columns.keys()) for table in tables.metadata.sorted_tables] == before


def test_a_hub_that_lost_its_memory_is_heard_though_it_counts_anew(open_book, said, incident) -> None:
    book = open_book()
    book.enter([said(incident(revision=7), 1.0)], NOON_NS)
    book.enter([said(incident(revision=0, round_count=8), 9.0)], NOON_NS)
    assert book.record("i20181219-1").latest.round_count == 8
    assert [one.revision for one in book.revisions("i20181219-1")] == [0, 1]


def test_what_the_machine_found_first_is_never_overwritten(open_book, said, incident) -> None:
    book = open_book()
    book.enter([said(incident(), 1.0)], NOON_NS)
    people.correct(book, "i20181219-1", "Reviewer 3", "counted on the clip", round_count=5, now_ns=NOON_NS + 60 * S)
    book.enter([said(incident(revision=1, round_count=4, state="possible", x_m=500.0), 61.0)], NOON_NS)
    people.review(book, "i20181219-1", "Reviewer 3", "rifle", "gunfire", now_ns=NOON_NS + 70 * S)
    record = book.record("i20181219-1")
    assert (record.first.round_count, record.first.verdict, record.first.place.x_m) == (3, "probable", 120.0)
    assert (record.latest.round_count, record.latest.verdict) == (4, "possible")
    assert (shown(record).round_count, shown(record).verdict) == (5, "probable")
    assert [(one.author, one.reason) for one in record.corrections] == [
        ("Reviewer 3", "counted on the clip"),
        ("Reviewer 3", "rifle"),
    ]
    assert (record.state, record.incident_type, judgement(record)) == ("reviewed", "SHOOTING", "gunfire")
    assert book.revisions("i20181219-1")[0].incident_type == "WEAPON"


def test_what_a_person_judged_gunfire_the_machine_does_not_take_back(open_book, said, incident) -> None:
    book = open_book()
    book.enter([said(incident(), 1.0), said(incident(incident="I2"), 1.0)], NOON_NS)
    people.review(book, "I2", "R", "casings", "gunfire", now_ns=NOON_NS + 5 * S)
    book.enter([said(incident(incident=name, revision=1, state="withdrawn"), 9.0) for name in ("i20181219-1", "I2")], 0)
    assert [book.record(name).state for name in ("i20181219-1", "I2")] == ["withdrawn", "reviewed"]


def test_the_audit_s_chain_holds_and_shows_a_change(open_book, said, incident) -> None:
    book = open_book()
    book.enter([said(incident(revision=number), float(number)) for number in range(4)], NOON_NS)
    people.acknowledge(book, "i20181219-1", "Dispatcher 4", "26-001", now_ns=NOON_NS + 5 * S)
    names = ("at_ns", "subject", "revision", "move", "author", "reason", "digest")
    kept, digest = rows(book, tables.audit, *names), ""
    for row in kept:
        entry = dict(zip(names, row, strict=True))
        assert (digest := chained(digest, {k: v for k, v in entry.items() if k != "digest"})) == entry["digest"]
    assert len(kept) == 5
    assert chained(kept[1][-1], dict(zip(names[:-1], kept[2][:-1], strict=True)) | {"author": "X"}) != kept[2][-1]


def test_many_who_write_at_once_break_neither_chain_nor_revisions(open_book, said, incident) -> None:
    book = open_book(subscriber=(CAD, RTCC))
    book.enter([said(incident(), 1.0)], NOON_NS)

    def say(number: int) -> None:
        for step in range(5):
            people.correct(book, "i20181219-1", f"P{number}", "x", round_count=step, now_ns=NOON_NS + 2 * S)

    threads = [threading.Thread(target=say, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert [one.revision for one in book.revisions("i20181219-1")] == list(range(21))
    names = ("at_ns", "subject", "revision", "move", "author", "reason", "digest")
    digest = ""
    for row in rows(book, tables.audit, *names):
        digest = chained(digest, dict(zip(names[:-1], row[:-1], strict=True)))
        assert digest == row[-1]


# ---------------------------------------------------------------------------------------------- who is told of what


def test_every_revision_goes_to_those_told_of_every_one_and_dispatch_hears_what_is_due(
    open_book, said, incident
) -> None:
    book = open_book(subscriber=(CAD, RTCC))
    book.enter([said(incident(), 1.0), said(incident(revision=1), 2.0, is_due=False)], NOON_NS)
    book.enter([said(incident(revision=2, state="withdrawn"), 9.0)], NOON_NS)
    assert letters(book, subscriber="rtcc") == [("rtcc", 0, "open"), ("rtcc", 1, "update"), ("rtcc", 2, "cancel")]
    assert letters(book, subscriber="cad") == [("cad", 0, "open"), ("cad", 2, "cancel")]


def test_the_webhook_of_the_site_file_is_a_subscriber(open_book, said, incident) -> None:
    book = open_book(cad=Cad(webhook_url="http://127.0.0.1:9/x"))
    book.enter([said(incident(), 1.0)], NOON_NS)
    assert letters(book) == [("cad", 0, "open")]


def test_a_subscriber_hears_from_its_least_class_on_and_then_of_every_change(open_book, said, incident) -> None:
    book = open_book(subscriber=(msgspec.structs.replace(CAD, least="probable"),))
    states = ["possible", "probable", "possible", "withdrawn"]
    book.enter([said(incident(revision=n, state=state), float(n)) for n, state in enumerate(states)], NOON_NS)
    assert letters(book) == [("cad", 1, "open"), ("cad", 2, "update"), ("cad", 3, "cancel")]


def test_dispatch_waits_for_a_review_where_the_policy_says_so(open_book, said, incident) -> None:
    book = open_book(subscriber=(CAD, RTCC), policy=Policy(review="before_dispatch"))
    book.enter([said(incident(), 1.0), said(incident(revision=1, round_count=12), 5.0)], NOON_NS)
    assert letters(book, subscriber="cad") == []
    people.review(book, "i20181219-1", "R", "clear", "gunfire", now_ns=NOON_NS + 30 * S)
    assert letters(book, subscriber="cad") == [("cad", 2, "open")]
    book.enter([said(incident(incident="I2"), 40.0)], NOON_NS)
    people.review(book, "I2", "R", "a car", "not_gunfire", now_ns=NOON_NS + 60 * S)
    assert letters(book, subscriber="cad") == [("cad", 2, "open")]


def test_who_took_notice_is_kept_and_dispatch_is_not_told_its_own_words(open_book, said, incident) -> None:
    book = open_book(subscriber=(CAD, RTCC))
    book.enter([said(incident(), 1.0)], NOON_NS)
    for _ in range(3):
        people.acknowledge(book, "i20181219-1", "cad", "26-17", now_ns=NOON_NS + 5 * S)
    people.dispose(book, "i20181219-1", "Unit 7", "casings", "confirmed", "2026-1", now_ns=NOON_NS + 900 * S)
    record = book.record("i20181219-1")
    assert [(one.author, one.call_number) for one in record.acknowledgements] == [("cad", "26-17")]
    assert (record.state, record.disposition.outcome, record.disposition.case_number) == (
        "dispositioned", "confirmed", "2026-1",
    )  # fmt: skip
    assert letters(book, subscriber="cad") == [("cad", 0, "open")]
    assert len(letters(book, subscriber="rtcc")) == 3


def test_an_incident_located_too_late_is_kept_and_nobody_is_told(open_book, said, incident) -> None:
    book = open_book(subscriber=(CAD, RTCC))
    book.enter([said(incident(), 300.0)], NOON_NS)
    record = book.record("i20181219-1")
    assert (record.late, record.state) == (True, "candidate")
    book.enter([said(incident(revision=1, round_count=20), 301.0)], NOON_NS)
    assert letters(book) == []
    assert book.record("i20181219-1").state == "candidate"


@pytest.mark.parametrize(
    "say",
    [
        lambda book, name: people.dispose(book, name, "U", "r", "confirmed", now_ns=NOON_NS),
        lambda book, name: people.review(book, name, "U", "r", "gunfire", now_ns=NOON_NS),
        lambda book, name: people.acknowledge(book, name, "U", now_ns=NOON_NS),
        lambda book, name: people.duplicate(book, name, "U", "1", now_ns=NOON_NS),
        lambda book, name: people.merge(book, name, "I9", "U", "r", now_ns=NOON_NS),
        lambda book, name: people.split(book, name, ["s1"], "U", "r", now_ns=NOON_NS),
        lambda book, name: people.hold(book, name, "U", "c", now_ns=NOON_NS),
    ],
)
def test_what_is_said_of_an_unknown_incident_is_refused_by_name_and_nothing_is_written(open_book, say) -> None:
    book = open_book()
    with pytest.raises(InputError, match="I404"):
        say(book, "I404")
    assert rows(book, tables.audit, "number") == []


# ------------------------------------------------------------------------------------- calls, duplicates, two as one


def test_a_911_call_near_in_place_and_time_is_linked_whichever_comes_first(open_book, said, incident) -> None:
    book = open_book(subscriber=(CAD,))
    people.take_call(book, "26-1", NOON_NS + 60 * S, (40.4420, -79.9959), "SHOTS", now_ns=NOON_NS)
    people.take_call(book, "26-2", NOON_NS + 60 * S, (40.4520, -79.9959), "SHOTS", now_ns=NOON_NS)
    people.take_call(book, "26-3", NOON_NS + 400 * S, (40.4406, -79.9959), "SHOTS", now_ns=NOON_NS)
    book.enter([said(incident(), 70.0)], NOON_NS)
    assert [link.call_number for link in book.record("i20181219-1").calls] == ["26-1"]
    linked = people.take_call(book, "26-4", NOON_NS + 100 * S, (40.4406, -79.9959), "FIGHT", now_ns=NOON_NS + 101 * S)
    assert [link.call_number for link in linked[0].calls] == ["26-1", "26-4"]
    assert people.take_call(book, "26-4", NOON_NS + 100 * S, (40.4406, -79.9959), "FIGHT", now_ns=NOON_NS) == []
    assert letters(book) == [("cad", 0, "open"), ("cad", 1, "update")]


def test_of_a_call_nothing_is_kept_but_time_place_type_and_number() -> None:
    assert set(tables.call.columns.keys()) == {"number", "received_ns", "latitude_deg", "longitude_deg", "kind"}


def test_later_revisions_of_a_duplicate_name_dispatch_s_own_call(open_book, said, incident) -> None:
    book = open_book(subscriber=(CAD,))
    book.enter([said(incident(), 1.0)], NOON_NS)
    people.duplicate(book, "i20181219-1", "cad", "26-77", now_ns=NOON_NS + 9 * S)
    book.enter([said(incident(revision=1, round_count=30), 10.0)], NOON_NS)
    assert [one.duplicate_of for one in book.revisions("i20181219-1")] == ["", "26-77", "26-77"]
    assert letters(book) == [("cad", 0, "open"), ("cad", 2, "update")]


def test_two_incidents_that_are_one_become_one(open_book, said, incident) -> None:
    book = open_book(subscriber=(CAD,))
    book.enter([said(incident(), 1.0), said(incident(incident="I2", shot_ids=("t1",), round_count=2), 2.0)], NOON_NS)
    kept = people.merge(book, "I2", "i20181219-1", "R", "same car", now_ns=NOON_NS + 9 * S)
    assert (shown(kept).round_count, kept.merged_from, kept.first.round_count) == (5, ("I2",), 3)
    assert (book.record("I2").state, book.record("I2").merged_into) == ("merged", "i20181219-1")
    assert letters(book, incident="I2") == [("cad", 0, "open"), ("cad", 1, "cancel")]
    book.enter([said(incident(incident="I2", revision=1, shot_ids=("t1",)), 10.0)], NOON_NS)
    assert book.record("I2").state == "merged"
    assert letters(book, incident="I2", state="waiting")[-1] == ("cad", 1, "cancel")


def test_a_merge_that_cannot_be_leaves_both_as_they_were(open_book, said, incident) -> None:
    book = open_book()
    book.enter([said(incident(), 1.0)], NOON_NS)
    with pytest.raises(InputError, match="I404"):
        people.merge(book, "i20181219-1", "I404", "R", "x", now_ns=NOON_NS)
    with pytest.raises(InputError, match="into itself"):
        people.merge(book, "i20181219-1", "i20181219-1", "R", "x", now_ns=NOON_NS)
    assert len(book.revisions("i20181219-1")) == 1


def test_some_shots_become_an_incident_of_their_own(open_book, said, incident) -> None:
    book = open_book(subscriber=(CAD,))
    book.enter([said(incident(), 1.0)], NOON_NS)
    apart = people.split(book, "i20181219-1", ["s2", "s3"], "R", "two places", now_ns=NOON_NS + 9 * S)
    assert (apart.incident, apart.split_from, shown(apart).round_count) == ("i20181219-1-2", "i20181219-1", 2)
    assert shown(book.record("i20181219-1")).round_count == 1
    assert letters(book, incident=apart.incident) == [("cad", 0, "open")]
    with pytest.raises(InputError, match="cannot be split"):
        people.split(book, "i20181219-1", ["s1", "s2", "s3"], "R", "all", now_ns=NOON_NS)


def test_a_report_of_a_missed_shot_says_what_was_known_of_it(open_book, said, incident) -> None:
    book = open_book()
    book.enter([said(incident(), 1.0), said(incident(incident="I2", state="withdrawn", latitude_deg=40.5), 1.0)], 0)
    near = [people.report_missed(book, NOON_NS + 60 * S, place, "Unit 7", "witness", now_ns=NOON_NS + DAY_NS)
            for place in ((40.4407, -79.9960), (40.5, -79.996), (40.9, -79.99))]  # fmt: skip
    assert near == [("told", "i20181219-1"), ("candidate", "I2"), ("nothing", "")]
    assert rows(book, tables.report, "found") == [("told",), ("candidate",), ("nothing",)]


# --------------------------------------------------------------------------------------------------- what is kept


def test_an_incident_closes_and_is_forgotten_after_its_days_unless_held(open_book, said, incident) -> None:
    book = open_book(subscriber=(RTCC,), policy=Policy(close_after_s=3600.0))
    book.enter([said(incident(), 1.0), said(incident(incident="I2", shot_ids=("t1",)), 1.0)], NOON_NS)
    assert book.close_due(NOON_NS + 3000 * S) == 0
    assert book.close_due(NOON_NS + 3700 * S) == 2
    assert book.record("I2").state == "closed"
    people.hold(book, "I2", "Detective 1", "2026-9", now_ns=NOON_NS + 3800 * S)
    assert purge(book, NOON_NS + 20 * DAY_NS).total() == 0
    gone = purge(book, NOON_NS + 40 * DAY_NS)
    assert gone["incident"] == 1
    with pytest.raises(InputError):
        book.record("i20181219-1")
    assert book.record("I2").incident == "I2"
    assert [subject for (subject,) in rows(book, tables.shot, "shot_id")] == ["t1"]
    assert ("i20181219-1", "purge") in rows(book, tables.audit, "subject", "move")
    people.hold(book, "I2", "Detective 1", "", now_ns=NOON_NS + 41 * DAY_NS)
    assert purge(book, NOON_NS + 80 * DAY_NS)["incident"] == 1
    assert rows(book, tables.outbox, "number") == rows(book, tables.revision, "revision") == []


# -------------------------------------------------------------------------------------------------------- realms


def test_a_store_of_one_realm_never_opens_as_the_other(store, tmp_path, open_book) -> None:
    open_book()
    if store.url:
        with pytest.raises(InputError, match="of the realm 'live', but 'exercise'"):
            open_store(store, tmp_path, "exercise")
    else:
        (tmp_path / "exercise.sqlite").write_bytes(b"")
        with sqlite3.connect(tmp_path / "bridge.sqlite") as live, sqlite3.connect(tmp_path / "exercise.sqlite") as copy:
            live.backup(copy)
        with pytest.raises(InputError, match="of the realm 'live', but 'exercise'"):
            open_store(store, tmp_path, "exercise")


def test_a_live_record_is_never_written_where_an_exercise_is_told(tmp_path, said, incident) -> None:
    from agls.bridge.store.book import Book
    from agls.config import SiteConfig

    exercise = SiteConfig(
        name="Town", mqtt=Mqtt(realm="exercise"), subscriber=(CAD, RTCC), cad=Cad(webhook_url=CAD.url)
    )
    engine = open_store(Store(), tmp_path, "exercise")
    book = Book(engine, exercise)
    assert book.subscribers == ()
    book.enter([said(incident(), 1.0)], NOON_NS)
    assert book.record("i20181219-1").exercise
    live = msgspec.structs.replace(book.record("i20181219-1"), exercise=False, revision=1)
    with pytest.raises(AssertionError), book.writing(NOON_NS) as one:
        one.keep(live, "x", "y")
    engine.dispose()


def test_a_store_that_cannot_be_reached_is_refused_in_a_sentence(tmp_path) -> None:
    with pytest.raises(InputError, match=r"postgresql.*cannot be opened"):
        open_store(Store(url="postgresql://agls@127.0.0.1:9/agls"), tmp_path, "live")
    (tmp_path / "bridge.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match=r"bridge\.sqlite cannot be opened"):
        open_store(Store(), tmp_path, "live")
