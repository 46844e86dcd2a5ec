"""Checks a pretrained model's metrics of held-out text against the kept rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import same
from charter.ground.measure.counts import bits_by_part
from charter.ground.measure.intervals import interval
from charter.ground.measure.metrics import OF_TEXT, TEXT
from charter.ground.measure.reporting import table_problems


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """One line for each bits per byte, overall or of a language or source, that doesn't follow from the kept rows."""
    yield from table_problems(folder, OF_TEXT)
    for name, table in bits_by_part(read_objects(folder / "samples" / TEXT)):
        metric, (low, high) = manifest.metric(name), interval(table)
        if metric is None:
            yield f"{name} follows from the kept rows and is missing from the manifest"
            continue
        recomputed = {"value": table.value, "low": low, "high": high, "n": table.n}
        for part, value in recomputed.items():
            if not same(recorded := getattr(metric, part), value):
                yield f"{name}: {part} is {recorded} in the manifest; the kept rows give {value}"
