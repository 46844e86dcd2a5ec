"""The table of fluency: each set of prompts, stage by stage, at the report's own decoding."""

from __future__ import annotations

from collections.abc import Sequence

from charter.ground.measure.fluency import NLL, OF_A_SET, SETS, name_in
from charter.ground.reports.artifact import Artifact, metric_in
from charter.ground.reports.changes import change
from charter.ground.reports.judges import unfit
from charter.ground.reports.stages import PROTOCOL, heading, kind_of
from charter.rooms.card.sections import Cell, Column, StageTable

COLUMNS = {
    NLL: ("NLL under the start", "nats a token; compare with the start's own"),
    "loop_rate": ("Loops", "replies"),
    "cut_rate": ("Cut", "at the token limit"),
    "repeated_4grams": ("Repeated 4-grams", "within a reply"),
    "distinct_2": ("Distinct bigrams", "within a reply"),
    "reply_tokens": ("Length", "a reply"),
}
PROMPTS = {"unsafe": "unsafe prompts", "lookalike": "look-alikes", "helpful": "helpful prompts"}


def fluency_table(stages: Sequence[Artifact]) -> StageTable | None:
    """A row for each set of prompts and stage, grouped by set; None if no report has any of it."""
    names = {name for stage in stages for name in stage.numbers}
    measures = [what for what in OF_A_SET if any(name_in(prompts, what) in names for prompts in SETS)]
    if not measures:
        return None
    columns = tuple(Column(what, *COLUMNS[what], _better(stages, what)) for what in measures)
    rows = []
    for prompts, words in PROMPTS.items():
        for place, stage in enumerate(stages):
            before = stages[place - 1] if place else None
            cells = tuple(
                Cell(
                    stage.numbers.get(name),
                    change(before, stage, name) if before else None,
                    unfit(stage, name),
                )
                for name in (name_in(prompts, what) for what in measures)
            )
            rows.append((f"{stage.label}, {words}", cells))
    counts = tuple(stages[-1].numbers.get(name_in("helpful", what)) for what in measures)
    key = "fluency_protocol" if kind_of(stages[-1]) == PROTOCOL else "fluency"
    return StageTable(
        key, f"Fluency of the replies, {heading(stages)}", columns, tuple(rows), counts, len(stages) > 1
    )


def _better(stages: Sequence[Artifact], what: str) -> str:
    metrics = (metric_in(stages, name_in(prompts, what)) for prompts in SETS)
    return next((metric.better for metric in metrics if metric), "")
