"""Fills docs/results/battery.md: what the evaluations found of four models, from a run's card and manifests.

    python docs/battery.py RUN      RUN: a finished run of recipes/battery.yaml

Every number comes from the card's matrix and from the reports behind it; the drawings and the matrix, with the single
parts that the page leaves out, are copied from the card.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import COMPONENTS
from fill import between, read_card

import charter
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.store import read_manifest
from charter.rooms.card.artifact import Artifact
from charter.rooms.card.compare import final_stage
from charter.rooms.card.matrix import CSV, JSON, SIGNS
from charter.rooms.card.number import figure
from charter.rooms.card.tasks import GROUPS, describe_protocol, has_row

PAGE = Path(__file__).resolve().parent / "results/battery.md"
RECIPE = PAGE.parents[2] / "recipes/battery.yaml"
DRAWINGS = PAGE.parent / "battery"
ELSEWHERE = "nowhere that exists"  # a folder of no run, so that a plan counts every step
# Drawings of the card that are shown on the page, if the card has them.
SHOWN = (
    "matrix",
    "hhh",
    "capability",
    "bbq",
    "truthfulqa",
    "requests",
    "coverage",
    "translation",
    "position",
    "recall",
)


@dataclass(frozen=True, slots=True)
class Battery:
    """A finished run: the reports of its card, and the card's matrix."""

    run: Path
    matrix: Mapping[str, Any]
    reports: tuple[Artifact, ...]

    @property
    def names(self) -> list[str]:
        return [str(stage["stage"]) for stage in self.matrix["stages"]]

    @property
    def manifests(self) -> list[Manifest]:
        return [report.manifest for report in self.reports]

    def report_with(self, metric: str) -> Artifact | None:
        """The newest report that has a metric."""
        return next((r for r in reversed(self.reports) if metric in r.numbers), None)


def read_battery(run: Path, card: Path) -> Battery:
    """The card's reports and matrix. Raises CharterError where the card has no report."""
    parents = [p for p in read_manifest(card).parents if p.role in ("reports", "comparators")]
    if not parents:
        raise CharterError(f"{card} has no reports; run recipes/battery.yaml")
    return Battery(
        run,
        json.loads((card / JSON).read_text("utf-8")),
        tuple(final_stage(run / parent.path) for parent in parents),
    )


def tables(battery: Battery) -> Iterator[str]:
    """A table for each group of tasks: a row a metric, a column a model."""
    grouped: dict[str, list[str]] = {group: [] for group in GROUPS}
    for row in battery.matrix["metrics"]:
        if row["group"] and has_row(row["metric"], battery.reports):
            grouped.setdefault(row["group"], []).append(line(battery, row))
    for caption, lines in grouped.items():
        if lines:
            yield f"\n### {caption}\n"
            yield f"| | {' | '.join(battery.names)} | n | asked |"
            yield f"|---|{'---:|' * len(battery.names)}---:|---|"
            yield from lines


def line(battery: Battery, row: Mapping[str, Any]) -> str:
    """A metric's values with their intervals and marks, and how it was asked."""
    cells = [cell_words(cell, row["unit"]) for cell in row["cells"]]
    n = next((cell["n"] for cell in row["cells"] if cell and cell["n"]), "")
    report = battery.report_with(row["metric"])
    told = describe_protocol(report, row["metric"]) if report else ""
    return f"| {row['label']} | {' | '.join(cells)} | {n} | {told} |"


def cell_words(cell: Mapping[str, Any] | None, unit: str) -> str:
    """A value, its interval, and the signs of its marks."""
    if cell is None or cell["value"] is None:
        return "-"
    low, high = (
        None if cell[end] is None else figure(cell[end], unit).removesuffix(" %") for end in ("low", "high")
    )
    ends = "" if low is None or high is None else f" ({low} to {high})"
    signs = "".join(SIGNS[mark] for mark in cell["marks"] if mark in SIGNS)
    return f"{figure(cell['value'], unit)}{ends}{f' {signs}' if signs else ''}"


def components(battery: Battery) -> Iterator[str]:
    """A row for each evaluation of the card: what runs, of how many, and where it departs."""
    asked: dict[str, str] = {}
    for report in battery.reports:
        for task, drawn in (report.report.get("questions") or {}).items():
            asked[task] = f"{drawn['asked']:,} of {drawn['of']:,}"
    yield "| evaluation | what runs | asked here | departs from the card |"
    yield "|---|---|---|---|"
    for one in COMPONENTS:
        found = [f"`{task}` {asked[task]}" for task in one.tasks if task in asked]
        told = "; ".join(found) or one.elsewhere or "not in this run"
        yield f"| {one.name} | {one.runs} | {told} | {one.departs} |"


def work(battery: Battery) -> str:
    """What the run cost, beside its plan."""
    manifests = battery.manifests
    taken = sum(m.timing.seconds for m in manifests) / 60
    plan = charter.plan(RECIPE, out=battery.run / ELSEWHERE)
    threads = ", ".join(sorted({str(m.environment.threads) for m in manifests}))
    precisions = ", ".join(sorted({m.environment.precision for m in manifests}))
    minutes = f"planned {plan.minutes:.0f} minutes of two cores" if plan.minutes else "no plan"
    return f"{minutes}, taken {taken:.0f} of {threads} thread each, {precisions}"


def page(run: Path) -> str:
    """The generated part of the page."""
    card, content = read_card(run)
    battery = read_battery(run, card)
    signs = ", ".join(f"{sign} {mark}" for mark, sign in SIGNS.items())
    lines = [
        f"Card {read_manifest(card).id[:12]}; {len(battery.reports)} reports on {len(battery.names)} models; "
        f"{work(battery)}. Signs: {signs}.",
        *tables(battery),
        "\n### The card's evaluations, one by one\n",
        *components(battery),
    ]
    keys = {entry["key"]: entry for entry in content["figures"]}
    DRAWINGS.mkdir(exist_ok=True)
    for old in DRAWINGS.iterdir():
        old.unlink()
    for key in [k for k in keys if k.startswith(SHOWN)]:
        shutil.copyfile(card / f"plots/{key}.svg", DRAWINGS / f"{key}.svg")
        lines.append(f"\n![{keys[key]['title']}](battery/{key}.svg)\n\n{keys[key]['caption']}")
    shutil.copyfile(card / CSV, DRAWINGS / CSV)
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Writes the page; exit code 1 with one line where a run has not what it takes."""
    parser = argparse.ArgumentParser(
        description="Fills docs/results/battery.md from a run of recipes/battery.yaml."
    )
    parser.add_argument("run", type=Path)
    try:
        made = page(parser.parse_args(arguments).run)
        PAGE.write_text(between(PAGE.read_text("utf-8"), "battery", made), "utf-8")
    except CharterError as error:
        print(f"battery: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
