"""Write a scene as a dataset: what its sensors recorded, what the system would be told, and the truth."""

import csv
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import soundfile

from agls.errors import InputError
from agls.messages import NS_PER_S, format_utc, parse_utc
from firmware_sim.device import Recorder, clock_error_s
from firmware_sim.faults import Dead, Drowned, Stuck, Zeros
from firmware_sim.propagation import ways
from firmware_sim.scene import Ear, Scene, emissions, load_scene, street_noise_db, surveyed, told_weather
from firmware_sim.sources import Emission, Shooter, firearm_of, name_of

CHUNK_S = 4.0
BAR_CELLS = 30
PACE_S = 0.1
HEARD_FAULTS = (Dead, Drowned, Stuck, Zeros)


def simulate(scene_path: Path, out: Path) -> None:
    """Render a scene into a dataset folder, complete or not at all.

    Parameters
    ----------
    scene_path : pathlib.Path
        The scene file.
    out : pathlib.Path
        The folder to make; it must not exist, or be empty.

    Raises
    ------
    InputError
        If the scene is not acceptable, or `out` cannot be made.
    """
    scene = load_scene(scene_path)
    _say_what_is_left_out(scene)
    with _complete_folder(out) as folder:
        _write_tables(scene, folder)
        progress = _Progress(len(scene.sensor) * scene.duration_s, sys.stderr)
        arrivals: list[Sequence[object]] = []
        for ear in scene.sensor:
            arrivals += _arrivals(scene, ear)
            _record(scene, ear, folder / _file_name(ear), progress)
        _write_csv(folder / "arrivals.csv", "recording,sensor_id,emission_id,kind,toa_utc,level_db", arrivals)
        progress.close()


def _say_what_is_left_out(scene: Scene) -> None:
    """Say which faults a recording cannot have: those of cards, clocks and messages meet a live node alone."""
    kinds = {str(fault.__struct_config__.tag) for fault in scene.fault if not isinstance(fault, HEARD_FAULTS)}
    if kinds:
        print(f"agls: left out, for only a live node has such faults: {', '.join(sorted(kinds))}", file=sys.stderr)


@contextmanager
def _complete_folder(out: Path) -> Iterator[Path]:
    """Hand out a temporary folder beside `out`; it becomes `out` at the end, or vanishes if anything fails."""
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()) or out.samefile(Path.cwd()))):
        raise InputError(f"{out}: already there; give a folder that does not exist, or is empty")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise InputError(f"{out}: cannot be made ({error.strerror}); give a folder that can be written") from None
    try:
        yield folder
        folder.chmod(0o755)  # mkdtemp makes it for its owner alone
        folder.replace(out)
    except (OSError, soundfile.LibsndfileError) as error:
        told = error.strerror if isinstance(error, OSError) else error.error_string.rstrip(".")
        raise InputError(f"{out}: cannot be written ({told}); give a folder with enough space") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _file_name(ear: Ear) -> str:
    return f"{ear.sensor_id}.flac"


def _record(scene: Scene, ear: Ear, path: Path, progress: "_Progress") -> None:
    """Write what one sensor hears."""
    rate_hz = scene.device.sample_rate_hz
    frames, chunk = round(scene.duration_s * rate_hz), round(CHUNK_S * rate_hz)
    recorder = Recorder(scene, ear)
    with soundfile.SoundFile(path, "w", rate_hz, 1, subtype="PCM_16", format="FLAC") as file:
        for first in range(0, frames, chunk):
            samples = recorder.samples(first, min(chunk, frames - first))
            file.write(samples)
            progress.add(samples.size / rate_hz)


def _write_tables(scene: Scene, folder: Path) -> None:
    """Write the CSV files of a dataset."""
    start_ns = parse_utc(scene.start_utc)
    weather = told_weather(scene)
    name = scene.name
    sensors = [(place.sensor_id, place.x_m, place.y_m, place.z_m, place.position_sigma_m) for place in surveyed(scene)]
    _write_csv(folder / "sensors.csv", "sensor_id,x_m,y_m,z_m,position_sigma_m", sensors)
    recordings = [
        (name, ear.sensor_id, _file_name(ear), _utc(start_ns, clock_error_s(scene, ear)), scene.device.clock_sigma_s)
        for ear in scene.sensor
    ]
    _write_csv(folder / "recordings.csv", "recording,sensor_id,file,start_utc,clock_sigma_s", recordings)
    air = (name, weather.temperature_c, weather.wind_speed_m_s, weather.wind_from_deg, weather.humidity_percent)
    _write_csv(folder / "weather.csv", "recording,temperature_c,wind_speed_m_s,wind_from_deg,humidity_percent", [air])
    truth, others = [], []
    for made in emissions(scene):
        when_and_where = (name, _utc(start_ns, made.time_s), *(round(value, 3) for value in made.position_m))
        if isinstance(made.maker, Shooter):
            truth.append((*when_and_where, 1, firearm_of(made.maker)))
        else:
            others.append((*when_and_where, made.maker.kind, _emission_id(made)))
    _write_csv(folder / "truth.csv", "recording,time_utc,x_m,y_m,z_m,rounds,firearm", truth)
    _write_csv(folder / "other_truth.csv", "recording,time_utc,x_m,y_m,z_m,kind,emission_id", others)


def _emission_id(made: Emission) -> str:
    return f"{name_of(made.maker)}-{made.number}"


def _arrivals(scene: Scene, ear: Ear) -> Iterator[Sequence[object]]:
    """Tell by which ways each impulse reached a sensor, where it was louder than the noise: true times."""
    start_ns = parse_utc(scene.start_utc)
    for made in emissions(scene):
        for way in ways(scene, ear, made):
            if way.level_db > street_noise_db(scene, ear):
                toa_utc = _utc(start_ns, way.toa_s)
                yield scene.name, ear.sensor_id, _emission_id(made), way.kind, toa_utc, round(way.level_db, 1)


def _utc(start_ns: int, later_s: float) -> str:
    return format_utc(start_ns + round(later_s * NS_PER_S))


def _write_csv(path: Path, header: str, rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split(","))
        writer.writerows(rows)


class _Progress:
    """A bar on a terminal, nothing anywhere else."""

    def __init__(self, total_s: float, stream: IO[str]) -> None:
        self._stream = stream
        self._shown = stream.isatty()
        self._total_s, self._done_s, self._drawn = total_s, 0.0, 0.0

    def add(self, rendered_s: float) -> None:
        """Count what has been rendered."""
        self._done_s += rendered_s
        if self._shown and time.monotonic() - self._drawn > PACE_S:
            self._drawn = time.monotonic()
            self._draw()

    def close(self) -> None:
        """Draw the full bar and leave its line."""
        if self._shown:
            self._draw()
            self._stream.write("\n")

    def _draw(self) -> None:
        share = min(1.0, self._done_s / self._total_s)
        cells = round(share * BAR_CELLS)
        self._stream.write(f"\rrendering [{'#' * cells}{'.' * (BAR_CELLS - cells)}] {share:4.0%}")
        self._stream.flush()
