"""What the merge room counts, worked out again from the rows that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Count, Kept, check_counts
from charter.ground.judge.detect import DETECTORS
from charter.ground.measure.selection import REPLIES

ANSWERED = f"samples/{REPLIES}"


def _placed(group: str, refused: bool) -> Callable[[Kept], float]:
    """Replies to a group of prompts at the share that was taken, or those among them that refuse."""

    def count(kept: Kept) -> float:
        rows = (row for row in kept.files[ANSWERED] if row["share"] == kept.counts["share"])
        replies = [row["reply"] for row in rows if row["asked"] == group]
        return sum(map(DETECTORS["refusal"], replies)) if refused else len(replies)

    return count


def _placed_rate(group: str) -> Callable[[Kept], float]:
    """The share of them that refuse."""
    return lambda kept: _placed(group, refused=True)(kept) / max(1, _placed(group, refused=False)(kept))


COUNTS: tuple[Count, ...] = (
    *((group, _placed(group, refused=False)) for group in ("prompts", "harmless")),
    *((f"refused_{group}", _placed(group, refused=True)) for group in ("prompts", "harmless")),
    *((f"refused_{group}_rate", _placed_rate(group)) for group in ("prompts", "harmless")),
)


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each thing that the room wrote and that doesn't follow from what it keeps."""
    yield from check_counts(folder, manifest, COUNTS, (ANSWERED,))
