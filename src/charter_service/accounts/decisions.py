"""The log of the acceptable-use policy's decisions: an append-only log by request id, in a chain of digests.

Each row's chain is the sha256 of the chain before it and of the row's own content in canonical JSON, so that a changed,
removed or inserted row breaks the chain at that place. The digests have no key: somebody who can rewrite the whole
database can make a new chain. A tip of the log, kept elsewhere, shows that too, and rows cut off its end. No row holds
anybody's text.

Rows that are old enough may be removed (`prune`). An anchor stays: the number and the chain of the last removed row,
from which the rest of the log follows.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import takewhile
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Engine, and_, delete, func, select

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import canonical_json, digest_text
from charter_service.accounts.tables import ANCHORS, CASES, DECISIONS, ORGANISATIONS
from charter_service.web.database import alone, writing
from charter_service.web.tokens import proof_of

BEGINNING = "0" * 64  # the chain before the first row
WHOLE = "request"  # the side of a row for several verdicts that all allow
PERSON = "person"  # the side of a row for a person who made or revoked a grant
LATER = ("severity", "added", "grant_id", "unscreened", "repeats")  # columns that older rows lack
ASKED_NONE = canonical_json({})  # the classifiers of a row without classifiers
BACKLOG = 10_000  # rows waiting for the disk; a thread that adds more writes them
AT_A_TIME = 5_000
T = TypeVar("T")


class Tip(NamedTuple):
    """The newest row of the log at some time, as somebody kept it. `at`: when the row was noted, None if unknown."""

    number: int
    chain: str
    at: float | None = None

    def __str__(self) -> str:
        parts = (self.number, self.chain) if self.at is None else (self.number, repr(self.at), self.chain)
        return ":".join(str(part) for part in parts)


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision. `at`: seconds since 1970. `user`: as `user_mark` makes it. `side`: prompt, reply, request, or
    person for a person's act. `policy`: name, version and digest. `classifiers`: the version of each that ran.
    `severity`: of the category then. `added`: sha256 of the text that was added to the prompt; of a person's row, of
    what the person wrote down. `grant_id`: the release or exemption that acted. `unscreened`: as a verdict's.
    `repeats`: the earlier request that was stopped for the same text.

    Raises ValueError for values that the database can't store, so that it fails early.
    """

    request: str
    at: float
    organisation: str
    key: str
    user: str
    model: str
    side: str
    action: str
    category: str
    score: float
    threshold: float
    sensitivity: str
    policy: str
    classifiers: str
    severity: str = ""
    added: str = ""
    grant_id: str = ""
    unscreened: str = ""
    repeats: str = ""

    def __post_init__(self) -> None:
        for name, value in self.columns().items():
            if isinstance(value, str):
                most = _LENGTHS[name]
                if "\0" in value or len(value) > most:
                    raise ValueError(
                        f"a decision's {name} has {len(value)} characters, expected at most {most:g} and no NUL"
                    )
            elif not math.isfinite(value):
                raise ValueError(f"a decision's {name} is {value}, expected a number")

    @property
    def checked(self) -> bool:
        """Whether any classifier ran; with the policy off none does, and score and threshold mean nothing."""
        return self.classifiers != ASKED_NONE

    @property
    def said(self) -> str:
        """The action in words."""
        return self.action if self.checked or self.side == PERSON else "not checked"

    def columns(self) -> dict[str, Any]:
        """The stored values by column."""
        return {name: getattr(self, name) for name in _NAMES}


@dataclass(frozen=True, slots=True)
class Decision:
    """A row of the log: its number, which only grows, its decision, and its link of the chain."""

    number: int
    entry: Entry
    chain: str

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return {"number": self.number, **self.entry.columns(), "chain": self.chain}


_NAMES = [field.name for field in fields(Entry)]
_COLUMNS = [DECISIONS.c[name] for name in _NAMES]
_LENGTHS = {column.name: getattr(column.type, "length", None) or math.inf for column in _COLUMNS}


def user_mark(organisation: str, digest: str) -> str:
    """The log's mark of a user, from the digest of the user's id: HMAC-SHA256 under the organisation's id, so that
    nobody can link users of two organisations; "" for no user."""
    return proof_of(organisation, digest) if digest else ""


def link(before: str, entry: Entry) -> str:
    """The chain of a row that follows one with the chain `before`: sha256, 64 hex digits."""
    # databases store neither the sign of zero nor whether a number was whole
    content = {
        name: value if isinstance(value, str) else float(value) + 0.0
        for name, value in entry.columns().items()
        if value or name not in LATER
    }
    return digest_text(before + canonical_json(content))


def append(connection: Connection, entries: Sequence[Entry]) -> None:
    """Adds rows in their order; other writers wait for the end of the transaction."""
    if not entries:
        return
    alone(connection)
    chain, rows = tip(connection)[1], []
    for entry in entries:
        chain = link(chain, entry)
        rows.append(entry.columns() | {"chain": chain})
    connection.execute(DECISIONS.insert(), rows)


def tip(connection: Connection) -> tuple[int, str]:
    """The number and the chain of the newest row; 0 and the beginning if there is none. Kept elsewhere, it shows later
    whether the log still holds its rows."""
    newest = select(DECISIONS.c.number, DECISIONS.c.chain).order_by(DECISIONS.c.number.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    return (row.number, row.chain) if row else anchor(connection)


def told_tip(connection: Connection) -> Tip:
    """The tip with the time of its row, to keep elsewhere; without a time if the log has no rows left."""
    number, chain = tip(connection)
    at = connection.execute(select(DECISIONS.c.at).where(DECISIONS.c.number == number)).scalar()
    return Tip(number, chain, at)


def anchor(connection: Connection) -> tuple[int, str]:
    """The number and the chain of the last removed row; 0 and the beginning if there is none."""
    newest = select(ANCHORS.c.number, ANCHORS.c.chain).order_by(ANCHORS.c.number.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    return (row.number, row.chain) if row else (0, BEGINNING)


def prune(connection: Connection, before: float, now: float, most: int) -> bool:
    """Removes up to `most` of the oldest rows noted `before`, and leaves an anchor. Returns whether there were
    any."""
    alone(connection)
    oldest = select(DECISIONS.c.number, DECISIONS.c.chain, DECISIONS.c.at).order_by(DECISIONS.c.number)
    old_rows = list(takewhile(lambda row: row.at < before, connection.execute(oldest.limit(most)).all()))
    if not old_rows:
        return False
    connection.execute(ANCHORS.insert().values(number=old_rows[-1].number, chain=old_rows[-1].chain, at=now))
    connection.execute(delete(DECISIONS).where(DECISIONS.c.number <= old_rows[-1].number))
    return True


def verify_chain(connection: Connection) -> int | None:
    """The number of the first row that doesn't follow from the one before it, or from the anchor; None if all
    do."""
    rows = select(DECISIONS.c.number, DECISIONS.c.chain, *_COLUMNS).order_by(DECISIONS.c.number)
    _, chain = anchor(connection)
    streamed = connection.execute(rows.execution_options(yield_per=AT_A_TIME))
    for number, claimed, *content in streamed:
        try:
            chain = link(chain, Entry(*content))
        except (TypeError, ValueError):  # content that `append` could not have written
            chain = ""
        if chain != claimed:
            streamed.close()
            return int(number)
    return None


def holds(connection: Connection, number: int, chain: str) -> bool | None:
    """Whether the log has the row that was once its tip; None if unknown, since the row and later ones were removed for
    their age."""
    stored_chain = connection.execute(select(DECISIONS.c.chain).where(DECISIONS.c.number == number)).scalar()
    stored_chain = (
        stored_chain or connection.execute(select(ANCHORS.c.chain).where(ANCHORS.c.number == number)).scalar()
    )
    if stored_chain is None and 0 < number < anchor(connection)[0]:
        return None
    return (stored_chain or (BEGINNING if number == 0 else None)) == chain


def removed_young(connection: Connection, tip: Tip | None, before: float) -> str:
    """Evidence that rows were removed too young, "" if there is none. `before`: only rows noted until then may be
    removed."""
    number, _ = anchor(connection)
    if not number:
        return ""
    if tip is not None and tip.at is not None and tip.number <= number and tip.at >= before:
        return f"row {tip.number}, the tip {tip}, was"
    first = connection.execute(select(func.min(ORGANISATIONS.c.created))).scalar()
    if first is not None and first >= before:
        return f"rows up to {number} were, and no organisation here is that old"
    logged = select(DECISIONS.c.number).where(DECISIONS.c.request == CASES.c.request).exists()
    young = and_(CASES.c.kind == "flag", CASES.c.created >= before, ~logged)
    case = connection.execute(select(CASES.c.id).where(young).limit(1)).scalar()
    return f"the decision of {case} was" if case else ""


def decisions_of(connection: Connection, request: str, organisation: str = "") -> list[Decision]:
    """The decisions about a request, oldest first; only of one organisation if it is named."""
    rows = select(DECISIONS.c.number, DECISIONS.c.chain, *_COLUMNS).where(DECISIONS.c.request == request)
    if organisation:
        rows = rows.where(DECISIONS.c.organisation == organisation)
    rows_read = connection.execute(rows.order_by(DECISIONS.c.number))
    return [Decision(number, Entry(*content), chain) for number, chain, *content in rows_read]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The decisions to search; an empty field matches all. `acted`: only those that are not allow. `before`: those with
    a smaller number, for the next page."""

    request: str = ""
    organisation: str = ""  # its id
    category: str = ""
    action: str = ""
    acted: bool = False
    before: int = 0
    user: str = ""


def search(connection: Connection, sought: Wanted, limit: int = 50) -> tuple[list[Decision], int]:
    """Decisions, newest first, and the number for the next page's `before`; 0 at the end."""
    rows = select(DECISIONS.c.number, DECISIONS.c.chain, *_COLUMNS)
    for name in ("request", "organisation", "user", "category", "action"):
        if value := getattr(sought, name):
            rows = rows.where(DECISIONS.c[name] == value)
    if sought.acted:
        rows = rows.where(DECISIONS.c.action != "allow")
    if sought.before:
        rows = rows.where(DECISIONS.c.number < sought.before)
    stored = connection.execute(rows.order_by(DECISIONS.c.number.desc()).limit(limit + 1))
    page = [Decision(number, Entry(*content), chain) for number, chain, *content in stored]
    return page[:limit], page[limit - 1].number if len(page) > limit else 0


class Log:
    """Writes entries from many threads, in the order in which they were noted.

    `note` costs no more than a list's append, and the caller must call `flush` soon; `note_now` and `flush` return when
    their entries, and all noted before, are on disk.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: list[Entry] = []
        self._guard = threading.Lock()  # of the list, never held during a write
        self._writing = threading.Lock()

    def note(self, entry: Entry) -> None:
        """Keeps an entry for the next flush. If too many wait it writes them itself, and raises if it can't: a service
        that can't log must stop."""
        with self._guard:
            self._waiting.append(entry)
            full = len(self._waiting) > BACKLOG
        if full:
            self.flush()

    def note_now(self, entries: Sequence[Entry], then: Callable[[Connection], T] | None = None) -> T | None:
        """Writes entries, and then calls `then`, in one transaction; returns its result.

        Raises the database's errors; these entries are then lost, and those that waited before are kept.
        """
        with self._writing:
            return self._write(entries, then)

    def flush(self) -> None:
        """Writes waiting entries, and waits for those that another thread is writing, so that the next reader sees
        them."""
        with self._writing:
            if self._waiting:
                self._write(())

    def _write(self, entries: Sequence[Entry], then: Callable[[Connection], T] | None = None) -> T | None:
        with self._guard:
            before, self._waiting = self._waiting, []
        try:
            with writing(self._engine) as connection:
                append(connection, [*before, *entries])
                return then(connection) if then is not None else None
        except BaseException:
            with self._guard:
                self._waiting = before + self._waiting
            raise


def parse_tip(text: str) -> Tip:
    """A tip from NUMBER:AT:CHAIN, or from NUMBER:CHAIN, which earlier versions printed. Raises CharterError."""
    number, _, noted_tip = text.partition(":")
    time_text, _, chain = noted_tip.rpartition(":")
    try:
        at = float(time_text) if time_text else None
    except ValueError:
        at = math.nan
    if not (number.isascii() and number.isdigit()) or len(chain) != 64 or not math.isfinite(at or 0.0):
        raise CharterError(f"{text!r} is not a tip; expected NUMBER:AT:CHAIN as charter conduct verify prints it")
    return Tip(int(number), chain, at)
