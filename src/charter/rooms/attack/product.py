"""What the room hands on: confirmed attacks as prompts, and replies for people to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from charter.ground.attack.chains import CHAIN, SEED, SEED_PROMPT
from charter.ground.judge.success import goes_on
from charter.ground.text.dialogue import Dialogue

Row = dict[str, Any]


def prompt_of(row: Mapping[str, Any]) -> Dialogue:
    """A confirmed attack as a prompt, with what it was made of."""
    lineage = {SEED_PROMPT: row["id"], CHAIN: row["chain"], SEED: row["attack_seed"], "family": row["family"]}
    # of an attack that a writer composed
    lineage |= {key: row[key] for key in ("answer", "parent") if key in row}
    meta = lineage | {"request": row["request"], "success": row["success"]}
    return Dialogue(row["attack"], tuple(row["asked"]), row["topic"], "attack", meta=meta)


def review_of(fresh: Sequence[Row]) -> list[Row]:
    """The new samples that succeed by the reporting grader, and those below the fixed refusal that can't be read, or
    not behind a refusal, the worst first, for people to look at; of a conversation its worst turn."""
    worst: dict[str, Row] = {}
    for row in sorted(fresh, key=lambda row: row["above"]):
        if row["success"] or (row["above"] < 0 and (row["unread"] or goes_on(row))):
            worst.setdefault(row["talk"], row)
    return [
        {
            "id": row["attack"],
            "sample": row["sample"],
            "topic": row["topic"],
            "family": row["family"],
            "prompt": row["request"],
            "messages": row["asked"],
            "reply": row["reply"],
            "margin": row["above"],
            "verdict": None,
            "note": "",
        }
        for row in worst.values()
    ]
