"""QuALITY: questions on long stories, as many examples as the context holds (card section 4.3; Pang 2022).

Questions of a story are one cluster, and the model reads the story once. An example is a whole story with its question,
so a context of 8,192 tokens holds none. The task takes the largest number of examples with which every question still
fits, down to 0; it is part of the score's identity. `hard`: questions that most annotators under time pressure got
wrong, if the data marks them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from charter.ground.artifact.manifest import digest_text
from charter.ground.measure import counts
from charter.ground.measure.metric import Metric
from charter.ground.settings.roles import Role
from charter.rooms.evaluate.choices import FIVE_SHOT, LEAD, TAKES
from charter.rooms.evaluate.marks import likeliest
from charter.rooms.evaluate.reading import TEST, Row, has, place_of, read_split
from charter.rooms.evaluate.task import (
    LETTERS,
    Query,
    Question,
    Rows,
    Task,
    accuracy,
    format_question,
    unanswered_rate,
)

if TYPE_CHECKING:
    from charter.rooms.evaluate.context import Context


# The authors' test split has no labels: their development split is scored, and examples are those of training.
SCORED, EXAMPLES = ("dev", *TEST), ("train",)


def questions(context: Context) -> list[Question]:
    """The drawn questions. Sets `context.facts["shots"]`, the number of examples that fit before each of them."""
    sample = context.draw(read_split(context.source, SCORED, parse))
    shots = examples(context)[: context.protocol.shots]
    alone = [question for question in sample if context.fits(build_query(question, []), 2)]
    while shots and not all(context.fits(build_query(question, shots), 2) for question in alone):
        shots.pop()
    context.facts["shots"] = len(shots)
    return sample


def rows(context: Context, questions: list[Question]) -> Rows:
    """One row a question."""
    shots = examples(context)[: context.facts["shots"]]
    return context.choose([build_query(question, shots) for question in questions])


def examples(context: Context) -> list[tuple[str, str]]:
    """The first question of each story of the training split, without the scored stories; [] if there is no such
    split."""
    if not has(context.source, EXAMPLES):
        return []
    scored = {question.cluster for question in read_split(context.source, SCORED, parse)}
    pool = {
        q.cluster: q for q in reversed(read_split(context.source, EXAMPLES, parse)) if q.cluster not in scored
    }
    return [(format_question(q), LETTERS[q.right[0]]) for q in reversed(pool.values())]


def build_query(question: Question, shots: list[tuple[str, str]]) -> Query:
    return Query(question, format_question(question), LEAD, shots)


def parse(row: Row, name: str) -> list[Question]:
    """A story with its questions (article, questions with options, gold_label from 1, and difficult), or the hub's row
    with one question (article, question, options, answer from 0, and hard)."""
    story = str(row["article"]).strip()
    if "questions" in row:
        cluster = str(row.get("article_id") or name)
        entries = row["questions"]
    else:
        # rows of a story are one cluster
        cluster = str(row.get("article_id") or digest_text(story)[:12])
        entries = [{**row, "question_unique_id": name, "gold_label": int(row["answer"]) + 1}]
    questions = []
    for number, entry in enumerate(entries):
        options = tuple(str(o).strip() for o in entry["options"])
        place = place_of(int(entry["gold_label"]) - 1, options)
        hard = entry.get("difficult", entry.get("hard"))
        # false and true count as 0 and 1
        level = {None: "", 0: "easy", 1: "hard"}[hard]
        key = str(entry.get("question_unique_id") or f"{cluster}/{number}")
        questions.append(
            Question(key, entry["question"].strip(), options, (place,), (), story, cluster, level)
        )
    return questions


TASK = Task(
    name="quality",
    title="QuALITY",
    group="Reading",
    questions=questions,
    rows=rows,
    metrics=(
        accuracy("quality", "QuALITY questions on long stories"),
        unanswered_rate("quality"),
        Metric(
            "quality_hard", "", counts.mean("correct", counts.equal(group="hard")), "higher", "QuALITY, hard"
        ),
    ),
    role=Role(kind="questions", default="shipped:quality.heldout"),
    standard="data:quality",
    protocol=FIVE_SHOT,
    takes=TAKES,
    marks=likeliest,
    cost=(2500, 0),
    chance=0.25,
    searched=True,
)
