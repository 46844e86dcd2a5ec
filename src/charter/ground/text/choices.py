"""Questions with lettered options, in the form of models' prompts. `answers.letter_of` finds the letter in an answer.

    (a) The baker
    (b) The florist
    (c) Nobody knows

The form of BBQ in MSC (Ganguli et al. 2023). `option_texts` are the continuations that are scored.
"""

from __future__ import annotations

from collections.abc import Sequence

LETTERS = "abcdefghij"


def letter(number: int) -> str:
    """The letter of an option by its number, from 0."""
    return LETTERS[number]


def option_lines(options: Sequence[str]) -> str:
    """Options, one a line, each after its letter in parentheses."""
    return "\n".join(f"({LETTERS[n]}) {option}" for n, option in enumerate(options))


def option_texts(count: int) -> tuple[str, ...]:
    """The continuations to score after the start of an answer that has no trailing space."""
    return tuple(f" ({LETTERS[n]})" for n in range(count))
