"""The guard around all routes: an id for every request, headers, the access log, counts, and an answer in the shape of
the client's API even if the program fails.

The log is one JSON object a line: time, id, method, route, status, milliseconds. No content, no key, no address, no
query.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope

from charter_service.accounts.requests import RequestRow
from charter_service.api.bodies import Bodies
from charter_service.api.errors import OUT_OF_ORDER, ApiError, anthropic_body, api_error, openai_body
from charter_service.api.metrics import Metrics
from charter_service.api.telling import GOOD, HEADER
from charter_service.web import guard
from charter_service.web.guard import Pair
from charter_service.web.refusal import Refusal
from charter_service.web.tokens import new_id

LOG = logging.getLogger("charter_service.api")
STANDING = HEADER.encode()
ORGANISATION, API = b"anthropic-organization-id", "/v1/"
OPENAI = ("/v1/chat/", "/v1/completions", "/v1/models")
MISSED = (
    "/chat/",
    "/completions",
    "/v1/responses",
    "/v1/embeddings",
)  # OpenAI's addresses that aren't served


class Guard(guard.Guard):
    """Wraps the application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, note: Callable[[RequestRow], None]) -> None:
        """`note` keeps the row of a finished request to a model; it never waits."""
        super().__init__(app)
        self._metrics, self._note, self.bodies = metrics, note, Bodies()

    def begin(self, scope: Scope, receive: Receive) -> Receive:
        """Names a request, and counts its body."""
        request_id, body = f"req_{new_id()}", self.bodies.of(receive)
        row = RequestRow(request_id)
        scope.setdefault("state", {}).update(request_id=request_id, body=body, row=row)
        return body.receive

    def more_headers(self, scope: Scope, message: Message) -> list[Pair]:
        """The request's id, the account's standing if it isn't good, and in Anthropic's API the organisation."""
        state, headers = scope["state"], message.get("headers", [])
        named = [(name, state["request_id"].encode()) for name in (b"request-id", b"x-request-id")]
        level, caller = state.get("standing", GOOD), state.get("caller")
        if level != GOOD and not any(name.lower() == STANDING for name, _ in headers):
            named.append((STANDING, level.encode()))
        if caller is not None and scope["path"].startswith(API) and not speaks_openai(scope):
            named.append((ORGANISATION, caller.organisation.encode()))
        return named

    def refused(self, scope: Scope, refusal: Refusal | None) -> Response:
        """An error in the shape of the client's API."""
        error = api_error(refusal or ApiError(500, OUT_OF_ORDER))
        body = json.dumps(body_for(scope, error, scope["state"]["request_id"]))
        return Response(body, error.status, error.headers, "application/json")

    def failed(self, scope: Scope, error: BaseException) -> None:
        """Logs where the program failed."""
        log_failure(error, scope["state"]["request_id"])

    def ended(self, scope: Scope, status: int, milliseconds: int) -> None:
        """Frees the body, counts the request and logs it."""
        state, route = scope["state"], getattr(scope.get("route"), "path", "other")
        state["body"].close()
        self._metrics.responded(route, status)
        if (row := state["row"]).counts:
            row.ended(status)
            self._note(row)
        facts = {"method": scope["method"], "route": route, "status": status, "ms": milliseconds}
        _log(id=state["request_id"], **facts)


def speaks_openai(scope: Scope) -> bool:
    """Whether a request comes from a client of OpenAI's shape, by its path and the lack of Anthropic's headers."""
    headers = {name for name, _ in scope["headers"]}
    return scope["path"].startswith(OPENAI + MISSED) and not headers & {b"anthropic-version", b"x-api-key"}


def body_for(scope: Scope, error: ApiError, request_id: str) -> dict[str, Any]:
    """An error in the shape of the client's API."""
    return openai_body(error) if speaks_openai(scope) else anthropic_body(error, request_id)


def log_failure(error: BaseException, request_id: str) -> None:
    """Logs where the program failed, without the error's message, which may hold somebody's text."""
    places = guard.places_of(error, 4)
    _log(logging.ERROR, id=request_id, error=type(error).__name__, places=places)


def _log(level: int = logging.INFO, **facts: Any) -> None:
    if LOG.isEnabledFor(level):
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        LOG.log(level, json.dumps({"at": at, **facts}))
