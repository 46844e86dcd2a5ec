"""The report page: one self-contained HTML file about the kept and the dropped documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from charter.ground.measure.paper import style_sheet
from charter.ground.measure.plots import SERIES, bars, canvas, inline
from charter.rooms.corpus.counting import UNKNOWN_YEAR

HERE = Path(__file__).parent
_MOST_BARS = 10
_TITLES = {
    "language": "By language",
    "source": "By source",
    "licence": "By licence",
    "year": "By year",
    "kind": "By kind",
}
# The known order of the tests for each reason; those of quality come between.
_FIRST = (
    *("unreadable", "damaged", "binary", "too_large", "broken_utf8", "broken_row", "no_text", "empty"),
    *("broken_date", "undated", "after_cutoff", "language", "no_words"),
)
_LAST = ("contaminated", "exact_copy", "near_copy", "share")

Rows = Sequence[tuple[str, Any]]


def write_page(
    whole: Mapping[str, Any], counts: Mapping[str, float], samples: Sequence[Mapping[str, Any]]
) -> str:
    """The page for `composition.json` and `counts.json`, with some documents."""
    by = whole["by"]
    heldout = counts["documents_heldout"]
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            css=style_sheet(HERE / "report.css"),
            whole=whole,
            counts=counts,
            samples=samples,
            plots=[
                _plot(name, groups)
                for name in ("language", "source", "year")
                if len(groups := _drop_empty(by[name])) > 1
            ],
            tables=[(title, _largest(_drop_empty(by[name]), name)) for name, title in _TITLES.items()],
            dropped=sorted(whole["dropped"].items(), key=lambda pair: _place(pair[0])),
            heads=[
                ("documents kept", _percent(counts["kept_share"])),
                ("bytes kept", _percent(counts["kept_bytes_share"])),
                ("bytes", short(counts["bytes"])),
                ("languages", _exact(len(by["language"]))),
                ("documents held out", _exact(heldout)),
                ("tokens a word", f"{counts['tokens_per_word']:.2f}"),
                ("bytes a token", f"{1 / counts['tokens_per_byte']:.2f}"),
            ],
            lists=[
                (
                    f"Placeholders written for personal data, in {_exact(counts['personal_documents'])} documents "
                    "before copies were dropped",
                    "kind",
                    list(whole["personal"].items()),
                    "No personal data was found.",
                ),
                (
                    "Documents dropped because they share a run of 13 words with a benchmark's item",
                    "benchmark",
                    sorted(whole["contaminated"].items(), key=lambda pair: (-pair[1], pair[0])),
                    "No document holds an item of a benchmark.",
                ),
            ],
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "exact": _exact,
        "short": short,
        "percent": _percent,
        "over": lambda a, b: f"{a / b:.2f}" if b else "-",
        "spoken": lambda reason: reason.replace("_", " "),
        "first_upper": lambda text: text[:1].upper() + text[1:],
    }
    return environment


def _drop_empty(groups: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """The groups with selected documents."""
    return {name: group for name, group in groups.items() if group.get("bytes")}


def _largest(groups: Mapping[str, Mapping[str, float]], name: str) -> Rows:
    """The groups: years in order, others with the largest first."""
    if name == "year":
        return sorted(groups.items(), key=lambda pair: (pair[0] == UNKNOWN_YEAR, pair[0]))
    return sorted(groups.items(), key=lambda pair: (-pair[1]["tokens"], pair[0]))


def _plot(name: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Bars of megabytes for the largest groups, or for years in order."""
    rows = list(_largest(groups, name))
    top = rows[-_MOST_BARS:] if name == "year" else rows[:_MOST_BARS]
    figure, (axes,) = canvas(4.0, 0.6 + 0.24 * max(2, len(top)))
    bars(axes, [label for label, _ in top], [("MB", [g["bytes"] / 1e6 for _, g in top], SERIES[0])])
    part = f", {len(top)} of {len(rows)}" if len(top) < len(rows) else ""
    axes.set_title(f"{_TITLES[name]}, MB{part}", loc="left", fontsize=8.5, fontweight="bold")
    words = "; ".join(f"{label} {g['bytes'] / 1e6:.1f} MB" for label, g in top)
    return inline(figure, f"by-{name}", _TITLES[name], words)


def _place(reason: str) -> tuple[int, int | str]:
    for group, reasons in ((0, _FIRST), (2, _LAST)):
        if reason in reasons:
            return group, reasons.index(reason)
    return 1, reason


def _exact(value: float) -> str:
    return f"{value:,.0f}"


def short(value: float) -> str:
    """A number of at most four digits, with its prefix: 63.0 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:,.1f} {unit}"
    return f"{value:,.0f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
