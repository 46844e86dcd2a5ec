"""What a judge is shown and what its answers say. An answer without a readable value counts as none."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Characters of a text that a judge sees: its beginning and its end.
LONGEST = 4000
_NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?\d+(?![\w]|\.\d)")


def read_number(answer: str, low: int, high: int) -> int | None:
    """The first whole number of an answer; None without one, or if it lies outside the scale."""
    match = _NUMBER.search(answer)
    if match is None:
        return None
    number = int(match.group().replace("\u2212", "-"))
    return number if low <= number <= high else None


def mean_number(answers: Sequence[str], low: int, high: int) -> float | None:
    """The mean of the readable numbers of some answers; None without one."""
    numbers = [number for answer in answers if (number := read_number(answer, low, high)) is not None]
    return sum(numbers) / len(numbers) if numbers else None


def shorten(text: str, most: int = LONGEST) -> str:
    """A text, or its beginning and its end with a mark between."""
    return text if len(text) <= most else f"{text[: most // 2]}\n[...]\n{text[-(most // 2) :]}"
