"""Reading as servers want it: behind whatever is kept of a prompt, and a long one chunk by chunk, so that those who are
written to never wait longer than a chunk takes; short prompts share a chunk.

A prompt of one sample that is read to the end in one step is read in the slot where it will be continued. Any other
lies in a buffer of its own until it is read, and is then copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charter.ground.generate.kept import BLOCK, KeptTexts
from charter.ground.generate.prefill import Prefilled
from charter.ground.generate.reading import ROW_TOKENS
from charter.ground.generate.requests import Request
from charter.ground.generate.turns import Turns
from charter.ground.model.cache import Cache
from charter.ground.model.layout import documents
from charter.ground.model.transformer import Transformer

PARTLY = 4  # prompts that are read in part at a time: each has a buffer beside the slots
PASSED = 16  # requests that wait for such a buffer and are passed by shorter ones in one step


@dataclass(slots=True)
class _Part:
    """Tokens of a prompt that are read in this step, behind what stands in a slot; `last` of the prompt."""

    request: Request
    kept: list[int]  # places of kept blocks that the slot is to begin with
    tokens: int
    slot: int  # of the prompt's own buffer if it has one, else of the engine's cache
    last: bool


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
    """Reads at most `chunk` tokens a step (0: whole prompts); `kept`: where to look for what need not be read."""

    def __init__(self, model: Transformer, chunk: int, kept: KeptTexts | None) -> None:
        self._model, self._chunk, self._kept = model, chunk, kept
        self._parts: list[_Part] = []
        self._left, self._passed, self._partly = 0, 0, 0
        self.tokens, self.reused = 0, 0

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept."""
        return self._kept.nbytes if self._kept else 0

    @property
    def full(self) -> bool:
        """No tokens are left in this step, or too many had to wait."""
        return self._left <= 0 or self._passed >= PASSED

    def rest(self) -> None:
        """Forgets what is kept if the weights are others."""
        if self._kept:
            self._kept.refresh()

    def begin(self) -> None:
        """A step begins."""
        self._parts, self._left, self._passed = [], self._chunk or ROW_TOKENS, 0

    def takes(self, request: Request, queue: Turns, slot: int) -> bool:
        """Whether there are tokens left in this step for a prompt, and a buffer if it takes more than those."""
        if self.full:
            return False
        kept = self._kept.match(request.account, request.prompt) if self._kept and not request.partly else []
        unread = request.unread - BLOCK * len(kept)
        tokens = min(unread, self._left) if self._chunk else unread
        begins = tokens < unread and request.partly is None
        if self._parts and tokens > self._left:
            self._left = 0
            return False
        if begins and self._partly == PARTLY:
            self._passed += 1
            return False
        if request.partly is None:
            request.cached = BLOCK * len(kept)
            self.reused += request.cached
            if begins or len(request.seeds) > 1:
                request.partly = Cache(
                    self._model.shape, 1, len(request.prompt), self._model.device, self._model.dtype
                )
                self._partly += 1
        self._parts.append(_Part(request, kept, tokens, 0 if request.partly else slot, tokens == unread))
        self._left -= tokens
        self.tokens += tokens
        queue.charge(request, tokens)
        return True

    def read(self, cache: Cache) -> list[Request]:
        """Reads all parts in one row; returns the requests that are read to the end."""
        if not self._parts:
            return []
        places, tokens = list[tuple[Cache, int]](), list[int]()
        for part in self._parts:
            held = part.request.partly or cache
            if held is cache:
                cache.truncate(part.slot)
            if self._kept and part.kept:
                self._kept.give(part.kept, held, part.slot)
            begin = held.lengths[part.slot]
            tokens += part.request.prompt[begin : begin + part.tokens]
            places.append((held, part.slot))
        device = self._model.device
        layout = documents([part.tokens for part in self._parts]).to(device)
        ids = torch.tensor(tokens, device=device)
        hidden_TD, row = self._model.extend(ids, layout, _Places(places), range(len(places)))
        for part, (held, slot), (own,) in zip(self._parts, places, layout.paths, strict=True):
            held.write(slot, row, *own)
            if part.last:
                self._finish(part.request, held, slot, hidden_TD[own[1] - 1])
        return [part.request for part in self._parts if part.last]

    def keep(self, account: str, ids: Sequence[int], cache: Cache, slot: int) -> None:
        """Keeps a text."""
        if self._kept:
            self._kept.keep(account, ids, cache, slot)

    def drop(self, request: Request) -> None:
        """Keeps what was read of a prompt that is wanted no more."""
        if request.partly:
            self.keep(request.account, request.prompt, request.partly, 0)
            request.partly = None
            self._partly -= 1

    def _finish(self, request: Request, held: Cache, slot: int, last_hidden: Tensor) -> None:
        self.keep(request.account, request.prompt, held, slot)
        if request.partly is None:
            request.read = Prefilled((), last_hidden, slot)
        else:
            row = held.kv[:, :, 0].transpose(2, 3)
            request.read = Prefilled(((row, (0, len(request.prompt))),), last_hidden)
            request.partly = None
            self._partly -= 1
