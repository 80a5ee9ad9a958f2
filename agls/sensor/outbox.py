"""Keep detections until the hub has them, and decide when to send one (again).

A broker may lose what it has acknowledged, so the node forgets a final detection on the hub's `Ack` alone. Each one
held is due or sent:

    put            -> due
    found in the file at the start -> due
    due    take    -> sent
    sent   `Ack` covers it                          -> forgotten
    sent   `Ack` names it missing                   -> due
    sent   the broker forgot our session (`resend`) -> due
    sent   among the oldest, no `Ack` for a while   -> due
    due or sent, and the oldest of too many         -> dropped, counted ``dropped_late`` or ``dropped``

Only the oldest few are sent again by time alone, less and less often: if the hub is away, a broker that still holds
everything must not receive it all over and over; if the hub is there, its next `Ack` says what else is missing.

A detection gets its number here, and is on disk (`agls.sensor.store`) before anybody is told of it. So whenever the
process ends, what was told can be told again, and no number ever means two sounds. Where the disk takes nothing more,
detections are held in memory (counted ``not_on_disk``) under a name that ends with the process, until it does again.

No wall clock is read: neither order nor age depends on one that may be set back.
"""

import sqlite3
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, takewhile

import msgspec

from agls.errors import MessageError
from agls.messages import NS_PER_S, Ack, Detection, decode, encode
from agls.sensor.store import Kept, Store, new_boot_id

RESEND_NS = 5 * NS_PER_S
RESEND_MAX_NS = 300 * NS_PER_S
PROBE_COUNT = 20
# A hub opens nothing for a shot this old (config.Gathering.late_s); a detection says so itself in case clocks differ.
LATE_NS = 120 * NS_PER_S
# What a pole says of one impulse is never longer (agls.sensor.privacy).
MAX_DETECTION_BYTES = 1_024
WRITE_AGAIN_NS = 5 * NS_PER_S
WRITE_AGAIN_COUNT = 200
EARLY_COUNT = 100  # preliminaries whose finals are awaited

Key = tuple[str, int]


@dataclass(slots=True)
class _Held:
    """A detection in the outbox.

    Attributes
    ----------
    put_ns : int
        When it came; -1 where nobody knows any more, for it is from before the machine's last start.
    size_bytes : int
        Its length.
    sent_ns : int
        When it was last sent; -1 for never.
    """

    put_ns: int
    size_bytes: int
    sent_ns: int = -1


class Outbox:
    """The final detections of a node that the hub has not acknowledged.

    Times are the machine's clock that only goes forward, in nanoseconds.

    Parameters
    ----------
    store : Store
        Where they are kept.
    limit_count : int
        Detections held; when there are more the oldest is dropped.
    limit_bytes : int, optional
        The same for what they amount to [bytes].
    boot_id : str, optional
        Under which name to number; by default that of this boot of the machine.
    resend_ns : int, optional
        Wait for an `Ack` before the oldest are sent again; doubles with each silence.

    Attributes
    ----------
    boot_id : str
        Under which name new detections are numbered.
    next_seq : int
        The number of the next one.
    counts : collections.Counter
        What befell them, by name: ``dropped``, ``dropped_late`` (for want of room), ``not_on_disk``, ``too_long``,
        ``ack_other_boot``, ``file_damaged``, ``file_full``, ``unreadable``.
    """

    def __init__(
        self,
        store: Store,
        limit_count: int,
        limit_bytes: int = 50_000_000,
        boot_id: str = "",
        resend_ns: int = RESEND_NS,
    ) -> None:
        self._store = store
        self._limit_count, self._limit_bytes = limit_count, limit_bytes
        self._first_wait_ns = self._wait_ns = resend_ns
        # Ordered: what is held by name and number, what is due by when it became due. Mostly shortened at the front.
        self._held: OrderedDict[str, OrderedDict[int, _Held]] = OrderedDict()
        self._due: OrderedDict[Key, None] = OrderedDict()
        self._unwritten: OrderedDict[Key, bytes] = OrderedDict()  # what the disk would not take
        self._early: OrderedDict[int, Key] = OrderedDict()  # identities of preliminaries, by the pipeline's number
        self._count = self._bytes = 0
        self._written_ns = 0  # when the disk was last tried
        self.counts: Counter[str] = Counter(file_damaged=int(store.damaged), file_full=int(store.full))
        self._is_volatile = False  # whether our name would be forgotten with the process
        try:
            self.boot_id, self.next_seq = store.boot(boot_id)
        except sqlite3.Error:
            self._rename()
        for boot, seq, put_ns, size_bytes in store.held():
            self._keep((boot, seq), _Held(put_ns, size_bytes))

    def __len__(self) -> int:
        """Count what is held.

        Returns
        -------
        int
            Number of detections.
        """
        return self._count

    @property
    def oldest_seq(self) -> int:
        """Name the oldest detection of our name that can still be sent; the hub need not ask for any before.

        Returns
        -------
        int
            Its `seq`; where nothing is held, that of the next to come.
        """
        return min(self._held.get(self.boot_id, ()), default=self.next_seq)

    @property
    def unwritten_count(self) -> int:
        """Count what is held in memory alone, as the disk would not take it.

        Returns
        -------
        int
            Number of detections.
        """
        return len(self._unwritten)

    def earlier(self) -> list[tuple[str, int, int]]:
        """List the earlier names under which something is held.

        Returns
        -------
        list of tuple
            The name, its oldest number held, and one past its highest.
        """
        return [(boot, min(held), max(held) + 1) for boot, held in self._held.items() if boot != self.boot_id]

    def pending(self) -> list[Detection]:
        """List what the hub has not acknowledged.

        Returns
        -------
        list of Detection
            In the order in which they came.
        """
        return [found for boot, held in self._held.items() for seq in held for found in self._read((boot, seq))]

    # ---------------------------------------------------------------------------------------------------- coming in

    def number(self, detection: Detection) -> Detection:
        """Give a preliminary detection the number that its final one will have.

        The number is not on disk yet: a write for each would cost half of what early notice gains. If the process ends
        before the final one is put, the next process may give the number to another sound, whose final then takes the
        place of this preliminary wherever it went: what is told early is never more than that.

        Parameters
        ----------
        detection : Detection
            As the pipeline numbered it, from 0 in each process.

        Returns
        -------
        Detection
            The same, with the identity that it has for others.
        """
        boot_id, seq = self._next()
        self.next_seq = seq + 1
        self._early[detection.seq] = (boot_id, seq)
        if len(self._early) > EARLY_COUNT:
            self._early.popitem(last=False)
        return msgspec.structs.replace(detection, boot_id=boot_id, seq=seq)

    def put(self, detection: Detection, now_ns: int) -> Detection:
        """Take in a new detection: it is on disk, and due at once.

        Parameters
        ----------
        detection : Detection
            A final one, as the pipeline numbered it, from 0 in each process.
        now_ns : int
            The time.

        Returns
        -------
        Detection
            The same, with the identity that it has for others.

        Raises
        ------
        ValueError
            If it is preliminary: nobody acknowledges those.
        """
        if detection.stage != "final":
            raise ValueError(f"detection {detection.seq} is {detection.stage}; finals are taken")
        key = self._early.pop(detection.seq, self._next())
        if key[0] != self.boot_id:  # told early under a name that the disk has refused since
            key = self._next()
        payload = _named(detection, key)
        if len(payload) > MAX_DETECTION_BYTES:
            self.counts["too_long"] += 1
            return detection
        self._make_room(len(payload), now_ns)
        if self._is_volatile or not self._is_written(key, now_ns, payload):
            if not self._is_volatile:
                self._rename()
                key = self._next()
            payload = self._unwritten[key] = _named(detection, key)
            self.counts["not_on_disk"] += 1
        self.next_seq = self._past(key)
        self._keep(key, _Held(now_ns, len(payload)))
        return msgspec.structs.replace(detection, boot_id=key[0], seq=key[1])

    def _is_written(self, key: Key, now_ns: int, payload: bytes) -> bool:
        try:
            self._store.put([Kept(*key, now_ns, payload)], self._past(key))
        except sqlite3.Error:
            return False
        return True

    def _past(self, key: Key) -> int:
        """Say where numbering under our name goes on once a key is given out."""
        return max(self.next_seq, key[1] + 1) if key[0] == self.boot_id else self.next_seq

    def _next(self) -> Key:
        return self.boot_id, self.next_seq

    def _rename(self) -> None:
        """Number under a name that no file knows, so that none can give it out again."""
        self.boot_id, self.next_seq = new_boot_id(), 0
        self._is_volatile = True

    def _keep(self, key: Key, held: _Held) -> None:
        self._held.setdefault(key[0], OrderedDict())[key[1]] = held
        self._due[key] = None
        self._count += 1
        self._bytes += held.size_bytes

    def _make_room(self, size_bytes: int, now_ns: int) -> None:
        """Drop the oldest, which is also the latest, until one more has room."""
        gone: list[Key] = []
        while self._count and (self._count >= self._limit_count or self._bytes + size_bytes > self._limit_bytes):
            boot = next(iter(self._held))
            key = (boot, next(iter(self._held[boot])))
            held = self._remove(key)
            self.counts["dropped_late" if _is_late(held, now_ns) else "dropped"] += 1
            gone.append(key)
        self._forget(gone)

    def _remove(self, key: Key) -> _Held:
        held = self._held[key[0]].pop(key[1])
        if not self._held[key[0]]:
            del self._held[key[0]]
        self._due.pop(key, None)
        self._count -= 1
        self._bytes -= held.size_bytes
        return held

    def _forget(self, gone: list[Key]) -> None:
        """Take them out of the file; those that stay there for now are only sent again by the next process."""
        written = [key for key in gone if self._unwritten.pop(key, None) is None]
        if written:
            try:
                self._store.forget(written)
            except sqlite3.Error:
                self.counts["not_forgotten"] += len(written)

    # ---------------------------------------------------------------------------------------------------- going out

    def take(self, now_ns: int, room_count: int) -> list[Detection]:
        """Take what is to be sent now; it counts as sent.

        Parameters
        ----------
        now_ns : int
            The time.
        room_count : int
            How many the caller can send.

        Returns
        -------
        list of Detection
            At most `room_count`; marked ``late`` where they have waited long, or longer than anybody knows.
        """
        self._write_again(now_ns)
        self._probe(now_ns)
        out: list[Detection] = []
        while self._due and len(out) < room_count:
            key = self._due.popitem(last=False)[0]
            held = self._held[key[0]][key[1]]
            held.sent_ns = now_ns
            late = _is_late(held, now_ns)
            out += [msgspec.structs.replace(found, late=found.late or late) for found in self._read(key)]
        return out

    def _read(self, key: Key) -> Iterator[Detection]:
        """Read what is held under a key: one detection, or none where the file has become unreadable."""
        try:
            yield decode(self._unwritten.get(key) or self._store.payload(*key), Detection)
        except MessageError:
            self.counts["unreadable"] += 1

    def _write_again(self, now_ns: int) -> None:
        """Now and then see whether the disk takes again what it would not; not all at once, for sound goes on."""
        if not self._unwritten or now_ns - self._written_ns < WRITE_AGAIN_NS:
            return
        boot_id = next(iter(self._unwritten))[0]
        some = [key for key in islice(self._unwritten, WRITE_AGAIN_COUNT) if key[0] == boot_id]
        rows = [Kept(*key, self._held[boot_id][key[1]].put_ns, self._unwritten[key]) for key in some]
        try:
            self._store.boot(boot_id)
            self._store.put(rows, self.next_seq if boot_id == self.boot_id else some[-1][1] + 1)
        except sqlite3.Error:
            self._written_ns = now_ns
            return
        for key in some:
            del self._unwritten[key]
        self._is_volatile = self._is_volatile and boot_id != self.boot_id

    def _probe(self, now_ns: int) -> None:
        """After a silence, make the oldest few due again."""
        oldest = islice(((boot, seq) for boot, held in self._held.items() for seq in held), PROBE_COUNT)
        quiet = [key for key in oldest if key not in self._due and self._is_quiet(key, now_ns)]
        self._due.update(dict.fromkeys(quiet))
        if quiet:
            self._wait_ns = min(2 * self._wait_ns, RESEND_MAX_NS)

    def _is_quiet(self, key: Key, now_ns: int) -> bool:
        sent_ns = self._held[key[0]][key[1]].sent_ns
        return sent_ns >= 0 and now_ns - sent_ns >= self._wait_ns

    # ------------------------------------------------------------------------------------------------- the hub's word

    def acknowledged(self, ack: Ack) -> int:
        """Forget what the hub has, and make due again what it misses.

        Parameters
        ----------
        ack : Ack
            The hub's word to this node; one about a name under which nothing is held changes nothing, and is counted
            ``ack_other_boot`` where it is not ours.

        Returns
        -------
        int
            How many it misses that are still held; `take` hands them out.
        """
        held = self._held.get(ack.boot_id)
        if held is None:
            self.counts["ack_other_boot"] += ack.boot_id != self.boot_id
            return 0
        self._wait_ns = self._first_wait_ns
        missing = set(ack.missing)
        # Nobody can have what was never sent, whatever they say.
        sent = [seq for seq in takewhile(lambda seq: seq < ack.next_seq, held) if held[seq].sent_ns >= 0]
        asked = [(ack.boot_id, seq) for seq in sent if seq in missing]
        gone = [(ack.boot_id, seq) for seq in sent if seq not in missing]
        self._due.update(dict.fromkeys(asked))
        for key in gone:
            self._remove(key)
        self._forget(gone)
        return len(asked)

    def resend(self) -> None:
        """Make everything due again: the broker has lost its memory, and perhaps what was sent."""
        self._due = OrderedDict.fromkeys((boot, seq) for boot, held in self._held.items() for seq in held)


def _named(detection: Detection, key: Key) -> bytes:
    return encode(msgspec.structs.replace(detection, boot_id=key[0], seq=key[1]))


def _is_late(held: _Held, now_ns: int) -> bool:
    return held.put_ns < 0 or now_ns - held.put_ns > LATE_NS
