"""MMLU in its plain form: five examples of the subject, then the letter with the highest probability (Hendrycks 2021).

The card's own form, with reasoning, is `mmlu`; most published tables use this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from charter.ground.settings.roles import Role
from charter.rooms.evaluate.choices import FIVE_SHOT, LEAD, TAKES
from charter.rooms.evaluate.marks import likeliest
from charter.rooms.evaluate.reading import DEV, Row, draw_questions, place_of, read_split
from charter.rooms.evaluate.task import (
    LETTERS,
    Query,
    Question,
    Rows,
    Task,
    accuracy,
    format_question,
    unanswered_rate,
)

if TYPE_CHECKING:
    from charter.rooms.evaluate.context import Context


def rows(context: Context, questions: list[Question]) -> Rows:
    """One row a question. Examples are the first of the subject's development split, as its authors use them."""
    pool = by_subject(read_split(context.source, DEV, parse))
    return context.choose([build_query(context, question, pool) for question in questions])


def build_query(context: Context, question: Question, pool: dict[str, list[Question]]) -> Query:
    """A question after the examples of its subject."""
    examples = pool.get(question.group, [])[: context.protocol.shots]
    if len(examples) < context.protocol.shots:
        # raises an error that says what is missing
        examples = context.examples(pool.get(question.group, []), question.group)
    shots = [(format_question(q), LETTERS[q.right[0]]) for q in examples]
    return Query(question, format_question(question), LEAD, shots, header(question.group))


def header(subject: str) -> str:
    """The line above the examples."""
    return f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}."


def by_subject(pool: list[Question]) -> dict[str, list[Question]]:
    """Questions of each group, in their order."""
    groups: dict[str, list[Question]] = {}
    for question in pool:
        groups.setdefault(question.group, []).append(question)
    return groups


def parse(row: Row, name: str) -> list[Question]:
    """A row with subject, question, choices, and answer as a letter or a number from 0."""
    options = tuple(map(str, row["choices"]))
    subject = str(row["subject"])
    return [
        Question(
            f"{subject}-{row['row']}" if "row" in row else name,
            str(row["question"]).strip(),
            options,
            (place_of(row["answer"], options),),
            group=subject,
            meta={"thought": str(row.get("thought", ""))},
        )
    ]


TASK = Task(
    name="mmlu_plain",
    title="MMLU, by letter",
    group="Knowledge and reasoning",
    questions=draw_questions(parse),
    rows=rows,
    metrics=(accuracy("mmlu_plain", "MMLU questions, plain choice"), unanswered_rate("mmlu_plain")),
    data="mmlu",
    role=Role(kind="questions", default="shipped:mmlu.heldout"),
    standard="data:mmlu",
    protocol=FIVE_SHOT,
    takes=TAKES,
    marks=likeliest,
    cost=(160, 0),
    chance=0.25,
    searched=True,
)
