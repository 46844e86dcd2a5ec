"""The web application of the chat: all its routes in one table, and pages for refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from charter.ground.artifact.errors import CharterError
from charter_service.chat import (
    about,
    account,
    drafts,
    entrance,
    file_pages,
    files,
    judging,
    portable,
    searching,
    sharing,
    talk,
    temporary_pages,
    tool_switches,
)
from charter_service.chat.files import AROUND
from charter_service.chat.service import Service
from charter_service.chat.visit import LARGEST, PAGES, admin, member, plain
from charter_service.people.visits import COOKIE, NotEntered, TooFast, see, wants_json
from charter_service.people.workers import is_alive
from charter_service.web.forms import Form
from charter_service.web.page_guard import STATIC, Guard
from charter_service.web.refusal import Refusal

Endpoint = Callable[[Request], Awaitable[Response]]
ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", "/enter", entrance.enter_page),
    ("POST", "/enter", entrance.enter),
    ("GET", "/join", entrance.join_page),
    ("POST", "/join", entrance.join_here),
    ("GET", "/join/{token}", entrance.join_page),
    ("POST", "/join/{token}", entrance.join_here),
    ("GET", "/welcome", member(entrance.welcome)),
    ("POST", "/leave", member(entrance.leave)),
    ("GET", "/", files.drafting(talk.home)),
    ("POST", "/c", files.sending(talk.begin)),
    ("GET", "/c/{id}", files.drafting(talk.talk)),
    ("POST", "/c/{id}", member(talk.change)),
    ("POST", "/draft", member(drafts.keep_new)),
    ("POST", "/c/{id}/draft", member(drafts.keep_draft)),
    ("POST", "/c/{id}/messages", files.sending(talk.ask)),
    ("POST", "/c/{id}/tools", member(tool_switches.switch)),
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
    ("POST", "/m/{id}/thumb", member(judging.thumb)),
    ("GET", "/m/{id}/appeal", member(talk.appeal_form)),
    ("POST", "/m/{id}/appeal", member(judging.appeal)),
    ("POST", "/files", files.uploading(files.add)),
    ("POST", "/files/count", member(files.tally)),
    ("GET", "/f/{id}", member(file_pages.text_page)),
    ("GET", "/f/{id}/original", member(file_pages.original)),
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
NOTHING_HERE = "there is no such page, or it isn't yours"
OUT_OF_ORDER = "something is wrong on our side; try again in a minute"
HEADINGS = {
    401: "Please sign in",
    403: "Sorry",
    404: "Nothing here",
    409: "Out of date",
    413: "Too long",
    429: "A little slower",
    500: "Out of order",
    503: "Out of order",
}


def make_app(service: Service) -> Guard:
    """The application of a service, inside its guard."""

    @asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = Starlette(
        routes=[
            *(Route(path, handler, methods=[method]) for method, path, handler in ROUTES),
            Route("/health", health),
            Route("/limits", about.limits),
            Route("/models", about.models_page),
            Route("/policy", about.policy_page),
            Route("/constitution/{digest}", about.constitution_page),
            # pages hold secrets, whose compressed length could tell them; style and script hold none
            Route(STATIC + "{file}", static, middleware=[Middleware(GZipMiddleware)]),
        ],
        exception_handlers={CharterError: refused, HTTPException: unknown, Exception: failed},
        lifespan=running,
    )
    app.router.redirect_slashes = False
    app.state.service = service
    allowance = service.config.allowance
    largest = LARGEST + AROUND + allowance.a_message * allowance.each  # fewer for what carries no files
    return Guard(app, service.by_address, "charter_service.chat", largest, service.config.hosts)


async def health(request: Request) -> Response:
    """Whether the service can work."""
    service: Service = request.app.state.service
    alive = await run_in_threadpool(is_alive, service.database)
    state = "no database" if not alive else "ok"
    return JSONResponse({"status": state, "api": service.away or "ok"}, 200 if alive else 503)


async def static(request: Request) -> Response:
    """Style, script and icon."""
    file = request.path_params["file"]
    if file not in PAGES.files:
        raise HTTPException(404)
    return Response(PAGES.read(file), media_type=PAGES.files[file])


async def refused(request: Request, error: Exception) -> Response:
    """A refusal, in its own words; other errors keep their details from the person."""
    if isinstance(error, NotEntered) and request.method == "GET" and not _wants_data(request):
        return see("/enter")
    if not isinstance(error, Refusal):
        return say(request, 503, OUT_OF_ORDER)
    headers = {"retry-after": str(error.seconds)} if isinstance(error, TooFast) else {}
    return say(request, error.status, str(error), headers)


def _wants_data(request: Request) -> bool:
    """Whether a program asks: for JSON, or for the events of a reply."""
    return wants_json(request) or "text/event-stream" in request.headers.get("accept", "")


async def unknown(request: Request, error: Exception) -> Response:
    """An address or a method that isn't served."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    words = NOTHING_HERE if status == 404 else "this page doesn't take this kind of request"
    return say(request, status, words, headers)


async def failed(request: Request, _: Exception) -> Response:
    """The program failed."""
    return say(request, 500, OUT_OF_ORDER)


def say(request: Request, status: int, words: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as a small page, or as JSON if the request asks for JSON."""
    if _wants_data(request):
        return JSONResponse({"error": words}, status, headers=dict(headers or {}))
    form: Form = getattr(request.state, "form", Form())
    answer = plain(
        request.app.state.service,
        "error",
        HEADINGS.get(status, "That did not work"),
        status,
        words=words,
        written=form.text("text") or form.text("words"),
        entered=COOKIE in request.cookies,
    )
    answer.headers.update(headers or {})
    return answer
