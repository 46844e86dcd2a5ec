"""HTTP to a server behind this one: retries, errors in words for our callers, and streams of JSON.

Each request has its own connection: if nobody waits for an answer any more, closing it ends the work on the server. A
failure before the answer is tried again; a broken answer is an error at once, since part of it may have been passed on.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.http_client import FAILED, OVERLOADED, one_line, retry_after
from charter_service.api.errors import OVERLOADED_SECONDS, ApiError

KEY = "OPENAI_API_KEY"  # sent only to the named server
CONNECT_SECONDS = 5.0
READ_SECONDS = 300.0  # between two parts of an answer, or until the first
TRIES = 3
LONGEST_WAIT = 5.0  # most seconds to wait for a busy server before another try; the caller waits longer ones


class Link:
    """The connection to a server, for one model there. `name`: the model's name here."""

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name = url.rstrip("/").removesuffix("/v1"), name
        if not self.url.startswith(("http://", "https://")):
            raise CharterError(f"{url} is not the address of a server; write it as http://HOST:PORT")
        key = os.environ.get(KEY, "").strip()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        timeout = httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        self._facts: dict[str, Any] = {"headers": headers, "timeout": timeout, "trust_env": False}
        self._client = httpx2.AsyncClient(limits=limits, **self._facts)

    def look(self, path: str, body: Any = None) -> Any:
        """The server's answer to a GET while this one starts; None if it doesn't offer it. Raises CharterError if it
        can't be reached or refuses."""
        try:
            with httpx2.Client(**self._facts) as client:
                answer = (
                    client.post(self.url + path, json=body)
                    if body is not None
                    else client.get(self.url + path)
                )
        except httpx2.HTTPError as error:
            raise CharterError(
                f"{self.url} can't be reached ({_describe(error)}); is the server running?"
            ) from None
        if answer.status_code in (401, 403):
            raise CharterError(f"{self.url} refuses our key ({answer.status_code}); set {KEY}")
        return _json(answer.text) if answer.status_code == 200 else None

    async def ask(self, path: str, body: Any) -> Any:
        """The answer to a request, in one piece. Raises ApiError."""
        async with self._answer(path, body) as answer:
            try:
                answered = _json((await answer.aread()).decode(errors="replace"))
            except httpx2.HTTPError as error:
                raise self._broken(error) from None
        if not isinstance(answered, dict):
            raise ApiError(500, f"the server behind {self.name} answered in another shape than OpenAI's")
        return answered

    async def stream(self, path: str, body: Any) -> AsyncGenerator[dict[str, Any], None]:
        """The events of an answer. Raises ApiError, also for an error among the events and for an early end."""
        async with self._answer(path, body) as answer:
            try:
                async for line in answer.aiter_lines():
                    if not line.startswith("data:"):
                        continue
                    text = line.removeprefix("data:").strip()
                    if text == "[DONE]":
                        return
                    yield self._event(_json(text))
            except httpx2.HTTPError as error:
                raise self._broken(error) from None
        raise ApiError(500, f"the server behind {self.name} ended its answer before it was complete")

    @asynccontextmanager
    async def _answer(self, path: str, body: Any) -> AsyncGenerator[httpx2.Response, None]:
        """The first successful answer; failures before it are tried again."""
        for left in reversed(range(TRIES)):
            wait = 0.0
            try:
                request = self._client.build_request("POST", self.url + path, json=body)
                answer = await self._client.send(request, stream=True)
            except httpx2.ReadTimeout:
                raise self._too_slow() from None
            except httpx2.HTTPError as error:
                problem = ApiError(
                    529,
                    f"the server behind {self.name} can't be reached ({_describe(error)})",
                    retry_after=OVERLOADED_SECONDS,
                    reason="upstream",
                )
            else:
                try:
                    if answer.status_code == 200:
                        yield answer
                        return
                    problem, wait = await self._problem(answer), retry_after(answer.headers, 600)
                finally:
                    await answer.aclose()
                if answer.status_code not in OVERLOADED | FAILED:
                    raise problem
            if not left or wait > LONGEST_WAIT:
                raise problem
            await asyncio.sleep(max(wait, 0.5 * 2 ** (TRIES - 1 - left) * random.uniform(0.5, 1)))

    async def _problem(self, answer: httpx2.Response) -> ApiError:
        """An error of the server, as ours."""
        try:
            body = _json((await answer.aread())[:10_000].decode(errors="replace"))
        except httpx2.HTTPError:
            body = None
        return self.problem_of(answer.status_code, _message(body), retry_after(answer.headers, 600))

    def problem_of(self, status: int, said: str, wait: float = 0.0) -> ApiError:
        """The server's refusal for our caller: in its own words if the caller's request is wrong."""
        if status in OVERLOADED:
            words = f"the server behind {self.name} is overloaded"
            return ApiError(529, words, retry_after=wait or OVERLOADED_SECONDS, reason="upstream")
        if status in (400, 413, 422):
            # a server that echoes its input has our key in its words
            return ApiError(400, one_line(said) or f"the server behind {self.name} refuses this request")
        if status == 504:
            return ApiError(504, f"the server behind {self.name} took too long; try again later")
        reasons = {401: "refuses our key", 403: "refuses our key", 404: "doesn't serve that model any more"}
        return ApiError(500, f"the server behind {self.name} {reasons.get(status, f'failed ({status})')}")

    def _event(self, event: Any) -> dict[str, Any]:
        if not isinstance(event, dict):
            raise ApiError(500, f"the server behind {self.name} answered in another shape than OpenAI's")
        if error := event.get("error"):
            kind = str(error.get("type")) if isinstance(error, dict) else ""
            status = {"overloaded_error": 529, "rate_limit_error": 429, "invalid_request_error": 400}
            raise self.problem_of(status.get(kind, 500), _message(event))
        return event

    def _too_slow(self) -> ApiError:
        words = f"the server behind {self.name} wrote nothing for {READ_SECONDS:.0f} seconds"
        return ApiError(504, f"{words}; send a shorter request, or try again later")

    def _broken(self, error: httpx2.HTTPError) -> ApiError:
        if isinstance(error, httpx2.ReadTimeout):
            return self._too_slow()
        return ApiError(500, f"the server behind {self.name} broke off its answer ({_describe(error)})")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _message(body: Any) -> str:
    """The words of an error body, of OpenAI's shape or FastAPI's; at most 400 characters."""
    error = body.get("error", body) if isinstance(body, dict) else None
    said = error.get("message", error.get("detail", "")) if isinstance(error, dict) else error
    return str(said or "")[:400]


def _describe(error: httpx2.HTTPError) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")[:200]
