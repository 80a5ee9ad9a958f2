"""A replay as a whole: what is written, in which order the truth is opened, and what bad input gets."""

import csv
import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from agls.cli import main
from agls.errors import InputError
from agls.messages import NS_PER_S, parse_utc
from agls.replay import replay, replay_journal, run
from agls.replay.dataset import Dataset
from tests.replay.builders import (
    SOURCE,
    START_NS,
    arrivals_s,
    write_audio,
    write_csv,
    write_detections,
    write_pittsburgh,
    write_truth,
)

FILES = ("detections.jsonl", "shots.csv", "incidents.geojson", "report.html", "rejections.json")
TRUTH = ("truth.csv", "survey.json", "nlos-tuples.json")


def shots(out):
    with (out / "shots.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def bytes_of(out):
    return {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def detections_out(tmp_path_factory):
    folder, out = tmp_path_factory.mktemp("dataset"), tmp_path_factory.mktemp("out")
    write_detections(folder)
    write_truth(folder)
    return folder, out, replay(folder, out)


def test_shots_are_located_where_and_when_they_were_fired(detections_out):
    _, out, summary = detections_out
    found = shots(out)
    assert [row["recording"] for row in found] == ["one", "one", "two", "two"]
    for row, at_s in zip(found, (1, 3, 1, 3), strict=True):
        assert np.hypot(float(row["x_m"]) - SOURCE[0], float(row["y_m"]) - SOURCE[1]) < 2.0
        assert abs(parse_utc(row["origin_time"]) - START_NS - at_s * NS_PER_S) < 0.01 * NS_PER_S
    assert summary.shots_count == 4
    assert summary.refused == []


def test_every_file_is_written_and_the_score_agrees(detections_out):
    _, out, summary = detections_out
    assert all((out / name).is_file() for name in FILES)
    score = json.loads((out / "score.json").read_text())
    assert score == summary.score
    assert score["total"]["within"]["5 m"]["count"] == score["total"]["true_shots_count"] == 4
    assert score["recordings"].keys() == {"one", "two"}
    assert "Of 4 true shots 4 located" in str(summary)


def test_every_detection_is_written_with_its_recording(detections_out):
    _, out, _ = detections_out
    lines = [json.loads(line) for line in (out / "detections.jsonl").read_text().splitlines()]
    assert len(lines) == 24
    assert {line["recording"] for line in lines} == {"one", "two"}
    assert all(line["type"] == "detection" for line in lines)


def test_the_report_needs_no_other_file(detections_out):
    _, out, _ = detections_out
    page = (out / "report.html").read_text()
    assert "<svg" in page
    assert "one" in page
    assert not any(word in page for word in ("http://", "https://", "<script", "<link", "url("))


def test_two_runs_give_the_same_bytes(detections_out, tmp_path):
    folder, out, _ = detections_out
    replay(folder, tmp_path)
    assert bytes_of(tmp_path) == bytes_of(out)


def test_the_truth_changes_nothing_but_the_score(detections_out, tmp_path):
    folder, out, _ = detections_out
    blind = tmp_path / "blind"
    shutil.copytree(folder, blind)
    (blind / "truth.csv").unlink()
    replay(blind, tmp_path / "out")
    assert not (tmp_path / "out" / "score.json").exists()
    for name in FILES:
        if name != "report.html":
            assert (tmp_path / "out" / name).read_bytes() == (out / name).read_bytes()


def test_a_truth_without_shots_makes_every_sound_that_is_called_gunfire_a_false_alarm(detections_out, tmp_path):
    folder, _, told = detections_out
    quiet = tmp_path / "quiet"
    shutil.copytree(folder, quiet)
    write_csv(quiet / "truth.csv", "recording,time_utc,x_m,y_m,z_m,rounds,firearm")
    summary = replay(quiet, tmp_path / "out")
    total = json.loads((tmp_path / "out" / "score.json").read_text())["total"]
    assert (total["true_shots_count"], total["ghosts_count"]) == (0, told.shots_count)
    assert total["rounds_exact"]["of"] == 0
    assert f"Nothing was fired: of {told.shots_count} sounds located, " in str(summary)


@pytest.mark.parametrize("layout", ["agls", "pittsburgh"])
def test_the_truth_is_opened_only_after_everything_is_located_and_written(layout, tmp_path):
    folder, out = tmp_path / "dataset", tmp_path / "out"
    folder.mkdir()
    if layout == "agls":
        write_detections(folder)
        write_truth(folder)
    else:
        write_pittsburgh(folder, ("test_001", "test_002"))
    # A process of its own, because an audit hook cannot be taken off again.
    script = (
        "import sys\nfrom pathlib import Path\nopened = []\n"
        "sys.addaudithook(lambda kind, args: opened.append(str(args[0])) if kind == 'open' else None)\n"
        "from agls.replay import replay\n"
        f"replay(Path({str(folder)!r}), Path({str(out)!r}))\n"
        "print('\\n'.join(opened))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    opened = done.stdout.splitlines()
    truth = [place for place, name in enumerate(opened) if name.endswith(TRUTH)]
    written = [place for place, name in enumerate(opened) if name.endswith("shots.csv.part")]
    assert truth
    assert written
    assert min(truth) > max(written)


def test_audio_goes_through_nodes(tmp_path):
    write_audio(tmp_path)
    summary = replay(tmp_path, tmp_path / "out")
    assert summary.source == "audio"
    found = {row["recording"]: row for row in shots(tmp_path / "out")}
    assert found.keys() == {"one", "two"}
    for row in found.values():
        assert np.hypot(float(row["x_m"]) - SOURCE[0], float(row["y_m"]) - SOURCE[1]) < 3.0


def truncate(path):
    path.write_bytes(path.read_bytes()[:5000])


def empty(path):
    path.write_bytes(b"")


def slow(path):
    soundfile.write(path, np.zeros(4000), 4000)


def not_finite(path):
    soundfile.write(path, np.full(24_000, np.nan), 24_000, subtype="FLOAT")


@pytest.mark.parametrize(
    ("spoil", "word"),
    [(truncate, "truncated"), (empty, "empty"), (slow, "4000"), (not_finite, "not a finite number")],
)
def test_a_spoilt_file_refuses_its_recording_and_the_others_are_done(tmp_path, spoil, word):
    write_audio(tmp_path)
    spoil(tmp_path / "one_c.wav")
    summary = replay(tmp_path, tmp_path / "out")
    assert {row["recording"] for row in shots(tmp_path / "out")} == {"two"}
    (sentence,) = summary.refused
    assert "one_c.wav" in sentence
    assert word in sentence
    assert sentence in (tmp_path / "out" / "report.html").read_text().replace("&#39;", "'")


def test_truth_that_cannot_be_read_is_refused_and_the_shots_are_kept(tmp_path):
    write_detections(tmp_path)
    write_truth(tmp_path)
    path = tmp_path / "truth.csv"
    path.write_text(path.read_text().replace("z_m", "up"))
    summary = replay(tmp_path, tmp_path / "out")
    assert "column z_m is missing" in summary.refused[0]
    assert len(shots(tmp_path / "out")) == 4


def test_changes_against_an_earlier_replay_are_told_and_reported(detections_out, tmp_path):
    folder, out, _ = detections_out
    old = tmp_path / "old"
    old.mkdir()
    lines = (out / "shots.csv").read_text().splitlines()
    cells = lines[1].split(",")
    cells[4] = str(float(cells[4]) + 2.5)
    (old / "shots.csv").write_text("\n".join([lines[0], ",".join(cells), *lines[3:]]) + "\n")
    summary = replay(folder, tmp_path / "out", against=old)
    text = str(summary)
    assert "1 gained, 0 lost, 1 moved by more than 1 m, 2 as before" in text
    assert "by 2.5 m" in text
    assert "by 2.5 m" in (tmp_path / "out" / "report.html").read_text()


def test_against_nothing_is_refused_before_anything_is_written(detections_out, tmp_path):
    folder, _, _ = detections_out
    with pytest.raises(InputError, match="--against"):
        replay(folder, tmp_path / "out", against=tmp_path)
    assert not (tmp_path / "out").exists()


def test_at_the_pace_of_the_wall_clock_the_result_is_the_same(detections_out, tmp_path, monkeypatch):
    folder, out, _ = detections_out
    slept_s = []
    monkeypatch.setattr(run.time, "sleep", slept_s.append)
    monkeypatch.setattr(run.time, "monotonic_ns", lambda: round(sum(slept_s) * NS_PER_S))
    replay(folder, tmp_path, realtime=True)
    travel_s = arrivals_s().values()
    # Two recordings, each of two shots two seconds apart, from the first arrival to the last.
    assert sum(slept_s) == pytest.approx(2 * (2 + max(travel_s) - min(travel_s)), abs=1e-3)
    assert (tmp_path / "shots.csv").read_bytes() == (out / "shots.csv").read_bytes()


def test_a_recording_in_which_nothing_was_heard_is_done(tmp_path):
    write_audio(tmp_path)
    for path in tmp_path.glob("one_*.wav"):
        soundfile.write(path, np.zeros(24_000), 24_000, subtype="PCM_16")
    summary = replay(tmp_path, tmp_path / "out")
    assert (summary.recordings_count, summary.shots_count, summary.refused) == (2, 1, [])


def test_an_empty_dataset_still_leaves_a_report(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "read_dataset", lambda folder, _: Dataset(folder, "agls", (), ("all refused",)))
    summary = replay(tmp_path, tmp_path / "out")
    assert summary.refused == ["all refused"]
    assert "all refused" in (tmp_path / "out" / "report.html").read_text()


def test_the_command_says_what_it_refused_and_ends_with_2(tmp_path, capsys):
    write_audio(tmp_path)
    truncate(tmp_path / "one_c.wav")
    assert main(["replay", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert "1 shots; 1 refused" in told.out
    assert "one_c.wav" in told.err
    assert len(told.err.splitlines()) == 1


def test_the_command_ends_with_0_where_all_is_well(detections_out, tmp_path, capsys):
    folder, _, _ = detections_out
    assert main(["replay", str(folder), "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""


def test_a_file_that_is_no_journal_is_refused_and_costs_nothing(tmp_path):
    kept = tmp_path / "out" / "cad" / "I1.0.json"
    kept.parent.mkdir(parents=True)
    kept.write_text('{\n  "type": "cad_event",')
    (tmp_path / "journal.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="journal"):
        replay_journal(tmp_path / "journal.jsonl", tmp_path / "out")
    assert kept.exists()


def test_real_gunfire_is_located_from_the_vendors_pulses(shared, tmp_path):
    root = tmp_path / "somewhere"
    for name in ("test_001", "test_112", "test_075"):
        found = next((shared / "data" / "shotspotter-pittsburgh").rglob(name))
        shutil.copytree(found, root / found.parent.name / name, copy_function=shutil.copyfile)
    summary = replay(root, tmp_path / "out", source="detections")
    total = summary.score["total"]
    assert summary.refused == []
    assert total["true_shots_count"] == 7
    assert total["within"]["25 m"]["count"] >= 6
    assert {row["recording"] for row in shots(tmp_path / "out")} == {"FP1/test_001", "FP6/test_112", "FP8/test_075"}


def test_real_audio_is_heard_to_the_end(shared, tmp_path):
    found = next((shared / "data" / "shotspotter-pittsburgh").rglob("test_001"))
    shutil.copytree(found, tmp_path / "FP1" / "test_001", copy_function=shutil.copyfile)
    summary = replay(tmp_path, tmp_path / "out")
    assert (summary.source, summary.recordings_count, summary.refused) == ("audio", 1, [])
    assert summary.detections_count > 6


def test_time_of_day_changes_nothing(detections_out, tmp_path, monkeypatch):
    folder, out, _ = detections_out
    later_ns = time.time_ns() + 40 * 86_400 * NS_PER_S
    monkeypatch.setattr(time, "time_ns", lambda: later_ns)
    replay(folder, tmp_path)
    assert (tmp_path / "shots.csv").read_bytes() == (out / "shots.csv").read_bytes()
