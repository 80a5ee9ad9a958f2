"""Matching of located shots with the truth, and what is told of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.messages import NS_PER_S, Ellipse
from agls.replay.score import ellipse_distance, score_recording, share, summarise
from agls.replay.truth import TrueShot, read_truth
from tests.replay.builders import START_NS, shot, write_csv, write_pittsburgh, write_truth


def true(x_m=0.0, y_m=0.0, at_s=None, within_s=0.2):
    if at_s is None:
        return TrueShot("r", x_m, y_m, 0.0)
    middle = START_NS + round(at_s * NS_PER_S)
    return TrueShot("r", x_m, y_m, 0.0, middle - round(within_s * NS_PER_S), middle + round(within_s * NS_PER_S))


def test_a_shot_counts_once_however_often_it_was_located():
    score = score_recording("r", [true()], [shot("a", 3, 4), shot("b", 6, 8)])
    assert score.located_count == 1
    assert score.matches[0].error_m == 5.0
    assert (len(score.doubles), len(score.ghosts)) == (1, 0)


def test_shots_of_one_place_are_told_apart_by_time():
    truth = [true(at_s=1.0), true(at_s=1.5), true(at_s=2.0)]
    score = score_recording("r", truth, [shot("late", 9, 0, 2.05), shot("early", 1, 0, 1.0), shot("twin", 2, 0, 1.01)])
    assert [match.shot and match.shot.shot_id for match in score.matches] == ["early", None, "late"]
    assert [one.shot_id for one in score.doubles] == ["twin"]


def test_a_shot_far_from_all_truth_is_a_ghost():
    score = score_recording("r", [true(at_s=1.0)], [shot("far", 51, 0, 1.0)])
    assert (score.located_count, len(score.doubles), len(score.ghosts)) == (0, 0, 1)
    assert summarise([score])["total"]["ghosts_called_gunfire_count"] == 1


def test_shots_where_none_was_fired_are_ghosts():
    assert len(score_recording("r", [], [shot("a"), shot("b")]).ghosts) == 2


def test_a_recording_without_shots_misses_all():
    assert score_recording("r", [true(), true()], []).located_count == 0


def test_more_matches_go_before_shorter_ones():
    truth = [true(0, 0, 1.0), true(0, 0, 1.3)]
    located = [shot("between", 0, 0, 1.15), shot("first", 30, 0, 0.9)]
    assert score_recording("r", truth, located).located_count == 2


@given(st.permutations([shot("a", 3, 4), shot("b", 6, 8), shot("c", 200, 0), shot("d", 0, 1, 0.5)]))
def test_the_order_of_shots_changes_nothing(shots):
    truth = [true(), true(at_s=0.5), true(5, 5)]
    plain = score_recording("r", truth, sorted(shots, key=lambda one: one.shot_id))
    assert score_recording("r", truth, shots) == plain


def test_missed_shots_count_as_outside_every_radius():
    total = summarise([score_recording("r", [true(), true(), true()], [shot("a", 0, 7), shot("b", 20, 0)])])["total"]
    assert {radius: found["count"] for radius, found in total["within"].items()} == {
        "5 m": 0, "10 m": 1, "15 m": 1, "25 m": 2,
    }  # fmt: skip
    assert all(found["of"] == 3 for found in total["within"].values())
    assert total["rounds_exact"]["count"] == 0
    assert total["error_median_m"] == 13.5


def test_scatter_is_about_the_mean_of_each_recording():
    scores = [
        score_recording(name, [true(), true()], [shot("a", east - 1, 3), shot("b", east + 1, 3)])
        for name, east in (("one", 0), ("two", 10))
    ]
    scatter = summarise(scores)["total"]["scatter"]
    assert scatter["x_sigma_m"] == pytest.approx(2**0.5, abs=1e-3)
    assert scatter["y_sigma_m"] == 0


def test_an_ellipse_is_longest_along_its_azimuth():
    ellipse = Ellipse(major_m=10, minor_m=2, azimuth_deg=90)
    assert ellipse_distance(ellipse, 10, 0) == pytest.approx(1)
    assert ellipse_distance(ellipse, 0, 2) == pytest.approx(1)
    assert ellipse_distance(Ellipse(major_m=10, minor_m=2, azimuth_deg=45), 7.07, 7.07) == pytest.approx(1, abs=1e-3)


def test_wilson_interval_agrees_with_published_values():
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81/263 and 0/20.
    found = share(81, 263)
    assert (found["low"], found["high"]) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert share(0, 20)["high"] == pytest.approx(0.1611, abs=1e-4)
    assert share(0, 0)["share"] is None


@given(st.integers(0, 200), st.integers(1, 200))
def test_an_interval_holds_its_share(count, of):
    found = share(min(count, of), of)
    assert 0 <= found["low"] <= found["share"] <= found["high"] <= 1


def test_truth_csv_gives_one_true_shot_for_each_round(tmp_path):
    write_csv(
        tmp_path / "truth.csv",
        "firearm,recording,time_utc,x_m,y_m,z_m,rounds",
        "9 mm,r,2023-11-14T22:13:20Z,1,2,3,3",
        "9 mm,r,2023-11-14T22:13:20Z,1,2,nan,1",
    )
    shots, refused = read_truth(tmp_path, "agls")
    assert [(one.x_m, one.y_m) for one in shots] == [(1, 2)] * 3
    assert "truth.csv line 3, column z_m" in refused[0]


def test_a_dataset_without_truth_has_none(tmp_path):
    assert read_truth(tmp_path, "agls") == ([], [])
    assert read_truth(tmp_path, "pittsburgh") == ([], [])


def test_vendor_tuples_tell_when_a_surveyed_shot_was_fired(tmp_path):
    write_pittsburgh(tmp_path)
    (found,), refused = read_truth(tmp_path, "pittsburgh")
    assert refused == []
    assert (found.recording, found.x_m) == ("FP1/test_001", 170.0)
    assert found.earliest_ns < START_NS < found.latest_ns
    next(tmp_path.rglob("*.nlos-tuples.json")).unlink()
    assert read_truth(tmp_path, "pittsburgh")[0] == [TrueShot("FP1/test_001", 170.0, 220.0, 2.0)]


def test_the_release_has_108_shots_each_with_its_time(shared):
    shots, refused = read_truth(shared / "data" / "shotspotter-pittsburgh", "pittsburgh")
    assert refused == []
    assert len(shots) == 108
    assert all(one.earliest_ns is not None for one in shots)


def test_truth_of_the_agls_layout_carries_times(tmp_path):
    write_truth(tmp_path)
    shots, _ = read_truth(tmp_path, "agls")
    assert len(shots) == 4
    assert shots[0].earliest_ns < START_NS + NS_PER_S < shots[0].latest_ns
