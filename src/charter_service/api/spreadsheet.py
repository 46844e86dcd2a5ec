"""Tables of admin pages as comma-separated values, for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from starlette.responses import Response, StreamingResponse

AT_A_TIME = 500  # rows
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def spreadsheet(name: str, header: Sequence[str], rows: Iterable[Iterable[object]]) -> Response:
    """A file to download, sent while its rows are read. A text that a spreadsheet would read as a formula gets an
    apostrophe before it."""
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    lines = _lines(header, rows)
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)


def _lines(header: Sequence[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    for number, row in enumerate(rows, 1):
        writer.writerow([_harmless(value) for value in row])
        if number % AT_A_TIME == 0:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA) else value
