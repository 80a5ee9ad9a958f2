"""The ways of sound from one place to one microphone: how long each takes, and what it does to the sound.

Geometry comes from `city`; a scene's ``[ways]`` stand for the parts of a city that are not drawn. They are cast by lot
once for each place of some metres and sensor, so alike for all shots from there.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from firmware_sim import transfer
from firmware_sim.acoustics import (
    LEAD_IN_SAMPLES,
    Air,
    Complex,
    Floats,
    absorption_db_m,
    bending_per_s,
    even_frames,
    sound_speed_m_s,
    travel_time_s,
)
from firmware_sim.city import Kind, Route, city_of, routes, within
from firmware_sim.scene import Ear, Scene, generator
from firmware_sim.shock import shocks
from firmware_sim.sources import Emission, Shooter, leaving_db

KERNEL_FRAMES = 2_048  # what one way does to a click has died away after that
PLACE_M = 8.0  # places nearer than that share what is drawn
HARD = 20_000.0  # flow resistivity of asphalt [kPa s/m2]
SCATTER_SIGMA_DB = 3.0  # from place to place


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """One way from a place to a microphone.

    Attributes
    ----------
    kind : str
        ``direct``, ``bounce``, ``echo``, ``diffracted`` or ``shock``.
    delay_s : float
        From the moment of the impulse to its arrival [s].
    length_m : float
        Way travelled.
    points_m : numpy.ndarray, shape (points, 3)
        Where it goes; of an echo that is only drawn by lot, its two ends.
    transfer : numpy.ndarray, shape (bins,), complex128
        What it does to the spectrum of the sound at 1 m; for a shock, the spectrum itself.
    """

    kind: Kind
    delay_s: float
    length_m: float
    points_m: Floats
    transfer: Complex


def air_of(scene: Scene) -> Air:
    """Turn a scene's weather into the air that sound meets.

    Parameters
    ----------
    scene : Scene
        The scene.

    Returns
    -------
    Air
        With wind as the velocity of the air.
    """
    weather = scene.air
    towards = math.radians(weather.wind_from_deg + 180)
    wind = (weather.wind_speed_m_s * math.sin(towards), weather.wind_speed_m_s * math.cos(towards), 0.0)
    return Air(
        weather.temperature_c, weather.humidity_percent, wind, weather.roughness_m, weather.temperature_gradient_c_m
    )


def kernel_hz(scene: Scene) -> Floats:
    """List the frequencies that transfers are given at.

    Parameters
    ----------
    scene : Scene
        The scene.

    Returns
    -------
    numpy.ndarray, shape (bins,)
        Frequencies [Hz].
    """
    return np.fft.rfftfreq(KERNEL_FRAMES, 1 / scene.device.sample_rate_hz).astype(np.float64)


def place_of(emission: Emission) -> str:
    """Name the place where an impulse is made, so that what is drawn for it is drawn once.

    Parameters
    ----------
    emission : Emission
        The impulse.

    Returns
    -------
    str
        The same for places within a few metres.
    """
    return ",".join(str(round(value / PLACE_M)) for value in emission.position_m)


def blast_ways(scene: Scene, ear: Ear, emission: Emission) -> list[Way]:
    """List the ways of an impulse from its place to a sensor.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.
    emission : Emission
        The impulse.

    Returns
    -------
    list of Way
        The first first.
    """
    air, drawn = air_of(scene), scene.ways
    random = generator(scene, "ways", place_of(emission), ear.sensor_id)
    source_m, ear_m = np.array(emission.position_m), np.array([ear.x_m, ear.y_m, ear.z_m])
    usual_db = drawn.loss_db + drawn.loss_db_km * float(np.linalg.norm(ear_m - source_m)) / 1_000
    loss_db = max(0.0, float(random.normal(usual_db, drawn.loss_sigma_db)))
    late_s = float(random.exponential(1.0)) * drawn.late_s
    found = routes(city_of(scene.building), source_m, ear_m, drawn.facades_count)
    ways = [_along(scene, air, emission, route, loss_db, late_s) for route in found]
    first = min(ways, key=lambda way: way.delay_s)
    ways += _by_lot(scene, air, first, random)
    return sorted(ways, key=lambda way: way.delay_s)


def shock_ways(scene: Scene, ear: Ear, emission: Emission) -> list[Way]:
    """List the ways of a bullet's shock from its flight to a sensor.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.
    emission : Emission
        The impulse; only rounds fired in a direction have shocks.

    Returns
    -------
    list of Way
        The first first.
    """
    if not isinstance(emission.maker, Shooter) or emission.maker.towards_deg is None:
        return []
    air, drawn, frequency_hz = air_of(scene), scene.ways, kernel_hz(scene)
    random = generator(scene, "shock", place_of(emission), ear.sensor_id)
    late_s = float(random.exponential(1.0)) * drawn.late_s
    ear_m = np.array([ear.x_m, ear.y_m, ear.z_m])
    found = []
    for shock in shocks(emission.maker, emission.position_m, ear_m, city_of(scene.building), air):
        swallowed = 10 ** (-absorption_db_m(frequency_hz, air) * shock.length_m / 20)
        wave = shock.spectrum(frequency_hz) * swallowed * scene.device.sample_rate_hz
        found.append(Way("shock", shock.delay_s + late_s, shock.length_m, shock.points_m, wave))
    return sorted(found, key=lambda way: way.delay_s)


def _along(scene: Scene, air: Air, emission: Emission, route: Route, loss_db: float, late_s: float) -> Way:
    """Say how long a route takes and what it does."""
    points, length_m, speed = route.points_m, route.length_m, sound_speed_m_s(air)
    delay_s = late_s + sum(travel_time_s(a, b, air) for a, b in pairwise(points))
    frequency_hz = kernel_hz(scene)
    gained_db = leaving_db(emission.maker, (points[1] - points[0]).tolist()) - loss_db - route.loss_db
    passed = _travelled(scene, air, length_m, gained_db)
    if route.kind == "diffracted":
        return Way(
            route.kind, delay_s, length_m, points, passed * transfer.edge_gain(frequency_hz, route.detour_m, speed)
        )
    bending = bending_per_s(air, points[-1] - points[0])
    passed = passed * transfer.shadow_gain(frequency_hz, _shadow_m(points, bending, speed), bending, speed)
    if route.sin_grazing > 0:
        hardness = _hardness(scene, route.ground_m)
        passed = passed * transfer.ground_gain(frequency_hz, route.sin_grazing, length_m, hardness, speed)
    return Way(route.kind, delay_s, length_m, points, passed)


def _travelled(scene: Scene, air: Air, length_m: float, gained_db: float) -> Complex:
    """Spread, be swallowed, and be dulled by what the scene's city holds that is not drawn."""
    frequency_hz = kernel_hz(scene)
    level_db = gained_db - absorption_db_m(frequency_hz, air) * length_m
    bent = transfer.bent_gain(frequency_hz, scene.ways.dull_above_hz)
    passed: Complex = 10 ** (level_db / 20) / max(length_m, 1.0) * bent
    return passed


def _shadow_m(points_m: Floats, bending: float, speed_m_s: float) -> float:
    """Say how deep in the shadow a microphone is, where air bends sound up from the ground."""
    if bending >= 0:
        return 0.0
    flat_m = float(np.linalg.norm(np.diff(points_m[:, :2], axis=0), axis=1).sum())
    ends_m = [math.sqrt(2 * speed_m_s / -bending * max(height, 0.0)) for height in (points_m[0, 2], points_m[-1, 2])]
    return max(0.0, flat_m - sum(ends_m))


def _hardness(scene: Scene, place_m: Sequence[float]) -> float:
    in_street = any(within(street.outline_m, place_m[0], place_m[1]) for street in scene.street)
    return HARD if in_street else scene.ground.resistivity_kpa_s_m2


def _by_lot(scene: Scene, air: Air, first: Way, random: np.random.Generator) -> Iterator[Way]:
    """Draw echoes off what is not drawn in the scene: each a share of what comes first, and duller than that."""
    drawn, speed_m_s = scene.ways, sound_speed_m_s(air)
    dull = transfer.bent_gain(kernel_hz(scene), drawn.dull_above_hz)
    low, high = np.log([drawn.echo_after_s, drawn.echo_until_s])
    for later in np.sort(np.exp(random.uniform(low, high, drawn.echoes_count))):
        loss_db = float(random.normal(drawn.echo_loss_db, drawn.echo_sigma_db))
        length_m = first.length_m + float(later) * speed_m_s
        gain = 10 ** (-loss_db / 20) * max(first.length_m, 1.0) / max(length_m, 1.0)
        yield Way("echo", first.delay_s + float(later), length_m, first.points_m[[0, -1]], first.transfer * gain * dull)


def response(scene: Scene, ear: Ear, emission: Emission, found: Sequence[Way]) -> Floats:
    """Lay ways out in time: what a click at the source becomes at the microphone.

    Parameters
    ----------
    scene : Scene
        The scene.
    ear : Ear
        The sensor.
    emission : Emission
        The impulse, for its place.
    found : sequence of Way
        The ways, the first first; at least one.

    Returns
    -------
    numpy.ndarray, shape (frames,), float64
        Begins `LEAD_IN_SAMPLES` before the first way's arrival.
    """
    rate_hz = scene.device.sample_rate_hz
    late = np.array([way.delay_s - found[0].delay_s for way in found]) * rate_hz
    whole = np.floor(late).astype(int)
    turns = -2j * np.pi / KERNEL_FRAMES * (LEAD_IN_SAMPLES + late - whole)
    spectra = np.stack([way.transfer for way in found]) * np.exp(turns[:, None] * np.arange(KERNEL_FRAMES // 2 + 1))
    kernels = np.fft.irfft(spectra, KERNEL_FRAMES)
    laid = np.zeros((2, int(whole.max()) + KERNEL_FRAMES))
    for way, kernel, start in zip(found, kernels, whole, strict=True):
        laid[int(_by_ground(way)), start : start + KERNEL_FRAMES] += kernel
    # With the ground's bounces all that walls scatter would have the same teeth, so they lend it only their power.
    power = (laid**2).sum(axis=1)
    scattered = _scattered(
        scene, ear, emission, laid[np.argmax(power > 0)] * math.sqrt(power.sum() / power[power > 0][0])
    )
    scattered[: laid.shape[1]] += laid.sum(axis=0)
    return scattered


def _by_ground(way: Way) -> bool:
    return bool((way.points_m[1:-1, 2] == 0).any())


def _scattered(scene: Scene, ear: Ear, emission: Emission, heard: Floats) -> Floats:
    """Say what near walls scatter of a sound, and the street's reverberation."""
    drawn, rate_hz = scene.ways, scene.device.sample_rate_hz
    random = generator(scene, "scattering", place_of(emission), ear.sensor_id)
    scatter_db, reverb_db = random.normal([drawn.scatter_db, drawn.reverb_db], SCATTER_SIGMA_DB)
    tail = transfer.scattering(random, scatter_db, reverb_db, rate_hz, round(transfer.TAIL_S * rate_hz))
    frames = even_frames(heard.size + tail.size)
    frequency_hz = np.fft.rfftfreq(frames, 1 / rate_hz).astype(np.float64)
    # What walls scatter has gone round one more edge, so it is duller once more.
    added = np.fft.rfft(tail, frames) * transfer.bent_gain(frequency_hz, drawn.dull_above_hz)
    return np.fft.irfft(np.fft.rfft(heard, frames) * added, frames)[: heard.size + tail.size]
