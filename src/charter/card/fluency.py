"""The table of fluency: each set of prompts by itself, stage by stage, at the report's own decoding."""

from __future__ import annotations

from charter.card.changes import change
from charter.card.gather import Run
from charter.card.sections import Cell, Column, StageTable, unfit
from charter.ground.measure.fluency import NLL, OF_A_SET, SETS, name_in
from charter.ground.measure.metrics import BY_NAME

COLUMNS = {
    NLL: ("NLL under the start", "nats a token; compare with the start's own"),
    "loop_rate": ("Loops", "replies"),
    "cut_rate": ("Cut", "at the token limit"),
    "repeated_4grams": ("Repeated 4-grams", "within a reply"),
    "distinct_2": ("Distinct bigrams", "within a reply"),
    "reply_tokens": ("Length", "a reply"),
}
PROMPTS = {"unsafe": "unsafe prompts", "lookalike": "look-alikes", "helpful": "helpful prompts"}


def fluency_table(run: Run) -> StageTable | None:
    """A row a set of prompts and stage, those of a set together; None where no report has any of it."""
    known = {name for stage in run.stages for name in stage.numbers}
    asked = [what for what in OF_A_SET if any(name_in(prompts, what) in known for prompts in SETS)]
    if not asked:
        return None
    columns = tuple(Column(what, *COLUMNS[what], BY_NAME[name_in("helpful", what)].better) for what in asked)
    rows = []
    for prompts, words in PROMPTS.items():
        for place, stage in enumerate(run.stages):
            before = run.stages[place - 1] if place else None
            cells = tuple(
                Cell(
                    stage.numbers.get(name),
                    change(before, stage, name) if before else None,
                    unfit(stage, name),
                )
                for name in (name_in(prompts, what) for what in asked)
            )
            rows.append((f"{stage.label}, {words}", cells))
    counts = tuple(run.final.numbers.get(name_in("helpful", what)) for what in asked)
    return StageTable("fluency", "Fluency of the replies", columns, tuple(rows), counts, len(run.stages) > 1)
