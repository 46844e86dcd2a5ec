"""Admin pages of organisations and their keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from functools import partial
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from starlette.responses import Response

from charter_service.accounts.keys import (
    LOCAL,
    SCOPES,
    USUAL,
    Key,
    KeyLimits,
    find_key,
    list_keys,
    make_key,
    revoke,
    rotate,
    set_limits,
)
from charter_service.accounts.organisations import list_organisations, make_organisation
from charter_service.api.admin_entrance import TAG, AdminRoutes, Done, Shown, Visit
from charter_service.api.errors import ApiError, api_error, invalid
from charter_service.api.rendering import ADMIN
from charter_service.api.wire.times import rfc3339
from charter_service.web.database import reading, writing
from charter_service.web.forms import Form

ROUTES = AdminRoutes(TAG)
KEYS = f"{ADMIN}/keys"
SHOWN_MODELS = 20  # of a key, in the audit log
OVERLAP = 24  # hours for which a rotated secret is accepted
LIMITS = tuple(field.name for field in fields(KeyLimits))


@ROUTES.page("GET", KEYS, "Keys and organisations")
def keys_page(visit: Visit) -> Shown:
    """All keys by organisation, with forms to create and change them."""
    with reading(visit.service.database) as connection:
        keys, organisations = list_keys(connection), list_organisations(connection)
    data = {
        "organisations": [
            {"id": one.id, "name": one.name, "created": rfc3339(one.created), "disabled": one.disabled}
            for one in organisations
            if one.name != LOCAL
        ],
        "keys": [key_row(key) for key in keys],
        "scopes": list(SCOPES),
        "usual": list(USUAL),
        "defaults": {name: getattr(visit.service.config.limits, name) for name in LIMITS},
        "models": [one.id for one in visit.service.registry.served],
    }
    return Shown("admin_keys", "Keys", data)


def key_row(key: Key) -> dict[str, Any]:
    """A key as JSON, without its secret."""
    caller = key.caller
    return {
        "id": caller.key,
        "name": caller.name,
        "organisation": key.organisation,
        "organisation_id": caller.organisation,
        "hint": key.hint,
        "scopes": list(caller.scopes),
        "models": list(caller.models),
        "limits": asdict(caller.limits),
        "state": key.state(),
        "created": rfc3339(key.created),
        "expires": rfc3339(key.expires),
        "revoked": rfc3339(key.revoked),
        "used": rfc3339(key.used),
        "former_until": rfc3339(key.former_until) if (key.former_until or 0) > time.time() else None,
    }


@ROUTES.page("POST", KEYS, "Create a key")
def create_key(visit: Visit) -> Done:
    """Creates a key, for an existing or a new organisation; its secret is shown once."""
    form = visit.form
    days = form.number("days")
    if days is not None and not 1 <= days <= 3650:
        raise invalid("days: expected 1 to 3,650, or nothing for a key that never expires", "days")
    _check_scopes(visit, form.many("scopes"))
    expires = None if days is None else time.time() + 86_400 * days
    limits, models = limits_of(form), [name for name in form.many("models") if name]
    known = {one.id for one in visit.service.registry.served}
    if unknown := [name for name in models if name not in known]:
        raise invalid(f"models: there is no {unknown[0][:200]}", "models")
    with writing(visit.service.database) as connection:
        owner = _owner(connection, visit)
        id, secret = make_key(
            connection,
            owner,
            form.text("name"),
            form.many("scopes"),
            expires=expires,
            models=models,
            limits=limits,
        )
        row = key_row(find_key(connection, id))
        visit.note(connection, "key.create", id, after=key_state(row))
    if visit.session:
        visit.desk.shown.put(visit.owner, [row["name"], row["organisation"], secret])
    return Done(f"{KEYS}/made", {**row, "secret": secret})


def key_state(row: dict[str, Any]) -> dict[str, Any]:
    """What the audit log holds of a key."""
    state = {name: row[name] for name in ("organisation_id", "scopes", "limits", "state", "expires")}
    return {**state, "models": row["models"][:SHOWN_MODELS], "models_in_all": len(row["models"])}


def _check_scopes(visit: Visit, scopes: Iterable[str]) -> None:
    """Raises ApiError if a visitor who isn't an owner makes or changes a key that opens the admin pages as one."""
    if "admin" in scopes and not visit.may("own"):
        raise ApiError(
            403, f"a key with the scope admin is an owner's; the role {visit.role} may not change it"
        )


def _owner(connection: Connection, visit: Visit) -> str:
    """The organisation of a new key: by its id or name, or a new one of that name."""
    form = visit.form
    wanted = " ".join((form.text("new_organisation") or form.text("organisation")).split())
    if not wanted:
        raise invalid("organisation: choose one, or give a new one's name", "organisation")
    there = {name: one.id for one in list_organisations(connection) for name in (one.id, one.name)}
    if wanted in there:
        return there[wanted]
    id = make_organisation(connection, wanted)
    visit.note(connection, "organisation.create", id, after={"name": wanted})
    return id


def limits_of(form: Form) -> KeyLimits:
    """The limits in a form; an empty field means the service's default."""
    return KeyLimits(**{name: form.number(name) or 0 for name in LIMITS})


@ROUTES.page("GET", f"{KEYS}/made", "A new key's secret, once", "operate")
def made_page(visit: Visit) -> Shown | Response:
    """The secret of a new key, shown only once."""
    secrets = visit.desk.shown.take(visit.owner) if visit.session else []
    if not secrets:
        raise ApiError(
            404, "a key's secret is shown only once, and this one was shown; create another key if it is lost"
        )
    name, organisation, secret = secrets
    return Shown(
        "admin_made", "Your new key", {"key_name": name, "organisation": organisation, "secret": secret}
    )


@ROUTES.page("POST", f"{KEYS}/{{key}}/revoke", "Revoke a key")
def revoke_key(visit: Visit) -> Done:
    """Revokes a key for good."""
    id = visit.part("key")
    if id == visit.caller.key:
        raise ApiError(
            409, "this is the key that you are using; revoke it with another one, or with charter keys revoke"
        )
    try:
        return _change(visit, "key.revoke", id, revoke)
    except DBAPIError as error:
        if not visit.may("own"):  # the change may have failed before it was checked
            with reading(visit.service.database) as connection:
                _check_scopes(visit, key_row(find_key(connection, id))["scopes"])
        visit.service.keyring.shut(id)
        raise ApiError(
            503,
            "the database can't be written, so the key is refused only as long as this server runs; revoke it again "
            "when there is room",
            reason=api_error(error).reason,
        ) from None


@ROUTES.page("POST", f"{KEYS}/{{key}}/limits", "Change a key's limits")
def limit_key(visit: Visit) -> Done:
    """Changes a key's limits."""
    limits = limits_of(visit.form)
    work = partial(set_limits, limits=limits)
    return _change(visit, "key.limits", visit.part("key"), work)


@ROUTES.page("POST", f"{KEYS}/{{key}}/rotate", "Give a key a new secret")
def rotate_key(visit: Visit) -> Done:
    """Gives a key a new secret, shown once; the present one is accepted for some hours more."""
    id, hours = visit.part("key"), visit.form.number("hours")
    secrets = list[str]()

    def work(connection: Connection, key: str) -> None:
        secrets.append(rotate(connection, key, OVERLAP if hours is None else hours))

    row = _change(visit, "key.rotate", id, work).data
    if visit.session:
        visit.desk.shown.put(visit.owner, [row["name"], row["organisation"], secrets[-1]])
    return Done(f"{KEYS}/made", {**row, "secret": secrets[-1]})


def _change(visit: Visit, what: str, id: str, change: Callable[[Connection, str], None]) -> Done:
    """A key after a change, which applies from the next request on."""

    def work(connection: Connection) -> dict[str, Any]:
        before = key_row(find_key(connection, id))
        _check_scopes(visit, before["scopes"])
        change(connection, id)
        row = key_row(find_key(connection, id))
        visit.note(connection, what, id, key_state(before), key_state(row))
        return row

    changed = visit.service.room.write(work)
    visit.service.keyring.forget(id)
    return Done(KEYS, changed)
