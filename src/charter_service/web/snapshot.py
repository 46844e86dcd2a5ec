"""Frozen exports: the content of a live database as an artifact that never changes, whatever is added or deleted later.

The id is a hash of the files, so that equal content has an equal id. Left-out rows are counted by reason.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.kinds import Kind
from charter.ground.artifact.manifest import (
    MANIFEST,
    Environment,
    External,
    Manifest,
    Metric,
    Timing,
    artifact_id,
    canonical_json,
    digest_text,
)
from charter.ground.artifact.store import TEMPORARY, publish, read_manifest, record_files, write_manifest
from charter.ground.measure.reporting import Reported, compute_metrics, write_tables
from charter.ground.measure.reviews import OF_REVIEWS
from charter.ground.text.jsonl import write_jsonl

COUNTS = "counts.json"


@dataclass(frozen=True, slots=True)
class Frozen:
    """A finished export: its folder, its id, the counts of its rows, and those of left-out rows by reason."""

    folder: Path
    id: str
    counts: Mapping[str, float]
    left_out: Mapping[str, int]
    new: bool


@dataclass(slots=True)
class Content:
    """Rows by file, their counts, and the counts of left-out rows; `metrics` beside those from the rows of samples/.
    `restricted`: the files with harmful text."""

    kind: Kind
    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    counts: Mapping[str, float]
    left_out: Mapping[str, int] = field(default_factory=dict)
    metrics: Sequence[Metric] = ()
    restricted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of an export: the service, the kind of its database, and the settings that chose the rows."""

    service: str
    database: str
    settings: Mapping[str, object]


def freeze(folder: Path, content: Content, origin: Origin) -> Frozen:
    """Writes the artifact to a temporary folder and renames it last; an equal one already in place stays. Creates the
    folders above it.

    Raises CharterError if the folder holds something else.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    left_out = {reason: count for reason, count in content.left_out.items() if count}
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=folder.parent) as scratch:
        work = Path(scratch) / "export"
        work.mkdir()
        for name, rows in content.rows.items():
            (work / name).parent.mkdir(exist_ok=True)
            write_jsonl(work / name, rows)
            if name in content.restricted:
                # nobody else can enter the folder yet
                (work / name).chmod(0o600)
        counts = {**content.counts, **{f"left out: {reason}": count for reason, count in left_out.items()}}
        (work / COUNTS).write_text(json.dumps(counts, indent=1, ensure_ascii=False) + "\n", "utf-8")
        reviewed = compute_metrics(work, OF_REVIEWS)
        if reviewed.metrics:
            write_tables(work, reviewed)
        manifest = _manifest(work, content, origin, reviewed)
        if folder.exists():
            _check_equal(folder, manifest.id)
            return Frozen(folder, manifest.id, content.counts, left_out, new=False)
        write_manifest(work, manifest)
        publish(work, folder)
    return Frozen(folder, manifest.id, content.counts, left_out, new=True)


def _manifest(work: Path, content: Content, origin: Origin, reviewed: Reported) -> Manifest:
    files = record_files(work)
    digest = digest_text(canonical_json({file.path: file.sha256 for file in files}))
    settings = dict(origin.settings)
    inputs, made_in = {origin.service: [digest]}, Environment()
    metrics = [Metric(name=name, value=value) for name, value in content.counts.items()] + [*content.metrics]
    metrics += [Metric(name=s.name, value=s.value, **s.facts) for s in reviewed.scores]
    place = f"{origin.service}:{origin.database}"
    return Manifest(
        kind=content.kind,
        id=artifact_id(origin.service, settings, inputs, 0, made_in.device, made_in.precision, ""),
        status="done",
        step=content.kind,
        room=origin.service,
        recipe="",
        asked=settings,
        resolved=settings,
        inputs=inputs,
        external=[External(role=origin.service, ref=place, digest=digest)],
        files=files,
        restricted=sorted(content.restricted & content.rows.keys()),
        environment=made_in,
        metrics=metrics,
        timing=Timing(started=datetime.now(UTC).isoformat(timespec="seconds")),
    )


def _check_equal(folder: Path, id: str) -> None:
    """Raises CharterError if a folder is not the artifact of that id."""
    if not (folder / MANIFEST).is_file():
        raise CharterError(f"{folder} exists and is not an export; name another folder")
    if (manifest := read_manifest(folder)).id != id:
        raise CharterError(
            f"{folder} is another export ({manifest.id[:12]}, and this is {id[:12]}); an export never changes, so name "
            "another folder"
        )
