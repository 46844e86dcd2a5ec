"""Chooses the questions to ask and the questions to teach: those answered right, balanced, or all of them if the model
is too weak to answer right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.rooms.debias.balance import CELLS, balance, cell_sizes, cell_words
from charter.rooms.debias.questions import Question
from charter.rooms.debias.settings import Settings


def choose_questions(settings: Settings, questions: Sequence[Question], seed: int) -> list[Question]:
    """The questions to ask, equally many of each cell. Raises CharterError if there are too few."""
    chosen = balance(questions, seed, settings.limit)
    if len(chosen) < len(CELLS) * settings.keep_at_least:
        raise CharterError(
            f"the templates give {len(chosen)} balanced questions, {len(chosen) // len(CELLS)} for each of "
            f"{len(CELLS)} cells, and keep_at_least is {settings.keep_at_least}; write more templates or pairs"
        )
    return chosen


def choose_lessons(
    settings: Settings, questions: Sequence[Question], rows: Sequence[dict[str, Any]], seed: int
) -> list[Question]:
    """The questions to teach, equally many of each cell. `teach: all` takes wrongly answered ones too.

    Raises CharterError if a cell has fewer than `keep_at_least`.
    """
    right = {row["item"] for row in rows if row["kept"]}
    usable = [q for q in questions if settings.teach == "all" or q.id in right]
    sizes = cell_sizes(usable)
    poorest = min(sizes, key=lambda cell: sizes[cell])
    if sizes[poorest] < settings.keep_at_least:
        raise CharterError(
            f"{len(right)} of {len(questions)} questions were answered right, {sizes[poorest]} of the cell "
            f"{cell_words(poorest)}; keep_at_least is {settings.keep_at_least}: raise limit, name a stronger "
            "teacher, or set teach: all, which teaches every right answer even if the model missed it"
        )
    return balance(usable, seed)
