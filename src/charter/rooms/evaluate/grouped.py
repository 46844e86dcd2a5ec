"""Scores of every group of a task's rows, for groups that data name and no metric can: behaviours, labelled sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from charter.ground.measure.intervals import interval
from charter.ground.measure.score import Table
from charter.rooms.evaluate.task import Marks, Row, Rows

Measure = Callable[[Sequence[Marks]], Table]


def by_group(rows: Sequence[Marks], columns: Mapping[str, Measure]) -> Rows:
    """One row a group: its rows, and each column with its 95 % interval and n; without columns that count nothing."""
    by_name: dict[str, list[Marks]] = {}
    for row in rows:
        by_name.setdefault(str(row["group"]), []).append(row)
    return [
        {"group": name, "n": len(group_rows)} | _values(group_rows, columns)
        for name, group_rows in sorted(by_name.items())
    ]


def _values(rows: Sequence[Marks], columns: Mapping[str, Measure]) -> Row:
    values: Row = {}
    for name, measure in columns.items():
        table = measure(rows)
        if table.n:
            low, high = interval(table)
            values[name] = {"value": table.value, "low": low, "high": high, "n": table.n}
    return values
