"""Cutting work into microbatches that bound memory. What a step learns never depends on this cut."""

from __future__ import annotations

from collections.abc import Sequence


def microbatches(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Consecutive groups of indices whose lengths sum to at most `most_tokens`; an overlong one stands
    alone."""
    groups: list[list[int]] = []
    tokens = 0
    for index, length in enumerate(lengths):
        if not groups or tokens + length > most_tokens:
            groups.append([])
            tokens = 0
        groups[-1].append(index)
        tokens += length
    return groups
