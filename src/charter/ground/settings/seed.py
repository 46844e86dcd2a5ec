"""Seeds: one number in the recipe gives every step, chunk and item its own stream. Also random draws of rows."""

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed below 2**31 that depends on `seed` and all names, stable across machines and versions.

    Names are tagged by type and length, so derive_seed(0, "a", "b") differs from derive_seed(0, "ab").
    """
    text = "|".join([str(seed), *(f"{type(n).__name__[0]}{len(str(n))}:{n}" for n in names)])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big") % 2**31


def sample_rows(rows: Sequence[T], limit: int, seed: int) -> list[T]:
    """At most `limit` random rows (0: all) in random order; if all are taken, they keep their order."""
    if not limit or limit >= len(rows):
        return list(rows)
    return random.Random(seed).sample(rows, limit)


def draw_rows(rows: Sequence[T], limit: int, seed: int) -> list[T]:
    """The rows that `sample_rows` draws, in their original order."""
    return [rows[place] for place in sorted(sample_rows(range(len(rows)), limit, seed))]
