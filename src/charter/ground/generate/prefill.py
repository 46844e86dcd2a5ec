"""Reading prompts: many in one flat row, what they have in common computed once, keys and values kept for slots.

Letters: T tokens of the row, D width, P tokens of one prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charter.ground.model.cache import Cache
from charter.ground.model.layout import Layout, Path
from charter.ground.model.transformer import Transformer

SHORTEST_SHARED = 24


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A read prompt: the row's keys and values [N, 2, T, K, d], the prompt's path in it, its last state [D]."""

    row: Tensor
    path: Path
    last_hidden: Tensor

    def write(self, cache: Cache, slot: int) -> None:
        """Put the prompt's keys and values into an empty slot."""
        cache.truncate(slot)
        for start, end in self.path:
            cache.write(slot, self.row, start, end)


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """Tokens that all sequences begin with, leaving each at least one of its own."""
    if len(sequences) < 2:
        return 0
    ordered = sorted(map(list, sequences))  # the first and the last differ where any two do
    low, high = ordered[0], ordered[-1]
    shared = 0
    for a, b in zip(low, high, strict=False):
        if a != b:
            break
        shared += 1
    shared = min(shared, min(map(len, sequences)) - 1)
    return shared if shared >= SHORTEST_SHARED else 0


def shared_row(sequences: Sequence[Sequence[int]]) -> tuple[list[int], Layout]:
    """A flat row of sequences behind their common prefix: ids, and a layout with one path a sequence."""
    shared = common_prefix(sequences)
    ids = list(sequences[0][:shared])
    positions = list(range(shared))
    paths: list[Path] = []
    for sequence in sequences:
        start = len(ids)
        ids += sequence[shared:]
        positions += range(shared, len(sequence))
        own = (start, len(ids))
        paths.append(((0, shared), own) if shared else (own,))
    return ids, Layout(torch.tensor(positions), tuple(paths))


def prefill(model: Transformer, prompts: Sequence[Sequence[int]]) -> list[Prefilled]:
    """Read all prompts in one row."""
    if not prompts:
        return []
    ids, layout = shared_row(prompts)
    hidden_TD, row = model.prefill(torch.tensor(ids, device=model.device), layout.to(model.device))
    return [Prefilled(row, path, hidden_TD[path[-1][1] - 1]) for path in layout.paths]
