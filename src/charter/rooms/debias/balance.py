"""Balance: no form of answer may be right more often than another, or the model learns the form.

A cell is a context, a polarity and the letter of the right option: twelve in all. Each gives the same number of
questions, so "always unknown" is right half of the time and "always (c)" a third of it. Within a cell questions
alternate over the social dimensions, then over who is the answer and who comes first. So about as many answers follow a
stereotype as don't.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import product

from charter.ground.settings.seed import derive_seed
from charter.rooms.debias.questions import CONTEXTS, OPTIONS, POLARITIES, Question
from charter.rooms.debias.wording import letter

Cell = tuple[str, str, int]
CELLS: tuple[Cell, ...] = tuple(product(CONTEXTS, POLARITIES, range(OPTIONS)))
Key = Callable[[Question], tuple[Hashable, ...]]
# Stable sorts, applied in this order: the last key decides, earlier keys break its ties.
TURNS: tuple[Key, ...] = (
    lambda q: (q.dimension, q.named[q.right], q.turned),
    lambda q: (q.dimension, q.named[q.right]),
    lambda q: (q.dimension,),
)


def cell_of(question: Question) -> Cell:
    """Context, polarity, and place of the right option."""
    return question.context, question.polarity, question.right


def cell_words(cell: Cell) -> str:
    """A cell in words: ambiguous, negative, (a)."""
    return f"{cell[0]}, {cell[1]}, ({letter(cell[2])})"


def cell_sizes(questions: Sequence[Question]) -> dict[Cell, int]:
    """How many questions each of the twelve cells has."""
    sizes = dict.fromkeys(CELLS, 0)
    for question in questions:
        sizes[cell_of(question)] += 1
    return sizes


def balance(questions: Sequence[Question], seed: int, most: int = 0) -> list[Question]:
    """The largest set with all cells equal, at most `most` questions (0: no bound), in their order."""
    size = min(cell_sizes(questions).values())
    if most:
        size = min(size, most // len(CELLS))
    shuffled = sorted(questions, key=lambda q: derive_seed(seed, "draw", q.id))
    ids: set[str] = set()
    for cell in CELLS:
        members = [q for q in shuffled if cell_of(q) == cell]
        for key in TURNS:
            members = _take_turns(members, key)
        ids |= {q.id for q in members[:size]}
    return [q for q in questions if q.id in ids]


def _take_turns(questions: Sequence[Question], key: Key) -> list[Question]:
    """Reorders questions so that each key comes once before any comes twice; those of one key keep their order."""
    counts = Counter[tuple[Hashable, ...]]()
    turns = {}
    for question in questions:
        turns[question.id] = counts[key(question)]
        counts[key(question)] += 1
    return sorted(questions, key=lambda q: turns[q.id])
