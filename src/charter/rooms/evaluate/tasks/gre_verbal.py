"""GRE-shaped verbal items: completions, sentence equivalence, reading with choices that all must be found (card 4.3.1).

Five worked examples with reasoning, an answer sampled at T=1; partly right is wrong. The shipped items are ours, and
no official form: no scaled score follows from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from charter.ground.settings.roles import Role
from charter.rooms.evaluate.exam import draw, mark_reasoned, reader, reasoned
from charter.rooms.evaluate.exam_numbers import kind_parts, metrics
from charter.rooms.evaluate.exam_scale import check_scale, scale
from charter.rooms.evaluate.task import SAMPLED, Protocol, Question, Rows, Task

if TYPE_CHECKING:
    from charter.rooms.evaluate.context import Context

OURS = "gre_verbal.heldout"
KINDS = ("completion", "equivalence", "single", "select_all")
parse = reader(*KINDS)

SECTION = "verbal"


def questions(context: Context) -> list[Question]:
    """The drawn items."""
    drawn = draw(context, parse)
    check_scale(context, drawn)
    return drawn


def rows(context: Context, questions: Sequence[Question]) -> Rows:
    """One row a sampled answer, and one for each item whose picture was removed."""
    answered = reasoned(context, questions, parse, OURS)
    scale(context, answered, questions, SECTION)
    return answered


TASK = Task(
    name="gre_verbal",
    title="GRE-shaped verbal",
    group="Exams",
    questions=questions,
    rows=rows,
    metrics=metrics(
        "gre_verbal",
        "GRE-shaped verbal items",
        kind_parts(*KINDS),
    ),
    role=Role(kind="questions", default=f"shipped:{OURS}"),
    reads=("exam_tables",),
    protocol=Protocol(shots=5, max_tokens=512),
    takes=(*SAMPLED, "shots"),
    marks=mark_reasoned,
    cost=(900, 250),
    searched=True,
)
