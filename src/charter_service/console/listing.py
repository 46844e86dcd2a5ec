"""Listings: rows of one kind and the columns that tables show of them. A row is a mapping, the same for all faces: the
terminal and spreadsheets show its columns, pages and programs its fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from charter.terminal.tables import console, plain_table
from charter_service.api.wire.times import rfc3339

Row = Mapping[str, Any]
Cell = str | Callable[[Row], object]  # the name of a field, or what is made of a row
LONG = 60  # characters of a text in a table


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows of one kind: their columns by the heads of a table, those of `numbers` on the right, and the words for no
    rows."""

    none: str
    columns: Mapping[str, Cell]
    numbers: Mapping[str, Cell] = field(default_factory=dict)

    def table(self, rows: Collection[Row]) -> Table:
        """Rows for a terminal. Users' text is neither read as markup nor able to steer the terminal."""
        table = plain_table(tuple(self.columns), tuple(self.numbers))
        cells = (*self.columns.values(), *self.numbers.values())
        for row in rows:
            values = (row[cell] if isinstance(cell, str) else cell(row) for cell in cells)
            table.add_row(*(Text(plain(str(value))) for value in values))
        return table

    def show(self, rows: Collection[Row]) -> None:
        """Prints rows as a table, or the words for none."""
        if rows:
            console().print(self.table(rows))
        else:
            print(self.none)


def named(row: Row, names: Mapping[str, str]) -> dict[str, Any]:
    """A row with the name of its organisation, "" for one that is unknown."""
    return {**row, "organisation_name": names.get(row["organisation"], "")}


def timed(row: Row, *times: str) -> dict[str, Any]:
    """A row whose times, in seconds since 1970 or None, are written in RFC 3339."""
    return {**row, **{name: rfc3339(row[name]) for name in times}}


def print_json(value: Any) -> None:
    """A line of JSON."""
    print(json.dumps(value, ensure_ascii=False))


def plain(text: str) -> str:
    """A text without control characters for terminals."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def short(text: str) -> str:
    """A text as one line of a table."""
    line = " ".join(text.split())
    return line if len(line) <= LONG else line[: LONG - 1] + "…"


def when(at: float) -> str:
    """A time to the minute (UTC)."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def day(at: float | None) -> str:
    """A day (UTC), - for none."""
    return "-" if at is None else datetime.fromtimestamp(at, UTC).date().isoformat()
