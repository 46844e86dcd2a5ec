"""Recomputes what the rl room records of its snapshots from the rows and replies that it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Count, check_counts, flag_problems, same_values
from charter.ground.judge.declining import MARKS
from charter.ground.judge.detect import training_digest
from charter.ground.measure.drift import DRIFT, REPLIES, snapshot_row, snapshots
from charter.ground.measure.metric import VERSION

COUNTS: tuple[Count, ...] = (
    ("snapshots", lambda kept: len(kept.files.get(DRIFT, ()))),
    ("drift_alarms", lambda kept: sum(len(row["alarms"]) for row in kept.files.get(DRIFT, ()))),
)


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """One line for each written value that doesn't follow from the kept rows."""
    yield from check_counts(folder, manifest, COUNTS, (DRIFT,))
    yield from drift_problems(folder, manifest)


def drift_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """One line for each value in drift.jsonl that doesn't follow from the kept replies, and for each mark that doesn't
    follow from its reply's text."""
    if not (folder / DRIFT).exists():
        return
    rows = read_objects(folder / DRIFT)
    if any((row["version"], row["detectors"]) != (VERSION, training_digest()) for row in rows):
        yield (
            f"{DRIFT} was made by other detectors or another version of the measures; verify it with the charter that "
            "made it"
        )
        return
    replies = read_objects(folder / REPLIES)
    yield from flag_problems(DRIFT, replies, lambda row: {name: detect(row["reply"]) for name, detect in MARKS.items()})
    parts = list(snapshots(replies))
    if len(parts) != len(rows):
        yield f"{DRIFT} has {len(rows)} snapshots; the kept replies are of {len(parts)}"
        return
    monitor: Any = manifest.resolved["monitor"]
    level = float(monitor["level"])
    for row, part in zip(rows, parts, strict=True):
        recomputed: dict[str, Any] = snapshot_row(parts[0], part, level)
        wrong = [key for key, value in recomputed.items() if not same_values(row.get(key), value)]
        if wrong:
            key = wrong[0]
            yield f"{DRIFT}: {key} of snapshot {row['snapshot']} is {row.get(key)}; its replies give {recomputed[key]}"
            return
