"""A node's memory on disk: one SQLite file that survives a loss of power.

    boot    the names under which detections were numbered, and each one's next number
    held    the detections that the hub has not acknowledged
    left    how much of which kind left the node, by hour (`agls sensor privacy-report`)
    known   small facts that a restart must not forget, such as how loud it is here by day

What is written is of two kinds. Numbers and detections are on the device when a call returns (``synchronous=FULL``: one
fsync). All else is handed to the operating system: a process that is killed loses none of it, a power cut perhaps the
last seconds. So a forgotten detection may come back after a power cut; it is sent again as what it was.

Names are not of a process but of a *boot of the machine*. Processes that end and begin again go on numbering where
the file says, so that a hub sees one unbroken row of numbers through a hundred crashes. After a power cut, where a
cheap card may have lost what it said it had written, a new name begins, and nothing can be numbered twice.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from agls.errors import InputError

MEMORY = ":memory:"
MACHINE_BOOT = Path("/proc/sys/kernel/random/boot_id")
HOUR_NS = 3600 * 1_000_000_000
KEPT_HOURS = 48  # of what left the node; the report tells 24
# Small, so that the log beside the file stays small too; it is written back into the file each 250 pages.
SETTINGS = (
    "PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA wal_autocheckpoint=250",
    "PRAGMA journal_size_limit=2000000", "PRAGMA cache_size=-512", "PRAGMA busy_timeout=2000",
)  # fmt: skip
TABLES = """
CREATE TABLE IF NOT EXISTS boot(
    number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, machine TEXT NOT NULL,
    next_seq INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS held(
    boot INTEGER NOT NULL, seq INTEGER NOT NULL, put_ns INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY(boot, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS left(
    hour INTEGER NOT NULL, kind TEXT NOT NULL, number INTEGER NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY(hour, kind)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

# A new file and its log take room for some thousand detections at once, for the day when others have filled the disk.
ROOM = """
CREATE TABLE room(filled BLOB); INSERT INTO room VALUES(zeroblob(3000000)); DROP TABLE room;
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A detection on disk.

    Attributes
    ----------
    boot_id : str
        Under which name it was numbered.
    seq : int
        Its number.
    put_ns : int
        When it was written, by the machine's clock that only goes forward; -1 where that clock began anew since.
    payload : bytes
        As it travels.
    """

    boot_id: str
    seq: int
    put_ns: int
    payload: bytes


def new_boot_id() -> str:
    """Name a row of numbers: when it began, and a little chance.

    Returns
    -------
    str
        Such as ``20261120T132721-9f3c61a2``; it sorts by time and is no secret.
    """
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.urandom(4).hex()}"


class Store:
    """Open a node's file, for one process at a time.

    Parameters
    ----------
    path : str
        The file, made where it is not there; `MEMORY` to keep nothing beyond the process.

    Attributes
    ----------
    damaged : bool
        Whether a file was found that is no such file any more; it is kept under another name, and a new one begun.
    full : bool
        Whether the disk has no room even to open the file: then this process keeps all in memory. What the file holds
        is sent by the next.

    Raises
    ------
    InputError
        If the file cannot be made or written, or another node has it open.
    """

    def __init__(self, path: str) -> None:
        self.damaged = self.full = False
        self._lock = _locked(path) if path != MEMORY else None
        self._machine = _machine()
        try:
            self._base = _opened(path)
        except sqlite3.DatabaseError as error:
            self.full = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
            self.damaged = not self.full and not isinstance(error, sqlite3.OperationalError)
            if not self.full and not self.damaged:
                raise _unusable(path, str(error)) from None
            if self.damaged:
                _set_aside(Path(path))
            self._base = _opened(MEMORY if self.full else path)
        self._numbers: dict[str, int] = dict(self._base.execute("SELECT name, number FROM boot"))

    def close(self) -> None:
        """Let the file go."""
        self._base.close()
        if self._lock:
            self._lock.close()

    # ---------------------------------------------------------------------------------------- numbers, detections

    def boot(self, boot_id: str = "") -> tuple[str, int]:
        """Say under which name to number, and where to go on.

        Parameters
        ----------
        boot_id : str, optional
            The name wanted; by default that of this boot of the machine, made up where there is none.

        Returns
        -------
        name : str
            The name; it is on the device.
        next_seq : int
            The first number that was never given out under it.

        Raises
        ------
        sqlite3.Error
            If the file cannot be written.
        """
        with self._writing():
            # Of the names long before, those that nothing is held under are of no more use.
            self._base.execute(
                "DELETE FROM boot WHERE machine != ? AND number NOT IN (SELECT boot FROM held)"
                " AND number < (SELECT MAX(number) FROM boot) - 100",
                (self._machine,),
            )
            which = "name = ?" if boot_id else "machine = ? ORDER BY number DESC LIMIT 1"
            query = f"SELECT name, next_seq FROM boot WHERE {which}"  # noqa: S608 - no text of others in it
            found = self._base.execute(query, (boot_id or self._machine,)).fetchone()
            if found:
                return str(found[0]), int(found[1])
            name = boot_id or new_boot_id()
            # A name asked for belongs to who asked: the next process of this boot must not take it up by itself.
            machine = f"named {boot_id}" if boot_id else self._machine
            added = self._base.execute("INSERT INTO boot(name, machine, next_seq) VALUES(?, ?, 0)", (name, machine))
            self._numbers[name] = int(added.lastrowid or 0)
        return name, 0

    def put(self, rows: Iterable[Kept], next_seq: int, gone: Iterable[tuple[str, int]] = ()) -> None:
        """Write detections and the numbers they have, all or nothing.

        Parameters
        ----------
        rows : iterable of Kept
            New ones, of one name that `boot` gave.
        next_seq : int
            One past the highest number given out.
        gone : iterable of tuple
            Name and number of what makes room for them.

        Raises
        ------
        sqlite3.Error
            If they cannot be written; nothing has changed then.
        """
        with self._writing():
            self._forget(gone)
            for row in rows:
                values = (self._numbers[row.boot_id], row.seq, row.put_ns, row.payload)
                self._base.execute("INSERT INTO held VALUES(?, ?, ?, ?)", values)
                self._issue(row.boot_id, next_seq)

    def held(self) -> Iterator[tuple[str, int, int, int]]:
        """Walk through what is held, in the order of writing.

        Yields
        ------
        tuple
            Name, number, when written (as in `Kept`), bytes.
        """
        query = (
            "SELECT name, seq, CASE WHEN machine = ? THEN put_ns ELSE -1 END, length(payload)"
            " FROM held JOIN boot ON boot = number ORDER BY boot, seq"
        )
        yield from self._base.execute(query, (self._machine,))

    def payload(self, boot_id: str, seq: int) -> bytes:
        """Read one of them.

        Parameters
        ----------
        boot_id : str
            Its name.
        seq : int
            Its number.

        Returns
        -------
        bytes
            As it travels; nothing where the file cannot be read.
        """
        query = "SELECT payload FROM held WHERE boot = ? AND seq = ?"
        try:
            found = self._base.execute(query, (self._numbers[boot_id], seq)).fetchone()
        except sqlite3.Error:
            return b""
        return bytes(found[0]) if found else b""

    def forget(self, gone: Iterable[tuple[str, int]]) -> None:
        """Take out what need not be kept any more, without waiting for the device.

        Parameters
        ----------
        gone : iterable of tuple
            Names and numbers.

        Raises
        ------
        sqlite3.Error
            If the file cannot be written.
        """
        with self._writing(durable=False):
            self._forget(gone)

    # ---------------------------------------------------------------------------------------- what left, what is known

    def note_left(self, kind: str, number: int, size_bytes: int, now_ns: int) -> None:
        """Note what left the node.

        Parameters
        ----------
        kind : str
            Such as ``detection``.
        number : int
            How many.
        size_bytes : int
            How much in all.
        now_ns : int
            UTC.

        Raises
        ------
        sqlite3.Error
            If the file cannot be written.
        """
        hour = now_ns // HOUR_NS
        with self._writing(durable=False):
            self._base.execute(
                "INSERT INTO left VALUES(?, ?, ?, ?) ON CONFLICT(hour, kind) DO UPDATE"
                " SET number = number + excluded.number, bytes = bytes + excluded.bytes",
                (hour, kind, number, size_bytes),
            )
            self._base.execute("DELETE FROM left WHERE hour < ?", (hour - KEPT_HOURS,))

    def know(self, name: str, value: str) -> None:
        """Remember a fact over restarts.

        Parameters
        ----------
        name : str
            What it is.
        value : str
            What it says; replaces what was known.

        Raises
        ------
        sqlite3.Error
            If the file cannot be written.
        """
        with self._writing(durable=False):
            self._base.execute("INSERT OR REPLACE INTO known VALUES(?, ?)", (name, value))

    def known(self, name: str) -> str:
        """Say what was remembered.

        Parameters
        ----------
        name : str
            What.

        Returns
        -------
        str
            What it says; empty where nothing is known.
        """
        found = self._base.execute("SELECT value FROM known WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else ""

    # ---------------------------------------------------------------------------------------- inside

    @contextmanager
    def _writing(self, *, durable: bool = True) -> Iterator[None]:
        """Do several things or none."""
        self._base.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._base.execute("COMMIT")
        except sqlite3.Error:
            self._tidy()
            raise
        finally:
            if self._base.in_transaction:
                self._base.execute("ROLLBACK")

    def _tidy(self) -> None:
        """Where there is no room, write the log back into the file, to begin it anew; its own room it keeps."""
        with suppress(sqlite3.Error):
            if self._base.in_transaction:
                self._base.execute("ROLLBACK")
            self._base.execute("PRAGMA wal_checkpoint(RESTART)")

    def _issue(self, boot_id: str, next_seq: int) -> None:
        known = (next_seq, self._numbers[boot_id], next_seq)
        self._base.execute("UPDATE boot SET next_seq = ? WHERE number = ? AND next_seq < ?", known)

    def _forget(self, gone: Iterable[tuple[str, int]]) -> None:
        rows = [(self._numbers[boot_id], seq) for boot_id, seq in gone]
        self._base.executemany("DELETE FROM held WHERE boot = ? AND seq = ?", rows)


def read_known(path: Path, name: str) -> str:
    """Read what a node remembers, while it runs or not.

    Parameters
    ----------
    path : pathlib.Path
        The node's file.
    name : str
        What.

    Returns
    -------
    str
        As `Store.known`; empty too where there is no such file, or it cannot be read.
    """
    if not path.is_file():
        return ""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as base:
            found = base.execute("SELECT value FROM known WHERE name = ?", (name,)).fetchone()
    except sqlite3.Error:
        return ""
    return str(found[0]) if found else ""


def read_left(path: Path, since_ns: int) -> list[tuple[str, int, int]]:
    """Read what left a node, while it runs or not.

    Parameters
    ----------
    path : pathlib.Path
        The node's file.
    since_ns : int
        From when on, UTC; whole hours. Hours that lie ahead (the clock was set back) count too.

    Returns
    -------
    list of tuple
        Kind, number and bytes.

    Raises
    ------
    InputError
        If it is not such a file.
    """
    if not path.is_file():
        raise InputError(f"{path}: is not there; give a node file whose outbox_file names the outbox of a node")
    query = "SELECT kind, SUM(number), SUM(bytes) FROM left WHERE hour >= ? GROUP BY kind ORDER BY kind"
    try:
        base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            return [
                (str(kind), int(count), int(size)) for kind, count, size in base.execute(query, (since_ns // HOUR_NS,))
            ]
        finally:
            base.close()
    except sqlite3.Error as error:
        raise InputError(f"{path}: cannot be read as the outbox of a node ({error})") from None


def _opened(path: str) -> sqlite3.Connection:
    base = sqlite3.connect(path, isolation_level=None)
    try:
        for sentence in SETTINGS:
            base.execute(sentence)
        is_new = not list(base.execute("SELECT 1 FROM sqlite_master"))
        base.executescript(TABLES)
        if is_new and path != MEMORY:
            base.executescript(ROOM)
        list(base.execute("SELECT COUNT(*) FROM held"))
    except sqlite3.Error:
        base.close()
        raise
    return base


def _locked(path: str) -> IO[bytes]:
    """Keep others out; the system lets go of it however the process ends."""
    if Path(path).exists() and not Path(path).is_file():
        raise _unusable(path, "it is there and no file")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        lock = Path(f"{path}.lock").open("ab")  # noqa: SIM115 - held as long as the store
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise InputError(f"outbox {path} is in use by another node: give each node its own outbox_file") from None
    return lock


def _unusable(path: str, why: str) -> InputError:
    return InputError(f"outbox {path} cannot be written ({why}); name a file in a folder of the node's user")


def _set_aside(path: Path) -> None:
    """Keep a damaged file, with the log beside it, under another name."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for end in ("-wal", "-shm", ""):
        beside = path.with_name(path.name + end)
        if beside.exists():
            beside.replace(aside.with_name(aside.name + end))


def _machine() -> str:
    """Name this boot of the machine; where the system does not say, each process is one."""
    try:
        return MACHINE_BOOT.read_text("ascii").strip()
    except OSError:
        return os.urandom(16).hex()
