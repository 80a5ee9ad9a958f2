"""A simulated card, live: what it hands over comes when it is due, and it can be pulled out like any other."""

import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from agls.config import Microphone
from agls.errors import InputError
from firmware_sim.delivery import Callback
from firmware_sim.live_card import LiveStream, live_card

SCENE = """
name = "live"
duration_s = {duration_s}
[origin]
latitude_deg = 0.0
longitude_deg = 0.0
[card]
sync = "{sync}"
[device]
sample_rate_hz = 8000
[[sensor]]
sensor_id = "pole-1"
x_m = 0.0
y_m = 0.0
{more}
"""
UNPLUGGED = '[[fault]]\nkind = "unplugged"\nstart_s = 0.5\nend_s = 1.0\n'


def microphone(folder: Path, sync: str = "pps_chrony", duration_s: float = 60.0, more: str = "") -> Microphone:
    path = folder / "scene.toml"
    path.write_text(SCENE.format(sync=sync, duration_s=duration_s, more=more))
    return Microphone(device=f"sim:{path}", sample_rate_hz=16_000)


class Hurried:
    """The time module, where sleeping takes none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1_000.0
        monkeypatch.setattr("firmware_sim.live_card.time", self)

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, pause_s: float) -> None:
        self.now_s += pause_s

    @staticmethod
    def time_ns() -> int:
        return time.time_ns()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> Hurried:
    return Hurried(monkeypatch)


def some(stream: LiveStream, number: int) -> list[Callback]:
    return list(itertools.islice(stream, number))


def test_callbacks_come_when_they_are_due_at_the_nodes_own_rate(tmp_path: Path, hurried: Hurried) -> None:
    open_card = live_card(microphone(tmp_path), "pole-1", 401)
    heard = some(open_card(), 80)
    assert {one.frames.shape for one in heard} == {(401, 1)}
    assert hurried.now_s - 1_000.0 == pytest.approx(80 * 401 / 16_000, abs=0.02)
    assert abs(heard[-1].wall_ns - time.time_ns()) < 5e9


def test_a_card_that_is_pulled_out_falls_silent_ends_and_cannot_be_opened_until_it_is_back(
    tmp_path: Path, hurried: Hurried
) -> None:
    open_card = live_card(microphone(tmp_path, more=UNPLUGGED), "pole-1", 401)
    heard = list(open_card())
    assert [len(one.frames) for one in heard[-5:]] == [401, 0, 0, 0, 0]
    hurried.now_s = 1_000.7
    with pytest.raises(OSError, match="no card"):
        open_card()
    hurried.now_s = 1_001.1
    assert len(some(open_card(), 10)) == 10


def test_a_scene_begins_again_when_it_ends(tmp_path: Path, hurried: Hurried) -> None:
    open_card = live_card(microphone(tmp_path, duration_s=1.0), "pole-1", 401)
    heard = some(open_card(), 100)
    assert len(heard) == 100
    assert all(np.ptp(one.frames) > 0 for one in heard)


def test_a_pulse_is_on_the_second_channel_where_the_scene_has_one(tmp_path: Path, hurried: Hurried) -> None:
    given = Microphone(device=microphone(tmp_path, "pps_audio").device, sample_rate_hz=16_000, pulse_channel=2)
    heard = some(live_card(given, "pole-1", 401)(), 80)
    assert max(float(one.frames[:, 1].max()) for one in heard) > 0.3


def test_a_pulse_channel_that_the_scene_lacks_is_refused(tmp_path: Path) -> None:
    given = Microphone(device=microphone(tmp_path).device, pulse_channel=2)
    with pytest.raises(InputError, match=r"card\.sync is not pps_audio"):
        live_card(given, "pole-1", 401)


def test_a_node_of_any_name_hears_by_the_first_sensor_of_the_demo(hurried: Hurried) -> None:
    assert some(live_card(Microphone(device="sim"), "nobody", 1001)(), 2)
