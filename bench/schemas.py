"""What documents are held against: the schemas beside the project, with the defects that theirs have put right."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import xmlschema
import yaml
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

Check = Callable[[bytes], list[str]]
"""From a document to what is wrong with it."""

CAP_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d-00:00")

# RFC 7946 as a schema: what is asked of the Features that we write.
_POSITION = {
    "type": "array",
    "minItems": 2,
    "maxItems": 3,
    "prefixItems": [
        {"type": "number", "minimum": -180, "maximum": 180},
        {"type": "number", "minimum": -90, "maximum": 90},
        {"type": "number"},
    ],
}
_RING = {"type": "array", "minItems": 4, "items": _POSITION}
_POINT = {
    "type": "object",
    "required": ["type", "coordinates"],
    "properties": {"type": {"const": "Point"}, "coordinates": _POSITION},
}
_POLYGON = {
    "type": "object",
    "required": ["type", "coordinates"],
    "properties": {"type": {"const": "Polygon"}, "coordinates": {"type": "array", "items": _RING}},
}
FEATURE = {
    "type": "object",
    "required": ["type", "geometry", "properties"],
    "not": {"anyOf": [{"required": [name]} for name in ("coordinates", "geometries", "features")]},
    "properties": {
        "type": {"const": "Feature"},
        "id": {"type": ["string", "number"]},
        "geometry": {"oneOf": [{"type": "null"}, _POINT]},
        "properties": {
            "type": "object",
            "required": ["schema", "headline", "where", "caution", "sensor_count", "exercise", "area"],
            "properties": {"area": {"oneOf": [{"type": "null"}, _POLYGON]}, "schema": {"const": "agls.incident/1"}},
        },
    },
}


def checks(schemas: Path) -> dict[str, Check]:
    """Make a check for each format.

    Parameters
    ----------
    schemas : pathlib.Path
        Folder of the schemas.

    Returns
    -------
    dict of str to Check
        Name of the format, ``eido-1.1`` for EIDO's draft, to its check.
    """
    return {
        "agls_incident": _incident_check(schemas),
        "cap": _cap_check(schemas),
        "cot": _cot_check(schemas),
        "eido": _json_check(eido_validator(schemas / "eido-021.1b" / "Schema" / "openapi.patched.yaml")),
        "eido-1.1": _json_check(eido_validator(schemas / "eido" / "Schema" / "openapi.yaml")),
        "radio": _radio_check,
    }


def eido_validator(openapi: Path) -> jsonschema.protocols.Validator:
    """Read EIDO's schema with all that it refers to.

    Parameters
    ----------
    openapi : pathlib.Path
        Its file, beside the folder of NIEM components.

    Returns
    -------
    jsonschema.protocols.Validator
        Of an Emergency Incident Data Object.
    """
    files = [openapi, *sorted((openapi.parent / "NIEMComponents").glob("*.yaml"))]
    registry: Registry[Any] = Registry()
    for path in files:
        place = path.name if path == openapi else f"NIEMComponents/{path.name}"
        registry = registry.with_resource(f"urn:x/{place}", Resource(_yaml(path), DRAFT202012))
    wanted = {"$ref": f"urn:x/{openapi.name}#/components/schemas/EmergencyIncidentDataObjectType"}
    return jsonschema.Draft202012Validator(wanted, registry=registry)


def conveyance_validator(schemas: Path, branch: str) -> jsonschema.protocols.Validator:
    """Read one message of STA-024's schema, whose wrapper it does not ask for although it must be there.

    Parameters
    ----------
    schemas : pathlib.Path
        Folder of the schemas.
    branch : str
        Name of the message, such as ``subscribe``.

    Returns
    -------
    jsonschema.protocols.Validator
        Of that message.
    """
    described = _yaml(schemas / "eido-conveyance" / "schema" / "websocket.yaml")["components"]["schemas"]
    found = [one["properties"][branch] for one in described.values() if branch in one.get("properties", {})]
    wanted = {"type": "object", "required": [branch], "properties": {branch: {"oneOf": found}}}
    return jsonschema.Draft202012Validator(wanted)


def _yaml(path: Path) -> Any:
    text = path.read_text("utf-8").replace("NIEMComponents//", "NIEMComponents/").replace("minItems: 1,", "minItems: 1")
    return yaml.load(text, Loader=yaml.CSafeLoader)


def _json_check(validator: jsonschema.protocols.Validator) -> Check:
    return lambda document: _wrong(validator, json.loads(document))


def _wrong(validator: jsonschema.protocols.Validator, value: Any) -> list[str]:
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(value)]


def _incident_check(schemas: Path) -> Check:
    envelope = jsonschema.Draft7Validator(json.loads((schemas / "cloudevents" / "cloudevents.json").read_text("utf-8")))
    feature = jsonschema.Draft202012Validator(FEATURE)

    def check(document: bytes) -> list[str]:
        said = json.loads(document)
        datetime.fromisoformat(said["time"])
        area = said["data"]["properties"]["area"]
        faults = [] if area is None else list(_ring_faults(area["coordinates"][0]))
        return _wrong(envelope, said) + _wrong(feature, said["data"]) + faults

    return check


def _ring_faults(ring: list[list[float]]) -> Iterator[str]:
    if ring[0] != ring[-1]:
        yield "the ring is open"
    across = pairwise(ring)
    area = sum((x1 - x0) * (y1 + y0) for (x0, y0), (x1, y1) in across)
    wraps = max(x for x, _ in ring) - min(x for x, _ in ring) > 180 or max(abs(y) for _, y in ring) > 89
    if area > 1e-15 and not wraps:
        yield "the ring runs clockwise"


def _cap_check(schemas: Path) -> Check:
    schema = xmlschema.XMLSchema(str(schemas / "cap" / "CAP-v1.2.xsd"))
    space = "{urn:oasis:names:tc:emergency:cap:1.2}"

    def check(document: bytes) -> list[str]:
        root = ET.fromstring(document)  # noqa: S314 - our own
        times = [
            one.text or "" for name in ("sent", "effective", "onset", "expires") for one in root.iter(space + name)
        ]
        polygons = [(one.text or "").split() for one in root.iter(f"{space}polygon")]
        return (
            [error.reason or "" for error in schema.iter_errors(root)]
            + [f"time {text}" for text in times if not CAP_TIME.fullmatch(text)]
            + ["a polygon is open" for corners in polygons if corners[0] != corners[-1] or len(corners) < 4]
            + ["Restricted needs a restriction"] * (root.find(f"{space}restriction") is None)
        )

    return check


def _cot_check(schemas: Path) -> Check:
    folder = schemas / "cot" / "takcot"
    base = xmlschema.XMLSchema(str(folder / "mitre" / "CoT Base-Event Schema  (PUBLIC RELEASE).xsd"))
    shapes = xmlschema.XMLSchema(str(folder / "xsd" / "Drawing Shapes - Circle.xsd"))
    remarks = xmlschema.XMLSchema(str(folder / "mitre" / "CoT Remarks Schema  (PUBLIC RELEASE).xsd"))
    parts = {name: shapes.elements[name] for name in ("contact", "shape")} | {"remarks": remarks.elements["remarks"]}

    def check(document: bytes) -> list[str]:
        root = ET.fromstring(document)  # noqa: S314 - our own
        faults = [error.reason or "" for error in base.iter_errors(root)]
        for name, schema in parts.items():
            found = root.find(f"detail/{name}")
            wrong = [] if found is None else [f"{name}: {error.reason}" for error in schema.iter_errors(found)]
            faults += [f"no {name}"] if found is None else wrong
        return faults

    return check


def _radio_check(document: bytes) -> list[str]:
    line = document.decode()
    return [] if line.endswith("\n") and len(line.splitlines()) == 1 else [f"not one line: {line[:80]!r}"]
