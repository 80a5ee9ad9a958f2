"""A piece of ground with sensors, and how sound gets there: computed another way than the locator does."""

from dataclasses import dataclass

import numpy as np

from agls.config import Locating, Sensor, SiteConfig, Weather
from agls.locate.search import Array, Found, Picks, find_shots
from agls.locate.solve import Air
from agls.messages import NS_PER_S, ClockState, Detection, UtcNs

SPEED_M_S = 340.0
START_NS = 1_800_000_000 * NS_PER_S
CLOCK = ClockState(mode="simulated", sigma_s=1e-5)
STILL = Air(SPEED_M_S, 0.0, 0.0, 0.6, 0.5)


def flight_s(positions_m, source_m, wind_m_s=(0.0, 0.0), speed_m_s=SPEED_M_S):
    """Follow the wavefront to each sensor: a sphere that grows while its middle drifts with the air."""
    drift = np.array([*wind_m_s, 0.0])
    times = np.zeros(len(positions_m))
    for _ in range(60):  # a contraction by wind over sound speed in each round
        times = np.linalg.norm(positions_m - source_m - drift * times[:, None], axis=1) / speed_m_s
    return times


def square(count, side_m, rng, up_m=8.0):
    """Place sensors at random, well apart."""
    apart_m = 0.6 * side_m / count**0.5
    chosen = []
    while len(chosen) < count:
        place = rng.uniform(0, side_m, 2)
        if all(np.hypot(*(place - other)) > apart_m for other in chosen):
            chosen.append(place)
    return np.column_stack([np.array(chosen), np.full(count, up_m)])


@dataclass(frozen=True)
class Heard:
    """Picks, and the shot each comes from: -1 for echoes and clutter."""

    sensor: np.ndarray
    toa_s: np.ndarray
    shot: np.ndarray

    def members(self, shot):
        """Find the picks of one shot."""
        return set(np.flatnonzero(self.shot == shot).tolist())


def hear(positions_m, shots, rng, *, sigma_s=0.001, p_detect=1.0, echo=0.0, lags_s=(0.02, 0.4), clutter_per_s=0.0,
         wind_m_s=(0.0, 0.0)):  # fmt: skip
    """Let sensors hear shots (origin time and place each), their echoes, and what else there is."""
    rows = []
    for number, (origin_s, *place) in enumerate(shots):
        arrivals = origin_s + flight_s(positions_m, np.array([*place, 1.5]), wind_m_s)
        for k, arrival in enumerate(arrivals + rng.normal(0, sigma_s, len(positions_m))):
            if rng.random() < p_detect:
                rows.append((arrival, k, number))
            if rng.random() < echo:
                rows.append((arrival + rng.uniform(*lags_s), k, -1))
    first, last = shots[0][0] - 1.0, shots[-1][0] + 4.0
    for k in range(len(positions_m)):
        rows += [(moment, k, -1) for moment in rng.uniform(first, last, rng.poisson(clutter_per_s * (last - first)))]
    toa_s, sensor, shot = (np.array(column) for column in zip(*sorted(rows), strict=True))
    return Heard(sensor.astype(np.int64), toa_s, shot.astype(np.int64))


def search(positions_m, heard, air=STILL, sigma_s=0.001, level_db=None, **locating) -> list[Found]:
    """Search picks for shots."""
    array = Array(tuple(f"s{k:02d}" for k in range(len(positions_m))), positions_m)
    picks = Picks(heard.sensor, heard.toa_s, np.full(len(heard.toa_s), sigma_s), level_db)
    return find_shots(picks, array, air, Locating(**{"path_sigma_s": 0.001} | locating))


def site_of(positions_m, **changes) -> SiteConfig:
    """Describe a site with these sensors in calm, well-known air."""
    sensors = tuple(
        Sensor(sensor_id=f"s{k:02d}", x_m=float(x), y_m=float(y), z_m=float(z), position_sigma_m=0.01)
        for k, (x, y, z) in enumerate(positions_m)
    )
    settings = {
        "locating": Locating(path_sigma_s=0.001, max_range_m=1500.0),
        # A sound speed of 340.0 m/s.
        "weather": Weather(temperature_c=14.2, humidity_percent=50.0, temperature_sigma_c=1.0, wind_sigma_m_s=0.5),
    }
    return SiteConfig(name="Ground", sensor=sensors, **settings | changes)


def detections(heard, sigma_s=0.001) -> list[Detection]:
    """Say picks as nodes do; the sequence number is the index of the pick."""
    return [
        Detection(
            sensor_id=f"s{k:02d}", boot_id="b", seq=number, toa_ns=UtcNs(START_NS + round(toa_s * NS_PER_S)),
            toa_sigma_s=sigma_s, llr={"gunshot": 3.0}, clock=CLOCK,
        )
        for number, (k, toa_s) in enumerate(zip(heard.sensor.tolist(), heard.toa_s.tolist(), strict=True))
    ]  # fmt: skip
