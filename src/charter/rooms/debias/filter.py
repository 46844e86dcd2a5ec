"""What is taught of what was asked: answers that are right by construction, balanced; or, where a model is too weak to
find them, all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.rooms.debias.balance import CELLS, balanced, cell_sizes, cell_words
from charter.rooms.debias.questions import Question
from charter.rooms.debias.settings import Settings


def choose_asked(settings: Settings, questions: Sequence[Question], seed: int) -> list[Question]:
    """The questions that are asked: as many of each cell. Raises CharterError where there are too few."""
    asked = balanced(questions, seed, settings.limit)
    if len(asked) < len(CELLS) * settings.keep_at_least:
        raise CharterError(
            f"the templates give {len(asked)} balanced questions, {len(asked) // len(CELLS)} for each of "
            f"{len(CELLS)} cells, and keep_at_least is {settings.keep_at_least}; write more templates or pairs"
        )
    return asked


def choose_taught(
    settings: Settings, asked: Sequence[Question], rows: Sequence[dict[str, Any]], seed: int
) -> list[Question]:
    """The questions that are taught, as many of each cell; with `teach: all` every one.

    Raises CharterError for a cell with fewer than `keep_at_least`.
    """
    right = {row["item"] for row in rows if row["kept"]}
    usable = [q for q in asked if settings.teach == "all" or q.id in right]
    sizes = cell_sizes(usable)
    poorest = min(sizes, key=lambda cell: sizes[cell])
    if sizes[poorest] < settings.keep_at_least:
        raise CharterError(
            f"{len(right)} of {len(asked)} questions were answered right, {sizes[poorest]} of the cell "
            f"{cell_words(poorest)}; keep_at_least is {settings.keep_at_least}: raise limit, name a stronger "
            "teacher, or set teach: all, which teaches the right answers whether or not they were found"
        )
    return balanced(usable, seed)
