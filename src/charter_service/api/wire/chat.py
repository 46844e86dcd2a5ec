"""POST /v1/chat/completions: a conversation answered, in OpenAI's shape.

A last message of the assistant's is continued, as vLLM does for `continue_final_message` (which may be left out). Tools
and forms hold replies as they do for messages.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from sse_starlette import ServerSentEvent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from charter.ground.generate.constraint import Constraint
from charter.ground.text.dialogue import Message
from charter_service.api.exchange import Exchange, begin
from charter_service.api.model_request import Call, ModelRequest, Part
from charter_service.api.registry import Served
from charter_service.api.telling import standing_field
from charter_service.api.wire.answers import ChatAnswer
from charter_service.api.wire.chat_body import ChatBody, Wanted, wanted_of
from charter_service.api.wire.chat_choice import Choice
from charter_service.api.wire.openai import (
    Chunks,
    end_stream,
    head_of,
    headers_of,
    sampling_of,
    seed_of,
    usage_form,
    wants_usage,
)
from charter_service.api.wire.reading import service_of, user_digest
from charter_service.api.wire.route import Routes
from charter_service.api.wire.streaming import start_events, stream, unless_gone

ROUTES = Routes("OpenAI's shapes", "messages")


@dataclass(frozen=True, slots=True)
class _Chat:
    """An admitted request."""

    exchange: Exchange
    body: ChatBody
    wanted: Wanted

    def head(self, kind: str) -> dict[str, Any]:
        """The common head of an answer and of each chunk."""
        return head_of(self.exchange.served, kind, "chatcmpl")

    def choices(self) -> list[Choice]:
        """The choices, still empty."""
        tools, top = self.wanted.offer is not None, self.body.top
        return [Choice(index, tools, top) for index in range(self.body.samples)]


@ROUTES.add("POST", "/v1/chat/completions", "Answer a conversation", ChatAnswer)
async def complete_chat(request: Request, call: Call, body: ChatBody) -> Response:
    """Answers a conversation."""
    call = replace(call, user=user_digest(body.user or body.safety_identifier))
    chat = await unless_gone(request, _open(request, call, body))
    headers = headers_of(chat.exchange)
    if body.stream:
        parts = await start_events(request, chat.exchange.parts())
        return stream(end_stream(_events(chat, parts), call.request_id), headers)
    answer = await unless_gone(request, _answer(chat))
    return JSONResponse(answer, headers=headers_of(chat.exchange))


async def _open(request: Request, call: Call, body: ChatBody) -> _Chat:
    """Admits a request. Raises ApiError."""
    wanted = wanted_of(body)
    served = service_of(request).registry.find(body.model, call)
    tokens = body.max_completion_tokens or body.max_tokens or served.max_output
    held = await _held(served, wanted, wanted.prompt, tokens, call)
    top = 0 if body.top is None else max(1, body.top)
    sampling, own_decoding = sampling_of(body, served.backend.decoding, tokens, top)
    model_request = ModelRequest(
        body.model, wanted.prompt, sampling, body.samples, seed_of(body), held, own_decoding, wanted.said
    )
    return _Chat(await begin(service_of(request), call, model_request), body, wanted)


async def _held(
    served: Served, wanted: Wanted, prompt: list[Message], tokens: int, call: Call
) -> Callable[[], Constraint] | None:
    """The constraint of the replies. Raises CharterError, with numbers, if the form can't fit."""
    if wanted.form is None:
        return None
    compiled = await served.backend.compile(wanted.form, call.caller.organisation, call.background)
    left = served.context - await served.backend.count(prompt)
    tokens = max(0, min(tokens, left))
    return wanted.offer.start(compiled, tokens) if wanted.offer else compiled.start(tokens)


async def _answer(chat: _Chat) -> dict[str, Any]:
    """The answer in one piece."""
    choices = chat.choices()
    async with aclosing(chat.exchange.parts()) as parts:
        async for part in parts:
            choices[part.sample].add(part)
    return {
        **chat.head("chat.completion"),
        "choices": [choice.whole for choice in choices],
        "usage": usage_form(chat.exchange.usage),
        **standing_field(chat.exchange.standing),
    }


async def _events(chat: _Chat, parts: AsyncGenerator[Part, None]) -> AsyncGenerator[ServerSentEvent, None]:
    """The chunks of all choices, as they are written."""
    note, choices = standing_field(chat.exchange.standing), chat.choices()
    chunks = Chunks(chat.head("chat.completion.chunk"), wants_usage(chat.body), note)
    for choice in choices:
        yield chunks.chunk(choice.begin())
    async with aclosing(parts):
        async for part in parts:
            for one in choices[part.sample].add(part):
                yield chunks.chunk(one)
    for last in chunks.usage(chat.exchange.usage):
        yield last
