"""What chrony says of the system clock: asked in a thread of its own, so that nothing waits for it."""

import math
import subprocess
import threading
import time
from collections import deque
from dataclasses import dataclass
from shutil import which
from typing import Literal

EVERY_S = 8.0
PATIENCE_S = 5.0
PULSE_FRESH_S = 3.0
OTHERWISE_SIGMA_S = 0.02  # of a clock that is kept by something that tells no more than that it does
UNKNOWN_SIGMA_S = 10.0


@dataclass(frozen=True, slots=True)
class HostSync:
    """What the computer states of its clock; as `agls.sensor.system_time.Sync` says."""

    source: Literal["pps", "ntp", "none"] = "none"
    sigma_s: float = UNKNOWN_SIGMA_S
    pulse_age_s: float = math.inf
    against_ntp_s: float = math.nan


def read_answers(tracking: str, sources: str) -> tuple[HostSync, float]:
    """Read what ``chronyc -c tracking`` and ``chronyc -c sources`` say.

    Parameters
    ----------
    tracking, sources : str
        Their output: comma-separated, one line, and one line for each source.

    Returns
    -------
    HostSync
        What it comes to; not synchronised where it cannot be read.
    float
        How long ago network time was last measured [s].
    """
    rows = [line.split(",") for line in sources.splitlines()]
    try:
        heard = [(row[0], row[1], float(row[6]), float(row[7]), float(row[9])) for row in rows if int(row[5], 8) > 0]
        terms = tracking.strip().split(",")
        rms_s, delay_s, dispersion_s = float(terms[6]), float(terms[10]), float(terms[11])
    except (IndexError, ValueError):
        return HostSync(), math.inf
    # Kinds: # a receiver at this computer, ^ a server; * is what is followed.
    pulses = [row for row in heard if row[0] == "#" and row[1] in "*+"]
    network = sorted((row for row in heard if row[0] == "^" and row[1] in "*+-"), key=lambda row: row[4])
    against_s, measured_s = (network[0][3], network[0][2]) if network else (math.nan, math.inf)
    age_s = min((row[2] for row in pulses), default=math.inf)
    if any(row[1] == "*" for row in pulses):
        return HostSync("pps", max(2 * rms_s, dispersion_s), age_s, against_s), measured_s
    if any(row[:2] == ("^", "*") for row in network):
        # Half of the way there and back is the most that a route can be lopsided; as a rule it is by less.
        return HostSync("ntp", max(rms_s, delay_s / 4 + dispersion_s / 2), age_s, against_s), measured_s
    return HostSync("none", UNKNOWN_SIGMA_S, age_s, against_s), measured_s


class Chrony:
    """Ask chrony, again and again, and know what it said last."""

    def __init__(self) -> None:
        self._said = (HostSync(), 0.0)
        self._offsets: deque[tuple[float, float]] = deque(maxlen=400)
        threading.Thread(target=self._ask, name="chrony", daemon=True).start()

    def sync(self) -> HostSync:
        """Say what was said last.

        Returns
        -------
        HostSync
            At most some seconds old; if the clock was set since, it is ahead of network time by that.
        """
        said, offset_s = self._said
        return HostSync(said.source, said.sigma_s, said.pulse_age_s, said.against_ntp_s + _offset_s() - offset_s)

    def _ask(self) -> None:
        while True:
            offset_s = _offset_s()
            self._offsets.append((time.monotonic(), offset_s))
            if which("chronyc"):
                said, measured_s = read_answers(_run("chronyc", "-c", "tracking"), _run("chronyc", "-c", "sources"))
                # Network time was compared with the clock as it was then, and the clock may have been set since.
                then_s = time.monotonic() - measured_s
                offset_s = next((one for at_s, one in reversed(self._offsets) if at_s <= then_s), self._offsets[0][1])
                self._said = (said, offset_s)
            elif _run("timedatectl", "show", "--property=NTPSynchronized", "--value").strip() == "yes":
                self._said = (HostSync("ntp", OTHERWISE_SIGMA_S), offset_s)
            else:
                self._said = (HostSync(), offset_s)
            time.sleep(EVERY_S)


def _offset_s() -> float:
    """By how much the system clock is ahead of the monotonic one: constant until somebody sets it."""
    return time.time() - time.monotonic()


def _run(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False).stdout  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
