"""Organisations and their keys: the callers and their rights.

A key is a secret of 256 random bits, shown once when it is made; the database keeps its sha256 digest and its last
four characters. An unknown secret, a revoked one, an expired one and one of a disabled organisation all get 401: only
somebody who holds the secret learns which of the last three it is.
"""

from __future__ import annotations

import hmac
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from cachetools import LRUCache
from sqlalchemy import Connection, Engine, Row, Select, or_, select, update

from charter_service.accounts.tables import KEYS, ORGANISATIONS
from charter_service.web.database import alone, reading
from charter_service.web.refusal import NotFound, Refusal
from charter_service.web.tokens import digest_of, new_id, new_token

# admin: the admin page and its API; weights: new weights for a model that takes some; tools: those that the server runs
SCOPES = ("messages", "batches", "feedback", "admin", "weights", "tools")
USUAL = ("messages", "batches", "feedback")  # of a new key
PREFIX = "sk-charter-"
ID_PREFIX = "key_"
HINT = 4
LONGEST_SHOWN = 100  # characters of a wrong id quoted in a message
LOCAL = "local"  # the organisation of callers without a key
MINUTE, HOUR = 60.0, 3_600.0
MOST_OVERLAP = 720.0  # hours for which a rotated secret is accepted
_MOST = 2**31 - 1
_SECRET = re.compile(re.escape(PREFIX) + r"[A-Za-z0-9_-]{43}")
_NO_DIGEST = "none"  # not the hash of any secret
SECONDS = 1.0  # that a keyring caches a key
REMEMBERED = 10_000  # keys of a keyring; the least recently used is dropped first


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """Limits of one key; 0 means the service's default."""

    requests_per_minute: int = 0
    input_tokens_per_minute: int = 0
    output_tokens_per_minute: int = 0
    concurrency: int = 0  # simultaneous requests

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) <= _MOST:
                raise Refusal(f"{field.name} must be a number from 0 (the service's default) to {_MOST}")


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a request: ids of the key and its organisation, the key's name, and its rights. `siblings`: the
    limits of all usable keys of the organisation, each once; empty: only this key's."""

    key: str
    organisation: str
    name: str
    scopes: tuple[str, ...] = USUAL
    models: tuple[str, ...] = ()  # empty: all
    limits: KeyLimits = KeyLimits()
    siblings: tuple[KeyLimits, ...] = ()
    shared: KeyLimits = KeyLimits()  # of all keys of the organisation together; 0: that of its largest key
    monthly_tokens: int = 0  # that the organisation may read and write in a month; 0: no limit

    def may(self, scope: str) -> bool:
        """Whether the key has a scope."""
        return scope in self.scopes

    def may_use(self, model: str) -> bool:
        """Whether the key may use a model, by its id."""
        return not self.models or model in self.models


ANONYMOUS = Caller("key_anonymous", "org_local", "anonymous")  # of a service without keys


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret, for lists. Times are seconds since 1970."""

    caller: Caller
    organisation: str  # its name
    hint: str  # the secret's last characters
    created: float
    expires: float | None
    revoked: float | None
    used: float | None  # to the minute
    disabled: bool  # the organisation is
    former_until: float | None = None  # until when the secret before the last rotation is accepted

    def state(self, now: float | None = None) -> str:
        """usable, revoked, expired or disabled."""
        if self.revoked is not None:
            return "revoked"
        if self.disabled:
            return "disabled"
        if self.expires is not None and self.expires <= (time.time() if now is None else now):
            return "expired"
        return "usable"

    def usable(self) -> Caller:
        """The key's caller. Raises KeyRefused if the key may not be used now."""
        if (state := self.state()) != "usable":
            raise KeyRefused(state)
        return self.caller


class KeyRefused(Refusal):
    """A refused key, 401; `reason` is unknown, id, revoked, expired or disabled."""

    def __init__(self, reason: str) -> None:
        words = {
            "unknown": "the API key is missing, or not one of this service: charter keys create makes one in the "
            "database that this service was started with (--database)",
            "id": f"that is a key's id, not its secret; send the secret, {PREFIX}..., shown when the key was created",
            "revoked": "this API key was revoked; ask for another",
            "expired": "this API key has expired; ask for another",
            "disabled": "the organisation of this API key is disabled; ask the operator of this service",
        }
        super().__init__(words[reason], 401)
        self.reason = reason


def check_organisation(connection: Connection, organisation: str) -> None:
    """Raises NotFound if no organisation has the id."""
    if not connection.execute(select(ORGANISATIONS.c.id).where(ORGANISATIONS.c.id == organisation)).first():
        raise NotFound(f"there is no organisation {organisation}")


def make_key(
    connection: Connection,
    organisation: str,
    name: str,
    scopes: Iterable[str] = USUAL,
    *,
    expires: float | None = None,
    models: Iterable[str] = (),
    limits: KeyLimits = KeyLimits(),
) -> tuple[str, str]:
    """A new key's id and its secret, which afterwards only its owner knows.

    Raises Refusal for unknown scopes and an end in the past, NotFound for an unknown organisation.
    """
    scopes, models = tuple(dict.fromkeys(scopes)), tuple(dict.fromkeys(models))
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        problem = f"there is no scope {unknown[0]!r}" if unknown else "a key needs a scope"
        raise Refusal(f"{problem}; expected some of {', '.join(SCOPES)}")
    if any(not model.isprintable() or len(model.split()) != 1 for model in models):
        raise Refusal("a model's id must be printable and without spaces; name each one separately")
    if expires is not None and not time.time() < expires < float("inf"):
        raise Refusal("the key would already be expired; choose a later end")
    check_organisation(connection, organisation)
    secret, id = PREFIX + new_token(), f"{ID_PREFIX}{new_id()}"
    caller = Caller(id, organisation, checked_name(name, "a key"), scopes, models, limits)
    _insert(connection, caller, digest_of(secret), secret[-HINT:], expires)
    return id, secret


def make_anonymous(connection: Connection) -> Caller:
    """The caller of a service without keys; creates its rows if there are none yet, for others to refer to."""
    alone(connection)
    if connection.execute(select(KEYS.c.id).where(KEYS.c.id == ANONYMOUS.key)).first() is None:
        values = {"id": ANONYMOUS.organisation, "name": LOCAL, "created": time.time(), "disabled": False}
        connection.execute(ORGANISATIONS.insert().values(**values))
        _insert(connection, ANONYMOUS, _NO_DIGEST, "", None)
    return ANONYMOUS


def find_caller(connection: Connection, secret: str) -> Caller:
    """The caller of a secret. Raises KeyRefused."""
    return look_up(connection, secret).usable()


def look_up(connection: Connection, secret: str) -> Key:
    """The key of a secret, usable or not; a text without the form of our secrets is not looked up."""
    if _SECRET.fullmatch(secret):
        digest = digest_of(secret)
        either = or_(KEYS.c.digest == digest, KEYS.c.former == digest)
        row = connection.execute(_keys().where(either)).first()
        if row is not None and hmac.compare_digest(row.digest, digest):
            return _key(row, _siblings(connection, row.organisation))
        if row is not None and hmac.compare_digest(row.former or "", digest):
            key = _key(row, _siblings(connection, row.organisation))
            ends = row.former_until if key.expires is None else min(key.expires, row.former_until)
            return replace(key, expires=ends)
    raise KeyRefused("id" if secret.startswith(ID_PREFIX) else "unknown")


def find_key(connection: Connection, key: str) -> Key:
    """A key by its id. Raises NotFound."""
    row = connection.execute(_keys().where(KEYS.c.id == key)).first()
    if row is None:
        raise _no_key(key)
    return _key(row, _siblings(connection, row.organisation))


def list_keys(connection: Connection, organisation: str | None = None) -> list[Key]:
    """All keys, oldest first, of one organisation (its id) or of all."""
    query = _keys().where(KEYS.c.digest != _NO_DIGEST).order_by(KEYS.c.created, KEYS.c.id)
    if organisation is not None:
        query = query.where(KEYS.c.organisation == organisation)
    return [_key(row) for row in connection.execute(query)]


def opens_admin(connection: Connection, organisation: str) -> bool:
    """Whether an organisation holds a key with the scope admin that is neither revoked nor expired."""
    states = (key.state() for key in list_keys(connection, organisation) if key.caller.may("admin"))
    return any(state in ("usable", "disabled") for state in states)


def revoke(connection: Connection, key: str) -> None:
    """Revokes a key for good; a revoked one stays as it is. Raises NotFound, and Refusal for the anonymous caller."""
    if key == ANONYMOUS.key:
        raise Refusal("this stands for callers without a key and can't be revoked", 409)
    find_key(connection, key)
    ended = update(KEYS).where(KEYS.c.id == key, KEYS.c.revoked.is_(None)).values(revoked=time.time())
    connection.execute(ended)


def rotate(connection: Connection, key: str, hours: float) -> str:
    """A new secret for a key, with the same rights, limits and usage. The present one is accepted for some hours more,
    0 for none; an older one ends at once. Raises NotFound, and Refusal for hours out of range and a key that isn't
    usable."""
    if not 0 <= hours <= MOST_OVERLAP:
        raise Refusal(f"hours: expected a number from 0 to {MOST_OVERLAP:g}")
    alone(connection)
    if (state := find_key(connection, key).state()) != "usable":
        raise Refusal(f"this key is {state}; create another one", 409)
    present = connection.execute(select(KEYS.c.digest).where(KEYS.c.id == key)).scalar_one()
    if present == _NO_DIGEST:
        raise Refusal("this stands for callers without a key and has no secret", 409)
    secret = PREFIX + new_token()
    former = {"former": present, "former_until": time.time() + hours * HOUR} if hours else {}
    _change(
        connection,
        key,
        digest=digest_of(secret),
        hint=secret[-HINT:],
        **{"former": None, "former_until": None, **former},
    )
    return secret


def rename(connection: Connection, key: str, name: str) -> None:
    """Renames a key. Raises NotFound, and Refusal if the name is malformed."""
    _change(connection, key, name=checked_name(name, "a key"))


def set_limits(connection: Connection, key: str, limits: KeyLimits) -> None:
    """Changes a key's limits. Raises NotFound."""
    _change(connection, key, **_limit_columns(limits))


def note_used(connection: Connection, key: str, at: float) -> None:
    """Stores when a key was last used, to the minute: at most one write a minute."""
    minute = at // MINUTE * MINUTE
    older = or_(KEYS.c.used.is_(None), KEYS.c.used < minute)
    connection.execute(update(KEYS).where(KEYS.c.id == key, older).values(used=minute))


def _change(connection: Connection, key: str, **values: Any) -> None:
    if not connection.execute(update(KEYS).where(KEYS.c.id == key).values(**values)).rowcount:
        raise _no_key(key)


def _no_key(key: str) -> NotFound:
    """The error for an unknown id; it doesn't repeat a secret that was given instead."""
    if key.startswith(PREFIX):
        problem = "that is a key's secret, which does not belong in a command"
    else:
        problem = f"there is no key {key[:LONGEST_SHOWN]}"
    return NotFound(f"{problem}; expected its id, {ID_PREFIX}..., as charter keys list shows it")


def _insert(connection: Connection, caller: Caller, digest: str, hint: str, expires: float | None) -> None:
    row = {
        "id": caller.key,
        "organisation": caller.organisation,
        "name": caller.name,
        "digest": digest,
        "hint": hint,
        "scopes": " ".join(caller.scopes),
        "models": " ".join(caller.models),
        "created": time.time(),
        "expires": expires,
    }
    connection.execute(KEYS.insert().values(**row, **_limit_columns(caller.limits)))


def _limit_columns(limits: KeyLimits) -> dict[str, int]:
    return {field.name: getattr(limits, field.name) for field in fields(limits)}


def _keys() -> Select[Any]:
    o = ORGANISATIONS.c
    shared = [o[field.name].label(f"shared_{field.name}") for field in fields(KeyLimits)]
    named = o.name.label("organisation_name")
    return select(KEYS, named, o.disabled, o.monthly_tokens, *shared).join(
        ORGANISATIONS, ORGANISATIONS.c.id == KEYS.c.organisation
    )


def _siblings(connection: Connection, organisation: str) -> tuple[KeyLimits, ...]:
    """The limits of all usable keys of an organisation, each once."""
    columns = [KEYS.c[field.name] for field in fields(KeyLimits)]
    lasts = or_(KEYS.c.expires.is_(None), KEYS.c.expires > time.time())
    usable = (KEYS.c.organisation == organisation, KEYS.c.revoked.is_(None), lasts)
    query = select(*columns).where(*usable).distinct().order_by(*columns)
    return tuple(KeyLimits(*row) for row in connection.execute(query))


def _key(row: Row[Any], siblings: tuple[KeyLimits, ...] = ()) -> Key:
    limits = KeyLimits(**{field.name: getattr(row, field.name) for field in fields(KeyLimits)})
    shared = KeyLimits(**{field.name: getattr(row, f"shared_{field.name}") for field in fields(KeyLimits)})
    scopes, models = tuple(row.scopes.split()), tuple(row.models.split())
    caller = Caller(row.id, row.organisation, row.name, scopes, models, limits, siblings, shared, row.monthly_tokens)
    times = (row.created, row.expires, row.revoked, row.used)
    return Key(caller, row.organisation_name, row.hint, *times, bool(row.disabled), row.former_until)


def checked_name(name: str, whose: str) -> str:
    """A name in one line. Raises Refusal if it is empty, too long or not printable."""
    name = " ".join(name.split())
    if not 0 < len(name) <= 200 or not name.isprintable():
        raise Refusal(f"the name of {whose} must have 1 to 200 printable characters; choose another")
    return name


class Keyring:
    """Finds callers from any thread, and caches each for a second, so that a busy key isn't looked up for each request.

    The second counts from before the key was read: a key revoked by another process stops working a second later, one
    revoked by this process at once. Only usable keys are cached, so that guesses push nothing out.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._clock = engine, clock
        self._lock = threading.Lock()
        self._held: LRUCache[str, tuple[Key, float]] = LRUCache(REMEMBERED)  # by digest, and when it was read
        self._shut = set[str]()  # ids
        self._forgotten = 0  # number of calls of `forget`: keys read before it are not cached after it

    def find_caller(self, secret: str) -> Caller:
        """The caller of a secret. Raises KeyRefused."""
        if (caller := self.remembered(secret)) is not None:
            return caller
        key = self._read(secret, digest_of(secret))
        self.check(key.caller)
        return key.usable()

    def remembered(self, secret: str) -> Caller | None:
        """The caller of a secret if it is cached, without waiting for the database. Raises KeyRefused."""
        digest = digest_of(secret)
        with self._lock:
            key, read_at = self._held.get(digest, (None, 0.0))
            if key is None or self._clock() - read_at >= SECONDS:
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
                held_digest for held_digest, (entry, _) in self._held.items() if key in (None, entry.caller.key)
            ]:
                del self._held[digest]
