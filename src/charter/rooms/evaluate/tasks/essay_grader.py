"""The examiner of essays, held against people: does it rank essays as they do, and better than by length?

No model is under test but the role `examiner`, without one the helper, else the model itself. The set is people's
essays with an overall score; its scale doesn't matter, since ranks are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from charter.ground.measure import counts
from charter.ground.measure.essays import combine, rank_correlation
from charter.ground.measure.metric import Term
from charter.ground.settings.room import Role
from charter.rooms.evaluate.metrics import higher, lower, neither
from charter.rooms.evaluate.reading import Row, draw_questions
from charter.rooms.evaluate.task import SCORED, Context, Marks, Question, Rows, Task

TOGETHER = 16
WRITE = "Write an essay on this topic: {}"


def parse(row: Row, name: str) -> list[Question]:
    """A row with full_text, prompt (its topic) and overall, the score that people gave; perhaps text_id."""
    text, human = str(row["full_text"]).strip(), float(row["overall"])
    if not text:
        raise ValueError("the essay is empty")
    topic = WRITE.format(str(row["prompt"]).strip())
    return [Question(str(row.get("text_id") or name), topic, passage=text, meta={"human": human})]


def rows(context: Context, questions: Sequence[Question]) -> Rows:
    """One row an essay."""
    context.facts["examiners"] = context.models.examiner_ids

    def produce(part: Sequence[Question], _: int) -> Rows:
        readings = context.models.read_essays([(q.text, q.passage) for q in part])
        return [_row(question, essay_readings) for question, essay_readings in zip(part, readings, strict=True)]

    return context.out.chunks(context.task.name, questions, TOGETHER, produce, context.title)


def _row(question: Question, readings: Sequence[float | None]) -> dict[str, Any]:
    row = {
        "id": question.id,
        "item": question.id,
        "group": question.text,
        "human": question.meta["human"],
        "words": len(question.passage.split()),
        "readings": list(readings),
    }
    return row | mark_readings(row)


def mark_readings(row: Marks) -> dict[str, Any]:
    """Marks of an examined essay: the score, and the mean before it is rounded, which ranks more finely."""
    score, readings = combine(row["readings"]), [reading for reading in row["readings"] if reading is not None]
    return {"score": score, "mean": None if score is None else sum(readings) / len(readings)}


TASK = Task(
    name="essay_grader",
    title="Examiner of essays",
    questions=draw_questions(parse),
    rows=rows,
    metrics=(
        higher(
            "essay_grader",
            partial(rank_correlation, key="mean"),
            "rank correlation of the examiner's scores with people's",
            unit="r",
            about="judge",
        ),
        neither(
            "essay_grader_length",
            partial(rank_correlation, key="words"),
            "rank correlation of the number of words with people's scores",
            unit="r",
            about="data",
        ),
        higher(
            "essay_grader_over_length",
            None,
            "rank correlation of the examiner's scores less that of length",
            unit="",
            about="judge",
            terms=(Term(1.0, ("essay_grader",)), Term(-1.0, ("essay_grader_length",))),
            paired=True,
        ),
        lower(
            "essay_grader_unscored",
            counts.equals("score", None),
            "essays that the examiner gave no readable score",
            kind="fault",
            about="judge",
        ),
    ),
    role=Role(kind="questions"),
    reads=("examiner", "second_examiner", "third_examiner"),
    standard="data:exams/ellipse_essays_450",
    takes=SCORED,
    marks=mark_readings,
    cost=(2000, 0),
)
