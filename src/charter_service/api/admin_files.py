"""The admin page of files and retention: what organisations store, which uploads were refused, and how long data stays.

Sizes are as the quota counts them.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from charter_service.accounts.files import stored
from charter_service.accounts.organisations import organisation_names
from charter_service.accounts.retention import Keep
from charter_service.api.admin_entrance import TAG, AdminRoutes, Done, Shown, Visit
from charter_service.api.rendering import ADMIN
from charter_service.api.service import MIB
from charter_service.api.wire.times import rfc3339
from charter_service.web.database import reading

ROUTES = AdminRoutes(TAG)
FILES = f"{ADMIN}/files"


@ROUTES.page("GET", FILES, "Files and retention")
def files_page(visit: Visit) -> Shown:
    """What each organisation stores, the largest first; uploads refused since the server began; and the retention."""
    service = visit.service
    with reading(service.database) as connection:
        names, sizes = organisation_names(connection), {one.organisation: one for one in stored(connection)}
    refused = defaultdict[str, dict[str, int]](dict)
    for (organisation, reason), count in sorted(service.files.refused.copy().items()):
        refused[organisation][reason] = count
    rows = [
        {
            "id": id,
            "name": names.get(id, id),
            "files": sizes[id].files if id in sizes else 0,
            "bytes": sizes[id].bytes if id in sizes else 0,
            "refused": refused.get(id, {}),
        }
        for id in (*sizes, *(id for id in refused if id not in sizes))
    ]
    sweep = service.sweeping.last
    data: dict[str, Any] = {
        "organisations": rows,
        "quota": service.config.files.quota_mib * MIB,
        "largest_file": service.config.files.file_mib * MIB,
        "keep": [_setting(service.config.keep, name) for name in Keep.model_fields],
        "swept": rfc3339(sweep.at) if sweep else None,
        "removed": dict(sweep.pieces) if sweep else {},
    }
    return Shown("admin_files", "Files and retention", data)


def _setting(keep: Keep, name: str) -> dict[str, Any]:
    return {"name": name, "what": Keep.model_fields[name].description, "value": getattr(keep, name)}


@ROUTES.page("POST", f"{FILES}/sweep", "Remove old rows now")
def sweep_now(visit: Visit) -> Done:
    """Begins the sweep that else runs once an hour; it goes on beside the service."""
    visit.service.room.write(lambda connection: visit.note(connection, "retention.sweep", ""))
    visit.service.sweeping.begin()
    return Done(FILES, {"begun": True})
