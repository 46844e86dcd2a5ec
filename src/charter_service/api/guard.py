"""The guard around all routes: an id for every request, headers, the access log, counts, and an answer in the shape of
the client's API even if the program fails.

The log is one JSON object a line: time, id, method, route, status, milliseconds. No content, no key, no address, no
query.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charter.ground.artifact.errors import is_panic
from charter_service.accounts.requests import RequestRow
from charter_service.api.bodies import Bodies
from charter_service.api.errors import OUT_OF_ORDER, ApiError, anthropic_body, openai_body
from charter_service.api.metrics import Metrics
from charter_service.api.telling import GOOD, HEADER
from charter_service.web.security_headers import framed_twice, with_headers
from charter_service.web.tokens import new_id

LOG = logging.getLogger("charter_service.api")
STATIC = "/static/"
STANDING = HEADER.encode()
ORGANISATION, API = b"anthropic-organization-id", "/v1/"
OPENAI = ("/v1/chat/", "/v1/completions", "/v1/models")
FRAMED_TWICE = ApiError(
    400,
    "the request has both a content-length and a transfer-encoding; send one of them",
    headers={"connection": "close"},
)
MISSED = (
    "/chat/",
    "/completions",
    "/v1/responses",
    "/v1/embeddings",
)  # OpenAI's addresses that aren't served


class Guard:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, note: Callable[[RequestRow], None]) -> None:
        """`note` keeps the row of a finished request to a model; it never waits."""
        self._app, self._metrics, self._note, self.bodies = app, metrics, note, Bodies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, answered, request_id = time.monotonic(), [0], f"req_{new_id()}"
        body, row = self.bodies.of(receive), RequestRow(request_id)
        scope.setdefault("state", {}).update(request_id=request_id, body=body, row=row)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered[0] = message["status"]
                message = {**message, "headers": _headers(scope, message, request_id)}
            await send(message)

        try:
            if framed_twice(scope):
                await _say(scope, guarded, request_id, FRAMED_TWICE)
                return
            await self._app(scope, body.receive, guarded)
        except BaseException as error:
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            log_failure(error, request_id)
            if not answered[0]:
                await _say(scope, guarded, request_id, ApiError(500, OUT_OF_ORDER))
        finally:
            body.close()
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.responded(route, answered[0])
            if row.counts:
                row.ended(answered[0])
                self._note(row)
            _log(
                id=request_id,
                method=scope["method"],
                route=route,
                status=answered[0],
                ms=round(1000 * (time.monotonic() - began)),
            )


def speaks_openai(scope: Scope) -> bool:
    """Whether a request comes from a client of OpenAI's shape, by its path and the lack of Anthropic's headers."""
    headers = {name for name, _ in scope["headers"]}
    return scope["path"].startswith(OPENAI + MISSED) and not headers & {b"anthropic-version", b"x-api-key"}


def body_for(scope: Scope, error: ApiError, request_id: str) -> dict[str, Any]:
    """An error in the shape of the client's API."""
    return openai_body(error) if speaks_openai(scope) else anthropic_body(error, request_id)


def log_failure(error: BaseException, request_id: str) -> None:
    """Logs where the program failed, without the error's message, which may hold somebody's text."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = [f"{frame.name} ({frame.filename.rsplit('/', 1)[-1]}:{frame.lineno})" for frame in frames]
    _log(logging.ERROR, id=request_id, error=type(error).__name__, places=places)


def _headers(scope: Scope, message: Message, request_id: str) -> list[tuple[bytes, bytes]]:
    """An answer's headers with the request's id, the account's standing if it isn't good, in Anthropic's API the
    organisation, and security headers; browsers may cache only style and icon."""
    cacheable = message["status"] == 200 and scope["path"].startswith(STATIC)
    named = [(name, request_id.encode()) for name in (b"request-id", b"x-request-id")]
    headers, level = message.get("headers", []), scope["state"].get("standing", GOOD)
    if level != GOOD and not any(name.lower() == STANDING for name, _ in headers):
        named.append((STANDING, level.encode()))
    caller = scope["state"].get("caller")
    if caller is not None and scope["path"].startswith(API) and not speaks_openai(scope):
        named.append((ORGANISATION, caller.organisation.encode()))
    return with_headers([*headers, *named], cacheable)


def _log(level: int = logging.INFO, **facts: Any) -> None:
    if LOG.isEnabledFor(level):
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        LOG.log(level, json.dumps({"at": at, **facts}))


async def _say(scope: Scope, send: Send, request_id: str, error: ApiError) -> None:
    body = json.dumps(body_for(scope, error, request_id)).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
