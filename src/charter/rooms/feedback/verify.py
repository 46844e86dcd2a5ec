"""Recomputes what the feedback room counts from the rows that it keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Count, Flags, Kept, check_counts
from charter.ground.judge import flags
from charter.ground.judge.flags import check_flags
from charter.ground.measure.metrics import LABELS, OF_LABELLERS
from charter.ground.measure.reporting import table_problems
from charter.rooms.feedback.labels import trust

COMPARISONS, KNOWN = "comparisons.jsonl", f"samples/{LABELS}"


def _label_weight(kept: Kept) -> float:
    """The labels' weight by the known pairs: 1 surely above chance (or untested), 0 surely below it."""
    return trust(kept.files[KNOWN], float(kept.settings["chance_weight"]))


def _sum(kept: Kept, key: str) -> float:
    return sum(float(row[key]) for row in kept.files[COMPARISONS])


COUNTS: tuple[Count, ...] = (
    ("comparisons", lambda kept: len(kept.files[COMPARISONS])),
    ("pairs", lambda kept: len(kept.files[COMPARISONS]) + kept.counts["dropped_equal"]),
    ("mean_p_chosen", lambda kept: _sum(kept, "p_chosen") / max(1, len(kept.files[COMPARISONS]))),
    ("label_weight", _label_weight),
    ("label_weight", lambda kept: min(row["weight"] for row in kept.files[COMPARISONS])),
    ("label_weight", lambda kept: max(row["weight"] for row in kept.files[COMPARISONS])),
)

FLAGS: Mapping[str, Flags] = {LABELS: flags.CHOSEN}


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """One line for each written value that doesn't follow from the kept rows."""
    yield from table_problems(folder, OF_LABELLERS)
    yield from check_flags(folder, FLAGS)
    yield from check_counts(folder, manifest, COUNTS, (COMPARISONS, KNOWN))
