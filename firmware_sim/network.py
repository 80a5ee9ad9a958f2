"""The way from a node to its broker, with what goes wrong on it: a filter for whatever is published.

It stands where a message leaves the node, so that everything behind it is the real thing:

    network = Network(scene.fault, scene.seed)
    network.feed("pole-7", message, now_s)
    for sensor_id, message in network.advance(now_s):
        publish(message)

As everywhere, how often `advance` is called changes nothing but when what is due is handed out.
"""

import heapq
import random
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from firmware_sim.faults import AnyFault, Duplication, Fault, Loss, Outage, Reordering, of_sensor

M = TypeVar("M")
F = TypeVar("F", bound=Fault)


class Network(Generic[M]):
    """Carries messages of all nodes, and loses, doubles, delays and reorders them as the faults of a scene say.

    Parameters
    ----------
    faults : sequence of AnyFault
        Those of a scene; only those of messages matter.
    seed : int
        The same seed and messages meet the same fate.
    """

    def __init__(self, faults: Sequence[AnyFault], seed: int) -> None:
        self._faults, self._seed = tuple(faults), seed
        self._chance: dict[str, random.Random] = {}
        self._sent_count = 0
        self._under_way: list[tuple[float, int, str, M]] = []
        self.counts: Counter[str] = Counter()

    def feed(self, sensor_id: str, message: M, now_s: float) -> None:
        """Send a message on its way.

        Parameters
        ----------
        sensor_id : str
            Whose it is.
        message : M
            Anything.
        now_s : float
            Since the scene began [s].
        """
        self.counts["sent"] += 1
        if self._meets(sensor_id, Loss, now_s):
            self.counts["lost"] += 1
            return
        copies = 1
        if self._meets(sensor_id, Duplication, now_s):
            self.counts["duplicated"] += 1
            copies = 2
        for _ in range(copies):
            self._put(sensor_id, message, now_s + self._hold_s(sensor_id, now_s))

    def advance(self, now_s: float) -> list[tuple[str, M]]:
        """Hand out what has arrived.

        Parameters
        ----------
        now_s : float
            Since the scene began [s].

        Returns
        -------
        list of tuple
            Sensor and message, in order of arrival.
        """
        found = []
        while self._under_way and self._under_way[0][0] <= now_s:
            _, _, sensor_id, message = heapq.heappop(self._under_way)
            found.append((sensor_id, message))
        return found

    def reachable(self, sensor_id: str, now_s: float) -> bool:
        """Say whether a node reaches its broker.

        Parameters
        ----------
        sensor_id : str
            The node's sensor.
        now_s : float
            Since the scene began [s].

        Returns
        -------
        bool
            Whether it does.
        """
        return not any(outage.holds(now_s) for outage in of_sensor(self._faults, sensor_id, Outage))

    def _put(self, sensor_id: str, message: M, at_s: float) -> None:
        """Let a message arrive, after an outage if there is one by then; what waits together keeps its order."""
        outages = of_sensor(self._faults, sensor_id, Outage)
        while (until_s := max((one.end_s for one in outages if one.holds(at_s)), default=at_s)) > at_s:
            self.counts["held"] += 1
            at_s = until_s
        self._sent_count += 1
        heapq.heappush(self._under_way, (at_s, self._sent_count, sensor_id, message))

    def _hold_s(self, sensor_id: str, now_s: float) -> float:
        met = self._meets(sensor_id, Reordering, now_s)
        self.counts["reordered"] += bool(met)
        return sum(self._of(sensor_id).uniform(0, fault.hold_s) for fault in met)

    def _meets(self, sensor_id: str, kind: type[F], now_s: float) -> list[F]:
        """Draw which faults of a kind a message meets."""
        holding = [fault for fault in of_sensor(self._faults, sensor_id, kind) if fault.holds(now_s)]
        return [fault for fault in holding if self._of(sensor_id).random() < getattr(fault, "share", 1.0)]

    def _of(self, sensor_id: str) -> random.Random:
        """Find a sensor's own chance, so that another sensor's messages change nothing for it."""
        if sensor_id not in self._chance:
            self._chance[sensor_id] = random.Random(self._seed * 2**32 + zlib.crc32(sensor_id.encode()))  # noqa: S311
        return self._chance[sensor_id]


def filtered(
    publish: Callable[[M], object], network: Network[M], sensor_id: str, now_s: Callable[[], float]
) -> Callable[[M], None]:
    """Put a network before a node's own publish, such as that of its connection.

    What is under way leaves with the node's next message; whoever wants it sooner calls `Network.advance` too.

    Parameters
    ----------
    publish : callable
        Publishes a message.
    network : Network
        Of this node alone, for what it hands out is published here.
    sensor_id : str
        The node's sensor.
    now_s : callable
        Tells the time since the scene began [s].

    Returns
    -------
    callable
        To be called in place of `publish`.
    """

    def _send(message: M) -> None:
        network.feed(sensor_id, message, now_s())
        for _, due in network.advance(now_s()):
            publish(due)

    return _send
