"""Recomputes what the scaling room counts and takes from its models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.lineage import find_parent, run_of
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Count, check_counts
from charter.ground.measure.metrics import TEXT
from charter.ground.measure.reporting import table_problems
from charter.ground.measure.scaling import OF_SCALING, SCALING, Ladder

LADDER = f"samples/{SCALING}"
COUNTS: tuple[Count, ...] = (
    ("models", lambda kept: len({row["run"] for row in kept.files[LADDER]})),
    ("sizes", lambda kept: len(Ladder.of(kept.files[LADDER]).sizes)),
    ("documents", lambda kept: len({row["id"] for row in kept.files[LADDER]})),
)


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """One line for each written value that doesn't follow from the kept rows."""
    yield from table_problems(folder, OF_SCALING)
    yield from check_counts(folder, manifest, COUNTS, (LADDER,))
    yield from _ladder_problems(folder, manifest)


def _ladder_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line if the rows of the ladder differ from its models' kept losses and counts."""
    path = folder / "samples" / SCALING
    if not path.exists():
        return
    model_rows: list[tuple[Any, ...]] = []
    for parent in manifest.parents:
        parent_manifest, place = find_parent(run_of(folder), parent)
        values = {metric.name: metric.value for metric in parent_manifest.metrics}
        counts = tuple(values.get(name) for name in ("weights", "tokens_learnt", "compute"))
        model_rows += [(*counts, r["id"], r["nats"], r["bytes"]) for r in read_objects(place / "samples" / TEXT)]
    ladder_rows = [
        (r["parameters"], r["tokens"], r["compute"], r["id"], r["nats"], r["bytes"]) for r in read_objects(path)
    ]
    if ladder_rows != model_rows:
        yield f"samples/{SCALING} differs from the losses and counts that its models keep"
