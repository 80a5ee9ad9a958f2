"""Run one node live: source, pipeline, outbox and broker, joined by one loop.

The loop turns once per block of samples and never waits for the network: what cannot be sent stays in the outbox, and
the connection works in a thread of its own. What is wrong but no reason to stop is counted, and so told in each
heartbeat: ``model_refused`` (the shipped model judges instead), ``other_node`` (the outbox is another node's),
``clock_set_back`` (since the outbox was last written), and what stages, card, receiver and connection count.
"""

import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agls import __version__
from agls.config import NodeConfig
from agls.errors import InputError
from agls.messages import NS_PER_S, Ack, Block, Detection, Heartbeat, Sign, Status, UtcNs, encode
from agls.pipeline import Node
from agls.sensor.capture import Source
from agls.sensor.gps import Gpsd, with_gps
from agls.sensor.health import Health, Machine, read_machine
from agls.sensor.outbox import Outbox
from agls.sensor.privacy import ClipKeeper
from agls.sensor.store import MEMORY, Store
from agls.systemd import Supervisor
from agls.transport import Connection, topic

if TYPE_CHECKING:
    from agls.classify.model import Model

__all__ = ["Around", "NodeShell", "node_shell", "run_node"]

log = logging.getLogger(__name__)

# How long a node whose source has ended, or that was told to stop, waits for the hub's last word.
DRAIN_S = 30.0
STOP_S = 2.0
# Messages on their way to the broker at once: enough to keep it busy, few enough that a heartbeat is not kept waiting.
WINDOW_COUNT = 64
LATEST, SET_BACK_S = "latest_utc_ns", 2.0  # under which name the time is remembered, and by how much it may go back
EXCHANGE_NS = NS_PER_S // 10
MAX_COUNTS = 64  # room for names in a heartbeat (messages.Heartbeat.counts)


@dataclass(frozen=True)
class Around:
    """What surrounds a node besides its microphone and the broker: whom it asks, and whom it tells.

    Attributes
    ----------
    sense : callable
        How the machine is.
    befell : callable
        What befell the source and the receiver, by name.
    trouble : callable
        Why the source hears nothing; empty where it does not say.
    observe : callable
        Told of each final detection, as others will know it, and of each word of the hub.
    supervisor : Supervisor
        Who started the node and watches it.
    clock_ns : callable
        A clock that only goes forward.
    """

    sense: Callable[[], Machine] = Machine
    befell: Callable[[], Counter[str]] = Counter
    trouble: Callable[[], str] = str
    observe: Callable[[Detection | Ack], object] = id
    supervisor: Supervisor = field(default_factory=lambda: Supervisor({}))
    clock_ns: Callable[[], int] = time.monotonic_ns


def run_node(
    config: NodeConfig,
    source: Source,
    stop: threading.Event,
    boot_id: str = "",
) -> Counter[str]:
    """Listen to a source and tell the hub, until the source ends or the node is told to stop.

    Parameters
    ----------
    config : NodeConfig
        The node's configuration.
    source : Source
        What it hears; closed at the end.
    stop : threading.Event
        Set it to end the node after its current block.
    boot_id : str, optional
        Under which name to number detections; by default that of this boot of the machine, which the outbox remembers.

    Returns
    -------
    collections.Counter
        What was done and refused, by name: ``detections``, ``heartbeats``, ``unacknowledged``, and the counts of the
        pipeline, the outbox and the connection.

    Raises
    ------
    InputError
        If the source, the outbox or the broker's settings cannot be used.
    """
    supervisor = Supervisor()
    with node_shell(config, source, boot_id, supervisor) as shell:
        supervisor.tell("READY=1")
        for block in source.blocks():
            shell.hear(block)
            if stop.is_set():
                break
        supervisor.tell("STOPPING=1")
        shell.finish(stop)
    return shell.counts


@contextmanager
def node_shell(
    config: NodeConfig,
    source: Source,
    boot_id: str = "",
    supervisor: Supervisor | None = None,
    observe: Callable[[Detection | Ack], object] = id,
) -> Iterator["NodeShell"]:
    """Put a node together and connect it, and take it apart at the end.

    Parameters
    ----------
    config : NodeConfig
        The node's configuration.
    source : Source
        What it hears; closed at the end.
    boot_id : str, optional
        Under which name to number detections; by default that of this boot of the machine, which the outbox remembers.
    supervisor : Supervisor, optional
        Who watches it; nobody if not given.
    observe : callable, optional
        Told of each final detection and of each word of the hub.

    Yields
    ------
    NodeShell
        To be given blocks.

    Raises
    ------
    InputError
        If the outbox, the clips' folder or the broker's settings cannot be used.
    """
    gpsd = Gpsd(config.gpsd) if config.gpsd else None
    folder = str(Path(config.outbox_file).absolute().parent) if config.outbox_file else ""
    try:
        clips = ClipKeeper(config.clips)
        model, befell = _model_of(config)
        around = Around(
            sense=lambda: with_gps(read_machine(folder), gpsd.state()) if gpsd else read_machine(folder),
            befell=lambda: befell + _counts_of(source) + (gpsd.counts if gpsd else Counter()),
            trouble=lambda: str(getattr(source, "trouble", "")),
            observe=observe,
            supervisor=supervisor or Supervisor({}),
        )
        with closing(Store(config.outbox_file or MEMORY)) as store:
            outbox = Outbox(store, config.outbox_limit_count, config.outbox_limit_bytes, boot_id)
            node = Node(config, source.clock, model, outbox.boot_id, on_impulse=clips.keep, early=config.preliminary)
            shell = NodeShell(config, node, outbox, store, clips, around)
            with shell.connection:
                yield shell
    finally:
        source.close()
        if gpsd:
            gpsd.close()


def _model_of(config: NodeConfig) -> "tuple[Model, Counter[str]]":
    """Load the node's model; where it cannot be used the shipped one: a pole that judges less well still hears."""
    from agls.classify.model import load_model, trusted

    file = config.classification.model_file
    try:
        return load_model(Path(file) if file else None, trusted(config.classification.model_key)), Counter()
    except InputError as error:
        if not file:
            raise
        log.warning("%s; the shipped model judges instead", error)
        return load_model(), Counter(model_refused=1)


def set_back_s(latest: str, wall_ns: int) -> float:
    """Say by how much the system clock was set back.

    Parameters
    ----------
    latest : str
        What the node remembers under `LATEST`: the latest time it knew to be right, or that the clock ever said.
    wall_ns : int
        What the clock says now, UTC.

    Returns
    -------
    float
        Seconds; 0 where it was not.
    """
    back_s = (int(latest) - wall_ns) / NS_PER_S if latest.isdecimal() else 0.0
    return back_s if back_s > SET_BACK_S else 0.0


def model_name(file: str, key: str = "") -> str:
    """Try the model of a node.

    Parameters
    ----------
    file : str
        The model's file; empty for the one shipped.
    key : str
        Public key that it may be signed with, besides AGLS's own.

    Returns
    -------
    str
        Its name.

    Raises
    ------
    InputError
        If it cannot be used.
    """
    from agls.classify.model import load_model, trusted

    return load_model(Path(file) if file else None, trusted(key)).name


def _counts_of(source: Source) -> Counter[str]:
    """Ask a source what befell it; files and simulators have nothing to tell."""
    counts = getattr(source, "counts", None)
    return Counter(counts) if isinstance(counts, Counter) else Counter()


class NodeShell:
    """What a running node consists of besides its pipeline.

    Parameters
    ----------
    config : NodeConfig
        The node's configuration.
    node : Node
        The pipeline.
    outbox : Outbox
        Numbers detections and keeps them.
    store : Store
        Where the outbox keeps them; what leaves the node is noted there too.
    clips : ClipKeeper, optional
        Keeps the sound of gunshots; purged with each heartbeat.
    around : Around, optional
        Whom it asks and tells besides.
    """

    def __init__(
        self,
        config: NodeConfig,
        node: Node,
        outbox: Outbox,
        store: Store,
        clips: ClipKeeper | None = None,
        around: Around | None = None,
    ) -> None:
        self._status = Status(
            sensor_id=config.sensor_id,
            boot_id=outbox.boot_id,
            state="online",
            version=__version__,
            model=node.model.name,
        )
        self.connection = Connection(
            config.mqtt,
            client_id=f"agls-node-{config.sensor_id}",
            subscriptions=[topic("ack", config.sensor_id)],
            status=self._status,
        )
        self._node, self._outbox, self._store = node, outbox, store
        self._around = around = around or Around()
        self._clips = clips or ClipKeeper(config.clips)
        self._window_count = min(WINDOW_COUNT, config.mqtt.queue_limit_count)
        self._heartbeat_ns = round(config.heartbeat_s * NS_PER_S)
        self._clock_ns = around.clock_ns
        self._started_ns = self._clock_ns()
        self._beat_ns = self._started_ns  # when the next heartbeat is due
        microphone, survey = config.microphone, config.survey
        self._health = Health(
            microphone.full_scale_db_spl,
            around.sense,
            store.known,
            self._remember,
            self._started_ns,
            microphone.device,
            (survey.latitude_deg, survey.longitude_deg) if survey else None,
        )
        self._was_deaf = False
        self._said = ""
        self._sessions_count = self._greeted_count = 0
        self._exchanged_ns = 0  # when the broker was last looked after
        self._noted_ns = 0  # when the time was last remembered
        self._done: Counter[str] = Counter()
        self._look_around(config)

    def _look_around(self, config: NodeConfig) -> None:
        """Notice at the start what is not as it was at the end, or not as it should be."""
        owner = self._store.known("sensor_id")
        if owner not in ("", config.sensor_id):
            self._done["other_node"] = 1
            log.warning('the outbox is that of "%s", but the file says that this node is "%s"', owner, config.sensor_id)
        else:
            self._remember("sensor_id", config.sensor_id)
        self._latest_ns = int(self._store.known(LATEST) or 0)
        if (back_s := set_back_s(str(self._latest_ns), time.time_ns())) > 0:
            self._done["clock_set_back"] = 1
            log.warning("the system clock was set back: this node knows a time %.0f s later", back_s)

    @property
    def counts(self) -> Counter[str]:
        """Count what was done and refused, by name.

        Returns
        -------
        collections.Counter
            Name to number.
        """
        clips = Counter(clips_kept=self._clips.kept_count, clips_failed=self._clips.failed_count)
        heard = self._around.befell() + self._node.counts
        return self._done + heard + self._outbox.counts + self.connection.counts + clips

    def hear(self, block: Block) -> None:
        """Take in a block, and say what there is to say.

        Parameters
        ----------
        block : Block
            The next samples; none where the source has none at present, so that the node goes on with all else.
        """
        now_ns = self._clock_ns()
        self._health.hearing.feed(block, now_ns)
        is_deaf = self._health.hearing.is_deaf(now_ns)
        if is_deaf != self._was_deaf:
            self._was_deaf = is_deaf
            self._beat_ns = now_ns  # the hub is told at once
        if not is_deaf:
            self._around.supervisor.alive(now_ns)
        is_due = now_ns - self._exchanged_ns >= EXCHANGE_NS
        if is_due and (block.samples.size or is_deaf):
            self._tell_state(block, is_deaf)
        if block.samples.size:
            self._put(self._node.feed(block))
        # A quiet node has hardly anything to say: what it looks up each time costs more than hearing.
        if is_due or len(self._outbox):
            self._exchange(wait_s=0.0)
        if is_due:
            self._exchanged_ns = now_ns

    def _tell_state(self, block: Block, is_deaf: bool) -> None:
        """Say in a line how it goes, when it goes otherwise than before."""
        if is_deaf:
            said = f"deaf: {self._around.trouble() or 'it gives one and the same value'}"
        elif self._node.clock.known(block.first_index) == "yes":
            said = f"hears; times by {self._node.clock.state_at(block.first_index).mode}"
        else:
            said = "hears; no times until the clock is known"
        if said != self._said:
            self._said = said
            log.log(logging.WARNING if is_deaf else logging.INFO, "%s: %s", self._node.sensor_id, said)
            self._around.supervisor.tell(f"STATUS={said}")

    def finish(self, stop: threading.Event) -> None:
        """Decide what is still open, and wait a bounded time until the hub has everything.

        Parameters
        ----------
        stop : threading.Event
            Where set, the wait is short.
        """
        self._put(self._node.finish())
        self._beat_ns = 0  # the hub learns from a heartbeat how many there are to wait for
        begun_s = time.monotonic()
        self._exchange(wait_s=0.0)
        while len(self._outbox) and time.monotonic() - begun_s < (STOP_S if stop.is_set() else DRAIN_S):
            self._exchange(wait_s=0.05)
        self._done["unacknowledged"] = len(self._outbox)

    def _put(self, detections: list[Detection]) -> None:
        now_ns = self._clock_ns()
        for detection in detections:
            if detection.stage == "final":
                self._done["detections"] += 1
                self._around.observe(self._outbox.put(detection, now_ns))
            elif self.connection.connected:
                # Early notice, of no use later; but its number must be the final one's, whatever happens in between.
                self._publish([self._outbox.number(detection)], "preliminary")

    def _exchange(self, wait_s: float) -> None:
        """Hear the hub's acknowledgements, send what is due."""
        for received in self.connection.take(wait_s):
            if isinstance(received.record, Ack):
                self._outbox.acknowledged(received.record)
                self._around.observe(received.record)
        if self._sessions_count != self.connection.new_sessions_count:
            self._sessions_count = self.connection.new_sessions_count
            self._outbox.resend()
        now_ns = self._clock_ns()
        if now_ns - self._noted_ns >= self._heartbeat_ns:
            self._noted_ns = now_ns
            self._remember_time(time.time_ns())
        if not self.connection.connected:
            return
        room_count = max(0, self._window_count - self.connection.outgoing_count)
        self._publish(self._outbox.take(now_ns, room_count), "detection")
        if now_ns >= self._beat_ns:
            self._beat_ns = now_ns + self._heartbeat_ns
            self._beat(now_ns)

    def _publish(self, records: list[Detection] | list[Heartbeat], kind: str) -> None:
        """Send records, and note that they left."""
        for record in records:
            self.connection.publish(record)
        if records:
            self._note(kind, len(records), sum(len(encode(record)) for record in records))

    def _beat(self, now_ns: int) -> None:
        """Say how the node is; the same once more for each earlier name that something is still held under."""
        beat = self._heartbeat(now_ns)
        beats = [beat]
        for boot_id, oldest_seq, next_seq in self._outbox.earlier():
            beats.append(msgspec.structs.replace(beat, boot_id=boot_id, oldest_seq=oldest_seq, next_seq=next_seq))
        self._publish(beats, "heartbeat")
        self._done["heartbeats"] += 1
        self._clips.purge(time.time_ns())
        greeted_count = self.connection.counts["connected"]
        if greeted_count > self._greeted_count:  # the connection says by itself that we are there
            greeted = greeted_count - self._greeted_count
            self._note("status", greeted, greeted * len(encode(self._status)))
            self._greeted_count = greeted_count

    def _note(self, kind: str, number: int, size_bytes: int) -> None:
        try:
            self._store.note_left(kind, number, size_bytes, time.time_ns())
        except sqlite3.Error:
            self._done["not_noted"] += number

    def _remember(self, name: str, text: str) -> None:
        try:
            self._store.know(name, text)
        except sqlite3.Error:
            self._done["not_remembered"] += 1

    def _remember_time(self, wall_ns: int) -> None:
        """Remember how late it is: a clock that says less at the next start was set back, or begins in 1970."""
        is_sure = self._node.clock.state.mode in ("pps_audio", "pps_chrony", "ntp")
        self._latest_ns = wall_ns if is_sure else max(self._latest_ns, wall_ns)
        self._remember(LATEST, str(self._latest_ns))

    def _heartbeat(self, now_ns: int) -> Heartbeat:
        stands: dict[Sign, int] = {
            "other_node": self._done["other_node"],
            "disk_full": self._outbox.unwritten_count or self._store.full,
        }
        return Heartbeat(
            sensor_id=self._node.sensor_id,
            boot_id=self._outbox.boot_id,
            sent_ns=UtcNs(time.time_ns()),
            uptime_s=(now_ns - self._started_ns) / NS_PER_S,
            clock=self._node.clock.state,
            next_seq=self._outbox.next_seq,
            oldest_seq=self._outbox.oldest_seq,
            queue_count=len(self._outbox),
            counts=dict(self.counts.most_common(MAX_COUNTS)),
            model=self._node.model.name,
            **self._health.beat(now_ns, [name for name, number in stands.items() if number]),
        )
