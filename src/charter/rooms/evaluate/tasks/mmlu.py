"""MMLU as the card has it: five worked examples with reasoning, an answer sampled at T=1, and the letter in it
(card section 4.3; Hendrycks 2021; Wei 2022).

The published development split has no reasoning. Your own rows with a `thought` are the examples of their subject;
other subjects share five questions of our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from charter.ground.artifact.manifest import canonical_json, digest_text
from charter.ground.measure import counts
from charter.ground.measure.metric import Metric
from charter.ground.settings.roles import Role
from charter.ground.settings.sources import shipped
from charter.ground.text.answers import letter_of
from charter.rooms.evaluate.marks import unless_too_long, verdict
from charter.rooms.evaluate.reading import DEV, TEST, has, read_split
from charter.rooms.evaluate.task import (
    LETTERS,
    SAMPLED,
    Marks,
    Protocol,
    Query,
    Question,
    Row,
    Rows,
    Task,
    accuracy,
    format_question,
    unanswered_rate,
)
from charter.rooms.evaluate.tasks.mmlu_plain import by_subject, parse

if TYPE_CHECKING:
    from charter.rooms.evaluate.context import Context


HEADER = "Answer these multiple choice questions. Think step by step, then end with: The answer is (X)."
LEAD = "Let's think step by step."
OURS = "mmlu_thoughts.train"

Shots = list[tuple[str, str]]


def questions(context: Context) -> list[Question]:
    """The drawn questions of the test split; each subject is a group."""
    sample = context.draw(read_split(context.source, TEST, parse))
    context.facts["examples"] = digest_text(canonical_json(_shots(context, sample)))
    return sample


def rows(context: Context, questions: list[Question]) -> Rows:
    """One row a sampled answer."""
    shots = _shots(context, questions)
    queries = [Query(q, format_question(q, "({})"), LEAD, shots[q.group], HEADER) for q in questions]
    return context.answer(queries, grade, stops=("\n\n",) if context.protocol.form == "text" else ())


def mark_letter(row: Marks) -> Row:
    """Marks of an answer that names a letter."""
    choice = letter_of(row["reply"], len(row["options"]))
    return {"choice": choice} | verdict(choice in row["right"], choice is not None)


def grade(query: Query, reply: str) -> Row:
    """Right if the answer names the right letter."""
    question = query.question
    row = {"reply": reply, "options": list(question.options), "right": list(question.right)}
    return row | mark_letter(row)


def _shots(context: Context, questions: Sequence[Question]) -> dict[str, Shots]:
    """The worked examples of every subject: those of the data if they show reasoning, else ours."""
    pool = by_subject(read_split(context.source, DEV, parse)) if has(context.source, DEV) else {}
    ours = read_split(shipped(OURS), DEV, parse)
    shots: dict[str, Shots] = {}
    for subject in sorted({q.group for q in questions}):
        own = [q for q in pool.get(subject, []) if q.meta["thought"]]
        source = own if len(own) >= context.protocol.shots else ours
        examples = source[: context.protocol.shots]
        if len(examples) < context.protocol.shots:
            # raises an error that says what is missing
            context.examples(source, f"{OURS}, the examples with reasoning,")
        shots[subject] = [
            (format_question(q, "({})"), f"{q.meta['thought']} The answer is ({LETTERS[q.right[0]]}).")
            for q in examples
        ]
    return shots


TASK = Task(
    name="mmlu",
    title="MMLU",
    group="Knowledge and reasoning",
    questions=questions,
    rows=rows,
    metrics=(
        accuracy("mmlu", "MMLU questions, answered after reasoning", "MMLU, with reasoning"),
        unanswered_rate("mmlu"),
        Metric(
            "mmlu_subjects",
            "",
            counts.over_groups("correct"),
            "higher",
            "mean over MMLU's subjects",
            label="MMLU, mean over subjects",
        ),
    ),
    role=Role(kind="questions", default="shipped:mmlu.heldout"),
    standard="data:mmlu",
    protocol=Protocol(shots=5, max_tokens=320),
    takes=(*SAMPLED, "shots"),
    marks=unless_too_long(mark_letter),
    cost=(160, 150),
    chance=0.25,
    searched=True,
)
