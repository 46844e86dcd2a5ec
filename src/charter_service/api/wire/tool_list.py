"""GET /v1/tools: the tools that the server runs for a key."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from charter_service.api.model_request import Call
from charter_service.api.wire.reading import service_of
from charter_service.api.wire.route import Routes
from charter_service.api.wire.server_tools import SCOPE

ROUTES = Routes("Tools", "messages")


class ToolAnswer(BaseModel):
    """A tool, as a request names it, and its words for the model."""

    type: str
    name: str
    description: str


class ToolsAnswer(BaseModel):
    """Tools; none without the scope `tools`."""

    data: list[ToolAnswer]
    has_more: Literal[False]


@ROUTES.add("GET", "/v1/tools", "List tools", ToolsAnswer)
async def list_tools(request: Request, call: Call) -> Response:
    """The tools that this key's requests may name; none if it lacks the scope `tools`."""
    tools = service_of(request).tools.values() if call.caller.may(SCOPE) else ()
    rows = [{"type": one.kind, "name": one.name, "description": one.description} for one in tools]
    return JSONResponse({"data": rows, "has_more": False})
