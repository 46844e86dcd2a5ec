"""Where each account stands: its history read from the log and the cases, and rows that say each change and by whom.

The newest row of an organisation is its standing. Rows of people are rulings that the ladder keeps to; rows by the rule
say what it made of the history, and are made again where the history changes: a dismissed flag restores at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import Connection, and_, func, select

from charter.ground.accounts.cases import (
    ACTED,
    DISMISSED,
    RULE,
    UPHELD,
    Case,
    CaseVerdict,
    NewCase,
    close_case,
    open_case,
    waiting_of,
    who,
)
from charter.ground.accounts.keys import check_organisation
from charter.ground.accounts.ladder import (
    DAY,
    LEVELS,
    History,
    Ladder,
    Level,
    Outcome,
    Ruling,
    Violation,
    next_standing,
)
from charter.ground.accounts.tables import CASES, DECISIONS, FACTS, KEYS, STANDINGS, USAGE
from charter.ground.artifact.errors import CharterError
from charter.ground.service.database import alone
from charter.ground.service.refusal import Stale

LADDER = "ladder"  # the fact that holds the rules of the service, for whoever decides beside it
MOST = 500  # decisions of an action that are weighed, the newest; with so many the sum says enough


@dataclass(frozen=True, slots=True)
class Change:
    """A row of standings: what an organisation's level became, when, why and by whom."""

    number: int
    organisation: str
    at: float
    level: Level
    reason: str
    by: str

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def changes_of(connection: Connection, organisation: str) -> list[Change]:
    """All changes of an organisation's standing, the oldest first."""
    rows = select(STANDINGS).where(STANDINGS.c.organisation == organisation).order_by(STANDINGS.c.number)
    return [Change(**row._mapping) for row in connection.execute(rows)]


def newest_of(connection: Connection, organisation: str) -> Change | None:
    """The row that is an organisation's standing; None where nothing ever changed it: it is good."""
    rows = select(STANDINGS).where(STANDINGS.c.organisation == organisation)
    found = connection.execute(rows.order_by(STANDINGS.c.number.desc()).limit(1)).one_or_none()
    return Change(**found._mapping) if found else None


def changes_since(connection: Connection, number: int) -> list[Change]:
    """The newest row of each organisation that changed after a row, in the order of the rows; of all with 0."""
    last = (
        select(func.max(STANDINGS.c.number))
        .where(STANDINGS.c.number > number)
        .group_by(STANDINGS.c.organisation)
    )
    rows = select(STANDINGS).where(STANDINGS.c.number.in_(last)).order_by(STANDINGS.c.number)
    return [Change(**row._mapping) for row in connection.execute(rows)]


def history_of(connection: Connection, organisation: str, ladder: Ladder) -> History:
    """The last ruling of a person, the violations after it, since what was before it doesn't count, and the requests of
    each day, as the meter has them.

    A violation is a request with something flagged or blocked, and weighs what the heaviest part of it does that no
    person dismissed.
    """
    ruled = (
        select(STANDINGS.c.at, STANDINGS.c.level)
        .where(STANDINGS.c.organisation == organisation, STANDINGS.c.by != RULE)
        .order_by(STANDINGS.c.number.desc())
        .limit(1)
    )
    ruling = connection.execute(ruled).one_or_none()
    since = ruling.at if ruling else 0.0
    # one action at a time, which an index has in order; both at once would pass by all that was allowed
    found = [row for action in ACTED for row in _acted(connection, organisation, action, since, ladder)]
    verdicts = _verdicts(connection, organisation, since) if found else {}
    heaviest: dict[str, Violation] = {}
    for request, category, side, at in found:
        verdict = verdicts.get((request, category))
        if verdict != DISMISSED:
            made = Violation(at, ladder.weight(category, side, verdict == UPHELD), verdict == UPHELD)
            heaviest[request] = max(
                made, heaviest.get(request, made), key=lambda v: (v.weight, v.upheld, -v.at)
            )
    return History(
        list(heaviest.values()),
        [Ruling(ruling.at, cast(Level, ruling.level))] if ruling else [],
        _requests(connection, organisation, since - ladder.window_days * DAY) if found else [],
    )


def _acted(
    connection: Connection, organisation: str, action: str, since: float, ladder: Ladder
) -> list[tuple[str, str, str, float]]:
    """The newest decisions with an action, but for high-risk uses, which are permitted: request, category, side and
    time."""
    d = DECISIONS.c
    rows = select(d.request, d.category, d.side, d.at).where(
        d.organisation == organisation, d.action == action, d.at > since
    )
    if ladder.permitted:
        rows = rows.where(d.category.not_in(ladder.permitted))
    found = connection.execute(rows.order_by(d.at.desc()).limit(MOST))
    return [(request, category, side, at) for request, category, side, at in found]


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


def outcome_of(connection: Connection, organisation: str, ladder: Ladder, now: float) -> Outcome:
    """Where an organisation stands by its history, whatever was written down last."""
    history = history_of(connection, organisation, ladder)
    # the clock of another machine may be ahead
    now = max([now, *(v.at for v in history.violations), *(r.at for r in history.rulings)])
    return next_standing(ladder, history, now)


def evaluate(
    connection: Connection, organisation: str, ladder: Ladder, now: float
) -> tuple[Change | None, Outcome]:
    """Where an organisation stands now, written down where that is new; and a case for what the rule may not do
    without a person. Whoever else evaluates waits for the end of the transaction."""
    alone(connection)
    outcome = outcome_of(connection, organisation, ladder, now)
    standing = newest_of(connection, organisation)
    if outcome.level != (standing.level if standing else LEVELS[0]):
        standing = _set(
            connection, organisation, outcome.level, _reason(ladder, standing, outcome), RULE, now
        )
    if outcome.asks is not None and not waiting_of(connection, organisation, "standing"):
        words = f"{_sum(ladder, outcome)}; the rule asks a person whether the account is to be {outcome.asks}"
        open_case(connection, NewCase("standing", organisation, category=outcome.asks, words=words), now)
    return standing, outcome


def decide(
    connection: Connection,
    organisation: str,
    level: Level,
    by: str,
    reason: str,
    now: float,
    seen: int | None = None,
) -> Change:
    """The level that a person sets. `seen`: the number of the standing that the person saw, 0 for none.

    Raises Stale where it changed since, NotFound for an organisation that doesn't exist, CharterError for a level or a
    name that is none.
    """
    if level not in LEVELS:
        raise CharterError(f"{level!r} is no level; expected {', '.join(LEVELS)}")
    name = who(by)
    if not reason.strip():
        raise CharterError("a decision needs a reason, for whoever appeals it")
    alone(connection)
    check_organisation(connection, organisation)
    standing = newest_of(connection, organisation)
    if seen is not None and seen != (standing.number if standing else 0):
        now_is = f"{standing.level}, by {standing.by}" if standing else "good"
        raise Stale(f"the standing was changed meanwhile: it is {now_is}; look at it again")
    return _set(
        connection, organisation, level, reason.strip(), name, max(now, standing.at if standing else now)
    )


def settle(
    connection: Connection, id: str, verdict: CaseVerdict, by: str, note: str, ladder: Ladder, now: float
) -> Case:
    """Closes a case and draws what follows for the account, in one transaction.

    A flag: the history is weighed again. An appeal: upheld it restores the account to good, dismissed nothing changes.
    A rise that the rule asked for: upheld it is made, dismissed the level stays by a person's decision. A report says
    something of the model, not of the account. Raises as `close_case`.
    """
    case = close_case(connection, id, verdict, by, note, now)
    why = note or f"{case.kind} {case.id} was {verdict}"
    if case.kind == "flag":
        evaluate(connection, case.organisation, ladder, now)
    elif case.kind == "appeal" and verdict == UPHELD:
        decide(connection, case.organisation, LEVELS[0], by, why, now)
    elif case.kind == "standing":
        present = outcome_of(connection, case.organisation, ladder, now).level
        level = cast(Level, case.category) if verdict == UPHELD else present
        decide(connection, case.organisation, level, by, why, now)
    return case


def keep_ladder(connection: Connection, ladder: Ladder) -> None:
    """Writes down the rules of the service, so that who decides beside it goes by the same."""
    alone(connection)
    connection.execute(FACTS.delete().where(FACTS.c.name == LADDER))
    connection.execute(FACTS.insert().values(name=LADDER, value=ladder.model_dump_json()))


def kept_ladder(connection: Connection) -> Ladder:
    """The rules of the service that used this database last, or the usual ones."""
    text = connection.execute(select(FACTS.c.value).where(FACTS.c.name == LADDER)).scalar()
    return Ladder.model_validate_json(text) if text else Ladder()


def _set(connection: Connection, organisation: str, level: Level, reason: str, by: str, at: float) -> Change:
    row = {"organisation": organisation, "at": at, "level": level, "reason": reason, "by": by}
    made = connection.execute(STANDINGS.insert().values(**row))
    key: Sequence[Any] = made.inserted_primary_key or ()
    return Change(int(key[0]), organisation, at, level, reason, by)


def _reason(ladder: Ladder, standing: Change | None, outcome: Outcome) -> str:
    before = standing.level if standing else LEVELS[0]
    if LEVELS.index(outcome.level) > LEVELS.index(before):
        return _sum(ladder, outcome)
    return f"lifted from {before} by {ladder.clean_days:g} days without a violation, or by flags that were dismissed"


def _sum(ladder: Ladder, outcome: Outcome) -> str:
    return f"violations that weigh {outcome.total:g} within {ladder.window_days:g} days"
