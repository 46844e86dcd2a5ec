"""Turns numbers of stages into points of a figure, and notes each drawn number as shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from charter.ground.measure.intervals import interval
from charter.ground.measure.metric import VERSION
from charter.ground.measure.plots import SERIES, Point, Series
from charter.ground.measure.score import Table
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.changes import refusal
from charter.ground.reports.number import Number, Source
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import Ledger

# Inches: half a page, or a phone.
WIDTH = 4.0
# Room between panels; it keeps the last tick label of one axis and the first of the next apart.
APART = 0.09
# Follows the name of a stage whose number was measured differently from the last stage's.
OTHERWISE = " (asked differently)"


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


def by_stage(
    stages: Iterable[Artifact], name: str, ledger: Ledger
) -> tuple[list[Point | None], list[Number]]:
    """A point for each stage, and the numbers drawn."""
    numbers = [stage.numbers.get(name) for stage in stages]
    points = [note_point(n, ledger) for n in numbers]
    return points, [
        n for n, point in zip(numbers, points, strict=True) if n is not None and point is not None
    ]


def sources_of(numbers: Iterable[Number]) -> tuple[Source, ...]:
    """The sources of some numbers, each once."""
    return tuple(dict.fromkeys(s for n in numbers for s in n.sources))


def compute_number(report: Artifact, name: str, table: Table, unit: str, file: str) -> Number:
    """A number, with its interval, over some of a report's rows; no metric names it."""
    low, high = interval(table)
    return Number(
        f"{report.name}/{name}",
        name,
        table.value,
        low,
        high,
        table.n,
        len(table.clusters),
        VERSION,
        unit,
        report.label,
        sources=(report.source(file),),
    )


def overlay_stages(
    run: Run, name: str, ledger: Ledger, most: int = len(SERIES)
) -> list[tuple[Artifact, Series]]:
    """The stages that have a number to draw, each with the look of its dots in a shared line.

    The last is filled in the first colour, the first is hollow. Of more than `most`, the first and the last ones are
    kept.
    """
    stages = [stage for stage in run.stages if is_drawn(stage, name, ledger)]
    selected = stages if len(stages) <= most else [stages[0], *stages[1 - most :]]
    looks = []
    for place, stage in enumerate(selected):
        last = stage is selected[-1]
        words = stage.label + (OTHERWISE if refusal(stage, selected[-1], name) else "")
        colour = SERIES[0] if last else SERIES[place + 1]
        looks.append((stage, Series(words, (), colour, hollow=place == 0 and not last)))
    return looks


def with_points(look: Series, points: list[Point | None], named: bool = True) -> Series:
    """The look of a stage with its points. Set `named` to False if a legend of the whole figure has the name."""
    return replace(look, points=points, name=look.name if named else "")


def describe_left_out(run: Run, name: str, count: int) -> str:
    """A sentence about the stages that have a number and are not drawn; empty if there are none."""
    total = sum(has_value(stage, name) and not stage.numbers[name].few for stage in run.stages)
    return f" Only {count} of {total} stages are drawn: the first and the last." if total > count else ""


def legend_columns(looks: Sequence[tuple[Artifact, Series]]) -> int:
    """How many names of a legend fit on a line."""
    return len(looks) if sum(len(look.name) + 4 for _, look in looks) < 62 else 2


def sizes(numbers: Iterable[Number]) -> str:
    """The number of rows behind some numbers: one count, or the smallest and the largest."""
    counts = sorted({n.n or 0 for n in numbers})
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
