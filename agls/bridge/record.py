"""The one incident record: everything dispatch, the RTCC and an auditor may be told of an incident, as one revision.

Every format is a projection of it: ``document(record) -> bytes``, and nothing else is asked. What the machine found
first stays as it was (`first`), what it finds now stands beside it (`latest`), and what people said stands beside both
(`corrections`), with author and reason; `shown` puts the three together for whoever needs one answer. Sensors are
counted, never named or placed.
"""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from agls.messages import (
    Alternative,
    Counter,
    Ellipse,
    Identifier,
    Incident,
    Latitude,
    Length,
    Longitude,
    Metres,
    Motion,
    Probability,
    Shot,
    UtcNs,
    Wire,
)

CAUTION = "unverified acoustic indication; not by itself grounds to stop a person"

# One line that every format can hold: no control characters, no lone surrogates.
CLEAN = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]*(?!\n)$"
Line: TypeAlias = Annotated[str, Meta(max_length=500, pattern=CLEAN)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0)]
Verdict: TypeAlias = Literal["probable", "possible", "withdrawn"]
State: TypeAlias = Literal[
    "candidate", "published", "reviewed", "acknowledged", "dispositioned", "closed", "withdrawn", "merged"
]
Judgement: TypeAlias = Literal["gunfire", "not_gunfire", "undecided"]
Outcome: TypeAlias = Literal["confirmed", "unconfirmed", "unfounded"]
Telling: TypeAlias = Literal["open", "update", "cancel"]
Stage: TypeAlias = Literal["flight", "node", "settle", "compute", "bridge", "answer", "camera"]


class Place(Wire, frozen=True, kw_only=True):
    """A place: in the site's frame always, on Earth where the site has an origin; height above the ellipsoid."""

    x_m: Metres
    y_m: Metres
    z_m: Metres = 0.0
    latitude_deg: Latitude | None = None
    longitude_deg: Longitude | None = None
    height_m: Metres | None = None


class Finding(Wire, frozen=True, kw_only=True):
    """What the machine made of an incident at one moment (`at`), as its `revision` of it.

    `p_gunfire` is a probability at the policy's prior; `place` is where the shooter who fired most is now or was on
    average, `ellipse` holds it with 95 %; `rate_per_s` is empty where there are too few rounds to say.
    """

    revision: Counter
    at_ns: UtcNs = msgspec.field(name="at")
    verdict: Verdict
    p_gunfire: Probability
    first_shot_ns: UtcNs = msgspec.field(name="first_shot_time")
    last_shot_ns: UtcNs = msgspec.field(name="last_shot_time")
    round_count: Counter
    shooter_count: Counter = 0
    automatic: bool = False
    rate_per_s: Annotated[float, Meta(ge=0)] | None = None
    motion: Motion | None = None
    place: Place
    ellipse: Ellipse
    sensor_count: Counter


class ShotRecord(Wire, frozen=True, kw_only=True):
    """One round that was located: when, where, how surely, and where else it may have been."""

    shot_id: Identifier
    fired_ns: UtcNs = msgspec.field(name="fired")
    fired_sigma_s: Seconds = 0.0
    place: Place
    ellipse: Ellipse
    alternatives: Annotated[tuple[Alternative, ...], Meta(max_length=8)] = ()
    p_gunfire: Probability
    sensor_count: Counter


class Correction(Wire, frozen=True, kw_only=True):
    """What a person said otherwise, or as well, and why; what is empty they left as it was."""

    at_ns: UtcNs = msgspec.field(name="at")
    author: Line
    reason: Line
    judgement: Judgement | None = None
    place: Place | None = None
    round_count: Counter | None = None
    incident_type: Line | None = None


class Acknowledgement(Wire, frozen=True, kw_only=True):
    """Who took notice, when, and under which number of their own."""

    at_ns: UtcNs = msgspec.field(name="at")
    author: Line
    call_number: Line = ""


class Disposition(Wire, frozen=True, kw_only=True):
    """What was found on the spot: gunfire confirmed, not confirmed, or something else (unfounded)."""

    at_ns: UtcNs = msgspec.field(name="at")
    author: Line
    reason: Line
    outcome: Outcome
    case_number: Line = ""


class CallLink(Wire, frozen=True, kw_only=True):
    """A 911 call near in place and time: the incident is offered as a link to it, not as a second call."""

    call_number: Line
    received_ns: UtcNs = msgspec.field(name="received")
    kind: Line
    latitude_deg: Latitude
    longitude_deg: Longitude
    distance_m: Length
    apart_s: Seconds


class Nearby(Wire, frozen=True, kw_only=True):
    """The nearest address or intersection: its name, how far it is, and in which direction the place lies from it."""

    name: Line
    distance_m: Length
    bearing_deg: Annotated[float, Meta(ge=0, lt=360)]


class PlateWindow(Wire, frozen=True, kw_only=True):
    """Between which times, and how near to the place, plate readers are worth asking; plates are not held here."""

    from_ns: UtcNs = msgspec.field(name="from")
    until_ns: UtcNs = msgspec.field(name="until")
    radius_m: Length


class Waypoint(Wire, frozen=True, kw_only=True):
    """Where a drone may be sent, and how high above the ground; nothing here flies one."""

    latitude_deg: Latitude
    longitude_deg: Longitude
    above_ground_m: Length


class StageTimes(Wire, frozen=True, kw_only=True):
    """When the incident passed each stage for the first time, as far as is known.

    ``fired`` at the muzzle, ``heard`` at the last sensor that was needed, ``received`` at the hub, ``due`` when the
    hub had waited long enough, ``located`` when it was computed, ``stored`` in the store, ``sent`` when dispatch had
    the bytes, ``acknowledged`` when dispatch answered, ``camera_asked`` and ``on_target`` of the first camera.
    """

    fired_ns: UtcNs | None = msgspec.field(default=None, name="fired")
    heard_ns: UtcNs | None = msgspec.field(default=None, name="heard")
    received_ns: UtcNs | None = msgspec.field(default=None, name="received")
    due_ns: UtcNs | None = msgspec.field(default=None, name="due")
    located_ns: UtcNs | None = msgspec.field(default=None, name="located")
    stored_ns: UtcNs | None = msgspec.field(default=None, name="stored")
    sent_ns: UtcNs | None = msgspec.field(default=None, name="sent")
    acknowledged_ns: UtcNs | None = msgspec.field(default=None, name="acknowledged")
    camera_asked_ns: UtcNs | None = msgspec.field(default=None, name="camera_asked")
    on_target_ns: UtcNs | None = msgspec.field(default=None, name="on_target")


class Overrun(Wire, frozen=True, kw_only=True):
    """A stage that took longer than the site allows it."""

    stage: Stage
    taken_s: float
    budget_s: Seconds


class IncidentRecord(Wire, frozen=True, kw_only=True, tag_field="type", tag="incident_record"):
    """An incident as one revision: `revision` counts every move, of the machine and of people, from 0.

    `state` and `move` (the move that led to this revision, at `at`) are those of `agls.bridge.life`. `issuer` is the
    domain name of the bridge that speaks; `exercise` marks what is none of it real. `incident_type` and `type_code` are
    the agency's, for unreviewed indications until a person reviewed; `priority` is 1 for the most urgent. `statements`
    are what the site's policy has to say of the hour and the place, such as a night of fireworks. `duplicate_of` is the
    number of dispatch's own call to which all further revisions belong. `late` is one located too long afterwards to
    open anything. `overruns` names the stages that took longer than the site allows. `telling` says what this document
    is to its receiver: the first word of the incident, another one, or that it is taken back; the outbox knows.
    """

    incident: Identifier
    revision: Counter
    state: State
    move: Identifier
    at_ns: UtcNs = msgspec.field(name="at")
    site: Line
    issuer: Line
    exercise: bool
    first: Finding
    latest: Finding
    corrections: tuple[Correction, ...] = ()
    shots: tuple[ShotRecord, ...] = ()
    incident_type: Line
    type_code: Line = ""
    priority: Annotated[int, Meta(ge=1, le=9)]
    statements: tuple[Line, ...] = ()
    address: Nearby | None = None
    intersection: Nearby | None = None
    beat: Line = ""
    calls: tuple[CallLink, ...] = ()
    duplicate_of: Line = ""
    merged_into: Identifier | None = None
    merged_from: tuple[Identifier, ...] = ()
    split_from: Identifier | None = None
    acknowledgements: tuple[Acknowledgement, ...] = ()
    disposition: Disposition | None = None
    plate_window: PlateWindow | None = None
    waypoint: Waypoint | None = None
    stages: StageTimes = StageTimes()
    overruns: tuple[Overrun, ...] = ()
    late: bool = False
    telling: Telling = "open"


def finding_of(incident: Incident, at_ns: int) -> Finding:
    """Take over what the machine says of an incident.

    Parameters
    ----------
    incident : Incident
        A revision.
    at_ns : int
        When the machine said it, UTC.

    Returns
    -------
    Finding
        The same.
    """
    return Finding(
        revision=incident.revision,
        at_ns=UtcNs(at_ns),
        verdict=incident.state,
        p_gunfire=incident.p_gunshot,
        first_shot_ns=incident.first_shot_ns,
        last_shot_ns=incident.last_shot_ns,
        round_count=incident.round_count,
        shooter_count=incident.shooter_count,
        automatic=incident.automatic,
        rate_per_s=incident.rate_per_s,
        motion=incident.motion,
        place=_place(incident),
        ellipse=incident.ellipse,
        sensor_count=incident.sensor_count,
    )


def shot_record_of(shot: Shot) -> ShotRecord:
    """Take over what the machine says of a shot, without the sensors that heard it.

    Parameters
    ----------
    shot : Shot
        As located.

    Returns
    -------
    ShotRecord
        The same, sensors counted only.
    """
    return ShotRecord(
        shot_id=shot.shot_id,
        fired_ns=shot.origin_ns,
        fired_sigma_s=shot.origin_sigma_s,
        place=_place(shot),
        ellipse=shot.ellipse,
        alternatives=shot.alternatives,
        p_gunfire=shot.p_gunshot,
        sensor_count=shot.sensor_count,
    )


def shown(record: IncidentRecord) -> Finding:
    """Say an incident once: the machine's latest, with what people corrected put in its place.

    Parameters
    ----------
    record : IncidentRecord
        The record.

    Returns
    -------
    Finding
        Place and rounds as last corrected; withdrawn where a person judged it no gunfire, and never so where one judged
        it gunfire.
    """
    found = record.latest
    for said in record.corrections:
        if said.place is not None:
            found = msgspec.structs.replace(found, place=said.place)
        if said.round_count is not None:
            found = msgspec.structs.replace(found, round_count=said.round_count)
    judged = judgement(record)
    if judged == "not_gunfire":
        return msgspec.structs.replace(found, verdict="withdrawn")
    if judged == "gunfire" and found.verdict != "probable":
        return msgspec.structs.replace(found, verdict="probable")
    return found


def judgement(record: IncidentRecord) -> Judgement | None:
    """Say how a person judged an incident last.

    Parameters
    ----------
    record : IncidentRecord
        The record.

    Returns
    -------
    Judgement or None
        None where nobody did.
    """
    said = [correction.judgement for correction in record.corrections if correction.judgement is not None]
    return said[-1] if said else None


def _place(found: Incident | Shot) -> Place:
    return Place(
        x_m=found.x_m,
        y_m=found.y_m,
        z_m=found.z_m,
        latitude_deg=found.latitude_deg,
        longitude_deg=found.longitude_deg,
        height_m=found.height_m,
    )
