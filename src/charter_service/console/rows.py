"""The rows of the console's listings, with the names of what they belong to and their times in RFC 3339."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from charter_service.accounts.cases import Case
from charter_service.accounts.decisions import Decision
from charter_service.accounts.grants import Grant
from charter_service.accounts.keys import Key, KeyLimits
from charter_service.accounts.standings import Change
from charter_service.accounts.usage import DayUsage
from charter_service.api.wire.times import rfc3339
from charter_service.console.listing import named, timed

LIMITS = tuple(field.name for field in fields(KeyLimits))
Names = Mapping[str, str]  # of organisations, by id


def key_row(key: Key) -> dict[str, Any]:
    """A key, without its secret."""
    caller = key.caller
    return {
        "id": caller.key,
        "name": caller.name,
        "organisation": key.organisation,
        "organisation_id": caller.organisation,
        "hint": key.hint,
        "scopes": list(caller.scopes),
        "models": list(caller.models),
        "limits": asdict(caller.limits),
        "state": key.state(),
        "created": rfc3339(key.created),
        "expires": rfc3339(key.expires),
        "revoked": rfc3339(key.revoked),
        "used": rfc3339(key.used),
        "former_until": rfc3339(key.former_until) if (key.former_until or 0) > time.time() else None,
    }


def usage_row(used: DayUsage) -> dict[str, Any]:
    """What a key used of a model on a day."""
    facts = asdict(used)
    counts: dict[str, Any] = facts.pop("counts")
    return facts | counts


def decision_row(decision: Decision, names: Names) -> dict[str, Any]:
    """A decision, and whether a classifier was asked."""
    return {**named(timed(decision.row(), "at"), names), "checked": decision.entry.checked}


def case_row(case: Case, names: Names) -> dict[str, Any]:
    """A case for a list: whether it has a content, but not the content itself."""
    return named({**timed(case.row(), "created", "closed"), "content": bool(case.content)}, names)


def change_row(change: Change) -> dict[str, Any]:
    """A change of an account's level."""
    return timed(change.row(), "at")


def grant_row(grant: Grant) -> dict[str, Any]:
    """A release or an exemption, and whether it is in force."""
    times = ("created", "until", "used", "revoked")
    return {**timed(grant.row(), *times), "state": grant.state(time.time())}


def request_row(row: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """A request's figures."""
    return named(timed({name: value for name, value in row.items() if name != "number"}, "at"), names)
