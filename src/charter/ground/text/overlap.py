"""Overlap of texts by word n-grams: which items of a test stand in what a model was taught (Brown 2020, appendix C).

Words are letters and digits in lower case. An item is hit by a text that shares a run of SIZE words with it, or the
whole item where it is shorter, down to LEAST words; shorter ones say too little and are not checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

SIZE, LEAST = 13, 8
_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """The words that are compared."""
    return _WORD.findall(text.lower())


def runs(found: list[str], size: int) -> Iterator[tuple[str, ...]]:
    """All runs of `size` words."""
    return (tuple(found[i : i + size]) for i in range(len(found) - size + 1))


class Items:
    """The items of tests by name, ready to be looked for in any number of texts."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.unchecked: set[str] = set()
        self._places: dict[int, dict[tuple[str, ...], list[str]]] = {}
        for name, text in texts.items():
            found = words(text)
            if len(found) < LEAST:
                self.unchecked.add(name)
                continue
            size = min(SIZE, len(found))
            places = self._places.setdefault(size, {})
            for run in set(runs(found, size)):
                places.setdefault(run, []).append(name)

    def hit_by(self, texts: Iterable[str]) -> set[str]:
        """Names of the items that share a run of words with one of the texts."""
        found: set[str] = set()
        for text in texts:
            own = words(text)
            for size, places in self._places.items():
                for run in runs(own, size):
                    found.update(places.get(run, ()))
        return found
