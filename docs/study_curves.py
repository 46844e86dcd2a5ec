"""The curves of reinforcement learning that docs/study.py keeps of each run and draws on its pages, a line a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from charter.ground.artifact.curves import read_objects
from charter.ground.measure.plots import SERIES, Line, canvas, curves, inline, standalone

CURVES = {
    "reward": "reward",
    "reward_heldout": "held-out reward",
    "kl": "KL, nats a reply",
    "entropy": "entropy, nats a token",
    "refusal": "replies that refuse",
}
SHARES = {"refusal"}
DIGITS = 4
WIDTH, HEIGHT = 11.0, 2.2  # inches, of the figure and of a row

Curve = list[tuple[int, float]]


def kept_curves(run: Path, steps: Sequence[str]) -> dict[str, dict[str, Curve]]:
    """(round, value) of each curve of steps of the room rl, as far as their logs have it."""
    found = {}
    for step in steps:
        rows = read_objects(run / step / "log.jsonl")
        found[step] = {
            name: [(r["step"], round(r[name], DIGITS)) for r in rows if r.get(name) is not None]
            for name in CURVES
        }
    return found


def draw(seeds: Sequence[Mapping[str, Any]], file: Path) -> str | None:
    """Writes the figure, a row a step and a line a seed, and gives the Markdown that shows it; None without curves."""
    steps = list(seeds[0].get("rl", {}))
    names = [name for name in CURVES if any(seeds[0]["rl"][step][name] for step in steps)]
    if not steps or not names:
        return None
    figure, axes = canvas(WIDTH, HEIGHT * len(steps), len(steps), len(names))
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
