"""Packing: which documents share a forward pass, and which make an optimizer step.

Rows are ragged, so documents are never cut or padded. A step is a number of documents; the token budget
bounds only memory, and what a step learns does not depend on it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from charter.ground.artifact.errors import CharterError


def order(count: int, seed: int, epoch: int) -> list[int]:
    """Indices of an epoch in the order of training, the same on every machine."""
    indices = list(range(count))
    random.Random(f"order:{seed}:{epoch}").shuffle(indices)
    return indices


def fill(indices: Sequence[int], lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Consecutive groups of at most `max_tokens` tokens; a document over the budget stands alone."""
    if max_tokens < 1:
        raise CharterError(f"the token budget is {max_tokens}, expected at least 1")
    groups: list[list[int]] = []
    tokens = 0
    for index in indices:
        if not groups or tokens + lengths[index] > max_tokens:
            groups.append([])
            tokens = 0
        groups[-1].append(index)
        tokens += lengths[index]
    return groups


def batches(lengths: Sequence[int], max_tokens: int, seed: int = 0, epoch: int = 0) -> list[list[int]]:
    """Shuffled microbatches of whole documents: every index once, within the token budget."""
    return fill(order(len(lengths), seed, epoch), lengths, max_tokens)


def steps(
    lengths: Sequence[int], documents: int, max_tokens: int, seed: int = 0, epoch: int = 0
) -> list[list[list[int]]]:
    """Optimizer steps of `documents` documents (the last may be smaller), each cut into microbatches.

    Which documents make a step does not depend on `max_tokens`.
    """
    if documents < 1:
        raise CharterError(f"a step has {documents} documents, expected at least 1")
    shuffled = order(len(lengths), seed, epoch)
    cuts = [shuffled[at : at + documents] for at in range(0, len(shuffled), documents)]
    # within a step documents of like length share a microbatch; their order does not matter there
    return [fill(sorted(cut, key=lambda i: (lengths[i], i)), lengths, max_tokens) for cut in cuts]
