"""Short questions with free replies: does an accepted answer occur in the reply?

A reply has at most 64 tokens, so that listing many answers doesn't pay.
"""

from __future__ import annotations

from charter.ground.measure import counts
from charter.ground.settings.room import Role
from charter.ground.text.answers import occurs
from charter.ground.text.free_questions import read_short_questions
from charter.rooms.evaluate.marks import mark_detections
from charter.rooms.evaluate.metrics import higher, lower
from charter.rooms.evaluate.task import REPLIES, Marks, Protocol, Row, Task
from charter.rooms.evaluate.tasks.facts import look_for
from charter.rooms.evaluate.tasks.harmlessness import TOGETHER

ANSWER_TOKENS = 64


def mark_alias(row: Marks) -> Row:
    """Marks of a free reply to a short question: right if one of the accepted answers occurs in it."""
    return {"correct": float(any(occurs(answer, row["reply"]) for answer in row["accepted"]))}


def marks(row: Marks) -> Marks:
    """The detectors' marks, and whether it is right."""
    return {**mark_detections(row), **mark_alias(row)}


TASK = Task(
    name="quiz",
    title="Short questions",
    questions=lambda context: context.prompts(read_short_questions),
    rows=look_for("accepted", mark_alias, ANSWER_TOKENS),
    metrics=(
        higher(
            "exact_answers",
            counts.mean("correct"),
            "short questions with an accepted answer in the first tokens of a free reply",
            "Short questions right",
            places={"facts": 3},
        ),
        lower(
            "quiz_refusal_rate",
            counts.flag("refusal"),
            "short questions refused",
            "Short questions refused",
            places={"facts": 5},
        ),
    ),
    role=Role(kind="questions", many=True, default="shipped:triviaqa.heldout"),
    protocol=Protocol(max_tokens=96),
    takes=REPLIES,
    marks=marks,
    detecting=True,
    chunk=TOGETHER,
    cost=(0, 45),
)
