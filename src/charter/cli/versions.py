"""Versions side by side in a terminal: two with their changes, several in a tracker; the most important rows first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]
Comparison = Mapping[str, Any]  # as `ground.reports.compare` gives it
NOT_COMPARED = "not compared: "
SIGNS = {"better": "▲", "worse": "▼", "changed": "◆", "not significant": ""}
STYLES = {"better": "green", "worse": "red", "changed": "yellow"}
ARROWS = {"lower": " ↓", "higher": " ↑", "zero": " → 0"}
# What went the worse or the better way, though not significantly.
SLIGHT = {"drop": "▽", "gain": "△"}
SLIGHTLY = "▽ worse, not significant, △ better, not significant"
MOST = 3  # labels named of the rows that are only slightly worse
SAME = "These are the same card: nothing to compare."
UNFIT = "† by a grader that failed its fitness gate, or is unfit for harm"


def compare_view(comparison: Comparison, everything: bool) -> Group:
    """Two versions: the headline rows and what got worse, or `everything`; then what is worse though not significantly,
    and what was not compared, by reason."""
    if comparison["same"]:
        return Group(Text(SAME, style="bold"))
    compared = [row for row in comparison["metrics"] if not row["verdict"].startswith(NOT_COMPARED)]
    listed = [row for row in compared if everything or row["headline"] or row["regression"]]
    first, last = comparison["versions"]
    table = Table(box=None, pad_edge=False)
    heads = (("", "left"), ("", "left"), (f"{first} → {last}", "right"), ("change", "left"), ("n", "left"))
    for title, justify in heads:
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for row in listed:
        before, after, change = row["words"]
        size = row["size"].replace("n ", "")
        cells = _mark(row), _name(row, everything), f"{before} → {after}", change, size
        table.add_row(*cells, style=STYLES.get(row["verdict"], ""))
    hidden = [row for row in compared if row not in listed]
    return Group(
        *([table] if listed else []),
        *_slightly_worse(hidden),
        *_left_out(hidden),
        *list_uncompared(comparison["metrics"], everything),
        *_legend(comparison, f"▲ better, ▼ worse, ◆ changed, {SLIGHTLY}."),
    )


def track_view(comparison: Comparison, everything: bool) -> Group:
    """Every metric at every version, marked if it moved since the version before; what got worse is red."""
    if comparison["same"]:
        return Group(Text(SAME, style="bold"))
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in comparison["versions"]:
        table.add_column(name, justify="right")
    table.add_column("first to last")
    table.add_column("n", justify="right")
    rows = comparison["metrics"]
    listed = [row for row in rows if everything or row["headline"] or row["dropped"]]
    for row in listed:
        marks = ["", *(_sign(step) for step in row["steps"])]
        cells = [f"{words or '-'} {mark or ' '}" for words, mark in zip(row["words"], marks, strict=True)]
        change = row["overall"]["words"][2].partition(" (")[0]
        last = f"{change or '-'} {_sign(row['overall'])}"
        sizes = [_span(sorted({n for n in row["n"] if n is not None}))]
        table.add_row(_name(row, everything), *cells, last, *sizes, style="red" if row["dropped"] else "")
    dropped = [row["label"] for row in rows if row["dropped"]]
    verdict = f"Got worse: {', '.join(dropped)}" if dropped else "Nothing got significantly worse."
    hidden = [row for row in rows if row not in listed]
    return Group(
        table,
        Text(),
        Text(verdict, style="bold"),
        *_slightly_worse(rows),
        *([Text(f"{_rows(hidden)}: --all shows them")] if hidden else []),
        *_legend(comparison, f"Since the version before: ▲ better, ▼ worse, {SLIGHTLY}, ◆ changed, ≠ not compared."),
    )


def _name(row: Row, everything: bool) -> str:
    """The label of a row with its arrow; with everything, the metric's name, which other commands take."""
    name = f" ({row['metric']})" if everything else ""
    return f"{row['label']}{ARROWS.get(row['better'], '')}{' †' if row.get('unfit') else ''}{name}"


def _sign(row: Row) -> str:
    """The sign of a verdict; nothing if neither side has the metric."""
    if row["a"] is None and row["b"] is None:
        return ""
    return _mark(row) + ("†" if row["unfit"] else "")


def _mark(row: Row) -> str:
    slight = next((sign for way, sign in SLIGHT.items() if row[way] == "any"), "")
    return slight or SIGNS.get(row["verdict"], "≠")


def _slightly_worse(rows: Sequence[Row]) -> list[Text]:
    """A line on the rows that got worse, though not significantly: how many, and the most important ones."""
    labels = [row["label"] for row in rows if row["drop"] == "any"]
    if not labels:
        return []
    more = f" and {len(labels) - MOST} more" if len(labels) > MOST else ""
    return [Text(f"{SLIGHT['drop']} Worse, not significant: {', '.join(labels[:MOST])}{more}")]


def _rows(rows: Sequence[Row]) -> str:
    return f"{len(rows)} more row{'s' if len(rows) > 1 else ''}"


def _left_out(rows: Sequence[Row]) -> list[Text]:
    """How many rows are not shown, by verdict."""
    if not rows:
        return []
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in SIGNS}
    listed = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return [Text(f"{_rows(rows)} ({listed}): --all shows them")]


def list_uncompared(rows: Iterable[Row], everything: bool) -> list[Text]:
    """A line for each reason why rows are not compared."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["verdict"].startswith(NOT_COMPARED):
            reasons.setdefault(row["verdict"].removeprefix(NOT_COMPARED), []).append(row["metric"])
    lines = [Text(f"Not compared ({sum(map(len, reasons.values()))})", style="bold")] if reasons else []
    for why, names in reasons.items():
        listed = names if everything else names[:3]
        more = f" and {len(names) - len(listed)} more" if len(names) > len(listed) else ""
        lines.append(Text(f"  {why}: {', '.join(listed)}{more}"))
    return lines


def _span(sizes: Sequence[int]) -> str:
    if not sizes:
        return ""
    return f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"


def _legend(comparison: Comparison, signs: str) -> list[Text]:
    """What the signs mean, and over which numbers p is corrected."""
    heads, further = (sorted(set(sizes)) for sizes in zip(*comparison["corrected_over"], strict=True))
    if not heads[-1]:
        return []
    unfit = any(
        row.get("unfit") or any(step["unfit"] for step in row.get("steps", ())) for row in comparison["metrics"]
    )
    words = (
        f"{signs} Significant: the paired 95 % interval leaves out 0, and p is below 0.05 after Holm's correction over "
        f"the headline numbers ({_span(heads)}), for other rows over all others ({_span(further)})."
    )
    return [Text(words, style="dim"), *([Text(UNFIT, style="dim")] if unfit else [])]
