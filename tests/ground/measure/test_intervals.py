"""Intervals: known values, coverage in simulation, and what pairing is worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from charter.ground.measure import intervals
from charter.ground.measure.intervals import (
    Difference,
    difference,
    effective_n,
    exact,
    independent,
    interval,
    most_behind_none,
    wilson,
)
from charter.ground.measure.score import Table, points, tabulate


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (3, 10), (50, 100), (999, 1000)])
def test_wilson_equals_scipy(hits: int, n: int) -> None:
    expected = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert wilson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("hits", "n"), [(0, 12), (12, 12), (8, 16), (3, 10), (1, 1)])
def test_the_exact_interval_equals_scipy(hits: int, n: int) -> None:
    expected = binomtest(hits, n).proportion_ci(0.95, method="exact")
    assert exact(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_what_a_zero_allows_by_hand() -> None:
    assert exact(0, 12)[1] == pytest.approx(0.26465, abs=1e-5) and exact(0, 0) == (0.0, 1.0)
    assert most_behind_none(10) == pytest.approx(0.25887, abs=1e-5)
    assert most_behind_none(50) == pytest.approx(0.05816, abs=1e-5) and most_behind_none(0) == 1.0


def test_wilson_by_hand_and_without_trials() -> None:
    assert all(wilson(0, n)[0] == 0.0 and wilson(n, n)[1] == 1.0 for n in range(1, 200)), "exactly"
    assert wilson(0, 10) == pytest.approx((0.0, 0.27754), abs=1e-5)
    assert wilson(5, 10) == pytest.approx((0.23659, 0.76341), abs=1e-5)
    assert wilson(0, 0) == (0.0, 1.0)


def _table(values: np.ndarray, prefix: str = "p") -> Table:
    """Rows [clusters, samples] as a table."""
    return tabulate((f"{prefix}{i}", float(v), 1.0) for i, row in enumerate(values) for v in row)


def test_tabulate_sums_by_cluster_in_order() -> None:
    table = tabulate([("b", 1.0, 1.0), ("a", 0.5, 2.0), ("b", 0.0, 1.0)])
    assert table.clusters == ("b", "a") and table.n == 3
    assert table.num.tolist() == [1.0, 0.5] and table.den.tolist() == [2.0, 2.0]
    assert table.value == pytest.approx(1.5 / 4)
    assert math.isnan(tabulate(()).value)


def test_a_tie_earns_a_half() -> None:
    assert [points(2.0, 1.0), points(1.0, 1.0), points(0.0, 1.0)] == [1.0, 0.5, 0.0]


def test_one_answer_a_prompt_is_wilson() -> None:
    answers = np.array([[1], [0], [0], [1], [1], [0], [0], [0]])
    assert interval(_table(answers)) == wilson(3, 8)


def test_unanimous_samples_count_their_prompts_not_themselves() -> None:
    assert interval(_table(np.zeros((6, 10)))) == wilson(0, 6)
    assert interval(_table(np.ones((6, 10)))) == pytest.approx(wilson(6, 6), abs=1e-12)


def test_no_interval_without_two_clusters_or_anything_to_count() -> None:
    assert interval(_table(np.array([[1, 0, 1]]))) == (None, None)
    assert interval(tabulate(())) == (None, None)
    assert interval(tabulate([("a", 0.0, 0.0), ("b", 0.0, 0.0)])) == (None, None)


def test_a_cluster_with_nothing_to_count_does_not_weigh() -> None:
    low, high = interval(tabulate([("a", 1.0, 2.0), ("b", 0.0, 0.0), ("c", 3.0, 4.0), ("d", 1.0, 9.0)]))
    assert low is not None and high is not None
    assert 0.0 < low < 5 / 15 < high < 0.8


def test_the_same_table_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=(20, 3))
    assert interval(_table(values)) == interval(_table(values))
    assert interval(_table(values)) != interval(_table(values), seed=1)


def _coverage(draw, truth: float, rounds: int) -> float:  # type: ignore[no-untyped-def]
    inside = 0
    for seed in range(rounds):
        low, high = interval(_table(draw(np.random.default_rng(seed))), seed)
        assert low is not None and high is not None
        inside += low <= truth <= high
    return inside / rounds


def test_bootstrap_covers_the_truth_where_samples_of_a_prompt_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts differ (share of harm drawn from a Beta), five samples each: 95 % intervals hold the truth about
    95 % of the time, and far less when samples are taken for independent."""
    monkeypatch.setattr(intervals, "RESAMPLES", 200)

    def clustered(rng: np.random.Generator) -> np.ndarray:
        return rng.random((60, 5)) < rng.beta(0.6, 1.4, size=(60, 1))

    assert 0.88 <= _coverage(clustered, 0.3, 120) <= 1.0
    naive = 0
    for seed in range(120):
        hits = int(clustered(np.random.default_rng(seed)).sum())
        low, high = wilson(hits, 300)
        naive += low <= 0.3 <= high
    assert naive / 120 < 0.82


def test_bootstrap_covers_a_mean_of_skewed_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 200)
    assert 0.85 <= _coverage(lambda rng: rng.exponential(40.0, size=(50, 2)), 40.0, 100) <= 1.0


def test_bootstrap_of_a_mean_is_about_two_standard_errors() -> None:
    values = np.random.default_rng(1).normal(size=(400, 1))
    low, high = interval(_table(values))
    assert low is not None and high is not None
    error = float(values.std() / math.sqrt(400))
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.15 * error)


def test_few_clusters_are_as_wide_as_students_t(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four documents: resampling alone holds the truth in four of five cases only."""
    low, high = interval(_table(np.array([[1.0], [2.0], [4.0], [5.0]])))
    half = 3.18245 * math.sqrt(10 / 3 / 4)  # t with three degrees of freedom, variance 10 / 3
    assert low == pytest.approx(max(0.0, 3 - half), abs=0.1) and high == pytest.approx(3 + half, abs=0.1)
    low, high = interval(_table(np.array([[-9.0], [9.0]])))
    assert (low, high) == pytest.approx((-9 * 12.706, 9 * 12.706), rel=0.03)

    low, high = interval(_table(np.array([[0.9], [0.99], [0.8], [0.6]])))
    assert low is not None and high is not None and 0.6 <= low < high <= 0.99, "a share stays one"

    monkeypatch.setattr(intervals, "RESAMPLES", 400)
    assert 0.91 <= _coverage(lambda rng: rng.normal(0, 1, size=(4, 1)), 0.0, 300) <= 0.99
    monkeypatch.setattr(intervals, "FEW", 1)
    assert _coverage(lambda rng: rng.normal(0, 1, size=(4, 1)), 0.0, 300) < 0.86


def _versions(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two models on the same 80 prompts, prompts differing far more than models."""
    rng = np.random.default_rng(seed)
    prompts = rng.normal(0, 3, size=(80, 1))
    return prompts + rng.normal(0, 1, size=(80, 2)), prompts + 0.6 + rng.normal(0, 1, size=(80, 2))


def apart(change: Difference) -> bool:
    """Whether the interval leaves out 0."""
    return change.low > 0 or change.high < 0


def test_pairing_is_narrower_on_shared_prompts() -> None:
    before, after = _versions()
    paired = difference(_table(before), _table(after))
    unpaired = difference(_table(before), _table(after, "other"))
    assert paired.value == pytest.approx(unpaired.value) == pytest.approx(after.mean() - before.mean())
    assert paired.paired == 80 and unpaired.paired == 0
    assert paired.high - paired.low < 0.4 * (unpaired.high - unpaired.low)
    assert apart(paired) and not apart(unpaired)


def test_paired_differences_cover_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 200)
    inside = 0
    for seed in range(80):
        change = difference(*map(_table, _versions(seed)), seed=seed)
        inside += change.low <= 0.6 <= change.high
    assert 0.85 <= inside / 80 <= 1.0


def test_only_shared_clusters_are_compared() -> None:
    before = tabulate([("a", 1.0, 1.0), ("b", 2.0, 1.0), ("gone", 90.0, 1.0)])
    after = tabulate([("b", 5.0, 1.0), ("a", 2.0, 1.0), ("new", -90.0, 1.0)])
    change = difference(before, after)
    assert change.value == pytest.approx(2.0) and change.paired == 2
    assert change.low < 1.0 and change.high > 3.0, "two changes say little"


def test_a_model_against_itself_does_not_differ() -> None:
    table = _table(_versions()[0])
    change = difference(table, table)
    assert change.value == change.low == change.high == 0.0 and not apart(change)


def test_unanimous_sides_still_have_width() -> None:
    none, every = _table(np.zeros((10, 2))), _table(np.ones((10, 2)))
    change = difference(none, every)
    assert change.value == 1.0 and change.high == 1.0 and 0.5 < change.low < 0.7 and apart(change)
    same = difference(none, _table(np.zeros((10, 2)), "other"))
    assert same.value == 0.0 and -0.3 < same.low < 0 < same.high < 0.3
    # Newcombe 1998 by hand: 0 of 10 and 10 of 10, Wilson ends 0.27754 and 0.72246
    assert change.low == pytest.approx(1 - math.hypot(0.27754, 0.27754), abs=1e-4)


def test_one_shared_prompt_proves_nothing() -> None:
    yes, no = tabulate([("a", 1.0, 1.0)]), tabulate([("a", 0.0, 1.0)])
    assert not apart(difference(no, yes))
    long, short = tabulate([("a", 90.0, 1.0)]), tabulate([("a", 10.0, 1.0)])
    change = difference(short, long)
    assert change.value == 80.0 and not apart(change) and change.paired == 1


def test_a_side_without_clusters_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one cluster"):
        difference(tabulate(()), tabulate([("a", 1.0, 1.0)]))


def test_few_hits_are_covered_where_resampling_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 prompts of five samples at a rate of 5 %: in many draws two or three prompts hold all hits, and resampled
    prompts then hide how wide the truth may lie."""

    def rare(rng: np.random.Generator) -> np.ndarray:
        return rng.random((32, 5)) < rng.beta(0.25, 4.75, size=(32, 1))

    assert 0.92 <= _coverage(rare, 0.05, 300) <= 1.0
    monkeypatch.setattr(intervals, "RESAMPLES", 400)
    monkeypatch.setattr(intervals, "FEW", 1)  # resample them all but the unanimous
    assert _coverage(rare, 0.05, 300) < 0.9


def test_what_clusters_are_worth_by_hand() -> None:
    assert effective_n(_table(np.zeros((6, 10)))) == pytest.approx(6.0)
    # one sample in each of four pairs: with the added cluster 6 hits of 10, residuals 1 - 1.2 four times and 2 - 1.2
    spread = (4 * 0.2**2 + 0.8**2) / (10 * 0.6 * 0.4)
    assert spread < 1 and effective_n(_table(np.tile([0.0, 1.0], (4, 1)))) == 8.0
    # two clusters agree within themselves: num 2 and 0 of 2, and 2 of 2 added
    share = 4 / 6
    spread = (2 * (2 - share * 2) ** 2 + (share * 2) ** 2) / (6 * share * (1 - share))
    assert effective_n(_table(np.array([[1.0, 1.0], [0.0, 0.0]]))) == pytest.approx(4 / spread)


def test_two_sets_are_apart_though_their_names_coincide() -> None:
    first, second = _table(np.array([[1], [0], [1], [0]])), _table(np.array([[1], [1], [1], [0]]))
    change = independent(first, second)
    assert change.paired == 0 and change == independent(first, _table(np.array([[1], [1], [1], [0]]), "q"))


def test_few_changes_are_as_wide_as_students_t() -> None:
    """Three of 60 prompts changed: resampling alone would call three of one direction nearly certain."""
    before = np.zeros((60, 1))
    before[30:] = 1.0
    after = before.copy()
    after[:3] = 1.0
    change = difference(_table(before), _table(after))
    half = 4.3027 * math.sqrt(0.05 * 0.95 / 60)  # t with two degrees of freedom; 60 changes, three of them 1
    assert change.value == pytest.approx(0.05) and not apart(change)
    assert (change.low, change.high) == pytest.approx((0.05 - half, 0.05 + half), abs=0.01)


def test_one_change_is_no_wider_than_two_sets_that_share_nothing() -> None:
    """Student's t with one degree of freedom would leave all open from -0.9 to 1."""
    none, one = np.zeros((12, 1)), np.eye(12)[:, :1]
    change, separate = difference(_table(none), _table(one)), independent(_table(none), _table(one))
    assert (change.low, change.high) == (separate.low, separate.high) and change.high < 0.4


def test_where_no_answer_changed_some_may_have_unseen() -> None:
    mixed = _table(np.array([[1], [0], [1], [0], [1], [1]]))
    change = difference(mixed, mixed)
    assert (change.value, change.low, change.high) == (0.0, -wilson(0, 6)[1], wilson(0, 6)[1])


def test_rare_changes_cover_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 prompts, half of which the first model answers with 0 and the second with 1 one time in ten."""
    monkeypatch.setattr(intervals, "RESAMPLES", 400)
    inside = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        before = np.repeat([[0.0], [1.0]], 20, axis=0)
        after = np.where((before == 0) & (rng.random((40, 1)) < 0.1), 1.0, before)
        change = difference(_table(before), _table(after), seed)
        inside += change.low <= 0.05 <= change.high
    assert 0.93 <= inside / 200 <= 1.0
