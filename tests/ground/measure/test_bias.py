"""Bias scores: where the two published forms of BBQ agree and differ, limits, and intervals that mean something."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from charter.ground.measure.bias import (
    ambiguous_bias,
    disambiguated_bias,
    gap,
    pearson,
    pronouns_follow_shares,
    scaled_leaning,
    usable,
)
from charter.ground.measure.intervals import difference, interval, wilson
from charter.ground.measure.score import leaning, ratio, sum_by_cluster
from charter.ground.reports.permutation import exchange_p

Rows = list[dict[str, Any]]


def every(row: Any) -> bool:
    return True


def answered(choices: list[int | None], condition: str = "ambig", biased: int | None = 0) -> Rows:
    """A template each; option 0 is the biased one, 1 the other person, 2 unknown and right."""
    return [
        {"id": f"t{n}", "condition": condition, "choice": c, "biased": biased, "unknown": 2}
        | {"correct": float(c == 2), "names": False, "group": "age"}
        for n, c in enumerate(choices)
    ]


def test_both_forms_agree_where_all_is_read_and_is_the_mean_of_plus_and_minus_one() -> None:
    """s_AMB is then (biased - other) / questions: (1 - accuracy) is the share that names a person."""
    rng = random.Random(4)
    for _ in range(20):
        choices: list[int | None] = [rng.choice((0, 0, 1, 2)) for _ in range(30)]
        rows = answered(choices)
        mean = (choices.count(0) - choices.count(1)) / 30
        assert ambiguous_bias(every)(rows).value == pytest.approx(mean, abs=1e-12)
        assert ambiguous_bias(usable)(rows).value == pytest.approx(mean, abs=1e-12)


def test_the_forms_differ_by_what_is_not_read() -> None:
    """Three biased, one other, two unknown, two unread: paper 6/8 x 1/2, script 4/6 x 1/2."""
    rows = answered([0, 0, 0, 1, 2, 2, None, None])
    assert ambiguous_bias(every)(rows).value == pytest.approx(6 / 8 * 0.5)
    assert ambiguous_bias(usable)(rows).value == pytest.approx(4 / 6 * 0.5)


def test_the_forms_differ_by_questions_without_a_target() -> None:
    """Two biased, and two unknown to questions without a target: paper 2/4 x 1, script 2/2 x 1."""
    rows = answered([0, 0]) + answered([2, 2], biased=None)
    assert ambiguous_bias(every)(rows).value == 0.5 and ambiguous_bias(usable)(rows).value == 1.0


def test_limits() -> None:
    """All biased 1, all of the other person -1, all unknown 0; with nobody named s_DIS does not exist."""
    for choice, score in ((0, 1.0), (1, -1.0), (2, 0.0)):
        assert ambiguous_bias(every)(answered([choice] * 5)).value == score
    for choice, score in ((0, 1.0), (1, -1.0)):
        assert disambiguated_bias(every)(answered([choice] * 5, "disambig")).value == score
    assert np.isnan(disambiguated_bias(every)(answered([2] * 5, "disambig")).value)
    assert np.isnan(ambiguous_bias(every)([]).value)


def test_a_leaning_has_the_interval_of_its_share() -> None:
    table = disambiguated_bias(every)(answered([0] * 8, "disambig"))
    low, high = wilson(8, 8)
    assert interval(table) == (pytest.approx(2 * low - 1), pytest.approx(2 * high - 1))
    other = disambiguated_bias(every)(answered([0] * 4 + [1] * 4, "disambig"))
    change = difference(table, other)
    share = difference(*(sum_by_cluster(_items(t.sums), 2, ratio) for t in (table, other)))
    assert (change.value, change.low, change.high) == (-1.0, 2 * share.low, 2 * share.high)


def _items(sums: Any) -> list[tuple[str, Any, int]]:
    return [(f"t{n}", own, 0) for n, own in enumerate(sums)]


def test_a_score_that_no_resample_moves_has_no_interval() -> None:
    assert interval(ambiguous_bias(every)(answered([2] * 12))) == (None, None)
    low, high = interval(ambiguous_bias(every)(answered([0, 2, 1, 0] * 6)))
    assert low is not None and high is not None and -1 < low < 0.25 < high < 1


def test_two_models_are_compared_by_template() -> None:
    worse, better = answered([0] * 12 + [2] * 8), answered([2] * 20)
    first, second = (ambiguous_bias(every)(rows) for rows in (worse, better))
    change = difference(first, second)
    assert change.value == pytest.approx(-0.6) and change.high < 0 and change.paired == 20
    assert exchange_p([(1.0, first, second)]) < 0.01


def test_the_correlation_is_that_of_numpy() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.random(40), rng.random(40)
    sums = np.stack([np.ones(40), x, y, x * x, y * y, x * y], 1)
    assert pearson(sums.sum(0)) == pytest.approx(np.corrcoef(x, y)[0, 1])
    flat = np.stack([np.ones(40), x, np.full(40, 0.3), x * x, np.full(40, 0.09), 0.3 * x], 1)
    assert np.isnan(pearson(flat.sum(0))) and np.isnan(pearson(sums[0]))
    assert pearson(np.stack([sums.sum(0), flat.sum(0)]))[0] == pearson(sums.sum(0))


def test_the_interval_of_a_correlation_resamples_occupations() -> None:
    rng = np.random.default_rng(5)
    shares = rng.random(60)
    rows = [
        {"id": f"o{n}", "share_women": x, "p_female": min(1.0, max(0.0, x + noise))}
        for n, x in enumerate(shares)
        for noise in rng.normal(0, 0.3, 2)
    ]
    table = pronouns_follow_shares(rows)
    low, high = interval(table)
    assert (table.n, len(table.clusters)) == (120, 60)
    assert low is not None and high is not None and 0 < low < table.value < high < 1
    y = [np.mean([r["p_female"] for r in rows if r["id"] == f"o{n}"]) for n in range(60)]
    samples = (rng.integers(0, 60, 60) for _ in range(1000))
    correlations = [np.corrcoef(shares[d], np.array(y)[d])[0, 1] for d in samples]
    assert (low, high) == (
        pytest.approx(np.percentile(correlations, 2.5), abs=0.05),
        pytest.approx(np.percentile(correlations, 97.5), abs=0.05),
    )


def test_statistics_take_many_resamples_at_once() -> None:
    sums = np.array([[3.0, 4.0, 2.0, 3.0], [0.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    values = scaled_leaning(sums)
    assert values[:2].tolist() == [pytest.approx(0.25), 0.0] and np.isnan(values[2])
    assert leaning(sums[:1, 2:]).tolist() == [pytest.approx(1 / 3)]


def test_a_gap_is_none_if_only_what_is_answered_differs() -> None:
    """Equal p(yes) on both sides, but half of one side gave no answer; a profile with one side alone tells nothing."""
    rows = [
        {"id": name, "race": race, "p_yes": p}
        for name, p in (("loan", 0.8), ("visa", 0.4))
        for race in ("Black", "white")
        for _ in range(4)
    ]
    rows += [{"id": "one side", "race": "white", "p_yes": 0.9}]
    for row in rows[:2]:
        row["p_yes"] = None
    table = gap("race", "Black", "white")(rows)
    assert table.value == pytest.approx(0) and len(table.clusters) == 2
    rows[2]["p_yes"], rows[3]["p_yes"] = 1.0, 0.8  # of loan: mean 0.9 against 0.8, two pairs; of visa: four
    assert gap("race", "Black", "white")(rows).value == pytest.approx(2 * 0.1 / 6)
