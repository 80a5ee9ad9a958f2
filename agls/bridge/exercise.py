"""`agls bridge send --exercise`: tell whoever receives exercises of an incident that was made up.

It is marked as an exercise in every format, goes to the subscribers whose `realm` is ``exercise`` alone, and no store
holds it.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from agls.bridge.places import Beat, Places, Points, load_places, nearest
from agls.bridge.record import Finding, IncidentRecord, Place
from agls.bridge.sender import Sender, open_sender
from agls.config import SiteConfig, load_site
from agls.errors import InputError
from agls.messages import NS_PER_S, Ellipse, UtcNs, format_utc

EXAMPLE_NS = 1_767_225_600 * NS_PER_S
EXAMPLE_SITE = SiteConfig(name="Example City")
EXAMPLE_PLACE = Place(x_m=0.0, y_m=0.0, latitude_deg=40.44062, longitude_deg=-79.99589, height_m=230.0)
EXAMPLE_PLACES = Places(
    addresses=Points(("412 Pine St",), np.array([40.44051]), np.array([-79.99604])),
    intersections=Points(("Pine St & 4th Ave",), np.array([40.44098]), np.array([-79.99590])),
    beats=(Beat("K2", (((-80.0, 40.0), (-79.0, 40.0), (-79.0, 41.0), (-80.0, 41.0), (-80.0, 40.0)),)),),
)


def made_up(site: SiteConfig, at_ns: int) -> IncidentRecord:
    """Make up an incident: three rounds at the site's origin, four seconds ago.

    Parameters
    ----------
    site : SiteConfig
        Whose names, codes and places it has.
    at_ns : int
        When it is told, UTC.

    Returns
    -------
    IncidentRecord
        An exercise.
    """
    place = _origin(site)
    places = EXAMPLE_PLACES if site is EXAMPLE_SITE else load_places(site.policy)
    found = Finding(
        revision=0,
        at_ns=UtcNs(at_ns),
        verdict="probable",
        p_gunfire=0.97,
        first_shot_ns=UtcNs(at_ns - 4 * NS_PER_S),
        last_shot_ns=UtcNs(at_ns - 4 * NS_PER_S + 1_400_000_000),
        round_count=3,
        place=place,
        ellipse=Ellipse(major_m=11.2, minor_m=6.0, azimuth_deg=30.0),
        sensor_count=9,
    )
    return IncidentRecord(
        incident=f"X{format_utc(at_ns)[:19].replace('-', '').replace(':', '')}Z-exercise",
        revision=0,
        state="published",
        move="publish",
        at_ns=UtcNs(at_ns),
        site=site.name,
        issuer=site.policy.issuer,
        exercise=True,
        first=found,
        latest=found,
        incident_type=site.cad.incident_type,
        type_code=site.policy.type_code,
        priority=site.policy.priority_probable,
        address=nearest(places.addresses, place),
        intersection=nearest(places.intersections, place),
        beat=places.beat(place),
    )


def tell(site: SiteConfig, record: IncidentRecord) -> list[tuple[str, str, str]]:
    """Tell an exercise to whoever receives exercises.

    Parameters
    ----------
    site : SiteConfig
        Its subscribers of the realm ``exercise`` are told, and nobody else.
    record : IncidentRecord
        An exercise.

    Returns
    -------
    list of tuple
        Subscriber, outcome and what it said, of each.

    Raises
    ------
    InputError
        If the record is none of an exercise, nobody receives exercises, or one cannot be reached as its table says.
    """
    told = [one for one in site.subscriber if one.realm == "exercise"]
    if not record.exercise:
        raise InputError(f"incident {record.incident} is none of an exercise; only an exercise can be sent by hand")
    if not told:
        raise InputError(f'{site.name} has no [[subscriber]] with realm = "exercise"; only those are told of exercises')
    ways = [(one.subscriber_id, *open_sender(one)) for one in told]
    said = []
    for name, sender, document in ways:
        said.append((name, *_send(sender, document(record), f"{record.incident}.{record.revision}")))
        sender.close()
    return said


def _send(sender: Sender, document: bytes, key: str) -> tuple[str, str]:
    answer = sender.send(document, key)
    return answer.outcome, f"{answer.said} {answer.call_number}".strip()


def _origin(site: SiteConfig) -> Place:
    origin = site.origin
    if origin is not None:
        where = {"latitude_deg": origin.latitude_deg, "longitude_deg": origin.longitude_deg}
        return Place(x_m=0.0, y_m=0.0, height_m=origin.height_m, **where)
    first = next((one for one in site.sensor if one.latitude_deg is not None), None)
    if first is None:
        return EXAMPLE_PLACE if site is EXAMPLE_SITE else Place(x_m=0.0, y_m=0.0)
    # To a hundredth of a degree, a kilometre or so: no document tells where a sensor stands.
    return Place(
        x_m=0.0,
        y_m=0.0,
        latitude_deg=round(first.latitude_deg or 0.0, 2),
        longitude_deg=round(first.longitude_deg or 0.0, 2),
    )


# ------------------------------------------------------------------------------------------------ the commands


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what ``agls bridge send`` takes.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Its parser.
    """
    parser.add_argument("site", type=Path, metavar="SITE.toml", help="its subscribers of the realm exercise are told")
    parser.add_argument(
        "--exercise", action="store_true", required=True, help="say that it is one; nothing else can be sent by hand"
    )


def run(arguments: argparse.Namespace) -> int:
    """Tell whoever receives exercises of one that was made up.

    Parameters
    ----------
    arguments : argparse.Namespace
        As `add_arguments` says.

    Returns
    -------
    int
        Exit code: 1 where somebody was not reached.
    """
    site = load_site(arguments.site)
    record = made_up(site, time.time_ns())
    print(f"{record.incident}, an exercise:")
    outcomes = tell(site, record)
    for name, outcome, said in outcomes:
        print(f"  {name}: {outcome} ({said})")
    return 0 if all(outcome == "sent" for _, outcome, _ in outcomes) else 1
