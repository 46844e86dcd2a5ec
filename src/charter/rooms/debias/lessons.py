"""Lessons: the plain question and its right answer, without the request for fairness and the reasoning.

Most questions have lettered options, as in benchmarks. Some have none, so that "nobody can know" is not tied to lists.
Answers are a letter, a letter with its text, or the text, so that the model forgets none of these forms.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.constitution.wording import ANSWER
from charter.ground.learn.supervised import Row, encode_row
from charter.ground.settings.seed import derive_seed, draw_rows
from charter.ground.text.dialogue import Dialogue, assistant
from charter.ground.text.records import read_dialogues
from charter.ground.text.template import Template
from charter.rooms.debias.questions import Question
from charter.rooms.debias.settings import Train
from charter.rooms.debias.wording import letter, plain_messages

# (whether options are shown, the answer with its letter and text); one is drawn for each question
FORMS = (
    (True, "({letter})"),
    (True, "{opening} ({letter})"),
    (True, "({letter}) {text}"),
    (True, "{opening} ({letter}) {text}"),
    (True, "{text}."),
    (False, "{text}."),
)


def lesson(question: Question, seed: int) -> Dialogue:
    """A question and its right answer, in a randomly drawn form."""
    with_options, form = random.Random(derive_seed(seed, "form", question.id)).choice(FORMS)
    question_text = question.text if with_options else f"{question.passage} {question.question}"
    answer = form.format(letter=letter(question.right), text=question.options[question.right], opening=ANSWER)
    return Dialogue(
        id=question.id,
        messages=(*plain_messages(question_text), assistant(answer)),
        topic=question.dimension,
        source="debias",
    )


def draw_replay(paths: Sequence[Path], count: int, seed: int) -> list[Dialogue]:
    """At most `count` dialogues of other training, drawn from all files, to keep what was learnt before."""
    pool = [d for path in paths for d in read_dialogues(path, lessons=True) if d.weight > 0]
    return draw_rows(pool, count, derive_seed(seed, "replay")) if count else []


def cut_steps(
    lessons: Sequence[Dialogue], template: Template, train: Train, seed: int
) -> tuple[list[list[Row]], dict[str, int]]:
    """All optimizer steps, each epoch shuffled anew, and counts of tokens and of dialogues dropped as too long.

    Dialogues of any length have equal weight, or a few replayed ones would outweigh answers of three tokens.
    """
    encoded = [encode_row(dialogue, template, train.context, drop_overlong=True) for dialogue in lessons]
    rows = [replace(row, weight=row.weight / sum(row.mask)) for row in encoded if row is not None]
    if not rows:
        raise CharterError(
            f"every dialogue is over the context of {train.context} tokens; raise `train.context`, at most to the "
            "model's own"
        )
    steps = []
    for epoch in range(train.epochs):
        order = random.Random(derive_seed(seed, "order", epoch)).sample(rows, len(rows))
        steps += [order[at : at + train.batch] for at in range(0, len(order), train.batch)]
    counts = {
        "dropped_overlong": len(encoded) - len(rows),
        "steps": len(steps),
        "tokens_read": train.epochs * sum(len(row.ids) for row in rows),
        "tokens_learnt": train.epochs * sum(sum(row.mask) for row in rows),
    }
    return steps, counts
