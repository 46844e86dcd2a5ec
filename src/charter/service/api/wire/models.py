"""GET /v1/models: the served models, in Anthropic's shape or in OpenAI's."""

from __future__ import annotations

import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from charter.service.api.errors import invalid
from charter.service.api.guard import speaks_openai
from charter.service.api.model_request import Call
from charter.service.api.registry import Served
from charter.service.api.wire.answers import AnyModelAnswer, ModelsAnswer
from charter.service.api.wire.reading import service_of
from charter.service.api.wire.route import PAGING, Routes
from charter.service.api.wire.times import rfc3339

ROUTES = Routes("Models", "messages")
MOST_LISTED = 1000


@ROUTES.add("GET", "/v1/models", "List models", ModelsAnswer, *PAGING)
async def list_models(request: Request, _: Call) -> Response:
    """All models, the default first, by pages."""
    shown = list(service_of(request).registry.served)
    if speaks_openai(request.scope):
        return JSONResponse({"object": "list", "data": [openai_form(one) for one in shown]})
    page, more = cut_page([one.id for one in shown], request)
    by_id = {one.id: one for one in shown}
    return JSONResponse(
        {
            "data": [anthropic_form(by_id[name]) for name in page],
            "first_id": page[0] if page else None,
            "last_id": page[-1] if page else None,
            "has_more": more,
        }
    )


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
        "deprecated_at": _midnight(served.model.deprecated, today),
        "retires_at": served.model.retires and f"{served.model.retires}T00:00:00Z",
        "charter": served.facts(today),
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
