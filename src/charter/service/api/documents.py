"""The OpenAPI document: FastAPI's routes, with the parts that handlers read and write themselves: bodies, answers and
errors, path parameters, headers, and keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from charter.service.api.guard import OPENAI
from charter.service.api.meanings import PARTS, explain
from charter.service.api.snippets import bodies
from charter.service.api.wire.answers import ErrorAnswer, OpenAIErrorAnswer, StreamEvent
from charter.service.api.wire.route import Route

REFERENCE = "#/components/schemas/{model}"
_PART = re.compile(r"{(\w+)(?::path)?}")
KEYS = {
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}
ERRORS = {
    400: "Something in the request is wrong; the message says what",
    401: "No key, or an invalid one",
    403: "The key may not do this, or the account is suspended",
    404: "It doesn't exist, or it is somebody else's",
    405: "The method is not allowed here",
    409: "It was already decided in another way",
    413: "The body is too large",
    429: "A limit of the key is reached; retry-after says for how long",
    500: "The server failed",
    529: "Too much waits; retry-after says for how long",
}
WITHOUT_BODY = (413, 529)  # errors that only a body can cause


def document(app: FastAPI, routes: Sequence[Route]) -> dict[str, Any]:
    """The document, built once."""
    if app.openapi_schema is None:
        app.openapi_schema = _openapi_of(app, routes)
    return app.openapi_schema


def _openapi_of(app: FastAPI, routes: Sequence[Route]) -> dict[str, Any]:
    openapi = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    openapi["components"] = {"schemas": {}, "securitySchemes": KEYS}
    openapi["security"] = [{name: []} for name in KEYS]
    openapi["tags"] = [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)]
    schemas = _Schemas(routes)
    served = app.state.service.registry.served
    model = served[0].id if served else "a-model"
    examples = bodies(model)
    openapi["components"]["schemas"] = schemas.shared
    for route in routes:
        shown = openapi["paths"][_PART.sub(r"{\1}", route.path)][route.method.lower()]
        shown["parameters"] = _parameters(route, model)
        if not shown["parameters"]:
            del shown["parameters"]
        if route.body is not None:
            content = schemas.json(route.body, "validation")
            if route.path in examples:
                content["application/json"]["example"] = examples[route.path]
            shown["requestBody"] = {"required": True, "content": content}
        shown["responses"] = schemas.responses(route)
        shown["description"] = " ".join((route.handler.__doc__ or "").split())
        if route.open:
            shown["security"] = []
    return openapi


def _parameters(route: Route, model: str) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": PARTS[name],
            "schema": {"type": "string"},
        }
        for name in _PART.findall(route.path)
    ]
    for part in parts:
        if part["name"] == "model":
            part["example"] = model
    more = [
        {
            "name": one.name,
            "in": one.place,
            "required": one.required,
            "description": one.description,
            "schema": one.schema,
        }
        for one in route.parameters
    ]
    return [*parts, *more]


class _Schemas:
    """The schemas of all bodies and answers, and references to them."""

    def __init__(self, routes: Sequence[Route]) -> None:
        bodies = [(route.body, "validation") for route in routes if route.body]
        answers = [(route.answer, "validation") for route in routes if route.answer]
        shared_by_all = [(one, "validation") for one in (ErrorAnswer, OpenAIErrorAnswer, StreamEvent)]
        wanted: list[Any] = list(dict.fromkeys([*bodies, *answers, *shared_by_all]))
        references, shared = models_json_schema(wanted, ref_template=REFERENCE)
        self._references: dict[Any, Any] = dict(references)
        self.shared: dict[str, Any] = shared.get("$defs", {})
        explain(self.shared, {self._references[one]["$ref"].rpartition("/")[2] for one in bodies})

    def json(self, model: type[BaseModel], mode: str) -> dict[str, Any]:
        """The content of a body or an answer."""
        return {"application/json": {"schema": self._references[model, mode]}}

    def responses(self, route: Route) -> dict[str, Any]:
        """The possible answers of a route."""
        content: dict[str, Any] = {}
        if route.media != "application/json":
            content[route.media] = {"schema": {"type": "string"}}
        else:
            content = self.json(route.answer, "validation") if route.answer else {"application/json": {}}
        if route.body is not None and "stream" in route.body.model_fields:
            content["text/event-stream"] = {"schema": self._references[StreamEvent, "validation"]}
        responses: dict[str, Any] = {"200": {"description": "It was done", "content": content}}
        if route.path == "/ready":
            responses["503"] = {**responses["200"], "description": "Something is missing"}
        for status, words in ERRORS.items():
            if route.body is None and status in WITHOUT_BODY:
                continue
            if route.open and status in (401, 403):
                continue
            responses[str(status)] = {"description": words, "content": self._error(route)}
        return responses

    def _error(self, route: Route) -> dict[str, Any]:
        """Errors have the shape of the client's API; under OpenAI's paths the headers say which that is."""
        both = (ErrorAnswer, OpenAIErrorAnswer)
        if not route.path.startswith(OPENAI):
            return self.json(ErrorAnswer, "validation")
        schemas = [self._references[one, "validation"] for one in both]
        return {"application/json": {"schema": {"anyOf": schemas}}}
