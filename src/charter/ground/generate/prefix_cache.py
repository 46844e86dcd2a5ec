"""Keys and values that outlive their text: a prompt's beginning is not read again if an earlier prompt had it.

Texts are cut into blocks of tokens. A block's key is the hash of the account and of all tokens up to the block's end:
one account never finds the blocks of another, whose texts its bill or waiting time would reveal. One pass finds the
longest kept beginning of a prompt. The least recently used block makes room; the beginning of a text counts as used
after its end, so that no block outlives those before it.
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
        # of each block, the least recently used one first
        self._place: OrderedDict[bytes, int] = OrderedDict()
        self._free = list(range(self.places))
        self._model = model
        self._weights = _Weights(model)

    @property
    def nbytes(self) -> int:
        """Bytes of the kept blocks."""
        return len(self._place) * self.block_bytes

    def match(self, account: str, prompt: Sequence[int]) -> list[int]:
        """Places of the blocks at the beginning of a prompt; at least one token is left to read. They are valid until
        the next `keep`."""
        keys = list(takewhile(self._place.__contains__, _keys(account, prompt[:-1])))
        self._use(keys)
        return [self._place[key] for key in keys]

    def give(self, places: Sequence[int], cache: Cache, slot: int) -> None:
        """Fills the beginning of an empty slot with blocks."""
        cache.reserve(len(places) * BLOCK)
        for n, place in enumerate(places):
            cache.kv[:, :, slot, :, n * BLOCK : (n + 1) * BLOCK] = self._kv[place]
        cache.lengths[slot] = len(places) * BLOCK

    def keep(self, account: str, ids: Sequence[int], cache: Cache, slot: int) -> int:
        """Keeps the whole blocks of a text in a slot: copies the new ones. Returns the tokens of these."""
        keys = _keys(account, ids[: cache.lengths[slot]])[: self.places]
        old = list(takewhile(self._place.__contains__, keys))
        self._use(old)
        new = keys[len(old) :]
        places = [self._free.pop() if self._free else self._place.popitem(last=False)[1] for _ in new]
        for n, place in enumerate(places, len(old)):
            self._kv[place] = cache.kv[:, :, slot, :, n * BLOCK : (n + 1) * BLOCK]
        self._place.update(zip(reversed(new), reversed(places), strict=True))
        self._use(old)
        return BLOCK * len(new)

    def refresh(self) -> None:
        """Forgets all if the weights, the precision or the active adapters have changed."""
        if not self._weights.same(self._model):
            self.forget()

    def forget(self) -> None:
        """Forgets all; later blocks come from the present weights."""
        self._place.clear()
        self._free = list(range(self.places))
        self._weights = _Weights(self._model)

    def _use(self, keys: Sequence[bytes]) -> None:
        for key in reversed(keys):
            self._place.move_to_end(key)


class _Weights:
    """The weights of a model and its active adapters at one time."""

    def __init__(self, model: Transformer) -> None:
        self._watch, self._how = Watch(list(model.parameters())), _state_of(model)

    def same(self, model: Transformer) -> bool:
        return self._how == _state_of(model) and self._watch.same(list(model.parameters()))


def _state_of(model: Transformer) -> tuple[object, ...]:
    adapters = [projection.adapter for projection in model.projections()]
    return model.precision, *(None if adapter is None else adapter.active for adapter in adapters)


def _keys(account: str, ids: Sequence[int]) -> list[bytes]:
    """The key of each whole block."""
    key, keys = blake2b(account.encode(), digest_size=16).digest(), []
    for at in range(0, len(ids) - BLOCK + 1, BLOCK):
        key = blake2b(key + array("I", ids[at : at + BLOCK]).tobytes(), digest_size=16).digest()
        keys.append(key)
    return keys
