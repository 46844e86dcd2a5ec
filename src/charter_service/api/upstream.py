"""A model behind an OpenAI-shaped server, such as vLLM or another `charter serve`, to scale out.

Dialogues go to its chat completions, plain text to its completions; a begun assistant's turn is continued as in vLLM
(`continue_final_message`). A form goes there as `response_format`; the text before and after its document is added
here. The server's /tokenize counts tokens if it has one; else they are estimated, and "count" is missing among the
capabilities. Usage is always the server's own number."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.constraint import Constraint
from charter.ground.model.generation import UNKNOWN
from charter.ground.text.dialogue import assistant
from charter_service.api.model_request import End, Ids, ModelRequest, Part, Piece, PromptInput, Stop, Token
from charter_service.api.upstream_http import Link
from charter_service.forms.grammars import Form

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


CONTEXT = 100_000  # if the server doesn't tell
LETTERS, TURN = 4, 6  # for estimates: letters of a token, and tokens around a turn
MOST_TOP = 5  # of completions
TRIED = {"prompt": "a", "add_special_tokens": False}


@dataclass(frozen=True, slots=True)
class HeldThere:
    """Stands for a constraint that the remote server applies; the form goes there with the request."""

    form: Form

    def __call__(self) -> Constraint:
        """Never called: nothing is sampled here."""
        raise CharterError("a reply of a remote server can't be held to a form here")


@dataclass(frozen=True, slots=True)
class Passed:
    """A form for the remote server, which checks and compiles it."""

    form: Form

    def start(self, max_tokens: int) -> Callable[[], Constraint]:
        """Holds a reply to the form from its first token on; only the server knows whether it fits."""
        return HeldThere(self.form)

    def start_after(self, marker: str, again: bool = False) -> Callable[[], Constraint] | None:
        """Not offered by a remote server: the reply is free."""
        return None


class UpstreamBackend:
    """One model of a server; `model` is its name there."""

    version = ""
    decoding = UNKNOWN  # the server knows it; a request that sets none is passed on without

    def __init__(self, url: str, model: str, name: str) -> None:
        """Asks the server what it offers. Raises CharterError if it can't be reached or lacks the model."""
        self._link, self._model, self._under_way = Link(url, name), model, 0
        listed = self._link.look("/v1/models")
        entries = listed.get("data") if isinstance(listed, dict) else None
        models = {one["id"]: one for one in entries or () if isinstance(one, dict) and "id" in one}
        if model not in models:
            known = ", ".join(list(models)[:10]) or "none"
            raise CharterError(f"{url} serves no model {model!r}; it has {known}")
        self.context = int(models[model].get("max_model_len") or CONTEXT)
        counts = self._link.look("/tokenize", {"model": model, **TRIED})
        exact = isinstance(counts, dict) and isinstance(counts.get("count"), int)
        able = {"text", "form", "logprobs", "score"} | ({"count"} if exact else set())
        self.capabilities = frozenset(able)

    async def count(self, prompt: PromptInput) -> int:
        """Tokens of a prompt, by the server or estimated."""
        if isinstance(prompt, Ids):
            return len(prompt.ids)
        if "count" in self.capabilities:
            fields = {"prompt": prompt} if isinstance(prompt, str) else _dialogue(prompt)
            count = (await self._link.ask("/tokenize", {"model": self._model, **fields})).get("count")
            if isinstance(count, int):
                return count
        turns = [prompt] if isinstance(prompt, str) else [m["content"] for m in prompt]
        return sum(TURN + -(-len(text) // LETTERS) for text in turns)

    async def cut(self, prompt: PromptInput, opening: bool) -> list[int]:
        """The ids of a prompt, by the server."""
        if isinstance(prompt, Ids):
            return list(prompt.ids)
        if "count" not in self.capabilities:
            raise CharterError(f"the server behind {self._link.name} doesn't offer to cut text into tokens")
        plain = isinstance(prompt, str)
        fields = {"prompt": prompt, "add_special_tokens": opening} if plain else _dialogue(prompt)
        return list((await self._link.ask("/tokenize", {"model": self._model, **fields}))["tokens"])

    async def stream(
        self, model_request: ModelRequest, account: str, background: bool
    ) -> AsyncGenerator[Part, None]:
        """The server's stream, as parts."""
        path, body, reading = self._request(model_request)
        self._under_way += 1
        try:
            for part in reading.begin():
                yield part
            async with aclosing(self._link.stream(path, body)) as chunks:
                async for chunk in chunks:
                    for part in reading.add(chunk):
                        yield part
            if not reading.complete:
                raise self._link.problem_of(500, "")
            for part in reading.end():
                yield part
        finally:
            self._under_way -= 1

    async def compile(self, form: Form, account: str, background: bool) -> Passed:
        """A form for the server."""
        if form.kind not in ("json_schema", "json_object"):
            raise CharterError(
                f"the server behind {self._link.name} holds replies only to JSON, not to a {form.kind}"
            )
        return Passed(form)

    async def spell(self, ids: Sequence[int]) -> Ids:
        """Token ids with their text."""
        if "count" not in self.capabilities:
            raise CharterError(f"the server behind {self._link.name} takes only text, not token ids")
        body = {"model": self._model, "tokens": list(ids)}
        text = (await self._link.ask("/detokenize", body)).get("prompt")
        return Ids(tuple(ids), str(text or ""))

    async def score(self, text: str | Ids, top: int, account: str, background: bool) -> list[Token]:
        """The server's echo of a text, without the one token that it must write."""
        body = {
            "model": self._model,
            "prompt": list(text.ids) if isinstance(text, Ids) else text,
            "max_tokens": 1,
            "temperature": 0,
            "echo": True,
            "logprobs": min(top, MOST_TOP),
        }
        answer = await self._link.ask("/v1/completions", body)
        tokens = tokens_of(answer["choices"][0].get("logprobs"))
        return list(tokens[: answer["usage"]["prompt_tokens"]])

    def figures(self) -> dict[str, float]:
        """The server's state, as far as it is known here."""
        return {"under_way": float(self._under_way)}

    @property
    def waits(self) -> dict[str, float]:
        """Nothing: its queues belong to the remote server."""
        return {}

    @property
    def slow_steps(self) -> int:
        """Nothing: its steps belong to the remote server."""
        return 0

    def close(self) -> None:
        """Nothing is kept open."""

    def _request(self, model_request: ModelRequest) -> tuple[str, dict[str, Any], Reading]:
        """The path and body of a request, and the reader of its answer."""
        how, form = (
            model_request.sampling,
            model_request.constraint.form if isinstance(model_request.constraint, HeldThere) else None,
        )
        body: dict[str, Any] = {
            "model": self._model,
            "n": model_request.n,
            "max_tokens": how.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if how.stops:
            body["stop"] = list(how.stops)
        if not model_request.own_decoding:
            body |= {"temperature": how.temperature, "top_p": how.top_p}
            body |= {"top_k": how.top_k} if how.top_k else {}
        if model_request.seed is not None:
            body["seed"] = model_request.seed
        reading = Reading(model_request.n, how.stops, form.before if form else "", form.after if form else "")
        prompt = model_request.prompt
        if isinstance(prompt, str | Ids):
            body["prompt"] = list(prompt.ids) if isinstance(prompt, Ids) else prompt
            if how.top_logprobs:
                body["logprobs"] = min(how.top_logprobs, MOST_TOP)
            return "/v1/completions", body, reading
        if form is not None:
            body["response_format"] = _response_format(form)
            if form.before:  # the reply begins with it: the server continues there
                begun = prompt[-1]["content"] if prompt[-1]["role"] == "assistant" else ""
                turns = prompt[:-1] if prompt[-1]["role"] == "assistant" else prompt
                prompt = [*turns, assistant(begun + form.before)]
        if how.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": how.top_logprobs}
        return "/v1/chat/completions", body | _dialogue(prompt), reading


def _dialogue(prompt: Sequence[Any]) -> dict[str, Any]:
    """Messages, with the flags that continue a last one of the assistant's."""
    if prompt[-1]["role"] != "assistant":
        return {"messages": list(prompt)}
    return {"messages": list(prompt), "add_generation_prompt": False, "continue_final_message": True}


def _response_format(form: Form) -> dict[str, Any]:
    if form.kind == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "reply", "schema": form.schema, "strict": True}}
