"""The audit log: who changed what of whom on an admin page, in a chain of digests.

Each database keeps the acts on what it holds, so that an act and its row are one transaction: both are there after a
crash, or neither. Each row's chain is the sha256 of the chain before it and of the row's own content in canonical JSON;
a changed, removed or inserted row breaks it there. Rows are only ever added: triggers refuse anything else. No row
holds a secret, or anybody's text. A tip that is kept elsewhere shows whether rows were cut off the end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Column, Connection, Double, Integer, MetaData, String, Table, Text, select

from charter.ground.artifact.manifest import canonical_json, digest_text
from charter_service.web.database import alone

BEGINNING = "0" * 64  # the chain before the first row
LONGEST = 4_000  # characters of the JSON before and after an act
PAGE = 100  # rows of a page
AT_A_TIME = 5_000


def make_acts(metadata: MetaData) -> Table:
    """The table of acts of one database."""
    return Table(
        "acts",
        metadata,
        Column("number", Integer, primary_key=True),
        Column("at", Double, nullable=False),
        Column("by", String(200), nullable=False),  # the name of a person, or of a key
        Column("actor", String(64), nullable=False, index=True),  # person_12 or the key's id
        Column("role", String(16), nullable=False),  # of the actor at that time
        Column("what", String(64), nullable=False, index=True),  # such as key.revoke
        Column("whose", String(200), nullable=False, index=True),  # the id of what was changed
        Column("before", Text, nullable=False),  # JSON
        Column("after", Text, nullable=False),  # JSON
        Column("chain", String(64), nullable=False),
        sqlite_autoincrement=True,
    )


_ACTS = make_acts(MetaData())  # each database has one


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who acts: a name, an id, and the role at that time."""

    by: str
    id: str
    role: str


def at_shell(by: str = "") -> Actor:
    """Whoever holds the machine and runs a command; `by`: the name that was given."""
    return Actor(by.strip() or "command line", "command line", "owner")


@dataclass(frozen=True, slots=True)
class Act:
    """One act. `at`: seconds since 1970. `before`, `after`: JSON objects of what changed."""

    at: float
    by: str
    actor: str
    role: str
    what: str
    whose: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Row:
    """An act in the log, with its number, which only grows, and its link of the chain."""

    number: int
    act: Act
    chain: str

    def facts(self) -> dict[str, Any]:
        """As JSON; `before` and `after` are objects."""
        content = {name: getattr(self.act, name) for name in _NAMES}
        states = {name: json.loads(content[name]) for name in ("before", "after")}
        return {"number": self.number, **content, **states, "chain": self.chain}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The acts to search; an empty field matches all. `before`: those with a smaller number. `since`, `until`: times
    in seconds since 1970."""

    by: str = ""
    what: str = ""
    whose: str = ""
    before: int = 0
    since: float = 0.0
    until: float = 0.0


_NAMES = [field.name for field in fields(Act)]
_COLUMNS = [_ACTS.c[name] for name in _NAMES]


def note_act(
    connection: Connection,
    actor: Actor,
    what: str,
    whose: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Adds an act, in the transaction of what it changed; other writers wait for its end. Raises ValueError for a
    state that is too long to be one: texts don't belong here."""
    states = [canonical_json(dict(state or {})) for state in (before, after)]
    if max(map(len, states)) > LONGEST:
        raise ValueError(f"the state of {what} has over {LONGEST:,} characters; note ids and numbers, no texts")
    alone(connection)
    act = Act(time.time(), actor.by[:200], actor.id, actor.role, what, whose[:200], *states)
    newest = select(_ACTS.c.chain).order_by(_ACTS.c.number.desc()).limit(1)
    chain = _link(connection.execute(newest).scalar() or BEGINNING, act)
    connection.execute(_ACTS.insert().values(**_content(act), chain=chain))


def search_acts(connection: Connection, sought: Wanted, limit: int = PAGE) -> tuple[list[Row], int]:
    """Acts, newest first, and the number before which the next page begins; 0 if there is none."""
    rows = select(_ACTS.c.number, _ACTS.c.chain, *_COLUMNS)
    if sought.by:
        rows = rows.where((_ACTS.c.by == sought.by) | (_ACTS.c.actor == sought.by))
    if sought.what:  # a kind, such as key, matches all of its acts
        rows = rows.where((_ACTS.c.what == sought.what) | _ACTS.c.what.startswith(f"{sought.what}.", autoescape=True))
    if sought.whose:
        rows = rows.where(_ACTS.c.whose == sought.whose)
    if sought.before:
        rows = rows.where(_ACTS.c.number < sought.before)
    if sought.since:
        rows = rows.where(_ACTS.c.at >= sought.since)
    if sought.until:
        rows = rows.where(_ACTS.c.at < sought.until)
    stored = connection.execute(rows.order_by(_ACTS.c.number.desc()).limit(limit + 1))
    page = [Row(number, Act(*content), chain) for number, chain, *content in stored]
    return page[:limit], page[limit - 1].number if len(page) > limit else 0


def audit_tip(connection: Connection) -> str:
    """NUMBER:CHAIN of the newest act, to keep elsewhere; 0 and zeros if there is none."""
    newest = select(_ACTS.c.number, _ACTS.c.chain).order_by(_ACTS.c.number.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    return f"{row.number}:{row.chain}" if row else f"0:{BEGINNING}"


def holds_act(connection: Connection, tip: str) -> bool:
    """Whether the log has the row that was once its tip."""
    number, _, chain = tip.partition(":")
    if tip == f"0:{BEGINNING}":
        return True
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        return False
    stored_chain = connection.execute(select(_ACTS.c.chain).where(_ACTS.c.number == int(number))).scalar()
    return stored_chain == chain


def verify_acts(connection: Connection) -> int | None:
    """The number of the first act that doesn't follow from the one before it; None if all do."""
    rows = select(_ACTS.c.number, _ACTS.c.chain, *_COLUMNS).order_by(_ACTS.c.number)
    chain = BEGINNING
    streamed = connection.execute(rows.execution_options(yield_per=AT_A_TIME))
    for number, claimed, *content in streamed:
        chain = _link(chain, Act(*content))
        if chain != claimed:
            streamed.close()
            return int(number)
    return None


def _link(before: str, act: Act) -> str:
    return digest_text(before + canonical_json(_content(act)))


def _content(act: Act) -> dict[str, Any]:
    return {name: getattr(act, name) for name in _NAMES}
