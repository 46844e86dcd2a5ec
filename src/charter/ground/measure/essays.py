"""Scores of essays from 0 to 6 in halves, and the examiner's verdict: does it rank essays better than their length?

Two readings are averaged; if they differ by more than one, a third is too. The mean is rounded to the half, up. The
verdict needs essays that people have scored: a fit examiner's rank correlation with them is higher than that of the
number of words, and the 95 % interval of the difference lies above 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from charter.ground.measure.bias import pearson
from charter.ground.measure.intervals import difference
from charter.ground.measure.score import Floats, Table, sum_by_cluster

HIGHEST, APART = 6, 1.0
READINGS = 3
Row = Mapping[str, Any]


def to_half(value: float) -> float:
    """Rounded to the half; a quarter goes up."""
    return math.floor(2 * value + 0.5) / 2


def apart(first: float | None, second: float | None) -> bool:
    """Whether two readings, each in halves, differ by more than one, so that a third is needed."""
    return first is not None and second is not None and abs(to_half(first) - to_half(second)) > APART


def combine(readings: Sequence[float | None]) -> float | None:
    """The score of an essay: the mean of two readings in halves, or of three if two are apart, rounded to the half.
    None without a reading that is needed."""
    first, second, third = (*readings, None, None, None)[:READINGS]
    if first is None or second is None or (apart(first, second) and third is None):
        return None
    needed = [first, second, *([third] if apart(first, second) and third is not None else [])]
    return to_half(sum(map(to_half, needed)) / len(needed))


def ranks(values: Sequence[float]) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    array = np.asarray(values, dtype=np.float64)
    below = (array[None, :] < array[:, None]).sum(axis=1)
    equal = (array[None, :] == array[:, None]).sum(axis=1)
    return np.asarray(below + (equal + 1) / 2, dtype=np.float64)


def rank_correlation(rows: Sequence[Row], key: str, other: str = "human") -> Table:
    """Spearman's rank correlation of two fields over the scored rows. An essay is a cluster; ranks are those of the
    whole set, also in resamples."""
    scored = [row for row in rows if row["mean"] is not None]
    pairs = zip(ranks([row[key] for row in scored]), ranks([row[other] for row in scored]), strict=True)
    sums = ((str(row["id"]), (1.0, x, y, x * x, y * y, x * y), 0) for row, (x, y) in zip(scored, pairs, strict=True))
    return sum_by_cluster(sums, 6, pearson)


@dataclass(frozen=True, slots=True)
class ExaminerVerdict:
    """Kept rows (one per essay that people scored), and the verdict."""

    rows: Sequence[Row]

    @property
    def fit(self) -> bool:
        """Whether it ranks essays surely better than their length does."""
        gap = self._gap()
        return gap is not None and gap[0] > 0

    @property
    def why(self) -> str:
        """The verdict in words, with the numbers behind it."""
        scored, gap = sum(row["mean"] is not None for row in self.rows), self._gap()
        if gap is None:
            return f"its scores of {scored} of {len(self.rows)} essays do not vary, so that they rank nothing"
        mine, length = (rank_correlation(self.rows, key).value for key in ("mean", "words"))
        return (
            f"rank correlation with people {mine:.2f}, that of length {length:.2f} (difference, 95 % interval "
            f"{gap[0]:.2f} to {gap[1]:.2f}, must lie above 0), on {scored} of {len(self.rows)} essays"
        )

    def _gap(self) -> tuple[float, float] | None:
        mine, length = rank_correlation(self.rows, "mean"), rank_correlation(self.rows, "words")
        if len(mine.clusters) < 2 or math.isnan(mine.value) or math.isnan(length.value):
            return None
        gap = difference(length, mine)
        return gap.low, gap.high
