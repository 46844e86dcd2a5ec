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
from typing import Any, Literal

from sqlalchemy import Connection, and_, select

from charter.ground.artifact.manifest import canonical_json, digest_text
from charter_service.accounts.cases import MOST_OPEN, MOST_WORDS, NewCase, fitting, open_case, plain_text
from charter_service.accounts.keys import Caller
from charter_service.accounts.tables import CASES, DECISIONS, FEEDBACK
from charter_service.web.database import alone
from charter_service.web.refusal import NotFound, Refusal

Thumb = Literal["up", "down"]
UP, DOWN = THUMBS = ("up", "down")
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
    mine = and_(DECISIONS.c.request == request, DECISIONS.c.organisation == caller.organisation)
    first = select(DECISIONS.c.model).where(mine).order_by(DECISIONS.c.number).limit(1)
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
        shown = (opinion.category, opinion.words, opinion.content or None, opinion.severity)
        _report(connection, NewCase("report", caller.organisation, request, *shown), before, now)
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
    changed = CASES.update().where(same).values(**values)
    if not connection.execute(changed).rowcount and open_case(connection, new, now) is None:
        raise Refusal(f"{MOST_OPEN} reports of yours are already waiting; send this one later", 429)


def thumbs_of(connection: Connection, request: str) -> list[dict[str, Any]]:
    """The feedback on a request, as JSON."""
    rows = select(FEEDBACK).where(FEEDBACK.c.request == request).order_by(FEEDBACK.c.created, FEEDBACK.c.id)
    return [dict(row._mapping) for row in connection.execute(rows)]


def expire_words(connection: Connection, days: float, now: float) -> int:
    """Empties the words of feedback older than `days`; returns how many had any. Words in a waiting case stay."""
    waits = select(CASES.c.id).where(CASES.c.request == FEEDBACK.c.request, CASES.c.closed.is_(None)).exists()
    old = and_(FEEDBACK.c.created < now - days * 86_400, FEEDBACK.c.words != "", ~waits)
    return connection.execute(FEEDBACK.update().where(old).values(words="")).rowcount
