"""A route of the API: what it answers to, and what its documentation says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A part of the query or a header, as the documentation shows it; `schema` is JSON Schema."""

    name: str
    place: Literal["query", "header"]
    description: str
    schema: dict[str, Any] = field(default_factory=lambda: {"type": "string"}, hash=False)
    required: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """`body`, `answer`, `parameters` and `media`, the answer's type, are shown in the OpenAPI document; the handler
    itself reads and checks them, so that errors have the shape of its API. `open`: no key is needed."""

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    body: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    parameters: tuple[Parameter, ...] = ()
    media: str = "application/json"
    open: bool = False


VERSION = Parameter(
    "anthropic-version",
    "header",
    "the version of the API that a program was written for",
    {"type": "string", "enum": ["2023-01-01", "2023-06-01", "2026-10-21"], "default": "2023-06-01"},
    required=True,
)
PAGING = (
    Parameter(
        "limit",
        "query",
        "how many at most",
        {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20},
    ),
    Parameter("after_id", "query", "those that follow this one"),
    Parameter("before_id", "query", "those before this one"),
)
