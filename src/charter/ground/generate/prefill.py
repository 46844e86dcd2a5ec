"""Reading prompts: many in one flat row, their common part computed once, keys and values kept for slots.

A prefix (a chat template's opening, a few-shot part, a long passage) is read alone and kept; the rest of each prompt is
read behind it. Letters: T tokens of the row, D width, P tokens of one prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from charter.ground.model.cache import Cache, Kept
from charter.ground.model.layout import Segment, documents
from charter.ground.model.transformer import Transformer

SHORTEST_SHARED = 24


@dataclass(frozen=True, slots=True)
class Prefix:
    """The tokens that prompts begin with, and their keys and values."""

    ids: list[int]
    kept: Kept

    def opens(self, prompt: Sequence[int]) -> bool:
        """Whether a prompt begins with it and has a token of its own."""
        return len(prompt) > len(self.ids) and prompt[: len(self.ids)] == self.ids


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A prompt that was read: where its keys and values lie, in the order of its text, and its last state [D]. `slot`:
    the slot of its one sample, if it was read there."""

    parts: tuple[tuple[Tensor, Segment], ...]
    last_hidden: Tensor
    slot: int | None = None

    def write(self, cache: Cache, slot: int) -> None:
        """Put the prompt's keys and values into an empty slot."""
        if slot == self.slot:
            return
        cache.truncate(slot)
        for row, (start, end) in self.parts:
            cache.write(slot, row, start, end)


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """Tokens that all sequences begin with, leaving each at least one of its own; 0 if they are too few to pay."""
    if len(sequences) < 2:
        return 0
    ordered = sorted(map(list, sequences))  # the first and the last differ the soonest
    shared = min(_alike(ordered[0], ordered[-1]), min(map(len, sequences)) - 1)
    return shared if shared >= SHORTEST_SHARED else 0


def prefix_groups(sequences: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
    """(shared tokens, members by index) of groups that begin alike, so that each member meets its longest prefix.

    In sorted order neighbours are most alike. Two neighbours are in different groups if they share less than half of
    what either shares with its other neighbour. All groups that share too little to pay form one group that shares 0.
    """
    order = sorted(range(len(sequences)), key=lambda i: list(sequences[i]))
    alike = [0, *(_alike(sequences[a], sequences[b]) for a, b in pairwise(order)), 0]
    runs: list[list[int]] = []
    for place, index in enumerate(order):
        if not place or 2 * alike[place] < max(alike[place - 1], alike[place + 1]):
            runs.append([])
        runs[-1].append(index)
    groups, single = list[tuple[int, list[int]]](), list[int]()
    for run in runs:
        if shared := common_prefix([sequences[i] for i in run]):
            groups.append((shared, run))
        else:
            single += run
    return groups + ([(0, single)] if single else [])


def read_prefixes(model: Transformer, prefixes: Sequence[Sequence[int]]) -> Kept:
    """Read separate texts in one row, and keep them; an empty text stays empty."""
    ids = [token for prefix in prefixes for token in prefix]
    layout = documents([len(prefix) for prefix in prefixes])
    segments = tuple(segment for (segment,) in layout.paths)
    if not ids:
        return Kept(None, segments)
    return Kept(model.prefill(torch.tensor(ids, device=model.device), layout.to(model.device))[1], segments)


def prefill(model: Transformer, prompts: Sequence[Sequence[int]], prefix: Prefix | None = None) -> list[Prefilled]:
    """Read all prompts in one row, behind the prefix that they all begin with."""
    if not prompts:
        return []
    shared = len(prefix.ids) if prefix else 0
    layout = documents([len(prompt) - shared for prompt in prompts]).to(model.device)
    ids = torch.tensor([token for prompt in prompts for token in prompt[shared:]], device=model.device)
    if prefix is None:
        hidden_TD, row = model.prefill(ids, layout)
        before: tuple[tuple[Tensor, Segment], ...] = ()
    else:
        hidden_TD, row = model.extend(ids, layout, prefix.kept, [0] * len(prompts))
        before = prefix.kept.parts(0)
    return [Prefilled((*before, (row, span)), hidden_TD[span[1] - 1]) for (span,) in layout.paths]


def _alike(a: Sequence[int], b: Sequence[int]) -> int:
    """Tokens that both begin with."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
