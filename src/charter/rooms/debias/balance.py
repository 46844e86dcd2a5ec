"""Balance: no answer may be right by its form, or the form is what is learnt.

A cell is a context, a polarity and the letter of the right option: twelve in all. From each the same number of
questions is taken: "always unknown" is then right half of the time and "always (c)" a third of it. Within a cell they
are taken in turn over the social dimensions, and in each of these over who is the answer and who comes first, so that
answers that follow a stereotype are about as many as those that don't.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import product

from charter.ground.settings.seed import derive_seed
from charter.ground.text.choices import letter
from charter.rooms.debias.questions import CONTEXTS, OPTIONS, POLARITIES, Question

Cell = tuple[str, str, int]
CELLS: tuple[Cell, ...] = tuple(product(CONTEXTS, POLARITIES, range(OPTIONS)))
Key = Callable[[Question], tuple[Hashable, ...]]
# Each turn is over what it names and keeps the order of the turn before it among equals: the last one rules.
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


def balanced(questions: Sequence[Question], seed: int, most: int = 0) -> list[Question]:
    """As many questions as can be with all cells equal, at most `most` of them (0: no bound), in their order."""
    size = min(cell_sizes(questions).values())
    if most:
        size = min(size, most // len(CELLS))
    drawn = sorted(questions, key=lambda q: derive_seed(seed, "draw", q.id))
    taken: set[str] = set()
    for cell in CELLS:
        members = [q for q in drawn if cell_of(q) == cell]
        for key in TURNS:
            members = _in_turn(members, key)
        taken |= {q.id for q in members[:size]}
    return [q for q in questions if q.id in taken]


def _in_turn(questions: Sequence[Question], key: Key) -> list[Question]:
    """Questions so that each key comes once before any comes twice; those of one key keep their order."""
    seen = Counter[tuple[Hashable, ...]]()
    turns = {}
    for question in questions:
        turns[question.id] = seen[key(question)]
        seen[key(question)] += 1
    return sorted(questions, key=lambda q: turns[q.id])
