"""GET /v1/models: the served models, in Anthropic's shape or in OpenAI's."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from charter_service.api.errors import invalid
from charter_service.api.guard import speaks_openai
from charter_service.api.model_request import Call
from charter_service.api.registry import Served
from charter_service.api.wire.answers import AnyModelAnswer, ModelsAnswer, rfc3339
from charter_service.api.wire.reading import service_of
from charter_service.api.wire.route import PAGING, Routes, parameter

ROUTES = Routes("Models", "messages")
MOST_LISTED = 1000
STAGES = ("active", "deprecated", "retired")
LIFECYCLE = parameter(
    "lifecycle",
    "query",
    "only models in these stages; without it, active and deprecated ones",
    type="array",
    items={"type": "string", "enum": list(STAGES)},
)


@ROUTES.add("GET", "/v1/models", "List models", ModelsAnswer, LIFECYCLE, *PAGING)
async def list_models(request: Request, _: Call) -> Response:
    """All models but retired ones, the default first, by pages. `lifecycle` chooses others."""
    served = _of_stages(service_of(request).registry.served, request)
    if speaks_openai(request.scope):
        return JSONResponse({"object": "list", "data": [openai_form(model) for model in served]})
    page, more = cut_page([model.id for model in served], request)
    by_id = {model.id: model for model in served}
    return JSONResponse(
        {
            "data": [anthropic_form(by_id[name]) for name in page],
            "first_id": page[0] if page else None,
            "last_id": page[-1] if page else None,
            "has_more": more,
        }
    )


def _of_stages(served: Sequence[Served], request: Request) -> list[Served]:
    """The models in the stages that `lifecycle` names. Raises ApiError for others."""
    query = request.query_params
    stages = [*query.getlist("lifecycle"), *query.getlist("lifecycle[]")] or ["active", "deprecated"]
    if wrong := [stage for stage in stages if stage not in STAGES]:
        raise invalid(f"lifecycle: {wrong[0][:100]!r} is no stage; expected some of {', '.join(STAGES)}", "lifecycle")
    today = datetime.datetime.now(datetime.UTC).date()
    return [model for model in served if model.state(today) in stages]


@ROUTES.add("GET", "/v1/models/{model:path}", "Get a model", AnyModelAnswer)
async def get_model(request: Request, _: Call) -> Response:
    """One model, by its id or an alias."""
    served = service_of(request).registry.find(request.path_params["model"])
    form = openai_form if speaks_openai(request.scope) else anthropic_form
    return JSONResponse(form(served))


def anthropic_form(served: Served) -> dict[str, Any]:
    """A model in Anthropic's shape, with its entry in our registry."""
    today = datetime.datetime.now(datetime.UTC).date()
    return {
        "type": "model",
        "id": served.id,
        "display_name": served.title,
        "created_at": rfc3339(served.created),
        "lifecycle": served.state(today),
        "max_input_tokens": served.context,
        "max_tokens": served.max_output,
        "capabilities": capabilities_of(served),
        "line": None,
        "deprecated_at": _midnight(served.model.deprecated, today),
        "retires_at": served.model.retires and f"{served.model.retires}T00:00:00Z",
        "charter": served.facts(today),
    }


def capabilities_of(served: Served) -> dict[str, Any]:
    """What a model can do, in Anthropic's shape: all that `messages` refuses is not supported."""
    off, forms = {"supported": False}, {"supported": "form" in served.backend.capabilities}
    efforts = dict.fromkeys(("low", "medium", "high", "xhigh", "max"), off)
    strategies = ("clear_thinking_20251015", "clear_tool_uses_20250919", "compact_20260112")
    types = {**dict.fromkeys(("adaptive", "between_tools", "enabled"), off), "disabled": {"supported": True}}
    return {
        "batch": {"supported": True},
        "citations": {"supported": True},
        "code_execution": off,
        "context_management": {**off, **dict.fromkeys(strategies, off)},
        "effort": {**off, **efforts},
        "image_input": off,
        "pdf_input": {"supported": True},
        "server_tools": {**off, "code_execution": off, "web_search": off},
        "structured_outputs": forms,
        "thinking": {**off, "types": types},
    }


def _midnight(day: datetime.date | None, today: datetime.date) -> str | None:
    """The start of a day, if it has come."""
    return f"{day}T00:00:00Z" if day is not None and day <= today else None


def openai_form(served: Served) -> dict[str, Any]:
    """A model in OpenAI's shape, with its context as in vLLM's."""
    return {
        "id": served.id,
        "object": "model",
        "created": int(served.created),
        "owned_by": "charter",
        "max_model_len": served.context,
    }


def cut_page(ids: list[str], request: Request) -> tuple[list[str], bool]:
    """The page of ids that `limit`, `before_id` and `after_id` ask for, and whether more follow in its direction.
    Raises ApiError."""
    query = request.query_params
    limit = query.get("limit", "20")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= MOST_LISTED):
        raise invalid(f"limit: expected a whole number from 1 to {MOST_LISTED}", "limit")
    after, before = query.get("after_id"), query.get("before_id")
    if after and before:
        raise invalid("after_id and before_id can't be given together", "after_id")
    for name, value in (("after_id", after), ("before_id", before)):
        if value and value not in ids:
            raise invalid(f"{name}: there is no {value[:200]}", name)
    if before:
        earlier = ids[: ids.index(before)]
        return earlier[-int(limit) :], len(earlier) > int(limit)
    later = ids[ids.index(after) + 1 :] if after else ids
    return later[: int(limit)], len(later) > int(limit)
