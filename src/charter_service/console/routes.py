"""All routes of the console, in the order in which they are tried, and the forms of its listings for templates."""

from __future__ import annotations

from charter_service.api import admin_entrance
from charter_service.api.rendering import PAGES
from charter_service.api.wire.route import Route
from charter_service.console import accounts, audit, conduct, evaluations, members, policy, traffic, workbench

PARTS = (admin_entrance, accounts, traffic, workbench, evaluations, conduct, policy, members, audit)
ROUTES: tuple[Route, ...] = tuple(route for part in PARTS for route in part.ROUTES.all)
FILTERS = (
    *(traffic.RequestFilters, traffic.UsageFilters, traffic.ToolFilters, members.MemberFilters),
    *(conduct.DecisionFilters, conduct.CaseFilters, conduct.ThumbFilters, audit.ActFilters),
)
PAGES.environment.globals["inputs"] = {form.__name__: form.inputs() for form in FILTERS}
