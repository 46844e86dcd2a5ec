"""Scores answers to exam items by their kind: all blanks, both words, every choice that applies, or the exact number.

A partly right answer counts as wrong, as the exams score it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from charter.ground.text.answers import LETTERS, exact, letter_of, number_text

SEVERAL = frozenset({"completion", "equivalence", "select_all"})
SAID = re.compile(r"(?i:\b(?:answers? (?:is|are)|answers?):?)[\s*_\"'`$]*(?:(?i:options?|choices?)[\s*]+)?")
PARTED = re.compile(r"[\s*_]*(?:[,;&/+]|\band\b)?[\s*_]*(?:\band\b)?[\s*_]*")
FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}")
SLASH = re.compile(r"(?<=\d)\s*/\s*(?=\d)")


def letters_of(text: str, count: int) -> tuple[int, ...] | None:
    """Indexes of the options that an answer names: those behind the last "answer is" or "answers are" that letters
    follow, else a last line of letters alone; None if it names none."""
    for said in reversed(list(SAID.finditer(text))):
        if found := _run(text[said.end() :], count):
            return found
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and re.fullmatch(r"[\W_]*(?:\(?[A-Z]\)?[\W_]*(?:and\b[\W_]*)?)+", lines[-1]):
        return _run(lines[-1].lstrip(" *_-"), count)
    return None


def _run(text: str, count: int) -> tuple[int, ...] | None:
    """The letters at the start of a text: "(A), (E)", "A and E", "AE"."""
    letters = LETTERS[:count]
    joined = re.match(rf"([{letters}]{{2,}})(?!\w)", text)
    if joined and list(joined.group(1)) == sorted(set(joined.group(1))):
        return tuple(letters.index(letter) for letter in joined.group(1))
    one = re.compile(rf"\(((?i:[{letters}]))\)|([{letters}])(?=[*_]*\s*(?:$|[,;.:&/+)*\n]|and\b))")
    found: set[int] = set()
    at = 0
    while match := one.match(text, at):
        found.add(letters.index((match.group(1) or match.group(2)).upper()))
        at = match.end()
        parted = PARTED.match(text, at)
        at = parted.end() if parted else at
    return tuple(sorted(found)) or None


def fraction_of(text: str) -> Fraction | None:
    """The number that an answer gives, exactly: "0.75", "3/4" and "1 1/2" are fractions; None if it gives none."""
    plain = SLASH.sub("/", FRACTION.sub(r"\1/\2", text))
    found = number_text(plain)
    return exact(found) if found and len(found) < 60 else None


def answer_of(kind: str, text: str, count: int) -> tuple[int, ...] | None:
    """The options that an answer to an item with options names; None if none can be read."""
    if kind in SEVERAL:
        return letters_of(text, count)
    place = letter_of(text, count)
    return None if place is None else (place,)


def all_right(key: Sequence[int], chosen: Sequence[int] | None) -> bool:
    """Whether exactly the options of the key were chosen: all blanks, both words, all that apply."""
    return chosen is not None and set(chosen) == set(key)
