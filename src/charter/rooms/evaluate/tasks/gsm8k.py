"""GSM8k: grade-school sums, no examples, the answer after reasoning step by step (card section 4.3; Cobbe 2021)."""

from __future__ import annotations

from typing import Any

from charter.ground.settings.room import Role
from charter.ground.text.answers import number, read_number
from charter.rooms.evaluate import asking
from charter.rooms.evaluate.marks import unless_too_long, verdict
from charter.rooms.evaluate.reading import Row, draw_questions
from charter.rooms.evaluate.task import Context, Marks, Protocol, Query, Question, Rows, Task, accuracy, unanswered_rate

REQUEST = "Think step by step, then end with a line that reads: The answer is <number>."


def rows(context: Context, questions: list[Question]) -> Rows:
    """One row a sampled answer."""
    return asking.answer(context, [Query(question, f"{question.text}\n\n{REQUEST}") for question in questions], grade)


def mark_number(row: Marks) -> dict[str, Any]:
    """Marks of a sum: right if the number in the reply equals the accepted one."""
    value = read_number(row["reply"])
    right = value is not None and value == number(row["accepted"][0])
    return {"answer": value} | verdict(right, value is not None)


def grade(query: Query, reply: str) -> dict[str, Any]:
    """Right if the number in the reply equals the gold one."""
    row = {"reply": reply, "accepted": list(query.question.accepted)}
    return row | mark_number(row)


def parse(row: Row, name: str) -> list[Question]:
    """A row whose answer ends in "#### " and the number."""
    gold = str(row["answer"]).rpartition("####")[2].strip()
    number(gold)
    return [Question(name, row["question"].strip(), accepted=(gold,))]


TASK = Task(
    name="gsm8k",
    title="GSM8k",
    group="Knowledge and reasoning",
    questions=draw_questions(parse),
    rows=rows,
    metrics=(accuracy("gsm8k", "grade-school sums solved after reasoning"), unanswered_rate("gsm8k")),
    role=Role(kind="questions", default="shipped:gsm8k.heldout"),
    standard="data:gsm8k",
    protocol=Protocol(max_tokens=320),
    marks=unless_too_long(mark_number),
    cost=(120, 200),
    searched=True,
)
