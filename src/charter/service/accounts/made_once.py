"""Keys by which a batch is made once, however often it is handed in: a client whose connection broke sends the same
again, with the same key, and hears of the batch that there is.

A key is its organisation's, and is remembered for a day, as a digest; so is what was handed in with it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from charter.ground.artifact.errors import CharterError
from charter.service.accounts.tables import BATCHES, MADE_ONCE
from charter.service.web.refusal import NotFound, Refusal
from charter.service.web.tokens import digest_of

LONGEST = 255  # characters of a key
SECONDS = 86_400.0
_M = MADE_ONCE.c


class MadeBefore(CharterError):
    """What was handed in made a batch before; `batch` is its id."""

    def __init__(self, batch: str) -> None:
        super().__init__(f"this made the batch {batch} before")
        self.batch = batch


@dataclass(frozen=True, slots=True)
class Once:
    """Digests of a key and of what is handed in with it."""

    name: str
    body: str


def once(key: str, items: Iterable[tuple[str, str]]) -> Once:
    """A key, and the requests that are handed in with it: custom ids, and params as JSON, whose keys may come in any
    order. Raises Refusal for a key that is none."""
    body = hashlib.sha256()
    for id, params in items:
        # the same bytes as params whose keys are in order, so that what was noted before stays known
        for part in (id, json.dumps(json.loads(params), ensure_ascii=False, sort_keys=True)):
            raw = part.encode(errors="surrogatepass")
            body.update(len(raw).to_bytes(8) + raw)
    return Once(name_of(key), body.hexdigest())


def name_of(key: str) -> str:
    """What is kept of a key. Raises Refusal for one that is empty, too long or not printable."""
    if not 0 < len(key) <= LONGEST or not key.isascii() or not key.isprintable():
        raise Refusal(f"idempotency-key: expected 1 to {LONGEST} printable ASCII characters")
    return digest_of(key)


def is_known(connection: Connection, organisation: str, key: str) -> bool:
    """Whether something was handed in with a key."""
    mine = (_M.organisation == organisation, _M.name == name_of(key), _M.created > time.time() - SECONDS)
    return connection.execute(select(_M.batch).where(*mine)).first() is not None


def claim(connection: Connection, organisation: str, wanted: Once, batch: str, now: float) -> None:
    """Notes that a key makes a batch. The caller is alone (`database.alone`).

    Raises MadeBefore where it made one; Refusal where that was handed in with something else (400), or is still being
    written (409); and NotFound where it was deleted.
    """
    mine = (_M.organisation == organisation, _M.name == wanted.name)
    connection.execute(delete(MADE_ONCE).where(*mine, _M.created <= now - SECONDS))
    found = connection.execute(select(_M.batch, _M.body).where(*mine)).first()
    if found is None:
        row = {"organisation": organisation, "name": wanted.name, "body": wanted.body, "batch": batch}
        connection.execute(MADE_ONCE.insert().values(**row, created=now))
        return
    if found.body != wanted.body:
        raise Refusal(
            "idempotency-key: other requests were handed in with this key; send these with a new key, or the same as "
            "before"
        )
    state = connection.execute(select(BATCHES.c.state).where(BATCHES.c.id == found.batch)).scalar()
    if state is None:
        raise NotFound(f"the batch {found.batch} that this idempotency-key made was deleted; send a new key")
    if state == "arriving":
        raise Refusal("the batch of this idempotency-key is still being written; send it again", 409)
    raise MadeBefore(found.batch)


def release(connection: Connection, batches: Iterable[str]) -> None:
    """Forgets the keys of batches that never came to be."""
    connection.execute(delete(MADE_ONCE).where(_M.batch.in_(list(batches))))
