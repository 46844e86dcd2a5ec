"""Loss against compute over a ladder of pretrained models: the figure with its law, and a row for each model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from charter.ground.measure.plots import inline
from charter.ground.measure.scaling import BITS, SCALING, Ladder
from charter.ground.measure.scaling_plots import prepare_figure, scaling_figure
from charter.ground.measure.score import tabulate
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.number import COUNT, FEW, FLOPS, Number
from charter.rooms.card.drawing import WIDTH, compute_number, sources_of
from charter.rooms.card.figure import Figure
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import Ledger

SECTION = "data"
ROWS = f"samples/{SCALING}"


@dataclass(frozen=True, slots=True)
class Rung:
    """One model of the ladder."""

    name: str
    parameters: Number
    tokens: Number
    compute: Number
    loss: Number


@dataclass(frozen=True, slots=True)
class ScalingTable:
    """The models behind the law of one step."""

    step: str
    rungs: tuple[Rung, ...]


def scaling_table(run: Run) -> ScalingTable | None:
    """The models of the scaling report; None without one."""
    report = run.scaling
    if report is None:
        return None
    rows = report.rows(ROWS)
    models = Ladder.of(rows).models
    return ScalingTable(report.name, tuple(_rung(report, model.run, rows) for model in models))


def _rung(report: Artifact, name: str, rows: Sequence[dict[str, Any]]) -> Rung:
    own = [row for row in rows if row["run"] == name]

    def count(what: str, unit: str = COUNT) -> Number:
        words, sources = f"{what} of {name}", (report.source(ROWS),)
        key = f"{report.name}/{words}"
        return Number(key, words, own[0][what], unit=unit, stage=report.label, sources=sources)

    bits = tabulate((str(row["id"]), row["nats"] / math.log(2), float(row["bytes"])) for row in own)
    loss = compute_number(report, f"bits_per_byte of {name}", bits, BITS, ROWS)
    return Rung(name, count("parameters"), count("tokens"), count("compute", FLOPS), loss)


def scaling(run: Run, ledger: Ledger) -> Figure | None:
    """Loss against compute with the law, its band, and its predictions."""
    report = run.scaling
    if report is None:
        return None
    rows = report.rows(ROWS)
    ladder = Ladder.of(rows)
    if len({row["id"] for row in rows}) < FEW:
        ledger.undrawn["Loss against compute"] = None
        return None
    numbers = [n for n in report.numbers.values() if n.metric and n.metric.file == SCALING]
    description = "; ".join(
        f"{n.label}: {ledger.value(n)}" + (f" ({ends})" if (ends := ledger.span(n)) else "") for n in numbers
    )
    counts = [report.count(f"drawn {what}", number, ROWS) for what, number in _sizes(ladder, rows)]
    models, sizes, documents = (ledger.value(n) for n in counts)
    seeds = (
        "Each size was trained once, so the interval leaves out how far another seed moves its loss. "
        if len(ladder.models) == len(ladder.sizes)
        else "Documents and the seeds of a size are drawn anew in each resample. "
    )
    caption = (
        f"Held-out loss of {models} models of {sizes} sizes, both axes log, with the law L(C) = E + (C₀ / C)^a, its "
        f"95 % band and its prediction beyond them. {description}. n = {documents} documents. {seeds}"
        "Bars are 95 % intervals (bootstrap over documents)."
    )
    title = "Loss against compute"
    svg = inline(scaling_figure(prepare_figure(rows), WIDTH), "scaling", title, description)
    return Figure("scaling", title, caption, svg, sources_of([*numbers, *counts]), section=SECTION)


def _sizes(ladder: Ladder, rows: Sequence[dict[str, Any]]) -> tuple[tuple[str, int], ...]:
    documents = len({row["id"] for row in rows})
    return ("models", len(ladder.models)), ("sizes", len(ladder.sizes)), ("documents", documents)
