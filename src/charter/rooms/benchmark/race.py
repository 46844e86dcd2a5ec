"""RACE-H: reading questions of high-school English exams, five examples (card section 4.3; Lai 2017).

Questions of one passage are one cluster. A question that the context doesn't hold behind the examples, each of which
has a passage of its own, is kept as "too long".
"""

from __future__ import annotations

from typing import Any

from charter.rooms.benchmark.choice import behind_examples, choose
from charter.rooms.benchmark.context import Context
from charter.rooms.benchmark.protocol import Protocol
from charter.rooms.benchmark.question import Question
from charter.rooms.benchmark.reading import DEV, TEST, Row, parsed, place_of

PROTOCOL = Protocol(shots=5, form="text", temperature=0.0)


def questions(context: Context) -> list[Question]:
    """The drawn questions of the test split."""
    return context.draw(parsed(context.source, TEST, parse))


def rows(context: Context, asked: list[Question]) -> list[dict[str, Any]]:
    """One row a question, behind examples of the development split."""
    return choose(context, behind_examples(context, asked, parsed(context.source, DEV, parse)))


def parse(row: Row, name: str) -> list[Question]:
    """A passage with all its questions (article, questions, options, answers), or the hub's row of one question."""
    passage = str(row["article"]).strip()
    cluster = str(row.get("id") or row.get("example_id") or name)
    if "questions" in row:
        key, each = cluster, list(zip(row["questions"], row["options"], row["answers"], strict=True))
    else:
        key, each = f"{cluster}/{name}", [(row["question"], row["options"], row["answer"])]
    found = []
    for number, (text, options, answer) in enumerate(each):
        options = tuple(str(o).strip() for o in options)
        right = (place_of(answer, options),)
        found.append(
            Question(f"{key}/{number}", text.strip(), options, right, passage=passage, cluster=cluster)
        )
    return found
