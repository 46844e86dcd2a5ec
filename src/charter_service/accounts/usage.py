"""The usage of each model by each key, and the calls of tools that the server ran, by day (UTC).

Counts are gathered in memory and written every half second in one transaction, so that a request costs no commit: a
killed process loses the counts of the last half second, and nothing written before. Pages take sums from the daily
ones where those suffice, and single rows a page at a time; no query reads more than the chosen days.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, Table, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from charter.ground.artifact.errors import CharterError
from charter_service.accounts.keys import note_used
from charter_service.accounts.requests import RequestRow, add_requests
from charter_service.accounts.tables import KEYS, ORGANISATIONS, TOOL_USE, USAGE, USAGE_SUMS
from charter_service.web.database import POSTGRESQL, writing

ToolDay = tuple[str, str, str]  # key, day, tool
SECONDS = 0.5
MOST_NAMED = 20  # organisations or keys in a list of the largest
AT_A_TIME = 1000  # rows in memory
_log = logging.getLogger(__name__)
ModelDay = tuple[str, str, str]  # key, day, model
MOST_ROWS = 100_000  # of requests that wait for the database; older ones are dropped


@dataclass(frozen=True, slots=True)
class ToolCounts:
    """Calls, and those of them that failed."""

    calls: int = 0
    failures: int = 0

    def __add__(self, other: ToolCounts) -> ToolCounts:
        return ToolCounts(self.calls + other.calls, self.failures + other.failures)


@dataclass(frozen=True, slots=True)
class DayTool:
    """The calls of a tool on a day."""

    day: str  # 2026-11-26
    tool: str
    counts: ToolCounts


def tools_by_day(connection: Connection, since: date, until: date, organisation: str | None = None) -> list[DayTool]:
    """Calls from one day to another, both included, by day and tool; of one organisation (its id), or of all."""
    t = TOOL_USE.c
    query = (
        select(t.day, t.tool, func.sum(t.calls).label("calls"), func.sum(t.failures).label("failures"))
        .where(t.day >= since.isoformat(), t.day <= until.isoformat())
        .group_by(t.day, t.tool)
        .order_by(t.day, t.tool)
    )
    if organisation is not None:
        query = query.join(KEYS, KEYS.c.id == t.key).where(KEYS.c.organisation == organisation)
    rows = connection.execute(query)
    return [DayTool(row.day, row.tool, ToolCounts(int(row.calls), int(row.failures))) for row in rows]


def add_tool_use(connection: Connection, gathered: Mapping[ToolDay, ToolCounts]) -> None:
    """Adds counts to the rows of their key, day and tool; creates missing rows."""
    rows = [
        {"key": key, "day": day, "tool": tool, "calls": counts.calls, "failures": counts.failures}
        for (key, day, tool), counts in sorted(gathered.items())
    ]
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == POSTGRESQL else sqlite
    statement = dialect.insert(TOOL_USE)
    more = {name: TOOL_USE.c[name] + statement.excluded[name] for name in ("calls", "failures")}
    connection.execute(statement.on_conflict_do_update(index_elements=["key", "day", "tool"], set_=more), rows)


NO_TOOLS: Mapping[ToolDay, ToolCounts] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests, those that the acceptable-use policy refused, and tokens; `cached_tokens` are input tokens read from a
    cache."""

    requests: int = 0
    refused: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in COLUMNS))


COLUMNS = tuple(field.name for field in fields(Counts))


@dataclass(frozen=True, slots=True)
class DayUsage:
    """A key's usage of a model on a day."""

    day: str  # 2026-11-26
    organisation: str  # its name
    key: str
    name: str  # the key's
    model: str
    counts: Counts


def usage_by_day(
    connection: Connection, since: date, until: date, organisation: str | None = None, key: str | None = None
) -> list[DayUsage]:
    """Usage from one day to another, both included, by day, organisation, key and model; of one organisation or one key
    (their ids), or of all."""
    query = (
        select(USAGE, KEYS.c.name, ORGANISATIONS.c.name.label("organisation"))
        .join(KEYS, KEYS.c.id == USAGE.c.key)
        .join(ORGANISATIONS, ORGANISATIONS.c.id == KEYS.c.organisation)
        .where(USAGE.c.day >= since.isoformat(), USAGE.c.day <= until.isoformat())
        .order_by(USAGE.c.day, ORGANISATIONS.c.name, KEYS.c.name, USAGE.c.key, USAGE.c.model)
    )
    if organisation is not None:
        query = query.where(KEYS.c.organisation == organisation)
    if key is not None:
        query = query.where(USAGE.c.key == key)
    return [
        DayUsage(row.day, row.organisation, row.key, row.name, row.model, Counts(*(row._mapping[n] for n in COLUMNS)))
        for row in connection.execute(query)
    ]


class Meter:
    """Counts usage from any thread, and writes it in its own thread until it is closed.

    A crash loses at most the counts of the last half second. Counts that can't be written now (the database is away, or
    locked for long) are kept and tried again.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._gathered: dict[ModelDay, Counts] = {}
        self._used: dict[str, float] = {}  # last use by key
        self._tools: dict[ToolDay, ToolCounts] = {}
        self._requests: deque[RequestRow] = deque(maxlen=MOST_ROWS)
        self._lock, self._writes, self._closed = threading.Lock(), threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="meter", daemon=True)
        self._thread.start()

    def record(self, key: str, model: str, counts: Counts, at: float) -> None:
        """Counts a key's (its id) usage of a model at a time, in seconds since 1970. Never waits for the database."""
        place = (key, datetime.fromtimestamp(at, UTC).date().isoformat(), model[:200])
        self._gather({place: counts}, {key: at})

    def record_tool(self, key: str, tool: str, failed: bool, at: float) -> None:
        """Counts a key's (its id) call of a tool that the server ran. Never waits for the database."""
        place = (key, datetime.fromtimestamp(at, UTC).date().isoformat(), tool[:64])
        self._gather({}, {key: at}, {place: ToolCounts(1, int(failed))})

    def note(self, row: RequestRow) -> None:
        """Keeps a row of a finished request for the next write. Never waits for the database."""
        with self._lock:
            self._requests.append(row)

    def try_flush(self) -> None:
        """Writes the gathered counts, if that is possible now."""
        with suppress(SQLAlchemyError, CharterError):
            self.flush()

    def flush(self) -> None:
        """Writes the gathered counts. Raises the database's errors; then nothing is lost."""
        with self._writes:
            with self._lock:
                gathered, used, tools = self._gathered, self._used, self._tools
                self._gathered, self._used, self._tools = {}, {}, {}
                rows, self._requests = self._requests, deque(maxlen=MOST_ROWS)
            if not used and not rows:
                return
            try:
                self._write(gathered, used, tools, rows)
            except BaseException:
                self._gather(gathered, used, tools)
                with self._lock:
                    self._requests = deque([*rows, *self._requests], maxlen=MOST_ROWS)
                raise

    def close(self) -> None:
        """Writes the rest and ends. Raises the database's errors."""
        self._closed.set()
        self._thread.join()
        self.flush()

    def _write_on(self) -> None:
        while not self._closed.wait(SECONDS):
            try:
                self.flush()
            except (SQLAlchemyError, CharterError) as error:
                problem = " ".join(str(getattr(error, "orig", None) or error).split())
                _log.warning("usage can't be written now and is kept: %s", problem)

    def _write(
        self,
        gathered: Mapping[ModelDay, Counts],
        used: Mapping[str, float],
        tools: Mapping[ToolDay, ToolCounts],
        rows: Collection[RequestRow],
    ) -> None:
        """Writes all at once; if a count's key is unknown, all other counts."""
        try:
            with writing(self._engine) as connection:
                add_requests(connection, rows)
                if gathered:
                    _add(connection, gathered)
                add_tool_use(connection, tools)
                for key in sorted(used):  # in one order, so that two writers don't wait for each other
                    note_used(connection, key, used[key])
        except IntegrityError:
            with writing(self._engine) as connection:
                known_keys = set(connection.execute(select(KEYS.c.id).where(KEYS.c.id.in_(sorted(used)))).scalars())
            if known_keys >= used.keys():
                raise
            _log.warning("usage of unknown keys is not counted: %s", ", ".join(sorted(used.keys() - known_keys)))
            known_usage = {place: counts for place, counts in gathered.items() if place[0] in known_keys}
            known_tools = {place: counts for place, counts in tools.items() if place[0] in known_keys}
            known_used = {key: at for key, at in used.items() if key in known_keys}
            self._write(known_usage, known_used, known_tools, rows)

    def _gather(
        self,
        gathered: Mapping[ModelDay, Counts],
        used: Mapping[str, float],
        tools: Mapping[ToolDay, ToolCounts] = NO_TOOLS,
    ) -> None:
        with self._lock:
            for tool, calls in tools.items():
                self._tools[tool] = self._tools.get(tool, ToolCounts()) + calls
            for place, counts in gathered.items():
                self._gathered[place] = self._gathered.get(place, Counts()) + counts
            for key, at in used.items():
                self._used[key] = max(at, self._used.get(key, 0.0))


def _add(connection: Connection, gathered: Mapping[ModelDay, Counts]) -> None:
    """Adds counts to the rows of their key, day and model, and to the sums of their organisation and of all; creates
    missing rows."""
    _upsert(connection, USAGE, ("key", "day", "model"), gathered)
    keys = sorted({key for key, _, _ in gathered})
    query = select(KEYS.c.id, KEYS.c.organisation).where(KEYS.c.id.in_(keys))
    owners = {row.id: row.organisation for row in connection.execute(query)}
    sums: dict[ModelDay, Counts] = {}
    for (key, day, model), counts in gathered.items():
        for whose in ("", owners[key]):
            sums[day, whose, model] = sums.get((day, whose, model), Counts()) + counts
    _upsert(connection, USAGE_SUMS, ("day", "organisation", "model"), sums)


def _upsert(connection: Connection, table: Table, names: Sequence[str], counts: Mapping[ModelDay, Counts]) -> None:
    """Adds counts to the rows of a table whose primary key has these names, in one order, so that two writers don't
    wait for each other."""
    rows: list[dict[str, Any]] = [
        dict(zip(names, place, strict=True)) | {name: getattr(place_counts, name) for name in COLUMNS}
        for place, place_counts in sorted(counts.items())
    ]
    dialect = postgresql if connection.dialect.name == POSTGRESQL else sqlite
    statement = dialect.insert(table)
    more = {name: table.c[name] + statement.excluded[name] for name in COLUMNS}
    connection.execute(statement.on_conflict_do_update(index_elements=list(names), set_=more), rows)


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
    totals = [
        (str(row._mapping[column.name]), str(row.name or ""), Counts(*(int(row._mapping[n]) for n in COLUMNS)))
        for row in connection.execute(rows)
    ]
    return sorted(totals, key=lambda total: (-total[2].input_tokens - total[2].output_tokens, total[0]))


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
    page = [_usage(row) for row in connection.execute(rows)]
    last = page[limit - 1] if len(page) > limit else None
    return page[:limit], (last.day, last.key, last.model) if last is not None else None


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
