"""The commands of `charter keys` on a service's database. A secret is printed only once, when its key is created."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from charter.ground.artifact.errors import CharterError
from charter_service.accounts.keys import Key, KeyLimits, find_key, list_keys, make_key, set_limits
from charter_service.accounts.keys import revoke as end
from charter_service.accounts.organisations import find_organisation, make_organisation
from charter_service.accounts.store import open_accounts
from charter_service.accounts.usage import COLUMNS, Counts, usage_by_day
from charter_service.console.listing import LIMITS, Listing, Row, day, key_row, usage_row
from charter_service.web.audit import at_shell, note_act
from charter_service.web.database import without_password, writing
from charter_service.web.refusal import NotFound

DAY = 86_400.0
MOST_DAYS = 36_500
SHOWN_DAYS = 30
Numbers = Sequence[int | None]  # in the order of LIMITS; None leaves one as it is


def _day_of(name: str) -> Callable[[Row], str]:
    return lambda row: str(row[name])[:10] if row[name] else "-"


def _count_of(name: str) -> Callable[[Row], str]:
    return lambda row: f"{row[name]:,}"


KEYS = Listing(
    "there are no keys; create one with charter keys create",
    {
        "key": "id",
        "organisation": "organisation",
        "name": "name",
        "ends in": "hint",
        "state": "state",
        "scopes": lambda row: " ".join(row["scopes"]),
        "models": lambda row: " ".join(row["models"]) or "all",
        "made": _day_of("created"),
        "expires": _day_of("expires"),
        "used": _day_of("used"),
    },
)
USAGE = Listing(
    "nothing was used",
    {
        "day": "day",
        "organisation": "organisation",
        "key": lambda row: f"{row['name']} ({row['key']})" if row["key"] else "",
        "model": "model",
    },
    {name.replace("_", " "): _count_of(name) for name in COLUMNS},
)


@dataclass(frozen=True)
class Wanted:
    """A key to create."""

    organisation: str
    name: str
    scopes: tuple[str, ...]
    models: tuple[str, ...]
    days: float | None
    limits: Numbers


@contextmanager
def _opened(database: str, new: bool = False) -> Iterator[Connection]:
    engine = open_accounts(database, new=new)
    try:
        with writing(engine) as connection:
            yield connection
    finally:
        engine.dispose()


def create(database: str, wanted: Wanted, as_json: bool) -> None:
    """Creates a key, and its organisation if it is new; prints the secret."""
    days = wanted.days
    if days is not None and not (math.isfinite(days) and 0 < days <= MOST_DAYS):
        raise CharterError(f"--expires-days must be a number over 0 and up to {MOST_DAYS:,}")
    expires = None if days is None else time.time() + days * DAY
    new = _is_new(database)
    with _opened(database, new=True) as connection:
        place = without_password(connection.engine.url).removeprefix("sqlite:///")
        try:
            organisation = find_organisation(connection, wanted.organisation)
        except NotFound:
            organisation = make_organisation(connection, wanted.organisation)
            after = {"name": wanted.organisation}
            note_act(connection, at_shell(), "organisation.create", organisation, after=after)
        limits = _changed(KeyLimits(), wanted.limits)
        id, secret = make_key(
            connection, organisation, wanted.name, wanted.scopes, expires=expires, models=wanted.models, limits=limits
        )
        key = find_key(connection, id)
        note_act(connection, at_shell(), "key.create", id, after=_audited(key))
    if as_json:
        print(json.dumps(_facts(key) | {"secret": secret, "database": place}))
        return
    until = "for good" if key.expires is None else f"until {day(key.expires)}"
    print(f"{id} of {key.organisation} may use {', '.join(key.caller.scopes)} {until}; its secret, shown only once:")
    print(secret)
    if new:
        database_file = Path(place).absolute()
        print(
            f"charter: {place} is new: the key opens a service started with --database {database_file}", file=sys.stderr
        )


def _is_new(database: str) -> bool:
    """Whether opening a database will make its file."""
    file = database.removeprefix("sqlite:///")
    return "://" not in file and not Path(file).expanduser().exists()


def show(database: str, organisation: str | None, as_json: bool) -> None:
    """Prints all keys, or an organisation's."""
    with _opened(database) as connection:
        owner = None if organisation is None else find_organisation(connection, organisation)
        keys = list_keys(connection, owner)
    if as_json:
        print(json.dumps([_facts(key) for key in keys]))
    else:
        KEYS.show([key_row(key) for key in keys])


def revoke(database: str, keys: Sequence[str], as_json: bool) -> None:
    """Revokes keys, all or none."""
    with _opened(database) as connection:
        for key in keys:
            before = _audited(find_key(connection, key))
            end(connection, key)
            note_act(connection, at_shell(), "key.revoke", key, before, _audited(find_key(connection, key)))
        revoked = [find_key(connection, key) for key in keys]
    if as_json:
        print(json.dumps([_facts(key) for key in revoked]))
        return
    for ended in revoked:
        print(f"{ended.caller.key} of {ended.organisation} is revoked")


def limits(database: str, key: str, numbers: Numbers, as_json: bool) -> None:
    """Prints a key's limits, after changing those in `numbers`."""
    with _opened(database) as connection:
        if any(number is not None for number in numbers):
            before = find_key(connection, key)
            set_limits(connection, key, _changed(before.caller.limits, numbers))
            after = _audited(find_key(connection, key))
            note_act(connection, at_shell(), "key.limits", key, _audited(before), after)
        current = asdict(find_key(connection, key).caller.limits)
    if as_json:
        print(json.dumps({"id": key, **current}))
        return
    for name, number in current.items():
        print(f"{name.replace('_', ' ')}: {f'{number:,}' if number else 'the default of the service'}")


def usage(
    database: str, organisation: str | None, key: str | None, since: str | None, until: str | None, as_json: bool
) -> None:
    """Prints usage by day, of an organisation (its name) or a key (its id) if one is named."""
    last = _read_day("--until", until) or datetime.now(UTC).date()
    first = _read_day("--since", since) or last - timedelta(SHOWN_DAYS)
    if first > last:
        raise CharterError(f"--since {first} is after --until {last}; swap them")
    with _opened(database) as connection:
        owner = None if organisation is None else find_organisation(connection, organisation)
        if key is not None:
            find_key(connection, key)
        used = usage_by_day(connection, first, last, owner, key)
    rows = [usage_row(row) for row in used]
    if as_json:
        print(json.dumps(rows))
    elif rows:
        together = asdict(sum((row.counts for row in used), Counts()))
        USAGE.show([*rows, {"day": "together", "organisation": "", "key": "", "model": "", **together}])
    else:
        print(f"{USAGE.none} from {first} to {last}")


def _audited(key: Key) -> dict[str, Any]:
    """What the audit log holds of a key."""
    row = key_row(key)
    return {name: row[name] for name in ("organisation_id", "scopes", "state", "limits", "expires")}


def _changed(limits: KeyLimits, numbers: Numbers) -> KeyLimits:
    return replace(limits, **{name: n for name, n in zip(LIMITS, numbers, strict=True) if n is not None})


def _facts(key: Key) -> dict[str, Any]:
    """A key in JSON, with its organisation as an object."""
    row = key_row(key)
    owner = {"id": row.pop("organisation_id"), "name": row.pop("organisation")}
    del row["former_until"]
    order = ("id", "name", "hint", "state", "scopes", "models", "created", "expires", "revoked", "used", "limits")
    return {"id": row["id"], "organisation": owner, **{name: row[name] for name in order}}


def _read_day(option: str, words: str | None) -> date | None:
    if words is None:
        return None
    try:
        return date.fromisoformat(words)
    except ValueError:
        raise CharterError(f"{option} {words!r} is not a day; write it as 2026-11-26") from None
