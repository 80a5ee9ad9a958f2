"""Back-ups: made while a hub writes, restored only where nothing is lost, and nobody is told twice."""

import io
import sqlite3
import tarfile
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from agls.backup import back_up
from agls.bridge import formats, people
from agls.bridge.outbox import Courier
from agls.bridge.sender import Answer
from agls.bridge.store import queue
from agls.bridge.store.book import Book
from agls.bridge.store.opening import open_store
from agls.cli import main
from agls.config import Mqtt, SiteConfig, Subscriber
from agls.errors import InputError
from agls.hub import JOURNAL_NAME
from agls.restore import restore

NOON_NS = 1_545_220_800_000_000_000
S = 10**9
CAD = Subscriber(subscriber_id="cad", url="http://127.0.0.1:9/", max_delay_s=604_800.0)


class Cad:
    """A CAD that takes everything."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def send(self, _: bytes, key: str) -> Answer:
        self.keys.append(key)
        return Answer("sent", "HTTP 200")

    def close(self) -> None:
        pass


def deliver(book: Book, cad: Cad, now_ns: int) -> None:
    courier = Courier(book, CAD, cad, formats.load("cad")[0])
    while courier.turn(now_ns):
        now_ns += 1_000_000


def folder_of(path: Path) -> Path:
    path.mkdir()
    (path / JOURNAL_NAME).write_text("a journal\n")
    (path / "journal-20181219T110000.000000000.jsonl").write_text("the one before\n")
    return path


def test_a_restored_hub_has_all_incidents_and_tells_nobody_twice(open_book, said, incident, tmp_path) -> None:
    book, cad = open_book(subscriber=(CAD,)), Cad()
    with book.engine.begin() as db:
        db.execute(sa.text("DELETE FROM realm WHERE name = 'restored_ns'"))
    where = tmp_path if not book.site.store.url else folder_of(tmp_path / "hub")
    first, second, third = (
        incident(incident=f"I{number}", shot_ids=(f"s{number}",)) for number in range(3)
    )  # told before the back-up; waiting in it; after it
    book.enter([said(first, 1)], NOON_NS + S)
    deliver(book, cad, NOON_NS + 2 * S)
    book.enter([said(second, 3)], NOON_NS + 3 * S)
    back_up(book.site, where, tmp_path / "kept.tar.gz")
    later = incident(incident="I0", revision=1, state="possible", shot_ids=("s0",))
    after = [said(third, 4), said(later, 5)]
    book.enter(after, NOON_NS + 5 * S)
    deliver(book, cad, NOON_NS + 6 * S)
    told = list(cad.keys)
    assert len(told) == 4
    book.engine.dispose()

    out = where if book.site.store.url else tmp_path / "anew"
    about, dead_count = restore(book.site, out, tmp_path / "kept.tar.gz", force=bool(book.site.store.url))
    assert (about.site, dead_count) == ("Town", 1)
    again = Book(open_store(book.site.store, out, "live"), book.site)
    try:
        assert [again.record(name).revision for name in ("I0", "I1")] == [0, 0]
        again.enter(after, time.time_ns())  # nodes and broker may say all of it anew
        deliver(again, cad, time.time_ns())
        assert cad.keys == told
        assert [again.record(name).late for name in ("I0", "I2")] == [False, True]
        # What people say from now on is told, as an update of what was told before.
        people.correct(again, "I1", "Ann", "seen", round_count=7, now_ns=time.time_ns())
        deliver(again, cad, time.time_ns())
        assert len(cad.keys) == len(told) + 1
        with again.engine.connect() as db:
            letters = queue.letters_of(db, incident="I1")
        assert [(one.telling, one.answer) for one in letters] == [("open", "restored"), ("update", "HTTP 200")]
        # And shots fired after it are told as ever.
        now_ns = time.time_ns()
        fresh = incident(incident="I9", shot_ids=("s9",), first_shot_ns=now_ns, last_shot_ns=now_ns)
        at_s = (now_ns - NOON_NS) / S + 2
        again.enter([said(fresh, at_s)], now_ns + 2 * S)
        deliver(again, cad, now_ns + 3 * S)
        assert cad.keys[-1].startswith("I9")
    finally:
        with again.engine.begin() as db:
            db.execute(sa.text("DELETE FROM realm WHERE name = 'restored_ns'"))
        again.engine.dispose()


def test_a_back_up_is_whole_though_the_hub_writes_all_the_while(tmp_path, said, incident) -> None:
    site = SiteConfig(name="Town", subscriber=(CAD,))
    book, stop, entered = Book(open_store(site.store, tmp_path, "live"), site), threading.Event(), []

    def write() -> None:
        while not stop.is_set():
            name = f"I{len(entered)}"
            book.enter([said(incident(incident=name, shot_ids=(f"s{name}",)), 1)], NOON_NS + S)
            entered.append(name)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            while len(entered) < 10 * (number + 1):
                time.sleep(0.01)
            count = len(entered)
            back_up(site, tmp_path, tmp_path / "kept.tar.gz")
            out = tmp_path / f"anew-{number}"
            restore(site, out, tmp_path / "kept.tar.gz")
            with sqlite3.connect(out / "bridge.sqlite") as db:
                (kept,) = db.execute("SELECT count(*) FROM incident").fetchone()
                assert kept >= count
                for table in ("revision", "outbox", "audit"):
                    assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (kept,)  # noqa: S608
    finally:
        stop.set()
        writer.join()
        book.engine.dispose()


def test_what_is_there_is_overwritten_only_if_forced(tmp_path) -> None:
    out, kept = folder_of(tmp_path / "hub"), tmp_path / "kept.tar.gz"
    open_store(SiteConfig(name="Town").store, out, "live").dispose()
    site = SiteConfig(name="Town")
    back_up(site, out, kept)
    (out / JOURNAL_NAME).write_text("newer\n")
    with pytest.raises(InputError, match=r"journal.* is there and would be overwritten; give --force"):
        restore(site, out, kept)
    assert (out / JOURNAL_NAME).read_text() == "newer\n"
    restore(site, out, kept, force=True)
    assert (out / JOURNAL_NAME).read_text() == "a journal\n"
    assert (out / "bridge.sqlite").stat().st_mode & 0o777 == 0o600
    assert kept.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (SiteConfig(name="Elsewhere"), "is of the site 'Town', realm 'live'"),
        (SiteConfig(name="Town", mqtt=Mqtt(realm="exercise")), "is of the site 'Town', realm 'live'"),
    ],
)
def test_a_back_up_of_another_site_or_realm_is_refused(tmp_path, other, said) -> None:
    out = folder_of(tmp_path / "hub")
    open_store(SiteConfig(name="Town").store, out, "live").dispose()
    back_up(SiteConfig(name="Town"), out, tmp_path / "kept.tar.gz")
    with pytest.raises(InputError, match=said):
        restore(other, tmp_path / "anew", tmp_path / "kept.tar.gz")
    assert list((tmp_path / "anew").iterdir()) == []


def test_what_is_no_back_up_is_refused_and_nothing_is_written_outside(tmp_path) -> None:
    wrong = tmp_path / "wrong.tar.gz"
    wrong.write_bytes(b"no archive")
    with pytest.raises(InputError, match="is no back-up of a hub"):
        restore(SiteConfig(name="Town"), tmp_path / "anew", wrong)
    with tarfile.open(wrong, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../evil"), io.BytesIO())
    with pytest.raises(InputError, match=r"holds '../evil', which no back-up does"):
        restore(SiteConfig(name="Town"), tmp_path / "anew", wrong)
    with pytest.raises(InputError, match=r"holds no bridge.sqlite; give the folder"):
        back_up(SiteConfig(name="Town"), tmp_path / "anew", tmp_path / "x.tar.gz")


def test_the_commands_say_what_they_did(tmp_path, capsys) -> None:
    from agls.example import example

    toml, out, kept = tmp_path / "site.toml", tmp_path / "hub", tmp_path / "kept.tar.gz"
    toml.write_text(example(SiteConfig, SiteConfig(name="Town")), "utf-8")
    out.mkdir()
    words = [str(toml), str(kept), "--out", str(out)]
    assert main(["hub", "upgrade", str(toml), "--out", str(out)]) == 0
    assert main(["hub", "backup", *words]) == 0
    assert main(["hub", "restore", *words]) == 2
    assert main(["hub", "restore", *words, "--force"]) == 0
    told = capsys.readouterr()
    assert "bridge.sqlite is there and would be overwritten; give --force" in told.err
    assert "Town, live, as of 20" in told.out
    assert "0 letters that may have been delivered since will not be sent" in told.out
