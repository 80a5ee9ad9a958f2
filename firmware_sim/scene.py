"""A scene: what happens in the simulated city, who listens, and what the system is told about it.

A scene is one TOML file, read strictly. Positions are metres east, north and up of the scene's origin; times are
seconds since the scene began. What the hub is told (`site_config`) and what is true differ where reality differs:
survey, weather and clocks have errors.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import numpy as np
from msgspec import Meta

from agls.config import Camera, Microphone, NodeConfig, Origin, Sensor, SiteConfig, Table, Weather
from agls.errors import InputError
from agls.messages import Identifier, parse_utc
from agls.tables import load_table
from firmware_sim.card import Card
from firmware_sim.faults import AnyFault, mistakes

SAME_SPOT_M = 0.1
DEMO_SCENE = Path(__file__).with_name("demo_scene.toml")

East: TypeAlias = Annotated[float, Meta(ge=-20_000, le=20_000, description="east of the origin")]
North: TypeAlias = Annotated[float, Meta(ge=-20_000, le=20_000, description="north of the origin")]
Up: TypeAlias = Annotated[float, Meta(ge=-500, le=5_000, description="above the origin")]
Since: TypeAlias = Annotated[float, Meta(ge=0, le=86_400, description="since the scene began")]
Level: TypeAlias = Annotated[float, Meta(ge=40, le=200, description="peak sound pressure level at 1 m")]


class Ear(Table, frozen=True, kw_only=True):
    """One simulated sensor."""

    sensor_id: Annotated[Identifier, Meta(description="name of the sensor")]
    x_m: East
    y_m: North
    z_m: Up = 6.0


class Air(Table, frozen=True, kw_only=True):
    """The weather as it is."""

    temperature_c: Annotated[float, Meta(ge=-60, le=60, description="air temperature, degrees Celsius")] = 15.0
    humidity_percent: Annotated[float, Meta(ge=0, le=100, description="relative humidity")] = 60.0
    wind_speed_m_s: Annotated[float, Meta(ge=0, le=60, description="wind speed")] = 0.0
    wind_from_deg: Annotated[
        float, Meta(ge=0, le=360, description="where the wind comes from, clockwise from north")
    ] = 0.0


class Shooter(Table, frozen=True, kw_only=True):
    """Somebody who fires from one place."""

    shooter_id: Annotated[Identifier, Meta(description="name of the shooter")]
    x_m: East
    y_m: North
    z_m: Up = 1.5
    start_s: Since
    rounds_count: Annotated[int, Meta(ge=1, le=1_000, description="rounds fired")] = 1
    cadence_s: Annotated[float, Meta(ge=0.02, le=600, description="time from one round to the next")] = 0.5
    level_db: Level = 160.0
    tau_s: Annotated[float, Meta(ge=1e-4, le=5e-3, description="positive phase of the blast")] = 4e-4
    firearm: Annotated[str, Meta(max_length=40, description="what the truth calls the weapon")] = "handgun"


class Bang(Table, frozen=True, kw_only=True):
    """One impulse that is not gunfire."""

    bang_id: Annotated[Identifier, Meta(description="name of the impulse")]
    kind: Annotated[Literal["firework", "door"], Meta(description="what makes it")]
    x_m: East
    y_m: North
    z_m: Up = 1.5
    start_s: Since
    level_db: Level = 130.0


class Ways(Table, frozen=True, kw_only=True):
    """What streets do to sound on its way, drawn once for each place and sensor, so alike for all shots from there."""

    loss_db: Annotated[float, Meta(ge=0, le=60, description="level lost to buildings on the way, mean")] = 12.0
    loss_sigma_db: Annotated[float, Meta(ge=0, le=20, description="scatter of that loss")] = 5.0
    late_s: Annotated[
        float, Meta(ge=0, le=0.1, description="detour of the first arrival, mean of an exponential distribution")
    ] = 0.0
    dull_above_hz: Annotated[
        float,
        Meta(ge=50, le=1e6, description="edges that sound bends round take 3 dB an octave above this (Maekawa)"),
    ] = 500.0
    scatter_db: Annotated[
        float,
        Meta(ge=-120, le=20, description="what near walls scatter in 10-30 ms after the first arrival, against it"),
    ] = -3.5
    reverb_db: Annotated[
        float, Meta(ge=-120, le=20, description="the street's reverberation after a tenth of a second, likewise")
    ] = -18.0
    echoes_count: Annotated[int, Meta(ge=0, le=50, description="echoes of each impulse at each sensor")] = 3
    echo_after_s: Annotated[float, Meta(gt=0, le=2, description="earliest echo after the first arrival")] = 0.02
    echo_until_s: Annotated[float, Meta(gt=0, le=5, description="latest echo after the first arrival")] = 0.6
    echo_loss_db: Annotated[float, Meta(ge=0, le=60, description="least loss of a reflection")] = 6.0


class Device(Table, frozen=True, kw_only=True):
    """The simulated microphones, converters and clocks."""

    sample_rate_hz: Annotated[int, Meta(ge=8_000, le=192_000, description="sampling rate")] = 48_000
    full_scale_db_spl: Annotated[
        float, Meta(ge=60, le=200, description="sound pressure level that reaches full scale")
    ] = 120.0
    noise_db: Annotated[float, Meta(ge=0, le=120, description="street noise at the microphone, root mean square")] = (
        55.0
    )
    clock_sigma_s: Annotated[
        float, Meta(ge=1e-9, le=1, description="error of a sensor's clock, constant over the scene, one sigma")
    ] = 5e-5
    survey_sigma_m: Annotated[
        float, Meta(ge=0, le=20, description="error of a sensor's surveyed position, each axis, one sigma")
    ] = 0.3


class Scene(Table, frozen=True, kw_only=True):
    """A simulated city and what happens in it."""

    name: Annotated[Identifier, Meta(description="name of the scene, and of the recording made of it")]
    seed: Annotated[int, Meta(ge=0, le=2**32, description="the same scene and seed give the same bytes")] = 1
    start_utc: Annotated[
        str, Meta(max_length=40, description="when a recording of the scene begins, such as 2026-01-01T00:00:00Z")
    ] = "2026-01-01T00:00:00Z"
    duration_s: Annotated[
        float, Meta(ge=1, le=86_400, description="length of the scene; played live, it then begins again")
    ]
    origin: Origin
    sensor: Annotated[tuple[Ear, ...], Meta(min_length=1, max_length=1_000)]
    camera: tuple[Camera, ...] = ()
    shooter: tuple[Shooter, ...] = ()
    bang: tuple[Bang, ...] = ()
    air: Air = Air()
    told_weather: Weather | None = None
    ways: Ways = Ways()
    device: Device = Device()
    card: Card = Card()
    fault: tuple[AnyFault, ...] = ()


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


def load_scene(path: Path) -> Scene:
    """Read and check a scene file.

    Parameters
    ----------
    path : pathlib.Path
        The TOML file.

    Returns
    -------
    Scene
        The scene.

    Raises
    ------
    InputError
        If the file cannot be read, or holds anything that a scene does not accept.
    """
    scene = load_table(path, Scene)
    for fault in _faults(scene):
        raise InputError(f"{path}: {fault}")
    return scene


def _faults(scene: Scene) -> Iterator[str]:
    """Say what values contradict each other, each fine alone."""
    try:
        parse_utc(scene.start_utc)
    except ValueError:
        yield f'start_utc is "{scene.start_utc}", but must be a UTC time like 2026-01-01T00:00:00Z'
    yield from _twice("sensor", [ear.sensor_id for ear in scene.sensor])
    yield from _twice("camera", [camera.camera_id for camera in scene.camera])
    yield from _twice("shooter", [shooter.shooter_id for shooter in scene.shooter])
    yield from _twice("bang", [bang.bang_id for bang in scene.bang])
    for number, ear in enumerate(scene.sensor):
        for other in scene.sensor[:number]:
            if math.dist((ear.x_m, ear.y_m, ear.z_m), (other.x_m, other.y_m, other.z_m)) < SAME_SPOT_M:
                yield (
                    f'sensor[{number}] ("{ear.sensor_id}") stands where "{other.sensor_id}" does;'
                    f" two sensors must be at least {SAME_SPOT_M} m apart"
                )
    if scene.ways.echo_until_s <= scene.ways.echo_after_s:
        yield f"ways.echo_until_s is {scene.ways.echo_until_s:g}, but must be more than ways.echo_after_s"
    yield from mistakes(scene.fault, [ear.sensor_id for ear in scene.sensor], scene.duration_s)
    for emission in emissions(scene):
        if emission.time_s >= scene.duration_s:
            yield (
                f'"{name_of(emission.maker)}" sounds at {emission.time_s:g} s, but the scene ends at'
                f" {scene.duration_s:g} s; lower start_s or raise duration_s"
            )


def _twice(table: str, names: Sequence[str]) -> Iterator[str]:
    for number, name in enumerate(names):
        if name in names[:number]:
            yield f'{table}[{number}].{table}_id is "{name}", which {table}[{names.index(name)}] has; names must differ'


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


def emissions(scene: Scene) -> list[Emission]:
    """List every impulse of a scene.

    Parameters
    ----------
    scene : Scene
        The scene.

    Returns
    -------
    list of Emission
        In order of time.
    """
    found = [
        Emission(shooter.start_s + number * shooter.cadence_s, (shooter.x_m, shooter.y_m, shooter.z_m), shooter, number)
        for shooter in scene.shooter
        for number in range(shooter.rounds_count)
    ]
    found += [Emission(bang.start_s, (bang.x_m, bang.y_m, bang.z_m), bang) for bang in scene.bang]
    return sorted(found, key=lambda emission: emission.time_s)


def shots(scene: Scene) -> list[Emission]:
    """List every round fired in a scene.

    Parameters
    ----------
    scene : Scene
        The scene.

    Returns
    -------
    list of Emission
        In order of time.
    """
    return [emission for emission in emissions(scene) if isinstance(emission.maker, Shooter)]


def generator(scene: Scene, *names: str | int) -> np.random.Generator:
    """Make the random generator for one purpose.

    Adding a sensor or a shooter changes nothing for the others, and the same scene gives the same bytes.

    Parameters
    ----------
    scene : Scene
        Its seed is used.
    *names : str or int
        The purpose, and the names or numbers of what it concerns.

    Returns
    -------
    numpy.random.Generator
        The same one for the same arguments.
    """
    words = [name if isinstance(name, int) else zlib.crc32(name.encode()) for name in names]
    return np.random.default_rng([scene.seed, *words])


def told_weather(scene: Scene) -> Weather:
    """Say what a weather service would tell of the scene.

    Parameters
    ----------
    scene : Scene
        The scene.

    Returns
    -------
    Weather
        `told_weather` where the scene has it, else the true weather.
    """
    air = scene.air
    return scene.told_weather or Weather(
        temperature_c=air.temperature_c,
        humidity_percent=air.humidity_percent,
        wind_speed_m_s=air.wind_speed_m_s,
        wind_from_deg=air.wind_from_deg,
    )


def surveyed(scene: Scene) -> tuple[Sensor, ...]:
    """Say where a survey puts the sensors of a scene, with the survey's errors.

    Parameters
    ----------
    scene : Scene
        The scene.

    Returns
    -------
    tuple of Sensor
        One for each of the scene's sensors, in the same order.
    """
    sigma_m = scene.device.survey_sigma_m
    found = []
    for ear in scene.sensor:
        east, north, up = map(float, generator(scene, "survey", ear.sensor_id).normal(0, sigma_m, 3))
        place = {"x_m": round(ear.x_m + east, 3), "y_m": round(ear.y_m + north, 3), "z_m": round(ear.z_m + up, 3)}
        found.append(Sensor(sensor_id=ear.sensor_id, position_sigma_m=max(sigma_m, 0.001), **place))
    return tuple(found)


def site_config(scene: Scene) -> SiteConfig:
    """Make the configuration that the hub of the simulated city would have; the truth is not in it.

    Parameters
    ----------
    scene : Scene
        The scene.

    Returns
    -------
    SiteConfig
        Surveyed sensors, cameras and told weather; default policy.
    """
    return SiteConfig(
        name=scene.name,
        origin=scene.origin,
        sensor=surveyed(scene),
        camera=scene.camera,
        weather=told_weather(scene),
    )


def node_configs(scene: Scene) -> list[NodeConfig]:
    """Make the configuration that each node of the simulated city would have.

    Parameters
    ----------
    scene : Scene
        The scene.

    Returns
    -------
    list of NodeConfig
        One for each sensor.
    """
    microphone = Microphone(
        sample_rate_hz=scene.device.sample_rate_hz, full_scale_db_spl=scene.device.full_scale_db_spl
    )
    return [NodeConfig(sensor_id=ear.sensor_id, microphone=microphone) for ear in scene.sensor]
