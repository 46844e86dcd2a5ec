"""The standing of each account: its history from the log and the cases, and a row for each change with its author.

An account is an organisation, by its id, or one of its end users, by ORGANISATION/MARK, the mark as the log has it
(`account_of`). The newest row of an account is its standing. Rows by people are rulings that the ladder obeys; rows by
the rule are its results from the history, and are computed again if the history changes: a dismissed flag restores an
account at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, and_, func, select

from charter.ground.artifact.errors import CharterError
from charter_service.accounts.appeals import flags_behind
from charter_service.accounts.cases import (
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
    withdraw,
)
from charter_service.accounts.grants import release
from charter_service.accounts.history import history_of
from charter_service.accounts.keys import check_organisation
from charter_service.accounts.ladder import LEVELS, History, Ladder, Level, Outcome, next_standing
from charter_service.accounts.tables import CASES, FACTS, STANDINGS
from charter_service.web.database import alone
from charter_service.web.refusal import Refusal, Stale

LADDER = "ladder"  # the fact with the rules of the service, for commands that decide beside it


def account_of(organisation: str, user: str = "") -> str:
    """The account of an organisation, or of one of its end users by its mark in the log."""
    return f"{organisation}/{user}" if user else organisation


def parts_of(account: str) -> tuple[str, str]:
    """The organisation of an account, and the mark of its end user, "" for the organisation itself."""
    organisation, _, user = account.partition("/")
    return organisation, user


@dataclass(frozen=True, slots=True)
class Change:
    """A row of standings: an account's new level, when, why and by whom."""

    number: int
    organisation: str
    at: float
    level: Level
    reason: str
    by: str
    user: str = ""

    @property
    def account(self) -> str:
        """The account that it belongs to."""
        return account_of(self.organisation, self.user)

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def changes_of(connection: Connection, account: str) -> list[Change]:
    """All changes of an account's standing, oldest first."""
    rows = select(STANDINGS).where(_its(account)).order_by(STANDINGS.c.number)
    return [Change(**row._mapping) for row in connection.execute(rows)]


def newest_of(connection: Connection, account: str) -> Change | None:
    """The row with an account's standing; None if it never changed and is good."""
    rows = select(STANDINGS).where(_its(account)).order_by(STANDINGS.c.number.desc()).limit(1)
    row = connection.execute(rows).one_or_none()
    return Change(**row._mapping) if row else None


def changes_since(connection: Connection, number: int) -> list[Change]:
    """The newest row of each organisation that changed after a row, in the order of the rows; of all with 0."""
    return _newest(connection, STANDINGS.c.number > number, STANDINGS.c.user == "")


def user_changes_since(connection: Connection, number: int) -> list[Change]:
    """The newest row of each end user that changed after a row, in the order of the rows."""
    return _newest(connection, STANDINGS.c.number > number, STANDINGS.c.user != "")


def newest_row(connection: Connection) -> int:
    """The number of the newest row, 0 if there is none."""
    return connection.execute(select(func.max(STANDINGS.c.number))).scalar() or 0


def lowered(connection: Connection) -> list[str]:
    """Accounts that the rule lowered and that aren't good now, and those about which it asks a person."""
    accounts = [one.account for one in _newest(connection) if one.level != LEVELS[0] and one.by == RULE]
    waiting = select(CASES.c.organisation, CASES.c.user).where(
        CASES.c.kind == "standing", CASES.c.closed.is_(None)
    )
    return list(dict.fromkeys([*accounts, *(account_of(*row) for row in connection.execute(waiting))]))


def users_of(connection: Connection, organisation: str, limit: int = 100) -> list[Change]:
    """The standings of an organisation's end users that aren't good, newest first."""
    changes = _newest(connection, STANDINGS.c.organisation == organisation, STANDINGS.c.user != "")
    return [change for change in reversed(changes) if change.level != LEVELS[0]][:limit]


def _newest(connection: Connection, *where: ColumnElement[bool]) -> list[Change]:
    last = select(func.max(STANDINGS.c.number)).where(*where)
    last = last.group_by(STANDINGS.c.organisation, STANDINGS.c.user)
    rows = select(STANDINGS).where(STANDINGS.c.number.in_(last)).order_by(STANDINGS.c.number)
    return [Change(**row._mapping) for row in connection.execute(rows)]


def _its(account: str) -> ColumnElement[bool]:
    organisation, user = parts_of(account)
    return and_(STANDINGS.c.organisation == organisation, STANDINGS.c.user == user)


def outcome_of(connection: Connection, account: str, ladder: Ladder, now: float) -> Outcome:
    """An account's standing by its history, whatever was stored last."""
    rules = _rules(ladder, account)
    return _outcome(rules, history_of(connection, *parts_of(account), rules), now)


def _outcome(rules: Ladder, history: History, now: float) -> Outcome:
    # the clock of another machine may be ahead
    events = (*history.violations, *history.rulings, *([history.stood] if history.stood else ()))
    return next_standing(rules, history, max([now, *(event.at for event in events)]))


def evaluate(
    connection: Connection, account: str, ladder: Ladder, now: float
) -> tuple[Change | None, Outcome]:
    """An account's standing now, stored if it is new; and a case if the rule needs a person, which is withdrawn once it
    needs none. Other evaluations wait for the end of the transaction."""
    alone(connection)
    rules, (organisation, user) = _rules(ladder, account), parts_of(account)
    history = history_of(connection, organisation, user, rules)
    outcome, standing = _outcome(rules, history, now), newest_of(connection, account)
    before = standing.level if standing else LEVELS[0]
    if outcome.level != before:
        if LEVELS.index(outcome.level) > LEVELS.index(before):
            reason = _sum(rules, outcome)
        elif rules.state == "off":
            reason = f"lifted from {before}: this server keeps no standings"
        elif history.spared:
            reason = f"lifted from {before}: people alone lower an account with a key for administrators"
        elif _outcome(rules, replace(history, dismissed=False), now).level == outcome.level:
            reason = f"lifted from {before} by {rules.clean_days:g} days without a violation"
        else:
            reason = (
                f"lifted from {before} because flags were dismissed; what is left: {_sum(rules, outcome)}"
            )
        standing = _set(connection, account, outcome.level, reason, RULE, now)
    withdraw(connection, organisation, user, LEVELS[: LEVELS.index(outcome.asks or LEVELS[0]) + 1], now)
    if outcome.asks is not None and not waiting_of(connection, organisation, "standing", user):
        whom = "the end user" if user else "the account"
        words = f"{_sum(rules, outcome)}; the rule asks a person whether {whom} is to be {outcome.asks}"
        case = NewCase("standing", organisation, category=outcome.asks, words=words, user=user)
        open_case(connection, case, now)
    return standing, outcome


def _rules(ladder: Ladder, account: str) -> Ladder:
    return ladder.for_users() if parts_of(account)[1] else ladder


def decide(
    connection: Connection,
    account: str,
    level: Level,
    by: str,
    reason: str,
    now: float,
    seen: int | None = None,
) -> Change:
    """Sets a level by a person. `seen`: the number of the standing that the person saw, 0 for none.

    Raises Stale if it has changed since, NotFound for an unknown organisation, CharterError for an unknown level or an
    invalid name.
    """
    if level not in LEVELS:
        raise CharterError(f"{level!r} is not a level; expected {', '.join(LEVELS)}")
    name = who(by)
    if not reason.strip():
        raise CharterError("a decision needs a reason, for a possible appeal")
    alone(connection)
    check_organisation(connection, parts_of(account)[0])
    standing = newest_of(connection, account)
    if seen is not None and seen != (standing.number if standing else 0):
        now_is = f"{standing.level}, by {standing.by}" if standing else "good"
        raise Stale(f"the standing was changed meanwhile: it is {now_is}; look at it again")
    return _set(connection, account, level, reason.strip(), name, max(now, standing.at if standing else now))


def settle(
    connection: Connection, id: str, verdict: CaseVerdict, by: str, note: str, ladder: Ladder, now: float
) -> Case:
    """Closes a case and applies the consequences for the account, in one transaction.

    A flag: the history of the organisation and of its end user is weighed again. An appeal of the standing: upheld, it
    restores the account to good; of a stopped request: upheld, its flags are dismissed and the request may be sent once
    more; dismissed, nothing changes. A rise that the rule asked for: upheld, it is applied; dismissed, the level stays
    by a person's decision. A report is about the model, not the account. Raises as `close_case`.
    """
    case = close_case(connection, id, verdict, by, note, now)
    why = note or f"{case.kind} {case.id} was {verdict}"
    account = account_of(case.organisation, case.user)
    if case.kind == "flag":
        for whose in dict.fromkeys((case.organisation, account)):
            evaluate(connection, whose, ladder, now)
    elif case.kind == "appeal" and case.request:
        for flag in flags_behind(connection, case) if verdict == UPHELD else ():
            with suppress(Refusal):  # a severe reply, whose next text nobody has seen
                release(connection, flag.id, by, why, now)
            before = f" (upheld by {flag.by} before)" if flag.by else ""
            settle(connection, flag.id, DISMISSED, by, why + before, ladder, now)
    elif case.kind == "appeal" and verdict == UPHELD:
        decide(connection, account, LEVELS[0], by, why, now)
        if case.user:
            evaluate(connection, case.organisation, ladder, now)
    elif case.kind == "standing":
        present = outcome_of(connection, account, ladder, now).level
        level = cast(Level, case.category) if verdict == UPHELD else present
        decide(connection, account, level, by, why, now)
    return case


def keep_ladder(connection: Connection, ladder: Ladder) -> None:
    """Stores the rules of the service, so that commands beside it use the same."""
    alone(connection)
    wanted = ladder.model_dump_json()
    if connection.execute(select(FACTS.c.value).where(FACTS.c.name == LADDER)).scalar() == wanted:
        return  # skip a needless write: the disk may be full
    connection.execute(FACTS.delete().where(FACTS.c.name == LADDER))
    connection.execute(FACTS.insert().values(name=LADDER, value=wanted))


def kept_ladder(connection: Connection) -> Ladder:
    """The rules of the service that used this database last, or the defaults."""
    text = connection.execute(select(FACTS.c.value).where(FACTS.c.name == LADDER)).scalar()
    return Ladder.model_validate_json(text) if text else Ladder()


def _set(connection: Connection, account: str, level: Level, reason: str, by: str, at: float) -> Change:
    organisation, user = parts_of(account)
    row = {"organisation": organisation, "at": at, "level": level, "reason": reason, "by": by, "user": user}
    inserted = connection.execute(STANDINGS.insert().values(**row))
    key: Sequence[Any] = inserted.inserted_primary_key or ()
    return Change(int(key[0]), organisation, at, level, reason, by, user)


def _sum(ladder: Ladder, outcome: Outcome) -> str:
    return f"violations that weigh {outcome.total:g} within {ladder.window_days:g} days"
