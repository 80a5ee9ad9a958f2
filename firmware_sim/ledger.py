"""The account of a load test: each message published held against those that arrived."""

from array import array
from dataclasses import dataclass, field

import numpy as np

RATE_WINDOW_S = 10.0

Key = tuple[str, str, int]


@dataclass(frozen=True)
class Account:
    """What became of every message.

    Attributes
    ----------
    nodes, published, acknowledged, received : int
        Nodes that were connected; messages published, acknowledged by the broker, and received for the first time.
    lost, duplicates, strange, late : int
        Never received; received again; received and never published; received late.
    resent, hub_acknowledged : int
        Detections that a hub asked for again, and that it has acknowledged.
    disconnects : int
        Connections that broke.
    talked_s, rate_per_s, least_per_s : float
        How long they talked, how many messages a second were received, and in the worst ten seconds.
    behind_s : float
        By how much this process was at worst late to publish: it tells of this machine, not of the broker.
    puback_s, delivery_s : dict of str to float
        Times from publishing to PUBACK and to the listener: ``p50``, ``p99``, ``max``.
    processor_share, memory_mib : float
        What it cost this process.
    """

    nodes: int
    published: int
    acknowledged: int
    received: int
    lost: int
    duplicates: int
    strange: int
    late: int
    resent: int
    hub_acknowledged: int
    disconnects: int
    talked_s: float
    rate_per_s: float
    least_per_s: float
    behind_s: float
    puback_s: dict[str, float]
    delivery_s: dict[str, float]
    processor_share: float
    memory_mib: float

    @property
    def complete(self) -> bool:
        """Say whether every message was acknowledged and received exactly once, but for those a hub asked for again.

        Returns
        -------
        bool
            Whether it was.
        """
        once = not (self.lost or self.strange) and self.duplicates <= self.resent
        return once and self.acknowledged == self.published + self.resent


@dataclass
class Ledger:
    """Holds each message received against those published.

    Attributes
    ----------
    late_s : float
        From when on it is late [s].
    pending : dict
        What was published and not yet received, with its time.
    """

    late_s: float
    pending: dict[Key, float] = field(default_factory=dict)
    published: int = 0
    acknowledged: int = 0
    received: int = 0
    duplicates: int = 0
    strange: int = 0
    late: int = 0
    resent: int = 0
    puback_s: "array[float]" = field(default_factory=lambda: array("f"))
    delivery_s: "array[float]" = field(default_factory=lambda: array("f"))
    received_at_s: "array[float]" = field(default_factory=lambda: array("d"))
    _newest: dict[tuple[str, str], int] = field(default_factory=dict)

    def publish(self, key: Key, now_s: float) -> None:
        """Note that a message is published.

        Parameters
        ----------
        key : tuple
            Sensor, kind and number; numbers of one sensor and kind grow.
        now_s : float
            When [s].
        """
        self.pending[key] = now_s
        self._newest[key[:2]] = key[2]
        self.published += 1

    def acknowledge(self, after_s: float) -> None:
        """Note a PUBACK.

        Parameters
        ----------
        after_s : float
            How long it took [s].
        """
        self.acknowledged += 1
        self.puback_s.append(after_s)

    def receive(self, key: Key, now_s: float) -> None:
        """Note that a message has arrived.

        Parameters
        ----------
        key : tuple
            As published.
        now_s : float
            When [s].
        """
        sent_s = self.pending.pop(key, None)
        if sent_s is None:
            known = key[2] <= self._newest.get(key[:2], -1)
            self.duplicates += known
            self.strange += not known
            return
        self.received += 1
        self.received_at_s.append(now_s)
        self.delivery_s.append(now_s - sent_s)
        self.late += now_s - sent_s > self.late_s


def least_rate_per_s(at_s: np.ndarray, begun_s: float, ended_s: float) -> float:
    """Find the lowest rate over any of the ten-second windows, one after the other.

    Parameters
    ----------
    at_s : numpy.ndarray, shape (n,)
        Times [s].
    begun_s, ended_s : float
        Between which to look [s].

    Returns
    -------
    float
        Per second; of the whole where it is shorter than two windows.
    """
    windows = max(1, int((ended_s - begun_s) / RATE_WINDOW_S))
    edges = np.linspace(begun_s, ended_s, windows + 1)
    return float(np.histogram(at_s, edges)[0].min() / (edges[1] - edges[0]))


def quantiles(values: "array[float]") -> dict[str, float]:
    """Sum up times.

    Parameters
    ----------
    values : array of float
        Times [s].

    Returns
    -------
    dict of str to float
        ``p50``, ``p99``, ``max``; not numbers where there is no time.
    """
    found = np.frombuffer(values, np.float32) if values else np.full(1, np.nan, np.float32)
    return {name: round(float(np.quantile(found, q)), 6) for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}
