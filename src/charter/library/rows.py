"""Rows of a table as Python has them: a list of dicts, a data frame of pandas, or HTML for a notebook."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.extras import need

_SHOWN = 20  # rows of a printed table
_WIDEST, _LINE = 28, 118  # characters of a cell, and of a line


class Rows(list[dict[str, Any]]):
    """Rows of a table; each is a dict, and all have the same meaning in the same key. Printed, they are a table."""

    def __repr__(self) -> str:
        """The first 20 rows as a table of plain text: the columns that fit on a line and hold something."""
        columns = [name for name in self._columns() if any(row.get(name) is not None for row in self[:_SHOWN])]
        cells = [columns, *([_cut(row.get(name)) for name in columns] for row in self[:_SHOWN])]
        widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
        fit = [at for at in range(len(columns)) if sum(widths[: at + 1]) + 2 * at <= _LINE]
        lines = ["  ".join(line[at].ljust(widths[at]) for at in fit).rstrip() for line in cells]
        omissions = [f"the first {_SHOWN} of {len(self)} rows"] if len(self) > _SHOWN else []
        omissions += [f"more columns: {', '.join(columns[len(fit) :])}"] if len(fit) < len(columns) else []
        return "\n".join([*lines, *([f"({'; '.join(omissions)})"] if omissions else [])]) if self else "no rows"

    def _columns(self) -> list[str]:
        return list(dict.fromkeys(key for row in self for key in row))

    def frame(self) -> Any:
        """The rows as a pandas.DataFrame: a column for each key, a line for each row. Raises CharterError without
        pandas."""
        try:
            import pandas
        except ImportError:
            raise CharterError(need("a frame", "frames") + "; the rows are a list of dicts") from None
        return pandas.DataFrame.from_records(self)

    def _repr_html_(self) -> str:
        """A table of the first 20 rows."""
        columns = self._columns()
        return html_table("", columns, [[row.get(key) for key in columns] for row in self[:_SHOWN]], len(self))


def html_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], count: int = 0) -> str:
    """A small table of HTML with everything escaped; `count` says of how many rows these are the first."""
    lines = list(rows)
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(_words(cell))}</td>" for cell in row) + "</tr>" for row in lines)
    heading = f"<p><b>{escape(title)}</b></p>" if title else ""
    omission = f"<p>The first {len(lines)} of {count} rows.</p>" if count > len(lines) else ""
    return f"{heading}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{omission}"


def spell_interval(low: float | None, high: float | None) -> str:
    """'0.08 to 0.17', or nothing without an interval."""
    return "" if low is None or high is None else f"{_words(low)} to {_words(high)}"


def _cut(cell: object) -> str:
    """A cell on one line of at most _WIDEST characters."""
    words = " ".join(_words(cell).split())
    return words if len(words) <= _WIDEST else words[: _WIDEST - 1] + "…"


def _words(cell: object) -> str:
    """A cell in words: numbers with three significant digits, nothing for None."""
    if cell is None:
        return ""
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)
