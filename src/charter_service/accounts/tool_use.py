"""Calls of tools that the server ran, and those that failed, by day (UTC), key and tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import postgresql, sqlite

from charter_service.accounts.tables import KEYS, TOOL_USE
from charter_service.web.database import POSTGRESQL

Place = tuple[str, str, str]  # key, day, tool


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


def tools_by_day(
    connection: Connection, since: date, until: date, organisation: str | None = None
) -> list[DayTool]:
    """Calls from one day to another, both included, by day and tool; of one organisation (its id), or of all."""
    t = TOOL_USE.c
    wanted = (
        select(t.day, t.tool, func.sum(t.calls).label("calls"), func.sum(t.failures).label("failures"))
        .where(t.day >= since.isoformat(), t.day <= until.isoformat())
        .group_by(t.day, t.tool)
        .order_by(t.day, t.tool)
    )
    if organisation is not None:
        wanted = wanted.join(KEYS, KEYS.c.id == t.key).where(KEYS.c.organisation == organisation)
    rows = connection.execute(wanted)
    return [DayTool(row.day, row.tool, ToolCounts(int(row.calls), int(row.failures))) for row in rows]


def add_tool_use(connection: Connection, gathered: Mapping[Place, ToolCounts]) -> None:
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
    connection.execute(
        statement.on_conflict_do_update(index_elements=["key", "day", "tool"], set_=more), rows
    )
