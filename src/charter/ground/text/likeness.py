"""Near duplicates among short texts such as prompts: the exact share of common word runs, with an index of runs.

J = |A & B| / |A | B| over the sets of runs of `size` words (Jaccard). A corpus is too large for sets: the room `corpus`
estimates J by MinHash.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from charter.ground.text.shingles import runs_of

SIZE = 3


class Near(NamedTuple):
    """The most similar text and its share of common runs, 0 to 1."""

    name: str
    share: float


class Texts:
    """Texts by name. In scripts without blanks between words, every letter is a word (`shingles.word_hashes`)."""

    def __init__(self, size: int = SIZE) -> None:
        """`size`: words of a run; a shorter text is one run."""
        self._size = size
        self._names: list[str] = []
        self._lengths: list[int] = []
        self._holders: dict[int, list[int]] = {}

    def add(self, name: str, text: str) -> None:
        """Adds a text. Two texts may have one name."""
        runs = self._runs(text)
        for run in runs:
            self._holders.setdefault(run, []).append(len(self._names))
        self._names.append(name)
        self._lengths.append(len(runs))

    def nearest(self, text: str) -> Near | None:
        """The most similar text, the first of equals; None if none shares a run."""
        runs = self._runs(text)
        shared = Counter(place for run in runs for place in self._holders.get(run, ()))
        shares = ((n / (len(runs) + self._lengths[place] - n), -place) for place, n in shared.items())
        share, place = max(shares, default=(0.0, 0))
        return Near(self._names[-place], share) if share else None

    def _runs(self, text: str) -> set[int]:
        return {run for block in runs_of(text, self._size) for run in block.tolist()}
