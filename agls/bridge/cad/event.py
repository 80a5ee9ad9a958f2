"""The CAD event: our own JSON document that opens, updates and cancels a call by itself.

`CadDesk` decides which revisions dispatch is told of, by the tables of `agls.bridge.cad.pace`. Live, each `CadEvent` it
makes is the word to the outbox that dispatch is due to be told, in whichever format it reads.
"""

import math
from dataclasses import dataclass

from agls.bridge.cad.pace import NEVER_NS, Told, due_ns, status
from agls.bridge.names import derived_id
from agls.bridge.record import CAUTION
from agls.config import SiteConfig
from agls.messages import NS_PER_S, CadEvent, Incident, UtcNs

FORGET_NS = 86_400 * NS_PER_S  # an incident is long closed then; the incident stage revises nothing so old


@dataclass(slots=True)
class _Watched:
    """An incident, since when it is as it is, and what dispatch was told of it."""

    incident: Incident
    since_ns: int
    told: Told | None = None
    due_ns: int = 0


class CadDesk:
    """Decide what dispatch is told of each incident, and when; remember what it was told.

    Parameters
    ----------
    site : SiteConfig
        The site; its `cad.incident_type` is the agency's type for unreviewed indications.
    """

    def __init__(self, site: SiteConfig) -> None:
        self.incident_type = site.cad.incident_type
        # An incident changes for so long after its last shot (agls.locate.incident).
        self._final_ns = round((site.gathering.gap_s + site.gathering.late_s) * NS_PER_S)
        self._watched: dict[str, _Watched] = {}
        self._next_ns = NEVER_NS

    def feed(self, incident: Incident, now_ns: int) -> list[CadEvent]:
        """Take in a revision of an incident.

        Parameters
        ----------
        incident : Incident
            The revision; one that is not newer than the last says nothing.
        now_ns : int
            UTC; stamped on what is told, and used to forget incidents of long ago.

        Returns
        -------
        list of CadEvent
            What is due by now, in the order in which it became due.
        """
        out = self.advance(now_ns)
        watched = self._watched.setdefault(incident.incident, _Watched(incident, now_ns))
        if incident.revision > watched.incident.revision:
            watched.incident, watched.since_ns = incident, now_ns
        self._plan(watched)
        for name in [name for name, one in self._watched.items() if now_ns - one.incident.last_shot_ns > FORGET_NS]:
            del self._watched[name]
        return out + self.advance(now_ns)

    def advance(self, now_ns: int) -> list[CadEvent]:
        """Let time pass.

        Parameters
        ----------
        now_ns : int
            UTC.

        Returns
        -------
        list of CadEvent
            What became due by then, in order.
        """
        if now_ns < self._next_ns:  # asked for each detection, with thousands of incidents in memory
            return []
        due = [watched for watched in self._watched.values() if watched.due_ns <= now_ns]
        told = [self._tell(watched) for watched in sorted(due, key=lambda one: (one.due_ns, one.incident.incident))]
        self._next_ns = min((watched.due_ns for watched in self._watched.values()), default=NEVER_NS)
        return told

    def _plan(self, watched: _Watched) -> None:
        told, incident = watched.told, watched.incident
        differs = told is None or headline(told.incident) != headline(incident)
        watched.due_ns = due_ns(told, incident, watched.since_ns, differs, self._final_ns)
        self._next_ns = min(self._next_ns, watched.due_ns)

    def _tell(self, watched: _Watched) -> CadEvent:
        now = status(watched.told, watched.incident)
        assert now is not None  # noqa: S101 - nothing is due otherwise
        at_ns = watched.due_ns
        watched.told = Told(watched.incident, at_ns, watched.told.count + 1 if watched.told else 1)
        self._plan(watched)
        return cad_event(watched.incident, now, at_ns, self.incident_type)


def cad_event(incident: Incident, now: str, at_ns: int, incident_type: str) -> CadEvent:
    """Write an incident as a CAD event.

    Parameters
    ----------
    incident : Incident
        The incident.
    now : str
        ``open``, ``update`` or ``cancel``.
    at_ns : int
        When it is told, UTC.
    incident_type : str
        The agency's type.

    Returns
    -------
    CadEvent
        The document.
    """
    return CadEvent(
        cad_event_id=derived_id("cad", incident.incident),
        incident=incident.incident,
        revision=incident.revision,
        status=now,  # type: ignore[arg-type]
        issued_ns=UtcNs(at_ns),
        incident_type=incident_type,
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
