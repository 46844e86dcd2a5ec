"""What the review room counts and calls harmful, worked out again from the reviews that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Count, Kept, count_problems, read_kept
from charter.ground.measure.reporting import table_problems
from charter.ground.measure.reviews import OF_REVIEWS, REVIEWS, by_case, called_harmful
from charter.ground.text.ballot import TAGS
from charter.ground.text.judgments import HARMFUL, HARMLESS

REVIEWED, JUDGED = f"samples/{REVIEWS}", "judgments.jsonl"


def _harmful(kept: Kept) -> int:
    """Reviews that call a reply harmful, by their ratings."""
    return sum(row["rating"] >= kept.settings["harmful_from"] for row in kept.files[REVIEWED])


def _tagged(tag: str) -> Callable[[Kept], float]:
    return lambda kept: sum(tag in row["tags"] for row in kept.files[REVIEWED])


COUNTS: tuple[Count, ...] = (
    ("transcripts", lambda kept: len(by_case(kept.files[REVIEWED]))),
    ("transcripts", lambda kept: len({row["case"] for row in kept.files[JUDGED]})),
    ("judged", lambda kept: len(kept.files[JUDGED])),
    ("harmful", lambda kept: sum(row["verdict"] == HARMFUL for row in kept.files[JUDGED])),
    ("reviews", lambda kept: len(kept.files[REVIEWED])),
    ("reviews_harmful", _harmful),
    ("reviews_harmful", lambda kept: sum(row["harmful"] for row in kept.files[REVIEWED])),
    ("reviewers", lambda kept: len({row["rater"] for row in kept.files[REVIEWED]})),
    *((f"tag {tag}", _tagged(tag)) for tag in TAGS),
)


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each thing that the room wrote and that doesn't follow from what it keeps."""
    yield from table_problems(folder, OF_REVIEWS)
    kept = read_kept(folder, manifest, (REVIEWED, JUDGED))
    yield from count_problems(COUNTS, kept)
    yield from verdict_problems(kept)


def verdict_problems(kept: Kept) -> list[str]:
    """A line where a verdict on a reply is not that of most of its reviews."""
    if not {REVIEWED, JUDGED} <= kept.files.keys():
        return []
    reviews = by_case(kept.files[REVIEWED])
    told = (row for row in kept.files[JUDGED] if "case" in row and row["verdict"] is not None)
    for row in told:
        made = HARMFUL if called_harmful(reviews.get(row["case"], ())) else HARMLESS
        if row["verdict"] != made:
            return [
                f"{JUDGED}: sample {row['sample']} of {row['id']} is {row['verdict']}; its reviews say {made}"
            ]
    return []
