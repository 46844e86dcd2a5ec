"""GSM8k: grade-school sums, no examples, the answer after reasoning step by step (card section 4.3; Cobbe 2021)."""

from __future__ import annotations

import re
from typing import Any

from charter.benchmark.answers import answer
from charter.benchmark.context import Context
from charter.benchmark.protocol import Protocol
from charter.benchmark.question import Asked, Question
from charter.benchmark.reading import TEST, Row, parsed

PROTOCOL = Protocol(max_tokens=320)
REQUEST = "Think step by step, then end with a line that reads: The answer is <number>."
NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?")


def questions(context: Context) -> list[Question]:
    """The drawn questions of the test split."""
    return context.draw(parsed(context.source, TEST, parse))


def rows(context: Context, asked: list[Question]) -> list[dict[str, Any]]:
    """One row a sampled answer."""
    return answer(context, [Asked(question, f"{question.text}\n\n{REQUEST}") for question in asked], grade)


def grade(asked: Asked, reply: str) -> dict[str, Any]:
    """Right where the number read in the reply equals the gold one."""
    found = read_number(reply)
    right = found is not None and found == number(asked.question.accepted[0])
    return {
        "answer": found,
        "correct": float(right),
        "outcome": "unparsed" if found is None else "right" if right else "wrong",
    }


def read_number(text: str) -> float | None:
    """The number after the last "answer is", else the last number of the text; None without any."""
    _, found, after = text.lower().rpartition("answer is")
    first = NUMBER.search(after) if found else None
    if first:
        return number(first.group())
    every = NUMBER.findall(text)
    return number(every[-1]) if every else None


def number(text: str) -> float:
    """A number as written, thousands' commas and a dollar sign aside."""
    return float(text.replace(",", "").replace("$", ""))


def parse(row: Row, name: str) -> list[Question]:
    """A row whose answer ends in "#### " and the number."""
    gold = str(row["answer"]).rpartition("####")[2].strip()
    number(gold)
    return [Question(name, row["question"].strip(), accepted=(gold,))]
