"""One request from its admission to its last token: limits, standing, the policy on the prompt, the model, the policy
on the reply before it is sent, and the log.

Requests of all shapes go this way: `begin` refuses or admits, `parts` gives the answer. A reply is held back until its
text so far has been checked, at the end of each sentence and after `hold` tokens at most; classifiers keep what they
have read of it. A grant that lets something pass is logged before it passes. The policy reads what the caller wrote of
the prompt (`Said`): words and frames of the server's own are neither judged nor charged.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from charter.ground.moderation.actions import Level, Verdict
from charter.ground.moderation.screen import Screen
from charter.ground.text.dialogue import Message, Prompt, assistant, system, user
from charter_service.accounts.cases import ACTED, stopped_before
from charter_service.accounts.grants import EXEMPTED, RELEASED
from charter_service.accounts.limits import Admission, TooMany
from charter_service.accounts.remembered import Standing
from charter_service.accounts.usage import Counts
from charter_service.api.conduct import RequestFacts, conversation_mark, name_of
from charter_service.api.errors import ApiError, invalid
from charter_service.api.held import Held, Watch, ease
from charter_service.api.model_request import (
    Call,
    End,
    Ids,
    ModelRequest,
    Part,
    Piece,
    PromptInput,
    Said,
    Token,
    Usage,
    Whole,
    said_in,
)
from charter_service.api.registry import Served
from charter_service.api.service import Service
from charter_service.api.telling import standing_headers
from charter_service.web.database import reading

STOPPED = "the screen stopped {} under {} ({}); --no-policy, or policy: {{state: off}}, turns it off"
_LOG = logging.getLogger("charter_service.api")
BEGUN = 2000  # characters at the end of plain text that count as a reply's beginning


@dataclass(slots=True)
class Exchange:
    """An admitted request. Pass `parts` to one reader, and always close it."""

    service: Service
    call: Call
    served: Served
    model_request: ModelRequest
    admission: Admission
    standing: Standing  # after the decisions so far
    screen: Screen | None  # of the policy that was in force when the request came; None: it is off
    sensitivity: Level
    usage: Usage = field(default_factory=Usage)
    recorded: bool = False  # whether a verdict was logged
    allowed: list[Verdict] = field(default_factory=list)  # those without effect; none if the policy is off
    noted: set[tuple[str, str]] = field(default_factory=set)  # logged verdicts on replies: category, action
    # grants used by this request: how, side, category; of a released reply, the sample
    passed: set[tuple[str, str, str, int]] = field(default_factory=set)
    repeats: str = ""  # the earlier request that was stopped for what is stopped of this prompt
    refusal: str = ""  # why the prompt was blocked
    category: str = ""  # under which it was
    safety: str = ""  # what the policy added to the prompt
    began: float = field(default_factory=time.monotonic)
    written: dict[int, int] = field(default_factory=dict)  # tokens by sample
    settled: bool = False
    original_prompt: PromptInput = ""  # the prompt, without the policy's text

    @property
    def headers(self) -> dict[str, str]:
        """Headers of Anthropic's answers: the rest of the limits, and the caller's standing if it isn't good."""
        return self.admission.headers | standing_headers(self.standing)

    async def parts(self) -> AsyncGenerator[Part, None]:
        """The answer. Usage is recorded when it ends, however it ends."""
        try:
            if self.refusal:
                for sample in range(self.model_request.n):
                    yield End(sample, "refused", reason=self.refusal, category=self.category)
                return
            stream = self.served.backend.stream(self.model_request, self._account, self.call.background)
            async with aclosing(self._checked_parts(stream)) as checked:
                async for part in checked:
                    self.call.row.wrote()
                    yield part
        finally:
            self.close()

    async def score(self, text: str | Ids, top: int) -> list[Token]:
        """Log-probabilities of a given text, none if the policy blocks it: from the likeliest next tokens a caller
        could build a reply token by token. Nothing is sampled, and the exchange stays open."""
        if await self._stops(text):
            return []
        if self.screen is not None and not _plain(text).strip():
            top = 0  # nobody checks a blank text: its next token would be a reply's first token
        return await self.served.backend.score(text, top, self._account, self.call.background)

    async def _stops(self, text: str | Ids) -> bool:
        """Whether the policy blocks a text as a reply: the whole text, or a part between two markers, after the text
        before. Sets `refusal` to the reason."""
        screen, plain = self.screen, _plain(text)
        if screen is None:
            return False
        runs = text.runs if isinstance(text, Ids) and len(text.runs) > 1 else ()
        readings: list[tuple[list[Message], str]] = [([], plain)]
        readings += [([user("\n".join(runs[:n]))] if n else [], run) for n, run in enumerate(runs)]
        for messages, reply in readings:
            verdict = await self._check_reply(Watch(screen, messages, self.sensitivity), reply)
            if not verdict.allowed:
                self.refusal, self.category = verdict.reason, verdict.category
                return True
        return False

    async def whole(self) -> list[Whole]:
        """All samples put together."""
        samples = [Whole() for _ in range(self.model_request.n)]
        async with aclosing(self.parts()) as parts:
            async for part in parts:
                sample = samples[part.sample]
                if isinstance(part, Piece):
                    sample.text += part.text
                    sample.tokens += part.tokens
                else:
                    sample.end = part
        return samples

    @property
    def said(self) -> Said:
        """What the caller wrote of the prompt."""
        request = self.model_request
        return request.said or said_in(self.original_prompt)

    @property
    def _before_reply(self) -> list[Message]:
        """The caller's messages before a reply. The end of plain text counts as the reply's beginning: else a caller
        could get a blocked reply token by token, each time with the text so far as the prompt."""
        prompt = self.original_prompt
        if not isinstance(prompt, str | Ids):
            return self.said.all
        text = _plain(prompt)
        before, begun = text[:-BEGUN], text[-BEGUN:]
        return [*([user(before)] if before.strip() else []), assistant(begun)]

    @property
    def _account(self) -> str:
        return self.call.caller.organisation

    async def _checked_parts(self, stream: AsyncGenerator[Part, None]) -> AsyncGenerator[Part, None]:
        """The stream, with every piece held back until the reply so far has been checked."""
        hold = self.service.config.policy.hold
        # a turn that the caller began is the beginning of the reply, which continues it
        screen, conversation = self.screen, self._before_reply
        samples = [
            Held(hold, Watch(screen, conversation, self.sensitivity) if screen else None)
            for _ in range(self.model_request.n)
        ]
        async with aclosing(stream):
            async for part in stream:
                self._count(part)
                sample = samples[part.sample]
                if sample.watch is None:
                    yield part
                    continue
                sample.add(part)
                if sample.refused or not sample.due:
                    continue
                verdict = await self._check_reply(sample.watch, sample.text, part.sample)
                if verdict.allowed:
                    for piece in sample.release():
                        yield piece
                    continue
                sample.refused = True
                tokens, why = self.written[part.sample], verdict.reason
                yield End(part.sample, "refused", output_tokens=tokens, reason=why, category=verdict.category)
                if all(other.refused or other.ended for other in samples):
                    return

    async def _check_reply(self, watch: Watch, text: str, number: int = 0) -> Verdict:
        verdict = await self.service.judge(self.call, watch.read(text))
        if await self.use_exemption(verdict):
            watch.ease(self.exemptions)
            verdict = await self.service.judge(self.call, watch.read(text))
        noted = (verdict.category, verdict.action)
        if verdict.action == "allow":
            self.allowed.append(verdict)
        elif await self.use_release(verdict, number):
            return replace(verdict, action="allow", reason="")
        elif noted not in self.noted:  # on disk before the reader gets it
            self.noted.add(noted)
            await self.record(verdict, text)
        return verdict

    async def record(self, verdict: Verdict, reply: str = "") -> None:
        """Logs a verdict that has an effect; with its text only if the configuration keeps it."""
        self.recorded = True
        if not verdict.allowed:
            _LOG.info(STOPPED.format(self.call.request_id, verdict.category or "no category", verdict.side))
        content = {"messages": _up_to_user(self.said.all), "reply": reply}
        record = self.service.conduct.record
        self.standing = await asyncio.to_thread(lambda: record(self._facts(), [verdict], content))

    @property
    def exemptions(self) -> frozenset[str]:
        """What the organisation is exempt from."""
        return self.service.conduct.exempt_from(self._account)

    async def use_exemption(self, verdict: Verdict) -> bool:
        """Whether the organisation is exempt from a verdict; logged once."""
        if verdict.action == "allow" or verdict.category not in self.exemptions:
            return False
        return await self._pass(EXEMPTED, verdict, self.service.conduct.use_exemption)

    async def use_release(self, verdict: Verdict, sample: int = 0) -> bool:
        """Whether a person released the text that a verdict would block; the release is then used up, only for this
        sample."""
        use = self.service.conduct.use_release
        return not verdict.allowed and await self._pass(RELEASED, verdict, use, sample)

    async def _pass(
        self, how: str, verdict: Verdict, use: Callable[[RequestFacts, Verdict], bool], sample: int = 0
    ) -> bool:
        passage = (how, verdict.side, verdict.category, sample)
        if passage not in self.passed:
            if not await asyncio.to_thread(lambda: use(self._facts(), verdict)):
                return False
            self.passed.add(passage)
            self.recorded = True
        return True

    def _facts(self) -> RequestFacts:
        """The request's data for the log."""
        call, model = self.call, self.served.id
        mark = conversation_mark(call.caller.organisation, model, form(self.original_prompt))
        return replace(self.plain_facts(), conversation=mark, repeats=self.repeats)

    def plain_facts(self) -> RequestFacts:
        """The request's data without its conversation."""
        call, policy = self.call, name_of(self.screen.policy if self.screen else None)
        return RequestFacts(call.caller, call.request_id, self.served.id, call.user, self.sensitivity, policy=policy)

    def _count(self, part: Part) -> None:
        if isinstance(part, End):
            self.written[part.sample] = part.output_tokens
            self.usage.cached_tokens += part.cached_tokens
            self.usage.input_tokens = part.input_tokens or self.usage.input_tokens
        else:
            self.written[part.sample] = part.written
        self.usage.output_tokens = sum(self.written.values())

    def add_safety(self, words: str) -> None:
        """Adds the policy's words to the prompt."""
        self.safety = words
        self.model_request = replace(self.model_request, prompt=with_safety(self.model_request.prompt, words))

    def leave(self) -> None:
        """Closes an exchange for which no model is asked: it counts as a request, without tokens."""
        self.admission.settle(0, self.usage.input_tokens)
        self.usage = Usage()
        self.close()

    def close(self) -> None:
        """Frees reservations and records usage, once; `parts` calls it at its end."""
        if self.settled:
            return
        self.settled = True
        call, usage = self.call, self.usage
        self.admission.settle(usage.output_tokens, usage.cached_tokens)
        counts = Counts(
            requests=1,
            refused=int(bool(self.refusal)),
            input_tokens=usage.input_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
        )
        self.service.meter.record(call.caller.key, self.served.id, counts, time.time())
        call.row.used(usage.input_tokens, usage.cached_tokens, usage.output_tokens, bool(self.refusal))
        self.service.spending.add(call.caller.organisation, usage.input_tokens + usage.output_tokens)
        if not self.recorded:
            self.service.conduct.record(self.plain_facts(), self.allowed)
        self.service.metrics.answered(self.served.id, call.surface, usage, time.monotonic() - self.began)


async def begin(service: Service, call: Call, model_request: ModelRequest) -> Exchange:
    """Admits a request. Raises Refusal with the problem, or the time to wait."""
    served = service.registry.find(model_request.model, call)
    call.row.model = served.id
    standing = await service.find_standing(call)
    if standing.blocked:
        raise ApiError(403, standing.message, headers=standing_headers(standing))
    tokens = await served.backend.count(model_request.prompt)
    check_lengths(served, tokens, model_request.sampling.max_tokens)
    try:
        admission = service.admit(call, standing, tokens, model_request.n * model_request.sampling.max_tokens)
    except TooMany as error:
        error.add(standing_headers(standing))
        raise
    screen = service.screen  # a request keeps its policy, also if another comes into force meanwhile
    exchange = Exchange(service, call, served, model_request, admission, standing, screen, standing.sensitivity)
    exchange.usage.input_tokens, exchange.original_prompt = tokens, model_request.prompt
    try:
        await _check_prompt(exchange)
    except BaseException:
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
    """Applies the policy to the prompt: it passes, passes with an added text, or gets a refusal."""
    screen = exchange.screen
    if screen is None:
        return
    service, call = exchange.service, exchange.call
    said, trusts = exchange.said, service.config.policy.system_text == "trusted"
    messages, trusted = (list(said.messages), said.system) if trusts else (said.all, "")
    about = (messages, exchange.sensitivity, call.caller.organisation, trusted)
    verdict = await service.judge(call, screen.steps(*about))
    if await exchange.use_exemption(verdict):
        verdict = await service.judge(call, ease(screen, exchange.exemptions).steps(*about))
    if verdict.action == "allow":
        exchange.allowed.append(verdict)
        return
    if await exchange.use_release(verdict):
        return
    if verdict.action in ACTED:
        exchange.repeats = await stopped_already(exchange)
    await exchange.record(verdict)
    if not verdict.allowed:
        exchange.refusal, exchange.category = verdict.reason, verdict.category
    elif verdict.action == "safety_prompt":
        exchange.add_safety(verdict.safety_prompt)


def with_safety(prompt: PromptInput, words: str) -> Prompt:
    """The prompt with the policy's words as its system text, or after its own system text."""
    if isinstance(prompt, str | Ids):
        return f"{words}\n\n{_plain(prompt)}"
    if prompt[0]["role"] == "system":
        return [system(f"{prompt[0]['content']}\n\n{words}"), *prompt[1:]]
    return [system(words), *prompt]


def _up_to_user(messages: list[Message]) -> list[Message]:
    """The messages up to the user's last one."""
    return messages[:-1] if messages[-1]["role"] == "assistant" else messages


def _plain(prompt: str | Ids) -> str:
    return prompt if isinstance(prompt, str) else prompt.text


async def stopped_already(exchange: Exchange) -> str:
    """The earlier request of the account that was stopped, if a stopped prompt goes on from it and the rest alone
    passes; else "". What the rest means only behind the earlier turns is stopped, too, but not charged."""
    prompt, screen, facts = exchange.original_prompt, exchange.screen, exchange.plain_facts()
    if isinstance(prompt, str | Ids) or screen is None:
        return ""
    ends = [n for n, message in enumerate(prompt, 1) if message["role"] == "user"][:-1]
    organisation = facts.caller.organisation
    marks = {conversation_mark(organisation, facts.model, form(prompt[:end])): end for end in ends}

    def stopped() -> dict[str, str]:
        with reading(exchange.service.database) as connection:
            return stopped_before(connection, organisation, facts.mark, marks)

    requests = await asyncio.to_thread(stopped)
    if not requests:
        return ""
    last = max(requests, key=marks.__getitem__)
    said, more = exchange.said, len(prompt) - marks[last]
    # what is said of tools belongs to every turn
    newest = [*(m for m in said.messages[:-more] if m["role"] == "system"), *said.messages[-more:]]
    steps = screen.steps(newest, exchange.sensitivity, organisation, said.system)
    verdict = await exchange.service.judge(exchange.call, steps)
    return "" if verdict.action in ACTED else requests[last]


def form(prompt: PromptInput) -> Any:
    """A prompt as JSON, to recognise it again."""
    if isinstance(prompt, Ids):
        return {"ids": list(prompt.ids)}
    return {"text": prompt} if isinstance(prompt, str) else {"messages": [dict(m) for m in prompt]}
