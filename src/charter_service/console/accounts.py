"""Console pages of organisations and their keys: limits, a monthly cap of tokens, what is used of them, and data."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from starlette.responses import Response, StreamingResponse

from charter_service.accounts import export, keys, organisations
from charter_service.accounts import limits as buckets
from charter_service.api.admin_entrance import TAG, AdminRoutes, Done, Shown, Visit
from charter_service.api.errors import ApiError, api_error, invalid
from charter_service.api.rendering import ADMIN
from charter_service.api.service import Service
from charter_service.api.wire.answers import rfc3339
from charter_service.console.filters import Count, Sent, check_sure, counted, is_sure
from charter_service.console.listing import LIMITS, key_row
from charter_service.web.database import reading, writing

ROUTES = AdminRoutes(TAG)
KEYS, ORGANISATIONS = f"{ADMIN}/keys", f"{ADMIN}/organisations"
ONE = f"{ORGANISATIONS}/{{organisation}}"
SHOWN_MODELS = 20  # of a key, in the audit log
OVERLAP = 24  # hours for which a rotated secret is accepted
TOKEN_DIGITS = 15  # of a monthly cap


class Limits(Sent):
    """Limits in a form; an empty field means the service's default, or an organisation's largest key's."""

    requests_per_minute: Count
    input_tokens_per_minute: Count
    output_tokens_per_minute: Count
    concurrency: Count

    def limits(self) -> keys.KeyLimits:
        """The limits; 0 for an empty field."""
        return keys.KeyLimits(**{name: getattr(self, name) or 0 for name in LIMITS})


class Capped(Limits):
    """Limits of an organisation, with its tokens a month; 0 or empty: no limit."""

    monthly_tokens: Annotated[int | None, counted(TOKEN_DIGITS)]


@ROUTES.page("GET", KEYS, "Keys and organisations")
def keys_page(visit: Visit) -> Shown:
    """All keys by organisation, with forms to create and change them."""
    with reading(visit.service.database) as connection:
        all_keys, owners = keys.list_keys(connection), organisations.list_organisations(connection)
    data = {
        "organisations": [
            {"id": owner.id, "name": owner.name, "created": rfc3339(owner.created), "disabled": owner.disabled}
            for owner in owners
            if owner.name != keys.LOCAL
        ],
        "keys": [key_row(key) for key in all_keys],
        "scopes": list(keys.SCOPES),
        "usual": list(keys.USUAL),
        "defaults": {name: getattr(visit.service.config.limits, name) for name in LIMITS},
        "models": [model.id for model in visit.service.registry.served],
    }
    return Shown("admin_keys", "Keys", data)


@ROUTES.page("POST", KEYS, "Create a key")
def create_key(visit: Visit) -> Done:
    """Creates a key, for an existing or a new organisation; its secret is shown once."""
    form = visit.form
    days = form.number("days")
    if days is not None and not 1 <= days <= 3650:
        raise invalid("days: expected 1 to 3,650, or nothing for a key that never expires", "days")
    _check_scopes(visit, form.many("scopes"))
    limits, models = Limits.of(visit).limits(), [name for name in form.many("models") if name]
    known_models = {model.id for model in visit.service.registry.served}
    if unknown := [name for name in models if name not in known_models]:
        raise invalid(f"models: there is no {unknown[0][:200]}", "models")
    with writing(visit.service.database) as connection:
        id, secret = keys.make_key(
            connection,
            _owner(connection, visit),
            form.text("name"),
            form.many("scopes"),
            expires=None if days is None else time.time() + 86_400 * days,
            models=models,
            limits=limits,
        )
        row = key_row(keys.find_key(connection, id))
        visit.note(connection, "key.create", id, after=key_state(row))
    return _hand_out(visit, row, secret)


def _hand_out(visit: Visit, row: dict[str, Any], secret: str) -> Done:
    """Hands out a secret: to a program at once, to a browser on the next page."""
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
        raise ApiError(403, f"a key with the scope admin is an owner's; the role {visit.role} may not change it")


def _owner(connection: Connection, visit: Visit) -> str:
    """The organisation of a new key: by its id or name, or a new one of that name."""
    form = visit.form
    name_or_id = " ".join((form.text("new_organisation") or form.text("organisation")).split())
    if not name_or_id:
        raise invalid("organisation: choose one, or give a new one's name", "organisation")
    ids = {name: owner.id for owner in organisations.list_organisations(connection) for name in (owner.id, owner.name)}
    return ids[name_or_id] if name_or_id in ids else _new_organisation(connection, visit, name_or_id)


def _new_organisation(connection: Connection, visit: Visit, name: str) -> str:
    id = organisations.make_organisation(connection, name)
    visit.note(connection, "organisation.create", id, after={"name": name})
    return id


@ROUTES.page("GET", f"{KEYS}/made", "A new key's secret, once", "operate")
def made_page(visit: Visit) -> Shown | Response:
    """The secret of a new key, shown only once."""
    secrets = visit.desk.shown.take(visit.owner) if visit.session else []
    if not secrets:
        raise ApiError(
            404, "a key's secret is shown only once, and this one was shown; create another key if it is lost"
        )
    name, organisation, secret = secrets
    return Shown("admin_made", "Your new key", {"key_name": name, "organisation": organisation, "secret": secret})


@ROUTES.page("POST", f"{KEYS}/{{key}}/revoke", "Revoke a key")
def revoke_key(visit: Visit) -> Done:
    """Revokes a key for good."""
    id = visit.part("key")
    if id == visit.caller.key:
        raise ApiError(
            409, "this is the key that you are using; revoke it with another one, or with charter keys revoke"
        )
    try:
        return Done(KEYS, _change(visit, "key.revoke", keys.revoke))
    except DBAPIError as error:
        if not visit.may("own"):  # the change may have failed before it was checked
            with reading(visit.service.database) as connection:
                _check_scopes(visit, key_row(keys.find_key(connection, id))["scopes"])
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
    return Done(KEYS, _change(visit, "key.limits", partial(keys.set_limits, limits=Limits.of(visit).limits())))


@ROUTES.page("POST", f"{KEYS}/{{key}}/rotate", "Give a key a new secret")
def rotate_key(visit: Visit) -> Done:
    """Gives a key a new secret, shown once; the present one is accepted for some hours more."""
    hours, secrets = visit.form.number("hours"), list[str]()

    def work(connection: Connection, key: str) -> None:
        secrets.append(keys.rotate(connection, key, OVERLAP if hours is None else hours))

    return _hand_out(visit, _change(visit, "key.rotate", work), secrets[-1])


def _change(visit: Visit, act: str, change: Callable[[Connection, str], None]) -> dict[str, Any]:
    """A key after a change, which applies from the next request on."""
    id = visit.part("key")

    def work(connection: Connection) -> dict[str, Any]:
        before = key_row(keys.find_key(connection, id))
        _check_scopes(visit, before["scopes"])
        change(connection, id)
        row = key_row(keys.find_key(connection, id))
        visit.note(connection, act, id, key_state(before), key_state(row))
        return row

    changed = visit.service.room.write(work)
    visit.service.keyring.forget(id)
    return changed


@ROUTES.page("GET", ORGANISATIONS, "Organisations")
def organisations_page(visit: Visit) -> Shown:
    """All organisations: their keys, limits, and what they used of this month's cap."""
    with reading(visit.service.database) as connection:
        rows = [
            {**organisation_row(visit.service, organisation), "keys": count}
            for organisation, count in organisations.organisations_with_keys(connection)
            if organisation.name != keys.LOCAL
        ]
    return Shown("admin_organisations", "Organisations", {"organisations": rows})


def organisation_row(service: Service, organisation: organisations.Organisation) -> dict[str, Any]:
    """An organisation as JSON; `used`: tokens of this month."""
    return {
        "id": organisation.id,
        "name": organisation.name,
        "created": rfc3339(organisation.created),
        "disabled": organisation.disabled,
        "limits": asdict(organisation.limits),
        "monthly_tokens": organisation.monthly_tokens,
        "used": service.spending.used(organisation.id),
    }


@ROUTES.page("GET", ONE, "One organisation")
def organisation_page(visit: Visit) -> Shown:
    """One organisation, with forms to change it. Raises NotFound."""
    with reading(visit.service.database) as connection:
        organisation = organisations.organisation_by_id(connection, visit.part("organisation"))
        holds_last_key = not visit.may("own") and keys.opens_admin(connection, organisation.id)
    is_own = holds_last_key or organisation.id == visit.caller.organisation or organisation.name == keys.LOCAL
    data = {"organisation": organisation_row(visit.service, organisation), "own": is_own, "kept": holds_last_key}
    return Shown("admin_organisation", organisation.name, data)


@ROUTES.page("POST", ORGANISATIONS, "Create an organisation")
def create_organisation(visit: Visit) -> Done:
    """Creates an organisation without keys."""
    name = " ".join(visit.form.text("name").split())
    organisation = visit.service.room.write(
        lambda c: organisations.organisation_by_id(c, _new_organisation(c, visit, name))
    )
    return _done_with(visit, organisation)


def _done_with(visit: Visit, organisation: organisations.Organisation) -> Done:
    return Done(f"{ORGANISATIONS}/{organisation.id}", organisation_row(visit.service, organisation))


@ROUTES.page("POST", ONE, "Suspend or restore an organisation")
def switch_organisation(visit: Visit) -> Done:
    """Suspends all keys of an organisation, or restores them."""
    id, disabled = visit.part("organisation"), is_sure(visit, "disabled")
    if id == visit.caller.organisation and disabled:
        raise ApiError(409, "this is the organisation of the key that you are using")

    def work(connection: Connection) -> None:
        before = organisations.organisation_by_id(connection, id)
        visit.check_holder(connection, id)
        organisations.disable_organisation(connection, id, disabled)
        act = "organisation.suspend" if disabled else "organisation.restore"
        visit.note(connection, act, id, {"disabled": before.disabled}, {"disabled": disabled})

    visit.service.room.write(work)
    visit.service.keyring.forget()
    return Done(f"{ORGANISATIONS}/{id}", {"id": id, "disabled": disabled})


@ROUTES.page("POST", f"{ONE}/limits", "Set an organisation's limits")
def limit(visit: Visit) -> Done:
    """Sets what all keys of an organisation may use together, a minute and a month; empty or 0: what its largest key
    may in a minute, and no limit in a month."""
    id, form = visit.part("organisation"), Capped.of(visit)

    def work(connection: Connection) -> organisations.Organisation:
        before = organisations.organisation_by_id(connection, id)
        visit.check_holder(connection, id)
        organisations.limit_organisation(connection, id, form.limits(), form.monthly_tokens or 0)
        after = organisations.organisation_by_id(connection, id)
        states = [{**asdict(state.limits), "monthly_tokens": state.monthly_tokens} for state in (before, after)]
        visit.note(connection, "organisation.limits", id, *states)
        return after

    organisation = visit.service.room.write(work)
    visit.service.keyring.forget()
    return _done_with(visit, organisation)


@ROUTES.page("POST", f"{ONE}/export", "All data of an organisation", "own")
def hand_out(visit: Visit) -> Response:
    """All data of an organisation as lines of JSON, to hand over on request; no secret of a key."""
    id, service = visit.part("organisation"), visit.service
    service.conduct.log.flush()
    service.meter.try_flush()

    def work(connection: Connection) -> None:
        organisations.organisation_by_id(connection, id)
        visit.note(connection, "organisation.export", id)

    service.room.write(work)
    headers = {"content-disposition": f'attachment; filename="{id}.jsonl"'}
    return StreamingResponse(_lines(service, id), media_type="application/x-ndjson", headers=headers)


def _lines(service: Service, organisation: str) -> Iterator[str]:
    with reading(service.database) as connection:
        for table, row in export.organisation_data(connection, organisation):
            yield json.dumps({"table": table, **row}, ensure_ascii=False) + "\n"


@ROUTES.page("POST", f"{ONE}/forget", "Delete an organisation's texts", "own")
def forget(visit: Visit) -> Done:
    """Deletes all texts of an organisation and its users; decisions, which hold no text, stay. The form says
    `sure=yes`."""
    id = visit.part("organisation")
    check_sure(visit)

    def work(connection: Connection) -> dict[str, int]:
        organisations.organisation_by_id(connection, id)
        counts = asdict(export.forget_organisation(connection, id))
        visit.note(connection, "organisation.forget", id, after=counts)
        return counts

    counts = visit.service.room.write(work)
    visit.service.files.clear()
    visit.service.texts.forget(id)
    return Done(f"{ORGANISATIONS}/{id}", {"id": id, **counts})


@ROUTES.page("GET", f"{ADMIN}/limits", "Limits and what is used of them")
def limits_page(visit: Visit) -> Shown:
    """For each organisation and each of its usable keys: the share of each limit that is used now, requests under way,
    and how many were refused for a limit since the server began."""
    service = visit.service
    with reading(service.database) as connection:
        all_keys = keys.list_keys(connection)
    by_organisation = defaultdict[str, list[keys.Key]](list)
    for key in all_keys:
        if key.state() == "usable":
            by_organisation[key.caller.organisation].append(key)
    load = service.admissions.load
    rows = [
        {
            "id": id,
            "name": of[0].organisation,
            "limits": asdict(of[0].caller.shared),
            "monthly_tokens": of[0].caller.monthly_tokens,
            "month": service.spending.used(id),
            **_load(load(id)),
            "keys": [{"id": key.caller.key, "name": key.caller.name, **_load(load(key.caller.key))} for key in of],
        }
        for id, of in sorted(by_organisation.items(), key=lambda item: item[1][0].organisation)
    ]
    return Shown("admin_limits", "Limits", {"organisations": rows})


def _load(load: buckets.Load | None) -> dict[str, Any]:
    """What is used now, as JSON: shares from 0 to 1."""
    load = load or buckets.Load({}, {}, 0, 0, None)
    return {
        "used": {name: round(share, 4) for name, share in load.used.items()},
        "of": dict(load.limits),
        "under_way": load.under_way,
        "refused": load.refused,
        "last_refused": rfc3339(load.last_refused),
    }
