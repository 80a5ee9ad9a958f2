"""Who can be relied on now, and how much coverage that leaves: the hub's view of its nodes, from what they say.

A node is relied on unless there is a named reason not to. Reasons are what makes its detections absent or wrong;
remarks are what somebody should see to before it becomes a reason.

    reason          from
    never_heard     nothing came from it since the hub began
    offline         its status, said by itself or by its last will
    silent          no word for three heartbeats
    deaf            it says that its microphone gives nothing
    losing_samples  its count of overflows rises
    clock           its time is free or known to worse than `MAX_SIGMA_S`
    wrong_time      its system clock and the hub's differ by more than `MAX_OFF_NS`, twice in a row
    backlog         what it hears comes late: more than `BACKLOG_COUNT` detections wait there
    level_drop      it is much quieter there than it has ever been: covered, or cut
    moved           its receiver says that it stands elsewhere
    other_node      its file is another node's: it speaks under a name that is not its own

    remark          throttled, disk_full, clipping, behind (some detections wait), gaps (some are asked for in vain)

Coverage is the chance that enough of them hear a shot, over a grid around all sensors: each hears it with the
probability of the Pittsburgh live fire (`calibration.hearing`, in still air) over the noise floor it reports itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from agls.config import OnsetDetection, SiteConfig
from agls.intake import Gaps
from agls.messages import NS_PER_S, Detection, Heartbeat, Inbound, Status, format_utc

SILENT_NS = 60 * NS_PER_S
MISSED_COUNT = 3  # heartbeats
MAX_SIGMA_S = 0.010
# What a broker held back comes late, all at once: then the time of sending says nothing of the node's clock.
MAX_OFF_NS, AT_ONCE_NS, OFF_COUNT = 30 * NS_PER_S, NS_PER_S // 2, 2
BACKLOG_COUNT, BEHIND_COUNT = 100, 10
CLIPPING_SHARE = 0.001
REASON_SIGNS = ("deaf", "level_drop", "moved", "other_node")
# Of a handgun: level at 1 m, decline a decade of distance, scatter; and the noise where a node says nothing of it.
LEVEL_DB, DECADE_DB, SCATTER_DB, NOISE_DB = 164.0, 31.0, 11.0, 57.0
QUIETEST_DB = 30.0  # nowhere in a city is it quieter: a node that says so is not calibrated
MARGIN_M, CELLS_COUNT = 200.0, 24  # around all sensors; cells a side
NEAREST_M = 1.0
NO_GAPS = Gaps()

Floats = NDArray[np.float64]


@dataclass(slots=True)
class _Node:
    """What one node said last."""

    heard_ns: int = 0  # anything
    beat_ns: int = 0
    interval_ns: int = 0
    online: bool = True
    version: str = ""
    beat: Heartbeat | None = None
    losing: bool = False
    off_count: int = 0  # heartbeats in a row whose time was far from the hub's


@dataclass(frozen=True, slots=True)
class NodeState:
    """How one node is.

    Attributes
    ----------
    sensor_id : str
        Its name.
    reasons : tuple of str
        Why it cannot be relied on; none where it can.
    remarks : tuple of str
        What should be seen to.
    heard_ns : int
        When anything last came from it, UTC; 0 for never.
    version : str
        Of its software.
    beat : Heartbeat or None
        What it last said of itself.
    gaps : Gaps
        What of its numbers did not come.
    """

    sensor_id: str
    reasons: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    heard_ns: int = 0
    version: str = ""
    beat: Heartbeat | None = None
    gaps: Gaps = NO_GAPS

    @property
    def reliable(self) -> bool:
        """Tell whether it can be relied on.

        Returns
        -------
        bool
            Whether there is no reason not to.
        """
        return not self.reasons


@dataclass(frozen=True, slots=True)
class FleetState:
    """How all nodes of a site are.

    Attributes
    ----------
    at_ns : int
        When, UTC.
    nodes : tuple of NodeState
        Each of the site's sensors, in its order.
    coverage_share : float
        Chance that enough of those that can be relied on hear a shot somewhere on the site.
    coverage_whole_share : float
        The same if all could be.
    """

    at_ns: int
    nodes: tuple[NodeState, ...]
    coverage_share: float
    coverage_whole_share: float

    @property
    def reliable_count(self) -> int:
        """Count those that can be relied on.

        Returns
        -------
        int
            Number of nodes.
        """
        return sum(node.reliable for node in self.nodes)

    @property
    def counts(self) -> Counter[str]:
        """Count nodes and reasons, by name.

        Returns
        -------
        collections.Counter
            ``nodes``, ``reliable``, and each reason.
        """
        reasons = Counter(reason for node in self.nodes for reason in node.reasons)
        return reasons + Counter(nodes=len(self.nodes), reliable=self.reliable_count)

    def document(self) -> bytes:
        """Write it for people and their programs.

        Returns
        -------
        bytes
            Indented JSON with a final line break.
        """
        content = {
            "at": format_utc(self.at_ns),
            "nodes_count": len(self.nodes),
            "reliable_count": self.reliable_count,
            "coverage_share": round(self.coverage_share, 4),
            "coverage_whole_share": round(self.coverage_whole_share, 4),
            "nodes": [_plain(node) for node in self.nodes],
        }
        return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def _plain(node: NodeState) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "sensor_id": node.sensor_id,
        "reliable": node.reliable,
        "reasons": node.reasons,
        "remarks": node.remarks,
        "heard": format_utc(node.heard_ns) if node.heard_ns else "",
        **asdict(node.gaps),
    }
    if node.beat:
        said = msgspec.structs.asdict(node.beat)
        left_out = {"sensor_id", "sent_ns", "boot_id", "next_seq", "oldest_seq"}
        plain |= {name: value for name, value in said.items() if name not in left_out}
    return plain | ({"version": node.version} if node.version else {})


class Fleet:
    """Follow what the nodes of a site say of themselves.

    Parameters
    ----------
    site : SiteConfig
        The site.
    places_m : mapping of str to tuple of float
        East, north, up of each sensor [m] (`agls.locate.frame.Frame.sensor_positions_m`).
    gaps : callable, optional
        What of the nodes' numbers did not come (`agls.intake.Intake.gaps`).
    """

    def __init__(
        self,
        site: SiteConfig,
        places_m: Mapping[str, tuple[float, float, float]],
        gaps: Callable[[], Mapping[str, Gaps]] = dict,
    ) -> None:
        self._gaps = gaps
        self._nodes = {sensor.sensor_id: _Node() for sensor in site.sensor}
        self._fewest, self._max_range_m = site.locating.min_sensors_count, site.locating.max_range_m
        self._places_m = np.array([places_m[name] for name in self._nodes], float).reshape(-1, 3)

    def feed(self, message: Inbound, received_ns: int) -> None:
        """Take in what a node said; who is no sensor of the site is not listened to.

        Parameters
        ----------
        message : Inbound
            A heartbeat, a status, or a detection: a sign of life.
        received_ns : int
            When it came, UTC.
        """
        node = self._nodes.get(message.sensor_id)
        if node is None:
            return
        node.heard_ns = max(node.heard_ns, received_ns)
        match message:
            case Status():
                node.online, node.version = message.state == "online", message.version
            case Heartbeat():
                _hear(node, message, received_ns)
            case Detection():
                node.online = True

    def state(self, now_ns: int) -> FleetState:
        """Say how the nodes are.

        Parameters
        ----------
        now_ns : int
            UTC.

        Returns
        -------
        FleetState
            Each node, and the coverage they leave.
        """
        gaps = self._gaps()
        nodes = tuple(_state(name, node, gaps.get(name, NO_GAPS), now_ns) for name, node in self._nodes.items())
        noise_db = np.array([max(node.beat.noise_floor_db, QUIETEST_DB) if node.beat else NOISE_DB for node in nodes])
        # What a node that gives nothing says of its noise is worth nothing.
        noise_db[[bool({"deaf", "level_drop"} & set(node.reasons)) for node in nodes]] = NOISE_DB
        relied = np.array([node.reliable for node in nodes], bool)
        hears = _hearing(self._places_m, noise_db, self._max_range_m)
        return FleetState(now_ns, nodes, _share(hears[relied], self._fewest), _share(hears, self._fewest))


def _state(name: str, node: _Node, gaps: Gaps, now_ns: int) -> NodeState:
    reasons, remarks = _reasons(node, now_ns), _remarks(node, gaps)
    return NodeState(name, tuple(reasons), tuple(remarks), node.heard_ns, node.version, node.beat, gaps)


def _hear(node: _Node, beat: Heartbeat, received_ns: int) -> None:
    """Take in a heartbeat; a node tells of each row of numbers it still has, so several may come at once."""
    is_same = node.beat is not None and beat.sent_ns == node.beat.sent_ns
    if node.beat and not is_same:
        node.interval_ns = received_ns - node.beat_ns
        node.losing = beat.overflow_count > node.beat.overflow_count
    if not is_same:
        is_off = abs(received_ns - beat.sent_ns) > MAX_OFF_NS and received_ns - node.beat_ns > AT_ONCE_NS
        node.off_count = node.off_count + 1 if is_off else 0
        node.beat, node.beat_ns = beat, received_ns
    node.online = True


def _reasons(node: _Node, now_ns: int) -> list[str]:
    if not node.heard_ns:
        return ["never_heard"]
    if not node.online:
        return ["offline"]
    if now_ns - node.heard_ns > max(SILENT_NS, MISSED_COUNT * node.interval_ns):
        return ["silent"]
    if node.beat is None:
        return []
    beat = node.beat
    found = {
        "losing_samples": node.losing,
        "clock": beat.clock.mode == "free" or beat.clock.sigma_s > MAX_SIGMA_S,
        "wrong_time": node.off_count >= OFF_COUNT,
        "backlog": beat.queue_count > BACKLOG_COUNT,
    }
    return [sign for sign in beat.signs if sign in REASON_SIGNS] + [name for name, stands in found.items() if stands]


def _remarks(node: _Node, gaps: Gaps) -> list[str]:
    if node.beat is None:
        return []
    beat = node.beat
    found = {
        "gaps": gaps.missing_count > 0,
        "clipping": beat.clip_share > CLIPPING_SHARE,
        "behind": BEHIND_COUNT < beat.queue_count <= BACKLOG_COUNT,
    }
    signs = [sign for sign in beat.signs if sign not in REASON_SIGNS]
    return signs + [name for name, stands in found.items() if stands]


def _hearing(places_m: Floats, noise_db: Floats, max_range_m: float) -> Floats:
    """Compute how likely each sensor hears a shot from each cell of a grid, shape (sensors, cells)."""
    if not len(places_m):
        return np.zeros((0, 1))
    low, high = places_m[:, :2].min(axis=0) - MARGIN_M, places_m[:, :2].max(axis=0) + MARGIN_M
    steps = (np.arange(CELLS_COUNT) + 0.5) / CELLS_COUNT
    east, north = (low[axis] + steps * (high[axis] - low[axis]) for axis in (0, 1))
    away_m = np.hypot(
        places_m[:, 0, None, None] - east[None, :, None], places_m[:, 1, None, None] - north[None, None, :]
    ).reshape(len(places_m), -1)
    level_db = LEVEL_DB - DECADE_DB * np.log10(np.maximum(away_m, NEAREST_M))
    over = (level_db - noise_db[:, None] - OnsetDetection().min_snr_db) / SCATTER_DB
    return np.asarray(np.where(away_m <= max_range_m, ndtr(over), 0.0))


def _share(hears: Floats, fewest: int) -> float:
    """Compute the chance that at least so many of them hear a shot, over all cells."""
    exactly = np.zeros((fewest, hears.shape[1]))  # that so many heard it, fewer than enough
    exactly[0] = 1.0
    for chance in hears:
        exactly[1:] = exactly[1:] * (1 - chance) + exactly[:-1] * chance
        exactly[0] *= 1 - chance
    return float(np.clip(1 - exactly.sum(axis=0), 0, 1).mean())


def write_fleet(state: FleetState, folder: Path) -> None:
    """Write ``fleet.json`` such that it is never seen half written.

    Parameters
    ----------
    state : FleetState
        What to write.
    folder : pathlib.Path
        Where.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    part = folder / ".fleet.json.part"
    part.write_bytes(state.document())
    part.replace(folder / "fleet.json")
