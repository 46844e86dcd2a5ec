"""The history behind an account's level, read from the log of decisions, the cases and the standings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple, cast

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, tuple_

from charter_service.accounts.cases import ACTED, DISMISSED, RULE, UPHELD
from charter_service.accounts.decisions import ASKED_NONE
from charter_service.accounts.ladder import DAY, LEVELS, History, Ladder, Level, Ruling, Violation
from charter_service.accounts.tables import CASES, DECISIONS, KEYS, STANDINGS

MOST = 500  # newest decisions of an action that are weighed; that many are enough for the sum
PAGES = 20  # most pages of these, read if a few end users fill them
MOST_ASKED = 5_000  # newest rows searched for requests; more would forgive no more in practice
SEVERE, ADMIN = "severe", "admin"


class _Acted(NamedTuple):
    """A decision that had an effect."""

    request: str
    category: str
    severity: str
    side: str
    user: str
    at: float
    number: int
    score: float


def history_of(connection: Connection, organisation: str, user: str, ladder: Ladder) -> History:
    """The last ruling of a person, the violations after it (earlier ones don't count), the rule's level after it, and
    the requests that classifiers read and let pass.

    A violation is a request with something flagged or blocked that repeats no other. Its weight is that of its heaviest
    part that no person dismissed.
    """
    ruled = (
        select(STANDINGS.c.at, STANDINGS.c.level)
        .where(STANDINGS.c.organisation == organisation, STANDINGS.c.user == user, STANDINGS.c.by != RULE)
        .order_by(STANDINGS.c.number.desc())
        .limit(1)
    )
    ruling = connection.execute(ruled).one_or_none()
    since = ruling.at if ruling else 0.0
    mine = DECISIONS.c.organisation == organisation
    if user:
        mine = and_(mine, DECISIONS.c.user == user)
    whose = and_(mine, DECISIONS.c.at > since)
    # one action at a time, in the order of an index; both at once would scan all allowed rows
    acted = [row for action in ACTED for row in _acted(connection, whose, action, ladder)]
    verdicts = _verdicts(connection, organisation, since) if acted else {}
    restored = _restored(connection, organisation) if acted and not user else {}
    heaviest: dict[str, Violation] = {}
    for one in acted:
        verdict = verdicts.get((one.request, one.category))
        if verdict != DISMISSED and one.at > restored.get(one.user, 0.0):
            upheld = verdict == UPHELD
            weight = ladder.weight(one.category, one.side, upheld, one.severity)
            severe = (one.severity or ladder.severity(one.category)) == SEVERE
            score = one.score if one.side == "prompt" else 0.0
            violation = Violation(one.at, weight, upheld, "" if user else one.user, severe, score)
            heaviest[one.request] = max(
                violation, heaviest.get(one.request, violation), key=lambda v: (v.weight, v.stands, -v.at)
            )
    requests = _requests_since(connection, mine, since - ladder.window_days * DAY) if acted else []
    rulings = [Ruling(ruling.at, cast(Level, ruling.level))] if ruling else []
    stood = _stood(connection, organisation, user)
    dismissed = stood is not None and (
        _dismissed(connection, organisation, user, stood.at)
        or any(at >= stood.at for at in restored.values())
    )
    spared = not user and _administers(connection, organisation)
    return History(list(heaviest.values()), rulings, requests, stood, dismissed, spared)


def _restored(connection: Connection, organisation: str) -> dict[str, float]:
    """By end user of an organisation, when a person restored it to good last: what it did before counts no more for the
    organisation either."""
    s = STANDINGS.c
    rows = select(s.user, func.max(s.at)).where(
        s.organisation == organisation, s.user != "", s.by != RULE, s.level == LEVELS[0]
    )
    return {str(user): float(at) for user, at in connection.execute(rows.group_by(s.user))}


def _administers(connection: Connection, organisation: str) -> bool:
    """Whether an organisation holds a key with the scope admin that isn't revoked."""
    k = KEYS.c
    rows = select(k.scopes).where(k.organisation == organisation, k.revoked.is_(None))
    return any(ADMIN in scopes.split() for scopes in connection.execute(rows).scalars())


def _stood(connection: Connection, organisation: str, user: str) -> Ruling | None:
    """The newest row of an account, if it is the rule's and not good standing."""
    s = STANDINGS.c
    rows = select(s.at, s.level, s.by).where(s.organisation == organisation, s.user == user)
    newest = connection.execute(rows.order_by(s.number.desc()).limit(1)).one_or_none()
    if newest is None or newest.by != RULE or newest.level == LEVELS[0]:
        return None
    return Ruling(newest.at, cast(Level, newest.level))


def _dismissed(connection: Connection, organisation: str, user: str, since: float) -> bool:
    """Whether a person dismissed a flag of an account since a time."""
    c = CASES.c
    rows = select(c.id).where(
        c.organisation == organisation, c.kind == "flag", c.verdict == DISMISSED, c.closed >= since
    )
    if user:
        rows = rows.where(c.user == user)
    return connection.execute(rows.limit(1)).first() is not None


def _acted(
    connection: Connection, whose: ColumnElement[bool], action: str, ladder: Ladder
) -> Iterator[_Acted]:
    """The newest decisions with an action, except high-risk uses, which are permitted. End users whose share is full
    are left out of the following pages, so that one user's many decisions don't hide others'."""
    d = DECISIONS.c
    rows = select(d.request, d.category, d.severity, d.side, d.user, d.at, d.number, d.score).where(
        whose, d.action == action, d.repeats == ""
    )
    if ladder.permitted:
        rows = rows.where(d.category.not_in(ladder.permitted))
    rows = rows.order_by(d.at.desc(), d.number.desc()).limit(MOST)
    weighed: defaultdict[str, float] = defaultdict(float)
    page = [_Acted(*row) for row in connection.execute(rows)]
    for _ in range(PAGES):
        yield from page
        if len(page) < MOST:
            return
        for one in page:
            weighed[one.user] += ladder.weight(one.category, one.side, severity=one.severity)
        full = _full(weighed, ladder)
        if not full:
            return
        behind = tuple_(d.at, d.number) < tuple_(page[-1].at, page[-1].number)
        older = rows.where(or_(d.user == "", d.user.not_in(full)), behind)
        page = [_Acted(*row) for row in connection.execute(older)]


def _full(weighed: defaultdict[str, float], ladder: Ladder) -> list[str]:
    """End users whose share is full."""
    return [user for user, weight in weighed.items() if user and weight >= ladder.users.share]


def _requests_since(
    connection: Connection, mine: ColumnElement[bool], since: float
) -> list[tuple[float, int]]:
    """Times and counts of an account's requests that a classifier read and let pass, each counted once, among the
    newest rows."""
    d = DECISIONS.c
    rows = select(d.request, d.at).where(mine, d.action == "allow", d.classifiers != ASKED_NONE, d.at > since)
    newest_first = connection.execute(rows.order_by(d.at.desc()).limit(MOST_ASKED))
    first = {str(request): float(at) for request, at in newest_first}
    return sorted((at, 1) for at in first.values())


def _verdicts(connection: Connection, organisation: str, since: float) -> dict[tuple[str, str], str]:
    """People's verdicts on flagged requests, by request and category."""
    mine = and_(
        CASES.c.organisation == organisation,
        CASES.c.kind == "flag",
        CASES.c.closed.is_not(None),
        CASES.c.created >= since,
    )
    rows = connection.execute(select(CASES.c.request, CASES.c.category, CASES.c.verdict).where(mine))
    return {(request, category): verdict for request, category, verdict in rows}
