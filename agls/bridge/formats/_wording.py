"""What every format says, in the same words: the sentence, the place as people name it, what is known, the caution."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pyproj import Geod

from agls.bridge.record import CAUTION, Finding, IncidentRecord, Nearby, judgement, shown
from agls.messages import NS_PER_S, Ellipse

COMPASS = ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest")
SIGMA_95 = math.sqrt(-2.0 * math.log(0.05))  # semi-axis of the 95 % ellipse in standard deviations
RING_COUNT = 36
_GEOD = Geod(ellps="WGS84")


def is_withdrawn(record: IncidentRecord) -> bool:
    """Tell whether a document takes its incident back.

    Parameters
    ----------
    record : IncidentRecord
        The record.

    Returns
    -------
    bool
        Whether its receiver should no longer act on it.
    """
    return record.telling == "cancel" or shown(record).verdict == "withdrawn"


def headline(record: IncidentRecord) -> str:
    """Say an incident in a few words: what, and where as people name it.

    Parameters
    ----------
    record : IncidentRecord
        The record.

    Returns
    -------
    str
        Such as ``Probable gunfire, 3 rounds, 18 m northeast of 412 Pine St``; an exercise says so first.
    """
    exercise = "EXERCISE - " if record.exercise else ""
    return f"{exercise}{what(record)}, {_nearest(record)}"


def what(record: IncidentRecord) -> str:
    """Say what it is.

    Parameters
    ----------
    record : IncidentRecord
        The record.

    Returns
    -------
    str
        Such as ``Probable gunfire, 3 rounds``.
    """
    found = shown(record)
    if record.merged_into is not None:
        return f"Joined with {record.merged_into}"
    if is_withdrawn(record):
        return "Withdrawn: no longer taken for gunfire"
    return f"{found.verdict.capitalize()} gunfire, {_count(found.round_count, 'round')}"


def where(record: IncidentRecord) -> str:
    """Say the place in every way that is known: address, intersection, and coordinates with the ellipse.

    Parameters
    ----------
    record : IncidentRecord
        The record.

    Returns
    -------
    str
        Such as ``18 m northeast of 412 Pine St; 40 m south of Pine St & 4th Ave; beat 3; within 12 m (95 %) of
        40.44062, -79.99589``.
    """
    found = shown(record)
    ways = [_beside(near) for near in (record.address, record.intersection) if near is not None]
    ways += [f"beat {record.beat}"] if record.beat else []
    within_m = max(1, math.ceil(found.ellipse.major_m))
    return "; ".join([*ways, f"within {within_m} m (95 %) of {coordinates(found)}"])


def coordinates(found: Finding) -> str:
    """Write latitude and longitude to a metre, or metres from the origin where the site has no place on Earth.

    Parameters
    ----------
    found : Finding
        What is shown.

    Returns
    -------
    str
        Such as ``40.44062, -79.99589``.
    """
    place = found.place
    if place.latitude_deg is not None and place.longitude_deg is not None:
        return f"{place.latitude_deg:.5f}, {place.longitude_deg:.5f}"
    east_m, north_m = round(place.x_m), round(place.y_m)
    return (
        f"{abs(east_m)} m {'west' if east_m < 0 else 'east'} and "
        f"{abs(north_m)} m {'south' if north_m < 0 else 'north'} of the site's origin"
    )


def known(record: IncidentRecord) -> Iterator[str]:
    """Say what is known, a sentence for each thing, the caution last.

    Parameters
    ----------
    record : IncidentRecord
        The record.

    Yields
    ------
    str
        A sentence.
    """
    found = shown(record)
    if record.exercise:
        yield "This is an exercise: nothing of it is real."
    yield f"{what(record)}."
    yield f"Place: {where(record)}."
    if not is_withdrawn(record):
        yield from _firing(found)
    yield f"Heard by {_count(found.sensor_count, 'sensor')}; probability of gunfire {percent(found.p_gunfire)}."
    yield from _said(record)
    yield from filter(None, record.statements)
    if record.late:
        yield "Located late: this happened some time ago."
    yield f"{CAUTION[0].upper()}{CAUTION[1:]}."


def percent(p: float) -> str:
    """Write a probability as no surer than anybody is.

    Parameters
    ----------
    p : float
        From 0 to 1.

    Returns
    -------
    str
        From ``under 1 %`` to ``over 99 %``.
    """
    if p < 0.01:
        return "under 1 %"
    return "over 99 %" if p > 0.99 else f"{100 * p:.0f} %"


def is_judged_gunfire(record: IncidentRecord) -> bool:
    """Tell whether a person holds it for gunfire.

    Parameters
    ----------
    record : IncidentRecord
        The record.

    Returns
    -------
    bool
        Whether one judged so, or confirmed it on the spot.
    """
    if record.disposition is not None:
        return record.disposition.outcome == "confirmed"
    return judgement(record) == "gunfire"


def ring(found: Finding, ellipse: Ellipse) -> NDArray[np.float64]:
    """Draw an error ellipse on Earth.

    Parameters
    ----------
    found : Finding
        With a place on Earth in its middle.
    ellipse : Ellipse
        Its semi-axes and azimuth.

    Returns
    -------
    numpy.ndarray, shape (37, 2), float64
        Longitudes and latitudes [deg], counter-clockwise; the last is the first.
    """
    turn = -2.0 * np.pi * np.arange(RING_COUNT) / RING_COUNT  # azimuths run clockwise
    along_m, across_m = ellipse.major_m * np.cos(turn), ellipse.minor_m * np.sin(turn)
    azimuth_deg = ellipse.azimuth_deg + np.degrees(np.arctan2(across_m, along_m))
    middle = np.ones(RING_COUNT)
    longitude_deg, latitude_deg, _ = _GEOD.fwd(
        middle * (found.place.longitude_deg or 0.0),
        middle * (found.place.latitude_deg or 0.0),
        azimuth_deg,
        np.hypot(along_m, across_m),
    )
    corners = np.round(np.column_stack([longitude_deg, latitude_deg]), 7)
    return np.vstack([corners, corners[:1]])


def _firing(found: Finding) -> Iterator[str]:
    """Say how it was fired, where there is more to say than how often."""
    parts = []
    if found.round_count > 1:
        parts.append(f"in {(found.last_shot_ns - found.first_shot_ns) / NS_PER_S:.1f} s")
    if found.rate_per_s is not None:
        parts.append(f"{found.rate_per_s:.1f} a second")
    if found.automatic:
        parts.append("automatically")
    if found.shooter_count > 1:
        parts.append(f"by {found.shooter_count} shooters")
    if found.motion is not None:
        heading = COMPASS[round(found.motion.heading_deg / 45.0) % 8]
        parts.append(f"moving {heading} at about {found.motion.speed_m_s:.0f} m/s")
    if parts:
        yield f"Fired {', '.join(parts)}."


def _said(record: IncidentRecord) -> Iterator[str]:
    """Say what people made of it, without who they are."""
    judged = judgement(record)
    if judged is None:
        yield "No person has reviewed it."
    else:
        yield f"A person reviewed it: {judged.replace('_', ' ')}."
    if any(said.place is not None for said in record.corrections):
        yield "The place was corrected by a person."
    if record.disposition is not None:
        yield f"Found on the spot: {record.disposition.outcome}."
    if record.duplicate_of:
        yield f"Belongs to call {record.duplicate_of}."
    for link in record.calls:
        yield f"A 911 call {link.distance_m:.0f} m away may be of the same: {link.call_number}."


def _nearest(record: IncidentRecord) -> str:
    nearest = record.address or record.intersection
    return f"at {coordinates(shown(record))}" if nearest is None else _beside(nearest)


def _beside(near: Nearby) -> str:
    """Say where something is from what is near it."""
    if near.distance_m < 1.0:
        return f"at {near.name}"
    return f"{near.distance_m:.0f} m {COMPASS[round(near.bearing_deg / 45.0) % 8]} of {near.name}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
