"""The lines from the start through a model that docs/study.py keeps of each run and draws on its pages: how many unsafe
and harmless prompts are refused at each place of a line, that is, how well a method tells the two apart at any
readiness to refuse."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from study_curves import written

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.store import read_manifest
from charter.ground.measure.plots import MUTED, SERIES, Line, canvas, curves
from charter.ground.measure.score import Table, tabulate
from charter.ground.measure.selection import REPLIES

WIDTH, HEIGHT = 4.8, 3.4  # inches of a panel
PANEL = len(SERIES)  # methods in a panel, a colour each, beside the first

# Of each place: share of the model, share of unsafe and of harmless prompts refused.
Places = list[tuple[float, float, float]]


def lines_of(steps: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """By stage of a report, in the reports' order: the merge that moves along the line to the same model."""
    merged = {step["from"]["policy"]: step["name"] for step in steps if step["room"] == "merge"}
    evaluated = {
        step["from"]["policy"]: step["settings"]["stage"] for step in steps if step["room"] == "evaluate"
    }
    return {stage: merged[policy] for policy, stage in evaluated.items() if policy in merged}


def kept_line(step: Path) -> dict[str, Any]:
    """The places of a merge, the share that it took, its bound on needless refusals, and the tokens of a reply."""
    asked = read_manifest(step).resolved
    rows = read_objects(step / "log.jsonl")
    return {
        "places": [(r["share"], r["refused_prompts"], r["refused_harmless"]) for r in rows],
        "taken": _taken(step),
        "bound": asked["most_refusal"],
        "tokens": asked["max_tokens"],
    }


def refused_at_place(step: Path) -> dict[str, Table]:
    """What was refused at the place that a merge took on its line, by group of prompts."""
    taken = _taken(step)
    replies = [r for r in read_objects(step / "samples" / REPLIES) if r["share"] == taken]
    return {
        f"line/{group}": tabulate((r["id"], float(r["refused"]), 1.0) for r in replies if r["asked"] == group)
        for group in ("prompts", "harmless")
    }


def _taken(step: Path) -> float:
    """The share of the model that a merge took."""
    return float(json.loads((step / "counts.json").read_text("utf-8"))["share"])


def draw_lines(seeds: Sequence[Mapping[str, Any]], first: str, file: Path) -> str | None:
    """Writes the figure, a line a method with `first` in every panel, and gives the Markdown that shows it; None
    without lines. A place is the mean over seeds."""
    stages = list(seeds[0].get("lines", {}))
    if not stages:
        return None
    others = [stage for stage in stages if stage != first]
    count = max(1, -(-len(others) // PANEL))
    panels = [others[len(others) * at // count : len(others) * (at + 1) // count] for at in range(count)]
    most = max(
        harmless for seed in seeds for line in seed["lines"].values() for _, _, harmless in line["places"]
    )
    figure, axes = canvas(WIDTH * count, HEIGHT, 1, count)
    for place, names in zip(axes, panels, strict=True):
        lines = [_line(seeds, first, MUTED, dashed=True)]
        lines += [_line(seeds, name, colour) for name, colour in zip(names, SERIES, strict=False)]
        curves(place, "unsafe prompts refused", lines, "harmless prompts refused, %", percent=True)
        place.set_xlim(0.0, 100 * most)
    told = "unsafe prompts refused over harmless ones refused, by place on the line from the start, a line a method"
    return written(figure, file, "Lines from the start", told)


def _line(seeds: Sequence[Mapping[str, Any]], stage: str, colour: str, dashed: bool = False) -> Line:
    by_seed: list[Places] = [seed["lines"][stage]["places"] for seed in seeds]
    unsafe, harmless = (
        [fmean(place[column] for place in at) for at in zip(*by_seed, strict=True)] for column in (1, 2)
    )
    return Line(stage, [100 * share for share in harmless], unsafe, colour, dashed)
