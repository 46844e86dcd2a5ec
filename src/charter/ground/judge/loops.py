"""Detects loops: a reply that repeats itself without end.

A refrain, a chant or a tongue twister repeats too, but other text follows or surrounds it. So a repetition counts only
if it runs to the end of the reply or fills half of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

WIDEST = 40  # words of the longest phrase that is checked for repetition
TAIL = 8  # words after a repetition that may be a truncated further round
_MARK = re.compile(r"(?:(?<=[.!?;:,])\s+|^\s*|(?<=\n)\s*)(?:step )?\(?\d{1,3}[.):]\s+", re.I)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SPLIT = re.compile(r"(?<=[.!?;:])\s+|\n+")


def _units(text: str) -> list[str]:
    """Sentences and lines in lower case, without list marks and punctuation."""
    parts = (" ".join(_WORD.findall(part.lower())) for part in _SPLIT.split(_MARK.sub("\n", text)))
    return [part for part in parts if part]


def _enough(width: int, run: int) -> bool:
    """Whether a phrase of `width` words, repeated for `run` more words, is too long to be intended."""
    rounds = 1 + run / width
    if width == 1:
        return rounds >= 7
    if width == 2:
        return rounds >= 5
    return rounds >= 4 if width <= 4 else rounds >= 3


def _cycles(words: Sequence[str]) -> bool:
    """Whether a phrase repeats back to back up to the end, or over half of the words."""
    count = len(words)
    for width in range(1, min(WIDEST, count // 2) + 1):
        run = 0
        for i in range(width, count + 1):
            if i < count and words[i] == words[i - width]:
                run += 1
                continue
            covered = run + width
            # a short rest may be the truncated next round
            if run and _enough(width, run) and (count - i <= min(TAIL, width) or 2 * covered >= count):
                return True
            run = 0
    return False


def _dwells(units: Sequence[str]) -> bool:
    """Whether sentences of 2 words or more occur three times and make up half of a reply, or four times and a third of
    it. A truncated last sentence counts as the sentence that it begins."""
    counts = Counter(unit for unit in units if len(unit.split()) >= 2)
    for whole in [unit for unit in counts if unit != units[-1] and unit.startswith(units[-1])][:1]:
        counts[whole] += 1
    most = max(counts.values(), default=0)
    repeated = sum(n for n in counts.values() if n >= 3)
    return (most >= 3 and 2 * repeated >= len(units)) or (most >= 4 and 3 * repeated >= len(units))


def is_loop(text: str) -> bool:
    """Whether a reply repeats itself without end: a phrase of up to 40 words back to back (7 times for one word, 5 for
    two, 4 for three and four, 3 for more), or sentences that occur three times and make up half of it (four times: a
    third)."""
    units = _units(text)
    return _dwells(units) or _cycles([word for unit in units for word in unit.split()])
