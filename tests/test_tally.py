"""What the demo says about itself."""

import json
from pathlib import Path

from agls.messages import NS_PER_S, format_utc
from agls.sinks import SHOT_COLUMNS
from agls.tally import TrueShot, fired_until, table, tally

START_NS = 1_800_000_000 * NS_PER_S
FIRED = [TrueShot("gate", 3.0, 10.0, 20.0, 1.5), TrueShot("gate", 3.5, 10.0, 20.0, 1.5)]


def write_folder(out: Path, shots: list[tuple[str, str, float, float, float]]) -> None:
    """Write what a hub would for shots of (name, incident, time since the start, x, y)."""
    for folder in ("cad", "slew"):
        (out / folder).mkdir(parents=True)
    lines = [",".join(SHOT_COLUMNS)]
    for name, incident, time_s, x_m, y_m in shots:
        moment = format_utc(START_NS + round(time_s * NS_PER_S))
        lines.append(f",{incident},{name},{moment},{x_m},{y_m},1.5,,,4.0,3.0,45.0,0.97,9")
        (out / "cad" / f"{incident}.1.json").write_text(json.dumps({"incident": incident}))
        (out / "slew" / f"{incident}.cam.json").write_text(json.dumps({"incident": incident}))
    (out / "shots.csv").write_text("\n".join(lines) + "\n")


def test_each_round_is_compared_with_the_shot_of_its_time(tmp_path: Path) -> None:
    write_folder(tmp_path, [("b", "i", 3.51, 13.0, 24.0), ("a", "i", 3.0, 10.0, 21.0)])
    found = tally(tmp_path, FIRED, START_NS, 60.0, [0.2, 0.4, 0.1])
    assert [verdict.distance_m for verdict in found.verdicts] == [1.0, 5.0]
    assert all(verdict.complete for verdict in found.verdicts)
    assert found.worked
    assert "number 3, median 200.0 ms, maximum 400.0 ms" in table(found)


def test_a_shot_nobody_fired_is_told_of_and_proves_nothing(tmp_path: Path) -> None:
    write_folder(tmp_path, [("a", "i", 9.0, 10.0, 21.0)])
    found = tally(tmp_path, FIRED, START_NS, 60.0, [])
    assert [other.shot for other in found.others] == ["a"]
    assert not found.worked
    assert "not located" in table(found)


def test_a_shot_located_elsewhere_does_not_count_as_found(tmp_path: Path) -> None:
    write_folder(tmp_path, [("a", "i", 3.0, 10.0, 31.0), ("b", "i", 3.5, 10.0, 20.0)])
    found = tally(tmp_path, FIRED, START_NS, 60.0, [])
    assert [verdict.complete for verdict in found.verdicts] == [False, True]
    assert not found.worked


def test_shots_of_an_earlier_run_are_left_out(tmp_path: Path) -> None:
    write_folder(tmp_path, [("old", "i", -60.0, 10.0, 20.0)])
    assert tally(tmp_path, FIRED, START_NS, 60.0, []).others == ()


def test_a_scene_that_begins_again_fires_again() -> None:
    fired = fired_until(FIRED, 10.0, 23.2)
    assert [shot.time_s for shot in fired] == [3.0, 3.5, 13.0, 13.5, 23.0]


def test_nothing_fired_means_nothing_shown_to_work(tmp_path: Path) -> None:
    write_folder(tmp_path, [])
    assert not tally(tmp_path, [], START_NS, 60.0, []).worked


def test_a_round_fired_too_near_the_end_is_not_judged(tmp_path: Path) -> None:
    write_folder(tmp_path, [("b", "i", 3.51, 13.0, 24.0)])
    found = tally(tmp_path, FIRED, START_NS, 3.2, [])
    assert [verdict.fired.time_s for verdict in found.verdicts] == [3.0]
    assert found.others == ()
