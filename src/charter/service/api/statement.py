"""The limits statement of a server: shown on the index page and at /v1/limits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from charter.ground.moderation.limits import LIMITS
from charter.service.api.registry import Served


def statement(served: Iterable[Served]) -> dict[str, Any]:
    """The limits, and the end date of each model's training texts, if known."""
    cutoffs = [
        {"model": one.id, "knowledge_cutoff": cutoff.isoformat() if (cutoff := one.model.cutoff) else None}
        for one in served
    ]
    return {"type": "limits", "limits": [asdict(limit) for limit in LIMITS], "models": cutoffs}
