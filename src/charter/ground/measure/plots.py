"""Plots as SVG text: the same data give the same bytes. Plots fit light and dark pages, paper and phones.

Figures use matplotlib's own objects (no pyplot, no global state). `inline` returns an element for an HTML page: text
stays text, the ink is `currentColor`, every other colour is a CSS variable with a light default, and the background is
transparent. There is no date, no random id and no external reference. `standalone` returns the same as a file that
picks light or dark by itself.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

INK, MUTED, GRID, PAPER = "#101112", "#6a6a65", "#e3e1da", "#fefdfc"
SERIES = ("#2f5d8c", "#b5562f", "#5b7d4e", "#80609a")
_CSS = {
    INK: "currentColor",
    MUTED: f"var(--plot-muted, {MUTED})",
    GRID: f"var(--plot-grid, {GRID})",
    PAPER: f"var(--plot-paper, {PAPER})",
    **{colour: f"var(--plot-{i}, {colour})" for i, colour in enumerate(SERIES, 1)},
}
_DARK = "--plot-muted:#9b988f;--plot-grid:#393733;--plot-paper:#181715;" + "".join(
    f"--plot-{i}:{colour};" for i, colour in enumerate(("#8db7e6", "#e39a70", "#9cc48b", "#c0a2da"), 1)
)
_FONT = "system-ui, sans-serif"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "charter",
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.edgecolor": GRID,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@dataclass(frozen=True, slots=True)
class Point:
    """A value with its interval; None bounds draw no whisker."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one kind, one per axis label (None: not measured)."""

    name: str
    points: Sequence[Point | None]
    colour: str = SERIES[0]
    hollow: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One curve; x and y in order of the steps."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = SERIES[0]
    dashed: bool = False


def canvas(
    width: float, height: float, rows: int = 1, columns: int = 1, gap: float = 0.02
) -> tuple[Figure, list[Axes]]:
    """A figure of width x height inches with rows x columns axes, in reading order. gap: least space between columns,
    as a share of an axis's width."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=gap))
        grid = figure.subplots(rows, columns, squeeze=False)
    return figure, [axes for line in grid for axes in line]


@matplotlib.rc_context(STYLE)
def forest(
    axes: Axes,
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    title: str = "",
    percent: bool = True,
    log: bool = False,
) -> None:
    """Rows of dots with their intervals, first label on top; several series are stacked within a row.

    A log axis can't show 0, so it is drawn as an arrow at the left edge.
    """
    step = min(0.24, 0.66 / max(1, len(series)))
    points = [p for s in series for p in s.points if p is not None]
    floor = _floor(points) if log else -math.inf
    size = 6.0 if len(series) < 3 and len(labels) < 20 else 4.4
    for number, s in enumerate(series):
        shift = (number - (len(series) - 1) / 2) * step
        in_legend = False
        for row, point in enumerate(s.points):
            if point is None:
                continue
            name = s.name if not in_legend else "_"
            in_legend = True
            _dot(axes, point, row + shift, s, floor, name, size)
    axes.set_yticks(range(len(labels)), list(labels))
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_title(title)
    if log:
        axes.set_xscale("log")
        axes.set_xlim(floor, 1.1)
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif percent:
        axes.set_xlim(-0.02, 1.02)
    if percent:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g} %"))
    if len([s for s in series if s.name]) > 1:
        # right-aligned, so it may extend over long labels
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1.0), ncols=len(series), handletextpad=0.3, borderpad=0)


def _floor(points: Sequence[Point]) -> float:
    positive = [x for p in points for x in (p.value, p.low, p.high) if x is not None and x > 0]
    return min([0.01, *(x / 1.5 for x in positive)])


def _dot(axes: Axes, point: Point, y: float, series: Series, floor: float, name: str, size: float) -> None:
    if point.low is not None and point.high is not None:
        ends = [max(point.low, floor), max(point.high, floor)]
        axes.plot(ends, [y, y], color=series.colour, linewidth=1.6, alpha=0.55, solid_capstyle="butt")
    fill = PAPER if series.hollow else series.colour
    off = floor > 0 and point.value < floor
    axes.plot(
        [max(point.value, floor)],
        [y],
        "<" if off else "o",
        color=series.colour,
        markerfacecolor=fill,
        markersize=size,
        markeredgewidth=1.4,
        label=name,
        clip_on=False,
        linestyle="none",
    )


def rule(axes: Axes, *at: float) -> None:
    """Dashed vertical lines, such as chance, a bound, or no lean."""
    for x in at:
        axes.axvline(x, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)), zorder=0.9)


@matplotlib.rc_context(STYLE)
def legend(figure: Figure, series: Sequence[Series], columns: int) -> None:
    """One legend for a whole figure, above its panels; none for a single series."""
    if len(series) < 2:
        return
    marks = [
        Line2D(
            [],
            [],
            color=s.colour,
            marker="o",
            linestyle="none",
            markersize=5,
            markeredgewidth=1.4,
            markerfacecolor=PAPER if s.hollow else s.colour,
            label=s.name,
        )
        for s in series
    ]
    spacing = {"handletextpad": 0.2, "columnspacing": 1.2, "borderpad": 0, "borderaxespad": 0.2}
    figure.legend(handles=marks, loc="outside upper left", ncols=columns, **spacing)


@matplotlib.rc_context(STYLE)
def dumbbell(axes: Axes, labels: Sequence[str], first: Series, second: Series) -> None:
    """Two dots per row and the gap between them: the longer the bar, the better the model separates the two."""
    for row, (a, b) in enumerate(zip(first.points, second.points, strict=True)):
        if a is not None and b is not None:
            axes.plot([a.value, b.value], [row, row], color=GRID, linewidth=7, solid_capstyle="round")
    forest(axes, labels, (first, second))


@matplotlib.rc_context(STYLE)
def curves(axes: Axes, title: str, lines: Sequence[Line], x_label: str, percent: bool = False) -> None:
    """Curves over a shared x; a legend only for several."""
    for line in lines:
        style = (0, (3, 2)) if line.dashed else "solid"
        axes.plot(line.x, line.y, color=line.colour, linewidth=1.5, linestyle=style, label=line.name)
        if line.x:
            axes.plot(line.x[-1:], line.y[-1:], "o", color=line.colour, markersize=3.2, clip_on=False)
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=x_label == "step"))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if percent:
        axes.set_ylim(0.0, max(0.05, axes.get_ylim()[1]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g} %"))
    if len(lines) > 1:
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.22 * (high - low))  # room for the names above the curves
        spacing = {"handlelength": 1.3, "columnspacing": 1.0, "handletextpad": 0.4, "borderaxespad": 0.1}
        axes.legend(loc="upper left", ncols=len(lines), **spacing)
    if percent:
        axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= min(1.0, axes.get_ylim()[1])])


@matplotlib.rc_context(STYLE)
def reliability(
    axes: Axes,
    title: str,
    bins: Sequence[tuple[float, Point, int]],
    x_label: str = "stated confidence",
    y_label: str = "pairs ranked right",
    span: tuple[float, float] | None = None,
) -> None:
    """Calibration: (predicted, observed, count) per bin, against the diagonal. Confidences against shares, or ratings
    on the scale `span`."""
    low, high = span or (0.5, 1.0)
    axes.plot([low, high], [low, high], color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
    for confidence, point, _ in bins:
        if point.low is not None and point.high is not None:
            axes.plot([confidence] * 2, [point.low, point.high], color=SERIES[0], linewidth=1.6, alpha=0.55)
    axes.plot(
        [c for c, _, _ in bins], [p.value for _, p, _ in bins], "o-", color=SERIES[0], markersize=5, linewidth=1.1
    )
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    edge = 0.04 * (high - low)
    axes.set_xlim(low - edge, high + edge)
    lowest = [p.low - 0.03 for _, p, _ in bins if p.low is not None]
    axes.set_ylim(low - edge if span else min([0.35, *lowest]), high + edge)
    axes.grid()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6))
        if span is None:
            axis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g} %"))


@matplotlib.rc_context(STYLE)
def bars(axes: Axes, labels: Sequence[str], parts: Sequence[tuple[str, Sequence[float], str]]) -> None:
    """Horizontal bars, stacked by part (name, one value per label, colour)."""
    starts = [0.0] * len(labels)
    for name, values, colour in parts:
        axes.barh(range(len(labels)), list(values), left=starts, height=0.62, color=colour, label=name, linewidth=0)
        starts = [a + b for a, b in zip(starts, values, strict=True)]
    axes.set_yticks(range(len(labels)), list(labels))
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if len(parts) > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(parts), handlelength=1.0, borderpad=0)


def inline(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an <svg> element for a page; `name` prefixes its ids, so they differ from those of other
    figures."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _clean(buffer.getvalue(), name, title, description)


def _clean(text: str, name: str, title: str, description: str) -> str:
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    references = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))
    text = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in references else "", text)
    text = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{name}-", text)
    # one line for all in matplotlib up to 3.10
    text = re.sub(
        r"font: (?:(\d+) )?([\d.]+px) [^;\"]+",
        lambda m: (f"font-weight: {m[1]}; " if m[1] else "") + f"font-size: {m[2]}; font-family: {_FONT}",
        text,
    )
    text = re.sub(r"font-family: [^;\"]+", f"font-family: {_FONT}", text)
    for colour, css in _CSS.items():
        text = text.replace(colour, css)
    box = re.search(r'viewBox="([^"]+)"', text)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box[1] if box else ""}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    )
    return head + text[text.index(">") + 1 :]


def standalone(svg: str) -> str:
    """An inline figure as a separate file that follows the reader's light or dark setting."""
    style = (
        "<style>svg{color:#1d1d1b;background:none}"
        f"@media (prefers-color-scheme:dark){{svg{{color:#e9e7e1;{_DARK}}}}}</style>"
    )
    at = svg.index(">") + 1
    return '<?xml version="1.0" encoding="utf-8"?>\n' + svg[:at] + style + svg[at:] + "\n"


def strip(points: Sequence[Point], name: str, title: str, limits: tuple[float, float]) -> str:
    """A word-sized plot: first point hollow, last one filled, each with its interval, and an arc between them."""
    width, height, low, high = 220.0, 26.0, *limits
    span = (high - low) or 1.0

    def x(value: float) -> str:
        return f"{6 + (width - 12) * min(1.0, max(0.0, (value - low) / span)):.1f}"

    parts = [f'<line x1="6" x2="{width - 6:g}" y1="20" y2="20" stroke="{_CSS[GRID]}" stroke-width="1"/>']
    first, last = points[0], points[-1]
    grey, colour, paper = _CSS[MUTED], _CSS[SERIES[0]], _CSS[PAPER]
    for point, stroke in ((first, grey), (last, colour)):
        if point.low is not None and point.high is not None:
            parts.append(
                f'<line x1="{x(point.low)}" x2="{x(point.high)}" y1="20" y2="20" stroke="{stroke}" '
                'stroke-width="3" stroke-opacity="0.45"/>'
            )
    parts.append(
        f'<path d="M{x(first.value)} 15 C{x(first.value)} 2 {x(last.value)} 2 {x(last.value)} 13" '
        f'fill="none" stroke="{grey}" stroke-width="1" stroke-dasharray="2 2"/>'
        f'<circle cx="{x(first.value)}" cy="20" r="4" fill="{paper}" stroke="{grey}" stroke-width="1.5"/>'
        f'<circle cx="{x(last.value)}" cy="20" r="4.5" fill="{colour}"/>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-labelledby="{name}-title"><title id="{name}-title">{escape(title)}</title>'
        f"{''.join(parts)}</svg>"
    )
