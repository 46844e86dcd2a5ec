"""Exam papers as people bring them: JSONL, CSV, a text, or a PDF with a text layer."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.recognise import ROW_ENDINGS
from charter.ground.text.columns import raw_rows
from charter.ground.text.exam_import import import_exam, with_source
from charter.ground.text.exam_items import item_row
from charter.ground.text.exam_papers import read_paper
from charter.ground.text.jsonl import read_text, write_jsonl

TEXTS = (".txt", ".md", ".text")
REPORT = ".report.md"


def write_exam(path: Path, to: Path, exam: str, pictures: Path | None) -> str:
    """Writes the items of a paper to `to`, and beside it the outcome of each; returns the lines to print. Raises
    CharterError at what can't be read."""
    imported = with_source(import_exam(_rows(path), exam, _described(pictures)), path.name)
    report = to.with_name(f"{to.name.partition('.')[0]}{REPORT}")
    write_jsonl(to, [item_row(item) for item in imported.items])
    report.write_text(imported.report(), "utf-8")
    return f"{to}: {len(imported.items)} items: {imported.summary}\n  the outcome of each: {report}"


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.suffix.lower() == ".pdf":
        text = _pdf_text(path)
    elif path.suffix.lower() in TEXTS:
        text = read_text(path)
    elif path.name.endswith(ROW_ENDINGS):
        yield from ((place, {"number": n} | row) for n, (place, row) in enumerate(raw_rows(path), 1))
        return
    else:
        raise CharterError(f"{path} is no exam paper that can be read; give JSONL, CSV, a text or a PDF")
    for row in read_paper(text):
        where = f"page {row['page']}, " if row["page"] else ""
        yield f"{path}: {where}question {row['number']}", row


def _pdf_text(path: Path) -> str:
    from charter.ground.documents.document import Unreadable
    from charter.ground.documents.reading import read_document

    try:
        return read_document(path.read_bytes(), path.name).text
    except Unreadable as error:
        raise CharterError(f"{path}: {error}") from None


def _described(path: Path | None) -> dict[str, str]:
    """What a person says of pictures, by item. Raises CharterError for a row without id or text."""
    described: dict[str, str] = {}
    for place, row in raw_rows(path) if path else ():
        if not row.get("id") or not str(row.get("text") or "").strip():
            raise CharterError(
                f"{place}: a description needs id, the item's, and text; it has {', '.join(row)}"
            )
        described[str(row["id"])] = str(row["text"])
    return described
