"""A client of the Messages API, of ours or of any server that speaks it: streams, counts, models, feedback, standing.

The chat knows nothing of the server but this API. Its errors become words for the person who chats.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from charter.ground.artifact.errors import CharterError
from charter_service.chat.letters import mapping_of, readable, storable_text, whole_number
from charter_service.web.refusal import Refusal

VERSION = "2023-06-01"
USER = "chat-"  # begins the ids by which the API knows people
CONNECT_SECONDS = 5.0
READ_SECONDS = 300.0  # between two parts of an answer, or until the first: a long prompt takes long to read
ASK_SECONDS = 30.0  # of a request that isn't for a reply
APPEALS_SECONDS = 3.0  # that a page waits for what became of appeals
LONGEST_ID = 200  # characters of a model's id
BUSY = {408, 429, 500, 502, 503, 504, 529}
AWAY = "the model's server can't be reached; the chat tries again"


class ApiProblem(Refusal):
    """The API refused a request, or could not answer. `later`: the same request may succeed later."""

    def __init__(self, message: str, status: int, later: bool, wait: float = 0.0, request: str = "") -> None:
        super().__init__(message, status)
        self.later, self.wait, self.request = later, wait, request


@dataclass(frozen=True, slots=True)
class Model:
    """A served model: its id, its name for people, tokens of its context and of a reply, and its entry's facts."""

    id: str
    name: str
    context: int
    longest_reply: int
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rules:
    """What models are held to: the policy in force, if any, and constitutions by their digests, all as text."""

    policy: Mapping[str, Any] | None
    constitutions: Mapping[str, Mapping[str, Any]]


class Api:
    """The API at `url`; `key` is sent with every request. People are named by `user`, an id that the API digests."""

    def __init__(self, url: str, key: str = "") -> None:
        if not url.startswith(("http://", "https://")):
            raise CharterError(f"{url} is not the address of a server; write it as http://HOST:PORT")
        self.url = url.rstrip("/").removesuffix("/v1")
        headers = {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),
            trust_env=False,
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a reply; the first is `{"type": "request", "id": ...}`. Raises ApiProblem."""
        async with self._answer_to("POST", "/v1/messages", {**body, "stream": True}, READ_SECONDS) as answer:
            yield {"type": "request", "id": answer.headers.get("request-id", "")[:64]}
            try:
                async for line in answer.aiter_lines():
                    if line.startswith("data:"):
                        event = _json(line.removeprefix("data:"))
                        if event.get("type") == "error":
                            raise _problem(200, event, answer.headers)
                        yield event
                        if event.get("type") == "message_stop":
                            return
            except httpx2.HTTPError:
                raise ApiProblem(AWAY, 503, True) from None
        raise ApiProblem(AWAY, 503, True)

    async def ask(self, method: str, path: str, body: Any = None, seconds: float = ASK_SECONDS) -> dict[str, Any]:
        """The answer to a request. Raises ApiProblem."""
        async with self._answer_to(method, path, body, seconds) as answer:
            try:
                return _json((await answer.aread()).decode("utf-8", "replace"))
            except httpx2.HTTPError:
                raise ApiProblem(AWAY, 503, True) from None

    async def models(self) -> list[Model]:
        """All models that the key may use, the default first. Raises ApiProblem."""
        rows = (await self.ask("GET", "/v1/models?limit=1000")).get("data")
        if not isinstance(rows, list):
            raise ApiProblem("the model's server doesn't say which models it has", 502, True)
        return [
            Model(
                storable_text(str(row["id"]))[:LONGEST_ID],
                storable_text(str(row.get("display_name") or row["id"]))[:LONGEST_ID],
                whole_number(row.get("max_input_tokens")),
                whole_number(row.get("max_tokens")),
                mapping_of(row.get("charter")),
            )
            for row in rows
            if isinstance(row, dict) and row.get("id")
        ]

    async def limits(self) -> list[dict[str, str]]:
        """What models can't do: titles and words. Raises ApiProblem."""
        rows = (await self.ask("GET", "/v1/limits")).get("limits")
        return [
            {name: storable_text(str(row.get(name) or "")) for name in ("title", "words")}
            for row in (rows if isinstance(rows, list) else ())
            if isinstance(row, dict)
        ]

    async def tools(self) -> dict[str, Any]:
        """The list of tools that the server runs for the key; empty if it doesn't say. Raises ApiProblem if it can't be
        reached."""
        try:
            return await self.ask("GET", "/v1/tools")
        except ApiProblem as problem:
            if problem.later:
                raise
            return {}

    async def rules(self) -> Rules | None:
        """What models are held to; None if the server doesn't say. Raises ApiProblem if it can't be reached."""
        try:
            answer = await self.ask("GET", "/v1/rules")
        except ApiProblem as problem:
            if problem.later:
                raise
            return None
        policy = readable(answer.get("policy")) if isinstance(answer.get("policy"), dict) else None
        constitutions = answer.get("constitutions")
        listed = constitutions if isinstance(constitutions, list) else ()
        return Rules(
            policy,
            {
                str(constitution.get("digest")): readable(constitution)
                for constitution in listed
                if isinstance(constitution, dict)
            },
        )

    async def standing(self, user: str) -> dict[str, str] | None:
        """Where a person's account stands: its level, and words for the person; None if the server can't say."""
        try:
            answer = await self.ask("GET", f"/v1/standing?user_id={user}")
        except ApiProblem:
            return None
        facts = {name: storable_text(str(answer.get(name) or "")) for name in ("level", "message")}
        return facts if facts["level"] else None

    async def appeals(self, user: str) -> dict[str, str]:
        """What became of a person's appeals: open, upheld or dismissed, by request; none if the server can't say."""
        try:
            rows = (await self.ask("GET", f"/v1/appeals?user_id={user}", seconds=APPEALS_SECONDS)).get("data")
        except ApiProblem:
            return {}
        listed = rows if isinstance(rows, list) else ()
        return {
            str(appeal.get("request_id")): str(appeal.get("state")) for appeal in listed if isinstance(appeal, dict)
        }

    async def count(self, model: str, messages: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> int:
        """Tokens of a prompt: of the settings, the system text and the tools count. Raises ApiProblem."""
        parts = {name: settings[name] for name in ("system", "tools") if settings.get(name)}
        body = {"model": model, "messages": list(messages)} | parts
        return int((await self.ask("POST", "/v1/messages/count_tokens", body)).get("input_tokens") or 0)

    @asynccontextmanager
    async def _answer_to(
        self, method: str, path: str, body: Any, seconds: float
    ) -> AsyncGenerator[httpx2.Response, None]:
        """A successful answer, still to be read. Raises ApiProblem."""
        timeout = httpx2.Timeout(seconds, connect=CONNECT_SECONDS)
        # in a thread: documents of a million words take as long to write down as many a page
        content = None if body is None else await asyncio.to_thread(_bytes_of, body)
        headers = {} if content is None else {"content-type": "application/json"}
        try:
            request = self._client.build_request(
                method, self.url + path, content=content, headers=headers, timeout=timeout
            )
            answer = await self._client.send(request, stream=True)
        except httpx2.HTTPError:
            raise ApiProblem(AWAY, 503, True) from None
        try:
            if answer.status_code >= 400:
                try:
                    problem = _json((await answer.aread())[:20_000].decode("utf-8", "replace"))
                except httpx2.HTTPError:
                    problem = {}
                raise _problem(answer.status_code, problem, answer.headers)
            yield answer
        finally:
            await answer.aclose()


_STATUS = {
    "overloaded_error": 529,
    "rate_limit_error": 429,
    "invalid_request_error": 400,
    "permission_error": 403,
    "authentication_error": 401,
    "not_found_error": 404,
}


def _problem(status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> ApiProblem:
    """An error of the API, in its own words if they are for the person."""
    error = body.get("error")
    message, kind = (
        (storable_text(str(error.get("message") or "")), str(error.get("type")))
        if isinstance(error, dict)
        else ("", "")
    )
    if status < 400:
        status = _STATUS.get(kind, 500)
    wait = headers.get("retry-after", "").strip()
    seconds = min(600.0, float(wait)) if wait.isascii() and wait.isdigit() else 0.0
    request = headers.get("request-id", "")[:64]
    if status == 401:
        return ApiProblem("the chat's key for the model's server is not valid; tell whoever runs this", 502, False)
    if status in BUSY:
        words = message[:500] if status in (429, 529) and message else "the model's server failed; the chat tries again"
        return ApiProblem(words, status, True, seconds, request)
    return ApiProblem(message[:500] or f"the model's server refused this ({status})", status, False, 0.0, request)


def _bytes_of(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
