"""p-values without a distribution: how often would a difference be as large if both models were the same?

If they were the same, each cluster's answers could as well be the other model's. Exchanging them in every combination
gives the distribution of the difference (Fisher 1935). For equal counts this flips the signs of the clusters'
differences. Clusters that both answered alike change nothing, so only clusters that changed carry evidence: m of them
give no p below 2 / 2^m.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from charter.ground.measure.score import Floats, Statistic, Table

# Up to this number of changed clusters, all 2^m exchanges are counted.
EXACT = 16
# Exchanges drawn for more clusters. Adding 1 to hits and draws keeps p valid (Phipson and Smyth 2010).
DRAWS = 4_999
# Total draws if fewer than RARE of the first are as large: a small p must survive the correction for many others.
FURTHER = 49_999
# Hits that end the sampling (sequential Monte Carlo, Besag and Clifford 1991).
RARE = 10
_BLOCK = 2_000
Term = tuple[float, Table, Table]
# A term's weight, the statistic of its sums, and both sides' sums.
Part = tuple[float, Statistic, Floats, Floats]


def exchange_p(terms: Sequence[Term], seed: int = 0) -> float:
    """Two-sided p of the sum of weight * (second value - first value), over the clusters that both sides share.

    A term is (weight, first, second). Each changed cluster of each term is exchanged independently. 1.0 if nothing
    changed.
    """
    parts = [(weight, first.statistic, *_select_shared(first, second)) for weight, first, second in terms]
    changed = [(first != second).any(axis=1) for *_, first, second in parts]
    count = int(sum(mask.sum() for mask in changed))
    observed = abs(float(_statistic(parts, changed, np.zeros((1, count), dtype=np.float64))[0]))
    if count == 0 or observed == 0:
        return 1.0
    least = observed * (1 - 1e-9)
    if count <= EXACT:
        every = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        return float(_as_large(_statistic(parts, changed, every.astype(np.float64)), least).mean())
    rng = np.random.default_rng(seed)
    hits = draws = 0
    for goal in (DRAWS, FURTHER):
        while draws < goal and (goal == DRAWS or hits < RARE):
            size = (min(_BLOCK, goal - draws), count)
            exchanges = rng.integers(0, 2, size=size, dtype=np.int8).astype(np.float64)
            hits += int(_as_large(_statistic(parts, changed, exchanges), least).sum())
            draws += size[0]
    return (hits + 1) / (draws + 1)


def _select_shared(first: Table, second: Table) -> tuple[Floats, Floats]:
    """The sums [shared clusters, S] of both sides."""
    places = [{name: i for i, name in enumerate(table.clusters)} for table in (first, second)]
    names = [name for name in first.clusters if name in places[1]]
    sides = [table.sums[[place[name] for name in names]] for table, place in zip((first, second), places, strict=True)]
    return sides[0], sides[1]


def _statistic(parts: Sequence[Part], changed: Sequence[npt.NDArray[np.bool_]], exchanged: Floats) -> Floats:
    """The weighted difference under each row of exchanges, whose columns are the changed clusters of all parts."""
    total = np.zeros(len(exchanged))
    start = 0
    for (weight, statistic, first, second), mask in zip(parts, changed, strict=True):
        columns = exchanged[:, start : start + int(mask.sum())]
        start += int(mask.sum())
        shift = columns @ (second - first)[mask]
        a, b = first.sum(axis=0) + shift, second.sum(axis=0) - shift
        total += weight * (statistic(b) - statistic(a))
    return total


def _as_large(values: Floats, least: float) -> npt.NDArray[np.bool_]:
    """Whether each value is at least this far from 0. It is if an exchange leaves a side nothing to count."""
    return ~(np.abs(values) < least)
