"""USMLE-shaped items by step: five examples without reasoning, the likeliest letter (card 4.3.3).

The card asked official practice items that aren't free to share, with tables transcribed and pictures removed; give
your own copy as items. The shipped items are ours. MedQA stands in by step, and of MMLU the rows on medicine. Their
items say nothing of pictures: one whose words point at a picture counts as removed.
"""

from __future__ import annotations

from collections.abc import Sequence

from charter.ground.measure.metric import VERSION
from charter.ground.settings.room import Role
from charter.ground.text.exam_items import parse_item
from charter.rooms.evaluate.choices import FIVE_SHOT, TAKES
from charter.rooms.evaluate.exam import as_question, by_letter, draw, mark_letter, metrics, reader
from charter.rooms.evaluate.exam_scale import pass_view
from charter.rooms.evaluate.reading import Row
from charter.rooms.evaluate.stand_ins import medqa_item, mmlu_item
from charter.rooms.evaluate.task import Context, Question, Rows, Task

OURS = "usmle.heldout"
SUBJECTS = frozenset({"professional_medicine", "clinical_knowledge", "college_medicine", "anatomy", "medical_genetics"})
STEPS = (("step_1", "1"), ("step_2", "2"), ("step_3", "3"), ("step_2_3", "2&3"))
OWN = reader("single")


def parse(row: Row, name: str) -> list[Question]:
    """A row of an item, MedQA's row, or MMLU's row on medicine; [] for its other subjects."""
    if "meta_info" in row:
        return [as_question(parse_item(medqa_item(row), name))]
    if "choices" in row:
        return [as_question(parse_item(mmlu_item(row), name))] if row["subject"] in SUBJECTS else []
    return OWN(row, name)


def rows(context: Context, questions: Sequence[Question]) -> Rows:
    """One row an item."""
    answer_rows = by_letter(context, questions, parse, OURS)
    pass_view(context, answer_rows)
    return answer_rows


TASK = Task(
    name="usmle",
    title="USMLE-shaped",
    group="Exams",
    questions=lambda context: draw(context, parse),
    rows=rows,
    metrics=metrics("usmle", "USMLE-shaped items", [(part, "step", step, f"Step {step}") for part, step in STEPS]),
    role=Role(kind="questions", default=f"shipped:{OURS}"),
    standard="data:exams/medqa_test_4options",
    protocol=FIVE_SHOT,
    takes=TAKES,
    marks=mark_letter,
    cost=(1500, 0),
    searched=True,
    version=VERSION + 1,
)
