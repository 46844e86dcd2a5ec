"""What the rating room counts, worked out again from the rows that it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Count, check_counts
from charter.ground.measure.ratings import OF_RATERS, RATINGS
from charter.ground.measure.reporting import table_problems

RATED = f"samples/{RATINGS}"
COUNTS: tuple[Count, ...] = (("heldout_ratings", lambda kept: len(kept.files[RATED])),)


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each thing that the room wrote and that doesn't follow from what it keeps."""
    yield from table_problems(folder, OF_RATERS)
    yield from check_counts(folder, manifest, COUNTS, (RATED,))
