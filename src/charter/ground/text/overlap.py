"""Overlap of texts by word n-grams: which test items occur in a model's training text (Brown 2020, appendix C).

Words are letters and digits in lower case. A text hits an item if they share a run of SIZE words. A shorter item, down
to LEAST words, must occur whole; still shorter items say too little and are not checked.

Runs are stored as 64-bit hashes in one sorted array, 12 bytes each with their item. A bitmap of the first LEAST words
of the items' runs is checked first. Longer runs of a text are hashed and looked up only if the bit is set.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import numpy.typing as npt

from charter.ground.artifact.store import atomic_write
from charter.ground.text.columns import raw_rows
from charter.ground.text.shingles import Hashes, Places, shingles, shingles_at, word_hashes, words_of_each

SIZE, LEAST = 13, 8
_WORD = re.compile(r"[^\W_]+")
# Each run of the items sets two of at least 16 bits, so at most one in 100 other runs has both its bits set.
_BITS_A_RUN = 32
_NO_RUNS = np.empty(0, np.uint64)
# Items that are hashed together.
_ITEMS = 4096


def words(text: str) -> list[str]:
    """The words of a text, for comparison."""
    return _WORD.findall(text.lower())


class Items:
    """The items of tests by name, indexed for lookup in any number of texts.

    `names`: of all items; `unchecked`: of items without a run. With `apart`, letters of scripts without blanks between
    words count as words (`shingles.word_hashes`). Without `counting`, runs of only numbers and single letters are
    ignored: tables and sums share them by chance.
    """

    def __init__(
        self, texts: Mapping[str, str] | Iterable[tuple[str, Sequence[str]]], apart: bool = False, counting: bool = True
    ) -> None:
        """Each text of an item can be hit. If all are too short, they are joined into one."""
        pairs = iter([(n, [t]) for n, t in texts.items()] if isinstance(texts, Mapping) else texts)
        self.names: list[str] = []
        self._apart = apart
        parts = [(_NO_RUNS, np.empty(0, np.uint32), _NO_RUNS)]
        sizes: set[int] = set()
        while some := list(islice(pairs, _ITEMS)):
            every, starts, lengths, owners = self._spans(some)
            for size in range(LEAST, SIZE + 1):
                at, span = _runs_of(starts, lengths, size)
                if not counting:
                    wordy = ~_is_counting(every, at, size)
                    at, span = at[wordy], span[wordy]
                if len(at):
                    sizes.add(size)
                    whose = owners[span].astype(np.uint32)
                    parts.append((shingles_at(every, at, size), whose, shingles_at(every, at, LEAST)))
        self._sizes = sorted(sizes)
        runs, whose, leads = map(np.concatenate, zip(*parts, strict=True))
        self._runs, self._owners = _sort_runs(runs, whose)
        self._bits = _bitmap(leads)
        searchable = np.zeros(len(self.names), bool)
        searchable[self._owners] = True
        self.unchecked = {self.names[n] for n in np.flatnonzero(~searchable)}

    def save(self, folder: Path) -> None:
        """Writes three arrays and the names, for `open`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in (("runs", self._runs), ("owners", self._owners), ("bits", self._bits)):
            file = io.BytesIO()  # on a full disk numpy's own writer gives no error number
            np.save(file, array, allow_pickle=False)
            atomic_write(folder / f"{name}.npy", file.getvalue())
        fields = {"names": self.names, "unchecked": sorted(self.unchecked), "sizes": self._sizes, "apart": self._apart}
        atomic_write(folder / "items.json", json.dumps(fields))

    @classmethod
    def open(cls, folder: Path) -> Items:
        """Opens saved items. The arrays are mapped: processes that open one folder share their memory."""
        items = cls({})
        fields = json.loads((folder / "items.json").read_text("utf-8"))
        items.names, items.unchecked = fields["names"], set(fields["unchecked"])
        items._sizes, items._apart = fields["sizes"], fields["apart"]
        items._runs, items._owners, items._bits = (
            np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("runs", "owners", "bits")
        )
        return items

    def _spans(self, items: list[tuple[str, Sequence[str]]]) -> tuple[Hashes, Places, Places, Places]:
        """Word hashes of some items' texts, and the start, length and item of each span to look up."""
        first = len(self.names)
        self.names += [name for name, _ in items]
        texts = [parts or [""] for _, parts in items]
        hashes = list(words_of_each((part for parts in texts for part in parts), self._apart))
        lengths = np.array([len(word_hashes) for word_hashes in hashes])
        starts = np.cumsum(lengths) - lengths
        counts = np.array([len(parts) for parts in texts])
        heads = np.cumsum(counts) - counts
        sums = np.add.reduceat(lengths, heads)
        joined = np.maximum.reduceat(lengths, heads) < LEAST  # items read as one text
        joined &= sums >= LEAST
        long = lengths >= LEAST
        owners = np.repeat(np.arange(len(items)), counts)
        return (
            np.concatenate(hashes),
            np.concatenate([starts[long], starts[heads][joined]]),
            np.concatenate([lengths[long], sums[joined]]),
            np.concatenate([owners[long], np.flatnonzero(joined)]) + first,
        )

    @property
    def bytes(self) -> int:
        """Memory of the runs."""
        return self._runs.nbytes + self._owners.nbytes + self._bits.nbytes

    def __len__(self) -> int:
        """The number of runs."""
        return len(self._runs)

    def hit_by(self, texts: Iterable[str]) -> set[str]:
        """Names of the items that share a run of words with one of the texts."""
        names: set[str] = set()
        for text in texts:
            names.update(self.names[n] for n in self._owners_of(text))
        return names

    def _owners_of(self, text: str) -> set[int]:
        """Numbers of the items that a text hits. Each block is read with the end of the one before."""
        owners: set[int] = set()
        carried = _NO_RUNS
        for block in word_hashes(text, self._apart):
            carried = np.concatenate([carried, block])
            owners.update(self._find_owners(carried))
            carried = carried[max(0, len(carried) - SIZE + 1) :]
        return owners

    def _find_owners(self, hashes: Hashes) -> Iterator[int]:
        leads = shingles(hashes, LEAST)
        places = np.flatnonzero(_is_set(self._bits, leads))
        places = places[_is_set(self._bits, leads[places] >> np.uint64(32))]
        for size in self._sizes if len(places) else ():
            starts = places[places + size <= len(hashes)]
            if not len(starts):
                continue
            hashes_of_runs = np.unique(shingles_at(hashes, starts, size))
            first = np.searchsorted(self._runs, hashes_of_runs, "left")
            last = np.searchsorted(self._runs, hashes_of_runs, "right")
            for a, b in zip(first[first < last], last[first < last], strict=True):
                yield from self._owners[a:b].tolist()


def _runs_of(starts: Places, lengths: Places, size: int) -> tuple[Places, Places]:
    """(start, number of its span) of all runs of `size` words; runs shorter than SIZE are whole spans."""
    spans = np.flatnonzero(lengths == size if size < SIZE else lengths >= size)
    counts = lengths[spans] - size + 1
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(starts[spans], counts) + within, np.repeat(spans, counts)


def _is_counting(words: Hashes, starts: Places, size: int) -> npt.NDArray[np.bool_]:
    """Whether a run's words are all numbers below 10,000 or single letters of the alphabet, [starts]."""
    bare = np.concatenate([[0], np.cumsum(np.isin(words, _counting_words()))])
    return np.asarray(bare[starts + size] - bare[starts] == size)


@cache
def _counting_words() -> Hashes:
    return np.concatenate(list(word_hashes(" ".join([*map(str, range(10_000)), *ascii_lowercase]))))


def _sort_runs(runs: Hashes, owners: npt.NDArray[np.uint32]) -> tuple[Hashes, npt.NDArray[np.uint32]]:
    """By run, then owner, without repeats."""
    order = np.lexsort((owners, runs))
    runs, owners = runs[order], owners[order]
    new = np.ones(len(runs), bool)
    new[1:] = (runs[1:] != runs[:-1]) | (owners[1:] != owners[:-1])
    return runs[new], owners[new]


def _bitmap(leads: Hashes) -> npt.NDArray[np.uint8]:
    """A bitmap with two bits set for each hash, by its lower and its upper half (Bloom 1970)."""
    size = 1 << max(16, (_BITS_A_RUN * len(leads)).bit_length() - 1)
    bits = np.zeros(size // 8, np.uint8)
    for half in (leads, leads >> np.uint64(32)):
        places = half & np.uint64(size - 1)
        np.bitwise_or.at(bits, places >> np.uint64(3), np.uint8(1) << (places & np.uint64(7)).astype(np.uint8))
    return bits


def _is_set(bits: npt.NDArray[np.uint8], hashes: Hashes) -> npt.NDArray[np.bool_]:
    places = hashes & np.uint64(8 * len(bits) - 1)
    return np.asarray((bits[places >> np.uint64(3)] >> (places & np.uint64(7)).astype(np.uint8)) & 1, bool)


def texts_of(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(place, all texts of the row at any depth) of each row of a file. Raises CharterError if it has no rows."""
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
