"""Recomputes labels and counts of the honesty room from the answers that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Kept, check_counts
from charter.ground.judge.flags import Rule, check_marks
from charter.rooms.honesty.answers import QUESTIONS, judge
from charter.rooms.honesty.lessons import count
from charter.rooms.honesty.settings import Settings

FILES = (f"samples/{QUESTIONS}", "dialogues.jsonl", "comparisons.jsonl")
NAMES = (
    *("questions", "known", "between", "unknown", "invented"),
    *("lessons_answered", "lessons_declined", "comparisons", "declined_share"),
)


def _count(name: str) -> Callable[[Kept], float]:
    return lambda kept: count(*(kept.files[file] for file in FILES))[name]


COUNTS = tuple((name, _count(name)) for name in NAMES)


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each label or count that doesn't follow from the kept rows."""
    settings = Settings.model_validate(manifest.resolved)
    rule = Rule(lambda row: judge(row, settings.known, settings.unknown))
    yield from check_marks(folder, lambda file: rule if file == QUESTIONS else None)
    yield from check_counts(folder, manifest, COUNTS, FILES)
