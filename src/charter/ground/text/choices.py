"""Questions with lettered options: how they are shown; `answers.letter_of` reads which letter an answer names.

    (a) The baker
    (b) The florist
    (c) Nobody knows

The form of BBQ in MSC (Ganguli et al. 2023); `option_texts` are what is scored behind an opened answer.
"""

from __future__ import annotations

from collections.abc import Sequence

LETTERS = "abcdefghij"


def letter(number: int) -> str:
    """The letter of an option by its number, from 0."""
    return LETTERS[number]


def option_lines(options: Sequence[str]) -> str:
    """Options below each other, each behind its letter in parentheses."""
    return "\n".join(f"({LETTERS[n]}) {option}" for n, option in enumerate(options))


def option_texts(count: int) -> tuple[str, ...]:
    """The continuations to score behind an answer that was opened without a space at its end."""
    return tuple(f" ({LETTERS[n]})" for n in range(count))
