"""Admin page of the audit log: who changed what on these pages, in the chat and in the arena."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import Connection, Engine
from starlette.responses import Response

from charter_service.api.admin_entrance import TAG, AdminRoutes, Shown, Visit
from charter_service.api.errors import ApiError, invalid
from charter_service.api.rendering import ADMIN
from charter_service.api.spreadsheet import spreadsheet
from charter_service.api.wire.times import rfc3339
from charter_service.web.audit import Row, Wanted, audit_tip, search_acts, verify_acts
from charter_service.web.database import reading

ROUTES = AdminRoutes(TAG)
LOGS = ("server", "people")  # acts on keys, organisations, cases; acts on persons
FIELDS = ("by", "what", "whose", "since", "until")
COLUMNS = ("number", "at", "by", "actor", "role", "what", "whose", "before", "after", "chain")
MOST_ROWS = 100_000  # of an export


@ROUTES.page("GET", f"{ADMIN}/audit", "Audit log", "own")
def audit_page(visit: Visit) -> Shown | Response:
    """Acts, newest first: a page, a table for spreadsheets, or JSON; with `verify=yes` the chain is read."""
    log, before = visit.query("log", LOGS[0]), visit.query("before", "0")
    if log not in LOGS:
        raise invalid(f"log: expected {' or '.join(LOGS)}", "log")
    if not (before.isascii() and before.isdigit() and len(before) < 10):
        raise invalid("before: expected the number of an act", "before")
    asked = {name: visit.query(name) for name in FIELDS}
    since, until = _day(asked, "since"), _day(asked, "until")
    wanted = Wanted(asked["by"], asked["what"], asked["whose"], int(before), since, until and until + 86_400)
    database = visit.service.database if log == LOGS[0] else visit.service.people.existing()
    rows, following, tip, checked = list[Row](), 0, "", None
    if database is not None:
        if visit.query("format") == "csv":
            return spreadsheet(f"audit-{log}.csv", COLUMNS, _table(database, wanted))
        with reading(database) as connection:
            rows, following = search_acts(connection, wanted)
            tip = audit_tip(connection)
            checked = _checked(connection) if visit.query("verify") == "yes" else None
    elif visit.query("format") == "csv":
        raise ApiError(404, "there is no database of people yet")
    acts = [{**one.facts(), "at": rfc3339(one.act.at)} for one in rows]
    shown = {"acts": acts, "before": following or None, "tip": tip, "checked": checked}
    return Shown("admin_audit", "Audit log", {**shown, "log": log, "logs": list(LOGS), "asked": asked})


def _checked(connection: Connection) -> dict[str, Any]:
    """The result of reading the whole chain."""
    broken = verify_acts(connection)
    return {"at": rfc3339(time.time()), "intact": broken is None, "broken_at": broken}


def _day(asked: dict[str, str], name: str) -> float:
    """The start of a day in seconds since 1970; 0 if none is named. Raises ApiError."""
    if not asked[name]:
        return 0.0
    try:
        day = date.fromisoformat(asked[name])
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return start.timestamp()
    except (ValueError, OverflowError):
        raise invalid(f"{name}: expected a day such as 2026-11-26", name) from None


def _table(database: Engine, wanted: Wanted) -> Iterator[list[object]]:
    """The rows of an export, newest first."""
    with reading(database) as connection:
        rows, _ = search_acts(connection, wanted, MOST_ROWS)
        for one in rows:
            facts = {**one.facts(), "at": rfc3339(one.act.at)}
            states = {name: json.dumps(facts[name], ensure_ascii=False) for name in ("before", "after")}
            yield [{**facts, **states}[name] for name in COLUMNS]
