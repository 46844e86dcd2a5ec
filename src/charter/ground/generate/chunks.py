"""The reader of servers: a prompt behind its kept beginning, and a long prompt chunk by chunk.

Running replies never wait longer than for one chunk. Short prompts share a chunk. A prompt with one sample that is read
to its end in one step is read in the slot of that sample. Any other is read in a buffer of its own and copied at the
end.

A chunk is read piece by piece. `Borders` of pieces depend only on the place in the prompt: the rounding of attention
depends on how many tokens are read at once, and in int8 a different last bit can become a different word. So a prompt
is read in the same pieces alone or beside others, in one step or in several, and only whole pieces are kept for texts
that begin alike. The state of a token then depends only on the tokens before it, and a kept beginning equals, bit for
bit, a new reading of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charter.ground.generate.prefill import Prefilled
from charter.ground.generate.prefix_cache import BLOCK, KeptTexts
from charter.ground.generate.reading import ROW_TOKENS
from charter.ground.generate.requests import Request
from charter.ground.generate.scheduler import Turns
from charter.ground.model.cache import Cache
from charter.ground.model.layout import documents
from charter.ground.model.transformer import Transformer

# Tokens of a piece. On a CPU, torch takes a kernel that is three times as slow for fewer than 768 queries.
SHORTEST, LONGEST = 64, 1024
_SHARE = 128
PARTLY = 4  # partly read prompts at a time; each has a buffer beside the slots
PASSED = 16  # requests in one step that wait for a buffer while shorter ones pass them


@dataclass(frozen=True, slots=True)
class Borders:
    """Borders of pieces of `least` to `most` tokens, both powers of two. With short pieces little of a kept text must
    be read again; long pieces are read faster. So a piece has the least length, or a small part of the length before
    it.
    """

    least: int
    most: int

    def before(self, place: int) -> int:
        """The last border up to a place."""
        return place - place % self._size(place)

    def after(self, place: int) -> int:
        """The first border behind a place."""
        return self.before(place) + self._size(place)

    def _size(self, place: int) -> int:
        """Tokens of the piece in which a place lies."""
        return max(self.least, min(self.most, _power(place // _SHARE)))


def borders(chunk: int, block: int, same: bool) -> Borders:
    """The borders if `chunk` tokens are read at a time (0: any number) and blocks of `block` tokens are kept. `same`:
    whether equal pieces give equal bits on this device; if not, pieces have the greatest length."""
    most = max(block, _power(min(chunk or LONGEST, LONGEST)))
    return Borders(min(SHORTEST, most) if same else most, most)


def _power(number: int) -> int:
    """The largest power of two up to a number."""
    return 1 << max(0, number.bit_length() - 1)


@dataclass(slots=True)
class _Part:
    """The part of a prompt that this step reads: up to token `end`, behind the tokens that a slot holds."""

    request: Request
    kept: list[int]  # places of the kept blocks with which the slot begins
    end: int
    slot: int  # in the prompt's own buffer if it has one, else in the engine's cache
    queue: Turns  # is charged for the tokens


class _Places:
    """Slots of several caches, as the texts that `Transformer.extend` continues."""

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
    """Reads at most `chunk` tokens a step (0: whole prompts). `kept`: the cache of beginnings. `on_read` is called with
    the number of tokens of each piece that was read or found in the cache. If `hurry` says that a new request waits, a
    step reads a long prompt only to the end of its piece."""

    def __init__(
        self,
        model: Transformer,
        chunk: int,
        kept: KeptTexts | None,
        on_read: Callable[[int], object] = bool,
        hurry: Callable[[], bool] = bool,
    ) -> None:
        self._model, self._kept, self._on_read, self._hurry = model, kept, on_read, hurry
        self._borders = borders(chunk, BLOCK, same=model.device.type == "cpu")
        self._chunk = max(chunk, self._borders.most) if chunk else 0
        self._parts: list[_Part] = []
        self._left, self._passed, self._partly = 0, 0, 0
        # of one account in this step: most tokens, and tokens so far
        self._each, self._had = (0, Counter[str]())
        self.tokens, self.reused = 0, 0

    @property
    def nbytes(self) -> int:
        """Bytes of the cache of beginnings."""
        return self._kept.nbytes if self._kept else 0

    @property
    def piece(self) -> int:
        """Tokens of the shortest piece if prompts are read in chunks, else 0."""
        return self._borders.least if self._chunk else 0

    @property
    def full(self) -> bool:
        """Whether this step has no tokens left, or too many requests were passed and no prompt is partly read."""
        return self._left <= 0 or (self._passed >= PASSED and not self._partly)

    def rest(self) -> None:
        """Clears the cache of beginnings if the weights have changed."""
        if self._kept:
            self._kept.refresh()

    def renew(self, waiting: Iterable[Request]) -> None:
        """Clears the cache of beginnings and drops partly read prompts."""
        for request in waiting:
            if request.partly:
                request.partly = None
                self._partly -= 1
        if self._kept:
            self._kept.forget()

    def begin(self, several: bool) -> None:
        """Begins a step. With `several` accounts, each gets at most the shortest piece. If a new request waits, all
        together get no more than that."""
        most = self._borders.least if self._hurry() and self._chunk else self._chunk
        self._parts, self._left, self._passed = [], most or ROW_TOKENS, 0
        self._each = self._borders.least if several and self._chunk else 0
        self._had = Counter[str]()

    def takes(self, request: Request, queue: Turns, slot: int) -> bool:
        """Whether this step has tokens left for a prompt, and a buffer if the prompt needs more tokens than that."""
        if self.full or (self._passed >= PASSED and request.partly is None):
            return False
        length, places = len(request.prompt), self._match(request)
        begin, had = length - request.unread + BLOCK * len(places), self._had[request.account]
        end, room = length, min(self._left, self._each or self._left)
        if self._each and had and length - begin > self._each - had:
            self._passed += 1
            return False
        if self._chunk and length - begin > room:
            end = self._borders.before(begin + room)
            if end <= begin and not self._parts:  # pieces are longer at this place
                end = min(length, self._borders.after(begin))
        alone = self._each and end < length  # short prompts of others don't wait for a part of a long one
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
        self._parts.append(_Part(request, places, end, 0 if request.partly else slot, queue))
        self._left = self._left - (end - begin) if end == length else 0
        self._had[request.account] += end - begin
        self.tokens += end - begin
        queue.charge(request, end - begin)
        return True

    def read(self, cache: Cache) -> list[Request]:
        """Reads all parts; returns the requests whose prompts are now read to the end."""
        places: list[tuple[Cache, int]] = []
        for part in self._parts:
            if part.request.partly is None:
                cache.truncate(part.slot)
            places.append((part.request.partly or cache, part.slot))
            if self._kept and part.kept:
                self._kept.give(part.kept, *places[-1])
                self._on_read(BLOCK * len(part.kept))
        unread = list(zip(self._parts, places, strict=True))
        while unread:
            self._read_pieces(unread)
            if self._hurry():
                self._break_off(places)
            unread = [(part, (buffer, slot)) for part, (buffer, slot) in unread if buffer.lengths[slot] < part.end]
        return [part.request for part in self._parts if part.end == len(part.request.prompt)]

    def _break_off(self, places: Sequence[tuple[Cache, int]]) -> None:
        """Leaves the rest of the prompts to a later step if buffers are free. It stops at a prompt that was read to its
        end in a slot: giving up an earlier slot would leave a gap before it."""
        for part, (buffer, slot) in zip(reversed(self._parts), reversed(places), strict=True):
            in_slot = part.request.partly is None
            if buffer.lengths[slot] < part.end and not (in_slot and self._buffers_taken(part.request)):
                self._leave(part, buffer, slot)
            elif in_slot:
                return

    def _leave(self, part: _Part, buffer: Cache, slot: int) -> None:
        """Ends a part at its present token and moves it to a buffer of its own."""
        request, length = part.request, buffer.lengths[slot]
        if request.partly is None:
            request.partly = Cache(self._model.shape, 1, len(request.prompt), buffer.kv.device, buffer.kv.dtype)
            request.partly.write(0, buffer.kv[:, :, slot].transpose(2, 3), 0, length)
            buffer.truncate(slot)
            self._partly += 1
        unread, part.end = part.end - length, 0  # nothing more of it in this step
        self.tokens -= unread
        part.queue.charge(request, -unread)

    def drop(self, request: Request) -> None:
        """Drops a cancelled request, and keeps the part of its prompt that was read."""
        if request.partly:
            self._keep(request, request.partly, 0)
            request.partly = None
            self._partly -= 1

    def _buffers_taken(self, request: Request) -> bool:
        """Whether no buffer is left for a new prompt; background requests never get the last one."""
        return self._partly >= PARTLY - request.background

    def _match(self, request: Request) -> list[int]:
        """Places of the kept blocks at the beginning of a prompt, up to a border; none for a partly read prompt."""
        if not self._kept or request.partly:
            return []
        places = self._kept.match(request.account, request.prompt)
        return places[: self._borders.before(BLOCK * len(places)) // BLOCK]

    def _read_pieces(self, parts: Sequence[tuple[_Part, tuple[Cache, int]]]) -> None:
        """Reads the next piece of each part, all in one row."""
        tokens, lengths = list[int](), list[int]()
        for part, (buffer, slot) in parts:
            begin = buffer.lengths[slot]
            end = min(self._borders.after(begin), part.end)
            tokens += part.request.prompt[begin:end]
            lengths.append(end - begin)
        device = self._model.device
        layout, ids = documents(lengths).to(device), torch.tensor(tokens, device=device)
        places = _Places([place for _, place in parts])
        hidden_TD, row = self._model.extend(ids, layout, places, range(len(parts)))
        for (part, (buffer, slot)), (span,) in zip(parts, layout.paths, strict=True):
            buffer.write(slot, row, *span)
            self._on_read(span[1] - span[0])
            if buffer.lengths[slot] == len(part.request.prompt):
                self._finish(part.request, buffer, slot, hidden_TD[span[1] - 1])

    def _finish(self, request: Request, buffer: Cache, slot: int, last_hidden: Tensor) -> None:
        self._keep(request, buffer, slot)
        if request.partly is None:
            request.read = Prefilled((), last_hidden, slot)
        else:
            row = buffer.kv[:, :, 0].transpose(2, 3)
            request.read = Prefilled(((row, (0, len(request.prompt))),), last_hidden)
            request.partly = None
            self._partly -= 1

    def _keep(self, request: Request, buffer: Cache, slot: int) -> None:
        """Puts the whole pieces that were read of a prompt into the cache of beginnings."""
        if self._kept:
            border = self._borders.before(buffer.lengths[slot])
            request.kept = self._kept.keep(request.account, request.prompt[:border], buffer, slot)
