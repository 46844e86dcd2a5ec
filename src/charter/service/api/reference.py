"""The OpenAPI document for a page: routes by tag, and every shape as a table of its fields. The template reads the
document itself, so that the page loads nothing from elsewhere; types and bounds get their words here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from charter.service.api.snippets import curl

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


def reference(document: dict[str, Any], address: str, model: str, keyed: bool) -> dict[str, Any]:
    """Groups of routes, and the shapes that they name."""
    groups: dict[str, list[dict[str, Any]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            versioned = any(one["name"] == "anthropic-version" for one in operation.get("parameters", ()))
            closed = operation.get("security") != []
            facts = {
                "id": f"{method}-{path}".replace("/", "-").replace("{", "").replace("}", ""),
                "method": method.upper(),
                "path": path,
                "closed": closed,
                "example": curl(address, method.upper(), path, model, versioned, closed and keyed),
            }
            groups[operation["tags"][0]].append(operation | facts)
    return {"groups": groups, "shapes": sorted(document["components"]["schemas"].items())}


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


def meaning(schema: dict[str, Any]) -> str:
    """The description of a schema, a parameter or a route, in one line."""
    return " ".join(str(schema.get("description", "")).replace("`", "").split())


def bounds(schema: dict[str, Any]) -> str:
    """Bounds and default in a few words."""
    said = [f"{words} {schema[name]}" for name, words in BOUNDS.items() if name in schema]
    if "default" in schema and schema["default"] not in (None, "", [], {}):
        said.append(f"default {json.dumps(schema['default'], ensure_ascii=False)}")
    return ", ".join(said)
