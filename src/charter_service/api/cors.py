"""Calls from pages of other origins (CORS, of the Fetch standard): none, unless the configuration names the origin.

Pages send a key of their own. Cookies are never let through, and no page of another origin reaches this server's own
pages or `/admin`. As at Anthropic, a page has to say that it calls directly: whoever opens it can read its key.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from charter_service.api.errors import ApiError
from charter_service.api.guard import body_for, speaks_openai

PATHS = ("/v1/", "/tokenize", "/detokenize")
DIRECT = "anthropic-dangerous-direct-browser-access"
METHODS = ("GET", "POST", "DELETE")
KINDS = ("requests", "tokens", "input-tokens", "output-tokens")
EXPOSED = (
    "request-id",
    "retry-after",
    "x-should-retry",
    "charter-standing",
    "anthropic-organization-id",
    *(f"anthropic-ratelimit-{kind}-{what}" for kind in KINDS for what in ("limit", "remaining", "reset")),
    *(
        f"x-ratelimit-{what}-{kind}"
        for kind in ("requests", "tokens")
        for what in ("limit", "remaining", "reset")
    ),
)
PREFLIGHT_SECONDS = 600  # for which a browser remembers what it may send


class Cors:
    """Wraps the application: pages of some origins may call the API."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app, self._origins = app, frozenset(origins)
        self._open = CORSMiddleware(
            self._answer,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=["*"],
            expose_headers=EXPOSED,
            max_age=PREFLIGHT_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        named = scope["type"] == "http" and scope["path"].startswith(PATHS)
        if named and Headers(scope=scope).get("origin") in self._origins:
            await self._open(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a page of a named origin."""
        direct = Headers(scope=scope).get(DIRECT, "").lower() == "true"
        if direct or scope["method"] == "OPTIONS" or speaks_openai(scope):
            await self._app(scope, receive, send)
            return
        error = ApiError(
            401,
            f"CORS requests must set '{DIRECT}' header: whoever opens the page can read its key. Set it to true if "
            "that may be",
        )
        body = body_for(scope, error, scope["state"]["request_id"])
        await JSONResponse(body, error.status)(scope, receive, send)
