"""Packing: which documents share a forward pass, and which groups share an optimizer step.

Rows are ragged: documents are never cut or padded, and attention never crosses from one to another. The token
budget bounds only memory: what a step learns does not depend on its cuts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.seed import derive_seed

T = TypeVar("T")


def microbatches(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Consecutive groups of indices whose lengths sum to at most `most_tokens`; an overlong one stands alone."""
    if most_tokens < 1:
        raise CharterError(f"the token budget is {most_tokens}, expected at least 1")
    groups: list[list[int]] = []
    tokens = 0
    for index, length in enumerate(lengths):
        if not groups or tokens + length > most_tokens:
            groups.append([])
            tokens = 0
        groups[-1].append(index)
        tokens += length
    return groups


def deal(lengths: Sequence[int], number: int) -> list[list[int]]:
    """Indices in `number` groups of about equal length: longest first, each to the shortest group (Graham 1969)."""
    groups: list[list[int]] = [[] for _ in range(number)]
    tokens = [0] * number
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        least = tokens.index(min(tokens))
        groups[least].append(index)
        tokens[least] += lengths[index]
    return groups


def fill_steps(groups: Sequence[T], size: Callable[[T], int], batch: int, epochs: int, seed: int) -> list[list[T]]:
    """Optimizer steps over all epochs, each shuffled anew. A step takes groups until their sizes reach `batch`."""
    steps: list[list[T]] = []
    for epoch in range(epochs):
        shuffled = list(groups)
        random.Random(derive_seed(seed, "order", epoch)).shuffle(shuffled)
        full = True
        for group in shuffled:
            if full:
                steps.append([])
            steps[-1].append(group)
            full = sum(map(size, steps[-1])) >= batch
    return steps
