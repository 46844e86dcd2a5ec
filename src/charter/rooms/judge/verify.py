"""Recomputes a judge report's marks, votes and numbers from its kept rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Count, check_counts
from charter.ground.judge import flags
from charter.ground.measure.reporting import table_problems
from charter.ground.text.votes import VOTES
from charter.rooms.judge.metrics import JUDGED, OF_JUDGES, mark
from charter.rooms.judge.votes import votes_of

ROWS = f"samples/{JUDGED}"
COUNTS: tuple[Count, ...] = (
    ("pairs", lambda kept: len({row["item"] for row in kept.files[ROWS]})),
    ("judges", lambda kept: len({row["judge_number"] for row in kept.files[ROWS]})),
    ("votes", lambda kept: len(kept.files[VOTES])),
)


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each written value that doesn't follow from the kept rows."""
    yield from table_problems(folder, OF_JUDGES)
    yield from flags.check_marks(folder, lambda file: flags.Rule(mark) if file == JUDGED else None)
    yield from check_counts(folder, manifest, COUNTS, (ROWS, VOTES))
    if read_objects(folder / VOTES) != votes_of(read_objects(folder / ROWS)):
        yield f"{VOTES} isn't what the judges' kept verdicts give"
