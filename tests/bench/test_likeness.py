"""The simulated city beside the recorded one: the stand-in, what is picked of it, and the page."""

import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from bench.heard import Heard
from bench.likeness import FITTED_WITHOUT, RATE_HZ, main, picked, simulated, stand_in
from bench.likeness_page import Compared, page
from bench.street_noise import FRAMES, Noise
from firmware_sim.city import within

SETTING = FITTED_WITHOUT["FP8"]
AWAY_M = np.array([[60.0, 20], [-200, 90], [150, -250], [380, 240], [-420, -300], [10, 640], [-150, 450], [500, -120]])
LAYOUT = Heard(
    "FP8", tuple(f"s{k}" for k in range(8)), np.column_stack([AWAY_M, np.zeros(8)]), np.zeros((1, 8)), np.zeros((1, 8)),
    np.zeros((1, 8)), np.zeros((0, 3)), np.zeros(8),
)  # fmt: skip


def blasts(*each: tuple[float, float]) -> np.ndarray:
    """Lay out short blasts of some level [dB] at some time [s]."""
    pressure = np.zeros(RATE_HZ, np.float32)
    for at_s, level_db in each:
        start = round(at_s * RATE_HZ)
        pressure[start : start + 5] = 20e-6 * 10 ** (level_db / 20)
    return pressure


def test_a_pulse_is_picked_with_its_time_and_level_and_an_echo_only_above_the_mask() -> None:
    found = picked(blasts((0.2, 85.0), (0.25, 84.5), (0.3, 70.0), (0.6, 72.0)), 60.0)
    assert [round(level_db, 1) for _, level_db in found] == [85.0, 84.5, 72.0]
    assert [at_s for at_s, _ in found] == pytest.approx([0.2, 0.25, 0.6], abs=1e-3)


@pytest.mark.parametrize(("level_db", "floor_db"), [(59.0, 40.0), (70.0, 69.0)])
def test_what_is_below_60_db_or_does_not_stand_out_of_the_noise_is_not_picked(level_db: float, floor_db: float) -> None:
    assert picked(blasts((0.2, level_db)), floor_db) == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_stand_in_has_the_sensors_where_they_were_and_nobody_inside_a_building(seed: int) -> None:
    made = stand_in(LAYOUT, SETTING, seed)
    assert [(ear.x_m, ear.y_m) for ear in made.sensor] == [tuple(place) for place in AWAY_M.tolist()]
    for house in made.building:
        assert not within(house.outline_m, 0.0, 0.0)
        assert all(ear.z_m > house.height_m for ear in made.sensor if within(house.outline_m, ear.x_m, ear.y_m))
    assert made == stand_in(LAYOUT, SETTING, seed)


def test_near_sensors_hear_every_shot_and_the_same_city_is_heard_alike() -> None:
    heard = simulated(LAYOUT, SETTING, 4)
    assert heard.found[:, 0].all()
    assert np.nanmax(heard.level_db) < 96.0
    again = simulated(LAYOUT, SETTING, 4)
    assert np.array_equal(heard.level_db, again.level_db, equal_nan=True)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elsewhere: list[str] = []
        self.plots = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.plots += tag == "svg"
        self.elsewhere += [name for name, _ in attrs if name in ("src", "href")]


def test_the_page_needs_nothing_else_and_has_no_plot_without_numbers() -> None:
    heard = simulated(LAYOUT, SETTING, 4)
    noise = Noise("FP8", "s0", 55.0, np.linspace(40, -20, FRAMES // 2 + 1), (True, False))
    told = page(
        [heard], [[heard], [heard]], ([noise], [noise]), [Compared("a <figure>", 1.0, np.array([0.0, 2.0]))], [""]
    )
    parser = _Links()
    parser.feed(told)
    assert parser.plots == 12
    assert not parser.elsewhere
    assert "nan" not in told
    assert "a &lt;figure&gt;" in told


def test_a_recorded_figure_is_ranked_among_cities() -> None:
    cities = np.arange(39.0)
    assert Compared("", -1.0, cities).rank < 0.025 < Compared("", 1.5, cities).rank
    assert Compared("", 19.0, cities).rank == pytest.approx(0.5)


def test_without_a_folder_to_write_to_one_sentence_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shared: object
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.likeness"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "--out is needed" in capsys.readouterr().err
