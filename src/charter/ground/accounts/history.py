"""What an account's level hangs on, read from the log of decisions, the cases and the meter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple, cast

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, tuple_

from charter.ground.accounts.cases import ACTED, DISMISSED, RULE, UPHELD
from charter.ground.accounts.ladder import DAY, History, Ladder, Level, Ruling, Violation
from charter.ground.accounts.tables import CASES, DECISIONS, KEYS, STANDINGS, USAGE

MOST = 500  # decisions of an action that are weighed, the newest; with so many the sum says enough
PAGES = 20  # of these that are read where some end users fill them
MOST_ASKED = 10_000  # requests of an end user that are counted


class _Acted(NamedTuple):
    """A decision that had an effect."""

    request: str
    category: str
    severity: str
    side: str
    user: str
    at: float
    number: int


def history_of(connection: Connection, organisation: str, user: str, ladder: Ladder) -> History:
    """The last ruling of a person, the violations after it, since what was before it doesn't count, and the requests of
    each day: an organisation's as the meter has them, an end user's as the log has them.

    A violation is a request with something flagged or blocked, and weighs what the heaviest part of it does that no
    person dismissed.
    """
    ruled = (
        select(STANDINGS.c.at, STANDINGS.c.level)
        .where(STANDINGS.c.organisation == organisation, STANDINGS.c.user == user, STANDINGS.c.by != RULE)
        .order_by(STANDINGS.c.number.desc())
        .limit(1)
    )
    ruling = connection.execute(ruled).one_or_none()
    since = ruling.at if ruling else 0.0
    whose = and_(DECISIONS.c.organisation == organisation, DECISIONS.c.at > since)
    if user:
        whose = and_(whose, DECISIONS.c.user == user)
    # one action at a time, which an index has in order; both at once would pass by all that was allowed
    found = [row for action in ACTED for row in _acted(connection, whose, action, ladder)]
    verdicts = _verdicts(connection, organisation, since) if found else {}
    heaviest: dict[str, Violation] = {}
    for one in found:
        verdict = verdicts.get((one.request, one.category))
        if verdict != DISMISSED:
            upheld = verdict == UPHELD
            weight = ladder.weight(one.category, one.side, upheld, one.severity)
            made = Violation(one.at, weight, upheld, "" if user else one.user)
            heaviest[one.request] = max(
                made, heaviest.get(one.request, made), key=lambda v: (v.weight, v.upheld, -v.at)
            )
    first = since - ladder.window_days * DAY
    requests: list[tuple[float, int]] = []
    if found:
        requests = (
            _asked(connection, organisation, user, first)
            if user
            else _requests(connection, organisation, first)
        )
    rulings = [Ruling(ruling.at, cast(Level, ruling.level))] if ruling else []
    return History(list(heaviest.values()), rulings, requests)


def _acted(
    connection: Connection, whose: ColumnElement[bool], action: str, ladder: Ladder
) -> Iterator[_Acted]:
    """The newest decisions with an action, but for high-risk uses, which are permitted. End users who weigh their share
    by now are left out of the pages that follow, so that nobody's many hide what others did."""
    d = DECISIONS.c
    rows = select(d.request, d.category, d.severity, d.side, d.user, d.at, d.number).where(
        whose, d.action == action
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
    """End users who weigh their share."""
    return [user for user, weight in weighed.items() if user and weight >= ladder.users.share]


def _requests(connection: Connection, organisation: str, since: float) -> list[tuple[float, int]]:
    """How many requests an organisation made on each day."""
    first = datetime.fromtimestamp(max(0.0, since), UTC).date().isoformat()
    rows = (
        select(USAGE.c.day, func.sum(USAGE.c.requests))
        .join(KEYS, KEYS.c.id == USAGE.c.key)
        .where(KEYS.c.organisation == organisation, USAGE.c.day >= first)
        .group_by(USAGE.c.day)
    )
    found = connection.execute(rows)
    return [(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp(), int(count)) for day, count in found]


def _asked(connection: Connection, organisation: str, user: str, since: float) -> list[tuple[float, int]]:
    """How many requests of an end user passed on each day, of the newest ones."""
    d = DECISIONS.c
    rows = select(d.at).where(
        d.organisation == organisation, d.user == user, d.action == "allow", d.at > since
    )
    return _by_day(connection.execute(rows.order_by(d.at.desc()).limit(MOST_ASKED)).scalars())


def _by_day(times: Iterable[float]) -> list[tuple[float, int]]:
    counts: defaultdict[float, int] = defaultdict(int)
    for at in times:
        counts[at // DAY * DAY] += 1
    return sorted(counts.items())


def _verdicts(connection: Connection, organisation: str, since: float) -> dict[tuple[str, str], str]:
    """What people said of flagged requests, by request and category."""
    mine = and_(
        CASES.c.organisation == organisation,
        CASES.c.kind == "flag",
        CASES.c.closed.is_not(None),
        CASES.c.created >= since,
    )
    rows = connection.execute(select(CASES.c.request, CASES.c.category, CASES.c.verdict).where(mine))
    return {(request, category): verdict for request, category, verdict in rows}
