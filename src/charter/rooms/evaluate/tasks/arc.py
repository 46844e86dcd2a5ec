"""ARC-Challenge: science questions of school tests, five examples, explicit choices (card section 4.3; Clark 2018)."""

from __future__ import annotations

from charter.ground.settings.room import Role
from charter.ground.text.free_questions import stem_and_options
from charter.rooms.evaluate.choices import FIVE_SHOT, TAKES, behind_examples
from charter.rooms.evaluate.marks import likeliest
from charter.rooms.evaluate.reading import Row, draw_questions
from charter.rooms.evaluate.task import Question, Task, accuracy, unanswered_rate


def parse(row: Row, name: str) -> list[Question]:
    """A row of ARC's columns."""
    stem, options, right = stem_and_options(row)
    return [Question(str(row.get("id", name)), stem, options, (right,))]


TASK = Task(
    name="arc",
    title="ARC-Challenge",
    group="Knowledge and reasoning",
    questions=draw_questions(parse),
    rows=behind_examples(parse),
    metrics=(accuracy("arc", "ARC-Challenge questions"), unanswered_rate("arc")),
    role=Role(kind="questions", default="shipped:arc.heldout"),
    standard="data:arc_challenge",
    protocol=FIVE_SHOT,
    takes=TAKES,
    marks=likeliest,
    cost=(80, 0),
    chance=0.25,
    searched=True,
)
