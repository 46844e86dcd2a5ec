"""Cases for people to decide: flagged requests, reports, appeals, and rises on the ladder that need a person.

A case is closed once, as upheld or dismissed; a second attempt is refused. The closed cases are an audit of the
classifiers. A case holds text only if somebody sent it in with a report, or if the service stores flagged texts, and
only until `expire_content`. An appeal is a case too: of an account's standing, or of what the policy stopped of one
request.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Row, and_, case, func, or_, select, tuple_

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.intervals import wilson
from charter.ground.moderation.policy import Severity
from charter.ground.text.dialogue import mend_text
from charter_service.accounts.tables import CASES, DECISIONS
from charter_service.web.database import alone
from charter_service.web.refusal import NotFound, Refusal, Stale
from charter_service.web.tokens import new_id

Kind = Literal["flag", "report", "appeal", "standing"]
CaseVerdict = Literal["upheld", "dismissed"]
State = Literal["open", "closed", "all"]
KINDS: tuple[Kind, ...] = get_args(Kind)
UPHELD, DISMISSED = VERDICTS = get_args(CaseVerdict)
RULE = "rule"  # the decider if no person decided
ACTED = ("flag", "block")
MOST_OPEN = 200  # cases of one kind and organisation: more than people would read
MOST_WORDS, MOST_CONTENT = 10_000, 200_000  # characters
LONGEST_NAME = 200
SEVERITIES: tuple[Severity, ...] = ("severe", "high", "medium", "low")  # in the order of the queue
NO_SEVERITY: Severity = "medium"  # place in the queue of cases without severity
_RANK = case(
    {severity: place for place, severity in enumerate(SEVERITIES)},
    value=CASES.c.severity,
    else_=SEVERITIES.index(NO_SEVERITY),
)
MOST_OF_USER = 20  # open appeals of one end user
MOST_LISTED = 100


@dataclass(frozen=True, slots=True)
class Case:
    """One case. `category` of a case of kind standing is the level that the rule asks for. `severity`: the category's
    when the case was opened, "" if it has none. `user`: the mark of an end user. `conversation`: the digest of the
    request's conversation."""

    id: str
    kind: str
    organisation: str
    request: str
    category: str
    words: str
    content: str
    created: float
    closed: float | None
    verdict: str | None
    by: str | None
    note: str | None
    severity: str = ""
    user: str = ""
    conversation: str = ""

    def row(self) -> dict[str, Any]:
        """As JSON, with the content parsed."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return plain | {"content": json.loads(self.content) if self.content else None}


@dataclass(frozen=True, slots=True)
class Page:
    """Some cases, by severity and then age, and the id to continue after; "" at the end."""

    cases: tuple[Case, ...]
    after: str


@dataclass(frozen=True, slots=True)
class NewCase:
    """A case to open. `content`: messages and reply, or the content of a report."""

    kind: Kind
    organisation: str
    request: str = ""
    category: str = ""
    words: str = ""
    content: Mapping[str, Any] | None = None
    severity: str = ""
    user: str = ""
    conversation: str = ""


@dataclass(frozen=True, slots=True)
class Audit:
    """People's verdicts on a category's flags. `precision`: the share upheld of the closed flags, with its 95 %
    interval (Wilson); `missed`: upheld reports on requests without a flag."""

    category: str
    upheld: int
    dismissed: int
    waiting: int
    missed: int
    precision: float | None
    low: float
    high: float


def open_case(connection: Connection, new: NewCase, now: float) -> str | None:
    """The id of a new case, or of the existing case on the same category of the same flagged request; None if too many
    of the organisation's cases wait.

    Raises Refusal if the words or the content are too long.
    """
    alone(connection)
    words, content = fitting(new)
    if new.kind == "flag":
        same = and_(CASES.c.request == new.request, CASES.c.category == new.category, CASES.c.kind == new.kind)
        existing: str | None = connection.execute(
            select(CASES.c.id).where(same, CASES.c.organisation == new.organisation)
        ).scalar()
        if existing is not None:
            return existing
    if waiting_of(connection, new.organisation, new.kind) >= MOST_OPEN:
        return None
    id = f"case_{new_id()}"
    connection.execute(
        CASES.insert().values(
            id=id,
            kind=new.kind,
            organisation=new.organisation,
            request=new.request,
            category=new.category,
            words=words,
            content=content,
            created=now,
            severity=new.severity,
            user=new.user,
            conversation=new.conversation,
        )
    )
    return id


def plain_text(text: str, most: int, what: str) -> str:
    """A text in the form that both databases can store. Raises Refusal if it is too long."""
    if len(text) > most:
        raise Refusal(f"{what} has {len(text):,} characters; the limit is {most:,}", 413)
    return mend_text(text).replace("\0", "\ufffd")


def fitting(new: NewCase) -> tuple[str, str]:
    """Words and content of a case as they are stored. Raises Refusal if they are too long."""
    words = plain_text(new.words, MOST_WORDS, "what was written")
    if new.content is None:
        return words, ""
    # JSON escapes NUL; no database stores half a surrogate pair
    content = mend_text(json.dumps(new.content, ensure_ascii=False, allow_nan=False))
    if len(content) > MOST_CONTENT and new.kind == "flag":
        content = json.dumps({"too_long": len(content)})  # nobody is there to send less
    if len(content) > MOST_CONTENT:
        raise Refusal(f"the content has {len(content):,} characters; the limit is {MOST_CONTENT:,}", 413)
    return words, content


def waiting_of(connection: Connection, organisation: str, kind: Kind, user: str | None = None) -> int:
    """Number of open cases of a kind for an organisation; with `user` only those of one end user, or with "" only the
    organisation's own."""
    conditions = and_(CASES.c.organisation == organisation, CASES.c.kind == kind, CASES.c.closed.is_(None))
    if user is not None:
        conditions = and_(conditions, CASES.c.user == user)
    return connection.execute(select(func.count()).select_from(CASES).where(conditions)).scalar_one()


def find_case(connection: Connection, id: str) -> Case:
    """A case. Raises NotFound."""
    row = connection.execute(select(CASES).where(CASES.c.id == id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no case {id}; charter conduct queue lists them")
    return _case(row)


def cases_of(connection: Connection, request: str) -> list[Case]:
    """The cases about a request, oldest first."""
    rows = select(CASES).where(CASES.c.request == request).order_by(CASES.c.created, CASES.c.id)
    return [_case(row) for row in connection.execute(rows)]


def stopped_before(
    connection: Connection,
    organisation: str,
    user: str,
    conversations: Collection[str],
    since: float = 0.0,
    categories: Collection[str] = (),
    actions: Collection[str] = ACTED,
) -> dict[str, str]:
    """By conversation, the newest request of an organisation, or of its end user, whose prompt was flagged or blocked,
    under any category if none is named."""
    acted = and_(DECISIONS.c.request == CASES.c.request, DECISIONS.c.side == "prompt", DECISIONS.c.action.in_(actions))
    if categories:
        acted = and_(acted, DECISIONS.c.category.in_(categories))
    of_user = and_(CASES.c.organisation == organisation, CASES.c.user == user, CASES.c.kind == "flag")
    rows = select(CASES.c.conversation, CASES.c.request).where(
        of_user,
        CASES.c.conversation.in_(conversations),
        CASES.c.created > since,
        select(DECISIONS.c.number).where(acted).exists(),
    )
    return {row.conversation: row.request for row in connection.execute(rows.order_by(CASES.c.created))}


def queue(
    connection: Connection,
    kind: Kind | None = None,
    state: State = "open",
    organisation: str = "",
    after: str = "",
    limit: int = 50,
    severity: str = "",
) -> Page:
    """Cases of a kind, a state, an organisation and a severity, or of all, by severity and then by age; those that
    follow the case `after`. Cases without severity (appeals, rises, reports without a category, high-risk uses) are
    among the medium ones, unless one severity is requested.

    Raises NotFound if `after` doesn't exist.
    """
    place = (_RANK, CASES.c.created, CASES.c.id)
    query = select(CASES).order_by(*place).limit(limit + 1)
    if kind is not None:
        query = query.where(CASES.c.kind == kind)
    if state != "all":
        query = query.where(CASES.c.closed.is_(None) if state == "open" else CASES.c.closed.is_not(None))
    if organisation:
        query = query.where(CASES.c.organisation == organisation)
    if severity:
        query = query.where(CASES.c.severity == severity)
    if after:
        last = find_case(connection, after)
        behind = (SEVERITIES.index(last.severity or NO_SEVERITY), last.created, last.id)
        query = query.where(tuple_(*place) > tuple_(*behind))
    cases = [_case(row) for row in connection.execute(query)]
    return Page(tuple(cases[:limit]), cases[limit - 1].id if len(cases) > limit else "")


def close_case(
    connection: Connection, id: str, verdict: CaseVerdict, by: str, note: str = "", now: float | None = None
) -> Case:
    """Closes a case; `standings.settle` calls this and applies the consequences for the account.

    Raises Stale if it is already closed, NotFound if it doesn't exist, CharterError for an unknown verdict or an
    invalid name.
    """
    if verdict not in VERDICTS:
        raise CharterError(f"a verdict is {' or '.join(VERDICTS)}, not {verdict!r}")
    alone(connection)
    closing = {
        "closed": time.time() if now is None else now,
        "verdict": verdict,
        "by": decider_name(by),
        "note": plain_text(note, MOST_WORDS, "the note"),
    }
    done = connection.execute(CASES.update().where(CASES.c.id == id, CASES.c.closed.is_(None)).values(**closing))
    closed_case = find_case(connection, id)
    if not done.rowcount:
        raise Stale(f"{id} was {closed_case.verdict} by {closed_case.by} already; a case can be decided only once")
    return closed_case


def withdraw(connection: Connection, organisation: str, user: str, levels: Sequence[str], now: float) -> None:
    """Closes an account's open cases of kind standing that ask for another level than these."""
    c = CASES.c
    open_standing = and_(c.kind == "standing", c.organisation == organisation, c.user == user, c.closed.is_(None))
    note = "Withdrawn: what is left of the violations doesn't ask for it."
    closing = {"closed": now, "verdict": DISMISSED, "by": RULE, "note": note}
    connection.execute(CASES.update().where(open_standing, c.category.not_in(levels)).values(**closing))


def decider_name(by: str) -> str:
    """The name of a person who decides. Raises CharterError if it is empty or the rule's."""
    name = " ".join(plain_text(by, LONGEST_NAME, "the name").split())
    if not name or name == RULE:
        raise CharterError(f"a decision needs a person's name; {by!r} is not one")
    return name


def audit(connection: Connection) -> list[Audit]:
    """People's verdicts on the classifiers, by category. Only closed flags count, so the precision is that of the flags
    that people have judged."""
    flags: Counter[tuple[str, str | None]] = Counter()
    counted = (
        select(CASES.c.category, CASES.c.verdict, func.count())
        .where(CASES.c.kind == "flag")
        .group_by(CASES.c.category, CASES.c.verdict)
    )
    for category, verdict, count in connection.execute(counted):
        flags[category, verdict] += count
    missed = _missed(connection)
    return [
        _audited(category, flags[category, UPHELD], flags[category, DISMISSED], flags[category, None], missed)
        for category in sorted({name for name, _ in flags} | missed.keys())
    ]


def _audited(category: str, upheld: int, dismissed: int, waiting: int, missed: Mapping[str, int]) -> Audit:
    closed = upheld + dismissed
    low, high = wilson(upheld, closed)
    precision = upheld / closed if closed else None
    return Audit(category, upheld, dismissed, waiting, missed.get(category, 0), precision, low, high)


def _missed(connection: Connection) -> Counter[str]:
    """By category, upheld reports on requests without a flag or block under it."""
    flagged = (
        select(DECISIONS.c.number)
        .where(
            DECISIONS.c.request == CASES.c.request,
            DECISIONS.c.category == CASES.c.category,
            DECISIONS.c.action.in_(ACTED),
        )
        .exists()
    )
    reports = and_(CASES.c.kind == "report", CASES.c.verdict == UPHELD, CASES.c.category != "")
    return Counter(connection.execute(select(CASES.c.category).where(reports, ~flagged)).scalars())


def expire_content(connection: Connection, days: float, now: float) -> int:
    """Empties words, content and digest of cases closed more than `days` ago; returns their number."""
    has_content = or_(CASES.c.words != "", CASES.c.content != "", CASES.c.conversation != "")
    expired = and_(CASES.c.closed < now - days * 86_400, has_content)
    return connection.execute(CASES.update().where(expired).values(words="", content="", conversation="")).rowcount


def _case(row: Row[Any]) -> Case:
    return Case(**row._mapping)


def rows_of(cases: Iterable[Case]) -> list[dict[str, Any]]:
    """Cases as JSON."""
    return [case.row() for case in cases]


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
    of_request = and_(d.request == request, d.organisation == organisation)
    rows = connection.execute(select(d.action, d.category, d.severity, d.user).where(of_request)).all()
    if not rows:
        raise NotFound(f"there is no request {request}, or it isn't yours")
    stop = next((row for row in rows if row.action == "block"), None)
    if stop is None:
        raise Refusal(f"nothing of {request} was stopped, so there is nothing to appeal", 409)
    if any(case.kind == "appeal" and case.organisation == organisation for case in cases_of(connection, request)):
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
    of_user = and_(c.kind == "appeal", c.organisation == organisation, c.user == user)
    rows = select(c.id, c.request, c.created, c.closed, c.verdict).where(of_user)
    newest = rows.order_by(c.created.desc(), c.id).limit(MOST_LISTED)
    return [Appeal(*row) for row in connection.execute(newest)]


def flags_behind(connection: Connection, case: Case) -> list[Case]:
    """The flags on an appealed request, and on the earlier one that it repeats, but those that a person dismissed; one
    that a person upheld is open again."""
    d = DECISIONS.c
    repeating = and_(d.request == case.request, d.organisation == case.organisation, d.repeats != "")
    earlier = connection.execute(select(d.repeats).where(repeating)).scalars()
    flags = [
        flag
        for request in dict.fromkeys((case.request, *earlier))
        for flag in cases_of(connection, request)
        if flag.kind == "flag" and flag.organisation == case.organisation and flag.verdict != DISMISSED
    ]
    again = {"closed": None, "verdict": None, "by": None, "note": None}
    connection.execute(CASES.update().where(CASES.c.id.in_([flag.id for flag in flags])).values(**again))
    return flags
