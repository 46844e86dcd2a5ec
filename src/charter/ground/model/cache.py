"""Keys and values of cached text: fixed buffers with one slot for each running text.

Letters: N layers, S slots, K key heads, L capacity in tokens, d head size, T tokens of a flat row.
A row of keys and values, as `Transformer.prefill` returns it, is one tensor [N, 2, T, K, d]; a slot of the
cache is `kv[:, :, slot]`, so giving a prompt to n samples takes n copies and no computation.
"""

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from charter.ground.model.layout import Segment
from charter.ground.model.shape import Shape

LARGE_BYTES = 2**24
_BLOCK = 64
_VECTOR = 16  # numbers


class Before(Protocol):
    """Texts that others continue; their keys and values may lie anywhere."""

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each text."""
        ...

    def prefix(self, layer: int, slot: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a text in one layer, each [1, K, P, d], as views."""
        ...


class Cache:
    """`kv` [N, 2, S, K, L, d] (keys, then values) and the number of cached tokens of each slot, `lengths`.

    The capacity grows by itself in blocks; tokens past a slot's length are finite leftovers that nothing
    reads.
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
        size = (shape.num_layers, 2, slots, shape.num_kv_heads, blocks(capacity), shape.head_dim)
        self.kv = _zeros(size, dtype, torch.device(device))

    @property
    def slots(self) -> int:
        """Number of slots."""
        return len(self.lengths)

    @property
    def capacity(self) -> int:
        """Tokens that fit in a slot before the buffers grow."""
        return int(self.kv.shape[4])

    @property
    def token_bytes(self) -> int:
        """Bytes that one token takes in one slot."""
        shape = self.shape
        return 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * self.kv.element_size()

    def reserve(self, tokens: int) -> None:
        """Make room for texts of this many tokens; cached tokens stay."""
        if tokens > self.capacity:
            longest = max(self.lengths)
            self.resize(self.slots, max(tokens, longest + longest // 2))

    def resize(self, slots: int, tokens: int) -> None:
        """Change to buffers of this many slots for texts of this many tokens; the first slots keep their tokens."""
        lengths = self.lengths[:slots]
        longest = max(lengths)
        layers, both, _, heads, _, d = self.kv.shape
        old = self.kv[:, :, : len(lengths), :, :longest].clone() if longest else None
        dtype, device = self.kv.dtype, self.kv.device
        self.kv = self.kv.new_empty(0)  # the old buffers are freed before the new ones are made
        self.kv = _zeros((layers, both, slots, heads, blocks(tokens), d), dtype, device)
        if old is not None:
            self.kv[:, :, : len(lengths), :, :longest] = old
        self.lengths = lengths + [0] * (slots - len(lengths))

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
        """Drop the tokens of a slot past `length`; 0 frees it."""
        self.lengths[slot] = min(length, self.lengths[slot])

    def prefix(self, layer: int, slot: int) -> tuple[Tensor, Tensor]:
        """Cached keys and values of a slot in one layer, each [1, K, P, d], as views."""
        both = self.kv[layer, :, slot : slot + 1, :, : self.lengths[slot]]
        return both[0], both[1]


@dataclass(frozen=True)
class Kept:
    """Texts that others continue, one segment each of the row [N, 2, T, K, d] that was read (None: all are empty).
    `Transformer.extend` takes them as slots, without a copy."""

    row: Tensor | None
    segments: tuple[Segment, ...]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [end - start for start, end in self.segments]

    def parts(self, slot: int) -> tuple[tuple[Tensor, Segment], ...]:
        """The row and the segment of a text, as `Cache.write` takes them; () for an empty text."""
        return () if self.row is None else ((self.row, self.segments[slot]),)

    def prefix(self, layer: int, slot: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a text in one layer, each [1, K, P, d], as views."""
        (row, (start, end)), *_ = self.parts(slot)
        both = row[layer, :, start:end].transpose(1, 2)[:, None]
        return both[0], both[1]


class Step:
    """One decoding step of some slots: where the new keys go, and how far each slot sees. Made once, used by each
    layer."""

    def __init__(self, cache: Cache, slots: Sequence[int] | None) -> None:
        indices = list(range(cache.slots)) if slots is None else list(slots)
        before = [cache.lengths[slot] for slot in indices]
        self.slots, self.longest = indices, max(before) + 1
        cache.reserve(self.longest)
        device = cache.kv.device
        self.cache = cache
        self.positions = torch.tensor(before, device=device)
        self.rows = torch.tensor(indices, device=device)
        # Slots 0..S-1 are a view of the buffers; any others must be gathered, a copy in each layer.
        self.leading = indices == list(range(len(indices)))
        # A CPU sums whole vectors and rounds a remainder differently. So the length is a multiple of a vector, with the
        # rest masked: then a text has the same bits beside any others.
        length = -(-self.longest // _VECTOR) * _VECTOR if device.type == "cpu" else self.longest
        self.mask: Tensor | None = None
        if min(before) + 1 < length:
            hidden = torch.arange(length, device=device) > self.positions[:, None]
            self.mask = torch.zeros(hidden.shape, device=device, dtype=cache.kv.dtype)
            self.mask.masked_fill_(hidden, float("-inf"))
        # The views of all layers at once: next to the products of one token, single views would cost time.
        count = len(indices) if self.leading else cache.slots
        keys, values = cache.kv[:, :, :count, :, :length].unbind(1)
        self.keys, self.values = keys.unbind(0), values.unbind(0)
        # Texts of equal length, or a single one, have one place for all new keys.
        self.new_keys, self.new_values = list[Tensor](), list[Tensor]()
        if self.leading and min(before) + 1 == self.longest:
            self.new_keys += keys[:, :, :, self.longest - 1].unbind(0)
            self.new_values += values[:, :, :, self.longest - 1].unbind(0)

    def store(self, layer: int, k_SKd: Tensor, v_SKd: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new keys and values; return all of the slots in this layer, each [S, K, L, d]."""
        keys, values = self.keys[layer], self.values[layer]
        if self.new_keys:
            self.new_keys[layer].copy_(k_SKd)
            self.new_values[layer].copy_(v_SKd)
            return keys, values
        keys[self.rows, :, self.positions] = k_SKd
        values[self.rows, :, self.positions] = v_SKd
        if self.leading:
            return keys, values
        return keys.index_select(0, self.rows), values.index_select(0, self.rows)

    def finish(self) -> None:
        """Count the new token of each slot."""
        for slot in self.slots:
            self.cache.lengths[slot] += 1


def blocks(tokens: int) -> int:
    """The capacity of a buffer for `tokens`: whole blocks, larger ones for longer texts, so that it rarely grows."""
    block = max(_BLOCK, 1 << max(0, tokens.bit_length() - 3))
    return max(1, -(-tokens // block)) * block


def _zeros(size: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros of a size. On a CPU the system supplies the pages of large ones at the first write: else clearing gigabytes
    for long texts would stop all requests for seconds."""
    count = math.prod(size)
    if device.type != "cpu" or count * dtype.itemsize < LARGE_BYTES:
        return torch.zeros(size, dtype=dtype, device=device)
    return torch.frombuffer(mmap.mmap(-1, count * dtype.itemsize), dtype=dtype).view(*size)
