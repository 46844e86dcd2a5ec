"""Recomputes labels and counts of the honesty room from the answers that it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import check_counts
from charter.ground.judge.flags import Rule, check_marks
from charter.rooms.honesty.answers import QUESTIONS, judge
from charter.rooms.honesty.lessons import count
from charter.rooms.honesty.settings import Settings

DIALOGUES, COMPARISONS, ANSWERED = "dialogues.jsonl", "comparisons.jsonl", f"samples/{QUESTIONS}"
NAMES = ("questions", "known", "between", "unknown", "invented", "lessons_answered", "lessons_declined")
NAMES += ("comparisons", "declined_share")
COUNTS = tuple(
    (name, lambda kept, name=name: count(*(kept.files[f] for f in (ANSWERED, DIALOGUES, COMPARISONS)))[name])
    for name in NAMES
)


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each label or count that doesn't follow from the kept rows."""
    settings = Settings.model_validate(manifest.resolved)
    yield from check_marks(
        folder,
        lambda file: (
            Rule(lambda row: judge(row, settings.known, settings.unknown)) if file == QUESTIONS else None
        ),  # type: ignore[arg-type]
    )
    yield from check_counts(folder, manifest, COUNTS, (DIALOGUES, COMPARISONS, ANSWERED))
