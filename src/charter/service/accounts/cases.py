"""What people look at: flagged requests, reports, appeals, and rises on the ladder that only a person may decide.

A case is closed once, as upheld or dismissed; whoever comes second is told so. What the closed ones say of the
classifiers is their audit. A case holds what somebody wrote only where it was sent in with it, or where the service
keeps what it flags, and only until `expire_content`.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Row, and_, case, func, or_, select, tuple_

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.intervals import wilson
from charter.ground.moderation.policy import Severity
from charter.ground.text.dialogue import mend_text
from charter.service.accounts.tables import CASES, DECISIONS
from charter.service.web.database import alone
from charter.service.web.refusal import NotFound, Refusal, Stale
from charter.service.web.tokens import new_id

Kind = Literal["flag", "report", "appeal", "standing"]
CaseVerdict = Literal["upheld", "dismissed"]
State = Literal["open", "closed", "all"]
KINDS: tuple[Kind, ...] = get_args(Kind)
UPHELD, DISMISSED = VERDICTS = get_args(CaseVerdict)
RULE = "rule"  # who decided where nobody did
ACTED = ("flag", "block")
MOST_OPEN = 200  # cases of one kind and organisation: more than people would read
MOST_WORDS, MOST_CONTENT = 10_000, 200_000  # characters
LONGEST_NAME = 200
SEVERITIES: tuple[Severity, ...] = ("severe", "high", "medium", "low")  # in the order in which people look
NO_SEVERITY: Severity = "medium"  # where what has none stands
_RANK = case(
    {one: place for place, one in enumerate(SEVERITIES)},
    value=CASES.c.severity,
    else_=SEVERITIES.index(NO_SEVERITY),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One case. `category` of a case of kind standing is the level that the rule asks for. `severity`: what the
    category's was when the case was opened, "" where it has none. `user`: the mark of an end user. `conversation`: the
    digest of what was asked."""

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
        """As JSON; the content as what it spells."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return plain | {"content": json.loads(self.content) if self.content else None}


@dataclass(frozen=True, slots=True)
class Page:
    """Some cases, the severest first, of these the oldest, and the id to go on after; "" at the end."""

    cases: tuple[Case, ...]
    after: str


@dataclass(frozen=True, slots=True)
class NewCase:
    """A case to be opened. `content`: messages and reply, or what a reporter sent in."""

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
    """What people said of a category's flags. `precision`: the share that they upheld, with its 95 % interval (Wilson),
    of the flags that they closed; `missed`: reports that they upheld where nothing had been flagged."""

    category: str
    upheld: int
    dismissed: int
    waiting: int
    missed: int
    precision: float | None
    low: float
    high: float


def open_case(connection: Connection, new: NewCase, now: float) -> str | None:
    """The id of a new case, or of the one that is open or closed on the same category of the same flagged request;
    None where so many of the organisation wait that nobody would read one more.

    Raises Refusal for words or a content that are too long.
    """
    alone(connection)
    words, content = fitting(new)
    if new.kind == "flag":
        same = and_(
            CASES.c.request == new.request, CASES.c.category == new.category, CASES.c.kind == new.kind
        )
        known: str | None = connection.execute(
            select(CASES.c.id).where(same, CASES.c.organisation == new.organisation)
        ).scalar()
        if known is not None:
            return known
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
    """What somebody wrote as both databases can keep it. Raises Refusal where it is too long."""
    if len(text) > most:
        raise Refusal(f"{what} has {len(text):,} characters; at most {most:,} are kept", 413)
    return mend_text(text).replace("\0", "\ufffd")


def fitting(new: NewCase) -> tuple[str, str]:
    """Words and content of a case as they are stored. Raises Refusal for what is too long."""
    words = plain_text(new.words, MOST_WORDS, "what was written")
    if new.content is None:
        return words, ""
    # JSON escapes NUL; half a surrogate pair no database keeps
    content = mend_text(json.dumps(new.content, ensure_ascii=False, allow_nan=False))
    if len(content) > MOST_CONTENT and new.kind == "flag":
        content = json.dumps({"too_long": len(content)})  # nobody can be asked to send less
    if len(content) > MOST_CONTENT:
        raise Refusal(f"the content has {len(content):,} characters; at most {MOST_CONTENT:,} are kept", 413)
    return words, content


def waiting_of(connection: Connection, organisation: str, kind: Kind, user: str | None = None) -> int:
    """How many cases of a kind are open for an organisation; for one end user, or with "" for the organisation itself,
    where that is said."""
    mine = and_(CASES.c.organisation == organisation, CASES.c.kind == kind, CASES.c.closed.is_(None))
    if user is not None:
        mine = and_(mine, CASES.c.user == user)
    return connection.execute(select(func.count()).select_from(CASES).where(mine)).scalar_one()


def find_case(connection: Connection, id: str) -> Case:
    """A case. Raises NotFound."""
    found = connection.execute(select(CASES).where(CASES.c.id == id)).one_or_none()
    if found is None:
        raise NotFound(f"there is no case {id}; charter conduct queue lists them")
    return _case(found)


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
    follow the case `after`. What has no severity (appeals, rises, reports without a category, high-risk uses) stands
    among the medium ones, unless one severity alone is asked for.

    Raises NotFound where `after` doesn't exist.
    """
    place = (_RANK, CASES.c.created, CASES.c.id)
    wanted = select(CASES).order_by(*place).limit(limit + 1)
    if kind is not None:
        wanted = wanted.where(CASES.c.kind == kind)
    if state != "all":
        wanted = wanted.where(CASES.c.closed.is_(None) if state == "open" else CASES.c.closed.is_not(None))
    if organisation:
        wanted = wanted.where(CASES.c.organisation == organisation)
    if severity:
        wanted = wanted.where(CASES.c.severity == severity)
    if after:
        last = find_case(connection, after)
        behind = (SEVERITIES.index(last.severity or NO_SEVERITY), last.created, last.id)
        wanted = wanted.where(tuple_(*place) > tuple_(*behind))
    found = [_case(row) for row in connection.execute(wanted)]
    return Page(tuple(found[:limit]), found[limit - 1].id if len(found) > limit else "")


def close_case(
    connection: Connection, id: str, verdict: CaseVerdict, by: str, note: str = "", now: float | None = None
) -> Case:
    """Closes a case; `standings.settle` does it and draws what follows for the account.

    Raises Stale where somebody closed it before, NotFound where there is none, CharterError for a verdict or a name
    that is none.
    """
    if verdict not in VERDICTS:
        raise CharterError(f"a verdict is {' or '.join(VERDICTS)}, not {verdict!r}")
    alone(connection)
    closing = {
        "closed": time.time() if now is None else now,
        "verdict": verdict,
        "by": who(by),
        "note": plain_text(note, MOST_WORDS, "the note"),
    }
    done = connection.execute(
        CASES.update().where(CASES.c.id == id, CASES.c.closed.is_(None)).values(**closing)
    )
    found = find_case(connection, id)
    if not done.rowcount:
        raise Stale(f"{id} was {found.verdict} by {found.by} already; a case is decided once")
    return found


def who(by: str) -> str:
    """The name of a person who decides. Raises CharterError for none, and for the rule's."""
    name = " ".join(plain_text(by, LONGEST_NAME, "the name").split())
    if not name or name == RULE:
        raise CharterError(f"a decision needs the name of who made it, and {by!r} is nobody's")
    return name


def appeal(connection: Connection, organisation: str, words: str, now: float, user: str = "") -> str:
    """The id of a new appeal of where an organisation, or one of its end users, stands. Raises Refusal for one without
    words, while another waits, and where too many of the organisation wait."""
    if not words.strip():
        raise Refusal("an appeal needs words: say why the account should be restored")
    alone(connection)
    if waiting_of(connection, organisation, "appeal", user):
        raise Refusal("an appeal waits for a decision already; there can be one at a time", 409)
    made = open_case(connection, NewCase("appeal", organisation, words=words, user=user), now)
    if made is None:
        raise Refusal(f"{MOST_OPEN} appeals of yours wait for people already; send this one later", 429)
    return made


def audit(connection: Connection) -> list[Audit]:
    """What people said of the classifiers, by category. Flags count that a person closed; those that wait don't, so the
    precision is that of the flags that people took up."""
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
    """By category, the reports that people upheld on requests for which nothing was flagged or blocked under it."""
    seen = (
        select(DECISIONS.c.number)
        .where(
            DECISIONS.c.request == CASES.c.request,
            DECISIONS.c.category == CASES.c.category,
            DECISIONS.c.action.in_(ACTED),
        )
        .exists()
    )
    reports = and_(CASES.c.kind == "report", CASES.c.verdict == UPHELD, CASES.c.category != "")
    return Counter(connection.execute(select(CASES.c.category).where(reports, ~seen)).scalars())


def expire_content(connection: Connection, days: float, now: float) -> int:
    """Empties words, content and digest of cases closed more than `days` ago; how many there were."""
    kept = or_(CASES.c.words != "", CASES.c.content != "", CASES.c.conversation != "")
    old = and_(CASES.c.closed < now - days * 86_400, kept)
    return connection.execute(
        CASES.update().where(old).values(words="", content="", conversation="")
    ).rowcount


def _case(row: Row[Any]) -> Case:
    return Case(**row._mapping)


def rows_of(cases: Iterable[Case]) -> list[dict[str, Any]]:
    """Cases as JSON."""
    return [one.row() for one in cases]
