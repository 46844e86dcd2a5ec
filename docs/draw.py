"""Draws a run as one SVG: its rooms in order, the artifact on each arrow, one number under each room.

    python docs/draw.py RUN [--out docs/run.svg]

Steps, status and numbers come from `charter show RUN --json`, parents from the manifests at the paths that it
names. Neighbouring steps of the preference room are drawn as one box, and so are those of the evaluate room.
An arrow joins a box to the next where the next is made from it; whatever else a box is made from stands in it
as words. Light and dark follow the reader through a media query inside the file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TOGETHER = frozenset({"preference", "evaluate"})
WIDTH, EDGE, GAP, BOX = 960.0, 10.0, 74.0, 66.0
TOP, ROW = 34.0, 150.0

STYLE = """
svg{font-family:system-ui,-apple-system,"Segoe UI",sans-serif;color:#22252a;background:#fdfdfb}
.paper{fill:#fdfdfb}.box{fill:#f3f2ec;stroke:#b9b6ab}.made{stroke:#6d7178;fill:none}.head{fill:#6d7178}
.room{font-size:12.5px;font-weight:600;fill:#22252a}.step,.with,.kind{font-size:10.5px;fill:#5b6068}
.number{font-size:12px;fill:#1f5f8b;font-weight:600}
@media (prefers-color-scheme:dark){svg{color:#e9e7e1;background:#16181c}.paper{fill:#16181c}
.box{fill:#22252b;stroke:#474c55}.made{stroke:#9aa0a8}.head{fill:#9aa0a8}.room{fill:#f0eee8}
.step,.with,.kind{fill:#aab0b8}.number{fill:#7fbde8}}
"""


@dataclass(frozen=True)
class Step:
    """One step: what `charter show --json` says of it, and the steps and references it is made from."""

    name: str
    room: str
    kind: str
    metrics: dict[str, float | None]
    parents: tuple[str, ...]
    start: str | None


@dataclass(frozen=True)
class Box:
    """Steps that are drawn together."""

    steps: tuple[Step, ...]

    @property
    def room(self) -> str:
        return self.steps[0].room

    @property
    def names(self) -> set[str]:
        return {step.name for step in self.steps}

    @property
    def parents(self) -> list[str]:
        own = self.names
        return list(dict.fromkeys(p for step in self.steps for p in step.parents if p not in own))


def read_steps(run: str) -> list[Step]:
    """All steps of a run, in order; exits where `charter show` refuses or a step isn't done."""
    command = [sys.executable, "-m", "charter", "show", run, "--json"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    if shown.returncode:
        sys.exit(shown.stderr.strip())
    found = []
    for row in json.loads(shown.stdout)["steps"]:
        if row["status"] != "done":
            sys.exit(f"draw: step {row['name']} is {row['status']}; a picture needs a finished run")
        manifest: dict[str, Any] = json.loads((Path(row["path"]) / "manifest.json").read_text("utf-8"))
        models = [e["ref"] for e in manifest["external"] if e["role"] in ("policy", "start")]
        parents = tuple(p["step"] for p in manifest["parents"])
        found.append(Step(row["name"], row["room"], row["kind"], row["metrics"], parents, next(iter(models), None)))
    return found


def boxes_of(steps: Sequence[Step]) -> list[Box]:
    """Steps in boxes: neighbours of one of the rooms in TOGETHER share one."""
    found: list[list[Step]] = []
    for step in steps:
        if found and step.room in TOGETHER and found[-1][-1].room == step.room:
            found[-1].append(step)
        else:
            found.append([step])
    return [Box(tuple(group)) for group in found]


def percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def plain(value: float) -> str:
    return f"{value:.2f}".replace("-0.00", "0.00")


def whole(value: float) -> str:
    return f"{value:.0f}"


# room -> (metric, words around it, what stands between, how a value is spelt); of a box's steps the first and
# the last give a value
NUMBERS: dict[str, tuple[str, str, str, Callable[[float], str]]] = {
    "finetune": ("loss", "loss {}", ", ", plain),
    "critique": ("kept_share", "{} kept", ", ", percent),
    "feedback": ("label_accuracy", "labels right {}", ", ", percent),
    "preference": ("pair_accuracy", "pairs right {}", ", ", percent),
    "rl": ("kl", "KL {} nats", ", ", plain),
    "evaluate": ("harm_answered_rate", "harm {}", " → ", percent),
    "card": ("numbers", "{} numbers", ", ", whole),
}


def number_of(box: Box) -> str:
    """The one number under a box, "" where it has none."""
    if box.room not in NUMBERS:
        return ""
    name, words, between, spell = NUMBERS[box.room]
    values = [value for step in box.steps if (value := step.metrics.get(name)) is not None]
    if len(values) > 2:
        values = [values[0], values[-1]]
    return words.format(between.join(spell(v) for v in values)) if values else ""


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def draw(run: str, boxes: Sequence[Box]) -> str:
    """The picture as SVG text."""
    across = -(-len(boxes) // 2)
    width = (WIDTH - 2 * EDGE - (across - 1) * GAP) / across
    letters = int((width - 16) / 6.1)

    def corner(place: int) -> tuple[float, float]:
        line, column = divmod(place, across)
        return EDGE + column * (width + GAP), TOP + line * ROW

    height = TOP + ROW + BOX + 36
    parts = [f'<rect class="paper" width="{WIDTH:g}" height="{height:g}"/>']
    parts += [entry(boxes[0], corner(0), width)] if boxes[0].steps[0].start else []
    for place, (before, box) in enumerate(pairwise(boxes), 1):
        if before.names & set(box.parents):
            parts.append(arrow(before, corner(place - 1), corner(place), width))
    for place, box in enumerate(boxes):
        earlier = boxes[place - 1].names if place else set()
        parts.append(drawn(box, corner(place), width, letters, earlier))
    names = ", ".join(box.room for box in boxes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" role="img" '
        f'aria-labelledby="title"><title id="title">{escape(f"The run {Path(run).name}: {names}")}</title>'
        f'<style>{STYLE}</style><defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path class="head" d="M0 0L8 4L0 8z"/></marker></defs>'
        f"{''.join(parts)}</svg>\n"
    )


def text(style: str, x: float, y: float, words: str, middle: bool = False) -> str:
    anchor = ' text-anchor="middle"' if middle else ""
    return f'<text class="{style}" x="{x:g}" y="{y:g}"{anchor}>{escape(words)}</text>'


def drawn(box: Box, corner: tuple[float, float], width: float, letters: int, earlier: set[str]) -> str:
    """A box with its room, its steps, what else it is made from, and the number under it."""
    x, y = corner
    others = [name for name in box.parents if name not in earlier]
    names = ", ".join(step.name for step in box.steps)
    if len(names) > letters and len(box.steps) > 1:
        names = f"{len(box.steps)} steps"
    lines = [f'<rect class="box" x="{x:g}" y="{y:g}" width="{width:g}" height="{BOX:g}" rx="7"/>']
    lines.append(text("room", x + 10, y + 21, box.room))
    lines.append(text("step", x + 10, y + 38, cut(names, letters)))
    if others:
        lines.append(text("with", x + 10, y + 55, cut(f"with {', '.join(others)}", letters)))
    lines.append(text("number", x, y + BOX + 18, number_of(box)))
    return "".join(lines)


def entry(box: Box, corner: tuple[float, float], width: float) -> str:
    """The model that everything starts from, above the first box."""
    x, y = corner[0] + 22, corner[1]
    line = f'<path class="made" d="M{x:g} {y - 22:g}V{y - 2:g}" marker-end="url(#head)"/>'
    return line + text("kind", x + 10, y - 12, f"{box.steps[0].start} and a constitution")


def arrow(before: Box, start: tuple[float, float], end: tuple[float, float], width: float) -> str:
    """From one box to the next, with the kind of artifact on it; the last of a line leads down."""
    kind = before.steps[0].kind
    if start[1] == end[1]:
        x, y = start[0] + width, start[1] + BOX / 2
        line = f'<path class="made" d="M{x + 3:g} {y:g}H{end[0] - 3:g}" marker-end="url(#head)"/>'
        return line + text("kind", x + GAP / 2, y - 6, kind, middle=True)
    x, y, middle = start[0] + width / 2, start[1] + BOX + 26, end[1] - 22
    down = f"M{x:g} {y:g}V{middle:g}H{end[0] + 22:g}V{end[1] - 3:g}"
    line = f'<path class="made" d="{down}" marker-end="url(#head)"/>'
    return line + text("kind", (x + end[0]) / 2, middle - 6, kind, middle=True)


def main() -> None:
    """Reads the run and writes the picture."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("run", help="a run directory, or its name below runs/")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "run.svg", help="the file to write")
    asked = parser.parse_args()
    boxes = boxes_of(read_steps(asked.run))
    asked.out.write_text(draw(asked.run, boxes), "utf-8")
    print(f"{asked.out}: {len(boxes)} boxes")


if __name__ == "__main__":
    main()
