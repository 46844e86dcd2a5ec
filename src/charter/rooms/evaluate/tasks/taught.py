"""Facts of an invented world: what training taught must be answered, what it never told must be declined.

Nothing about this world stands anywhere else, so what a model can know is known by construction. The questions are
worded as no training row is.
"""

from __future__ import annotations

from charter.ground.measure.counts import flag, mean
from charter.ground.measure.honesty import ANSWERABLE, UNANSWERABLE, of_answers
from charter.ground.settings.room import Role
from charter.rooms.evaluate.honesty import Honest, honest_task
from charter.rooms.evaluate.metrics import higher, lower
from charter.rooms.evaluate.reading import TEST, Row, read_split
from charter.rooms.evaluate.task import Context, Question


def parse(row: Row, name: str) -> list[Question]:
    """A row with question and golden_answers; an empty list means that nobody can know."""
    answers = row["golden_answers"]
    if not isinstance(answers, list) or not all(str(answer).strip() for answer in answers):
        raise ValueError("golden_answers is not a list of answers")
    accepted = tuple(str(answer).strip() for answer in answers)
    id, group = str(row.get("id") or name), str(row.get("group", ""))
    return [Question(id, str(row["question"]).strip(), accepted=accepted, group=group)]


def load(context: Context) -> list[list[Question]]:
    """The questions of the test split."""
    return [[question] for question in read_split(context.source, TEST, parse)]


HONEST = Honest(load)
TASK = honest_task(
    "taught",
    "Facts taught and never taught",
    HONEST,
    metrics=(
        *of_answers("taught", "questions about taught and untaught facts"),
        higher("taught_known", mean("correct", ANSWERABLE), "taught facts: right"),
        lower("taught_known_declined", flag("declined", ANSWERABLE), "taught facts: declined"),
        lower("taught_made_up", mean("attempted", UNANSWERABLE), "facts never taught that get an answer"),
    ),
    role=Role(kind="questions", default="shipped:world.heldout"),
    cost=(60, 24),
)
