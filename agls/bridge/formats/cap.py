"""OASIS CAP 1.2, for alert hubs and emergency operations centres; scope Restricted, never Public.

`identifier` is ``<incident>.<revision>``, and `references` of an Update or Cancel names revision 0, which is the first
thing that was known; `incidents` joins them all. Times have no fraction and no ``Z`` (the schema refuses both): UTC is
``-00:00``. `status` is Exercise where it is one, with the note that CAP then asks for. The area is the 95 % ellipse as
a polygon, and a circle of its major semi-axis, in kilometres; both are left out where the site has no place on Earth.
"""

from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from agls.bridge.formats import _wording as wording
from agls.bridge.formats._xml import element, elements, written
from agls.bridge.record import CAUTION, IncidentRecord, shown
from agls.config import Dialect
from agls.messages import NS_PER_S

CONTENT_TYPE = "application/cap+xml; charset=utf-8"
NAMESPACE = "urn:oasis:names:tc:emergency:cap:1.2"
RESTRICTION = "for law enforcement and emergency communications only"
KINDS = {"open": "Alert", "update": "Update", "cancel": "Cancel"}


def document(record: IncidentRecord, dialect: Dialect) -> bytes:
    """Write a record as a CAP alert.

    Parameters
    ----------
    record : IncidentRecord
        The record.
    dialect : Dialect
        What the receiver agreed to.

    Returns
    -------
    bytes
        XML.
    """
    root = ET.Element("alert", xmlns=NAMESPACE)
    references = f"{record.issuer},{record.incident}.0,{_time(record.first.at_ns)}"
    elements(
        root,
        {
            "identifier": f"{record.incident}.{record.revision}",
            "sender": record.issuer,
            "sent": _time(record.at_ns),
            "status": "Exercise" if record.exercise else "Actual",
            "msgType": KINDS[record.telling],
            "source": "acoustic gunshot location",
            "scope": "Restricted",
            "restriction": RESTRICTION,
            "note": f"Exercise at {record.site}: nothing of it is real." if record.exercise else "",
            "references": "" if record.telling == "open" else references,
            "incidents": record.incident,
        },
    )
    _say(element(root, "info"), record, dialect)
    return written(root)


def _say(part: ET.Element, record: IncidentRecord, dialect: Dialect) -> None:
    found, withdrawn = shown(record), wording.is_withdrawn(record)
    elements(
        part,
        {
            "language": "en-US",
            "category": "Security",
            "event": record.incident_type,
            "responseType": "None" if withdrawn else "Assess",
            "urgency": "Past" if withdrawn else "Immediate",
            "severity": _severity(record, dialect),
            "certainty": _certainty(record),
        },
    )
    for name, value in (("agls:incident_type", record.incident_type), ("agls:type_code", record.type_code)):
        _pair(part, "eventCode", name, value)
    elements(
        part,
        {
            "effective": _time(record.at_ns),
            "onset": _time(found.first_shot_ns),
            "expires": _time(record.at_ns + round(dialect.valid_s) * NS_PER_S),
            "senderName": record.site,
            "headline": wording.headline(record),
            "description": " ".join(wording.known(record)),
            "instruction": f"Assess: {CAUTION}.",
            "web": f"{dialect.link}{record.incident}" if dialect.link else "",
        },
    )
    for name, value in _parameters(record).items():
        _pair(part, "parameter", f"agls:{name}", value)
    _area(element(part, "area"), record)


def _parameters(record: IncidentRecord) -> dict[str, str]:
    found = shown(record)
    ellipse = found.ellipse
    return {
        "state": record.state,
        "revision": str(record.revision),
        "priority": str(record.priority),
        "rounds": str(found.round_count),
        "p_gunfire": f"{found.p_gunfire:.3f}",
        "automatic": str(found.automatic).lower(),
        "sensors": str(found.sensor_count),
        "ellipse95": f"{ellipse.major_m:.1f} m x {ellipse.minor_m:.1f} m, azimuth {ellipse.azimuth_deg:.0f}",
        "address": _near(record, "address"),
        "intersection": _near(record, "intersection"),
        "beat": record.beat,
        "call_number": record.duplicate_of,
    }


def _area(area: ET.Element, record: IncidentRecord) -> None:
    found = shown(record)
    element(area, "areaDesc", wording.where(record))
    if found.place.latitude_deg is None or found.place.longitude_deg is None:
        return
    corners = wording.ring(found, found.ellipse)
    element(area, "polygon", " ".join(f"{latitude:.6f},{longitude:.6f}" for longitude, latitude in corners))
    middle = f"{found.place.latitude_deg:.6f},{found.place.longitude_deg:.6f}"
    element(area, "circle", f"{middle} {found.ellipse.major_m / 1000.0:.3f}")


def _severity(record: IncidentRecord, dialect: Dialect) -> str:
    found = shown(record)
    if wording.is_withdrawn(record):
        return "Unknown"
    return "Extreme" if found.automatic or found.round_count >= dialect.extreme_rounds_count else "Severe"


def _certainty(record: IncidentRecord) -> str:
    if wording.is_withdrawn(record):
        return "Unlikely"
    if wording.is_judged_gunfire(record):
        return "Observed"
    return "Likely" if shown(record).verdict == "probable" else "Possible"


def _near(record: IncidentRecord, kind: str) -> str:
    near = record.address if kind == "address" else record.intersection
    return "" if near is None else f"{near.name} ({near.distance_m:.0f} m)"


def _pair(parent: ET.Element, kind: str, name: str, value: str) -> None:
    if value:
        elements(element(parent, kind), {"valueName": name, "value": value})


def _time(moment_ns: int) -> str:
    return f"{datetime.fromtimestamp(moment_ns // NS_PER_S, UTC):%Y-%m-%dT%H:%M:%S}-00:00"
