"""The benchmark room's metrics on rows written by hand."""

from __future__ import annotations

from typing import Any

import bias_rows
import pytest

from charter.ground.measure.benchmarks import OF_BENCHMARKS

Rows = list[dict[str, Any]]


def graded(id: str, outcome: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "outcome": outcome, "correct": float(outcome == "right"), **more}


PLAIN = [graded("a", "right"), graded("b", "wrong"), graded("c", "unparsed"), graded("d", "too long")]
PASSAGES = [graded("p", "right"), graded("p", "wrong"), graded("q", "right")]  # two questions of one passage

ROWS: dict[str, Rows] = {
    "gsm8k.jsonl": PLAIN,
    "mmlu_plain.jsonl": PLAIN,
    "arc.jsonl": PLAIN,
    "race.jsonl": PASSAGES,
    **bias_rows.ROWS,
}
# metric -> value, rows, clusters
EXPECTED: dict[str, tuple[float, int, int]] = {
    "gsm8k": (1 / 4, 4, 4),
    "gsm8k_unanswered": (2 / 4, 4, 4),
    "mmlu_plain": (1 / 4, 4, 4),
    "mmlu_plain_unanswered": (2 / 4, 4, 4),
    "arc": (1 / 4, 4, 4),
    "arc_unanswered": (2 / 4, 4, 4),
    "race": (2 / 3, 3, 2),
    "race_unanswered": (0.0, 3, 2),
    **bias_rows.EXPECTED,
}


def test_every_metric_has_an_expectation() -> None:
    assert set(EXPECTED) == {m.name for m in OF_BENCHMARKS} and {m.file for m in OF_BENCHMARKS} == set(ROWS)


@pytest.mark.parametrize("metric", OF_BENCHMARKS, ids=lambda m: m.name)
def test_a_metric_by_hand(metric: Any) -> None:
    table = metric.table(ROWS[metric.file])
    value, n, clusters = EXPECTED[metric.name]
    assert (table.value, table.n, len(table.clusters)) == (pytest.approx(value), n, clusters)
