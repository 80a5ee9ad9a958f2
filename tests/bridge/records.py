"""Make incident records of every kind there may be: for properties (`records`), and many of them (`random_records`)."""

import random
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from agls.bridge.record import (
    Acknowledgement,
    CallLink,
    Correction,
    Disposition,
    Finding,
    IncidentRecord,
    Nearby,
    Overrun,
    Place,
    PlateWindow,
    ShotRecord,
    StageTimes,
    Waypoint,
)
from agls.messages import NS_PER_S, Alternative, Ellipse, Motion, Spot, UtcNs

T = TypeVar("T")

FIRST_NS, LAST_NS = 946_684_800 * NS_PER_S, 4_102_444_800 * NS_PER_S  # the years 2000 to 2099
STATES = ("candidate", "published", "reviewed", "acknowledged", "dispositioned", "closed", "withdrawn", "merged")
# What people and their systems write: markup, quotes, other scripts, right to left, beyond the first plane, nothing.
SAID = (
    "", "Officer 12", "5th & Main <b>", 'said "two guns"', "l'été", "Straße 7", "улица Ленина", "東京都", "שלום",
    "🚓 unit 7", "a,b;c|d\\e",
    "]]>", "<!--", "&amp;", "  spaces  ", "%s{}$x", "-- DROP", "x" * 500, "é", "tab-less line",
)  # fmt: skip


def random_record(chance: random.Random) -> IncidentRecord:
    """Make one record, all of it by chance; what it holds is consistent in itself."""
    fired_ns = _moment(chance, FIRST_NS, LAST_NS)
    on_earth = chance.random() < 0.95
    shots = tuple(_shot(chance, number, fired_ns, on_earth) for number in range(chance.choice([1, 1, 2, 3, 7, 30])))
    first = _finding(chance, shots[:1], 0, on_earth)
    latest = first if chance.random() < 0.4 else _finding(chance, shots, chance.randrange(1, 90), on_earth)
    state = chance.choice(STATES)
    return IncidentRecord(
        incident=f"I{chance.randrange(10**8):08d}T000000-{chance.randrange(16**6):06x}",
        revision=chance.choice([0, 1, 2, 17, 10**6]),
        state=state,
        move=chance.choice(["publish", "update", "review", "acknowledge", "withdraw", "close"]),
        at_ns=_moment(chance, latest.at_ns, latest.at_ns + 10**12),
        site=_said(chance) or "Example City",
        issuer=chance.choice(["agls.example.gov", "localhost", "x.y-z.example"]),
        exercise=chance.random() < 0.3,
        first=first,
        latest=latest,
        corrections=_some(chance, lambda: _correction(chance, latest, on_earth)),
        shots=shots,
        incident_type=_said(chance) or "WEAPON",
        type_code=chance.choice(["", "SHOTAC", "246"]),
        priority=chance.randrange(1, 10),
        statements=_some(chance, lambda: _said(chance)),
        address=_maybe(chance, _nearby(chance)),
        intersection=_maybe(chance, _nearby(chance)),
        beat=_said(chance),
        calls=_some(chance, lambda: _call(chance, latest)),
        duplicate_of=chance.choice(["", "", "26-001234"]),
        merged_into="I20260101T000000-abcdef" if state == "merged" else None,
        merged_from=_some(chance, lambda: f"I20260101T000000-{chance.randrange(16**6):06x}"),
        split_from=_maybe(chance, "I20260101T000000-012345"),
        acknowledgements=_some(
            chance, lambda: Acknowledgement(at_ns=latest.at_ns, author=_said(chance), call_number=_said(chance))
        ),
        disposition=_maybe(chance, _disposition(chance, latest)),
        plate_window=_maybe(chance, _window(chance, latest)),
        waypoint=_maybe(chance, _waypoint(chance, latest)),
        stages=_stages(chance, fired_ns),
        overruns=_some(
            chance, lambda: Overrun(stage=chance.choice(["node", "bridge"]), taken_s=chance.random(), budget_s=0.25)
        ),
        late=chance.random() < 0.1,
        telling=chance.choice(["open", "update", "cancel"]),
    )


def random_records(count: int, seed: int) -> Iterator[IncidentRecord]:
    """Make many records; the same seed makes the same."""
    chance = random.Random(seed)  # noqa: S311
    for _ in range(count):
        yield random_record(chance)


#: The same for properties: hypothesis chooses, and shrinks what fails.
records = st.builds(random_record, st.randoms(use_true_random=False))


def _moment(chance: random.Random, low_ns: int, high_ns: int) -> UtcNs:
    return UtcNs(chance.randrange(low_ns, high_ns))


def _said(chance: random.Random) -> str:
    return chance.choice(SAID)


def _maybe(chance: random.Random, one: T) -> T | None:
    return one if chance.random() < 0.5 else None


def _some(chance: random.Random, make: Any) -> tuple[Any, ...]:
    return tuple(make() for _ in range(chance.choice([0, 0, 1, 2, 3])))


def _uniform(chance: random.Random, low: float, high: float) -> float:
    """Draw a number; often an end, where mistakes live."""
    low, high = float(low), float(high)
    return chance.choice([low, high, chance.uniform(low, high), chance.uniform(low, high), chance.uniform(low, high)])


def _place(chance: random.Random, on_earth: bool) -> Place:
    x_m, y_m = _uniform(chance, -5000, 5000), _uniform(chance, -5000, 5000)
    if not on_earth:
        return Place(x_m=x_m, y_m=y_m, z_m=chance.uniform(0, 50))
    return Place(
        x_m=x_m,
        y_m=y_m,
        z_m=chance.uniform(0, 50),
        latitude_deg=round(_uniform(chance, -90, 90), 8),
        longitude_deg=round(_uniform(chance, -180, 180), 8),
        height_m=round(_uniform(chance, -400, 5000), 3),
    )


def _ellipse(chance: random.Random) -> Ellipse:
    major_m = round(chance.choice([0.0, 1e-3, chance.uniform(1, 30), chance.uniform(30, 2000), 10_000.0]), 3)
    minor_m = chance.choice([major_m, round(chance.random() * major_m, 3)])
    return Ellipse(major_m=major_m, minor_m=minor_m, azimuth_deg=chance.choice([0.0, 90.0, 179.99, 45.25]))


def _shot(chance: random.Random, number: int, fired_ns: int, on_earth: bool) -> ShotRecord:
    alternatives = _some(
        chance,
        lambda: Alternative(
            spot=Spot(x_m=1.5, y_m=-2.0, **({"latitude_deg": 40.0, "longitude_deg": -80.0} if on_earth else {})),
            odds=round(chance.random(), 4),
        ),
    )
    return ShotRecord(
        shot_id=f"S{fired_ns:019d}-{number}",
        fired_ns=UtcNs(fired_ns + round(number * chance.choice([0.08, 0.4, 3.0]) * NS_PER_S)),
        fired_sigma_s=round(_uniform(chance, 0, 0.2), 6),
        place=_place(chance, on_earth),
        ellipse=_ellipse(chance),
        alternatives=alternatives,
        p_gunfire=round(_uniform(chance, 0, 1), 6),
        sensor_count=chance.randrange(4, 40),
    )


def _finding(chance: random.Random, shots: Sequence[ShotRecord], revision: int, on_earth: bool) -> Finding:
    moments_ns = sorted(shot.fired_ns for shot in shots)
    speed_m_s = chance.uniform(0, 40)
    motion = Motion(speed_m_s=speed_m_s, speed_low_m_s=speed_m_s / 2, speed_high_m_s=speed_m_s * 2, heading_deg=359.5)
    verdict = chance.choice(["probable", "probable", "possible", "withdrawn"])
    return Finding(
        revision=revision,
        at_ns=UtcNs(moments_ns[-1] + 4 * NS_PER_S),
        verdict=verdict,
        p_gunfire=round(_uniform(chance, 0, 1), 6),
        first_shot_ns=moments_ns[0],
        last_shot_ns=moments_ns[-1],
        round_count=0 if verdict == "withdrawn" else len(shots),
        shooter_count=chance.randrange(3),
        automatic=chance.random() < 0.3,
        rate_per_s=_maybe(chance, round(_uniform(chance, 0, 30), 2)),
        motion=_maybe(chance, motion),
        place=_place(chance, on_earth),
        ellipse=_ellipse(chance),
        sensor_count=chance.randrange(4, 40),
    )


def _correction(chance: random.Random, latest: Finding, on_earth: bool) -> Correction:
    return Correction(
        at_ns=UtcNs(latest.at_ns + 60 * NS_PER_S),
        author=_said(chance),
        reason=_said(chance),
        judgement=chance.choice([None, "gunfire", "not_gunfire", "undecided"]),
        place=_maybe(chance, _place(chance, on_earth)),
        round_count=_maybe(chance, chance.randrange(100)),
        incident_type=_maybe(chance, _said(chance)),
    )


def _disposition(chance: random.Random, latest: Finding) -> Disposition:
    return Disposition(
        at_ns=UtcNs(latest.at_ns + 3600 * NS_PER_S),
        author=_said(chance),
        reason=_said(chance),
        outcome=chance.choice(["confirmed", "unconfirmed", "unfounded"]),
        case_number=chance.choice(["", "2026-00017"]),
    )


def _call(chance: random.Random, latest: Finding) -> CallLink:
    return CallLink(
        call_number=chance.choice(["26-001234", "7"]),
        received_ns=UtcNs(latest.at_ns + 5 * NS_PER_S),
        kind=_said(chance),
        latitude_deg=round(_uniform(chance, -90, 90), 6),
        longitude_deg=round(_uniform(chance, -180, 180), 6),
        distance_m=round(chance.uniform(0, 300), 1),
        apart_s=round(chance.uniform(0, 180), 1),
    )


def _nearby(chance: random.Random) -> Nearby:
    return Nearby(
        name=_said(chance), distance_m=round(chance.uniform(0, 400), 1), bearing_deg=round(chance.uniform(0, 359), 1)
    )


def _window(chance: random.Random, latest: Finding) -> PlateWindow:
    return PlateWindow(
        from_ns=UtcNs(latest.first_shot_ns - 60 * NS_PER_S),
        until_ns=UtcNs(latest.last_shot_ns + 300 * NS_PER_S),
        radius_m=round(chance.uniform(100, 1500)),
    )


def _waypoint(chance: random.Random, latest: Finding) -> Waypoint | None:
    if latest.place.latitude_deg is None or latest.place.longitude_deg is None:
        return None
    return Waypoint(
        latitude_deg=latest.place.latitude_deg, longitude_deg=latest.place.longitude_deg, above_ground_m=60.0
    )


def _stages(chance: random.Random, fired_ns: int) -> StageTimes:
    """Let an incident pass its stages in order, up to one of them."""
    names, at_ns, times = list(StageTimes.__struct_fields__), fired_ns, {}
    for name in names[: chance.randrange(len(names) + 1)]:
        times[name] = UtcNs(at_ns)
        at_ns += round(chance.uniform(0, 3) * NS_PER_S)
    return StageTimes(**times)
