"""A model on this machine: requests become jobs of the driver, and its thread's events become parts.

Forms are compiled beside the event loop: a few at a time, by organisations in turn, with limits on the queue, on the
wait, and on one form. A schema or pattern may take seconds. Known forms don't wait; one that takes too long is refused,
and runs on in its thread until the compiler's own limits end it.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.detokenizer import TextPieces
from charter.ground.generate.engine import Completion, Engine, Event, PromptTooLong
from charter.ground.generate.engine_limits import Overloaded
from charter.ground.generate.engine_loop import Driver, Job
from charter.ground.generate.fair import FairThreads, Processor, apart
from charter.ground.generate.scorer import score_in_steps
from charter.ground.generate.shares import Rests
from charter.ground.text.dialogue import Prompt
from charter.ground.text.tokenizer import Tokenizer
from charter_service.api.model_request import WHOSE, End, Ids, ModelRequest, Part, Piece, PromptInput, Span, Stop, Token
from charter_service.api.renewal import START, UNNAMED, check_folder, read_weights
from charter_service.forms.grammars import Compiled, Form, compile_form, known_form

T = TypeVar("T")

AT_ONCE = 3  # at most two of one organisation
MOST = 64  # waiting forms
SECONDS = 30.0  # for one form, and for its turn
WHAT, NAME = "schemas, patterns and grammars", "compiling"
SEEDS = 2**63
RENDERED_AT_ONCE = 2  # texts cut into tokens at a time, one of each organisation
RENDERED = 8192  # such texts in the queue
LONGEST_TEXT = 2**20  # characters cut into tokens if no context limits them
SPELLED = 2000  # ids that are spelled at once
REMEMBERED = 64  # prompts whose ids are cached
Frozen = str | tuple[tuple[str, str], ...]


class Compiling:
    """Threads that compile."""

    def __init__(
        self, at_once: int = AT_ONCE, most: int = MOST, seconds: float = SECONDS, rests: Rests | None = None
    ) -> None:
        self._threads = FairThreads(at_once, WHAT, most, name=NAME, behind=True, rests=rests)
        self._seconds = seconds

    @property
    def waiting(self) -> int:
        """Number of forms that are compiled or wait."""
        return self._threads.waiting

    @property
    def oldest(self) -> float:
        """Seconds that the first in line has waited."""
        return self._threads.oldest

    async def do(
        self, known: Callable[[], T | None], compile: Callable[[], T], account: str, background: bool = False
    ) -> T:
        """The `known` form, else the result of `compile`. Raises Overloaded if too much waits, or for too long, and
        CharterError if the form itself takes too long."""
        if (compiled := await asyncio.to_thread(known)) is not None:
            return compiled
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def work() -> T:
            loop.call_soon_threadsafe(begun.set)
            return compile()

        compiling = asyncio.ensure_future(self._threads.do(account, work, background))
        turn = asyncio.ensure_future(begun.wait())
        try:
            await asyncio.wait((compiling, turn), timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
            if not (compiling.done() or turn.done()):
                raise Overloaded(f"{WHAT} of others", False, NAME)
            await asyncio.wait((compiling,), timeout=self._seconds)
            if compiling.done():
                return compiling.result()
            raise CharterError(
                f"the schema, pattern or grammar takes over {self._seconds:g} seconds to compile; simplify it: fewer "
                "and shorter repetitions, fewer names and alternatives"
            )
        finally:
            compiling.cancel()
            turn.cancel()

    def close(self) -> None:
        """Accepts no more forms."""
        self._threads.close(wait=False)


class LocalBackend:
    """An engine behind a driver."""

    capabilities = frozenset({"text", "form", "logprobs", "score", "count"})

    def __init__(
        self,
        assistant: LocalAssistant,
        context: int,
        weights_from: Path | None = None,
        processor: Processor | None = None,
    ) -> None:
        """`weights_from`: the folder above new weights for the model; None: it takes none. `processor`: shared with
        other threads that compute."""
        self.weights_from, self.version, self._renewing = weights_from, START, asyncio.Lock()
        self._assistant, engine = assistant, assistant.engine
        self.decoding = assistant.decoding
        self.context = min(context, engine.context)
        self._tokenizer, self._driver = engine.tokenizer, Driver(engine, processor)
        rests = processor.rests if processor else None
        self._longest = _longest_token(engine.tokenizer)
        # a slow template delays only this model
        self._rendering = FairThreads(RENDERED_AT_ONCE, "texts to cut into tokens", RENDERED, behind=True, rests=rests)
        self._compiling = Compiling(rests=rests)
        # each prompt is counted, then read; the cache is separate for each owner
        self._known = lru_cache(maxsize=REMEMBERED)(lambda whose, text: tuple(assistant.encode(_thawed(text))))
        assistant.template.remember_nothing()

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end a reply."""
        return self._assistant.engine.ends

    async def count(self, prompt: PromptInput) -> int:
        """Tokens of a prompt; a long one is encoded beside the event loop."""
        return len(await self._encode(prompt))

    async def stream(self, model_request: ModelRequest, account: str, background: bool) -> AsyncGenerator[Part, None]:
        """Parts, as the engine's thread gets their events."""
        ids = await self._encode(model_request.prompt)
        if len(ids) + 1 > self.context:
            raise PromptTooLong(len(ids), self.context)
        loop, parts = asyncio.get_running_loop(), asyncio.Queue[Sequence[Part] | Exception]()
        seed = secrets.randbelow(SEEDS) if model_request.seed is None else model_request.seed
        job = Job(ids, model_request.sampling, model_request.n, seed, account, model_request.constraint, background)
        listener = _Listener(model_request, self._tokenizer, lambda: self.version if self.weights_from else "")

        def hear(heard: Sequence[Event] | Exception) -> None:
            news = heard if isinstance(heard, Exception) else listener.parts(heard)
            if news:
                loop.call_soon_threadsafe(parts.put_nowait, news)

        following, running = self._driver.follow(job, hear), model_request.n
        try:
            while running:
                news = await parts.get()
                if isinstance(news, Exception):
                    running = 0
                    raise news
                for part in news:
                    running -= isinstance(part, End)
                    yield part
        finally:
            if running:
                self._driver.drop(following)

    async def renew(self, name: str) -> None:
        """Continues with the weights of a folder, whose version is not named yet, also for running replies.

        Raises ApiError if the folder isn't allowed, CharterError if it holds no such weights."""
        folder = check_folder(name, self.weights_from)
        async with self._renewing:
            engine = self._assistant.engine
            weights = await asyncio.to_thread(apart, read_weights, folder, engine.model, self._tokenizer)

            def put(engine: Engine) -> None:
                self.version = UNNAMED
                engine.renew(weights)

            await asyncio.wrap_future(self._driver.call(put))

    async def compile(self, form: Form, account: str, background: bool) -> Compiled:
        """The form on this model's tokenizer."""
        arguments = (form, self._tokenizer, self._assistant.engine.ends, account)
        return await self._compiling.do(
            lambda: known_form(*arguments), lambda: compile_form(*arguments), account, background
        )

    async def cut(self, prompt: PromptInput, opening: bool) -> list[int]:
        """The ids of a prompt."""
        if not isinstance(prompt, str) or opening:
            return await self._encode(prompt)
        if len(prompt) > LONGEST_TEXT:
            raise CharterError(
                f"the text has {len(prompt):,} characters, and the limit for cutting into tokens is {LONGEST_TEXT:,}; "
                "send it in parts"
            )
        return await self._rendering.do(WHOSE.get(), lambda: self._tokenizer.encode(prompt))

    async def spell(self, ids: Sequence[int]) -> Ids:
        """Token ids with their text, with special tokens spelled out."""
        size = self._tokenizer.vocab_size
        if wrong := [token for token in ids if not 0 <= token < size]:
            raise CharterError(f"there is no token {wrong[0]}; this model has tokens 0 to {size - 1}")
        if len(ids) < SPELLED:
            return self._spelled(ids)
        return await self._rendering.do(WHOSE.get(), lambda: self._spelled(ids))

    async def score(self, text: str | Ids, top: int, account: str, background: bool) -> list[Token]:
        """Tokens of a text, read piece by piece between the engine's steps."""
        ids = await self._encode(text)
        if len(ids) > self.context:
            raise PromptTooLong(len(ids), self.context)
        if not ids:
            raise CharterError("an empty text has no log-probabilities; give at least one character")
        piece = self._assistant.engine.piece or len(ids)
        scored = await asyncio.wrap_future(
            self._driver.share(account, lambda engine: score_in_steps(engine.model, ids, top, piece), background)
        )
        return [
            _make_token(self._tokenizer, token, logprob, likeliest)
            for token, (logprob, likeliest) in zip(ids, [(math.nan, []), *scored], strict=True)
        ]

    def figures(self) -> dict[str, float]:
        """The engine's own."""
        return {name: float(value) for name, value in asdict(self._driver.stats).items()}

    @property
    def waits(self) -> dict[str, float]:
        """The engine's queues, and that of forms."""
        return {**self._driver.waits, NAME: self._compiling.oldest}

    @property
    def slow_steps(self) -> int:
        """Of the engine's thread."""
        return self._driver.slow_steps

    def close(self) -> None:
        """Ends the thread after it has answered its requests."""
        self._driver.close()
        self._compiling.close()
        self._rendering.close(wait=False)

    async def _encode(self, prompt: PromptInput) -> list[int]:
        if isinstance(prompt, Ids):
            return list(prompt.ids)
        length = len(prompt) if isinstance(prompt, str) else sum(len(m["content"]) for m in prompt)
        # a chat template, which may take long, is rendered beside the event loop
        if isinstance(prompt, str) and length < 2000:
            return self._ids(prompt, WHOSE.get())
        if (least := length // self._longest) > self.context:  # millions of characters take long to encode
            raise CharterError(f"prompt is too long: over {least} tokens > {self.context - 1} maximum")
        whose = WHOSE.get()
        return await self._rendering.do(whose, lambda: self._ids(prompt, whose))

    def _ids(self, prompt: Prompt, whose: str) -> list[int]:
        return list(self._known(whose, _frozen(prompt)))

    def _spelled(self, ids: Sequence[int]) -> Ids:
        spelled, special = self._tokenizer.decode, frozenset(self._tokenizer.special.values())
        runs = [list(run) for marks, run in groupby(ids, lambda token: token in special) if not marks]
        return Ids(tuple(ids), spelled(ids, skip_special=False), tuple(spelled(run) for run in runs))


def _frozen(prompt: Prompt) -> Frozen:
    return prompt if isinstance(prompt, str) else tuple((m["role"], m["content"]) for m in prompt)


def _thawed(prompt: Frozen) -> Prompt:
    if isinstance(prompt, str):
        return prompt
    return [{"role": role, "content": content} for role, content in prompt]  # type: ignore[typeddict-item]


def _longest_token(tokenizer: Tokenizer) -> int:
    """Bytes of the longest token: a text has at least its length divided by this many tokens."""
    return max(len(tokenizer.spelling(token) or b"") for token in range(tokenizer.vocab_size)) or 1


@dataclass(slots=True)
class _Sample:
    pieces: TextPieces
    sent: int = 0  # tokens whose log-probabilities were sent
    spans: list[Span] = field(default_factory=list)

    def written(self, version: str, tokens: int) -> None:
        """Records which weights wrote the latest token."""
        same = self.spans and self.spans[-1].version == version
        self.spans.append(Span(version, self.spans.pop().start if same else tokens - 1, tokens))


class _Listener:
    """Turns events into parts, in the engine's thread."""

    def __init__(self, model_request: ModelRequest, tokenizer: Tokenizer, version: Callable[[], str]) -> None:
        """`version` of the weights at this moment, "" if they never change."""
        self._request, self._tokenizer, self._version = model_request, tokenizer, version
        self._samples = [_Sample(TextPieces(tokenizer, model_request.sampling.stops)) for _ in range(model_request.n)]

    def parts(self, events: Sequence[Event]) -> list[Part]:
        parts: list[Part] = []
        for event in events:
            sample = self._samples[event.sample]
            if version := self._version():
                sample.written(version, len(event.completion.ids))
            text, tokens = sample.pieces.add(event.completion), self._tokens(sample, event)
            if text or tokens:
                parts.append(Piece(event.sample, text, tokens, len(event.completion.ids)))
            if event.done:
                parts.append(self._end(event, tuple(sample.spans)))
        return parts

    def _tokens(self, sample: _Sample, event: Event) -> tuple[Token, ...]:
        """Log-probabilities of tokens not sent yet, without the end token."""
        if not self._request.sampling.top_logprobs:
            return ()
        completion = event.completion
        until = len(completion.ids) - (event.done and completion.stop == "end")
        begun, sample.sent = sample.sent, until
        return tuple(_token(self._tokenizer, completion, at) for at in range(begun, until))

    def _end(self, event: Event, spans: tuple[Span, ...]) -> End:
        completion = event.completion
        full = completion.stop == "length" and len(completion.ids) < self._request.sampling.max_tokens
        stop: Stop = "context" if full else completion.stop
        with_token = self._request.sampling.top_logprobs and completion.stop == "end"
        token = _token(self._tokenizer, completion, len(completion.ids) - 1) if with_token else None
        count = len(completion.ids)
        return End(
            event.sample,
            stop,
            completion.stopped_by,
            count,
            completion.cached,
            completion.kept,
            token=token,
            spans=spans,
        )


def _token(tokenizer: Tokenizer, completion: Completion, at: int) -> Token:
    return _make_token(tokenizer, completion.ids[at], completion.logprobs[at], completion.top[at])


def _make_token(tokenizer: Tokenizer, token: int, logprob: float, likeliest: Sequence[tuple[int, float]]) -> Token:
    # use the token's own number if it is among the likeliest, which were computed in another way: evaluation tools
    # compare the two
    top = tuple((*_spelled(tokenizer, other), logprob if other == token else value) for other, value in likeliest)
    return Token(*_spelled(tokenizer, token), logprob, top, token)


def _spelled(tokenizer: Tokenizer, token: int) -> tuple[str, bytes]:
    """A token's text, with the replacement character for an incomplete one, and its bytes."""
    text = tokenizer.decode([token], skip_special=False)
    return text, tokenizer.spelling(token) or text.encode()
