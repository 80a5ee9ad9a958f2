"""Say what changed between two replays: shots gained, lost and moved."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agls.errors import InputError
from agls.messages import NS_PER_S
from agls.replay.csv_rows import read_rows

# The same shot may be timed anew by this much: 85 m of sound.
SAME_SHOT_S, SAME_SHOT_M, MOVED_M = 0.25, 150.0, 1.0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a ``shots.csv``.

    Attributes
    ----------
    recording, shot, origin_time : str
        As written there.
    origin_ns : int
        The same moment [ns].
    x_m, y_m : float
        Place [m].
    """

    recording: str
    shot: str
    origin_time: str
    origin_ns: int
    x_m: float
    y_m: float


@dataclass(frozen=True, slots=True)
class Changes:
    """What two replays of one dataset do not agree about.

    Attributes
    ----------
    gained, lost : tuple of Row
        Shots only in the new replay, and only in the old one.
    moved : tuple of tuple of Row, Row, float
        Old, new, and by how much [m], where more than 1 m.
    same_count : int
        Shots that stayed.
    """

    gained: tuple[Row, ...]
    lost: tuple[Row, ...]
    moved: tuple[tuple[Row, Row, float], ...]
    same_count: int

    def lines(self) -> list[str]:
        """Tell the changes, one a line.

        Returns
        -------
        list of str
            A summary, then each change in order of recording and time.
        """
        told = [(row, f"gained {_told(row)}") for row in self.gained]
        told += [(row, f"lost   {_told(row)}") for row in self.lost]
        told += [(new, f"moved  {_told(new)}, by {by_m:.1f} m") for _, new, by_m in self.moved]
        counts = f"{len(self.gained)} gained, {len(self.lost)} lost, {len(self.moved)} moved by more than {MOVED_M:g} m"
        return [f"Against the old replay: {counts}, {self.same_count} as before."] + [
            line for _, line in sorted(told, key=lambda item: (item[0].recording, item[0].origin_ns, item[1]))
        ]


def read_shots(folder: Path) -> list[Row]:
    """Read the ``shots.csv`` of a replay.

    Parameters
    ----------
    folder : pathlib.Path
        What the replay wrote.

    Returns
    -------
    list of Row
        Its shots.

    Raises
    ------
    InputError
        If there is none or it cannot be read.
    """
    path = folder / "shots.csv"
    if not path.is_file():
        raise InputError(f"{path}: is not there; --against takes the folder that an earlier replay wrote")
    return [
        Row(
            row.cells.get("recording", ""),
            row.name("shot"),
            row.name("origin_time"),
            row.moment("origin_time", 2**63 - 1),
            row.number("x_m", -1e7, 1e7, "m"),
            row.number("y_m", -1e7, 1e7, "m"),
        )
        for row in read_rows(path, ("recording", "shot", "origin_time", "x_m", "y_m"))
    ]


def compare(old: Sequence[Row], new: Sequence[Row]) -> Changes:
    """Find what changed.

    Parameters
    ----------
    old, new : sequence of Row
        The shots of two replays.

    Returns
    -------
    Changes
        Shots are the same where recording, time (0.25 s) and place (150 m) agree, nearest in time first.
    """
    by_recording: defaultdict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(old):
        by_recording[row.recording].append(i)
    near = [
        (abs(row.origin_ns - old[i].origin_ns), i, j)
        for j, row in enumerate(new)
        for i in by_recording[row.recording]
        if abs(row.origin_ns - old[i].origin_ns) <= SAME_SHOT_S * NS_PER_S and _apart_m(old[i], row) <= SAME_SHOT_M
    ]
    pairs: dict[int, int] = {}
    for _, i, j in sorted(near):
        if i not in pairs and j not in pairs.values():
            pairs[i] = j
    apart_m = {i: _apart_m(old[i], new[j]) for i, j in pairs.items()}
    moved = tuple((old[i], new[j], apart_m[i]) for i, j in sorted(pairs.items()) if apart_m[i] > MOVED_M)
    gained = tuple(row for j, row in enumerate(new) if j not in pairs.values())
    lost = tuple(row for i, row in enumerate(old) if i not in pairs)
    return Changes(gained, lost, moved, len(pairs) - len(moved))


def _apart_m(one: Row, other: Row) -> float:
    return math.hypot(one.x_m - other.x_m, one.y_m - other.y_m)


def _told(row: Row) -> str:
    return f"{row.recording} {row.origin_time} at {row.x_m:.1f}, {row.y_m:.1f}".strip()
