"""The common part of OpenAI's two shapes: sampling, log-probabilities, reasons for an end, usage, a stream's end.

A field that would change a reply but isn't offered here is refused by name; one without effect is accepted and ignored.
Beside OpenAI's fields, those of vLLM that evaluation tools send are accepted: top_k, and neutral values of others.

Log-probabilities are a list of tokens (chat), or four lists side by side (completions): natural logarithms under the
distribution that tokens were drawn from, before top_p and top_k cut it; at temperature 0 and 1 that is the model's own.
Given text is always scored under the model's own.
"""

from __future__ import annotations

import codecs
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from sse_starlette import ServerSentEvent

from charter.ground.artifact.manifest import digest_text
from charter.ground.generate.sampling import Sampling, sampling_at
from charter.ground.model.generation import Decoding, choose_decoding
from charter_service.api.errors import api_error, openai_body
from charter_service.api.exchange import Exchange
from charter_service.api.guard import log_failure
from charter_service.api.model_request import LOOP, End, Token, Usage
from charter_service.api.registry import Served
from charter_service.api.telling import standing_headers
from charter_service.api.wire.content import Strict
from charter_service.api.wire.streaming import event
from charter_service.web.tokens import new_id

LARGEST_K = 2**31 - 1
SMALLEST_TOP_P = 1e-9  # stands for 0: only the likeliest token
MOST_SAMPLES = 128
MOST_STOPS = 16  # OpenAI takes 4, vLLM any number
SEEDS = 2**63
FINISH = {
    "end": "stop",
    "stop": "stop",
    "length": "length",
    "context": "length",
    "refused": "content_filter",
    "loop": "stop",
}

Stop = Annotated[str, Field(min_length=1, max_length=1000)]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _only(value: float, why: str) -> BeforeValidator:
    def check(field_value: Any) -> Any:
        if field_value is not None and field_value != value:
            raise ValueError(f"only {value:g} is offered here: {why}")
        return field_value

    return BeforeValidator(check)


OWN = "replies are drawn from the model's own distribution, changed only by temperature, top_p and top_k"
Zero = Annotated[float | None, _only(0, OWN)]
One = Annotated[float | None, _only(1, OWN)]


class StreamOptions(Strict):
    """Options for the end of a stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Sampled(Strict):
    """How replies are sampled, in chat completions and completions."""

    model: str = Field(min_length=1, max_length=256)
    n: int | None = Field(None, ge=1, le=MOST_SAMPLES)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: Annotated[
        list[Stop] | None,
        Field(max_length=MOST_STOPS),
        BeforeValidator(_as_list, json_schema_input_type=str | list[str] | None),
    ] = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=-1, le=LARGEST_K, description="0 or -1: off")
    seed: int | None = Field(None, ge=-SEEDS, lt=SEEDS)
    presence_penalty: Zero = None
    frequency_penalty: Zero = None
    repetition_penalty: One = None
    min_p: Zero = None
    logit_bias: dict[str, float] | None = Field(None, max_length=0)
    user: str | None = Field(None, max_length=1024)
    loop_stop: bool | None = Field(None, description="Charter's own: end a reply that repeats itself")

    @property
    def samples(self) -> int:
        """Choices of each prompt."""
        return self.n or 1

    @property
    def ends_loops(self) -> bool:
        """Whether a reply that repeats itself ends there."""
        return self.loop_stop is not False


def sampling_of(body: Sampled, model_decoding: Decoding, max_tokens: int, top_logprobs: int) -> tuple[Sampling, bool]:
    """The sampling of a reply, and whether it is the model's own decoding because the request sets none."""
    top_k = None if body.top_k is None else max(0, body.top_k)
    top_p = None if body.top_p is None else max(SMALLEST_TOP_P, body.top_p)
    decoding = choose_decoding(model_decoding, body.temperature, top_p, top_k)
    # whoever wants log-probabilities gets each token that was drawn
    loop_stop = body.ends_loops and not top_logprobs
    sampling = sampling_at(decoding, max_tokens, tuple(dict.fromkeys(body.stop or ())), loop_stop)
    return replace(sampling, top_logprobs=top_logprobs), decoding is model_decoding


def seed_of(body: Sampled) -> int | None:
    """The request's seed, not negative."""
    return None if body.seed is None else body.seed % SEEDS


def usage_form(used: Usage) -> dict[str, Any]:
    """Tokens of a request."""
    return {
        "prompt_tokens": used.input_tokens,
        "completion_tokens": used.output_tokens,
        "total_tokens": used.input_tokens + used.output_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cached_tokens},
    }


def head_of(served: Served, kind: str, prefix: str) -> dict[str, Any]:
    """The common head of an answer and of each chunk; the fingerprint identifies the weights and settings."""
    return {
        "id": f"{prefix}-{new_id()}",
        "object": kind,
        "created": int(time.time()),
        "model": served.id,
        "system_fingerprint": f"fp_{digest_text(served.fingerprint)[:10]}",
    }


def wants_usage(body: Sampled) -> bool:
    """Whether a stream ends with usage."""
    return bool(body.stream_options and body.stream_options.include_usage)


class Chunks:
    """The events of one stream: each chunk is the common head and its choices. `first`: further fields of the first
    chunk."""

    def __init__(self, head: Mapping[str, Any], with_usage: bool, first: Mapping[str, Any]) -> None:
        self._head, self._with_usage, self._first = dict(head), with_usage, first

    def chunk(self, choice: Mapping[str, Any]) -> ServerSentEvent:
        """A chunk with one choice."""
        more = {"usage": None} if self._with_usage else {}
        first, self._first = self._first, {}
        return event({**self._head, "choices": [choice], **more, **first})

    def usage(self, used: Usage) -> list[ServerSentEvent]:
        """The chunk with usage, if the request wants it."""
        return [event({**self._head, "choices": [], "usage": usage_form(used)})] if self._with_usage else []


async def end_stream(events: AsyncGenerator[ServerSentEvent, None], request_id: str) -> AsyncIterator[ServerSentEvent]:
    """A stream with its end: the error that broke it, if any, and [DONE]."""
    try:
        async with aclosing(events):
            async for chunk in events:
                yield chunk
    except Exception as error:
        problem = api_error(error)
        if problem.status == 500:
            log_failure(error, request_id)
        yield event(openai_body(problem))
    yield event("[DONE]")


def headers_of(exchange: Exchange) -> dict[str, str]:
    """Headers with the rest of the key's limits, and the caller's standing if it isn't good."""
    return exchange.admission.openai_headers() | standing_headers(exchange.standing)


def finish_of(end: End) -> str:
    """finish_reason."""
    return FINISH[end.stop]


def stop_of(end: End) -> str | None:
    """stop_reason, vLLM's field: the stop sequence that ended a reply, or that it repeated itself."""
    return LOOP if end.stop == "loop" else end.stopped_by


LEAST = -9999.0  # stands for the logarithm of 0, which JSON can't write


def chat_form(tokens: Iterable[Token], top: int) -> dict[str, Any]:
    """`logprobs` of a choice of chat completions, with the `top` likeliest tokens in each place."""
    return {
        "content": [
            {
                **_entry(token.text, token.raw, token.logprob),
                "top_logprobs": [_entry(*other) for other in token.top[:top]],
            }
            for token in tokens
        ],
        "refusal": None,
    }


class Columns:
    """`logprobs` of a choice of completions, for its tokens as they come: `text_offset` counts characters from the
    start of the choice's text."""

    def __init__(self, top: int) -> None:
        self._top, self._offset = top, 0
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def form(self, tokens: Sequence[Token]) -> dict[str, Any]:
        """The four lists for more tokens."""
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(self._characters.decode(token.raw))
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [_number(token.logprob) for token in tokens],
            "top_logprobs": [self._likeliest(token) for token in tokens],
            "text_offset": offsets,
        }

    def _likeliest(self, token: Token) -> dict[str, float] | None:
        """The likeliest tokens and the token itself, which is one more if it isn't among them. Of tokens with the same
        text, such as parts of characters, the likeliest counts."""
        if math.isnan(token.logprob):
            return None
        by_text: dict[str, float] = {}
        for text, _, logprob in (*token.top[: self._top], (token.text, token.raw, token.logprob)):
            by_text.setdefault(text, _finite(logprob))
        return by_text


def _entry(text: str, raw: bytes, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": _finite(logprob), "bytes": list(raw)}


def _number(logprob: float) -> float | None:
    return None if math.isnan(logprob) else _finite(logprob)


def _finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else LEAST
