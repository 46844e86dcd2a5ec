"""What the critique room counts, worked out again from the rows that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Count, Kept, Rows, check_counts
from charter.ground.judge.detect import DETECTORS

TRANSCRIPTS, DIALOGUES = "transcripts.jsonl", "dialogues.jsonl"
REASONS = ("empty", "identical", "truncated", "loop", "marker")  # why a revision is dropped; see filter.py


def _dropped(kept: Kept, reason: str | None) -> int:
    """Revisions dropped for a reason, or kept."""
    return sum(made["dropped"] == reason for row in kept.files[TRANSCRIPTS] for made in row["rounds"])


def _drafts(kept: Kept, loops: bool) -> Rows:
    """Drafts that loop, or the others that are not empty."""
    loop = DETECTORS["loop"]
    return [r for r in kept.files[TRANSCRIPTS] if loop(r["draft"]) == loops and (loops or r["draft"].strip())]


def _dropping(reason: str) -> Callable[[Kept], float]:
    return lambda kept: _dropped(kept, reason)


def _revisions(kept: Kept) -> int:
    return sum(len(row["rounds"]) for row in kept.files[TRANSCRIPTS])


COUNTS: tuple[Count, ...] = (
    ("prompts", lambda kept: len(kept.files[TRANSCRIPTS])),
    ("samples", lambda kept: len(kept.files[DIALOGUES])),
    ("loop", lambda kept: len(_drafts(kept, loops=True))),
    ("cut", lambda kept: sum(row["stop"] == "length" for row in _drafts(kept, loops=False))),
    ("revisions", _revisions),
    ("kept", lambda kept: _dropped(kept, None)),
    ("kept", lambda kept: len(kept.files[DIALOGUES])),
    ("kept_share", lambda kept: _dropped(kept, None) / max(1, _revisions(kept))),
    *((f"dropped_{reason}", _dropping(reason)) for reason in REASONS),
)


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each thing that the room wrote and that doesn't follow from what it keeps."""
    yield from check_counts(folder, manifest, COUNTS, (TRANSCRIPTS, DIALOGUES))
