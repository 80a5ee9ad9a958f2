"""What sensors heard together is worth more than what one heard, and less than the sum."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agls.locate.evidence import LIMIT, fuse, probability

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
