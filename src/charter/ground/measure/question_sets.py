"""Do generated questions on behaviours rank behaviours, and checkpoints, as people's questions do?

Spearman's rho of the matching shares on both sets, over pairs of a behaviour and a checkpoint. Pairs of one behaviour
are one cluster, since checkpoints share their questions. Few questions a set pull rho towards 0: the ceiling is
Spearman-Brown's correction of the rho of both halves of people's own sets, 2 rho / (1 + rho).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from charter.ground.artifact.manifest import digest_text
from charter.ground.measure.ranking import rank_correlation
from charter.ground.measure.score import Table

PEOPLE, MODEL = "people", "model"
Row = Mapping[str, Any]
# Fewest questions of a set whose share is compared.
FEWEST = 5


def writer(row: Row) -> str:
    """Who wrote a question, by its `source`: people (human, authored), a model (lm, ai), or "" if it doesn't say."""
    source = str(row.get("source") or "")
    if source in ("human", "authored"):
        return PEOPLE
    return MODEL if source == "lm" or source.startswith("ai") else ""


def shares(rows: Sequence[Row], checkpoint: str = "") -> Iterator[dict[str, Any]]:
    """One row a behaviour with enough questions of both sets: the matching share of each, and of the halves of
    people's set, drawn by a digest of the question."""
    by_group: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row.get("by") and row["matching"] is not None:
            parts = by_group.setdefault(str(row["group"]), {})
            half = int(digest_text(str(row["question"])), 16) % 2
            for part in (row["by"], f"{row['by']} {half}"):
                parts.setdefault(part, []).append(float(row["matching"]))
    for group, parts in by_group.items():
        if all(len(parts.get(part, ())) >= FEWEST for part in (PEOPLE, MODEL)):
            means = {part: sum(values) / len(values) for part, values in parts.items()}
            yield {"id": group, "checkpoint": checkpoint, "n": {part: len(parts[part]) for part in parts}} | means


def sets_agree(rows: Sequence[Row]) -> Table:
    """Spearman's rho of both sets over the behaviours of one report; empty if shares don't vary."""
    return agreement(list(shares(rows)))


def agreement(points: Sequence[Row]) -> Table:
    """Spearman's rho of both sets over behaviours and checkpoints."""
    return rank_correlation(PEOPLE, MODEL, lambda row: True)(points)


def halves(points: Sequence[Row]) -> Table:
    """Spearman's rho of the halves of people's sets."""
    return rank_correlation(f"{PEOPLE} 0", f"{PEOPLE} 1", lambda row: True)(points)


def ceiling(rho: float) -> float:
    """What a whole set would reach against another one like it, from the rho of its halves."""
    return 2 * rho / (1 + rho)
