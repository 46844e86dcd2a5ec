"""The engine: one synchronous object that owns the slots and samples for all requests.

`submit` queues a request, `step` admits what fits and samples one token in every busy slot, `cancel` frees the slots of
a request, `generate` runs a fixed set of prompts. The samples of a request share one prefill. The shared beginning of
successive prompts is read once. A free slot is filled again at the next step. Each sample draws uniform numbers from
its own seed, so it depends on no neighbour (in bfloat16: up to rounding).

Letters: S busy slots, T tokens of a prefill row, D width, V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.chunks import Chunks
from charter.ground.generate.constraint import MOST_REFUSALS, Constraint
from charter.ground.generate.detokenizer import TokenSearch
from charter.ground.generate.engine_limits import Bounds, Stats
from charter.ground.generate.prefix_cache import KeptTexts
from charter.ground.generate.reading import Reader, Together
from charter.ground.generate.requests import Completion as Completion
from charter.ground.generate.requests import Event as Event
from charter.ground.generate.requests import PromptTooLong as PromptTooLong
from charter.ground.generate.requests import Request
from charter.ground.generate.requests import Stop as Stop
from charter.ground.generate.requests import naming_prompts as naming_prompts
from charter.ground.generate.samples import Sample
from charter.ground.generate.sampling import Sampling, likeliest, pick, uniforms
from charter.ground.generate.scheduler import WRITTEN, Turns
from charter.ground.generate.shares import PASSED, Rests, count_reserved, most_slots
from charter.ground.model.cache import Cache, blocks
from charter.ground.model.checkpoint import named_tensors
from charter.ground.model.transformer import Transformer
from charter.ground.settings.seed import derive_seed
from charter.ground.text.tokenizer import Tokenizer


class Engine:
    """Samples from one model. `probe` reads the hidden state [S, D] before each token, one number a slot; `ends` are
    tokens that end a reply beside the tokenizer's own, such as the template's end of turn. `bounds` limit what it may
    hold, and turn on the features of servers.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        slots: int = 32,
        context: int | None = None,
        probe: Callable[[Tensor], Tensor] | None = None,
        ends: Collection[int] = (),
        bounds: Bounds | None = None,
    ) -> None:
        self.model, self.tokenizer, self.probe = model, tokenizer, probe
        self.context = min(context or model.shape.context, model.shape.context)
        self.slots, self.bounds = slots, bounds or Bounds()
        self.cache = Cache(model.shape, slots, device=model.device, dtype=model.dtype)
        self.ends = frozenset(tokenizer.ends) | frozenset(ends)
        self.on_read: Callable[[int], object] = bool  # called with the number of tokens of each piece read
        self.hurry: Callable[[], bool] = bool  # whether a request waits that is not submitted yet
        self._queue = Turns(self.bounds)
        self._reader = self._make_reader()
        self._ready: list[Request] = []  # their prompts are read, but not all samples have begun
        self._busy: list[Sample] = []  # sample i has slot i: busy slots are read in place, without gaps
        self._count, self._written = 0, 0
        self.rests = Rests()  # of accounts; shared by all that use the same processor
        self.resting = False  # whether the last step did nothing: all accounts with requests rest

    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        n: int = 1,
        seed: int = 0,
        *,
        account: str = "",
        constraint: Callable[[], Constraint] | None = None,
        background: bool = False,
    ) -> int:
        """Queue n samples of a prompt; returns the request's number. Sample k draws from derive_seed(seed, k).

        `constraint` makes the constraint of one sample. Accounts take turns. A `background` request begins only while
        nothing else waits. Raises CharterError, and Overloaded if too much waits.
        """
        self.check(prompt)
        if self.idle:
            self._reader.rest()
        seeds = [derive_seed(seed, k) for k in range(n)]
        longest = min(len(prompt) + sampling.max_tokens, self.context)
        request = Request(self._count + 1, list(prompt), sampling, seeds, longest, account, constraint, background)
        self._queue.add(request, max(0, self.slots - len(self._busy)))
        self._count += 1
        return request.number

    def check(self, prompt: Sequence[int]) -> None:
        """Raises CharterError for a prompt that is empty or leaves no room for a reply."""
        if not prompt:
            raise CharterError("an empty prompt can't be continued; give at least one token")
        if len(prompt) + 1 > self.context:
            raise PromptTooLong(len(prompt), self.context)

    @property
    def idle(self) -> bool:
        """Nothing queued, nothing running."""
        return not (self._queue or self._ready or self._busy)

    @property
    def writes(self) -> int:
        """How many slots are busy."""
        return len(self._busy)

    @property
    def waits(self) -> bool:
        """Whether any request waits for a slot."""
        return bool(self._ready or self._queue)

    @property
    def piece(self) -> int:
        """How many tokens of a text are read at a time while others wait; 0: all."""
        return self._reader.piece

    @property
    def stats(self) -> Stats:
        """The present state; any thread may read it."""
        waiting, reader = len(self._queue) + len(self._ready), self._reader
        return Stats(
            waiting=waiting,
            waiting_tokens=self._queue.tokens,
            slots=self.slots,
            busy=len(self._busy),
            read=reader.tokens,
            reused=reader.reused,
            written=self._written,
            cache_bytes=self.cache.kv.nbytes,
            kept_bytes=reader.nbytes,
        )

    def step(self) -> list[Event]:
        """Advance busy slots by one token, then admit waiting requests into free slots. Background requests mostly rest
        while there are others."""
        return self.write() + self.admit()

    @torch.inference_mode()
    def write(self) -> list[Event]:
        """The first half of a step: busy slots."""
        self._see()
        background, began = self.rests.allows_background(), self.rests.clock()
        slots = [n for n, s in enumerate(self._busy) if background or not s.request.background]
        self.resting = not slots
        if not slots:
            return []
        samples = [self._busy[n] for n in slots]
        tokens = torch.tensor([s.completion.ids[-1] for s in samples], device=self.model.device)
        events = self._sample(samples, self.model.decode(tokens, self.cache, slots))
        behind = [sample.request.background for sample in samples]
        if any(behind):
            self.rests.rest_background(self.rests.clock() - began)
        if not all(behind):
            self.rests.note_service()
            self._see()
        return events

    @torch.inference_mode()
    def admit(self) -> list[Event]:
        """The second half: waiting requests. It may be called alone."""
        if not self.writes:
            self.resting = True
        if not self.waits:
            return []
        self._see()
        events = self._admit(self.rests.allows_background())
        self._see()
        return events

    def _see(self) -> None:
        """Notes the accounts that are served or wait, without the background."""
        requests = (*self._ready, *(sample.request for sample in self._busy))
        self.rests.see(self._queue.accounts | {request.account for request in requests if not request.background})

    @torch.inference_mode()
    def cancel(self, request: int) -> None:
        """Drop what is left of a request and free its slots; unknown or finished requests are ignored."""
        if (waiting := self._queue.drop(request)) is not None:
            self._reader.drop(waiting)
        self._ready = [r for r in self._ready if r.number != request]
        self._release([s for s in self._busy if s.request.number == request])

    @torch.no_grad()
    def renew(self, weights: Mapping[str, Tensor]) -> None:
        """Goes on with other weights, under their Hugging Face names. Running samples continue with their old keys and
        values; later prompts use nothing that the old weights read."""
        for name, tensor in named_tensors(self.model).items():
            tensor.copy_(weights[name])
        self.model.unfuse()
        self.model.fuse()
        self._reader.renew(self._order(True))

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, n: int = 1, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """n completions of every prompt, in order; the engine must be idle."""
        if not self.idle:
            raise CharterError("generate needs an idle engine; drain or cancel its requests first")
        prompt_seeds = seeds if seeds is not None else range(len(prompts))
        numbers: list[int] = []
        try:
            for prompt, seed in zip(prompts, prompt_seeds, strict=True):
                numbers.append(self.submit(prompt, sampling, n, seed))
        except CharterError as error:
            for number in numbers:  # after a refused prompt nothing of its batch stays
                self.cancel(number)
            if isinstance(error, PromptTooLong):
                raise PromptTooLong(error.tokens, error.context, len(numbers)) from None
            raise
        place = {number: i for i, number in enumerate(numbers)}
        completions: list[list[Completion]] = [[Completion() for _ in range(n)] for _ in prompts]
        while not self.idle:
            for event in self.step():
                if event.error is not None:
                    raise event.error
                if event.done:
                    completions[place[event.request]][event.sample] = event.completion
        return completions

    def _make_reader(self) -> Reader:
        bounds = self.bounds
        if not (bounds.chunk or bounds.kept):
            return Together(self.model)
        cache = KeptTexts(self.model, self.cache, bounds.kept) if bounds.kept else None
        return Chunks(self.model, bounds.chunk, cache, lambda tokens: self.on_read(tokens), lambda: self.hurry())

    def _fit(self, tokens: int) -> int:
        """How many slots for texts of this many tokens fit into the memory; at least one."""
        return max(1, self.bounds.memory // (blocks(tokens) * self.cache.token_bytes))

    def _admit(self, background: bool) -> list[Event]:
        """Read the prompts whose first sample has a slot, then start samples while there are slots."""
        longest, passed = max((s.request.longest for s in self._busy), default=0), 0
        used = Counter(s.request.account for s in self._busy)
        accounts = {s.request.account for s in self._busy if not s.request.background}
        plan: list[tuple[Request, int]] = []  # and how many of its samples may begin
        # accounts whose next request can't begin: their later ones don't overtake it
        behind: set[str] = set()
        self._reader.begin(len(accounts | self._queue.accounts) > 1)
        for request in self._order(background):
            if request.background and plan and self.rests.wanted:
                break  # new requests wait for one prompt at most
            together = max(longest, request.longest)
            own, fit, shared = used[request.account], self._fit(together), bool(request.account)
            room = most_slots(self.slots, fit, own, request.background, shared) - used.total()
            is_read = request.read is not None
            waits = not is_read and (request.account in behind or not self.rests.may(request.account))
            if room <= 0 or waits:
                behind.add(request.account)
                passed += 1  # an account with fewer slots may still have room
                if not shared or passed == PASSED:
                    break
                continue
            if not (is_read or self._reader.takes(request, self._queue, used.total())):
                if self._reader.full:
                    break
                continue
            begins = min(room, len(request.seeds) - request.started)
            plan.append((request, begins))
            longest = together
            used[request.account] += begins
        if not plan:
            return []
        self.resting, began = False, self.rests.clock()
        events = self._read(plan, longest, used.total())
        if any(request.background for request, _ in plan):
            self.rests.rest_background(self.rests.clock() - began)
        return events

    def _read(self, plan: list[tuple[Request, int]], longest: int, slots: int) -> list[Event]:
        """Read the planned prompts, and begin their samples: then `slots` slots are busy."""
        if longest > self.cache.capacity or slots > self.cache.slots:
            # Double the slots each time: with buffers for all slots, one long text would make all of them long.
            most = self.slots if slots <= self.slots else self.slots + count_reserved(self.slots)
            self.cache.resize(min(self._fit(longest), most, 1 << (slots - 1).bit_length()), longest)
        began = self.rests.clock()
        unread = {one.account for one, _ in plan if one.read is None and not one.background}
        for request in self._reader.read(self.cache):
            self._queue.take(request)
            self._ready.append(request)
        if unread:
            self.rests.rest(unread, self.rests.clock() - began)
        return self._start(plan)

    def _order(self, background: bool) -> Iterator[Request]:
        """Requests with samples to begin: first those whose prompt is read, and the background after all others."""
        for behind in (False, True) if background else (False,):
            yield from [request for request in self._ready if request.background is behind]
            yield from self._queue.line(behind)

    def _start(self, plan: list[tuple[Request, int]]) -> list[Event]:
        """Begin the planned samples of the prompts that are read."""
        samples: list[Sample] = []
        states: list[Tensor] = []
        for request, count in plan:
            for _ in range(count if request.read is not None else 0):
                assert request.read is not None
                request.read.write(self.cache, len(self._busy))
                states.append(request.read.last_hidden)
                samples.append(self._begin(request))
                self._busy.append(samples[-1])
                request.started += 1
            if request.started == len(request.seeds):
                request.read = None
                self._ready.remove(request)
        return self._sample(samples, torch.stack(states)) if samples else []

    def _begin(self, request: Request) -> Sample:
        """The next sample of a request, before its first token."""
        sampling = request.sampling
        numbers = uniforms(request.seeds[request.started], sampling.max_tokens)
        search = TokenSearch(self.tokenizer, sampling.stops) if sampling.stops else None
        most = min(sampling.max_tokens, self.context - len(request.prompt))
        sample = Sample(request, request.started, numbers, most, search, request.begun)
        if request.constraint:
            with sample.noting():
                sample.constraint = request.constraint()
        return sample

    def _sample(self, samples: list[Sample], hidden_SD: Tensor) -> list[Event]:
        logits_SV = self.model.logits(hidden_SD).float()
        how = [s.request.sampling for s in samples]
        for sample, logits_V in zip(samples, logits_SV, strict=True):
            if sample.constraint is not None:
                with sample.noting():
                    sample.constraint.restrict(logits_V, sample.most - len(sample.completion.ids))
        top = likeliest(logits_SV, how)
        tokens, log_probs = pick(logits_SV, how, [s.uniforms[len(s.completion.ids)] for s in samples])
        for i, sample in enumerate(samples):
            if sample.constraint is not None and sample.error is None:
                with sample.noting():
                    tokens[i], log_probs[i] = self._draw_allowed(sample, logits_SV[i], tokens[i], log_probs[i])
        values = self.probe(hidden_SD).float().tolist() if self.probe else None
        events = []
        for i, sample in enumerate(samples):
            completion, request = sample.completion, sample.request
            done = sample.error is not None or sample.add(tokens[i], self.tokenizer, self.ends)
            if sample.error is None:
                completion.logprobs.append(log_probs[i])
                if values is not None:
                    completion.probes.append(values[i])
                if how[i].top_logprobs:
                    completion.top.append(top[i])
            events.append(Event(request.number, sample.index, tokens[i], completion, done, sample.error))
            self._queue.charge(request, WRITTEN)
        self._written += len(samples)
        self._release([s for s, event in zip(samples, events, strict=True) if event.done])
        return events

    def _draw_allowed(self, sample: Sample, logits_V: Tensor, token: int, log_prob: float) -> tuple[int, float]:
        """Draws again, each time from a fresh uniform number, until the constraint accepts the token."""
        assert sample.constraint is not None
        length = len(sample.completion.ids)
        fresh: list[float] = []
        while not sample.constraint.accept(token):
            fresh = fresh or uniforms(int(sample.uniforms[length] * 2**53), 2 * MOST_REFUSALS)
            sample.constraint.restrict(logits_V, sample.most - length)
            tokens, log_probs = pick(logits_V[None], [sample.request.sampling], [fresh.pop()])
            token, log_prob = tokens[0], log_probs[0]
        return token, log_prob

    def _release(self, samples: list[Sample]) -> None:
        """Free the slots of samples; samples from the end fill the gaps, so that the busy slots stay the first ones."""
        gone = set(samples)
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
