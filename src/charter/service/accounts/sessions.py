"""Sessions of the admin page: a key with the scope admin is given once, and a browser's cookie stands for it a while.

A session is good as long as its key is: one that is revoked, out of date or without the scope ends its sessions.
"""

from __future__ import annotations

import time

from sqlalchemy import Connection, delete, select

from charter.service.accounts.keys import Caller, KeyRefused, find_key
from charter.service.accounts.tables import SESSIONS
from charter.service.web.refusal import Refusal
from charter.service.web.tokens import digest_of, new_token

HOURS = 12


def open_session(connection: Connection, caller: Caller) -> str:
    """A new session's token, for a cookie; sessions that ended are removed. Raises Refusal without the scope admin."""
    if not caller.may("admin"):
        raise Refusal("this key may not open the admin page; it takes one with the scope admin", 403)
    token, now = new_token(), time.time()
    connection.execute(delete(SESSIONS).where(SESSIONS.c.expires <= now))
    row = {"digest": digest_of(token), "key": caller.key, "created": now, "expires": now + HOURS * 3_600}
    connection.execute(SESSIONS.insert().values(**row))
    return token


def find_session(connection: Connection, token: str) -> Caller | None:
    """Whose session a cookie is, or None where it is none, or its key isn't good any more."""
    wanted = select(SESSIONS.c.key).where(
        SESSIONS.c.digest == digest_of(token), SESSIONS.c.expires > time.time()
    )
    if (id := connection.execute(wanted).scalar()) is None:
        return None
    try:
        caller = find_key(connection, id).usable()
    except KeyRefused:
        return None
    return caller if caller.may("admin") else None


def close_session(connection: Connection, token: str) -> None:
    """Ends a session."""
    connection.execute(delete(SESSIONS).where(SESSIONS.c.digest == digest_of(token)))
