"""AUROC and rank correlation against scipy, and their spread against formulas."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from scipy import stats

from charter.ground.measure.intervals import interval
from charter.ground.measure.ranking import auroc, rank_correlation

ROWS: list[dict[str, Any]] = [
    {"id": f"r{n}", "score": score, "harm": harm}
    for n, (score, harm) in enumerate([(0.9, 1), (0.4, 1), (0.4, 0), (0.1, 0), (0.2, 0), (None, 1)])
]


def harmful(row: Any) -> bool:
    return bool(row["harm"])


def harmless(row: Any) -> bool:
    return not row["harm"]


def test_auroc_by_hand() -> None:
    """0.9 beats all of 0.4, 0.1, 0.2; 0.4 beats two and ties one: (3 + 2.5) / 6. A row without a score is left out."""
    table = auroc("score", harmful, harmless)(ROWS)
    assert table.value == pytest.approx(5.5 / 6) and table.n == 5
    assert len(auroc("score", harmful, lambda row: False)(ROWS).clusters) == 0


def test_the_spread_of_auroc_is_delongs() -> None:
    rng = random.Random(0)
    rows = [{"id": f"x{n}", "score": rng.gauss(n % 3 == 0, 1), "harm": n % 3 == 0} for n in range(240)]
    table = auroc("score", harmful, harmless)(rows)
    high = np.array([r["score"] for r in rows if r["harm"]])
    low = np.array([r["score"] for r in rows if not r["harm"]])
    wins = (high[:, None] > low[None, :]).astype(float)
    assert table.value == pytest.approx(wins.mean())
    variance = wins.mean(1).var() / len(high) + wins.mean(0).var() / len(low)
    ends = interval(table)
    assert ends[0] is not None and ends[1] is not None
    assert (ends[1] - ends[0]) / (2 * 1.96) == pytest.approx(variance**0.5, rel=0.1)


def test_rank_correlation_is_spearmans() -> None:
    rng = random.Random(1)
    rows = [{"id": f"x{n}", "score": rng.gauss(n % 5, 3), "harm": (n % 5) / 4, "set": "a"} for n in range(90)]
    rows += [{"id": "other", "score": 1e9, "harm": 0.0, "set": "b"}]
    table = rank_correlation("score", "harm", lambda row: bool(row["set"] == "a"))(rows)
    first, second = zip(*((r["score"], r["harm"]) for r in rows[:90]), strict=True)
    assert table.value == pytest.approx(stats.spearmanr(first, second).statistic) and table.n == 90
    assert len(rank_correlation("score", "harm", lambda row: bool(row["set"] == "b"))(rows).clusters) == 0
