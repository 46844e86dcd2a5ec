"""Callers by their secrets, cached for a second, so that a busy key isn't looked up for each request.

The second counts from before the key was read: a key revoked by another process stops working a second later, one
revoked by this process at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cachetools import LRUCache
from sqlalchemy import Engine

from charter_service.accounts.keys import Caller, Key, KeyRefused, look_up
from charter_service.web.database import reading
from charter_service.web.tokens import digest_of

SECONDS = 1.0  # that a keyring caches a key
REMEMBERED = 10_000  # keys of a keyring; the least recently used is dropped first


class Keyring:
    """Finds callers from any thread. Only usable keys are cached, so that guesses push nothing out."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._clock = engine, clock
        self._lock = threading.Lock()
        self._held: LRUCache[str, tuple[Key, float]] = LRUCache(REMEMBERED)  # by digest, and when it was read
        self._shut = set[str]()  # ids
        self._forgotten = 0  # number of calls of `forget`: keys read before it are not cached after it

    def find_caller(self, secret: str) -> Caller:
        """The caller of a secret. Raises KeyRefused."""
        if (known := self.remembered(secret)) is not None:
            return known
        key = self._read(secret, digest_of(secret))
        self.check(key.caller)
        return key.usable()

    def remembered(self, secret: str) -> Caller | None:
        """The caller of a secret if it is cached, without waiting for the database. Raises KeyRefused."""
        digest = digest_of(secret)
        with self._lock:
            key, read = self._held.get(digest, (None, 0.0))
            if key is None or self._clock() - read >= SECONDS:
                self._held.pop(digest, None)
                return None
        return key.usable()

    def shut(self, key: str) -> None:
        """Refuses a key, by its id, as long as this process lives, whatever the database says: even with a full disk a
        key can be revoked."""
        self._shut.add(key)
        self.forget(key)

    def check(self, caller: Caller) -> None:
        """Raises KeyRefused for a key that `shut` refused."""
        if caller.key in self._shut:
            raise KeyRefused("revoked")

    def _read(self, secret: str, digest: str) -> Key:
        now, times = self._clock(), self._forgotten
        with reading(self._engine) as connection:
            key = look_up(connection, secret)
        with self._lock:
            if times == self._forgotten and key.state() == "usable" and key.caller.key not in self._shut:
                self._held[digest] = (key, now)
        return key

    def forget(self, key: str | None = None) -> None:
        """Drops a key, by its id, or all keys from the cache: after a change that this process committed."""
        with self._lock:
            self._forgotten += 1
            for digest in [
                held for held, (entry, _) in self._held.items() if key in (None, entry.caller.key)
            ]:
                del self._held[digest]
