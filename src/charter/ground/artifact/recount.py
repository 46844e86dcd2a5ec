"""Computes counts and flags again from an artifact's rows, and reports each difference in a line.

A metric that follows from its rows proves little if a row's flag was changed too. So each room says in its `verify.py`
how its counts follow from the rows, and `charter card verify` compares the stored ones with that.
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
    """The content of an artifact: rows by file (of existing files), its counts and its settings."""

    files: Mapping[str, Rows]
    counts: Mapping[str, float]
    settings: Mapping[str, Any]


# A count and its computation; a count that follows from two files has two entries.
Count = tuple[str, Callable[[Kept], float]]


def read_counts(folder: Path) -> dict[str, float]:
    """counts.json of an artifact; {} without one. Raises CharterError if it is damaged."""
    path = folder / COUNTS
    counts = read_object(path) if path.exists() else {}
    for name, value in counts.items():
        if not isinstance(value, int | float):
            raise CharterError(f"{path}: {name} is {value!r}, expected a number; make its step again")
    return {name: float(value) for name, value in counts.items()}


def read_kept(folder: Path, manifest: Manifest, files: Iterable[str]) -> Kept:
    """The content of an artifact, with the rows of `files`. Raises CharterError for rows that can't be read."""
    rows = {name: read_objects(folder / name) for name in files if (folder / name).exists()}
    return Kept(rows, read_counts(folder), manifest.resolved)


def count_problems(counts: Iterable[Count], artifact: Kept) -> Iterator[str]:
    """A line for each count of an artifact that differs from its rows."""
    for name, count in counts:
        if name in artifact.counts and not same(artifact.counts[name], value := float(count(artifact))):
            yield f"counts.json: {name} is {artifact.counts[name]}; the rows beside it give {value}"


def check_counts(folder: Path, manifest: Manifest, counts: Iterable[Count], files: Iterable[str]) -> Iterator[str]:
    """Reads an artifact's rows; a line for each count that differs from them."""
    yield from count_problems(counts, read_kept(folder, manifest, files))


def flag_problems(file: str, rows: Rows, flags: Callable[[Row], Row]) -> list[str]:
    """A line for each flag that differs in some row of a file; `flags` computes the flags of a row."""
    wrong: dict[str, list[tuple[Row, object]]] = {}
    for row in rows:
        for key, value in flags(row).items():
            if not same_values(row[key], value):
                wrong.setdefault(key, []).append((row, value))
    problems = []
    for key, differences in wrong.items():
        row, value = differences[0]
        name = row.get("pair") or row.get("item") or row["id"]
        sample = f" sample {row['sample']}" if "sample" in row else ""
        more = f", and {len(differences) - 1} further rows are alike" if len(differences) > 1 else ""
        problems.append(f"samples/{file}: {key} of {name}{sample} is {row[key]}; its row gives {value}{more}")
    return problems


def same(first: float | None, second: float | None) -> bool:
    """Equal within 1e-9 of their size; two absent values are equal, NaN counts as absent."""
    a, b = (None if x is None or not math.isfinite(x) else x for x in (first, second))
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def same_values(stored: object, computed: object) -> bool:
    """Whether two values of a row are equal, numbers in them up to rounding."""
    if isinstance(stored, int | float) and isinstance(computed, int | float):
        return same(stored, computed)
    if isinstance(stored, list) and isinstance(computed, list):
        return len(stored) == len(computed) and all(map(same_values, stored, computed))
    if isinstance(stored, dict) and isinstance(computed, dict):
        return stored.keys() == computed.keys() and all(same_values(stored[key], computed[key]) for key in computed)
    return stored == computed
