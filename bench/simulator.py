"""The simulated city: how fast it is rendered, and whether what its scenes promise is so."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np

import firmware_sim
from bench.rows import Ask, Plan, Row, bootstrap
from firmware_sim.device import Recorder
from firmware_sim.propagation import arrival_s, ways
from firmware_sim.scene import Ear, Scene, emissions, load_scene

SCENES = Path(firmware_sim.__file__).parent / "scenes"
NO_GUNS = ("rocket", "ground-salute", "backfire", "jackhammer")
CHUNK_S = 4.0


def measure(plan: Plan) -> list[Row]:
    """Measure the simulator.

    Parameters
    ----------
    plan : Plan
        How much.

    Returns
    -------
    list of Row
        Speed, lateness of places, and how well other sounds are heard.
    """
    scenes = {path.stem: load_scene(path) for path in sorted(SCENES.glob("*.toml"))}
    return [_speed(scenes, plan), _lateness(scenes["street-gunfire"], plan), _heard(scenes)]


def _speed(scenes: dict[str, Scene], plan: Plan) -> Row:
    """Render all sensors of each scene, one after the other, in one thread."""
    speeds: dict[str, list[float]] = {}
    for name, scene in scenes.items():
        for seed in plan.seeds(3, 1):
            drawn = msgspec.structs.replace(scene, seed=seed)
            taken_s = [_render(drawn, ear) for ear in drawn.sensor]
            speeds.setdefault(name, []).append(scene.duration_s * len(taken_s) / sum(taken_s))
    by_scene = {name: float(np.median(found)) for name, found in speeds.items()}
    count = sum(len(found) for found in speeds.values())
    figure = "audio rendered, echoes on: times real time per sensor, the slowest scene"
    return Row(figure, min(by_scene.values()), Ask(20.0), count, detail=by_scene)


def _render(scene: Scene, ear: Ear) -> float:
    """Render one sensor of a scene and say how long it took [s]."""
    rate_hz, began_s = scene.device.sample_rate_hz, time.process_time()
    recorder, frames, chunk = Recorder(scene, ear), round(scene.duration_s * rate_hz), round(CHUNK_S * rate_hz)
    for first in range(0, frames, chunk):
        recorder.samples(first, min(chunk, frames - first))
    return time.process_time() - began_s


def _lateness(scene: Scene, plan: Plan) -> Row:
    """Tell by how much the path term scatters between sensors, and that it is the same for each shot of a place."""
    lates_ms, repeats_ms = [], []
    for seed in plan.seeds(40, 12):
        late = msgspec.structs.replace(scene, seed=seed, building=())
        punctual = msgspec.structs.replace(late, ways=msgspec.structs.replace(late.ways, late_s=0.0))
        first, again = [made for made in emissions(late) if getattr(made.maker, "shooter_id", "") == "alley"][:2]
        for ear in late.sensor:
            extra_ms = [1e3 * (arrival_s(late, ear, made) - arrival_s(punctual, ear, made)) for made in (first, again)]
            lates_ms.append(extra_ms[0])
            repeats_ms.append(abs(extra_ms[1] - extra_ms[0]))
    within = bootstrap(lates_ms, lambda values: float(np.std(values)))
    detail = {"mean_ms": float(np.mean(lates_ms)), "most_between_shots_ms": max(repeats_ms)}
    return Row(
        "path term between sensors, sd [ms]", float(np.std(lates_ms)), Ask(6.0, 10.0), len(lates_ms), within, detail
    )


def _heard(scenes: dict[str, Scene]) -> Row:
    """Find the sensor that hears least of what is no gunfire, in the scenes made of it."""
    above_db = {}
    for name in NO_GUNS:
        scene, made = scenes[name], emissions(scenes[name])[0]
        loudest = [max(way.level_db for way in ways(scene, ear, made)) for ear in scene.sensor]
        above_db[name] = min(loudest) - scene.device.noise_db
    return Row(
        "other sounds at the sensor that hears least, peak above noise [dB]",
        min(above_db.values()),
        Ask(15.0),
        len(NO_GUNS),
        detail=above_db,
    )
