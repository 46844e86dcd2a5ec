"""Console pages of what is served: an overview, engines, batches, requests, usage, files and tools."""

from __future__ import annotations

import datetime
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Annotated, Any

from sqlalchemy import Connection, func, select
from starlette.responses import Response

from charter_service.accounts.batches import ENDED, list_batches
from charter_service.accounts.files import stored
from charter_service.accounts.keys import find_key, list_keys
from charter_service.accounts.ladder import LEVELS
from charter_service.accounts.organisations import list_organisations, organisation_names
from charter_service.accounts.requests import Sought, find_requests
from charter_service.accounts.retention import Keep
from charter_service.accounts.standings import changes_since
from charter_service.accounts.tables import BATCHES, CASES
from charter_service.accounts.usage import (
    COLUMNS,
    Counts,
    DayTool,
    Span,
    ToolCounts,
    all_usage,
    by_day_and_model,
    largest,
    tools_by_day,
    usage_rows,
)
from charter_service.api.admin_entrance import TAG, AdminRoutes, Done, Shown, Visit
from charter_service.api.rendering import ADMIN, short, wants_json
from charter_service.api.service import MIB
from charter_service.api.wire.answers import rfc3339
from charter_service.console.filters import (
    DIGITS,
    PLACE,
    TICK,
    TIME,
    Days,
    Filters,
    Input,
    Moment,
    Owner,
    Whole,
    Yes,
    organisation_in,
    read_as,
)
from charter_service.console.listing import chart, named, request_row, spreadsheet, timed, usage_row
from charter_service.web.database import reading

ROUTES = AdminRoutes(TAG)
REQUESTS, USAGE, FILES, TOOLS = (f"{ADMIN}/{name}" for name in ("requests", "usage", "files", "tools"))
MOST_BATCHES = 100  # of an organisation
ROWS = 100  # of a page of usage
RANKED_DAYS = 31
STATUSES = {"": 0, "answered": 2, "wrong": 4, "failed": 5}  # hundreds of HTTP
STATUS_WORDS = f"{', '.join(filter(None, STATUSES))}, or a number such as 429"
USAGE_COLUMNS = ("day", "organisation", "key", "name", "model", *COLUMNS)
TOOL_COLUMNS = ("day", "tool", "calls", "failures")


@ROUTES.page("GET", ADMIN, "Overview")
def overview(visit: Visit) -> Shown:
    """Open cases, today's usage, and whether the server works."""
    service, today = visit.service, datetime.datetime.now(datetime.UTC).date()
    service.meter.try_flush()
    with reading(service.database) as connection:
        waiting = select(CASES.c.kind, func.count()).where(CASES.c.closed.is_(None)).group_by(CASES.c.kind)
        cases = {str(kind): int(count) for kind, count in connection.execute(waiting)}
        used = sum(by_day_and_model(connection, Span(today, today)).values(), Counts())
        levels = Counter(change.level for change in changes_since(connection, 0))
        states = Counter(key.state() for key in list_keys(connection))
    data = {
        "waiting": cases,
        "today": {"requests": used.requests, "refused": used.refused, "tokens": used.output_tokens},
        "standings": {level: levels[level] for level in LEVELS[1:] if levels[level]},
        "keys": dict(states),
        "policy": service.conduct.policy if service.screen else None,
        "models": [
            {"id": model.id, "title": model.title, "engine": model.backend.figures()}
            for model in service.registry.served
        ],
    }
    return Shown("admin", "Overview", data)


@ROUTES.page("GET", f"{ADMIN}/engines", "Models and engines")
def models_page(visit: Visit) -> Shown:
    """The registry, and the state of each engine."""
    today = datetime.datetime.now(datetime.UTC).date()
    served = visit.service.registry.served
    rows = [{**model.facts(today), "engine": model.backend.figures()} for model in served]
    return Shown("admin_models", "Engines", {"models": rows})


@ROUTES.page("GET", f"{ADMIN}/batches", "Batches in work")
def batches_page(visit: Visit) -> Shown:
    """Batches that have not ended."""
    with reading(visit.service.database) as connection:
        rows = _in_work(connection)
    return Shown("admin_batches", "Batches in work", {"batches": rows})


def _in_work(connection: Connection) -> list[dict[str, Any]]:
    names = organisation_names(connection)
    busy = connection.execute(select(BATCHES.c.organisation).where(BATCHES.c.state != ENDED).distinct())
    rows = []
    for owner in busy.scalars().all():
        for batch in list_batches(connection, owner, limit=MOST_BATCHES).batches:
            if batch.state != ENDED:
                fields = ("id", "state", "size", "counts", "created", "expires")
                row = {name: getattr(batch, name) for name in fields} | {"organisation": owner}
                rows.append(named(timed(row, "created", "expires"), names))
    return sorted(rows, key=lambda row: (str(row["created"]), str(row["id"])))


def _status(text: str) -> int:
    return STATUSES[text] if text in STATUSES else _three_digits(text)


def _three_digits(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) == 3):
        raise ValueError
    return int(text)


def _place(text: str) -> tuple[float, int] | None:
    if not text:
        return None
    at, _, number = text.partition(":")
    place = float(at), int(number)
    if not 0 <= place[0] < 1e12 or not 0 <= place[1] < 2**63:
        raise ValueError
    return place


class RequestFilters(Filters):
    """Which requests to show."""

    request: Annotated[str, Input("Request", most=64, hint="req_…", exact=True)]
    organisation: Owner
    key: Annotated[str, Input("Key", most=64, hint="key_…", exact=True)]
    model: Annotated[str, Input("Model", all="All")]
    status: Annotated[int, read_as(_status, STATUS_WORDS), Input("Status", all="All")]
    since: Annotated[Moment, Input("From (UTC)", TIME)]
    until: Annotated[Moment, Input("Until (UTC)", TIME)]
    slower: Annotated[Whole, Input("Latency from (ms)", DIGITS, most=9)]
    tokens: Annotated[Whole, Input("Tokens from", DIGITS, most=9)]
    refused: Annotated[Yes, Input("Blocked by the policy", TICK)]
    before: Annotated[tuple[float, int] | None, read_as(_place, PLACE)]


@ROUTES.page("GET", REQUESTS, "Requests")
def requests_page(visit: Visit) -> Shown:
    """Requests that match, newest first: when, whose, which model, how each ended and how long it took; no text."""
    visit.service.meter.try_flush()
    sought = RequestFilters.of(visit).model_dump()
    with reading(visit.service.database) as connection:
        names = organisation_names(connection)
        sought["organisation"] = organisation_in(names, sought["organisation"])
        results = find_requests(connection, Sought(id=sought.pop("request"), **sought))
    keep = visit.service.config.keep
    data = {
        "requests": [request_row(row, names) for row in results.rows],
        "before": f"{results.before[0]!r}:{results.before[1]}" if results.before else None,
        "looked": results.looked,
        "asked": RequestFilters.shown(visit),
        "statuses": list(STATUSES),
        "models": [model.id for model in visit.service.registry.served],
        "kept": {"days": keep.requests_days, "most": keep.requests_most},
    }
    return Shown("admin_requests", "Requests", data)


def _usage_place(text: str) -> tuple[str, str, str] | None:
    if not text:
        return None
    day, key, model = text.split("|", 2)
    return day, key, model


class UsageFilters(Days):
    """Which usage to show."""

    organisation: Annotated[str, Input("Organisation", all="All")]
    key: Annotated[str, Input("Key", all="All")]
    model: Annotated[str, Input("Model", all="All")]
    after: Annotated[tuple[str, str, str] | None, read_as(_usage_place, PLACE)]


@ROUTES.page("GET", USAGE, "Usage by day")
def usage_page(visit: Visit) -> Shown | Response:
    """Usage by day and model, by organisation or key, and single rows: a page, a table for spreadsheets, or JSON."""
    visit.service.meter.try_flush()
    filters = UsageFilters.of(visit)
    since, until = filters.days()
    with reading(visit.service.database) as connection:
        owners = list_organisations(connection)
        owner = organisation_in({organisation.id: organisation.name for organisation in owners}, filters.organisation)
        span = Span(since, until, owner, filters.key, filters.model)
        of_owner = list_keys(connection, span.organisation) if span.organisation else []
        if span.key:
            find_key(connection, span.key)
        if visit.query("format") == "csv":
            return spreadsheet("usage.csv", USAGE_COLUMNS, _all_usage(visit, span))
        sums, most = by_day_and_model(connection, span), largest(connection, ranked := _ranked(span))
        rows, last = usage_rows(connection, span, filters.after, ROWS)
    models = sorted({model for _, model in sums})
    by_model = {name: asdict(sum((c for (_, model), c in sums.items() if model == name), Counts())) for name in models}
    data: dict[str, Any] = {
        "since": since.isoformat(),
        "until": until.isoformat(),
        "organisation": filters.organisation,
        "key": span.key,
        "model": span.model,
        "rows": [usage_row(usage) for usage in rows],
        "after": "|".join(last) if last else None,
        "total": asdict(sum(sums.values(), Counts())),
        "by_model": by_model,
        "largest": [{"id": id, "name": name, **asdict(counts)} for id, name, counts in most],
        "largest_since": ranked.since.isoformat(),
        "largest_are": "keys" if span.organisation or span.key else "organisations",
    }
    if not wants_json(visit.request):
        days = ((day, counts.output_tokens, counts.input_tokens) for (day, _), counts in sums.items())
        data |= {
            "chart": chart(since, until, days),
            "choices": {
                "organisation": [organisation.name for organisation in owners],
                "model": sorted({served.id for served in visit.service.registry.served} | set(models)),
            },
        }
        if of_owner or span.key:
            labels = [(key.caller.key, f"{key.caller.name} …{key.hint}") for key in of_owner]
            data["choices"]["key"] = labels or [(span.key, short(span.key))]
    return Shown("admin_usage", "Usage", data)


def _ranked(span: Span) -> Span:
    """The days over which organisations are ranked: the last of a long span, so that a page reads few rows."""
    if span.organisation or span.key:
        return span
    return replace(span, since=max(span.since, span.until - datetime.timedelta(RANKED_DAYS - 1)))


def _all_usage(visit: Visit, span: Span) -> Iterator[dict[str, Any]]:
    """All rows, read while they are sent."""
    with reading(visit.service.database) as connection:
        yield from map(usage_row, all_usage(connection, span))


@ROUTES.page("GET", FILES, "Files and retention")
def files_page(visit: Visit) -> Shown:
    """What each organisation stores, the largest first, in bytes as the quota counts them; uploads refused since the
    server began; and how long data stays."""
    service = visit.service
    with reading(service.database) as connection:
        names, sizes = (
            organisation_names(connection),
            {sizes_of_owner.organisation: sizes_of_owner for sizes_of_owner in stored(connection)},
        )
    refused = defaultdict[str, dict[str, int]](dict)
    for (organisation, reason), count in sorted(service.files.refused.copy().items()):
        refused[organisation][reason] = count
    rows = [
        {
            "id": id,
            "name": names.get(id, id),
            "files": sizes[id].files if id in sizes else 0,
            "bytes": sizes[id].bytes if id in sizes else 0,
            "refused": refused.get(id, {}),
        }
        for id in (*sizes, *(id for id in refused if id not in sizes))
    ]
    keep, sweep = service.config.keep, service.sweeping.last
    data: dict[str, Any] = {
        "organisations": rows,
        "quota": service.config.files.quota_mib * MIB,
        "largest_file": service.config.files.file_mib * MIB,
        "keep": [
            {"name": name, "what": setting.description, "value": getattr(keep, name)}
            for name, setting in Keep.model_fields.items()
        ],
        "swept": rfc3339(sweep.at) if sweep else None,
        "removed": dict(sweep.pieces) if sweep else {},
    }
    return Shown("admin_files", "Files and retention", data)


@ROUTES.page("POST", f"{FILES}/sweep", "Remove old rows now")
def sweep_now(visit: Visit) -> Done:
    """Begins the sweep that else runs once an hour; it goes on beside the service."""
    visit.service.room.write(lambda connection: visit.note(connection, "retention.sweep", ""))
    visit.service.sweeping.begin()
    return Done(FILES, {"begun": True})


class ToolFilters(Days):
    """Whose calls of tools to show."""

    organisation: Annotated[str, Input("Organisation", all="All")]


@ROUTES.page("GET", TOOLS, "Tools and their calls")
def tools_page(visit: Visit) -> Shown | Response:
    """Each tool, whether it is on, and its calls by day: a page, a table for spreadsheets, or JSON."""
    service, filters = visit.service, ToolFilters.of(visit)
    since, until = filters.days()
    service.meter.try_flush()
    with reading(service.database) as connection:
        names = organisation_names(connection)
        organisation = organisation_in(names, filters.organisation)
        days = tools_by_day(connection, since, until, organisation or None)
    if visit.query("format") == "csv":
        return spreadsheet("tools.csv", TOOL_COLUMNS, map(_day_row, days))
    offered = {tool.name: tool for tool in service.tools.values()}
    totals = {name: ToolCounts() for name in offered}
    for day in days:
        totals[day.tool] = totals.get(day.tool, ToolCounts()) + day.counts
    data: dict[str, Any] = {
        "since": since.isoformat(),
        "until": until.isoformat(),
        "organisation": filters.organisation,
        "tools": [
            {
                "name": name,
                "type": offered[name].kind if name in offered else None,
                "description": offered[name].description if name in offered else None,
                **asdict(counts),
            }
            for name, counts in sorted(totals.items())
        ],
        "days": [_day_row(day) for day in days[::-1]],
    }
    if not wants_json(visit.request):
        calls = ((day.day, day.counts.failures, day.counts.calls - day.counts.failures) for day in days)
        data |= {"chart": chart(since, until, calls), "choices": {"organisation": sorted(names.values())}}
    return Shown("admin_tools", "Tools", data)


def _day_row(day: DayTool) -> dict[str, Any]:
    return {"day": day.day, "tool": day.tool, **asdict(day.counts)}
