"""What a report says of itself, worked out again from the rows that it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from charter.ground.artifact.manifest import Manifest
from charter.ground.measure.metrics import OF_REPORT
from charter.ground.measure.reporting import table_problems

METRICS = OF_REPORT


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each number that doesn't follow from the kept rows."""
    yield from table_problems(folder, METRICS)
