"""Fills docs/results/battery.md: what the card's evaluations found of two stages of a run, from its card and manifests.

    python docs/battery.py RUN      RUN: a finished run of recipes/battery.yaml

Every number comes from `compare` over the run's kept rows; the drawings are copied from the card.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fill import between, read_card

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import read_manifest
from charter.rooms.card.artifact import Artifact, metric_in, tasks_of
from charter.rooms.card.compare import compare_stages, final_stage
from charter.rooms.card.number import Number, figure, interval
from charter.rooms.card.tasks import GROUPS, describe_protocol, has_row
from charter.rooms.evaluate.catalogue import SUITES

PAGE = Path(__file__).resolve().parent / "results/battery.md"
DRAWINGS = PAGE.parent / "battery"
# Drawings of the card that are shown on the page, if the card has them.
SHOWN = ("capability", "bbq", "truthfulqa", "translation", "position", "recall")


def stages_of(run: Path, card: Path) -> tuple[Artifact, ...]:
    """The stages of a card's reports on the battery, oldest first. Raises CharterError where there are not two."""
    reports = [final_stage(run / p.path) for p in read_manifest(card).parents if p.role == "reports"]
    found = tuple(report for report in reports if tasks_of(report) & {*SUITES["battery"]})
    if len(found) != 2:
        raise CharterError(f"{card} has {len(found)} reports on the battery; the page shows two stages")
    return found


def rows_of(stages: Sequence[Artifact]) -> dict[str, dict[str, Any]]:
    """Metric -> its compared row."""
    return {name: rows[0] for name, rows in compare_stages(stages).items()}


def tables(stages: Sequence[Artifact], rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A table for each group of tasks: the rows of the card's table, then, folded, those of single parts."""
    grouped: dict[str, list[str]] = {group: [] for group in GROUPS}
    kinds = {}
    for name in rows:
        metric = metric_in(stages, name)
        if metric is not None and metric.group:
            grouped.setdefault(metric.group, []).append(name)
            kinds[name] = metric.kind
    for caption, names in grouped.items():
        if shown := [name for name in names if has_row(name, stages)]:
            yield f"\n### {caption}\n"
            yield from table(shown, stages, rows)
        if parts := [name for name in names if kinds[name] == "part"]:
            yield f"\n<details><summary>{caption}, part by part</summary>\n"
            yield from table(parts, stages, rows)
            yield "\n</details>"


def table(names: Sequence[str], stages: Sequence[Artifact], rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A row a metric."""
    yield f"| | {stages[0].label} | {stages[-1].label} | change | n | asked |"
    yield "|---|---:|---:|---:|---:|---|"
    yield from (line(name, stages, rows[name]) for name in names)


def line(name: str, stages: Sequence[Artifact], row: dict[str, Any]) -> str:
    """A row: both values with their intervals, the change with its verdict, and how it was asked."""
    first, last = (stage.numbers.get(name) for stage in stages)
    n = next((number.n for number in (last, first) if number is not None), "")
    told = describe_protocol(stages[-1], name) if last is not None else ""
    metric = metric_in(stages, name)
    head = metric.label if metric else name
    return f"| {head} | {shown(first)} | {shown(last)} | {changed(last or first, row)} | {n} | {told} |"


def shown(number: Number | None) -> str:
    if number is None:
        return "-"
    ends = f" ({interval(number)})" if number.low is not None else ""
    return figure(number.value, number.unit) + ends


def changed(number: Number | None, row: dict[str, Any]) -> str:
    """The change in words, after Holm's correction over all rows of the page."""
    if row["difference"] is None or number is None:
        return str(row["verdict"]).removeprefix("not compared: ")
    words = figure(row["difference"], number.unit, signed=True)
    return f"{words}, {row['verdict']}"


def overlaps(stages: Sequence[Artifact]) -> str:
    """What of the questions stands in what the last stage was taught."""
    report, numbers = stages[-1].report, stages[-1].numbers
    sources = (report.get("contamination") or {}).get("sources") or []
    found = [(n, v) for n, v in numbers.items() if n.endswith("_contaminated") and v.value is not None]
    if not sources:
        return "Nothing is known of what these models were taught."
    hit = [f"{v.label.removesuffix(', contaminated')} {figure(v.value, v.unit)}" for n, v in found if v.value]
    words = ", ".join(hit) if hit else "none"
    return (
        f"Questions that share 13 words in a row with one of the {len(sources)} sources that the last stage's lineage "
        f"learnt from: {words}, of {len(found)} tasks looked through. SmolLM2's own pretraining text is not at hand."
    )


def page(run: Path) -> str:
    """The generated part of the page."""
    card, content = read_card(run)
    stages = stages_of(run, card)
    manifests = [read_manifest(stage.path) for stage in stages]
    minutes = sum(m.timing.seconds for m in manifests) / 60
    threads = ", ".join(sorted({str(m.environment.threads) for m in manifests}))
    lines = [
        f"Card {read_manifest(card).id[:12]}; {minutes:.0f} minutes of work for both stages, "
        f"threads of a step: {threads}, "
        f"{manifests[0].environment.precision}.",
        *tables(stages, rows_of(stages)),
        "\n### Contamination\n",
        overlaps(stages),
    ]
    keys = {entry["key"]: entry for entry in content["figures"]}
    DRAWINGS.mkdir(exist_ok=True)
    for key in [k for k in keys if k.startswith(SHOWN)]:
        shutil.copyfile(card / f"plots/{key}.svg", DRAWINGS / f"{key}.svg")
        lines.append(f"\n![{keys[key]['title']}](battery/{key}.svg)\n\n{keys[key]['caption']}")
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
