"""Keys and values that outlive their text, so that a prompt which begins like one read before is not read again.

Texts are cut into blocks of tokens. A block is known by the hash of all tokens up to its end and of whose text it is:
what one account wrote is never found by another, whose bill or waiting time would tell of it. A prompt meets its
longest kept beginning in one pass. The block that was not used for the longest time makes room; the beginning of a text
counts as used after its end, so that no block outlives those before it.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from itertools import takewhile

import torch

from charter.ground.model.cache import Cache
from charter.ground.model.packing import Watch
from charter.ground.model.transformer import Transformer

BLOCK = 16  # tokens


class KeptTexts:
    """Blocks in one buffer [P, N, 2, K, BLOCK, d] of P places; N layers, K key heads, d head size."""

    def __init__(self, model: Transformer, cache: Cache, most_bytes: int) -> None:
        layers, both, _, heads, _, d = cache.kv.shape
        self.block_bytes = BLOCK * cache.token_bytes
        self.places = most_bytes // self.block_bytes
        self._kv = torch.empty(
            (self.places, layers, both, heads, BLOCK, d), dtype=cache.kv.dtype, device=cache.kv.device
        )
        # of each block; the first was not used for longest
        self._place: OrderedDict[bytes, int] = OrderedDict()
        self._free = list(range(self.places))
        self._model = model
        self._weights = _Weights(model)

    @property
    def nbytes(self) -> int:
        """Of the blocks that are kept."""
        return len(self._place) * self.block_bytes

    def match(self, account: str, prompt: Sequence[int]) -> list[int]:
        """Places of the blocks that a prompt begins with, one token at least left to read. They hold until the next
        `keep`."""
        keys = list(takewhile(self._place.__contains__, _keys(account, prompt[:-1])))
        self._use(keys)
        return [self._place[key] for key in keys]

    def give(self, places: Sequence[int], cache: Cache, slot: int) -> None:
        """Begins an empty slot with blocks."""
        cache.reserve(len(places) * BLOCK)
        for n, place in enumerate(places):
            cache.kv[:, :, slot, :, n * BLOCK : (n + 1) * BLOCK] = self._kv[place]
        cache.lengths[slot] = len(places) * BLOCK

    def keep(self, account: str, ids: Sequence[int], cache: Cache, slot: int) -> None:
        """Keeps the whole blocks of a text that a slot holds: copies those that are new."""
        keys = _keys(account, ids[: cache.lengths[slot]])[: self.places]
        known = list(takewhile(self._place.__contains__, keys))
        self._use(known)
        new = keys[len(known) :]
        places = [self._free.pop() if self._free else self._place.popitem(last=False)[1] for _ in new]
        for n, place in enumerate(places, len(known)):
            self._kv[place] = cache.kv[:, :, slot, :, n * BLOCK : (n + 1) * BLOCK]
        self._place.update(zip(reversed(new), reversed(places), strict=True))
        self._use(known)

    def refresh(self) -> None:
        """Forgets all if the weights, or how they compute, are no longer those that wrote it."""
        if not self._weights.same(self._model):
            self.forget()

    def forget(self) -> None:
        """Forgets all; what is kept from now on comes from the weights as they are."""
        self._place.clear()
        self._free = list(range(self.places))
        self._weights = _Weights(self._model)

    def _use(self, keys: Sequence[bytes]) -> None:
        for key in reversed(keys):
            self._place.move_to_end(key)


class _Weights:
    """The weights of a model, and which of its adapters are on, at one time."""

    def __init__(self, model: Transformer) -> None:
        self._watch, self._how = Watch(list(model.parameters())), _how(model)

    def same(self, model: Transformer) -> bool:
        return self._how == _how(model) and self._watch.same(list(model.parameters()))


def _how(model: Transformer) -> tuple[object, ...]:
    adapters = [projection.adapter for projection in model.projections()]
    return model.precision, *(None if adapter is None else adapter.active for adapter in adapters)


def _keys(account: str, ids: Sequence[int]) -> list[bytes]:
    """The name of each whole block."""
    key, found = blake2b(account.encode(), digest_size=16).digest(), []
    for at in range(0, len(ids) - BLOCK + 1, BLOCK):
        key = blake2b(key + array("I", ids[at : at + BLOCK]).tobytes(), digest_size=16).digest()
        found.append(key)
    return found
