"""A Markdown table from a schema: an array of objects with scalar properties, a column for each; and back to data.

Cells hold their text as it is: no '|', backslash, backtick or line break, and no space at either end. Every column is
written in every row, whether required or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter_service.forms.shapes import (
    PRINTED,
    Field,
    Items,
    Literals,
    Members,
    Rules,
    Shape,
    Shapes,
    Value,
    length_of,
    literal_text,
    number_rule,
    pattern_of,
    printable,
    quote,
    repeat,
    times,
)
from charter_service.forms.xml_form import scalar

_SHUT = "|\\`"
_SAFE = rf"[ {PRINTED}&&[^|\\`]]"
_EDGE = rf"[{PRINTED}&&[^|\\`]]"


def table_rules(shapes: Shapes) -> str:
    """The grammar of tables of this shape. Raises CharterError if a table can't show it."""
    table, columns = _columns(shapes)
    rules = Rules()
    cells = [_cell(rules, shapes.of(field.shape)) for field in columns]
    head = "| " + " | ".join(field.name for field in columns) + " |\n|" + " --- |" * len(columns)
    row = rules.rule('"\\n|" ' + " ".join(f'" " {cell}' for cell in cells))
    return rules.text(f"{quote(head)} {repeat(row, table.least, table.most)}")


def read_table(text: str, shapes: Shapes) -> list[dict[str, Any]]:
    """The rows of a table. Raises CharterError if it doesn't have this shape."""
    _, columns = _columns(shapes)
    lines = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in text.strip().split("\n")]
    if len(lines) < 2 or lines[0] != [field.name for field in columns]:
        raise CharterError("not a table with the columns of the schema")
    return [_row(cells, columns, shapes) for cells in lines[2:]]


def _row(cells: Sequence[str], columns: Sequence[Field], shapes: Shapes) -> dict[str, Any]:
    if len(cells) != len(columns):
        raise CharterError(f"a row has {len(cells)} cells, the table has {len(columns)} columns")
    return {f.name: scalar(cell, shapes.of(f.shape)) for f, cell in zip(columns, cells, strict=True)}


def _columns(shapes: Shapes) -> tuple[Items, tuple[Field, ...]]:
    table = shapes.of(shapes.root)
    row = shapes.of(table.shape) if isinstance(table, Items) else None
    if not isinstance(table, Items) or not isinstance(row, Members) or not row.fields:
        raise CharterError(f"the table form needs an array of objects with properties; {table.at} is something else")
    for field in row.fields:
        if not printable(field.name, _SHUT) or field.name != field.name.strip():
            raise CharterError(
                f"the table form can't write the column {field.name!r}: it has a sign that Markdown reads"
            )
    return table, row.fields


def _cell(rules: Rules, shape: Shape) -> str:
    """A cell and the bar behind it. A text's terminal includes the bar: only there it is known whether a space ends the
    text."""
    if isinstance(shape, Literals):
        texts = [literal_text(value) for value in shape.values]
        if len(set(texts)) < len(texts) or not all(printable(t, _SHUT) and t == t.strip() for t in texts):
            raise CharterError(f"the table form can't write the values of the enumeration at {shape.at} as cells")
        return "(" + " | ".join(map(quote, texts)) + ') " |"'
    if not isinstance(shape, Value) or shape.kind == "null":
        raise CharterError(f"the table form needs scalar columns without null; {shape.at} is something else")
    if shape.kind == "boolean":
        return '("true" | "false") " |"'
    if shape.kind in ("integer", "number"):
        return f'{number_rule(rules, shape)} " |"'
    least, most = length_of(shape)
    limits = [f"/({_EDGE}({_SAFE}*{_EDGE})?)?/"]
    if (pattern := pattern_of(shape)) is not None:
        limits.append(pattern)
    if least or most is not None:
        limits.append(f"/(?s:.){times(least, most)}/")
    return rules.terminal(f'{rules.terminal(" & ".join(limits))} " |"')
