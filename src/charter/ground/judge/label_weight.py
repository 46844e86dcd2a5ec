"""What a labeller's labels are worth, by how it did on pairs with a known answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from charter.ground.measure.intervals import interval
from charter.ground.measure.score import tabulate


def trust(tested: Sequence[Mapping[str, Any]], chance_weight: float) -> float:
    """1 for a labeller that is surely right more often than not, 0 for one that is surely wrong more often,
    `chance_weight` if the 95 % interval of its accuracy holds one half; 1 where nothing was tested.

    Each set of pairs is judged by itself, and the lowest weight counts: who is right on pairs that were written to be
    told apart may be at chance on people's. tested: a row a pair with `correct` (0, a half or 1), `id`, the cluster
    that pairs of one prompt share, and `set`, what it was drawn from (rows without one are one set).
    """
    return min((_trust(rows, chance_weight) for rows in by_set(tested).values()), default=1.0)


def by_set(tested: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each set of known pairs."""
    rows_by_set: dict[str, list[Mapping[str, Any]]] = {}
    for row in tested:
        rows_by_set.setdefault(str(row.get("set", "")), []).append(row)
    return rows_by_set


def _trust(tested: Sequence[Mapping[str, Any]], chance_weight: float) -> float:
    low, high = interval(tabulate((str(row["id"]), float(row["correct"]), 1.0) for row in tested))
    if low is None or high is None:
        return chance_weight
    return 1.0 if low > 0.5 else 0.0 if high < 0.5 else chance_weight
