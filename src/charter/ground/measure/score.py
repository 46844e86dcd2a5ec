"""What a measurement is: a table of clusters with a numerator and a denominator each, and the score it gives.

Every reported rate is a ratio of sums over clusters (prompts, documents, pairs): several samples of one
prompt are not independent, so intervals resample clusters, and two models are compared on the clusters they
share.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Table:
    """Clusters K with their sums: value = sum(num) / sum(den). `n` counts the rows behind it."""

    clusters: tuple[str, ...]
    num: Floats
    den: Floats
    n: int

    @property
    def value(self) -> float:
        total = float(self.den.sum())
        return float(self.num.sum()) / total if total else float("nan")


@dataclass(frozen=True, slots=True)
class Score:
    """A named, versioned number with its 95 % interval; `n` rows in `clusters` independent clusters."""

    name: str
    value: float
    low: float | None
    high: float | None
    n: int
    clusters: int
    version: int
    unit: str = ""
    note: str = ""


def points(first: float, second: float) -> float:
    """What `first` earns against `second`: 1 where it is more, a half for a tie."""
    return 0.5 if first == second else float(first > second)


def ranked_right(p_chosen: float, chosen: float, rejected: float) -> float:
    """1 where the reply that the label prefers has the higher score (`rejected` for a label below 0.5), a half for
    equal scores."""
    return points(chosen, rejected) if p_chosen >= 0.5 else points(rejected, chosen)


def tabulate(rows: Iterable[tuple[str, float, float]]) -> Table:
    """Sum (cluster, numerator, denominator) rows by cluster, clusters in order of first appearance."""
    sums: dict[str, list[float]] = {}
    n = 0
    for cluster, num, den in rows:
        entry = sums.setdefault(cluster, [0.0, 0.0])
        entry[0] += num
        entry[1] += den
        n += 1
    values = np.array(list(sums.values()), dtype=np.float64).reshape(-1, 2)
    return Table(tuple(sums), values[:, 0], values[:, 1], n)
