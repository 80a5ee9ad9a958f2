"""The hub's front door: each detection counts once, and each node learns what arrived.

A node numbers the detections of one run (`boot_id`) by `seq` and keeps each until the hub's `Ack`. So the hub
remembers, per sensor and boot, which finals came. What it remembers, and why it stays small:

    finals, preliminaries   the numbers that came, as runs ``[first, past)``: a healthy boot is one run
    issued                  past the highest number known to exist (a detection, or a heartbeat's `next_seq`)
    oldest                  a heartbeat's `oldest_seq`: below it the node holds nothing, so asking is idle
    base                    the lowest number this hub could have heard: below it nothing is counted as lost

    numbers:  0 ... base ......... oldest .............. issued
                     gap here: lost       gap here: asked for

A gap is asked for when nothing has filled it for a while (`FIRST_ASK_NS`), then ever less often. Until then an `Ack`
ends before the gap: after an outage a node sends its backlog beside live detections, and a hub that listed the backlog
as missing would have all of it sent twice.

A final refused for its time has come all the same: sent again it would be no better, so it is acknowledged.
"""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from agls.config import SiteConfig
from agls.messages import NS_PER_S, Ack, Detection, Heartbeat, Inbound, Rejection, Status

MAX_FUTURE_NS = 10 * NS_PER_S
MAX_AGE_NS = 7 * 86_400 * NS_PER_S
# An Ack has room for this many gaps (messages.Ack.missing).
MAX_MISSING_COUNT = 1000
# 1024 runs of one boot take some 80 kB; a node whose detections arrive more scattered than that keeps the rest.
MAX_RUN_COUNT = 1024
# A node in a crash loop makes a boot every few seconds, and must still be heard: the boot heard least recently goes.
MAX_BOOT_COUNT = 16
FIRST_ASK_NS = 2 * NS_PER_S
LAST_ASK_NS = 60 * NS_PER_S
# A boot silent for this long has nobody left to answer.
ASK_UNTIL_NS = 3600 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Gaps:
    """What of a node's numbers did not come.

    Attributes
    ----------
    missing_count : int
        Asked for more than once, and not here yet.
    lost_count : int
        Never to come: the node has them no more.
    unjudged_count : int
        Told early and then not judged: the node let go of them, or ended.
    """

    missing_count: int = 0
    lost_count: int = 0
    unjudged_count: int = 0


class SeqSet:
    """A set of sequence numbers, kept as sorted disjoint runs, of bounded size.

    Parameters
    ----------
    max_run_count : int
        How many runs it may consist of.
    """

    def __init__(self, max_run_count: int = MAX_RUN_COUNT) -> None:
        # Run i is [first[i], past[i]); past[i] < first[i + 1], so runs never touch.
        self.first: list[int] = []
        self.past: list[int] = []
        self.max_run_count = max_run_count

    def __contains__(self, seq: int) -> bool:
        """Tell whether a number is in the set.

        Parameters
        ----------
        seq : int
            The number.

        Returns
        -------
        bool
            Whether it is.
        """
        run = bisect_right(self.first, seq) - 1
        return run >= 0 and seq < self.past[run]

    def has_room_for(self, seq: int) -> bool:
        """Tell whether a number that is not in the set could be added.

        Parameters
        ----------
        seq : int
            The number.

        Returns
        -------
        bool
            False if it would make one run too many.
        """
        if len(self.first) < self.max_run_count:
            return True
        run = bisect_right(self.first, seq)
        return (run > 0 and self.past[run - 1] == seq) or (run < len(self.first) and self.first[run] == seq + 1)

    def add(self, seq: int) -> None:
        """Put in a number that is not yet in the set.

        Parameters
        ----------
        seq : int
            The number; the caller has asked `has_room_for`.
        """
        run = bisect_right(self.first, seq)
        joins_left = run > 0 and self.past[run - 1] == seq
        joins_right = run < len(self.first) and self.first[run] == seq + 1
        if joins_left and joins_right:
            self.past[run - 1] = self.past.pop(run)
            del self.first[run]
        elif joins_left:
            self.past[run - 1] = seq + 1
        elif joins_right:
            self.first[run] = seq
        else:
            self.first.insert(run, seq)
            self.past.insert(run, seq + 1)

    def close_lowest_gap(self) -> int:
        """Make room by taking the lowest gap between two runs as filled.

        Returns
        -------
        int
            How many numbers that covers.
        """
        count = self.first[1] - self.past[0]
        del self.past[0], self.first[1]
        return count

    @property
    def end(self) -> int:
        """One past the highest number, or zero.

        Returns
        -------
        int
            The end.
        """
        return self.past[-1] if self.past else 0

    def gaps(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """Walk through what is missing between two bounds.

        Parameters
        ----------
        low, high : int
            Where to begin, and where to end (exclusive).

        Yields
        ------
        tuple of int
            Each gap as (first missing number, one past the last), rising.
        """
        at = low
        for run in range(bisect_left(self.past, low), len(self.first)):
            if at >= high:
                return
            if self.first[run] > at:
                yield at, min(self.first[run], high)
            at = max(at, self.past[run])
        if at < high:
            yield at, high


@dataclass(slots=True)
class _Boot:
    """What the hub remembers of one run of one node."""

    finals: SeqSet = field(default_factory=SeqSet)
    preliminaries: SeqSet = field(default_factory=SeqSet)
    issued: int = 0
    oldest: int = 0
    base: int = 2**63
    forgotten: int = 0  # lost numbers whose gap was closed to make room
    heard_ns: int = 0
    ask_ns: int = 0  # when the lowest gap is asked for next
    ask_after_ns: int = FIRST_ASK_NS
    gap: int = -1  # the lowest gap when the clock for asking was last set; -1 for none

    def lowest_gap(self) -> int:
        """First number to ask for, or -1."""
        return next((first for first, _ in self.finals.gaps(self.oldest, self.issued)), -1)

    def lost_count(self) -> int:
        """Numbers that this hub could have heard, did not, and never will."""
        gaps = self.finals.gaps(min(self.base, self.oldest), self.oldest)
        return self.forgotten + sum(past - first for first, past in gaps) - self.unjudged_count()

    def unjudged_count(self) -> int:
        """Numbers of which only the preliminary came, and nothing else will: the node let go of them."""
        gaps = self.finals.gaps(min(self.base, self.oldest), self.oldest)
        return sum(
            max(0, min(past, stop) - max(first, start))
            for first, past in gaps
            for start, stop in zip(self.preliminaries.first, self.preliminaries.past, strict=True)
        )

    def missing_count(self) -> int:
        """Numbers that were asked for more than once: others may only be on their way."""
        if self.ask_after_ns <= 2 * FIRST_ASK_NS:
            return 0
        return sum(past - first for first, past in self.finals.gaps(self.oldest, self.issued))

    def watch_gap(self, now_ns: int) -> None:
        """Set the clock for asking whenever the lowest gap has moved: something still arrives by itself."""
        gap = self.lowest_gap()
        if gap != self.gap:
            self.gap, self.ask_after_ns, self.ask_ns = gap, FIRST_ASK_NS, now_ns + FIRST_ASK_NS

    def ack(self, sensor_id: str, boot_id: str, *, asking: bool) -> Ack:
        """Say what came: up to the first gap, or, when asking, as far as the list of gaps has room."""
        missing: list[int] = []
        next_seq = max(self.issued, self.oldest)
        for first, past in self.finals.gaps(self.oldest, self.issued):
            room = MAX_MISSING_COUNT - len(missing) if asking else 0
            if past - first > room:
                missing += range(first, first + room)
                next_seq = first + room
                break
            missing += range(first, past)
        return Ack(sensor_id=sensor_id, boot_id=boot_id, next_seq=next_seq, missing=tuple(missing))


class Intake:
    """Take in what nodes say, each detection once.

    Parameters
    ----------
    site : SiteConfig
        Whose sensors are known.

    Notes
    -----
    What `feed` answers depends on earlier calls of `feed` alone, never on `acks`: a journal holds the inputs,
    not the acknowledgements, and replaying it must give the same.
    """

    def __init__(self, site: SiteConfig) -> None:
        self._boots: dict[str, OrderedDict[str, _Boot]] = {sensor.sensor_id: OrderedDict() for sensor in site.sensor}
        self._news: dict[tuple[str, str], None] = {}
        self._asking: dict[tuple[str, str], None] = {}
        self._lost_before = self._unjudged_before = 0  # by boots that have been put out of memory

    @property
    def lost(self) -> int:
        """Count the finals that nodes no longer have and that never came.

        Returns
        -------
        int
            Over all boots this hub has heard.
        """
        return self._lost_before + sum(boot.lost_count() for boots in self._boots.values() for boot in boots.values())

    @property
    def unjudged(self) -> int:
        """Count the sounds that a node told of early and then nothing more: it let go of them, or ended.

        Returns
        -------
        int
            Over all boots this hub has heard.
        """
        boots = (boot for boots in self._boots.values() for boot in boots.values())
        return self._unjudged_before + sum(boot.unjudged_count() for boot in boots)

    def gaps(self) -> dict[str, Gaps]:
        """Say of each sensor what of its numbers did not come.

        Returns
        -------
        dict of str to Gaps
            Over those of its boots that are remembered.
        """
        return {
            sensor_id: Gaps(
                sum(boot.missing_count() for boot in boots.values()),
                sum(boot.lost_count() for boot in boots.values()),
                sum(boot.unjudged_count() for boot in boots.values()),
            )
            for sensor_id, boots in self._boots.items()
        }

    def feed(self, message: Inbound, received_ns: int) -> Inbound | Rejection:
        """Take in one message.

        Parameters
        ----------
        message : Inbound
            A detection, heartbeat or status.
        received_ns : int
            When the hub received it, UTC.

        Returns
        -------
        Inbound or Rejection
            The message itself, to be handed on, or why it is dropped: ``unknown_sensor``, ``duplicate``,
            ``preliminary_after_final``, ``too_scattered``, ``future_time``, ``too_old``, ``impossible_heartbeat``.
        """
        if message.sensor_id not in self._boots:
            return _no("unknown_sensor", message, "the site has no sensor of this name")
        if isinstance(message, Detection):
            return self._detection(message, received_ns)
        if isinstance(message, Heartbeat):
            return self._heartbeat(message, received_ns)
        return message

    def acks(self, now_ns: int) -> list[Ack]:
        """Say to each node that has news what came, and ask for what has been missing for long enough.

        Parameters
        ----------
        now_ns : int
            UTC.

        Returns
        -------
        list of Ack
            At most one for each node and boot.
        """
        due = dict.fromkeys(key for key in self._asking if self._is_due(key, now_ns))
        out = [self._ack(key, now_ns, asking=key in due) for key in {**self._news, **due}]
        self._news.clear()
        return out

    def _detection(self, message: Detection, now_ns: int) -> Detection | Rejection:
        boot = self._boot(message, now_ns)
        refusal = self._admit(boot, message)
        if message.stage == "final":
            boot.base = min(boot.base, message.seq)
            boot.issued = max(boot.issued, boot.finals.end)
            # A duplicate is news too: the node sends again because our word did not reach it.
            self._note(message, boot, now_ns)
        if refusal:
            return _no(refusal, message)
        if message.toa_ns > now_ns + MAX_FUTURE_NS:
            return _no("future_time", message, f"{(message.toa_ns - now_ns) / NS_PER_S:.3f} s ahead of the hub's clock")
        if message.toa_ns < now_ns - MAX_AGE_NS:
            return _no("too_old", message, f"{(now_ns - message.toa_ns) / NS_PER_S:.0f} s before it was received")
        return message

    def _admit(self, boot: _Boot, message: Detection) -> str:
        """Enter a detection's number; the reason for refusing it, or an empty text."""
        final = message.stage == "final"
        seen = boot.finals if final else boot.preliminaries
        if message.seq in seen:
            return "duplicate"
        if message.seq in boot.finals:
            return "preliminary_after_final"
        if not seen.has_room_for(message.seq):
            # A preliminary is only early notice, so its gaps may be closed; a final's only where nobody will fill them.
            if final and seen.first[1] > boot.oldest:
                return "too_scattered"
            closed = seen.close_lowest_gap()
            boot.forgotten += closed if final else 0
        if message.seq not in seen:
            seen.add(message.seq)
        return ""

    def _heartbeat(self, message: Heartbeat, now_ns: int) -> Heartbeat | Rejection:
        if message.oldest_seq > message.next_seq:
            return _no(
                "impossible_heartbeat", message, f"oldest_seq {message.oldest_seq} > next_seq {message.next_seq}"
            )
        boot = self._boot(message, now_ns)
        boot.base = min(boot.base, message.oldest_seq)
        # Both only ever rise within a boot, so heartbeats out of order do no harm.
        boot.oldest = max(boot.oldest, message.oldest_seq)
        boot.issued = max(boot.issued, message.next_seq)
        self._note(message, boot, now_ns, news=message.oldest_seq in boot.finals)
        return message

    def _boot(self, message: Detection | Heartbeat, now_ns: int) -> _Boot:
        boots = self._boots[message.sensor_id]
        if message.boot_id not in boots:
            boots[message.boot_id] = _Boot()
            if len(boots) > MAX_BOOT_COUNT:
                gone, boot = boots.popitem(last=False)
                self._lost_before += boot.lost_count()
                self._unjudged_before += boot.unjudged_count()
                self._news.pop((message.sensor_id, gone), None)
                self._asking.pop((message.sensor_id, gone), None)
        boots.move_to_end(message.boot_id)
        boots[message.boot_id].heard_ns = now_ns
        return boots[message.boot_id]

    def _note(self, message: Detection | Heartbeat, boot: _Boot, now_ns: int, *, news: bool = True) -> None:
        key = (message.sensor_id, message.boot_id)
        boot.watch_gap(now_ns)
        if boot.gap >= 0:
            self._asking[key] = None
        else:
            self._asking.pop(key, None)
        if news:
            self._news[key] = None

    def _is_due(self, key: tuple[str, str], now_ns: int) -> bool:
        boot = self._boots[key[0]][key[1]]
        return boot.ask_ns <= now_ns < boot.heard_ns + ASK_UNTIL_NS

    def _ack(self, key: tuple[str, str], now_ns: int, *, asking: bool) -> Ack:
        boot = self._boots[key[0]][key[1]]
        if asking:
            boot.ask_after_ns = min(2 * boot.ask_after_ns, LAST_ASK_NS)
            boot.ask_ns = now_ns + boot.ask_after_ns
        return boot.ack(*key, asking=asking)


def _no(reason: str, message: Detection | Heartbeat | Status, detail: str = "") -> Rejection:
    seq = f"/{message.seq}/{message.stage}" if isinstance(message, Detection) else ""
    return Rejection(
        stage="intake", reason=reason, subject=f"{message.sensor_id}/{message.boot_id}{seq}", detail=detail
    )
