"""A judge's verdicts as rows of votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]


def votes_of(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The rows that `charter elo` reads: one a judge and pair of known models, a tie where the orders disagree."""
    return [
        {
            "id": f"{row['judge']}/{row['item']}",
            "item": row["item"],
            "prompt": row["id"],
            "axis": row["axis"],
            "kind": "judge",
            "model_a": row["model_a"],
            "model_b": row["model_b"],
            "winner": row["winner"],
            "flipped": row["flipped"],
            "rater": row["judge"],
            "source": f"ai:{row['judge']}",
        }
        for row in rows
        if row["winner"] is not None and row["model_a"] is not None
    ]
