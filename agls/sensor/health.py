"""Whether a node can be relied on, as far as it can tell by itself: how it hears, how its machine is, who touched it.

    Hearing     what came in since the last heartbeat: level, noise floor, clipping, lost samples; deaf or not
    DayLevels   how quiet it gets here in a day; a microphone that was covered or cut is quieter than that
    Standing    where the node has always been, by its GNSS receiver; a node that was taken away is elsewhere

What a day and a place are like is remembered over restarts. Nothing here reads a wall clock but `read_machine`.
"""

import math
import shutil
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from agls.messages import NS_PER_S, Block, Sign

SILENCE = 1e-12  # mean square below which a level would mean nothing: -120 dB re full scale
CLIPPED = 0.985  # an 8-bit recording's full scale is 127/128
LEAST_CLIPPED = 0.999 * CLIPPED**2  # sum of squares without which no sample can be at full scale
BLOCKS_COUNT = 30_000  # ten minutes: while the broker is away no heartbeat takes what was heard
DEAF_NS = 1_750_000_000  # told within 2 s, in turns of a quarter of a second
QUARTER_NS = 900 * NS_PER_S
DAY_COUNT, ENOUGH_COUNT = 96, 48  # quarters of an hour that a day has, and that are needed to know one
# A foam ball over the port costs 10 dB and more; the quietest quarters of two days differ by some 3 dB.
DROP_DB = 6.0
AT_ONCE_COUNT = 8  # heartbeats that must agree
FIX_COUNT = 20
MOVED_M, MOVED_SIGMAS = 25.0, 5.0
EARTH_M = 6_371_000.0
FULL_BYTES = 20_000_000  # free space below which a disk counts as full


@dataclass(frozen=True, slots=True)
class Fix:
    """Where a GNSS receiver says that it is.

    Attributes
    ----------
    latitude_deg, longitude_deg : float
        WGS 84.
    sigma_m : float
        One standard deviation, level [m].
    """

    latitude_deg: float
    longitude_deg: float
    sigma_m: float


@dataclass(frozen=True, slots=True)
class Machine:
    """What a node's machine says of itself; None where it says nothing.

    Attributes
    ----------
    temperature_c : float or None
        Of the processor.
    throttled : bool
        Whether heat or a weak supply slows it down now.
    disk_free_bytes : int or None
        Where the outbox is.
    gps_age_s, pps_age_s : float or None
        How long ago the receiver last had a fix, and the last pulse per second came [s].
    fix : Fix or None
        Where the receiver is.
    """

    temperature_c: float | None = None
    throttled: bool = False
    disk_free_bytes: int | None = None
    gps_age_s: float | None = None
    pps_age_s: float | None = None
    fix: Fix | None = None


def read_machine(folder: str = "", system: Path = Path("/sys")) -> Machine:
    """Ask the machine how it is.

    Parameters
    ----------
    folder : str, optional
        Where the outbox is; empty where it is in memory.
    system : pathlib.Path, optional
        Where the kernel tells such things.

    Returns
    -------
    Machine
        What it says; GPS and fix are left to those who know them.
    """
    heat = _number(system / "class/thermal/thermal_zone0/temp", 10)
    # Bits 0 to 3: under-voltage, capped, throttled, hot, all as of now; higher ones tell of the past.
    slow = _number(system / "devices/platform/soc/soc:firmware/get_throttled", 16)
    pulse_s = _number(system / "class/pps/pps0/assert", 10)
    return Machine(
        temperature_c=None if heat is None else round(heat / 1000, 1),
        throttled=bool(int(slow or 0) & 0xF),
        disk_free_bytes=_free(folder) if folder else None,
        pps_age_s=None if pulse_s is None else round(max(0.0, time.time() - pulse_s), 3),
    )


def _number(path: Path, base: int) -> float | None:
    """Read a number that the kernel tells; before the ``#`` where it counts them too."""
    try:
        text = path.read_text("ascii").strip().partition("#")[0]
        return float(text) if base == 10 else float(int(text, base))
    except (OSError, ValueError):
        return None


def _free(folder: str) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def is_still(samples: NDArray[np.float32]) -> bool:
    """Say whether samples are all the same.

    Parameters
    ----------
    samples : numpy.ndarray, shape (frames,), float32
        One at least.

    Returns
    -------
    bool
        Whether they are; of sound the first and the last say at once that they are not.
    """
    return bool(samples[0] == samples[-1] and samples.min() == samples.max())


class Hearing:
    """What came in at the microphone between two heartbeats.

    Parameters
    ----------
    full_scale_db_spl : float
        Level of full scale [dB SPL].
    now_ns : int
        The time, of a clock that only goes forward.

    Attributes
    ----------
    overflow_count : int
        How often samples were lost, since the start.
    """

    def __init__(self, full_scale_db_spl: float, now_ns: int = 0) -> None:
        self._full_scale_db_spl = full_scale_db_spl
        self._mean_squares: deque[float] = deque(maxlen=BLOCKS_COUNT)
        self._frames = self._clipped = 0
        self._last = (self._db(0.0), self._db(0.0), 0.0)
        self._live_ns = now_ns  # when something was last heard that was not constant
        self._value = math.nan
        self.overflow_count = 0

    def feed(self, block: Block, now_ns: int = 0) -> None:
        """Hear a block.

        Parameters
        ----------
        block : Block
            The next samples; none where the device has none to give.
        now_ns : int
            The time.
        """
        self.overflow_count += block.lost
        if not block.samples.size:
            return
        energy = float(np.dot(block.samples, block.samples))
        self._mean_squares.append(energy / block.samples.size)
        self._frames += block.samples.size
        if energy >= LEAST_CLIPPED:
            self._clipped += int(np.count_nonzero(np.abs(block.samples) >= CLIPPED))
        if block.samples[-1] != self._value or not is_still(block.samples):
            self._live_ns = now_ns
        self._value = float(block.samples[-1])

    def is_deaf(self, now_ns: int) -> bool:
        """Tell whether nothing but one value, or nothing at all, came for two seconds.

        Parameters
        ----------
        now_ns : int
            The time.

        Returns
        -------
        bool
            No microphone, however quiet the place, is as silent as that.
        """
        return now_ns - self._live_ns >= DEAF_NS

    def take(self) -> tuple[float, float, float]:
        """Say how loud it was since the last call.

        Returns
        -------
        level_db : float
            Mean power [dB SPL].
        noise_floor_db : float
            The power that a tenth of the blocks stayed below [dB SPL].
        clip_share : float
            Share of samples at full scale.
        """
        if self._mean_squares:
            ordered = sorted(self._mean_squares)
            level_db, floor_db = self._db(math.fsum(ordered) / len(ordered)), self._db(ordered[len(ordered) // 10])
            self._last = level_db, floor_db, self._clipped / self._frames
            self._mean_squares.clear()
            self._frames = self._clipped = 0
        return self._last

    def _db(self, mean_square: float) -> float:
        return round(10 * math.log10(max(mean_square, SILENCE)) + self._full_scale_db_spl, 2)


class DayLevels:
    """How quiet it gets here in a day.

    Parameters
    ----------
    known : str, optional
        What `text` said before a restart.
    """

    def __init__(self, known: str = "") -> None:
        self._quarters: deque[float] = deque(_numbers(known), maxlen=DAY_COUNT)
        self._recent: deque[float] = deque(maxlen=AT_ONCE_COUNT)
        self._here: list[float] = []
        self._from_ns = -1

    @property
    def text(self) -> str:
        """Say what is known, to be remembered.

        Returns
        -------
        str
            JSON.
        """
        return msgspec.json.encode(list(self._quarters)).decode()

    def feed(self, noise_floor_db: float, now_ns: int) -> bool:
        """Take in the noise floor of a heartbeat.

        Parameters
        ----------
        noise_floor_db : float
            As `Hearing` found it [dB].
        now_ns : int
            The time, of a clock that only goes forward.

        Returns
        -------
        bool
            Whether a quarter of an hour was completed: `text` is another.
        """
        self._recent.append(noise_floor_db)
        self._here.append(noise_floor_db)
        if self._from_ns < 0:
            self._from_ns = now_ns
        if now_ns - self._from_ns < QUARTER_NS:
            return False
        # What is heard through a covered microphone must not become what is usual here.
        if not self.is_dropped:
            self._quarters.append(round(math.fsum(self._here) / len(self._here), 2))
        self._here, self._from_ns = [], now_ns
        return True

    @property
    def is_dropped(self) -> bool:
        """Tell whether it is much quieter than in the quietest quarter of an hour of its day.

        Returns
        -------
        bool
            False while not enough of a day is known.
        """
        if len(self._quarters) < ENOUGH_COUNT or len(self._recent) < AT_ONCE_COUNT:
            return False
        return max(self._recent) < min(self._quarters) - DROP_DB


class Standing:
    """Where the node has always been.

    Parameters
    ----------
    known : str, optional
        What `text` said before a restart.
    surveyed : tuple of float, optional
        Latitude and longitude where it was surveyed to stand [deg]; that is known from the start.
    """

    def __init__(self, known: str = "", surveyed: tuple[float, float] | None = None) -> None:
        place = surveyed or _numbers(known)
        self._home: tuple[float, float] | None = (place[0], place[1]) if len(place) == 2 else None
        self._fixes: deque[Fix] = deque(maxlen=FIX_COUNT)

    @property
    def text(self) -> str:
        """Say what is known, to be remembered.

        Returns
        -------
        str
            JSON; empty until enough fixes came.
        """
        return msgspec.json.encode(self._home).decode() if self._home else ""

    def feed(self, fix: Fix) -> bool:
        """Take in a fix.

        Parameters
        ----------
        fix : Fix
            Where the receiver says that it is now.

        Returns
        -------
        bool
            Whether the place became known just now: `text` is another.
        """
        self._fixes.append(fix)
        if self._home or len(self._fixes) < FIX_COUNT:
            return False
        self._home = self._middle()
        return True

    @property
    def is_moved(self) -> bool:
        """Tell whether the last fixes agree that it is elsewhere.

        Returns
        -------
        bool
            False while no place is known.
        """
        if not self._home or len(self._fixes) < FIX_COUNT:
            return False
        sigma_m = max(fix.sigma_m for fix in self._fixes)
        return distance_m(Fix(*self._middle(), sigma_m), *self._home) > max(MOVED_M, MOVED_SIGMAS * sigma_m)

    def _middle(self) -> tuple[float, float]:
        """Give the median of the last fixes: one that jumped moves nothing."""
        first_deg = self._fixes[0].longitude_deg
        turns_deg = sorted((fix.longitude_deg - first_deg + 180) % 360 - 180 for fix in self._fixes)
        latitudes_deg = sorted(fix.latitude_deg for fix in self._fixes)
        middle = len(self._fixes) // 2
        return latitudes_deg[middle], first_deg + turns_deg[middle]


def distance_m(fix: Fix, latitude_deg: float, longitude_deg: float) -> float:
    """Say how far a fix is from a place, level.

    Parameters
    ----------
    fix : Fix
        The fix.
    latitude_deg, longitude_deg : float
        The place, WGS 84.

    Returns
    -------
    float
        Metres.
    """
    north_m = math.radians(fix.latitude_deg - latitude_deg) * EARTH_M
    turn_deg = (fix.longitude_deg - longitude_deg + 180) % 360 - 180
    return math.hypot(north_m, math.radians(turn_deg) * EARTH_M * math.cos(math.radians(latitude_deg)))


def _numbers(text: str) -> list[float]:
    try:
        return msgspec.json.decode(text, type=list[float]) if text else []
    except msgspec.DecodeError:
        return []


class Account(TypedDict):
    """Health as fields of a `Heartbeat`."""

    level_db: float
    noise_floor_db: float
    clip_share: float
    overflow_count: int
    gps_age_s: float | None
    pps_age_s: float | None
    temperature_c: float | None
    disk_free_bytes: int | None
    signs: tuple[Sign, ...]


class Health:
    """Everything that a node can say of its health, put together for heartbeats.

    Parameters
    ----------
    full_scale_db_spl : float
        Level of the microphone's full scale [dB SPL].
    sense : callable
        How the machine is, such as `read_machine`.
    recall : callable
        What was remembered under a name; empty for nothing.
    remember : callable
        Remember under a name over restarts.
    now_ns : int
        The time, of a clock that only goes forward.
    microphone : str, optional
        Which one; another has other levels.
    surveyed : tuple of float, optional
        Latitude and longitude where the node was surveyed to stand [deg].
    """

    def __init__(
        self,
        full_scale_db_spl: float,
        sense: Callable[[], Machine],
        recall: Callable[[str], str],
        remember: Callable[[str, str], None],
        now_ns: int,
        microphone: str = "",
        surveyed: tuple[float, float] | None = None,
    ) -> None:
        self.hearing = Hearing(full_scale_db_spl, now_ns)
        self._sense, self._remember = sense, remember
        self._levels_name = f"levels of {microphone or 'the microphone'} at {full_scale_db_spl:g} dB"
        self._levels = DayLevels(recall(self._levels_name))
        self._standing = Standing(recall("standing"), surveyed)

    def beat(self, now_ns: int, known: Collection[Sign] = ()) -> Account:
        """Say how the node is, as fields of a `Heartbeat`.

        Parameters
        ----------
        now_ns : int
            The time.
        known : collection of Sign, optional
            What others have noticed.

        Returns
        -------
        Account
            Name to value.
        """
        level_db, noise_floor_db, clip_share = self.hearing.take()
        machine = self._sense()
        is_deaf = self.hearing.is_deaf(now_ns)
        if not is_deaf and self._levels.feed(noise_floor_db, now_ns):
            self._remember(self._levels_name, self._levels.text)
        if machine.fix and self._standing.feed(machine.fix):
            self._remember("standing", self._standing.text)
        free_bytes = machine.disk_free_bytes
        signs: dict[Sign, bool] = {
            "deaf": is_deaf,
            "level_drop": self._levels.is_dropped,
            "moved": self._standing.is_moved,
            "throttled": machine.throttled,
            "disk_full": free_bytes is not None and free_bytes < FULL_BYTES,
        }
        return Account(
            level_db=level_db,
            noise_floor_db=noise_floor_db,
            clip_share=round(clip_share, 6),
            overflow_count=self.hearing.overflow_count,
            gps_age_s=machine.gps_age_s,
            pps_age_s=machine.pps_age_s,
            temperature_c=machine.temperature_c,
            disk_free_bytes=free_bytes,
            signs=tuple(name for name in get_args(Sign) if signs.get(name) or name in known),
        )
