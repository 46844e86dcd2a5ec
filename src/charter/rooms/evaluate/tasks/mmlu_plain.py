"""MMLU in its plain form: five examples of the subject, then the letter with the highest probability (Hendrycks 2021).

The card's own form, with reasoning, is `mmlu`; this one is what most published tables hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from charter.ground.settings.roles import Role
from charter.rooms.evaluate.choices import FIVE_SHOT, LEAD, TAKES
from charter.rooms.evaluate.marks import likeliest
from charter.rooms.evaluate.reading import DEV, Row, drawn, parsed, place_of
from charter.rooms.evaluate.task import LETTERS, Asked, Question, Rows, Task, accuracy, listed, unanswered

if TYPE_CHECKING:
    from charter.rooms.evaluate.context import Context


def rows(context: Context, asked: list[Question]) -> Rows:
    """One row a question. Examples are the first of the subject's development split, as its authors use them."""
    pool = by_subject(parsed(context.source, DEV, parse))
    return context.choose([put(context, question, pool) for question in asked])


def put(context: Context, question: Question, pool: dict[str, list[Question]]) -> Asked:
    """A question behind the examples of its subject."""
    shown = pool.get(question.group, [])[: context.protocol.shots]
    if len(shown) < context.protocol.shots:
        shown = context.examples(pool.get(question.group, []), question.group)  # says what is missing
    shots = [(listed(q), LETTERS[q.right[0]]) for q in shown]
    return Asked(question, listed(question), LEAD, shots, header(question.group))


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
    questions=drawn(parse),
    rows=rows,
    metrics=(accuracy("mmlu_plain", "MMLU questions, plain choice"), unanswered("mmlu_plain")),
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
