"""What a labeller's labels are worth, by how it did on pairs with a known answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from charter.ground.measure.intervals import interval
from charter.ground.measure.score import tabulate


def trust(tested: Sequence[Mapping[str, Any]], chance_weight: float) -> float:
    """1 for a labeller that is surely right more often than not, 0 for one that is surely wrong more often,
    `chance_weight` where the 95 % interval of its accuracy holds one half; 1 where nothing was tested.

    tested: a row a pair with `correct` (0, a half or 1) and `id`, the cluster that pairs of one prompt share.
    """
    if not tested:
        return 1.0
    low, high = interval(tabulate((str(row["id"]), float(row["correct"]), 1.0) for row in tested))
    if low is None or high is None:
        return chance_weight
    return 1.0 if low > 0.5 else 0.0 if high < 0.5 else chance_weight
