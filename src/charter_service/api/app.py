"""The web application: all routes, their documentation, and answers for refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.routing import Route as StarletteRoute

from charter.ground.artifact.errors import CharterError
from charter_service.api import feedback, index, operation
from charter_service.api.addresses import suggest_address
from charter_service.api.admin_entrance import ENTER, Desk, NotEntered, see
from charter_service.api.alarms import Alarms, watching_loop
from charter_service.api.batching import Batching
from charter_service.api.cors import Cors
from charter_service.api.documents import document_of
from charter_service.api.errors import ApiError, api_error
from charter_service.api.guard import Guard, body_for, log_failure, speaks_openai
from charter_service.api.rendering import error_page, wants_page
from charter_service.api.service import Service
from charter_service.api.wire import (
    batches,
    chat,
    complete,
    completions,
    files,
    messages,
    models,
    renewing,
    tokenize,
    tool_list,
)
from charter_service.api.wire.route import Route

API = (
    models,
    tool_list,
    messages,
    batches,
    files,
    complete,
    chat,
    completions,
    tokenize,
    feedback,
    renewing,
    operation,
)
ROUTES: tuple[Route, ...] = tuple(route for part in API for route in part.ROUTES.all)


def make_app(service: Service, console: Sequence[Route] = ()) -> Guard:
    """The application of a service, inside its guard; `console`: the routes of the admin pages."""
    batching = Batching(service)
    service.metrics.registry.register(Alarms(service))

    @asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        async with batching.running(), watching_loop(service.metrics):
            yield

    @cache
    def document() -> dict[str, Any]:
        return document_of(service, ROUTES)

    async def openapi(_: Request) -> Response:
        return JSONResponse(document())

    app = Starlette(
        routes=[StarletteRoute("/openapi.json", openapi), *ROUTES, *index.ROUTES.all, *console],
        exception_handlers={
            CharterError: answer_refusal,
            HTTPException: answer_unknown,
            Exception: answer_failure,
        },
        middleware=[Middleware(Cors, origins=service.config.cors)] if service.config.cors else (),
        lifespan=running,
    )
    app.router.redirect_slashes = False
    app.state.service, app.state.batching, app.state.document = service, batching, document
    app.state.desk = Desk()
    return Guard(app, service.metrics, service.meter.note)


async def answer_refusal(request: Request, error: Exception) -> Response:
    """A refusal, in its own words."""
    problem, request_id = api_error(error), request.state.request_id
    if problem.status == 500:
        log_failure(error.__cause__ or error, request_id)
    if problem.status in (503, 529):
        request.app.state.service.metrics.refused(problem.status, problem.reason)
    headers = problem.openai_headers if speaks_openai(request.scope) else problem.headers
    if wants_page(request):
        if isinstance(error, NotEntered) and request.method == "GET":
            return see(ENTER)
        return error_page(request, problem, headers)
    return JSONResponse(body_for(request.scope, problem, request_id), problem.status, headers=headers)


async def answer_unknown(request: Request, error: Exception) -> Response:
    """An address or a method that isn't served."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    path = request.scope["path"]  # `request.url` fails if a client names no host or a wrong one
    paths = [route.path for route in ROUTES]
    if status != 405:
        return await answer_refusal(
            request, ApiError(status, f"there is no {path[:200]} here; {suggest_address(path, paths)}")
        )
    allowed = ", ".join(methods_of(request))
    words = f"{request.method} is not allowed on {path[:200]}; {allowed} is"
    headers = {"allow": allowed}
    return await answer_refusal(request, ApiError(status, words, headers=headers))


def methods_of(request: Request) -> list[str]:
    """The methods that an address allows."""
    methods = set[str]()
    for route in request.app.routes:
        if route.matches({**request.scope, "method": ""})[0] != Match.NONE:
            methods |= route.methods or set()
    return sorted(methods)


async def answer_failure(request: Request, error: Exception) -> Response:
    """The program failed."""
    return await answer_refusal(request, error)
