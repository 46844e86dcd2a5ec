"""DOCX: paragraphs and tables in the order of the body, headings and list items marked; then the notes.

Content controls, text boxes and inserted text are read; deleted text, headers and footers are not.
"""

from typing import Any

from charter.ground.documents.parsing.outcome import Text, row
from charter.ground.documents.parsing.package import Package, attribute, local

_SKIPPED = {
    "pPr",
    "rPr",
    "tblPr",
    "trPr",
    "tcPr",
    "sectPr",
    "sdtPr",
    "del",
    "moveFrom",
    "Fallback",
    "instrText",
}
_MARKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_ITEM = "- "
_NOTES = {"footnoteReference": "", "endnoteReference": "e"}


def write_word(package: Package, main: str, text: Text) -> None:
    """Append the document whose main part is `main` to `text`."""
    parts = dict(package.parts(main).values())
    marks = _marks(package.xml(parts["styles"])) if parts.get("styles") in package.names else {}
    for block in package.xml(main).iterchildren("{*}body"):
        _write_blocks(block, marks, text)
    for kind, prefix in (("footnotes", ""), ("endnotes", "e")):
        if parts.get(kind) in package.names:
            for note in package.xml(parts[kind]):
                if not attribute(note, "type"):  # others are lines that separate notes
                    text.block(f"[^{prefix}{attribute(note, 'id')}]: {_words(note).strip()}")


def _marks(styles: Any) -> dict[str, str]:
    """What marks a paragraph of a style as a heading or an item of a list, by the style's id."""
    marks = dict[str, str]()
    for style in styles.iterchildren("{*}style"):
        name = next((attribute(one, "val") for one in style.iterchildren("{*}name")), "").lower()
        kind, _, number = name.partition(" ")
        if kind == "heading" and number.isdecimal():
            marks[attribute(style, "styleId")] = "#" * max(1, min(int(number[:2]), 6)) + " "
        elif name == "title":
            marks[attribute(style, "styleId")] = "# "
        elif next(style.iterfind("{*}pPr/{*}numPr"), None) is not None:
            marks[attribute(style, "styleId")] = _ITEM
    return marks


def _write_blocks(parent: Any, marks: dict[str, str], text: Text) -> None:
    for child in parent:
        name = local(child)
        if name == "p":
            _write_paragraph(child, marks, text)
        elif name == "tbl":
            text.gap()
            for one in child.iter("{*}tr"):
                if next(one.iterancestors("{*}tbl")) is child:  # not of a table in a cell
                    text.line(row([_words(cell) for cell in one.iter("{*}tc") if _row_of(cell) is one]))
            text.gap()
        elif name and name not in _SKIPPED:
            _write_blocks(child, marks, text)


def _row_of(cell: Any) -> Any:
    return next(cell.iterancestors("{*}tr"), None)


def _write_paragraph(paragraph: Any, marks: dict[str, str], text: Text) -> None:
    mark = ""
    for setting in paragraph.iterfind("{*}pPr/*"):
        if local(setting) == "pStyle":
            mark = marks.get(attribute(setting, "val"), "")
        elif local(setting) == "numPr" and not mark:
            mark = _ITEM
    words = _words(paragraph).strip()
    if mark == _ITEM and words:
        text.line(f"{_ITEM}{words}")
    elif words:
        text.block(f"{mark}{words}")


def _words(element: Any) -> str:
    """All words in an element; a line end after each paragraph that it holds."""
    pieces = list[str]()
    _collect(element, pieces)
    return "".join(pieces)


def _collect(element: Any, pieces: list[str]) -> None:
    for child in element:
        name = local(child)
        if name == "t":
            pieces.append(child.text or "")
        elif name in _MARKS:
            pieces.append(_MARKS[name])
        elif name in _NOTES:
            pieces.append(f"[^{_NOTES[name]}{attribute(child, 'id')}]")
        elif name and name not in _SKIPPED:
            _collect(child, pieces)
            if name == "p":
                pieces.append("\n")
