"""The metrics of the battery on rows written by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import bias_rows
import pytest

from charter.ground.measure import counts
from charter.rooms.evaluate.catalogue import SUITES, TASKS

OF_BENCHMARKS = tuple(metric for name in SUITES["battery"] for metric in TASKS[name].numbers)
Rows = list[dict[str, Any]]


def graded(id: str, outcome: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "outcome": outcome, "correct": float(outcome == "right"), **more}


PLAIN = [graded("a", "right"), graded("b", "wrong"), graded("c", "unparsed"), graded("d", "too long")]
PASSAGES = [graded("p", "right"), graded("p", "wrong"), graded("q", "right")]  # two questions of one passage

QUALITY = [graded("s", "right", group="hard"), graded("s", "wrong", group="hard"), graded("t", "right", group="")]
RECALL = [graded(f"{g}/{n}", "right" if n else "wrong", group=g) for g in ("512/0", "512/50", "1024/0") for n in (0, 1)]
RECALL += [graded("5120/0", "wrong", group="5120/0")]  # a length that only begins alike
# L(t) = 1 + 2 t^-0.5 exactly, at every position
ROOTS = [sum(t**-0.5 for t in range(2**k, 2 ** (k + 1))) for k in range(8)]
POSITION = [
    {
        "id": f"d{n}",
        "nats": {str(2**k): 2**k + 2 * ROOTS[k] for k in range(8)},
        "tokens": {str(2**k): 2**k for k in range(8)},
    }
    for n in range(3)
]
LOOKED = [
    {"id": "a", "task": "arc", "checked": True, "hit": True},
    {"id": "b", "task": "arc", "checked": True, "hit": False},
]
LOOKED += [
    {"id": "c", "task": "arc", "checked": False, "hit": False},
    {"id": "d", "task": "race", "checked": True, "hit": True},
]
# ten samples of one problem, three right; one right and one without a verdict of another
PROBLEMS = [graded("p", outcome) for outcome in ["right"] * 3 + ["wrong"] * 6 + ["timed out"]]
PROBLEMS += [graded("q", "right"), graded("q", "environment failed")]

SUBJECTS = [
    graded("a", "right", group="knots"),
    graded("b", "wrong", group="knots"),
    graded("c", "unparsed", group="knots"),
    graded("d", "right", group="tides"),
]


def translated(id: str, group: str, outcome: str, matched: int) -> dict[str, Any]:
    """A sentence of five words and six characters of each order: all of it matched, or nothing."""
    bleu = [5 * matched, 5, *(n * matched for n in (5, 4, 3, 2)), *(n * matched for n in (5, 4, 3, 2))]
    return {"id": id, "group": group, "outcome": outcome, "bleu": bleu, "chrf": [6 * matched, 6, 6 * matched] * 6}


TRANSLATED = [
    translated("s1", "fra", "answered", 1),
    translated("s2", "fra", "answered", 1),
    translated("s1", "deu", "unparsed", 0),
]

ROWS: dict[str, Rows] = {
    "gsm8k.jsonl": PLAIN,
    "mmlu_plain.jsonl": PLAIN,
    "arc.jsonl": PLAIN,
    "race.jsonl": PASSAGES,
    "quality.jsonl": QUALITY,
    "recall.jsonl": RECALL,
    "position.jsonl": POSITION,
    "contamination.jsonl": LOOKED,
    "humaneval.jsonl": PROBLEMS,
    "mmlu.jsonl": SUBJECTS,
    "triviaqa.jsonl": [graded("a", "right"), graded("b", "wrong"), graded("c", "declined"), graded("d", "wrong")],
    "translation.jsonl": TRANSLATED,
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
    "quality": (2 / 3, 3, 2),
    "quality_unanswered": (0.0, 3, 2),
    "quality_hard": (1 / 2, 2, 1),
    "recall": (3 / 7, 7, 7),
    "recall_unanswered": (0.0, 7, 7),
    "recall_512": (2 / 4, 4, 4),
    "recall_1024": (1 / 2, 2, 2),
    **{f"position_loss_{2**k}": (1 + 2 * ROOTS[k] / 2**k, 3, 3) for k in range(8)},
    "position_exponent": (0.5, 3, 3),
    "position_constant": (1.0, 3, 3),
    "arc_contaminated": (1 / 2, 2, 2),
    "race_contaminated": (1.0, 1, 1),
    "humaneval": ((3 / 10 + 1) / 2, 2, 2),
    "humaneval_pass_10": (1.0, 1, 1),
    "humaneval_environment_failed": (1 / 12, 12, 2),
    "humaneval_unanswered": (1 / 12, 12, 2),
    "mmlu": (2 / 4, 4, 4),
    "mmlu_unanswered": (1 / 4, 4, 4),
    "mmlu_subjects": ((1 / 3 + 1) / 2, 4, 4),
    "triviaqa": (1 / 4, 4, 4),
    "triviaqa_unanswered": (0.0, 4, 4),
    "triviaqa_wrong": (2 / 4, 4, 4),
    "triviaqa_declined": (1 / 4, 4, 4),
    "translation_bleu": ((100 + 0) / 2, 3, 2),
    "translation_chrf": ((100 + 0) / 2, 3, 2),
    "translation_bleu_high": ((100 + 0) / 2, 3, 2),
    "translation_chrf_high": ((100 + 0) / 2, 3, 2),
    "translation_understandable": (1 / 2, 3, 2),
    "translation_good": (1 / 2, 3, 2),
    "translation_unanswered": (1 / 3, 3, 2),
    **bias_rows.EXPECTED,
}


def test_every_metric_has_an_expectation() -> None:
    counted = {m.name for m in OF_BENCHMARKS if not math.isnan(m.table(ROWS[m.file]).value)}
    assert set(EXPECTED) == counted and {m.file for m in OF_BENCHMARKS} == set(ROWS)


@pytest.mark.parametrize("metric", OF_BENCHMARKS, ids=lambda m: m.name)
def test_a_metric_by_hand(metric: Any) -> None:
    table = metric.table(ROWS[metric.file])
    if metric.name not in EXPECTED:  # the same metric of another length or task, of which there are no rows
        assert math.isnan(table.value)
        return
    value, n, clusters = EXPECTED[metric.name]
    assert (table.value, table.n, len(table.clusters)) == (pytest.approx(value), n, clusters)


@pytest.mark.parametrize(("n", "c", "k"), [(10, 3, 1), (10, 3, 4), (10, 0, 5), (10, 8, 3), (6, 6, 6), (5, 1, 5)])
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(n: int, c: int, k: int) -> None:
    rows = [graded("p", "right" if i < c else "wrong") for i in range(n)]
    draws = list(itertools.combinations([i < c for i in range(n)], k))
    assert counts.pass_at(k)(rows).value == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_by_hand() -> None:
    """Ten samples of a problem, three right, and none of another: 1 - C(7, 2) / C(10, 2) = 1 - 21/45 of the first."""
    rows = [graded(name, "right" if i < right else "wrong") for name, right in (("p", 3), ("q", 0)) for i in range(10)]
    by_k = {k: counts.pass_at(k)(rows).value for k in (1, 2, 10)}
    assert by_k == pytest.approx({1: (0.3 + 0) / 2, 2: (24 / 45 + 0) / 2, 10: (1 + 0) / 2})


def test_problems_with_too_few_samples_have_no_pass_at_k() -> None:
    table = counts.pass_at(10)([graded("p", "right")] * 9)
    assert table.clusters == () and math.isnan(table.value)
