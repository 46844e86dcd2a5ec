"""Admin pages of the server's state: an overview, models and engines, and unfinished batches."""

from __future__ import annotations

import datetime
from collections import Counter
from typing import Any

from sqlalchemy import Connection, func, select

from charter_service.accounts.batches import ENDED, list_batches
from charter_service.accounts.keys import list_keys
from charter_service.accounts.ladder import LEVELS
from charter_service.accounts.organisations import organisation_names
from charter_service.accounts.standings import changes_since
from charter_service.accounts.tables import BATCHES, CASES
from charter_service.accounts.usage import Counts
from charter_service.accounts.usage_pages import Span, by_day_and_model
from charter_service.api.admin_entrance import TAG, AdminRoutes, Shown, Visit
from charter_service.api.rendering import ADMIN
from charter_service.api.wire.times import rfc3339
from charter_service.web.database import reading

ROUTES = AdminRoutes(TAG)
MOST_BATCHES = 100  # of an organisation


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
        keys = Counter(key.state() for key in list_keys(connection))
    data = {
        "waiting": cases,
        "today": {"requests": used.requests, "refused": used.refused, "tokens": used.output_tokens},
        "standings": {level: levels[level] for level in LEVELS[1:] if levels[level]},
        "keys": dict(keys),
        "policy": service.conduct.policy if service.screen else None,
        "models": engines(visit),
    }
    return Shown("admin", "Overview", data)


@ROUTES.page("GET", f"{ADMIN}/engines", "Models and engines")
def models_page(visit: Visit) -> Shown:
    """The registry, and the state of each engine."""
    today = datetime.datetime.now(datetime.UTC).date()
    rows = engines(visit)
    facts = [
        {**one.facts(today), "engine": row["engine"]}
        for one, row in zip(visit.service.registry.served, rows, strict=True)
    ]
    return Shown("admin_models", "Engines", {"models": facts})


def engines(visit: Visit) -> list[dict[str, Any]]:
    """The state of each model's engine."""
    return [
        {"id": one.id, "title": one.title, "engine": one.backend.figures()}
        for one in visit.service.registry.served
    ]


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
        for one in list_batches(connection, owner, limit=MOST_BATCHES).batches:
            if one.state != ENDED:
                times = {"created": rfc3339(one.created), "expires": rfc3339(one.expires)}
                facts = {"id": one.id, "state": one.state, "size": one.size, "counts": one.counts}
                rows.append({**facts, **times, "organisation": owner, "organisation_name": names[owner]})
    return sorted(rows, key=lambda row: (str(row["created"]), str(row["id"])))
