"""Overlap of texts by word n-grams: which items of a test stand in what a model was taught (Brown 2020, appendix C).

Words are letters and digits in lower case. An item is hit by a text that shares a run of SIZE words with it, or the
whole item where it is shorter, down to LEAST words; shorter ones say too little and are not checked.

Runs are kept as 64-bit hashes in one sorted array, 12 bytes each with their item. A text's runs of LEAST words are
looked up first, in a bitmap of how the items' runs begin; only where a bit is set are longer runs hashed and sought.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from charter.ground.text.columns import raw_rows
from charter.ground.text.shingles import Hashes, shingles, shingles_at, word_hashes

SIZE, LEAST = 13, 8
_WORD = re.compile(r"[^\W_]+")
# A run of the items sets one of at least this many bits, so that few other runs find theirs set.
_BITS_A_RUN = 32


def words(text: str) -> list[str]:
    """The words that are compared."""
    return _WORD.findall(text.lower())


class Items:
    """The items of tests by name, ready to be looked for in any number of texts.

    `unchecked`: names of those that are too short. With `apart`, letters of scripts without blanks between words
    count as words (`shingles.word_hashes`).
    """

    def __init__(self, texts: Mapping[str, str] | Iterable[tuple[str, str]], apart: bool = False) -> None:
        """`texts` of one name belong to one item, which is unchecked where all of them are too short."""
        pairs = texts.items() if isinstance(texts, Mapping) else texts
        numbers: dict[str, int] = {}
        checked: set[int] = set()
        runs, owners, leads = _Growing(np.uint64), _Growing(np.uint32), _Growing(np.uint64)
        sizes: set[int] = set()
        for name, text in pairs:
            number = numbers.setdefault(name, len(numbers))
            found = _all(text, apart)
            if len(found) < LEAST:
                continue
            checked.add(number)
            size = min(SIZE, len(found))
            sizes.add(size)
            own = shingles(found, size)
            runs.add(own)
            leads.add(shingles(found, LEAST)[: len(own)])
            owners.add(np.full(len(own), number, np.uint32))
        self.names = list(numbers)
        self.unchecked = {name for name, number in numbers.items() if number not in checked}
        self._apart = apart
        self._sizes = sorted(sizes)
        self._runs, self._owners = _sorted(runs.whole(), owners.whole())
        self._bits = _bitmap(leads.whole())

    @property
    def bytes(self) -> int:
        """What the runs take in memory."""
        return self._runs.nbytes + self._owners.nbytes + self._bits.nbytes

    def __len__(self) -> int:
        """Runs that are kept."""
        return len(self._runs)

    def hit_by(self, texts: Iterable[str]) -> set[str]:
        """Names of the items that share a run of words with one of the texts."""
        found: set[str] = set()
        for text in texts:
            found.update(self.names[n] for n in self._owners_of(text))
        return found

    def _owners_of(self, text: str) -> set[int]:
        """Numbers of the items hit; the text is read block by block, each with the end of the one before."""
        owners: set[int] = set()
        rest = np.empty(0, np.uint64)
        for block in word_hashes(text, self._apart):
            rest = np.concatenate([rest, block])
            owners.update(self._sought(rest))
            rest = rest[max(0, len(rest) - SIZE + 1) :]
        return owners

    def _sought(self, found: Hashes) -> Iterator[int]:
        bits = shingles(found, LEAST) & np.uint64(8 * len(self._bits) - 1)
        set_ = (self._bits[bits >> np.uint64(3)] >> (bits & np.uint64(7)).astype(np.uint8)) & 1
        places = np.flatnonzero(set_)
        for size in self._sizes if len(places) else ():
            starts = places[places + size <= len(found)]
            if not len(starts):
                continue
            own = np.unique(shingles_at(found, starts, size))
            first = np.searchsorted(self._runs, own, "left")
            last = np.searchsorted(self._runs, own, "right")
            for a, b in zip(first[first < last], last[first < last], strict=True):
                yield from self._owners[a:b].tolist()


def _all(text: str, apart: bool) -> Hashes:
    blocks = list(word_hashes(text, apart))
    return np.concatenate(blocks) if blocks else np.empty(0, np.uint64)


def _sorted(runs: Hashes, owners: npt.NDArray[np.uint32]) -> tuple[Hashes, npt.NDArray[np.uint32]]:
    """By run, then owner, without repeats."""
    order = np.lexsort((owners, runs))
    runs, owners = runs[order], owners[order]
    new = np.ones(len(runs), bool)
    new[1:] = (runs[1:] != runs[:-1]) | (owners[1:] != owners[:-1])
    return runs[new], owners[new]


def _bitmap(leads: Hashes) -> npt.NDArray[np.uint8]:
    size = 1 << max(16, (_BITS_A_RUN * len(leads)).bit_length() - 1)
    bits = np.zeros(size // 8, np.uint8)
    places = leads & np.uint64(size - 1)
    np.bitwise_or.at(bits, places >> np.uint64(3), np.uint8(1) << (places & np.uint64(7)).astype(np.uint8))
    return bits


class _Growing:
    """Pieces of an array whose length isn't known yet."""

    def __init__(self, kind: type[np.unsignedinteger]) -> None:
        self._kind = kind
        self._pieces: list[npt.NDArray[np.unsignedinteger]] = []

    def add(self, piece: npt.NDArray[np.unsignedinteger]) -> None:
        self._pieces.append(piece)

    def whole(self) -> npt.NDArray[np.unsignedinteger]:
        return np.concatenate(self._pieces) if self._pieces else np.empty(0, self._kind)


def texts_of(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(place, every text of the row, however deep) of each row of a file. Raises CharterError where it isn't rows."""
    for place, row in raw_rows(path):
        yield place, list(_strings(row))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _strings(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry)
