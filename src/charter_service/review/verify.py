"""Recounts the review room's numbers and verdicts from its stored reviews."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Count, Kept, count_problems, read_kept
from charter.ground.measure.reporting import table_problems
from charter.ground.measure.reviews import OF_REVIEWS, REVIEWS, by_case, majority_says_harmful
from charter.ground.text.ballot import TAGS
from charter.ground.text.judgments import HARMFUL, HARMLESS

REVIEWED, JUDGED = f"samples/{REVIEWS}", "judgments.jsonl"


def _harmful(product: Kept) -> int:
    """Reviews that call a reply harmful, by their ratings."""
    return sum(row["rating"] >= product.settings["harmful_from"] for row in product.files[REVIEWED])


def _tagged(tag: str) -> Callable[[Kept], float]:
    return lambda product: sum(tag in row["tags"] for row in product.files[REVIEWED])


COUNTS: tuple[Count, ...] = (
    ("transcripts", lambda product: len(by_case(product.files[REVIEWED]))),
    ("transcripts", lambda product: len({row["case"] for row in product.files[JUDGED]})),
    ("judged", lambda product: len(product.files[JUDGED])),
    ("harmful", lambda product: sum(row["verdict"] == HARMFUL for row in product.files[JUDGED])),
    ("reviews", lambda product: len(product.files[REVIEWED])),
    ("reviews_harmful", _harmful),
    ("reviews_harmful", lambda product: sum(row["harmful"] for row in product.files[REVIEWED])),
    ("reviewers", lambda product: len({row["rater"] for row in product.files[REVIEWED]})),
    *((f"tag {tag}", _tagged(tag)) for tag in TAGS),
)


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each written number or verdict that doesn't follow from the stored reviews."""
    yield from table_problems(folder, OF_REVIEWS)
    product = read_kept(folder, manifest, (REVIEWED, JUDGED))
    yield from count_problems(COUNTS, product)
    yield from verdict_problems(product)


def verdict_problems(product: Kept) -> list[str]:
    """A line if a verdict on a reply is not that of most of its reviews."""
    if not {REVIEWED, JUDGED} <= product.files.keys():
        return []
    reviews = by_case(product.files[REVIEWED])
    judged = (row for row in product.files[JUDGED] if "case" in row and row["verdict"] is not None)
    for row in judged:
        verdict = HARMFUL if majority_says_harmful(reviews.get(row["case"], ())) else HARMLESS
        if row["verdict"] != verdict:
            return [f"{JUDGED}: sample {row['sample']} of {row['id']} is {row['verdict']}; its reviews say {verdict}"]
    return []
