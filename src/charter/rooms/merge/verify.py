"""Recomputes what the merge room counts from the rows that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Count, Kept, check_counts
from charter.ground.judge.detect import DETECTORS
from charter.ground.measure.selection import REPLIES

ANSWERED = f"samples/{REPLIES}"


def _count_at_place(group: str, refused: bool) -> Callable[[Kept], float]:
    """How many replies to a group of prompts there are at the chosen share, or how many of them refuse."""

    def count(kept: Kept) -> float:
        rows = (row for row in kept.files[ANSWERED] if row["share"] == kept.counts["share"])
        replies = [row["reply"] for row in rows if row["asked"] == group]
        return sum(map(DETECTORS["refusal"], replies)) if refused else len(replies)

    return count


def _rate_at_place(group: str) -> Callable[[Kept], float]:
    """The share of refusals among these replies."""
    return lambda kept: _count_at_place(group, refused=True)(kept) / max(1, _count_at_place(group, refused=False)(kept))


COUNTS: tuple[Count, ...] = (
    *((group, _count_at_place(group, refused=False)) for group in ("prompts", "harmless")),
    *((f"refused_{group}", _count_at_place(group, refused=True)) for group in ("prompts", "harmless")),
    *((f"refused_{group}_rate", _rate_at_place(group)) for group in ("prompts", "harmless")),
)


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """One line for each written value that doesn't follow from the kept rows."""
    yield from check_counts(folder, manifest, COUNTS, (ANSWERED,))
