"""The people who work: invitations, accounts, tokens for coming back, console roles, consent, each person's data.

An invitation is a link with a token; joining gives a key that its owner keeps, and a session to the browser. All three
are random and stored as digests. A person's data can be exported and deleted on request.

A console role is a set of rights on the admin pages:

| right | what it opens |
|--|--|
| read | figures, lists and states, without any text |
| review | decisions, cases, the text of flagged requests, standings |
| operate | keys, limits, organisations, models, engines, tools, files, evaluation runs, the policy |
| own | people and roles, forgetting, exports |
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Engine, Row, Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from charter_service.people.tables import (
    CONSENTS,
    CONVERSATIONS,
    EVENTS,
    INVITATIONS,
    PEOPLE,
    REVIEWS,
    TOKENS,
    TURNS,
    VOTES,
)
from charter_service.web.database import reading, writing
from charter_service.web.refusal import NotFound, Refusal
from charter_service.web.tokens import digest_of, new_token

Right = Literal["read", "review", "operate", "own"]
RIGHTS: tuple[Right, ...] = get_args(Right)
OWNER = "owner"
NOBODY = ""  # the console role of somebody who may not open the admin pages
CONSOLE_ROLES: Mapping[str, frozenset[str]] = {
    OWNER: frozenset(RIGHTS),
    "operator": frozenset({"read", "operate"}),
    "reviewer": frozenset({"read", "review"}),
    "analyst": frozenset({"read"}),
}
ROLES = ("member", "worker", "reviewer", "admin")
DAY = 86_400.0
SESSION_DAYS = 7
_NAME = re.compile(r"[^\W_](?:[\w .'-]{0,38}[\w.])?")


def allows(role: str, right: str) -> bool:
    """Whether a console role has a right; an unknown role has none."""
    return right in CONSOLE_ROLES.get(role, frozenset())


def check_console_role(role: str) -> None:
    """Raises Refusal for a console role that doesn't exist."""
    if role not in CONSOLE_ROLES:
        raise Refusal(f"there is no console role {role[:100]!r}; expected one of {', '.join(CONSOLE_ROLES)}")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who works here, or, as a member, only chats. An admin may do what all others may."""

    id: int
    name: str
    role: str
    simulated: bool
    quota: int
    console: str = NOBODY  # role on the admin pages

    def may(self, role: str) -> bool:
        """Whether the person has a role."""
        return self.role in (role, "admin")


def invite(
    connection: Connection,
    role: str,
    *,
    uses: int = 1,
    quota: int = 0,
    days: float = 30,
    simulated: bool = False,
    console: str = NOBODY,
) -> str:
    """A new invitation's token; `console`: the role on the admin pages. Raises Refusal for a role that doesn't
    exist."""
    if role not in ROLES:
        raise Refusal(f"there is no role {role!r}; expected one of {', '.join(ROLES)}")
    if console != NOBODY:
        check_console_role(console)
    token, now = new_token(), time.time()
    row = {"digest": digest_of(token), "role": role, "simulated": simulated, "quota": quota}
    row["console"] = console
    connection.execute(insert(INVITATIONS).values(**row, uses_left=uses, created=now, expires=now + days * DAY))
    note(connection, None, "invited", f"{uses} as {role}")
    return token


def first_invitation(database: Engine) -> str | None:
    """An invitation for an admin, who owns the admin pages too, if nobody has joined yet, else None."""
    with writing(database) as connection:
        if connection.execute(select(func.count()).select_from(PEOPLE)).scalar_one():
            return None
        return invite(connection, "admin", console=OWNER)


def is_alive(database: Engine) -> bool:
    """Whether the database answers."""
    try:
        with reading(database) as connection:
            connection.execute(select(PEOPLE.c.id).limit(1)).first()
    except Exception:
        return False
    return True


def invitation_of(connection: Connection, token: str) -> Row[Any]:
    """The invitation behind a token, locked. Raises Refusal if it is unknown, used up or expired."""
    query = select(INVITATIONS).where(INVITATIONS.c.digest == digest_of(token)).with_for_update()
    row = connection.execute(query).first()
    if row is None or row.uses_left < 1 or row.expires < time.time():
        raise Refusal("this invitation is unknown, used up or expired; ask for a new one", 403)
    return row


def join(connection: Connection, token: str, name: str) -> tuple[Person, str]:
    """Adds an invited person; returns the person and their key, which is shown only once.

    Raises Refusal if the invitation isn't valid, or the name is malformed or taken.
    """
    name = " ".join(name.split())
    if not _NAME.fullmatch(name):
        raise Refusal("a name has 1 to 40 letters, digits, spaces, dots, hyphens or apostrophes; choose another")
    invitation = invitation_of(connection, token)
    if connection.execute(select(PEOPLE.c.id).where(func.lower(PEOPLE.c.name) == name.lower())).first():
        raise Refusal("that name is taken; choose another", 409)
    facts = {
        "name": name,
        "role": invitation.role,
        "simulated": invitation.simulated,
        "quota": invitation.quota,
        "console": invitation.console,
    }
    try:
        inserted = connection.execute(insert(PEOPLE).values(**facts, disabled=False, created=time.time()))
    except IntegrityError:
        raise Refusal("that name is taken; choose another", 409) from None
    uses_left = invitation.uses_left - 1
    connection.execute(update(INVITATIONS).where(INVITATIONS.c.digest == invitation.digest).values(uses_left=uses_left))
    assert inserted.inserted_primary_key is not None
    person = Person(int(inserted.inserted_primary_key[0]), **facts)
    note(connection, person.id, "joined", invitation.role)
    return person, _token(connection, person.id, "key", None)


def open_session(connection: Connection, person: int) -> str:
    """A new session's token, for a browser's cookie."""
    return _token(connection, person, "session", time.time() + SESSION_DAYS * DAY)


def come_back(connection: Connection, key: str) -> Person:
    """The person of a key. Raises Refusal if the key is unknown or its owner is disabled."""
    person = _person_by(connection, key, "key")
    if person is None:
        raise Refusal("this key is unknown, or its owner is no longer allowed to work here; ask for an invitation", 403)
    return person


def person_of(connection: Connection, session: str) -> Person | None:
    """The person of a session cookie, or None."""
    return _person_by(connection, session, "session")


def close_sessions(connection: Connection, person: int) -> int:
    """Ends all sessions of a person, in all browsers; returns their number."""
    deletion = delete(TOKENS).where(TOKENS.c.person == person, TOKENS.c.kind == "session")
    return connection.execute(deletion).rowcount


def close_session(connection: Connection, session: str) -> None:
    """Ends a session."""
    connection.execute(delete(TOKENS).where(TOKENS.c.digest == digest_of(session), TOKENS.c.kind == "session"))


def consent(connection: Connection, person: int, task: str, version: str) -> None:
    """Stores that a person agreed to the words of a task; agreeing twice changes nothing."""
    _lock(connection, person)
    if not consented(connection, person, task, version):
        connection.execute(insert(CONSENTS).values(person=person, task=task, version=version, at=time.time()))


def consented(connection: Connection, person: int, task: str, version: str) -> bool:
    """Whether a person agreed to these very words."""
    query = select(CONSENTS.c.at).where(
        CONSENTS.c.person == person, CONSENTS.c.task == task, CONSENTS.c.version == version
    )
    return connection.execute(query).first() is not None


def disable(connection: Connection, person: int, disabled: bool = True) -> None:
    """Disables a person, or enables them again; their answers stay. Raises NotFound."""
    if not connection.execute(update(PEOPLE).where(PEOPLE.c.id == person).values(disabled=disabled)).rowcount:
        raise NotFound
    if disabled:
        close_sessions(connection, person)
    note(connection, person, "disabled" if disabled else "enabled")


def renew_key(connection: Connection, person: int) -> str:
    """A new key for somebody who lost theirs; the old one and all sessions end. Raises NotFound."""
    if connection.execute(select(PEOPLE.c.id).where(PEOPLE.c.id == person)).first() is None:
        raise NotFound
    connection.execute(delete(TOKENS).where(TOKENS.c.person == person))
    note(connection, person, "new key")
    return _token(connection, person, "key", None)


def forget(connection: Connection, person: int) -> None:
    """Deletes a person with all their data. Raises NotFound. Earlier exports stay as they are."""
    if not connection.execute(delete(PEOPLE).where(PEOPLE.c.id == person)).rowcount:
        raise NotFound
    note(connection, None, "forgot a person")
    connection.execute(update(EVENTS).where(EVENTS.c.person == person).values(person=None))


def data_of(connection: Connection, person: int) -> dict[str, Any]:
    """All data of one person, for that person: what they wrote, chose and reviewed. It leaves out models' names, other
    people's work, technical errors, and which questions were a test. Raises NotFound."""
    row = connection.execute(select(PEOPLE).where(PEOPLE.c.id == person)).first()
    if row is None:
        raise NotFound
    rows = {name: _rows(connection, query) for name, query in given_by(person)}
    return {"person": dict(row._mapping), **rows}


def given_by(person: int) -> list[tuple[str, Select[Any]]]:
    """Which rows `data_of` tells of a person beside the person's own, by name."""
    conversations = select(CONVERSATIONS.c.id).where(CONVERSATIONS.c.person == person)
    talks = [c for c in CONVERSATIONS.c if c.name not in ("kind", "source")]
    columns = [c for c in TURNS.c if c.name not in ("model_a", "model_b", "nonce", "seed", "problem")]
    verdicts = [c for c in REVIEWS.c if c.name != "nonce"]
    return [
        ("consents", select(CONSENTS).where(CONSENTS.c.person == person)),
        ("conversations", select(*talks).where(CONVERSATIONS.c.person == person)),
        ("turns", select(*columns).where(TURNS.c.conversation.in_(conversations))),
        ("votes", select(VOTES).where(VOTES.c.person == person)),
        ("reviews", select(*verdicts).where(REVIEWS.c.person == person)),
        ("events", select(EVENTS).where(EVENTS.c.person == person)),
    ]


def lock(connection: Connection, person: Person) -> None:
    """Makes other actions of the same person wait, so that limits and claims count once."""
    _lock(connection, person.id)


def find_person(connection: Connection, name: str) -> Person:
    """The person of a name. Raises NotFound."""
    row = connection.execute(select(PEOPLE).where(func.lower(PEOPLE.c.name) == name.strip().lower())).first()
    if row is None:
        raise NotFound(f"there is nobody called {name!r} here")
    return _person(row)


def note(connection: Connection, person: int | None, what: str, detail: str = "") -> None:
    """Stores who did what and when, without any text."""
    connection.execute(insert(EVENTS).values(at=time.time(), person=person, what=what, detail=detail[:200]))


def _lock(connection: Connection, person: int) -> None:
    connection.execute(select(PEOPLE.c.id).where(PEOPLE.c.id == person).with_for_update())


def _token(connection: Connection, person: int, kind: str, expires: float | None) -> str:
    token = new_token()
    row = {"digest": digest_of(token), "person": person, "kind": kind, "created": time.time(), "expires": expires}
    connection.execute(insert(TOKENS).values(**row))
    return token


def _person_by(connection: Connection, token: str, kind: str) -> Person | None:
    row = connection.execute(
        select(PEOPLE, TOKENS.c.expires)
        .join(TOKENS, TOKENS.c.person == PEOPLE.c.id)
        .where(TOKENS.c.digest == digest_of(token), TOKENS.c.kind == kind, PEOPLE.c.disabled.is_(False))
    ).first()
    if row is None or (row.expires is not None and row.expires < time.time()):
        return None
    return _person(row)


def _person(row: Row[Any]) -> Person:
    return Person(row.id, row.name, row.role, bool(row.simulated), row.quota, row.console)


def _rows(connection: Connection, query: Select[Any]) -> Iterable[dict[str, Any]]:
    return [dict(row._mapping) for row in connection.execute(query)]
