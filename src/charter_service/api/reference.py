"""The OpenAPI document as pages: one for each group of routes, with the fields of all that they take and give. The
templates read the document itself, so that pages load nothing from elsewhere; types and bounds get their words here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from charter_service.api.snippets import curl

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
            versioned = any(one["name"] == "anthropic-version" for one in operation.get("parameters", ()))
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
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            waiting += one.values()
            name = str(one.get("$ref", "")).removeprefix(REFERENCE)
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
