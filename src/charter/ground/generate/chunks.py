"""Reading as servers want it: behind whatever is kept of a prompt, and a long one chunk by chunk, so that those who are
written to never wait longer than a chunk takes; short prompts share a chunk. A chunk is read piece by piece
(`borders`), so that what is read is the same to the bit whatever is read beside it or was kept before.

A prompt of one sample that is read to the end in one step is read in the slot where it will be continued. Any other
lies in a buffer of its own until it is read, and is then copied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charter.ground.generate.chunk_boundaries import borders
from charter.ground.generate.prefill import Prefilled
from charter.ground.generate.prefix_cache import BLOCK, KeptTexts
from charter.ground.generate.reading import ROW_TOKENS
from charter.ground.generate.requests import Request
from charter.ground.generate.scheduler import Turns
from charter.ground.model.cache import Cache
from charter.ground.model.layout import documents
from charter.ground.model.transformer import Transformer

PARTLY = 4  # prompts that are read in part at a time: each has a buffer beside the slots
PASSED = 16  # requests that wait for such a buffer and are passed by shorter ones in one step


@dataclass(slots=True)
class _Part:
    """What is read of a prompt in this step, up to token `end`, behind what stands in a slot."""

    request: Request
    kept: list[int]  # places of kept blocks that the slot is to begin with
    end: int
    slot: int  # of the prompt's own buffer if it has one, else of the engine's cache
    queue: Turns  # which is charged for what is read


class _Places:
    """Slots of several caches as texts to read behind, for `Transformer.extend`."""

    def __init__(self, places: Sequence[tuple[Cache, int]]) -> None:
        self._places = places

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [cache.lengths[slot] for cache, slot in self._places]

    def prefix(self, layer: int, slot: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a text in one layer."""
        cache, at = self._places[slot]
        return cache.prefix(layer, at)


class Chunks:
    """Reads at most `chunk` tokens a step (0: whole prompts); `kept`: where to look for what need not be read; `told`
    is called with the tokens of each piece that is read or was kept; where somebody new waits, which `hurry` says, a
    long prompt is read no further than its piece in this step."""

    def __init__(
        self,
        model: Transformer,
        chunk: int,
        kept: KeptTexts | None,
        told: Callable[[int], object] = bool,
        hurry: Callable[[], bool] = bool,
    ) -> None:
        self._model, self._kept, self._told, self._hurry = model, kept, told, hurry
        self._borders = borders(chunk, BLOCK, same=model.device.type == "cpu")
        self._chunk = max(chunk, self._borders.most) if chunk else 0
        self._parts: list[_Part] = []
        self._left, self._passed, self._partly = 0, 0, 0
        self._each, self._had = 0, Counter[str]()  # tokens of one account in this step: most, and taken
        self.tokens, self.reused = 0, 0

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept."""
        return self._kept.nbytes if self._kept else 0

    @property
    def piece(self) -> int:
        """Tokens of the shortest piece, where prompts are read in chunks."""
        return self._borders.least if self._chunk else 0

    @property
    def full(self) -> bool:
        """No tokens are left in this step, or too many had to wait and none is read in part, which may go on."""
        return self._left <= 0 or (self._passed >= PASSED and not self._partly)

    def rest(self) -> None:
        """Forgets what is kept if the weights are others."""
        if self._kept:
            self._kept.refresh()

    def renew(self, waiting: Iterable[Request]) -> None:
        """Forgets all that is kept, and what is read of prompts in part."""
        for request in waiting:
            if request.partly:
                request.partly = None
                self._partly -= 1
        if self._kept:
            self._kept.forget()

    def begin(self, several: bool) -> None:
        """A step begins; where `several` accounts ask, none of them has more than the shortest piece, and where
        somebody new waits, nor have all together."""
        most = self._borders.least if self._hurry() and self._chunk else self._chunk
        self._parts, self._left, self._passed = [], most or ROW_TOKENS, 0
        self._each = self._borders.least if several and self._chunk else 0
        self._had = Counter[str]()

    def takes(self, request: Request, queue: Turns, slot: int) -> bool:
        """Whether there are tokens left in this step for a prompt, and a buffer if it takes more than those."""
        if self.full or (self._passed >= PASSED and request.partly is None):
            return False
        length, kept = len(request.prompt), self._match(request)
        begin, had = length - request.unread + BLOCK * len(kept), self._had[request.account]
        end, left = length, min(self._left, self._each or self._left)
        if self._each and had and length - begin > self._each - had:
            self._passed += 1
            return False
        if self._chunk and length - begin > left:
            end = self._borders.before(begin + left)
            if end <= begin and not self._parts:  # its place has longer pieces
                end = min(length, self._borders.after(begin))
        alone = self._each and end < length  # others' short prompts don't wait for a part of a long one
        if end <= begin or (self._parts and (alone or end - begin > self._left)):
            self._left = 0
            return False
        begins = end < length and request.partly is None
        if begins and self._buffers_taken(request):
            self._passed += 1
            return False
        if request.partly is None:
            request.cached = begin
            self.reused += begin
            if begins or len(request.seeds) > 1:
                request.partly = Cache(self._model.shape, 1, length, self._model.device, self._model.dtype)
                self._partly += 1
        self._parts.append(_Part(request, kept, end, 0 if request.partly else slot, queue))
        self._left = self._left - (end - begin) if end == length else 0
        self._had[request.account] += end - begin
        self.tokens += end - begin
        queue.charge(request, end - begin)
        return True

    def read(self, cache: Cache) -> list[Request]:
        """Reads all parts; returns the requests that are read to the end."""
        places: list[tuple[Cache, int]] = []
        for part in self._parts:
            if part.request.partly is None:
                cache.truncate(part.slot)
            places.append((part.request.partly or cache, part.slot))
            if self._kept and part.kept:
                self._kept.give(part.kept, *places[-1])
                self._told(BLOCK * len(part.kept))
        unread = list(zip(self._parts, places, strict=True))
        while unread:
            self._read_pieces(unread)
            if self._hurry():
                self._break_off(places)
            unread = [(part, (held, slot)) for part, (held, slot) in unread if held.lengths[slot] < part.end]
        return [part.request for part in self._parts if part.end == len(part.request.prompt)]

    def _break_off(self, places: Sequence[tuple[Cache, int]]) -> None:
        """Leaves the rest of prompts to a later step, where there are buffers for them: not where another one was read
        to its end in a slot behind theirs, which would no longer be the next one."""
        for part, (held, slot) in zip(reversed(self._parts), reversed(places), strict=True):
            begun = part.request.partly is None
            if held.lengths[slot] < part.end and not (begun and self._buffers_taken(part.request)):
                self._leave(part, held, slot)
            elif begun:
                return

    def _leave(self, part: _Part, held: Cache, slot: int) -> None:
        """Ends a part where it stands, in a buffer of its own."""
        request, read = part.request, held.lengths[slot]
        if request.partly is None:
            request.partly = Cache(self._model.shape, 1, len(request.prompt), held.kv.device, held.kv.dtype)
            request.partly.write(0, held.kv[:, :, slot].transpose(2, 3), 0, read)
            held.truncate(slot)
            self._partly += 1
        left, part.end = part.end - read, 0  # nothing more of it in this step
        self.tokens -= left
        part.queue.charge(request, -left)

    def drop(self, request: Request) -> None:
        """Keeps what was read of a prompt that is wanted no more."""
        if request.partly:
            self._keep(request, request.partly, 0)
            request.partly = None
            self._partly -= 1

    def _buffers_taken(self, request: Request) -> bool:
        """Whether no buffer is left to begin a prompt in; the last one is for no prompt of the background."""
        return self._partly >= PARTLY - request.background

    def _match(self, request: Request) -> list[int]:
        """Places of the kept blocks that a prompt begins with, up to a border; none once it is read in part."""
        if not self._kept or request.partly:
            return []
        found = self._kept.match(request.account, request.prompt)
        return found[: self._borders.before(BLOCK * len(found)) // BLOCK]

    def _read_pieces(self, parts: Sequence[tuple[_Part, tuple[Cache, int]]]) -> None:
        """Reads the next piece of each part, all in one row."""
        tokens, lengths = list[int](), list[int]()
        for part, (held, slot) in parts:
            begin = held.lengths[slot]
            end = min(self._borders.after(begin), part.end)
            tokens += part.request.prompt[begin:end]
            lengths.append(end - begin)
        device = self._model.device
        layout, ids = documents(lengths).to(device), torch.tensor(tokens, device=device)
        places = _Places([place for _, place in parts])
        hidden_TD, row = self._model.extend(ids, layout, places, range(len(parts)))
        for (part, (held, slot)), (own,) in zip(parts, layout.paths, strict=True):
            held.write(slot, row, *own)
            self._told(own[1] - own[0])
            if held.lengths[slot] == len(part.request.prompt):
                self._finish(part.request, held, slot, hidden_TD[own[1] - 1])

    def _finish(self, request: Request, held: Cache, slot: int, last_hidden: Tensor) -> None:
        self._keep(request, held, slot)
        if request.partly is None:
            request.read = Prefilled((), last_hidden, slot)
        else:
            row = held.kv[:, :, 0].transpose(2, 3)
            request.read = Prefilled(((row, (0, len(request.prompt))),), last_hidden)
            request.partly = None
            self._partly -= 1

    def _keep(self, request: Request, held: Cache, slot: int) -> None:
        """Keeps the whole pieces that were read of a prompt."""
        if self._kept:
            whole = self._borders.before(held.lengths[slot])
            self._kept.keep(request.account, request.prompt[:whole], held, slot)
