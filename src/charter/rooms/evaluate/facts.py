"""Helpfulness without a grader: required facts in replies to everyday questions, accepted answers in free replies to
short ones.

Both are looked for as whole words. A longer reply has more room for a fact, so a change is read beside the lengths and
the share cut; of a short question the first 64 tokens count and no more are drawn, so that listing many answers
doesn't pay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from charter.ground.generate.assistant import check_prompts
from charter.ground.judge.marks import Marks, Row, alias_told, facts_recalled
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.free_questions import read_facts, read_short_questions
from charter.rooms.evaluate.context import Asking

ANSWER_TOKENS = 64  # of a reply to a short question


@dataclass(frozen=True, slots=True)
class FactSet:
    """How a set is read, the column with what is looked for, and the marks that follow."""

    read: Callable[[Iterable[Path]], list[Dialogue]]
    key: str
    marks: Callable[[Row], Marks]
    most: int | None = None  # tokens of a reply


# role, and name of the kept rows -> set
SETS: Mapping[str, FactSet] = {
    "facts": FactSet(read_facts, "facts", facts_recalled),
    "quiz": FactSet(read_short_questions, "accepted", alias_told, ANSWER_TOKENS),
}


def prompts(context: Asking, role: str) -> list[Dialogue]:
    """The drawn questions of a set. Raises CharterError for a broken row, or a question that is too long."""
    asked = SETS[role].read([i.folder for i in context.inputs.many(role)])
    asked = context.draw(asked, getattr(context.settings.counts, role), role)
    check_prompts(context.assistant, asked)
    return asked


def bounded(context: Asking, role: str) -> Asking:
    """The context whose replies are as long as those of a set may be."""
    most = SETS[role].most
    tokens = context.settings.max_tokens if most is None else min(most, context.settings.max_tokens)
    return replace(context, settings=context.settings.model_copy(update={"max_tokens": tokens}))


def marked(role: str, asked: Sequence[Dialogue]) -> Callable[[Sequence[dict[str, Any]]], None]:
    """Adds to rows what was looked for in them and their marks."""
    own = SETS[role]
    wanted = {d.id: d.meta[own.key] for d in asked}

    def mark(rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            row[own.key] = wanted[row["id"]]
            row.update(own.marks(row))

    return mark


def questions(context: Asking) -> dict[str, list[Dialogue]]:
    """The questions of both sets."""
    return {role: prompts(context, role) for role in SETS if context.inputs.many(role)}


def write(context: Asking) -> None:
    """Writes samples/facts.jsonl and samples/quiz.jsonl: one row a reply; both sets are read before any is drawn."""
    for role, asked in questions(context).items():
        n = context.settings.other_samples
        rows = bounded(context, role).replies(role, asked, n, marked(role, asked))
        context.out.write_jsonl(f"samples/{role}.jsonl", rows)
