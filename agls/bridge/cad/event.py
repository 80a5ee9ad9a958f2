"""The CAD event: our own JSON document that opens, updates and cancels a call by itself.

    told before    incident now         status
    -----------    -----------------    --------------------------------------------------
    nothing        probable|possible    open
    nothing        withdrawn            (nothing: dispatch never heard of it)
    open|update    probable|possible    update, if the place, the rounds or the state changed; else nothing
    open|update    withdrawn            cancel
    cancel         probable|possible    open (the same call once more, under its old id)
    cancel         withdrawn            (nothing)

"Changed" is against what dispatch was last *told*, so that many small steps add up to one that is worth a message.
Every other format (EIDO, CAP, CoT) will be another file beside this one, made from the same incident.
"""

import math
from typing import Literal, TypeAlias

from agls.bridge.names import derived_id
from agls.config import SiteConfig
from agls.messages import NS_PER_S, CadEvent, Ellipse, Incident, UtcNs

CAUTION = "unverified acoustic indication; not by itself grounds to stop a person"
MOVED_M = 10.0  # a dispatcher sends a patrol to another address, not to another square of the pavement
FORGET_NS = 86_400 * NS_PER_S  # an incident is long closed then; the incident stage revises nothing so old

Status: TypeAlias = Literal["open", "update", "cancel"]


class CadDesk:
    """Decide what dispatch is told of each incident, and remember what it was told.

    Parameters
    ----------
    site : SiteConfig
        The site; its `cad.incident_type` is the agency's type for unreviewed indications.
    """

    def __init__(self, site: SiteConfig) -> None:
        self.incident_type = site.cad.incident_type
        self._told: dict[str, Incident] = {}

    def feed(self, incident: Incident, now_ns: int) -> list[CadEvent]:
        """Take in a revision of an incident.

        Parameters
        ----------
        incident : Incident
            The revision; one that is not newer than what dispatch was told says nothing.
        now_ns : int
            UTC; stamped on what is told, and used to forget incidents of long ago.

        Returns
        -------
        list of CadEvent
            One event, or none where nothing changed that a dispatcher cares about.
        """
        statuses = self._statuses(incident)
        for name in [name for name, told in self._told.items() if now_ns - told.last_shot_ns > FORGET_NS]:
            del self._told[name]
        if statuses:
            self._told[incident.incident] = incident
        return [self._cad_event(incident, status, now_ns) for status in statuses]

    def _statuses(self, incident: Incident) -> list[Status]:
        """Look up the table at the head of this module."""
        told = self._told.get(incident.incident)
        if told is not None and incident.revision <= told.revision:
            return []
        if told is None or told.state == "withdrawn":
            return [] if incident.state == "withdrawn" else ["open"]
        if incident.state == "withdrawn":
            return ["cancel"]
        return ["update"] if _changed(told, incident) else []

    def _cad_event(self, incident: Incident, status: Status, now_ns: int) -> CadEvent:
        return CadEvent(
            cad_event_id=derived_id("cad", incident.incident),
            incident=incident.incident,
            revision=incident.revision,
            status=status,
            issued_ns=UtcNs(now_ns),
            incident_type=self.incident_type,
            headline=headline(incident),
            first_shot_ns=incident.first_shot_ns,
            last_shot_ns=incident.last_shot_ns,
            latitude_deg=incident.latitude_deg,
            longitude_deg=incident.longitude_deg,
            ellipse=incident.ellipse,
            p_gunshot=incident.p_gunshot,
            round_count=incident.round_count,
            sensor_count=incident.sensor_count,
            caution=CAUTION,
        )


def headline(incident: Incident) -> str:
    """Say an incident in one sentence that can be read at three in the morning.

    Parameters
    ----------
    incident : Incident
        What is known.

    Returns
    -------
    str
        Such as ``Probable gunfire, 3 rounds, within 12 m of 40.44062, -79.99589, heard by 9 sensors``. Sensors are
        counted, never named or placed. "Within" is the major semi-axis of the 95 % ellipse, rounded up.
    """
    if incident.state == "withdrawn":
        return f"Withdrawn: no longer taken for gunfire, at {_place(incident)}"
    return (
        f"{incident.state.capitalize()} gunfire, {_count(incident.round_count, 'round')}, "
        f"within {max(1, math.ceil(incident.ellipse.major_m))} m of {_place(incident)}, "
        f"heard by {_count(incident.sensor_count, 'sensor')}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _place(incident: Incident) -> str:
    """Write latitude and longitude to a metre, or metres from the origin where the site has no place on Earth."""
    if incident.latitude_deg is not None and incident.longitude_deg is not None:
        return f"{incident.latitude_deg:.5f}, {incident.longitude_deg:.5f}"
    east_m, north_m = round(incident.x_m), round(incident.y_m)
    return (
        f"{abs(east_m)} m {'west' if east_m < 0 else 'east'} and "
        f"{abs(north_m)} m {'south' if north_m < 0 else 'north'} of the site's origin"
    )


def _changed(told: Incident, incident: Incident) -> bool:
    east_m, north_m = incident.x_m - told.x_m, incident.y_m - told.y_m
    return (
        incident.state != told.state
        or incident.round_count != told.round_count
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
