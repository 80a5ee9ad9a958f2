"""Cursor on Target 2.0 XML, for the phones of officers and whatever else speaks to a TAK server.

`uid` is ``<issuer>.<incident>`` for the life of the incident, so each revision replaces the one before on every map;
one that is taken back is stale at once. `ce` is one sigma, as the schema says of errors: that of the 95 % ellipse's
major axis; the ellipse itself is `shape`. What is not known (height, `le`) is 9999999. `how` is ``m-f`` (fused by a
machine), in an exercise ``m-s`` (simulated) with `opex` ``e-<site>``, so that it never looks live. A place that is not
on Earth cannot be said: such a record is refused.
"""

import re
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from agls.bridge.formats import _wording as wording
from agls.bridge.formats._xml import element, written
from agls.bridge.record import IncidentRecord, shown
from agls.config import Dialect
from agls.errors import InputError
from agls.messages import NS_PER_S, format_utc

CONTENT_TYPE = "application/xml; charset=utf-8"
NAMESPACE = "urn:agls:incident:1"
UNKNOWN = "9999999"


def document(record: IncidentRecord, dialect: Dialect) -> bytes:
    """Write a record as a Cursor on Target message.

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

    Raises
    ------
    InputError
        If the site has no place on Earth.
    """
    found = shown(record)
    if found.place.latitude_deg is None or found.place.longitude_deg is None:
        raise InputError(
            f"incident {record.incident} has no place on Earth, which Cursor on Target needs; give the site an [origin]"
        )
    valid_ns = 0 if wording.is_withdrawn(record) else round(dialect.valid_s) * NS_PER_S
    message = ET.Element(
        "event",
        version="2.0",
        uid=f"{record.issuer}.{record.incident}",
        type=dialect.cot_type,
        how="m-s" if record.exercise else "m-f",
        opex=f"e-{re.sub('[^A-Za-z0-9]+', '-', record.site).strip('-')}" if record.exercise else "o",
        qos="9-r-g",
        time=_time(record.at_ns),
        start=_time(record.at_ns),
        stale=_time(record.at_ns + valid_ns),
    )
    element(
        message,
        "point",
        lat=f"{found.place.latitude_deg:.7f}",
        lon=f"{found.place.longitude_deg:.7f}",
        hae=UNKNOWN if found.place.height_m is None else f"{found.place.height_m:.1f}",
        ce=f"{found.ellipse.major_m / wording.SIGMA_95:.2f}",
        le=UNKNOWN,
    )
    _detail(element(message, "detail"), record, dialect)
    return written(message)


def _detail(detail: ET.Element, record: IncidentRecord, dialect: Dialect) -> None:
    found = shown(record)
    element(detail, "contact", callsign=f"{'EXERCISE ' if record.exercise else ''}{wording.what(record)}")
    element(detail, "remarks", " ".join(wording.known(record)))
    shape, ellipse = element(detail, "shape"), found.ellipse
    # Whole degrees, as TAK's schema of shapes asks.
    angle = f"{round(ellipse.azimuth_deg) % 180}"
    element(shape, "ellipse", major=f"{ellipse.major_m:.2f}", minor=f"{ellipse.minor_m:.2f}", angle=angle)
    element(shape, "link", uid=f"{record.issuer}.{record.incident}.Style", type="b-x-KmlStyle", relation="p-c")
    element(
        detail,
        "_agls",
        xmlns=NAMESPACE,
        incident=record.incident,
        revision=str(record.revision),
        state=record.state,
        incident_type=record.incident_type,
        priority=str(record.priority),
        verdict=found.verdict,
        rounds=str(found.round_count),
        p_gunfire=f"{found.p_gunfire:.3f}",
        sensors=str(found.sensor_count),
        first_shot=format_utc(found.first_shot_ns),
        **({"link": f"{dialect.link}{record.incident}"} if dialect.link else {}),
    )


def _time(moment_ns: int) -> str:
    seconds, rest_ns = divmod(moment_ns, NS_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1_000_000:03d}Z"
