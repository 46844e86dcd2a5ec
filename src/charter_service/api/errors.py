"""Errors of the API, in the shapes of Anthropic's and OpenAI's clients (spec: errors of both references).

An error's `kind` follows from its HTTP status. Clients retry on 408, 409, 429 and from 500 on, and honour
`retry-after`; so it is sent only if waiting helps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.engine_limits import Overloaded
from charter_service.accounts.limits import TooMany
from charter_service.web.refusal import Refusal
from charter_service.web.room import NoRoom, is_broken, is_busy, is_full

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
OUT_OF_ORDER = "something failed on our side; the request changed nothing and may be sent again"
OVERLOADED_SECONDS = 5.0
BUSY_SECONDS = 5.0
UNWRITTEN = (
    (is_busy, "the database is locked by another program", "database_locked"),
    (is_full, "the database's disk is full", "database_full"),
    (is_broken, "the database's disk fails", "database_disk"),
)


class ApiError(Refusal):
    """A refused request; `param` names the part of it that is wrong, `retry_after` the seconds after which it may
    succeed, `reason` the reason as one word for figures. Its message is passed as it is: Anthropic's words have
    line breaks in one place."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        openai_headers: Mapping[str, str] | None = None,
        reason: str = "other",
    ) -> None:
        super().__init__(message, status)
        self.args = (message,)
        self.param, self.retry_after, self.reason = param, retry_after, reason
        # in the names of either API
        wait = {} if retry_after is None else {"retry-after": str(max(1, math.ceil(retry_after)))}
        self.headers = {**(headers or {}), **wait}
        self.openai_headers = {**(headers or {}), **wait} if openai_headers is None else {**openai_headers, **wait}

    @property
    def kind(self) -> str:
        """Anthropic's name of this kind of error."""
        return KINDS.get(self.status, "api_error" if self.status >= 500 else "invalid_request_error")


def invalid(message: str, param: str | None = None) -> ApiError:
    """An error for a malformed request, 400."""
    return ApiError(400, message, param=param)


def api_error(error: BaseException) -> ApiError:
    """Any error as an ApiError for clients: with its own words if they are meant for people, else a general one."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Refusal):
        if isinstance(error, TooMany):
            return ApiError(
                error.status,
                str(error),
                retry_after=error.retry_after,
                headers=error.headers,
                openai_headers=error.openai_headers(),
            )
        reason = "disk" if isinstance(error, NoRoom) else "other"
        return ApiError(error.status, str(error), headers=error.headers, reason=reason)
    if isinstance(error, Overloaded):
        status = 429 if error.own else 529
        return ApiError(status, str(error), retry_after=OVERLOADED_SECONDS, reason=error.queue)
    if isinstance(error, CharterError):
        return ApiError(400, str(error))
    for is_so, words, reason in UNWRITTEN:
        if is_so(error):
            words = f"{words}; nothing was changed, try again later"
            return ApiError(503, words, retry_after=BUSY_SECONDS, reason=reason)
    return ApiError(500, OUT_OF_ORDER)


def anthropic_body(error: ApiError, request_id: str) -> dict[str, Any]:
    """`{type, error: {type, message}, request_id}`."""
    return {"type": "error", "error": {"type": error.kind, "message": str(error)}, "request_id": request_id}


def openai_body(error: ApiError) -> dict[str, Any]:
    """`{error: {message, type, param, code}}`."""
    codes = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
    if error.param == "model":
        codes[404] = "model_not_found"
    return {"error": {"message": str(error), "type": error.kind, "param": error.param, "code": codes.get(error.status)}}
