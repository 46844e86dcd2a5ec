"""Agreement of raters, each number worked by hand, and beside another implementation."""

import itertools

import evalica
import numpy as np
import pandas as pd
import pytest

from charter.ground.measure.agreement import agreement, cohen


def test_two_raters_by_hand() -> None:
    # 10 items, two raters: 4 x (2, 0), 3 x (0, 2), 3 x (1, 1)
    estimate = agreement([(2, 0)] * 4 + [(0, 2)] * 3 + [(1, 1)] * 3)
    assert estimate is not None and (estimate.items, estimate.votes) == (10, 20)
    assert estimate.percent.value == pytest.approx(0.7)
    # shares 11/20 and 9/20: Pe = (121 + 81) / 400 = 0.505
    assert estimate.kappa.value == pytest.approx((0.7 - 0.505) / 0.495)
    # alpha: observed disagreement 6 / 20, expected 2 x 11 x 9 / (20 x 19)
    assert estimate.alpha.value == pytest.approx(1 - (6 / 20) / (198 / 380))
    for x in (estimate.percent, estimate.kappa, estimate.alpha):
        assert x.value is not None and x.low is not None and x.high is not None and x.low < x.value < x.high


def test_items_of_different_numbers_of_raters_by_hand() -> None:
    estimate = agreement([(3, 0), (1, 1), (1, 3), (1, 0)])  # the last has one rater and says nothing
    assert estimate is not None and (estimate.items, estimate.votes) == (3, 9)
    p = (1 + 0 + (3 * 2) / (4 * 3)) / 3
    first = (1 + 1 / 2 + 1 / 4) / 3
    chance = first**2 + (1 - first) ** 2
    assert estimate.percent.value == pytest.approx(p)
    assert estimate.kappa.value == pytest.approx((p - chance) / (1 - chance))
    # alpha: unequal pairs 0, 2 and 2 x 1 x 3 / 3 of 9 votes, 5 and 4 of them
    assert estimate.alpha.value == pytest.approx(1 - ((2 + 2) / 9) / (2 * 5 * 4 / (9 * 8)))


def test_fleiss_own_example_of_ten_items_with_fourteen_raters() -> None:
    rows = [(0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1)]
    rows += [(7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7)]
    estimate = agreement(rows)
    assert estimate is not None and estimate.kappa.value == pytest.approx(0.20993, abs=1e-5)


def test_alpha_is_that_of_another_implementation() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    votes = np.where(rng.random((5, 60)) < 0.6, truth, rng.integers(0, 3, (5, 60))).astype(object)
    votes[rng.random((5, 60)) < 0.3] = None
    estimate = agreement([[int((column == c).sum()) for c in range(3)] for column in votes.T])
    assert estimate is not None
    assert estimate.alpha.value == pytest.approx(evalica.alpha(pd.DataFrame(votes), distance="nominal").alpha)


def test_agreement_that_is_not_defined_has_no_number() -> None:
    assert agreement([]) is None and agreement([(1, 0), (0, 1)]) is None
    same = agreement([(2, 0)] * 5)
    assert same is not None and same.percent.value == 1.0 and same.kappa.value is None is same.alpha.value
    assert same.percent.low is not None and 0.5 < same.percent.low < 0.6  # Wilson's, of 5 of 5


def test_the_order_of_items_and_the_names_of_categories_say_nothing() -> None:
    rows = [(2, 1, 0), (0, 3, 0), (1, 1, 1), (0, 0, 3), (2, 0, 1)]
    for order in itertools.permutations(range(3)):
        swapped = agreement([tuple(row[c] for c in order) for row in reversed(rows)])
        plain = agreement(rows)
        assert swapped is not None and plain is not None
        assert swapped.kappa.value == pytest.approx(plain.kappa.value)
        assert swapped.alpha.value == pytest.approx(plain.alpha.value)


def test_intervals_of_kappa_cover_it() -> None:
    rng, covered = np.random.default_rng(3), 0
    for _ in range(200):  # two raters who each say the truth with 0.8, else a coin: kappa is 0.64
        truth = rng.random(120) < 0.5
        votes = np.where(rng.random((2, 120)) < 0.8, truth, rng.random((2, 120)) < 0.5).sum(axis=0)
        estimate = agreement([(int(v), 2 - int(v)) for v in votes])
        assert estimate is not None and estimate.kappa.low is not None and estimate.kappa.high is not None
        covered += estimate.kappa.low <= 0.64 <= estimate.kappa.high
    assert covered >= 180


def test_cohens_kappa_of_a_table_worked_by_hand() -> None:
    """50 items: both yes 20, both no 15, yes and no 5, no and yes 10 (kappa 0.4)."""
    sums = np.array([50.0, 35.0, 25.0, 25.0, 30.0, 20.0])
    assert float(cohen(sums)) == pytest.approx(0.4)
    assert np.isnan(cohen(np.array([3.0, 3.0, 3.0, 0.0, 3.0, 0.0]))), "all alike: chance agreement is 1"
