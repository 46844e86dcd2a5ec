"""What the arena room counts, worked out again from the rows that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Count, Kept, recounted
from charter.ground.text.ballot import better
from charter.ground.text.votes import RATINGS as ATTEMPTED
from charter.ground.text.votes import VOTES

COMPARISONS = "comparisons.jsonl"


def _votes(winner: str) -> Callable[[Kept], float]:
    return lambda kept: sum(row["winner"] == winner for row in kept.files[VOTES])


def _left(kept: Kept) -> float:
    """Share of decided votes that picked the left reply; on the harmless axis the worse one is picked."""
    decided = [row for row in kept.files[VOTES] if row["winner"] in ("a", "b") and row["left"]]
    picked = sum(bool(better(row["axis"], row["winner"]) == row["left"]) for row in decided)
    return picked / max(1, len(decided))


COUNTS: tuple[Count, ...] = (
    ("votes", lambda kept: len(kept.files[VOTES])),
    ("pairs", lambda kept: len({row["item"] for row in kept.files[VOTES]})),
    ("raters", lambda kept: len({row["rater"] for row in kept.files[VOTES]})),
    ("comparisons", lambda kept: len(kept.files[COMPARISONS])),
    ("edits", lambda kept: sum(bool(row["meta"].get("edited")) for row in kept.files[COMPARISONS])),
    ("ratings", lambda kept: len(kept.files.get(ATTEMPTED, ()))),
    ("flagged", lambda kept: sum(bool(row["flags"]) for row in kept.files[VOTES])),
    ("unsure", _votes("unsure")),
    ("ties", _votes("tie")),
    ("both_bad", _votes("both_bad")),
    ("left_share", _left),
)


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each thing that the room wrote and that doesn't follow from what it keeps."""
    yield from recounted(folder, manifest, COUNTS, (VOTES, ATTEMPTED, COMPARISONS))
