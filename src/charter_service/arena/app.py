"""The web application of an arena: all its routes in one table, served until it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from charter_service.arena import admin, talk
from charter_service.arena.service import Service
from charter_service.arena.site import SITE
from charter_service.web.guard import STATIC, PageGuard
from charter_service.web.listening import log_to_stderr, run_app
from charter_service.web.site import Route

admin_only, member = SITE.admin, SITE.member
ROUTES: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    ("GET", "/join/{token}", SITE.join_page),
    ("POST", "/join/{token}", SITE.join),
    ("GET", "/welcome", member(SITE.welcome)),
    ("GET", "/enter", SITE.enter_page),
    ("POST", "/enter", SITE.enter),
    ("POST", "/leave", member(SITE.leave)),
    ("GET", "/", member(talk.home)),
    ("GET", "/task/{axis}", member(talk.task_page)),
    ("POST", "/task/{axis}/consent", member(talk.agree)),
    ("POST", "/task/{axis}/begin", member(talk.begin)),
    ("GET", "/talk/{id}", member(talk.talk)),
    ("POST", "/talk/{id}/ask", member(talk.ask)),
    ("POST", "/talk/{id}/finish", member(talk.finish)),
    ("POST", "/talk/{id}/stop", member(talk.stop)),
    ("POST", "/talk/{id}/skip", member(talk.skip)),
    ("GET", "/turn/{id}/state", member(talk.state)),
    ("POST", "/turn/{id}/vote", member(talk.vote)),
    ("POST", "/turn/{id}/retry", member(talk.retry)),
    ("GET", "/review", member(talk.review_page)),
    ("POST", "/review/{id}", member(talk.review)),
    ("POST", "/review/{id}/skip", member(talk.skip_review)),
    ("GET", "/me", member(talk.me_page)),
    ("GET", "/me/data.json", member(talk.my_data)),
    ("POST", "/me/forget", member(talk.forget_me)),
    ("GET", "/admin", admin_only(admin.admin_page)),
    ("POST", "/admin/invite", admin_only(admin.invite_people)),
    ("GET", "/admin/invited", admin_only(admin.invited)),
    ("POST", "/admin/people/{id}/disable", admin_only(admin.lock_out)),
    ("POST", "/admin/people/{id}/enable", admin_only(admin.let_in)),
    ("POST", "/admin/people/{id}/break", admin_only(admin.give_break)),
    ("POST", "/admin/people/{id}/forget", admin_only(admin.forget_person)),
    ("GET", "/admin/people/{id}/data.json", admin_only(admin.data_of_person)),
)


def make_app(service: Service) -> PageGuard:
    """The application of a service, inside its guard."""
    more = (("GET", "/health", SITE.health), ("GET", STATIC + "{file}", SITE.static))
    app = SITE.make_app(service, (Route(*route) for route in (*ROUTES, *more)))
    return PageGuard(app, service.by_address, "charter_service.arena")


def serve(service: Service, bound: socket.socket, ready: Callable[[], None]) -> bool:
    """Serves until a signal stops it; `ready` is called once the service can be reached. True if no reply was being
    sampled at the end."""
    log_to_stderr("charter_service.arena")
    service.answers.start()
    try:
        run_app(make_app(service), bound, ready, service.config.proxy)
    finally:
        idle = service.answers.close()
        service.database.dispose()
    return idle
