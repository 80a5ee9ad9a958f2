"""What the chain costs, stage by stage.

Each figure is the median of several runs after one that warms up (the solver compiles then). Nothing is asked of them
here; compare two runs on the same machine.
"""

import time
from collections.abc import Callable
from statistics import median

import numpy as np

from agls.classify.model import load_model
from agls.config import NodeConfig, Sensor, SiteConfig
from agls.locate.solve import Air, solve
from agls.messages import NS_PER_S, Block, ClockState, Detection, UtcNs, decode, encode
from agls.pipeline import Hub, Node
from agls.sensor.clock import SteadyClock
from bench.rows import Plan, Row

RUNS = 5
START_NS = 1_800_000_000 * NS_PER_S
SPEED_M_S = 340.3
RATE_HZ = 48_000


def wall_s(work: Callable[[], object]) -> float:
    """Time a piece of work.

    Parameters
    ----------
    work : callable
        What to do.

    Returns
    -------
    float
        Median wall time of `RUNS` runs [s].
    """
    work()
    taken = []
    for _ in range(RUNS):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return median(taken)


def grid() -> list[Sensor]:
    """Place sixteen sensors 500 m apart.

    Returns
    -------
    list of Sensor
        In rows, west to east.
    """
    return [
        Sensor(sensor_id=f"s{row}{column}", x_m=500.0 * column, y_m=500.0 * row, z_m=6.0 + 3.0 * ((row + column) % 2))
        for row in range(4)
        for column in range(4)
    ]


def detections(sensors: list[Sensor], shots_count: int) -> list[Detection]:
    """Hear shots, ten seconds apart, at every sensor within 800 m, with 2 ms of noise.

    Parameters
    ----------
    sensors : list of Sensor
        Who hears.
    shots_count : int
        How many shots.

    Returns
    -------
    list of Detection
        In order of arrival.
    """
    rng = np.random.default_rng(1)
    heard = []
    for shot in range(shots_count):
        place = np.array([*rng.uniform(200, 1300, 2), 1.5])
        for sensor in sensors:
            away_m = float(np.linalg.norm(place - [sensor.x_m, sensor.y_m, sensor.z_m]))
            if away_m < 800:
                heard.append((10.0 * shot + away_m / SPEED_M_S + rng.normal(0, 0.002), sensor.sensor_id, shot))
    return [
        Detection(
            sensor_id=name,
            boot_id="bench",
            seq=shot,
            toa_ns=UtcNs(START_NS + round(toa_s * NS_PER_S)),
            toa_sigma_s=0.002,
            wave="muzzle",
            level_db=95.0,
            snr_db=30.0,
            llr={"gunshot": 4.0},
            clock=ClockState(mode="simulated", sigma_s=1e-4),
        )
        for toa_s, name, shot in sorted(heard)
    ]


def street(seconds: int) -> np.ndarray:
    """Make noise with two impulses a second.

    Parameters
    ----------
    seconds : int
        How long [s].

    Returns
    -------
    numpy.ndarray, shape (seconds * RATE_HZ,), float32
        Full scale is 1.0.
    """
    rng = np.random.default_rng(2)
    samples = rng.normal(0, 1e-3, seconds * RATE_HZ)
    pulse = np.exp(-np.arange(RATE_HZ // 50) / 200.0) * rng.normal(0, 0.3, RATE_HZ // 50)
    for start in range(RATE_HZ // 4, samples.size - pulse.size, RATE_HZ // 2):
        samples[start : start + pulse.size] += pulse
    return samples.astype(np.float32)


def node_seconds(samples: np.ndarray) -> float:
    """Time a node that hears this.

    Parameters
    ----------
    samples : numpy.ndarray, shape (frames,), float32
        What it hears.

    Returns
    -------
    float
        Wall time [s].
    """
    model = load_model()
    clock = SteadyClock(START_NS, float(RATE_HZ), ClockState(mode="simulated", sigma_s=1e-4))

    def _hear() -> None:
        node = Node(NodeConfig(sensor_id="bench"), clock, model, "bench")
        for first in range(0, samples.size, 1000):
            node.feed(Block(samples[first : first + 1000], first, float(RATE_HZ)))
        node.finish()

    return wall_s(_hear)


def hub_seconds(sensors: list[Sensor], heard: list[Detection]) -> float:
    """Time a hub that is told this.

    Parameters
    ----------
    sensors : list of Sensor
        The site's.
    heard : list of Detection
        In order of arrival.

    Returns
    -------
    float
        Wall time [s].
    """
    site = SiteConfig(name="bench", sensor=tuple(sensors))

    def _locate() -> None:
        hub = Hub(site)
        for detection in heard:
            hub.feed(detection, detection.toa_ns + NS_PER_S // 20)
        hub.advance(heard[-1].toa_ns + 60 * NS_PER_S)

    return wall_s(_locate)


def solve_seconds(sensors: list[Sensor]) -> float:
    """Time one solution from eight arrivals.

    Parameters
    ----------
    sensors : list of Sensor
        At least eight.

    Returns
    -------
    float
        Wall time [s].
    """
    places_m = np.array([[sensor.x_m, sensor.y_m, sensor.z_m] for sensor in sensors[:8]], dtype=float)
    toa_s = np.linalg.norm(places_m - [620.0, 410.0, 1.5], axis=1) / SPEED_M_S
    air = Air.of_weather(SiteConfig(name="bench").weather)
    return wall_s(lambda: [solve(places_m, toa_s, np.full(8, 0.008), air) for _ in range(50)]) / 50


def measure(plan: Plan) -> list[Row]:
    """Take all measurements.

    Parameters
    ----------
    plan : Plan
        How much to hear.

    Returns
    -------
    list of Row
        Nothing is asked of them.
    """
    sensors = grid()
    heard = detections(sensors, 50)
    payload = encode(heard[0])
    many = range(10_000)
    seconds = plan.draws(20, 5)
    return [
        Row("decode a detection [us]", 1e2 * wall_s(lambda: [decode(payload, Detection) for _ in many])),
        Row("encode a detection [us]", 1e2 * wall_s(lambda: [encode(heard[0]) for _ in many])),
        Row("node: share of one core [%]", 100 * node_seconds(street(seconds)) / seconds),
        Row("hub: one solve, eight sensors [ms]", 1e3 * solve_seconds(sensors)),
        Row("hub: one detection, all stages [ms]", 1e3 * hub_seconds(sensors, heard) / len(heard)),
    ]
