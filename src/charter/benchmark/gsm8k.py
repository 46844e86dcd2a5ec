"""GSM8k: grade-school sums, no examples, the answer after reasoning step by step (card section 4.3; Cobbe 2021)."""

from __future__ import annotations

import math
import re
from typing import Any

from charter.benchmark.answers import answer
from charter.benchmark.context import Context
from charter.benchmark.protocol import Protocol
from charter.benchmark.question import Asked, Question
from charter.benchmark.reading import TEST, Row, parsed

PROTOCOL = Protocol(max_tokens=320)
REQUEST = "Think step by step, then end with a line that reads: The answer is <number>."
# "-$1,234.50", "3/4", "2 1/2"; a minus behind a digit or a bracket takes away and is no sign
NUMBER = re.compile(
    r"(?:(?<![\w)\]])-)?(?:[$€£]-?)?"
    r"(?:(?:\d+ )?\d+/[1-9]\d*|(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
)

REMARK = re.compile(r"\([^()]*[^\W\d_]{2}[^()]*\)")  # words in brackets: "18 (as 16 + 2 = 18)"


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
    """The number in the sentence after the last "answer is" (of "3 + 4 = 7" the last; remarks in brackets are none),
    else the last number of the text; None without any."""
    text = text.replace("−", "-")
    _, found, after = text.lower().rpartition("answer is")
    lines = [line for line in after.splitlines() if NUMBER.search(line)] if found else []
    if lines:
        sentence = re.split(r"[.;]\s", REMARK.sub("", lines[0]))[0]
        told = sentence if NUMBER.search(sentence) else lines[0]
        chosen = NUMBER.search(told.rpartition("=")[2]) or NUMBER.search(told)
    else:
        chosen = max(NUMBER.finditer(text), key=re.Match.start, default=None)
    value = number(chosen.group()) if chosen else math.inf
    return value if math.isfinite(value) else None  # digits without end are none


def number(text: str) -> float:
    """A number as written: a fraction is what it comes to; thousands' commas and signs of money are left aside.

    Raises ValueError where it is none.
    """
    if not NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is no number")
    plain = re.sub(r"[,$€£]", "", text)
    whole, _, part = plain.lstrip("-").rpartition(" ")
    above, _, below = part.partition("/")
    value = float(whole or 0) + float(above) / float(below or 1)
    return -value if plain.startswith("-") else value


def parse(row: Row, name: str) -> list[Question]:
    """A row whose answer ends in "#### " and the number."""
    gold = str(row["answer"]).rpartition("####")[2].strip()
    number(gold)
    return [Question(name, row["question"].strip(), accepted=(gold,))]
