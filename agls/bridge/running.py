"""Run the bridge beside a hub: enter what the hub says, let couriers deliver it, and keep the store small.

The hub hands over what it said and goes on: neither a store that is away nor a subscriber that is dead makes it wait.
What was handed over waits in memory until the store has taken it; a crash loses nothing, because the hub's journal
holds it from `entered_ns` on.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import sqlalchemy as sa

from agls.bridge.outbox import Outbox
from agls.bridge.places import load_places
from agls.bridge.retention import purge
from agls.bridge.store.book import Batch, Book
from agls.bridge.store.opening import is_away, open_store
from agls.config import SiteConfig
from agls.messages import CadEvent, Incident, Outbound, Shot, SlewRequest

AT_ONCE_COUNT = 200  # batches in one transaction: what came while the one before was written
WAITING_LIMIT_COUNT = 50_000  # batches in memory while the store is away; beyond it only last revisions are kept
PAUSE_FIRST_S, PAUSE_LAST_S = 0.1, 5.0
UPKEEP_S = 60.0
DRAIN_S = 10.0
START_S = 30.0  # for a database that starts beside the hub

_log = logging.getLogger(__name__)


class Bridge:
    """The bridge of one hub; a context manager that runs it.

    Parameters
    ----------
    site : SiteConfig
        The site; its realm decides the store and who is told.
    folder : pathlib.Path
        The hub's folder; where the store is if it is a file.

    Raises
    ------
    InputError
        If store, files of places or subscribers cannot be used.
    """

    def __init__(self, site: SiteConfig, folder: Path) -> None:
        places = load_places(site.policy)
        self.book = Book(open_store(site.store, folder, site.mqtt.realm, wait_s=START_S), site, places)
        self._outbox = Outbox(self.book)
        self._counts: Counter[str] = Counter()
        self._waiting: deque[Batch] = deque()
        self._changed = threading.Condition()  # guards the two above and what follows
        self._busy = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bridge", daemon=True)
        self._upkeep_s = time.monotonic()

    def __enter__(self) -> Self:
        """Begin to enter and to deliver."""
        self._thread.start()
        self._outbox.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop: enter what was handed over, for a while; what is queued is delivered at the next start."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._busy, DRAIN_S)
            self._stopping.set()
            self._counts["abandoned"] += len(self._waiting)
            self._changed.notify_all()
        self._thread.join()
        self._outbox.close()
        self.book.engine.dispose()

    def tell(self, batch: Batch) -> None:
        """Hand over what the hub said; returns at once.

        Parameters
        ----------
        batch : Batch
            What it said at one moment; rejections are left out.
        """
        items = tuple(item for item in batch.items if isinstance(item, Shot | Incident | CadEvent | SlewRequest))
        if not items:
            return
        with self._changed:
            self._waiting.append(Batch(items, batch.due_ns, batch.located_ns, batch.received_ns))
            if len(self._waiting) > WAITING_LIMIT_COUNT:
                self._waiting = deque(latest(self._waiting))
                self._counts["condensed"] += 1
            self._changed.notify_all()

    @property
    def counts(self) -> Counter[str]:
        """Count what was entered and delivered.

        Returns
        -------
        collections.Counter
            ``entered``, ``store_away``, ``not_entered``, ``condensed``, ``abandoned``, ``closed``, ``purged``; and
            those of each subscriber (`Outbox.counts`).
        """
        with self._changed:
            return self._counts + self._outbox.counts

    def _run(self) -> None:
        pause_s = PAUSE_FIRST_S
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping.is_set(), UPKEEP_S)
                if self._stopping.is_set():
                    return
                batches = [self._waiting[number] for number in range(min(len(self._waiting), AT_ONCE_COUNT))]
                self._busy = True
            done_count = self._enter(batches)
            with self._changed:
                for _ in range(done_count):
                    self._waiting.popleft()
                self._busy = False
                self._changed.notify_all()
            if done_count == len(batches):
                pause_s = PAUSE_FIRST_S
                self._upkeep()
            else:
                self._stopping.wait(pause_s)
                pause_s = min(2 * pause_s, PAUSE_LAST_S)

    def _enter(self, batches: Sequence[Batch]) -> int:
        """Enter batches; how many need not be tried again. One that the store refuses must not keep out the rest."""
        if not batches:
            return 0
        try:
            self.book.enter(batches, time.time_ns())
        except sa.exc.DBAPIError as error:
            if is_away(error):
                self._note("store_away", f"the store cannot be reached ({type(error.orig).__name__}); trying on")
                return 0
            return self._enter_singly(batches)
        except Exception:  # noqa: BLE001 - as in `agls.desk`: what cannot be entered must not stop what can
            return self._enter_singly(batches)
        self._count("entered", len(batches))
        self._outbox.wake()
        return len(batches)

    def _enter_singly(self, batches: Sequence[Batch]) -> int:
        if len(batches) == 1:
            _log.exception("the store refused what the hub said")
            self._count("not_entered")
            return 1
        done = 0
        for batch in batches:
            if not self._enter([batch]):
                return done
            done += 1
        return done

    def _upkeep(self) -> None:
        if time.monotonic() - self._upkeep_s < UPKEEP_S:
            return
        self._upkeep_s = time.monotonic()
        try:
            self._count("closed", self.book.close_due(time.time_ns()))
            self._count("purged", purge(self.book, time.time_ns()).total())
        except sa.exc.DBAPIError as error:
            self._note("upkeep_failed", f"the store could not be kept small: {type(error.orig).__name__}")

    def _count(self, name: str, number: int = 1) -> None:
        with self._changed:
            self._counts[name] += number

    def _note(self, name: str, sentence: str) -> None:
        if not self._counts[name]:
            _log.warning("%s", sentence)
        self._count(name)


def latest(batches: Sequence[Batch] | deque[Batch]) -> list[Batch]:
    """Keep of each shot, incident and call only what was said last, where memory would run out otherwise.

    Parameters
    ----------
    batches : sequence of Batch
        In order.

    Returns
    -------
    list of Batch
        In order, without what a later one replaces.
    """
    last: dict[tuple[type, str], int] = {}
    for number, batch in enumerate(batches):
        last.update({_key(item): number for item in batch.items})
    kept = []
    for number, batch in enumerate(batches):
        items = tuple(item for item in batch.items if last[_key(item)] == number)
        if items:
            kept.append(Batch(items, batch.due_ns, batch.located_ns, batch.received_ns))
    return kept


def _key(item: Outbound) -> tuple[type, str]:
    return type(item), item.shot_id if isinstance(item, Shot) else getattr(item, "incident", "")
