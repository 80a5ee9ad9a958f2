import json
import threading

import msgspec
import pytest

from agls.console.board import LIMITS_COUNT, Board
from agls.messages import Arrival, Ellipse, Incident, Rejection, Shot, UtcNs

ROUND = Ellipse(major_m=9.0, minor_m=4.0, azimuth_deg=12.0)


def shot(number: int, **otherwise) -> Shot:
    usual = Shot(
        shot_id=f"s{number}", origin_ns=UtcNs(number), origin_sigma_s=0.001, x_m=1.0, y_m=2.0, z_m=0.0,
        ellipse=ROUND, p_gunshot=0.9, sensor_count=8,
    )  # fmt: skip
    return msgspec.structs.replace(usual, **otherwise)


def incident(name: str, revision: int, **otherwise) -> Incident:
    usual = Incident(
        incident=name, revision=revision, state="probable", first_shot_ns=UtcNs(0), last_shot_ns=UtcNs(0),
        round_count=1, x_m=1.0, y_m=2.0, z_m=0.0, ellipse=ROUND, p_gunshot=0.9, sensor_count=8, shot_ids=("s1",),
    )  # fmt: skip
    return msgspec.structs.replace(usual, **otherwise)


def records(board: Board, cursor: str = "") -> list[dict]:
    return [json.loads(record) for record in board.changes(cursor).records]


def test_a_page_hears_everything_first_and_then_only_changes() -> None:
    board = Board()
    board.on_outbound(shot(1))
    board.on_outbound(incident("i1", 0))
    first = board.changes("")
    assert first.whole
    assert [record["type"] for record in records(board)] == ["shot", "incident"]
    board.on_outbound(incident("i1", 1, round_count=2))
    then = board.changes(first.cursor)
    assert not then.whole
    assert [json.loads(record)["round_count"] for record in then.records] == [2]
    assert board.changes(then.cursor).records == ()


@pytest.mark.parametrize("cursor", ["nonsense", "-", "abc-7", "\u0664-\u0664", "x" * 5000, "-" + "9" * 5000])
def test_a_cursor_of_another_run_or_of_nobody_gets_everything(cursor: str) -> None:
    board = Board()
    board.on_outbound(shot(1))
    assert board.changes(cursor).whole
    assert board.changes(board.changes("").cursor.partition("-")[0] + cursor).whole


def test_a_revision_that_comes_late_does_not_undo_a_newer_one() -> None:
    board = Board()
    board.on_outbound(incident("i1", 2, state="withdrawn"))
    board.on_outbound(incident("i1", 1))
    assert [record["state"] for record in records(board)] == ["withdrawn"]


def test_the_page_is_not_told_which_sensors_heard_a_shot() -> None:
    board = Board()
    heard = Arrival(sensor_id="pole-1", boot_id="b", seq=1, toa_ns=UtcNs(5), residual_s=0.0, used=True)
    board.on_outbound(shot(1, arrivals=(heard,)))
    assert records(board)[0]["arrivals"] == []


def test_memory_is_bounded_and_the_newest_stay() -> None:
    board = Board()
    for number in range(LIMITS_COUNT[Shot] + 10):
        board.on_outbound(shot(number))
    kept = [record["shot_id"] for record in records(board)]
    assert len(kept) == LIMITS_COUNT[Shot]
    assert (kept[0], kept[-1]) == ("s10", f"s{LIMITS_COUNT[Shot] + 9}")


def test_refusals_are_left_to_the_counters() -> None:
    board = Board()
    board.on_outbound(Rejection(stage="solve", reason="no_fit", subject="s1"))
    assert records(board) == []


def test_watchers_are_woken_by_news_until_they_go() -> None:
    board, woken = Board(), []
    with board.watched(lambda: woken.append("a")):
        board.on_outbound(shot(1))
        board.set_feed(live=False)
        board.set_feed(live=False)
    board.on_outbound(shot(2))
    assert woken == ["a", "a"]
    assert board.changes("").feed == "lost"


def test_many_threads_may_feed_and_read_at_once() -> None:
    board = Board()
    seen: set[str] = set()

    def feed(start: int) -> None:
        for number in range(start, start + 100):
            board.on_outbound(shot(number))

    threads = [threading.Thread(target=feed, args=(start,)) for start in (0, 100, 200)]
    for thread in threads:
        thread.start()
    cursor = ""
    while any(thread.is_alive() for thread in threads) or board.changes(cursor).records:
        changes = board.changes(cursor)
        cursor = changes.cursor
        seen |= {json.loads(record)["shot_id"] for record in changes.records}
    assert seen == {f"s{number}" for number in range(300)}
