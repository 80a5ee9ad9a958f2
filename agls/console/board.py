"""The latest word on every shot, incident, call and camera, for pages to show: fed by one thread, read by others."""

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from msgspec.structs import replace

from agls.messages import CadEvent, Incident, Outbound, Shot, SlewRequest, encode

# A page is for what happens now; the files of the hub hold the rest.
LIMITS_COUNT = {Shot: 500, Incident: 200, CadEvent: 200, SlewRequest: 500}


@dataclass(frozen=True, slots=True)
class Changes:
    """What a page must hear.

    Attributes
    ----------
    cursor : str
        Where to go on from.
    whole : bool
        Whether this is everything, to replace what the page knew.
    feed : str
        ``live``, or ``lost`` where the board itself hears nothing at present.
    records : tuple of bytes
        Records as JSON, oldest change first.
    """

    cursor: str
    whole: bool
    feed: str
    records: tuple[bytes, ...]


class Board:
    """Keep the latest records; any thread may call any method."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(4)  # cursors of another board, before a restart, mean nothing here
        self._lock = threading.Lock()
        self._version = 0
        self._latest: dict[tuple[type, str], tuple[int, Outbound]] = {}
        self._feed = "live"
        self._watchers: dict[int, Callable[[], None]] = {}

    def on_outbound(self, record: Outbound) -> None:
        """Take in what the hub said; what is older than what is known, and refusals, are left out.

        Parameters
        ----------
        record : Outbound
            A shot, incident, CAD event, slew request or rejection.
        """
        limit_count = LIMITS_COUNT.get(type(record))
        if limit_count is None:
            return
        if isinstance(record, Shot):
            record = replace(record, arrivals=())  # many bytes, and the page draws none of them
        key = (type(record), _name(record))
        with self._lock:
            known = self._latest.pop(key, None)
            if known is not None and _order(known[1]) > _order(record):
                record = known[1]
            self._version += 1
            self._latest[key] = (self._version, record)
            same = [other for other in self._latest if other[0] is key[0]]
            for other in same[: max(0, len(same) - limit_count)]:
                del self._latest[other]
        self.wake()

    def set_feed(self, live: bool) -> None:
        """Say whether records can arrive at all.

        Parameters
        ----------
        live : bool
            False while the broker is away.
        """
        feed = "live" if live else "lost"
        with self._lock:
            if feed == self._feed:
                return
            self._feed = feed
            self._version += 1
        self.wake()

    def changes(self, cursor: str) -> Changes:
        """List what changed.

        Parameters
        ----------
        cursor : str
            Of the last answer; empty or unknown for everything.

        Returns
        -------
        Changes
            Each record once, in its latest form.
        """
        run, _, version = cursor.partition("-")
        whole = run != self._run or not version.isdecimal() or len(version) > 18
        after = 0 if whole else int(version)
        with self._lock:
            new = [(version, record) for version, record in self._latest.values() if version > after]
            here, feed = f"{self._run}-{self._version}", self._feed
        return Changes(here, whole, feed, tuple(encode(record) for _, record in sorted(new, key=lambda pair: pair[0])))

    @contextmanager
    def watched(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call a function after every change, from the thread that made it.

        Parameters
        ----------
        wake : callable
            Must return at once.

        Yields
        ------
        None
            Until the context ends.
        """
        with self._lock:
            self._watchers[id(wake)] = wake
        try:
            yield
        finally:
            with self._lock:
                del self._watchers[id(wake)]

    def wake(self) -> None:
        """Make every watcher look again."""
        with self._lock:
            for wake in self._watchers.values():
                wake()


def _name(record: Outbound) -> str:
    match record:
        case Shot():
            return record.shot_id
        case SlewRequest():
            return record.camera_id
        case Incident() | CadEvent():
            return record.incident
    return ""


def _order(record: Outbound) -> int:
    """Tell the older of two records of one name: a broker may deliver twice, and late."""
    match record:
        case SlewRequest():
            return record.issued_ns
        case Shot() | Incident() | CadEvent():
            return record.revision
    return 0
