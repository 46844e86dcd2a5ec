"""All routes of the admin pages, and the way between them."""

from __future__ import annotations

from charter.serve import admin_conduct, admin_entrance, admin_keys, admin_standing, admin_state
from charter.serve.wire.route import Route

ROUTES: tuple[Route, ...] = (
    *admin_entrance.ROUTES,
    *admin_state.ROUTES,
    *admin_keys.ROUTES,
    *admin_conduct.ROUTES,
    *admin_standing.ROUTES,
)
