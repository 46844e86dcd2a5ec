"""ODT: paragraphs, lists and tables in the order of the body, headings marked, notes where they are referred to."""

from typing import Any

from charter.ground.documents.parsing.outcome import Locked, Text, row
from charter.ground.documents.parsing.package import Package, attribute, local

_SKIPPED = {"tracked-changes", "annotation", "annotation-end", "sequence-decls", "forms", "title", "desc"}
_WIDEST = 100  # spaces that one element may stand for


def check_unlocked(package: Package, kind: str) -> None:
    """Raises Locked if the manifest says that members are encrypted."""
    manifest = "META-INF/manifest.xml"
    if manifest in package.names and next(package.xml(manifest).iter("{*}encryption-data"), None) is not None:
        raise Locked(kind.upper())


def write_open_document(package: Package, text: Text) -> None:
    """Append a document in ODT to `text`."""
    for body in package.xml("content.xml").iterfind("{*}body/{*}text"):
        _write_blocks(body, text, "")


def _write_blocks(parent: Any, text: Text, bullet: str) -> None:
    for child in parent:
        name = local(child)
        if name == "h":
            level = attribute(child, "outline-level")
            text.block(
                f"{'#' * (min(int(level[:2]), 6) if level.isdecimal() else 1)} {_words(child).strip()}"
            )
        elif name == "p":
            words = _words(child).strip()
            if bullet:
                text.line(f"{bullet}{words}" if words else "")
            else:
                text.block(words)
        elif name == "table":
            text.gap()
            for one in child.iter("{*}table-row"):
                cells = [_words(cell) for cell in one.iterchildren("{*}table-cell")]
                if next(one.iterancestors("{*}table")) is child:
                    text.line(row(cells))
            text.gap()
        elif name == "list":
            _write_blocks(child, text, f"  {bullet}" if bullet else "- ")
            if not bullet:
                text.gap()
        elif name and name not in _SKIPPED:
            _write_blocks(child, text, bullet)


def _words(element: Any) -> str:
    """All words in an element; a line end after each paragraph that it holds."""
    pieces = [element.text or ""]
    for child in element:
        name = local(child)
        if name == "tab":
            pieces.append("\t")
        elif name == "line-break":
            pieces.append("\n")
        elif name == "s":
            count = attribute(child, "c")
            pieces.append(" " * (min(int(count), _WIDEST) if count.isdecimal() and len(count) < 9 else 1))
        elif name == "note":
            pieces.append(
                f" [{' '.join(_words(body).strip() for body in child.iterchildren('{*}note-body'))}]"
            )
        elif name and name not in _SKIPPED:
            pieces.append(_words(child))
            if name in ("p", "h"):
                pieces.append("\n")
        pieces.append(child.tail or "")
    return "".join(pieces)
