"""Recomputes what the principles room counts, and the order of each measured pair, from the rows that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Count, Kept, count_problems, read_kept
from charter.ground.judge.traits import TRAITS
from charter.rooms.principles.pairs import POLES

COMPARISONS, REPLIES = "comparisons.jsonl", "samples/replies.jsonl"


def _pairs(kind: str) -> Callable[[Kept], float]:
    return lambda kept: sum(row["topic"] == kind for row in kept.files[COMPARISONS]) / 2


COUNTS: tuple[Count, ...] = (
    ("comparisons", lambda kept: len(kept.files[COMPARISONS])),
    ("replies", lambda kept: len(kept.files[REPLIES])),
    ("prompts", lambda kept: len({row["prompt"] for row in kept.files[REPLIES]})),
    *((f"pairs_{kind}", _pairs(kind)) for kind in TRAITS),
)


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """One line for each count that doesn't follow from the rows, and for each measured pair in the wrong order."""
    kept = read_kept(folder, manifest, (COMPARISONS, REPLIES))
    yield from count_problems(COUNTS, kept)
    for row in kept.files[COMPARISONS]:
        pole, trait, prompt = row["meta"]["pole"], TRAITS[row["topic"]], row["messages"][-1]["content"]
        gap = trait.measure(prompt, row["chosen"]) - trait.measure(prompt, row["rejected"])
        if (gap if pole == POLES[0] else -gap) < trait.apart:
            yield f"{COMPARISONS}: {row['id']} has its replies in the wrong order for {row['topic']}, {pole}"
