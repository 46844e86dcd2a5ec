"""What docs/study.py draws of each run: curves of reinforcement learning, a line a seed, and the lines from the start
through a model, which show how well a method tells unsafe prompts from harmless ones at any readiness to refuse."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.store import read_manifest
from charter.ground.measure.plots import MUTED, SERIES, Line, canvas, curves, inline, standalone
from charter.ground.measure.score import Table, tabulate
from charter.ground.measure.selection import REPLIES

CURVES = {
    "reward": "reward",
    "reward_heldout": "held-out reward",
    "kl": "KL, nats a reply",
    "entropy": "entropy, nats a token",
    "refusal": "replies that refuse",
}
SHARES = {"refusal"}
DIGITS = 4
CURVES_WIDTH, ROW_HEIGHT = 11.0, 2.2  # inches, of the figure and of a row

Curve = list[tuple[int, float]]


def kept_curves(run: Path, steps: Sequence[str]) -> dict[str, dict[str, Curve]]:
    """(round, value) of each curve of steps of the room rl, as far as their logs have it."""
    found = {}
    for step in steps:
        rows = read_objects(run / step / "log.jsonl")
        found[step] = {
            name: [(r["step"], round(r[name], DIGITS)) for r in rows if r.get(name) is not None] for name in CURVES
        }
    return found


def draw_curves(seeds: Sequence[Mapping[str, Any]], file: Path) -> str | None:
    """Writes the figure, a row a step and a line a seed, and gives the Markdown that shows it; None without curves."""
    steps = list(seeds[0].get("rl", {}))
    names = [name for name in CURVES if any(seeds[0]["rl"][step][name] for step in steps)]
    if not steps or not names:
        return None
    figure, axes = canvas(CURVES_WIDTH, ROW_HEIGHT * len(steps), len(steps), len(names))
    for place, (step, name) in zip(axes, ((s, n) for s in steps for n in names), strict=True):
        lines = []
        for colour, seed in zip(SERIES, seeds, strict=False):
            points = seed["rl"][step][name]
            lines.append(Line(str(seed["seed"]), [x for x, _ in points], [y for _, y in points], colour))
        title = CURVES[name] if len(steps) == 1 else f"{step}: {CURVES[name]}"
        curves(place, title, lines, "step", percent=name in SHARES)
    told = f"{'; '.join(CURVES[name] for name in names)}: by round, a line a seed"
    return written(figure, file, "Curves of reinforcement learning", told)


def written(figure: Figure, file: Path, title: str, told: str) -> str:
    """Writes a figure beside the pages and gives the Markdown that shows it."""
    file.write_text(standalone(inline(figure, file.stem, title, told)), "utf-8")
    return f"![{told}]({file.parent.name}/{file.name})"


# lines from the start

WIDTH, HEIGHT = 4.8, 3.4  # inches of a panel
PANEL = len(SERIES)  # methods in a panel, a colour each, beside the first

# Of each place: share of the model, share of unsafe and of harmless prompts refused.
Places = list[tuple[float, float, float]]


def lines_of(steps: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """By stage of a report, in the reports' order: the merge that moves along the line to the same model."""
    merged = {step["from"]["policy"]: step["name"] for step in steps if step["room"] == "merge"}
    evaluated = {step["from"]["policy"]: step["settings"]["stage"] for step in steps if step["room"] == "evaluate"}
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
    most = max(harmless for seed in seeds for line in seed["lines"].values() for _, _, harmless in line["places"])
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
