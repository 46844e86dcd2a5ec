"""The OpenAPI document for a page: routes by tag, and every shape as a table of its fields. Built here, so that the
page loads nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from charter.service.api.snippets import curl

Piece = tuple[str, str]  # a part of a type: its words, and the shape that it names, "" for none
REFERENCE = "#/components/schemas/"


def reference(document: dict[str, Any], address: str, model: str, keyed: bool) -> dict[str, Any]:
    """Groups of routes, and the shapes that they name."""
    groups: dict[str, list[dict[str, Any]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, one in methods.items():
            groups[one["tags"][0]].append(_operation(path, method.upper(), one, address, model, keyed))
    shapes = [
        {
            "name": name,
            "description": _words(schema),
            "fields": _fields(schema),
            "type": type_of(schema) if "properties" not in schema else [],
        }
        for name, schema in sorted(document["components"]["schemas"].items())
    ]
    return {"groups": groups, "shapes": shapes}


def _operation(
    path: str, method: str, one: dict[str, Any], address: str, model: str, keyed: bool
) -> dict[str, Any]:
    parameters = one.get("parameters", [])
    versioned = any(parameter["name"] == "anthropic-version" for parameter in parameters)
    closed = one.get("security", True) != []
    return {
        "id": f"{method}-{path}".lower().replace("/", "-").replace("{", "").replace("}", ""),
        "method": method,
        "path": path,
        "summary": one["summary"],
        "description": _words(one),
        "parameters": [
            {
                "name": parameter["name"],
                "place": parameter["in"],
                "type": type_of(parameter["schema"]),
                "required": parameter["required"],
                "description": _words(parameter),
            }
            for parameter in parameters
        ],
        "body": _contents(one.get("requestBody", {})),
        "answers": [
            {"status": status, "words": answer["description"], "contents": _contents(answer)}
            for status, answer in one["responses"].items()
        ],
        "closed": closed,
        "example": curl(address, method, path, model, versioned, closed and keyed),
    }


def _contents(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"media": media, "type": type_of(content.get("schema", {}))}
        for media, content in body.get("content", {}).items()
    ]


def _fields(schema: dict[str, Any]) -> list[dict[str, Any]]:
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "type": type_of(one),
            "required": name in required,
            "description": _words(one),
            "bounds": _bounds(one),
        }
        for name, one in schema.get("properties", {}).items()
    ]


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
        return [(", ".join(json.dumps(one, ensure_ascii=False) for one in schema["enum"]), "")]
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return _joined(type_of(one) for one in schema[several])
    if schema.get("type") == "array":
        return [("list of ", ""), *type_of(schema.get("items"))]
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return [("object of ", ""), *type_of(schema["additionalProperties"])]
    kind = schema.get("type", "anything")
    return [(kind if isinstance(kind, str) else " or ".join(kind), "")]


def _joined(several: Iterable[list[Piece]]) -> list[Piece]:
    joined: list[Piece] = []
    for one in several:
        joined += [(" or ", ""), *one] if joined else one
    return joined


def _words(schema: dict[str, Any]) -> str:
    return " ".join(str(schema.get("description", "")).replace("`", "").split())


def _bounds(schema: dict[str, Any]) -> str:
    """Bounds and default in a few words."""
    names = {
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
    said = [f"{words} {schema[name]}" for name, words in names.items() if name in schema]
    if "default" in schema and schema["default"] not in (None, "", [], {}):
        said.append(f"default {json.dumps(schema['default'], ensure_ascii=False)}")
    return ", ".join(said)
