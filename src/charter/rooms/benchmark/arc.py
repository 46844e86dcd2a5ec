"""ARC-Challenge: science questions of school tests, five examples, explicit choices (card section 4.3; Clark 2018)."""

from __future__ import annotations

from typing import Any

from charter.ground.text.free_questions import stem_and_options
from charter.rooms.benchmark.choice import behind_examples, choose
from charter.rooms.benchmark.context import Context
from charter.rooms.benchmark.protocol import Protocol
from charter.rooms.benchmark.question import Question
from charter.rooms.benchmark.reading import DEV, TEST, Row, parsed

PROTOCOL = Protocol(shots=5, form="text", temperature=0.0)


def questions(context: Context) -> list[Question]:
    """The drawn questions of the test split."""
    return context.draw(parsed(context.source, TEST, parse))


def rows(context: Context, asked: list[Question]) -> list[dict[str, Any]]:
    """One row a question, behind examples of the development split."""
    return choose(context, behind_examples(context, asked, parsed(context.source, DEV, parse)))


def parse(row: Row, name: str) -> list[Question]:
    """A row of ARC's columns."""
    stem, options, right = stem_and_options(row)
    return [Question(str(row.get("id", name)), stem, options, (right,))]
