"""Fills docs/results/honesty.md: what each way of recipes/honesty.yaml did to right, wrong and declined answers.

    python docs/honesty.py RUN RUN RUN      finished runs of the recipe, a seed each

Values are means over the runs, with the least and the most in brackets. Verdicts are those of the reports.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from fill import between

from charter.ground.artifact.curves import read_object
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.recipe import load_recipe
from charter.rooms.card.number import figure

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/results/honesty.md"
RECIPE = ROOT / "recipes/honesty.yaml"
TASKS = {
    "taught": "Facts of the invented world that training taught, and others that it did not",
    "invented": "Real things and invented ones",
    "known": "TriviaQA",
    "premises": "False premises",
    "missing_context": "Files, tools and talk that are not there",
}
MADE_UP = {
    "taught": "taught_made_up",
    "invented": "invented_made_up",
    "missing_context": "missing_context_made_up",
}
# Columns: the end of a metric's name, the head of the column.
COLUMNS = (
    ("_right", "right"),
    ("_wrong", "wrong"),
    ("_declined", "declined"),
    ("_wrong_change", "wrong, change"),
    ("_known_lost", "of the known, lost"),
)


def arms() -> dict[str, str]:
    """Step -> stage, of the evaluations of the recipe."""
    steps = load_recipe(RECIPE).steps
    return {step.name: str(step.settings["stage"]) for step in steps if step.room == "evaluate"}


def values(runs: Sequence[Path], step: str, metric: str) -> list[tuple[float, str]]:
    """A metric's value in each run that has it, with its unit."""
    found = []
    for run in runs:
        for one in read_manifest(run / step).metrics:
            if one.name == metric and one.value is not None:
                found.append((one.value, one.unit))
    return found


def spread(found: Sequence[tuple[float, str]]) -> str:
    """The mean of a metric over runs, and its ends."""
    if not found:
        return "-"
    numbers, unit = [value for value, _ in found], found[0][1]
    mean, low, high = (figure(v, unit) for v in (fmean(numbers), min(numbers), max(numbers)))
    return mean if low == high else f"{mean} ({low.removesuffix(' %')} to {high.removesuffix(' %')})"


def verdicts(runs: Sequence[Path], step: str, task: str) -> str:
    """The reports' verdicts on an arm, with how many runs came to each."""
    reports: list[dict[str, Any]] = [read_object(run / step / "report.json") for run in runs]
    found = Counter(str(report[task]["verdict"]) for report in reports if "verdict" in report.get(task, {}))
    return (
        "; ".join(f"{verdict} ({n})" if len(found) > 1 else verdict for verdict, n in found.most_common())
        or "-"
    )


def table(runs: Sequence[Path], task: str) -> Iterator[str]:
    """A row an arm."""
    columns = [*COLUMNS, *([(MADE_UP[task].removeprefix(task), "made up")] if task in MADE_UP else [])]
    yield f"| | {' | '.join(head for _, head in columns)} | verdict |"
    yield f"|---|{'---:|' * len(columns)}---|"
    for step, stage in arms().items():
        cells = [spread(values(runs, step, f"{task}{end}")) for end, _ in columns]
        yield f"| {stage} | {' | '.join(cells)} | {verdicts(runs, step, task)} |"


def asked(runs: Sequence[Path], metric: str) -> str:
    """How many questions the first evaluation of each run asked."""
    first = next(iter(arms()))
    counts = {one.n or 0 for run in runs for one in read_manifest(run / first).metrics if one.name == metric}
    return str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def heading(runs: Sequence[Path]) -> str:
    """Which runs, how many questions, how long."""
    questions = ", ".join(f"`{task}` {asked(runs, f'{task}_right')}" for task in TASKS)
    minutes = fmean(
        sum(read_manifest(folder.parent).timing.seconds for folder in run.glob("*/manifest.json")) / 60
        for run in runs
    )
    seeds = ", ".join(str(read_object(run / "run.json")["recipe"]["seed"]) for run in runs)
    return f"{len(runs)} runs, seeds {seeds}; {minutes:.0f} minutes of work each. Questions: {questions}."


def main(arguments: Sequence[str]) -> int:
    """Writes the page; exit code 1 with one line where a run has not what it takes."""
    parser = argparse.ArgumentParser(
        description="Fills docs/results/honesty.md from runs of recipes/honesty.yaml."
    )
    parser.add_argument("runs", type=Path, nargs="+")
    runs: list[Path] = parser.parse_args(arguments).runs
    try:
        lines = [heading(runs)]
        for task, words in TASKS.items():
            lines += [f"\n### {words}\n", *table(runs, task)]
        PAGE.write_text(between(PAGE.read_text("utf-8"), "honesty", "\n".join(lines)), "utf-8")
    except CharterError as error:
        print(f"honesty: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
