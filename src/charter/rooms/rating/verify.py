"""Recomputes what the rating room counts from the rows that it keeps."""

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
    """One line for each written value that doesn't follow from the kept rows."""
    yield from table_problems(folder, OF_RATERS)
    yield from check_counts(folder, manifest, COUNTS, (RATED,))
