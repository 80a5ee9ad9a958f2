"""The tables of a site file that say what the agency wants: who is told, by which rules, where it is kept, how soon."""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from agls.messages import Identifier, Latitude, Longitude
from agls.tables import Table

PositiveSeconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]
Realm: TypeAlias = Literal["live", "exercise"]
Fraction: TypeAlias = Annotated[float, Meta(gt=0, lt=1)]


class Dialect(Table, frozen=True, kw_only=True):
    """What a receiver's format leaves to agreement: names, codes, versions."""

    agency: Annotated[
        str,
        Meta(
            title="a domain name like police.example.gov, or nothing",
            pattern=r"^([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)?(?!\n)$",
            description="domain name of the agency whose incidents these are; empty for policy.issuer",
        ),
    ] = ""
    link: Annotated[
        str,
        Meta(
            title="an address like https://agls.example/incidents/, or nothing",
            pattern=r"^(https?://[^\s/?#]+/[^\s?#]*)?(?!\n)$",
            max_length=300,
            description="where an incident can be looked at: its name is appended; empty for nowhere",
        ),
    ] = ""
    valid_s: Annotated[
        float, Meta(ge=60, le=604_800, description="how long a document speaks of the present (CAP expires, CoT stale)")
    ] = 3_600.0
    extreme_rounds_count: Annotated[
        int,
        Meta(ge=1, le=10_000, description="CAP: rounds from which severity is Extreme, as it is for automatic fire"),
    ] = 10
    eido_profile: Annotated[
        Literal["021.1b", "1.1"], Meta(description="EIDO: as published, or the draft of 2025 with its added components")
    ] = "021.1b"
    eido_type: Annotated[
        str, Meta(min_length=1, max_length=80, description="EIDO: common incident type of unreviewed indications")
    ] = "WEAPON"
    eido_reviewed_type: Annotated[
        str, Meta(min_length=1, max_length=80, description="EIDO: common incident type once judged gunfire by a person")
    ] = "SHOOT"
    eido_agency_role: Annotated[
        str,
        Meta(min_length=1, max_length=80, description="EIDO: role of the agency, such as Informational or Dispatched"),
    ] = "Informational"
    eido_confirmed: Annotated[str, Meta(min_length=1, max_length=8, description="EIDO: disposition code")] = "08"
    eido_unconfirmed: Annotated[str, Meta(min_length=1, max_length=8, description="EIDO: disposition code")] = "14"
    eido_unfounded: Annotated[str, Meta(min_length=1, max_length=8, description="EIDO: disposition code")] = "17"
    cot_type: Annotated[
        str,
        Meta(
            title="a type like b-d-a",
            max_length=80,
            pattern=r"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*(?!\n)$",
            description="Cursor on Target: type of a shot, which decides the marker on the map",
        ),
    ] = "b-d-a"


class Subscriber(Table, frozen=True, kw_only=True):
    """Who is told of incidents, in which format, and how long something undelivered is worth delivering."""

    subscriber_id: Annotated[Identifier, Meta(description="name of the receiver")]
    realm: Annotated[Realm, Meta(description="whether it receives what is real, or exercises; never both")] = "live"
    kind: Annotated[Identifier, Meta(description="how it is reached, such as webhook")] = "webhook"
    format: Annotated[Identifier, Meta(description="what it reads: a module of agls.bridge.formats, such as cad")] = (
        "cad"
    )
    url: Annotated[str, Meta(max_length=500, description="its address, without user name and password")]
    secret_file: Annotated[
        str, Meta(description="file (mode 0600) with what signs or opens the way; empty for none")
    ] = ""
    ca_file: Annotated[
        str, Meta(description="certificate authority of the other end, where TLS is used; empty for the system's")
    ] = ""
    certificate_file: Annotated[str, Meta(description="our certificate for mutual TLS; empty for none")] = ""
    key_file: Annotated[str, Meta(description="key of our certificate; empty where that file holds it")] = ""
    told: Annotated[
        Literal["paced", "every"],
        Meta(description="paced: what a dispatcher cares about, at most every 3 s; or every revision"),
    ] = "paced"
    least: Annotated[
        Literal["possible", "probable", "reviewed"], Meta(description="from which incidents on it is told")
    ] = "possible"
    max_delay_s: Annotated[
        float, Meta(gt=0, le=604_800, description="what is undelivered after this becomes a dead letter")
    ] = 900.0
    retry_first_s: Annotated[
        float, Meta(gt=0, le=600, description="pause before the second try; doubles, with jitter")
    ] = 0.5
    retry_last_s: Annotated[float, Meta(gt=0, le=3_600, description="longest pause between two tries")] = 30.0
    dialect: Dialect = Dialect()


class Rule(Table, frozen=True, kw_only=True):
    """Where and when another policy holds; of several that apply, a later one has the last word."""

    name: Annotated[str, Meta(min_length=1, max_length=80, description="name of the rule")]
    zone: Annotated[
        tuple[tuple[Longitude, Latitude], ...],
        Meta(description="corners [longitude, latitude] of the area it holds in; empty for everywhere"),
    ] = ()
    hours: Annotated[
        str,
        Meta(
            title="hours like 21:00-02:30, or nothing",
            pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9])?(?!\n)$",
            description="local time it holds in, over midnight where the end comes first; empty for all day",
        ),
    ] = ""
    days: Annotated[
        tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...],
        Meta(description="days of the week it begins on; empty for all"),
    ] = ()
    dates: Annotated[
        tuple[
            Annotated[
                str,
                Meta(title="a date like 07-04 or 2026-07-04", pattern=r"^([0-9]{4}-)?[01][0-9]-[0-3][0-9](?!\n)$"),
            ],
            ...,
        ],
        Meta(description="dates it begins on, such as fireworks nights; empty for all"),
    ] = ()
    prior_gunshot: Annotated[Fraction | None, Meta(description="instead of gathering.prior_gunshot")] = None
    probable_p: Annotated[Fraction | None, Meta(description="instead of gathering.probable_p")] = None
    possible_p: Annotated[
        Fraction | None, Meta(description="instead of gathering.possible_p; below it nobody is told")
    ] = None
    review: Annotated[Literal["as_site", "none", "before_dispatch"], Meta(description="instead of policy.review")] = (
        "as_site"
    )
    statement: Annotated[
        str, Meta(max_length=200, description="a sentence that every document then carries; empty for none")
    ] = ""


class Policy(Table, frozen=True, kw_only=True):
    """What the agency wants of incidents; rules say where and when it is otherwise."""

    issuer: Annotated[
        str,
        Meta(
            title="a domain name like agls.example.gov",
            pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(?!\n)$",
            description="domain name of this bridge, in identifiers it gives",
        ),
    ] = "localhost"
    timezone: Annotated[str, Meta(max_length=64, description="of the hours and dates of rules, such as US/Eastern")] = (
        "UTC"
    )
    review: Annotated[
        Literal["none", "before_dispatch"], Meta(description="whether a person must review before dispatch is told")
    ] = "none"
    reviewed_type: Annotated[
        str, Meta(max_length=80, description="incident type once a person judged it gunfire; empty for the same")
    ] = "SHOOTING"
    type_code: Annotated[str, Meta(max_length=80, description="dispatch's own code of the type; empty for none")] = ""
    priority_probable: Annotated[int, Meta(ge=1, le=9, description="priority of probable gunfire; 1 comes first")] = 1
    priority_possible: Annotated[int, Meta(ge=1, le=9, description="priority of possible gunfire")] = 3
    call_radius_m: Annotated[
        float, Meta(ge=0, le=5_000, description="a 911 call this near may be of the same shots")
    ] = 300.0
    call_window_s: Annotated[
        float, Meta(ge=0, le=3_600, description="a 911 call this near in time may be of the same shots")
    ] = 180.0
    close_after_s: Annotated[
        float, Meta(ge=300, le=604_800, description="when an incident closes, counted from its last change")
    ] = 86_400.0
    plate_before_s: Annotated[
        float, Meta(ge=0, le=3_600, description="plate readers: from so long before the first shot")
    ] = 60.0
    plate_after_s: Annotated[
        float, Meta(ge=0, le=3_600, description="plate readers: until so long after the last shot")
    ] = 300.0
    plate_speed_m_s: Annotated[
        float, Meta(ge=0, le=60, description="plate readers: as far as this gets in that time")
    ] = 5.0
    drone_height_m: Annotated[
        float, Meta(ge=0, le=200, description="height above ground of a drone's waypoint; 0 for no waypoint")
    ] = 60.0
    address_file: Annotated[str, Meta(description="GeoJSON points with property name; empty for none")] = ""
    intersection_file: Annotated[str, Meta(description="GeoJSON points with property name; empty for none")] = ""
    beat_file: Annotated[str, Meta(description="GeoJSON polygons with property name; empty for none")] = ""


class Store(Table, frozen=True, kw_only=True):
    """Where incidents are kept, and for how long."""

    url: Annotated[
        str,
        Meta(
            title="an address like postgresql://agls@host/agls, or nothing",
            pattern=r"^(postgresql://\S+)?(?!\n)$",
            description="a PostgreSQL database; empty for bridge.sqlite in the hub's folder",
        ),
    ] = ""
    password_file: Annotated[str, Meta(description="file (mode 0600) with its password; empty for none")] = ""
    detections_d: Annotated[
        float, Meta(gt=0, le=3_650, description="days that the journal and shots of no incident are kept")
    ] = 7.0
    incidents_d: Annotated[
        float, Meta(gt=0, le=36_500, description="days that incidents are kept, unless held as evidence")
    ] = 30.0
    audit_d: Annotated[float, Meta(gt=0, le=36_500, description="days that the audit is kept")] = 365.0


class Budget(Table, frozen=True, kw_only=True):
    """How long each stage may take, from the muzzle to the answer of dispatch; what is broken is said."""

    flight_s: Annotated[PositiveSeconds, Meta(description="sound, to the last sensor that was needed")] = 4.0
    node_s: Annotated[PositiveSeconds, Meta(description="node and network, to the hub")] = 1.0
    settle_s: Annotated[PositiveSeconds, Meta(description="waiting for what may still come")] = 3.0
    compute_s: Annotated[PositiveSeconds, Meta(description="locating")] = 1.0
    bridge_s: Annotated[PositiveSeconds, Meta(description="from located to the bytes being with dispatch")] = 0.25
    answer_s: Annotated[PositiveSeconds, Meta(description="dispatch's acknowledgement")] = 2.0
    camera_s: Annotated[PositiveSeconds, Meta(description="from located to the first camera on target")] = 3.0
