"""Helpfulness on ordinary prompts: the grader's score of each reply, and wins against the start's replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.rooms.evaluate.context import Context, graded


def rows(context: Context) -> list[dict[str, Any]]:
    """Replies to every helpful prompt, scored by the frozen grader."""
    prompts = context.prompts("helpful", context.settings.counts.helpful)

    def grade(part: Sequence[dict[str, Any]]) -> None:
        for row, score, _ in graded(context.grader, part):
            row["grader"] = score

    return context.replies("helpful", prompts, context.settings.other_samples, grade)


def wins(rows: Sequence[dict[str, Any]], baseline: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each reply's score beside the baseline's on the same prompt and sample."""
    before = {(r["id"], r["sample"]): r["grader"] for r in baseline}
    found = [
        {
            "id": r["id"],
            "sample": r["sample"],
            "score": r["grader"],
            "baseline": before[(r["id"], r["sample"])],
        }
        for r in rows
        if (r["id"], r["sample"]) in before
    ]
    if not found:
        raise CharterError(
            "the baseline report has no helpful prompt in common; evaluate both with equal counts"
        )
    return found
