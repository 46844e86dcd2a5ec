"""The stored cases on which a draft of a policy is tried: flags of the last days whose text was kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, select

from charter_service.accounts.tables import CASES, DECISIONS

_D, _C = DECISIONS.c, CASES.c


@dataclass(frozen=True, slots=True)
class Flagged:
    """A stored decision on a text that was kept, and the conversation; `reply` is empty for a prompt's."""

    request: str
    side: str
    action: str
    category: str
    sensitivity: str
    messages: list[dict[str, Any]]
    reply: str


def flagged_since(connection: Connection, since: float, most: int) -> tuple[list[Flagged], int]:
    """Decisions with kept texts since a time, the newest `most`, and the number of all flags since then, with or
    without a text."""
    recent = and_(_C.kind == "flag", _C.created >= since)
    count = connection.execute(select(func.count()).select_from(CASES).where(recent)).scalar() or 0
    same = and_(_D.request == _C.request, _D.category == _C.category, _D.organisation == _C.organisation)
    rows = connection.execute(
        select(_D.request, _D.side, _D.action, _D.category, _D.sensitivity, _C.content)
        .select_from(CASES.join(DECISIONS, same))
        .where(recent, _C.content != "", _D.side.in_(("prompt", "reply")))
        .order_by(_C.created.desc(), _D.number)
        .limit(most)
    )
    flagged = []
    for row in rows:
        content = json.loads(row.content)
        messages, reply = content.get("messages"), content.get("reply", "")
        if isinstance(messages, list) and messages and isinstance(reply, str):
            facts = (row.request, row.side, row.action, row.category, row.sensitivity)
            flagged.append(Flagged(*facts, messages, reply if row.side == "reply" else ""))
    return flagged, int(count)


def rows_since(connection: Connection, since: float) -> int:
    """The number of rows of the log since a time. Rows are numbered in their order, so that a few looks find the
    first."""
    low = connection.execute(select(func.min(_D.number))).scalar()
    high = connection.execute(select(func.max(_D.number))).scalar()
    if low is None or high is None:
        return 0
    newest = high
    while low <= high:
        middle = (low + high) // 2
        next_at = select(_D.at).where(_D.number >= middle).order_by(_D.number).limit(1)
        at = connection.execute(next_at).scalar()
        if at is not None and at < since:
            low = middle + 1
        else:
            high = middle - 1
    return max(0, int(newest) - int(low) + 1)
