"""Plays all tries again and compares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.manifest import Manifest
from charter.rooms.trajectories.playing import counts, rows
from charter.rooms.trajectories.settings import Settings


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """One line for the first dialogue that isn't what its script plays, and for each count."""
    again = rows(Settings.model_validate(manifest.resolved))
    kept = list(read_objects(folder / "dialogues.jsonl"))
    differing = [one["id"] for one, other in zip(again, kept, strict=False) if one != other]
    if differing or len(again) != len(kept):
        what = f"{differing[0]} differs" if differing else f"{len(kept)} dialogues instead of {len(again)}"
        yield f"dialogues.jsonl isn't what the scripts play: {what}"
    for name, value in counts(again).items():
        metric = manifest.metric(name)
        if metric is None or metric.value != value:
            yield f"manifest: {name} isn't {value}"
