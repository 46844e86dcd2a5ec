"""GSM8k: grade-school sums, no examples, the answer after reasoning step by step (card section 4.3; Cobbe 2021)."""

from __future__ import annotations

from typing import Any

from charter.ground.judge.marks import number_read
from charter.ground.text.answers import number
from charter.rooms.benchmark.answers import answer
from charter.rooms.benchmark.context import Context
from charter.rooms.benchmark.protocol import Protocol
from charter.rooms.benchmark.question import Asked, Question
from charter.rooms.benchmark.reading import TEST, Row, parsed

PROTOCOL = Protocol(max_tokens=320)
REQUEST = "Think step by step, then end with a line that reads: The answer is <number>."


def questions(context: Context) -> list[Question]:
    """The drawn questions of the test split."""
    return context.draw(parsed(context.source, TEST, parse))


def rows(context: Context, asked: list[Question]) -> list[dict[str, Any]]:
    """One row a sampled answer."""
    return answer(context, [Asked(question, f"{question.text}\n\n{REQUEST}") for question in asked], grade)


def grade(asked: Asked, reply: str) -> dict[str, Any]:
    """Right where the number read in the reply equals the gold one."""
    said = {"reply": reply, "accepted": list(asked.question.accepted)}
    return said | number_read(said)


def parse(row: Row, name: str) -> list[Question]:
    """A row whose answer ends in "#### " and the number."""
    gold = str(row["answer"]).rpartition("####")[2].strip()
    number(gold)
    return [Question(name, row["question"].strip(), accepted=(gold,))]
