"""Tables of the benchmarks: a row for each metric, a column for each stage.

Beside each score stand the data, the protocol, and the share of the items that the training data held. There are many
tasks and few stages, so these tables are transposed. The protocol comes from the report's identity, the overlap with
training data from its `contamination`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.metric import CAPABILITY, GROUPS, default_label
from charter.ground.reports.artifact import Artifact, metric_in, placed_in, tasks_of
from charter.ground.reports.changes import change
from charter.ground.reports.judges import unfit
from charter.ground.reports.number import Number
from charter.ground.reports.stages import heading
from charter.ground.reports.stages import words as decoding_words
from charter.rooms.card.gather import Run
from charter.rooms.card.sections import Cell, Column, column

# The figure of tasks whose parts have a table and a figure of their own.
SUBJECTS = "subjects"


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A metric: its protocol, its score at each stage, and the share of its items met in training."""

    column: Column
    asked: str
    cells: tuple[Cell, ...]
    overlap: Number | None
    overlaps_with: str


@dataclass(frozen=True, slots=True)
class TaskTable:
    """Rows of metrics with a column for each stage that has any. `steps`: there is more than one stage, so changes are
    shown.

    `from_raw_text`: all text that the model ever learnt from is known. `absent`: metrics that the final stage lacks,
    with the reason. `folded`: a long table that is closed at first.
    """

    key: str
    caption: str
    stages: tuple[str, ...]
    rows: tuple[TaskRow, ...]
    steps: bool
    from_raw_text: bool
    absent: tuple[str, ...] = ()
    folded: bool = False

    @property
    def looked_through(self) -> tuple[str, ...]:
        """The sources that items were searched in, each list once."""
        return tuple(dict.fromkeys(row.overlaps_with for row in self.rows if row.overlaps_with))


def task_tables(run: Run, section: str) -> tuple[TaskTable, ...]:
    """The tables of benchmarks in a section, "capability" or "alignment", that some stage has. Those by the protocol's
    decoding follow those by the models' own."""
    tables = _tables(run, section, run.stages, heading(run.stages) if run.at_protocol else "")
    return tables + (_tables(run, section, run.at_protocol, heading(run.at_protocol)) if run.at_protocol else ())


def _tables(run: Run, section: str, stages: Sequence[Artifact], how: str) -> tuple[TaskTable, ...]:
    end = f", {how}" if how else ""
    tables = [
        table_of(run, stages, f"{group}{end}", members, absent=_absent(stages, group))
        for group, members in by_group(stages).items()
        if members and GROUPS[group].section == section
    ]
    for name in placed_in(stages, SUBJECTS) if section == CAPABILITY else ():
        metric = metric_in(stages, name)
        if metric and (parts := parts_of(stages, metric.task)):
            caption = f"MMLU by subject, {metric.short.lower()}"
            tables.append(table_of(run, stages, f"{caption}{end}", parts, folded=True))
    return tuple(tables)


def by_group(stages: Sequence[Artifact]) -> dict[str, list[str]]:
    """Group -> its metrics that have a row. Raises CharterError for a group that no section has."""
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name in dict.fromkeys(name for stage in stages for name in stage.metrics):
        metric = metric_in(stages, name)
        if metric and metric.group and has_row(name, stages):
            if metric.group not in groups:
                raise CharterError(
                    f"the metric {name} is of the group {metric.group!r}, which no section of a card has; it knows "
                    f"{', '.join(GROUPS)}"
                )
            groups[metric.group].append(name)
    return groups


def parts_of(stages: Sequence[Artifact], task: str) -> list[str]:
    """The metrics of a task's parts that some stage has, in the order of their names."""
    metrics = {name: metric for stage in stages for name, metric in stage.metrics.items()}
    return sorted(name for name, metric in metrics.items() if metric.task == task and metric.kind == "part")


def _absent(stages: Sequence[Artifact], group: str) -> tuple[str, ...]:
    """What the last stage with a task of a group lacks, and why, as its report says."""
    reasons: dict[str, str] = {}
    for stage in stages:
        for report in (stage, *stage.beside):
            of_group = (metric.task for metric in report.reported.metrics.values() if metric.group == group)
            for task in dict.fromkeys(of_group):
                absent = (report.report.get(task) or {}).get("absent") or {}
                reasons |= {name: f"{default_label(name)}: {why}" for name, why in absent.items()}
                reasons |= {name: "" for name in report.reported.metrics if name in reasons}
    return tuple(filter(None, reasons.values()))


def has_row(name: str, stages: Sequence[Artifact]) -> bool:
    """Whether a metric has a row of its own.

    Overlaps are shown beside their task, and parts are drawn. A fault of the asking has a row only if it occurred.
    """
    metric = metric_in(stages, name)
    kind = metric.kind if metric else ""
    if kind == "fault":
        return any(stage.numbers[name].value for stage in stages if name in stage.numbers)
    return kind != "part" and not name.endswith("_contaminated")


def all_tasks(run: Run) -> frozenset[str]:
    """The tasks of all stages of a run."""
    return frozenset(task for stage in (*run.stages, *run.at_protocol) for task in tasks_of(stage))


def table_of(
    run: Run,
    among: Sequence[Artifact],
    caption: str,
    names: list[str],
    absent: tuple[str, ...] = (),
    folded: bool = False,
) -> TaskTable:
    stages = [stage for stage in among if any(name in stage.numbers for name in names)]
    rows = tuple(_row(stages, name) for name in names)
    key = caption.lower().replace(" ", "-")
    labels = tuple(s.label for s in stages)
    return TaskTable(key, caption, labels, rows, len(stages) > 1, run.from_raw_text, absent, folded)


def _row(stages: list[Artifact], name: str) -> TaskRow:
    measured = [stage for stage in stages if name in stage.numbers]
    protocol = describe_protocol(measured[-1], name)
    cells = []
    for stage in stages:
        here = stage in measured
        before = measured[measured.index(stage) - 1] if here and stage is not measured[0] else None
        delta = change(before, stage, name) if before is not None else None
        stage_protocol = describe_protocol(stage, name) if here else protocol
        number = stage.numbers[name] if here else None
        differs = stage_protocol if stage_protocol != protocol else ""
        cells.append(Cell(number, delta, here and unfit(stage, name), protocol=differs))
    return TaskRow(column(measured, name), protocol, tuple(cells), *_overlap(measured[-1], name))


def describe_protocol(stage: Artifact, name: str) -> str:
    """A benchmark's protocol at a stage: data, examples, temperature and form, as far as its report says."""
    identity = read_protocol(stage, name)
    words = [references(identity.get("data")), describe_questions(stage, name)]
    if (shots := identity.get("shots")) is not None:
        words.append(f"{shots}-shot")
    words.append(decoding_words(identity).replace("T ", "T = ", 1))
    words += ["chat"] if identity.get("form") == "chat" else []
    words += ["by likelihood"] if identity.get("scored") == "options" else []
    return ", ".join(word for word in words if word)


def describe_questions(stage: Artifact, name: str) -> str:
    """How many of the data's questions were asked, if not all; empty if the report doesn't say."""
    report = stage.of(name)
    metric = report.metric(name)
    counts = (report.report.get("questions") or {}).get(metric.task if metric else "") or {}
    few = counts and counts["asked"] < counts["of"]
    return f"{counts['asked']:,} of {counts['of']:,}" if few else ""


def read_protocol(stage: Artifact, name: str) -> Mapping[str, Any]:
    """The identity of a metric's task in the report that has it; empty if there is none."""
    return next(iter(stage.find_identities(name).values()), {})


def references(data: object) -> str:
    """The names of data sets in an identity: a text, {"ref": ...}, or a list of these."""
    if isinstance(data, list):
        return ", ".join(filter(None, map(references, data)))
    return str(data.get("ref") or data.get("name") or "") if isinstance(data, dict) else str(data or "")


def _overlap(stage: Artifact, name: str) -> tuple[Number | None, str]:
    """The share of a task's items that the training data holds, and which sources were searched or missing."""
    report = stage.of(name)
    metric = report.metric(name)
    number = report.numbers.get(f"{metric.task}_contaminated") if metric else None
    contamination = report.report.get("contamination") or {}
    searched, missing = (references(list(contamination.get(key) or ())) for key in ("sources", "missing"))
    if not number:
        return None, ""
    return number, f"{searched}; not available: {missing}" if missing else searched
