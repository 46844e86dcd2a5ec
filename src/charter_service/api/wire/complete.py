r"""POST /v1/complete: the Text Completions API of Claude 2, in both of its versions.

    2023-06-01   named events with only the new text, the last one empty and with its stop_reason
    2023-01-01   events without a name, each with all of the text so far, then [DONE]; `exception` and `truncated`

Answers of both had `stop` and `log_id` in 2023. For this API, a model that ends its turn by itself stops at the
built-in stop sequence "\n\nHuman:". A refusal by the acceptable-use policy is text with the reason. Text that begins
a turn begins with a space, since prompts end at the colon. `model` is the model's id, whichever alias was asked for:
"the model that performed the completion", as the clients of 2023 describe it. A stream begins with a ping.

A prompt is one text in which "\n\nHuman:" and "\n\nAssistant:" take turns. It is read into messages, so that a model
with any chat template works in the API of 2023. A turn loses the one space after its colon and nothing else: a model
whose template is claude-2023 reads the prompt's own characters again (and its end token after earlier replies, as in
training). Text before the first Human turn is a system prompt (spec: it came with Claude 2.1).

Version 2023-01-01 left these checks to its client; here it tolerates that client's most common mistakes: missing line
breaks before the first Human turn, and spaces at the very end.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any

from pydantic import Field
from sse_starlette import ServerSentEvent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from charter.ground.generate.sampling import sampling_at
from charter.ground.model.generation import choose_decoding
from charter.ground.text.dialogue import Message, Role, assistant, system
from charter_service.api.errors import ApiError, anthropic_body, api_error, invalid
from charter_service.api.exchange import Exchange, begin
from charter_service.api.guard import log_failure
from charter_service.api.model_request import Call, End, ModelRequest, Part, Piece
from charter_service.api.registry import Served
from charter_service.api.telling import standing_field
from charter_service.api.wire.answers import CompletionAnswer
from charter_service.api.wire.content import Metadata, Strict
from charter_service.api.wire.reading import service_of, user_digest
from charter_service.api.wire.route import VERSION, Routes, Version, version_of
from charter_service.api.wire.streaming import event, start_events, stream, unless_gone
from charter_service.web.tokens import new_id

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
OLD: Version = "2023-01-01"
PING = event({"type": "ping"}, "ping")
SMALLEST_TOP_P = 1e-9  # stands for 0: only the likeliest token
StopSequence = Annotated[str, Field(min_length=1, max_length=1000)]


def messages_of(prompt: str, lenient: bool = False) -> list[Message]:
    """The messages of a prompt; the model continues a last Assistant turn with text.

    Raises ApiError with the words of the API if the turns are not in order.
    """
    if lenient:
        prompt = prompt.rstrip(" ")
        prompt = f"\n\n{prompt.lstrip()}" if prompt.lstrip().startswith("Human:") else prompt
    before, *turns = _TURN.split(prompt)
    names, texts = turns[::2], [text.removeprefix(" ") for text in turns[1::2]]
    if not names or names[0] != "Human":
        optional = "" if lenient else " after an optional system prompt"
        raise _wrong(f'prompt must start with "{HUMAN}" turn{optional}')
    if twice := [name for name, following in pairwise(names) if name == following]:
        raise _wrong(
            f'prompt must alternate between "{HUMAN}" and "{ASSISTANT}" turns, but has two "\n\n{twice[0]}:" in a row'
        )
    if names[-1] != "Assistant":
        raise _wrong(f'prompt must end with "{ASSISTANT}" turn')
    messages = [system(before)] if before.strip() else []
    messages += [Message(role=_ROLES[name], content=text) for name, text in zip(names[:-1], texts[:-1], strict=True)]
    return [*messages, assistant(texts[-1])] if texts[-1].strip() else messages


def _wrong(words: str) -> ApiError:
    return invalid(words, "prompt")


ROUTES = Routes("Text completions", "messages")


class CompleteBody(Strict):
    """The body of a text completion."""

    model: str = Field(min_length=1, max_length=256)
    prompt: str = Field(min_length=1)
    max_tokens_to_sample: int = Field(ge=1)
    stop_sequences: list[StopSequence] | None = Field(None, max_length=64)
    temperature: float | None = Field(None, ge=0, le=1)
    top_p: float | None = Field(None, ge=-1, le=1, description="-1: off")
    top_k: int | None = Field(None, ge=-1, le=2**31 - 1, description="-1: off")
    metadata: Metadata | None = None
    stream: bool | None = None
    loop_stop: bool = Field(True, description="a field of Charter: end a reply that repeats itself")


@ROUTES.add("POST", "/v1/complete", "Continue a prompt (2023)", CompletionAnswer, VERSION)
async def complete(request: Request, call: Call, body: CompleteBody) -> Response:
    """Continues a prompt."""
    version = version_of(request)
    model_request = model_request_of(body, version, service_of(request).registry.find(body.model, call))
    if body.metadata:
        call = replace(call, user=user_digest(body.metadata.user_id))
    if not body.stream:
        return await unless_gone(request, _answer(request, call, model_request, version, _lead(body)))
    exchange = await unless_gone(request, _begin(request, call, model_request))
    parts = await start_events(request, exchange.parts())
    reply = _Reply(f"compl_{new_id()}", exchange, version == OLD, _lead(body))
    return stream(_events(reply, parts), exchange.headers, PING)


def model_request_of(body: CompleteBody, version: Version, served: Served) -> ModelRequest:
    """The body as a request to a model. Raises ApiError."""
    if body.top_p is not None and -1 < body.top_p < 0:
        raise invalid("top_p: expected a number from 0 to 1, or -1 for off", "top_p")
    model_decoding, top_p = served.backend.decoding, body.top_p
    if top_p is not None:
        top_p = 1.0 if top_p < 0 else max(SMALLEST_TOP_P, top_p)
    decoding = choose_decoding(
        model_decoding, body.temperature, top_p, None if body.top_k is None else max(0, body.top_k)
    )
    stops = tuple(dict.fromkeys((HUMAN, *(body.stop_sequences or ()))))
    sampling = sampling_at(decoding, body.max_tokens_to_sample, stops, body.loop_stop)
    prompt = messages_of(body.prompt, lenient=version == OLD)
    return ModelRequest(body.model, prompt, sampling, own_decoding=decoding is model_decoding)


@dataclass(frozen=True, slots=True)
class _Reply:
    """The writer of one answer. `lead`: what stands before its first text."""

    id: str
    exchange: Exchange
    old: bool
    lead: str

    def led(self, text: str) -> str:
        """The first text of the answer, with a space before it unless it has one."""
        return f"{self.lead}{text}" if text and not text[0].isspace() else text

    def body(self, text: str, end: End | None = None, problem: ApiError | None = None) -> dict[str, Any]:
        """An answer in one piece, or the content of one event."""
        reason, stop = _stop_of(end) if end else (None, None)
        facts = {
            "completion": text,
            "stop_reason": reason,
            "model": self.exchange.served.id,
            "stop": stop,
            "log_id": self.exchange.call.request_id,
            **(standing_field(self.exchange.standing) if end else {}),
        }
        if self.old:
            exception = f"{problem.kind}: {problem}" if problem else None
            return {**facts, "truncated": False, "exception": exception}
        return {"type": "completion", "id": self.id, **facts}


def _lead(body: CompleteBody) -> str:
    """A space if the reply begins its turn."""
    return " " if body.prompt.endswith(ASSISTANT) else ""


async def _begin(request: Request, call: Call, model_request: ModelRequest) -> Exchange:
    try:
        return await begin(service_of(request), call, model_request)
    except ApiError as error:
        if error.param != "max_tokens":
            raise
        raise invalid(str(error).replace("max_tokens", "max_tokens_to_sample", 1), "max_tokens_to_sample") from error


async def _answer(request: Request, call: Call, model_request: ModelRequest, version: Version, lead: str) -> Response:
    exchange = await _begin(request, call, model_request)
    (sample,) = await exchange.whole()
    assert sample.end is not None
    reply = _Reply(f"compl_{new_id()}", exchange, version == OLD, lead)
    text = reply.led(sample.text) + _refusal(sample.end, bool(sample.text))
    return JSONResponse(reply.body(text, sample.end), headers=exchange.headers)


async def _events(reply: _Reply, parts: AsyncGenerator[Part, None]) -> AsyncIterator[ServerSentEvent]:
    """The events of a stream, in the dialect of its version."""
    name, text = None if reply.old else "completion", ""
    yield PING
    try:
        async with aclosing(parts):
            async for part in parts:
                new = part.text if isinstance(part, Piece) else _refusal(part, bool(text))
                new = new if text else reply.led(new)
                text += new
                if new:
                    yield event(reply.body(text if reply.old else new), name)
                if isinstance(part, End):
                    yield event(reply.body(text if reply.old else "", part), name)
    except Exception as error:
        problem, request_id = api_error(error), reply.exchange.call.request_id
        if problem.status == 500:
            log_failure(error, request_id)
        if reply.old:
            yield event(reply.body(text, problem=problem))
        else:
            yield event(anthropic_body(problem, request_id), "error")
    if reply.old:
        yield event("[DONE]")


def _stop_of(end: End) -> tuple[str, str | None]:
    """stop_reason, and the stop sequence."""
    if end.stop in ("length", "context"):
        return "max_tokens", None
    if end.stop == "loop":
        return "stop_sequence", None
    return "stop_sequence", end.stopped_by or HUMAN


def _refusal(end: End, follows: bool) -> str:
    """The end of a refused reply's text: the reason."""
    if end.stop != "refused":
        return ""
    return f"\n\n{end.reason}" if follows else f" {end.reason}"
