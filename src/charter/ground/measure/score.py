"""Measurements as tables: clusters with a few sums each, and a statistic of the total.

Every reported number is a function of sums over clusters (prompts, documents, pairs), usually a numerator over a
denominator. Samples of one prompt are not independent, so intervals resample clusters, and two models are compared on
their shared clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


# Function of sums over clusters, [..., S] -> values [...]; two that compute the same are equal.
Statistic = Callable[[Floats], Floats]


def ratio(sums: Floats) -> Floats:
    """num / den of sums [..., 2]; nan if den is 0."""
    num, den = sums[..., 0], sums[..., 1]
    return np.divide(num, den, out=np.full_like(num, np.nan), where=den != 0)


def leaning(sums: Floats) -> Floats:
    """2 num / den - 1 of sums [..., 2]: a share rescaled to [-1, 1]; 0 if both sides are even."""
    return 2 * ratio(sums) - 1


@dataclass(frozen=True, slots=True)
class Table:
    """Clusters K with their sums [K, S]: value = statistic(sum of sums). `n` counts the rows behind it."""

    clusters: tuple[str, ...]
    sums: Floats
    n: int
    statistic: Statistic = ratio

    @property
    def num(self) -> Floats:
        """Numerators [K] of a ratio."""
        return self.sums[:, 0]

    @property
    def den(self) -> Floats:
        """Denominators [K] of a ratio."""
        return self.sums[:, 1]

    @property
    def value(self) -> float:
        return float(self.statistic(self.sums.sum(axis=0)))


def points(first: float, second: float) -> float:
    """Points of `first` against `second`: 1 if it is higher, a half for a tie, else 0."""
    return 0.5 if first == second else float(first > second)


def rank_accuracy(p_chosen: float, chosen: float, rejected: float) -> float:
    """1 if the reply that the label prefers has the higher score (`rejected` for a label below 0.5), a half for equal
    scores, else 0."""
    return points(chosen, rejected) if p_chosen >= 0.5 else points(rejected, chosen)


def tabulate(rows: Iterable[tuple[str, float, float]]) -> Table:
    """Sum (cluster, numerator, denominator) rows by cluster, clusters in order of first appearance."""
    return sum_by_cluster(((cluster, (num, den), 0) for cluster, num, den in rows), 2, ratio)


def sum_by_cluster(rows: Iterable[tuple[str, Sequence[float], int]], width: int, statistic: Statistic) -> Table:
    """Sum (cluster, values, column of the first value among `width` sums) rows by cluster, clusters in order of first
    appearance."""
    sums: dict[str, list[float]] = {}
    n = 0
    for cluster, values, start in rows:
        entry = sums.setdefault(cluster, [0.0] * width)
        for place, value in enumerate(values, start):
            entry[place] += value
        n += 1
    matrix = np.array(list(sums.values()), dtype=np.float64).reshape(len(sums), width)
    return Table(tuple(sums), matrix, n, statistic)
