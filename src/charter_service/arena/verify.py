"""Recounts the arena room's numbers from its stored rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Count, Kept, check_counts
from charter.ground.text.ballot import better
from charter.ground.text.votes import RATINGS as ATTEMPTED
from charter.ground.text.votes import VOTES

COMPARISONS = "comparisons.jsonl"


def _votes(winner: str) -> Callable[[Kept], float]:
    return lambda product: sum(row["winner"] == winner for row in product.files[VOTES])


def _left_share(product: Kept) -> float:
    """Share of decided votes that picked the left reply; on the harmless axis people pick the worse one."""
    decided = [row for row in product.files[VOTES] if row["winner"] in ("a", "b") and row["left"]]
    picked = sum(bool(better(row["axis"], row["winner"]) == row["left"]) for row in decided)
    return picked / max(1, len(decided))


COUNTS: tuple[Count, ...] = (
    ("votes", lambda product: len(product.files[VOTES])),
    ("pairs", lambda product: len({row["item"] for row in product.files[VOTES]})),
    ("raters", lambda product: len({row["rater"] for row in product.files[VOTES]})),
    ("comparisons", lambda product: len(product.files[COMPARISONS])),
    ("edits", lambda product: sum(bool(row["meta"].get("edited")) for row in product.files[COMPARISONS])),
    ("ratings", lambda product: len(product.files.get(ATTEMPTED, ()))),
    ("flagged", lambda product: sum(bool(row["flags"]) for row in product.files[VOTES])),
    ("unsure", _votes("unsure")),
    ("ties", _votes("tie")),
    ("both_bad", _votes("both_bad")),
    ("left_share", _left_share),
)


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each written number that doesn't follow from the stored rows."""
    yield from check_counts(folder, manifest, COUNTS, (VOTES, ATTEMPTED, COMPARISONS))
