"""Admin page of limits: what organisations and keys use now, and who was refused."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from typing import Any

from charter_service.accounts.buckets import Load
from charter_service.accounts.keys import Key, list_keys
from charter_service.api.admin_entrance import TAG, AdminRoutes, Shown, Visit
from charter_service.api.rendering import ADMIN
from charter_service.api.wire.times import rfc3339
from charter_service.web.database import reading

ROUTES = AdminRoutes(TAG)


@ROUTES.page("GET", f"{ADMIN}/limits", "Limits and what is used of them")
def limits_page(visit: Visit) -> Shown:
    """For each organisation and each of its usable keys: the share of each limit that is used now, requests under way,
    and how many were refused for a limit since the server began."""
    service = visit.service
    with reading(service.database) as connection:
        keys = list_keys(connection)
    by_organisation = defaultdict[str, list[Key]](list)
    for key in keys:
        if key.state() == "usable":
            by_organisation[key.caller.organisation].append(key)
    rows = []
    for id, its_keys in sorted(by_organisation.items(), key=lambda item: item[1][0].organisation):
        caller = its_keys[0].caller
        rows.append(
            {
                "id": id,
                "name": its_keys[0].organisation,
                "limits": asdict(caller.shared),
                "monthly_tokens": caller.monthly_tokens,
                "month": service.spending.used(id),
                **_load(service.admissions.load(id)),
                "keys": [
                    {
                        "id": key.caller.key,
                        "name": key.caller.name,
                        **_load(service.admissions.load(key.caller.key)),
                    }
                    for key in its_keys
                ],
            }
        )
    return Shown("admin_limits", "Limits", {"organisations": rows})


def _load(load: Load | None) -> dict[str, Any]:
    """What is used now, as JSON: shares from 0 to 1."""
    if load is None:
        load = Load({}, {}, 0, 0, None)
    return {
        "used": {name: round(share, 4) for name, share in load.used.items()},
        "of": dict(load.limits),
        "under_way": load.under_way,
        "refused": load.refused,
        "last_refused": rfc3339(load.last_refused),
    }
