"""POST /v1/messages and /v1/messages/count_tokens: a message, written in one round or several.

Where the model calls tools that the server runs, their results go back to it until it answers. Each round is a request
of its own to limits, policy and usage. A message ends when the model answers, when it calls a tool of the client's, and
with `max_tokens` or a full context over all rounds. It pauses (`pause_turn`) after the most rounds, or where a limit of
the key holds the next one back; sent back as it is, it goes on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable
from contextlib import aclosing
from copy import deepcopy
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
from charter_service.api.model_request import LOOP, Call, End, Part, Piece, Stop
from charter_service.api.service import Service
from charter_service.api.telling import standing_field
from charter_service.api.wire.answers import CountAnswer, MessageAnswer
from charter_service.api.wire.citations import Quoting, Said
from charter_service.api.wire.content import Turn
from charter_service.api.wire.conversation import conversation
from charter_service.api.wire.messages_body import CountBody, MessagesBody, Wanted, model_request_of, wanted_of
from charter_service.api.wire.reading import counting_headers, service_of, user_digest
from charter_service.api.wire.route import VERSION, Routes, check_version, version_of
from charter_service.api.wire.server_blocks import ResultBlock, input_for, problem_block, result_block, words_of
from charter_service.api.wire.server_tools import check_scope
from charter_service.api.wire.sources import read_sources
from charter_service.api.wire.streaming import event, start_events, stream, unless_gone
from charter_service.api.wire.tool_reading import Heard, Reader
from charter_service.tools.tool import ToolFailure
from charter_service.web.tokens import new_id

STOPS: dict[Stop, str] = {
    "end": "end_turn",
    "stop": "stop_sequence",
    "length": "max_tokens",
    "context": "model_context_window_exceeded",
    "refused": "refusal",
    "loop": "end_turn",
}
REPEATS = {"type": LOOP, "explanation": "the reply repeated itself; `loop_stop` false lets it go on"}
NOWHERE = "not_available"  # Anthropic's word for a region that isn't known
SERVER_CALL = "server_tool_use"
Event = dict[str, Any]
PAUSE = "pause_turn"
PASSING = ("allow", "safety_prompt")  # verdicts on a result that goes back to the model
WITHHELD = "the acceptable-use policy keeps this result back"
_LOG = logging.getLogger("charter_service.api")
_RESULT: TypeAdapter[ResultBlock] = TypeAdapter(ResultBlock)
MANY_BLOCKS = 1000


class Writing:
    """One message being written: the events of Anthropic's stream, and the message that they add up to.

    The message in one piece is built by the same steps as the stream, so that both are equal, except for a call that
    was cut off: a stream has already begun it, but the whole message leaves it out, since its input is not JSON. A
    quoted passage that is cited is a text block of its own.

    `reader` finds calls in the text, None if no tool may be used; `quoting` finds citations, None without them; `ttl`:
    for how long the request asked for a cache, so that tokens read from one or put into it are counted separately;
    empty: it didn't; `own`: names of tools that the server runs."""

    def __init__(
        self,
        model: str,
        input_tokens: int,
        *,
        reader: Reader | None,
        ttl: str = "",
        tier: str = "standard",
        quoting: Quoting | None = None,
        own: Collection[str] = (),
    ) -> None:
        self._reader, self._ttl, self._input, self._own = reader, ttl, input_tokens, own
        self._quoting, self._blank = quoting, ""  # blank text beside a citation, which makes no block
        self._last: End | None = None  # of a reply that called server tools
        self._spent = (0, 0, 0, 0)  # tokens of all rounds: input, put into the cache, read from it, output
        self._requests: dict[str, int] | None = {"web_search_requests": 0} if own else None
        self.pending: list[Event] = []  # calls of server tools without a result
        self._open: Event | None = None  # the unfinished block
        self._json = ""  # of the input of an unfinished call
        self._cut: Event | None = None  # the call that was cut off
        self._called = False  # whether the client has to run a tool
        self._pinged = False
        self.message: Event = {
            "id": f"msg_{new_id()}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "usage": {**self._usage(input_tokens), "service_tier": tier, "speed": "standard", "inference_geo": NOWHERE},
        }

    def begin(self) -> Event:
        """The first event."""
        # a reply has at least one token; the cache is told of at the end, when the prompt has been read
        usage = {**self.message["usage"], "output_tokens": 1}
        message = {**self.message, "content": [], "usage": usage}
        return {"type": "message_start", "message": message}

    def add(self, part: Part) -> list[Event]:
        """The events of a part of the answer."""
        if isinstance(part, Piece):
            heard = [Heard("text", part.text)] if self._reader is None else self._reader.feed(part.text)
            return self._tell(heard)
        return self._end(part)

    def _tell(self, heard: Iterable[Heard]) -> list[Event]:
        events: list[Event] = []
        for token in heard:
            if token.kind == "text":
                events += self._text_events(token.text)
            elif token.kind == "call":
                events += [*self._end_text(), *self._close()]
                self._json = ""
                events += self._begin(self._call(token.text))
            elif token.kind == "input":
                self._json += token.text
                events.append(self._delta({"type": "input_json_delta", "partial_json": token.text}))
            else:
                assert self._open is not None
                self._open["input"] = json.loads(self._json)
                if self._open["type"] == SERVER_CALL:
                    self.pending.append(self._open)
                else:
                    self._called = True
                events += self._close()
        return events

    def _text_events(self, text: str) -> list[Event]:
        return self._text(text) if self._quoting is None else self._say(self._quoting.feed(text))

    def _end_text(self) -> list[Event]:
        """Ends the text before something else."""
        return [] if self._quoting is None else self._say(self._quoting.end())

    def _say(self, pieces: Iterable[Said]) -> list[Event]:
        events: list[Event] = []
        for text, citation in pieces:
            if citation is not None:
                events += [*self._close(), *self._begin({"type": "text", "text": "", "citations": []})]
                events += self._text(text)
                assert self._open is not None
                self._open["citations"].append(citation)
                events += [self._delta({"type": "citations_delta", "citation": citation}), *self._close()]
            elif self._open is None and not (self._blank + text).strip():
                self._blank += text
            else:
                events += self._text(text)
        return events

    def _call(self, name: str) -> Event:
        by_server = name in self._own
        kind, prefix = (SERVER_CALL, "srvtoolu") if by_server else ("tool_use", "toolu")
        return {"type": kind, "id": f"{prefix}_{new_id()}", "name": name, "input": {}}

    def _text(self, text: str) -> list[Event]:
        text, self._blank = self._blank + text, ""
        if not text:
            return []
        events = [] if self._open is not None else self._begin({"type": "text", "text": ""})
        assert self._open is not None
        self._open["text"] += text
        return [*events, self._delta({"type": "text_delta", "text": text})]

    def _begin(self, block: Event) -> list[Event]:
        self._open = block
        index = len(self.message["content"])
        self.message["content"].append(block)
        events: list[Event] = [{"type": "content_block_start", "index": index, "content_block": deepcopy(block)}]
        if not self._pinged:
            self._pinged = True
            events.append({"type": "ping"})
        return events

    def _delta(self, delta: Event) -> Event:
        return {"type": "content_block_delta", "index": len(self.message["content"]) - 1, "delta": delta}

    def _close(self) -> list[Event]:
        if self._open is None:
            return []
        self._open = None
        return [{"type": "content_block_stop", "index": len(self.message["content"]) - 1}]

    def _end(self, end: End) -> list[Event]:
        message, events = self.message, list[Event]()
        if self._reader is not None:
            events += self._tell(self._reader.end())
        events += self._end_text()
        if end.stop == "refused" and not message["content"]:
            events += self._text(end.reason)
        if self._open is not None and self._open["type"] != "text":
            self._cut = self._open
        events += self._close()
        self._spend(end)
        if self.pending:
            self._last = end
            return events
        return [*events, *self._finish(end)]

    def search(self, name: str, arguments: dict[str, str]) -> list[Event]:
        """The events of a call that the server makes before the model is asked."""
        events = self._begin(self._call(name))
        assert self._open is not None
        self._open["input"] = arguments
        self.pending.append(self._open)
        self._last = End(0, "end")
        delta = {"type": "input_json_delta", "partial_json": json.dumps(self._open["input"])}
        return [*events, self._delta(delta), *self._close()]

    def _spend(self, end: End) -> None:
        """Adds the tokens of a round."""
        cached = min(end.cached_tokens, self._input) if self._ttl else 0
        created = min(end.kept_tokens, self._input - cached) if self._ttl else 0
        unread, put, cached_before, output = self._spent
        self._spent = (
            unread + self._input - cached - created,
            put + created,
            cached_before + cached,
            output + end.output_tokens,
        )

    @property
    def written(self) -> int:
        """Tokens that all rounds wrote."""
        return self._spent[3]

    def result(self, call: Event, block: Event) -> list[Event]:
        """The events of a result of a server tool, for a call of `pending`."""
        self.pending.remove(call)
        counts, name = self._requests or {}, f"{call['name']}_requests"
        self._requests = {**counts, name: counts.get(name, 0) + 1}
        return [*self._begin(block), *self._close()]

    def next_round(self, input_tokens: int, tools: bool = True) -> None:
        """Goes on with another reply of the model, to a prompt of so many tokens."""
        self._input, self._reader = input_tokens, Reader() if tools else None

    @property
    def ended(self) -> bool:
        """Whether calls of server tools were the end of the model's reply, so that it may go on: nothing cut it off,
        and no call is left to the client."""
        return self._last is not None and self._last.stop == "end" and not self._called

    def finish(self, reason: str = "") -> list[Event]:
        """The last events, after server tools were used; `reason` why the message ends, by default the model's."""
        assert self._last is not None
        return self._finish(self._last, reason)

    def _finish(self, end: End, reason: str = "") -> list[Event]:
        message = self.message
        delta: Event = {"stop_reason": reason or STOPS[end.stop], "stop_sequence": end.stopped_by}
        if self._called and end.stop == "end":
            delta["stop_reason"] = "tool_use"
        if end.stop == "refused":
            why = {"category": end.category or None, "explanation": end.reason or None}
            delta["stop_details"] = {"type": "refusal", **why}
        elif end.stop == "loop":
            delta["stop_details"] = dict(REPEATS)
        usage = self._usage(*self._spent)
        message.update(delta)
        message["usage"].update(usage)
        message["content"] = [block for block in message["content"] if block is not self._cut]
        return [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]

    def _usage(self, unread: int, created: int = 0, cached: int = 0, output: int = 0) -> Event:
        """The tokens of the message: the prompt's that were neither put into its cache nor read from it, those that
        were, and the reply's."""
        return {
            "input_tokens": unread,
            "cache_creation_input_tokens": created,
            "cache_read_input_tokens": cached,
            "cache_creation": {
                "ephemeral_5m_input_tokens": created if self._ttl == "5m" else 0,
                "ephemeral_1h_input_tokens": created if self._ttl == "1h" else 0,
            },
            "output_tokens": output,
            "output_tokens_details": {"thinking_tokens": 0},
            SERVER_CALL: self._requests,
        }


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
        settings, tool = self.wanted.own[name]
        self.uses[name] += 1
        if settings.max_uses is not None and self.uses[name] > settings.max_uses:
            raise ToolFailure("max_uses_exceeded", f"{name} may be used {settings.max_uses} times in a message")
        content = await self.service.use_tool(self.call, lambda: tool.run(arguments, settings.domains))
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
        tokens_left = body.max_tokens - self.writing.written
        if tokens_left < 1:
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
        next_body = body.model_copy(update={"max_tokens": tokens_left})
        try:
            request = await model_request_of(next_body, self.wanted, served, self.call)
            self.exchange = await begin(self.service, self.call, request)
        except (TooMany, Overloaded):
            if not self.writing.written:
                raise
            return PAUSE
        if safety and not self.exchange.safety:
            self.exchange.add_safety(safety)
        self.writing.next_round(tokens, offer is not None)
        return ""


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
    headers = counting_headers(service, call)
    tokens = await served.backend.count((await _read_request(service, call, body)).prompt)
    return JSONResponse({"input_tokens": tokens}, headers=headers)


def with_user(call: Call, body: MessagesBody) -> Call:
    """The call with the user that the body names."""
    named = body.metadata.user_id if body.metadata else None
    return replace(call, user=user_digest(named))


async def open_message(service: Service, call: Call, body: MessagesBody) -> Answer:
    """An admitted request, and its message to write. Raises ApiError."""
    served = service.registry.find(body.model, call)
    wanted = await _read_request(service, call, body)
    exchange = await begin(service, call, await model_request_of(body, wanted, served, call))
    return Answer(service, call, body, wanted, exchange, writing_of(exchange, wanted))


async def _read_request(service: Service, call: Call, body: CountBody) -> Wanted:
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
        yield _server_event(opening)
        async with aclosing(steps):
            async for step in steps:
                for step_event in step:
                    yield _server_event(step_event)
    except Exception as error:
        problem = api_error(error)
        if problem.status >= 500:
            log_failure(error, request_id)
        yield event(anthropic_body(problem, request_id), "error")


def _server_event(content: Event) -> ServerSentEvent:
    return event(content, content["type"])
