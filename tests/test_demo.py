"""`make demo`: the whole chain, live."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from firmware_sim.scene import DEMO_SCENE, load_scene, shots

LONGEST_S = 240.0  # two slow cores, everything compiled from cold; it takes about half a minute


def start_demo(out: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "agls", "demo", "--headless", "--out", str(out), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def processes() -> dict[int, tuple[int, str]]:
    """Find all living processes: parent and command line of each."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(folder.name)] = (int(parent), (folder / "cmdline").read_text())
        except OSError:
            continue
    return found


def descendants(ancestor: int) -> dict[int, str]:
    """Find the processes below one, and their command lines."""
    known = processes()
    below = {ancestor}
    while more := {number for number, (parent, _) in known.items() if parent in below} - below:
        below |= more
    return {number: known[number][1] for number in below - {ancestor}}


@pytest.fixture(scope="module")
def demo_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the demo once for the tests that look at what it leaves."""
    out = tmp_path_factory.mktemp("demo") / "out"
    demo = start_demo(out, "--duration", "21")
    said, _ = demo.communicate(timeout=LONGEST_S)
    assert demo.returncode == 0, said
    (out / "said.txt").write_text(said)
    return out


def test_the_demo_locates_at_least_three_shots_within_ten_metres(demo_out: Path) -> None:
    with (demo_out / "shots.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    places = {shot.position_m for shot in shots(load_scene(DEMO_SCENE))}
    near = [
        row
        for row in rows
        if min(((float(row["x_m"]) - x) ** 2 + (float(row["y_m"]) - y) ** 2) ** 0.5 for x, y, _ in places) <= 10
    ]
    assert len(near) >= 3
    slewed = {json.loads(path.read_text())["incident"] for path in (demo_out / "slew").iterdir()}
    for row in near:
        assert int(row["sensor_count"]) >= 4
        assert list((demo_out / "cad").glob(f"{row['incident']}.*.json"))
        assert row["incident"] in slewed


def test_the_demo_tells_how_long_dispatch_waited(demo_out: Path) -> None:
    said = (demo_out / "said.txt").read_text()
    assert "from the last needed detection to the CAD document: number " in said
    assert "median " in said
    assert "within 10 m of the truth" in said


def test_the_incidents_are_on_the_map(demo_out: Path) -> None:
    features = json.loads((demo_out / "incidents.geojson").read_text())["features"]
    assert features
    for feature in features:
        longitude_deg, latitude_deg = feature["geometry"]["coordinates"][:2]
        assert abs(longitude_deg + 79.996) < 0.02
        assert abs(latitude_deg - 40.441) < 0.02


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_demo_that_is_stopped_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    demo = start_demo(tmp_path / "out", "--duration", "600")
    assert demo.stdout is not None
    said = next((line for line in demo.stdout if "listening with" in line), "")
    assert "listening with 12 nodes" in said
    below = descendants(demo.pid)
    assert len(below) >= 2  # the broker, and at least one process of nodes
    os.kill(demo.pid, number)
    demo.communicate(timeout=LONGEST_S)
    deadline_s = time.monotonic() + 30
    while (
        left := below.items() & {(n, line) for n, (_, line) in processes().items()}
    ) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert not left
