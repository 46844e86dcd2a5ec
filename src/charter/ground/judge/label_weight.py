"""The weight of a labeller's labels, from its accuracy on pairs with a known answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from charter.ground.measure.intervals import interval
from charter.ground.measure.score import tabulate


def trust(tested: Sequence[Mapping[str, Any]], chance_weight: float) -> float:
    """1 if the 95 % interval of the labeller's accuracy is above one half, 0 if it is below, else `chance_weight`; 1
    without rows.

    Each set of pairs is judged separately, and the lowest weight counts: a labeller that is right on pairs written for
    the test may be at chance on people's pairs. tested: one row per pair with `correct` (0, a half or 1), `id` (the
    cluster, shared by the pairs of one prompt), and `set` (rows without one form one set).
    """
    return min((_trust(rows, chance_weight) for rows in by_set(tested).values()), default=1.0)


def by_set(tested: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of known pairs, grouped by set."""
    rows_by_set: dict[str, list[Mapping[str, Any]]] = {}
    for row in tested:
        rows_by_set.setdefault(str(row.get("set", "")), []).append(row)
    return rows_by_set


def _trust(tested: Sequence[Mapping[str, Any]], chance_weight: float) -> float:
    low, high = interval(tabulate((str(row["id"]), float(row["correct"]), 1.0) for row in tested))
    if low is None or high is None:
        return chance_weight
    return 1.0 if low > 0.5 else 0.0 if high < 0.5 else chance_weight
