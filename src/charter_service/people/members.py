"""The people of a collection as those who run it see them: console roles, counts without a word of what they wrote,
suspending, exports and deletion. Each act is a row of the audit log in the same transaction.

Two rules hold for all acts, also on the pages of arena and chat. The last owner stays one, so that somebody can always
give roles. Only an owner may suspend or delete somebody who has a console role.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select, update

from charter_service.people.tables import (
    BLOBS,
    CHAT_TOOLS,
    CHATS,
    DRAFTS,
    FILES,
    INVITATIONS,
    MESSAGES,
    PEOPLE,
    SHARES,
    TOKENS,
    TOOL_CALLS,
)
from charter_service.people.workers import (
    NOBODY,
    OWNER,
    Person,
    Right,
    allows,
    check_console_role,
    close_sessions,
    disable,
    forget,
    given_by,
    invite,
    note,
)
from charter_service.web.audit import Actor, note_act
from charter_service.web.database import alone
from charter_service.web.refusal import NotFound, Refusal, Stale

PAGE = 100
AT_A_TIME = 200  # rows of an export
LONGEST_SEARCH = 40
_P = PEOPLE.c


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody who has joined. Times are seconds since 1970; `characters`: of their chats; `sessions`: open ones."""

    id: int
    name: str
    role: str
    console: str
    disabled: bool
    created: float
    sessions: int = 0
    chats: int = 0
    messages: int = 0
    characters: int = 0
    touched: float | None = None


def actor_of(person: Person) -> Actor:
    """A person as the audit log names them."""
    return Actor(signature(person), f"person_{person.id}", person.console or person.role)


def signature(person: Person) -> str:
    """A person's name in rows, with enough to tell two of one name apart."""
    return f"{person.name} (person {person.id})"


def check_still(connection: Connection, person: Person, right: Right) -> None:
    """Raises Refusal if a person no longer has a right: it may have ended since the request began. Other acts wait
    for the end of the transaction."""
    alone(connection)
    row = connection.execute(select(_P.console, _P.disabled).where(_P.id == person.id)).first()
    if row is None or row.disabled or not allows(row.console, right):
        raise Refusal("your role has changed, and no longer allows this", 403)


def check_may_remove(connection: Connection, by: Person | None, person: int) -> Member:
    """The person whom somebody wants to suspend or delete; `by` None: whoever holds the machine or a key with the
    scope admin. Raises NotFound, and Refusal by the two rules above."""
    alone(connection)
    member = find_member(connection, person)
    if by is not None and by.id != person and member.console and not allows(by.console, "own"):
        raise Refusal(f"{member.name} has a role on the admin pages; only an owner may do this", 403)
    _check_owner_left(connection, member)
    return member


def _check_owner_left(connection: Connection, member: Member) -> None:
    if member.console != OWNER or member.disabled:
        return
    others = select(func.count()).where(_P.console == OWNER, _P.disabled.is_(False), _P.id != member.id)
    if not connection.execute(others).scalar_one():
        raise Refusal(f"{member.name} is the last owner; make somebody else an owner first", 409)


def invite_member(connection: Connection, actor: Actor, console: str, days: float = 30) -> str:
    """The token of an invitation with a console role, or without one for somebody who only chats. An owner also runs
    the pages of arena and chat. Raises Refusal for an unknown role."""
    token = invite(connection, "admin" if console == OWNER else "member", console=console, days=days)
    note_act(connection, actor, "member.invite", "", after={"console": console, "days": days})
    return token


def set_console_role(connection: Connection, actor: Actor, person: int, console: str, was: str) -> Member:
    """Gives a person a console role, or takes it with `NOBODY`; open sessions have it from their next request on.
    `was`: the role that the page showed. Raises NotFound, Stale, and Refusal for an unknown role and the last owner."""
    if console != NOBODY:
        check_console_role(console)
    alone(connection)
    member = find_member(connection, person)
    if member.console != was:
        raise Stale(f"the role of {member.name} has changed since the page was loaded; reload it")
    if console == member.console:
        return member
    _check_owner_left(connection, member)
    role = member.role
    if console == OWNER:
        role = "admin"
    elif member.console == OWNER and role == "admin":
        role = "member"
    connection.execute(update(PEOPLE).where(_P.id == person).values(console=console, role=role))
    before = {"console": member.console, "role": member.role}
    note_act(connection, actor, "member.role", f"person_{person}", before, {"console": console, "role": role})
    note(connection, person, "console role", console or "none")
    return find_member(connection, person)


def suspend(connection: Connection, actor: Actor, person: int, suspended: bool, by: Person | None = None) -> Member:
    """Keeps a person out, or lets them in again; their data stays. Raises as `check_may_remove`."""
    member = check_may_remove(connection, by, person) if suspended else find_member(connection, person)
    disable(connection, person, suspended)
    act = "member.suspend" if suspended else "member.admit"
    before, after = {"suspended": member.disabled}, {"suspended": suspended}
    note_act(connection, actor, act, f"person_{person}", before, after)
    return find_member(connection, person)


def sign_out(connection: Connection, actor: Actor, person: int) -> int:
    """Ends all sessions of a person; returns their number. Raises NotFound."""
    find_member(connection, person)
    count = close_sessions(connection, person)
    note_act(connection, actor, "member.sign_out", f"person_{person}", {"sessions": count}, {"sessions": 0})
    return count


def forget_member(connection: Connection, actor: Actor, person: int, by: Person | None = None) -> None:
    """Deletes a person with all their data. Raises as `check_may_remove`."""
    member = check_may_remove(connection, by, person)
    forget(connection, person)
    before = {"console": member.console, "role": member.role}
    note_act(connection, actor, "member.forget", f"person_{person}", before)


def note_export(connection: Connection, actor: Actor, person: int) -> None:
    """Notes that all data of a person are handed out; `member_data` reads them afterwards. Raises NotFound."""
    find_member(connection, person)
    note(connection, person, "handed out", actor.id)
    note_act(connection, actor, "member.export", f"person_{person}")


def member_data(connection: Connection, person: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """All data of a person, with their chats and the texts of their files, to hand over on request: pairs of a table's
    name and a row, read a few at a time."""
    for name, rows in _rows_of(person):
        for row in connection.execute(rows.execution_options(yield_per=AT_A_TIME)):
            yield name, dict(row._mapping)


def _rows_of(person: int) -> list[tuple[str, Select[Any]]]:
    chats = select(CHATS.c.id).where(CHATS.c.person == person)
    messages = select(MESSAGES.c.id).where(MESSAGES.c.chat.in_(chats))
    shared = select(*(c for c in SHARES.c if c.name != "digest")).where(SHARES.c.chat.in_(chats))
    selects = [
        ("person", select(PEOPLE).where(_P.id == person)),
        *given_by(person),
        ("chats", select(CHATS).where(CHATS.c.person == person).order_by(CHATS.c.created)),
        ("messages", select(MESSAGES).where(MESSAGES.c.chat.in_(chats)).order_by(MESSAGES.c.serial)),
    ]
    for table, whose in (
        (TOOL_CALLS, TOOL_CALLS.c.message.in_(messages)),
        (CHAT_TOOLS, CHAT_TOOLS.c.chat.in_(chats)),
        (DRAFTS, DRAFTS.c.person == person),
        (FILES, FILES.c.person == person),
        (BLOBS, BLOBS.c.person == person),
    ):
        selects.append((table.name, select(table).where(whose).order_by(*table.primary_key.columns)))
    return [*selects, ("shares", shared.order_by(SHARES.c.digest))]


def find_member(connection: Connection, person: int) -> Member:
    """A person by number. Raises NotFound."""
    row = connection.execute(select(PEOPLE).where(_P.id == person)).first()
    if row is None:
        raise NotFound(f"there is no person {person}")
    return Member(row.id, row.name, row.role, row.console, bool(row.disabled), row.created)


def list_members(
    connection: Connection, name: str = "", after: int = 0, console: bool = False, limit: int = PAGE
) -> tuple[list[Member], int]:
    """People by number, from the one after `after` on, with counts of their sessions and chats; and the number for the
    next page, 0 if this is the last. `name`: a part of it; `console`: only those with a console role."""
    query = select(PEOPLE).where(_P.id > after).order_by(_P.id).limit(limit + 1)
    if name:
        query = query.where(func.lower(_P.name).contains(name.lower(), autoescape=True))
    if console:
        query = query.where(_P.console != NOBODY)
    page = query.subquery()
    chats = (
        select(CHATS.c.person, func.count().label("chats"), func.max(CHATS.c.touched).label("touched"))
        .where(CHATS.c.person.in_(select(page.c.id)))
        .group_by(CHATS.c.person)
        .subquery()
    )
    texts = (
        select(
            CHATS.c.person, func.count().label("messages"), func.sum(func.length(MESSAGES.c.text)).label("characters")
        )
        .select_from(MESSAGES.join(CHATS, CHATS.c.id == MESSAGES.c.chat))
        .where(CHATS.c.person.in_(select(page.c.id)))
        .group_by(CHATS.c.person)
        .subquery()
    )
    sessions = (
        select(TOKENS.c.person, func.count().label("sessions"))
        .where(TOKENS.c.kind == "session", TOKENS.c.expires > time.time(), TOKENS.c.person.in_(select(page.c.id)))
        .group_by(TOKENS.c.person)
        .subquery()
    )
    counted = page
    for more in (chats, texts, sessions):
        counted = counted.outerjoin(more, more.c.person == page.c.id)  # type: ignore[assignment]
    counts = (sessions.c.sessions, chats.c.chats, texts.c.messages, texts.c.characters, chats.c.touched)
    rows = connection.execute(select(page, *counts).select_from(counted).order_by(page.c.id)).all()
    members = [
        Member(
            row.id,
            row.name,
            row.role,
            row.console,
            bool(row.disabled),
            row.created,
            row.sessions or 0,
            row.chats or 0,
            row.messages or 0,
            int(row.characters or 0),
            row.touched,
        )
        for row in rows
    ]
    return members[:limit], members[limit - 1].id if len(members) > limit else 0


def totals(connection: Connection) -> dict[str, int]:
    """Counts over all people: those who joined, the suspended, and invitations that are open."""
    people = select(func.count(), func.sum(_P.disabled.cast(_P.id.type))).select_from(PEOPLE)
    joined, suspended = connection.execute(people).one()
    open_ = select(func.coalesce(func.sum(INVITATIONS.c.uses_left), 0)).where(
        INVITATIONS.c.uses_left > 0, INVITATIONS.c.expires > time.time()
    )
    invited = connection.execute(open_).scalar_one()
    return {"joined": joined, "suspended": int(suspended or 0), "invited": int(invited)}
