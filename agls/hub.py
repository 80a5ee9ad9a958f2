"""Run one city's hub: the shell that gives `agls.pipeline.Hub` its ears, its memory and its voice.

    broker --> Desk (journal, pipeline.Hub, folder) --> broker: shot, incident, slew, ack
    clock  ----^                                   |--> bridge: store, and from there whoever is told of incidents
                                                   |--> on_outbound: whoever shows them

One thread runs it all, but for the bridge. The order of one turn is what makes it safe: journal first (into a buffer),
then decide and write, then flush the journal, then tell, and only then acknowledge, to the nodes and to the broker. A
hub that dies in between is told again; the detections it hears twice lead to shots of the same name. What the bridge
had not yet entered is said to it again when the journal is taken up.
"""

import hashlib
import logging
import math
import queue
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from agls.bridge.retention import remove_old_files
from agls.bridge.running import Bridge
from agls.bridge.store.book import Batch
from agls.config import SiteConfig
from agls.desk import MAX_CLOCK_BACK_NS, Desk, replay_into
from agls.errors import InputError
from agls.fleet import Fleet, write_fleet
from agls.journal import Heard, Journal, header, read_journal, recent_journals
from agls.messages import (
    NS_PER_S,
    ClockState,
    Detection,
    Heartbeat,
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
from agls.systemd import Supervisor
from agls.transport import HUB_SUBSCRIPTIONS, TAKE_LIMIT_COUNT, Connection

__all__ = ["Desk", "HubSummary", "replay_into", "run_hub"]

JOURNAL_NAME = "journal.jsonl"
CADENCE_S = 0.05  # between two moments, while a shot may be pending
IDLE_S = 0.25  # longest wait for a message otherwise
UPKEEP_S = 1.0  # between two syncs of the journal and renewals of the tables
TIDY_S = 3_600.0  # between two files of the journal
FLEET_S = 5.0  # between two looks at who can be relied on
DRAIN_S = 5.0
# Sound never crosses a site slower than this: -60 degrees Celsius, and a storm in its face.
SLOWEST_M_S = 230.0
REFUSED_LIMIT_COUNT = 1_000
REHEARSED_COUNT, REHEARSED_M_S = 12, 340.0  # sensors, and a speed of sound that need not be right
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HubSummary:
    """What a hub did.

    Attributes
    ----------
    counts : dict of str to int
        Numbers of what was taken in, refused and told, by name; ``mqtt.`` and ``bridge.`` before theirs.
    cad_latencies_s : tuple of float
        For each CAD document that opens a call (the last 10 000): wall clock from the receipt of the last detection it
        needed to the document being on disk [s].
    """

    counts: dict[str, int]
    cad_latencies_s: tuple[float, ...]

    def __str__(self) -> str:
        """Say it in two lines."""
        counts = ", ".join(f"{name} {number}" for name, number in self.counts.items())
        latencies = self.cad_latencies_s
        if not latencies:
            return f"{counts}\nno CAD document"
        return (
            f"{counts}\nfrom the last needed detection to the CAD document on disk: number {len(latencies)}, "
            f"median {statistics.median(latencies):.3f} s, maximum {max(latencies):.3f} s"
        )


def run_hub(
    site: SiteConfig,
    out: Path,
    stop: threading.Event,
    on_outbound: Callable[[Outbound], None] | None = None,
    *,
    resume: bool = False,
) -> HubSummary:
    """Run a hub until it is told to stop.

    On `stop` it takes in what the broker has handed over already (for at most `DRAIN_S`), lets time pass to where the
    slowest sound of the last detection has crossed the site and settled (`pending_ns`), so that every pending shot is
    decided, tells what follows, and closes.

    Parameters
    ----------
    site : SiteConfig
        The site.
    out : Path
        Folder for the journal and all outputs.
    stop : threading.Event
        Set it to end.
    on_outbound : callable, optional
        Called in this thread with each record that follows; must not block.
    resume : bool, optional
        Whether to take up the journal in the folder where an earlier run of the same site and version left it
        (`agls hub` after a crash). Otherwise, or where they differ, that journal is kept under another name.

    Returns
    -------
    HubSummary
        What it did.

    Raises
    ------
    InputError
        If the folder, the broker's settings, the store or a subscriber's address cannot be used.
    """
    folder = OutFolder(out, keep=resume)
    rehearse(site)
    hub = Hub(site)
    with ExitStack() as stack:
        journal = stack.enter_context(_open_journal(out / JOURNAL_NAME, site, resume=resume))
        desk = Desk(hub, folder, journal, time.time_ns)
        bridge = stack.enter_context(Bridge(site, out))
        _take_up(desk, out / JOURNAL_NAME, site, bridge, resume=resume)
        refused = _Kept()
        line = stack.enter_context(Connection(site.mqtt, _client_id(site), HUB_SUBSCRIPTIONS, on_refused=refused.keep))
        fleet = Fleet(site, hub.frame.sensor_positions_m, hub.intake.gaps)
        shell = _Shell(desk, line, refused, bridge, on_outbound, site, fleet, out)
        supervisor = Supervisor()
        supervisor.tell("READY=1", "STATUS=listening")
        while not stop.is_set():
            shell.turn()
            supervisor.alive(time.monotonic_ns())
        supervisor.tell("STOPPING=1")
        shell.drain()
        shell.look_at_fleet()
    counts = desk.counts + shell.counts + Counter({"lost": hub.intake.lost, "unjudged": hub.intake.unjudged})
    counts += _under("mqtt", line.counts + refused.counts) + _under("bridge", bridge.counts)
    counts += _under("fleet", fleet.state(time.time_ns()).counts)
    return HubSummary(dict(sorted(counts.items())), tuple(desk.latencies_s))


def rehearse(site: SiteConfig) -> None:
    """Let a hub that is then thrown away hear made-up shots, so that the first real one finds everything ready.

    What locates is compiled at its first use, once on a machine: some ten seconds on a slow one, for which no shot
    should wait. Afterwards this takes well under a second.

    Parameters
    ----------
    site : SiteConfig
        The site.
    """
    hub = Hub(site)
    heard = _made_up(hub.frame.sensor_positions_m)
    now_ns = max((spoken.toa_ns for spoken in heard), default=0)
    try:
        for spoken in heard:
            hub.feed(spoken, now_ns)
        hub.advance(now_ns + pending_ns(site))
    except Exception:  # noqa: BLE001 - as in `Desk`: a hub that could not locate this may still locate others
        _log.exception("the hub's rehearsal failed")


def _made_up(places_m: Mapping[str, tuple[float, float, float]]) -> list[Detection]:
    """Say what the sensors nearest to the middle would of two shots fired there, in a long gone year."""
    middle_m = [math.fsum(axis) / len(places_m) for axis in zip(*places_m.values(), strict=True)]
    way_s = {name: math.dist(place_m, middle_m) / REHEARSED_M_S for name, place_m in places_m.items()}
    return [
        Detection(
            sensor_id=name,
            boot_id="rehearsal",
            seq=seq,
            toa_ns=UtcNs(10**18 + round((seq + way_s[name]) * NS_PER_S)),
            toa_sigma_s=1e-4,
            llr={"gunshot": 5.0},
            clock=ClockState(mode="simulated", sigma_s=1e-4),
        )
        for seq in range(2)
        for name in sorted(way_s, key=lambda name: way_s[name])[:REHEARSED_COUNT]
    ]


def pending_ns(site: SiteConfig) -> int:
    """Bound how long after a detection something may still be undecided.

    Parameters
    ----------
    site : SiteConfig
        The site.

    Returns
    -------
    int
        Twice the slowest sound's way over the farthest distance at which it is heard (a shot waits for its own
        detections, and for those of a rival that would explain them otherwise), the time to settle, and a few seconds
        for what the stages add to it [ns].
    """
    wait_s = 2 * site.locating.max_range_m / SLOWEST_M_S + site.locating.settle_s + 5.0
    return round(wait_s * NS_PER_S)


class _Shell:
    """Carry records between a desk and the world."""

    def __init__(
        self,
        desk: Desk,
        line: Connection,
        refused: "_Kept",
        bridge: Bridge,
        on_outbound: Callable[[Outbound], None] | None,
        site: SiteConfig,
        fleet: Fleet,
        out: Path,
    ) -> None:
        self.desk = desk
        self.line = line
        self.refused = refused
        self.bridge = bridge
        self.on_outbound = on_outbound
        self.pending_ns = pending_ns(site)
        self.settling_ns = round((site.gathering.gap_s + site.gathering.late_s) * NS_PER_S)
        self.told_ns = desk.now_ns  # when an incident may last have changed
        self.counts: Counter[str] = Counter()
        self.fleet = fleet
        self.out = out
        self.store = site.store
        self.upkeep_s = self.tidied_s = time.monotonic()
        self.looked_s = -FLEET_S

    def turn(self) -> bool:
        """Take in what came, let time pass, say what follows; tell whether anything came."""
        received = self.line.take(CADENCE_S if self._is_pending() else IDLE_S)
        for item in received:
            if isinstance(item.record, Detection | Heartbeat | Status):
                self.fleet.feed(item.record, item.received_ns)
                self._say(self.desk.take(Heard(at_ns=UtcNs(item.received_ns), message=item.record)))
        for topic, payload, received_ns in self.refused.take():
            self._say(self.desk.hear(topic, payload, received_ns))
        now_ns = time.time_ns()
        # What still waits to be taken in was received before now: time must not pass over it.
        if len(received) < TAKE_LIMIT_COUNT and now_ns - self.desk.now_ns >= self._cadence_ns():
            self._say(self.desk.advance(now_ns))
        self._acknowledge()
        if time.monotonic() - self.upkeep_s >= UPKEEP_S:
            self.desk.sync()
            self.upkeep_s = time.monotonic()
            self._tidy()
        if time.monotonic() - self.looked_s >= FLEET_S:
            self.look_at_fleet()
        return bool(received)

    def drain(self) -> None:
        """Take in what was handed over already, and decide what is pending without waiting for it."""
        end_s = time.monotonic() + DRAIN_S
        while self.turn() and time.monotonic() < end_s:
            pass
        if self._is_pending():
            self._say(self.desk.advance(self.desk.heard_ns + self.pending_ns))
        self._acknowledge()
        self.desk.sync()

    def look_at_fleet(self) -> None:
        """Say who can be relied on; it follows from the time of day, so no replay of a journal says it again."""
        self.looked_s = time.monotonic()
        try:
            write_fleet(self.fleet.state(time.time_ns()), self.out)
        except OSError as error:
            if not self.counts["fleet.failed"]:
                _log.error("fleet.json cannot be written: %s", error)
            self.counts["fleet.failed"] += 1

    def _tidy(self) -> None:
        """Begin a new file of the journal each hour, best while nothing is pending; delete those past their days."""
        open_s = time.monotonic() - self.tidied_s
        if open_s < TIDY_S or (self._is_pending() and open_s < 2 * TIDY_S):
            return
        self.tidied_s = time.monotonic()
        now_ns, keep_ns = time.time_ns(), round(self.store.detections_d * 86_400 * NS_PER_S)
        self.desk.tidy(now_ns, keep_ns)
        self.counts["purged"] += remove_old_files(self.out, ("journal-*.jsonl", "journal.*.jsonl"), now_ns - keep_ns)

    def _is_pending(self) -> bool:
        return self.desk.now_ns < self.desk.heard_ns + self.pending_ns

    def _cadence_ns(self) -> float:
        """Say how long the hub may do without the time: it matters while a shot or a word to dispatch is pending."""
        if self._is_pending():
            return CADENCE_S * NS_PER_S
        return UPKEEP_S * NS_PER_S if self.desk.now_ns < self.told_ns + self.settling_ns else math.inf

    def _acknowledge(self) -> None:
        self.desk.flush()
        for ack in self.desk.acks(time.time_ns()):
            self.line.publish(ack)

    def _say(self, items: list[Outbound]) -> None:
        if not all(isinstance(item, Rejection) for item in items):
            self.desk.flush()  # before anybody is told: a hub that dies must come to the same conclusion again
            self.bridge.tell(_batch(self.desk, items))
        for item in items:
            if isinstance(item, Shot | Incident | SlewRequest):
                self.line.publish(item)
            if isinstance(item, Incident):
                self.told_ns = self.desk.now_ns
            if self.on_outbound:
                self._show(self.on_outbound, item)

    def _show(self, on_outbound: Callable[[Outbound], None], item: Outbound) -> None:
        try:
            on_outbound(item)
        except Exception:  # noqa: BLE001 - what shows a shot must not stop the next
            self.counts["on_outbound.failed"] += 1
            _log.exception("what shows the hub's records failed")


class _Kept:
    """Bytes that the connection refused, until the journal has them: it holds all that was heard."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[tuple[str, bytes, int]] = queue.Queue(REFUSED_LIMIT_COUNT)
        self.counts: Counter[str] = Counter()

    def keep(self, topic: str, payload: bytes, received_ns: int) -> None:
        """Keep one of them; called by the network thread."""
        try:
            self._waiting.put_nowait((topic, payload, received_ns))
        except queue.Full:
            self.counts["refused_not_kept"] += 1

    def take(self) -> list[tuple[str, bytes, int]]:
        """Take topic, payload and receive time of what was kept."""
        return [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]


def _open_journal(path: Path, site: SiteConfig, *, resume: bool) -> Journal:
    """Open the journal of this run; one that is not to be resumed is kept as ``journal.1.jsonl`` and so on."""
    journal = Journal(path, site)
    if _is_fit(path, site, resume=resume):
        return journal
    journal.close()
    number = 1
    while (aside := path.with_suffix(f".{number}{path.suffix}")).exists():
        number += 1
    path.rename(aside)
    _log.info("the journal of an earlier run is kept as %s", aside)
    return Journal(path, site)


def _is_fit(path: Path, site: SiteConfig, *, resume: bool) -> bool:
    """Whether a journal is of this site and version, and new or to be resumed."""
    try:
        lines = read_journal(path)
        return next(lines) == header(site) and (resume or next(lines, None) is None)
    except InputError:
        return False


def _batch(desk: Desk, items: list[Outbound]) -> Batch:
    """Tell the bridge what was said, and when each step of it was done."""
    return Batch(tuple(items), desk.now_ns, time.time_ns(), desk.needed_ns(items))


def _take_up(desk: Desk, path: Path, site: SiteConfig, bridge: Bridge, *, resume: bool) -> None:
    """Bring a desk to where an earlier run ended; a run that drained ends ahead of the clock, by what was pending."""
    entered_ns = bridge.book.entered_ns()
    for part in recent_journals(path, site) if resume else []:
        for line in read_journal(part):
            said = desk.retake(line)
            if desk.now_ns >= entered_ns and said:
                bridge.tell(_batch(desk, said))
    desk.latencies_s.clear()  # of documents written long ago
    ahead_ns = desk.now_ns - time.time_ns()
    if ahead_ns > pending_ns(site) + MAX_CLOCK_BACK_NS:
        raise InputError(
            f"journal {path} ends at {format_utc(desk.now_ns)}, {ahead_ns // NS_PER_S} s after this machine's clock; "
            "set the clock, or give another folder"
        )


def _client_id(site: SiteConfig) -> str:
    """Name the persistent session: the same at each start, another for each site, at most 23 characters."""
    return f"agls-hub-{hashlib.sha256(site.name.encode()).hexdigest()[:12]}"


def _under(prefix: str, counts: Counter[str]) -> Counter[str]:
    return Counter({f"{prefix}.{name}": number for name, number in counts.items()})
