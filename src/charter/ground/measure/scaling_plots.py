"""Plot of a scaling law: loss against compute on log axes, the law with its band, and its predictions.

As in `plots`: equal data give equal bytes, and every colour follows the page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from charter.ground.measure.counts import Row
from charter.ground.measure.intervals import interval, resample
from charter.ground.measure.plots import PAPER, SERIES, STYLE, Point, canvas
from charter.ground.measure.scaling import FURTHER, Ladder, fit_over, losses, predict_largest, table, weights
from charter.ground.measure.score import Floats, tabulate

POINTS = 40  # of the curve


@dataclass(frozen=True)
class FigureData:
    """Data of the figure: models (name, compute, loss), the law over compute x [P] with the ends of its band, its
    prediction for more compute, and the smaller sizes' prediction for the largest (compute, loss)."""

    models: tuple[tuple[str, float, Point], ...]
    x: Floats
    middle: Floats
    low: Floats
    high: Floats
    predicted: tuple[float, Point]
    expected: tuple[float, float]


def prepare_figure(rows: Sequence[Row]) -> FigureData:
    """Computes the figure's data from kept rows."""
    exponent_table = table("scaling_exponent")(rows)
    ladder = Ladder.of(rows)
    largest = max(model.compute for model in ladder.models)
    smallest = min(model.compute for model in ladder.models)
    x = np.geomspace(smallest, largest * FURTHER, POINTS)
    total = exponent_table.sums.sum(axis=0)[None]
    once = losses(total), weights(ladder, 1)
    fitted = fit_over(ladder, "compute", *once)

    def curve(sums: Floats) -> Floats:
        law = fit_over(ladder, "compute", losses(sums), weights(ladder, len(sums)))
        return np.stack([law.at(math.log(compute)) for compute in x], axis=1)

    low, high = np.percentile(
        resample(type(exponent_table)(exponent_table.clusters, exponent_table.sums, exponent_table.n, curve)),
        [2.5, 97.5],
        0,
    )
    middle = np.array([fitted.at(math.log(compute))[0] for compute in x])
    measured = []
    for model in ladder.models:
        own = tabulate(
            (str(r["id"]), r["nats"] / math.log(2), float(r["bytes"])) for r in rows if r["run"] == model.run
        )
        measured.append((model.run, model.compute, Point(own.value, *interval(own))))
    return FigureData(
        tuple(measured),
        x,
        middle,
        low,
        high,
        (largest * FURTHER, Point(float(middle[-1]), float(low[-1]), float(high[-1]))),
        (largest, float(predict_largest(ladder, *once)[0][0])),
    )


def scaling_figure(data: FigureData, width: float = 4.7, height: float = 3.2) -> Figure:
    """Loss against compute."""
    figure, (axes,) = canvas(width, height)
    _draw(axes, data)
    return figure


@matplotlib.rc_context(STYLE)
def _draw(axes: Axes, data: FigureData) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.fill_between(data.x, data.low, data.high, color=SERIES[0], alpha=0.14, linewidth=0)
    fitted = data.x <= data.expected[0]
    axes.plot(data.x[fitted], data.middle[fitted], color=SERIES[0], linewidth=1.4, label="law")
    axes.plot(data.x, data.middle, color=SERIES[0], linewidth=1.2, linestyle=(0, (3, 2)))
    for number, (_, compute, loss) in enumerate(data.models):
        _whisker(axes, compute, loss, SERIES[0])
        name = "measured" if number == 0 else "_"
        axes.plot([compute], [loss.value], "o", color=SERIES[0], markersize=4.6, label=name, linestyle="none")
    compute, loss = data.predicted
    _whisker(axes, compute, loss, SERIES[1])
    words = f"predicted for {FURTHER:g} times the compute"
    look: dict[str, Any] = {"color": SERIES[1], "markerfacecolor": PAPER, "linestyle": "none", "markeredgewidth": 1.4}
    axes.plot([compute], [loss.value], "o", markersize=5, label=words, **look)
    axes.plot(*([x] for x in data.expected), "D", markersize=5, label="predicted by the smaller sizes", **look)
    axes.set_xlabel("compute, FLOPs")
    axes.set_ylabel("held-out loss, bits a byte")
    axes.grid()
    axes.xaxis.set_major_locator(LogLocator(numticks=8))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"1e{math.log10(x):.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.legend(loc="upper right", handletextpad=0.4, borderaxespad=0.1)


def _whisker(axes: Axes, x: float, point: Point, colour: str) -> None:
    if point.low is not None and point.high is not None:
        ends = [point.low, point.high]
        axes.plot([x, x], ends, color=colour, linewidth=1.6, alpha=0.55, solid_capstyle="butt")
