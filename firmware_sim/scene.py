"""A scene: what happens in the simulated city, who listens, and what the system is told about it.

A scene is one TOML file, read strictly. Positions are metres east, north and up of the scene's origin; times are
seconds since the scene began. What the hub is told (`site_config`) and what is true differ where reality differs:
survey, weather and clocks have errors.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta

from agls.config import Camera, Microphone, NodeConfig, Origin, Sensor, SiteConfig, Table, Weather
from agls.errors import InputError
from agls.messages import NS_PER_S, Identifier, parse_utc
from agls.tables import load_table
from firmware_sim.card import Card
from firmware_sim.city import Building, East, North, Street, crosses_itself, within
from firmware_sim.faults import AnyFault, mistakes
from firmware_sim.sources import Bang, Emission, Noise, Shooter, Up, made_by, name_of

SAME_SPOT_M = 0.1
LATEST_NS = 4_070_908_800 * NS_PER_S  # the year 2099
DEMO_SCENE = Path(__file__).with_name("demo_scene.toml")


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
    wind_speed_m_s: Annotated[float, Meta(ge=0, le=60, description="wind speed 10 m above the ground")] = 0.0
    wind_from_deg: Annotated[
        float, Meta(ge=0, le=360, description="where the wind comes from, clockwise from north")
    ] = 0.0
    roughness_m: Annotated[
        float, Meta(ge=0, le=5, description="of the city, which slows the wind below; 0 for the same wind everywhere")
    ] = 0.0
    temperature_gradient_c_m: Annotated[
        float, Meta(ge=-0.5, le=0.5, description="by how much it is warmer each metre up; above 0 on a clear night")
    ] = 0.0


class Ground(Table, frozen=True, kw_only=True):
    """What is not street."""

    resistivity_kpa_s_m2: Annotated[
        float, Meta(ge=10, le=1e6, description="flow resistivity: 20 snow, 200 grass, 2000 earth, 20000 asphalt")
    ] = 20_000.0


class Map(Table, frozen=True, kw_only=True):
    """How far the city reaches."""

    west_m: East = -20_000.0
    east_m: East = 20_000.0
    south_m: North = -20_000.0
    north_m: North = 20_000.0


class Ways(Table, frozen=True, kw_only=True):
    """What the city does to sound that is not drawn as buildings.

    It is drawn by lot once for each place of some metres and sensor, so alike for all shots from there. In Pittsburgh
    such lateness scatters by 6-10 ms from sensor to sensor, and 1-3 ms from shot to shot. A city of which nothing is
    drawn is heard as Pittsburgh was with ``loss_db = 1, loss_db_km = 40, loss_sigma_db = 18, echoes_count = 4``, the
    rest as it stands here; with buildings drawn, `bench.likeness` has the figures.
    """

    loss_db: Annotated[float, Meta(ge=0, le=60, description="level lost to buildings on the way, mean")] = 12.0
    loss_db_km: Annotated[float, Meta(ge=0, le=100, description="what each kilometre adds to that loss")] = 0.0
    loss_sigma_db: Annotated[float, Meta(ge=0, le=20, description="scatter of that loss")] = 5.0
    late_s: Annotated[
        float,
        Meta(ge=0, le=0.1, description="lateness of the first arrival, of exponential distribution: mean and scatter"),
    ] = 0.008
    gust_s: Annotated[
        float, Meta(ge=0, le=0.05, description="what moving air adds to or takes from it, new each moment, one sigma")
    ] = 0.001
    fade_db: Annotated[
        float, Meta(ge=0, le=20, description="what moving air adds to or takes from its level, likewise, one sigma")
    ] = 4.0
    facades_count: Annotated[int, Meta(ge=0, le=2, description="how many facades in turn reflect an echo, at most")] = 2
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
    echo_loss_db: Annotated[
        float, Meta(ge=0, le=60, description="by how much echoes are weaker than what comes first, mean")
    ] = 12.0
    echo_sigma_db: Annotated[float, Meta(ge=0, le=20, description="scatter of that; some are louder")] = 8.0


class Device(Table, frozen=True, kw_only=True):
    """The simulated microphones, converters and clocks."""

    sample_rate_hz: Annotated[int, Meta(ge=8_000, le=192_000, description="sampling rate")] = 48_000
    full_scale_db_spl: Annotated[
        float, Meta(ge=60, le=200, description="sound pressure level that reaches full scale")
    ] = 120.0
    noise_db: Annotated[float, Meta(ge=0, le=120, description="street noise at the microphone, root mean square")] = (
        55.0
    )
    noise_sigma_db: Annotated[float, Meta(ge=0, le=20, description="scatter of that from sensor to sensor")] = 0.0
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
    noise: Annotated[tuple[Noise, ...], Meta(max_length=50)] = ()
    building: Annotated[tuple[Building, ...], Meta(max_length=200)] = ()
    street: Annotated[tuple[Street, ...], Meta(max_length=200)] = ()
    map: Map = Map()
    ground: Ground = Ground()
    air: Air = Air()
    told_weather: Weather | None = None
    ways: Ways = Ways()
    device: Device = Device()
    card: Card = Card()
    fault: tuple[AnyFault, ...] = ()


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
        timely = 0 <= parse_utc(scene.start_utc) < LATEST_NS
    except ValueError:
        timely = False
    if not timely:
        yield f'start_utc is "{scene.start_utc}", but must be a UTC time from 1970 to 2099 like 2026-01-01T00:00:00Z'
    yield from _twice("sensor", [ear.sensor_id for ear in scene.sensor])
    yield from _twice("camera", [camera.camera_id for camera in scene.camera])
    yield from _twice("shooter", [shooter.shooter_id for shooter in scene.shooter])
    yield from _twice("bang", [bang.bang_id for bang in scene.bang])
    shooters = {shooter.shooter_id for shooter in scene.shooter}
    yield from (
        f'bang_id "{bang.bang_id}" is a shooter\'s name too; truth tells them apart by name, so names must differ'
        for bang in scene.bang
        if bang.bang_id in shooters
    )
    yield from _twice("noise", [noise.noise_id for noise in scene.noise])
    yield from _twice("building", [building.building_id for building in scene.building])
    yield from _twice("street", [street.street_id for street in scene.street])
    if not (scene.map.west_m < scene.map.east_m and scene.map.south_m < scene.map.north_m):
        yield "map: west_m must be less than east_m, and south_m less than north_m"
    yield from _misplaced(scene)
    for number, ear in enumerate(scene.sensor):
        for other in scene.sensor[:number]:
            if math.dist((ear.x_m, ear.y_m, ear.z_m), (other.x_m, other.y_m, other.z_m)) < SAME_SPOT_M:
                yield (
                    f'sensor[{number}] ("{ear.sensor_id}") stands where "{other.sensor_id}" does;'
                    f" two sensors must be at least {SAME_SPOT_M} m apart"
                )
    if scene.ways.echo_until_s <= scene.ways.echo_after_s:
        yield f"ways.echo_until_s is {scene.ways.echo_until_s:g}, but must be more than ways.echo_after_s"
    for noise in scene.noise:
        if noise.end_s <= noise.start_s:
            yield (
                f'noise "{noise.noise_id}": end_s is {noise.end_s:g}, but must be more than start_s ({noise.start_s:g})'
            )
    yield from mistakes(scene.fault, [ear.sensor_id for ear in scene.sensor], scene.duration_s)
    for emission in emissions(scene):
        if emission.time_s >= scene.duration_s:
            yield (
                f'"{name_of(emission.maker)}" sounds at {emission.time_s:g} s, but the scene ends at'
                f" {scene.duration_s:g} s; lower start_s or raise duration_s"
            )


def _misplaced(scene: Scene) -> Iterator[str]:
    """Say what stands where it cannot."""
    outlines = [("building", one.building_id, one.outline_m) for one in scene.building]
    outlines += [("street", one.street_id, one.outline_m) for one in scene.street]
    for table, name, outline_m in outlines:
        if any(outline_m[k] == outline_m[k - 1] for k in range(len(outline_m))):
            yield f'{table} "{name}": outline_m has a corner twice in a row; it closes by itself, so each stands once'
            return
        if crosses_itself(outline_m):
            yield f'{table} "{name}": outline_m crosses itself; its corners must be in order round it'
            return
    for ear in scene.sensor:
        yield from _inside(scene, f'sensor "{ear.sensor_id}"', ear.x_m, ear.y_m, ear.z_m)
    area = scene.map
    for emission in emissions(scene):
        maker, (x_m, y_m, z_m) = emission.maker, emission.position_m
        who = f'{"shooter" if isinstance(maker, Shooter) else maker.kind} "{name_of(maker)}"'
        far = isinstance(maker, Bang) and maker.kind == "thunder"
        if not far and not (area.west_m <= x_m <= area.east_m and area.south_m <= y_m <= area.north_m):
            reach = f"{area.west_m:g} to {area.east_m:g} m east and {area.south_m:g} to {area.north_m:g} m north"
            yield f"{who} is at {x_m:g} m east, {y_m:g} m north at {emission.time_s:g} s, outside the map ({reach})"
        yield from _inside(scene, who, x_m, y_m, z_m)


def _inside(scene: Scene, who: str, x_m: float, y_m: float, z_m: float) -> Iterator[str]:
    for building in scene.building:
        if z_m < building.height_m and within(building.outline_m, x_m, y_m):
            yield (
                f'{who} is at {x_m:g} m east, {y_m:g} m north, {z_m:g} m up, inside building "{building.building_id}"'
                f" ({building.height_m:g} m high); put it outside, or on the roof"
            )


def _twice(table: str, names: Sequence[str]) -> Iterator[str]:
    for number, name in enumerate(names):
        if name in names[:number]:
            yield f'{table}[{number}].{table}_id is "{name}", which {table}[{names.index(name)}] has; names must differ'


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
    return made_by(scene.shooter, scene.bang)


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


def street_noise_db(scene: Scene, ear: Ear) -> float:
    """Say how noisy the street is at a sensor.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.

    Returns
    -------
    float
        Root mean square level [dB].
    """
    louder_db = float(generator(scene, "street noise", ear.sensor_id).normal(0, scene.device.noise_sigma_db))
    return scene.device.noise_db + louder_db


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
