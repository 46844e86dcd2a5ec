"""The limits statement of a server: shown on the index page and at /v1/limits."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from charter.ground.moderation.limits import Limit, limits_with
from charter_service.api.service import Service


def limits_of(service: Service) -> tuple[Limit, ...]:
    """The limits of a server's models, with its tools."""
    return limits_with([tool.name.replace("_", " ") for tool in service.tools.values()])


def statement(service: Service) -> dict[str, Any]:
    """The limits, and the end date of each model's training texts, if known."""
    cutoffs = [
        {"model": one.id, "knowledge_cutoff": cutoff.isoformat() if (cutoff := one.model.cutoff) else None}
        for one in service.registry.served
    ]
    return {"type": "limits", "limits": [asdict(limit) for limit in limits_of(service)], "models": cutoffs}
