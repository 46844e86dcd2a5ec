"""Scaling: how held-out loss falls with compute over a ladder of pretrained models, and what that predicts.

    L(C) = E + (C0 / C)^a        (Kaplan et al. 2020; with a floor and fitted to log L as in Hoffmann et al. 2022)

`measure.metrics` computes every number from the kept rows.
"""

from __future__ import annotations

import math
from typing import Any

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.measure.plots import inline, standalone
from charter.ground.measure.reporting import record
from charter.ground.measure.scaling import OF_SCALING, SCALING, Ladder, laws
from charter.ground.measure.scaling_plots import FigureData, prepare_figure, scaling_figure
from charter.rooms.scaling.ladder import Row, rows_of
from charter.rooms.scaling.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: report.json, samples/scaling.jsonl, scaling.svg, counts.json."""
    models = inputs.many("models")
    with out.progress("scaling", 3) as bar:
        rows = rows_of(models)
        out.write_jsonl(f"samples/{SCALING}", rows)
        bar.advance()
        record(out, OF_SCALING)
        bar.advance()
        figure = prepare_figure(rows)
        svg = inline(scaling_figure(figure), "scaling", "Loss against compute", settings.stage)
        out.write_text("scaling.svg", standalone(svg))
        out.write_json("report.json", _report(settings, rows, figure))
        bar.advance()
    counts = {"models": len(models), "sizes": len(Ladder.of(rows).sizes), "documents": len({row["id"] for row in rows})}
    out.counts(counts)


def _report(settings: Settings, rows: list[Row], figure: FigureData) -> dict[str, Any]:
    """The fit: the numbers of each law, and each model with its measured loss and that of L(C)."""
    fits = laws(rows)
    of_compute = fits["compute"]
    return {
        "stage": settings.stage,
        "laws": {
            name: {"floor": float(law.floor[0]), "coefficients": law.coefficients, "exponents": law.slopes}
            for name, law in fits.items()
        },
        "models": [
            {
                "run": model.run,
                "parameters": model.parameters,
                "tokens": model.tokens,
                "compute": model.compute,
                "bits_per_byte": loss.value,
                "low": loss.low,
                "high": loss.high,
                "fitted": float(of_compute.at(math.log(model.compute))[0]),
            }
            for model, (_, _, loss) in zip(Ladder.of(rows).models, figure.models, strict=True)
        ],
    }
