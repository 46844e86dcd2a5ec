"""The admin page of requests: when, whose, which model, how each ended and how long it took; no text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from charter_service.accounts.organisations import organisation_names
from charter_service.accounts.requests import Sought, find_requests
from charter_service.api.admin_conduct import organisation_in, request_row
from charter_service.api.admin_entrance import TAG, AdminRoutes, Shown, Visit
from charter_service.api.errors import invalid
from charter_service.api.rendering import ADMIN
from charter_service.web.database import reading

ROUTES = AdminRoutes(TAG)
REQUESTS = f"{ADMIN}/requests"
STATUSES = {"": 0, "answered": 2, "wrong": 4, "failed": 5}  # hundreds of HTTP
FIELDS = (
    "request",
    "organisation",
    "key",
    "model",
    "status",
    "refused",
    "since",
    "until",
    "slower",
    "tokens",
)


@ROUTES.page("GET", REQUESTS, "Requests")
def requests_page(visit: Visit) -> Shown:
    """Requests that match, newest first."""
    visit.service.meter.try_flush()
    with reading(visit.service.database) as connection:
        names = organisation_names(connection)
        sought = _sought(visit, names)
        shown = find_requests(connection, sought)
    keep = visit.service.config.keep
    data = {
        "requests": [request_row(row, names) for row in shown.rows],
        "before": f"{shown.before[0]!r}:{shown.before[1]}" if shown.before else None,
        "looked": shown.looked,
        "asked": {name: visit.query(name) for name in FIELDS},
        "statuses": list(STATUSES),
        "models": [one.id for one in visit.service.registry.served],
        "kept": {"days": keep.requests_days, "most": keep.requests_most},
    }
    return Shown("admin_requests", "Requests", data)


def _sought(visit: Visit, names: dict[str, str]) -> Sought:
    query = visit.query
    status = query("status")
    if status not in STATUSES and not (status.isascii() and status.isdigit() and len(status) == 3):
        raise invalid(
            f"status: expected {', '.join(filter(None, STATUSES))}, or a number such as 429", "status"
        )
    return Sought(
        id=query("request"),
        organisation=organisation_in(names, query("organisation")),
        key=query("key"),
        model=query("model"),
        status=STATUSES[status] if status in STATUSES else int(status),
        refused=query("refused") == "yes",
        since=_moment(visit, "since"),
        until=_moment(visit, "until"),
        slower=_whole(visit, "slower"),
        tokens=_whole(visit, "tokens"),
        before=_before(query("before")),
    )


def _moment(visit: Visit, name: str) -> float:
    """A time (UTC) such as 2026-11-26T14:00, in seconds; 0 for none."""
    if not (text := visit.query(name)):
        return 0.0
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise invalid(f"{name}: expected a time such as 2026-11-26T14:00", name) from None


def _whole(visit: Visit, name: str) -> int:
    text = visit.query(name)
    if text and not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise invalid(f"{name}: expected a whole number", name)
    return int(text or 0)


def _before(text: str) -> tuple[float, int] | None:
    if not text:
        return None
    at, _, number = text.partition(":")
    try:
        place: Any = (float(at), int(number))
    except ValueError:
        place = None
    if place is None or not 0 <= place[0] < 1e12 or not 0 <= place[1] < 2**63:
        raise invalid("before: expected the place that the page before named", "before")
    return place[0], place[1]
