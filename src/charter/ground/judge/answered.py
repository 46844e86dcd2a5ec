"""Whether a short answer is right, wrong or declined, by its accepted answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from charter.ground.judge.declining import abstains
from charter.ground.text.answers import occurs

RIGHT, WRONG, DECLINED = "right", "wrong", "declined"


def by_accepted(row: Mapping[str, Any], reply: str) -> str:
    """Right if an answer in `accepted` occurs in the reply. If not `answerable`, nothing can be known, and the reply is
    right if it declines."""
    if any(occurs(answer, reply) for answer in row["accepted"]):
        return RIGHT
    if abstains(reply):
        return DECLINED if row["answerable"] else RIGHT
    return WRONG
