"""Usage for pages: sums by day, model, organisation and key, from the daily sums where those suffice, and single rows a
page at a time. No query reads more than the chosen days."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, func, select, tuple_

from charter_service.accounts.tables import KEYS, ORGANISATIONS, USAGE, USAGE_SUMS
from charter_service.accounts.usage import COLUMNS, Counts, DayUsage

MOST_NAMED = 20  # organisations or keys in a list of the largest
AT_A_TIME = 1000


@dataclass(frozen=True, slots=True)
class Span:
    """Days, both included, of an organisation, a key or a model (ids); empty fields mean all."""

    since: date
    until: date
    organisation: str = ""
    key: str = ""
    model: str = ""


def by_day_and_model(connection: Connection, span: Span) -> dict[tuple[str, str], Counts]:
    """Counts by day and model."""
    table = USAGE if span.key else USAGE_SUMS
    sums = _summed(table, span, table.c.day, table.c.model)
    return {(row[0], row[1]): Counts(*(int(value) for value in row[2:])) for row in connection.execute(sums)}


def largest(connection: Connection, span: Span) -> list[tuple[str, str, Counts]]:
    """Id, name and counts of the organisations with the most tokens; of the keys, if the span is one
    organisation's."""
    if span.organisation or span.key:
        table, column, names = USAGE, USAGE.c.key, KEYS
        if span.organisation:
            sums = _summed(table, span, column).where(USAGE.c.key.in_(_keys_of(span.organisation)))
        else:
            sums = _summed(table, span, column)
    else:
        table, column, names = USAGE_SUMS, USAGE_SUMS.c.organisation, ORGANISATIONS
        sums = _summed(table, span, column, every=True)
    tokens = func.sum(table.c.input_tokens + table.c.output_tokens)
    top = sums.order_by(tokens.desc(), column).limit(MOST_NAMED).subquery()
    owner = top.c[column.name]
    rows = select(top, names.c.name).join(names, names.c.id == owner, isouter=True)
    found = [
        (
            str(row._mapping[column.name]),
            str(row.name or ""),
            Counts(*(int(row._mapping[n]) for n in COLUMNS)),
        )
        for row in connection.execute(rows)
    ]
    return sorted(found, key=lambda one: (-one[2].input_tokens - one[2].output_tokens, one[0]))


def _summed(table: Table, span: Span, *columns: ColumnElement[Any], every: bool = False) -> Select[Any]:
    """Sums of a span by columns; `every`: of each organisation, not of all together."""
    sums = select(*columns, *(func.sum(table.c[name]).label(name) for name in COLUMNS)).group_by(*columns)
    sums = sums.where(table.c.day >= span.since.isoformat(), table.c.day <= span.until.isoformat())
    if span.model:
        sums = sums.where(table.c.model == span.model)
    if table is USAGE:
        return sums.where(USAGE.c.key == span.key) if span.key else sums
    if every:
        return sums.where(USAGE_SUMS.c.organisation != "")
    return sums.where(USAGE_SUMS.c.organisation == span.organisation)


def _keys_of(organisation: str) -> Select[Any]:
    return select(KEYS.c.id).where(KEYS.c.organisation == organisation)


def usage_rows(
    connection: Connection, span: Span, after: tuple[str, str, str] | None, limit: int
) -> tuple[list[DayUsage], tuple[str, str, str] | None]:
    """Rows, the newest day first, that follow the place `after` (day, key, model), and the place of the last one, None
    at the end."""
    place = (USAGE.c.day, USAGE.c.key, USAGE.c.model)
    rows = _rows(span).order_by(*(column.desc() for column in place)).limit(limit + 1)
    if after is not None:
        rows = rows.where(USAGE.c.day <= after[0], tuple_(*place) < after)
    shown = [_usage(row) for row in connection.execute(rows)]
    last = shown[limit - 1] if len(shown) > limit else None
    return shown[:limit], (last.day, last.key, last.model) if last is not None else None


def all_usage(connection: Connection, span: Span) -> Iterator[DayUsage]:
    """All rows of a span, oldest day first, a few in memory at a time."""
    rows = _rows(span).order_by(USAGE.c.day, USAGE.c.key, USAGE.c.model)
    for row in connection.execute(rows.execution_options(yield_per=AT_A_TIME)):
        yield _usage(row)


def _rows(span: Span) -> Select[Any]:
    rows = (
        select(USAGE, KEYS.c.name, ORGANISATIONS.c.name.label("organisation"))
        .join(KEYS, KEYS.c.id == USAGE.c.key)
        .join(ORGANISATIONS, ORGANISATIONS.c.id == KEYS.c.organisation)
        .where(USAGE.c.day >= span.since.isoformat(), USAGE.c.day <= span.until.isoformat())
    )
    if span.organisation:
        rows = rows.where(USAGE.c.key.in_(_keys_of(span.organisation)))
    if span.key:
        rows = rows.where(USAGE.c.key == span.key)
    return rows.where(USAGE.c.model == span.model) if span.model else rows


def _usage(row: Any) -> DayUsage:
    counts = Counts(*(row._mapping[name] for name in COLUMNS))
    return DayUsage(row.day, row.organisation, row.key, row.name, row.model, counts)
