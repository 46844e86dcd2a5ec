"""Recomputes what the behaviours room kept, its verdict on the filter, and its numbers, from the kept rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Count, check_counts
from charter.ground.measure.reporting import table_problems
from charter.rooms.behaviours import diversity
from charter.rooms.behaviours.filter import confirmed
from charter.rooms.behaviours.known import KNOWN, METRICS, STATEMENTS, Verdict
from charter.rooms.behaviours.reviews import METRICS as OF_REVIEWS
from charter.rooms.behaviours.reviews import REVIEWS, rejected
from charter.rooms.behaviours.run import DIALOGUES, choose
from charter.rooms.behaviours.settings import Settings

WRITTEN = f"samples/{STATEMENTS}"
COUNTS: tuple[Count, ...] = (
    ("written", lambda kept: len(kept.files[WRITTEN])),
    ("distinct", lambda kept: sum(not row["copy"] for row in kept.files[WRITTEN])),
    ("kept", lambda kept: len(kept.files[DIALOGUES])),
)


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each written value that doesn't follow from the kept rows."""
    settings = Settings.model_validate(manifest.resolved)
    yield from table_problems(folder, (*METRICS, *OF_REVIEWS, *diversity.METRICS))
    yield from check_counts(folder, manifest, COUNTS, (WRITTEN, DIALOGUES))
    written = read_objects(folder / WRITTEN)
    for row in written:
        if row["confirmed"] != (not row["copy"] and confirmed(row, settings.filter.threshold)):
            yield f"{WRITTEN}: {row['id']} is marked otherwise than its probabilities say"
    reviews = folder / "samples" / REVIEWS
    gone = rejected(read_objects(reviews)) if reviews.exists() else set[str]()
    kept = [row["id"] for row in choose(written, settings, gone)]
    if kept != [row["id"] for row in read_objects(folder / DIALOGUES)]:
        yield f"{DIALOGUES} isn't what the kept statements give"
    varied = folder / "samples" / diversity.DIVERSITY
    if varied.exists():
        yield from diversity.problems(read_objects(varied), read_objects(folder / DIALOGUES))
    known = folder / "samples" / KNOWN
    if known.exists():
        rows = read_objects(known)
        for row in rows:
            if row["kept"] != confirmed(row, settings.filter.threshold):
                yield f"samples/{KNOWN}: {row['id']} is marked otherwise than its probabilities say"
        verdict = Verdict.of(rows, settings.filter.fit_from)
        if read_object(folder / "filter.json") != {"fit": verdict.fit, "why": verdict.why}:
            yield "filter.json isn't what the known rows give"
