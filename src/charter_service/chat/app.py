"""The web application of the chat: all its routes in one table, served until it is stopped."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route

from charter_service.chat import about, account, files, portable, searching, sharing, talk, temporary_pages
from charter_service.chat.files import AROUND
from charter_service.chat.markdown import COLOURS
from charter_service.chat.service import Service
from charter_service.chat.site import LARGEST, SITE, admin, member
from charter_service.people.export import open_people
from charter_service.web.guard import STATIC, PageGuard
from charter_service.web.listening import log_to_stderr, run_app
from charter_service.web.lock import serve_alone
from charter_service.web.site import Endpoint

ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", "/enter", SITE.enter_page),
    ("POST", "/enter", SITE.enter),
    ("GET", "/join", SITE.join_page),
    ("POST", "/join", SITE.join),
    ("GET", "/join/{token}", SITE.join_page),
    ("POST", "/join/{token}", SITE.join),
    ("GET", "/welcome", member(SITE.welcome)),
    ("POST", "/leave", member(SITE.leave)),
    ("GET", "/", files.drafting(talk.home)),
    ("POST", "/c", files.sending(talk.begin)),
    ("GET", "/c/{id}", files.drafting(talk.talk)),
    ("POST", "/c/{id}", member(talk.change)),
    ("POST", "/draft", member(files.keep_new)),
    ("POST", "/c/{id}/draft", member(files.keep_draft)),
    ("POST", "/c/{id}/messages", files.sending(talk.ask)),
    ("POST", "/c/{id}/tools", member(talk.switch)),
    ("POST", "/c/{id}/delete", member(talk.remove)),
    ("GET", "/removed/{id}", member(talk.removed)),
    ("POST", "/c/{id}/restore", member(talk.restore)),
    ("POST", "/c/{id}/share", member(sharing.share)),
    ("GET", "/c/{id}/shared", member(sharing.shared_page)),
    ("GET", "/c/{id}/export.md", member(portable.as_markdown)),
    ("GET", "/c/{id}/export.json", member(portable.as_json)),
    ("GET", "/temporary", member(temporary_pages.begin_page)),
    ("POST", "/temporary", member(temporary_pages.begin)),
    ("GET", "/temporary/{id}", member(temporary_pages.talk)),
    ("POST", "/temporary/{id}/messages", member(temporary_pages.ask)),
    ("POST", "/temporary/{id}/close", member(temporary_pages.close)),
    ("GET", "/temporary/m/{id}", member(temporary_pages.part)),
    ("GET", "/temporary/m/{id}/events", member(temporary_pages.events)),
    ("POST", "/temporary/m/{id}/stop", member(temporary_pages.stop)),
    ("POST", "/temporary/m/{id}/retry", member(temporary_pages.retry)),
    ("GET", "/m/{id}", member(talk.part)),
    ("GET", "/m/{id}/events", member(talk.events)),
    ("POST", "/m/{id}/retry", member(talk.retry)),
    ("POST", "/m/{id}/continue", member(talk.go_on)),
    ("GET", "/m/{id}/edit", member(talk.edit_form)),
    ("GET", "/m/{id}/rate", member(talk.rate_form)),
    ("POST", "/m/{id}/edit", files.sending(talk.edit)),
    ("POST", "/m/{id}/show", member(talk.choose)),
    ("POST", "/m/{id}/fork", member(talk.fork)),
    ("POST", "/m/{id}/stop", member(talk.stop)),
    ("POST", "/m/{id}/thumb", member(talk.thumb)),
    ("GET", "/m/{id}/appeal", member(talk.appeal_form)),
    ("POST", "/m/{id}/appeal", member(talk.appeal)),
    ("POST", "/files", files.uploading(files.add)),
    ("POST", "/files/count", member(files.tally)),
    ("GET", "/f/{id}", member(files.text_page)),
    ("GET", "/f/{id}/original", member(files.original)),
    ("GET", "/f/{id}/state", member(files.state)),
    ("POST", "/f/{id}/remove", files.uploading(files.remove)),
    ("GET", "/archived", member(talk.archived)),
    ("GET", "/search", member(searching.search_page)),
    ("GET", "/me", member(account.me_page)),
    ("GET", "/me/data.json", member(account.my_data)),
    ("POST", "/me/import", member(account.take_in)),
    ("POST", "/me/appeal", member(account.appeal)),
    ("POST", "/me/forget", member(account.forget_me)),
    ("POST", "/shares/{id}/end", member(sharing.take_back)),
    ("GET", "/s/{token}", sharing.open_share),
    ("POST", "/s/{token}/report", sharing.report_share),
    ("GET", "/people", admin(account.people_page)),
    ("POST", "/people/invite", admin(account.invite_people)),
    ("POST", "/people/{id}/lock", admin(account.lock_out)),
)


def make_app(service: Service) -> PageGuard:
    """The application of a service, inside its guard."""
    routes = [
        *(Route(path, handler, methods=[method]) for method, path, handler in ROUTES),
        Route("/health", SITE.health),
        Route("/limits", about.limits),
        Route("/models", about.models_page),
        Route("/policy", about.policy_page),
        Route("/constitution/{digest}", about.constitution_page),
        # pages hold secrets, whose compressed length could tell them; style and script hold none
        Route(STATIC + "{file}", SITE.static, middleware=[Middleware(GZipMiddleware)]),
    ]
    allowance = service.config.allowance
    largest = LARGEST + AROUND + allowance.a_message * allowance.each  # fewer for what carries no files
    app = SITE.make_app(service, routes, service.running)
    return PageGuard(app, service.by_address, "charter_service.chat", largest, service.config.hosts)


@contextmanager
def people_alone(database: str) -> Iterator[Engine]:
    """A database of people that no other process serves meanwhile. Raises CharterError if it can't be opened or is
    already served."""
    engine = open_people(database)
    try:
        serve_alone(engine)
        yield engine
    finally:
        engine.dispose()


def serve(service: Service, bound: socket.socket, ready: Callable[[], None]) -> None:
    """Serves until a signal stops it; `ready` is called once the service can be reached."""
    log_to_stderr("charter_service.chat")
    if not service.config.log:
        logging.getLogger("charter_service.chat").setLevel(logging.WARNING)
    COLOURS.start()
    run_app(make_app(service), bound, ready, service.config.proxy)
