"""YAML from a schema, in block style: indented properties, a dash for every item; any YAML parser reads the same data.

A text is plain if it begins with a letter, has no character with a meaning in YAML and spells no value such as `no`
or `null`; otherwise it is quoted as in JSON. Below a reference that leads back to itself, whose depth has no end,
YAML's flow style (braces and brackets) is written.
"""

from __future__ import annotations

import json
import re

from charter.ground.artifact.errors import CharterError
from charter_service.forms.shapes import (
    PRINTED,
    Either,
    Items,
    Literals,
    Members,
    Reference,
    Rules,
    Scalar,
    Shape,
    Shapes,
    Value,
    fields_in_order,
    length_of,
    number_rule,
    pattern_of,
    printable,
    quote,
    repeat,
    times,
)

_WORDS = "y|yes|n|no|true|false|on|off|null"
_PLAIN = re.compile(r"[A-Za-z_]([A-Za-z0-9_ .,()/+-]*[A-Za-z0-9_.)])?")
_PLAIN_RULE = r"/[\p{L}_]([\p{L}\p{N}_ .,()\/+-]*[\p{L}\p{N}_.)])?/ & ~/(?i:" + _WORDS + ")/"
_SAFE = rf'[ {PRINTED}&&[^"\\]]'
_QUOTED = rf'({_SAFE}|\\["\\\/nt])'


def yaml_rules(shapes: Shapes) -> str:
    """The grammar of YAML documents of this shape. Raises CharterError for texts that can't be printed."""
    writer = _Writer(shapes)
    return writer.rules.text(writer.document())


def spell(value: Scalar) -> str:
    """A scalar as YAML, plain if it is unambiguous."""
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and not re.fullmatch(_WORDS, value, re.IGNORECASE)
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)


class _Writer:
    def __init__(self, shapes: Shapes) -> None:
        self._shapes, self.rules = shapes, Rules()
        self._flows: dict[str, str] = {}
        self._open: list[str] = []  # references that are being written in block style

    def document(self) -> str:
        """The rule of a whole document."""
        return self._block(self._shapes.root, 0, "")

    def _block(self, shape: Shape, indent: int, lead: str) -> str:
        """A shape in block style behind `lead`: a scalar continues the line, each part of a collection gets a line.

        lead: "" at the start of the document, " " behind a dash (the first part continues the line), ":" behind a
        name.
        """
        if isinstance(shape, Reference):
            if shape.target in self._open:
                return self.rules.rule(f"{quote(_gap(lead))} {self._flow(shape)}" if lead else self._flow(shape))
            self._open.append(shape.target)
            block = self._block(self._shapes.named[shape.target], indent, lead)
            self._open.pop()
            return block
        if isinstance(shape, Either):
            return self.rules.rule(" | ".join(self._block(option, indent, lead) for option in shape.options))
        if isinstance(shape, (Members, Items)):
            return self._collection(shape, indent, lead)
        return self.rules.rule(f"{quote(_gap(lead))} {self._scalar(shape)}" if lead else self._scalar(shape))

    def _collection(self, shape: Members | Items, indent: int, lead: str) -> str:
        line = "\n" + " " * indent
        first = {"": "", " ": " ", ":": line}[lead]
        if isinstance(shape, Members):
            empty, none = "{}", not shape.fields
            names = [self._name(field.name, shape.at) for field in shape.fields]
            parts = [
                self.rules.rule(f"{quote(name + ':')} {self._block(field.shape, indent + 2, ':')}")
                for name, field in zip(names, shape.fields, strict=True)
            ]
            body, optional = ("", True) if none else fields_in_order(self.rules, shape.fields, parts, line)
        else:
            empty, none, optional = "[]", shape.most == 0, shape.least == 0
            item = self.rules.rule(f'"-" {self._block(shape.shape, indent + 2, " ")}')
            body = f"{item} {_more(f'{quote(line)} {item}', shape)}" if not none else ""
        ways = [f"{quote(first)} {body}" if first else body] if not none else []
        if optional:
            ways.append(quote(_gap(lead) + empty))
        return self.rules.rule(" | ".join(ways))

    def _flow(self, shape: Shape) -> str:
        if isinstance(shape, Reference):
            if shape.target not in self._flows:
                self._flows[shape.target] = name = self.rules.reserve()
                self.rules.define(name, self._flow(self._shapes.named[shape.target]))
            return self._flows[shape.target]
        if isinstance(shape, Either):
            return self.rules.rule(" | ".join(map(self._flow, shape.options)))
        if isinstance(shape, Members):
            parts = [
                self.rules.rule(f"{quote(json.dumps(field.name) + ': ')} {self._flow(field.shape)}")
                for field in shape.fields
            ]
            if not parts:
                return quote("{}")
            body, optional = fields_in_order(self.rules, shape.fields, parts, ", ")
            return self.rules.rule(f'"{{" {body}{"?" * optional} "}}"')
        if isinstance(shape, Items):
            if shape.most == 0:
                return quote("[]")
            item = self._flow(shape.shape)
            more = _more(f'", " {item}', shape)
            body = self.rules.rule(f"{item} {more}")
            return self.rules.rule(f'"[" {body}{"?" * (shape.least == 0)} "]"')
        return self._scalar(shape, plain=False)

    def _scalar(self, shape: Shape, plain: bool = True) -> str:
        if isinstance(shape, Literals):
            texts = [value for value in shape.values if isinstance(value, str)]
            if not all(map(printable, texts)):
                raise CharterError(f"the yaml form can't print a text of the enumeration at {shape.at}")
            ways = [
                spell(v) if plain or not isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in shape.values
            ]
            return self.rules.rule(" | ".join(map(quote, ways)))
        assert isinstance(shape, Value)
        if shape.kind == "boolean":
            return '("true" | "false")'
        if shape.kind == "null":
            return '"null"'
        if shape.kind in ("integer", "number"):
            return number_rule(self.rules, shape)
        return self._text(shape, plain)

    def _text(self, value: Value, plain: bool) -> str:
        least, most = length_of(value)
        pattern = pattern_of(value)
        if pattern is not None:
            body = self.rules.terminal(f"{pattern} & /{_SAFE}{times(least, most)}/")
            return self.rules.rule(self.rules.terminal(f'"\\"" {body} "\\""'))
        ways = [self.rules.terminal(f'/"{_QUOTED}{times(least, most)}"/')]
        if plain and most != 0:
            length = f" & /(?s:.){times(least, most)}/" if least or most is not None else ""
            ways.append(self.rules.terminal(_PLAIN_RULE + length))
        return self.rules.rule(" | ".join(ways))

    def _name(self, name: str, at: str) -> str:
        if not printable(name):
            raise CharterError(f"the yaml form can't print the name {name!r} ({at})")
        return spell(name)


def _more(further: str, items: Items) -> str:
    """The items after the first one."""
    return repeat(further, max(items.least - 1, 0), None if items.most is None else items.most - 1)


def _gap(lead: str) -> str:
    return " " if lead else ""
