"""The standing of each account: its history from the log and the cases, and a row for each change with its author.

An account is an organisation, by its id, or one of its end users, by ORGANISATION/MARK, the mark as the log has it
(`account_of`). The newest row of an account is its standing. Rows by people are rulings that the ladder obeys; rows by
the rule are its results from the history, and are computed again if the history changes: a dismissed flag restores an
account at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, tuple_

from charter.ground.artifact.errors import CharterError
from charter_service.accounts.cases import (
    ACTED,
    DISMISSED,
    RULE,
    UPHELD,
    Case,
    CaseVerdict,
    NewCase,
    close_case,
    decider_name,
    flags_behind,
    open_case,
    waiting_of,
    withdraw,
)
from charter_service.accounts.decisions import ASKED_NONE
from charter_service.accounts.grants import release
from charter_service.accounts.keys import check_organisation
from charter_service.accounts.ladder import (
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
from charter_service.accounts.tables import CASES, DECISIONS, FACTS, KEYS, STANDINGS
from charter_service.web.database import alone
from charter_service.web.refusal import Refusal, Stale

MOST = 500  # newest decisions of an action that are weighed; that many are enough for the sum
PAGES = 20  # most pages of these, read if a few end users fill them
MOST_ASKED = 5_000  # newest rows searched for requests; more would forgive no more in practice
SEVERE, ADMIN = "severe", "admin"
LADDER = "ladder"  # the fact with the rules of the service, for commands that decide beside it


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
    of_account = DECISIONS.c.organisation == organisation
    if user:
        of_account = and_(of_account, DECISIONS.c.user == user)
    whose = and_(of_account, DECISIONS.c.at > since)
    # one action at a time, in the order of an index; both at once would scan all allowed rows
    acted = [row for action in ACTED for row in _decisions_with(connection, whose, action, ladder)]
    verdicts = _verdicts(connection, organisation, since) if acted else {}
    restored = _restored(connection, organisation) if acted and not user else {}
    heaviest: dict[str, Violation] = {}
    for decision in acted:
        verdict = verdicts.get((decision.request, decision.category))
        if verdict != DISMISSED and decision.at > restored.get(decision.user, 0.0):
            upheld = verdict == UPHELD
            weight = ladder.weight(decision.category, decision.side, upheld, decision.severity)
            severe = (decision.severity or ladder.severity(decision.category)) == SEVERE
            score = decision.score if decision.side == "prompt" else 0.0
            violation = Violation(decision.at, weight, upheld, "" if user else decision.user, severe, score)
            heaviest[decision.request] = max(
                violation, heaviest.get(decision.request, violation), key=lambda v: (v.weight, v.stands, -v.at)
            )
    requests = _requests_since(connection, of_account, since - ladder.window_days * DAY) if acted else []
    rulings = [Ruling(ruling.at, cast(Level, ruling.level))] if ruling else []
    stood = _standing_by_rule(connection, organisation, user)
    dismissed = stood is not None and (
        _dismissed(connection, organisation, user, stood.at) or any(at >= stood.at for at in restored.values())
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


def _standing_by_rule(connection: Connection, organisation: str, user: str) -> Ruling | None:
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


def _decisions_with(
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
        for decision in page:
            weighed[decision.user] += ladder.weight(decision.category, decision.side, severity=decision.severity)
        full = _full(weighed, ladder)
        if not full:
            return
        behind = tuple_(d.at, d.number) < tuple_(page[-1].at, page[-1].number)
        older = rows.where(or_(d.user == "", d.user.not_in(full)), behind)
        page = [_Acted(*row) for row in connection.execute(older)]


def _full(weighed: defaultdict[str, float], ladder: Ladder) -> list[str]:
    """End users whose share is full."""
    return [user for user, weight in weighed.items() if user and weight >= ladder.users.share]


def _requests_since(connection: Connection, of_account: ColumnElement[bool], since: float) -> list[tuple[float, int]]:
    """Times and counts of an account's requests that a classifier read and let pass, each counted once, among the
    newest rows."""
    d = DECISIONS.c
    rows = select(d.request, d.at).where(of_account, d.action == "allow", d.classifiers != ASKED_NONE, d.at > since)
    newest_first = connection.execute(rows.order_by(d.at.desc()).limit(MOST_ASKED))
    first = {str(request): float(at) for request, at in newest_first}
    return sorted((at, 1) for at in first.values())


def _verdicts(connection: Connection, organisation: str, since: float) -> dict[tuple[str, str], str]:
    """People's verdicts on flagged requests, by request and category."""
    conditions = and_(
        CASES.c.organisation == organisation,
        CASES.c.kind == "flag",
        CASES.c.closed.is_not(None),
        CASES.c.created >= since,
    )
    rows = connection.execute(select(CASES.c.request, CASES.c.category, CASES.c.verdict).where(conditions))
    return {(request, category): verdict for request, category, verdict in rows}


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
    rows = select(STANDINGS).where(_of_account(account)).order_by(STANDINGS.c.number)
    return [Change(**row._mapping) for row in connection.execute(rows)]


def newest_of(connection: Connection, account: str) -> Change | None:
    """The row with an account's standing; None if it never changed and is good."""
    rows = select(STANDINGS).where(_of_account(account)).order_by(STANDINGS.c.number.desc()).limit(1)
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
    accounts = [change.account for change in _newest(connection) if change.level != LEVELS[0] and change.by == RULE]
    waiting = select(CASES.c.organisation, CASES.c.user).where(CASES.c.kind == "standing", CASES.c.closed.is_(None))
    return list(dict.fromkeys([*accounts, *(account_of(*row) for row in connection.execute(waiting))]))


def users_of(connection: Connection, organisation: str, limit: int = 100) -> list[Change]:
    """The standings of an organisation's end users that aren't good, newest first."""
    changes = _newest(connection, STANDINGS.c.organisation == organisation, STANDINGS.c.user != "")
    return [change for change in reversed(changes) if change.level != LEVELS[0]][:limit]


def _newest(connection: Connection, *conditions: ColumnElement[bool]) -> list[Change]:
    last = select(func.max(STANDINGS.c.number)).where(*conditions)
    last = last.group_by(STANDINGS.c.organisation, STANDINGS.c.user)
    rows = select(STANDINGS).where(STANDINGS.c.number.in_(last)).order_by(STANDINGS.c.number)
    return [Change(**row._mapping) for row in connection.execute(rows)]


def _of_account(account: str) -> ColumnElement[bool]:
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


def evaluate(connection: Connection, account: str, ladder: Ladder, now: float) -> tuple[Change | None, Outcome]:
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
            reason = f"lifted from {before} because flags were dismissed; what is left: {_sum(rules, outcome)}"
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
    connection: Connection, account: str, level: Level, by: str, reason: str, now: float, seen: int | None = None
) -> Change:
    """Sets a level by a person. `seen`: the number of the standing that the person saw, 0 for none.

    Raises Stale if it has changed since, NotFound for an unknown organisation, CharterError for an unknown level or an
    invalid name.
    """
    if level not in LEVELS:
        raise CharterError(f"{level!r} is not a level; expected {', '.join(LEVELS)}")
    name = decider_name(by)
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
    rules = ladder.model_dump_json()
    if connection.execute(select(FACTS.c.value).where(FACTS.c.name == LADDER)).scalar() == rules:
        return  # skip a needless write: the disk may be full
    connection.execute(FACTS.delete().where(FACTS.c.name == LADDER))
    connection.execute(FACTS.insert().values(name=LADDER, value=rules))


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
