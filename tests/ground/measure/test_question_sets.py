"""Generated against people's questions: who wrote a row, shares by behaviour, and rho by hand."""

from __future__ import annotations

from typing import Any

import pytest

from charter.ground.measure.intervals import interval
from charter.ground.measure.question_sets import agreement, ceiling, halves, sets_agree, shares, writer


def rows(group: str, people: int, model: int) -> list[dict[str, Any]]:
    """Ten questions of each set, of which some match."""
    return [
        {"group": group, "by": by, "question": f"{group} {by} {n}", "matching": float(n < hits)}
        for by, hits in (("people", people), ("model", model))
        for n in range(10)
    ]


def test_who_wrote_a_row() -> None:
    sources = ("human", "authored", "lm", "ai", "ai, unconfirmed", "", None)
    found = [writer({"source": source}) for source in sources]
    assert found == ["people", "people", "model", "model", "model", "", ""]
    assert writer({}) == ""


def test_ranks_of_four_behaviours_by_hand() -> None:
    """Ranks 1 2 3 4 against 2 1 3 4: rho = 1 - 6 (1 + 1) / (4 x 15) = 0.8. A fifth behaviour lacks a model's set."""
    four = [*rows("a", 1, 3), *rows("b", 2, 2), *rows("c", 5, 6), *rows("d", 9, 9)]
    alone = [row for row in rows("e", 9, 0) if row["by"] == "people"]
    unread = [row | {"matching": None} for row in rows("a", 0, 0)]
    table = sets_agree([*four, *alone, *unread])
    assert table.value == pytest.approx(0.8) and len(table.clusters) == 4
    assert {p["id"]: (p["people"], p["model"]) for p in shares(four)}["a"] == (0.1, 0.3)


def test_checkpoints_of_a_behaviour_are_one_cluster() -> None:
    first = [point for n, name in enumerate("abcdef") for point in shares(rows(name, n, n + 1), "first")]
    both = first + [point | {"checkpoint": "second"} for point in first]
    table = agreement(both)
    assert table.value == pytest.approx(1.0) and (table.n, len(table.clusters)) == (12, 6)
    low, high = interval(table)
    assert low is not None and high is not None and low <= 1.0 <= high + 1e-9


def test_halves_and_the_ceiling() -> None:
    points = [point for n, name in enumerate("abcdef") for point in shares(rows(name, n + 2, n))]
    assert {"people 0", "people 1"} <= points[0].keys() and halves(points).n == 6
    # Spearman-Brown: 2 x 0.5 / 1.5
    assert ceiling(0.5) == pytest.approx(2 / 3)
