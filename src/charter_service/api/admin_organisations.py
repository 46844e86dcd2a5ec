"""Admin pages of organisations: their state, common limits, a monthly cap of tokens, their data, and its deletion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response, StreamingResponse

from charter_service.accounts.export import forget_organisation, organisation_data
from charter_service.accounts.keys import LOCAL, KeyLimits, opens_admin
from charter_service.accounts.organisations import (
    Organisation,
    disable_organisation,
    limit_organisation,
    make_organisation,
    organisation_by_id,
    organisations_with_keys,
)
from charter_service.api.admin_entrance import TAG, AdminRoutes, Done, Shown, Visit
from charter_service.api.errors import ApiError, invalid
from charter_service.api.rendering import ADMIN
from charter_service.api.service import Service
from charter_service.api.wire.times import rfc3339
from charter_service.web.database import reading

ROUTES = AdminRoutes(TAG)
ORGANISATIONS = f"{ADMIN}/organisations"
ONE = f"{ORGANISATIONS}/{{organisation}}"
LIMITS = tuple(field.name for field in fields(KeyLimits))
SURE = ("yes", "true", "1")
TOKEN_DIGITS = 15  # of a monthly cap


@ROUTES.page("GET", ORGANISATIONS, "Organisations")
def organisations_page(visit: Visit) -> Shown:
    """All organisations: their keys, limits, and what they used of this month's cap."""
    with reading(visit.service.database) as connection:
        rows = [
            {**organisation_row(visit.service, one), "keys": keys}
            for one, keys in organisations_with_keys(connection)
            if one.name != LOCAL
        ]
    return Shown("admin_organisations", "Organisations", {"organisations": rows})


def organisation_row(service: Service, one: Organisation) -> dict[str, Any]:
    """An organisation as JSON; `used`: tokens of this month."""
    return {
        "id": one.id,
        "name": one.name,
        "created": rfc3339(one.created),
        "disabled": one.disabled,
        "limits": asdict(one.limits),
        "monthly_tokens": one.monthly_tokens,
        "used": service.spending.used(one.id),
    }


@ROUTES.page("GET", ONE, "One organisation")
def organisation_page(visit: Visit) -> Shown:
    """One organisation, with forms to change it. Raises NotFound."""
    with reading(visit.service.database) as connection:
        one = organisation_by_id(connection, visit.part("organisation"))
        kept = not visit.may("own") and opens_admin(connection, one.id)
    own = kept or one.id == visit.caller.organisation or one.name == LOCAL
    data = {"organisation": organisation_row(visit.service, one), "own": own, "kept": kept}
    return Shown("admin_organisation", one.name, data)


@ROUTES.page("POST", ORGANISATIONS, "Create an organisation")
def create_organisation(visit: Visit) -> Done:
    """Creates an organisation without keys."""
    name = " ".join(visit.form.text("name").split())

    def work(connection: Connection) -> Organisation:
        id = make_organisation(connection, name)
        visit.note(connection, "organisation.create", id, after={"name": name})
        return organisation_by_id(connection, id)

    one = visit.service.room.write(work)
    return Done(f"{ORGANISATIONS}/{one.id}", organisation_row(visit.service, one))


@ROUTES.page("POST", ONE, "Suspend or restore an organisation")
def switch_organisation(visit: Visit) -> Done:
    """Suspends all keys of an organisation, or restores them."""
    id, disabled = visit.part("organisation"), visit.form.text("disabled") in SURE
    if id == visit.caller.organisation and disabled:
        raise ApiError(409, "this is the organisation of the key that you are using")

    def work(connection: Connection) -> None:
        before = organisation_by_id(connection, id)
        visit.check_holder(connection, id)
        disable_organisation(connection, id, disabled)
        what = "organisation.suspend" if disabled else "organisation.restore"
        visit.note(connection, what, id, {"disabled": before.disabled}, {"disabled": disabled})

    visit.service.room.write(work)
    visit.service.keyring.forget()
    return Done(f"{ORGANISATIONS}/{id}", {"id": id, "disabled": disabled})


@ROUTES.page("POST", f"{ONE}/limits", "Set an organisation's limits")
def limit(visit: Visit) -> Done:
    """Sets what all keys of an organisation may use together, a minute and a month; empty or 0: what its largest key
    may in a minute, and no limit in a month."""
    id, form = visit.part("organisation"), visit.form
    limits = KeyLimits(**{name: form.number(name) or 0 for name in LIMITS})
    tokens = form.number("monthly_tokens", TOKEN_DIGITS) or 0

    def work(connection: Connection) -> Organisation:
        before = organisation_by_id(connection, id)
        visit.check_holder(connection, id)
        limit_organisation(connection, id, limits, tokens)
        after = organisation_by_id(connection, id)
        states = [{**asdict(one.limits), "monthly_tokens": one.monthly_tokens} for one in (before, after)]
        visit.note(connection, "organisation.limits", id, *states)
        return after

    one = visit.service.room.write(work)
    visit.service.keyring.forget()
    return Done(f"{ORGANISATIONS}/{id}", organisation_row(visit.service, one))


@ROUTES.page("POST", f"{ONE}/export", "All data of an organisation", "own")
def export(visit: Visit) -> Response:
    """All data of an organisation as lines of JSON, to hand over on request; no secret of a key."""
    id, service = visit.part("organisation"), visit.service
    service.conduct.log.flush()
    service.meter.try_flush()

    def work(connection: Connection) -> None:
        organisation_by_id(connection, id)
        visit.note(connection, "organisation.export", id)

    service.room.write(work)
    headers = {"content-disposition": f'attachment; filename="{id}.jsonl"'}
    return StreamingResponse(_lines(service, id), media_type="application/x-ndjson", headers=headers)


def _lines(service: Service, organisation: str) -> Iterator[str]:
    with reading(service.database) as connection:
        for table, row in organisation_data(connection, organisation):
            yield json.dumps({"table": table, **row}, ensure_ascii=False) + "\n"


@ROUTES.page("POST", f"{ONE}/forget", "Delete an organisation's texts", "own")
def forget(visit: Visit) -> Done:
    """Deletes all texts of an organisation and its users; decisions, which hold no text, stay. The form says
    `sure=yes`."""
    id = visit.part("organisation")
    if visit.form.text("sure") not in SURE:
        raise invalid("nothing was deleted: tick that you are sure, and send it again", "sure")

    def work(connection: Connection) -> dict[str, int]:
        organisation_by_id(connection, id)
        counts = asdict(forget_organisation(connection, id))
        visit.note(connection, "organisation.forget", id, after=counts)
        return counts

    counts = visit.service.room.write(work)
    visit.service.files.clear()
    visit.service.texts.forget(id)
    return Done(f"{ORGANISATIONS}/{id}", {"id": id, **counts})
