"""Follow one gunshot here: from samples at a microphone to a call at dispatch.

On each pole runs a `Node`, in the city one `Hub`. What goes in comes back as records; neither reads a clock, a file
or a socket. The shells around them (`agls.sensor.shell`, `agls.hub`) and `agls.replay` do that.

    Block -> onset -> classify -> Detection ~~MQTT~~> intake -> associate, solve -> Shot -> incident -> cad, camera

A stage is an object with ``feed(x)``, and ``advance(now_ns)`` if it waits for something; calling ``advance`` more or
less often changes nothing. The node's stages are imported by `Node` and the hub's by `Hub`, so that a node never loads
what only the hub needs.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

import msgspec

from agls.config import NodeConfig, SiteConfig
from agls.messages import NS_PER_S, Ack, Block, Detection, Inbound, Incident, Onset, Outbound, Rejection, Shot, UtcNs

if TYPE_CHECKING:
    from collections.abc import Callable

    from agls.classify.model import Model
    from agls.sensor.clock import SampleClock


WAITING_COUNT = 1200  # impulses that may wait for their time: a minute of the most that are reported


class Node:
    """One sensor: blocks of samples in, detections out.

    Parameters
    ----------
    config : NodeConfig
        The node's configuration.
    clock : SampleClock
        Turns a sample index into UTC.
    model : Model
        Judges impulses.
    boot_id : str
        Names this run of the node; with `sensor_id` and `seq` it identifies a detection.
    on_impulse : callable, optional
        Told of each impulse with the sound it was judged by and what it was judged to be.
    early : bool, optional
        Whether impulses are handed over as soon as they are heard too, as preliminary: when and how loud, not yet what.
    """

    def __init__(
        self,
        config: NodeConfig,
        clock: SampleClock,
        model: Model,
        boot_id: str,
        on_impulse: Callable[[Onset, Detection], None] | None = None,
        *,
        early: bool = False,
    ) -> None:
        from agls.sensor.onset import OnsetDetector

        self.onsets = OnsetDetector(config.onset, config.microphone.full_scale_db_spl)
        self.model = model
        self.clock = clock
        self.microphone = config.microphone
        self.classification = config.classification
        self.sensor_id = config.sensor_id
        self.boot_id = boot_id
        self.next_seq = 0
        self.on_impulse = on_impulse
        self._waiting: deque[tuple[float, Detection]] = deque()  # what was heard before the clock was known
        self._early: dict[float, int] | None = {} if early else None  # index to number of what was handed over early
        self._refused: Counter[str] = Counter()

    def feed(self, block: Block) -> list[Detection]:
        """Hear a block.

        Parameters
        ----------
        block : Block
            The samples that follow the previous block.

        Returns
        -------
        list of Detection
            The impulses that are now decided, in order of time; they wait while the clock does not know their time.
            Then those that are only heard, where they are wanted early.
        """
        return self._timed(self.onsets.feed(block)) + self._heard()

    def finish(self) -> list[Detection]:
        """Decide what is still waiting for samples that will not come.

        Returns
        -------
        list of Detection
            The last impulses.
        """
        found = self._timed(self.onsets.finish())
        self._refused["no_time"] += len(self._waiting)
        self._waiting.clear()
        return found

    @property
    def counts(self) -> Counter[str]:
        """Count the impulses refused so far, by reason.

        Returns
        -------
        collections.Counter
            Reason to number.
        """
        return self.onsets.counts + self._refused

    def _timed(self, onsets: list[Onset]) -> list[Detection]:
        """Judge impulses, and hand over those whose time is known: no time rather than a wrong one."""
        for onset in onsets:
            judged = self._judged(onset)
            self._waiting.append((onset.index, judged))
            # Sound does not wait: of what has no time yet none is kept.
            if self.on_impulse and self.clock.known(onset.index) == "yes":
                self.on_impulse(onset, self._stamped(onset.index, judged))
        found = []
        while self._waiting and (known := self.clock.known(self._waiting[0][0])) != "not yet":
            index, judged = self._waiting.popleft()
            if known == "never":
                self._refused["no_time"] += 1
                continue
            found.append(msgspec.structs.replace(self._stamped(index, judged), seq=self._number(index)))
        while len(self._waiting) > WAITING_COUNT:
            self._waiting.popleft()
            self._refused["no_time"] += 1
        return found

    def _heard(self) -> list[Detection]:
        """Say of impulses that are not judged yet when they arrived; none whose time is not known."""
        if self._early is None:
            return []
        found = []
        for onset in self.onsets.early():
            if self.clock.known(onset.index) == "yes":
                told = self._stamped(onset.index, self._described(onset))
                found.append(msgspec.structs.replace(told, stage="preliminary", seq=self.next_seq))
                self._early[onset.index] = self.next_seq
                self.next_seq += 1
        return found

    def _number(self, index: float) -> int:
        """Give an impulse that is judged the number it was told under early, if it was, else the next."""
        early = self._early or {}
        if index in early:
            seq = early[index]
            for gone in [one for one in early if one <= index]:
                del early[gone]
            return seq
        self.next_seq += 1
        return self.next_seq - 1

    def _stamped(self, index: float, judged: Detection) -> Detection:
        """Say when an impulse arrived, and how sure that is."""
        clock, chain = self.clock.state_at(index), self.microphone
        return msgspec.structs.replace(
            judged,
            toa_ns=UtcNs(self.clock.utc_ns(index) - round(chain.latency_s * NS_PER_S)),
            toa_sigma_s=(judged.toa_sigma_s**2 + clock.sigma_s**2 + chain.latency_sigma_s**2) ** 0.5,
            clock=clock,
        )

    def _judged(self, onset: Onset) -> Detection:
        """Say what an impulse was; its time, number and share of the clock in sigma are still to come."""
        from agls.classify.model import recalibrate

        weigh = self.classification
        llr = recalibrate(self.model.judge(onset), weigh.gunshot_slope, weigh.gunshot_offset)
        return msgspec.structs.replace(self._described(onset), llr=llr, model=self.model.name)

    def _described(self, onset: Onset) -> Detection:
        """Say how an impulse sounded."""
        return Detection(
            sensor_id=self.sensor_id,
            boot_id=self.boot_id,
            seq=0,
            toa_ns=UtcNs(0),
            toa_sigma_s=onset.sigma_s,
            wave=onset.wave,
            level_db=round(onset.level_db, 2),
            snr_db=round(onset.snr_db, 2),
            clipped=onset.clipped,
            clock=self.clock.state,
        )


class Hub:
    """One city: what nodes say in; shots, incidents, CAD events and slew requests out.

    Parameters
    ----------
    site : SiteConfig
        The site's configuration.
    """

    def __init__(self, site: SiteConfig) -> None:
        from agls.bridge.cad.event import CadDesk
        from agls.bridge.camera.plan import CameraPlanner
        from agls.bridge.policy import Policies
        from agls.intake import Intake
        from agls.locate.associate import Associator
        from agls.locate.frame import Frame
        from agls.locate.incident import Incidents

        self.frame = Frame.of_site(site)
        self.intake = Intake(site)
        self.associator = Associator(site, self.frame)
        self.incidents = Incidents(site, self.frame)
        self.policies = Policies(site)
        self.cad = CadDesk(site)
        self.cameras = CameraPlanner(site)
        self.clock_offsets_ns = {one.sensor_id: round(one.clock_offset_s * NS_PER_S) for one in site.sensor}
        self.counts: Counter[str] = Counter()

    def feed(self, message: Inbound, received_ns: int) -> list[Outbound]:
        """Take in what a node said.

        Parameters
        ----------
        message : Inbound
            A detection, heartbeat or status.
        received_ns : int
            When the hub received it, UTC; never less than in an earlier call.

        Returns
        -------
        list of Outbound
            What follows from it and from the time passed, in order.
        """
        out = self.advance(received_ns)
        taken = self.intake.feed(message, received_ns)
        if isinstance(taken, Rejection):
            return out + self._tell([taken], received_ns)
        if isinstance(taken, Detection):
            # As the survey found this sensor's clock to be off (calibration).
            toa_ns = UtcNs(taken.toa_ns - self.clock_offsets_ns[taken.sensor_id])
            on_time = taken if toa_ns == taken.toa_ns else msgspec.structs.replace(taken, toa_ns=toa_ns)
            return out + self._tell(self.associator.feed(on_time, received_ns), received_ns)
        return out

    def advance(self, now_ns: int) -> list[Outbound]:
        """Let time pass.

        Parameters
        ----------
        now_ns : int
            UTC; never less than in an earlier call.

        Returns
        -------
        list of Outbound
            What became ready by then, in order.
        """
        out: list[Outbound] = []
        for due_ns, found in self.associator.advance(now_ns):
            out += self.cad.advance(due_ns)
            out += self._tell([found], due_ns)
        return out + self.cad.advance(now_ns)

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
        return self.intake.acks(now_ns)

    def _tell(self, found: list[Shot | Rejection], now_ns: int) -> list[Outbound]:
        """Pass shots on to incidents, and incidents on to dispatch and cameras."""
        out: list[Outbound] = []
        for item in found:
            told = self.incidents.feed(item, now_ns) if isinstance(item, Shot) else [item]
            out += [self.policies.judge(one) if isinstance(one, Incident) else one for one in told]
        for incident in [item for item in out if isinstance(item, Incident)]:
            out += self.cad.feed(incident, now_ns)
            out += self.cameras.feed(incident, now_ns)
        self.counts.update(f"{item.stage}.{item.reason}" for item in out if isinstance(item, Rejection))
        return out
