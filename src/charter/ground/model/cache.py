"""Keys and values of cached text: fixed buffers with one slot for each text in flight.

Letters: N layers, S slots, K key heads, L capacity in tokens, d head size, T tokens of a flat row.
A row of keys and values, as `Transformer.prefill` returns it, is one tensor [N, 2, T, K, d]; a slot of the
cache is `kv[:, :, slot]`, so giving a prompt to n samples is n copies and no computation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from charter.ground.model.shape import Shape

_BLOCK = 64


class Cache:
    """`kv` [N, 2, S, K, L, d] (keys, then values) and the number of cached tokens of each slot, `lengths`.

    The capacity grows by itself in blocks; tokens past a slot's length are finite leftovers that nothing
    sees.
    """

    def __init__(
        self,
        shape: Shape,
        slots: int,
        capacity: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.shape = shape
        self.lengths = [0] * slots
        size = (shape.num_layers, 2, slots, shape.num_kv_heads, _blocks(capacity), shape.head_dim)
        self.kv = torch.zeros(size, device=device, dtype=dtype)

    @property
    def slots(self) -> int:
        """Number of slots."""
        return len(self.lengths)

    @property
    def capacity(self) -> int:
        """Tokens that fit in a slot before the buffers grow."""
        return int(self.kv.shape[4])

    def reserve(self, tokens: int) -> None:
        """Make room for texts of this many tokens, keeping what is cached."""
        if tokens <= self.capacity:
            return
        used = max(self.lengths)
        grown = self.kv.new_zeros(
            (*self.kv.shape[:4], _blocks(max(tokens, used + used // 2)), self.kv.shape[5])
        )
        grown[:, :, :, :, :used] = self.kv[:, :, :, :, :used]
        self.kv = grown

    def write(self, slot: int, row: Tensor, start: int, end: int) -> None:
        """Append tokens start..end of a row [N, 2, T, K, d] to a slot."""
        at = self.lengths[slot]
        after = at + end - start
        self.reserve(after)
        self.kv[:, :, slot, :, at:after] = row[:, :, start:end].transpose(2, 3)
        self.lengths[slot] = after

    def copy(self, source: int, target: int, length: int | None = None) -> None:
        """Give `target` the first `length` tokens of `source` (all of them by default)."""
        length = self.lengths[source] if length is None else length
        if source != target:
            self.kv[:, :, target, :, :length] = self.kv[:, :, source, :, :length]
        self.lengths[target] = length

    def truncate(self, slot: int, length: int = 0) -> None:
        """Forget what a slot has past `length` tokens; 0 frees it."""
        self.lengths[slot] = min(length, self.lengths[slot])

    def prefix(self, layer: int, slot: int) -> tuple[Tensor, Tensor]:
        """Cached keys and values of a slot in one layer, each [1, K, P, d], as views."""
        seen = self.kv[layer, :, slot : slot + 1, :, : self.lengths[slot]]
        return seen[0], seen[1]


class Step:
    """One decoding step of some slots: where the new keys go, and who sees how far. Made once, used by each
    layer."""

    def __init__(self, cache: Cache, slots: Sequence[int] | None) -> None:
        chosen = list(range(cache.slots)) if slots is None else list(slots)
        before = [cache.lengths[slot] for slot in chosen]
        self.slots, self.longest = chosen, max(before) + 1
        cache.reserve(self.longest)
        device = cache.kv.device
        self.cache = cache
        self.positions = torch.tensor(before, device=device)
        self.rows = torch.tensor(chosen, device=device)
        # Slots 0..S-1 are a view of the buffers; any other choice has to be gathered, a copy in each layer.
        self.leading = chosen == list(range(len(chosen)))
        self.mask: Tensor | None = None
        if min(before) + 1 < self.longest:
            seen = torch.arange(self.longest, device=device) <= self.positions[:, None]
            self.mask = torch.zeros(seen.shape, device=device, dtype=cache.kv.dtype).masked_fill_(
                ~seen, float("-inf")
            )

    def store(self, layer: int, k_SKd: Tensor, v_SKd: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new keys and values; return all that the slots have in this layer, each [S, K, L, d]."""
        keys, values = self.cache.kv[layer, 0], self.cache.kv[layer, 1]
        keys[self.rows, :, self.positions] = k_SKd
        values[self.rows, :, self.positions] = v_SKd
        if self.leading:
            keys, values = keys[: len(self.slots)], values[: len(self.slots)]
        else:
            keys, values = keys.index_select(0, self.rows), values.index_select(0, self.rows)
        return keys[:, :, : self.longest], values[:, :, : self.longest]

    def done(self) -> None:
        """Count the new token of each slot."""
        for slot in self.slots:
            self.cache.lengths[slot] += 1


def _blocks(tokens: int) -> int:
    return max(1, -(-tokens // _BLOCK)) * _BLOCK
