"""Appeals: of an account's standing, or of what the policy stopped of one request. Each is a case for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, select

from charter_service.accounts.cases import (
    DISMISSED,
    MOST_OPEN,
    Case,
    NewCase,
    cases_of,
    open_case,
    waiting_of,
)
from charter_service.accounts.tables import CASES, DECISIONS
from charter_service.web.database import alone
from charter_service.web.refusal import NotFound, Refusal

MOST_OF_USER = 20  # open appeals of one end user
MOST_LISTED = 100


@dataclass(frozen=True, slots=True)
class Stop:
    """A request of which something was blocked. `content`: the conversation, if people may see it."""

    request: str
    content: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Appeal:
    """What became of an appeal. `request`: the one that was stopped, "" if the standing is appealed. `verdict`: upheld
    or dismissed, None as long as nobody decided."""

    id: str
    request: str
    created: float
    closed: float | None
    verdict: str | None


def appeal(connection: Connection, organisation: str, words: str, now: float, user: str = "") -> str:
    """The id of a new appeal of the standing of an organisation or one of its end users. Raises Refusal if it has no
    words, another one waits, or too many of the organisation wait."""
    alone(connection)
    _require_words(words)
    c = CASES.c
    same = and_(c.organisation == organisation, c.user == user, c.request == "", c.closed.is_(None))
    if connection.execute(select(c.id).where(same, c.kind == "appeal").limit(1)).first():
        raise Refusal("an appeal already waits for a decision; only one can be open at a time", 409)
    return _open(connection, NewCase("appeal", organisation, words=words, user=user), now)


def appeal_stop(connection: Connection, organisation: str, blocked: Stop, words: str, now: float) -> str:
    """The id of a new appeal of what was blocked of a request.

    Raises NotFound if the request isn't the organisation's, Refusal if nothing of it was blocked, it has been appealed,
    the appeal has no words, and if too many of the organisation or of the end user wait.
    """
    alone(connection)
    _require_words(words)
    d, request = DECISIONS.c, blocked.request
    mine = and_(d.request == request, d.organisation == organisation)
    rows = connection.execute(select(d.action, d.category, d.severity, d.user).where(mine)).all()
    if not rows:
        raise NotFound(f"there is no request {request}, or it isn't yours")
    stop = next((row for row in rows if row.action == "block"), None)
    if stop is None:
        raise Refusal(f"nothing of {request} was stopped, so there is nothing to appeal", 409)
    if any(
        one.kind == "appeal" and one.organisation == organisation for one in cases_of(connection, request)
    ):
        raise Refusal("this request was appealed already; people decide about it once", 409)
    if stop.user and waiting_of(connection, organisation, "appeal", stop.user) >= MOST_OF_USER:
        raise Refusal(f"{MOST_OF_USER} appeals of yours are already waiting; send this one later", 429)
    about = (request, stop.category, words, blocked.content, stop.severity, stop.user)
    return _open(connection, NewCase("appeal", organisation, *about), now)


def _require_words(words: str) -> None:
    if not words.strip():
        raise Refusal("an appeal needs words: write why the decision is wrong")


def _open(connection: Connection, new: NewCase, now: float) -> str:
    if (id := open_case(connection, new, now)) is None:
        raise Refusal(f"{MOST_OPEN} appeals of yours are already waiting; send this one later", 429)
    return id


def appeals_of(connection: Connection, organisation: str, user: str = "") -> list[Appeal]:
    """The newest appeals of an organisation's own, or of one of its end users."""
    c = CASES.c
    mine = and_(c.kind == "appeal", c.organisation == organisation, c.user == user)
    rows = select(c.id, c.request, c.created, c.closed, c.verdict).where(mine)
    newest = rows.order_by(c.created.desc(), c.id).limit(MOST_LISTED)
    return [Appeal(*row) for row in connection.execute(newest)]


def flags_behind(connection: Connection, case: Case) -> list[Case]:
    """The flags on an appealed request, and on the earlier one that it repeats, but those that a person dismissed; one
    that a person upheld is open again."""
    d = DECISIONS.c
    mine = and_(d.request == case.request, d.organisation == case.organisation, d.repeats != "")
    earlier = connection.execute(select(d.repeats).where(mine)).scalars()
    flags = [
        one
        for request in dict.fromkeys((case.request, *earlier))
        for one in cases_of(connection, request)
        if one.kind == "flag" and one.organisation == case.organisation and one.verdict != DISMISSED
    ]
    again = {"closed": None, "verdict": None, "by": None, "note": None}
    connection.execute(CASES.update().where(CASES.c.id.in_([one.id for one in flags])).values(**again))
    return flags
