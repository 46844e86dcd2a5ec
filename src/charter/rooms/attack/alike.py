"""Near duplicates among found attacks, and between what the search saw and the requests that are held out.

Two texts are near from a share of 0.6 of their runs of three words on (`text/likeness.py`). Attacks of one family share
its frame, so what is compared is the user's turns as they were sent: one frame around two short requests is one attack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from charter.ground.judge.success import users_turns
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.likeness import Texts

Row = dict[str, Any]
NEAR = 0.6
Found = list[str | float] | None


def text_of(row: Mapping[str, Any]) -> str:
    """What the user says in an attack."""
    return "\n".join(users_turns(row["asked"]))


def near_in(texts: Texts, text: str) -> Found:
    """The name of the most similar text and its share of common runs; None below NEAR."""
    near = texts.nearest(text)
    return [near.name, near.share] if near is not None and near.share >= NEAR else None


def with_near(findings: Sequence[Row]) -> list[Row]:
    """The findings with `near`, the most similar one before, and `distinct`: there is none."""
    texts, rows = Texts(), list[Row]()
    for row in findings:
        near = near_in(texts, text_of(row))
        rows.append({**row, "near": near, "distinct": near is None})
        texts.add(row["attack"], text_of(row))
    return rows


def held_out(unseen: Sequence[Dialogue], seen: Sequence[Dialogue], findings: Sequence[Row]) -> list[Row]:
    """A row for each request that the search never saw: the most similar one that it saw, and the found attack most
    like it, by its request or its words; `apart`: there is neither."""
    known = Texts()
    for goal in seen:
        known.add(goal.id, goal.messages[-1]["content"])
    rows = []
    for goal in unseen:
        request = goal.messages[-1]["content"]
        row = {"id": goal.id, "request": request, "near": near_in(known, request)}
        rows.append(with_found(row, findings))
    return rows


def with_found(row: Row, findings: Sequence[Row]) -> Row:
    """The row of a held-out request with the found attack that is most like it."""
    found = Texts()
    for finding in findings:
        found.add(finding["attack"], finding["request"])
        found.add(finding["attack"], text_of(finding))
    near = near_in(found, row["request"])
    return {**row, "found": near, "apart": row["near"] is None and near is None}
