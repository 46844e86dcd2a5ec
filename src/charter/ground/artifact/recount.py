"""Counts and flags worked out again from the rows that an artifact keeps, and what differs, a line each.

A metric that follows from its rows proves little if a row's flag was changed too. So each room says in its `verify.py`
what its counts follow from, and `charter card verify` holds the kept ones against that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest

TOLERANCE = 1e-9
COUNTS = "counts.json"
Row = Mapping[str, Any]
Rows = Sequence[Row]
Flags = Mapping[str, Callable[[Row], object]]


@dataclass(frozen=True, slots=True)
class Kept:
    """What an artifact keeps: rows by file (those that are there), the counts beside them, its settings."""

    files: Mapping[str, Rows]
    counts: Mapping[str, float]
    settings: Mapping[str, Any]


# A count and what it is recounted from; one that follows from two files stands twice.
Count = tuple[str, Callable[[Kept], float]]


def read_counts(folder: Path) -> dict[str, float]:
    """counts.json of an artifact; empty where there is none. Raises CharterError where it is damaged."""
    path = folder / COUNTS
    counts = read_object(path) if path.exists() else {}
    for name, value in counts.items():
        if not isinstance(value, int | float):
            raise CharterError(f"{path}: {name} is {value!r}, expected a number; make its step again")
    return {name: float(value) for name, value in counts.items()}


def read_kept(folder: Path, manifest: Manifest, files: Iterable[str]) -> Kept:
    """What an artifact keeps, of the files that are named. Raises CharterError for rows that can't be read."""
    rows = {name: read_objects(folder / name) for name in files if (folder / name).exists()}
    return Kept(rows, read_counts(folder), manifest.resolved)


def count_problems(counts: Iterable[Count], kept: Kept) -> Iterator[str]:
    """A line for each count of an artifact that its rows don't give."""
    for name, count in counts:
        if name in kept.counts and not same(kept.counts[name], made := float(count(kept))):
            yield f"counts.json: {name} is {kept.counts[name]}; the rows beside it give {made}"


def check_counts(
    folder: Path, manifest: Manifest, counts: Iterable[Count], files: Iterable[str]
) -> Iterator[str]:
    """A line for each count of an artifact that doesn't follow from its files of rows."""
    yield from count_problems(counts, read_kept(folder, manifest, files))


def flag_problems(file: str, rows: Rows, flags: Callable[[Row], Row]) -> list[str]:
    """A line for each flag of a file of kept rows that doesn't follow in every row; `flags` gives them from the row
    alone."""
    wrong: dict[str, list[tuple[Row, object]]] = {}
    for row in rows:
        for key, value in flags(row).items():
            if not same_values(row[key], value):
                wrong.setdefault(key, []).append((row, value))
    problems = []
    for key, found in wrong.items():
        row, value = found[0]
        name = row.get("pair") or row.get("item") or row["id"]
        sample = f" sample {row['sample']}" if "sample" in row else ""
        more = f", and {len(found) - 1} further rows are alike" if len(found) > 1 else ""
        problems.append(f"samples/{file}: {key} of {name}{sample} is {row[key]}; its row gives {value}{more}")
    return problems


def same(first: float | None, second: float | None) -> bool:
    """Equal within 1e-9 of their size; two absent values are equal, NaN counts as absent."""
    a, b = (None if x is None or not math.isfinite(x) else x for x in (first, second))
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def same_values(kept: object, made: object) -> bool:
    """Whether two values of a row are equal, numbers in them up to rounding."""
    if isinstance(kept, int | float) and isinstance(made, int | float):
        return same(kept, made)
    if isinstance(kept, list) and isinstance(made, list):
        return len(kept) == len(made) and all(map(same_values, kept, made))
    if isinstance(kept, dict) and isinstance(made, dict):
        return kept.keys() == made.keys() and all(same_values(kept[key], made[key]) for key in made)
    return kept == made
