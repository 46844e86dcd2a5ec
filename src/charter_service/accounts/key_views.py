"""The commands of `charter keys` on a service's database, and their tables. A secret is printed only once, when its key
is created."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.markup import escape
from sqlalchemy import Connection

from charter.ground.artifact.errors import CharterError
from charter.terminal.tables import console, plain_table
from charter_service.accounts.keys import Key, KeyLimits, find_key, list_keys, make_key, set_limits
from charter_service.accounts.keys import revoke as end
from charter_service.accounts.organisations import find_organisation, make_organisation
from charter_service.accounts.store import open_accounts
from charter_service.accounts.usage import COLUMNS, Counts, DayUsage, usage_by_day
from charter_service.web.audit import at_shell, note_act
from charter_service.web.database import shown, writing
from charter_service.web.refusal import NotFound

DAY = 86_400.0
MOST_DAYS = 36_500
SHOWN_DAYS = 30
LIMITS = tuple(field.name for field in fields(KeyLimits))
Numbers = Sequence[int | None]  # in the order of LIMITS; None leaves one as it is


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
        place = shown(connection.engine.url).removeprefix("sqlite:///")
        try:
            organisation = find_organisation(connection, wanted.organisation)
        except NotFound:
            organisation = make_organisation(connection, wanted.organisation)
            after = {"name": wanted.organisation}
            note_act(connection, at_shell(), "organisation.create", organisation, after=after)
        id, secret = make_key(
            connection,
            organisation,
            wanted.name,
            wanted.scopes,
            expires=expires,
            models=wanted.models,
            limits=_changed(KeyLimits(), wanted.limits),
        )
        key = find_key(connection, id)
        note_act(connection, at_shell(), "key.create", id, after=_audited(key))
    if as_json:
        print(json.dumps(_facts(key) | {"secret": secret, "database": place}))
        return
    until = "for good" if key.expires is None else f"until {_day(key.expires)}"
    print(
        f"{id} of {key.organisation} may use {', '.join(key.caller.scopes)} {until}; its secret, shown only once:"
    )
    print(secret)
    if new:
        where = Path(place).absolute()
        print(
            f"charter: {place} is new: the key opens a service started with --database {where}",
            file=sys.stderr,
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
        return
    table = plain_table(
        ("key", "organisation", "name", "ends in", "state", "scopes", "models", "made", "expires", "used")
    )
    for key in keys:
        caller = key.caller
        names = (caller.key, key.organisation, caller.name, key.hint, key.state())
        may = (" ".join(caller.scopes), " ".join(caller.models) or "all")
        table.add_row(
            *(escape(word) for word in (*names, *may)), *map(_day, (key.created, key.expires, key.used))
        )
    console().print(table if keys else "there are no keys; create one with charter keys create")


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
        current = find_key(connection, key).caller.limits
    if as_json:
        print(json.dumps({"id": key, **asdict(current)}))
        return
    for name, number in asdict(current).items():
        print(f"{name.replace('_', ' ')}: {f'{number:,}' if number else 'the default of the service'}")


def usage(
    database: str,
    organisation: str | None,
    key: str | None,
    since: str | None,
    until: str | None,
    as_json: bool,
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
        rows = usage_by_day(connection, first, last, owner, key)
    if as_json:
        print(json.dumps([_row(row) for row in rows]))
        return
    if not rows:
        print(f"nothing was used from {first} to {last}")
        return
    table = plain_table(("day", "organisation", "key", "model"), [name.replace("_", " ") for name in COLUMNS])
    for row in rows:
        names = (row.day, row.organisation, f"{row.name} ({row.key})", row.model)
        table.add_row(*(escape(word) for word in names), *_numbers(row.counts))
    table.add_row("together", "", "", "", *_numbers(sum((row.counts for row in rows), Counts())))
    console().print(table)


def _audited(key: Key) -> dict[str, Any]:
    """What the audit log holds of a key."""
    caller = key.caller
    facts = {"organisation_id": caller.organisation, "scopes": list(caller.scopes), "state": key.state()}
    return {**facts, "limits": asdict(caller.limits), "expires": _time(key.expires)}


def _changed(limits: KeyLimits, numbers: Numbers) -> KeyLimits:
    return replace(limits, **{name: n for name, n in zip(LIMITS, numbers, strict=True) if n is not None})


def _facts(key: Key) -> dict[str, Any]:
    """A key in JSON; times in RFC 3339."""
    caller = key.caller
    return {
        "id": caller.key,
        "organisation": {"id": caller.organisation, "name": key.organisation},
        "name": caller.name,
        "hint": key.hint,
        "state": key.state(),
        "scopes": list(caller.scopes),
        "models": list(caller.models),
        "created": _time(key.created),
        "expires": _time(key.expires),
        "revoked": _time(key.revoked),
        "used": _time(key.used),
        "limits": asdict(caller.limits),
    }


def _row(row: DayUsage) -> dict[str, Any]:
    facts: dict[str, Any] = asdict(row)
    counts: dict[str, Any] = facts.pop("counts")
    return facts | counts


def _numbers(counts: Counts) -> list[str]:
    return [f"{number:,}" for number in asdict(counts).values()]


def _time(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(int(at), UTC).isoformat().replace("+00:00", "Z")


def _day(at: float | None) -> str:
    return "-" if at is None else datetime.fromtimestamp(at, UTC).date().isoformat()


def _read_day(option: str, words: str | None) -> date | None:
    if words is None:
        return None
    try:
        return date.fromisoformat(words)
    except ValueError:
        raise CharterError(f"{option} {words!r} is not a day; write it as 2026-11-26") from None
