"""POST /v1/completions: continues plain text, in OpenAI's shape: text or token ids, several prompts, echo and
log-probabilities. With `echo`, `logprobs` and `max_tokens` 0 it scores a given text, which evaluation tools need.

If the model ended a reply, its end token is among the log-probabilities, though not in the text: tools that request one
token and cut it off again depend on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from sse_starlette import ServerSentEvent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from charter_service.api.errors import invalid
from charter_service.api.exchange import Exchange, begin
from charter_service.api.local import LocalBackend
from charter_service.api.model_request import Call, End, Ids, ModelRequest, Piece, Token, Usage, Whole
from charter_service.api.registry import Served
from charter_service.api.service import Service
from charter_service.api.telling import standing_field
from charter_service.api.wire.answers import CompletionsAnswer
from charter_service.api.wire.openai import (
    Chunks,
    Columns,
    Sampled,
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

ROUTES = Routes("OpenAI's shapes", "messages")
MOST_PROMPTS = 256
MOST_TOP = 5
MOST_ENDS = 64
DEFAULT_TOKENS = 16  # as in OpenAI's API
AT_ONCE = 8  # prompts of one request


def _as_list(value: Any) -> Any:
    """A single prompt stands for a list of one."""
    if isinstance(value, str) or (value and isinstance(value, list) and isinstance(value[0], int)):
        return [value]
    return value


Prompts = Annotated[
    list[str | list[int]],
    Field(min_length=1, max_length=MOST_PROMPTS),
    BeforeValidator(_as_list, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
]


class CompletionsBody(Sampled):
    """The body of a completion."""

    prompt: Prompts
    max_tokens: int | None = Field(None, ge=0, description=f"default {DEFAULT_TOKENS}; 0 only with echo")
    logprobs: int | None = Field(None, ge=0, le=MOST_TOP)
    echo: bool | None = None
    best_of: int | None = Field(None, ge=1)
    suffix: str | None = Field(None, max_length=0)
    return_token_ids: bool | None = None
    return_weight_versions: bool | None = None
    stop_token_ids: list[int] | None = Field(
        None, max_length=MOST_ENDS, description="only tokens that end every reply here"
    )

    @property
    def tokens(self) -> int:
        """Most tokens of a choice."""
        return DEFAULT_TOKENS if self.max_tokens is None else self.max_tokens

    @property
    def ends_loops(self) -> bool:
        """Whether a text that repeats itself ends there: only if the request wants it, for programs measure by this
        shape."""
        return bool(self.loop_stop)

    @property
    def top(self) -> int:
        """Number of likeliest tokens to return in each place; at least 1 if the request wants tokens at all."""
        needed = self.logprobs is not None or self.return_token_ids
        return max(1, self.logprobs or 0) if needed else 0


@dataclass(frozen=True, slots=True)
class _Work:
    """A request and its model."""

    service: Service
    call: Call
    body: CompletionsBody
    served: Served
    head: dict[str, Any]

    async def begin(self, prompt: str | Sequence[int]) -> tuple[Exchange, str | Ids]:
        """The admission of one prompt, and the prompt as sent: the policy may add text to what the model reads."""
        backend, body = self.served.backend, self.body
        prompt_input = prompt if isinstance(prompt, str) else await backend.spell(prompt)
        sampling, own_decoding = sampling_of(body, backend.decoding, max(1, body.tokens), body.top)
        model_request = ModelRequest(
            body.model, prompt_input, sampling, body.samples, seed_of(body), own_decoding=own_decoding
        )
        return await begin(self.service, self.call, model_request), prompt_input


@ROUTES.add("POST", "/v1/completions", "Continue text", CompletionsAnswer)
async def complete_text(request: Request, call: Call, body: CompletionsBody) -> Response:
    """Continues texts."""
    call = replace(call, user=user_digest(body.user))
    served = service_of(request).registry.find(body.model, call)
    check(body, served)
    head = head_of(served, "text_completion", "cmpl")
    work = _Work(service_of(request), call, body, served, head)
    if not body.stream:
        return await unless_gone(request, _answer(work))
    first, prompt_input = await unless_gone(request, work.begin(body.prompt[0]))
    events = await start_events(request, _events(work, first, prompt_input))
    return stream(end_stream(events, call.request_id), headers_of(first))


def check(body: CompletionsBody, served: Served) -> None:
    """Raises ApiError for fields that can't be combined, or that this model doesn't support."""
    if body.best_of is not None and body.best_of != body.samples:
        raise invalid("best_of: only best_of equal to n is offered here", "best_of")
    if not body.tokens and not body.echo:
        raise invalid("max_tokens: 0 needs echo, which returns the prompt; ask for 1 at least", "max_tokens")
    if not body.tokens and body.samples > 1:
        raise invalid("n: max_tokens 0 samples nothing, so that n must be 1", "n")
    able = served.backend.capabilities
    if "text" not in able:
        raise invalid(f"the server behind {served.id} continues no plain text; use chat completions", "model")
    if body.return_token_ids and not isinstance(served.backend, LocalBackend):
        raise invalid(f"the server behind {served.id} gives no token ids", "return_token_ids")
    if body.return_token_ids and (body.stream or body.echo):
        raise invalid("return_token_ids: not offered with stream or echo", "return_token_ids")
    ends = served.backend.ends if isinstance(served.backend, LocalBackend) else frozenset[int]()
    if wrong := [token for token in body.stop_token_ids or () if token not in ends]:
        raise invalid(f"stop_token_ids: token {wrong[0]} ends no reply of {served.id}", "stop_token_ids")
    if body.logprobs is not None and "logprobs" not in able:
        raise invalid(f"the server behind {served.id} gives no log-probabilities", "logprobs")
    if body.logprobs is not None and body.echo and "score" not in able:
        raise invalid(f"the server behind {served.id} can't score the prompt; leave out echo", "echo")


async def _answer(work: _Work) -> Response:
    """All prompts, some at once, in one answer."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(prompt: str | Sequence[int]) -> tuple[Exchange, list[dict[str, Any]]]:
        async with limit:
            exchange, prompt_input = await work.begin(prompt)
            return exchange, await _choices(work.body, exchange, prompt_input)

    tasks = [asyncio.ensure_future(one(prompt)) for prompt in work.body.prompt]
    try:
        answers = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    used = Usage()
    for exchange, _ in answers:
        used.input_tokens += exchange.usage.input_tokens
        used.cached_tokens += exchange.usage.cached_tokens
        used.output_tokens += exchange.usage.output_tokens
    choices = [choice for _, some in answers for choice in some]
    numbered = [{**choice, "index": number} for number, choice in enumerate(choices)]
    last = answers[-1][0]
    answer = {**work.head, "choices": numbered, "usage": usage_form(used), **standing_field(last.standing)}
    return JSONResponse(answer, headers=headers_of(last))


async def _choices(body: CompletionsBody, exchange: Exchange, prompt_input: str | Ids) -> list[dict[str, Any]]:
    """The choices of one prompt."""
    try:
        echoed, scored = await _echo(body, exchange, prompt_input)
        if not body.tokens:
            refused = bool(exchange.refusal)
            samples = [Whole(end=End(0, "refused" if refused else "length"))]
        else:
            samples = await exchange.whole()
    finally:
        exchange.close()
    prompt_ids = await exchange.served.backend.cut(prompt_input, True) if body.return_token_ids else []
    return [_choice(body, sample, echoed, scored) | _ids(body, sample, prompt_ids) for sample in samples]


async def _echo(body: CompletionsBody, exchange: Exchange, prompt_input: str | Ids) -> tuple[str, list[Token]]:
    """The text before a choice's text with `echo`: the prompt and its tokens."""
    if not body.echo or exchange.refusal:
        return "", []
    text = prompt_input if isinstance(prompt_input, str) else prompt_input.text
    if body.logprobs is None:
        return text, []
    return text, await exchange.score(prompt_input, max(1, body.logprobs))


def _choice(body: CompletionsBody, sample: Whole, echoed: str, scored: Sequence[Token]) -> dict[str, Any]:
    assert sample.end is not None
    logprobs = None
    if body.logprobs is not None:
        last = (sample.end.token,) if sample.end.token else ()
        logprobs = Columns(body.logprobs).form([*scored, *sample.tokens, *last])
    return {
        "text": echoed + sample.text,
        "logprobs": logprobs,
        "finish_reason": finish_of(sample.end),
        "stop_reason": stop_of(sample.end),
    }


def _ids(body: CompletionsBody, sample: Whole, prompt_ids: Sequence[int]) -> dict[str, Any]:
    """vLLM's fields for token ids and versions of weights, if the request wants them."""
    assert sample.end is not None
    fields: dict[str, Any] = {}
    if body.return_token_ids:
        last = (sample.end.token,) if sample.end.token else ()
        fields |= {"token_ids": [token.id for token in (*sample.tokens, *last)], "prompt_token_ids": list(prompt_ids)}
    if body.return_weight_versions:
        fields["weight_versions"] = [asdict(span) for span in sample.end.spans] or None
    return fields


async def _events(work: _Work, first: Exchange, prompt_input: str | Ids) -> AsyncGenerator[ServerSentEvent, None]:
    """The chunks of all prompts, one prompt after the other."""
    chunks = Chunks(work.head, wants_usage(work.body), standing_field(first.standing))
    used, exchange = Usage(), first
    for number, prompt in enumerate(work.body.prompt):
        if number:
            exchange, prompt_input = await work.begin(prompt)
        try:
            async for choice in _pieces(work.body, exchange, prompt_input):
                index = number * work.body.samples + choice["index"]
                yield chunks.chunk({**choice, "index": index})
        finally:
            exchange.close()
        used.input_tokens += exchange.usage.input_tokens
        used.cached_tokens += exchange.usage.cached_tokens
        used.output_tokens += exchange.usage.output_tokens
    for chunk in chunks.usage(used):
        yield chunk


async def _pieces(
    body: CompletionsBody, exchange: Exchange, prompt_input: str | Ids
) -> AsyncGenerator[dict[str, Any], None]:
    """The chunks of one prompt."""
    columns = [Columns(body.logprobs or 0) for _ in range(body.samples)]

    def choice(index: int, text: str, tokens: Sequence[Token], finish: str | None = None) -> dict[str, Any]:
        logprobs = columns[index].form(tokens) if body.logprobs is not None else None
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}

    echoed, scored = await _echo(body, exchange, prompt_input)
    if echoed or scored:
        for index in range(body.samples):
            yield choice(index, echoed, scored)
    if not body.tokens:
        yield choice(0, "", (), "content_filter" if exchange.refusal else "length")
        return
    async with aclosing(exchange.parts()) as parts:
        async for part in parts:
            if isinstance(part, Piece):
                yield choice(part.sample, part.text, part.tokens)
            else:
                token = (part.token,) if part.token else ()
                last = choice(part.sample, "", token, finish_of(part))
                yield {**last, "stop_reason": stop_of(part)}
