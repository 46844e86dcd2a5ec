"""Tables of the pages: as Markdown between a page's markers, and whole as CSV files beside a page.

A page shows a few rows of a file. Every number is in the file, so that a page can be made again without its runs.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.reports.number import figure

Card = Mapping[str, Any]
Row = dict[str, str]


def between(text: str, name: str, content: str) -> str:
    """The text of a page with the part between the markers of that name replaced. Raises CharterError without them."""
    pattern = re.compile(rf"(<!-- {name}:start -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise CharterError(f"a page needs one pair of markers <!-- {name}:start --> and <!-- {name}:end -->")
    return pattern.sub(lambda found: f"{found.group(1)}{content.strip()}\n{found.group(2)}", text)


def read_card(run: Path) -> tuple[Path, Card]:
    """The folder and content of the run's card. Raises CharterError where there is none."""
    found = sorted(run.glob("*/card.json"))
    if len(found) != 1:
        raise CharterError(f"{run} has {len(found)} cards; give a finished run with one card step")
    content: Card = json.loads(found[0].read_text("utf-8"))
    return found[0].parent, content


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table; all columns but the first `left` stand right."""
    rules = "---|" * left + "---:|" * (len(heads) - left)
    return "\n".join([line(heads), f"|{rules}", *(line(row) for row in rows)])


def line(cells: Sequence[str]) -> str:
    """A row of a Markdown table; an empty cell is one blank."""
    return f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in cells)}|"


def tables_of(text: str) -> Iterator[tuple[str, list[list[str]]]]:
    """The Markdown tables of a text: the bold words before each, and its rows, heads first."""
    title, rows = "", list[list[str]]()
    for text_line in [*text.splitlines(), ""]:
        if text_line.startswith("|"):
            if not re.fullmatch(r"\|[\s:|-]+\|", text_line):
                rows.append([cell.strip() for cell in text_line.strip()[1:-1].split("|")])
            continue
        if rows:
            yield title, rows
            rows = []
        if bold := re.match(r"\*\*(.+?)\.?\*\*", text_line):
            title = bold[1]


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV file by the names of its columns. Raises CharterError where there is none."""
    if not path.is_file():
        raise CharterError(f"there is no {path.name}; give a finished run")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Writes a CSV file with these columns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.getvalue(), "utf-8")


def with_ends(value: str, low: str, high: str) -> str:
    """A value with its ends in brackets, or alone if they are equal: `75.0 % (70.0 to 80.0)`."""
    return value if low == high else f"{value} ({low.removesuffix(' %')} to {high.removesuffix(' %')})"


def spread(values: Sequence[float], unit: str) -> str:
    """The mean of values, with the lowest and the highest in brackets if they differ."""
    return with_ends(*(figure(v, unit) for v in (fmean(values), min(values), max(values))))
