"""Console page of the audit log: who changed what on these pages, in the chat and in the arena."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator
from typing import Annotated, Any, ClassVar

from sqlalchemy import Connection, Engine
from starlette.responses import Response

from charter_service.api.admin_entrance import TAG, AdminRoutes, Shown, Visit
from charter_service.api.errors import ApiError
from charter_service.api.rendering import ADMIN
from charter_service.api.wire.answers import rfc3339
from charter_service.console.filters import DATE, DayStart, Filters, Input, number, one_of
from charter_service.console.listing import spreadsheet, timed
from charter_service.web.audit import Row, Wanted, audit_tip, search_acts, verify_acts
from charter_service.web.database import reading

ROUTES = AdminRoutes(TAG)
LOGS = ("server", "people")  # acts on keys, organisations, cases; acts on persons
COLUMNS = ("number", "at", "by", "actor", "role", "what", "whose", "before", "after", "chain")
MOST_ROWS = 100_000  # of an export
DAY = 86_400


class ActFilters(Filters):
    """Which acts to show, and of which log."""

    paging: ClassVar[Collection[str]] = ("log", "before")
    log: Annotated[str, one_of(LOGS, LOGS[0]), Input("Log")]
    by: Annotated[str, Input("Actor", most=200)]
    what: Annotated[str, Input("Action", most=64, hint="key, key.revoke", exact=True)]
    whose: Annotated[str, Input("Target", most=200, exact=True)]
    since: Annotated[DayStart, Input("From", DATE)]
    until: Annotated[DayStart, Input("To", DATE)]
    before: Annotated[int, number("the number of an act")]

    def search(self) -> Wanted:
        """The search for them; the last day is included."""
        facts = self.model_dump(exclude={"log"})
        return Wanted(**{**facts, "until": self.until and self.until + DAY})


@ROUTES.page("GET", f"{ADMIN}/audit", "Audit log", "own")
def audit_page(visit: Visit) -> Shown | Response:
    """Acts, newest first: a page, a table for spreadsheets, or JSON; with `verify=yes` the chain is read."""
    filters = ActFilters.of(visit)
    log, query = filters.log, filters.search()
    database = visit.service.database if log == LOGS[0] else visit.service.people.existing()
    rows, following, tip, checked = list[Row](), 0, "", None
    if visit.query("format") == "csv":
        if database is None:
            raise ApiError(404, "there is no database of people yet")
        return spreadsheet(f"audit-{log}.csv", COLUMNS, _all_acts(database, query))
    if database is not None:
        with reading(database) as connection:
            rows, following = search_acts(connection, query)
            tip = audit_tip(connection)
            checked = _checked(connection) if visit.query("verify") == "yes" else None
    acts = [timed(row.facts(), "at") for row in rows]
    facts = {"acts": acts, "before": following or None, "tip": tip, "checked": checked}
    inputs = ActFilters.shown(visit)
    return Shown("admin_audit", "Audit log", {**facts, "log": log, "logs": list(LOGS), "asked": inputs})


def _checked(connection: Connection) -> dict[str, Any]:
    """The result of reading the whole chain."""
    broken = verify_acts(connection)
    return {"at": rfc3339(time.time()), "intact": broken is None, "broken_at": broken}


def _all_acts(database: Engine, query: Wanted) -> Iterator[dict[str, Any]]:
    """The rows of an export, newest first."""
    with reading(database) as connection:
        for row in search_acts(connection, query, MOST_ROWS)[0]:
            facts = timed(row.facts(), "at")
            states = {name: json.dumps(facts[name], ensure_ascii=False) for name in ("before", "after")}
            yield {**facts, **states}
