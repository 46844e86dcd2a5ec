"""The engine: one synchronous object that owns its slots and samples for everyone.

`submit` queues a request, `step` admits what fits and samples one token in every busy slot, `cancel` frees a
request's slots, `generate` drains a fixed set. The samples of a request share one prefill; the beginning that prompts
share is read once and kept while they come one after the other; a slot that falls free is refilled at the next step.
Each sample draws from uniform numbers of its own seed, so it depends on no neighbour (in bfloat16: up to rounding).

Letters: S busy slots, T tokens of a prefill row, D width, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.constraint import Constraint
from charter.ground.generate.pieces import TokenSearch
from charter.ground.generate.prefill import Prefix, common_prefix, prefill, read_prefixes
from charter.ground.generate.requests import Completion as Completion
from charter.ground.generate.requests import Event as Event
from charter.ground.generate.requests import PromptTooLong as PromptTooLong
from charter.ground.generate.requests import Request
from charter.ground.generate.requests import Stop as Stop
from charter.ground.generate.requests import naming_prompts as naming_prompts
from charter.ground.generate.sampling import Sampling, likeliest, pick, uniforms
from charter.ground.model.cache import Cache, blocks
from charter.ground.model.transformer import Transformer
from charter.ground.settings.seed import derive_seed
from charter.ground.text.tokenizer import Tokenizer

PREFILL_TOKENS = 2048
CACHE_BYTES = 4 * 2**30  # of keys and values of all slots


@dataclass(slots=True, eq=False)
class _Sample:
    request: Request
    index: int
    uniforms: list[float]
    constraint: Constraint | None = None
    search: TokenSearch | None = None  # only where there are stops
    completion: Completion = field(default_factory=Completion)


class Engine:
    """Samples from one model. `probe` reads the hidden state [S, D] before each token, one number a slot; `ends` are
    tokens that end a reply beside the tokenizer's own, such as the template's end of turn. `memory` bounds the bytes
    of keys and values: texts so long that not all slots fit get fewer of them, one at least, and wait for their turn.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        slots: int = 32,
        context: int | None = None,
        probe: Callable[[Tensor], Tensor] | None = None,
        ends: Collection[int] = (),
        memory: int = CACHE_BYTES,
    ) -> None:
        self.model, self.tokenizer, self.probe = model, tokenizer, probe
        self.context = min(context or model.shape.context, model.shape.context)
        self.slots, self.memory = slots, memory
        self.cache = Cache(model.shape, slots, device=model.device, dtype=model.dtype)
        self.ends = frozenset(tokenizer.ends) | frozenset(ends)
        self._queue: deque[Request] = deque()
        self._prefix: Prefix | None = None
        self._busy: list[_Sample] = []  # sample i lives in slot i: busy slots are read in place, without gaps
        self._count = 0

    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        n: int = 1,
        seed: int = 0,
        *,
        account: str = "",
        constraint: Callable[[], Constraint] | None = None,
    ) -> int:
        """Queue n samples of a prompt; returns the request's number. Sample k draws from derive_seed(seed, k).

        `constraint` makes what holds one sample to a form; requests of different accounts take turns.
        """
        self.check(prompt)
        if self.idle:  # what is sampled next depends on nothing before it, and the weights may be others
            self._prefix = None
        seeds = [derive_seed(seed, k) for k in range(n)]
        self._count += 1
        longest = min(len(prompt) + sampling.max_tokens, self.context)
        self._queue.append(Request(self._count, list(prompt), sampling, seeds, longest, account, constraint))
        return self._count

    def check(self, prompt: Sequence[int]) -> None:
        """Raises CharterError for a prompt that is empty or leaves no room for a reply."""
        if not prompt:
            raise CharterError("an empty prompt can't be continued; give at least one token")
        if len(prompt) + 1 > self.context:
            raise PromptTooLong(len(prompt), self.context)

    @property
    def idle(self) -> bool:
        """Nothing queued, nothing running."""
        return not self._queue and not self._busy

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Advance every busy slot by one token, then admit waiting requests into the slots that are free."""
        events: list[Event] = []
        if self._busy:
            tokens = torch.tensor([s.completion.ids[-1] for s in self._busy], device=self.model.device)
            hidden_SD = self.model.decode(tokens, self.cache, range(len(self._busy)))
            events += self._sample(list(self._busy), hidden_SD)
        if self._queue and len(self._busy) < self.slots:
            events += self._admit()
        return events

    @torch.inference_mode()
    def cancel(self, request: int) -> None:
        """Drop what is left of a request and free its slots; unknown or finished requests are ignored."""
        self._queue = deque(r for r in self._queue if r.number != request)
        self._release([s for s in self._busy if s.request.number == request])

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        n: int = 1,
        seeds: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """n completions of every prompt, in order; the engine must be idle."""
        if not self.idle:
            raise CharterError("generate needs an idle engine; drain or cancel its requests first")
        given = seeds if seeds is not None else range(len(prompts))
        numbers: list[int] = []
        try:
            for prompt, seed in zip(prompts, given, strict=True):
                numbers.append(self.submit(prompt, sampling, n, seed))
        except CharterError as error:
            for number in numbers:  # a refused prompt leaves nothing of its batch behind
                self.cancel(number)
            if isinstance(error, PromptTooLong):
                raise PromptTooLong(error.tokens, error.context, len(numbers)) from None
            raise
        place = {number: i for i, number in enumerate(numbers)}
        found: list[list[Completion]] = [[Completion() for _ in range(n)] for _ in prompts]
        while not self.idle:
            for event in self.step():
                if event.done:
                    found[place[event.request]][event.sample] = event.completion
        return found

    def _fit(self, tokens: int) -> int:
        """Slots for texts of this many tokens: as many as the memory holds, one at least."""
        return max(1, min(self.slots, self.memory // (blocks(tokens) * self.cache.token_bytes)))

    def _opening(self, head: Request) -> Prefix | None:
        """What the next prompt that is to be read shares with the one after it, kept while it serves half as well."""
        unread = [r.prompt for r in islice((r for r in self._queue if r.read is None), 2)]
        shared = common_prefix(unread)
        kept = self._prefix
        if kept is None or not kept.opens(head.prompt) or 2 * len(kept.ids) < shared:
            ids = head.prompt[:shared]
            self._prefix = Prefix(ids, read_prefixes(self.model, [ids])) if ids else None
        return self._prefix

    def _admit(self) -> list[Event]:
        """Read the prompts whose first sample finds a slot, then start samples while slots last."""
        fresh, tokens, wanted = list[Request](), 0, len(self._busy)
        slots, longest = self.cache.slots, max((s.request.longest for s in self._busy), default=0)
        prefix: Prefix | None = None
        for request in self._queue:
            together = max(longest, request.longest)
            if wanted >= self._fit(together):
                break
            if request.read is None:
                if not fresh:
                    prefix = self._opening(request)
                elif prefix is not None and not prefix.opens(request.prompt):
                    break
                tokens += len(request.prompt) - (len(prefix.ids) if prefix else 0)
                if fresh and tokens > PREFILL_TOKENS:
                    break
                fresh.append(request)
            slots, longest = self._fit(together), together
            wanted += len(request.seeds) - request.started
        if wanted == len(self._busy):
            return []
        if longest > self.cache.capacity or slots != self.cache.slots:
            self.cache.resize(slots, longest)
        found = prefill(self.model, [r.prompt for r in fresh], prefix)
        for request, read in zip(fresh, found, strict=True):
            request.read = read
        return self._start(slots)

    def _start(self, slots: int) -> list[Event]:
        """Begin samples of the prompts that are read, while there are slots."""
        begun: list[_Sample] = []
        states: list[Tensor] = []
        while self._queue and len(self._busy) < slots and (read := self._queue[0].read) is not None:
            request = self._queue[0]
            read.write(self.cache, len(self._busy))
            states.append(read.last_hidden)
            numbers = uniforms(request.seeds[request.started], request.sampling.max_tokens)
            held = request.constraint() if request.constraint else None
            stops = request.sampling.stops
            search = TokenSearch(self.tokenizer, stops) if stops else None
            begun.append(_Sample(request, request.started, numbers, held, search))
            self._busy.append(begun[-1])
            request.started += 1
            if request.started == len(request.seeds):
                request.read = None
                self._queue.popleft()
        return self._sample(begun, torch.stack(states)) if begun else []

    def _sample(self, samples: list[_Sample], hidden_SD: Tensor) -> list[Event]:
        logits_SV = self.model.logits(hidden_SD).float()
        how = [s.request.sampling for s in samples]
        for sample, logits_V in zip(samples, logits_SV, strict=True):
            if sample.constraint is not None:
                most = min(sample.request.sampling.max_tokens, self.context - len(sample.request.prompt))
                sample.constraint.restrict(logits_V, most - len(sample.completion.ids))
        top = likeliest(logits_SV, how)
        tokens, log_probs = pick(logits_SV, how, [s.uniforms[len(s.completion.ids)] for s in samples])
        values = self.probe(hidden_SD).float().tolist() if self.probe else None
        events = []
        for i, sample in enumerate(samples):
            completion = sample.completion
            completion.logprobs.append(log_probs[i])
            if values is not None:
                completion.probes.append(values[i])
            if how[i].top_logprobs:
                completion.top.append(top[i])
            done = self._add(sample, tokens[i])
            events.append(Event(sample.request.number, sample.index, tokens[i], completion, done))
        self._release([s for s, event in zip(samples, events, strict=True) if event.done])
        return events

    def _add(self, sample: _Sample, token: int) -> bool:
        """Append a token to a sample; True when the sample is complete."""
        completion, request = sample.completion, sample.request
        completion.ids.append(token)
        if sample.constraint is not None:
            sample.constraint.accept(token)
        if token in self.ends:
            completion.text, completion.stop = self.tokenizer.decode(completion.ids[:-1]), "end"
        elif sample.search is not None and (found := sample.search.add(token)) is not None:
            text = self.tokenizer.decode(completion.ids)
            completion.text, completion.stop, completion.stopped_by = text[: found[0]], "stop", found[1]
        elif len(completion.ids) >= min(request.sampling.max_tokens, self.context - len(request.prompt)):
            completion.text, completion.stop = self.tokenizer.decode(completion.ids), "length"
        else:
            return False
        completion.done = True
        return True

    def _release(self, done: list[_Sample]) -> None:
        """Free slots; samples from the end move into the gaps, so that the busy slots stay the first ones."""
        gone = set(done)
        while gone:
            last = self._busy[-1]
            if last in gone:
                gone.remove(last)
            else:
                slot = next(i for i, s in enumerate(self._busy) if s in gone)
                gone.remove(self._busy[slot])
                self.cache.copy(len(self._busy) - 1, slot)
                self._busy[slot] = last
            self._busy.pop()
            self.cache.truncate(len(self._busy))
