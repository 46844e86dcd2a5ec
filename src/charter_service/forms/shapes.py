"""The part of JSON Schema that every form supports, as a tree: the source of the grammars of XML, YAML and tables.

Supported: objects with named properties (no others are written), arrays of one kind of item, texts, numbers, booleans,
null, scalar enumerations, anyOf, several types, and references within the schema. Anything else is refused with its
keyword and JSON pointer. Grammar rules are in llguidance's dialect of Lark.

Characters are the printable ones (letters, marks, digits, punctuation, symbols) and the space, so that no parser
changes or refuses any. Numbers have at most 18 digits before and after the point.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llguidance import regex_to_lark

from charter.ground.artifact.errors import CharterError
from charter_service.forms.schema import Schema, check_schema, pointer, resolve

ScalarKind = Literal["string", "integer", "number", "boolean", "null"]
Scalar = str | int | float | bool | None

_SAID = frozenset({"title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs", "definitions"})
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
PRINTED = r"\p{L}\p{M}\p{N}\p{P}\p{S}"
_DAY = r"((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
_ZONE = r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_YEAR = r"(19|20)[0-9]{2}-"
FORMATS = {
    "date": _YEAR + _DAY,
    "time": _CLOCK + _ZONE,
    "date-time": _YEAR + _DAY + "T" + _CLOCK + _ZONE,
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "email": r"[a-z0-9]+([._-][a-z0-9]+){0,4}@[a-z0-9]+(-[a-z0-9]+){0,4}(\.[a-z]{2,12}){1,3}",
    "ipv4": r"((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])",
}
_INTEGER = r"/(0|-?[1-9][0-9]{0,17})/"
_NUMBER = r"/-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?/"


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
    visited, shape = {target}, named[target]
    while isinstance(shape, Reference):
        if shape.target in visited:
            raise CharterError(f"the schema's $ref at {shape.at} leads back to itself without any content")
        visited.add(shape.target)
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
            return Either(at, tuple(self.read(part, pointer(at, "anyOf", i)) for i, part in enumerate(options)))
        kind = schema.get("type") or ("object" if "properties" in schema else "array" if "items" in schema else None)
        if kind is None:
            raise self._unsupported("a schema without type", at)
        kinds = kind if isinstance(kind, list) else [kind]
        # drafts up to 3 take schemas here
        if not all(isinstance(kind, str) and kind in _KEYS for kind in kinds):
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
                raise CharterError(f"the schema at {at} allows no array: minItems {least} is above maxItems {most}")
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

    def _unsupported(self, feature: str, at: str) -> CharterError:
        return CharterError(
            f"the {self._form} form doesn't support {feature}, found at {at}; use json_schema or leave it out"
        )


class Rules:
    """Rules and terminals by name; the same expression gets one name."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._names: dict[str, str] = {}

    def terminal(self, expression: str) -> str:
        """The name of a terminal: one regular expression, with & and ~ allowed between /parts/."""
        return self._name("T", expression)

    def rule(self, expression: str) -> str:
        """A rule's name."""
        return self._name("r", expression)

    def reserve(self) -> str:
        """A name for a rule that is defined later, for recursion."""
        name = f"r{len(self._names)}"
        self._names[name] = name
        return name

    def define(self, name: str, expression: str) -> None:
        """Defines the rule of a reserved name."""
        self._lines.append(f"{name}: {expression}")

    def text(self, start: str) -> str:
        """The whole grammar."""
        return "\n".join([f"start: {start}", *self._lines])

    def _name(self, kind: str, expression: str) -> str:
        key = f"{kind}: {expression}"
        if key not in self._names:
            self._names[key] = name = f"{kind}{len(self._names)}"
            self._lines.append(f"{name}: {expression}")
        return self._names[key]


def quote(text: str) -> str:
    """A literal of the grammar."""
    return json.dumps(text, ensure_ascii=False)


def pattern_of(value: Value) -> str | None:
    """The regular expression that a text must match as a whole, from `pattern` and `format`; None if there is none.

    Raises CharterError for a format without an expression.
    """
    patterns: list[str] = []
    if (form := value.bounds.get("format")) is not None:
        if form not in FORMATS:
            supported = ", ".join(FORMATS)
            raise CharterError(f"the format {form!r} at {value.at} isn't supported here; supported: {supported}")
        patterns.append(f"/{FORMATS[form]}/")
    if (pattern := value.bounds.get("pattern")) is not None:
        inner = pattern.removeprefix("^")
        anchored = inner.endswith("$") and not inner.endswith("\\$")
        inner = regex_to_lark(inner[:-1] if anchored else inner, use_ascii="dw")
        head = "" if pattern.startswith("^") else "(?s:.*)"
        patterns.append(f"/{head}({inner}){'' if anchored else '(?s:.*)'}/")
    return " & ".join(patterns) or None


def length_of(value: Value) -> tuple[int, int | None]:
    """Least and most characters of a text (None: no limit)."""
    return int(value.bounds.get("minLength", 0)), value.bounds.get("maxLength")


def repeat(expression: str, least: int, most: int | None) -> str:
    """A rule's expression, repeated `least` to `most` times; empty if it may not come at all."""
    return f"({expression}){times(least, most)}" if most != 0 else ""


def times(least: int, most: int | None) -> str:
    """A number of repetitions, as a grammar writes it."""
    if most is None:
        return "*" if least == 0 else f"{{{least},}}"
    return f"{{{least},{most}}}"


def number_rule(rules: Rules, value: Value) -> str:
    """A number's rule, by the grammar's own arithmetic if it has bounds."""
    if not value.bounds:
        return rules.terminal(_INTEGER if value.kind == "integer" else _NUMBER)
    schema = {"type": value.kind, **value.bounds, "x-guidance": {"whitespace_flexible": False}}
    return rules.rule(f"%json {json.dumps(schema)}")


def literal_text(value: Scalar) -> str:
    """A scalar as JSON writes it, a text as it is."""
    return value if isinstance(value, str) else json.dumps(value)


def fields_in_order(
    rules: Rules, fields: Sequence[Field], field_rules: Sequence[str], between: str
) -> tuple[str, bool]:
    """A rule for one or more fields in their order, each once, or left out if not required, with `between` between
    two; and whether none of them is required. `field_rules`: the rule of each field."""
    remainder = ""
    first: list[str] = []
    for field, rule in zip(reversed(fields), reversed(field_rules), strict=True):
        sequence = f"{rule} {remainder}".strip()
        first = [sequence] if field.required else [sequence, *first]
        after = f"{quote(between)} {rule}" if between else rule
        remainder = rules.rule(f"{after} {remainder}" if field.required else f"({after})? {remainder}".strip())
    return rules.rule(" | ".join(first)), not any(field.required for field in fields)


def printable(text: str, but: str = "") -> bool:
    """Whether a text has only printable characters, and none of `but`."""
    return all(c.isprintable() and c not in but for c in text)
