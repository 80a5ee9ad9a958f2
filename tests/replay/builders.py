"""Small datasets and shots for the tests of replay."""

import json
from pathlib import Path

import numpy as np
import soundfile

from agls.messages import NS_PER_S, Arrival, Ellipse, Shot, UtcNs, format_utc

START_NS = 1_700_000_000 * NS_PER_S
SPEED_M_S = 340.0
SENSORS = {
    "a": (0.0, 0.0, 5.0), "b": (400.0, 10.0, 6.0), "c": (390.0, 410.0, 4.0),
    "d": (5.0, 380.0, 7.0), "e": (200.0, 480.0, 5.0), "f": (210.0, -90.0, 6.0),
}  # fmt: skip
SOURCE = (170.0, 220.0, 2.0)


def write_csv(path: Path, *lines: str) -> None:
    """Write lines as a CSV file."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def arrivals_s(source: tuple[float, float, float] = SOURCE) -> dict[str, float]:
    """Say how long sound travels to each sensor at 340 m/s."""
    return {name: float(np.linalg.norm(np.subtract(spot, source))) / SPEED_M_S for name, spot in SENSORS.items()}


def write_sensors(folder: Path) -> None:
    """Write a sensors.csv of six sensors around a block."""
    rows = [f"{name},{x},{y},{z},0.1" for name, (x, y, z) in SENSORS.items()]
    write_csv(folder / "sensors.csv", "sensor_id,x_m,y_m,z_m,position_sigma_m", *rows)


def write_detections(folder: Path, recordings: tuple[str, ...] = ("one", "two")) -> None:
    """Write a dataset of finished detections: in each recording two shots, two seconds apart."""
    write_sensors(folder)
    rows = [
        f"{recording},{name},{format_utc(START_NS + round((later + travel) * NS_PER_S))},0.001,0.9,90,20"
        for recording in recordings
        for later in (1.0, 3.0)
        for name, travel in arrivals_s().items()
    ]
    write_csv(
        folder / "detections.csv", "recording,sensor_id,toa_utc,toa_sigma_s,p_gunshot,level_db,snr_db", *rows
    )  # fmt: skip
    weather = [f"{recording},14.6,0,0" for recording in recordings]
    write_csv(folder / "weather.csv", "recording,temperature_c,wind_speed_m_s,wind_from_deg", *weather)


def write_truth(folder: Path, recordings: tuple[str, ...] = ("one", "two")) -> None:
    """Write the truth of `write_detections`."""
    x, y, z = SOURCE
    rows = [
        f"{recording},{format_utc(START_NS + round(later * NS_PER_S))},{x},{y},{z},1,pistol"
        for recording in recordings
        for later in (1.0, 3.0)
    ]
    write_csv(folder / "truth.csv", "recording,time_utc,x_m,y_m,z_m,rounds,firearm", *rows)


def write_audio(folder: Path, rate_hz: int = 24_000) -> None:
    """Write a dataset of audio: recordings "one" and "two", each with one bang heard by six sensors."""
    write_sensors(folder)
    rows = []
    rng = np.random.default_rng(7)
    for recording in ("one", "two"):
        for name, travel in arrivals_s().items():
            file = f"{recording}_{name}.wav"
            soundfile.write(folder / file, _bang(rng, 1.0 + travel, rate_hz), rate_hz, subtype="PCM_16")
            rows.append(f"{recording},{name},{file},{format_utc(START_NS)}")
    write_csv(folder / "recordings.csv", "recording,sensor_id,file,start_utc", *rows)


def _bang(rng: np.random.Generator, at_s: float, rate_hz: int) -> np.ndarray:
    """Make 4 s of faint noise with one Friedlander pulse."""
    time_s = np.arange(4 * rate_hz) / rate_hz - at_s
    pulse = np.where(time_s >= 0, (1 - time_s / 3e-3) * np.exp(-np.maximum(time_s, 0) / 3e-3), 0.0)
    return 0.5 * pulse + rng.normal(0, 5e-4, len(time_s))


def write_pittsburgh(root: Path, tests: tuple[str, ...] = ("test_001",)) -> None:
    """Write a release in ShotSpotter's layout, with survey and tuples."""
    for number, test in enumerate(tests):
        folder = root / "FP1" / test
        folder.mkdir(parents=True)
        pulses, start_ns = [], START_NS + number * 60 * NS_PER_S
        for name, travel in arrivals_s().items():
            toa_ns = start_ns + round(round(travel, 3) * NS_PER_S)
            pulses.append(
                {
                    "pulse_uuid": f"{test}-{name}",
                    "serial_number": name,
                    "location": _xyz(SENSORS[name]),
                    "arrival_time_utc": format_utc(toa_ns)[:23] + "Z",
                    "location_error": 0.03,
                    "signal_to_noise_dB": 12.0,
                    "power_dB_SPL": 90.0,
                }
            )
        _put(folder / f"{test}.allpulses.json", pulses)
        _put(folder / f"{test}.weather.json", {"fluid": "air", "temperature": 14.6, "speed": 0.0, "direction": 0.0})
        _put(folder / f"{test}.survey.json", {"num_rounds": 1, "survey_location": _xyz(SOURCE)})
        _put(
            folder / f"{test}.nlos-tuples.json",
            [{"shot_index": 0, "pulse_uuids": [pulse["pulse_uuid"] for pulse in pulses] + ["not-there"]}],
        )


def _xyz(spot: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip("xyz", spot, strict=True))


def _put(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def shot(name: str = "s1", x_m: float = 0.0, y_m: float = 0.0, origin_s: float = 0.0) -> Shot:
    """Make a located shot by hand: one arrival used, one refused as an echo."""
    toa_ns = UtcNs(START_NS)
    used = Arrival(sensor_id="a", boot_id="r", seq=0, toa_ns=toa_ns, residual_s=0.0021, used=True)
    echo = Arrival(sensor_id="b", boot_id="r", seq=3, toa_ns=toa_ns, residual_s=0.09, used=False, reason="echo")
    return Shot(
        shot_id=name,
        origin_ns=UtcNs(START_NS + round(origin_s * NS_PER_S)),
        origin_sigma_s=0.005,
        x_m=x_m,
        y_m=y_m,
        z_m=0.0,
        ellipse=Ellipse(major_m=8.0, minor_m=4.0, azimuth_deg=90.0),
        p_gunshot=0.9,
        sensor_count=5,
        arrivals=(used, echo),
    )
