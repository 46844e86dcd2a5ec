"""A service's site: all its routes in one table, its files, and one answer for what is refused or goes wrong."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute
from starlette.routing import Route as StarletteRoute

from charter.ground.artifact.errors import CharterError
from charter_service.web.entrance import NotEntered
from charter_service.web.pages import Pages
from charter_service.web.refusal import NOTHING_HERE, Refusal

Endpoint = Callable[[Request], Awaitable[Response]]
ENTER = "/enter"
NOT_THIS_WAY = "this page doesn't take this kind of request"
OUT_OF_ORDER = "something is wrong on our side; try again in a minute"
HEADINGS = {
    403: "Sorry",
    404: "Nothing here",
    409: "Out of date",
    413: "Too long",
    429: "A little slower",
    500: "Out of order",
    503: "Out of order",
}


class Route(StarletteRoute):
    """One method at one address. Starlette's GET answers HEAD too; this one doesn't."""

    def __init__(self, method: str, path: str, endpoint: Endpoint, name: str | None = None) -> None:
        super().__init__(path, endpoint, methods=[method], name=name)
        self.methods = {method}


class Site(ABC):
    """The application of one kind of service, and its answer to what is refused or goes wrong."""

    @abstractmethod
    async def answer(self, request: Request, error: Exception) -> Response:
        """The answer to a request that was refused or that failed."""

    def make_app(
        self,
        service: Any,
        routes: Iterable[BaseRoute],
        running: Callable[[], AbstractAsyncContextManager[None]] | None = None,
        middleware: Iterable[Middleware] = (),
    ) -> Starlette:
        """The application of a service. `running`: what goes on while it is served."""
        app = Starlette(
            routes=[*routes],
            exception_handlers=dict.fromkeys((CharterError, HTTPException, Exception), self.answer),
            middleware=[*middleware],
            lifespan=(lambda _: running()) if running else None,
        )
        app.router.redirect_slashes = False
        app.state.service = service
        return app


class PageSite(Site):
    """A site of pages for people. `headings`: titles of refusals by status."""

    pages: Pages
    headings: Mapping[int, str] = HEADINGS

    async def static(self, request: Request) -> Response:
        """Style, script and icon. Raises NotFound."""
        return self.pages.file(request.path_params["file"])

    async def answer(self, request: Request, error: Exception) -> Response:
        """The answer to a request that was refused, by the refusal's own words, or that failed, whose details stay
        here."""
        if isinstance(error, HTTPException):
            words = NOTHING_HERE if error.status_code == 404 else NOT_THIS_WAY
            return await self.say(request, error.status_code, words, error.headers)
        if isinstance(error, NotEntered) and request.method == "GET" and not self.wants_data(request):
            return see(ENTER)
        if isinstance(error, Refusal):
            return await self.say(request, error.status, str(error), error.headers)
        return await self.say(request, 503 if isinstance(error, CharterError) else 500, OUT_OF_ORDER)

    async def say(
        self, request: Request, status: int, words: str, headers: Mapping[str, str] | None = None
    ) -> Response:
        """A refusal as a small page, or as JSON if a program asks."""
        if self.wants_data(request):
            return JSONResponse({"error": words}, status, headers=dict(headers or {}))
        title = self.headings.get(status, "That did not work")
        answer = await run_in_threadpool(self.error_page, request, status, title, words)
        answer.headers.update(headers or {})
        return answer

    def wants_data(self, request: Request) -> bool:
        """Whether a program asks."""
        return wants_json(request)

    @abstractmethod
    def error_page(self, request: Request, status: int, title: str, words: str) -> Response:
        """The page of a refusal."""


def wants_json(request: Request) -> bool:
    """Whether a request asks for JSON rather than a page."""
    accepted = request.headers.get("accept", "")
    data = request.url.path.endswith((".json", "/state", "/health"))
    return data or ("application/json" in accepted and "text/html" not in accepted)


def see(place: str) -> RedirectResponse:
    """A redirect to a page, the answer to a form."""
    return RedirectResponse(place, 303)
