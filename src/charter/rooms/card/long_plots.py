"""The figures of long documents: loss by position on two log axes with its fit, and recall in a grid by length and
depth (card section 4.2).

As in `plots`, equal data give equal bytes, and colours follow the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from charter.ground.measure.counts import mean
from charter.ground.measure.metric import CAPABILITY
from charter.ground.measure.plots import GRID, INK, MUTED, PAPER, SERIES, STYLE, Line, Series, canvas
from charter.ground.measure.position import (
    BUCKETS,
    CARD_CONSTANT,
    CARD_EXPONENT,
    MIDDLES,
    bucket_table,
    card_scale,
    fit,
    mean_powers,
    why_no_law,
)
from charter.ground.measure.score import Floats
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.number import PLAIN, SHARE, Number, figure
from charter.rooms.card.drawing import (
    WIDTH,
    Figure,
    add_legend,
    describe_left_out,
    has_value,
    is_drawn,
    note_points,
    overlay_stages,
    sizes,
)
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import Ledger
from charter.rooms.card.published import published_number

# Opacity of a share of 1: text on it stays readable in light and in dark.
DEEPEST = 0.5
# Factor between the x of series that share a position.
SHIFT = 1.07
# A share, its large text in the cell, and the small text below it.
Cell = tuple[float, str, str]
EXPONENT, CONSTANT = "position_exponent", "position_constant"
LOSS = f"position_loss_{BUCKETS[0]}"
POSITIONS, RECALLED = "samples/position.jsonl", "samples/recall.jsonl"


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
        axes.plot(line.x, line.y, color=line.colour, linewidth=1.2, linestyle=(0, (3, 2)) if line.dashed else "-")
    for place, s in enumerate(series):
        shift = SHIFT ** (place - (len(series) - 1) / 2)
        for at, point in zip(x, s.points, strict=True):
            if point is None:
                continue
            if point.low is not None and point.high is not None:
                ends = [point.low, point.high]
                axes.plot([at * shift] * 2, ends, color=s.colour, linewidth=1.6, alpha=0.55, solid_capstyle="butt")
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


@matplotlib.rc_context(STYLE)
def grid(axes: Axes, columns: Sequence[str], rows: Sequence[str], cells: Mapping[tuple[int, int], Cell]) -> None:
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


def position(run: Run, ledger: Ledger) -> Figure | None:
    """Loss by token position on two log axes, with the fitted power law plus a constant and the card's beside it."""
    looks = overlay_stages(run, LOSS, ledger)
    if not looks:
        return None
    places = [
        place
        for place, start in enumerate(BUCKETS)
        if any(is_drawn(stage, f"position_loss_{start}", ledger) for stage, _ in looks)
    ]
    names, x = [f"position_loss_{BUCKETS[place]}" for place in places], MIDDLES[places]
    numbers: list[Number] = []
    series, fits, descriptions = [], [], []
    for stage, look in looks:
        points, noted_numbers = note_points([stage.numbers.get(name) for name in names], ledger)
        numbers += noted_numbers
        series.append(replace(look, points=points))
        if has_value(stage, EXPONENT):
            fitted = _read_fit(stage, ledger)
            fits.append(_curve(fitted, places, look.colour, dashed=look.hollow))
            numbers += fitted
            descriptions.append(_describe_fit(stage, fitted, ledger))
        else:
            why = why_no_law(_sums(stage)) or "its report has none"
            descriptions.append(f"{stage.label}: no exponent, since {why}.")
    card, theirs = _card_curve(looks[-1][0], places, ledger)
    fits.append(card)
    numbers += theirs
    drawing, (axes,) = canvas(WIDTH, 3.2)
    falling(axes, list(x), series, fits)
    add_legend(drawing, looks)
    last = looks[-1][0].numbers[names[0]]
    claude = " and ".join(f"{name}\u00a0=\u00a0{ledger.value(n)}" for name, n in zip(["a", "c₀"], theirs, strict=True))
    law = (
        f" Curves are the fit L(t) = c₀ + c·t^(−a). {' '.join(descriptions)} Grey, dashed: the form of Claude 2, "
        f"{claude}, with its unpublished c fitted to the last stage's losses; its tokens are not these."
    )
    caption = (
        f"Mean loss of the tokens at a distance from the start of a document, both axes log; every bucket is twice as "
        f"long as the one before it. Loss that still falls at the right says that far context is used.{law} n = "
        f"{last.n:,} documents of one length.{describe_left_out(run, names[0], len(looks))} "
        "Bars are 95 % intervals (bootstrap over documents, of few at least Student's t)."
    )
    declared = Figure("position", "Loss by position in long documents", CAPABILITY)
    return declared.draw(drawing, caption, "; ".join(descriptions), numbers)


def _read_fit(stage: Artifact, ledger: Ledger) -> list[Number]:
    """c0, c and a of a stage's fit; c is no metric and has no interval."""
    report, table = stage.of(EXPONENT), stage.tables[EXPONENT]
    scale = float(fit(table.sums.sum(axis=0))[1])
    name, label = "position_coefficient", stage.label
    coefficient = report.number(name, scale, POSITIONS, PLAIN, n=table.n, stage=label)
    return [ledger.note(n) for n in (stage.numbers[CONSTANT], coefficient, stage.numbers[EXPONENT])]


def _curve(fitted: list[Number], places: list[int], colour: str, dashed: bool) -> Line:
    """The fit's loss in each bucket."""
    constant, scale, exponent = (n.value or 0.0 for n in fitted)
    starts = np.array(BUCKETS)[places]
    means = constant + scale * mean_powers(starts, starts, exponent)
    return Line("", MIDDLES[places].tolist(), means.tolist(), colour, dashed)


def _describe_fit(stage: Artifact, fitted: list[Number], ledger: Ledger) -> str:
    """The numbers of a fit in words."""
    constant, scale, exponent = fitted
    words = [
        f"{name}\u00a0=\u00a0{ledger.value(n)}" + (f" ({span})" if (span := ledger.span(n)) else "")
        for name, n in (("a", exponent), ("c₀", constant), ("c", scale))
    ]
    return f"{stage.label}: {', '.join(words)}."


def _sums(stage: Artifact) -> Floats:
    """Nats and tokens by bucket, over all documents of a stage."""
    sums: Floats = bucket_table(stage.of(LOSS).rows(POSITIONS), fit).sums.sum(axis=0)
    return sums


def _card_curve(stage: Artifact, places: list[int], ledger: Ledger) -> tuple[Line, list[Number]]:
    """The published law, its scale fitted to the losses of a stage, and its two numbers."""
    numbers = [ledger.note(n) for name in (EXPONENT, CONSTANT) if (n := published_number(name)) is not None]
    starts = np.array(BUCKETS)[places]
    means = CARD_CONSTANT + card_scale(_sums(stage)) * mean_powers(starts, starts, CARD_EXPONENT)
    return Line("", MIDDLES[places].tolist(), means.tolist(), MUTED, dashed=True), numbers


def recall(run: Run, ledger: Ledger) -> Figure | None:
    """Facts found again by the last stage with a recall task, over the length of the text and the depth of the fact
    (Claude 2.1, appendix to the card)."""
    stage = next((s for s in reversed(run.stages) if has_value(s, "recall")), None)
    if stage is None:
        return None
    words = "Facts found again, by length and depth"
    numbers = {key: n for key, n in _cells(stage).items() if ledger.drawable(n, words)}
    if not numbers:
        return None
    lengths, depths = (sorted({key[i] for key in numbers}) for i in (0, 1))
    cells: dict[tuple[int, int], Cell] = {}
    for (length, depth), number in numbers.items():
        ledger.note(number)
        ends = (number.low, number.high)
        span = "–".join(f"{100 * x:.0f}" for x in ends if x is not None)
        cells[depths.index(depth), lengths.index(length)] = (
            number.value or 0.0,
            f"{100 * (number.value or 0):.0f} %",
            span,
        )
    drawing, (axes,) = canvas(WIDTH, 0.6 + 0.4 * len(depths))
    grid(axes, [tokens(length) for length in lengths], [f"{depth} %" for depth in depths], cells)
    axes.set_xlabel("length of the text, tokens")
    axes.set_ylabel("depth of the fact")
    overall = stage.numbers["recall"]
    spans = any(n.low is not None for n in numbers.values())
    caption = (
        f"Share of facts that {stage.label} finds again in a text, by the text's length and by where in it the fact "
        "stands (the top row is the beginning); the darker, the more. "
        + ("Below each share its 95 % interval (Wilson). " if spans else "One fact has no interval. ")
        + f"n = {sizes(numbers.values())} a cell, {overall.n:,} facts in all, of which it finds "
        f"{ledger.value(overall)}."
    )
    words = "; ".join(
        f"{length:,} tokens, depth {depth} %: {figure(n.value, SHARE)}" for (length, depth), n in numbers.items()
    )
    declared = Figure("recall", "Facts found again, by length of text and depth", CAPABILITY)
    return declared.draw(drawing, caption, words, numbers.values())


def _cells(stage: Artifact) -> dict[tuple[int, int], Number]:
    """The share found at each (length in tokens, depth in percent), in order."""
    report = stage.of("recall")
    groups: dict[tuple[int, int], list[dict[str, object]]] = {}
    for row in report.rows(RECALLED):
        length, depth = str(row["group"]).split("/")
        groups.setdefault((int(length), int(depth)), []).append(row)
    count = mean("correct")
    return {
        (length, depth): report.measure(f"recall_{length}_{depth}", count(groups[length, depth]), SHARE, RECALLED)
        for length, depth in sorted(groups)
    }
