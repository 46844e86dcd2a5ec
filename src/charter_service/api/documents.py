"""The OpenAPI document, from what the routes declare, and its pages, one for each group of routes.

A field means the same in every body, so meanings go by name; a shape with its own description of a field keeps it. The
pages' templates read the document itself, so that pages load nothing from elsewhere; types and bounds get their words
here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from charter.ground.moderation.limits import in_words
from charter_service.api.guard import OPENAI
from charter_service.api.operation import limits_of
from charter_service.api.service import Service
from charter_service.api.snippets import bodies, curl
from charter_service.api.wire import offered
from charter_service.api.wire.answers import ErrorAnswer, OpenAIErrorAnswer, StreamEvent
from charter_service.api.wire.route import Route

PARTS = {
    "model": "the model's id, or an alias of it",
    "batch": "the batch's id, msgbatch_…",
    "file": "the file's id, file_…",
    "request": "the request's id, req_…, from its answer's header request-id",
}
FIELDS = {
    "model": "the model's id, or an alias of it; /v1/models lists them",
    "messages": "the conversation so far, oldest turn first; a last turn of the assistant's is continued",
    "system": "instructions for the model in all turns",
    "max_tokens": "the most tokens of the reply",
    "max_completion_tokens": "the most tokens of the reply, a newer name of max_tokens",
    "max_tokens_to_sample": "the most tokens of the reply",
    "prompt": "the text to continue",
    "temperature": "0 takes the likeliest token each time; higher ones vary more. If neither it nor top_p nor "
    "top_k is given, all are the model's own; else 1 by default",
    "top_p": "draws from the likeliest tokens that have this share together",
    "top_k": "draws from this many likeliest tokens",
    "seed": "replies to equal requests with the same seed are equal",
    "n": "number of replies to the same prompt",
    "stop": "texts that end the reply and are cut from it",
    "stop_sequences": "texts that end the reply and are cut from it",
    "stream": "sends the reply as events while it is written",
    "stream_options": "what a stream sends beside the reply",
    "metadata": "your data about the request; Anthropic's user_id is stored as a digest",
    "user": "your id of the end user; stored as a digest",
    "safety_identifier": "your id of the end user; stored as a digest",
    "tools": "the tools that the model may call, each with the schema of its input, and those that the server runs",
    "max_uses": "most calls of this tool for one message",
    "allowed_domains": "the only sites that a search may read, such as example.org, with what is below them",
    "blocked_domains": "sites that a search may not read",
    "user_location": "none: the search knows no places",
    "tool_choice": "whether a tool may or must be called, or which one",
    "parallel_tool_calls": "whether one reply may call several tools",
    "output_config": "the form of the reply",
    "output_format": "the form of the reply, an older name of output_config.format",
    "response_format": "the form of the reply",
    "logprobs": "returns the log-probability of each token",
    "top_logprobs": "returns this many likeliest tokens in each place",
    "echo": "returns the prompt before the reply",
    "tokens": "ids of tokens, in the model's own numbering",
    "requests": "the requests, each with your own id",
    "thumb": "up, or down if something is wrong with the reply",
    "cache_control": "usage shows the tokens read from the prompt's cache and those put into it",
    "thinking": "only disabled: no model here thinks before it answers",
    "logit_bias": "none: tokens are not weighted",
    "presence_penalty": "only 0: there are no penalties",
    "frequency_penalty": "only 0: there are no penalties",
    "repetition_penalty": "only 1: there are no penalties",
    "min_p": "0 alone",
    "best_of": "the same as n",
    "return_token_ids": "also returns the token ids of prompt and reply",
    "return_weight_versions": "also returns the version of the weights that wrote each token",
    "suffix": "none: texts are continued, not filled in",
    "modalities": "text alone",
    "continue_final_message": "continues the last turn instead of beginning a new one",
    "add_generation_prompt": "begins a new turn of the assistant's after the last one",
    **dict.fromkeys(
        ("store", "reasoning_effort", "verbosity", "prompt_cache_key", "prompt_cache_retention"),
        "accepted, without effect",
    ),
}
DESCRIPTION = """Claude's API of 2023 and of today, and OpenAI's shapes, on models that you made.

What these models can't do, and should not be used for:

"""
KEYS = {"key": {"type": "apiKey", "in": "header", "name": "x-api-key"}, "bearer": {"type": "http", "scheme": "bearer"}}
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
Piece = tuple[str, str]  # a part of a type: its words, and the shape that it names, "" for none
REFERENCE = "#/components/schemas/"
BOUNDS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "exclusiveMaximum": "below",
    "minLength": "minimum length",
    "maxLength": "maximum length",
    "minItems": "minimum items",
    "maxItems": "maximum items",
    "pattern": "pattern",
}


def explain(shapes: Mapping[str, Any], named: Iterable[str]) -> None:
    """Adds descriptions to fields without one, in place. `shapes`: schemas by name; `named`: those of bodies."""
    for name in named:
        for field_name, schema in shapes[name].get("properties", {}).items():
            if schema.get("description"):
                continue
            if field_name in FIELDS:
                schema["description"] = FIELDS[field_name]
            elif field_name in offered.FIELDS:
                schema["description"] = offered.FIELDS[field_name].meaning


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
    content = _json(schemas[route.answer, MODE]) if route.answer else {route.media: {"schema": {"type": "string"}}}
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


@dataclass
class Group:
    """The routes of one page, and the shapes that they name, by name."""

    title: str
    routes: list[dict[str, Any]] = field(default_factory=list)
    shapes: dict[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The last part of the page's address."""
        return "-".join(re.findall(r"[a-z0-9]+", self.title.lower().replace("'", "")))


def reference(document: dict[str, Any], address: str, model: str, keyed: bool) -> list[Group]:
    """The groups of routes."""
    groups = {tag["name"]: Group(tag["name"]) for tag in document["tags"]}
    shapes = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            versioned = any(parameter["name"] == "anthropic-version" for parameter in operation.get("parameters", ()))
            closed = operation.get("security") != []
            facts = {
                "id": f"{method}-{path}".replace("/", "-").replace("{", "").replace("}", ""),
                "method": method.upper(),
                "path": path,
                "closed": closed,
                "example": curl(address, method.upper(), path, model, versioned, closed and keyed),
                "body": _body_of(operation),
            }
            groups[operation["tags"][0]].routes.append(operation | facts)
    for group in groups.values():
        group.shapes = {name: shapes[name] for name in sorted(_named_in(group.routes, shapes))}
    return list(groups.values())


def _body_of(operation: dict[str, Any]) -> str:
    """The name of the shape of a route's body; empty without one."""
    content: dict[str, Any] = next(iter(operation.get("requestBody", {}).get("content", {}).values()), {})
    return str(content.get("schema", {}).get("$ref", "")).removeprefix(REFERENCE)


def _named_in(value: Any, shapes: dict[str, Any]) -> set[str]:
    """All shapes that a part of the document names, and those that they name."""
    named, waiting = set[str](), [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            waiting += part.values()
            name = str(part.get("$ref", "")).removeprefix(REFERENCE)
            if name in shapes and name not in named:
                named.add(name)
                waiting.append(shapes[name])
    return named


def type_of(schema: Any) -> list[Piece]:
    """The words of a type, with the shapes that it names."""
    if not isinstance(schema, dict) or not schema:
        return [("anything", "")]
    if reference := schema.get("$ref"):
        name = str(reference).removeprefix(REFERENCE)
        return [(name, name)]
    if "const" in schema:
        return [(json.dumps(schema["const"], ensure_ascii=False), "")]
    if "enum" in schema:
        return [(", ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"]), "")]
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return _joined(type_of(alternative) for alternative in schema[several])
    if schema.get("type") == "array":
        return [("list of ", ""), *type_of(schema.get("items"))]
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return [("object of ", ""), *type_of(schema["additionalProperties"])]
    kind = schema.get("type", "anything")
    return [(kind if isinstance(kind, str) else " or ".join(kind), "")]


def _joined(several: Iterable[list[Piece]]) -> list[Piece]:
    joined: list[Piece] = []
    for type_parts in several:
        joined += [(" or ", ""), *type_parts] if joined else type_parts
    return joined


def meaning(schema: dict[str, Any]) -> str:
    """The description of a schema, a parameter or a route, in one line."""
    return " ".join(str(schema.get("description", "")).replace("`", "").split())


def bounds(schema: dict[str, Any]) -> str:
    """Bounds and default in a few words."""
    facts = [f"{words} {schema[name]}" for name, words in BOUNDS.items() if name in schema]
    if "default" in schema and schema["default"] not in (None, "", [], {}):
        facts.append(f"default {json.dumps(schema['default'], ensure_ascii=False)}")
    return ", ".join(facts)
