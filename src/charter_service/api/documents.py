"""The OpenAPI document: what the routes declare, and the errors that any route may answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from charter.ground.moderation.limits import in_words
from charter_service.api.guard import OPENAI
from charter_service.api.meanings import PARTS, explain
from charter_service.api.service import Service
from charter_service.api.snippets import bodies
from charter_service.api.statement import limits_of
from charter_service.api.wire.answers import ErrorAnswer, OpenAIErrorAnswer, StreamEvent
from charter_service.api.wire.route import Route

DESCRIPTION = """Claude's API of 2023 and of today, and OpenAI's shapes, on models that you made.

What these models can't do, and should not be used for:

"""
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
    504: "The model's server took too long",
    529: "Too much waits; retry-after says for how long",
}
WITH_BODY, WITH_KEY = (413, 529), (401, 403)  # errors that need a body, and a key
MODE: JsonSchemaMode = "validation"
Schemas = Mapping[Any, dict[str, Any]]  # references, by shape and mode


def model_for_examples(service: Service) -> str:
    """The id of the model that examples call."""
    served = service.registry.served
    return served[0].id if served else "a-model"


def document_of(service: Service, routes: Sequence[Route]) -> dict[str, Any]:
    """The document of a service."""
    bodies_read = [route.body for route in routes if route.body]
    answers = [route.answer for route in routes if route.answer]
    shapes: list[type[BaseModel]] = [*bodies_read, *answers, ErrorAnswer, OpenAIErrorAnswer, StreamEvent]
    schemas, shared = models_json_schema(
        [(shape, MODE) for shape in dict.fromkeys(shapes)], ref_template="#/components/schemas/{model}"
    )
    defined = shared["$defs"]
    explain(defined, {schemas[body, MODE]["$ref"].rpartition("/")[2] for body in bodies_read})
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        operation = _operation(route, schemas, model_for_examples(service))
        paths.setdefault(route.path_format, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": service.config.name,
            "description": f"{DESCRIPTION}{in_words(limits_of(service))}\n",
            "version": "0.1.0",
        },
        "paths": paths,
        "components": {"schemas": defined, "securitySchemes": KEYS},
        "security": [{name: []} for name in KEYS],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
    }


def _operation(route: Route, schemas: Schemas, model: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": [route.tag],
        "summary": route.summary,
        "description": " ".join((route.handler.__doc__ or "").split()),
        "operationId": re.sub(r"\W", "_", f"{route.name}{route.path_format}") + f"_{route.method.lower()}",
        "responses": _responses(route, schemas),
    }
    if parameters := [*(_part(name, model) for name in route.param_convertors), *route.parameters]:
        operation["parameters"] = parameters
    if route.body is not None:
        content: dict[str, Any] = {route.takes: {"schema": schemas[route.body, MODE]}}
        if (example := bodies(model).get(route.path)) is not None:
            content[route.takes]["example"] = example
        operation["requestBody"] = {"required": True, "content": content}
    if route.open:
        operation["security"] = []
    return operation


def _part(name: str, model: str) -> dict[str, Any]:
    """A parameter in the path."""
    part = {"name": name, "in": "path", "required": True, "description": PARTS[name]}
    return {**part, "schema": {"type": "string"}, **({"example": model} if name == "model" else {})}


def _responses(route: Route, schemas: Schemas) -> dict[str, Any]:
    """The possible answers of a route. Under OpenAI's paths, the request's headers choose the shape of an error."""
    content = (
        _json(schemas[route.answer, MODE]) if route.answer else {route.media: {"schema": {"type": "string"}}}
    )
    if route.body is not None and "stream" in route.body.model_fields:
        content["text/event-stream"] = {"schema": schemas[StreamEvent, MODE]}
    responses: dict[str, Any] = {"200": {"description": "It was done", "content": content}}
    if route.path == "/ready":
        responses["503"] = {**responses["200"], "description": "Something is missing"}
    error = schemas[ErrorAnswer, MODE]
    if route.path.startswith(OPENAI):
        error = {"anyOf": [error, schemas[OpenAIErrorAnswer, MODE]]}
    never = (*(() if route.body else WITH_BODY), *(WITH_KEY if route.open else ()))
    errors = {status: words for status, words in ERRORS.items() if status not in never}
    return responses | {
        str(status): {"description": words, "content": _json(error)} for status, words in errors.items()
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
