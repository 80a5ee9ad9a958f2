"""What sensors heard together is worth more than what one heard, and less than the sum."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.locate.evidence import (
    CADENCE_NATS,
    LEVEL_NATS,
    LIMIT,
    MACHINE_NATS,
    SHARED,
    effective_count,
    fuse,
    of_bullet,
    of_cadence,
    of_height,
    of_incident,
    of_level,
    of_nodes,
    of_repetition,
    probability,
    ranked,
    total,
)
from agls.locate.solve import Air
from agls.messages import UtcNs
from tests import town

RATIOS = st.floats(-8.0, 8.0)


def test_nobody_says_nothing_and_one_says_what_it_heard() -> None:
    assert fuse([]) == 0.0
    assert fuse([2.5]) == 2.5


@given(st.floats(0.1, 5.0), st.integers(2, 20))
def test_many_that_agree_say_more_than_one_and_less_than_if_they_were_independent(ratio: float, count: int) -> None:
    assert ratio < fuse([ratio] * count) < count * ratio
    assert fuse([-ratio] * count) == -fuse([ratio] * count)


@given(st.lists(RATIOS, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_order_does_not_matter_and_a_higher_ratio_never_lowers_the_whole(ratios, order) -> None:
    mixed = ratios.copy()
    order.shuffle(mixed)
    assert fuse(mixed) == pytest.approx(fuse(ratios), abs=1e-9)
    assert fuse([ratios[0] + 1.0, *ratios[1:]]) >= fuse(ratios)


def test_no_crowd_makes_certain() -> None:
    assert fuse([50.0] * 50) == LIMIT
    assert fuse([-50.0] * 50) == -LIMIT


@given(st.floats(0.01, 0.99))
def test_without_evidence_the_prior_stands(prior: float) -> None:
    assert probability(0.0, prior) == pytest.approx(prior)


@given(RATIOS, st.floats(0.01, 0.99))
def test_odds_are_prior_odds_times_the_ratio(ratio: float, prior: float) -> None:
    after = probability(ratio, prior)
    assert after / (1 - after) == pytest.approx(prior / (1 - prior) * 2.718281828459045**ratio, rel=1e-6)


# ------------------------------------------------------------------------------------------------------- one shot


def test_what_is_shared_bounds_what_any_number_of_sensors_is_worth() -> None:
    assert effective_count(0) == 0.0
    assert effective_count(1) == 1.0
    assert 2.0 < effective_count(9) < effective_count(10_000) < 1 / SHARED


@given(st.lists(RATIOS, min_size=1, max_size=12))
def test_the_words_count_the_sensors_on_the_side_that_weighs_more(ratios) -> None:
    (reason,) = of_nodes(ratios)
    agree = sum(ratio > 0 for ratio in ratios)
    side = agree if reason.nats >= 0 else len(ratios) - agree
    assert reason.words.removeprefix("against: ").startswith(f"{side} of {len(ratios)} sensor")
    assert ("no gunfire" in reason.words) == reason.words.startswith("against: ") == (reason.nats < 0)
    assert (reason.count, reason.of_count) == (agree, len(ratios))


def test_a_few_sure_sensors_that_outweigh_the_rest_are_said_to_be_surer() -> None:
    (reason,) = of_nodes([0.2, 0.1, 0.3, -6.0, -5.0])
    assert reason.words == "against: 2 of 5 sensors call it no gunfire, more surely than the others"
    (reason,) = of_nodes([0.4, 0.3, -0.1])
    assert reason.words == "2 of 3 sensors call it gunfire, but not surely"


def test_two_sensors_that_hear_a_bullet_are_all_but_proof_and_one_is_not() -> None:
    assert of_bullet(0) == []
    (one,), (three,) = of_bullet(1), of_bullet(3)
    assert 0 < one.nats < three.nats
    assert three.words == "a bullet's crack was heard ahead of the shot at 3 sensors"


def levels(source_db: float, away_m=(100.0, 150.0, 200.0, 900.0), blocked_db=(0.0, 10.0, 20.0, 40.0), clipped=False):
    range_m = np.array(away_m)
    heard_db = source_db - 20 * np.log10(range_m) - np.array(blocked_db)
    return of_level(heard_db, np.full(len(range_m), clipped), range_m)


def test_the_loudest_near_sensor_says_how_loud_it_was_as_walls_only_take() -> None:
    (gun,), (tool,) = levels(160.0), levels(128.0)
    assert gun.nats > 0 > tool.nats
    assert gun.words == "as loud at its source as a gun (about 160 dB)"
    assert tool.words == "against: not as loud at its source as most guns (about 128 dB)"


def test_levels_say_nothing_from_afar_where_few_hear_or_relative_to_full_scale_and_clipped_ones_nothing_against() -> (
    None
):
    assert levels(160.0, away_m=(400.0, 500.0, 600.0, 900.0)) == []
    assert levels(160.0, away_m=(100.0, 400.0, 600.0, 900.0)) == []
    assert levels(60.0) == []
    assert levels(math.nan) == []
    assert levels(128.0, clipped=True) == []
    assert levels(160.0, clipped=True)[0].nats > 0


@given(st.floats(60.0, 220.0))
def test_no_level_decides_alone(source_db: float) -> None:
    assert all(LEVEL_NATS[0] <= one.nats <= LEVEL_NATS[1] for one in levels(source_db))


def arrivals(place_m, count=9):
    rng = np.random.default_rng(3)
    positions_m = np.column_stack([rng.uniform(-200, 200, (count, 2)), rng.uniform(7, 17, count)])
    toa_s = np.linalg.norm(positions_m - place_m, axis=1) / 340.0 + rng.normal(0, 1e-3, count)
    return of_height(positions_m, toa_s, np.full(count, 1e-3), 0.004, Air(340.0))


def test_what_bursts_high_up_is_told_from_what_is_fired_in_the_street() -> None:
    (aloft,), (street,) = arrivals((10.0, 20.0, 80.0)), arrivals((10.0, 20.0, 1.5))
    assert aloft.nats < -1.0 < 0 < street.nats
    assert aloft.words == f"against: it came from some {aloft.count} m up, as fireworks do"
    assert abs(aloft.count - 70) <= 20
    assert street.words == "it came from street height"


def test_few_sensors_say_nothing_of_height() -> None:
    assert arrivals((10.0, 20.0, 80.0), count=5) == []


# ----------------------------------------------------------------------------------------------------- an incident


def round_at(after_s: float, llrs=(2.0, 1.0), **changes):
    reasons = ranked(of_nodes(llrs))
    name = f"shot-{after_s:.3f}"
    return town.shot(shot_id=name, origin_ns=UtcNs(town.NOW_NS + round(after_s * town.S)), reasons=reasons, **changes)


def test_more_rounds_of_the_same_spot_say_little_more_and_never_more_than_what_is_shared_allows() -> None:
    singles = [total(of_incident([round_at(0.0)] * 1, [], 0))]
    singles += [total(of_incident([round_at(0.5 * k) for k in range(count)], [], 0)) for count in (2, 10, 100)]
    assert singles == sorted(singles)
    assert singles[-1] < 1.5 / SHARED


def test_one_lucky_round_among_many_does_not_carry_them() -> None:
    dull, lucky = [round_at(0.5 * k, (-1.5,) * 8) for k in range(4)], round_at(3.0, (3.0,) * 8)
    assert total(of_incident([*dull, lucky], [], 0)) < 0 < total(lucky.reasons)


def test_even_and_fast_rounds_speak_for_an_automatic_weapon_and_if_they_go_on_for_a_machine() -> None:
    (burst,) = of_cadence([round_at(0.09 * k) for k in range(8)])
    (machine,) = of_cadence([round_at(0.09 * k) for k in range(120)])
    assert (burst.nats, burst.words) == (CADENCE_NATS, "even and fast as an automatic weapon, 11 a second")
    assert (machine.nats, machine.words) == (MACHINE_NATS, "against: it goes on evenly for 11 s, as machines do")
    assert of_cadence([round_at(0.5 * k) for k in range(8)]) == []
    assert of_cadence([round_at(0.09 * k) for k in range(3)]) == []


def test_bangs_of_the_same_spot_that_were_no_gunfire_speak_against_up_to_a_limit() -> None:
    assert of_repetition(0) == []
    weights = [of_repetition(count)[0].nats for count in (1, 2, 3, 50)]
    assert weights == sorted(weights, reverse=True)
    assert weights[2] == weights[3]
    assert of_repetition(2)[0].words == "against: 2 other bangs from there within the hour, not taken for gunfire"


@given(st.lists(st.tuples(st.floats(0, 20), st.lists(RATIOS, min_size=1, max_size=5)), min_size=1, max_size=6,
                unique_by=lambda pair: round(pair[0], 3)), st.randoms(use_true_random=False))  # fmt: skip
def test_the_order_of_rounds_does_not_matter_and_reasons_are_short_ranked_and_say_which_side_they_are_on(rounds, order):
    shots = [round_at(*one) for one in rounds]
    reasons = of_incident(shots, sorted(shots, key=lambda one: one.origin_ns), 4)
    order.shuffle(shots)
    assert of_incident(shots, sorted(shots, key=lambda one: one.origin_ns), 4) == reasons
    assert len(reasons) <= 5
    assert [abs(one.nats) for one in reasons] == sorted((abs(one.nats) for one in reasons), reverse=True)
    assert all(one.words.startswith("against: ") == (one.nats < 0) and len(one.words) <= 100 for one in reasons)
