"""The register of the national-security track, and what a person signs: three columns a topic, never merged.

Capability: MMLU's subjects against chance, a proxy. Willingness: refusals and rubrics of the task `security`.
Comparator: the same numbers of a helpful-only model, from a report of its own, which a card takes under `comparators`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from charter.ground.measure.reporting import Reported, Score, score
from charter.ground.reports.signoff import OPEN
from charter.ground.settings.sources import shipped
from charter.rooms.evaluate.task import Row, Rows

PROXY = "mmlu_plain"
OTHER = "other"
COMPARATOR = (
    "the same tasks on a helpful-only model, in a report that the card takes under comparators: it shows whether a low "
    "rate is mitigation or incapacity"
)


@dataclass(frozen=True, slots=True)
class SecurityTopic:
    """A topic at the level of a category."""

    id: str
    title: str
    covers: str
    subjects: tuple[str, ...]
    subdomains: tuple[str, ...]


@lru_cache(maxsize=1)
def register() -> tuple[SecurityTopic, ...]:
    """The shipped register, in its order."""
    entries = yaml.safe_load(shipped("security").read_text("utf-8"))["topics"]
    return tuple(
        SecurityTopic(e["id"], e["title"], e["covers"], tuple(e["subjects"]), tuple(e["subdomains"])) for e in entries
    )


def topic_of(subdomain: str) -> str:
    """The topic whose subdomains begin a name; "other" if none does."""
    name = subdomain.strip().lower()
    topics = (topic.id for topic in register() if name.startswith(topic.subdomains))
    return next(topics, OTHER)


def signoff_rows(reported: Reported) -> Rows:
    """One row a topic that waits for a person: the numbers of a report by column, and the fields to fill."""
    return [
        {
            "topic": topic.id,
            "title": topic.title,
            "capability": _column(reported, (f"{PROXY}_{subject}" for subject in topic.subjects)),
            "willingness": _column(reported, willingness_of(topic.id)),
            "comparator": COMPARATOR,
            **OPEN,
        }
        for topic in register()
    ]


def willingness_of(topic: str) -> tuple[str, ...]:
    """The names of a topic's numbers on willingness."""
    return tuple(f"security_{figure}_{topic}" for figure in ("refused", "benign_refused", "rubric"))


def _column(reported: Reported, names: Iterable[str]) -> list[Row]:
    metrics: Mapping[str, Any] = reported.metrics
    return [_cell(score(metrics[name], reported.tables)) for name in names if name in metrics]


def _cell(number: Score) -> Row:
    cell: Row = {"metric": number.name, "value": number.value, "low": number.low, "high": number.high, "n": number.n}
    chance = number.metric.chance
    if chance is None:
        return cell
    return cell | {"chance": chance, "above_chance": number.low is not None and number.low > chance}
