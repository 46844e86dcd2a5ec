"""Thumbs for pages: counts by day and model, and single ones, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Integer, Select, and_, cast, func, select, tuple_

from charter_service.accounts.tables import FEEDBACK, ORGANISATIONS
from charter_service.web.database import POSTGRESQL

DAY = 86_400
_F = FEEDBACK.c


@dataclass(frozen=True, slots=True)
class Thumbs:
    """The thumbs to show: days, both included (UTC); a model, a thumb and an organisation (its id), or all; `words`:
    only those with words."""

    since: date
    until: date
    model: str = ""
    thumb: str = ""
    organisation: str = ""
    words: bool = False


def thumbs_by_day(connection: Connection, wanted: Thumbs) -> dict[tuple[str, str, str], int]:
    """Numbers of thumbs by day, model and thumb."""
    days = (_F.created - _start(wanted.since)) / DAY
    # a cast rounds on PostgreSQL, and SQLite may lack floor
    whole = cast(func.floor(days) if connection.dialect.name == POSTGRESQL else days, Integer).label("place")
    rows = _where(select(whole, _F.model, _F.thumb, func.count()), wanted)
    rows = rows.group_by(whole.name, _F.model, _F.thumb)
    counts: dict[tuple[str, str, str], int] = {}
    for place, model, thumb, count in connection.execute(rows):
        at = ((wanted.since + timedelta(days=max(0, int(place)))).isoformat(), model, thumb)
        counts[at] = counts.get(at, 0) + int(count)
    return counts


def find_thumbs(
    connection: Connection, wanted: Thumbs, before: tuple[float, str] | None, limit: int = 50
) -> tuple[list[dict[str, Any]], tuple[float, str] | None]:
    """Thumbs, newest first, with the name of their organisation; and the place for the next page's `before`, None at
    the end."""
    rows = select(FEEDBACK, ORGANISATIONS.c.name.label("organisation_name")).join(
        ORGANISATIONS, ORGANISATIONS.c.id == _F.organisation
    )
    rows = _where(rows, wanted).order_by(_F.created.desc(), _F.id.desc()).limit(limit + 1)
    if before is not None:
        rows = rows.where(tuple_(_F.created, _F.id) < before)
    shown = [dict(row._mapping) for row in connection.execute(rows)]
    last = shown[limit - 1] if len(shown) > limit else None
    return shown[:limit], (last["created"], last["id"]) if last else None


def models_of_thumbs(connection: Connection) -> list[str]:
    """The models that have any thumb."""
    return sorted(connection.execute(select(_F.model).distinct()).scalars())


def _start(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _where(rows: Select[Any], wanted: Thumbs) -> Select[Any]:
    rows = rows.where(and_(_F.created >= _start(wanted.since), _F.created < _start(wanted.until) + DAY))
    for name in ("model", "thumb", "organisation"):
        if value := getattr(wanted, name):
            rows = rows.where(_F[name] == value)
    return rows.where(_F.words != "") if wanted.words else rows
