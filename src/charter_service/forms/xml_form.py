"""XML from a schema: an element for every property, `<item>` for every item, `nil="true"` for null; and back to data.

Text is escaped with the five named entities. A line break with an indent may come between elements.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from charter.ground.artifact.errors import CharterError
from charter_service.forms.shapes import (
    PRINTED,
    Either,
    Items,
    Literals,
    Members,
    Reference,
    Rules,
    Shape,
    Shapes,
    Value,
    fields_in_order,
    length_of,
    literal_text,
    number_rule,
    pattern_of,
    printable,
    quote,
    repeat,
    times,
)

_NAME = re.compile(r"(?![Xx][Mm][Ll])[A-Za-z_][A-Za-z0-9_.-]*")
_SAFE = rf"[ {PRINTED}&&[^<>&]]"
_CHARACTER = rf"({_SAFE}|&(lt|gt|amp|quot|apos);)"
_ITEM = "item"


def xml_rules(shapes: Shapes, root: str) -> str:
    """The grammar of XML documents of this shape. Raises CharterError for names that no element can have, and for
    alternatives that XML text can't tell apart."""
    _check_name(root, "the root")
    return _Writer(shapes).grammar(root)


def read_xml(text: str, shapes: Shapes) -> Any:
    """The data of a document. Raises CharterError if it doesn't have this shape."""
    try:
        return _read(ElementTree.fromstring(text), shapes.root, shapes)
    except ElementTree.ParseError as error:
        raise CharterError(f"not an XML document: {error}") from None


class _Writer:
    def __init__(self, shapes: Shapes) -> None:
        self._shapes, self._rules = shapes, Rules()
        self._gap = self._rules.rule(self._rules.terminal(r"/\n {0,32}/") + "?")
        self._elements: dict[tuple[str, str], str] = {}

    def grammar(self, root: str) -> str:
        return self._rules.text(self._element(root, self._shapes.root))

    def _element(self, name: str, shape: Shape) -> str:
        """The rule of an element, one for each name and target, so that recursion ends."""
        if isinstance(shape, Reference):
            key = (name, shape.target)
            if key not in self._elements:
                self._elements[key] = rule = self._rules.reserve()
                self._rules.define(rule, self._element(name, self._shapes.named[shape.target]))
            return self._elements[key]
        if isinstance(shape, Either):
            _check_distinct(shape, self._shapes)
            return self._rules.rule(" | ".join(self._element(name, option) for option in shape.options))
        if isinstance(shape, Value) and shape.kind == "null":
            return self._rules.rule(quote(f'<{name} nil="true"/>'))
        return self._rules.rule(f"{quote(f'<{name}>')} {self._content(shape)} {quote(f'</{name}>')}")

    def _content(self, shape: Shape) -> str:
        if isinstance(shape, Members):
            for field in shape.fields:
                _check_name(field.name, shape.at)
            if not shape.fields:
                return self._gap
            parts = [
                self._rules.rule(f"{self._element(field.name, field.shape)} {self._gap}") for field in shape.fields
            ]
            fields, optional = fields_in_order(self._rules, shape.fields, parts, "")
            return f"{self._gap} {fields}{'?' if optional else ''}"
        if isinstance(shape, Items):
            item = self._rules.rule(f"{self._element(_ITEM, shape.shape)} {self._gap}")
            return f"{self._gap} {repeat(item, shape.least, shape.most)}"
        if isinstance(shape, Literals):
            return self._literals(shape)
        assert isinstance(shape, Value)
        if shape.kind == "boolean":
            return '("true" | "false")'
        if shape.kind in ("integer", "number"):
            return number_rule(self._rules, shape)
        return self._text(shape)

    def _text(self, value: Value) -> str:
        least, most = length_of(value)
        pattern = pattern_of(value)
        if pattern is None and most == 0:
            return ""
        if pattern is None:
            return self._rules.terminal(f"/{_CHARACTER}{times(max(least, 1), most)}/") + "?" * (least == 0)
        return self._rules.terminal(f"{pattern} & /{_SAFE}{times(least, most)}/")

    def _literals(self, shape: Literals) -> str:
        texts = [literal_text(value) for value in shape.values]
        if len(set(texts)) < len(texts) or not all(map(printable, texts)):
            raise CharterError(
                f"the xml form can't tell the values of the enumeration at {shape.at} apart, or print them"
            )
        return "(" + " | ".join(quote(escape(text)) for text in texts) + ")"


def _check_name(name: str, at: str) -> None:
    if not _NAME.fullmatch(name):
        raise CharterError(
            f"the xml form can't name an element {name!r} ({at}); names begin with a letter and have letters, digits, "
            "'_', '.' and '-'"
        )


def _check_distinct(shape: Either, shapes: Shapes) -> None:
    """Texts carry no type, so there may be one option of plain text at most, beside null."""
    plain = [o for o in map(shapes.of, shape.options) if isinstance(o, (Value, Literals))]
    plain = [o for o in plain if not (isinstance(o, Value) and o.kind == "null")]
    if len(plain) > 1 or any(isinstance(shapes.of(o), Either) for o in shape.options):
        raise CharterError(f"the xml form can't tell the alternatives at {shape.at} apart: XML text has no type")


def _read(element: ElementTree.Element, shape: Shape, shapes: Shapes) -> Any:
    shape = shapes.of(shape)
    nil = element.get("nil") == "true"
    if isinstance(shape, Either):
        return _read_either(element, shape, shapes)
    if (isinstance(shape, Value) and shape.kind == "null") or nil:
        if not (nil and isinstance(shape, Value) and shape.kind == "null"):
            raise CharterError(f"<{element.tag}> doesn't have the shape at {shape.at}")
        return None
    if isinstance(shape, Members):
        fields = {field.name: field for field in shape.fields}
        if any(child.tag not in fields for child in element) or (element.text or "").strip():
            raise CharterError(f"<{element.tag}> holds something that the schema doesn't name at {shape.at}")
        members = {child.tag: _read(child, fields[child.tag].shape, shapes) for child in element}
        if missing := [f.name for f in shape.fields if f.required and f.name not in members]:
            raise CharterError(f"<{element.tag}> lacks <{missing[0]}>")
        return members
    if isinstance(shape, Items):
        if any(child.tag != _ITEM for child in element) or (element.text or "").strip():
            raise CharterError(f"<{element.tag}> holds something other than items")
        return [_read(child, shape.shape, shapes) for child in element]
    if len(element):
        raise CharterError(f"<{element.tag}> holds elements where text was expected")
    return scalar(element.text or "", shape)


def _read_either(element: ElementTree.Element, shape: Either, shapes: Shapes) -> Any:
    for option in shape.options:
        try:
            return _read(element, option, shapes)
        except CharterError:
            continue
    raise CharterError(f"<{element.tag}> is none of the alternatives at {shape.at}")


def scalar(text: str, shape: Shape) -> Any:
    """The value that a text stands for. Raises CharterError if there is none."""
    if isinstance(shape, Literals):
        for value in shape.values:
            if literal_text(value) == text:
                return value
    elif isinstance(shape, Value):
        try:
            if shape.kind == "string":
                return text
            if shape.kind == "boolean":
                return {"true": True, "false": False}[text]
            if shape.kind == "integer":
                return int(text)
            if shape.kind == "number":
                return float(text) if "." in text else int(text)
        except (KeyError, ValueError):
            pass
    raise CharterError(f"{text[:40]!r} is not of the kind at {shape.at}")
