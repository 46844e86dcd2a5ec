"""POST /v1/messages and /v1/messages/count_tokens.

A message that a model writes in rounds: where it calls tools that the server runs, their results go back to it until
it answers.

Each round is a request of its own to limits, policy and usage. A message ends when the model answers, when it calls a
tool of the client's, and with `max_tokens` or a full context over all rounds. It pauses (`pause_turn`) after the most
rounds, or where a limit of the key holds the next one back; sent back as it is, it goes on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter
from sse_starlette import ServerSentEvent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from charter.ground.generate.engine_limits import Overloaded
from charter.ground.text.dialogue import user
from charter_service.accounts.limits import TooMany
from charter_service.api.errors import anthropic_body, api_error
from charter_service.api.exchange import Exchange, begin, with_safety
from charter_service.api.guard import log_failure
from charter_service.api.held import ease
from charter_service.api.model_request import Call
from charter_service.api.service import Service
from charter_service.api.telling import standing_field
from charter_service.api.wire.answers import CountAnswer, MessageAnswer
from charter_service.api.wire.citations import Quoting
from charter_service.api.wire.content import Turn
from charter_service.api.wire.conversation import conversation
from charter_service.api.wire.messages_answer import STOPS, Event, Writing
from charter_service.api.wire.messages_body import (
    CountBody,
    MessagesBody,
    Wanted,
    model_request_of,
    wanted_of,
)
from charter_service.api.wire.reading import counting_headers, service_of, user_digest
from charter_service.api.wire.route import VERSION, Routes
from charter_service.api.wire.server_blocks import (
    ResultBlock,
    input_for,
    problem_block,
    result_block,
    words_of,
)
from charter_service.api.wire.server_tools import check_scope
from charter_service.api.wire.sources import read_sources
from charter_service.api.wire.streaming import event, start_events, stream, unless_gone
from charter_service.api.wire.tool_reading import Reader
from charter_service.api.wire.version import check_version, version_of
from charter_service.tools.tool import ToolFailure

PAUSE = "pause_turn"
PASSING = ("allow", "safety_prompt")  # verdicts on a result that goes back to the model
WITHHELD = "the acceptable-use policy keeps this result back"
_LOG = logging.getLogger("charter_service.api")
_RESULT: TypeAdapter[ResultBlock] = TypeAdapter(ResultBlock)


@dataclass
class Answer:
    """A message under way. Pass `steps` to one reader, and close it."""

    service: Service
    call: Call
    body: MessagesBody
    wanted: Wanted
    exchange: Exchange  # the present round
    writing: Writing
    uses: Counter[str] = field(default_factory=Counter)

    async def steps(self) -> AsyncGenerator[list[Event], None]:
        """The events, a few at a time."""
        rounds = self.service.config.tools.rounds if self.service.config.tools else 1
        searches = bool(self.wanted.searches) and not self.exchange.refusal
        while True:
            if searches:
                self.exchange.leave()
                for name in self.wanted.searches:
                    yield self.writing.search(name, input_for(name, self.wanted.question))
            else:
                async with aclosing(self.exchange.parts()) as parts:
                    async for part in parts:
                        yield self.writing.add(part)
            if not self.writing.pending:
                return
            calls = list(self.writing.pending)
            blocks = await asyncio.gather(*(self._run(block) for block in calls))
            for block, result in zip(calls, blocks, strict=True):
                yield self.writing.result(block, result)
            rounds -= not searches
            searches = False
            reason = "" if not self.writing.ended else PAUSE if not rounds else await self._go_on()
            if reason or not self.writing.ended:
                yield self.writing.finish(reason)
                return

    async def _run(self, block: Event) -> Event:
        """The result of a call."""
        name, id, began, failed = block["name"], block["id"], time.monotonic(), False
        try:
            result = await self._result(name, id, block["input"])
        except ToolFailure as failure:
            failed, result = True, problem_block(name, id, failure.code, str(failure))
        except Overloaded as error:
            failed, result = True, problem_block(name, id, "too_many_requests", str(error))
        except Exception as error:
            log_failure(error, self.call.request_id)
            failed, result = True, problem_block(name, id, "unavailable", "the tool failed on our side")
        self.service.meter.record_tool(self.call.caller.key, name, failed, time.time())
        facts = {"id": self.call.request_id, "tool": name, "failed": failed}
        _LOG.info(json.dumps(facts | {"ms": round(1000 * (time.monotonic() - began))}))
        return result

    async def _result(self, name: str, id: str, arguments: dict[str, Any]) -> Event:
        """What a tool gives. Raises ToolFailure and Overloaded."""
        asked, tool = self.wanted.own[name]
        self.uses[name] += 1
        if asked.max_uses is not None and self.uses[name] > asked.max_uses:
            raise ToolFailure("max_uses_exceeded", f"{name} may be used {asked.max_uses} times in a message")
        content = await self.service.use_tool(self.call, lambda: tool.run(arguments, asked.domains))
        block = result_block(name, id, content)
        await self._screen(block)
        return block

    async def _screen(self, block: Event) -> None:
        """Keeps back a result that the policy blocks or flags: in the prompt, it would count for the account in each
        later round. It is a stranger's text, so it counts for no account."""
        exchange = self.exchange
        screen = exchange.screen
        if screen is None:
            return
        words, _ = words_of(_RESULT.validate_python(block))
        if exchange.exemptions:
            screen = ease(screen, exchange.exemptions)
        verdict = await self.service.judge(
            self.call, screen.steps([user(words)], exchange.sensitivity, self.call.caller.organisation)
        )
        if verdict.action not in PASSING:
            raise ToolFailure("unavailable", WITHHELD)

    async def _go_on(self) -> str:
        """Begins the next round; else why the message ends. Raises Refusal, also for a limit if the model has written
        nothing that a pause would keep."""
        body, wanted, served = self.body, self.wanted, self.exchange.served
        left = body.max_tokens - self.writing.written
        if left < 1:
            return STOPS["length"]
        answered = Turn.model_validate({"role": "assistant", "content": self.writing.message["content"]})
        talk = conversation([*body.messages, answered], body.system, wanted.more)
        safety = self.exchange.safety
        tokens = await served.backend.count(with_safety(talk.prompt, safety) if safety else talk.prompt)
        if tokens + 1 > served.context:
            return STOPS["context"]
        offer, form = wanted.offer, wanted.form
        if offer is not None and self.writing.written:  # a forced choice is for the model's first round
            offer = offer.later or offer
            form = offer.form()
        self.wanted = replace(wanted, prompt=talk.prompt, said=talk.said, offer=offer, form=form)
        rest = body.model_copy(update={"max_tokens": left})
        try:
            request = await model_request_of(rest, self.wanted, served, self.call)
            self.exchange = await begin(self.service, self.call, request)
        except (TooMany, Overloaded):
            if not self.writing.written:
                raise
            return PAUSE
        if safety and not self.exchange.safety:
            self.exchange.add_safety(safety)
        self.writing.next_round(tokens, offer is not None)
        return ""


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
