"""MMLU in its plain form: five examples of the subject, then the letter with the highest probability (Hendrycks 2021).

The card's own form, with reasoning, is `mmlu`; this one is what most published tables hold.
"""

from __future__ import annotations

from typing import Any

from charter.rooms.benchmark.choice import LEAD, choose
from charter.rooms.benchmark.context import Context
from charter.rooms.benchmark.protocol import Protocol
from charter.rooms.benchmark.question import LETTERS, Asked, Question, listed
from charter.rooms.benchmark.reading import DEV, TEST, Row, parsed, place_of

PROTOCOL = Protocol(shots=5, form="text", temperature=0.0)


def questions(context: Context) -> list[Question]:
    """The drawn questions of the test split, a group each subject."""
    return context.draw(parsed(context.source, TEST, parse))


def rows(context: Context, asked: list[Question]) -> list[dict[str, Any]]:
    """One row a question. Examples are the first of the subject's development split, as its authors use them."""
    pool = by_subject(parsed(context.source, DEV, parse))
    return choose(context, [put(context, question, pool) for question in asked])


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
    found: dict[str, list[Question]] = {}
    for question in pool:
        found.setdefault(question.group, []).append(question)
    return found


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
