"""Thumbs and reports: callers' feedback on replies.

A thumb belongs to one key and one request, and the last one counts: a new one replaces the old. A thumb down with
words, a category or a content opens a case of kind report, or changes the one that is still open; the report stays in
the queue even if the thumb turns up again. The log of decisions, where every request of a service leaves a row, shows
which requests exist; each is visible only to its organisation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, Integer, Select, and_, cast, func, select, tuple_

from charter.ground.artifact.manifest import canonical_json, digest_text
from charter_service.accounts.cases import MOST_OPEN, MOST_WORDS, NewCase, fitting, open_case, plain_text
from charter_service.accounts.keys import Caller
from charter_service.accounts.tables import CASES, DECISIONS, FEEDBACK, ORGANISATIONS
from charter_service.web.database import POSTGRESQL, alone
from charter_service.web.refusal import NotFound, Refusal

Thumb = Literal["up", "down"]
UP, DOWN = THUMBS = ("up", "down")
DAY = 86_400  # seconds
_F = FEEDBACK.c
_CATEGORY = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Opinion:
    """A caller's feedback on a reply. `category`: the policy's category that the reply violates; `severity`: that
    category's; `content`: the conversation, if the caller wants people to see it."""

    thumb: Thumb
    words: str = ""
    category: str = ""
    content: Mapping[str, Any] | None = None
    severity: str = ""

    @property
    def reports(self) -> bool:
        """Whether it asks people to look at the reply."""
        return self.thumb == DOWN and bool(self.words.strip() or self.category or self.content)


def give_feedback(connection: Connection, caller: Caller, request: str, opinion: Opinion, now: float) -> str:
    """The id of the feedback, always the same for a key and a request.

    Raises NotFound if the request isn't the organisation's, Refusal for an unknown thumb or category, for words that
    are too long, and if too many reports of the organisation wait.
    """
    if opinion.thumb not in THUMBS:
        raise Refusal(f"a thumb is up or down, not {opinion.thumb!r}")
    if opinion.category and not _CATEGORY.fullmatch(opinion.category):
        raise Refusal(f"{opinion.category!r} is not a category; give the id of one of the policy's")
    words = plain_text(opinion.words, MOST_WORDS, "what was written")
    alone(connection)
    conditions = and_(DECISIONS.c.request == request, DECISIONS.c.organisation == caller.organisation)
    first = select(DECISIONS.c.model).where(conditions).order_by(DECISIONS.c.number).limit(1)
    model: str | None = connection.execute(first).scalar()
    if model is None:
        raise NotFound(f"there is no request {request}, or it isn't yours")
    id = f"feedback_{digest_text(canonical_json([caller.key, request]))[:32]}"
    before: str | None = connection.execute(select(FEEDBACK.c.words).where(FEEDBACK.c.id == id)).scalar()
    connection.execute(FEEDBACK.delete().where(FEEDBACK.c.id == id))
    connection.execute(
        FEEDBACK.insert().values(
            id=id,
            request=request,
            organisation=caller.organisation,
            key=caller.key,
            thumb=opinion.thumb,
            words=words,
            model=model,
            created=now,
        )
    )
    if opinion.reports:
        content = (opinion.category, opinion.words, opinion.content or None, opinion.severity)
        _report(connection, NewCase("report", caller.organisation, request, *content), before, now)
    return id


def _report(connection: Connection, new: NewCase, before: str | None, now: float) -> None:
    """Opens a case, or updates the open one that holds the same key's earlier words."""
    words, content = fitting(new)
    same = and_(
        CASES.c.request == new.request,
        CASES.c.organisation == new.organisation,
        CASES.c.kind == new.kind,
        CASES.c.closed.is_(None),
        CASES.c.words == before,
    )
    values = {"category": new.category, "severity": new.severity, "words": words, "content": content}
    statement = CASES.update().where(same).values(**values)
    if not connection.execute(statement).rowcount and open_case(connection, new, now) is None:
        raise Refusal(f"{MOST_OPEN} reports of yours are already waiting; send this one later", 429)


def thumbs_of(connection: Connection, request: str) -> list[dict[str, Any]]:
    """The feedback on a request, as JSON."""
    rows = select(FEEDBACK).where(FEEDBACK.c.request == request).order_by(FEEDBACK.c.created, FEEDBACK.c.id)
    return [dict(row._mapping) for row in connection.execute(rows)]


def expire_words(connection: Connection, days: float, now: float) -> int:
    """Empties the words of feedback older than `days`; returns how many had any. Words in a waiting case stay."""
    waits = select(CASES.c.id).where(CASES.c.request == FEEDBACK.c.request, CASES.c.closed.is_(None)).exists()
    expired = and_(FEEDBACK.c.created < now - days * 86_400, FEEDBACK.c.words != "", ~waits)
    return connection.execute(FEEDBACK.update().where(expired).values(words="")).rowcount


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


def thumbs_by_day(connection: Connection, sought: Thumbs) -> dict[tuple[str, str, str], int]:
    """Numbers of thumbs by day, model and thumb."""
    days = (_F.created - _start(sought.since)) / DAY
    # a cast rounds on PostgreSQL, and SQLite may lack floor
    day_number = cast(func.floor(days) if connection.dialect.name == POSTGRESQL else days, Integer).label("place")
    rows = _narrow(select(day_number, _F.model, _F.thumb, func.count()), sought)
    rows = rows.group_by(day_number.name, _F.model, _F.thumb)
    counts: dict[tuple[str, str, str], int] = {}
    for place, model, thumb, count in connection.execute(rows):
        at = ((sought.since + timedelta(days=max(0, int(place)))).isoformat(), model, thumb)
        counts[at] = counts.get(at, 0) + int(count)
    return counts


def find_thumbs(
    connection: Connection, sought: Thumbs, before: tuple[float, str] | None, limit: int = 50
) -> tuple[list[dict[str, Any]], tuple[float, str] | None]:
    """Thumbs, newest first, with the name of their organisation; and the place for the next page's `before`, None at
    the end."""
    rows = select(FEEDBACK, ORGANISATIONS.c.name.label("organisation_name")).join(
        ORGANISATIONS, ORGANISATIONS.c.id == _F.organisation
    )
    rows = _narrow(rows, sought).order_by(_F.created.desc(), _F.id.desc()).limit(limit + 1)
    if before is not None:
        rows = rows.where(tuple_(_F.created, _F.id) < before)
    page = [dict(row._mapping) for row in connection.execute(rows)]
    last = page[limit - 1] if len(page) > limit else None
    return page[:limit], (last["created"], last["id"]) if last else None


def models_of_thumbs(connection: Connection) -> list[str]:
    """The models that have any thumb."""
    return sorted(connection.execute(select(_F.model).distinct()).scalars())


def _start(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _narrow(rows: Select[Any], sought: Thumbs) -> Select[Any]:
    rows = rows.where(and_(_F.created >= _start(sought.since), _F.created < _start(sought.until) + DAY))
    for name in ("model", "thumb", "organisation"):
        if value := getattr(sought, name):
            rows = rows.where(_F[name] == value)
    return rows.where(_F.words != "") if sought.words else rows
