"""Packing: which documents share a forward pass.

Rows are ragged, so documents are never cut or padded, and attention never crosses from one to another. The token
budget bounds memory alone: what a step learns does not depend on how it is cut.
"""

from __future__ import annotations

from collections.abc import Sequence

from charter.ground.artifact.errors import CharterError


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
