"""p-values by exchange: by hand, against scipy, and as often small as they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import permutation_test

from charter.ground.measure.score import Table, tabulate
from charter.ground.reports.permutation import EXACT, exchange_p


def table(values: np.ndarray, prefix: str = "p") -> Table:
    """One answer a cluster."""
    return tabulate((f"{prefix}{i}", float(v), 1.0) for i, v in enumerate(values))


def test_by_hand() -> None:
    first, second = table(np.array([1, 1, 1, 0, 0])), table(np.array([0, 0, 0, 0, 0]))
    assert exchange_p([(1.0, first, second)]) == 2 / 2**3, "three changed, all one way"
    second = table(np.array([0, 0, 1, 1, 0]))  # changes -1, -1, +1
    assert exchange_p([(1.0, first, second)]) == 1.0, "a sum of 1 in size is the least that three can show"
    assert exchange_p([(1.0, first, first)]) == 1.0
    assert exchange_p([]) == 1.0


def test_equals_scipy_up_to_the_exact_limit() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=10), rng.normal(0.5, 1, size=10)
    expected = permutation_test(
        (first, second), lambda x, y: y.mean() - x.mean(), permutation_type="samples", n_resamples=np.inf
    )
    assert exchange_p([(1.0, table(first), table(second))]) == pytest.approx(expected.pvalue, abs=1e-12)


def test_draws_agree_with_counting_and_never_reach_zero() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=EXACT), rng.normal(0.6, 1, size=EXACT)
    exact = exchange_p([(1.0, table(first), table(second))])
    # four further clusters that change by next to nothing put it over the limit and leave p as it is
    first, second = np.append(first, np.zeros(4)), np.append(second, np.full(4, 1e-12))
    assert exchange_p([(1.0, table(first), table(second))]) == pytest.approx(exact, abs=0.01)
    assert exchange_p([(1.0, table(np.zeros(200)), table(np.ones(200)))]) == 1 / 50_000


def test_clusters_of_one_side_alone_say_nothing() -> None:
    first, second = table(np.array([1.0, 1.0, 0.0])), table(np.array([0.0, 0.0, 0.0]))
    more = tabulate([("p0", 0.0, 1.0), ("p1", 0.0, 1.0), ("p2", 0.0, 1.0), ("new", 9.0, 1.0)])
    assert exchange_p([(1.0, first, more)]) == exchange_p([(1.0, first, second)]) == 0.5


def test_two_terms_are_exchanged_each_for_itself() -> None:
    """A gap: two clusters of either term changed, in opposite directions; all 16 exchanges counted by hand."""
    up = (1.0, table(np.array([0, 0])), table(np.array([1, 1])))
    down = (-1.0, table(np.array([1, 1]), "q"), table(np.array([0, 0]), "q"))
    assert exchange_p([up, down]) == 2 / 16


def test_equal_models_are_called_different_as_often_as_the_level_says() -> None:
    """Three samples a prompt, prompts unlike each other: under the null p <= 0.05 in
    at most about one of 20 comparisons."""
    small = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        harm = rng.beta(0.5, 1.5, size=(30, 1))
        sides = [
            tabulate((f"p{i}", float(v), 1.0) for i, row in enumerate(rng.random((30, 3)) < harm) for v in row)
            for _ in range(2)
        ]
        small += exchange_p([(1.0, *sides)]) <= 0.05
    assert 0.015 <= small / 200 <= 0.085
