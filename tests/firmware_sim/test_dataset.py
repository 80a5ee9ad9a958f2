"""`agls simulate`: the dataset it writes."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agls.errors import InputError
from agls.messages import parse_utc
from firmware_sim import dataset
from firmware_sim.dataset import simulate

SCENE = """
name = "square"
seed = 3
duration_s = 4.0
[origin]
latitude_deg = 52.5
longitude_deg = 13.4
[air]
temperature_c = 8.0
wind_speed_m_s = 5.0
wind_from_deg = 310.0
[device]
survey_sigma_m = 0.0
clock_sigma_s = 2e-3
[ways]
late_s = 0.0
gust_s = 0.0
[[sensor]]
sensor_id = "ne"
x_m = 200.0
y_m = 220.0
[[sensor]]
sensor_id = "nw"
x_m = -240.0
y_m = 180.0
[[sensor]]
sensor_id = "s"
x_m = 10.0
y_m = -300.0
[[shooter]]
shooter_id = "corner"
x_m = 30.0
y_m = 40.0
start_s = 0.5
rounds_count = 2
cadence_s = 1.25
"""


@pytest.fixture
def scene_path(tmp_path: Path) -> Path:
    path = tmp_path / "scene.toml"
    path.write_text(SCENE)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_same_scene_gives_the_same_bytes(scene_path: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        simulate(scene_path, tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    tables = ["arrivals", "other_truth", "recordings", "sensors", "truth", "weather"]
    assert names == sorted([f"{table}.csv" for table in tables] + ["ne.flac", "nw.flac", "s.flac"])
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_truth_explains_when_a_threshold_hears_each_shot(scene_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    simulate(scene_path, out)
    places = {row["sensor_id"]: place_of(row) for row in rows(out / "sensors.csv")}
    # Oracle: 20.05 sqrt(T), and wind as its first-order share along the way.
    wind = 5.0 * np.array([np.sin(np.radians(130)), np.cos(np.radians(130)), 0.0])
    for recording in rows(out / "recordings.csv"):
        samples, rate_hz = soundfile.read(out / recording["file"])
        start_s = parse_utc(recording["start_utc"]) * 1e-9
        picks_s = [start_s + pick / rate_hz for pick in threshold_picks(samples)]
        for shot in rows(out / "truth.csv"):
            way = places[recording["sensor_id"]] - place_of(shot)
            length_m = float(np.linalg.norm(way))
            arrival_s = parse_utc(shot["time_utc"]) * 1e-9 + length_m / (20.05 * 281.15**0.5 + wind @ way / length_m)
            assert min(abs(pick_s - arrival_s) for pick_s in picks_s) < 8e-3


def place_of(row: dict[str, str]) -> np.ndarray:
    return np.array([float(row[key]) for key in ("x_m", "y_m", "z_m")])


def threshold_picks(samples: np.ndarray) -> list[int]:
    loud = np.flatnonzero(np.abs(samples) > 12 * np.median(np.abs(samples)))
    return [int(index) for number, index in enumerate(loud) if number == 0 or index - loud[number - 1] > 480]


def test_each_round_stands_in_the_truth_by_itself(scene_path: Path, tmp_path: Path) -> None:
    simulate(scene_path, tmp_path / "out")
    truth = rows(tmp_path / "out" / "truth.csv")
    assert [row["time_utc"] for row in truth] == ["2026-01-01T00:00:00.500000000Z", "2026-01-01T00:00:01.750000000Z"]
    assert [(row["recording"], row["rounds"], row["firearm"]) for row in truth] == [("square", "1", "handgun")] * 2


def test_an_interrupted_run_leaves_nothing(scene_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "_record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate(scene_path, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scene.toml"]


def test_a_folder_that_holds_something_is_left_alone(scene_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="already there"):
        simulate(scene_path, out)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_a_bad_scene_makes_no_folder(scene_path: Path, tmp_path: Path) -> None:
    scene_path.write_text(SCENE.replace("rounds_count = 2", "rounds_count = 0"))
    with pytest.raises(InputError, match="rounds_count is 0"):
        simulate(scene_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_shows_on_a_terminal_and_nowhere_else() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        bar = dataset._Progress(2.0, stream)
        bar.add(1.0)
        bar.add(1.0)
        bar.close()
    assert "100%" in terminal.getvalue()
    assert pipe.getvalue() == ""


BANGS = """
[[bang]]
bang_id = "shell"
kind = "firework"
x_m = 0.0
y_m = 0.0
z_m = 60.0
start_s = 2.5
[[bang]]
bang_id = "breaker"
kind = "jackhammer"
x_m = 0.0
y_m = 10.0
start_s = 3.0
count = 3
cadence_s = 0.05
"""


def test_what_is_no_gunfire_stands_in_a_truth_of_its_own(scene_path: Path, tmp_path: Path) -> None:
    scene_path.write_text(SCENE + BANGS)
    simulate(scene_path, tmp_path / "out")
    others = rows(tmp_path / "out" / "other_truth.csv")
    assert [(row["kind"], row["emission_id"]) for row in others] == [
        ("firework", "shell-0"), ("jackhammer", "breaker-0"), ("jackhammer", "breaker-1"), ("jackhammer", "breaker-2"),
    ]  # fmt: skip
    assert len(rows(tmp_path / "out" / "truth.csv")) == 2


def test_every_arrival_is_told_with_its_way_and_its_true_time(scene_path: Path, tmp_path: Path) -> None:
    simulate(scene_path, tmp_path / "out")
    found = rows(tmp_path / "out" / "arrivals.csv")
    assert {row["kind"] for row in found} == {"direct", "bounce", "echo"}
    for sensor_id in ("ne", "nw", "s"):
        first, second = (
            min(
                parse_utc(row["toa_utc"])
                for row in found
                if (row["sensor_id"], row["emission_id"]) == (sensor_id, shot)
            )
            for shot in ("corner-0", "corner-1")
        )
        assert second - first == pytest.approx(1.25e9, abs=2)


def test_a_full_disk_is_told_in_a_sentence_and_leaves_nothing(
    scene_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dataset, "_record", full)
    with pytest.raises(InputError, match=r"out: cannot be written .No space left on device.; give a folder"):
        simulate(scene_path, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["scene.toml"]


def test_neither_a_link_nor_the_folder_one_stands_in_is_replaced(
    scene_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")
    for out in (tmp_path / "link", Path()):
        with pytest.raises(InputError, match="already there"):
            simulate(scene_path, out)


def test_faults_that_no_recording_has_are_named(
    scene_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = "".join(
        f'[[fault]]\nkind = "{kind}"\nstart_s = 1.0\nend_s = 2.0\n' for kind in ("dead", "reboot", "stall")
    )
    scene_path.write_text(SCENE + faults)
    simulate(scene_path, tmp_path / "out")
    assert capsys.readouterr().err == "agls: left out, for only a live node has such faults: reboot, stall\n"
