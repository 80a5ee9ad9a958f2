"""The bridge beside a hub: neither a store that is away nor what it refuses makes the hub wait, or loses the rest."""

import threading
import time

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from agls.bridge.running import Bridge, latest
from agls.bridge.store.book import Batch
from agls.config import SiteConfig
from agls.messages import Incident, Rejection
from tests import town

NOON_NS = 1_545_220_800_000_000_000


@pytest.fixture
def bridge(tmp_path):
    return Bridge(SiteConfig(name="Town"), tmp_path)


def wait_for(condition) -> None:
    until_s = time.monotonic() + 20
    while not condition() and time.monotonic() < until_s:
        time.sleep(0.01)
    assert condition()


def test_a_store_that_is_away_is_tried_again_and_the_hub_never_waits(bridge, said, incident, monkeypatch) -> None:
    enter, away = bridge.book.enter, threading.Event()

    def try_to_enter(*what):
        if not away.is_set():
            raise sa.exc.OperationalError("insert", {}, Exception("gone"))
        enter(*what)

    monkeypatch.setattr(bridge.book, "enter", try_to_enter)
    with bridge:
        for number in range(5):
            bridge.tell(said(incident(incident=f"I{number}", shot_ids=(f"s{number}",)), float(number)))
        wait_for(lambda: bridge.counts["store_away"] >= 2)
        away.set()
        wait_for(lambda: bridge.counts["entered"] == 5)
        assert [bridge.book.record(f"I{number}").incident for number in range(5)] == [f"I{n}" for n in range(5)]
    assert bridge.counts["not_entered"] == bridge.counts["abandoned"] == 0


def test_what_the_store_refuses_keeps_out_nothing_else(bridge, said, incident) -> None:
    bad = said(incident(incident="I1", latitude_deg="nowhere", shot_ids=("s1",)), 1.0, is_due=False)
    with bridge:
        for batch in (said(incident(incident="I0", shot_ids=("s0",)), 0.0), bad, said(incident(incident="I2"), 2.0)):
            bridge.tell(batch)
        wait_for(lambda: bridge.counts["entered"] == 2)
        assert bridge.book.record("I2").incident == "I2"
    assert bridge.counts["not_entered"] == 1


def test_rejections_are_nothing_to_tell(bridge) -> None:
    no = Rejection(stage="intake", reason="duplicate", subject="x")
    with bridge:
        bridge.tell(Batch((no,), NOON_NS, NOON_NS, {}))
    assert bridge.counts.total() == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=40))
def test_of_what_waits_too_long_the_last_word_on_everything_is_kept_in_order(history) -> None:
    batches = [
        Batch(
            (town.incident(incident=f"I{which}", revision=number), *([town.shot(revision=number)] if shot else [])),
            number, number, {},
        )
        for number, (which, shot) in enumerate(history)
    ]  # fmt: skip
    kept = [item for batch in latest(batches) for item in batch.items]
    said = [item for batch in batches for item in batch.items]
    last = {
        (type(item), getattr(item, "incident", "") if isinstance(item, Incident) else "shot"): item for item in said
    }
    assert kept == [item for item in said if item in last.values()]
