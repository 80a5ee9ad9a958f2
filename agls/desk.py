"""The one way into the hub: what happens is journaled, decided, written.

    bytes --decode--> journal --> pipeline.Hub --> OutFolder --> (whoever tells it on)

The live hub hears through a `Desk`, and `replay_into` puts the lines of a journal through one again. What a desk does
with a line depends on earlier lines alone, so the same lines leave the same bytes in the folder.

A full disk must not silence the hub: it goes on locating and telling, counts what could not be written, and
acknowledges nothing more, so that the nodes keep what the journal lacks.
"""

import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from agls.config import SiteConfig
from agls.errors import InputError, MessageError
from agls.intake import MAX_FUTURE_NS
from agls.journal import Advanced, Entry, Header, Heard, Journal, Refused, Torn, read_journal, segment_name
from agls.messages import (
    MAX_MESSAGE_BYTES,
    NS_PER_S,
    Ack,
    CadEvent,
    Detection,
    Heartbeat,
    Inbound,
    Incident,
    Outbound,
    Rejection,
    Shot,
    SlewRequest,
    Status,
    UtcNs,
    format_utc,
)
from agls.pipeline import Hub
from agls.sinks import OutFolder
from agls.transport import decode_message

MAX_CLOCK_BACK_NS = 60 * NS_PER_S
_MAX_RECEIPT_COUNT = 100_000
_MAX_LATENCY_COUNT = 10_000
_COUNTED_AS: dict[type, str] = {
    Shot: "shot", Incident: "incident", CadEvent: "cad_event", SlewRequest: "slew_request",
    Detection: "detection", Heartbeat: "heartbeat", Status: "status",
}  # fmt: skip
_log = logging.getLogger(__name__)


class Stages(Protocol):
    """What a desk drives: `agls.pipeline.Hub`, or a stand-in of a test."""

    def feed(self, message: Inbound, received_ns: int) -> list[Outbound]:
        """Take in what a node said.

        Parameters
        ----------
        message : Inbound
            A detection, heartbeat or status.
        received_ns : int
            When the hub received it, UTC.

        Returns
        -------
        list of Outbound
            What follows.
        """

    def advance(self, now_ns: int) -> list[Outbound]:
        """Let time pass.

        Parameters
        ----------
        now_ns : int
            UTC.

        Returns
        -------
        list of Outbound
            What became ready by then.
        """

    def acks(self, now_ns: int) -> list[Ack]:
        """Say to nodes what arrived and what is missing.

        Parameters
        ----------
        now_ns : int
            UTC.

        Returns
        -------
        list of Ack
            One for each node that needs one.
        """


class Desk:
    """Take in what arrives and the passing of time; journal it, decide, write what follows.

    Parameters
    ----------
    hub : Stages
        Decides.
    folder : OutFolder
        Where what follows is written.
    journal : Journal or None
        Where what is taken in is written first; None in a replay.
    clock_ns : callable, optional
        Wall clock, UTC, to measure how long after the last needed detection a CAD document is on disk; without one
        nothing is measured.
    """

    def __init__(
        self, hub: Stages, folder: OutFolder, journal: Journal | None, clock_ns: Callable[[], int] | None = None
    ) -> None:
        self._hub = hub
        self._folder = folder
        self._journal: Journal | _NoJournal = journal or _NoJournal()
        self._clock_ns = clock_ns
        self._last_needed = _LastNeeded()
        self.now_ns = 0
        self.heard_ns = 0  # the latest moment that a detection came at or spoke of
        self.counts: Counter[str] = Counter()
        self.latencies_s: deque[float] = deque(maxlen=_MAX_LATENCY_COUNT)

    def hear(self, topic: str, payload: bytes, received_ns: int) -> list[Outbound]:
        """Take in bytes from the network, whatever they are.

        Parameters
        ----------
        topic : str
            Where they arrived.
        payload : bytes
            What arrived.
        received_ns : int
            When, UTC.

        Returns
        -------
        list of Outbound
            What follows, written to the folder already.
        """
        return self.take(entry_of(topic, payload, received_ns))

    def advance(self, now_ns: int) -> list[Outbound]:
        """Let time pass.

        Parameters
        ----------
        now_ns : int
            UTC.

        Returns
        -------
        list of Outbound
            What follows, written to the folder already.
        """
        return self.take(Advanced(at_ns=UtcNs(now_ns)))

    def take(self, entry: Entry) -> list[Outbound]:
        """Take in one line of a journal, as it happens.

        Parameters
        ----------
        entry : Heard, Refused or Advanced
            What happened. A time before an earlier one is taken as that one: the hub's time never runs back.

        Returns
        -------
        list of Outbound
            What follows, written to the folder already.
        """
        received_ns = entry.at_ns
        if received_ns < self.now_ns:
            self.counts["clock_back"] += self.now_ns - received_ns > MAX_CLOCK_BACK_NS
            entry = msgspec.structs.replace(entry, at_ns=UtcNs(self.now_ns))
        with self._bearing("journal"):
            self._journal.append(entry)
        return self._digest(entry, received_ns)

    def retake(self, line: Header | Entry | Torn) -> list[Outbound]:
        """Take in a line of a journal again, without writing it to one.

        Parameters
        ----------
        line : Header, Heard, Refused, Advanced or Torn
            The line.

        Returns
        -------
        list of Outbound
            What follows, as it did the first time.
        """
        if isinstance(line, Torn):
            self.counts["torn_line"] += 1
        elif not isinstance(line, Header):
            return self._digest(line, line.at_ns)
        return []

    def needed_ns(self, items: list[Outbound]) -> dict[str, int]:
        """Say when the last detection was received that each incident stands on.

        Parameters
        ----------
        items : list of Outbound
            What was said just now.

        Returns
        -------
        dict of str to int
            Incident to moment, UTC; one where it is not known is left out.
        """
        names = [item.incident for item in items if isinstance(item, Incident)]
        return {name: received_ns for name in names for received_ns in self._last_needed.of(name)}

    def flush(self) -> None:
        """Hand the journal to the operating system: what was taken in may be acknowledged."""
        with self._bearing("journal"):
            self._journal.flush()

    def sync(self) -> None:
        """Make the device keep the journal, and bring the folder's tables up to date."""
        with self._bearing("journal"):
            self._journal.sync()
        with self._bearing("tables"):
            self._folder.flush()

    def tidy(self, now_ns: int, keep_ns: int) -> None:
        """Go on in a new file of the journal, and leave out of the tables what is past its days.

        Parameters
        ----------
        now_ns : int
            UTC.
        keep_ns : int
            How long what was heard is kept [ns].
        """
        with self._bearing("journal"):
            self._journal.turn_over(segment_name(now_ns))
        self._folder.forget(now_ns - keep_ns)

    def acks(self, now_ns: int) -> list[Ack]:
        """Say to nodes what is safe here and what is missing.

        Parameters
        ----------
        now_ns : int
            UTC.

        Returns
        -------
        list of Ack
            Of what the journal holds; none once it could not be written.
        """
        self.flush()
        acks = self._hub.acks(max(now_ns, self.now_ns))
        return [] if self.counts["journal.failed"] else acks

    def _digest(self, entry: Entry, received_ns: int) -> list[Outbound]:
        self.now_ns = entry.at_ns
        if isinstance(entry, Heard):
            self.counts[_COUNTED_AS[type(entry.message)]] += 1
            if isinstance(entry.message, Detection):
                toa_ns = min(entry.message.toa_ns, self.now_ns + MAX_FUTURE_NS)
                self.heard_ns = max(self.heard_ns, self.now_ns, toa_ns)
                self._last_needed.hear(entry.message, received_ns)
        out = self._decide(entry)
        for item in out:
            self._write(item)
        return out

    def _decide(self, entry: Entry) -> list[Outbound]:
        if isinstance(entry, Refused):
            return [Rejection(stage="hub", reason=entry.reason, subject=entry.topic[:500], detail=entry.detail[:500])]
        try:
            if isinstance(entry, Heard):
                return self._hub.feed(entry.message, entry.at_ns)
            return self._hub.advance(entry.at_ns)
        except Exception as error:  # noqa: BLE001 - one sound that the mathematics cannot bear must not deafen a city
            _log.exception("the hub could not digest what it took in at %s", format_utc(entry.at_ns))
            return [Rejection(stage="hub", reason="internal_error", subject=type(error).__name__)]

    def _write(self, item: Outbound) -> None:
        self.counts[_name(item)] += 1
        self._last_needed.tell(item)
        with self._bearing("folder"):
            self._folder.write(item)
            # Updates wait for their time, and a cancellation follows from time that passed.
            if isinstance(item, CadEvent) and item.status == "open" and self._clock_ns is not None:
                now_ns = self._clock_ns()
                self.latencies_s += [(now_ns - needed) / NS_PER_S for needed in self._last_needed.of(item.incident)]

    @contextmanager
    def _bearing(self, what: str) -> Iterator[None]:
        """Go on when a device refuses; a journal with a hole is no journal, so it ends there."""
        try:
            yield
        except OSError as error:
            if not self.counts[f"{what}.failed"]:
                _log.error("%s cannot be written: %s", what, error)
            self.counts[f"{what}.failed"] += 1
            if what == "journal":
                self._journal = _NoJournal()


class _NoJournal:
    """Keep nothing: a replay needs no journal, and a broken one is written no further."""

    def append(self, entry: Entry) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing."""

    def turn_over(self, name: str) -> None:
        """Do nothing."""


def entry_of(topic: str, payload: bytes, received_ns: int) -> Heard | Refused:
    """Read bytes from the network: as a record, or as what must be kept of bytes that are none.

    Parameters
    ----------
    topic : str
        Where they arrived.
    payload : bytes
        What arrived.
    received_ns : int
        When, UTC.

    Returns
    -------
    Heard or Refused
        The line for the journal.
    """
    try:
        message = decode_message(topic, payload)
        if not isinstance(message, Detection | Heartbeat | Status):
            raise MessageError("not_for_hubs", type(message).__name__)
    except MessageError as refusal:
        return Refused(
            at_ns=UtcNs(received_ns),
            topic=_clean(topic),
            reason=refusal.reason,
            detail=_clean(refusal.detail),
            size_bytes=len(payload),
            payload_base64=payload[:MAX_MESSAGE_BYTES],
        )
    return Heard(at_ns=UtcNs(received_ns), message=message)


def replay_into(journal: Path, folder: OutFolder, make_hub: Callable[[SiteConfig], Stages] = Hub) -> Counter[str]:
    """Put a journal through a new hub.

    Parameters
    ----------
    journal : Path
        The file that `run_hub` wrote.
    folder : OutFolder
        Where what follows is written; its bytes are those of the live hub's folder.
    make_hub : callable, optional
        Makes the hub from the site of the journal's header.

    Returns
    -------
    collections.Counter
        Numbers of what was taken in and what followed, by name; ``torn_line`` where a crash left one.

    Raises
    ------
    InputError
        If the file is no journal, or the folder cannot be written.
    """
    lines = read_journal(journal)
    first = next(lines)
    assert isinstance(first, Header)  # noqa: S101 - read_journal says so
    desk = Desk(make_hub(first.site), folder, None)
    for line in lines:
        desk.retake(line)
    desk.sync()
    if desk.counts["folder.failed"] or desk.counts["tables.failed"]:
        raise InputError(f"{folder.path} could not be written; give a folder with room and the right to write")
    return desk.counts


class _LastNeeded:
    """Remember when the detections came that each incident stands on."""

    def __init__(self) -> None:
        self._received_ns: OrderedDict[Any, int] = OrderedDict()
        self._shots: OrderedDict[Any, int] = OrderedDict()
        self._incidents: OrderedDict[Any, int] = OrderedDict()

    def hear(self, message: Detection, received_ns: int) -> None:
        """Note a detection; one that comes again was there already."""
        self._received_ns.setdefault((message.sensor_id, message.boot_id, message.seq, message.stage), received_ns)
        _forget_first(self._received_ns)

    def tell(self, item: Outbound) -> None:
        """Note what a shot or an incident stands on, at this revision."""
        if isinstance(item, Shot):
            used = [(part.sensor_id, part.boot_id, part.seq) for part in item.arrivals if part.used]
            keys = [(*key, stage) for key in used for stage in ("preliminary", "final")]
            _remember(self._shots, item.shot_id, [self._received_ns[key] for key in keys if key in self._received_ns])
        elif isinstance(item, Incident):
            needed = [self._shots[shot] for shot in item.shot_ids if shot in self._shots]
            _remember(self._incidents, item.incident, needed)

    def of(self, incident: str) -> list[int]:
        """Receipt of the last needed detection; none where it is not known."""
        return [self._incidents[incident]] if incident in self._incidents else []


def _remember(memory: OrderedDict[Any, int], name: str, received_ns: list[int]) -> None:
    if received_ns:
        memory[name] = max(received_ns)
        _forget_first(memory)


def _forget_first(memory: OrderedDict[Any, int]) -> None:
    while len(memory) > _MAX_RECEIPT_COUNT:
        memory.popitem(last=False)


def _name(item: Outbound) -> str:
    return f"{item.stage}.{item.reason}" if isinstance(item, Rejection) else _COUNTED_AS[type(item)]


def _clean(text: str) -> str:
    """Make a text that JSON can hold."""
    return text.encode("utf-8", "backslashreplace").decode()
