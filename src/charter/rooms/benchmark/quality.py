"""QuALITY: questions on long stories, as many examples as the context holds (card section 4.3; Pang 2022).

Questions of a story are one cluster, and read it once. An example is a story with its question, so that a context of
8,192 tokens holds none: the largest number of examples with which every question still fits, down to 0, is taken and
is part of the score's identity. `hard`: what most annotators under time pressure got wrong, where the data marks it.
"""

from __future__ import annotations

from typing import Any

from charter.ground.artifact.manifest import digest_text
from charter.rooms.benchmark.choice import LEAD, choose
from charter.rooms.benchmark.context import Context
from charter.rooms.benchmark.protocol import Protocol
from charter.rooms.benchmark.question import LETTERS, Asked, Question, listed
from charter.rooms.benchmark.reading import TEST, Row, has, parsed, place_of

PROTOCOL = Protocol(shots=5, form="text", temperature=0.0)
# The authors' test split has no labels: their development split is scored, and examples are those of training.
SCORED, EXAMPLES = ("dev", *TEST), ("train",)


def questions(context: Context) -> list[Question]:
    """The drawn questions; `context.facts` says how many examples there is room for before each of them."""
    drawn = context.draw(parsed(context.source, SCORED, parse))
    shots = examples(context)[: context.protocol.shots]
    alone = [question for question in drawn if context.fits(put(question, []), 2)]
    while shots and not all(context.fits(put(question, shots), 2) for question in alone):
        shots.pop()
    context.facts["shots"] = len(shots)
    return drawn


def rows(context: Context, asked: list[Question]) -> list[dict[str, Any]]:
    """One row a question."""
    shots = examples(context)[: context.facts["shots"]]
    return choose(context, [put(question, shots) for question in asked])


def examples(context: Context) -> list[tuple[str, str]]:
    """The first question of each story of the split that is not scored, without the stories that are; none where
    there is no such split."""
    if not has(context.source, EXAMPLES):
        return []
    scored = {question.cluster for question in parsed(context.source, SCORED, parse)}
    pool = {
        q.cluster: q for q in reversed(parsed(context.source, EXAMPLES, parse)) if q.cluster not in scored
    }
    return [(listed(q), LETTERS[q.right[0]]) for q in reversed(pool.values())]


def put(question: Question, shots: list[tuple[str, str]]) -> Asked:
    return Asked(question, listed(question), LEAD, shots)


def parse(row: Row, name: str) -> list[Question]:
    """A story with its questions (article, questions with options, gold_label from 1, and difficult), or with one
    question (article, question, options, answer from 0, and hard), as the hub has them."""
    story = str(row["article"]).strip()
    if "questions" in row:
        cluster = str(row.get("article_id") or name)
        asked = row["questions"]
    else:
        cluster = str(row.get("article_id") or digest_text(story)[:12])  # rows of a story are one cluster
        asked = [{**row, "question_unique_id": name, "gold_label": int(row["answer"]) + 1}]
    found = []
    for number, entry in enumerate(asked):
        options = tuple(str(o).strip() for o in entry["options"])
        place = place_of(int(entry["gold_label"]) - 1, options)
        hard = entry.get("difficult", entry.get("hard"))
        level = {None: "", 0: "easy", 1: "hard"}[hard]  # also of false and true
        key = str(entry.get("question_unique_id") or f"{cluster}/{number}")
        found.append(Question(key, entry["question"].strip(), options, (place,), (), story, cluster, level))
    return found
