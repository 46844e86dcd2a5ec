"""How well a score ranks: AUROC between two kinds of rows and Spearman's rank correlation, as tables to resample.

A row's value is the statistic plus its influence, so the mean is the statistic and the spread of the mean is that of
the statistic. Of m rows above and n below, with N = m + n and shares v of the other kind that a row beats:

    value = AUROC + (v - AUROC) N / m,  of a row below  AUROC + (v - AUROC) N / n      (DeLong 1988)
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from charter.ground.measure.counts import Row
from charter.ground.measure.ratings import correlation
from charter.ground.measure.score import Table, tabulate

Where = Callable[[Row], bool]


def share_below(ordered: Sequence[float], score: float) -> float:
    """The share of ascending values below a score, equal ones counting half."""
    return (bisect_left(ordered, score) + bisect_right(ordered, score)) / 2 / len(ordered)


def auroc(key: str, above: Where, below: Where) -> Callable[[Sequence[Row]], Table]:
    """Probability that a row of the first kind has a higher `key` than one of the second, ties counting half. Empty if
    a kind has no row with a value."""

    def table(rows: Sequence[Row]) -> Table:
        scored = [r for r in rows if r.get(key) is not None]
        first = [(str(r["id"]), float(r[key])) for r in scored if above(r)]
        second = [(str(r["id"]), float(r[key])) for r in scored if below(r)]
        if not first or not second:
            return tabulate(())
        high, low = sorted(x for _, x in first), sorted(x for _, x in second)
        shares = [(id, share_below(low, x), len(first)) for id, x in first]
        shares += [(id, 1 - share_below(high, x), len(second)) for id, x in second]
        area = sum(v for _, v, _ in shares[: len(first)]) / len(first)
        return tabulate((id, area + (v - area) * len(shares) / size, 1.0) for id, v, size in shares)

    return table


def rank_correlation(first: str, second: str, where: Where) -> Callable[[Sequence[Row]], Table]:
    """Spearman's rho of two columns over the rows that have both: Pearson's r of their mid-ranks. Empty if a column
    doesn't vary."""

    def table(rows: Sequence[Row]) -> Table:
        both = [r for r in rows if where(r) and r.get(first) is not None and r.get(second) is not None]
        ranks = {key: _mid_ranks([float(r[key]) for r in both]) for key in (first, second)}
        ranked: list[dict[str, Any]] = [
            {"id": r["id"], first: ranks[first][n], second: ranks[second][n]} for n, r in enumerate(both)
        ]
        return correlation(first, second)(ranked)

    return table


def _mid_ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [share_below(ordered, value) for value in values]
