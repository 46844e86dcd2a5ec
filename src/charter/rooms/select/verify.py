"""Recomputes what the select room counts from the rows that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Count, Flags, Kept, Rows, check_counts
from charter.ground.judge.flags import check_flags
from charter.ground.measure.reporting import table_problems
from charter.ground.measure.selection import OF_SELECTION, ORIGINS, REASONS, REPLIES, SELECTED

DIALOGUES, ANSWERED, TAKEN = "dialogues.jsonl", f"samples/{REPLIES}", f"samples/{SELECTED}"


def _of_replies(start: str, count: Callable[[Rows], float]) -> Callable[[Kept], float]:
    """A count over the replies of one origin, or of all if `start` is empty."""
    return lambda kept: count([row for row in kept.files[ANSWERED] if start in ("", row["origin"] + "_")])


def _count_filtered(start: str) -> tuple[tuple[str, Callable[[Kept], float]], ...]:
    """Counts and shares of the replies that pass, are kept and are dropped."""
    counts: dict[str, Callable[[Rows], float]] = {
        "replies": len,
        "passed": lambda rows: sum(row["dropped"] is None for row in rows),
        "kept": lambda rows: sum(row["kept"] for row in rows),
        "passed_share": lambda rows: sum(row["dropped"] is None for row in rows) / max(1, len(rows)),
        "kept_share": lambda rows: sum(row["kept"] for row in rows) / max(1, len(rows)),
    }
    for reason in REASONS:
        counts[f"dropped_{reason}"] = lambda rows, why=reason: sum(row["dropped"] == why for row in rows)  # type: ignore[misc]
    return tuple((start + name, _of_replies(start, count)) for name, count in counts.items())


def _count_prompts(role: str) -> Callable[[Kept], float]:
    return lambda kept: sum(row["asked"] == role for row in kept.files[TAKEN])


COUNTS: tuple[Count, ...] = (
    *(counted for start in ("", *(f"{origin}_" for origin in ORIGINS)) for counted in _count_filtered(start)),
    *((role, _count_prompts(role)) for role in ("prompts", "harmless")),
    ("kept", lambda kept: len(kept.files[DIALOGUES])),
    ("kept", lambda kept: sum(row["kept"] for row in kept.files[TAKEN])),
    ("replies", lambda kept: sum(row["replies"] for row in kept.files[TAKEN])),
)


def _gain(row: Mapping[str, Any]) -> float | None:
    return None if row["score"] is None else row["score"] - row["mean"]


FLAGS: Mapping[str, Flags] = {SELECTED: {"served": lambda row: row["kept"] > 0, "gain": _gain}}


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """One line for each written value that doesn't follow from the kept rows."""
    yield from table_problems(folder, OF_SELECTION)
    yield from check_flags(folder, FLAGS)
    yield from check_counts(folder, manifest, COUNTS, (DIALOGUES, ANSWERED, TAKEN))
