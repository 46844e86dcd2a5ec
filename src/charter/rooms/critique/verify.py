"""Recomputes what the critique room counts from the rows that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Count, Kept, Rows, check_counts
from charter.ground.judge.detect import DETECTORS
from charter.rooms.critique.product import REASONS

TRANSCRIPTS, DIALOGUES = "transcripts.jsonl", "dialogues.jsonl"


def _count_dropped(kept: Kept, reason: str | None) -> int:
    """How many revisions were dropped for a reason; None counts the kept ones."""
    return sum(step["dropped"] == reason for row in kept.files[TRANSCRIPTS] for step in row["rounds"])


def _drafts(kept: Kept, loops: bool) -> Rows:
    """Drafts that loop; or, with `loops` false, non-empty drafts that don't."""
    loop = DETECTORS["loop"]
    return [r for r in kept.files[TRANSCRIPTS] if loop(r["draft"]) == loops and (loops or r["draft"].strip())]


def _count_reason(reason: str) -> Callable[[Kept], float]:
    return lambda kept: _count_dropped(kept, reason)


def _revisions(kept: Kept) -> int:
    return sum(len(row["rounds"]) for row in kept.files[TRANSCRIPTS])


COUNTS: tuple[Count, ...] = (
    ("prompts", lambda kept: len(kept.files[TRANSCRIPTS])),
    ("samples", lambda kept: len(kept.files[DIALOGUES])),
    ("loop", lambda kept: len(_drafts(kept, loops=True))),
    ("cut", lambda kept: sum(row["stop"] == "length" for row in _drafts(kept, loops=False))),
    ("revisions", _revisions),
    ("kept", lambda kept: _count_dropped(kept, None)),
    ("kept", lambda kept: len(kept.files[DIALOGUES])),
    ("kept_share", lambda kept: _count_dropped(kept, None) / max(1, _revisions(kept))),
    *((f"dropped_{reason}", _count_reason(reason)) for reason in REASONS),
)


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """One line for each written value that doesn't follow from the kept rows."""
    yield from check_counts(folder, manifest, COUNTS, (TRANSCRIPTS, DIALOGUES))
