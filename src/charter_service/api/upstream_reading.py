"""The chunks of a server's stream, of chat completions or completions, as parts of an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from charter_service.api.model_request import End, Part, Piece, Stop, Token

STOPS: dict[str, Stop] = {"stop": "end", "length": "length", "content_filter": "refused", "tool_calls": "end"}


@dataclass(slots=True)
class _Sample:
    written: int = 0  # tokens, as far as the chunks show
    finish: str = ""
    stopped_by: str | None = None
    refusal: str = ""
    token: Token | None = None  # the end token


@dataclass(slots=True)
class Reading:
    """One stream of n samples. `stops`: the requested stop sequences; `before`, `after`: fixed text of a form around
    every reply, which the server doesn't write."""

    n: int
    stops: Sequence[str] = ()
    before: str = ""
    after: str = ""
    samples: list[_Sample] = field(init=False)
    usage: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.samples = [_Sample() for _ in range(self.n)]

    def begin(self) -> Iterator[Part]:
        """The fixed text before the server's text."""
        if self.before:
            for index in range(self.n):
                yield Piece(index, self.before)

    def add(self, chunk: Mapping[str, Any]) -> Iterator[Part]:
        """The pieces in a chunk; ends are held back until usage is known."""
        if isinstance(chunk.get("usage"), dict):
            self.usage = chunk["usage"]
        for choice in chunk.get("choices") or ():
            index = choice.get("index", 0)
            if not 0 <= index < self.n:
                continue
            sample = self.samples[index]
            delta = choice.get("delta") or {}
            text = str(choice.get("text") or delta.get("content") or "")
            sample.refusal += str(delta.get("refusal") or "")
            tokens = tokens_of(choice.get("logprobs"))
            sample.written += len(tokens) or bool(text)
            if choice.get("finish_reason"):
                sample.finish = str(choice["finish_reason"])
                said = choice.get("stop_reason")
                sample.stopped_by = said if isinstance(said, str) and said in self.stops else None
                if tokens and not text and sample.finish == "stop" and not sample.stopped_by:
                    sample.token = tokens[-1]
                    tokens = ()
            if text or tokens:
                yield Piece(index, text, tokens, sample.written)

    def end(self) -> Iterator[Part]:
        """The ends of all samples, with the server's usage."""
        total = self.usage.get("completion_tokens")
        known = [sample.written for sample in self.samples]
        if isinstance(total, int):  # the chunks don't show end tokens
            known[-1] += total - sum(known)
        details = self.usage.get("prompt_tokens_details") or {}
        prompt, cached = self.usage.get("prompt_tokens") or 0, details.get("cached_tokens") or 0
        for index, sample in enumerate(self.samples):
            stop: Stop = "stop" if sample.stopped_by else STOPS.get(sample.finish, "end")
            if self.after and stop == "end":
                yield Piece(index, self.after, (), sample.written)
            first = index == 0
            yield End(
                index,
                stop,
                sample.stopped_by,
                max(0, known[index]),
                cached if first else 0,
                reason=sample.refusal,
                input_tokens=prompt if first else 0,
                token=sample.token,
            )

    @property
    def complete(self) -> bool:
        """Whether all samples ended."""
        return all(sample.finish for sample in self.samples)


def tokens_of(logprobs: Any) -> tuple[Token, ...]:
    """Tokens of a choice's log-probabilities, in either of the two shapes."""
    if not isinstance(logprobs, dict):
        return ()
    if "tokens" in logprobs:
        numbers = logprobs.get("token_logprobs") or []
        tops = logprobs.get("top_logprobs") or [None] * len(numbers)
        return tuple(
            Token(
                text,
                text.encode(),
                float("nan") if number is None else number,
                tuple((other, other.encode(), value) for other, value in _ordered(top)),
            )
            for text, number, top in zip(logprobs["tokens"], numbers, tops, strict=True)
        )
    return tuple(
        Token(*_entry(one), top=tuple(_entry(other) for other in one.get("top_logprobs") or ()))
        for one in logprobs.get("content") or ()
    )


def _entry(one: Mapping[str, Any]) -> tuple[str, bytes, float]:
    text, raw = str(one["token"]), one.get("bytes")
    return text, bytes(raw) if raw is not None else text.encode(), float(one["logprob"])


def _ordered(top: Mapping[str, float] | None) -> list[tuple[str, float]]:
    """The likeliest first."""
    return sorted((top or {}).items(), key=lambda pair: -pair[1])
