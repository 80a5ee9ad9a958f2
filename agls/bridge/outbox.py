"""Deliver what the store has queued: one courier for each subscriber, so that none waits for another.

A courier takes the next letter (`agls.bridge.store.queue`), says it, and notes what became of it. A crash in between
says it again, under the same key. What can go wrong has a name:

    delivered       the subscriber has it
    refused         it will never take it: a dead letter
    troubled        it answered, but not this time: its incident steps aside for a growing pause, others go on
    away            it is not there: the courier waits for a growing pause, with jitter
    too_late        undelivered for longer than `max_delay_s`: a dead letter
    unwritable      its format has no way to say it: a dead letter, and a fault of ours
    store_away      the store cannot be reached: nothing is taken, nothing is lost
    over_budget     a stage from the muzzle to dispatch's answer took longer than the site allows, by the stage's name
"""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import msgspec
import sqlalchemy as sa

from agls.bridge.record import IncidentRecord
from agls.bridge.sender import Answer, Sender, open_sender
from agls.bridge.stages import overruns
from agls.bridge.store import queue
from agls.bridge.store.book import Book
from agls.bridge.store.opening import begin_reading
from agls.bridge.store.writing import stages_of
from agls.config import Subscriber
from agls.errors import InputError
from agls.messages import NS_PER_S, UtcNs

LOOK_S = 0.5  # for letters that another process has queued
JOIN_S = 12.0
DRAIN_S = 5.0

_log = logging.getLogger(__name__)
_chance = random.SystemRandom()


class Courier:
    """Tell one subscriber, letter by letter.

    Parameters
    ----------
    book : Book
        With the store.
    subscriber : Subscriber
        Who.
    sender : Sender
        The way.
    document : callable
        From a record to bytes in its format.
    """

    def __init__(
        self, book: Book, subscriber: Subscriber, sender: Sender, document: Callable[[IncidentRecord], bytes]
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._book = book
        self._subscriber = subscriber
        self._sender = sender
        self._document = document
        self._away_count = 0
        self._paused_until_ns = 0

    def turn(self, now_ns: int) -> int:
        """Deliver one letter, if one is due.

        Parameters
        ----------
        now_ns : int
            UTC.

        Returns
        -------
        int
            When to come again, UTC: at once, after a pause, or when something put off is due; 0 where nothing waits.
        """
        try:
            return self._turn(now_ns)
        except sa.exc.DBAPIError as error:
            self._count("store_away", f"the store: {type(error.orig).__name__}")
            return now_ns + NS_PER_S // 2

    def is_behind(self, now_ns: int) -> bool:
        """Tell whether a letter is due that could be delivered now.

        Parameters
        ----------
        now_ns : int
            UTC.

        Returns
        -------
        bool
            False where nothing is due, the subscriber is away, or the store is.
        """
        if now_ns < self._paused_until_ns:
            return False
        try:
            with begin_reading(self._book.engine) as db:
                return queue.next_letter(db, self._subscriber.subscriber_id, now_ns) is not None
        except sa.exc.DBAPIError:
            return False

    def _turn(self, now_ns: int) -> int:
        name, engine = self._subscriber.subscriber_id, self._book.engine
        with begin_reading(engine) as db:
            letter = queue.next_letter(db, name, now_ns)
            if letter is None:
                return queue.next_due_ns(db, name) or 0
            if letter.until_ns >= now_ns:
                record = self._book.timed(db, queue.revision_of(db, letter))
        if letter.until_ns < now_ns:
            with engine.begin() as db:
                self.counts["too_late"] += queue.retire_late(db, name, now_ns)
            return now_ns
        if now_ns < self._paused_until_ns:
            return self._paused_until_ns
        return self._say(letter, record, now_ns)

    def _say(self, letter: queue.Letter, record: IncidentRecord, now_ns: int) -> int:
        try:
            document = self._document(msgspec.structs.replace(record, telling=letter.telling))
        except Exception as error:  # noqa: BLE001 - one record that a format cannot say must not silence the rest
            _log.exception("%s: %s cannot be written", self._subscriber.subscriber_id, letter.key)
            answer = Answer("refused", f"unwritable: {type(error).__name__}")
        else:
            answer = self._sender.send(document, letter.key)
        return self._note(letter, answer, now_ns)

    def _note(self, letter: queue.Letter, answer: Answer, now_ns: int) -> int:
        """Note what became of a letter; say when to come again."""
        self._away_count = self._away_count + 1 if answer.outcome == "away" else 0
        if answer.outcome == "sent":
            self._delivered(letter, answer, now_ns)
            return now_ns
        name = answer.said if answer.outcome == "refused" else answer.outcome
        self._count("unwritable" if name.startswith("unwritable") else answer.outcome, name)
        with self._book.engine.begin() as db:
            if answer.outcome == "refused":
                queue.retire(db, [letter], answer.said, now_ns)
                return now_ns
            tries = self._away_count if answer.outcome == "away" else letter.tries + 1
            again_ns = now_ns + self._pause_ns(tries)
            queue.put_off(db, letter, again_ns if answer.outcome == "troubled" else 0, answer.said)
        if answer.outcome == "away":
            self._paused_until_ns = again_ns
            return again_ns
        return now_ns

    def _delivered(self, letter: queue.Letter, answer: Answer, now_ns: int) -> None:
        done_ns = max(now_ns, time.time_ns()) if answer.sent_ns else now_ns
        said = f"{answer.said} {answer.call_number}".strip()
        is_dispatch = self._subscriber.told == "paced"
        with self._book.engine.begin() as db:
            queue.delivered(db, letter, said, answer.sent_ns or now_ns, done_ns, is_dispatch=is_dispatch)
        self.counts["delivered"] += 1
        if is_dispatch and letter.telling == "open":
            self._say_overruns(letter)
        if answer.call_number:
            self._acknowledge(letter, answer.call_number, done_ns)

    def _say_overruns(self, letter: queue.Letter) -> None:
        """Say which stages took longer than the site allows, from the muzzle to this answer."""
        with begin_reading(self._book.engine) as db:
            late = overruns(stages_of(db, letter.incident), self._book.site.budget)
        for over in late:
            self.counts[f"over_budget.{over.stage}"] += 1
            _log.warning("%s: %s took %.3f s, at most %g s", letter.key, over.stage, over.taken_s, over.budget_s)

    def _acknowledge(self, letter: queue.Letter, call_number: str, now_ns: int) -> None:
        from agls.bridge.people import acknowledge

        try:
            acknowledge(self._book, letter.incident, self._subscriber.subscriber_id, call_number, now_ns=UtcNs(now_ns))
        except InputError as refusal:  # such as one that was purged meanwhile
            self._count("not_acknowledged", str(refusal))

    def _pause_ns(self, tries: int) -> int:
        longest_s = self._subscriber.retry_last_s
        pause_s = min(longest_s, self._subscriber.retry_first_s * 2.0 ** min(tries - 1, 30))
        return round(pause_s * _chance.uniform(0.5, 1.5) * NS_PER_S)

    def _count(self, name: str, why: str) -> None:
        """Count what went wrong, and tell it where it is new."""
        if not self.counts[name]:
            _log.warning("%s: %s (%s)", self._subscriber.subscriber_id, name, why)
        self.counts[name] += 1


class Outbox:
    """Let every subscriber of a book have its courier, each in a thread of its own.

    Parameters
    ----------
    book : Book
        With store and subscribers.

    Raises
    ------
    InputError
        If a subscriber cannot be reached as its table says.
    """

    def __init__(self, book: Book) -> None:
        self._ways = [(one, *open_sender(one)) for one in book.subscribers]
        self._couriers = {one.subscriber_id: Courier(book, one, sender, text) for one, sender, text in self._ways}
        self._news = {name: threading.Event() for name in self._couriers}
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(name,), name=f"courier-{name}", daemon=True)
            for name in self._couriers
        ]

    def start(self) -> None:
        """Begin to deliver, in the background."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Say that something new is queued."""
        for news in self._news.values():
            news.set()

    def close(self, drain_s: float = DRAIN_S) -> None:
        """Stop, after giving what is due a while to leave; the rest waits in the store for the next start.

        Parameters
        ----------
        drain_s : float, optional
            How long to wait [s].
        """
        self.wake()
        until_s = time.monotonic() + drain_s
        while time.monotonic() < until_s and any(one.is_behind(time.time_ns()) for one in self._couriers.values()):
            time.sleep(0.02)
        self._stopping.set()
        self.wake()
        for thread in self._threads:
            thread.join(JOIN_S)
        for _, sender, _ in self._ways:
            sender.close()

    @property
    def counts(self) -> Counter[str]:
        """Count what became of letters.

        Returns
        -------
        collections.Counter
            ``<subscriber>.<name>`` to number, names as in this module's docstring.
        """
        each = {name: Counter(courier.counts) for name, courier in self._couriers.items()}
        return Counter({f"{name}.{what}": number for name, counts in each.items() for what, number in counts.items()})

    def _run(self, name: str) -> None:
        courier, news = self._couriers[name], self._news[name]
        while not self._stopping.is_set():
            news.clear()
            now_ns = time.time_ns()
            try:
                again_ns = courier.turn(now_ns)
            except Exception:  # noqa: BLE001 - a courier that dies silently is worse than any fault of one letter
                courier.counts["internal_error"] += 1
                _log.exception("%s: could not take a turn", name)
                again_ns = now_ns + NS_PER_S
            if again_ns != now_ns:
                wait_s = LOOK_S if not again_ns else min(LOOK_S, max(0.0, (again_ns - time.time_ns()) / NS_PER_S))
                news.wait(wait_s)
