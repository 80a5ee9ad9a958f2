"""What is no gunfire and every sensor hears, through whole nodes and the hub: how much of it is told as gunfire.

A city of the scenes, and in it one source at a place and with a cadence drawn by the seed: rockets, salutes, misfiring
cars, a road breaker, a nail gun; and, for what must not be lost, handguns, a shotgun, a small bore, rifles and
automatic fire. Each microphone is rendered, judged by the shipped model, and the hub publishes what it makes of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

import firmware_sim
from agls.classify.model import load_model
from agls.config import Microphone, NodeConfig, SiteConfig
from agls.messages import NS_PER_S, Block, ClockState, Detection, Incident, parse_utc
from agls.pipeline import Hub, Node
from agls.replay.dataset import site_of
from agls.sensor.clock import SteadyClock
from bench.rows import Ask, Plan, Row, share_row, spread
from firmware_sim.device import Recorder, clock_error_s
from firmware_sim.scene import Ear, Scene, load_scene, surveyed, told_weather
from firmware_sim.sources import Bang, Shooter, WeaponName

SCENES = Path(firmware_sim.__file__).parent / "scenes"
CITIES = ("backfire", "ground-salute", "rocket", "street-gunfire")  # of one size: everything is heard everywhere
FULL = 1 / 32_768
OTHERS = ("rocket", "salute", "backfire", "jackhammer", "nailgun")
GUNS = ("handgun", "shotgun", "small bore", "rifle", "automatic")
HANDGUNS: tuple[WeaponName, ...] = ("9mm", "40sw", "45acp", "357sig")
RIFLES: tuple[WeaponName, ...] = ("223", "308", "762x39")
LEAD_S, TAIL_S, STEP_S = 1.0, 1.6, 1.0
MOST_OTHERS = 0.15  # may be told as probable gunfire


@dataclass(frozen=True)
class Told:
    """What the hub made of one scene.

    Attributes
    ----------
    kind : str
        What sounded.
    duration_s : float
        How long the scene was.
    detections_count : int
        What nodes reported.
    incidents : tuple of Incident
        The last revision of each.
    ever_probable_count : int
        Of how many any revision was told as probable: dispatch was called.
    """

    kind: str
    duration_s: float
    detections_count: int
    incidents: tuple[Incident, ...]
    ever_probable_count: int

    @property
    def state(self) -> str:
        """Say what dispatch is left with: the most that stands of it.

        Returns
        -------
        str
            ``probable``, ``possible``, or ``nothing``.
        """
        states = {one.state for one in self.incidents}
        return next((state for state in ("probable", "possible") if state in states), "nothing")


def drawn(kind: str, seed: int) -> Scene:
    """Draw a scene.

    Parameters
    ----------
    kind : str
        One of `OTHERS` or `GUNS`.
    seed : int
        Of the city, the place, the cadence.

    Returns
    -------
    Scene
        As short as may be.
    """
    random = np.random.default_rng((seed, *kind.encode()))
    # A rifle's bullet must fly past sensors before a wall stops it: the scene with an avenue.
    city = load_scene(SCENES / f"{'rifle' if kind == 'rifle' else random.choice(CITIES)}.toml")
    along, across = float(random.uniform(-80.0, 80.0)), float(random.uniform(-5.0, 5.0))
    place = (along, across) if random.random() < 0.5 else (across, along)
    shooter, bang, last_s = _gunfire(kind, place, random) if kind in GUNS else _other(kind, place, random)
    return msgspec.structs.replace(
        city, seed=seed, duration_s=last_s + TAIL_S, shooter=shooter, bang=bang, noise=(), street=()
    )


Source = tuple[tuple[Shooter, ...], tuple[Bang, ...], float]


def _gunfire(kind: str, place: tuple[float, float], random: np.random.Generator) -> Source:
    """Draw a shooter: one to eight rounds, by hand two to five a second; automatic ten to fifteen."""
    choices: dict[str, tuple[WeaponName, ...]] = {
        "handgun": HANDGUNS, "rifle": RIFLES, "shotgun": ("12ga",), "small bore": ("22lr",), "automatic": ("762x39",),
    }  # fmt: skip
    choice = choices[kind]
    weapon = choice[int(random.integers(len(choice)))] if len(choice) > 1 else choice[0]
    automatic = kind == "automatic"
    rounds = int(random.integers(4, 12)) if automatic else int(random.integers(1, 7))
    cadence_s = float(random.uniform(0.066, 0.1) if automatic else random.uniform(0.25, 0.9))
    shooter = Shooter(
        shooter_id="shooter", weapon=weapon, x_m=place[0], y_m=place[1], start_s=LEAD_S, rounds_count=rounds,
        cadence_s=cadence_s, towards_deg=float(random.choice([0.0, 90.0, 180.0, 270.0]) + random.normal(0, 5)) % 360.0,
    )  # fmt: skip
    return (shooter,), (), LEAD_S + (rounds - 1) * cadence_s


def _other(kind: str, place: tuple[float, float], random: np.random.Generator) -> Source:
    """Draw a source that is no gun, as loud as the scenes have it, so that every sensor hears it."""
    count = int(random.integers(15, 45)) if kind == "jackhammer" else int(random.integers(1, 7))
    loud_db = {"jackhammer": 136.0, "backfire": 146.0, "nailgun": 138.0}.get(kind)
    name = "firework" if kind == "rocket" else kind
    if kind == "jackhammer":
        cadence_s = float(random.uniform(0.045, 0.065))
        blows = Bang(bang_id="b", kind="jackhammer", x_m=place[0], y_m=place[1], z_m=0.3, start_s=LEAD_S, count=count,
                     cadence_s=cadence_s, level_db=loud_db)  # fmt: skip
        return (), (blows,), LEAD_S + (count - 1) * cadence_s
    at_s = LEAD_S + np.cumsum([0.0, *random.uniform(0.3, 1.2, count - 1)])
    bangs = tuple(
        Bang(
            bang_id=f"b{k}", kind=name, start_s=float(at), level_db=loud_db,  # type: ignore[arg-type]
            x_m=place[0] + float(random.normal(0, 1.0)),
            y_m=place[1] + float(random.normal(0, 1.0)),
            z_m=float(random.uniform(30.0, 95.0)) if kind == "rocket" else 0.5,
        )
        for k, at in enumerate(at_s)
    )  # fmt: skip
    return (), bangs, float(at_s[-1])


def heard(scene: Scene) -> list[Detection]:
    """Let a node listen at every sensor of a scene.

    Parameters
    ----------
    scene : Scene
        The scene.

    Returns
    -------
    list of Detection
        In order of arrival.
    """
    found = [one for ear in scene.sensor for one in _node_hears(scene, ear)]
    return sorted(found, key=lambda one: (one.toa_ns, one.sensor_id, one.seq))


def _node_hears(scene: Scene, ear: Ear) -> list[Detection]:
    rate_hz, sigma_s = scene.device.sample_rate_hz, scene.device.clock_sigma_s
    start_ns = parse_utc(scene.start_utc) + round(clock_error_s(scene, ear) * NS_PER_S)
    clock = SteadyClock(start_ns, float(rate_hz), ClockState(mode="simulated", sigma_s=sigma_s))
    microphone = Microphone(sample_rate_hz=rate_hz, full_scale_db_spl=scene.device.full_scale_db_spl)
    node = Node(NodeConfig(sensor_id=ear.sensor_id, microphone=microphone), clock, load_model(), "bench")
    recorder, step = Recorder(scene, ear), round(STEP_S * rate_hz)
    said = []
    for first in range(0, round(scene.duration_s * rate_hz), step):
        samples = recorder.samples(first, step).astype(np.float32) * np.float32(FULL)
        said += node.feed(Block(samples, first, float(rate_hz)))
    return said + node.finish()


def site_for(scene: Scene) -> SiteConfig:
    """Configure a hub as the survey and the weather report of a scene have it.

    Parameters
    ----------
    scene : Scene
        The scene.

    Returns
    -------
    SiteConfig
        The site, else with what is usual.
    """
    return site_of(scene.name, surveyed(scene), told_weather(scene), scene.origin)


def told(kind: str, scene: Scene, detections: Sequence[Detection]) -> Told:
    """Give what nodes said to a hub.

    Parameters
    ----------
    kind : str
        What sounded.
    scene : Scene
        Where.
    detections : sequence of Detection
        In order of arrival.

    Returns
    -------
    Told
        What it made of it.
    """
    hub, said = Hub(site_for(scene)), []
    for detection in detections:
        said += hub.feed(detection, detection.toa_ns + NS_PER_S // 2)
    if detections:
        said += hub.advance(detections[-1].toa_ns + 120 * NS_PER_S)
    revisions = [one for one in said if isinstance(one, Incident)]
    last = {one.incident: one for one in revisions}
    ever = {one.incident for one in revisions if one.state == "probable"}
    return Told(kind, scene.duration_s, len(detections), tuple(last.values()), len(ever))


def run(job: tuple[str, int]) -> Told:
    """Draw, hear and tell.

    Parameters
    ----------
    job : tuple of str and int
        What sounds, and the seed of the scene.

    Returns
    -------
    Told
        What the hub made of it.
    """
    kind, seed = job
    scene = drawn(kind, seed)
    return told(kind, scene, heard(scene))


# -------------------------------------------------------------------------------------------------------------- rows


def measure(plan: Plan) -> list[Row]:
    """Measure what is told as gunfire, of what is and of what is not.

    Parameters
    ----------
    plan : Plan
        How many scenes of each kind: 20 in full, 3 when quick.

    Returns
    -------
    list of Row
        By kind, all together, and for each network-hour.
    """
    jobs = [(kind, seed) for kind in (*OTHERS, *GUNS) for seed in plan.seeds(20, 3)]
    return rows_of(spread(run, jobs, plan))


def rows_of(found: Sequence[Told]) -> list[Row]:
    """Sum up what hubs told.

    Parameters
    ----------
    found : sequence of Told
        Of all scenes.

    Returns
    -------
    list of Row
        The figures.
    """
    others, guns = ([one for one in found if one.kind in kinds] for kinds in (OTHERS, GUNS))
    rows = [
        share_row("coherent sources that are no gun, told as probable gunfire", _probable(others), len(others),
                  Ask(high=MOST_OTHERS), detail=_states(others)),
        share_row("gunfire told as probable", _probable(guns), len(guns), detail=_states(guns)),
    ]  # fmt: skip
    for kind in (*OTHERS, *GUNS):
        own = [one for one in found if one.kind == kind]
        if own:
            rows.append(share_row(f"{kind}: told as probable gunfire", _probable(own), len(own), detail=_states(own)))
    return [*rows, _hourly(others)] if others else rows


def _probable(found: Sequence[Told]) -> int:
    return sum(one.ever_probable_count > 0 for one in found)


def _states(found: Sequence[Told]) -> dict[str, int]:
    """Count what dispatch is left with in the end."""
    return {f"left_{state}": count for state, count in Counter(one.state for one in found).items()}


def _hourly(others: Sequence[Told]) -> Row:
    """Count false incidents for each hour of a network that hears one such source after the other."""
    hours = sum(one.duration_s for one in others) / 3600
    wrong = sum(one.ever_probable_count for one in others)
    low = wrong + 1.92 - 1.96 * math.sqrt(wrong + 0.96)
    high = wrong + 1.92 + 1.96 * math.sqrt(wrong + 0.96)
    note = "scenes are nothing but such sounds, seconds long: an hour of them holds some hundreds of sources"
    figure = "false probable incidents for each network-hour of nothing but such sounds"
    detail = {"hours": hours, "incidents": wrong}
    return Row(figure, wrong / hours, count=len(others), interval=(low / hours, high / hours), detail=detail, note=note)
