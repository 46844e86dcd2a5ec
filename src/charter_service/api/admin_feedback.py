"""The admin page of feedback: thumbs over time by model, what people wrote, and how to freeze it as an artifact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from starlette.responses import Response

from charter_service.accounts.feedback import THUMBS
from charter_service.accounts.feedback_pages import Thumbs, find_thumbs, models_of_thumbs, thumbs_by_day
from charter_service.accounts.organisations import organisation_names
from charter_service.api.admin_conduct import organisation_in
from charter_service.api.admin_entrance import TAG, AdminRoutes, Shown, Visit
from charter_service.api.days import bars, days_of, each_day
from charter_service.api.errors import invalid
from charter_service.api.rendering import ADMIN, wants_json
from charter_service.api.spreadsheet import spreadsheet
from charter_service.api.wire.times import rfc3339
from charter_service.web.database import reading

ROUTES = AdminRoutes(TAG)
FEEDBACK = f"{ADMIN}/feedback"
FIELDS = ("model", "thumb", "organisation", "words")
COLUMNS = ("created", "request", "organisation_name", "model", "thumb", "words")
RECIPE = """name: feedback
steps:
  export:
    room: feedback_export
    settings: {{database: "{database}"}}
"""


@ROUTES.page("GET", FEEDBACK, "Feedback", "review")
def feedback_page(visit: Visit) -> Shown | Response:
    """Thumbs by day and model, and the newest ones: a page, a table for spreadsheets, or JSON."""
    before = _before(visit.query("before"))
    with reading(visit.service.database) as connection:
        names = organisation_names(connection)
        wanted = _wanted(visit, names)
        if visit.query("format") == "csv":
            return _table(visit, wanted)
        counts, models = thumbs_by_day(connection, wanted), models_of_thumbs(connection)
        rows, last = find_thumbs(connection, wanted, before)
    by_model = {model: dict.fromkeys(THUMBS, 0) for model in sorted({model for _, model, _ in counts})}
    for (_, model, thumb), count in counts.items():
        by_model[model][thumb] += count
    data: dict[str, Any] = {
        "since": wanted.since.isoformat(),
        "until": wanted.until.isoformat(),
        "asked": {name: visit.query(name) for name in FIELDS},
        "by_model": by_model,
        "by_day": [
            {"day": day, "model": model, "thumb": thumb, "count": count}
            for (day, model, thumb), count in sorted(counts.items(), reverse=True)
        ],
        "feedback": [_row(one) for one in rows],
        "before": f"{last[0]!r}:{last[1]}" if last else None,
        "models": models,
        "thumbs": list(THUMBS),
        "recipe": RECIPE.format(database=_place(visit)),
    }
    if not wants_json(visit.request):
        ups, downs = dict[str, int](), dict[str, int]()
        for (day, _, thumb), count in counts.items():
            side = ups if thumb == "up" else downs
            side[day] = side.get(day, 0) + count
        data["chart"] = bars(each_day(wanted.since, wanted.until), downs, ups)
    return Shown("admin_feedback", "Feedback", data)


def _place(visit: Visit) -> str:
    """The database as a recipe may name it, without a password; empty: beside the run."""
    return visit.service.config.database if "@" not in visit.service.config.database else ""


def _wanted(visit: Visit, names: dict[str, str]) -> Thumbs:
    since, until = days_of(visit)
    thumb = visit.query("thumb")
    if thumb and thumb not in THUMBS:
        raise invalid(f"thumb: expected {' or '.join(THUMBS)}, or nothing for both", "thumb")
    owner = organisation_in(names, visit.query("organisation"))
    return Thumbs(since, until, visit.query("model"), thumb, owner, visit.query("words") == "yes")


def _before(text: str) -> tuple[float, str] | None:
    if not text:
        return None
    at, _, id = text.partition(":")
    try:
        moment = float(at)
    except ValueError:
        raise invalid("before: expected the place that the page before named", "before") from None
    return moment, id


def _row(one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "created": rfc3339(one["created"])}


def _table(visit: Visit, wanted: Thumbs) -> Response:
    def rows() -> Iterator[list[Any]]:
        before: tuple[float, str] | None = None
        while True:
            with reading(visit.service.database) as connection:
                some, before = find_thumbs(connection, wanted, before, 1000)
            yield from ([_row(one)[name] for name in COLUMNS] for one in some)
            if before is None:
                return

    return spreadsheet("feedback.csv", COLUMNS, rows())
