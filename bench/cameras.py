"""Cameras: how soon a slew request follows a location, and how soon and how well a simulated head is on target.

The head is the simulator's, at 300 degrees a second in real time; where it really looks is asked of it, not of ONVIF.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from agls.bridge.camera.onvif import OnvifCamera, Turned
from agls.bridge.camera.plan import CameraPlanner
from agls.bridge.camera.view import Building
from agls.config import Camera, Onvif, SiteConfig, Slewing
from agls.messages import Ellipse, Incident, SlewRequest, SlewTarget, UtcNs, encode
from bench.rows import Ask, Plan, Row
from firmware_sim.camera.describe import Setup
from firmware_sim.camera.geodesy import sight
from firmware_sim.camera.head import Mount, direction
from firmware_sim.camera.service import Serving

PASSWORD = "opens nothing"  # noqa: S105 - it is the simulator's
AT_NS = 1_790_000_000 * 10**9
LATITUDE_DEG, LONGITUDE_DEG, M_PER_DEG = 40.44, -79.99, 111_320.0
CAMERAS_COUNT, BUILDINGS_COUNT, TOWN_M = 60, 4_000, 2_000.0


def measure(plan: Plan) -> list[Row]:
    """Measure cameras.

    Parameters
    ----------
    plan : Plan
        How much.

    Returns
    -------
    list of Row
        Time to plan; time to and error on target.
    """
    return [*_planning(plan), *_turning(plan)]


def _planning(plan: Plan) -> list[Row]:
    rng = np.random.default_rng(plan.first_seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "buildings.geojson"
        path.write_bytes(_geojson(_town(rng)))
        site = SiteConfig(
            name="Town",
            camera=tuple(_camera(number, rng) for number in range(CAMERAS_COUNT)),
            slewing=Slewing(buildings_file=str(path), max_cameras_count=6),
        )
        begun_s = time.perf_counter()
        planner = CameraPlanner(site)
        load_s = time.perf_counter() - begun_s
    count, spent_s, asked = plan.draws(2_000, 200), [], 0
    for number in range(count):
        incident = _incident(number, rng)
        begun_s = time.perf_counter()
        answers = planner.feed(incident, AT_NS + 3 * 10**9)
        requests = [encode(one) for one in answers if isinstance(one, SlewRequest)]
        spent_s.append(time.perf_counter() - begun_s)
        asked += len(requests)
    p99_ms = 1e3 * float(np.percentile(spent_s, 99))
    told = {
        "cameras": CAMERAS_COUNT,
        "buildings": BUILDINGS_COUNT,
        "asked_per_incident": asked / count,
        "load_s": load_s,
    }
    return [Row("slew requests after location, p99 [ms]", p99_ms, Ask(0, 150), count, detail=told)]


def _turning(plan: Plan) -> list[Row]:
    rng = np.random.default_rng(plan.first_seed + 1)
    took_s, off_deg, outcomes = asyncio.run(_turn_all(plan.draws(200, 20), rng))
    count = len(outcomes)
    return [
        Row("head on target and verified, share", outcomes.count("on_target") / count, Ask(1, 1), count),
        Row("from request to on target, verified, worst [s]", max(took_s), Ask(0, 3), count,
            detail={"p50_s": float(np.median(took_s))}),
        Row("pointing error of the head, worst [degrees]", max(off_deg), Ask(0, 0.5), count),
    ]  # fmt: skip


async def _turn_all(count: int, rng: np.random.Generator) -> tuple[list[float], list[float], list[str]]:
    """Turn one head to places all round it, from wherever the one before left it."""
    took_s: list[float] = []
    off_deg: list[float] = []
    outcomes: list[str] = []
    mount = Mount(yaw_deg=37.0, pitch_deg=1.0, roll_deg=-2.0)
    with tempfile.TemporaryDirectory() as folder, Serving(Setup(mount=mount), PASSWORD) as served:
        secret = Path(folder) / "password"
        secret.touch(0o600)
        secret.write_text(PASSWORD)
        camera = Camera(
            camera_id="c", latitude_deg=LATITUDE_DEG, longitude_deg=LONGITUDE_DEG, height_m=260.0,
            pan_zero_azimuth_deg=37.0, mount_pitch_deg=1.0, mount_roll_deg=-2.0, range_m=2_000.0,
            onvif=Onvif(url=f"{served.url}/onvif/device_service", username="agls", password_file=str(secret)),
        )  # fmt: skip
        planner = CameraPlanner(SiteConfig(name="Town", camera=(camera,)))
        async with OnvifCamera(camera) as one:
            await one.ability()
            for number in range(count):
                incident = _incident(number, rng, 250.0)
                [request] = planner.feed(incident, AT_NS + 3 * 10**9)
                if not isinstance(request, SlewRequest):
                    continue
                begun_s = time.monotonic()
                turned: Turned = await one.turn(request)
                took_s.append(time.monotonic() - begun_s)
                outcomes.append(turned.outcome)
                looks = direction(mount, served.camera.pose(time.monotonic()))
                off_deg.append(_apart_deg(looks, request.target))
    return took_s, off_deg, outcomes


def _apart_deg(looks: tuple[float, float, float], target: SlewTarget) -> float:
    """Measure how far a lens looks from a place near by, by the simulator's own geodesy."""
    at = sight((LATITUDE_DEG, LONGITUDE_DEG, 260.0), (target.latitude_deg, target.longitude_deg, target.height_m))
    return math.degrees(math.acos(min(1.0, sum(a * b for a, b in zip(looks, at, strict=True)) / math.hypot(*at))))


def _incident(number: int, rng: np.random.Generator, reach_m: float = TOWN_M / 2) -> Incident:
    x_m, y_m = rng.uniform(-reach_m, reach_m, 2).tolist()
    return Incident(
        incident=f"i-{number}", revision=0, state="probable", first_shot_ns=UtcNs(AT_NS), last_shot_ns=UtcNs(AT_NS),
        round_count=3, x_m=x_m, y_m=y_m, z_m=0.0, height_m=240.0,
        latitude_deg=LATITUDE_DEG + y_m / M_PER_DEG,
        longitude_deg=LONGITUDE_DEG + x_m / M_PER_DEG / math.cos(math.radians(LATITUDE_DEG)),
        ellipse=Ellipse(major_m=float(rng.uniform(5, 40)), minor_m=4.0, azimuth_deg=float(rng.uniform(0, 180))),
        p_gunshot=0.97, sensor_count=9, shot_ids=(f"s-{number}",),
    )  # fmt: skip


def _camera(number: int, rng: np.random.Generator) -> Camera:
    x_m, y_m = rng.uniform(-TOWN_M / 2, TOWN_M / 2, 2).tolist()
    return Camera(
        camera_id=f"c-{number}",
        latitude_deg=LATITUDE_DEG + y_m / M_PER_DEG,
        longitude_deg=LONGITUDE_DEG + x_m / M_PER_DEG / math.cos(math.radians(LATITUDE_DEG)),
        height_m=250.0,
    )


def _town(rng: np.random.Generator) -> list[Building]:
    """Build houses of 12 m here and there, 5 to 30 m high."""
    side_deg = 12.0 / M_PER_DEG
    corners = [(0.0, 0.0), (side_deg, 0.0), (side_deg, side_deg), (0.0, side_deg), (0.0, 0.0)]
    town = []
    places_m = rng.uniform(-TOWN_M / 2, TOWN_M / 2, (BUILDINGS_COUNT, 2))
    for (x_m, y_m), high_m in zip(places_m.tolist(), rng.uniform(5, 30, BUILDINGS_COUNT).tolist(), strict=True):
        east, north = LONGITUDE_DEG + x_m / M_PER_DEG, LATITUDE_DEG + y_m / M_PER_DEG
        town.append(Building(tuple((float(east + dx), float(north + dy)) for dx, dy in corners), 240.0 + float(high_m)))
    return town


def _geojson(town: list[Building]) -> bytes:
    features = [
        {
            "type": "Feature",
            "properties": {"height_m": house.top_m - 240.0, "ground_m": 240.0},
            "geometry": {"type": "Polygon", "coordinates": [house.corners_deg]},
        }
        for house in town
    ]
    return msgspec.json.encode({"type": "FeatureCollection", "features": features})
