"""Tables of the benchmarks: a row a metric, a column a stage, and beside each score what was asked, how, and how much
of it the training data held.

Tasks are many and stages few, so that these tables stand on their side. What was asked comes from the report's
identity, the overlap with training data from its `contamination`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charter.ground.measure.tasks import task_of
from charter.rooms.card.artifact import Artifact, metric_in
from charter.rooms.card.changes import change
from charter.rooms.card.decodings import heading
from charter.rooms.card.decodings import words as drawn
from charter.rooms.card.gather import BENCHMARK, Run
from charter.rooms.card.number import Number
from charter.rooms.card.sections import Cell, Column, column, unfit

CAPABILITY, ALIGNMENT = "capability", "alignment"
# (section, caption, tasks); a task that stands nowhere comes under OTHER
GROUPS = (
    (ALIGNMENT, "Social bias", ("bbq", "winogender", "occupations", "decisions")),
    (ALIGNMENT, "Truthfulness and honesty", ("truthfulqa",)),
    (CAPABILITY, "Knowledge and reasoning", ("mmlu", "mmlu_plain", "arc", "triviaqa", "gsm8k", "humaneval")),
    (CAPABILITY, "Reading", ("race", "quality")),
    (CAPABILITY, "Long documents", ("position", "recall")),
    (CAPABILITY, "Languages", ("translation",)),
)
OTHER = (CAPABILITY, "Further evaluations")


@dataclass(frozen=True, slots=True)
class TaskCell(Cell):
    """A score of one stage; `asked` says how, where that is another way than the final stage's."""

    asked: str


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A metric: what was asked, how it came out at each stage, and the share of its items met in training."""

    column: Column
    asked: str
    cells: tuple[TaskCell, ...]
    overlap: Number | None
    overlaps_with: str


@dataclass(frozen=True, slots=True)
class TaskTable:
    """Rows of metrics under a column for each stage that has any; `steps`: more than one stage, changes are shown;
    `from_raw_text`: all that the model ever learnt from is known."""

    key: str
    caption: str
    stages: tuple[str, ...]
    rows: tuple[TaskRow, ...]
    steps: bool
    from_raw_text: bool

    @property
    def looked_through(self) -> tuple[str, ...]:
        """What items were looked for in, each list of sources once."""
        return tuple(dict.fromkeys(row.overlaps_with for row in self.rows if row.overlaps_with))


def task_tables(run: Run, section: str) -> tuple[TaskTable, ...]:
    """The tables of benchmarks that belong in a section, "capability" or "alignment"; only what some stage has. Those
    by the protocol's decoding stand behind those by the models' own."""
    own = _tables(run, section, run.stages, heading(run.stages) if run.at_protocol else "")
    return own + (_tables(run, section, run.at_protocol, heading(run.at_protocol)) if run.at_protocol else ())


def _tables(run: Run, section: str, stages: Sequence[Artifact], how: str) -> tuple[TaskTable, ...]:
    names = list(dict.fromkeys(name for stage in stages for name in stage.metrics))
    names = [n for n in names if any(_measured(s, n) for s in stages) and has_row(n, stages)]
    grouped: dict[tuple[str, str], list[str]] = {group: [] for group in (*(g[:2] for g in GROUPS), OTHER)}
    tasks = {task: group[:2] for group in GROUPS for task in group[2]}
    for name in names:
        grouped[tasks.get(_task(stages, name, tasks), OTHER)].append(name)
    return tuple(
        _table(run, stages, f"{caption}, {how}" if how else caption, found)
        for (place, caption), found in grouped.items()
        if found and place == section
    )


def has_row(name: str, stages: Sequence[Artifact]) -> bool:
    """Whether a metric has a row of its own: overlaps stand beside their task, parts are drawn, and of what went wrong
    with the asking there is nothing to say where it never did."""
    metric = metric_in(stages, name)
    kind = metric.kind if metric else ""
    if kind == "fault":
        return any(stage.numbers[name].value for stage in stages if name in stage.numbers)
    return kind != "part" and not name.endswith("_contaminated")


def _task(stages: Sequence[Artifact], name: str, tasks: Collection[str]) -> str:
    """The task of a metric, "" where it is none of these."""
    metric = metric_in(stages, name)
    return task_of(metric.file if metric else "", tasks)


def tasks_of(run: Run) -> frozenset[str]:
    """The tasks that some stage of the run was asked."""
    beside = [report for stage in (*run.stages, *run.at_protocol) for report in stage.beside]
    return frozenset(task for report in beside for task in report.report.get("identity") or {})


def _measured(stage: Artifact, name: str) -> bool:
    """Whether a stage has the metric from a benchmark report."""
    return name in stage.numbers and stage.of(name).manifest.room == BENCHMARK


def _table(run: Run, among: Sequence[Artifact], caption: str, names: list[str]) -> TaskTable:
    stages = [stage for stage in among if any(_measured(stage, name) for name in names)]
    tasks = [task for group in GROUPS for task in group[2]]
    order = sorted(
        names, key=lambda name: tasks.index(t) if (t := _task(stages, name, tasks)) else len(tasks)
    )
    rows = tuple(_row(stages, name) for name in order)
    key = caption.lower().replace(" ", "-")
    return TaskTable(key, caption, tuple(s.label for s in stages), rows, len(stages) > 1, run.from_raw_text)


def _row(stages: list[Artifact], name: str) -> TaskRow:
    having = [stage for stage in stages if _measured(stage, name)]
    told = asked(having[-1], name)
    cells = []
    for stage in stages:
        here = stage in having
        before = having[having.index(stage) - 1] if here and stage is not having[0] else None
        moved = change(before, stage, name) if before is not None else None
        own = asked(stage, name) if here else told
        number = stage.numbers[name] if here else None
        cells.append(TaskCell(number, moved, here and unfit(stage, name), own if own != told else ""))
    return TaskRow(column(having, name), told, tuple(cells), *_overlap(having[-1], name))


def asked(stage: Artifact, name: str) -> str:
    """What a benchmark asked of a stage, and how: data, examples, temperature and form, as far as its report says."""
    made = protocol(stage, name)
    words = [references(made.get("data"))]
    if (shots := made.get("shots")) is not None:
        words.append(f"{shots}-shot")
    words.append(drawn(made).replace("T ", "T = ", 1))
    words += ["chat"] if made.get("form") == "chat" else []
    words += ["by likelihood"] if made.get("scored") == "options" else []
    return ", ".join(word for word in words if word)


def protocol(stage: Artifact, name: str) -> Mapping[str, Any]:
    """The identity of a metric's task in the report that has it; empty where it has none."""
    found = stage.of(name).report.get("identity") or {}
    made = found.get(_task([stage], name, found)) or {}
    return made if isinstance(made, dict) else {}


def references(data: object) -> str:
    """The names of data sets as an identity has them: a text, {"ref": ...}, or a list of these."""
    if isinstance(data, list):
        return ", ".join(filter(None, map(references, data)))
    return str(data.get("ref") or data.get("name") or "") if isinstance(data, dict) else str(data or "")


def _overlap(stage: Artifact, name: str) -> tuple[Number | None, str]:
    """The share of a task's items that stand in what the model was taught, and where it was looked for and where it
    couldn't be."""
    report = stage.of(name)
    task = _task([report], name, report.report.get("identity") or {})
    number = report.numbers.get(f"{task}_contaminated")
    made = report.report.get("contamination") or {}
    looked, missing = (references(list(made.get(key) or ())) for key in ("sources", "missing"))
    if not number:
        return None, ""
    return number, f"{looked}; not to be had: {missing}" if missing else looked
