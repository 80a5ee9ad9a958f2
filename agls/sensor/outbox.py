"""Keep detections until the hub has them, and decide when to send one (again).

A broker may lose what it has acknowledged, so the node forgets a final detection on the hub's `Ack` alone. Each one
held is due or sent:

    put            -> due
    due    take    -> sent
    sent   `Ack` covers it                          -> forgotten
    sent   `Ack` names it missing                   -> due
    sent   the broker forgot our session (`resend`) -> due
    sent   among the oldest, no `Ack` for a while   -> due
    due or sent, and the oldest of too many         -> dropped, counted ``outbox_full``

Only the oldest few are sent again by time alone, less and less often: if the hub is away, a broker that still holds
everything must not receive it all over and over; if the hub is there, its next `Ack` says what else is missing.

Held in memory; the process that ends loses them.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass
from itertools import islice, takewhile

import msgspec

from agls.messages import NS_PER_S, Ack, Detection

RESEND_NS = 5 * NS_PER_S
RESEND_MAX_NS = 300 * NS_PER_S
PROBE_COUNT = 20
# A hub opens nothing for a shot this old (config.Gathering.late_s); a detection says so itself in case clocks differ.
LATE_NS = 120 * NS_PER_S


@dataclass(slots=True)
class _Held:
    """A detection in the outbox; never sent yet where `sent_ns` is negative."""

    detection: Detection
    put_ns: int
    sent_ns: int = -1


class Outbox:
    """The final detections of one run of a node that the hub has not acknowledged.

    Times are any clock that only goes forward, in nanoseconds, the same for all calls.

    Parameters
    ----------
    boot_id : str
        Names this run.
    limit_count : int
        Detections held; when there are more the oldest is dropped.
    resend_ns : int, optional
        Wait for an `Ack` before the oldest are sent again; doubles with each silence.
    """

    def __init__(self, boot_id: str, limit_count: int, resend_ns: int = RESEND_NS) -> None:
        self._boot_id = boot_id
        self._limit_count = limit_count
        self._first_wait_ns = resend_ns
        self._wait_ns = resend_ns
        # Ordered: what is held by seq, what is due by when it became due. Both are mostly shortened at the front.
        self._held: OrderedDict[int, _Held] = OrderedDict()
        self._due: OrderedDict[int, None] = OrderedDict()
        self._next_seq = 0
        self.counts: Counter[str] = Counter()

    def __len__(self) -> int:
        """Count what is held.

        Returns
        -------
        int
            Number of detections.
        """
        return len(self._held)

    @property
    def oldest_seq(self) -> int:
        """Name the oldest detection that can still be sent; the hub need not ask for any before.

        Returns
        -------
        int
            Its `seq`; where nothing is held, that of the next to come.
        """
        return next(iter(self._held), self._next_seq)

    def pending(self) -> list[Detection]:
        """List what the hub has not acknowledged.

        Returns
        -------
        list of Detection
            In order of `seq`.
        """
        return [held.detection for held in self._held.values()]

    def put(self, detection: Detection, now_ns: int) -> None:
        """Take in a new detection; it is due at once.

        Parameters
        ----------
        detection : Detection
            A final one, with a `seq` above all before it.
        now_ns : int
            The time.

        Raises
        ------
        ValueError
            If it is preliminary (nobody acknowledges those) or its `seq` goes back.
        """
        if detection.stage != "final" or detection.seq < self._next_seq:
            raise ValueError(f"{detection.stage} detection {detection.seq}: finals from {self._next_seq} are taken")
        self._next_seq = detection.seq + 1
        self._held[detection.seq] = _Held(detection, now_ns)
        self._due[detection.seq] = None
        if len(self._held) > self._limit_count:
            self._due.pop(self._held.popitem(last=False)[0], None)
            self.counts["outbox_full"] += 1

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
            At most `room_count`; marked ``late`` where they have waited long.
        """
        self._probe(now_ns)
        out: list[Detection] = []
        while self._due and len(out) < room_count:
            held = self._held[self._due.popitem(last=False)[0]]
            held.sent_ns = now_ns
            late = held.detection.late or now_ns - held.put_ns > LATE_NS
            out.append(msgspec.structs.replace(held.detection, late=late))
        return out

    def _probe(self, now_ns: int) -> None:
        """After a silence, make the oldest few due again."""
        quiet = [
            seq
            for seq, held in islice(self._held.items(), PROBE_COUNT)
            if held.sent_ns >= 0 and seq not in self._due and now_ns - held.sent_ns >= self._wait_ns
        ]
        self._due.update(dict.fromkeys(quiet))
        if quiet:
            self._wait_ns = min(2 * self._wait_ns, RESEND_MAX_NS)

    def acknowledged(self, ack: Ack) -> list[Detection]:
        """Forget what the hub has, and make due again what it misses.

        Parameters
        ----------
        ack : Ack
            The hub's word to this node; one to another run of it changes nothing and is counted ``ack_other_boot``.

        Returns
        -------
        list of Detection
            What it misses and is still held; `take` hands it out.
        """
        if ack.boot_id != self._boot_id:
            self.counts["ack_other_boot"] += 1
            return []
        self._wait_ns = self._first_wait_ns
        missing = set(ack.missing)
        asked: list[Detection] = []
        for seq in list(takewhile(lambda seq: seq < ack.next_seq, self._held)):
            if self._held[seq].sent_ns < 0:
                continue  # nobody can have what was never sent, whatever they say
            if seq in missing:
                self._due[seq] = None
                asked.append(self._held[seq].detection)
            else:
                del self._held[seq]
                self._due.pop(seq, None)
        return asked

    def resend(self) -> None:
        """Make everything due again: the broker has lost its memory, and perhaps what was sent."""
        self._due = OrderedDict.fromkeys(self._held)
