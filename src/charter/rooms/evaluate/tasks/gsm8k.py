"""GSM8k: grade-school sums, no examples, the answer after reasoning step by step (card section 4.3; Cobbe 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from charter.ground.settings.roles import Role
from charter.ground.text.answers import number, read_number
from charter.rooms.evaluate.marks import unless_too_long, verdict
from charter.rooms.evaluate.reading import Row, drawn
from charter.rooms.evaluate.task import Asked, Marks, Protocol, Question, Rows, Task, accuracy, unanswered

if TYPE_CHECKING:
    from charter.rooms.evaluate.context import Context


REQUEST = "Think step by step, then end with a line that reads: The answer is <number>."


def rows(context: Context, asked: list[Question]) -> Rows:
    """One row a sampled answer."""
    return context.answer([Asked(question, f"{question.text}\n\n{REQUEST}") for question in asked], grade)


def number_read(row: Marks) -> dict[str, Any]:
    """Of a sum: right if the number read in the reply equals the accepted one."""
    value = read_number(row["reply"])
    right = value is not None and value == number(row["accepted"][0])
    return {"answer": value} | verdict(right, value is not None)


def grade(asked: Asked, reply: str) -> dict[str, Any]:
    """Right if the number read in the reply equals the gold one."""
    said = {"reply": reply, "accepted": list(asked.question.accepted)}
    return said | number_read(said)


def parse(row: Row, name: str) -> list[Question]:
    """A row whose answer ends in "#### " and the number."""
    gold = str(row["answer"]).rpartition("####")[2].strip()
    number(gold)
    return [Question(name, row["question"].strip(), accepted=(gold,))]


TASK = Task(
    name="gsm8k",
    title="GSM8k",
    group="Knowledge and reasoning",
    questions=drawn(parse),
    rows=rows,
    metrics=(accuracy("gsm8k", "grade-school sums solved after reasoning"), unanswered("gsm8k")),
    role=Role(kind="questions", default="shipped:gsm8k.heldout"),
    standard="data:gsm8k",
    protocol=Protocol(max_tokens=320),
    marks=unless_too_long(number_read),
    cost=(120, 200),
    searched=True,
)
