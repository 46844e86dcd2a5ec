"""The OpenAPI document: what FastAPI knows of the routes, with what handlers read themselves: bodies, parts of the
path, and keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from charter.serve.wire.route import Route

REFERENCE = "#/components/schemas/{model}"
_PART = re.compile(r"{(\w+)(?::path)?}")
KEYS = {
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}


def document(app: FastAPI, routes: Sequence[Route]) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is None:
        app.openapi_schema = _made(app, routes)
    return app.openapi_schema


def _made(app: FastAPI, routes: Sequence[Route]) -> dict[str, Any]:
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    bodies: list[type[BaseModel]] = list(dict.fromkeys(route.body for route in routes if route.body))
    references, shared = models_json_schema([(body, "validation") for body in bodies], ref_template=REFERENCE)
    parts = found.setdefault("components", {})
    parts.setdefault("schemas", {}).update(shared.get("$defs", {}))
    parts["securitySchemes"] = KEYS
    found["security"] = [{name: []} for name in KEYS]
    for route in routes:
        shown = found["paths"][_PART.sub(r"{\1}", route.path)][route.method.lower()]
        if names := _PART.findall(route.path):
            shown["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
            ]
        if route.body is not None:
            schema = references[route.body, "validation"]
            shown["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return found
