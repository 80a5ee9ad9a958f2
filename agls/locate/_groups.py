"""Detections that wait, and groups of them found to be one shot."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agls.locate.picks import Found
from agls.messages import NS_PER_S, Detection, format_utc

Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Held:
    """A detection that waits to be decided."""

    toa_ns: int
    key: Key
    sensor: int
    detection: Detection
    received_ns: int

    def __lt__(self, other: Held) -> bool:
        return (self.toa_ns, self.key) < (other.toa_ns, other.key)


@dataclass(frozen=True, slots=True)
class Group:
    """Detections found to be one shot, ordered by time; times in `found` count from `reference_ns`.

    `shocks` are those of its bullet's N-wave.
    """

    found: Found
    members: tuple[Held, ...]
    shocks: tuple[Held, ...]
    reference_ns: int

    @property
    def origin_ns(self) -> int:
        """When it was fired.

        Returns
        -------
        int
            UTC [ns].
        """
        return self.reference_ns + int(self.found.origin_s * NS_PER_S)


def decided_of(past: Sequence[Group], first: int, reference_ns: int) -> list[Found]:
    """Number the picks of decided shots on, and count their times from another moment.

    Parameters
    ----------
    past : sequence of Group
        The decided shots.
    first : int
        Number of their first pick.
    reference_ns : int
        The moment [ns].

    Returns
    -------
    list of Found
        The shots in these terms.
    """
    out: list[Found] = []
    for group in past:
        members = tuple(range(first, first + len(group.members)))
        shift_s = (group.reference_ns - reference_ns) / NS_PER_S
        out.append(replace(group.found, members=members, shocks=(), origin_s=group.found.origin_s + shift_s))
        first += len(members)
    return out


def keys_of(group: Group) -> frozenset[Key]:
    """Name the detections of a group.

    Parameters
    ----------
    group : Group
        The group.

    Returns
    -------
    frozenset of tuple
        Identities.
    """
    return frozenset(held.key for held in group.members)


def judged_count(group: Group) -> int:
    """Count the detections of a group that say what the sound was.

    Parameters
    ----------
    group : Group
        The group.

    Returns
    -------
    int
        Those that are not preliminary.
    """
    return sum(held.detection.stage == "final" for held in group.members)


def same(one: frozenset[Key], other: frozenset[Key]) -> bool:
    """Say whether two groups of detections are the same shot: they share most of the smaller.

    Parameters
    ----------
    one, other : frozenset of tuple
        Their detections.

    Returns
    -------
    bool
        Whether they are.
    """
    return 2 * len(one & other) > min(len(one), len(other))


def shot_id(origin_ns: int, members: Sequence[Held]) -> str:
    """Name a shot after its time and its detections, so that the same input gives the same name.

    Parameters
    ----------
    origin_ns : int
        When it was fired [ns].
    members : sequence of Held
        Its detections.

    Returns
    -------
    str
        The name.
    """
    seed = "|".join(f"{held.key}" for held in members).encode()
    moment = format_utc(origin_ns)[:23].translate({ord(mark): None for mark in "-:T."})
    return f"S{moment}-{hashlib.sha256(seed).hexdigest()[:6]}"
