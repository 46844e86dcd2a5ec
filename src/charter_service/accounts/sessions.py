"""Sessions of the admin page: a person enters a key with the scope admin once, and a browser's cookie replaces it.

A session is valid as long as its key is: if the key is revoked, expires or loses the scope, its sessions end.
"""

from __future__ import annotations

import time

from sqlalchemy import Connection, delete, select

from charter_service.accounts.keys import Caller, KeyRefused, find_key
from charter_service.accounts.tables import SESSIONS
from charter_service.web.refusal import Refusal
from charter_service.web.tokens import digest_of, new_token

HOURS = 12


def open_session(connection: Connection, caller: Caller) -> str:
    """A new session's token, for a cookie; ended sessions are removed. Raises Refusal without the scope admin."""
    if not caller.may("admin"):
        raise Refusal("this key may not open the admin page; use one with the scope admin", 403)
    token, now = new_token(), time.time()
    connection.execute(delete(SESSIONS).where(SESSIONS.c.expires <= now))
    row = {"digest": digest_of(token), "key": caller.key, "created": now, "expires": now + HOURS * 3_600}
    connection.execute(SESSIONS.insert().values(**row))
    return token


def find_session(connection: Connection, token: str) -> Caller | None:
    """The caller of a session's cookie, or None if it is unknown or its key is no longer valid."""
    query = select(SESSIONS.c.key).where(SESSIONS.c.digest == digest_of(token), SESSIONS.c.expires > time.time())
    if (id := connection.execute(query).scalar()) is None:
        return None
    try:
        caller = find_key(connection, id).usable()
    except KeyRefused:
        return None
    return caller if caller.may("admin") else None


def close_session(connection: Connection, token: str) -> None:
    """Ends a session."""
    connection.execute(delete(SESSIONS).where(SESSIONS.c.digest == digest_of(token)))
