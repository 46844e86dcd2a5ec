"""One request from its admission to its last token: limits, standing, the policy on the prompt, the model, the policy
on the reply before it leaves, and what is written down of it.

Whatever shape a request came in, it goes this way: `begin` refuses or admits, `parts` gives the answer. A reply is held
back until its text so far has been checked, the first time after a few tokens and then every `hold` tokens; classifiers
remember what they read of it before. What people let pass is written down before it passes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from charter.ground.moderation.actions import Level, Verdict
from charter.ground.text.dialogue import Message, Prompt, assistant, system, user
from charter.service.accounts.grants import EXEMPTED, RELEASED
from charter.service.accounts.limits import Admission, TooMany
from charter.service.accounts.remembered import Standing
from charter.service.accounts.usage import Counts
from charter.service.api.asked import Asked, Call, End, Given, Ids, Part, Piece, Token, Usage, Whole
from charter.service.api.conduct import RequestFacts, conversation_mark
from charter.service.api.errors import ApiError, api_error, invalid
from charter.service.api.leniency import Watch, eased
from charter.service.api.registry import Served
from charter.service.api.service import Service
from charter.service.api.telling import standing_headers

FIRST_CHECK = 16  # tokens of a reply
BEGUN = 2000  # characters at the end of plain text that count as a reply's beginning


@dataclass(slots=True)
class Exchange:
    """A request that was admitted. Give `parts` to one reader, and always close it."""

    service: Service
    call: Call
    served: Served
    asked: Asked
    admissions: tuple[Admission, ...]  # the key's first
    standing: Standing  # after what was decided so far
    sensitivity: Level
    usage: Usage = field(default_factory=Usage)
    recorded: bool = False  # whether a verdict was written down
    allowed: list[Verdict] = field(default_factory=list)  # those without effect; none where the policy is off
    # what was written down of replies: category, action
    noted: set[tuple[str, str]] = field(default_factory=set)
    # what people let pass of this request: how, side, category; of a released reply, the sample
    passed: set[tuple[str, str, str, int]] = field(default_factory=set)
    refusal: str = ""  # why the prompt was blocked
    began: float = field(default_factory=time.monotonic)
    written: dict[int, int] = field(default_factory=dict)  # tokens by sample
    settled: bool = False
    given: Given = ""  # the prompt, without what the policy added

    @property
    def admission(self) -> Admission:
        """The key's."""
        return self.admissions[0]

    async def parts(self) -> AsyncGenerator[Part, None]:
        """The answer. What was used is written down when it ends, however it ends."""
        try:
            if self.refusal:
                for sample in range(self.asked.n):
                    yield End(sample, "refused", reason=self.refusal)
                return
            stream = self.served.backend.stream(self.asked, self._account, self.call.background)
            async with aclosing(self._checked(stream)) as checked:
                async for part in checked:
                    yield part
        except Exception as error:
            raise api_error(error) from error
        finally:
            self.close()

    async def scored(self, text: str | Ids, top: int) -> list[Token]:
        """Log-probabilities of a text that was given, none where the policy stops it: who is told what may follow a
        text has it written, a token at a time. Nothing else is written, and the exchange stays open."""
        try:
            if await self._stops(text):
                return []
            if self.service.screen is not None and not _plain(text).strip():
                top = 0  # what is blank is read by nobody: what may follow it would be a reply's first token
            return await self.served.backend.score(text, top, self._account, self.call.background)
        except Exception as error:
            raise api_error(error) from error

    async def _stops(self, text: str | Ids) -> bool:
        """Whether the policy stops a text as a reply: all of it, or what stands between two markers, behind what stands
        before. Says why in `refusal`."""
        screen, whole = self.service.screen, _plain(text)
        if screen is None:
            return False
        runs = text.runs if isinstance(text, Ids) and len(text.runs) > 1 else ()
        read: list[tuple[list[Message], str]] = [([], whole)]
        read += [([user("\n".join(runs[:n]))] if n else [], run) for n, run in enumerate(runs)]
        for messages, reply in read:
            verdict = await self._check_reply(Watch(screen, messages, self.sensitivity), reply)
            if not verdict.allowed:
                self.refusal = verdict.reason
                return True
        return False

    async def whole(self) -> list[Whole]:
        """All samples put together."""
        found = [Whole() for _ in range(self.asked.n)]
        async with aclosing(self.parts()) as parts:
            async for part in parts:
                sample = found[part.sample]
                if isinstance(part, Piece):
                    sample.text += part.text
                    sample.tokens += part.tokens
                else:
                    sample.end = part
        return found

    @property
    def _account(self) -> str:
        return self.call.caller.organisation

    async def _checked(self, stream: AsyncGenerator[Part, None]) -> AsyncGenerator[Part, None]:
        """The stream, with every piece held back until the reply so far was checked."""
        first = min(FIRST_CHECK, self.service.config.policy.hold)
        # a turn that the caller began is the reply's beginning: what is written goes on from there
        screen, conversation = self.service.screen, _begun(self.asked.prompt)
        held = [
            _Held(first, Watch(screen, conversation, self.sensitivity) if screen else None)
            for _ in range(self.asked.n)
        ]
        async with aclosing(stream):
            async for part in stream:
                self._count(part)
                sample = held[part.sample]
                if sample.watch is None:
                    yield part
                    continue
                sample.add(part)
                if sample.refused or not sample.due:
                    continue
                verdict = await self._check_reply(sample.watch, sample.text, part.sample)
                if verdict.allowed:
                    for piece in sample.release(self.service.config.policy.hold):
                        yield piece
                    continue
                sample.refused = True
                yield End(part.sample, "refused", None, self.written[part.sample], 0, verdict.reason)
                if all(one.refused or one.ended for one in held):
                    return

    async def _check_reply(self, watch: Watch, text: str, number: int = 0) -> Verdict:
        verdict = await self.service.judge(self.call, watch.read(text))
        if await self.exempted(verdict):
            watch.ease(self.exemptions)
            verdict = await self.service.judge(self.call, watch.read(text))
        found = (verdict.category, verdict.action)
        if verdict.action == "allow":
            self.allowed.append(verdict)
        elif await self.released(verdict, number):
            return replace(verdict, action="allow", reason="")
        elif found not in self.noted:  # on disk before the reader hears of it
            self.noted.add(found)
            await self.record(verdict, text)
        return verdict

    async def record(self, verdict: Verdict, reply: str = "") -> None:
        """Writes down a verdict that has an effect; text only where the configuration keeps it."""
        self.recorded = True
        content = {"messages": _conversation(self.asked.prompt), "reply": reply}
        record = self.service.conduct.record
        self.standing = await asyncio.to_thread(lambda: record(self._facts(), [verdict], content))

    @property
    def exemptions(self) -> frozenset[str]:
        """What the organisation is exempt from."""
        return self.service.conduct.exempt_from(self._account)

    async def exempted(self, verdict: Verdict) -> bool:
        """Whether people exempted the organisation from what a verdict acts on; written down once."""
        if verdict.action == "allow" or verdict.category not in self.exemptions:
            return False
        return await self._pass(EXEMPTED, verdict, self.service.conduct.use_exemption)

    async def released(self, verdict: Verdict, sample: int = 0) -> bool:
        """Whether a person released what a verdict would stop; the release is used up then, for this sample alone."""
        use = self.service.conduct.use_release
        return not verdict.allowed and await self._pass(RELEASED, verdict, use, sample)

    async def _pass(
        self, how: str, verdict: Verdict, use: Callable[[RequestFacts, Verdict], bool], sample: int = 0
    ) -> bool:
        found = (how, verdict.side, verdict.category, sample)
        if found not in self.passed:
            if not await asyncio.to_thread(lambda: use(self._facts(), verdict)):
                return False
            self.passed.add(found)
            self.recorded = True
        return True

    def _facts(self) -> RequestFacts:
        """Whose request this is, and what it asks."""
        call, model = self.call, self.served.id
        mark = conversation_mark(call.caller.organisation, model, _form(self.given))
        return RequestFacts(call.caller, call.request_id, model, call.user, self.sensitivity, mark)

    def _count(self, part: Part) -> None:
        if isinstance(part, End):
            self.written[part.sample] = part.output_tokens
            self.usage.cached_tokens += part.cached_tokens
            self.usage.input_tokens = part.input_tokens or self.usage.input_tokens
        else:
            self.written[part.sample] = part.written
        self.usage.output_tokens = sum(self.written.values())

    def close(self) -> None:
        """Frees what was set aside and writes down what was used, once; `parts` does it at its end."""
        if self.settled:
            return
        self.settled = True
        call, usage = self.call, self.usage
        for admission in self.admissions:
            admission.settle(usage.output_tokens, usage.cached_tokens)
        counts = Counts(
            requests=1,
            refused=int(bool(self.refusal)),
            input_tokens=usage.input_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
        )
        self.service.meter.record(call.caller.key, self.served.id, counts, time.time())
        if not self.recorded:
            facts = RequestFacts(call.caller, call.request_id, self.served.id, call.user, self.sensitivity)
            self.service.conduct.record(facts, self.allowed)
        self.service.metrics.answered(self.served.id, call.surface, usage, time.monotonic() - self.began)


@dataclass(slots=True)
class _Held:
    """Pieces of one sample that were not checked yet."""

    next_check: int
    watch: Watch | None  # None where the policy is off; what it read goes with the sample
    text: str = ""
    count: int = 0
    pieces: list[Part] = field(default_factory=list)
    ended: bool = False
    refused: bool = False

    def add(self, part: Part) -> None:
        self.pieces.append(part)
        if isinstance(part, Piece):
            self.text += part.text
            self.count += 1
        else:
            self.ended = True

    @property
    def due(self) -> bool:
        """Whether the text must be checked now."""
        return self.ended or self.count >= self.next_check

    def release(self, hold: int) -> list[Part]:
        """What may leave; the next check comes `hold` pieces later. A reply that says nothing was not read: its tokens
        and the likeliest ones in their places, which would say what was not written, stay here."""
        self.next_check = self.count + hold
        found, self.pieces = self.pieces, []
        if self.text.strip():
            return found
        return [_untold(part) for part in found]


def _untold(part: Part) -> Part:
    """A part without its tokens."""
    return replace(part, tokens=()) if isinstance(part, Piece) else replace(part, token=None)


async def begin(service: Service, call: Call, asked: Asked) -> Exchange:
    """Admits a request. Raises ApiError: what is wrong with it, or who must wait how long."""
    try:
        return await _begin(service, call, asked)
    except Exception as error:
        raise api_error(error) from error


async def _begin(service: Service, call: Call, asked: Asked) -> Exchange:
    served = service.registry.find(asked.model, call)
    standing = await service.find_standing(call)
    if standing.blocked:
        raise ApiError(403, standing.message, headers=standing_headers(standing))
    tokens = await served.backend.count(asked.prompt)
    check_lengths(served, tokens, asked.sampling.max_tokens)
    try:
        admissions = service.admit(call, standing, tokens, asked.n * asked.sampling.max_tokens)
    except TooMany as error:
        error.add(standing_headers(standing))
        raise
    exchange = Exchange(service, call, served, asked, admissions, standing, standing.sensitivity)
    exchange.usage.input_tokens, exchange.given = tokens, asked.prompt
    try:
        await _check_prompt(exchange)
    except BaseException:
        for admission in admissions:
            admission.settle(0)
        raise
    return exchange


def check_lengths(served: Served, tokens: int, max_tokens: int) -> None:
    """Raises ApiError, with numbers, for a prompt that the context can't hold and a reply longer than the cap."""
    if max_tokens > served.max_output:
        raise invalid(
            f"max_tokens: {max_tokens} > {served.max_output}, which is the maximum allowed number of output tokens for "
            f"{served.id}",
            "max_tokens",
        )
    if tokens + 1 > served.context:
        raise invalid(f"prompt is too long: {tokens} tokens > {served.context - 1} maximum", "prompt")


async def _check_prompt(exchange: Exchange) -> None:
    """What the policy says of the prompt: it passes, passes with a text added, or is answered with a refusal."""
    screen = exchange.service.screen
    if screen is None:
        return
    asked, service, call = exchange.asked, exchange.service, exchange.call
    messages, whose = _messages(asked.prompt), call.caller.organisation
    verdict = await service.judge(call, screen.steps(messages, exchange.sensitivity, whose))
    if await exchange.exempted(verdict):
        screen = eased(screen, exchange.exemptions)
        verdict = await service.judge(call, screen.steps(messages, exchange.sensitivity, whose))
    if verdict.action == "allow":
        exchange.allowed.append(verdict)
        return
    if await exchange.released(verdict):
        return
    await exchange.record(verdict)
    if not verdict.allowed:
        exchange.refusal = verdict.reason
    elif verdict.action == "safety_prompt":
        exchange.asked = replace(asked, prompt=with_safety(asked.prompt, verdict.safety_prompt))


def with_safety(prompt: Given, words: str) -> Prompt:
    """The prompt with words of the policy as its system text, or behind the one that it has."""
    if isinstance(prompt, str | Ids):
        return f"{words}\n\n{_plain(prompt)}"
    if prompt[0]["role"] == "system":
        return [system(f"{prompt[0]['content']}\n\n{words}"), *prompt[1:]]
    return [system(words), *prompt]


def _begun(prompt: Given) -> list[Message]:
    """What a reply is read behind. The end of plain text counts as the reply's beginning: else a reply that is stopped
    could be had a token at a time, each time with what came before as the prompt."""
    if not isinstance(prompt, str | Ids):
        return list(prompt)
    text = _plain(prompt)
    before, begun = text[:-BEGUN], text[-BEGUN:]
    return [*([user(before)] if before.strip() else []), assistant(begun)]


def _messages(prompt: Given) -> list[Message]:
    """What classifiers read; plain text counts as a user's."""
    return [user(_plain(prompt))] if isinstance(prompt, str | Ids) else list(prompt)


def _conversation(prompt: Given) -> list[Message]:
    """The turns up to the user's last one."""
    messages = _messages(prompt)
    return messages[:-1] if messages[-1]["role"] == "assistant" else messages


def _plain(prompt: str | Ids) -> str:
    return prompt if isinstance(prompt, str) else prompt.text


def _form(prompt: Given) -> Any:
    """A prompt as JSON, by which it is known again."""
    if isinstance(prompt, Ids):
        return {"ids": list(prompt.ids)}
    return {"text": prompt} if isinstance(prompt, str) else {"messages": [dict(m) for m in prompt]}
