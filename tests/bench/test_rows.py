"""What the benchmarks say of a figure: intervals, verdicts, and the file they are kept in."""

import json
import math

import numpy as np
import pytest

from agls.replay.score import share
from bench.rows import Ask, Plan, Row, bootstrap, share_row, table, wilson, write


@pytest.mark.parametrize(("count", "of"), [(0, 10), (53, 54), (108, 108), (3, 7)])
def test_wilson_intervals_agree_with_those_of_the_replay(count: int, of: int) -> None:
    told = share(count, of)
    assert wilson(count, of) == pytest.approx((told["low"], told["high"]), abs=1e-4)


def test_a_figure_that_was_not_measured_is_never_ok() -> None:
    assert Row("speed", math.nan, Ask(low=1.0)).verdict == "not run"
    assert not Ask().holds(math.nan)


def test_bounds_are_included() -> None:
    assert [Row("x", value, Ask(0.9, 0.98)).verdict for value in (0.9, 0.98, 0.981)] == ["ok", "ok", "MISSED"]


def test_the_bootstrap_of_a_mean_is_as_wide_as_its_standard_error() -> None:
    values = np.random.default_rng(1).normal(size=400)
    low, high = bootstrap(values, lambda some: float(np.mean(some)))
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)


def test_a_table_tells_what_is_asked_what_was_measured_and_why_not() -> None:
    told = table([share_row("found", 9, 10, Ask(low=0.95)), Row("peer", math.nan, Ask(low=15.0), note="no network")])
    assert "MISSED" in told
    assert "not run" in told
    assert "no network" in told


def test_groups_that_are_not_run_keep_what_the_file_holds(tmp_path) -> None:
    out = tmp_path / "bench.json"
    write(out, "one", [Row("a", 1.0)], Plan(), 2.0)
    write(out, "two", [Row("b", math.inf, detail={"n": np.int64(3)})], Plan(quick=True), 2.0)
    groups = json.loads(out.read_text())["groups"]
    assert groups["one"]["rows"][0]["measured"] == 1.0
    assert groups["two"]["rows"][0]["measured"] is None
    assert [groups[name]["quick"] for name in ("one", "two")] == [False, True]
