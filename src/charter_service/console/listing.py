"""Listings: rows of one kind, and the columns, charts by day and comma-separated tables that show them.

A row is a mapping, the same for all faces: the terminal and spreadsheets show its columns, pages and programs its
fields. It has the names of what it belongs to, and its times in RFC 3339.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

from rich.table import Table
from rich.text import Text
from starlette.responses import Response, StreamingResponse

from charter.terminal.tables import console, plain_table
from charter_service.accounts.cases import Case
from charter_service.accounts.decisions import Decision
from charter_service.accounts.grants import Grant
from charter_service.accounts.keys import Key, KeyLimits
from charter_service.accounts.standings import Change
from charter_service.accounts.usage import DayUsage
from charter_service.api.wire.answers import rfc3339

Row = Mapping[str, Any]
Cell = str | Callable[[Row], object]  # the name of a field, or what is made of a row
LONG = 60  # characters of a text in a table
HEIGHT, STEP = 120, 16  # of a chart, in its own units
AT_A_TIME = 500  # rows
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
LIMITS = tuple(field.name for field in fields(KeyLimits))
Names = Mapping[str, str]  # of organisations, by id


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows of one kind: their columns by the heads of a table, those of `numbers` on the right, and the words for no
    rows."""

    none: str
    columns: Mapping[str, Cell]
    numbers: Mapping[str, Cell] = field(default_factory=dict)

    def table(self, rows: Collection[Row]) -> Table:
        """Rows for a terminal. Users' text is neither read as markup nor able to steer the terminal."""
        table = plain_table(tuple(self.columns), tuple(self.numbers))
        cells = (*self.columns.values(), *self.numbers.values())
        for row in rows:
            values = (row[cell] if isinstance(cell, str) else cell(row) for cell in cells)
            table.add_row(*(Text(plain(str(value))) for value in values))
        return table

    def show(self, rows: Collection[Row]) -> None:
        """Prints rows as a table, or the words for none."""
        if rows:
            console().print(self.table(rows))
        else:
            print(self.none)


def named(row: Row, names: Mapping[str, str]) -> dict[str, Any]:
    """A row with the name of its organisation, "" for one that is unknown."""
    return {**row, "organisation_name": names.get(row["organisation"], "")}


def timed(row: Row, *times: str) -> dict[str, Any]:
    """A row whose times, in seconds since 1970 or None, are written in RFC 3339."""
    return {**row, **{name: rfc3339(row[name]) for name in times}}


def print_json(value: Any) -> None:
    """A line of JSON."""
    print(json.dumps(value, ensure_ascii=False))


def plain(text: str) -> str:
    """A text without control characters for terminals."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def short(text: str) -> str:
    """A text as one line of a table."""
    line = " ".join(text.split())
    return line if len(line) <= LONG else line[: LONG - 1] + "…"


def when(at: float) -> str:
    """A time to the minute (UTC)."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def day(at: float | None) -> str:
    """A day (UTC), - for none."""
    return "-" if at is None else datetime.fromtimestamp(at, UTC).date().isoformat()


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
        read_height = HEIGHT * above / most if most else 0.0
        drawn.append(
            {
                "x": place * STEP,
                "day": day.isoformat(),
                "wrote": round(wrote, 2),
                "read": round(read_height, 2),
                "wrote_y": round(HEIGHT - wrote, 2),
                "read_y": round(HEIGHT - wrote - read_height, 2),
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


def key_row(key: Key) -> dict[str, Any]:
    """A key, without its secret."""
    caller = key.caller
    return {
        "id": caller.key,
        "name": caller.name,
        "organisation": key.organisation,
        "organisation_id": caller.organisation,
        "hint": key.hint,
        "scopes": list(caller.scopes),
        "models": list(caller.models),
        "limits": asdict(caller.limits),
        "state": key.state(),
        "created": rfc3339(key.created),
        "expires": rfc3339(key.expires),
        "revoked": rfc3339(key.revoked),
        "used": rfc3339(key.used),
        "former_until": rfc3339(key.former_until) if (key.former_until or 0) > time.time() else None,
    }


def usage_row(used: DayUsage) -> dict[str, Any]:
    """What a key used of a model on a day."""
    facts = asdict(used)
    counts: dict[str, Any] = facts.pop("counts")
    return facts | counts


def decision_row(decision: Decision, names: Names) -> dict[str, Any]:
    """A decision, and whether a classifier was asked."""
    return {**named(timed(decision.row(), "at"), names), "checked": decision.entry.checked}


def case_row(case: Case, names: Names) -> dict[str, Any]:
    """A case for a list: whether it has a content, but not the content itself."""
    return named({**timed(case.row(), "created", "closed"), "content": bool(case.content)}, names)


def change_row(change: Change) -> dict[str, Any]:
    """A change of an account's level."""
    return timed(change.row(), "at")


def grant_row(grant: Grant) -> dict[str, Any]:
    """A release or an exemption, and whether it is in force."""
    times = ("created", "until", "used", "revoked")
    return {**timed(grant.row(), *times), "state": grant.state(time.time())}


def request_row(row: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """A request's figures."""
    return named(timed({name: value for name, value in row.items() if name != "number"}, "at"), names)
