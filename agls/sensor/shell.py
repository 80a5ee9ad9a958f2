"""Run one node live: source, pipeline, outbox and broker, joined by one loop.

The loop turns once per block of samples and never waits for the network: what cannot be sent stays in the outbox, and
the connection works in a thread of its own.
"""

import math
import os
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

from agls import __version__
from agls.config import NodeConfig
from agls.messages import NS_PER_S, Ack, Block, Detection, Heartbeat, Status, UtcNs
from agls.pipeline import Node
from agls.sensor.capture import Source
from agls.sensor.outbox import Outbox
from agls.transport import Connection, topic

# How long a node whose source has ended, or that was told to stop, waits for the hub's last word.
DRAIN_S = 30.0
STOP_S = 2.0
# Messages on their way to the broker at once: enough to keep it busy, few enough that a heartbeat is not kept waiting.
WINDOW_COUNT = 64
MAX_COUNTS = 64  # room for names in a heartbeat (messages.Heartbeat.counts)
SILENCE = 1e-12  # mean square below which a level would mean nothing: -120 dB re full scale


def new_boot_id() -> str:
    """Name a run of a node: when it began, and a little chance.

    Returns
    -------
    str
        Such as ``20261120T132721-9f3c61a2``; it sorts by time and is no secret.
    """
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.urandom(4).hex()}"


def run_node(config: NodeConfig, source: Source, stop: threading.Event, boot_id: str | None = None) -> Counter[str]:
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
        Names this run; by default `new_boot_id`.

    Returns
    -------
    collections.Counter
        What was done and refused, by name: ``detections``, ``heartbeats``, ``unacknowledged``, and the counts of the
        pipeline, the outbox and the connection.

    Raises
    ------
    InputError
        If the source, the model or the broker's settings cannot be used.
    """
    from agls.classify.model import load_model

    model_file = config.classification.model_file
    try:
        node = Node(
            config, source.clock, load_model(Path(model_file) if model_file else None), boot_id or new_boot_id()
        )
        shell = NodeShell(config, node)
        with shell.connection:
            for block in source.blocks():
                shell.hear(block)
                if stop.is_set():
                    break
            shell.finish(stop)
    finally:
        source.close()
    return shell.counts


class Loudness:
    """The level at the microphone between two heartbeats.

    Parameters
    ----------
    full_scale_db_spl : float
        Level of full scale [dB SPL].
    """

    def __init__(self, full_scale_db_spl: float) -> None:
        self._full_scale_db_spl = full_scale_db_spl
        self._mean_squares: list[float] = []
        self._last = (self._db(0.0), self._db(0.0))

    def feed(self, block: Block) -> None:
        """Hear a block.

        Parameters
        ----------
        block : Block
            The next samples.
        """
        if block.samples.size:
            self._mean_squares.append(float(np.mean(np.square(block.samples, dtype=np.float64))))

    def take(self) -> tuple[float, float]:
        """Say how loud it was since the last call.

        Returns
        -------
        level_db : float
            Mean power [dB SPL].
        noise_floor_db : float
            The power that a tenth of the blocks stayed below [dB SPL].
        """
        if self._mean_squares:
            ordered = sorted(self._mean_squares)
            self._last = self._db(math.fsum(ordered) / len(ordered)), self._db(ordered[len(ordered) // 10])
            self._mean_squares.clear()
        return self._last

    def _db(self, mean_square: float) -> float:
        return round(10 * math.log10(max(mean_square, SILENCE)) + self._full_scale_db_spl, 2)


class NodeShell:
    """What a running node consists of besides its pipeline.

    Parameters
    ----------
    config : NodeConfig
        The node's configuration.
    node : Node
        The pipeline.
    """

    def __init__(self, config: NodeConfig, node: Node) -> None:
        self.connection = Connection(
            config.mqtt,
            client_id=f"agls-node-{config.sensor_id}",
            subscriptions=[topic("ack", config.sensor_id)],
            status=Status(
                sensor_id=config.sensor_id,
                boot_id=node.boot_id,
                state="online",
                version=__version__,
                model=node.model.name,
            ),
        )
        self._node = node
        self._outbox = Outbox(node.boot_id, config.outbox_limit_count)
        self._window_count = min(WINDOW_COUNT, config.mqtt.queue_limit_count)
        self._heartbeat_ns = round(config.heartbeat_s * NS_PER_S)
        self._loudness = Loudness(config.microphone.full_scale_db_spl)
        self._sessions_count = 0
        self._started_ns = time.monotonic_ns()
        self._beat_ns = self._started_ns  # when the next heartbeat is due
        self._done: Counter[str] = Counter()

    @property
    def counts(self) -> Counter[str]:
        """Count what was done and refused, by name.

        Returns
        -------
        collections.Counter
            Name to number.
        """
        return self._done + self._node.counts + self._outbox.counts + self.connection.counts

    def hear(self, block: Block) -> None:
        """Take in a block, and say what there is to say.

        Parameters
        ----------
        block : Block
            The next samples.
        """
        self._loudness.feed(block)
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
        now_ns = time.monotonic_ns()
        for detection in detections:
            if detection.stage == "final":
                self._done["detections"] += 1
                self._outbox.put(detection, now_ns)
            else:
                self.connection.publish(detection)  # early notice, of no use later

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
        now_ns = time.monotonic_ns()
        for detection in self._outbox.take(now_ns, max(0, self._window_count - self.connection.outgoing_count)):
            self.connection.publish(detection)
        if now_ns >= self._beat_ns:
            self._beat_ns = now_ns + self._heartbeat_ns
            self.connection.publish(self._heartbeat(now_ns))
            self._done["heartbeats"] += 1

    def _heartbeat(self, now_ns: int) -> Heartbeat:
        level_db, noise_floor_db = self._loudness.take()
        return Heartbeat(
            sensor_id=self._node.sensor_id,
            boot_id=self._node.boot_id,
            sent_ns=UtcNs(time.time_ns()),
            uptime_s=(now_ns - self._started_ns) / NS_PER_S,
            clock=self._node.clock.state,
            level_db=level_db,
            noise_floor_db=noise_floor_db,
            next_seq=self._node.next_seq,
            oldest_seq=self._outbox.oldest_seq,
            queue_count=len(self._outbox),
            counts=dict(self.counts.most_common(MAX_COUNTS)),
        )
