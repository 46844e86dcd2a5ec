"""The web application: all routes, their documentation, and answers for refusals."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.routing import Route as StarletteRoute

from charter.ground.settings.problems import near
from charter_service.api import feedback, index, operation
from charter_service.api.admin_entrance import ENTER, Desk, NotEntered
from charter_service.api.alarms import Alarms, watching_loop
from charter_service.api.batching import Batching
from charter_service.api.documents import document_of
from charter_service.api.errors import ApiError, api_error
from charter_service.api.guard import Cors, Guard, body_for, log_failure, speaks_openai
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
    server_tools,
    tokenize,
)
from charter_service.api.wire.route import Route
from charter_service.web.listening import log_to_stderr, run_app
from charter_service.web.site import Site, see

# of Anthropic's and OpenAI's APIs, and of requests that their clients send by themselves
NOT_OFFERED = (
    "/v1/responses",
    "/v1/embeddings",
    "/v1/moderations",
    "/v1/images",
    "/v1/audio",
    "/v1/batches",
    "/v1/fine_tuning",
    "/v1/assistants",
    "/v1/threads",
    "/v1/vector_stores",
    "/v1/realtime",
    "/v1/skills",
    "/v1/organizations",
    "/v1/experimental",
)
LISTED = "/docs lists all addresses"


def suggest_address(path: str, served: Sequence[str]) -> str:
    """A hint for a request to `path`; `served` are the known paths."""
    if path.startswith("/v1/v1/"):
        return "the base URL has one /v1 too many: Anthropic's clients take it without, http://HOST:PORT"
    if any(f"/v1{path}" == prefix or f"/v1{path}".startswith(f"{prefix}/") for prefix in served):
        return f"did you mean /v1{path[:200]}? OpenAI's programs take a base URL that ends in /v1"
    if any(path == prefix or path.startswith(f"{prefix}/") for prefix in NOT_OFFERED):
        return f"this part of the API is not offered; {LISTED}"
    close = near(path, served, alike=0.8)
    return f"did you mean {close}? {LISTED}" if close else LISTED


API = (
    models,
    server_tools,
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


class ApiSite(Site):
    """Answers of the API and its pages: each error in the shape of the client's API, or as a page for people."""

    async def answer(self, request: Request, error: Exception) -> Response:
        """The answer to a request that was refused or that failed."""
        if isinstance(error, HTTPException):
            error = unknown(request, error.status_code)
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


def make_app(service: Service, console: Sequence[Route] = ()) -> Guard:
    """The application of a service, inside its guard; `console`: the routes of the admin pages."""
    batching = Batching(service)
    service.metrics.registry.register(Alarms(service))

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        async with batching.running(), watching_loop(service.metrics):
            yield

    @cache
    def document() -> dict[str, Any]:
        return document_of(service, ROUTES)

    async def openapi(_: Request) -> Response:
        return JSONResponse(document())

    routes = [StarletteRoute("/openapi.json", openapi), *ROUTES, *index.ROUTES.all, *console]
    cors = [Middleware(Cors, origins=service.config.cors)] if service.config.cors else ()
    app = ApiSite().make_app(service, routes, running, cors)
    app.state.batching, app.state.document, app.state.desk = batching, document, Desk()
    return Guard(app, service.metrics, service.meter.note)


def unknown(request: Request, status: int) -> ApiError:
    """The error of an address or a method that isn't served."""
    # `request.url` fails if a client names no host or a wrong one
    path = request.scope["path"]
    if status != 405:
        likely = suggest_address(path, [route.path for route in ROUTES])
        return ApiError(status, f"there is no {path[:200]} here; {likely}")
    allowed = ", ".join(methods_of(request))
    words = f"{request.method} is not allowed on {path[:200]}; {allowed} is"
    return ApiError(status, words, headers={"allow": allowed})


def methods_of(request: Request) -> list[str]:
    """The methods that an address allows."""
    methods = set[str]()
    for route in request.app.routes:
        if route.matches({**request.scope, "method": ""})[0] != Match.NONE:
            methods |= route.methods or set()
    return sorted(methods)


def serve(service: Service, bound: socket.socket, ready: Callable[[], None], console: Sequence[Route] = ()) -> None:
    """Serves until a signal stops it; `ready` is called once the service can be reached, `console` as in `make_app`."""
    log_to_stderr("charter_service.api", "%(message)s")
    try:
        run_app(make_app(service, console), bound, ready, service.config.proxy)
    finally:
        service.close()
