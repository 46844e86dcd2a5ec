"""Recomputes what the intake room counts from the rows that it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import check_counts, same
from charter.rooms.intake.counts import STATES, count, severity_metrics

DIALOGUES = "dialogues.jsonl"


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """One line for each written value that doesn't follow from the kept rows."""
    states = read_objects(folder / STATES)
    counted = [(name, lambda kept, n=name: count(kept.files[STATES])[n]) for name in count(states)]
    yield from check_counts(folder, manifest, counted, (STATES,))
    prompts = [row["id"] for row in read_objects(folder / DIALOGUES)]
    if prompts != [row["id"] for row in states if not row["dropped"]]:
        yield f"{DIALOGUES} isn't what {STATES} keeps"
    for name, estimate, items in severity_metrics(states):
        kept = manifest.metric(name)
        if kept is None or kept.n != items or not same(kept.value, estimate.value):
            yield f"manifest: {name} isn't what {STATES} gives, {estimate.value} of {items}"
