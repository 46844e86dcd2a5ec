"""The guard around all routes: an id for every request, headers, limits for bodies, the access log, counts, an answer
in the shape of the client's API even if the program fails, and calls from pages of other origins.

The log is one JSON object a line: time, id, method, route, status, milliseconds. No content, no key, no address, no
query. Bodies have a least speed, a total size that fits into memory, and of that a share for each organisation. A
request without a key may send as much as a form takes.

Pages of other origins (CORS, of the Fetch standard) may call only if the configuration names the origin. They send a
key of their own: cookies are never let through, and no page of another origin reaches this server's own pages or
`/admin`. As at Anthropic, a page has to say that it calls directly: whoever opens it can read its key.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charter_service.accounts.requests import RequestRow
from charter_service.api.errors import OUT_OF_ORDER, ApiError, anthropic_body, api_error, openai_body
from charter_service.api.metrics import Metrics
from charter_service.api.telling import GOOD, HEADER
from charter_service.web import guard
from charter_service.web.forms import LARGEST_FORM
from charter_service.web.guard import Pair
from charter_service.web.refusal import Refusal
from charter_service.web.tokens import new_id

QUIET_SECONDS = 30.0  # without a byte of a body
SPAN_SECONDS = 30.0  # over which the speed of a body is measured
SLOWEST = 1024.0  # bytes a second
MOST_BYTES = 2**31  # of all bodies together
SHARE = 1 / 8  # of these, for one organisation: the largest batch
STRANGER = LARGEST_FORM  # bytes of a body without a key
RETRY_SECONDS = 5.0
LOG = logging.getLogger("charter_service.api")
STANDING = HEADER.encode()
ORGANISATION, API = b"anthropic-organization-id", "/v1/"
OPENAI = ("/v1/chat/", "/v1/completions", "/v1/models")
MISSED = ("/chat/", "/completions", "/v1/responses", "/v1/embeddings")  # OpenAI's addresses that aren't served
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
    *(f"x-ratelimit-{what}-{kind}" for kind in ("requests", "tokens") for what in ("limit", "remaining", "reset")),
)
PREFLIGHT_SECONDS = 600  # for which a browser remembers what it may send


class Bodies:
    """Counts the bytes of all requests' bodies in memory."""

    def __init__(self, most: int = MOST_BYTES, quiet: float = QUIET_SECONDS, span: float = SPAN_SECONDS) -> None:
        self.most, self.share, self.quiet, self.span = most, int(SHARE * most), quiet, span
        self.by_account = Counter[str]()

    @property
    def held(self) -> int:
        """Bytes of all bodies."""
        return self.by_account.total()

    def of(self, receive: Receive) -> Body:
        """The body of one request."""
        return Body(self, receive)

    def move(self, account: str, size: int) -> None:
        """Counts bytes for an account, or gives them back."""
        self.by_account[account] += size
        if not self.by_account[account]:
            del self.by_account[account]


class Body:
    """One request's body. `receive` replaces the server's own; close it when the request is over."""

    def __init__(self, bodies: Bodies, receive: Receive) -> None:
        self._bodies, self._receive, self._account = bodies, receive, ""
        self._bytes, self._whole = 0, False
        self._since, self._in_span = time.monotonic(), 0

    def claim(self, account: str) -> None:
        """Assigns it to an account."""
        self._bodies.move(self._account, -self._bytes)
        self._account = account
        self._bodies.move(account, self._bytes)

    async def receive(self) -> Message:
        """The next message. Raises ApiError: 408 if it comes too slowly, 413 if it is too large without a key, 429 if
        the account's share is in use, 529 if all memory for bodies is."""
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(self._bodies.quiet):
                message = await self._receive()
        except TimeoutError:
            raise _refuse_late() from None
        if message["type"] == "http.request":
            self._take(len(message.get("body", b"")), bool(message.get("more_body")))
        return message

    def close(self) -> None:
        """Frees its memory."""
        self._bodies.move(self._account, -self._bytes)
        self._bytes = 0

    def _take(self, size: int, more: bool) -> None:
        bodies, self._whole = self._bodies, not more
        self._bytes += size
        bodies.move(self._account, size)
        self._check_pace(size, more)
        if not self._account and self._bytes > STRANGER:
            raise _refusal(413, f"the body is over {STRANGER // 2**10} KiB, the most without a key")
        if bodies.by_account[self._account] > bodies.share:
            whose = "of yours" if self._account else "without a key"
            words = f"bodies {whose} of {bodies.share // 2**20} MiB are already being read, which is your share"
            raise _refusal(429, f"{words}; try again a little later", RETRY_SECONDS)
        if bodies.held > bodies.most:
            words = f"bodies of {bodies.most // 2**20} MiB are already being read"
            raise _refusal(529, f"{words}; try again a little later", RETRY_SECONDS)

    def _check_pace(self, size: int, more: bool) -> None:
        self._in_span += size
        took = time.monotonic() - self._since
        if took > self._bodies.span:
            if more and self._in_span < SLOWEST * took:
                raise _refuse_late()
            self._since, self._in_span = time.monotonic(), 0


def _refusal(status: int, words: str, retry_after: float | None = None) -> ApiError:
    headers = {"connection": "close"}
    return ApiError(status, words, retry_after=retry_after, headers=headers, reason="bodies")


def _refuse_late() -> ApiError:
    return _refusal(408, "the body came too slowly; send it again")


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
