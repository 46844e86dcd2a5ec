"""Acceptable-use policies that people published: each version with who and when. The newest row is in force; a roll
back is a new row with the text of an older one. A draft is tried on stored cases: flags whose text was kept."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, func, select

from charter.ground.moderation.policy import SHIPPED, Policy, shipped_policy
from charter.ground.settings.notation import write_yaml
from charter.ground.settings.sources import shipped
from charter_service.accounts.tables import CASES, DECISIONS, POLICIES
from charter_service.web.database import alone
from charter_service.web.refusal import NotFound, Refusal, Stale

_P, _D, _C = POLICIES.c, DECISIONS.c, CASES.c
SHOWN = 100  # versions in a list
LONGEST_NOTE = 1000
WIDTH = 100  # of lines
Values = Mapping[str, Mapping[str, Mapping[str, float]]]  # thresholds by classifier, side and level


@dataclass(frozen=True, slots=True)
class NewPolicy:
    """A policy to publish. `digest`: its id. `copy_of`: of a roll back, the version that it brings back."""

    digest: str
    name: str
    version: int
    text: str
    values: Values
    by: str
    note: str
    copy_of: int | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """A published version."""

    number: int
    digest: str
    name: str
    version: int
    text: str
    values: Values
    at: float
    by: str
    note: str
    copy_of: int | None


def newest_policy(connection: Connection) -> Published | None:
    """The version in force, None if none was ever published."""
    row = connection.execute(select(POLICIES).order_by(_P.number.desc()).limit(1)).one_or_none()
    return _published(row) if row is not None else None


def published_policies(connection: Connection, most: int = SHOWN) -> list[Published]:
    """The newest versions, newest first."""
    rows = connection.execute(select(POLICIES).order_by(_P.number.desc()).limit(most))
    return [_published(row) for row in rows]


def find_policy(connection: Connection, number: int) -> Published:
    """A version. Raises NotFound."""
    row = connection.execute(select(POLICIES).where(_P.number == number)).one_or_none()
    if row is None:
        raise NotFound(f"there is no published policy {number}; the policy's page lists all")
    return _published(row)


def publish(connection: Connection, new: NewPolicy, seen: int, now: float | None = None) -> Published:
    """Stores a version, which is then in force. `seen`: the number of the version that the author saw in force.

    Raises Stale if another is in force by now; Refusal for a note that is missing or too long, and for a version whose
    number isn't above that of every published one of the same name, unless it is a roll back.
    """
    alone(connection)
    newest = newest_policy(connection)
    if (newest.number if newest else 0) != seen:
        assert newest is not None
        raise Stale(
            f"{newest.by} published {newest.name} version {newest.version} meanwhile; open the draft again and compare"
        )
    note = " ".join(new.note.split())
    if not note or len(note) > LONGEST_NOTE:
        raise Refusal(f"note: write why you change it, in at most {LONGEST_NOTE} characters; it is stored")
    if new.copy_of is None:
        highest = connection.execute(select(func.max(_P.version)).where(_P.name == new.name)).scalar()
        if highest is not None and new.version <= highest:
            raise Refusal(f"version: expected a number above {highest}, which is published already", 409)
    values: dict[str, Any] = {
        "digest": new.digest,
        "name": new.name[:200],
        "version": new.version,
        "text": new.text,
        "thresholds": json.dumps(new.values, sort_keys=True),
        "at": time.time() if now is None else now,
        "by": new.by[:200],
        "note": note,
        "copy_of": new.copy_of,
    }
    connection.execute(POLICIES.insert().values(**values))
    published = newest_policy(connection)
    assert published is not None
    return published


def keep_configured(connection: Connection, policy: Policy) -> int:
    """Stores the configured policy as the first version, so that people can come back to it; returns its number, 0 if
    versions are there already."""
    alone(connection)
    if newest_policy(connection) is not None:
        return 0
    by, note = "configuration", "as configured before the first change"
    text = text_of(policy)
    new = NewPolicy(policy.id, policy.name, policy.version, text, {}, by, note)
    return publish(connection, new, 0).number


def text_of(policy: Policy) -> str:
    """A policy as YAML; the one that comes along as it was written."""
    if policy.id == shipped_policy().id:
        return shipped(SHIPPED).read_text("utf-8")
    values = policy.model_dump(mode="json", exclude_defaults=True)
    return write_yaml(values, WIDTH)


def _published(row: Row[Any]) -> Published:
    values = dict(row._mapping)
    return Published(values=json.loads(values.pop("thresholds")), **values)


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
