"""All routes of the admin pages, and their navigation."""

from __future__ import annotations

from charter.service.api import admin_conduct, admin_entrance, admin_keys, admin_standing, admin_state
from charter.service.api.wire.route import Route

ROUTES: tuple[Route, ...] = (
    *admin_entrance.ROUTES,
    *admin_state.ROUTES,
    *admin_keys.ROUTES,
    *admin_conduct.ROUTES,
    *admin_standing.ROUTES,
)
