"""POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from sse_starlette import ServerSentEvent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from charter_service.api.errors import anthropic_body, api_error
from charter_service.api.exchange import Exchange, begin
from charter_service.api.guard import log_failure
from charter_service.api.model_request import Call
from charter_service.api.service import Service
from charter_service.api.telling import standing_field
from charter_service.api.wire.answers import CountAnswer, MessageAnswer
from charter_service.api.wire.citations import Quoting
from charter_service.api.wire.messages_answer import Event, Writing
from charter_service.api.wire.messages_body import (
    CountBody,
    MessagesBody,
    Wanted,
    model_request_of,
    wanted_of,
)
from charter_service.api.wire.reading import counting_headers, service_of, user_digest
from charter_service.api.wire.rounds import Answer
from charter_service.api.wire.route import VERSION, Routes
from charter_service.api.wire.server_tools import check_scope
from charter_service.api.wire.sources import read_sources
from charter_service.api.wire.streaming import event, start_events, stream, unless_gone
from charter_service.api.wire.tool_reading import Reader
from charter_service.api.wire.version import check_version, version_of

MANY_BLOCKS = 1000
ROUTES = Routes("Messages", "messages")


@ROUTES.add("POST", "/v1/messages", "Create a message", MessageAnswer, VERSION)
async def create_message(request: Request, call: Call, body: MessagesBody) -> Response:
    """A message, in one piece or as events."""
    check_version(version_of(request), body)
    call = with_user(call, body)
    answer = await unless_gone(request, open_message(service_of(request), call, body))
    headers = answer.exchange.headers
    if not body.stream:
        return JSONResponse(await unless_gone(request, message_of(answer)), headers=headers)
    opening = answer.writing.begin()
    steps = await start_events(request, answer.steps())
    return stream(events(opening, steps, call.request_id), headers, event({"type": "ping"}, "ping"))


@ROUTES.add("POST", "/v1/messages/count_tokens", "Count tokens", CountAnswer, VERSION)
async def count_tokens(request: Request, call: Call, body: CountBody) -> Response:
    """The number of tokens of a prompt, as in `usage.input_tokens`."""
    check_version(version_of(request), body)
    service = service_of(request)
    served = service.registry.find(body.model, call)
    left = counting_headers(service, call)
    tokens = await served.backend.count((await _wanted(service, call, body)).prompt)
    return JSONResponse({"input_tokens": tokens}, headers=left)


def with_user(call: Call, body: MessagesBody) -> Call:
    """The call with the user that the body names."""
    named = body.metadata.user_id if body.metadata else None
    return replace(call, user=user_digest(named))


async def open_message(service: Service, call: Call, body: MessagesBody) -> Answer:
    """An admitted request, and its message to write. Raises ApiError."""
    served = service.registry.find(body.model, call)
    wanted = await _wanted(service, call, body)
    exchange = await begin(service, call, await model_request_of(body, wanted, served, call))
    return Answer(service, call, body, wanted, exchange, writing_of(exchange, wanted))


async def _wanted(service: Service, call: Call, body: CountBody) -> Wanted:
    """The request of a body, whose documents are read; one with many blocks is built beside the event loop."""
    check_scope(body.tools, call.caller)
    citable = await read_sources(service, call, body)
    blocks = sum(len(turn.content) for turn in body.messages)
    if blocks < MANY_BLOCKS:
        return wanted_of(body, citable, service.tools)
    return await service.aside(call.caller, lambda: wanted_of(body, citable, service.tools), call.background)


def writing_of(exchange: Exchange, wanted: Wanted) -> Writing:
    """The message of an exchange, still empty."""
    writing = Writing(
        exchange.served.id,
        exchange.usage.input_tokens,
        reader=Reader() if wanted.offer else None,
        ttl=wanted.ttl,
        quoting=Quoting(wanted.citable) if wanted.citable else None,
        tier="batch" if exchange.call.background else "standard",
        own=wanted.own,
    )
    writing.message |= standing_field(exchange.standing)
    return writing


async def message_of(answer: Answer) -> Event:
    """The message in one piece."""
    async with aclosing(answer.steps()) as steps:
        async for _ in steps:
            pass
    return answer.writing.message | standing_field(answer.exchange.standing)


async def events(
    opening: Event, steps: AsyncGenerator[list[Event], None], request_id: str
) -> AsyncIterator[ServerSentEvent]:
    """The events of a message; an error is the last one."""
    try:
        yield _named(opening)
        async with aclosing(steps):
            async for step in steps:
                for one in step:
                    yield _named(one)
    except Exception as error:
        problem = api_error(error)
        if problem.status >= 500:
            log_failure(error, request_id)
        yield event(anthropic_body(problem, request_id), "error")


def _named(one: Event) -> ServerSentEvent:
    return event(one, one["type"])
