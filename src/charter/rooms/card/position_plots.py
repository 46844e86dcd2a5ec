"""Drawings for long texts: loss by position on two log axes, and a grid of shares by length and depth.

As in `plots`, equal data give equal bytes, and colours follow the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from charter.ground.measure.plots import GRID, INK, MUTED, PAPER, SERIES, STYLE, Line, Series

# Opacity of a share of 1: text on it stays readable in light and in dark.
DEEPEST = 0.5
# Factor between the x of series that share a position.
APART = 1.07


def tokens(count: float) -> str:
    """A number of tokens as axes show it: 512, 2K, 128K; 200,000 is 200K."""
    if count < 1024:
        return f"{count:g}"
    return f"{count / 1024:g}K" if count % 512 == 0 else f"{count / 1000:g}K"


@matplotlib.rc_context(STYLE)
def falling(axes: Axes, x: Sequence[float], series: Sequence[Series], fits: Sequence[Line]) -> None:
    """Dots with their intervals at each x, and the curves fitted to them, on two log axes."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    for line in fits:
        axes.plot(
            line.x, line.y, color=line.colour, linewidth=1.2, linestyle=(0, (3, 2)) if line.dashed else "-"
        )
    for place, s in enumerate(series):
        shift = APART ** (place - (len(series) - 1) / 2)
        for at, point in zip(x, s.points, strict=True):
            if point is None:
                continue
            if point.low is not None and point.high is not None:
                ends = [point.low, point.high]
                axes.plot(
                    [at * shift] * 2, ends, color=s.colour, linewidth=1.6, alpha=0.55, solid_capstyle="butt"
                )
            fill = PAPER if s.hollow else s.colour
            axes.plot([at * shift], [point.value], "o", color=s.colour, markerfacecolor=fill, markersize=4.2)
    axes.set_xlabel("position, tokens from the start")
    axes.set_ylabel("loss, nats a token")
    axes.grid()
    axes.xaxis.set_major_locator(FixedLocator([4.0**k for k in range(10)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: tokens(count)))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())


# A share, its large text in the cell, and the small text below it.
Cell = tuple[float, str, str]


@matplotlib.rc_context(STYLE)
def grid(
    axes: Axes, columns: Sequence[str], rows: Sequence[str], cells: Mapping[tuple[int, int], Cell]
) -> None:
    """Shares in cells (row, column), the first row on top. A darker cell is a larger share; a cell without a value has
    only an outline."""
    for row in range(len(rows)):
        for column in range(len(columns)):
            cell = cells.get((row, column))
            place, size = (column - 0.47, row - 0.46), (0.94, 0.92)
            axes.add_patch(Rectangle(place, *size, facecolor="none", edgecolor=GRID, linewidth=0.8))
            if cell is None:
                continue
            share, words, below = cell
            axes.add_patch(Rectangle(place, *size, facecolor=SERIES[0], alpha=DEEPEST * share, linewidth=0))
            for text, down, points in ((words, -0.15 if below else 0.0, 8.0), (below, 0.22, 7.0)):
                axes.text(column, row + down, text, color=INK, fontsize=points, ha="center", va="center")
    axes.set_xticks(range(len(columns)), list(columns))
    axes.set_yticks(range(len(rows)), list(rows))
    axes.tick_params(length=0, labelcolor=MUTED)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.spines[:].set_visible(False)
