"""Kill hub, broker, store and dispatch at random moments; the bench does it a thousand times (``bench bridge``)."""

import shutil

import pytest

from bench.bridge import kill_again_and_again
from bench.fleet import SEARCH
from bench.postgres import programs

MOSQUITTO = shutil.which("mosquitto", path=SEARCH)


@pytest.mark.skipif(MOSQUITTO is None, reason="needs mosquitto (Debian package mosquitto)")
def test_after_twenty_kills_no_incident_is_lost_none_is_told_twice_and_the_order_is_kept(tmp_path) -> None:
    toll = kill_again_and_again(tmp_path, MOSQUITTO, 20, seed=7, where=programs(), pause_s=0.3)
    assert toll.kills.total() == 20
    assert toll.incidents_count == 20
    assert (toll.lost, toll.doubled, toll.out_of_order) == ([], [], [])
