"""The whole chain without its shells: the demo's city, its nodes and its hub, as fast as they compute."""

import math
from collections.abc import Iterator

import pytest

from agls.classify.model import load_model
from agls.messages import NS_PER_S, CadEvent, Detection, Outbound, Shot, SlewRequest
from agls.pipeline import Hub, Node
from firmware_sim.live import BLOCK_FRAMES, SimulatedSource
from firmware_sim.scene import DEMO_SCENE, Ear, emissions, load_scene, node_configs, shots, site_config
from firmware_sim.sources import name_of

SCENE = load_scene(DEMO_SCENE)
START_NS = 1_800_000_000 * NS_PER_S
UNTIL_S, NETWORK_S, CADENCE_S = 30.0, 0.02, 0.05
NEAR_M = 10.0


def said_by(ear: Ear) -> Iterator[tuple[int, Detection]]:
    """Yield what a node says, each with the moment at which the hub hears it."""
    config = next(node for node in node_configs(SCENE) if node.sensor_id == ear.sensor_id)
    source = SimulatedSource(SCENE, ear, START_NS, paced=False)
    node = Node(config, source.clock, load_model(), "e2e")
    for block in source.blocks():
        heard_s = (block.first_index + BLOCK_FRAMES) / block.sample_rate_hz
        if heard_s > UNTIL_S:
            return
        for detection in node.feed(block):
            yield START_NS + round((heard_s + NETWORK_S) * NS_PER_S), detection


@pytest.fixture(scope="module")
def told() -> list[Outbound]:
    """Let the demo's hub hear thirty seconds of the demo's city."""
    hub = Hub(site_config(SCENE))
    heard = sorted((item for ear in SCENE.sensor for item in said_by(ear)), key=lambda item: item[0])
    out: list[Outbound] = []
    for step in range(round((UNTIL_S + 30) / CADENCE_S)):
        now_ns = START_NS + round(step * CADENCE_S * NS_PER_S)
        while heard and heard[0][0] <= now_ns:
            received_ns, detection = heard.pop(0)
            out += hub.feed(detection, received_ns)
        out += hub.advance(now_ns)
    return out


def last_revisions(told: list[Outbound]) -> list[Shot]:
    latest = {item.shot_id: item for item in told if isinstance(item, Shot)}
    return [shot for shot in latest.values() if shot.state == "located"]


def miss_m(shot: Shot, place_m: tuple[float, float, float]) -> float:
    return math.hypot(shot.x_m - place_m[0], shot.y_m - place_m[1])


def at(shot: Shot, time_s: float) -> bool:
    return abs((shot.origin_ns - START_NS) / NS_PER_S - time_s) < 0.2


def is_gunfire(shot: Shot) -> bool:
    """Say whether a site would call it gunfire: probable, not possible."""
    return shot.p_gunshot >= site_config(SCENE).gathering.probable_p


@pytest.mark.parametrize("fired", shots(SCENE), ids=lambda fired: f"{name_of(fired.maker)}-{fired.number}")
def test_every_round_fired_is_located_and_told_to_dispatch_and_a_camera(told: list[Outbound], fired) -> None:
    found = [shot for shot in last_revisions(told) if at(shot, fired.time_s)]
    best = min(found, key=lambda shot: miss_m(shot, fired.position_m))
    assert miss_m(best, fired.position_m) < NEAR_M
    assert best.p_gunshot > 0.9
    assert any(item.incident == best.incident for item in told if isinstance(item, CadEvent))
    assert any(item.incident == best.incident for item in told if isinstance(item, SlewRequest))


def test_nothing_else_is_called_gunfire(told: list[Outbound]) -> None:
    places = {shot.position_m for shot in shots(SCENE)}
    others = [s for s in last_revisions(told) if is_gunfire(s) and min(miss_m(s, p) for p in places) > NEAR_M]
    assert [(round(s.x_m), round(s.y_m), s.p_gunshot, s.sensor_count) for s in others] == []


def test_no_round_is_counted_twice(told: list[Outbound]) -> None:
    gunfire = [shot for shot in last_revisions(told) if is_gunfire(shot)]
    assert len(gunfire) == len(shots(SCENE))


def test_the_firework_is_heard_and_not_sure_to_be_gunfire(told: list[Outbound]) -> None:
    (shell,) = [one for one in emissions(SCENE) if name_of(one.maker) == "shell"]
    found = [shot for shot in last_revisions(told) if at(shot, shell.time_s)]
    assert found
    assert max(shot.p_gunshot for shot in found) < 0.9
