"""Organisations: who holds keys, what all keys of one may use together, and how many tokens in a month."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, update

from charter_service.accounts.keys import ANONYMOUS, LOCAL, KeyLimits, checked_name
from charter_service.accounts.tables import KEYS, ORGANISATIONS
from charter_service.web.database import alone
from charter_service.web.refusal import NotFound, Refusal
from charter_service.web.tokens import new_id

MOST_TOKENS = 2**53 - 1  # of a month, exact in JSON
NO_LIMITS = KeyLimits()
_O = ORGANISATIONS.c


def make_organisation(connection: Connection, name: str) -> str:
    """A new organisation's id. Raises Refusal if the name is malformed or taken."""
    name = checked_name(name, "an organisation")
    alone(connection)
    if name == LOCAL or connection.execute(_organisation(name)).first():
        raise Refusal(f"the organisation {name!r} already exists; choose another name", 409)
    id = f"org_{new_id()}"
    connection.execute(ORGANISATIONS.insert().values(id=id, name=name, created=time.time(), disabled=False))
    return id


@dataclass(frozen=True, slots=True)
class Organisation:
    """An organisation; `created`: seconds since 1970."""

    id: str
    name: str
    created: float
    disabled: bool
    limits: KeyLimits = NO_LIMITS  # of all its keys together; 0: that of its largest key
    monthly_tokens: int = 0  # that it may read and write in a month (UTC); 0: no limit


def list_organisations(connection: Connection) -> list[Organisation]:
    """All organisations by name, including that of callers without a key."""
    rows = connection.execute(select(ORGANISATIONS).order_by(ORGANISATIONS.c.name))
    return [_of(row) for row in rows]


def organisations_with_keys(connection: Connection) -> list[tuple[Organisation, int]]:
    """All organisations by name, each with the number of its keys that aren't revoked."""
    keys = (
        select(KEYS.c.organisation, func.count().label("count"))
        .where(KEYS.c.revoked.is_(None))
        .group_by(KEYS.c.organisation)
        .subquery()
    )
    rows = connection.execute(
        select(ORGANISATIONS, func.coalesce(keys.c.count, 0).label("key_count"))
        .outerjoin(keys, keys.c.organisation == _O.id)
        .order_by(_O.name)
    )
    return [(_of(row), int(row.key_count)) for row in rows]


def organisation_by_id(connection: Connection, organisation: str) -> Organisation:
    """An organisation by its id. Raises NotFound."""
    row = connection.execute(select(ORGANISATIONS).where(_O.id == organisation)).first()
    if row is None:
        raise NotFound(f"there is no organisation {organisation[:100]}")
    return _of(row)


def find_organisation(connection: Connection, name: str) -> str:
    """The id of an organisation, by its name. Raises NotFound."""
    id: str | None = connection.execute(_organisation(name)).scalar()
    if id is None:
        raise NotFound(f"there is no organisation {name!r}; charter keys list shows the known ones")
    return id


def organisation_names(connection: Connection) -> dict[str, str]:
    """The names of all organisations by their ids."""
    return {organisation.id: organisation.name for organisation in list_organisations(connection)}


def disable_organisation(connection: Connection, organisation: str, disabled: bool = True) -> None:
    """Disables all keys of an organisation, or enables them again. Raises NotFound."""
    statement = update(ORGANISATIONS).where(ORGANISATIONS.c.id == organisation).values(disabled=disabled)
    if organisation == ANONYMOUS.organisation:
        raise Refusal("this organisation stands for callers without a key and can't be disabled", 409)
    if not connection.execute(statement).rowcount:
        raise NotFound(f"there is no organisation {organisation}")


def limit_organisation(connection: Connection, organisation: str, limits: KeyLimits, monthly_tokens: int = 0) -> None:
    """Sets what all keys of an organisation may use together; 0: what its largest key may in a minute, and no limit in
    a month. Raises NotFound, and Refusal for a number out of range."""
    if not 0 <= monthly_tokens <= MOST_TOKENS:
        raise Refusal(f"monthly_tokens must be a number from 0 (no limit) to {MOST_TOKENS}")
    values = {field.name: getattr(limits, field.name) for field in fields(limits)}
    statement = update(ORGANISATIONS).where(_O.id == organisation)
    if not connection.execute(statement.values(**values, monthly_tokens=monthly_tokens)).rowcount:
        raise NotFound(f"there is no organisation {organisation[:100]}")


def _organisation(name: str) -> Select[Any]:
    return select(_O.id).where(_O.name == checked_name(name, "an organisation"))


def _of(row: Row[Any]) -> Organisation:
    limits = KeyLimits(**{field.name: getattr(row, field.name) for field in fields(KeyLimits)})
    return Organisation(row.id, row.name, row.created, bool(row.disabled), limits, row.monthly_tokens)
