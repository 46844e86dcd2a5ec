"""Counts: the input, the kept part, and the one reason for each dropped document.

`counts.json` is flat, one number a name. `composition.json` splits the numbers by source, language, year, licence and
kind, and adds reasons, placeholders and benchmarks for pages. For every source, read = kept + dropped by reason.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from charter.ground.artifact.store import TEMPORARY
from charter.ground.settings.texts import Listing
from charter.ground.text.corpus_index import SPLITS
from charter.ground.text.shards import TokenShards
from charter.rooms.corpus.batch import Batch
from charter.rooms.corpus.decontamination import Decontamination
from charter.rooms.corpus.encoding import plan_work
from charter.rooms.corpus.selection import EXACT, NEAR, Selection, Table, describe, is_other
from charter.rooms.corpus.settings import Languages

EXACT_COPY, NEAR_COPY, SHARE = "exact_copy", "near_copy", "share"
UNKNOWN_YEAR = "unknown"
_SHOWN, _EXCERPT = 20, 600  # documents in samples, and characters of each
_MOST_EXAMPLES = 6  # of each reason, in samples/dropped.jsonl
Sizes = dict[str, int | float]
Group = dict[str, Sizes]


@dataclass
class Examined:
    """The facts of all batches, added up. Counters are keyed by source number, `dropped` by (source number, reason)."""

    read: Counter[int] = field(default_factory=Counter)
    read_bytes: Counter[int] = field(default_factory=Counter)
    dropped: Counter[tuple[int, str]] = field(default_factory=Counter)
    rows: Counter[int] = field(default_factory=Counter)
    undated_rows: Counter[int] = field(default_factory=Counter)
    columns: dict[int, list[str]] = field(default_factory=dict)
    personal: Counter[str] = field(default_factory=Counter)
    contaminated: Counter[str] = field(default_factory=Counter)
    personal_documents: int = 0
    replaced: int = 0
    faults: int = 0
    first_fault: dict[str, Any] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def by_reason(self) -> dict[str, int]:
        """The number of dropped documents for each reason, sorted by name."""
        counts: Counter[str] = Counter()
        for (_, reason), count in self.dropped.items():
            counts[reason] += count
        return dict(sorted(counts.items()))


def add_up(paths: Sequence[Path]) -> Examined:
    """Adds up the facts of all batches, with the first fault and some examples of other reasons."""
    examined = Examined()
    example_counts: Counter[str] = Counter()
    for path in paths:
        batch = Batch(path)
        facts = batch.facts
        examined.read[batch.source] += facts["read"]
        examined.read_bytes[batch.source] += facts["read_bytes"]
        examined.rows[batch.source] += facts["rows"]
        examined.undated_rows[batch.source] += facts["undated_rows"]
        examined.columns[batch.source] = examined.columns.get(batch.source) or facts["columns"]
        for reason, count in facts["dropped"].items():
            examined.dropped[batch.source, reason] += count
        examined.personal.update(facts["personal"])
        examined.contaminated.update(facts["contaminated"])
        examined.personal_documents += facts["personal_documents"]
        examined.replaced += facts["replaced"]
        examined.faults += len(facts["faults"])
        examined.first_fault = examined.first_fault or next(iter(facts["faults"]), {})
        for example in facts["examples"]:
            example_counts[example["reason"]] += 1
            if example_counts[example["reason"]] <= _MOST_EXAMPLES:
                examined.examples.append(example)
    return examined


def write_faults(paths: Sequence[Path], target: Path) -> None:
    """Writes all files, lines and rows that can't be read, one JSON object a line. The file is whole or absent."""
    target.parent.mkdir(exist_ok=True)
    temporary = target.with_name(TEMPORARY + target.name)
    with temporary.open("w", encoding="utf-8") as file:
        for path in paths:
            for fault in Batch(path).facts["faults"]:
                file.write(json.dumps(fault, ensure_ascii=False) + "\n")
    os.replace(temporary, target)


def drop_selected(examined: Examined, table: Table, selection: Selection) -> None:
    """Counts unselected documents of the batches as dropped: copies, and those that weights and shares omit."""
    left_out = (selection.copies == 0) & (selection.times == 0)
    groups = ((selection.copies == EXACT, EXACT_COPY), (selection.copies == NEAR, NEAR_COPY), (left_out, SHARE))
    for which, reason in groups:
        for source, count in _by(table.source[which]).items():
            examined.dropped[source, reason] += count


def tokens_of(folder: Path, table: Table, selection: Selection) -> npt.NDArray[np.int64]:
    """Tokens of each document of the table, counted once; 0 if it is not selected."""
    tokens = np.zeros(len(table), np.int64)
    for split in SPLITS:
        lengths = TokenShards.open(folder, split).lengths
        place = 0
        for _, numbers in plan_work(table, selection, split, 0):
            tokens[numbers] = lengths[place : place + len(numbers)]
            place += len(numbers)
    return tokens


def composition(
    listings: Sequence[Listing],
    table: Table,
    selection: Selection,
    tokens: npt.NDArray[np.int64],
    examined: Examined,
    tests: Decontamination,
    languages: Languages,
) -> dict[str, Any]:
    """The content of composition.json."""
    sources = [listing.source for listing in listings]
    years = [str(year) if year else UNKNOWN_YEAR for year in range(int(table.year.max(initial=0)) + 1)]
    measure = _Measure(table, selection, tokens)
    by = {
        "source": measure.group([source.name for source in sources], table.source),
        "language": measure.group(table.languages, table.language),
        "year": measure.group(years, table.year),
        "licence": measure.group([source.licence for source in sources], table.source),
        "kind": measure.group([source.kind for source in sources], table.source),
    }
    for number, (listing, source) in enumerate(zip(listings, sources, strict=True)):
        source_sizes = by["source"].setdefault(source.name, measure.sizes(np.zeros(len(table), bool)))
        source_sizes.update(
            files=len(listing.files),
            files_unread=listing.unread,
            read=examined.read[number],
            read_bytes=examined.read_bytes[number],
        )
    return {
        "total": measure.sizes(np.ones(len(table), bool)),
        "by": by,
        "sources": [
            {
                "name": source.name,
                "from": source.at,
                "licence": source.licence,
                "kind": source.kind,
                "weight": source.weight,
                "missing": bool(listing.missing),
            }
            for listing, source in zip(listings, sources, strict=True)
        ],
        "dropped": examined.by_reason(),
        "dropped_by_source": {
            source.name: {r: n for r in examined.by_reason() if (n := examined.dropped[number, r])}
            for number, source in enumerate(sources)
        },
        "personal": dict(sorted(examined.personal.items())),
        "contaminated": dict(sorted(examined.contaminated.items())),
        "benchmarks": {
            "files": tests.files,
            "items": tests.items,
            "unchecked": len(tests.unchecked),
            "skipped": [f"{Path(name).parent.name}/{Path(name).name}" for name in tests.skipped],
        },
        "steering": describe(languages, selection.factor),
    }


def sample_rows(listings: Sequence[Listing], table: Table, selection: Selection, seed: int) -> list[dict[str, Any]]:
    """The beginnings of some random selected documents, in order."""
    candidates = np.flatnonzero(selection.times)
    numbers = candidates[np.argsort(table.draw(seed, "samples")[candidates], kind="stable")[:_SHOWN]]
    rows = []
    for number in sorted(numbers.tolist()):
        rows.append(
            {
                "id": f"document-{number}",
                "source": listings[table.source[number]].source.name,
                "language": table.languages[table.language[number]],
                "text": table.text(number)[:_EXCERPT],
            }
        )
    return rows


class _Measure:
    """Adds up the selected documents, their tokens and bytes, each as often as it is taken. `unique` and `unique_bytes`
    count each once."""

    def __init__(self, table: Table, selection: Selection, tokens: npt.NDArray[np.int64]) -> None:
        self._taken = selection.times > 0
        times = selection.times.astype(np.int64)
        heldout = selection.heldout
        self._columns = {
            "unique": self._taken.astype(np.int64),
            "documents": np.where(heldout, 0, times),
            "heldout": heldout.astype(np.int64),
            "bytes": table.bytes * times,
            "unique_bytes": table.bytes * self._taken,
            "words": table.words * times,
            "tokens": tokens * times,
        }

    def sizes(self, which: npt.NDArray[np.bool_]) -> Sizes:
        return {name: int(column[which].sum(dtype=np.int64)) for name, column in self._columns.items()}

    def group(self, names: Sequence[str], label: npt.NDArray[np.uint16]) -> Group:
        """Sizes by the name of each label that occurs, in the labels' order; labels may share a name."""
        groups: Group = {}
        for number in np.unique(label[self._taken]).tolist():
            label_sizes = self.sizes(label == number)
            before = groups.setdefault(names[number], dict.fromkeys(label_sizes, 0))
            for name, value in label_sizes.items():
                before[name] += value
        return groups


def flatten(contents: Mapping[str, Any], examined: Examined, languages: Languages) -> dict[str, float]:
    """The content of counts.json."""
    total, by = contents["total"], contents["by"]
    other = sum(g["bytes"] for code, g in by["language"].items() if is_other(code, languages))
    documents_read = sum(examined.read.values())
    counts: dict[str, float] = {
        "files": sum(group["files"] for group in by["source"].values()),
        "files_unread": sum(group["files_unread"] for group in by["source"].values()),
        "documents_read": documents_read,
        "bytes_read": sum(examined.read_bytes.values()),
        "documents": total["documents"],
        "documents_unique": total["unique"],
        "documents_heldout": total["heldout"],
        "bytes": total["bytes"],
        "unique_bytes": total["unique_bytes"],
        "tokens": total["tokens"],
        "kept_share": total["unique"] / documents_read,
        "kept_bytes_share": total["unique_bytes"] / sum(examined.read_bytes.values()),
        "other_share": other / total["bytes"],
        "replaced_utf8": examined.replaced,
        "personal_documents": examined.personal_documents,
        **_rates("", total),
    }
    counts |= {f"dropped_{reason}": count for reason, count in contents["dropped"].items()}
    counts |= {f"personal_{kind}": count for kind, count in contents["personal"].items()}
    for code, group in by["language"].items():
        counts |= _rates(f"_{code}", group)
    return counts


def _rates(suffix: str, sizes: Sizes) -> dict[str, float]:
    return {
        f"tokens_per_word{suffix}": sizes["tokens"] / sizes["words"],
        f"tokens_per_byte{suffix}": sizes["tokens"] / sizes["bytes"],
    }


def _by(labels: npt.NDArray[np.uint16]) -> dict[int, int]:
    numbers, counts = np.unique(labels, return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))
