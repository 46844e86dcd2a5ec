"""Recomputes what the preference room counts from the rows that it keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Count, Flags, check_counts
from charter.ground.judge import flags
from charter.ground.judge.flags import check_flags
from charter.ground.measure.metrics import OF_PREFERENCE, PAIRS, TRIPLES
from charter.ground.measure.reporting import table_problems

HELDOUT = f"samples/{PAIRS}"
COUNTS: tuple[Count, ...] = (("heldout_pairs", lambda kept: len(kept.files[HELDOUT])),)

FLAGS: Mapping[str, Flags] = {PAIRS: flags.RANKED, TRIPLES: flags.TRIPLES}


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """One line for each written value that doesn't follow from the kept rows."""
    yield from table_problems(folder, OF_PREFERENCE)
    yield from check_flags(folder, FLAGS)
    yield from check_counts(folder, manifest, COUNTS, (HELDOUT,))
