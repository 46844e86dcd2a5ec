"""MBE-shaped items on law: five examples without reasoning, the likeliest letter (card 4.3.2).

The card asked 200 questions of a practice exam that isn't free to share; give your own copy as items. The shipped items
are ours. Of MMLU's rows those on professional law stand in. A raw score alone is reported: no public table turns it
into a scaled one.
"""

from __future__ import annotations

from charter.ground.measure.metric import VERSION
from charter.ground.settings.room import Role
from charter.ground.text.exam_items import parse_item
from charter.rooms.evaluate.choices import FIVE_SHOT, TAKES
from charter.rooms.evaluate.exam import as_question, by_letter, draw, mark_letter, metrics, reader
from charter.rooms.evaluate.reading import Row
from charter.rooms.evaluate.stand_ins import mmlu_item
from charter.rooms.evaluate.task import Question, Task

OURS = "mbe.heldout"
SUBJECTS = frozenset({"professional_law"})
OWN = reader("single")


def parse(row: Row, name: str) -> list[Question]:
    """A row of an item, or MMLU's row on professional law; [] for its other subjects."""
    if "choices" not in row:
        return OWN(row, name)
    return [as_question(parse_item(mmlu_item(row), name))] if row["subject"] in SUBJECTS else []


TASK = Task(
    name="mbe",
    title="MBE-shaped",
    group="Exams",
    questions=lambda context: draw(context, parse),
    rows=lambda context, questions: by_letter(context, questions, parse, OURS),
    metrics=metrics("mbe", "MBE-shaped items"),
    role=Role(kind="questions", default=f"shipped:{OURS}"),
    standard="data:mmlu",
    protocol=FIVE_SHOT,
    takes=TAKES,
    marks=mark_letter,
    cost=(1500, 0),
    searched=True,
    version=VERSION + 1,
)
