"""Tools that the server runs, as a request names them, and GET /v1/tools, which lists those of a key.

They are off in three places: a server without them in its configuration, a key without the scope, and a request that
doesn't name them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from charter_service.accounts.keys import Caller
from charter_service.api.errors import ApiError, invalid
from charter_service.api.model_request import Call
from charter_service.api.wire.content import Marked
from charter_service.api.wire.reading import service_of
from charter_service.api.wire.route import Routes
from charter_service.api.wire.server_blocks import BY_QUESTION
from charter_service.tools.opening import PLACES
from charter_service.tools.tool import Domains, Tool, ascii_host

SCOPE = "tools"
MOST_DOMAINS = 100
_DOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*")


class ServerTool(Marked):
    """A tool that the server runs."""

    type: Literal["document_search_20261201", "sql_query_20261201", "calculator_20261201"]
    name: str
    max_uses: int | None = Field(None, ge=1)
    allowed_callers: Any = None
    defer_loading: bool | None = None
    query: Literal["model", "question"] = Field(
        "model",
        description="who writes the input of a search or of the calculator: the model, or it is taken from the "
        "user's last words",
    )

    @model_validator(mode="after")
    def _own_name(self) -> Self:
        name = self.type.rpartition("_")[0]
        if self.name != name:
            raise ValueError(f"the name of a tool of type {self.type} is {name!r}")
        if self.by_question and name not in BY_QUESTION:
            raise ValueError(f"query: only {', '.join(BY_QUESTION)} take the question as it is; leave it out")
        return self

    @property
    def by_question(self) -> bool:
        """Whether the server runs it for the question itself, and the model can't call it."""
        return self.query == "question"

    @property
    def domains(self) -> Domains:
        """The sites that it may read."""
        return Domains()


class WebSearchTool(ServerTool):
    """Search of the web, in Anthropic's shape."""

    type: Literal["web_search_20250305"]  # type: ignore[assignment]
    allowed_domains: list[str] | None = Field(None, max_length=MOST_DOMAINS)
    blocked_domains: list[str] | None = Field(None, max_length=MOST_DOMAINS)
    user_location: Any = None

    @field_validator("allowed_domains", "blocked_domains")
    @classmethod
    def _names(cls, domains: list[str] | None) -> list[str] | None:
        for domain in domains or ():
            try:
                named = _DOMAIN.fullmatch(ascii_host(domain))
            except UnicodeError:
                named = None
            if not named:
                raise ValueError(f"{domain[:100]!r} is not a domain; write it like example.org, without a path")
        return domains

    @model_validator(mode="after")
    def _combined(self) -> Self:
        if self.allowed_domains and self.blocked_domains:
            raise ValueError("give allowed_domains or blocked_domains, not both")
        if self.user_location is not None:
            raise ValueError("user_location: the search here knows no places; leave it out")
        return self

    @property
    def domains(self) -> Domains:
        """The sites that it may read."""
        return Domains(tuple(self.allowed_domains or ()), tuple(self.blocked_domains or ()))


def check_scope(tools: Sequence[Any], caller: Caller) -> None:
    """Raises ApiError, 403, if a request names server tools and its key lacks the scope."""
    if any(isinstance(tool, ServerTool) for tool in tools) and not caller.may(SCOPE):
        raise ApiError(
            403,
            f"this key lacks the scope {SCOPE}, which tools that the server runs need; it has "
            f"{', '.join(caller.scopes)}",
        )


def find_tool(tool: ServerTool, tools: Mapping[str, Tool]) -> Tool:
    """The configured tool of a request. Raises ApiError, 400, if there is none."""
    if (found := tools.get(tool.type)) is None:
        raise invalid(
            f"tools: {tool.type} is not configured on this server; its operator sets {PLACES[tool.type]} in the "
            "configuration",
            "tools",
        )
    return found


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
    rows = [{"type": tool.kind, "name": tool.name, "description": tool.description} for tool in tools]
    return JSONResponse({"data": rows, "has_more": False})
