"""Selects which examined documents enter the corpus, in which split, and how often.

Copies: an exact one has the fingerprint of an earlier document; MinHash finds near ones (`duplicates.py`). The first
in order stays.

Held out: a document whose draw is below `heldout_share`. A draw is a hash of the document's own fingerprint and a seed.
It depends on nothing else, so a document never changes sides when others come or go. The seed of the held-out draw is
the same in every recipe. So of two corpora with a common text, neither trains on what the other holds out at the same
share, and runs with different seeds are measured on the same text. If none of several documents would be held out, the
one with the lowest draw is.

How often: the source's weight, times a factor f for documents in languages other than the main one. E and O are the
weighted bytes of the main part (with program text and texts of no known language) and of the others. A share s of
others needs f = s E / ((1 - s) O). f below 1 drops others, above 1 repeats them. It is at most `most_repeats`
(Muennighoff 2023: four passes are worth almost as much as new text), so the share may not be reached; nothing of the
main part is ever dropped for it. x times means floor(x), and once more if the document's draw is below the fraction.
Held-out documents are taken at most once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from charter.ground.artifact.progress import Bar
from charter.ground.settings.seed import derive_seed
from charter.ground.settings.texts import PROGRAM, TextSource
from charter.ground.text.shingles import mix64
from charter.rooms.corpus.batch import Batch
from charter.rooms.corpus.duplicates import NearDuplicates, first_equal
from charter.rooms.corpus.language import UNDETERMINED
from charter.rooms.corpus.settings import Languages, Settings

KEPT, EXACT, NEAR = range(3)
EVERYWHERE = 0  # the seed of the held-out draw
_NEITHER = frozenset({PROGRAM, UNDETERMINED})  # their bytes count as the main part


@dataclass(frozen=True)
class Table:
    """All examined documents in order, one entry each. `language` is an index into `languages`. `first` is the number
    of the first document of each batch (`paths`), with the count of all at its end."""

    paths: tuple[Path, ...]
    languages: tuple[str, ...]
    source: npt.NDArray[np.uint16]
    language: npt.NDArray[np.uint16]
    year: npt.NDArray[np.uint16]
    bytes: npt.NDArray[np.uint32]
    words: npt.NDArray[np.uint32]
    key: npt.NDArray[np.uint64]
    first: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bytes)

    def text(self, number: int) -> str:
        """The text of one document; this reads its whole batch."""
        place = int(np.searchsorted(self.first, number, "right")) - 1
        return Batch(self.paths[place]).text(number - int(self.first[place]))

    def batches(self) -> Iterator[tuple[Path, int, int]]:
        """(file, number of its first document, number after its last) of each batch."""
        yield from zip(self.paths, self.first[:-1].tolist(), self.first[1:].tolist(), strict=True)

    def draw(self, seed: int, purpose: str) -> npt.NDArray[np.float64]:
        """A number from 0 to 1 for each document, from its own text, the seed and the purpose."""
        salt = np.uint64(derive_seed(seed, purpose) << 32)
        return np.asarray((mix64(self.key ^ salt) >> np.uint64(11)).astype(np.float64) / 2.0**53)


@dataclass(frozen=True)
class Selection:
    """copies: KEPT, EXACT or NEAR; times: how often each document is taken (0 for copies); heldout: if held out."""

    copies: npt.NDArray[np.uint8]
    times: npt.NDArray[np.uint16]
    heldout: npt.NDArray[np.bool_]
    factor: float


def make_table(paths: Sequence[Path]) -> Table:
    """The table of all batches."""
    types = {"source": np.uint16, "year": np.uint16, "bytes": np.uint32, "words": np.uint32, "key": np.uint64}
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [np.zeros(0, kind)] for name, kind in types.items()}
    codes: list[tuple[list[str], npt.NDArray[np.uint16]]] = []
    for path in paths:
        batch = Batch(path)
        parts["source"].append(np.full(len(batch), batch.source, np.uint16))
        parts["bytes"].append(batch.bytes)
        for name in ("year", "words"):
            parts[name].append(batch.array(name))
        parts["key"].append(batch.array("fingerprint").view("<u8").reshape(-1, 2)[:, 0])
        codes.append((batch.languages, batch.array("language")))
    languages = tuple(sorted({code for batch_codes, _ in codes for code in batch_codes}))
    place = {code: number for number, code in enumerate(languages)}
    indices_of_each = [
        np.array([place[code] for code in batch_codes], np.uint16)[indices]
        for batch_codes, indices in codes
        if batch_codes
    ]
    counts = [len(indices) for _, indices in codes]
    return Table(
        paths=tuple(paths),
        languages=languages,
        language=np.concatenate([np.zeros(0, np.uint16), *indices_of_each]),
        first=np.cumsum([0, *counts]),
        **{name: np.concatenate(arrays) for name, arrays in parts.items()},
    )


def find_copies(table: Table, settings: Settings, folder: Path, bar: Bar) -> npt.NDArray[np.uint8]:
    """KEPT, EXACT or NEAR for each document; `folder` holds the files to sort."""
    filters = settings.filters
    near = NearDuplicates(folder, filters.permutations, filters.near) if filters.near else None
    prints = []
    for path in table.paths:
        batch = Batch(path)
        prints.append(batch.array("fingerprint"))
        if near is not None and len(batch):
            near.add(batch.array("signature"))
        bar.advance()
    all_prints = np.concatenate(prints)
    indices = np.arange(len(all_prints))
    copies = np.where(first_equal(all_prints) == indices, KEPT, EXACT).astype(np.uint8)
    if near is not None:
        copies[(copies == KEPT) & (near.first() != indices)] = NEAR
    return copies


def select(
    table: Table, copies: npt.NDArray[np.uint8], sources: Sequence[TextSource], settings: Settings, seed: int
) -> Selection:
    """Selects how often each document is taken, and which are held out."""
    kept = copies == KEPT
    weight = np.array([source.weight for source in sources])[table.source]
    other = np.array(_others(table.languages, settings.languages), bool)[table.language]
    size = np.where(kept, table.bytes, 0) * weight
    factor = _factor(float(size[~other].sum()), float(size[other].sum()), settings.languages)
    rate = np.where(other, weight * factor, weight)
    floor = np.floor(rate)
    times = floor + (table.draw(seed, "times") < rate - floor)
    heldout = choose_heldout(table.draw(EVERYWHERE, "heldout"), kept & (times > 0), settings.heldout_share)
    times = np.where(heldout, np.minimum(times, 1), times) * kept
    return Selection(copies, times.astype(np.uint16), heldout & (times > 0), factor)


def choose_heldout(
    draws: npt.NDArray[np.float64], candidates: npt.NDArray[np.bool_], share: float
) -> npt.NDArray[np.bool_]:
    """The documents whose draw is below the share; if none of two or more is, the one with the lowest draw."""
    heldout = draws < share
    if share and not (heldout & candidates).any() and candidates.sum() > 1:
        heldout[np.argmin(np.where(candidates, draws, np.inf))] = True
    return heldout


def is_other(language: str, settings: Languages) -> bool:
    """Whether a language counts as other than the main one."""
    return language != settings.main and language not in _NEITHER


def _others(languages: Sequence[str], settings: Languages) -> list[bool]:
    return [is_other(language, settings) for language in languages] or [False]


def _factor(main: float, other: float, settings: Languages) -> float:
    """f as above; 1 without a share to reach, or without documents on either side."""
    share = settings.other_share
    if share is None or not other or not main:
        return 1.0
    return min(share * main, settings.most_repeats * (1 - share) * other) / ((1 - share) * other)


def describe(settings: Languages, factor: float) -> str:
    """The rule in words, for the report."""
    if settings.other_share is None:
        return "languages keep their shares"
    aim = f"aimed at {settings.other_share:.0%} of bytes in languages other than {settings.main}: "
    if factor < 1:
        return f"{aim}each such document is kept with the probability {factor:.3f}"
    return f"{aim}each such document is taken {factor:.2f} times (at most {settings.most_repeats})"
