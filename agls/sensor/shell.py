"""Run one node live: source, pipeline, outbox and broker, joined by one loop.

The loop turns once per block of samples and never waits for the network: what cannot be sent stays in the outbox, and
the connection works in a thread of its own.
"""

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec

from agls import __version__
from agls.config import NodeConfig
from agls.messages import NS_PER_S, Ack, Block, Detection, Heartbeat, Status, UtcNs, encode
from agls.pipeline import Node
from agls.sensor.capture import Source
from agls.sensor.health import Health, Machine, read_machine
from agls.sensor.outbox import Outbox
from agls.sensor.privacy import ClipKeeper
from agls.sensor.store import MEMORY, Store
from agls.transport import Connection, topic

__all__ = ["NodeShell", "run_node"]

# How long a node whose source has ended, or that was told to stop, waits for the hub's last word.
DRAIN_S = 30.0
STOP_S = 2.0
# Messages on their way to the broker at once: enough to keep it busy, few enough that a heartbeat is not kept waiting.
WINDOW_COUNT = 64
MAX_COUNTS = 64  # room for names in a heartbeat (messages.Heartbeat.counts)


def run_node(
    config: NodeConfig,
    source: Source,
    stop: threading.Event,
    boot_id: str = "",
    sense: Callable[[], Machine] | None = None,
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
    sense : callable, optional
        How the machine is; by default `read_machine`.

    Returns
    -------
    collections.Counter
        What was done and refused, by name: ``detections``, ``heartbeats``, ``unacknowledged``, and the counts of the
        pipeline, the outbox and the connection.

    Raises
    ------
    InputError
        If the source, the model, the outbox or the broker's settings cannot be used.
    """
    from agls.classify.model import load_model

    model_file = config.classification.model_file
    try:
        clips = ClipKeeper(config.clips)
        model = load_model(Path(model_file) if model_file else None)
        with closing(Store(config.outbox_file or MEMORY)) as store:
            outbox = Outbox(store, config.outbox_limit_count, config.outbox_limit_bytes, boot_id)
            node = Node(config, source.clock, model, outbox.boot_id, on_impulse=clips.keep)
            shell = NodeShell(config, node, outbox, store, clips, sense, heard_counts=partial(_counts_of, source))
            with shell.connection:
                for block in source.blocks():
                    shell.hear(block)
                    if stop.is_set():
                        break
                shell.finish(stop)
    finally:
        source.close()
    return shell.counts


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
    sense : callable, optional
        How the machine is; by default `read_machine`.
    clock_ns : callable, optional
        A clock that only goes forward.
    heard_counts : callable, optional
        What befell the source, by name.
    """

    def __init__(
        self,
        config: NodeConfig,
        node: Node,
        outbox: Outbox,
        store: Store,
        clips: ClipKeeper | None = None,
        sense: Callable[[], Machine] | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        heard_counts: Callable[[], Counter[str]] = Counter,
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
        self._clips = clips or ClipKeeper(config.clips)
        self._window_count = min(WINDOW_COUNT, config.mqtt.queue_limit_count)
        self._heartbeat_ns = round(config.heartbeat_s * NS_PER_S)
        self._clock_ns, self._heard_counts = clock_ns, heard_counts
        self._started_ns = clock_ns()
        self._beat_ns = self._started_ns  # when the next heartbeat is due
        folder = str(Path(config.outbox_file).absolute().parent) if config.outbox_file else ""
        microphone = config.microphone
        self._health = Health(
            microphone.full_scale_db_spl,
            sense or partial(read_machine, folder),
            store.known,
            self._remember,
            self._started_ns,
            microphone.device,
        )
        self._was_deaf = False
        self._sessions_count = self._greeted_count = 0
        self._done: Counter[str] = Counter()

    @property
    def counts(self) -> Counter[str]:
        """Count what was done and refused, by name.

        Returns
        -------
        collections.Counter
            Name to number.
        """
        clips = Counter(clips_kept=self._clips.kept_count, clips_failed=self._clips.failed_count)
        heard = self._heard_counts() + self._node.counts
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
        if self._health.hearing.is_deaf(now_ns) != self._was_deaf:
            self._was_deaf = not self._was_deaf
            self._beat_ns = now_ns  # the hub is told at once
        if block.samples.size:
            self._put(self._node.feed(block))
        self._exchange(wait_s=0.0)

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
                self._outbox.put(detection, now_ns)
            elif self.connection.connected:
                # Early notice, of no use later; but its number must be the final one's, whatever happens in between.
                self._publish([self._outbox.number(detection)], "preliminary")

    def _exchange(self, wait_s: float) -> None:
        """Hear the hub's acknowledgements, send what is due."""
        for received in self.connection.take(wait_s):
            if isinstance(received.record, Ack):
                self._outbox.acknowledged(received.record)
        if self._sessions_count != self.connection.new_sessions_count:
            self._sessions_count = self.connection.new_sessions_count
            self._outbox.resend()
        if not self.connection.connected:
            return
        now_ns = self._clock_ns()
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

    def _heartbeat(self, now_ns: int) -> Heartbeat:
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
            **self._health.beat(now_ns),
        )
