"""RACE-H: reading questions of high-school English exams, five examples (card section 4.3; Lai 2017).

Questions of one passage are one cluster. Each example has a passage of its own. A question that doesn't fit into the
context after the examples is kept as "too long".
"""

from __future__ import annotations

from charter.ground.settings.room import Role
from charter.rooms.evaluate.choices import FIVE_SHOT, TAKES, behind_examples
from charter.rooms.evaluate.marks import likeliest
from charter.rooms.evaluate.reading import Row, draw_questions, place_of
from charter.rooms.evaluate.task import Question, Task, accuracy, unanswered_rate


def parse(row: Row, name: str) -> list[Question]:
    """A passage with all its questions (article, questions, options, answers), or the hub's row of one question."""
    passage = str(row["article"]).strip()
    cluster = str(row.get("id") or row.get("example_id") or name)
    if "questions" in row:
        key, each = cluster, list(zip(row["questions"], row["options"], row["answers"], strict=True))
    else:
        key, each = f"{cluster}/{name}", [(row["question"], row["options"], row["answer"])]
    questions = []
    for number, (text, options, answer) in enumerate(each):
        options = tuple(str(o).strip() for o in options)
        right = (place_of(answer, options),)
        questions.append(Question(f"{key}/{number}", text.strip(), options, right, passage=passage, cluster=cluster))
    return questions


TASK = Task(
    name="race",
    title="RACE-H",
    group="Reading",
    questions=draw_questions(parse),
    rows=behind_examples(parse),
    metrics=(accuracy("race", "RACE-H reading questions"), unanswered_rate("race")),
    role=Role(kind="questions", default="shipped:race.heldout"),
    standard="data:race_high",
    protocol=FIVE_SHOT,
    takes=TAKES,
    marks=likeliest,
    cost=(450, 0),
    chance=0.25,
    searched=True,
)
