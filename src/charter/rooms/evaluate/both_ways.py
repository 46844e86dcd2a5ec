"""Yes or no of a judge, asked whether something holds and whether its opposite does.

A judge that says yes to both, or no to both, contradicts itself: it then has no verdict, and is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from charter.rooms.evaluate.either import YES_NO, read_answer

if TYPE_CHECKING:
    from charter.rooms.evaluate.context import Context

Pair = tuple[str, str]


def ask_both_ways(context: Context, name: str, questions: Sequence[tuple[str, Pair]]) -> list[list[str]]:
    """The judge's two answers to each (id, (text, text with the opposite)), as it gave them."""
    asked = [(f"{key}/{n}", text) for key, pair in questions for n, text in enumerate(pair)]
    answers = [texts[0] for texts in context.ask_judge(name, asked)]
    return [answers[n : n + 2] for n in range(0, len(answers), 2)]


def read_both(answers: Sequence[str]) -> dict[str, Any]:
    """`says`: whether it holds, None without a clear verdict; `flips`: whether both answers say the same word, None if
    one has neither."""
    first, second = (read_answer(answer, YES_NO) for answer in answers)
    if first is None or second is None:
        return {"says": None, "flips": None}
    flips = first == second
    return {"says": None if flips else first == 0, "flips": flips}
