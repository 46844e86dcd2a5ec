"""A model behind an OpenAI-shaped server, such as vLLM or another `charter serve`, to scale out.

Dialogues go to its chat completions, plain text to its completions; a begun assistant's turn is continued as in vLLM
(`continue_final_message`). A form goes there as `response_format`; the text before and after its document is added
here. The server's /tokenize counts tokens if it has one; else they are estimated, and "count" is missing among the
capabilities. Usage is always the server's own number.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.constraint import Constraint
from charter.ground.generate.http_client import FAILED, OVERLOADED, one_line, retry_after
from charter.ground.model.generation import UNKNOWN
from charter.ground.text.dialogue import assistant
from charter_service.api.errors import OVERLOADED_SECONDS, ApiError
from charter_service.api.model_request import End, Ids, ModelRequest, Part, Piece, PromptInput, Stop, Token
from charter_service.forms.grammars import Form

KEY = "OPENAI_API_KEY"  # sent only to the named server
CONNECT_SECONDS = 5.0
READ_SECONDS = 300.0  # between two parts of an answer, or until the first
TRIES = 3
LONGEST_WAIT = 5.0  # most seconds to wait for a busy server before another try; the caller waits longer ones
STOPS: dict[str, Stop] = {"stop": "end", "length": "length", "content_filter": "refused", "tool_calls": "end"}
CONTEXT = 100_000  # if the server doesn't tell
LETTERS, TURN = 4, 6  # for estimates: letters of a token, and tokens around a turn
MOST_TOP = 5  # of completions
TRIED = {"prompt": "a", "add_special_tokens": False}


class Link:
    """HTTP to a server, for one model there; its errors become words for our callers. `name`: the model's name here.

    Each request has its own connection: if nobody waits for an answer any more, closing it ends the work on the server.
    A failure before the answer is tried again; a broken answer is an error at once, since part of it may have been
    passed on.
    """

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name = url.rstrip("/").removesuffix("/v1"), name
        if not self.url.startswith(("http://", "https://")):
            raise CharterError(f"{url} is not the address of a server; write it as http://HOST:PORT")
        key = os.environ.get(KEY, "").strip()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        timeout = httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        self._facts: dict[str, Any] = {"headers": headers, "timeout": timeout, "trust_env": False}
        self._client = httpx2.AsyncClient(limits=limits, **self._facts)

    def look(self, path: str, body: Any = None) -> Any:
        """The server's answer to a GET while this one starts; None if it doesn't offer it. Raises CharterError if it
        can't be reached or refuses."""
        try:
            with httpx2.Client(**self._facts) as client:
                answer = client.post(self.url + path, json=body) if body is not None else client.get(self.url + path)
        except httpx2.HTTPError as error:
            raise CharterError(f"{self.url} can't be reached ({_describe(error)}); is the server running?") from None
        if answer.status_code in (401, 403):
            raise CharterError(f"{self.url} refuses our key ({answer.status_code}); set {KEY}")
        return _json(answer.text) if answer.status_code == 200 else None

    async def ask(self, path: str, body: Any) -> Any:
        """The answer to a request, in one piece. Raises ApiError."""
        async with self._answer(path, body) as answer:
            try:
                answered = _json((await answer.aread()).decode(errors="replace"))
            except httpx2.HTTPError as error:
                raise self._broken(error) from None
        if not isinstance(answered, dict):
            raise ApiError(500, f"the server behind {self.name} answered in another shape than OpenAI's")
        return answered

    async def stream(self, path: str, body: Any) -> AsyncGenerator[dict[str, Any], None]:
        """The events of an answer. Raises ApiError, also for an error among the events and for an early end."""
        async with self._answer(path, body) as answer:
            try:
                async for line in answer.aiter_lines():
                    if not line.startswith("data:"):
                        continue
                    text = line.removeprefix("data:").strip()
                    if text == "[DONE]":
                        return
                    yield self._event(_json(text))
            except httpx2.HTTPError as error:
                raise self._broken(error) from None
        raise ApiError(500, f"the server behind {self.name} ended its answer before it was complete")

    @asynccontextmanager
    async def _answer(self, path: str, body: Any) -> AsyncGenerator[httpx2.Response, None]:
        """The first successful answer; failures before it are tried again."""
        for tries_left in reversed(range(TRIES)):
            wait = 0.0
            try:
                request = self._client.build_request("POST", self.url + path, json=body)
                answer = await self._client.send(request, stream=True)
            except httpx2.ReadTimeout:
                raise self._too_slow() from None
            except httpx2.HTTPError as error:
                problem = ApiError(
                    529,
                    f"the server behind {self.name} can't be reached ({_describe(error)})",
                    retry_after=OVERLOADED_SECONDS,
                    reason="upstream",
                )
            else:
                try:
                    if answer.status_code == 200:
                        yield answer
                        return
                    problem, wait = await self._problem(answer), retry_after(answer.headers, 600)
                finally:
                    await answer.aclose()
                if answer.status_code not in OVERLOADED | FAILED:
                    raise problem
            if not tries_left or wait > LONGEST_WAIT:
                raise problem
            await asyncio.sleep(max(wait, 0.5 * 2 ** (TRIES - 1 - tries_left) * random.uniform(0.5, 1)))

    async def _problem(self, answer: httpx2.Response) -> ApiError:
        """An error of the server, as ours."""
        try:
            body = _json((await answer.aread())[:10_000].decode(errors="replace"))
        except httpx2.HTTPError:
            body = None
        return self.problem_of(answer.status_code, _message(body), retry_after(answer.headers, 600))

    def problem_of(self, status: int, message: str, wait: float = 0.0) -> ApiError:
        """The server's refusal for our caller: in its own words if the caller's request is wrong."""
        if status in OVERLOADED:
            words = f"the server behind {self.name} is overloaded"
            return ApiError(529, words, retry_after=wait or OVERLOADED_SECONDS, reason="upstream")
        if status in (400, 413, 422):
            # a server that echoes its input has our key in its words
            return ApiError(400, one_line(message) or f"the server behind {self.name} refuses this request")
        if status == 504:
            return ApiError(504, f"the server behind {self.name} took too long; try again later")
        reasons = {401: "refuses our key", 403: "refuses our key", 404: "doesn't serve that model any more"}
        return ApiError(500, f"the server behind {self.name} {reasons.get(status, f'failed ({status})')}")

    def _event(self, event: Any) -> dict[str, Any]:
        if not isinstance(event, dict):
            raise ApiError(500, f"the server behind {self.name} answered in another shape than OpenAI's")
        if error := event.get("error"):
            kind = str(error.get("type")) if isinstance(error, dict) else ""
            status = {"overloaded_error": 529, "rate_limit_error": 429, "invalid_request_error": 400}
            raise self.problem_of(status.get(kind, 500), _message(event))
        return event

    def _too_slow(self) -> ApiError:
        words = f"the server behind {self.name} wrote nothing for {READ_SECONDS:.0f} seconds"
        return ApiError(504, f"{words}; send a shorter request, or try again later")

    def _broken(self, error: httpx2.HTTPError) -> ApiError:
        if isinstance(error, httpx2.ReadTimeout):
            return self._too_slow()
        return ApiError(500, f"the server behind {self.name} broke off its answer ({_describe(error)})")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _message(body: Any) -> str:
    """The words of an error body, of OpenAI's shape or FastAPI's; at most 400 characters."""
    error = body.get("error", body) if isinstance(body, dict) else None
    words = error.get("message", error.get("detail", "")) if isinstance(error, dict) else error
    return str(words or "")[:400]


def _describe(error: httpx2.HTTPError) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")[:200]


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
                stop = choice.get("stop_reason")
                sample.stopped_by = stop if isinstance(stop, str) and stop in self.stops else None
                if tokens and not text and sample.finish == "stop" and not sample.stopped_by:
                    sample.token = tokens[-1]
                    tokens = ()
            if text or tokens:
                yield Piece(index, text, tokens, sample.written)

    def end(self) -> Iterator[Part]:
        """The ends of all samples, with the server's usage."""
        total = self.usage.get("completion_tokens")
        written = [sample.written for sample in self.samples]
        if isinstance(total, int):  # the chunks don't show end tokens
            written[-1] += total - sum(written)
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
                max(0, written[index]),
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
        Token(*_entry(entry), top=tuple(_entry(other) for other in entry.get("top_logprobs") or ()))
        for entry in logprobs.get("content") or ()
    )


def _entry(entry: Mapping[str, Any]) -> tuple[str, bytes, float]:
    text, raw = str(entry["token"]), entry.get("bytes")
    return text, bytes(raw) if raw is not None else text.encode(), float(entry["logprob"])


def _ordered(top: Mapping[str, float] | None) -> list[tuple[str, float]]:
    """The likeliest first."""
    return sorted((top or {}).items(), key=lambda pair: -pair[1])


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
        models = {entry["id"]: entry for entry in entries or () if isinstance(entry, dict) and "id" in entry}
        if model not in models:
            names = ", ".join(list(models)[:10]) or "none"
            raise CharterError(f"{url} serves no model {model!r}; it has {names}")
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

    async def stream(self, model_request: ModelRequest, account: str, background: bool) -> AsyncGenerator[Part, None]:
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
            raise CharterError(f"the server behind {self._link.name} holds replies only to JSON, not to a {form.kind}")
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
