"""What gpsd says of the GNSS receiver: where it is, since when, and its pulse per second.

gpsd sends JSON, one object a line, to whoever asks on its TCP port. `Receiver` makes of such lines what a node wants to
know; `Gpsd` fetches them in a thread of its own, for ever: gpsd may come later than the node, and may hang.
"""

import logging
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace

import msgspec

from agls.messages import NS_PER_S, parse_utc
from agls.sensor.health import Fix, Machine

log = logging.getLogger(__name__)

WATCH = b'?WATCH={"enable":true,"json":true,"pps":true};\n'
MAX_LINE_BYTES = 65_536  # a sky full of satellites takes ten thousand
SILENT_S = 10.0  # after which another connection is tried
CONNECT_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
FRESH_S = 10.0  # after which a place is one of the past
UNSTATED_M = 10.0  # one sigma of a receiver that states none


class _Tpv(msgspec.Struct, tag_field="class", tag="TPV"):
    """Time, position, velocity."""

    mode: int = 0
    time: str = ""
    lat: float | None = None
    lon: float | None = None
    epx: float | None = None
    epy: float | None = None
    eph: float | None = None


class _Pps(msgspec.Struct, tag_field="class", tag="PPS"):
    """A pulse per second has come."""

    real_sec: int = 0


class _Sky(msgspec.Struct, tag_field="class", tag="SKY"):
    """Satellites."""

    uSat: int | None = None  # noqa: N815 - gpsd's word


class _Any(msgspec.Struct):
    """Whatever gpsd says."""

    kind: str = msgspec.field(name="class", default="")


_KINDS = {"TPV": _Tpv, "PPS": _Pps, "SKY": _Sky}


@dataclass(frozen=True, slots=True)
class Gps:
    """How a GNSS receiver is.

    Attributes
    ----------
    fix : agls.sensor.health.Fix or None
        Where it is; None where it does not know at present.
    fix_age_s, pulse_age_s : float or None
        How long ago it last knew, and its last pulse came [s]; None for never.
    satellites_count : int
        That it makes use of.
    system_ahead_s : float or None
        By how much the system clock is ahead of the receiver's time, less than a second or so left out of account [s].
    """

    fix: Fix | None = None
    fix_age_s: float | None = None
    pulse_age_s: float | None = None
    satellites_count: int = 0
    system_ahead_s: float | None = None


def with_gps(machine: Machine, gps: Gps) -> Machine:
    """Add to a machine's own account what its receiver says.

    Parameters
    ----------
    machine : agls.sensor.health.Machine
        As it says by itself.
    gps : Gps
        As gpsd says.

    Returns
    -------
    agls.sensor.health.Machine
        Both; of the pulse per second the younger word.
    """
    pulse_ages_s = [age_s for age_s in (machine.pps_age_s, gps.pulse_age_s) if age_s is not None]
    return replace(machine, gps_age_s=gps.fix_age_s, pps_age_s=min(pulse_ages_s, default=None), fix=gps.fix)


class Receiver:
    """A GNSS receiver, as far as gpsd has told of it.

    Attributes
    ----------
    counts : collections.Counter
        Lines that were of no use: ``gps.bad_line``.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._fix: Fix | None = None
        self._fix_ns = self._pulse_ns = -1
        self._satellites_count = 0
        self._ahead_s: float | None = None

    def feed(self, line: bytes, now_ns: int, wall_ns: int) -> None:
        """Take in a line.

        Parameters
        ----------
        line : bytes
            As gpsd said it.
        now_ns : int
            When, of a clock that only goes forward.
        wall_ns : int
            When, by the system clock, UTC [ns].
        """
        try:
            kind = _KINDS.get(msgspec.json.decode(line, type=_Any).kind)
            report = msgspec.json.decode(line, type=kind) if kind else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.counts["gps.bad_line"] += 1
            return
        if isinstance(report, _Pps):
            self._pulse_ns = now_ns
        elif isinstance(report, _Sky):
            self._satellites_count = max(0, min(report.uSat or 0, 999))
        elif isinstance(report, _Tpv):
            self._place(report, now_ns, wall_ns)

    def state(self, now_ns: int) -> Gps:
        """Say how it is.

        Parameters
        ----------
        now_ns : int
            The time.

        Returns
        -------
        Gps
            As of now.
        """
        fix_age_s = _age_s(self._fix_ns, now_ns)
        return Gps(
            fix=self._fix if fix_age_s is not None and fix_age_s < FRESH_S else None,
            fix_age_s=fix_age_s,
            pulse_age_s=_age_s(self._pulse_ns, now_ns),
            satellites_count=self._satellites_count,
            system_ahead_s=self._ahead_s,
        )

    def _place(self, report: _Tpv, now_ns: int, wall_ns: int) -> None:
        if report.mode < 2 or report.lat is None or report.lon is None:
            return
        if not (abs(report.lat) <= 90 and abs(report.lon) <= 180):
            self.counts["gps.bad_line"] += 1
            return
        stated = [one for one in (report.eph, report.epx, report.epy) if one is not None and 0 < one < 1e5]
        self._fix = Fix(report.lat, report.lon, max(stated, default=UNSTATED_M))
        self._fix_ns = now_ns
        try:
            self._ahead_s = (wall_ns - parse_utc(report.time)) / NS_PER_S
        except ValueError:
            self._ahead_s = None  # a receiver that knows its place may not know the date yet


def _age_s(then_ns: int, now_ns: int) -> float | None:
    return None if then_ns < 0 else round((now_ns - then_ns) / NS_PER_S, 3)


class Gpsd:
    """Listen to gpsd, whether it is there or not.

    Parameters
    ----------
    address : str
        Such as ``127.0.0.1:2947``.
    first_pause_s : float, optional
        Before another attempt; doubled up to `LONGEST_PAUSE_S`.
    silent_s : float, optional
        After how much silence another connection is tried [s].
    """

    def __init__(self, address: str, first_pause_s: float = FIRST_PAUSE_S, silent_s: float = SILENT_S) -> None:
        host, _, port = address.rpartition(":")
        self._address, self._first_pause_s, self._silent_s = (host, int(port)), first_pause_s, silent_s
        self._receiver = Receiver()
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.trouble = "it has not answered yet"
        """Why nothing is heard from it; empty while something is."""
        threading.Thread(target=self._listen, name="gpsd", daemon=True).start()

    def state(self) -> Gps:
        """Say how the receiver is.

        Returns
        -------
        Gps
            As of now.
        """
        with self._lock:
            return self._receiver.state(time.monotonic_ns())

    @property
    def counts(self) -> Counter[str]:
        """Count what went wrong, by name.

        Returns
        -------
        collections.Counter
            ``gps.unreachable``, ``gps.silent``, ``gps.lost``, ``gps.too_long``, ``gps.bad_line``.
        """
        with self._lock:
            return self._counts + self._receiver.counts

    def close(self) -> None:
        """Stop listening, within a moment."""
        self._closed.set()

    def _listen(self) -> None:
        pause_s = self._first_pause_s
        while not self._closed.is_set():
            try:
                with socket.create_connection(self._address, CONNECT_S) as line:
                    line.settimeout(self._silent_s)
                    line.sendall(WATCH)
                    if self._hear(line):
                        pause_s = self._first_pause_s
            except OSError as error:
                self._refuse("gps.unreachable", f"it cannot be reached ({error.strerror or error})")
            self._closed.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _hear(self, line: socket.socket) -> bool:
        """Hear until it ends, falls silent or talks nonsense; say whether there was anything."""
        waiting, heard = b"", False
        while not self._closed.is_set():
            try:
                more = line.recv(4096)
            except TimeoutError:
                self._refuse("gps.silent", f"it says nothing for {self._silent_s:g} s")
                return heard
            if not more:
                self._refuse("gps.lost", "it ended the connection")
                return heard
            *lines, waiting = (waiting + more).split(b"\n")
            with self._lock:
                for one in filter(None, (said.strip() for said in lines)):
                    self._receiver.feed(one, time.monotonic_ns(), time.time_ns())
                    heard, self.trouble = True, ""
            if len(waiting) > MAX_LINE_BYTES:
                self._refuse("gps.too_long", f"it sends a line of more than {MAX_LINE_BYTES} bytes")
                return False
        return heard

    def _refuse(self, name: str, sentence: str) -> None:
        with self._lock:
            self._counts[name] += 1
        self.trouble = sentence
