"""``agls.incident/1``: a GeoJSON Feature (RFC 7946) in a CloudEvents 1.0 envelope. Every other format says less.

    specversion, type   "1.0", "agls.incident/1"
    id                  <incident>.<revision>; with source it is unique, and the same whenever the same is said
    source              //<issuer>/live or //<issuer>/exercise
    subject, time       the incident; when this revision was made
    datacontenttype     application/geo+json
    data                a Feature: id the incident, geometry a Point [longitude, latitude, height], null where the site
                        has no place on Earth

Its properties say first what to show (``headline``, ``where``, ``known``, ``caution``, and place, rounds and verdict as
last corrected), then the whole record: `first` and `latest` of the machine, `corrections` of people, `shots`. ``area``
is the 95 % ellipse drawn as a GeoJSON Polygon, null without a place on Earth. Times are RFC 3339 with nine decimals.
"""

from typing import Any

import msgspec

from agls.bridge.formats import _wording as wording
from agls.bridge.record import CAUTION, Finding, IncidentRecord, judgement, shown
from agls.config import Dialect
from agls.messages import format_utc, to_builtins

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
SCHEMA = "agls.incident/1"


def document(record: IncidentRecord, dialect: Dialect) -> bytes:
    """Write a record as a CloudEvent that holds a GeoJSON Feature.

    Parameters
    ----------
    record : IncidentRecord
        The record.
    dialect : Dialect
        What the receiver agreed to.

    Returns
    -------
    bytes
        JSON.
    """
    envelope = {
        "specversion": "1.0",
        "type": SCHEMA,
        "source": f"//{record.issuer}/{'exercise' if record.exercise else 'live'}",
        "id": f"{record.incident}.{record.revision}",
        "subject": record.incident,
        "time": format_utc(record.at_ns),
        "datacontenttype": "application/geo+json",
        "data": feature(record, dialect),
    }
    return msgspec.json.encode(envelope)


def feature(record: IncidentRecord, dialect: Dialect) -> dict[str, Any]:
    """Lay a record out as a GeoJSON Feature.

    Parameters
    ----------
    record : IncidentRecord
        The record.
    dialect : Dialect
        What the receiver agreed to.

    Returns
    -------
    dict of str to Any
        The Feature.
    """
    found = shown(record)
    properties = {
        "schema": SCHEMA,
        "headline": wording.headline(record),
        "where": wording.where(record),
        "known": list(wording.known(record)),
        "caution": CAUTION,
        "reviewed": judgement(record) is not None,
        "link": f"{dialect.link}{record.incident}" if dialect.link else None,
        "area": _area(found),
    }
    rest = {name: value for name, value in to_builtins(record).items() if name != "type"}
    now = {name: value for name, value in to_builtins(found).items() if name not in ("revision", "at", "place")}
    return {"type": "Feature", "id": record.incident, "geometry": _point(found), "properties": properties | now | rest}


def _point(found: Finding) -> dict[str, Any] | None:
    place = found.place
    if place.latitude_deg is None or place.longitude_deg is None:
        return None
    height = [] if place.height_m is None else [place.height_m]
    return {"type": "Point", "coordinates": [place.longitude_deg, place.latitude_deg, *height]}


def _area(found: Finding) -> dict[str, Any] | None:
    if found.place.latitude_deg is None or found.place.longitude_deg is None:
        return None
    return {"type": "Polygon", "coordinates": [wording.ring(found, found.ellipse).tolist()]}
