"""The mixture: which dialogues of which inputs an epoch passes, and in which optimizer step."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue

T = TypeVar("T")


def epoch_rows(sources: Sequence[Sequence[T]], passes: Sequence[float], seed: int, epoch: int) -> list[T]:
    """Rows of one epoch in the order of training: each source `passes` times (1.5: all once and half of them,
    drawn at random, once more), shuffled together."""
    _check_numbers("mixture", passes, len(sources))
    rows: list[T] = []
    for number, source in enumerate(sources):
        times = passes[number] if passes else 1.0
        rng = random.Random(derive_seed(seed, "mixture", epoch, number))
        rows += list(source) * int(times)
        rows += rng.sample(list(source), round((times % 1) * len(source)))
    random.Random(derive_seed(seed, "order", epoch)).shuffle(rows)
    return rows


def weighed(sources: Sequence[Sequence[Dialogue]], weights: Sequence[float]) -> list[list[Dialogue]]:
    """The sources with each row's weight times that of its source, without rows that weigh nothing."""
    _check_numbers("weights", weights, len(sources))
    factors = weights or [1.0] * len(sources)
    return [
        [d if factor == 1 else replace(d, weight=d.weight * factor) for d in source if d.weight * factor > 0]
        for source, factor in zip(sources, factors, strict=True)
    ]


def _check_numbers(name: str, numbers: Sequence[float], sources: int) -> None:
    if numbers and len(numbers) != sources:
        raise CharterError(
            f"{name} has {len(numbers)} numbers for {sources} sources (inputs in the order dialogues, "
            "transcripts, comparisons, anchor); give one number each or none"
        )
