"""Rows that people bring to `charter data`: what kind they are, and what is to be said of them."""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.recognise import kind_of_row
from charter.ground.text.columns import source_rows
from charter.ground.text.dialogue import Comparison, Dialogue, prompt_of
from charter.ground.text.records import (
    KNOWN_COLUMNS,
    files_of,
    read_comparisons,
    read_dialogues,
    read_texts,
)


class DataKind(StrEnum):
    """What a file of rows is read as."""

    prompts = "prompts"
    dialogues = "dialogues"
    comparisons = "comparisons"


Rows = list[Dialogue] | list[Comparison]


@dataclass(frozen=True)
class Found:
    """Rows of a file, what they are in one line, and what else is to be known of them, a line each."""

    rows: Rows
    summary: str
    notes: tuple[str, ...] = ()


def read_rows(file: Path, kind: DataKind | None) -> Found:
    """Reads rows as the asked kind, or as what the first looks like. Raises CharterError naming file:line."""
    looks = kind or kind_of_rows(file)
    if looks == "text":
        texts = read_texts(file)
        return Found([], f"{len(texts)} texts, {sum(len(text) for _, text in texts):,} characters")
    if looks == "comparisons":
        dropped: Counter[str] = Counter()
        pairs = read_comparisons(file, dropped)
        left_out = "".join(f"; {count} left out: {reason}" for reason, count in dropped.items())
        return Found(pairs, describe(pairs) + left_out, _unknown_columns(file, "comparisons"))
    rows = read_dialogues(file)
    if kind is DataKind.prompts:
        rows = [prompt_of(row) for row in rows]
    return Found(rows, describe(rows), _unknown_columns(file, "dialogues"))


def kind_of_rows(file: Path) -> str:
    """What an artifact holds, or what the first row of a file, or of a folder's first file, looks like."""
    if (file / MANIFEST).is_file():
        return read_manifest(file).kind
    first = next(source_rows(files_of(file, "comparisons")[0]), None)
    if first is None:
        raise CharterError(f"{file} holds no rows; expected one below the names of the columns")
    return kind_of_row(first[1])


def _unknown_columns(file: Path, kind: str) -> tuple[str, ...]:
    """A note that names the columns that mean nothing to charter, and those they may be misspellings of."""
    known = KNOWN_COLUMNS[kind]
    unknown = Counter(
        str(column)
        for path in files_of(file, kind)
        for _, row in source_rows(path)
        for column in row.keys() - known
    )
    if not unknown:
        return ()
    close = [near for name in unknown for near in difflib.get_close_matches(name, known, n=1)]
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    return (f"unknown columns, kept in meta: {', '.join(sorted(unknown))}{hint}",)


def describe(rows: Sequence[Dialogue] | Sequence[Comparison]) -> str:
    """The kind and number of rows, and their turns and size."""
    prompts = all(isinstance(row, Dialogue) and row.is_prompt for row in rows)
    kind = "comparisons" if isinstance(rows[0], Comparison) else "prompts" if prompts else "dialogues"
    turns = sum(len(row.messages) for row in rows) / len(rows)
    size = sum(len(message["content"]) for row in rows for message in row.messages)
    topics = len({row.topic for row in rows if row.topic})
    return (
        f"{len(rows)} {kind}, {turns:.1f} turns and {size / len(rows):.0f} characters each, {topics} topics"
    )
