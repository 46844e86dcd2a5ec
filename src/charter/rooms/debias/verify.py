"""Recomputes what the debias room counts from the rows that it keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Count, Flags, check_counts
from charter.ground.judge.flags import check_flags
from charter.ground.measure.reporting import table_problems
from charter.rooms.debias.metrics import DEBIAS, OF_DEBIAS

DIALOGUES, FAIR = "dialogues.jsonl", f"samples/{DEBIAS}"
COUNTS: tuple[Count, ...] = (
    ("asked", lambda kept: len(kept.files[FAIR])),
    ("kept", lambda kept: sum(row["kept"] for row in kept.files[FAIR])),
    ("taught", lambda kept: sum(row["taught"] for row in kept.files[FAIR])),
    ("taught", lambda kept: len(kept.files[DIALOGUES])),
)

FLAGS: Mapping[str, Flags] = {DEBIAS: {"kept": lambda row: row["choice"] == row["answer"]}}


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """One line for each written value that doesn't follow from the kept rows."""
    yield from table_problems(folder, OF_DEBIAS)
    yield from check_flags(folder, FLAGS)
    yield from check_counts(folder, manifest, COUNTS, (DIALOGUES, FAIR))
