"""Versions side by side in a terminal: two in groups of gains, losses and the rest, several in a tracker."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]
GROUPS = (
    ("better", "Gains", "green"),
    ("worse", "Losses", "red"),
    ("changed", "Changed, with no direction that is better", "yellow"),
    ("not significant", "Not significant", "dim"),
)
NOT_COMPARED = "not compared: "
MARKS = {"better": "▲", "worse": "▼", "changed": "◆", "not significant": ""}
LEGEND = (
    "▲ better, ▼ worse, ◆ changed since the version before, ≠ not compared; all else is not significant. p is "
    "corrected by Holm over all changes."
)


def compare_view(rows: Sequence[Row]) -> Group:
    """Rows of `card.compare.compare` by verdict, then what was not compared, by reason."""
    table = Table(box=None, pad_edge=False)
    for name in ("", "a", "b", "change", "95 % interval", "prompts", "p (Holm)"):
        table.add_column(name, justify="left" if name in ("", "95 % interval") else "right", no_wrap=True)
    for verdict, title, style in GROUPS:
        members = [row for row in rows if row["verdict"] == verdict]
        if members:
            table.add_row(Text(f"{title} ({len(members)})", style=f"bold {style}"))
        for row in members:
            table.add_row(*_format_row(row))
        if members:
            table.add_row()
    parts = [table] if table.row_count else []
    return Group(*parts, *list_uncompared(rows))


def _format_row(row: Row) -> tuple[str, ...]:
    ends = " to ".join(figure(x) for x in row["interval"])
    marks = " †" if row["unfit"] else ""
    change = ("+" if row["difference"] > 0 else "") + figure(row["difference"])
    name = f"  {row['metric']}{marks}"
    return name, figure(row["a"]), figure(row["b"]), change, ends, str(row["paired"]), figure(row["p_holm"])


def list_uncompared(rows: Sequence[Row]) -> list[Text]:
    """A line for each reason why rows are not compared, and the meaning of † if a row has it."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["verdict"].startswith(NOT_COMPARED):
            reasons.setdefault(row["verdict"].removeprefix(NOT_COMPARED), []).append(row["metric"])
    lines = [Text(f"Not compared ({sum(map(len, reasons.values()))})", style="bold")] if reasons else []
    lines += [Text(f"  {why}: {', '.join(names)}") for why, names in reasons.items()]
    if any(row["unfit"] for row in rows):
        lines.append(Text("† by a grader that failed its fitness gate", style="dim"))
    return lines


def track_view(versions: Sequence[str], rows: Sequence[Row]) -> Group:
    """Every metric at every version, marked if it moved since the version before; drops are red."""
    table = Table(box=None, pad_edge=False)
    table.add_column("metric", no_wrap=True)
    for name in versions:
        table.add_column(name, justify="right")
    table.add_column("first to last", justify="right")
    for row in rows:
        marks = ["", *(_mark(step) for step in row["steps"])]
        cells = [f"{figure(v)} {m or ' '}" for v, m in zip(row["values"], marks, strict=True)]
        overall = row["overall"]
        last = (
            "-" if overall["difference"] is None else f"{overall['difference']:+.3g} {_mark(overall) or ' '}"
        )
        table.add_row(row["metric"], *cells, last, style="red" if row["dropped"] else "")
    dropped = [row["metric"] for row in rows if row["dropped"]]
    verdict = f"Dropped: {', '.join(dropped)}" if dropped else "Nothing dropped."
    return Group(table, Text(), Text(verdict, style="bold"), Text(LEGEND, style="dim"))


def _mark(row: Row) -> str:
    """The sign of a verdict; nothing if neither side has the metric."""
    if row["a"] is None and row["b"] is None:
        return ""
    return MARKS.get(row["verdict"], "≠") + ("†" if row["unfit"] else "")


def figure(value: float | None) -> str:
    """Three significant digits, or - for nothing."""
    if value is None:
        return "-"
    return "0" if abs(value) < 1e-9 else f"{value:.3g}"
