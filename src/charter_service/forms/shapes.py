"""The part of JSON Schema that every form supports, as a tree: the source of the grammars of XML, YAML and tables.

Supported: objects with named properties (no others are written), arrays of one kind of item, texts, numbers, booleans,
null, scalar enumerations, anyOf, several types, and references within the schema. Anything else is refused with its
keyword and JSON pointer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from charter.ground.artifact.errors import CharterError
from charter_service.forms.schema import Schema, check_schema, pointer, resolve

ScalarKind = Literal["string", "integer", "number", "boolean", "null"]
Scalar = str | int | float | bool | None

_SAID = frozenset(
    {"title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs", "definitions"}
)
_SAID |= {"readOnly", "writeOnly", "deprecated", "additionalProperties", "uniqueItems"}
_BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_KEYS: dict[str, frozenset[str]] = {
    "object": frozenset({"properties", "required"}),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "integer": _BOUNDS,
    "number": _BOUNDS,
    "boolean": frozenset(),
    "null": frozenset(),
}


@dataclass(frozen=True, slots=True)
class Value:
    """A scalar of one kind and the keywords that bound it."""

    at: str
    kind: ScalarKind
    bounds: Schema


@dataclass(frozen=True, slots=True)
class Literals:
    """One of several scalars."""

    at: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """A property of an object."""

    name: str
    shape: Shape
    required: bool


@dataclass(frozen=True, slots=True)
class Members:
    """An object: its properties in their order."""

    at: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Items:
    """An array of `least` to `most` items (None: any number)."""

    at: str
    shape: Shape
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Either:
    """Any of several shapes."""

    at: str
    options: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """The shape of this pointer, in `Shapes.named`."""

    at: str
    target: str


Shape = Value | Literals | Members | Items | Either | Reference


@dataclass(frozen=True, slots=True)
class Shapes:
    """A schema's tree and the targets of its references."""

    root: Shape
    named: dict[str, Shape]

    def of(self, shape: Shape) -> Shape:
        """The shape after following references."""
        while isinstance(shape, Reference):
            shape = self.named[shape.target]
        return shape


def shapes_of(schema: object, form: str) -> Shapes:
    """The tree of a schema. Raises CharterError if it is malformed or `form` doesn't support it."""
    if schema is None:
        raise CharterError(f"the {form} form needs a schema")
    check_schema(schema)
    reader = _Reader(schema if isinstance(schema, dict) else {}, form)
    root = reader.read(schema, "#")
    for target in list(reader.named):
        _check_circle(reader.named, target)
    return Shapes(root, reader.named)


def _check_circle(named: dict[str, Shape], target: str) -> None:
    seen, shape = {target}, named[target]
    while isinstance(shape, Reference):
        if shape.target in seen:
            raise CharterError(f"the schema's $ref at {shape.at} leads back to itself without any content")
        seen.add(shape.target)
        shape = named[shape.target]


class _Reader:
    def __init__(self, root: Schema, form: str) -> None:
        self._root, self._form = root, form
        self.named: dict[str, Shape] = {}
        self._begun: set[str] = set()

    def read(self, schema: Any, at: str) -> Shape:
        if not isinstance(schema, dict):
            raise self._unsupported("a boolean as a schema", at)
        if "$ref" in schema:
            self._only(schema, at, frozenset({"$ref"}))
            target, referenced = resolve(self._root, str(schema["$ref"]), at)
            if target not in self._begun:
                self._begun.add(target)
                self.named[target] = self.read(referenced, target)
            return Reference(at, target)
        if "const" in schema or "enum" in schema:
            self._only(schema, at, frozenset({"const", "enum", "type"}))
            return self._literals(schema, at)
        if "anyOf" in schema:
            self._only(schema, at, frozenset({"anyOf"}))
            options = schema["anyOf"]
            return Either(
                at, tuple(self.read(part, pointer(at, "anyOf", i)) for i, part in enumerate(options))
            )
        kind = schema.get("type") or (
            "object" if "properties" in schema else "array" if "items" in schema else None
        )
        if kind is None:
            raise self._unsupported("a schema without type", at)
        kinds = kind if isinstance(kind, list) else [kind]
        # drafts up to 3 take schemas here
        if not all(isinstance(one, str) and one in _KEYS for one in kinds):
            raise self._unsupported("a type that is none of JSON's", at)
        self._only(schema, at, frozenset({"type"}).union(*(_KEYS[k] for k in kinds)))
        shapes = tuple(self._read_kind(schema, k, at) for k in kinds)
        return shapes[0] if len(shapes) == 1 else Either(at, shapes)

    def _literals(self, schema: Schema, at: str) -> Literals:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        if "enum" in schema:
            values = [value for value in values if value in schema["enum"]]
        if not values or any(isinstance(value, (dict, list)) for value in values):
            raise self._unsupported("an enumeration of anything but scalars", at)
        return Literals(at, tuple(values))

    def _read_kind(self, schema: Schema, kind: str, at: str) -> Shape:
        if kind == "object":
            return self._members(schema, at)
        if kind == "array":
            if "items" not in schema:
                raise self._unsupported("an array without items", at)
            least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
            if most is not None and most < least:
                raise CharterError(
                    f"the schema at {at} allows no array: minItems {least} is above maxItems {most}"
                )
            return Items(at, self.read(schema["items"], pointer(at, "items")), least, most)
        scalar: dict[str, ScalarKind] = {"string": "string", "integer": "integer", "number": "number"}
        scalar |= {"boolean": "boolean", "null": "null"}
        return Value(at, scalar[kind], {key: schema[key] for key in _KEYS[kind] if key in schema})

    def _members(self, schema: Schema, at: str) -> Members:
        named, required = schema.get("properties", {}), schema.get("required", [])
        for name in required:
            if name not in named:
                raise self._unsupported(f"a required property without a schema ({name!r})", at)
        fields = [
            Field(name, self.read(part, pointer(at, "properties", name)), name in required)
            for name, part in named.items()
        ]
        return Members(at, tuple(fields))

    def _only(self, schema: Schema, at: str, keys: frozenset[str]) -> None:
        if schema.get("uniqueItems"):
            raise self._unsupported("uniqueItems", at)
        for key in schema:
            if key not in keys and key not in _SAID:
                raise self._unsupported(key, at)

    def _unsupported(self, what: str, at: str) -> CharterError:
        return CharterError(
            f"the {self._form} form doesn't support {what}, found at {at}; use json_schema or leave it out"
        )
