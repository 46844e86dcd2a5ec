"""Charts of counts by day, and tables as comma-separated values for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from starlette.responses import Response, StreamingResponse

HEIGHT, STEP = 120, 16  # of a chart, in its own units
AT_A_TIME = 500  # rows
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def chart(since: date, until: date, counts: Iterable[tuple[str, int, int]]) -> dict[str, Any]:
    """Bars of two counts a day, each summed, from (day, lower, upper): `wrote` below, `read` above."""
    lower, upper = Counter[str](), Counter[str]()
    for day, below, above in counts:
        lower[day] += below
        upper[day] += above
    return bars([since + timedelta(n) for n in range((until - since).days + 1)], lower, upper)


def bars(days: Sequence[date], lower: Mapping[str, int], upper: Mapping[str, int]) -> dict[str, Any]:
    """Bars of two counts a day, one on the other, in the chart's own units."""
    totals = [(lower.get(day.isoformat(), 0), upper.get(day.isoformat(), 0)) for day in days]
    most = max((below + above for below, above in totals), default=0)
    drawn = []
    for place, (day, (below, above)) in enumerate(zip(days, totals, strict=True)):
        wrote = HEIGHT * below / most if most else 0.0
        read = HEIGHT * above / most if most else 0.0
        drawn.append(
            {
                "x": place * STEP,
                "day": day.isoformat(),
                "wrote": round(wrote, 2),
                "read": round(read, 2),
                "wrote_y": round(HEIGHT - wrote, 2),
                "read_y": round(HEIGHT - wrote - read, 2),
                "lower": below,
                "upper": above,
            }
        )
    return {"bars": drawn, "width": STEP * len(days), "height": HEIGHT, "most": most}


def spreadsheet(name: str, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> Response:
    """A file of some fields of rows to download, sent while the rows are read. A text that a spreadsheet would read as
    a formula gets an apostrophe before it."""
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(csv_of(columns, rows), media_type="text/csv; charset=utf-8", headers=headers)


def csv_of(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """The text of a spreadsheet, in pieces."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for number, row in enumerate(rows, 1):
        writer.writerow([_harmless(row[name]) for name in columns])
        if number % AT_A_TIME == 0:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA) else value
