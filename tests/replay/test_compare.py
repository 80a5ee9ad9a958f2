"""What changed between two replays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.errors import InputError
from agls.replay.compare import Row, compare, read_shots
from tests.replay.builders import write_csv

SECOND = 1_000_000_000


def row(recording="r", at_s=0.0, x_m=0.0, name="s"):
    return Row(recording, name, f"{at_s} s", round(at_s * SECOND), x_m, 0.0)


def test_gained_lost_and_moved_shots_are_listed():
    old = [row(at_s=1), row(at_s=5), row(at_s=9, x_m=3)]
    new = [row(at_s=1.01, x_m=0.5), row(at_s=9.02, x_m=5.5), row(at_s=20)]
    changes = compare(old, new)
    assert [one.origin_time for one in changes.gained] == ["20 s"]
    assert [one.origin_time for one in changes.lost] == ["5 s"]
    assert [by_m for *_, by_m in changes.moved] == [2.5]
    assert changes.same_count == 1
    text = "\n".join(changes.lines())
    assert "1 gained, 1 lost, 1 moved" in text
    assert "by 2.5 m" in text


def test_shots_of_other_recordings_are_never_the_same():
    assert len(compare([row("one")], [row("two")]).lost) == 1


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(-300, 300)), max_size=8))
def test_nothing_has_changed_against_itself(spots):
    rows = [row(at_s=at_s, x_m=x_m, name=str(number)) for number, (at_s, x_m) in enumerate(spots)]
    changes = compare(rows, rows)
    assert (changes.gained, changes.lost, changes.moved) == ((), (), ())


def test_a_folder_without_shots_is_refused(tmp_path):
    with pytest.raises(InputError, match="--against"):
        read_shots(tmp_path)


def test_a_live_hubs_shots_have_no_recording(tmp_path):
    write_csv(
        tmp_path / "shots.csv", "recording,shot,origin_time,x_m,y_m", ",s1,2023-11-14T22:13:20.000000000Z,1.5,2.5"
    )  # fmt: skip
    assert read_shots(tmp_path)[0].x_m == 1.5
