"""The admin page of usage: by day and model, by organisation or key, and single rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

from starlette.responses import Response

from charter_service.accounts.keys import find_key, list_keys
from charter_service.accounts.organisations import list_organisations
from charter_service.accounts.usage import COLUMNS, Counts, DayUsage
from charter_service.accounts.usage_pages import Span, all_usage, by_day_and_model, largest, usage_rows
from charter_service.api.admin_entrance import TAG, AdminRoutes, Shown, Visit
from charter_service.api.days import bars, days_of, each_day
from charter_service.api.errors import ApiError, invalid
from charter_service.api.rendering import ADMIN, wants_json
from charter_service.api.spreadsheet import spreadsheet
from charter_service.web.database import reading

ROUTES = AdminRoutes(TAG)
USAGE = f"{ADMIN}/usage"
ROWS = 100  # of a page
RANKED_DAYS = 31
FACTS = ("day", "organisation", "key", "name", "model")


@ROUTES.page("GET", USAGE, "Usage by day")
def usage_page(visit: Visit) -> Shown | Response:
    """Usage by day and model: a page, a table for spreadsheets, or JSON."""
    visit.service.meter.try_flush()
    after = _place(visit.query("after"))
    with reading(visit.service.database) as connection:
        organisations = list_organisations(connection)
        span = _span(visit, {name: one.id for one in organisations for name in (one.name, one.id)})
        keys = list_keys(connection, span.organisation) if span.organisation else []
        if span.key:
            find_key(connection, span.key)
        if visit.query("format") == "csv":
            return _table(visit, span)
        sums, most = by_day_and_model(connection, span), largest(connection, ranked := _ranked(span))
        rows, last = usage_rows(connection, span, after, ROWS)
    models = sorted({model for _, model in sums})
    total = sum(sums.values(), Counts())
    data: dict[str, Any] = {
        "since": span.since.isoformat(),
        "until": span.until.isoformat(),
        "organisation": visit.query("organisation"),
        "key": span.key,
        "model": span.model,
        "rows": [_row(one) for one in rows],
        "after": "|".join(last) if last else None,
        "total": asdict(total),
        "by_model": {
            name: asdict(sum((c for (_, model), c in sums.items() if model == name), Counts()))
            for name in models
        },
        "largest": [{"id": id, "name": name, **asdict(counts)} for id, name, counts in most],
        "largest_since": ranked.since.isoformat(),
        "largest_are": "keys" if span.organisation or span.key else "organisations",
    }
    if not wants_json(visit.request):
        wrote, read = dict[str, int](), dict[str, int]()
        for (day, _), counts in sums.items():
            wrote[day] = wrote.get(day, 0) + counts.output_tokens
            read[day] = read.get(day, 0) + counts.input_tokens
        data |= {
            "chart": bars(each_day(span.since, span.until), wrote, read),
            "organisations": [one.name for one in organisations],
            "keys": [{"id": one.caller.key, "name": one.caller.name, "hint": one.hint} for one in keys],
            "models": sorted({one.id for one in visit.service.registry.served} | set(models)),
        }
    return Shown("admin_usage", "Usage", data)


def _span(visit: Visit, organisations: dict[str, str]) -> Span:
    since, until = days_of(visit)
    wanted, key = visit.query("organisation"), visit.query("key")
    if wanted and wanted not in organisations:
        raise ApiError(404, f"there is no organisation {wanted}", param="organisation")
    return Span(since, until, organisations.get(wanted, ""), key, visit.query("model"))


def _ranked(span: Span) -> Span:
    """The days over which organisations are ranked: the last of a long span, so that a page reads few rows."""
    if span.organisation or span.key:
        return span
    return replace(span, since=max(span.since, span.until - timedelta(RANKED_DAYS - 1)))


def _place(text: str) -> tuple[str, str, str] | None:
    if not text:
        return None
    day, _, rest = text.partition("|")
    key, bar, model = rest.partition("|")
    if not bar:
        raise invalid("after: expected the place that the page before named", "after")
    return day, key, model


def _row(one: DayUsage) -> dict[str, Any]:
    return {name: getattr(one, name) for name in FACTS} | asdict(one.counts)


def _table(visit: Visit, span: Span) -> Response:
    """All rows, sent while they are read."""

    def rows() -> Iterator[list[Any]]:
        with reading(visit.service.database) as connection:
            for one in all_usage(connection, span):
                yield list(_row(one).values())

    return spreadsheet("usage.csv", (*FACTS, *COLUMNS), rows())
