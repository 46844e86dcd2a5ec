"""The mixture: which dialogues of which inputs an epoch passes, and in which optimizer step."""

from __future__ import annotations

import random
from collections.abc import Sequence

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue


def epoch_rows(
    sources: Sequence[Sequence[Dialogue]], passes: Sequence[float], seed: int, epoch: int
) -> list[Dialogue]:
    """Rows of one epoch in the order of training: each source `passes` times (1.5: all once and half of them,
    drawn at random, once more), shuffled together."""
    if passes and len(passes) != len(sources):
        raise CharterError(
            f"mixture has {len(passes)} numbers for {len(sources)} sources (inputs in the order dialogues, "
            "transcripts, comparisons); give one number each or none"
        )
    rows: list[Dialogue] = []
    for number, source in enumerate(sources):
        times = passes[number] if passes else 1.0
        rng = random.Random(derive_seed(seed, "mixture", epoch, number))
        rows += list(source) * int(times)
        rows += rng.sample(list(source), round((times % 1) * len(source)))
    random.Random(derive_seed(seed, "order", epoch)).shuffle(rows)
    return rows


def draw(rows: Sequence[Dialogue], limit: int, seed: int) -> list[Dialogue]:
    """At most `limit` rows (0: all), drawn at random and kept in their order."""
    if not limit or limit >= len(rows):
        return list(rows)
    return [rows[i] for i in sorted(random.Random(seed).sample(range(len(rows)), limit))]
