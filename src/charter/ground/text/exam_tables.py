"""Tables of exams as data: raw to scaled score of a form, scaled score to percentile of a year's test takers.

A CSV with the columns table (scaled or percentile), exam, section, score, value, source, years, n. A percentile without
its years says nothing, so that a lookup returns one value for each. The shipped file has the few points that
published pages name; a form's table is its owner's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.sources import shipped_folder
from charter.ground.text.columns import raw_rows

SCALED, PERCENTILE = TABLES = ("scaled", "percentile")
COLUMNS = ("table", "exam", "section", "score", "value", "source", "years")


@dataclass(frozen=True, slots=True)
class Entry:
    """One point of a table; `n` test takers, if the source says how many."""

    table: str
    exam: str
    section: str
    score: Fraction
    value: Fraction
    source: str
    years: str
    n: int | None = None

    def describe(self) -> dict[str, Any]:
        """Its fields as JSON."""
        return asdict(self) | {"score": float(self.score), "value": float(self.value)}


def shipped_tables() -> Path:
    """The points that published pages name."""
    return shipped_folder() / "exam_tables.csv"


def read_tables(path: Path) -> list[Entry]:
    """The entries of a CSV. Raises CharterError naming file and line."""
    entries: list[Entry] = []
    seen: set[tuple[object, ...]] = set()
    for place, row in raw_rows(path):
        try:
            entry = _entry(row)
        except KeyError as error:
            raise CharterError(f"{place}: a table needs the column {error.args[0]}") from None
        except ValueError as error:
            raise CharterError(f"{place}: {error}") from None
        key = (entry.table, entry.exam, entry.section, entry.score, entry.years)
        if key in seen:
            raise CharterError(
                f"{place}: the score {row['score']} of {entry.years} has a value already; remove one"
            )
        seen.add(key)
        entries.append(entry)
    return entries


def _entry(row: dict[str, Any]) -> Entry:
    fields = {column: str(row[column] if row[column] is not None else "").strip() for column in COLUMNS}
    if fields["table"] not in TABLES:
        raise ValueError(f"table is {fields['table']!r}, expected {' or '.join(TABLES)}")
    if missing := [column for column in COLUMNS if not fields[column] and column != "section"]:
        raise ValueError(f"{missing[0]} is empty; every value needs its {missing[0]}")
    try:
        score, value = Fraction(fields.pop("score")), Fraction(fields.pop("value"))
        n = int(str(row.get("n") or 0)) or None
    except ValueError:
        raise ValueError("score, value and n must be numbers") from None
    if fields["table"] == PERCENTILE and not 0 <= value <= 100:
        raise ValueError(f"a percentile of {float(value):g}, expected 0 to 100")
    return Entry(**fields, score=score, value=value, n=n)


def look_up(
    entries: Sequence[Entry], table: str, exam: str, section: str, score: float | Fraction
) -> list[Entry]:
    """The entries of a score, one for each years; [] if no table has it. Nothing is interpolated."""
    wanted = (table, exam, section, Fraction(score))
    return [e for e in entries if (e.table, e.exam, e.section, e.score) == wanted]
