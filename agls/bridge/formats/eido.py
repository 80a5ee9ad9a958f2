"""EIDO, the Emergency Incident Data Object of NENA-STA-021 (JSON): as published (021.1b), or the draft 1.1.

    $id                     urn:emergency:uid:incidentid:<incident>:<issuer>, for the life of the incident
    incidentComponent       the agency's type, code, priority and beat; status Active, NewLocation, Cancelled, Closed;
                            disposition once known
    locationComponent       InitialIncident as first told and, where it differs, CurrentIncident: PIDF-LO with the 95 %
                            ellipse (RFC 5491) and its confidence (RFC 7459); address and intersection as text
    notesComponent          what is known, as HTML, with the caution
    additionalDataComponent the Feature of ``agls.incident/1`` without its shots: where the standard wants sensor data
    mergeComponent          REPLACED, REPLACING, SPLIT: the incidents it was joined with or parted from
    agencyComponent         the agency, `dialect.agency` or the issuer; agentComponent: this bridge, an automaton

Only the draft has cautionComponent and externalInformationSourceComponent (spelt as it spells them). What belongs to
a call of dispatch's own says so in its notes.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from typing import Any
from xml.etree import ElementTree as ET

import msgspec

from agls.bridge.formats import _wording as wording
from agls.bridge.formats import agls_incident
from agls.bridge.formats._xml import element
from agls.bridge.record import CAUTION, Finding, IncidentRecord, shown
from agls.config import Dialect
from agls.messages import NS_PER_S

CONTENT_TYPE = "application/emergency.eido+json"
MOVED_M = 10.0
PURPOSE = "EmergencyCallData.AGLS"
_EPSG = "urn:ogc:def:crs:EPSG::4326"
_METRE, _DEGREE = "urn:ogc:def:uom:EPSG::9001", "urn:ogc:def:uom:EPSG::9102"
_SPACES = {
    "xmlns": "urn:ietf:params:xml:ns:pidf",
    "xmlns:gp": "urn:ietf:params:xml:ns:pidf:geopriv10",
    "xmlns:gs": "http://www.opengis.net/pidflo/1.0",
    "xmlns:gml": "http://www.opengis.net/gml",
    "xmlns:con": "urn:ietf:params:xml:ns:geopriv:conf",
}


def document(record: IncidentRecord, dialect: Dialect) -> bytes:
    """Write a record as an EIDO.

    Parameters
    ----------
    record : IncidentRecord
        The record.
    dialect : Dialect
        What the receiver agreed to; its `eido_profile` decides the version.

    Returns
    -------
    bytes
        JSON.
    """
    return msgspec.json.encode(_Writer(record, dialect).eido())


def incident_urn(incident: str, issuer: str) -> str:
    """Name an incident as NG9-1-1 does.

    Parameters
    ----------
    incident : str
        Its name here.
    issuer : str
        Domain name of the bridge.

    Returns
    -------
    str
        A URN.
    """
    return f"urn:emergency:uid:incidentid:{incident}:{issuer}"


class _Writer:
    """Write one record; each component has the same prologue."""

    def __init__(self, record: IncidentRecord, dialect: Dialect) -> None:
        self._record, self._dialect, self._found = record, dialect, shown(record)
        self._agency = dialect.agency or record.issuer
        self._agent = f"agls-bridge@{self._agency}"

    def eido(self) -> dict[str, Any]:
        """Put the components together."""
        record = self._record
        parts = {
            "eidoVersion": "1.0",
            "issuingElementIdentification": record.issuer,
            "incidentComponent": self._incident(),
            "mergeComponent": list(self._merges()),
            "locationComponent": self._locations(),
            "notesComponent": [self._notes()],
            "additionalDataComponent": [self._additional()],
            "agencyComponent": [self._agency_component()],
            "agentComponent": [self._agent_component()],
            **(self._draft() if self._dialect.eido_profile == "1.1" else {}),
        }
        return self._named(incident_urn(record.incident, record.issuer)) | {
            name: part for name, part in parts.items() if part != []
        }

    def _incident(self) -> dict[str, Any]:
        record, dialect = self._record, self._dialect
        judged = wording.is_judged_gunfire(record)
        texts = {
            "incidentTypeCommonRegistryText": dialect.eido_reviewed_type if judged else dialect.eido_type,
            "incidentTypeInternalCode": record.type_code,
            "incidentTypeInternalText": f"{wording.headline(record)} ({record.incident_type})",
            "internalIncidentId": record.incident,
            "beatOrDispatchGroupText": record.beat,
        }
        return self._part("incident") | {name: text for name, text in texts.items() if text} | self._states()

    def _states(self) -> dict[str, Any]:
        record = self._record
        disposition = [] if record.disposition is None else [self._disposition(record.disposition.outcome)]
        return {
            "incidentStatusCommonRegistryText": self._status(),
            "incidentStatusInternalText": [record.state],
            "incidentCommonPriorityNumber": record.priority,
            "locationReference": [{"$ref": part["$id"]} for part in self._locations()],
            "notesReference": [self._reference("notes")],
            "agentReference": [{"$ref": self._agent}],
            **({"dispositionComponent": disposition} if disposition else {}),
        }

    def _status(self) -> list[str]:
        if wording.is_withdrawn(self._record):
            return ["Cancelled"]
        if self._record.state == "closed":
            return ["Closed"]
        return ["Active", "NewLocation"] if self._has_moved() else ["Active"]

    def _has_moved(self) -> bool:
        first, now = self._record.first.place, self._found.place
        return (first.x_m - now.x_m) ** 2 + (first.y_m - now.y_m) ** 2 > MOVED_M**2

    def _disposition(self, outcome: str) -> dict[str, Any]:
        code = getattr(self._dialect, f"eido_{outcome}")
        said = {"dispositionCommonRegistryCode": code, "dispositionDescriptionText": outcome}
        return self._part("disposition") | said

    def _locations(self) -> list[dict[str, Any]]:
        """Say where it was first, and where it is now if that is elsewhere."""
        first = self._location("InitialIncident", self._record.first if self._has_moved() else self._found)
        return [first, self._location("CurrentIncident", self._found)] if self._has_moved() else [first]

    def _location(self, kind: str, found: Finding) -> dict[str, Any]:
        record = self._record
        location = self._part(kind) | {"locationTypeDescriptionRegistryText": kind}
        if found.place.latitude_deg is not None and found.place.longitude_deg is not None:
            location["locationByValue"] = _pidf_lo(record, found)
        if found is not self._found:
            return location | {"locationDescriptionText": f"first taken to be at {wording.coordinates(found)}"}
        location |= {"locationDescriptionText": wording.where(record), "notesReference": [self._reference("notes")]}
        if record.intersection is not None:
            location["crossStreetByValue"] = [record.intersection.name]
        return location | {"additionalDataReference": [self._reference("additional")]}

    def _notes(self) -> dict[str, Any]:
        paragraphs = "".join(f"<p>{escape(sentence)}</p>" for sentence in wording.known(self._record))
        return self._part("notes") | {"notesActionComments": paragraphs, "agentReference": {"$ref": self._agent}}

    def _additional(self) -> dict[str, Any]:
        brief = msgspec.structs.replace(self._record, shots=())
        feature = msgspec.json.encode(agls_incident.feature(brief, self._dialect)).decode()
        address = {"additionalDataByReferenceUrl": self._link()} if self._dialect.link else {}
        return self._part("additional") | {"additionalDataByValue": feature, "urlPurpose": PURPOSE} | address

    def _merges(self) -> Iterator[dict[str, Any]]:
        record = self._record
        pairs = [(record.merged_into, "REPLACED"), (record.split_from, "SPLIT")]
        pairs += [(name, "REPLACING") for name in record.merged_from]
        for number, (name, code) in enumerate(pairs):
            if name is not None:
                other = {"incidentTrackingIdentifier": incident_urn(name, record.issuer)}
                yield self._part(f"merge-{number}") | other | {"incidentMergeDirectionCode": code}

    def _agency_component(self) -> dict[str, Any]:
        said = {"agencyRoleDescriptionRegistryText": [self._dialect.eido_agency_role], "agencyType": ["police"]}
        return self._named(self._agency) | said

    def _agent_component(self) -> dict[str, Any]:
        said = {"agentRoleRegistryText": ["Automaton"], "agencyReference": {"$ref": self._agency}}
        return self._named(self._agent) | said

    def _draft(self) -> dict[str, Any]:
        """Add what the draft alone has."""
        caution = self._part("caution") | {
            "cautionTypeInternalText": CAUTION,
            "cautionTypeCommonRegistryText": "Weapon",
            "cautionSeverity": "high",
            "cautionSource": self._agent,
        }
        if not self._dialect.link:
            return {"cautionComponent": [caution]}
        said = {"externalSourceRegistryText": "AGLS", "externalSourceAcessString": self._link()}
        return {
            "cautionComponent": [caution],
            "externalInformationSourceComponent": [self._part("console") | said],
        }

    def _link(self) -> str:
        return f"{self._dialect.link}{self._record.incident}"

    def _part(self, name: str) -> dict[str, Any]:
        return self._named(self._reference(name)["$ref"])

    def _reference(self, name: str) -> dict[str, str]:
        return {"$ref": f"{incident_urn(self._record.incident, self._record.issuer)}#{name}"}

    def _named(self, name: str) -> dict[str, Any]:
        return {
            "$id": name,
            "lastUpdateTimeStamp": _time(self._record.at_ns),
            "updatedByAgencyReference": {"$ref": self._agency},
            "updatedByAgentReference": {"$ref": self._agent},
        }


def _pidf_lo(record: IncidentRecord, found: Finding) -> str:
    """Write a place with its ellipse as a PIDF-LO document."""
    presence = ET.Element("presence", {"entity": f"pres:{record.incident}@{record.issuer}", **_SPACES})
    line = element(presence, "tuple", id="place")
    private = element(element(line, "status"), "gp:geopriv")
    place = element(private, "gp:location-info")
    ellipse = element(place, "gs:Ellipse", srsName=_EPSG)
    element(ellipse, "gml:pos", f"{found.place.latitude_deg:.7f} {found.place.longitude_deg:.7f}")
    element(ellipse, "gs:semiMajorAxis", f"{found.ellipse.major_m:.1f}", uom=_METRE)
    element(ellipse, "gs:semiMinorAxis", f"{found.ellipse.minor_m:.1f}", uom=_METRE)
    element(ellipse, "gs:orientation", f"{found.ellipse.azimuth_deg:.1f}", uom=_DEGREE)
    element(place, "con:confidence", "95", pdf="normal")
    element(private, "gp:usage-rules")
    element(private, "gp:method", "Derived")
    element(line, "timestamp", _time(found.first_shot_ns))
    return ET.tostring(presence, "unicode")


def _time(moment_ns: int) -> str:
    seconds, rest_ns = divmod(moment_ns, NS_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1_000_000:03d}+00:00"
