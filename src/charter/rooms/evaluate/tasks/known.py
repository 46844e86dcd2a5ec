"""Short questions, some of which the model can't know: right, wrong or declined (Claude 2.1's honesty rubric).

An answer is right if an accepted one occurs in it, as in `quiz`.
"""

from __future__ import annotations

from charter.ground.measure.honesty import of_answers
from charter.rooms.evaluate.honesty import Honest, honest_task
from charter.rooms.evaluate.reading import TEST, read_split
from charter.rooms.evaluate.task import Context, Question, unanswered_rate
from charter.rooms.evaluate.tasks import triviaqa


def load(context: Context) -> list[list[Question]]:
    """The questions of the test split."""
    return [[question] for question in read_split(context.source, TEST, triviaqa.parse)]


HONEST = Honest(load)
TASK = honest_task(
    "known",
    "Short questions, known or not",
    HONEST,
    metrics=(*of_answers("known", "short questions"), unanswered_rate("known")),
    data="triviaqa",
    role=triviaqa.TASK.role,
    standard=triviaqa.TASK.standard,
    cost=(60, 24),
    searched=True,
)
