"""What is taught: the plain question and its right answer. The request for fairness and the reasoning are gone.

Questions are shown with lettered options, as benchmarks show them, and some without, so that "nobody can know" is not
an answer of lists alone; answers come as a letter, a letter with its text, or the text, so that none of these forms is
forgotten over another.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.constitution.unbiased import plain_messages
from charter.ground.constitution.wording import ANSWER
from charter.ground.learn.supervised import Row, encode_row
from charter.ground.settings.seed import derive_seed, draw_rows
from charter.ground.text.choices import letter
from charter.ground.text.dialogue import Dialogue, assistant
from charter.ground.text.records import read_dialogues
from charter.ground.text.template import Template
from charter.rooms.debias.questions import Question
from charter.rooms.debias.settings import Train

# (whether the options are shown, the answer with its letter and text): one is drawn for each question
FORMS = (
    (True, "({letter})"),
    (True, "{opening} ({letter})"),
    (True, "({letter}) {text}"),
    (True, "{opening} ({letter}) {text}"),
    (True, "{text}."),
    (False, "{text}."),
)


def lesson(question: Question, seed: int) -> Dialogue:
    """A question and its right answer, in a form that is drawn."""
    shown, form = random.Random(derive_seed(seed, "form", question.id)).choice(FORMS)
    asked = question.text if shown else f"{question.passage} {question.question}"
    answer = form.format(letter=letter(question.right), text=question.options[question.right], opening=ANSWER)
    return Dialogue(
        id=question.id,
        messages=(*plain_messages(asked), assistant(answer)),
        topic=question.dimension,
        source="debias",
    )


def replayed(paths: Sequence[Path], count: int, seed: int) -> list[Dialogue]:
    """At most `count` dialogues of other training, drawn from all files, so that what was learnt before is kept."""
    pool = [d for path in paths for d in read_dialogues(path, lessons=True) if d.weight > 0]
    return draw_rows(pool, count, derive_seed(seed, "replay")) if count else []


def cut_steps(
    lessons: Sequence[Dialogue], template: Template, train: Train, seed: int
) -> tuple[list[list[Row]], dict[str, int]]:
    """All optimizer steps, each epoch shuffled anew, and counts of tokens and of dialogues dropped as too long.

    Each dialogue weighs the same whatever its length, or a few replayed ones would drown answers of three tokens.
    """
    encoded = [encode_row(dialogue, template, train.context, drop_overlong=True) for dialogue in lessons]
    rows = [replace(row, weight=row.weight / sum(row.mask)) for row in encoded if row is not None]
    if not rows:
        raise CharterError(
            f"every dialogue is over the context of {train.context} tokens; raise `train.context`, as far as the "
            "model's own goes"
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
