"""POST /v1/chat/completions: a conversation answered, in OpenAI's shape.

A last message of the assistant's is continued, as vLLM does for `continue_final_message` (which may be left out). Tools
and forms hold replies as they do for messages.

A choice is written as the deltas of a stream, and as the message that they add up to. `stop_reason` is vLLM's: the stop
sequence that ended the reply, or "repetition"; OpenAI's shape lacks it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from sse_starlette import ServerSentEvent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from charter.ground.generate.constraint import Constraint
from charter.ground.text.dialogue import Message
from charter_service.api.exchange import Exchange, begin
from charter_service.api.model_request import Call, End, ModelRequest, Part, Piece, Token
from charter_service.api.registry import Served
from charter_service.api.telling import standing_field
from charter_service.api.wire.answers import ChatAnswer
from charter_service.api.wire.chat_body import ChatBody, Wanted, wanted_of
from charter_service.api.wire.openai import (
    Chunks,
    chat_form,
    end_stream,
    finish_of,
    head_of,
    headers_of,
    sampling_of,
    seed_of,
    stop_of,
    usage_form,
    wants_usage,
)
from charter_service.api.wire.reading import service_of, user_digest
from charter_service.api.wire.route import Routes
from charter_service.api.wire.streaming import start_events, stream, unless_gone
from charter_service.api.wire.tool_reading import Heard, Reader
from charter_service.web.tokens import new_id


class Choice:
    """`tools`: look for calls in the text. `top`: how many of the likeliest tokens to show in each place; None: no
    log-probabilities."""

    def __init__(self, index: int, tools: bool, top: int | None) -> None:
        self._index, self._top = index, top
        self._reader = Reader() if tools else None
        self._text = ""
        self._calls: list[dict[str, Any]] = []
        self._complete = 0  # complete calls
        self._tokens: list[Token] = []
        self._refusal: str | None = None
        self._finish: str | None = None
        self._stopped_by: str | None = None

    def begin(self) -> dict[str, Any]:
        """The first chunk's choice."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def add(self, part: Part) -> list[dict[str, Any]]:
        """The choices of the chunks for a part of the answer."""
        if isinstance(part, End):
            return self._end(part)
        self._tokens += part.tokens
        events = self._tell([Heard("text", part.text)] if self._reader is None else self._reader.feed(part.text))
        deltas = events or ([{}] if part.tokens and self._top is not None else [])
        return [self._chunk(delta, part if n == 0 else None) for n, delta in enumerate(deltas)]

    @property
    def whole(self) -> dict[str, Any]:
        """The choice in one piece. A call that was cut off is left out: its arguments are not JSON."""
        calls = self._calls[: self._complete]
        message = {
            "role": "assistant",
            "content": self._text if self._text or not (calls or self._refusal) else None,
            "refusal": self._refusal,
            **({"tool_calls": calls} if calls else {}),
        }
        logprobs = None if self._top is None else chat_form(self._tokens, self._top)
        return {
            "index": self._index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": self._finish,
            "stop_reason": self._stopped_by,
        }

    def _tell(self, heard: Iterable[Heard]) -> list[dict[str, Any]]:
        deltas: list[dict[str, Any]] = []
        for piece in heard:
            if piece.kind == "text" and piece.text:
                self._text += piece.text
                deltas.append({"content": piece.text})
            elif piece.kind == "call":
                function = {"name": piece.text, "arguments": ""}
                call = {"id": f"call_{new_id()}", "type": "function", "function": function}
                self._calls.append(call)
                delta = {"index": len(self._calls) - 1, **call, "function": dict(function)}
                deltas.append({"tool_calls": [delta]})
            elif piece.kind == "input":
                self._calls[-1]["function"]["arguments"] += piece.text
                delta = {"index": len(self._calls) - 1, "function": {"arguments": piece.text}}
                deltas.append({"tool_calls": [delta]})
            elif piece.kind == "called":
                self._complete = len(self._calls)
        return deltas

    def _end(self, end: End) -> list[dict[str, Any]]:
        deltas = self._tell(self._reader.end()) if self._reader is not None else []
        all_complete = self._complete and self._complete == len(self._calls)
        self._finish = "tool_calls" if all_complete and end.stop in ("end", "stop") else finish_of(end)
        if end.stop == "refused":
            self._refusal = end.reason
            deltas.append({"refusal": end.reason})
        self._stopped_by = stop_of(end)
        last = {**self._chunk({}), "finish_reason": self._finish, "stop_reason": self._stopped_by}
        return [*(self._chunk(delta) for delta in deltas), last]

    def _chunk(self, delta: dict[str, Any], piece: Piece | None = None) -> dict[str, Any]:
        with_logprobs = piece is not None and self._top is not None
        logprobs = chat_form(piece.tokens, self._top or 0) if piece is not None and with_logprobs else None
        return {"index": self._index, "delta": delta, "logprobs": logprobs, "finish_reason": None}


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
    constraint = await _reply_constraint(served, wanted, wanted.prompt, tokens, call)
    top = 0 if body.top is None else max(1, body.top)
    sampling, own_decoding = sampling_of(body, served.backend.decoding, tokens, top)
    model_request = ModelRequest(
        body.model, wanted.prompt, sampling, body.samples, seed_of(body), constraint, own_decoding, wanted.said
    )
    return _Chat(await begin(service_of(request), call, model_request), body, wanted)


async def _reply_constraint(
    served: Served, wanted: Wanted, prompt: list[Message], tokens: int, call: Call
) -> Callable[[], Constraint] | None:
    """The constraint of the replies. Raises CharterError, with numbers, if the form can't fit."""
    if wanted.form is None:
        return None
    compiled = await served.backend.compile(wanted.form, call.caller.organisation, call.background)
    room = served.context - await served.backend.count(prompt)
    tokens = max(0, min(tokens, room))
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
            for delta in choices[part.sample].add(part):
                yield chunks.chunk(delta)
    for last in chunks.usage(chat.exchange.usage):
        yield last
