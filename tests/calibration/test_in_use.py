"""What a calibration finds is what nodes and the hub then work with."""

import msgspec
import numpy as np
import pytest

from agls.classify.model import load_model
from agls.config import Classification, Microphone, NodeConfig, Sensor, SiteConfig
from agls.messages import NS_PER_S, Block, ClockState, Detection, Shot, UtcNs
from agls.pipeline import Hub, Node
from agls.sensor.clock import SteadyClock

START_NS = 1_700_000_000 * NS_PER_S
RATE_HZ = 48_000.0
SENSORS = tuple(
    Sensor(sensor_id=f"s{k}", x_m=float(x), y_m=float(y), z_m=5.0)
    for k, (x, y) in enumerate([(0, 0), (400, 0), (0, 400), (400, 400), (800, 100), (150, 800)])
)


def shots(site: SiteConfig, late_s: dict[str, float]) -> list[Shot]:
    """Locate a shot whose arrivals some sensors stamp late."""
    hub, found = Hub(site), []
    for seq, sensor in enumerate(SENSORS):
        flight_s = np.hypot(sensor.x_m - 250.0, sensor.y_m - 310.0) / 340.3
        late = late_s.get(sensor.sensor_id, 0.0)
        heard = Detection(
            sensor_id=sensor.sensor_id,
            boot_id="b",
            seq=seq,
            toa_ns=UtcNs(START_NS + round((flight_s + late) * NS_PER_S)),
            toa_sigma_s=1e-3,
            llr={"gunshot": 4.0},
            clock=ClockState(mode="simulated", sigma_s=1e-4),
        )
        found += hub.feed(heard, START_NS + 3 * NS_PER_S)
    return [item for item in found + hub.advance(START_NS + 60 * NS_PER_S) if isinstance(item, Shot)]


def test_a_hub_takes_off_the_clock_offset_that_the_site_file_states() -> None:
    stated = tuple(
        msgspec.structs.replace(sensor, clock_offset_s=0.25) if sensor.sensor_id == "s3" else sensor
        for sensor in SENSORS
    )
    (honest,) = shots(SiteConfig(name="Town", sensor=SENSORS), {})
    (corrected,) = shots(SiteConfig(name="Town", sensor=stated), {"s3": 0.25})
    assert (corrected.x_m, corrected.y_m, corrected.sensor_count) == (honest.x_m, honest.y_m, 6)
    assert [one.residual_s for one in corrected.arrivals] == [one.residual_s for one in honest.arrivals]


def test_an_unsure_clock_offset_widens_the_ellipse() -> None:
    unsure = tuple(msgspec.structs.replace(sensor, clock_offset_sigma_s=0.02) for sensor in SENSORS)
    (wide,) = shots(SiteConfig(name="Town", sensor=unsure), {})
    (tight,) = shots(SiteConfig(name="Town", sensor=SENSORS), {})
    assert wide.ellipse.major_m > 1.5 * tight.ellipse.major_m


def heard_by(config: NodeConfig) -> Detection:
    """Let a node hear one bang."""
    rng = np.random.default_rng(3)
    samples = rng.normal(0, 1e-3, 96_000)
    samples[48_000:48_480] += 0.5 * np.exp(-np.arange(480) / 90.0)
    clock = SteadyClock(START_NS, RATE_HZ, ClockState(mode="simulated", sigma_s=1e-5))
    node = Node(config, clock, load_model(), "boot")
    found = node.feed(Block(samples=samples.astype(np.float32), first_index=0, sample_rate_hz=RATE_HZ))
    (detection,) = found + node.finish()
    return detection


def test_a_node_takes_off_its_latency_and_is_as_unsure_as_that() -> None:
    plain = heard_by(NodeConfig(sensor_id="a"))
    late = heard_by(NodeConfig(sensor_id="a", microphone=Microphone(latency_s=0.0125, latency_sigma_s=4e-4)))
    assert plain.toa_ns - late.toa_ns == 12_500_000
    assert late.toa_sigma_s == pytest.approx(np.hypot(plain.toa_sigma_s, 4e-4))


def test_a_node_corrects_the_ratio_of_gunshot_alone() -> None:
    plain = heard_by(NodeConfig(sensor_id="a"))
    corrected = heard_by(
        NodeConfig(sensor_id="a", classification=Classification(gunshot_slope=0.5, gunshot_offset=-1.0))
    )
    assert corrected.llr["gunshot"] == pytest.approx(0.5 * plain.llr["gunshot"] - 1.0, abs=1e-4)
    assert {**corrected.llr, "gunshot": 0.0} == {**plain.llr, "gunshot": 0.0}
