"""Plots of votes: Elo by axis with its intervals, and a table of pairwise win rates.

As in `plots`: equal data give equal bytes, and every colour follows the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from charter.ground.measure.elo import Ranking
from charter.ground.measure.plots import GRID, INK, MUTED, SERIES, STYLE, Point, Series, canvas, forest, rule

MOST = 16  # models of a table with readable cells
LONGEST = 32  # letters of a model's name in a plot
DEEPEST = 0.55  # opacity of a certain win or loss; text on it stays readable in light and in dark


@matplotlib.rc_context(STYLE)
def elo_figure(rankings: Mapping[str, Ranking]) -> Figure:
    """Elo of all rated models, one panel per axis. All panels have the same models in the same order, by mean, so rows
    can be read across."""
    models = _order_models(rankings)
    names = [_short(model) for model in models]
    size = _room(names) + 2.6 * len(rankings), 1.0 + 0.24 * len(models)
    figure, panels = canvas(*size, columns=max(1, len(rankings)), gap=0.06)
    for number, (axes, (name, ranking)) in enumerate(zip(panels, rankings.items(), strict=True)):
        by_model = {s.model: s for s in ranking.standings if s.elo is not None}
        points = [
            Point(s.elo, s.low, s.high) if (s := by_model.get(model)) and s.elo is not None else None
            for model in models
        ]
        series = Series(name, points, SERIES[number % len(SERIES)])
        forest(axes, names if number == 0 else [""] * len(models), [series], title=name, percent=False)
        rule(axes, 0.0)
        axes.set_xlabel(f"Elo, {ranking.base} is 0")
        _open_ends(axes, points)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    spans = [axes.get_xlim() for axes in panels]
    for axes in panels:  # one scale, so gaps are comparable over axes
        axes.set_xlim(min(low for low, _ in spans), max(high for _, high in spans))
    return figure


def _order_models(rankings: Mapping[str, Ranking]) -> list[str]:
    """Models with a rating on any axis, by mean over these axes, highest first."""
    elos: dict[str, list[float]] = {}
    for ranking in rankings.values():
        for standing in ranking.standings:
            if standing.elo is not None:
                elos.setdefault(standing.model, []).append(standing.elo)
    return sorted(elos, key=lambda model: (-sum(elos[model]) / len(elos[model]), model))


def _short(model: str) -> str:
    return model if len(model) <= LONGEST else f"{model[: LONGEST - 1]}…"


def _room(names: Sequence[str]) -> float:
    """Inches that the longest name takes."""
    return 0.3 + 0.065 * max(map(len, names), default=0)


def _open_ends(axes: Axes, points: Sequence[Point | None]) -> None:
    """A dotted line to the only end of an interval that is unbounded on the other side."""
    for row, point in enumerate(points):
        ends = [] if point is None else [end for end in (point.low, point.high) if end is not None]
        if point is not None and len(ends) == 1:
            line = [point.value, *ends]
            axes.plot(line, [row, row], color=MUTED, linewidth=1.2, linestyle=(0, (1, 1)))


@matplotlib.rc_context(STYLE)
def wins_figure(rankings: Mapping[str, Ranking]) -> Figure:
    """Tables of the share of votes that a row's model wins against a column's, in order of Elo, with the number of
    votes. Of more than MOST models those with most votes are shown."""
    size = max((min(MOST, len(r.standings)) for r in rankings.values()), default=1)
    room = _room([_short(s.model) for r in rankings.values() for s in r.standings])
    width, height = (room + 0.52 * size) * len(rankings) + 0.4, 0.5 + 0.7 * room + 0.42 * size
    figure, panels = canvas(width, height, columns=max(1, len(rankings)), gap=0.06)
    for axes, (name, ranking) in zip(panels, rankings.items(), strict=True):
        _table(axes, name, ranking)
    return figure


def _table(axes: Axes, title: str, ranking: Ranking) -> None:
    most = sorted(ranking.standings, key=lambda s: -s.n)[:MOST]
    models = [s.model for s in ranking.standings if s in most]
    place = {model: number for number, model in enumerate(models)}
    for meeting in ranking.meetings:
        if meeting.model not in place or meeting.against not in place:
            continue
        row, column, share = place[meeting.model], place[meeting.against], meeting.observed
        colour, depth = SERIES[0] if share >= 0.5 else SERIES[1], DEEPEST * abs(2 * share - 1)
        box = (column - 0.47, row - 0.46), 0.94, 0.92
        axes.add_patch(Rectangle(*box, facecolor=colour, alpha=depth, linewidth=0))
        axes.add_patch(Rectangle(*box, facecolor="none", edgecolor=GRID, linewidth=0.8))
        for text, down, points, ink in (
            (f"{100 * share:.0f} %", -0.13, 7.0, INK),
            (f"{meeting.votes:g}", 0.22, 5.5, MUTED),
        ):
            axes.text(column, row + down, text, color=ink, fontsize=points, ha="center", va="center")
    axes.set_title(title if len(models) == len(ranking.standings) else f"{title}, {MOST} models with most votes")
    names = [_short(model) for model in models]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0, labelcolor=INK)
    axes.set_xlim(-0.5, len(models) - 0.5)
    axes.set_ylim(len(models) - 0.5, -0.5)
    axes.spines[:].set_visible(False)
