"""When dispatch is told of an incident, and when it is left in peace: sixty rounds are not sixty messages.

    told before    incident now         status
    -----------    -----------------    ---------------------------------------------------
    nothing        probable|possible    open
    nothing        withdrawn            (nothing: dispatch never heard of it)
    open|update    probable|possible    update
    open|update    withdrawn            cancel
    cancel         probable|possible    open (the same call once more, under its old id)
    cancel         withdrawn            (nothing)

    what changed against what dispatch was last told                  when it is told
    --------------------------------------------------------------    ---------------------------------------------
    it is opened for the first time                                   at once
    probable, possible or withdrawn                                   3 s after the last message
    the place, by more than 10 m or out of the ellipse;               3 s after the first message, and twice as long
      the band of rounds (1, 2-4, 5-9, 10-29, more)                     after each later one
    anything else that a dispatcher reads                             once nothing has changed for 10 s

The fifth message is kept for a change of class, and the sixth for the last state: it is told once nothing can change
any more. "Changed" is against what dispatch was last *told*, so that many small steps add up to one worth a message.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal, TypeAlias

from agls.messages import NS_PER_S, Ellipse, Incident

MOVED_M = 10.0  # a dispatcher sends a patrol to another address, not to another square of the pavement
BANDS = (2, 5, 10, 30)  # rounds from which another band begins
GAP_NS = 3 * NS_PER_S
SETTLED_NS = 10 * NS_PER_S
LIMIT_COUNT = 6
NEVER_NS = 2**63 - 1

Status: TypeAlias = Literal["open", "update", "cancel"]


@dataclass(frozen=True, slots=True)
class Told:
    """What dispatch was told of an incident last, when, and how often it was told of it."""

    incident: Incident
    at_ns: int
    count: int


def status(told: Told | None, incident: Incident) -> Status | None:
    """Look up the first table above.

    Parameters
    ----------
    told : Told or None
        What dispatch was told; None where it never heard of it.
    incident : Incident
        The incident now.

    Returns
    -------
    Status or None
        What a message of it would be; None where there is nothing to say.
    """
    if told is None or told.incident.state == "withdrawn":
        return None if incident.state == "withdrawn" else "open"
    if incident.state == "withdrawn":
        return "cancel"
    return "update" if incident.revision > told.incident.revision else None


def due_ns(told: Told | None, incident: Incident, since_ns: int, differs: bool, final_ns: int) -> int:
    """Look up the second table above.

    Parameters
    ----------
    told : Told or None
        What dispatch was told; None where it never heard of it.
    incident : Incident
        The incident now.
    since_ns : int
        Since when it is so, UTC.
    differs : bool
        Whether a dispatcher would read anything else than what was told.
    final_ns : int
        How long after its last change nothing can change any more [ns].

    Returns
    -------
    int
        When a message is due, UTC; `NEVER_NS` for not at all.
    """
    if status(told, incident) is None:
        return NEVER_NS
    if told is None:
        return since_ns
    final = since_ns + final_ns if differs else NEVER_NS
    if told.count >= LIMIT_COUNT - 1:
        return final
    if incident.state != told.incident.state:
        return max(since_ns, told.at_ns + GAP_NS)
    if told.count >= LIMIT_COUNT - 2:
        return final
    soonest_ns = told.at_ns + (GAP_NS << (told.count - 1))
    if is_worth_a_message(told.incident, incident):
        return max(since_ns, soonest_ns)
    return max(since_ns + SETTLED_NS, soonest_ns) if differs else NEVER_NS


def is_worth_a_message(told: Incident, incident: Incident) -> bool:
    """Tell whether an incident of the same class changed by what matters to a patrol on its way.

    Parameters
    ----------
    told : Incident
        As dispatch was told.
    incident : Incident
        As it is.

    Returns
    -------
    bool
        Whether the place moved or the rounds are in another band.
    """
    east_m, north_m = incident.x_m - told.x_m, incident.y_m - told.y_m
    return (
        bisect_right(BANDS, incident.round_count) != bisect_right(BANDS, told.round_count)
        or math.hypot(east_m, north_m) > MOVED_M
        or is_outside(told.ellipse, east_m, north_m)
    )


def is_outside(ellipse: Ellipse, east_m: float, north_m: float) -> bool:
    """Tell whether a point lies outside an ellipse.

    Parameters
    ----------
    ellipse : Ellipse
        The ellipse; an axis below a millimetre counts as a millimetre.
    east_m : float
        The point, east of the ellipse's centre [m].
    north_m : float
        The point, north of the ellipse's centre [m].

    Returns
    -------
    bool
        True outside, False inside and on the line.
    """
    azimuth = math.radians(ellipse.azimuth_deg)
    along = (east_m * math.sin(azimuth) + north_m * math.cos(azimuth)) / max(ellipse.major_m, 1e-3)
    across = (east_m * math.cos(azimuth) - north_m * math.sin(azimuth)) / max(ellipse.minor_m, 1e-3)
    return along * along + across * across > 1.0
