"""What makes impulses in the simulated city: shooters with their weapons, and everything that bangs and is no gunfire.

Peak levels are at 1 m, those of weapons to the left of the muzzle. Dater 2014 measured 159-162 dB there for 9 mm and
.40, 162-163 dB for .223; .22 rifles have about 140 dB at the shooter's ear, and the muzzle velocities of the 9 mm, the
.45 and the .223 are those that `facts` of such weapons agree on. Blast durations, ratios of front to rear and the other
velocities are typical of their class and not verified.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from agls.config import Table
from agls.messages import Identifier
from firmware_sim.city import East, North

Up: TypeAlias = Annotated[float, Meta(ge=-500, le=5_000, description="above the origin")]
Since: TypeAlias = Annotated[float, Meta(ge=0, le=86_400, description="since the scene began")]
Level: TypeAlias = Annotated[float, Meta(ge=40, le=200, description="peak sound pressure level at 1 m")]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=10_000)]
Cadence: TypeAlias = Annotated[float, Meta(ge=0.02, le=600, description="time from one to the next")]
Azimuth: TypeAlias = Annotated[float, Meta(ge=0, le=360)]
Speed: TypeAlias = Annotated[float, Meta(ge=-100, le=100, description="how fast it moves")]
NoiseKind: TypeAlias = Literal["traffic", "rain", "wind", "siren", "helicopter", "music"]


@dataclass(frozen=True, slots=True)
class Weapon:
    """What a weapon sounds like and how its bullet flies.

    Attributes
    ----------
    firearm : str
        Its class, as truth tells it.
    level_db : float
        Peak level of the muzzle blast, 1 m to its left.
    tau_s : float
        Positive phase of the blast [s].
    front_db : float
        By how much it is louder in front than behind.
    speed_m_s : float
        Muzzle velocity.
    drag_per_m : float
        Share of its speed that the bullet loses on each metre.
    calibre_m, bullet_m : float
        Diameter and length of the bullet [m].
    """

    firearm: str
    level_db: float
    tau_s: float
    front_db: float
    speed_m_s: float
    drag_per_m: float
    calibre_m: float
    bullet_m: float


WEAPONS: dict[str, Weapon] = {
    "9mm": Weapon("handgun", 160.5, 4e-4, 10.0, 361.0, 0.0018, 0.0090, 0.0171),
    "40sw": Weapon("handgun", 161.5, 4e-4, 10.0, 305.0, 0.0017, 0.0102, 0.0160),
    "45acp": Weapon("handgun", 159.5, 5e-4, 10.0, 291.0, 0.0013, 0.0115, 0.0159),
    "357sig": Weapon("handgun", 162.5, 4e-4, 10.0, 412.0, 0.0020, 0.0090, 0.0160),
    "22lr": Weapon("rifle", 140.0, 3e-4, 10.0, 330.0, 0.0018, 0.0057, 0.0110),
    "223": Weapon("rifle", 162.5, 6e-4, 15.0, 940.0, 0.0012, 0.0057, 0.0190),
    "308": Weapon("rifle", 164.5, 8e-4, 15.0, 840.0, 0.0008, 0.0078, 0.0280),
    "762x39": Weapon("rifle", 163.5, 7e-4, 15.0, 715.0, 0.0012, 0.0079, 0.0260),
    "12ga": Weapon("shotgun", 161.0, 9e-4, 12.0, 400.0, 0.0060, 0.0185, 0.0185),
}
WeaponName: TypeAlias = Literal["9mm", "40sw", "45acp", "357sig", "22lr", "223", "308", "762x39", "12ga"]
BangKind: TypeAlias = Literal[
    "firework", "salute", "backfire", "nailgun", "hammer", "door", "crash", "thunder", "pop", "jackhammer"
]
# Peak levels at 1 m: of tools, doors and balloons from measurements at workplaces and parties; others so that they are
# heard as far as people hear them. Thunder is as a source at its nearest point of the channel.
BANG_DB: dict[str, float] = {
    "firework": 145.0, "salute": 155.0, "backfire": 138.0, "nailgun": 128.0, "hammer": 122.0,
    "door": 122.0, "crash": 132.0, "thunder": 176.0, "pop": 132.0, "jackhammer": 126.0,
}  # fmt: skip


class Shooter(Table, frozen=True, kw_only=True):
    """Somebody who fires, from one place or on the move."""

    shooter_id: Annotated[Identifier, Meta(description="name of the shooter")]
    x_m: East
    y_m: North
    z_m: Up = 1.5
    start_s: Since
    rounds_count: Annotated[int, Meta(ge=1, le=1_000, description="rounds fired")] = 1
    cadence_s: Annotated[float, Meta(ge=0.02, le=600, description="time from one round to the next")] = 0.5
    weapon: Annotated[WeaponName, Meta(description="what is fired")] = "9mm"
    level_db: Level | None = None
    tau_s: Annotated[float, Meta(ge=1e-4, le=5e-3, description="positive phase of the blast")] | None = None
    firearm: Annotated[str, Meta(max_length=40, description="what the truth calls the weapon, if not its class")] = ""
    towards_deg: (
        Annotated[Azimuth, Meta(description="direction of fire, clockwise from north; without, even all round")] | None
    ) = None
    elevation_deg: Annotated[float, Meta(ge=-90, le=90, description="direction of fire above the horizon")] = 0.0
    flies_m: Annotated[float, Meta(ge=0, le=5_000, description="how far the bullet flies if no wall stops it")] = 600.0
    path_m: Annotated[tuple[tuple[East, North], ...], Meta(max_length=100, description="where the shooter goes")] = ()
    speed_m_s: Annotated[float, Meta(ge=0, le=60, description="how fast")] = 1.5


class Bang(Table, frozen=True, kw_only=True):
    """An impulse, or a train of them, that is not gunfire."""

    bang_id: Annotated[Identifier, Meta(description="name of the impulse")]
    kind: Annotated[BangKind, Meta(description="what makes it")]
    x_m: East
    y_m: North
    z_m: Up = 1.5
    start_s: Since
    count: Annotated[Count, Meta(description="how often")] = 1
    cadence_s: Cadence = 0.5
    level_db: Level | None = None


class Noise(Table, frozen=True, kw_only=True):
    """A sound that lasts."""

    noise_id: Annotated[Identifier, Meta(description="name of the noise")]
    kind: Annotated[NoiseKind, Meta(description="traffic, rain and wind are everywhere, others come from a place")]
    level_db: Annotated[
        float,
        Meta(ge=0, le=160, description="root mean square: at each microphone, or at 1 m from what has a place"),
    ]
    x_m: East = 0.0
    y_m: North = 0.0
    z_m: Up = 2.0
    east_m_s: Speed = 0.0
    north_m_s: Speed = 0.0
    start_s: Since = 0.0
    end_s: Since = 86_400.0


@dataclass(frozen=True, slots=True)
class Emission:
    """One impulse as it leaves its source: the truth.

    Attributes
    ----------
    time_s : float
        Since the scene began [s].
    position_m : tuple of float, shape (3,)
        East, north, up [m].
    maker : Shooter or Bang
        Who or what made it.
    number : int
        Which of its maker's impulses it is, from 0.
    """

    time_s: float
    position_m: tuple[float, float, float]
    maker: Shooter | Bang
    number: int = 0


def name_of(maker: Shooter | Bang) -> str:
    """Name whoever or whatever made an impulse.

    Parameters
    ----------
    maker : Shooter or Bang
        The source.

    Returns
    -------
    str
        Its identifier.
    """
    return maker.shooter_id if isinstance(maker, Shooter) else maker.bang_id


def level_db(maker: Shooter | Bang) -> float:
    """Say how loud a source is.

    Parameters
    ----------
    maker : Shooter or Bang
        The source.

    Returns
    -------
    float
        Peak level at 1 m, of a weapon to its left [dB].
    """
    if maker.level_db is not None:
        return maker.level_db
    return WEAPONS[maker.weapon].level_db if isinstance(maker, Shooter) else BANG_DB[maker.kind]


def firearm_of(shooter: Shooter) -> str:
    """Say what truth calls a shooter's weapon.

    Parameters
    ----------
    shooter : Shooter
        The shooter.

    Returns
    -------
    str
        Such as ``handgun``.
    """
    return shooter.firearm or WEAPONS[shooter.weapon].firearm


def made_by(shooters: Sequence[Shooter], bangs: Sequence[Bang]) -> list[Emission]:
    """List every impulse of some sources.

    Parameters
    ----------
    shooters : sequence of Shooter
        Those who fire.
    bangs : sequence of Bang
        What else bangs.

    Returns
    -------
    list of Emission
        In order of time.
    """
    found = []
    for shooter in shooters:
        for number in range(shooter.rounds_count):
            later_s = number * shooter.cadence_s
            found.append(Emission(shooter.start_s + later_s, _place_m(shooter, later_s), shooter, number))
    for bang in bangs:
        at = (bang.x_m, bang.y_m, bang.z_m)
        found += [Emission(bang.start_s + k * bang.cadence_s, at, bang, k) for k in range(bang.count)]
    return sorted(found, key=lambda emission: emission.time_s)


def _place_m(shooter: Shooter, later_s: float) -> tuple[float, float, float]:
    """Follow a shooter along the path, to its end at most."""
    here, left_m = (shooter.x_m, shooter.y_m), shooter.speed_m_s * later_s
    for corner in shooter.path_m:
        step_m = math.dist(here, corner)
        if left_m < step_m:
            share = left_m / step_m
            here = (here[0] + share * (corner[0] - here[0]), here[1] + share * (corner[1] - here[1]))
            break
        here, left_m = corner, left_m - step_m
    return (*here, shooter.z_m)


def leaving_db(maker: Shooter | Bang, way_m: Sequence[float]) -> float:
    """Say how much louder a source is in a direction than to its left.

    Parameters
    ----------
    maker : Shooter or Bang
        The source.
    way_m : sequence of float, shape (3,)
        Any vector in the direction [m].

    Returns
    -------
    float
        Decibels; 0 where the source sounds alike all round.
    """
    if not isinstance(maker, Shooter) or maker.towards_deg is None:
        return 0.0
    length_m = math.hypot(*way_m)
    cosine = sum(a * b for a, b in zip(muzzle(maker), way_m, strict=True)) / length_m if length_m else 0.0
    return WEAPONS[maker.weapon].front_db / 2 * cosine


def muzzle(shooter: Shooter) -> tuple[float, float, float]:
    """Say where a muzzle points.

    Parameters
    ----------
    shooter : Shooter
        Who must have a direction of fire.

    Returns
    -------
    tuple of float, shape (3,)
        Unit vector east, north, up.
    """
    azimuth, elevation = math.radians(shooter.towards_deg or 0.0), math.radians(shooter.elevation_deg)
    flat = math.cos(elevation)
    return flat * math.sin(azimuth), flat * math.cos(azimuth), math.sin(elevation)
