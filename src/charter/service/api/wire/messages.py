"""POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from sse_starlette import ServerSentEvent

from charter.service.api.errors import anthropic_body, api_error
from charter.service.api.exchange import Exchange, begin
from charter.service.api.guard import log_failure
from charter.service.api.model_request import Call, Part
from charter.service.api.service import Service
from charter.service.api.telling import standing_field, standing_headers
from charter.service.api.wire.answers import CountAnswer, MessageAnswer
from charter.service.api.wire.messages_answer import Event, Writing
from charter.service.api.wire.messages_body import (
    CountBody,
    MessagesBody,
    Wanted,
    model_request_of,
    wanted_of,
)
from charter.service.api.wire.reading import (
    LARGEST_BODY,
    body_of,
    call_of,
    counting_headers,
    service_of,
    user_digest,
)
from charter.service.api.wire.route import VERSION, Route
from charter.service.api.wire.streaming import event, started, stream, unless_gone
from charter.service.api.wire.tool_reading import Reader
from charter.service.api.wire.version import version_of

MANY_BLOCKS = 1000


async def create_message(request: Request) -> Response:
    """A message, in one piece or as events."""
    service, call = service_of(request), await call_of(request)
    version_of(request)
    body = await body_of(request, MessagesBody, LARGEST_BODY)
    call = with_user(call, body)
    exchange, writing = await unless_gone(request, open_message(service, call, body))
    if not body.stream:
        message = await unless_gone(request, message_of(exchange, writing))
        return JSONResponse(message, headers=answer_headers(exchange))
    parts = await started(request, exchange.parts())
    answer = events(writing, parts, call.request_id)
    return stream(answer, answer_headers(exchange), event({"type": "ping"}, "ping"))


async def count_tokens(request: Request) -> Response:
    """The number of tokens of a prompt, as in `usage.input_tokens`."""
    service, call = service_of(request), await call_of(request)
    version_of(request)
    body = await body_of(request, CountBody, LARGEST_BODY)
    served = service.registry.find(body.model, call)
    left = counting_headers(service, call)
    try:
        tokens = await served.backend.count((await _wanted(service, call, body)).prompt)
    except Exception as error:
        raise api_error(error) from error
    return JSONResponse({"input_tokens": tokens}, headers=left)


def with_user(call: Call, body: MessagesBody) -> Call:
    """The call with the user that the body names."""
    named = body.metadata.user_id if body.metadata else None
    return Call(call.caller, call.request_id, call.surface, user_digest(named), call.background)


async def open_message(service: Service, call: Call, body: MessagesBody) -> tuple[Exchange, Writing]:
    """An admitted request, and its message to write. Raises ApiError."""
    wanted = await _wanted(service, call, body)
    served = service.registry.find(body.model, call)
    try:
        model_request = await model_request_of(body, wanted, served, call)
    except Exception as error:
        raise api_error(error) from error
    exchange = await begin(service, call, model_request)
    return exchange, writing_of(exchange, wanted)


async def _wanted(service: Service, call: Call, body: CountBody) -> Wanted:
    """The request of a body; one with many blocks is built beside the event loop."""
    blocks = sum(len(turn.content) for turn in body.messages)
    if blocks < MANY_BLOCKS:
        return wanted_of(body)
    return await service.aside(call.caller, lambda: wanted_of(body), call.background)


def writing_of(exchange: Exchange, wanted: Wanted) -> Writing:
    """The message of an exchange, still empty."""
    writing = Writing(
        exchange.served.id,
        exchange.usage.input_tokens,
        reader=Reader() if wanted.offer else None,
        marked=wanted.marked,
        tier="batch" if exchange.call.background else "standard",
    )
    writing.message |= standing_field(exchange.standing)
    return writing


async def message_of(exchange: Exchange, writing: Writing) -> Event:
    """The message in one piece."""
    async with aclosing(exchange.parts()) as parts:
        async for part in parts:
            writing.add(part)
    return writing.message | standing_field(exchange.standing)


def answer_headers(exchange: Exchange) -> dict[str, str]:
    """Headers with the rest of the key's limits, its organisation, and the caller's standing if it isn't good."""
    owner = {"anthropic-organization-id": exchange.call.caller.organisation}
    return {**exchange.admission.headers, **owner, **standing_headers(exchange.standing)}


async def events(
    writing: Writing, parts: AsyncGenerator[Part, None], request_id: str
) -> AsyncIterator[ServerSentEvent]:
    """The events of a message; an error is the last one."""
    try:
        yield _named(writing.begin())
        async with aclosing(parts):
            async for part in parts:
                for one in writing.add(part):
                    yield _named(one)
    except Exception as error:
        problem = api_error(error)
        if problem.status >= 500:
            log_failure(error, request_id)
        yield event(anthropic_body(problem, request_id), "error")


def _named(one: Event) -> ServerSentEvent:
    return event(one, one["type"])


ROUTES = (
    Route(
        "POST",
        "/v1/messages",
        create_message,
        "Create a message",
        "Messages",
        MessagesBody,
        MessageAnswer,
        (VERSION,),
    ),
    Route(
        "POST",
        "/v1/messages/count_tokens",
        count_tokens,
        "Count tokens",
        "Messages",
        CountBody,
        CountAnswer,
        (VERSION,),
    ),
)
