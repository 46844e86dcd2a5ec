"""Every evaluation at every stage: a row a metric, a column a stage (the tracker of the Claude 2 card's section 5).

Columns are the stages in their order, then the same models at the protocol's decoding (what depends on the draw), then
comparators, such as a helpful-only model and snapshots. A number is held against the nearest column before it that has
the metric, a comparator's against the start. Every drop has a mark, a significant one its own, as in `charter compare`.
matrix.csv and matrix.json have all numbers, the picture those that stand for an evaluation.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from charter.ground.measure.metric import Metric
from charter.ground.measure.plots import GRID, INK, MUTED, SERIES, STYLE, canvas
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.changes import Change, by_importance, change
from charter.ground.reports.judges import unfit_among
from charter.ground.reports.number import Number, figure
from charter.rooms.card.drawing import WIDE, Figure
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import Ledger
from charter.rooms.card.sections import AT_CHANCE, SATURATED, is_sampled, standing

CSV, JSON = "matrix.csv", "matrix.json"
TITLE = "Every evaluation at every stage"
DROP, SIGNIFICANT_DROP = "worse, not significant", "significantly worse"
GAIN, UNFIT = "significantly better", "unfit grader"
FACTS = ("label", "group", "unit", "better", "chance")
# Signs of the marks in the picture.
SIGNS = {SIGNIFICANT_DROP: "▼", DROP: "▽", GAIN: "▲", AT_CHANCE: "?", SATURATED: "=", UNFIT: "†"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A number of one column, its change against the column before that has one, and its marks."""

    number: Number
    change: Change | None
    marks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A metric at every column; None where it wasn't measured."""

    metric: Metric
    cells: tuple[Cell | None, ...]

    @property
    def main(self) -> bool:
        """Whether it stands for an evaluation."""
        return self.metric.about == "model" and not self.metric.kind


@dataclass(frozen=True, slots=True)
class Matrix:
    """All rows, the most important first."""

    columns: tuple[Artifact, ...]
    rows: tuple[Row, ...]


def matrix(run: Run) -> Matrix:
    """Every number that the reports of a card have."""
    columns = (*run.stages, *run.at_protocol, *run.comparators)
    return Matrix(columns, tuple(_row(run, columns, name) for name in by_importance(*columns)))


def _row(run: Run, columns: Sequence[Artifact], name: str) -> Row:
    metric = next(column.metrics[name] for column in columns if name in column.metrics)
    cells: list[Cell | None] = []
    for column in columns:
        number = column.numbers.get(name)
        if any(column is second for second in run.at_protocol) and not is_sampled(column, name):
            number = None
        before = _before(run, column, name)
        delta = change(before, column, name) if before is not None and number is not None else None
        cells.append(Cell(number, delta, _marks(columns, column, delta, name)) if number is not None else None)
    return Row(metric, tuple(cells))


def _before(run: Run, column: Artifact, name: str) -> Artifact | None:
    """The column that another is held against."""
    if any(column is other for other in run.comparators):
        return run.start if name in run.start.numbers else None
    chain = run.stages if any(column is stage for stage in run.stages) else run.at_protocol
    earlier = chain[: next(at for at, stage in enumerate(chain) if stage is column)]
    return next((stage for stage in reversed(earlier) if name in stage.numbers), None)


def _marks(columns: Sequence[Artifact], column: Artifact, delta: Change | None, name: str) -> tuple[str, ...]:
    words = []
    if delta is not None and delta.loss_level:
        words.append(SIGNIFICANT_DROP if delta.loss_level == "significant" else DROP)
    if delta is not None and delta.verdict == "better":
        words.append(GAIN)
    shaky = [UNFIT] if unfit_among(columns, column, name) else []
    return (*words, *standing(column.numbers[name]), *shaky)


def tables(stage_matrix: Matrix) -> dict[str, str]:
    """File name -> content of the matrix as CSV and as JSON."""
    return {CSV: _csv(stage_matrix), JSON: json.dumps(_record(stage_matrix), indent=1, ensure_ascii=False) + "\n"}


def _csv(stage_matrix: Matrix) -> str:
    """Five columns a stage: value, low, high, n, marks."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    parts = ("", " low", " high", " n", " marks")
    heads = (f"{column.label}{part}" for column in stage_matrix.columns for part in parts)
    writer.writerow(["metric", *FACTS, *heads])
    for row in stage_matrix.rows:
        line: list[Any] = [row.metric.name, *(getattr(row.metric, fact) for fact in FACTS)]
        for cell in row.cells:
            n = cell.number if cell else None
            line += [n.value, n.low, n.high, n.n, "; ".join(cell.marks)] if n and cell else [None] * len(parts)
        writer.writerow(line)
    return out.getvalue()


def _record(stage_matrix: Matrix) -> dict[str, Any]:
    def cell(at: Cell | None) -> dict[str, Any] | None:
        if at is None:
            return None
        delta = at.change.number if at.change else None
        entry = at.number.record()
        return {key: entry[key] for key in ("key", "value", "low", "high", "n", "clusters", "sources")} | {
            "change": delta.value if delta else None,
            "p_holm": delta.p_holm if delta else None,
            "verdict": at.change.verdict if at.change else None,
            "drop": at.change.loss_level if at.change else "",
            "marks": list(at.marks),
        }

    return {
        "stages": [{"stage": c.label, "step": c.step, "id": c.manifest.id} for c in stage_matrix.columns],
        "metrics": [
            {"metric": row.metric.name}
            | {fact: getattr(row.metric, fact) for fact in FACTS}
            | {"cells": [cell(row_cell) for row_cell in row.cells]}
            for row in stage_matrix.rows
        ],
    }


def picture(stage_matrix: Matrix, ledger: Ledger) -> Figure | None:
    """The rows that stand for an evaluation, with a value and its marks in each cell."""
    rows = [row for row in stage_matrix.rows if row.main and any(_drawn(cell) for cell in row.cells)]
    if not rows:
        return None
    drawing, (axes,) = canvas(WIDE, 0.7 + 0.21 * len(rows))
    numbers = _draw_cells(axes, rows, ledger)
    axes.set_xticks(range(len(stage_matrix.columns)), [column.label for column in stage_matrix.columns])
    axes.set_yticks(range(len(rows)), [row.metric.label for row in rows])
    axes.set_xlim(-0.5, len(stage_matrix.columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    used = {mark for row in rows for cell in row.cells if cell is not None for mark in cell.marks}
    signs = ", ".join(f"{sign} {mark}" for mark, sign in SIGNS.items() if mark in used)
    caption = (
        f"{signs}{'. ' if signs else ''}Each stage is held against the nearest one before it that has the number, a "
        "comparator against the start."
    )
    words = "; ".join(_in_words(rows, stage_matrix.columns))
    return Figure("matrix", TITLE, "matrix", wide=True).draw(drawing, caption, words, numbers)


@matplotlib.rc_context(STYLE)
def _draw_cells(axes: Axes, rows: Sequence[Row], ledger: Ledger) -> list[Number]:
    """Draws each cell with enough behind it: its value and signs on the colour of its marks. Returns the numbers."""
    numbers = []
    for y, row in enumerate(rows):
        axes.axhline(y + 0.5, color=GRID, linewidth=0.5)
        for x, cell in enumerate(row.cells):
            if cell is None or not ledger.drawable(cell.number):
                continue
            numbers.append(ledger.note(cell.number))
            if fill := _fill(cell.marks):
                patch = Rectangle((x - 0.49, y - 0.46), 0.98, 0.92, color=fill, alpha=0.22, linewidth=0)
                axes.add_patch(patch)
            signs = "".join(sign for mark, sign in SIGNS.items() if mark in cell.marks)
            words = f"{figure(cell.number.value, cell.number.unit)} {signs}".rstrip()
            axes.text(x, y, words, ha="center", va="center", fontsize=8, color=INK)
    return numbers


def _drawn(cell: Cell | None) -> bool:
    return cell is not None and cell.number.value is not None and not cell.number.few


def _fill(marks: Sequence[str]) -> str:
    """Orange for a significant drop, green for a gain, grey for what a reader should not lean on."""
    if SIGNIFICANT_DROP in marks:
        return SERIES[1]
    if GAIN in marks and UNFIT not in marks:
        return SERIES[2]
    return MUTED if {AT_CHANCE, SATURATED, UNFIT} & set(marks) else ""


def _in_words(rows: Sequence[Row], columns: Sequence[Artifact]) -> Iterator[str]:
    for row in rows:
        cells = (
            f"{column.label} {figure(cell.number.value, cell.number.unit)}"
            for column, cell in zip(columns, row.cells, strict=True)
            if cell is not None and _drawn(cell)
        )
        yield f"{row.metric.label}: {', '.join(cells)}"
