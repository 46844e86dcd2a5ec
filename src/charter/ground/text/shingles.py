"""Words and runs of words of a text as 64-bit hashes, for duplicates and overlap; and near duplicates among short
texts.

A word is a run of letters and digits in lower case. Its hash is the polynomial sum c_i P^i over its code points
c_i modulo 2^64, taken from one running sum over the text: (S_end - S_start) P^-start, P odd and so invertible. A
shingle (Broder 1997) of n words has the polynomial hash of its words' hashes in Q. The finaliser of SplitMix64 (Steele
2014) mixes both, because plain sums keep traces of their order. Two different shingles share a hash with a probability
near 2^-64. Texts are read block by block, so memory doesn't grow with them.

For short texts such as prompts an index of runs gives the exact share J = |A & B| / |A | B| over the sets of runs of
`size` words (Jaccard). A corpus is too large for sets: the room `corpus` estimates J by MinHash.
"""

from __future__ import annotations

import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

# Code points in a block: its arrays fit a core's cache.
BLOCK = 1 << 17
# No letter or digit has a code point from here on.
_LAST = 0x33000
_SEPARATOR, _JOINED, _ALONE = 0, 1, 2
_P, _Q = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F
# First and last code points of scripts that put no blanks between words: Thai, Lao, Tibetan, Myanmar, Khmer, kana, Han.
UNSPACED = (
    *((0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF)),
    *((0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)),
)
SIZE = 3


@cache
def _classes(apart: bool) -> npt.NDArray[np.uint8]:
    """The class of each code point: no part of a word, part of a run, or a word by itself."""
    characters = list(map(chr, range(_LAST)))
    classes = np.fromiter(map(str.isalnum, characters), np.uint8, _LAST)
    if apart:
        # Python counts vowel signs as no letters, though words contain them.
        marks = np.fromiter((unicodedata.category(c)[0] == "M" for c in characters), bool, _LAST)
        classes[marks] = _JOINED
        for first, last in UNSPACED:
            classes[first : last + 1][classes[first : last + 1] == _JOINED] = _ALONE
    return np.append(classes, np.uint8(_SEPARATOR))


@cache
def _powers() -> tuple[Hashes, Hashes]:
    """P^i and P^-i modulo 2^64 for every place in a block."""
    factors = np.full((2, BLOCK + 1), 1, np.uint64)
    factors[:, 1:] = [[_P], [pow(_P, -1, 1 << 64)]]
    powers, inverses = np.cumprod(factors, axis=1, dtype=np.uint64)
    return powers, inverses


def mix64(values: Hashes) -> Hashes:
    """The finaliser of SplitMix64: every bit of a value flips each bit of the result with probability 1/2."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def word_hashes(text: str, apart: bool = True) -> Iterator[Hashes]:
    """Hashes of the words in order, a block at a time. A word over a block's length is cut.

    With `apart`, every letter of a script without blanks between words (UNSPACED) is a word, and vowel signs belong to
    their words. Without it, words are exactly those of `overlap.words`.
    """
    start = 0
    while start < len(text):
        stop = _cut(text, start)
        hashes, _, _ = _block(text[start:stop].lower(), apart)
        if len(hashes):
            yield hashes
        start = stop


def words_of_each(texts: Iterable[str], apart: bool = True) -> Iterator[Hashes]:
    """The word hashes of many short texts, hashed together: ten times faster than one by one."""
    waiting: list[str] = []
    length = 0
    for text in texts:
        if len(text) > BLOCK // 4:
            yield from _hash_together(waiting, apart)
            waiting, length = [], 0
            yield np.concatenate([np.empty(0, np.uint64), *word_hashes(text, apart)])
            continue
        if length + len(text) > BLOCK // 4:
            yield from _hash_together(waiting, apart)
            waiting, length = [], 0
        waiting.append(text.lower())
        length += len(waiting[-1]) + 1
    yield from _hash_together(waiting, apart)


def _hash_together(lowered: list[str], apart: bool) -> Iterator[Hashes]:
    hashes, starts, _ = _block("\n".join(lowered), apart)
    ends = np.cumsum([len(text) + 1 for text in lowered])
    yield from np.split(hashes, np.searchsorted(starts, ends[:-1])) if lowered else ()


def _cut(text: str, start: int) -> int:
    """The end of a block that starts here: after its last blank, if it has one."""
    stop = start + BLOCK // 2  # lower-casing may lengthen it
    if stop >= len(text):
        return len(text)
    blank = max(text.rfind(" ", start, stop), text.rfind("\n", start, stop))
    return blank + 1 if blank > start else stop


def words_and_lengths(text: str) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """The hashes of all words of a text, as in `word_hashes`, and their lengths in characters."""
    blocks: list[tuple[Hashes, Places, Places]] = []
    start = 0
    while start < len(text):
        stop = _cut(text, start)
        blocks.append(_block(text[start:stop].lower(), True))
        start = stop
    if not blocks:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    return (
        np.concatenate([words for words, _, _ in blocks]),
        np.concatenate([ends - starts for _, starts, ends in blocks]),
    )


def _block(lowered: str, apart: bool) -> tuple[Hashes, Places, Places]:
    """Hashes, starts and ends of the words of a lower-case text."""
    codes = np.frombuffer(lowered.encode("utf-32-le", "surrogatepass"), np.uint32)[:BLOCK]
    classes = _classes(apart)[np.minimum(codes, _LAST)]
    joined = classes == _JOINED
    alone = classes == _ALONE
    beside = np.zeros(len(codes) + 2, bool)
    beside[1:-1] = joined
    starts = np.flatnonzero(alone | (joined & ~beside[:-2]))
    ends = np.flatnonzero(alone | (joined & ~beside[2:])) + 1
    powers, inverses = _powers()
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum((codes + np.uint64(1)) * powers[: len(codes)], out=sums[1:])
    return mix64((sums[ends] - sums[starts]) * inverses[starts]), starts, ends


def shingles(words: Hashes, size: int) -> Hashes:
    """Hashes of all runs of `size` words, [max(0, words - size + 1)]."""
    count = max(0, len(words) - size + 1)
    return _fold(count, size, (words[place : place + count] for place in range(size)))


def shingles_at(words: Hashes, starts: Places, size: int) -> Hashes:
    """Hashes of the runs of `size` words from each start, [starts]."""
    return _fold(len(starts), size, (words[starts + place] for place in range(size)))


def _fold(count: int, size: int, columns: Iterable[Hashes]) -> Hashes:
    hashes = np.full(count, size, np.uint64)
    for column in columns:
        hashes *= np.uint64(_Q)
        hashes += column
    return mix64(hashes)


def runs_of(text: str, size: int, apart: bool = True) -> Iterator[Hashes]:
    """Hashes of all runs of `size` words of a text in order, a block at a time. A shorter text gives one run of all its
    words."""
    carried = np.empty(0, np.uint64)
    short = True
    for hashes in word_hashes(text, apart):
        carried = np.concatenate([carried, hashes])
        if len(carried) >= size:
            short = False
            yield shingles(carried, size)
            carried = carried[len(carried) - size + 1 :]
    if short and len(carried):
        yield shingles(carried, len(carried))


assert sys.byteorder == "little", "hashes are read from little-endian code points"


class Near(NamedTuple):
    """The most similar text and its share of common runs, 0 to 1."""

    name: str
    share: float


class Texts:
    """Texts by name. In scripts without blanks between words, every letter is a word (`word_hashes`)."""

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
