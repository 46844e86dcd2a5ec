"""The admin page of tools: which ones the server runs, and how often models called them and they failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from starlette.responses import Response

from charter_service.accounts.organisations import organisation_names
from charter_service.accounts.tool_use import DayTool, ToolCounts, tools_by_day
from charter_service.api.admin_conduct import organisation_in
from charter_service.api.admin_entrance import TAG, AdminRoutes, Shown, Visit
from charter_service.api.days import bars, days_of, each_day
from charter_service.api.rendering import ADMIN, wants_json
from charter_service.api.spreadsheet import spreadsheet
from charter_service.web.database import reading

ROUTES = AdminRoutes(TAG)
TOOLS = f"{ADMIN}/tools"
COLUMNS = ("day", "tool", "calls", "failures")


@ROUTES.page("GET", TOOLS, "Tools and their calls")
def tools_page(visit: Visit) -> Shown | Response:
    """Each tool, whether it is on, and its calls by day: a page, a table for spreadsheets, or JSON."""
    service, (since, until) = visit.service, days_of(visit)
    service.meter.try_flush()
    with reading(service.database) as connection:
        names = organisation_names(connection)
        organisation = organisation_in(names, visit.query("organisation"))
        days = tools_by_day(connection, since, until, organisation or None)
    if visit.query("format") == "csv":
        return spreadsheet("tools.csv", COLUMNS, _rows(days))
    totals = {tool.name: ToolCounts() for tool in service.tools.values()}
    for one in days:
        totals[one.tool] = totals.get(one.tool, ToolCounts()) + one.counts
    offered = {tool.name: tool for tool in service.tools.values()}
    data: dict[str, Any] = {
        "since": since.isoformat(),
        "until": until.isoformat(),
        "organisation": visit.query("organisation"),
        "tools": [
            {
                "name": name,
                "type": offered[name].kind if name in offered else None,
                "description": offered[name].description if name in offered else None,
                **asdict(counts),
            }
            for name, counts in sorted(totals.items())
        ],
        "days": [dict(zip(COLUMNS, row, strict=True)) for row in _rows(days[::-1])],
    }
    if not wants_json(visit.request):
        failed, done = dict[str, int](), dict[str, int]()
        for one in days:
            failed[one.day] = failed.get(one.day, 0) + one.counts.failures
            done[one.day] = done.get(one.day, 0) + one.counts.calls - one.counts.failures
        data |= {
            "chart": bars(each_day(since, until), failed, done),
            "organisations": sorted(names.values()),
        }
    return Shown("admin_tools", "Tools", data)


def _rows(days: list[DayTool]) -> Iterator[list[Any]]:
    for one in days:
        yield [one.day, one.tool, one.counts.calls, one.counts.failures]
