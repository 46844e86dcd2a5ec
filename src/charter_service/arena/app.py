"""The web application: all its routes in one table, and pages for refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from charter.ground.artifact.errors import CharterError
from charter_service.arena import admin, entrance, me, review, talk
from charter_service.arena.rendering import PAGES, page
from charter_service.arena.service import Service
from charter_service.arena.sessions import Serving, written_in
from charter_service.people.visits import COOKIE, NotEntered, TooFast, see, visitor_of, wants_json
from charter_service.people.workers import is_alive
from charter_service.web.page_guard import STATIC, Guard
from charter_service.web.refusal import Refusal

ROUTES: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    ("GET", "/join/{token}", entrance.join_page),
    ("POST", "/join/{token}", entrance.join_here),
    ("GET", "/welcome", entrance.welcome),
    ("GET", "/enter", entrance.enter_page),
    ("POST", "/enter", entrance.enter),
    ("POST", "/leave", entrance.leave),
    ("GET", "/", talk.home),
    ("GET", "/task/{axis}", talk.task_page),
    ("POST", "/task/{axis}/consent", talk.agree),
    ("POST", "/task/{axis}/begin", talk.begin),
    ("GET", "/talk/{id}", talk.talk),
    ("POST", "/talk/{id}/ask", talk.ask),
    ("POST", "/talk/{id}/finish", talk.finish),
    ("POST", "/talk/{id}/stop", talk.stop),
    ("POST", "/talk/{id}/skip", talk.skip),
    ("GET", "/turn/{id}/state", talk.state),
    ("POST", "/turn/{id}/vote", talk.vote),
    ("POST", "/turn/{id}/retry", talk.retry),
    ("GET", "/review", review.review_page),
    ("POST", "/review/{id}", review.review),
    ("POST", "/review/{id}/skip", review.skip_review),
    ("GET", "/me", me.me_page),
    ("GET", "/me/data.json", me.my_data),
    ("POST", "/me/forget", me.forget_me),
    ("GET", "/admin", admin.admin_page),
    ("POST", "/admin/invite", admin.invite_people),
    ("GET", "/admin/invited", admin.invited),
    ("POST", "/admin/people/{id}/disable", admin.lock_out),
    ("POST", "/admin/people/{id}/enable", admin.let_in),
    ("POST", "/admin/people/{id}/break", admin.give_break),
    ("POST", "/admin/people/{id}/forget", admin.forget_person),
    ("GET", "/admin/people/{id}/data.json", admin.data_of_person),
)
NOTHING_HERE = "there is no such page, or it isn't yours"
OUT_OF_ORDER = "something is wrong on our side; try again in a minute"
HEADINGS = {
    401: "Please enter",
    403: "Sorry",
    404: "Nothing here",
    405: "Not this way",
    409: "Out of date",
    413: "Too long",
    415: "Not a form",
    429: "A little slower",
    500: "Out of order",
    503: "Out of order",
}


def make_app(service: Service) -> Guard:
    """The application of a service, inside its guard."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.service = service
    for method, path, handler in ROUTES:
        app.add_api_route(path, handler, methods=[method], response_model=None)
    app.add_api_route("/health", health, methods=["GET"], response_model=None)
    app.add_api_route(STATIC + "{file}", static, methods=["GET"], response_model=None)
    app.add_exception_handler(CharterError, refused)
    app.add_exception_handler(RequestValidationError, not_found)
    app.add_exception_handler(HTTPException, unknown)
    app.add_exception_handler(Exception, failed)
    return Guard(app, service.by_address, "charter_service.arena")


def health(service: Serving) -> JSONResponse:
    """Whether the service can work."""
    alive = is_alive(service.database)
    return JSONResponse({"status": "ok" if alive else "no database"}, 200 if alive else 503)


def static(file: str) -> Response:
    """Style, script and icon."""
    if file not in PAGES.files:
        raise HTTPException(404)
    return Response(PAGES.read(file), media_type=PAGES.files[file])


def refused(request: Request, error: Exception) -> Response:
    """A refusal, in its own words; other errors keep their details from the person."""
    if isinstance(error, NotEntered) and request.method == "GET" and not wants_json(request):
        return see("/enter")
    if not isinstance(error, Refusal):
        return say(request, 503, OUT_OF_ORDER)
    headers = {"retry-after": str(error.seconds)} if isinstance(error, TooFast) else {}
    if error.status == 429 and not headers:
        headers = {"retry-after": "600"}
    return say(request, error.status, str(error), headers)


def not_found(request: Request, _: Exception) -> Response:
    """An address that no route matches."""
    return say(request, 404, NOTHING_HERE)


def unknown(request: Request, error: Exception) -> Response:
    """An address or a method that isn't served."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    words = NOTHING_HERE if status == 404 else "this page doesn't take this kind of request"
    return say(request, status, words, headers)


def failed(request: Request, _: Exception) -> Response:
    """The program failed."""
    return say(request, 500, OUT_OF_ORDER)


def say(request: Request, status: int, words: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as a small page, or as JSON if the request asks for JSON."""
    if wants_json(request):
        return JSONResponse({"error": words}, status, headers=dict(headers or {}))
    service: Service = request.app.state.service
    # the database may be the problem, so it isn't queried
    entered = (
        COOKIE in request.cookies if status >= 500 else visitor_of(request, service.database) is not None
    )
    return page(
        "error",
        status,
        headers,
        name=service.config.name,
        title=HEADINGS.get(status, "That did not work"),
        member=None,
        words=words,
        written=written_in(request),
        entered=entered,
        contact=service.config.contact,
    )
