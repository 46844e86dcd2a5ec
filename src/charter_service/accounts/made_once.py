"""Idempotency keys: a batch is created once, however often it is sent. A client whose connection broke sends the same
again, with the same key, and gets the existing batch.

A key belongs to its organisation and is stored for a day, as a digest; so is the body sent with it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from charter.ground.artifact.errors import CharterError
from charter_service.accounts.tables import BATCHES, MADE_ONCE
from charter_service.web.refusal import NotFound, Refusal
from charter_service.web.tokens import digest_of

LONGEST = 255  # characters of a key
SECONDS = 86_400.0
_M = MADE_ONCE.c


class MadeBefore(CharterError):
    """The same body has already created a batch; `batch` is its id."""

    def __init__(self, batch: str) -> None:
        super().__init__(f"this made the batch {batch} before")
        self.batch = batch


@dataclass(frozen=True, slots=True)
class Once:
    """Digests of a key and of the body sent with it."""

    name: str
    body: str


def once(key: str, items: Iterable[tuple[str, str]]) -> Once:
    """A key, and the requests sent with it: custom ids, and params as JSON, whose keys may come in any order. Raises
    Refusal if the key is malformed."""
    body = hashlib.sha256()
    for id, params in items:
        # the same bytes as params whose keys are in order, so that stored digests stay valid
        for part in (id, json.dumps(json.loads(params), ensure_ascii=False, sort_keys=True)):
            raw = part.encode(errors="surrogatepass")
            body.update(len(raw).to_bytes(8) + raw)
    return Once(name_of(key), body.hexdigest())


def name_of(key: str) -> str:
    """The stored digest of a key. Raises Refusal if the key is empty, too long or not printable."""
    if not 0 < len(key) <= LONGEST or not key.isascii() or not key.isprintable():
        raise Refusal(f"idempotency-key: expected 1 to {LONGEST} printable ASCII characters")
    return digest_of(key)


def is_known(connection: Connection, organisation: str, key: str) -> bool:
    """Whether a key was already used."""
    conditions = (_M.organisation == organisation, _M.name == name_of(key), _M.created > time.time() - SECONDS)
    return connection.execute(select(_M.batch).where(*conditions)).first() is not None


def claim(connection: Connection, organisation: str, once: Once, batch: str, now: float) -> None:
    """Stores that a key creates a batch. The caller must be alone (`database.alone`).

    Raises MadeBefore if it already created one; Refusal if it was used with another body (400), or the batch is still
    being written (409); and NotFound if the batch was deleted.
    """
    conditions = (_M.organisation == organisation, _M.name == once.name)
    connection.execute(delete(MADE_ONCE).where(*conditions, _M.created <= now - SECONDS))
    earlier = connection.execute(select(_M.batch, _M.body).where(*conditions)).first()
    if earlier is None:
        row = {"organisation": organisation, "name": once.name, "body": once.body, "batch": batch}
        connection.execute(MADE_ONCE.insert().values(**row, created=now))
        return
    if earlier.body != once.body:
        raise Refusal(
            "idempotency-key: this key was used with other requests; send these with a new key, or send the same "
            "requests as before"
        )
    state = connection.execute(select(BATCHES.c.state).where(BATCHES.c.id == earlier.batch)).scalar()
    if state is None:
        raise NotFound(f"the batch {earlier.batch} of this idempotency-key was deleted; send a new key")
    if state == "arriving":
        raise Refusal("the batch of this idempotency-key is still being written; send it again", 409)
    raise MadeBefore(earlier.batch)


def release(connection: Connection, batches: Iterable[str]) -> None:
    """Deletes the keys of batches that were never completed."""
    connection.execute(delete(MADE_ONCE).where(_M.batch.in_(list(batches))))
