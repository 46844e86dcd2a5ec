"""A route of the API: its method, path, handler and documentation."""

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
    """A query parameter or header for the documentation; `schema` is JSON Schema."""

    name: str
    place: Literal["query", "header"]
    description: str
    schema: dict[str, Any] = field(default_factory=lambda: {"type": "string"}, hash=False)
    required: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """`body`, `answer`, `parameters` and `media`, the answer's type, are for the OpenAPI document; the handler itself
    reads and checks them, so that errors have the shape of its API. `open`: it needs no key."""

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
        "the maximum number",
        {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20},
    ),
    Parameter("after_id", "query", "only those after this one"),
    Parameter("before_id", "query", "only those before this one"),
)
