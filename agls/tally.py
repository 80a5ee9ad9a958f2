"""Compare what the demo's hub located with what its simulated city fired.

Reads the folder the hub wrote, as any script of a user would; the truth comes from whoever simulated, and only here do
the two meet.
"""

import csv
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from agls.messages import NS_PER_S, parse_utc

NEAR_M = 10.0  # a shot farther than this from the truth is not called found
SAME_SHOT_S = 0.2  # less than half the time between two rounds
ENOUGH_COUNT = 3


@dataclass(frozen=True, slots=True)
class TrueShot:
    """One round that the simulated city fires.

    Attributes
    ----------
    name : str
        Who fired it.
    time_s : float
        Since the scene began [s].
    x_m, y_m, z_m : float
        In the site's frame: east, north, up [m].
    """

    name: str
    time_s: float
    x_m: float
    y_m: float
    z_m: float


@dataclass(frozen=True, slots=True)
class Located:
    """One row of ``shots.csv``.

    Attributes
    ----------
    shot, incident : str
        Their names.
    origin_ns : int
        When it was fired, UTC [ns].
    x_m, y_m : float
        In the site's frame: east, north [m].
    major_m, minor_m : float
        Semi-axes of the 95 % error ellipse [m].
    p_gunshot : float
        Probability that it is gunfire.
    sensor_count : int
        Sensors that it was located with.
    """

    shot: str
    incident: str
    origin_ns: int
    x_m: float
    y_m: float
    major_m: float
    minor_m: float
    p_gunshot: float
    sensor_count: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one round fired.

    Attributes
    ----------
    fired : TrueShot
        The round.
    located : Located or None
        The shot located at that time, if any.
    cad_count, slew_count : int
        CAD documents and slew requests of its incident.
    """

    fired: TrueShot
    located: Located | None
    cad_count: int = 0
    slew_count: int = 0

    @property
    def distance_m(self) -> float:
        """Measure how far from the truth it was located, level.

        Returns
        -------
        float
            Metres; infinite where it was not located.
        """
        if self.located is None:
            return math.inf
        return math.hypot(self.located.x_m - self.fired.x_m, self.located.y_m - self.fired.y_m)

    @property
    def complete(self) -> bool:
        """Tell whether the whole chain worked for this round.

        Returns
        -------
        bool
            Located within `NEAR_M`, told to dispatch, and a camera asked to look.
        """
        return self.distance_m <= NEAR_M and self.cad_count > 0 and self.slew_count > 0


@dataclass(frozen=True, slots=True)
class Tally:
    """What the demo found, beside what was fired.

    Attributes
    ----------
    verdicts : tuple of Verdict
        One for each round that should have been found, in order of time.
    others : tuple of Located
        Shots located that nobody had fired.
    cad_count, slew_count : int
        All CAD documents and slew requests.
    latencies_s : tuple of float
        From the receipt of the last needed detection to the written CAD document [s].
    """

    verdicts: tuple[Verdict, ...]
    others: tuple[Located, ...]
    cad_count: int
    slew_count: int
    latencies_s: tuple[float, ...]

    @property
    def worked(self) -> bool:
        """Tell whether the chain worked.

        Returns
        -------
        bool
            Whether enough of the rounds went the whole way: `ENOUGH_COUNT`, or all where fewer were due.
        """
        complete = sum(verdict.complete for verdict in self.verdicts)
        return complete >= min(ENOUGH_COUNT, len(self.verdicts)) and complete > 0


def fired_until(truth: Sequence[TrueShot], period_s: float, end_s: float) -> list[TrueShot]:
    """List the rounds fired by a scene that begins again and again.

    Parameters
    ----------
    truth : sequence of TrueShot
        The rounds of the scene.
    period_s : float
        After how long it begins again [s].
    end_s : float
        Rounds from this time on are left out [s].

    Returns
    -------
    list of TrueShot
        In order of time since the scene first began.
    """
    turns = range(max(0, math.ceil(end_s / period_s)))
    fired = [
        TrueShot(shot.name, shot.time_s + turn * period_s, shot.x_m, shot.y_m, shot.z_m)
        for turn in turns
        for shot in truth
    ]
    return sorted((shot for shot in fired if shot.time_s < end_s), key=lambda shot: shot.time_s)


def tally(out: Path, fired: Sequence[TrueShot], start_ns: int, judged_s: float, latencies_s: Sequence[float]) -> Tally:
    """Compare the hub's folder with what was fired.

    Parameters
    ----------
    out : pathlib.Path
        The folder, holding ``shots.csv``, ``cad/`` and ``slew/``.
    fired : sequence of TrueShot
        All rounds fired.
    start_ns : int
        When the scene began, UTC [ns].
    judged_s : float
        Rounds fired before this should have been found; later ones may be [s].
    latencies_s : sequence of float
        From the receipt of the last needed detection to the written CAD document [s].

    Returns
    -------
    Tally
        Each round with what was located for it.
    """
    found = _read_located(out / "shots.csv", start_ns)
    pairs = _pairs(fired, found, start_ns)
    cad, slew = _count_by_incident(out / "cad"), _count_by_incident(out / "slew")
    verdicts = []
    for number, shot in enumerate(fired):
        if shot.time_s >= judged_s:
            continue
        located = pairs.get(number)
        name = located.incident if located else ""
        verdicts.append(Verdict(shot, located, cad[name], slew[name]))
    taken = {located.shot for located in pairs.values()}
    others = tuple(located for located in found if located.shot not in taken)
    return Tally(tuple(verdicts), others, cad.total(), slew.total(), tuple(latencies_s))


def _read_located(path: Path, since_ns: int) -> list[Located]:
    """Read ``shots.csv``, without shots of earlier runs that the hub remembers."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = [
        Located(
            shot=row["shot"],
            incident=row["incident"],
            origin_ns=parse_utc(row["origin_time"]),
            x_m=float(row["x_m"]),
            y_m=float(row["y_m"]),
            major_m=float(row["ellipse95_major_m"]),
            minor_m=float(row["ellipse95_minor_m"]),
            p_gunshot=float(row["p_gunshot"]),
            sensor_count=int(row["sensor_count"]),
        )
        for row in rows
    ]
    return [located for located in found if located.origin_ns >= since_ns - NS_PER_S]


def _pairs(fired: Sequence[TrueShot], found: Sequence[Located], start_ns: int) -> dict[int, Located]:
    """Pair rounds with located shots of their time, the nearest pair first, each used once."""
    near = []
    for number, shot in enumerate(fired):
        for located in found:
            late_s = (located.origin_ns - start_ns) / NS_PER_S - shot.time_s
            if abs(late_s) <= SAME_SHOT_S:
                near.append((Verdict(shot, located).distance_m, number, located))
    pairs: dict[int, Located] = {}
    taken: set[str] = set()
    for _, number, located in sorted(near, key=lambda pair: pair[:2]):
        if number not in pairs and located.shot not in taken:
            pairs[number] = located
            taken.add(located.shot)
    return pairs


def _count_by_incident(folder: Path) -> Counter[str]:
    return Counter(str(json.loads(path.read_bytes())["incident"]) for path in folder.glob("*.json"))


def table(found: Tally) -> str:
    """Lay out a tally for people.

    Parameters
    ----------
    found : Tally
        The comparison.

    Returns
    -------
    str
        A table of the rounds, and sums.
    """
    lines = [f"{'fired by':<14}{'at':>8}{'off':>9}{'ellipse 95 %':>18}{'sensors':>9}{'p':>7}{'cad':>5}{'slew':>6}"]
    lines += [_line(verdict) for verdict in found.verdicts]
    located = sum(verdict.located is not None for verdict in found.verdicts)
    near = sum(verdict.distance_m <= NEAR_M for verdict in found.verdicts)
    lines.append("")
    lines.append(f"shots fired {len(found.verdicts)}, located {located}, within {NEAR_M:g} m of the truth {near}")
    lines += [
        f"  located, but not fired: ({other.x_m:.0f}, {other.y_m:.0f}) m, p_gunshot {other.p_gunshot:.2f},"
        f" {other.sensor_count} sensors"
        for other in found.others
    ]
    lines.append(f"CAD documents {found.cad_count}, slew requests {found.slew_count}")
    lines.append(f"from the last needed detection to the CAD document: {_latency(found.latencies_s)}")
    return "\n".join(lines)


def _line(verdict: Verdict) -> str:
    fired, located = verdict.fired, verdict.located
    start = f"{fired.name:<14}{fired.time_s:>6.2f} s"
    if located is None:
        return f"{start}  not located"
    axes = f"{located.major_m:.1f} x {located.minor_m:.1f} m"
    return (
        f"{start}{verdict.distance_m:>7.1f} m{axes:>18}{located.sensor_count:>9}"
        f"{located.p_gunshot:>7.2f}{verdict.cad_count:>5}{verdict.slew_count:>6}"
    )


def _latency(latencies_s: Sequence[float]) -> str:
    if not latencies_s:
        return "number 0"
    middle_ms, longest_ms = median(latencies_s) * 1e3, max(latencies_s) * 1e3
    return f"number {len(latencies_s)}, median {middle_ms:.1f} ms, maximum {longest_ms:.1f} ms"
