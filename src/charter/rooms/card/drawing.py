"""Figures of the card, and what they share: numbers as points, each noted as shown, and rows of dots by stage or by
category.

A figure is declared with its place on the page and filled by one of `stage_rows` (a row for each stage), `draw_panel`
(a row for each category) and `draw_curves`. If stages share a line, the last is filled in the first colour and the
first is hollow. A stage that was asked differently from the last one is marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from charter.ground.measure.plots import MUTED, SERIES, Line, Point, Series, canvas, curves, forest, inline, legend
from charter.ground.reports.artifact import Artifact, placed_in
from charter.ground.reports.changes import why_not_comparable
from charter.ground.reports.judges import unfit
from charter.ground.reports.number import Number, Source
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import Ledger

# Inches: half a page, or a phone; and a whole page.
WIDTH, WIDE = 4.0, 9.6
# Room between panels; it keeps the last tick label of one axis and the first of the next apart.
APART = 0.09
# Follows the name of a stage whose number was measured differently from the last stage's.
OTHERWISE = " (asked differently)"
# Follows the name of a judge that failed its gate.
UNFIT = " (unfit)"
# Words of a caption.
BY_PROMPT = "Bars are 95 % intervals over prompts (bootstrap; Wilson where few differ)."
BY_QUESTION = "Bars are 95 % intervals (bootstrap over questions; Wilson where few differ)."
BY_REQUEST = "Bars are 95 % intervals over requests (bootstrap; Wilson where few differ)."
HOLLOW = " Hollow dots were asked differently from the last one."
Look = tuple[Artifact, Series]


@dataclass(frozen=True, slots=True)
class Figure:
    """An inline <svg> with its caption and its sources. `section` is its place on the page."""

    key: str
    title: str
    section: str = "plots"
    wide: bool = False
    caption: str = ""
    svg: str = ""
    sources: tuple[Source, ...] = ()

    def draw(self, drawing: Drawing, caption: str, words: str, of: Iterable[Number | Source], name: str = "") -> Figure:
        """The declared figure with its drawing. `words` and `name` (else its title) say what it shows to those who
        can't see it; `of`: the numbers or files that it was drawn from."""
        sources = dict.fromkeys(s for x in of for s in ((x,) if isinstance(x, Source) else x.sources))
        svg = inline(drawing, self.key, name or self.title, words)
        return replace(self, caption=caption, svg=svg, sources=tuple(sources))


def has_value(stage: Artifact, name: str) -> bool:
    """Whether a stage has a number with a value."""
    return name in stage.numbers and stage.numbers[name].value is not None


def is_drawn(stage: Artifact, name: str, ledger: Ledger) -> bool:
    """Whether a stage has a number with enough behind it to be drawn."""
    return ledger.drawable(stage.numbers.get(name))


def note_point(number: Number | None, ledger: Ledger) -> Point | None:
    """The point of a number; None if it is absent, or has no value or too little behind it."""
    if number is None or number.value is None or not ledger.drawable(number):
        return None
    ledger.note(number)
    return Point(number.value, number.low, number.high)


def note_points(numbers: Sequence[Number | None], ledger: Ledger) -> tuple[list[Point | None], list[Number]]:
    """A point for each number, and the numbers drawn."""
    points = [note_point(n, ledger) for n in numbers]
    return points, [n for n, point in zip(numbers, points, strict=True) if n is not None and point is not None]


def list_values(numbers: Iterable[Number], ledger: Ledger, name: bool = True) -> str:
    """The numbers of a figure in words: stage, label and value."""
    return "; ".join(f"{n.stage}{f', {n.label.lower()}' if name else ''}: {ledger.value(n)}" for n in numbers)


def stage_rows(
    stages: Sequence[Artifact], key: str, ledger: Ledger, colours: Sequence[str] = SERIES, mark: bool = True
) -> list[tuple[Series, list[Number]]]:
    """The metrics that declare a figure: a point for each stage, and the numbers drawn. The second one is hollow. With
    `mark` one by a judge that failed its gate is muted and named unfit."""
    rows = []
    for name in placed_in(stages, key):
        points, numbers = note_points([stage.numbers.get(name) for stage in stages], ledger)
        if numbers and (metric := numbers[0].metric):
            place, words = metric.places[key] - 1, metric.short or metric.meaning
            failed = mark and any(unfit(stage, name) for stage in stages)
            colour = MUTED if failed else colours[place]
            look = Series(words + (UNFIT if failed else ""), points, colour, hollow=place == 1)
            rows.append((look, numbers))
    return rows


def draw_panel(
    axes: Axes,
    labels: Sequence[str],
    parts: Iterable[tuple[Series, Sequence[Number | None]]],
    ledger: Ledger,
    title: str = "",
    percent: bool = True,
) -> tuple[list[Series], list[Number]]:
    """Rows of categories, a dot for each series and label; the names of the series stand in a legend of the whole
    figure. Returns the series and the numbers drawn."""
    series: list[Series] = []
    drawn_numbers: list[Number] = []
    for look, numbers in parts:
        points, noted = note_points(numbers, ledger)
        series.append(replace(look, points=points, name=""))
        drawn_numbers += noted
    forest(axes, labels, series, title=title, percent=percent)
    return series, drawn_numbers


def draw_curves(
    panels: Sequence[tuple[str, list[Line], str, bool]], size: tuple[float, float], gap: float = 0.02
) -> Drawing:
    """Curves (title, lines, name of x, whether y is a share), at most three panels a line; `size` in inches of a whole
    line."""
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    drawing, axes = canvas(size[0], size[1] * lines, lines, columns, gap)
    for place, (title, panel, x_label, percent) in zip(axes, panels, strict=False):
        curves(place, title, panel, x_label, percent)
    for place in axes[len(panels) :]:
        place.set_visible(False)
    return drawing


def overlay_stages(run: Run, name: str, ledger: Ledger, most: int = len(SERIES)) -> list[Look]:
    """The stages that have a number to draw, each with the look of its dots in a shared line.

    The last is filled in the first colour, the first is hollow. Of more than `most`, the first and the last ones are
    kept.
    """
    stages = [stage for stage in run.stages if is_drawn(stage, name, ledger)]
    selected = stages if len(stages) <= most else [stages[0], *stages[1 - most :]]
    return [
        (stage, replace(look, name=look.name + (OTHERWISE if why_not_comparable(stage, selected[-1], name) else "")))
        for stage, look in looks_of(selected)
    ]


def looks_of(artifacts: Sequence[Artifact]) -> list[Look]:
    """Artifacts with the look of their dots in a shared line, of too many the last ones."""
    looks = []
    few = artifacts[-len(SERIES) :]
    for place, artifact in enumerate(few):
        last = place == len(few) - 1
        colour = SERIES[0] if last else SERIES[place + 1]
        looks.append((artifact, Series(artifact.label, (), colour, hollow=place == 0 and not last)))
    return looks


def add_legend(drawing: Drawing, looks: Sequence[Look]) -> None:
    """A legend of stages, as many names on a line as fit."""
    series = [look for _, look in looks]
    legend(drawing, series, len(looks) if sum(len(look.name) + 4 for look in series) < 62 else 2)


def describe_left_out(run: Run, name: str, count: int) -> str:
    """A sentence about the stages that have a number and are not drawn; empty if there are none."""
    total = sum(has_value(stage, name) and not stage.numbers[name].few for stage in run.stages)
    return f" Only {count} of {total} stages are drawn: the first and the last." if total > count else ""


def sizes(numbers: Iterable[Number]) -> str:
    """The number of rows behind some numbers: one count, or the smallest and the largest."""
    counts = sorted({n.n or 0 for n in numbers})
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
