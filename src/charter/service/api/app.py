"""The web application: all routes, their documentation, and answers for refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from charter.ground.artifact.errors import CharterError
from charter.service.api import admin, feedback, index, operation
from charter.service.api.addresses import meant
from charter.service.api.admin_entrance import ENTER, Desk, NotEntered, see
from charter.service.api.alarms import Alarms, watching_loop
from charter.service.api.batching import Batching
from charter.service.api.documents import document
from charter.service.api.errors import ApiError, api_error
from charter.service.api.guard import Guard, body_for, log_failure, speaks_openai
from charter.service.api.rendering import error_page, wants_page
from charter.service.api.service import Service
from charter.service.api.statement import in_words
from charter.service.api.wire import (
    batches,
    chat,
    complete,
    completions,
    messages,
    models,
    renewing,
    tokenize,
)
from charter.service.api.wire.route import Route

ROUTES: tuple[Route, ...] = (
    *models.ROUTES,
    *messages.ROUTES,
    *batches.ROUTES,
    *complete.ROUTES,
    *chat.ROUTES,
    *completions.ROUTES,
    *tokenize.ROUTES,
    *feedback.ROUTES,
    *renewing.ROUTES,
    *operation.ROUTES,
)
PAGES: tuple[Route, ...] = (*index.ROUTES, *admin.ROUTES)
DESCRIPTION = f"""Claude's API of 2023 and of today, and OpenAI's shapes, on models that you made.

What these models can't do, and should not be used for:

{in_words()}
"""


def make_app(service: Service) -> Guard:
    """The application of a service, inside its guard."""
    batching = Batching(service)
    service.metrics.registry.register(Alarms(service))

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        async with batching.running(), watching_loop(service.metrics):
            yield

    app = FastAPI(
        lifespan=running,
        title=service.config.name,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.state.service, app.state.batching = service, batching
    app.state.desk = Desk()
    for route in (*ROUTES, *PAGES):
        app.add_api_route(
            route.path,
            route.handler,
            methods=[route.method],
            name=route.path.removeprefix("/v1/").split("/{")[0],
            summary=route.summary,
            tags=[route.tag],
            response_model=None,
            include_in_schema=route in ROUTES,
        )
    app.openapi = lambda: document(app, ROUTES)  # type: ignore[method-assign]
    app.add_exception_handler(CharterError, refused)
    app.add_exception_handler(HTTPException, unknown)
    app.add_exception_handler(Exception, failed)
    return Guard(app, service.metrics)


async def refused(request: Request, error: Exception) -> Response:
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


async def unknown(request: Request, error: Exception) -> Response:
    """An address or a method that isn't served."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    path = request.scope["path"]  # `request.url` fails if a client names no host or a wrong one
    paths: list[str] = [route.path for route in ROUTES]
    if status != 405:
        return await refused(
            request, ApiError(status, f"there is no {path[:200]} here; {meant(path, paths)}")
        )
    allowed = ", ".join(methods_of(request))
    words = f"{request.method} is not allowed on {path[:200]}; {allowed} is"
    headers = {"allow": allowed}
    return await refused(request, ApiError(status, words, headers=headers))


def methods_of(request: Request) -> list[str]:
    """The methods that an address allows."""
    methods = set[str]()
    for route in request.app.routes:
        if route.matches({**request.scope, "method": ""})[0] != Match.NONE:
            methods |= route.methods or set()
    return sorted(methods)


async def failed(request: Request, error: Exception) -> Response:
    """The program failed."""
    return await refused(request, error)
