"""The plain CAD document: the fields of `CadEvent`, and what the bridge knows besides.

`status` is what the document is to its receiver: *open*, *update* or *cancel*. Where `call_number` is not empty the
incident belongs to that call of dispatch's own (its duplicate, or a 911 call near in place and time): no second one
should be opened. Times, places and caution are those of `agls/messages.py`; `address` and `intersection` say the
nearest, how far it is and in which direction the place lies from it.
"""

import msgspec

from agls.bridge.cad.event import cad_event
from agls.bridge.record import Finding, IncidentRecord, judgement, shown
from agls.config import Dialect
from agls.messages import Incident, to_builtins


def document(record: IncidentRecord, dialect: Dialect) -> bytes:  # noqa: ARG001 - it leaves nothing to agreement
    """Write a record as a plain CAD document.

    Parameters
    ----------
    record : IncidentRecord
        The record.
    dialect : Dialect
        What the receiver agreed to.

    Returns
    -------
    bytes
        Indented JSON with a final line break.
    """
    told = cad_event(_incident(record, shown(record)), record.telling, record.at_ns, record.incident_type)
    known = {
        "headline": f"EXERCISE - {told.headline}" if record.exercise else told.headline,
        "call_number": record.duplicate_of or next((link.call_number for link in record.calls), ""),
        "exercise": record.exercise,
        "priority": record.priority,
        "type_code": record.type_code,
        "reviewed": judgement(record) is not None,
        "statements": record.statements,
        "address": to_builtins(record.address),
        "intersection": to_builtins(record.intersection),
        "beat": record.beat,
        "overruns": to_builtins(record.overruns),
    }
    return msgspec.json.format(msgspec.json.encode(to_builtins(told) | known), indent=2) + b"\n"


def _incident(record: IncidentRecord, found: Finding) -> Incident:
    """Lay a record out as the incident that it shows."""
    place = found.place
    return Incident(
        incident=record.incident,
        revision=record.revision,
        state="withdrawn" if record.telling == "cancel" else found.verdict,
        first_shot_ns=found.first_shot_ns,
        last_shot_ns=found.last_shot_ns,
        round_count=found.round_count,
        x_m=place.x_m,
        y_m=place.y_m,
        z_m=place.z_m,
        latitude_deg=place.latitude_deg,
        longitude_deg=place.longitude_deg,
        ellipse=found.ellipse,
        p_gunshot=found.p_gunfire,
        sensor_count=found.sensor_count,
        shot_ids=(),
    )
